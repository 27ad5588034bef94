"""One deadline for all of an HTTP call: connecting, writing, and every byte that is read.

An HTTP client's timeouts hold for one read each, so a server that sends a byte now and then, in the
headers or in the body, is never cut. Here the call's deadline itself is handed down to the socket.
"""

import socket
from collections.abc import Callable, Iterable
from typing import Any

import httpcore

_PIECE = 2**14
"""Bytes written under one look at the clock."""


class Deadline:
    """When a call must be over, and whether its peer hung up.

    **Arguments:** `seconds` from now; `clock`.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]):
        self._clock, self._end = clock, clock() + seconds
        self.hung_up = False

    def left(self) -> float:
        """Seconds until then, negative after it."""
        return self._end - self._clock()

    def within(self, error: type[httpcore.TimeoutException]) -> float:
        """Seconds until then.

        **Raises** `error` if there are none left.
        """
        left = self.left()
        if left <= 0.0:
            raise error("the deadline has passed")
        return left


class DeadlineBackend(httpcore.NetworkBackend):
    """Sockets whose `timeout` is a `Deadline`, wherever httpcore hands one through.

    The time that the system takes to resolve a name is not bounded.
    """

    def __init__(self) -> None:
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: Any = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first of the host's addresses that answers; each has its share of time."""
        addresses = _addresses(host, port)
        for place, address in enumerate(addresses):
            share = timeout.within(httpcore.ConnectTimeout) / (len(addresses) - place)
            try:
                stream = self._backend.connect_tcp(
                    address, port, share, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if place + 1 == len(addresses):
                    raise
            else:
                return _DeadlineStream(stream)
        raise httpcore.ConnectError(f"{host} has no address")


class _DeadlineStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream):
        self._stream = stream

    def read(self, max_bytes: int, timeout: Any = None) -> bytes:
        data = self._stream.read(max_bytes, timeout.within(httpcore.ReadTimeout))
        timeout.hung_up |= not data
        return data

    def write(self, buffer: bytes, timeout: Any = None) -> None:
        for start in range(0, len(buffer), _PIECE):
            piece = buffer[start : start + _PIECE]
            self._stream.write(piece, timeout.within(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: Any = None
    ) -> httpcore.NetworkStream:
        left = timeout.within(httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
    return [str(place[0]) for *_, place in found]
