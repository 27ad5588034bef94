"""The bridge and what stands on it: certified loop steps, the ledger, routing."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

from benchmarks.kernel import SMALL
from benchmarks.timing import interleaved, row
from sigma_jax import bridge, grounding, kernel

DIMS = (64, 128, 256)
CONTEXT = 32
"""Tokens before the one that is looped over."""
RECORDS = 10**6
GOALS = {"append": 1e4, "verify": RECORDS / 10.0, "route": 1 / 50e-6}
"""A second: records appended, records verified, decisions."""


def rows() -> Iterator[dict]:
    """Every comparison, as {case, peer, ratio, ours, theirs, unit}."""
    mini = kernel.load_model(kernel.kernel_mini_directory())
    for name, model in (("kernel-mini", mini), ("512 × 6", kernel.Ouro(SMALL, rngs=nnx.Rngs(0)))):
        for dim in DIMS:
            yield from certified(name, model, dim)
    yield from ledger()
    yield routing()


def certified(name: str, model: kernel.Ouro, dim: int) -> Iterator[dict]:
    """A step with Jacobian, gates and canary against the step alone; and the floor under it.

    The floor is the weights of the layers times `dim` + 1 columns, one product for each weight:
    what the step and the Jacobian's directions would cost if all else were free.
    """
    abi = bridge.StateABI(model.config.hidden_size, dim, key=jax.random.key(0))
    node = bridge.loop_nodes(model, abi, list(range(CONTEXT + 1))).last
    x = jax.random.normal(jax.random.key(1), (dim,), jnp.float32)
    identity = jnp.eye(dim, dtype=jnp.float32)
    canary = bridge.LoopCanary(jnp.zeros(dim, jnp.float32), identity, jnp.float32(dim))
    alone = eqx.filter_jit(lambda node, x: node.advance(x))
    weights = [leaf for leaf in jax.tree.leaves(nnx.state(model.layers)) if leaf.ndim == 2]

    @jax.jit
    def products(weights: list[jax.Array], columns: jax.Array) -> list[jax.Array]:
        return [weight @ columns[: weight.shape[1]] for weight in weights]

    columns = jnp.ones((max(weight.shape[1] for weight in weights), dim + 1), jnp.float32)
    seconds = interleaved(
        lambda: bridge.certified_step(node, x, x, canary).innovation,
        lambda: alone(node, x),
        lambda: products(weights, columns),
        rounds=21,
    )
    ours, step, floor = (1.0 / one for one in seconds)
    yield row(f"{name}, d = {dim}, certified step", "the step alone", ours, step, "steps/s")
    yield row(f"{name}, d = {dim}, its products alone", "the step alone", floor, step, "steps/s")


def ledger() -> Iterator[dict]:
    """Records appended a second, flushed in batches, and verified a second."""
    content = {"question": "Which port?", "text": "11434, by default.", "number": 0.25}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        started = time.perf_counter()
        with grounding.Ledger(path) as ledger:
            for _ in range(RECORDS):
                ledger.append("reply", content)
        appended = RECORDS / (time.perf_counter() - started)
        started = time.perf_counter()
        grounding.verify_ledger(path)
        verified = RECORDS / (time.perf_counter() - started)
    yield row("ledger, appended and flushed", "goal", appended, GOALS["append"], "records/s")
    yield row("ledger, 10⁶ records verified", "goal", verified, GOALS["verify"], "records/s")


def routing() -> dict:
    """Decisions a second among eight providers."""
    providers = [
        bridge.OpenAIEndpoint(f"p{number}", "http://127.0.0.1:9", "m") for number in range(8)
    ]
    router = bridge.Router(providers, offline=bridge.OfflineProvider())
    count = 10_000

    def decide() -> None:
        for _ in range(count):
            router.chain()

    (seconds,) = interleaved(decide)
    for provider in providers:
        provider.close()
    return row("routing, eight providers", "goal", count / seconds, GOALS["route"], "decisions/s")
