"""What cannot be answered is named with the right status, and harms nothing."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

ASK = [{"role": "user", "content": "walk"}]
CHAT = {"model": "ouro", "messages": ASK, "stream": False}
BODY_LIMIT = 2**16


@pytest.fixture(scope="module")
def raw(server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client
        good = client.post("/api/chat", json=CHAT | {"options": {"num_predict": 1}})
        assert good.status_code == 200
        server.settle()


def message(reply: httpx.Response) -> str:
    """The error's text, in the form of the interface that was asked."""
    error = reply.json()["error"]
    if reply.url.path.startswith("/v1/"):
        assert set(error) == {"message", "type", "param", "code"}
        return error["message"]
    assert set(reply.json()) == {"error"}
    return error


@pytest.mark.parametrize("route", ["/api/chat", "/api/generate", "/v1/chat/completions"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b'{"model": "ouro"',
        b'{"model": NaN}',
        b"\xff\xfe",
        b"[" * 60000,
        b'{"model": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_body_that_is_no_json_object(raw, route, body) -> None:
    reply = raw.post(route, content=body)
    assert reply.status_code == 400
    assert "body" in message(reply)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": "hot"}, "options.temperature"),
        ({"temperature": -1}, "options.temperature"),
        ({"temperature": True}, "options.temperature"),
        ({"temperature": 10**400}, "options.temperature"),
        ({"top_k": 1.5}, "options.top_k"),
        ({"top_p": 1.1}, "options.top_p"),
        ({"min_p": -0.1}, "options.min_p"),
        ({"seed": "x"}, "options.seed"),
        ({"stop": [1]}, "options.stop"),
        ({"stop": ["a", ""]}, "options.stop"),
        ({"stop": ["a"] * 17}, "options.stop"),
        ({"stop": "\ud800"}, "options.stop"),
        ({"repeat_penalty": 0}, "options.repeat_penalty"),
        ({"repeat_last_n": -2}, "options.repeat_last_n"),
        ({"num_predict": -3}, "options.num_predict"),
        ({"num_ctx": 0}, "options.num_ctx"),
        ({"exit_threshold": -0.1}, "options.exit_threshold"),
        ({"min_loops": 0}, "options.min_loops"),
        ({"max_loops": 4}, "options.max_loops"),
        ({"min_loops": 3, "max_loops": 2}, "options.min_loops"),
        ({"report_depths": 1}, "options.report_depths"),
        ([], "options"),
    ],
)
def test_options_that_are_wrong_are_named(raw, options, named) -> None:
    content = json.dumps(CHAT | {"options": options})
    reply = raw.post("/api/chat", content=content)
    assert reply.status_code == 400
    assert message(reply).startswith(f"{named} ")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n": 2}, "n"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": "walk"}, "messages"),
        ({"messages": [1]}, "messages"),
        ({"messages": [{"content": "walk"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "walk"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "\udfff"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
        ),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 1}, "stream_options"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"exit_threshold": []}, "exit_threshold"),
        ({"model": 3}, "model"),
        ({"model": None}, "model"),
    ],
)
def test_fields_that_are_wrong_are_named(raw, fields, named) -> None:
    content = json.dumps({"model": "ouro", "messages": ASK} | fields)
    reply = raw.post("/v1/chat/completions", content=content)
    assert reply.status_code == 400
    assert message(reply).startswith(f"{named} ")
    assert reply.json()["error"]["param"] == named
    assert reply.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("route", "fields", "named"),
    [
        ("/api/generate", {"prompt": 3}, "prompt"),
        ("/api/generate", {"prompt": "x", "suffix": "y"}, "suffix"),
        ("/api/generate", {"prompt": "x", "template": "y"}, "template"),
        ("/api/generate", {"prompt": "x", "format": "json"}, "format"),
        ("/api/generate", {"prompt": "x", "context": [1, 2]}, "context"),
        ("/api/generate", {"prompt": "x", "raw": True, "system": "y"}, "system"),
        ("/api/chat", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ("/api/chat", {"messages": [{"role": "user", "images": ["x"]}]}, "messages[0].images"),
        ("/api/chat", {"messages": ASK, "tools": [{}]}, "tools"),
        ("/api/chat", {"messages": ASK, "think": True}, "think"),
        ("/api/embed", {"input": 3}, "input"),
        ("/api/embed", {"input": ["walk", ""]}, "input"),
        ("/api/embed", {"input": "walk", "dimensions": 33}, "dimensions"),
        ("/v1/embeddings", {}, "input"),
        ("/v1/embeddings", {"input": ""}, "input"),
        ("/v1/embeddings", {"input": []}, "input"),
        ("/v1/embeddings", {"input": ["walk", 3]}, "input"),
        ("/v1/embeddings", {"input": [[10**9]]}, "input"),
        ("/v1/embeddings", {"input": "walk", "encoding_format": "int8"}, "encoding_format"),
    ],
)
def test_what_is_not_offered_is_refused_by_name(raw, route, fields, named) -> None:
    reply = raw.post(route, json={"model": "ouro"} | fields)
    assert reply.status_code == 400
    assert message(reply).startswith(f"{named} ")


