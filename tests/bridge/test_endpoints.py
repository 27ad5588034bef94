"""Endpoints against servers on loopback that do all that servers do."""

import contextlib
import email.utils
import http.server
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sigma_jax.bridge import (
    Failure,
    OllamaEndpoint,
    OpenAIEndpoint,
    Passage,
    ProviderError,
    Request,
)
from tests.serve.conftest import free_port

KINDS = [OpenAIEndpoint, OllamaEndpoint]
ASK = Request("Which port?", (Passage("docs/serving.md:3-4", "It is 11434."),), 32, seed=7)


class Handler(http.server.BaseHTTPRequestHandler):
    """Does what the first part of the path names."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Loopback)
        self.close_connection = False
        body = self.rfile.read(int(self.headers["Content-Length"]))
        server.asked.append((self.path, dict(self.headers), json.loads(body)))
        act = server.acts[min(len(server.asked), len(server.acts)) - 1]
        with contextlib.suppress(OSError):  # the client hung up, as it should
            act(self)

    def log_message(self, *arguments: Any) -> None:
        pass

    def reply(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.send(body)

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.server.sent += len(data)  # pyright: ignore[reportAttributeAccessIssue]

    def hang_up(self) -> None:
        self.close_connection = True


class Loopback(http.server.ThreadingHTTPServer):
    """A server that does `acts` one after the other, and the last of them for ever."""

    daemon_threads = False  # closing it waits for what it still does

    def __init__(self, *acts: Callable[[Handler], None]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.acts, self.asked, self.sent = acts, [], 0
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def loopback(*acts: Callable[[Handler], None]) -> Iterator[Loopback]:
    with Loopback(*acts) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:  # a thread that stays keeps pytest from ending
            server.over.set()
            server.shutdown()
            thread.join()


def good(handler: Handler) -> None:
    message = {"message": {"role": "assistant", "content": "It is 11434, é."}}
    ours = {"/v1/chat/completions": {"choices": [message]}, "/api/chat": message}
    handler.reply(json.dumps(ours[handler.path]).encode())


def says(body: bytes, status: int = 200, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.reply(body, status, **headers)


def hang(handler: Handler) -> None:
    handler.server.over.wait(20)  # pyright: ignore[reportAttributeAccessIssue]
    handler.hang_up()


def drip(data: bytes, after: bytes = b"") -> Callable[[Handler], None]:
    """Send `after`, and then a byte each 50 ms: no wait is long, and the end is far."""

    def act(handler: Handler) -> None:
        handler.send(after)
        for byte in data:
            handler.send(bytes([byte]))
            if handler.server.over.wait(0.05):  # pyright: ignore[reportAttributeAccessIssue]
                return

    return act


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def endless(handler: Handler) -> None:
    handler.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while not handler.server.over.is_set():  # pyright: ignore[reportAttributeAccessIssue]
        handler.send(b"1\r\n \r\n")
        time.sleep(0.001)


def fifty_megabytes(handler: Handler, announced: bool) -> None:
    size = 50 * 10**6
    framing = b"Content-Length: %d" % size if announced else b"Connection: close"
    handler.send(HEAD + framing + b"\r\n\r\n")
    handler.hang_up()
    for _ in range(size // 10**4):
        handler.send(b" " * 10**4)


def breaks(handler: Handler) -> None:
    handler.send(HEAD + b"Content-Length: 1000\r\n\r\n" + b'{"choices": [')
    handler.hang_up()


def closes(handler: Handler) -> None:
    handler.hang_up()


def not_http(handler: Handler) -> None:
    handler.send(bytes(range(256)) + b"\r\n\r\n")
    handler.hang_up()


def failure(url: str, kind: type = OpenAIEndpoint, **options: Any) -> ProviderError:
    """How asking goes wrong."""
    with (
        kind("far", url, "m", **{"retries": 0, "timeout": 10.0} | options) as endpoint,
        pytest.raises(ProviderError, match="provider far: ") as caught,
    ):
        endpoint.answer(ASK)
    assert caught.value.provider == "far"
    return caught.value


# What is asked and what is answered -------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_it_asks_as_the_protocol_says_and_reads_the_answer(kind, end):
    with loopback(good) as server, kind("far", server.url + end, "small") as endpoint:
        reply = endpoint.answer(ASK)
        again = endpoint.answer(ASK)
    assert reply.text == again.text == "It is 11434, é."
    assert (reply.provider, reply.received_bytes) == ("far", 16)
    assert reply.sent_bytes == len(ASK.prompt.encode())
    assert 0 < reply.seconds < 10
    (path, headers, body), _ = server.asked
    assert path == {OpenAIEndpoint: "/v1/chat/completions", OllamaEndpoint: "/api/chat"}[kind]
    assert "Authorization" not in headers
    assert headers["Content-Type"] == "application/json"
    assert body.pop("messages") == [{"role": "user", "content": ASK.prompt}]
    options = {"temperature": 0, "seed": 7, "num_predict": 32, "repeat_penalty": 1.0}
    flat = {"temperature": 0, "seed": 7, "max_tokens": 32}
    rest = flat if kind is OpenAIEndpoint else {"options": options}
    assert body == {"model": "small", "stream": False} | rest


def test_connections_are_kept_and_one_that_went_away_is_replaced():
    ports: list[int] = []

    def notes(handler: Handler) -> None:
        ports.append(handler.client_address[1])
        good(handler)

    def notes_and_leaves(handler: Handler) -> None:
        notes(handler)
        handler.hang_up()

    with (
        loopback(notes, notes_and_leaves, notes) as server,
        OpenAIEndpoint("far", server.url, "m") as endpoint,
    ):
        for _ in range(3):
            assert endpoint.answer(ASK).text
    assert ports[0] == ports[1] != ports[2]


def test_several_threads_may_ask_at_once():
    together = threading.Barrier(8, timeout=10)

    def waits(handler: Handler) -> None:
        together.wait()
        good(handler)

    with loopback(waits) as server, OllamaEndpoint("far", server.url, "m") as endpoint:
        texts: list[str] = []
        threads = [
            threading.Thread(target=lambda: texts.append(endpoint.answer(ASK).text))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == ["It is 11434, é."] * 8


@pytest.mark.parametrize("content", ["", None])
def test_nothing_said_is_a_reply(content):
    body = {"choices": [{"message": {"content": content}}]}
    with (
        loopback(says(json.dumps(body).encode())) as server,
        OpenAIEndpoint("far", server.url, "m") as endpoint,
    ):
        reply = endpoint.answer(ASK)
    assert (reply.text, reply.received_bytes) == ("", 0)


def test_proxies_of_the_environment_are_not_used(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with loopback(good) as server, OpenAIEndpoint("far", server.url, "m") as endpoint:
        assert endpoint.answer(ASK).text


# Keys -------------------------------------------------------------------------------------------


def test_a_key_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv("FAR_KEY", " sk-secret\n")
    with (
        loopback(good) as server,
        OpenAIEndpoint("far", server.url, "m", key_variable="FAR_KEY") as endpoint,
    ):
        endpoint.answer(ASK)
        assert server.asked[0][1]["Authorization"] == "Bearer sk-secret"
    for status, meaning in ((401, Failure.NO_KEY), (403, Failure.NO_KEY), (400, Failure.REFUSED)):
        with loopback(says(b"x" * 195 + b"sk-secret is wrong", status)) as server:
            error = failure(server.url, key_variable="FAR_KEY")
        assert error.failure is meaning
        assert "sk-" not in str(error)


@pytest.mark.parametrize("value", [None, "", "  ", "two\nlines", "schlüssel"])
def test_without_a_key_nothing_is_sent(value, monkeypatch):
    monkeypatch.delenv("FAR_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("FAR_KEY", value)
    with loopback(good) as server:
        error = failure(server.url, key_variable="FAR_KEY")
        assert error.failure is Failure.NO_KEY
        assert "FAR_KEY holds no key" in str(error)
        assert server.asked == []


# What goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (400, Failure.REFUSED),
        (404, Failure.REFUSED),
        (413, Failure.REFUSED),
        (500, Failure.SERVER),
        (503, Failure.SERVER),
        (307, Failure.GARBAGE),
        (204, Failure.GARBAGE),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_statuses_have_meanings(status, meaning, kind):
    with loopback(good) as elsewhere:
        there = elsewhere.url + "/v1/chat/completions"
        body = b"" if status == 204 else b"model not found"
        with loopback(says(body, status, Location=there)) as server:
            error = failure(server.url, kind)
        assert elsewhere.asked == []  # a redirect is not followed
    assert error.failure is meaning
    assert status == 204 or f"status {status}: 'model not found'" in str(error)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("17", 17),
        ("0", 0),
        ("99999999999", 86_400),
        ("in a while", None),
        ("-5", None),
        (None, None),
        (lambda: email.utils.formatdate(time.time() + 120, usegmt=True), 120),
        (lambda: email.utils.formatdate(time.time() - 120, usegmt=True), 0),
    ],
)
def test_a_quota_says_for_how_long(value, seconds):
    text = value() if callable(value) else value
    headers = {} if text is None else {"Retry_After": text}
    with loopback(says(b"slow down", 429, **headers)) as server:
        error = failure(server.url, retries=5)
        assert len(server.asked) == 1
    assert error.failure is Failure.QUOTA
    assert error.retry_after == (None if seconds is None else pytest.approx(seconds, abs=5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>busy</html>",
        bytes(range(256)),
        b"7",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [null], "message": null}',
        b'{"choices": {"0": 1}, "message": "text"}',
        b'{"choices": [{"message": {"content": 7}}], "message": {"content": 7}}',
        b'{"choices": [{"message": {"content": ["a"]}}], "message": {"content": {}}}',
        b'{"choices": [{"message": {"content": "\\ud800"}}], "message": {"content": "\\udfff"}}',
        b'{"message": {"content": "a"}, "choices": [{"message": {"content": "a"}}]',
        b'{"choices": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"error": "out of memory"}',
    ],
)
def test_what_is_no_answer_is_garbage(kind, body):
    with loopback(says(body)) as server:
        assert failure(server.url, kind, retries=3).failure is Failure.GARBAGE
        assert len(server.asked) == 1


def test_what_is_no_http_is_garbage():
    with loopback(not_http) as server:
        assert failure(server.url).failure is Failure.GARBAGE


@pytest.mark.parametrize("act", [breaks, closes])
def test_a_connection_that_breaks_off(act):
    with loopback(act) as server:
        error = failure(server.url)
    assert error.failure is Failure.UNREACHABLE
    with loopback(act, good) as server, OpenAIEndpoint("far", server.url, "m") as endpoint:
        assert endpoint.answer(ASK).text
        assert len(server.asked) == 2


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "nowhere.invalid"])
def test_nobody_there(host):
    assert failure(f"http://{host}:{free_port()}").failure is Failure.UNREACHABLE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "act",
    [
        hang,
        drip(HEAD + b"Content-Length: 500\r\n\r\n" + b" " * 500),
        drip(b"x" * 500, after=b"HTTP/1.1 200 OK\r\nX: "),
        drip(b" " * 500, after=HEAD + b"Content-Length: 500\r\n\r\n"),
        drip(b"1;" + b"x" * 500, after=HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        endless,
    ],
    ids=["silent", "slow", "slow headers", "slow body", "slow framing", "endless"],
)
def test_one_deadline_cuts_whatever_is_slow(act, kind):
    with loopback(act) as server:
        began = time.monotonic()
        error = failure(server.url, kind, timeout=0.3, retries=3)
        assert 0.3 <= time.monotonic() - began < 2.0
    assert error.failure is Failure.TIMEOUT
    assert "within 0.3 seconds" in str(error)


def test_the_deadline_is_also_of_connecting():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with contextlib.ExitStack() as waiting:  # nobody accepts, and the queue is full
            for _ in range(4):
                one = waiting.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            error = failure(f"http://127.0.0.1:{port}", timeout=0.3)
    assert error.failure is Failure.TIMEOUT


@pytest.mark.parametrize("announced", [True, False])
def test_fifty_megabytes_are_cut_early(announced):
    with loopback(lambda handler: fifty_megabytes(handler, announced)) as server:
        error = failure(server.url)
        server.over.set()
        time.sleep(0.05)
        # What lies in the system's buffers was sent, and nothing beyond it.
        assert 2**20 < server.sent < 25 * 10**6
    assert error.failure is Failure.TOO_LONG
    assert "larger than 1048576 bytes" in str(error)


def test_the_limit_is_exact():
    body = b'{"message": {"content": "abc"}}'
    with loopback(says(body)) as server:
        with OllamaEndpoint("far", server.url, "m", largest=len(body)) as endpoint:
            assert endpoint.answer(ASK).text == "abc"
        error = failure(server.url, OllamaEndpoint, largest=len(body) - 1)
        assert error.failure is Failure.TOO_LONG


def test_after_something_was_cut_the_next_call_is_a_fresh_one():
    with (
        loopback(lambda handler: fifty_megabytes(handler, True), endless, good) as server,
        OpenAIEndpoint("far", server.url, "m", timeout=1.0, retries=0) as endpoint,
    ):
        for meaning in (Failure.TOO_LONG, Failure.TIMEOUT):
            with pytest.raises(ProviderError) as caught:
                endpoint.answer(ASK)
            assert caught.value.failure is meaning
        assert endpoint.answer(ASK).text == "It is 11434, é."


# Tries ------------------------------------------------------------------------------------------


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.pauses = 100.0, []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def test_what_may_pass_is_tried_again_after_pauses_that_double():
    passing = Time()
    with loopback(says(b"", 500), closes, says(b"", 502), good) as server:
        with OpenAIEndpoint(
            "far", server.url, "m", retries=3, clock=passing.clock, sleep=passing.sleep
        ) as endpoint:
            reply = endpoint.answer(ASK)
        assert len(server.asked) == 4
    assert passing.pauses == [0.25, 0.5, 1.0]
    assert reply.seconds == 1.75


def test_tries_are_bounded():
    passing = Time()
    options = dict(retries=2, clock=passing.clock, sleep=passing.sleep)
    with loopback(says(b"busy", 500)) as server:
        assert failure(server.url, **options).failure is Failure.SERVER
        assert len(server.asked) == 3
    assert failure(f"http://127.0.0.1:{free_port()}", **options).failure is Failure.UNREACHABLE
    assert passing.pauses == [0.25, 0.5] * 2


def test_tries_end_with_the_deadline():
    passing = Time()
    options = dict(retries=99, clock=passing.clock, sleep=passing.sleep)
    with loopback(says(b"busy", 500)) as server:
        assert failure(server.url, timeout=4.0, **options).failure is Failure.SERVER
    assert passing.pauses == [0.25, 0.5, 1.0, 2.0]  # the next would end after it


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks():
    passing = Time()
    options = dict(retries=2, clock=passing.clock, sleep=passing.sleep)
    with (
        loopback(says(b"busy", 503, Retry_After="3"), good) as server,
        OpenAIEndpoint("far", server.url, "m", **options) as endpoint,
    ):
        assert endpoint.answer(ASK).text
    with loopback(says(b"busy", 503, Retry_After="60")) as server:
        error = failure(server.url, timeout=30.0, **options)
        assert (error.failure, error.retry_after) == (Failure.SERVER, 60)
        assert len(server.asked) == 1
    assert passing.pauses == [3.0]


@pytest.mark.parametrize("status", [400, 401, 404, 429])
def test_what_does_not_pass_is_not_tried_again(status):
    with loopback(says(b"", status), good) as server:
        failure(server.url, retries=3)
        assert len(server.asked) == 1


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": ""}, "name must not be empty"),
        ({"model": ""}, "model must not be empty"),
        ({"url": "127.0.0.1:80"}, "url must be http"),
        ({"url": "ftp://host"}, "url must be http"),
        ({"url": "http://"}, "url must be http"),
        ({"url": "http://host:99999"}, "url is not one"),
        ({"url": "http://host:port"}, "url is not one"),
        ({"url": "http://[::1"}, "url is not one"),
        ({"url": "http://me:secret@host"}, "url must not hold a user"),
        ({"url": "http://host/?a=1"}, "url must be of ASCII"),
        ({"url": "http://höst"}, "url must be of ASCII"),
        ({"url": "http://host/a b"}, "url must be of ASCII"),
        ({"timeout": 0.0}, "timeout must lie in"),
        ({"timeout": float("nan")}, "timeout must not contain NaN"),
        ({"largest": 0}, "largest must lie in"),
        ({"retries": -1}, "retries must lie in"),
    ],
)
def test_bad_arguments_are_named(changed, words):
    with pytest.raises(ValueError, match=words) as caught:
        OpenAIEndpoint(**{"name": "far", "url": "http://host", "model": "m"} | changed)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"question": " \n"}, "question must not be empty"),
        ({"question": "\ud800"}, "question and passages must be UTF-8's"),
        ({"passages": (Passage("a:1-1", "\udcff"),)}, "question and passages must be UTF-8's"),
        ({"max_tokens": 0}, "max_tokens must lie in"),
    ],
)
def test_bad_requests_are_named(fields, words):
    with pytest.raises(ValueError, match=words):
        Request(**{"question": "Why?"} | fields)
