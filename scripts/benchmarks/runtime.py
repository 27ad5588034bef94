"""Conversations: replays, a turn of the loop, retrieval, and what a long conversation takes."""

import resource
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import interleaved, row
from sigma_jax import runtime

GOALS = {"replay": 1e6, "step": 500.0, "turn": 500.0, "retrieve": 100.0}
"""A second: turns replayed, steps of the monitor, turns of the loop, retrievals."""
STYLE, CONTENT, WIDTH = 14, 24, 384
ROWS, TURNS = 8192, 200
MEMORIES = 100_000
LONG = 10_000
WORDS = [f"{a}{b}" for a in ("hero", "plan", "row", "disk", "shop", "lock") for b in range(400)]


def rows() -> Iterator[dict]:
    """Every comparison, as {case, peer, ratio, ours, theirs, unit}."""
    calibration = _calibration()
    yield from long_conversation(calibration)  # first: it looks at the highest memory so far
    yield from replays(calibration.parameters)
    yield from loop(calibration)
    yield retrieval()


def replays(parameters: runtime.MonitorParameters) -> Iterator[dict]:
    """Recorded conversations through the monitor, many at once, and one turn at a time."""
    size = parameters.anchor.shape[0]
    y = jax.random.normal(jax.random.key(0), (ROWS, TURNS, size), jnp.float32)
    (seconds,) = interleaved(lambda: runtime.replay(parameters, y), rounds=5)
    rate = ROWS * TURNS / seconds
    case = f"replay, {size} dimensions, {ROWS} × {TURNS} turns"
    yield row(case, "goal", rate, GOALS["replay"], "turns/s")
    step, state = jax.jit(runtime.monitor_step), runtime.start_monitor(parameters)
    none = jnp.zeros(parameters.violated.shape, bool)
    seen = runtime.Observation(y[0, 0], jnp.asarray(True), jnp.float32(0), none)
    (seconds,) = interleaved(lambda: step(parameters, state, seen), rounds=201)
    yield row("one step of the monitor, dispatch included", "goal", 1 / seconds, 500.0, "steps/s")


def loop(calibration: runtime.Calibration) -> Iterator[dict]:
    """Turns of the whole loop, store in memory; the model is instant, every text encoded before."""
    texts = [f"What about {WORDS[n]} and {WORDS[-n]}? We keep {WORDS[n]} here." for n in range(200)]
    encoder = runtime.CachedEncoder(runtime.HashedEncoder(WIDTH))

    def run() -> float:
        with runtime.ConversationRuntime(
            lambda prompt: "1. Keep it.\n2. Go on.", encoder=encoder, calibration=calibration
        ) as conversation:
            started = time.perf_counter()
            for text in texts:
                conversation.turn(text)
            return (time.perf_counter() - started) / len(texts)

    run()
    seconds = float(np.median([run() for _ in range(3)]))
    yield row(
        "a turn of the loop, without model and encoder", "goal", 1 / seconds, 500.0, "turns/s"
    )


def retrieval() -> dict:
    """One question to 10⁵ statements: words, vectors, and both ranks joined."""
    draws = np.random.default_rng(0)
    index = runtime.MemoryIndex(WIDTH)
    vectors = draws.normal(size=(MEMORIES, WIDTH)).astype(np.float32)
    chosen = draws.integers(0, len(WORDS), (MEMORIES, 12))
    memories = [
        runtime.Memory(n, n + 1, "user", " ".join(WORDS[k] for k in each))
        for n, each in enumerate(chosen)
    ]
    index.add(memories, vectors)
    question, vector = f"What of {WORDS[7]} and {WORDS[900]} with {WORDS[1500]}?", vectors[5]
    (seconds,) = interleaved(lambda: len(index.retrieve(question, vector, budget=300)), rounds=21)
    return row("retrieval, 10⁵ memories", "goal", 1 / seconds, GOALS["retrieve"], "questions/s")


def long_conversation(calibration: runtime.Calibration) -> Iterator[dict]:
    """What 10,000 turns take of the process's memory, and how fast a turn still is."""
    with runtime.ConversationRuntime(
        lambda prompt: "1. Keep it.\n2. Go on.", calibration=calibration
    ) as conversation:
        for n in range(300):  # what is compiled and cached by then stays as it is
            conversation.turn(f"We begin with note {n}.")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for n in range(LONG):
            words = WORDS[n % 2400], WORDS[(7 * n) % 2400]
            conversation.turn(f"We keep {words[0]} beside {words[1]}; this is note {n}.")
        used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
        started = time.perf_counter()
        for n in range(100):
            conversation.turn(f"What of {WORDS[n]}?")
        late = 100 / (time.perf_counter() - started)
    yield row("10,000 turns and the store, all in memory", "bound", used, 512.0, "MiB")
    yield row("a turn after 10,000, encoder included", "goal", late, GOALS["turn"], "turns/s")


def _calibration() -> runtime.Calibration:
    """In float32, of drawn features: what it says does not matter here, its sizes do."""
    draws = np.random.default_rng(1)
    own = draws.normal(size=(40, STYLE)), draws.normal(size=(40, WIDTH))
    other = draws.normal(1.0, 1.0, (40, STYLE)), draws.normal(0.2, 1.0, (40, WIDTH))
    return runtime.calibrate(*own, *other, key=jax.random.key(0), components=CONTENT)