def test_a_prompt_longer_than_the_context(raw) -> None:
    long = "walk " * 200
    for route, body in (
        ("/api/chat", {"messages": [{"role": "user", "content": long}]}),
        ("/api/generate", {"prompt": long}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": long}]}),
        ("/v1/embeddings", {"input": long}),
    ):
        for stream in (False, True):
            reply = raw.post(route, json={"model": "ouro", "stream": stream} | body)
            assert reply.status_code == 400
            assert "more than the context of 96" in message(reply)
    assert reply.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    "route", ["/api/chat", "/api/generate", "/api/show", "/api/embed", "/v1/chat/completions"]
)
@pytest.mark.parametrize("name", ["llama", "ouro:other", "Ouro", "x" * 5000])
def test_an_unknown_model_is_not_found(raw, route, name) -> None:
    reply = raw.post(route, json={"model": name})
    assert reply.status_code == 404
    assert "not found" in message(reply)
    assert len(reply.text) < 1000


def test_unknown_routes_and_methods(raw) -> None:
    assert "no such route" in message(reply := raw.get("/api/nothing"))
    assert reply.status_code == 404
    assert "no such route" in message(reply := raw.get("/v1/nothing"))
    assert reply.status_code == 404
    assert "no such method" in message(reply := raw.get("/api/chat"))
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert raw.delete("/v1/models").status_code == 405


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_100_megabytes_is_refused_before_it_is_read(server, chunked) -> None:
    sent = 0

    def parts() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            yield b" " * 2**20
            sent += 1

    headers = {} if chunked else {"content-length": str(100 * 2**20)}
    reply = httpx.post(f"{server.url}/api/chat", content=parts(), headers=headers, timeout=30)
    assert reply.status_code == 413
    assert str(BODY_LIMIT) in message(reply)
    assert sent < 50


def test_a_body_that_is_announced_too_large_is_not_waited_for(server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_just_within_the_limit_is_read(raw) -> None:
    body = json.dumps(CHAT | {"options": {"num_predict": 1}}).encode()
    assert raw.post("/api/chat", content=body.ljust(BODY_LIMIT)).status_code == 200
    assert raw.post("/api/chat", content=body.ljust(BODY_LIMIT + 1)).status_code == 413


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
_NAMES = ["messages", "prompt", "input", "options", "stream", "stop", "n", "max_tokens", "system"]


@given(
    route=st.sampled_from(
        ["/api/chat", "/api/generate", "/api/embed", "/v1/chat/completions", "/v1/embeddings"]
    ),
    fields=st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=3),
)
def test_anything_is_answered_without_a_failure(raw, route, fields) -> None:
    body = {"model": "ouro", "stream": False, "max_tokens": 2} | fields
    reply = raw.post(route, content=json.dumps(body))
    assert reply.status_code in (200, 400)
    if reply.status_code == 400:
        assert message(reply)
