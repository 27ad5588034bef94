"""Conversations behind HTTP, against servers on loopback that do all that servers do."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sigma_jax.bridge import ChatEndpoint, ChatReply, Failure, ProviderError, Request
from tests.bridge.test_endpoints import (
    Handler,
    Loopback,
    Time,
    closes,
    drip,
    endless,
    fifty_megabytes,
    good,
    hang,
    loopback,
    not_http,
    says,
)

TALK = (("system", "You are Ada."), ("user", "Which port?"), ("assistant", "é"), ("user", "Why?"))
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 5},
}
WHOLE = {
    "choices": [{"message": {"content": "It is 11434, é."}, "finish_reason": "stop"}],
    "usage": USAGE,
}
PIECES = ("It is", " 11434", ", é.")


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def delta(text: Any = None, reason: Any = None) -> bytes:
    content = {} if text is None else {"content": text}
    return event({"choices": [{"index": 0, "delta": content, "finish_reason": reason}]})


DONE = b"data: [DONE]\n\n"
TOLD = [
    event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]}),
    *map(delta, PIECES),
    delta(reason="stop"),
    event({"choices": [], "usage": USAGE}),
    DONE,
]


def streams(*parts: bytes, then: Callable[[Handler], Any] | None = None):
    """Send each part as a chunk of its own; end well unless `then` does something else."""

    def act(handler: Handler) -> None:
        handler.send(SSE + b"Transfer-Encoding: chunked\r\n\r\n")
        for part in parts:
            handler.send(b"%x\r\n%s\r\n" % (len(part), part))
        if then is None:
            handler.send(b"0\r\n\r\n")
        else:
            then(handler)

    return act


def streams_until_it_closes(*parts: bytes):
    """Send the parts without framing, so that their end looks like the reply's."""

    def act(handler: Handler) -> None:
        handler.send(SSE + b"Connection: close\r\n\r\n" + b"".join(parts))
        handler.hang_up()

    return act


def for_ever(part: bytes):
    def act(handler: Handler) -> None:
        handler.send(SSE + b"Transfer-Encoding: chunked\r\n\r\n")
        while not handler.server.over.is_set():  # pyright: ignore[reportAttributeAccessIssue]
            handler.send(b"%x\r\n%s\r\n" % (len(part), part))
            time.sleep(0.001)

    return act


def chat(server: Loopback, **options: Any) -> ChatEndpoint:
    return ChatEndpoint("far", server.url, "m", **{"retries": 0, "timeout": 10.0} | options)


def heard(endpoint: ChatEndpoint, **options: Any) -> tuple[list[str], ChatReply]:
    """The pieces of a stream, and what it returns."""
    pieces: list[str] = []
    stream = endpoint.stream(TALK, **{"max_tokens": 32} | options)
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


def failures(
    *acts: Callable[[Handler], None], **options: Any
) -> Iterator[tuple[ProviderError, Loopback]]:
    """How a stream fails, and a whole reply of a server that does the same."""
    asks = (heard, lambda endpoint: endpoint.complete(TALK, max_tokens=32))
    for ask in asks:
        with loopback(*acts) as server, chat(server, **options) as endpoint:
            with pytest.raises(ProviderError, match="provider far: ") as caught:
                ask(endpoint)
            yield caught.value, server


# What is asked and what is answered -------------------------------------------------------------


def test_it_asks_with_the_whole_conversation_and_reads_the_answer(monkeypatch):
    monkeypatch.setenv("FAR_KEY", "sk-secret")
    with loopback(says(json.dumps(WHOLE).encode())) as server:
        with chat(server, key_variable="FAR_KEY") as endpoint:
            reply = endpoint.complete(TALK, max_tokens=32, seed=7, temperature=0.5)
        ((path, headers, body),) = server.asked
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer sk-secret")
    assert body == {
        "model": "m",
        "messages": [{"role": role, "content": content} for role, content in TALK],
        "max_tokens": 32,
        "seed": 7,
        "temperature": 0.5,
        "stream": False,
    }
    assert 0 < reply.seconds < 10
    assert reply == ChatReply("It is 11434, é.", "stop", 9, 4, 5, reply.seconds)


