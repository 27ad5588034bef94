"""`python -m sigma_jax.serve`: load a model and serve it."""

import argparse
import contextlib
import errno
import importlib.util
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

_NEEDED = ("starlette", "uvicorn", "prometheus_client")
_MINI = "kernel-mini"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted. Returns 0, or 1 with a line on standard error if that cannot be."""
    options = _parser().parse_args(arguments)
    absent = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        return _failed(f"{', '.join(absent)} not installed: pip install 'sigma_jax[serve]'")
    try:
        listener = _listen(options.host, options.port)
    except OSError as error:
        hint = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        where = f"{options.host}:{options.port}"
        return _failed(f"cannot listen on {where}: {error.strerror or error}{hint}")
    with listener:
        try:
            return _serve(options, listener)
        except (FileNotFoundError, ValueError) as error:
            return _failed(str(error))


def _serve(options: argparse.Namespace, listener: socket.socket) -> int:
    import uvicorn

    from ..kernel import load_model, load_tokenizer
    from . import Engine, Metrics, ServedModel, create_app

    source = _source(options.model)
    tokenizer = load_tokenizer(source, revision=options.revision)
    print(f"loading {options.model}", flush=True)
    model = load_model(
        source,
        loops=options.loops,
        dtype=options.dtype,
        revision=options.revision,
        progress=sys.stderr.isatty(),
    )
    served = ServedModel(model, tokenizer, name=options.name, context=options.context)
    config = model.config
    columns = config.num_hidden_layers * config.num_key_value_heads * config.rotary_size * 2
    loops, context = config.total_ut_steps, served.limits.context
    memory = columns * loops * context * options.slots * model.dtype.itemsize
    print(
        f"{served.name}: {served.parameters:,} parameters, {loops} loops; {options.slots} slots of "
        f"{context} tokens, {memory / 2**20:,.0f} MiB of cache; compiling",
        flush=True,
    )
    engine = Engine(
        served,
        Metrics(loops),
        slots=options.slots,
        queue=options.queue,
        steps=options.steps,
        chunk=options.chunk,
    )
    app = create_app(engine, body_limit=options.max_body * 2**20)
    host, port = listener.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host
    print(f"serving {served.name} on http://{host}:{port} (Ctrl-C ends it)", flush=True)
    settings = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5)
    with contextlib.suppress(KeyboardInterrupt):  # raised again once all is closed
        uvicorn.Server(settings).run(sockets=[listener])
    return 0


def _source(name: str) -> str | Path:
    if name != _MINI:
        return name
    from ..kernel import kernel_mini_directory

    return kernel_mini_directory()


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the first address of `host`; held before the model is loaded."""
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


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1; got {number}")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"must be from 0 to 65535; got {number}")
    return number


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sigma_jax.serve",
        description="Serve an Ouro model to Ollama's and OpenAI's clients.",
    )
    add = parser.add_argument
    by_default = "(default: %(default)s)"
    add("--model", required=True, help=f"a model's directory, a hub's owner/name, or {_MINI}")
    add("--name", default="ouro:latest", help=f"what clients call it by {by_default}")
    add("--host", default="127.0.0.1", help=f"the address; 0.0.0.0 is every one {by_default}")
    add("--port", type=_port, default=11434, help=f"0 takes any that is free {by_default}")
    add(
        "--slots",
        type=_at_least_one,
        default=8,
        help=f"requests that are answered at the same time {by_default}",
    )
    add("--queue", type=_at_least_one, default=128, help=f"requests that may wait {by_default}")
    add(
        "--context",
        type=_at_least_one,
        default=2048,
        help="tokens of a prompt and its answer together, cut to the model's positions; memory "
        f"grows with slots times context {by_default}",
    )
    add(
        "--steps",
        type=_at_least_one,
        default=4,
        help=f"tokens that are drawn between two looks at who came and left {by_default}",
    )
    add(
        "--chunk",
        type=_at_least_one,
        default=512,
        help=f"tokens of a prompt that are read before the others go on {by_default}",
    )
    add(
        "--max-body",
        type=_at_least_one,
        default=4,
        metavar="MIB",
        help=f"MiB that a request may have {by_default}",
    )
    add("--loops", type=_at_least_one, help="loops of the model, in place of its config's")
    add("--dtype", choices=("float32", "bfloat16"), help="of the weights; as stored unless given")
    add("--revision", help="of a model on the hub: a branch, tag or commit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
