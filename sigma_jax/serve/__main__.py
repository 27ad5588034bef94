"""`python -m sigma_jax.serve`: load a model and serve it."""

import argparse
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from .command_line import at_least_one, port_number, run_app, run_server

_NEEDED = ("starlette", "uvicorn", "prometheus_client")
_MINI = "kernel-mini"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted. Returns 0, or 1 with a line on standard error if that cannot be."""
    options = _parser().parse_args(arguments)
    return run_server(_NEEDED, options.host, options.port, lambda held: _serve(options, held))


def _serve(options: argparse.Namespace, listener: socket.socket) -> None:
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
    run_app(app, listener, served.name)


def _source(name: str) -> str | Path:
    if name != _MINI:
        return name
    from ..kernel import kernel_mini_directory

    return kernel_mini_directory()


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
    add("--port", type=port_number, default=11434, help=f"0 takes any that is free {by_default}")
    add(
        "--slots",
        type=at_least_one,
        default=8,
        help=f"requests that are answered at the same time {by_default}",
    )
    add("--queue", type=at_least_one, default=128, help=f"requests that may wait {by_default}")
    add(
        "--context",
        type=at_least_one,
        default=2048,
        help="tokens of a prompt and its answer together, cut to the model's positions; memory "
        f"grows with slots times context {by_default}",
    )
    add(
        "--steps",
        type=at_least_one,
        default=4,
        help=f"tokens that are drawn between two looks at who came and left {by_default}",
    )
    add(
        "--chunk",
        type=at_least_one,
        default=512,
        help=f"tokens of a prompt that are read before the others go on {by_default}",
    )
    add(
        "--max-body",
        type=at_least_one,
        default=4,
        metavar="MIB",
        help=f"MiB that a request may have {by_default}",
    )
    add("--loops", type=at_least_one, help="loops of the model, in place of its config's")
    add("--dtype", choices=("float32", "bfloat16"), help="of the weights; as stored unless given")
    add("--revision", help="of a model on the hub: a branch, tag or commit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