def test_it_streams_what_it_would_say_at_once(monkeypatch):
    monkeypatch.setenv("FAR_KEY", "sk-secret")
    with loopback(streams(*TOLD)) as server:
        with chat(server, key_variable="FAR_KEY") as endpoint:
            pieces, reply = heard(endpoint, seed=7, temperature=0.5)
        ((path, headers, body),) = server.asked
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer sk-secret")
    assert headers["Accept"] == "text/event-stream"
    assert body.pop("stream") is True
    assert body.pop("stream_options") == {"include_usage": True}
    assert body.pop("messages") == [{"role": role, "content": content} for role, content in TALK]
    assert body == {"model": "m", "max_tokens": 32, "seed": 7, "temperature": 0.5}
    assert tuple(pieces) == PIECES
    assert reply == ChatReply("It is 11434, é.", "stop", 9, 4, 5, reply.seconds)


def test_it_is_also_a_provider_of_single_answers():
    with loopback(good) as server, chat(server) as endpoint:
        assert endpoint.answer(Request("Which port?")).text == "It is 11434, é."


def test_pieces_come_before_the_reply_is_over():
    def waits(handler: Handler) -> None:
        handler.server.over.wait(5)  # pyright: ignore[reportAttributeAccessIssue]
        handler.send(b"0\r\n\r\n")

    with loopback(streams(*TOLD[:2], then=waits)) as server, chat(server) as endpoint:
        stream = endpoint.stream(TALK, max_tokens=32)
        assert next(stream) == "It is"
        assert not server.over.is_set()
        stream.close()


def test_nothing_is_asked_before_the_first_piece_is_wanted():
    with loopback(streams(*TOLD)) as server, chat(server) as endpoint:
        stream = endpoint.stream(TALK, max_tokens=32)
        assert server.asked == []
        next(stream)
        assert len(server.asked) == 1
        stream.close()


def test_closing_a_stream_hangs_up_and_the_next_is_a_fresh_one():
    gone: list[bool] = []

    def talks_on(handler: Handler) -> None:
        try:
            for_ever(delta("la "))(handler)
        except OSError:
            gone.append(True)
            raise

    with loopback(talks_on, streams(*TOLD)) as server, chat(server) as endpoint:
        stream = endpoint.stream(TALK, max_tokens=32)
        assert [next(stream), next(stream)] == ["la ", "la "]
        stream.close()
        until = time.monotonic() + 5
        while not gone:
            assert time.monotonic() < until, "the server still talks"
            time.sleep(0.01)
        assert tuple(heard(endpoint)[0]) == PIECES


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        "many",
        {},
        {"prompt_tokens": "9", "completion_tokens": -1, "prompt_tokens_details": 5},
        {"prompt_tokens": True, "completion_tokens": 4.5, "prompt_tokens_details": None},
    ],
)
def test_counts_that_are_none_are_none(usage):
    whole = json.dumps(WHOLE | {"usage": usage}).encode()
    told = [*TOLD[:-2], event({"choices": [], "usage": usage}), DONE]
    with loopback(says(whole), streams(*told)) as server, chat(server) as endpoint:
        for reply in (endpoint.complete(TALK, max_tokens=32), heard(endpoint)[1]):
            counts = (reply.prompt_tokens, reply.completion_tokens, reply.cached_tokens)
            assert counts == (None, None, None)
            assert (reply.text, reply.finish_reason) == ("It is 11434, é.", "stop")


def test_nothing_said_is_a_reply():
    silent = {"choices": [{"message": {"content": None}, "finish_reason": "length"}]}
    acts = says(json.dumps(silent).encode()), streams(delta(None, "length"), DONE)
    with loopback(*acts) as server, chat(server) as endpoint:
        for reply in (endpoint.complete(TALK, max_tokens=32), heard(endpoint)[1]):
            assert (reply.text, reply.finish_reason, reply.prompt_tokens) == ("", "length", None)


