"""Timing in turn, so that a slow moment of the machine falls on everyone."""

import time
from collections.abc import Callable

import jax
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
