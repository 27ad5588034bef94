"""The package's own client for conversations, against its own server."""

import pytest

from sigma_jax.bridge import ChatEndpoint, Failure, ProviderError

TALK = (("system", "walk"), ("user", "jump left"), ("assistant", "run"), ("user", "twice"))


def test_the_chat_endpoint_streams_what_the_server_says_at_once(server):
    with ChatEndpoint("ours", server.url, "ouro") as endpoint:
        whole = endpoint.complete(TALK, max_tokens=12, seed=3)
        stream = endpoint.stream(TALK, max_tokens=12, seed=3)
        pieces = []
        while True:
            try:
                pieces.append(next(stream))
            except StopIteration as end:
                streamed = end.value
                break
    assert "".join(pieces) == streamed.text == whole.text != ""
    assert streamed.finish_reason == whole.finish_reason in ("stop", "length")
    assert streamed.prompt_tokens == whole.prompt_tokens > len(TALK)
    assert streamed.completion_tokens == whole.completion_tokens
    assert 1 <= whole.completion_tokens <= 12
    assert whole.cached_tokens is None


def test_what_the_server_refuses_is_refused_in_a_stream_too(server):
    with ChatEndpoint("ours", server.url, "ouro") as endpoint:
        for ask in (endpoint.complete, lambda *args, **kw: next(endpoint.stream(*args, **kw))):
            with pytest.raises(ProviderError, match="context") as caught:
                ask((("user", "walk " * 500),), max_tokens=12)
            assert caught.value.failure is Failure.REFUSED


def test_a_stream_that_is_closed_frees_its_slot(server):
    with ChatEndpoint("ours", server.url, "ouro") as endpoint:
        stream = endpoint.stream(TALK, max_tokens=64, seed=3)
        assert next(stream)
        stream.close()
        server.settle()
