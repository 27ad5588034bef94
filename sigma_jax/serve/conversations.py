"""`python -m sigma_jax.serve.conversations`: put the conversation runtime in front of a model."""

import argparse
import socket
import sys
from collections.abc import Sequence

from .command_line import at_least_one, port_number, run_app, run_server

_NEEDED = ("starlette", "uvicorn")
_LARGEST_REPLY = 8 * 2**20
"""Bytes that are read of a model's reply; the runtime cuts what it keeps."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted. Returns 0, or 1 with a line on standard error if that cannot be."""
    options = _parser().parse_args(arguments)
    return run_server(_NEEDED, options.host, options.port, lambda held: _serve(options, held))


def _serve(options: argparse.Namespace, listener: socket.socket) -> None:
    from ..bridge import ChatEndpoint
    from ..runtime import (
        ControlPolicy,
        ConversationStore,
        RuntimeSettings,
        StoreError,
        load_calibration,
        read_identity,
    )
    from . import create_conversation_app

    policy = ControlPolicy(observe_only=options.observe_only, regenerations=options.regenerations)
    settings = RuntimeSettings(
        policy=policy, max_tokens=options.max_tokens, language=options.language
    )
    identity = None if options.identity is None else read_identity(options.identity)
    calibration = None if options.calibration is None else load_calibration(options.calibration)
    with ChatEndpoint(
        "model",
        options.model,
        options.model_name,
        key_variable=options.key_variable,
        timeout=options.timeout,
        largest=_LARGEST_REPLY,
    ) as endpoint:
        try:
            store = ConversationStore(options.store)
        except StoreError as error:
            raise ValueError(str(error)) from error
        app = create_conversation_app(
            endpoint,
            name=options.model_name,
            store=store,
            identity=identity,
            calibration=calibration,
            settings=settings,
            most_open=options.open,
            workers=options.workers,
            body_limit=options.max_body * 2**20,
        )
        run_app(app, listener, f"conversations with {options.model_name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sigma_jax.serve.conversations",
        description="Put the conversation runtime in front of a model with OpenAI's interface: "
        "clients get it by changing their base URL.",
    )
    add = parser.add_argument
    by_default = "(default: %(default)s)"
    add("--model", required=True, metavar="URL", help="of the model's server")
    add("--model-name", required=True, help="what that server, and clients here, call it by")
    add("--key-variable", help="the environment variable that holds the server's key")
    add(
        "--store",
        default="conversations.db",
        help=f"the file that conversations are kept in {by_default}",
    )
    add("--identity", help="a JSON file: who the model is to be in every conversation")
    add("--calibration", help="of the monitor, for this model and --identity")
    add("--host", default="127.0.0.1", help=f"the address; 0.0.0.0 is every one {by_default}")
    add("--port", type=port_number, default=11435, help=f"0 takes any that is free {by_default}")
    add(
        "--timeout",
        type=float,
        default=120.0,
        help=f"seconds that the model has for a reply {by_default}",
    )
    add(
        "--max-tokens",
        type=at_least_one,
        default=1024,
        help=f"of a reply, where the client does not say {by_default}",
    )
    add(
        "--regenerations",
        type=int,
        choices=(0, 1, 2),
        default=1,
        help="further replies that may be asked for in a turn whose reply cannot stand; with 0 "
        f"streams are live {by_default}",
    )
    add("--observe-only", action="store_true", help="measure, and correct nothing")
    add("--language", choices=("en",), help="that replies are expected in; any unless given")
    add(
        "--open",
        type=at_least_one,
        default=64,
        help=f"conversations that are kept open while nobody uses them {by_default}",
    )
    add(
        "--workers",
        type=at_least_one,
        default=32,
        help=f"turns that are taken at the same time {by_default}",
    )
    add(
        "--max-body",
        type=at_least_one,
        default=16,
        metavar="MIB",
        help=f"MiB that a request may have {by_default}",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
