"""The variants whose drifts are compared: kernels made from one kernel, and servers on loopback."""

import contextlib
import dataclasses
import importlib.util
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from omegaconf import DictConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sigma_jax.kernel import Ouro
    from sigma_jax.training import Dialogue

FULL, NARROW, TUNED, TWIN = "f32", "bf16", "LoRA", "other seed"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A kernel under a name."""

    name: str
    model: "Ouro"
    tokenizer: "PreTrainedTokenizerFast"
    loops: int | None = None
    """None: all that it has."""


def load(name: str, dtype: str = "float32") -> "tuple[Ouro, PreTrainedTokenizerFast]":
    """The model and the tokenizer of a kernel that travels with the package, or of a directory."""
    from sigma_jax import kernel

    mini = name in ("kernel-mini", "kernel-mini-2")
    source = kernel.kernel_mini_directory(name) if mini else name
    return kernel.load_model(source, dtype=dtype), kernel.load_tokenizer(source)


def variants(
    config: DictConfig,
    model: "Ouro",
    tokenizer: "PreTrainedTokenizerFast",
    dialogues: "list[Dialogue]",
) -> Iterator[Variant]:
    """All kernels, the given one first; each is made when it is asked for and then forgotten."""
    from sigma_jax import kernel

    yield Variant(FULL, model, tokenizer)
    yield Variant(NARROW, load(config.kernel, "bfloat16")[0], tokenizer)
    for kind in config.quantizations:
        yield Variant(kind, kernel.quantize_model(model, kind), tokenizer)
    if config.adapter.steps:
        yield Variant(TUNED, tuned(config, model, dialogues), tokenizer)
    for loops in sorted(config.depths, reverse=True):
        yield Variant(f"depth {loops}", model, tokenizer, loops)
    if config.twin is not None:
        yield Variant(TWIN, *load(config.twin))


def tuned(config: DictConfig, model: "Ouro", dialogues: "list[Dialogue]") -> "Ouro":
    """The kernel after some steps of a LoRA on dialogues that it knows, merged into its weights."""
    from flax import nnx

    from sigma_jax import kernel, training

    chosen = config.adapter
    batches = training.DialogueBatches(
        dialogues, tokens=config.longest * chosen.rows, seed=config.seed, step=config.longest
    )
    shape = kernel.LoRAConfig(rank=chosen.rank, alpha=chosen.alpha)
    adapted = kernel.add_adapter(model, shape, rngs=nnx.Rngs(config.seed))
    recipe = training.Recipe("adapter", chosen.steps, chosen.learning_rate)
    start = training.start_training(adapted, recipe)
    state, _ = training.train(adapted, start, batches, recipe, steps=chosen.steps)
    return kernel.merge_adapter(training.trained_model(adapted, state, recipe))


def require_server() -> None:
    """Raise `ValueError` unless what a server needs is installed."""
    needed = ("starlette", "uvicorn", "prometheus_client")
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    if absent:
        raise ValueError(
            f"servers need {', '.join(absent)}: pip install 'sigma_jax[serve]', or servers=false."
        )


@contextlib.contextmanager
def serving(
    model: "Ouro", tokenizer: "PreTrainedTokenizerFast", *, context: int, slots: int
) -> Iterator[str]:
    """Our own server on a free port of loopback; gives its URL, and is closed whatever happens."""
    import uvicorn

    from sigma_jax import serve

    served = serve.ServedModel(model, tokenizer, context=context)
    engine = serve.Engine(served, serve.Metrics(model.config.total_ut_steps), slots=slots)
    with contextlib.ExitStack() as stack:
        stack.callback(engine.close)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        settings = uvicorn.Config(serve.create_app(engine), log_level="warning", ws="none")
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="serving")
        thread.start()
        stack.callback(thread.join)
        stack.callback(lambda: setattr(server, "should_exit", True))
        while not server.started:
            if not thread.is_alive():
                raise OSError("the server on loopback did not start.")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
