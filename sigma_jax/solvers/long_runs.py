"""Long computations in chunks: with progress, within a memory limit, and resumable."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree
from tqdm import tqdm

from .box import BoxReport
from .checkpoint import ChunkStore
from .methods import Adaptive, Method
from .simulation import Solution, VectorField, simulate

_PROGRESS_DELAY = 2.0  # seconds before a bar appears


def sweep(
    function: Callable[[PyTree], PyTree],
    points: PyTree,
    *,
    directory: str | Path | None = None,
    problem: dict[str, Any] | None = None,
    chunk_size: int = 16_384,
    memory_limit: float = 2e9,
    label: str = "sweep",
) -> PyTree:
    """Apply a batched function to many points, a chunk at a time, and return all its results.

    Only one chunk is on the device at a time. With a `directory` every finished chunk is kept
    there, and the same call after a kill goes on from the last one with the same bits, as the
    grid of chunks is part of the problem.

    **Arguments:**

    - `function`: from points to results, pytrees of arrays with one leading axis each; it is
      compiled once. `simulate_ensemble` inside it uses every device.
    - `points`: a pytree of arrays with one leading axis.
    - `problem`: what identifies `function` beyond the points, as JSON; kept in `directory`.
    - `chunk_size`: points a chunk, at most; it is halved until the compiled chunk needs less than
      `memory_limit` bytes.
    - `label`: shown by the progress bar, which appears after two seconds.

    **Returns** NumPy arrays with the structure of `function`'s result.

    **Raises** `ValueError` if `directory` holds another problem, or for a chunk size below one.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1; got {chunk_size}.")
    points = jax.tree.map(np.asarray, points)
    size = len(jax.tree.leaves(points)[0])
    if size == 0:
        raise ValueError("points must hold at least one point; got none.")
    chunk_size, compiled, shapes = _compile(function, points, min(chunk_size, size), memory_limit)
    starts = range(0, size, chunk_size)

    def compute(start: int) -> PyTree:
        return jax.tree.map(np.asarray, compiled(_chunk(points, start, chunk_size)))

    if directory is None:
        chunks = [compute(s) for s in _bar(starts, label, chunk_size, size)]
    else:
        identity = (problem or {}) | {"points": _digest(points), "chunk_size": chunk_size}
        with ChunkStore(directory, identity) as store:
            chunks = []
            done = store.finished()
            for index, start in enumerate(_bar(starts, label, chunk_size, size)):
                if index < done:
                    chunks.append(store.load(index, shapes))
                else:
                    chunks.append(compute(start))
                    store.save(index, chunks[-1])
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:size], *chunks)


def simulate_resumable(
    vector_field: VectorField,
    y0: PyTree,
    times: ArrayLike,
    *,
    directory: str | Path,
    segment: int,
    args: Any = None,
    method: Method = Adaptive(),
    jump_times: tuple[float, ...] = (),
    problem: dict[str, Any] | None = None,
    label: str = "simulation",
) -> Solution:
    """As `simulate`, one segment at a time from Python, each kept in `directory` once it is done.

    The same call after a kill goes on from the last finished segment with the same bits.

    **Raises** as `simulate` does, and `ValueError` if `directory` holds another problem.
    """
    times = np.asarray(times, float)
    intervals = times.size - 1
    if segment < 1 or intervals % segment:
        raise ValueError(f"segment must divide the {intervals} intervals; got {segment}.")
    y0 = jax.tree.map(jnp.asarray, y0)
    starts = range(0, intervals, segment)

    def run(y: PyTree, start: int) -> Solution:
        part = times[start : start + segment + 1]
        return simulate(vector_field, y, part, args=args, method=method, jump_times=jump_times)

    shapes = eqx.filter_eval_shape(run, y0, 0)
    identity = (problem or {}) | {
        "vector_field": _described(vector_field),
        "method": _described(method),
        "start": _digest(y0),
        "args": _digest(args),
        "times": _digest(times),
        "segment": segment,
        "jump_times": list(jump_times),
    }
    y, parts = y0, []
    with ChunkStore(directory, identity) as store:
        done = store.finished()
        for index, start in enumerate(_bar(starts, label, segment, intervals)):
            if index < done:
                part = store.load(index, shapes)
            else:
                part = run(y, start)
                store.save(index, part)
            parts.append(part)
            y = jax.tree.map(lambda leaf: jnp.asarray(leaf[-1]), part.ys)
    return _join(parts)


def _join(parts: list[Solution]) -> Solution:
    boxes = [part.box for part in parts if part.box is not None]
    box = None
    if boxes:
        box = BoxReport(
            count=jnp.sum(jnp.stack([jnp.asarray(each.count) for each in boxes])),
            excess=jnp.max(jnp.stack([jnp.asarray(each.excess) for each in boxes])),
        )

    def along_time(*leaves):
        return jnp.concatenate([leaves[0], *(leaf[1:] for leaf in leaves[1:])])

    return Solution(
        ts=along_time(*(part.ts for part in parts)),
        ys=jax.tree.map(along_time, *(part.ys for part in parts)),
        steps=jnp.sum(jnp.stack([jnp.asarray(part.steps) for part in parts])),
        success=jnp.all(jnp.stack([jnp.asarray(part.success) for part in parts])),
        box=box,
    )


def _compile(function, points, chunk_size: int, memory_limit: float):
    """Compile for the largest chunk that fits: (chunk size, compiled function, result shapes)."""
    while True:
        example = _chunk(points, 0, chunk_size)
        lowered = jax.jit(function).lower(example)
        compiled = lowered.compile()
        memory = compiled.memory_analysis()
        needed = 0
        if memory is not None:
            needed = memory.temp_size_in_bytes + memory.output_size_in_bytes
            needed += memory.argument_size_in_bytes
        if needed <= memory_limit or chunk_size == 1:
            return chunk_size, compiled, lowered.out_info
        chunk_size = -(-chunk_size // 2)


def _chunk(points: PyTree, start: int, size: int) -> PyTree:
    """Points start … start+size, the last one repeated where there are no more."""

    def of(leaf: np.ndarray) -> np.ndarray:
        return leaf[np.minimum(np.arange(start, start + size), len(leaf) - 1)]

    return jax.tree.map(of, points)


def _bar(starts: range, label: str, per_item: int, total: int):
    """The starts, with a progress bar that counts points and appears after two seconds."""
    with tqdm(total=total, desc=label, delay=_PROGRESS_DELAY, unit_scale=True) as bar:
        for start in starts:
            yield start
            bar.update(min(per_item, total - start))


def _described(module: PyTree) -> str:
    """What a module says of itself, and a digest of its arrays; alike in every process."""
    return f"{eqx.tree_pformat(module)} {_digest(eqx.filter(module, eqx.is_array))}"


def _digest(tree: PyTree) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