@pytest.mark.parametrize(
    "told",
    [
        [b"".join(TOLD)],
        [bytes([byte]) for byte in b"".join(TOLD)],
        [part.replace(b"\n", b"\r\n") for part in TOLD],
        [b": keep-alive\n\n", b"event: x\nid: 7\nretry: 10\n", *TOLD],
        [part.replace(b"data: ", b"data:") for part in TOLD],
        TOLD[:-1],  # it says why it ended, and ends
        [*TOLD, b"data: {never read}\n\n"],
    ],
    ids=["one part", "bytes", "CRLF", "comments", "no space", "no [DONE]", "more after it"],
)
def test_every_way_to_write_a_stream_is_read(told):
    with loopback(streams(*told)) as server, chat(server) as endpoint:
        pieces, reply = heard(endpoint)
    assert tuple(pieces) == PIECES
    assert reply == ChatReply("It is 11434, é.", "stop", 9, 4, 5, reply.seconds)


@given(
    st.lists(st.text(min_size=1, max_size=9), max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.one_of(st.lists(st.integers(0, 10**6), max_size=20), st.just(range(10**4))),
)
@example(["é"], "\r\n", range(10**4))
def test_pieces_do_not_depend_on_how_a_stream_is_cut(texts, end, cuts):
    """A new line within an event's JSON is a line of data of its own, by the standard."""
    chunks = [{"choices": [{"delta": {"content": text}}]} for text in texts]
    written = [json.dumps(chunk, indent=1, ensure_ascii=False) for chunk in chunks]
    lines = [
        line
        for data in [*written, "[DONE]"]
        for line in [": between", *(f"data: {part}" for part in data.split("\n")), "", ""]
    ]
    if not texts:
        lines = ['data: {"choices": []}', "", *lines]
    body = end.join([*lines, ""]).encode()
    ends = sorted({0, len(body), *(cut % len(body) for cut in cuts)})
    parts = [body[a:b] for a, b in itertools.pairwise(ends)]
    with loopback(streams(*parts)) as server, chat(server) as endpoint:
        pieces, reply = heard(endpoint)
    assert pieces == texts
    assert (reply.text, reply.finish_reason) == ("".join(texts), None)


def test_after_the_word_that_it_is_done_nothing_is_waited_for():
    with loopback(streams(*TOLD, then=hang)) as server, chat(server) as endpoint:
        assert heard(endpoint)[1].text == "It is 11434, é."


# What goes wrong: alike in a stream and in a whole reply ----------------------------------------


@pytest.mark.parametrize(
    ("act", "meaning"),
    [
        (says(b"slow down", 429, Retry_After="17"), Failure.QUOTA),
        (says(b"busy", 500), Failure.SERVER),
        (says(b"no such model", 404), Failure.REFUSED),
        (says(b"", 401), Failure.NO_KEY),
        (says(b"", 204), Failure.GARBAGE),
        (says(b""), Failure.GARBAGE),
        (says(b"<html>busy</html>"), Failure.GARBAGE),
        (says(bytes(range(256)) * 100), Failure.GARBAGE),
        (not_http, Failure.GARBAGE),
        (closes, Failure.UNREACHABLE),
        (lambda handler: fifty_megabytes(handler, True), Failure.TOO_LONG),
        (lambda handler: fifty_megabytes(handler, False), Failure.TOO_LONG),
    ],
    ids=[
        *("429", "500", "404", "401", "204", "empty", "html", "bytes", "not HTTP", "closes"),
        *("50 MB announced", "50 MB"),
    ],
)
def test_failures_are_those_of_a_whole_reply(act, meaning):
    for error, server in failures(act):
        assert (error.failure, error.provider) == (meaning, "far")
        assert error.retry_after == (17 if meaning is Failure.QUOTA else None)
        assert server.sent < 40 * 10**6


@pytest.mark.parametrize(
    "act",
    [
        hang,
        endless,
        for_ever(delta("la ")),
        for_ever(b": still here\n\n"),
        streams(*TOLD[:3], then=hang),
        drip(b"".join(TOLD) * 9, after=SSE + b"Connection: close\r\n\r\n"),
    ],
    ids=["silent", "endless", "endless text", "endless comments", "stuck", "slow"],
)
def test_one_deadline_cuts_whatever_is_slow(act):
    for error, _ in failures(act, timeout=0.25, retries=3):
        assert error.failure is Failure.TIMEOUT
        assert "within 0.25 seconds" in str(error)


def drop(handler: Handler) -> None:
    handler.hang_up()


@pytest.mark.parametrize(
    "act",
    [streams(*TOLD[:3], then=drop), streams_until_it_closes(*TOLD[:3])],
    ids=["within the framing", "as if whole"],
)
def test_a_stream_that_is_cut_broke_off_and_is_not_asked_for_again(act):
    with loopback(act, streams(*TOLD)) as server, chat(server, retries=3) as endpoint:
        stream = endpoint.stream(TALK, max_tokens=32)
        assert [next(stream), next(stream)] == list(PIECES[:2])
        with pytest.raises(ProviderError) as caught:
            next(stream)
        assert caught.value.failure is Failure.UNREACHABLE
        assert len(server.asked) == 1


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {\n\n",
        b"data: 7\n\n",
        b"data: null\n\n",
        b"data: {}\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
        b"data: \xff\n\n",
        event({"choices": 7}),
        event({"choices": [{}]}),
        event({"choices": [{"delta": None}]}),
        delta(7),
        delta(["a"]),
        delta("a", reason=7),
        b'data: {"choices": [{"delta": {"content": "\\ud800"}}]}\n\n',
    ],
)
def test_what_is_no_event_of_the_protocol_is_garbage(bad):
    with loopback(streams(TOLD[1], bad, *TOLD[2:])) as server:
        with chat(server, retries=3) as endpoint, pytest.raises(ProviderError) as caught:
            heard(endpoint)
        assert len(server.asked) == 1
    assert caught.value.failure is Failure.GARBAGE


