"""What the programs of this room have in common: arguments, errors, the socket they listen on."""

import argparse
import contextlib
import errno
import importlib.util
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any


def run_server(
    needed: Sequence[str], host: str, port: int, serve: Callable[[socket.socket], None]
) -> int:
    """Listen, and serve what is to be served; the exit status, 1 with a line of what was wrong.

    **Arguments:** `needed`, packages of the extra `serve`; `serve`, given the socket, which is held
    before anything is loaded; that it raises `OSError` or `ValueError` is an answer.
    """
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent:
        return _failed(f"{', '.join(absent)} not installed: pip install 'sigma_jax[serve]'")
    try:
        listener = _listen(host, port)
    except OSError as error:
        hint = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        return _failed(f"cannot listen on {host}:{port}: {error.strerror or error}{hint}")
    with listener:
        try:
            serve(listener)
        except (OSError, ValueError) as error:
            return _failed(str(error))
    return 0


def run_app(app: Any, listener: socket.socket, name: str) -> None:
    """Say that `name` is served, and answer requests to an ASGI application until interrupted."""
    import uvicorn

    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"serving {name} on http://{host}:{port} (Ctrl-C ends it)", flush=True)
    settings = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5)
    with contextlib.suppress(KeyboardInterrupt):  # raised again once all is closed
        uvicorn.Server(settings).run(sockets=[listener])


def at_least_one(text: str) -> int:
    """An argument that is a whole number from one on."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {number}")
    return number


def port_number(text: str) -> int:
    """An argument that is a port, or 0 for any that is free."""
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be from 0 to 65535; got {number}")
    return number


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the first address of `host`."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1)  # a second server on the port is refused from now on
    except OSError:
        listener.close()
        raise
    return listener


def _failed(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 1
