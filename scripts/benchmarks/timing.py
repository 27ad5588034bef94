"""What the benchmarks share: timing in turn, the machine's peak, and finding the peers."""

import importlib
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def interleaved(*functions: Callable, rounds: int = 7) -> tuple[float, ...]:
    """Median seconds of each function, called in turn; all are warmed up first."""
    for function in functions:
        jax.block_until_ready(function())
    times = [[] for _ in functions]
    for _ in range(rounds):
        for kept, function in zip(times, functions, strict=True):
            started = time.perf_counter()
            jax.block_until_ready(function())
            kept.append(time.perf_counter() - started)
    return tuple(float(np.median(kept)) for kept in times)


def row(case: str, peer: str, ours: float, theirs: float, unit: str) -> dict:
    """A comparison of two rates in that unit: the ratio is how many times the peer's ours is."""
    return {
        "case": case,
        "peer": peer,
        "ratio": ours / theirs,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
    }


def matmul_peak() -> float:
    """Flops a second of the library's product at its best size, float32, all cores."""
    return max(matmul_rate(size) for size in (256, 512, 1024, 2048))


def matmul_rate(size: int) -> float:
    """Flops a second of the library's product of two square matrices of that size."""
    times = max(1, (2048 // size) ** 3)
    product = jax.jit(lambda a: jax.lax.fori_loop(0, times, lambda _, b: b @ a, a))
    (seconds,) = interleaved(lambda: product(jnp.eye(size, dtype=jnp.float32)), rounds=3)
    return times * 2 * size**3 / seconds


def peer_module(name: str):
    """The peer of that file; a one-line error if PyTorch, an extra, is not there."""
    try:
        return importlib.import_module(f"benchmarks.{name}")
    except ModuleNotFoundError as error:
        raise SystemExit(f"error: {error}; pip install -e '.[bench]' brings the peer.") from None
