"""POST of JSON to a server that may do anything: bounded in time, size and number of tries."""

import contextlib
import email.utils
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import httpcore

from .deadlines import Deadline, DeadlineBackend
from .requests import Failure, ProviderError

FIRST_PAUSE = 0.25
"""Seconds before the second try; each further pause is twice the one before."""
LONGEST_REST = 86_400.0
"""Of what a server asks in Retry-After, a day is believed."""
FRAMING = 16
"""How many times longer than what it says a stream may be: it wraps each token."""

_MAY_PASS = (Failure.UNREACHABLE, Failure.SERVER)
_SHOWN = 200
_JSON, _EVENTS = "application/json", "text/event-stream"
_T = TypeVar("_T")


class HTTPPosts:
    """Posts to one server, over connections that are kept for the next; safe from many threads.

    No proxy is used, whatever the environment says, and no redirect followed: what is sent goes to
    the address that was given or nowhere.

    **Arguments:** `provider`, whom errors name; `url`, what paths stand behind; `timeout`, seconds
    for all tries together; `largest`, bytes of a reply's body; `retries`, further tries where the
    connection failed or the server did (5xx); `clock` and `sleep`, in seconds.
    """

    def __init__(
        self,
        provider: str,
        url: str,
        *,
        timeout: float,
        largest: int,
        retries: int,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ):
        self._provider, self._url = provider, url
        self._timeout, self._largest, self._retries = timeout, largest, retries
        self._clock, self._sleep = clock, sleep
        self._pool = httpcore.ConnectionPool(
            max_connections=None,  # one a thread that waits
            max_keepalive_connections=10,
            keepalive_expiry=2.0,
            network_backend=DeadlineBackend(),
        )

    def close(self) -> None:
        """Close the connections that are kept."""
        self._pool.close()

    def post(self, path: str, body: bytes, key: str | None = None) -> bytes:
        """The body of the reply.

        **Raises** `ProviderError`, with every `Failure` that a server can cause.
        """
        deadline = Deadline(self._timeout, self._clock)

        def whole() -> bytes:
            parts = self._parts(path, body, key, deadline, _JSON, self._largest)
            return b"".join(parts)

        return self._tried(whole, deadline)

    def stream(
        self, path: str, body: bytes, key: str | None = None
    ) -> Generator[bytes, None, None]:
        """The body of the reply, part by part as it comes; at most `FRAMING` times `largest`.

        Nothing is posted before the first part is asked for, and nothing tried again after it has
        come. The time that the reader takes between parts counts. Closing the generator closes the
        connection.

        **Raises** `ProviderError`, as `post`, from the generator.
        """
        deadline = Deadline(self._timeout, self._clock)

        def begun() -> tuple[bytes, Generator[bytes, None, None]]:
            most = FRAMING * self._largest
            parts = self._parts(path, body, key, deadline, _EVENTS, most)
            return next(parts, b""), parts

        first, parts = self._tried(begun, deadline)
        with contextlib.closing(parts):
            yield first
            yield from parts

    def _tried(self, once: Callable[[], _T], deadline: Deadline) -> _T:
        """What `once` returns, at the first try at which it does."""
        for tries in range(self._retries):
            try:
                return once()
            except ProviderError as error:
                pause = max(FIRST_PAUSE * 2**tries, error.retry_after or 0.0)
                if error.failure not in _MAY_PASS or pause >= deadline.left():
                    raise
            self._sleep(pause)
        return once()

    def _parts(
        self, path: str, body: bytes, key: str | None, deadline: Deadline, accept: str, largest: int
    ) -> Generator[bytes, None, None]:
        """One try: the body of the reply, in parts."""
        headers = [
            ("Content-Type", _JSON),
            ("Accept", accept),
            ("Accept-Encoding", "identity"),  # the limit is of what is said, and nothing expands
            ("User-Agent", "sigma_jax"),
        ]
        if key is not None:
            headers.append(("Authorization", f"Bearer {key}"))
        timeouts = {"pool": max(deadline.left(), 0.0)} | dict.fromkeys(
            ("connect", "read", "write"), deadline
        )
        deadline.hung_up = False
        try:
            with self._pool.stream(
                "POST",
                self._url + path,
                headers=headers,
                content=body,
                extensions={"timeout": timeouts},
            ) as response:
                yield from self._body(response, key, largest)
        except httpcore.TimeoutException:
            what = f"no whole reply within {self._timeout:g} seconds."
            raise self._error(Failure.TIMEOUT, what) from None
        except httpcore.NetworkError as error:
            what = f"no connection, or it broke off ({error})."
            raise self._error(Failure.UNREACHABLE, what) from None
        except httpcore.ProtocolError as error:
            if deadline.hung_up:
                what = f"the connection ended before the reply did ({error})."
                raise self._error(Failure.UNREACHABLE, what) from None
            raise self._error(Failure.GARBAGE, f"the reply is not HTTP ({error}).") from None

    def _body(self, response: httpcore.Response, key: str | None, largest: int) -> Iterator[bytes]:
        if not 200 <= response.status < 300:
            raise self._refusal(response, key)
        read = 0
        for part in response.iter_stream():
            read += len(part)
            if read > largest:
                what = f"the reply is larger than {largest} bytes."
                raise self._error(Failure.TOO_LONG, what)
            yield part

    def _refusal(self, response: httpcore.Response, key: str | None) -> ProviderError:
        """What a status that is no success means, with the beginning of what was said of it."""
        try:
            said = next(iter(response.iter_stream()), b"").decode(errors="replace")
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
            said = ""
        rest = retry_after(response.headers, datetime.now(UTC))
        what = f"status {response.status}: {shown(said, key)!r}."
        return self._error(_meaning(response.status), what, rest)

    def _error(self, failure: Failure, what: str, rest: float | None = None) -> ProviderError:
        return ProviderError(self._provider, failure, what, retry_after=rest)


def _meaning(status: int) -> Failure:
    if status == 429:
        return Failure.QUOTA
    if status in (401, 403):
        return Failure.NO_KEY
    if 400 <= status < 500:
        return Failure.REFUSED
    return Failure.SERVER if status >= 500 else Failure.GARBAGE


def shown(said: str, key: str | None) -> str:
    """The beginning of what a server said of a failure, without the key."""
    if key is not None:  # some servers repeat it, and messages end up in logs
        said = said.replace(key, "…")
    return said[:_SHOWN]


def retry_after(headers: Sequence[tuple[bytes, bytes]], now: datetime) -> float | None:
    """The seconds of a Retry-After header, of either form; None without one that can be read.

    Source: RFC 9110, section 10.2.3.
    """
    named = {name.lower(): value.strip() for name, value in headers}
    text = named.get(b"retry-after", b"").decode("latin-1")
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_REST)
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:  # "-0000", or an old form without a zone: GMT by the standard
        until = until.replace(tzinfo=UTC)
    return min(max((until - now).total_seconds(), 0.0), LONGEST_REST)