def test_an_error_within_a_stream_is_the_servers_and_hides_the_key(monkeypatch):
    monkeypatch.setenv("FAR_KEY", "sk-secret")
    error = event({"error": {"message": "out of memory for sk-secret", "type": "server_error"}})
    with (
        loopback(streams(*TOLD[:3], error, DONE)) as server,
        chat(server, key_variable="FAR_KEY") as endpoint,
        pytest.raises(ProviderError, match="out of memory for …") as caught,
    ):
        heard(endpoint)
    assert caught.value.failure is Failure.SERVER


def test_the_limit_is_of_the_text_and_exact():
    told = [*[delta("é" * 10)] * 5, *TOLD[4:]]  # a hundred bytes, in frames of some six hundred
    with loopback(streams(*told)) as server:
        with chat(server, largest=100) as endpoint:
            assert heard(endpoint)[1].text == "é" * 50
        with (
            chat(server, largest=99) as endpoint,
            pytest.raises(ProviderError, match="larger than 99 bytes") as caught,
        ):
            heard(endpoint)
    assert caught.value.failure is Failure.TOO_LONG


def test_without_a_key_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("FAR_KEY", raising=False)
    for error, server in failures(good, key_variable="FAR_KEY"):
        assert error.failure is Failure.NO_KEY
        assert server.asked == []


def test_what_may_pass_is_tried_again_until_something_has_come():
    passing = Time()
    acts = says(b"", 500), closes, streams(then=drop), says(b"", 503, Retry_After="3")
    with loopback(*acts, streams(*TOLD)) as server:
        options = dict(retries=4, timeout=60.0, clock=passing.clock, sleep=passing.sleep)
        with chat(server, **options) as endpoint:
            pieces, reply = heard(endpoint)
        assert len(server.asked) == 5
    assert tuple(pieces) == PIECES
    assert passing.pauses == [0.25, 0.5, 1.0, 3.0]
    assert reply.seconds == 4.75


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"messages": ()}, "messages must hold at least one"),
        ({"messages": (("user", "\ud800"),)}, r"messages\[0\].content must be a text"),
        ({"messages": (("user", "a"), ("user", None))}, r"messages\[1\].content .*got None"),
        ({"messages": ((7, "a"),)}, r"messages\[0\].role .*got 7"),
        ({"max_tokens": 0}, "max_tokens must lie in"),
        ({"temperature": -0.1}, "temperature must lie in"),
        ({"temperature": float("nan")}, "temperature must not contain NaN"),
    ],
)
def test_bad_input_is_named_before_anything_is_sent(changed, words):
    given = {"messages": TALK, "max_tokens": 32} | changed
    with loopback(good) as server, chat(server) as endpoint:
        for ask in (endpoint.complete, endpoint.stream):
            with pytest.raises(ValueError, match=words):
                ask(**given)
        assert server.asked == []
