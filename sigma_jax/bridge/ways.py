"""Ways through the loops: of many sequences at once, by the nodes alone, and beyond the last loop.

Source: Σ₀-K1, components 2 and 6.
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from tqdm import tqdm

from .._check import require_in
from ..kernel import Depth, Ouro, empty_cache, prefill
from .abi_fidelity import require_fits
from .loop_node import LoopNode, LoopNodes, one_loop, padded_width
from .state_abi import StateABI


class LoopWays(NamedTuple):
    """The kernel's own way through its loops, and each step of it as its node says it."""

    hidden: Float[np.ndarray, "sequences loops hidden_size"]
    """The hidden state of the last token after each loop."""
    states: Float[np.ndarray, "sequences loops d"]
    """φ of it."""
    predicted: Float[np.ndarray, "sequences steps d"]
    """Where the nodes of the loops 2, 3, … go from the state that the loop before left."""

    @property
    def residuals(self) -> Float[np.ndarray, "sequences steps d"]:
        """Observed minus predicted, of the loops 2, 3, …: what a canary is fitted to."""
        return self.states[:, 1:] - self.predicted


def loop_ways(
    model: Ouro, abi: StateABI, sequences: Sequence[Sequence[int]], *, batch_size: int = 64
) -> LoopWays:
    """The loops over the last token of every sequence: where the kernel goes, and where nodes go.

    The steps are those of `loop_nodes`, of many sequences at a time.

    **Arguments:** `sequences`, token ids; `batch_size`, how many of about the same length are read
    at once.

    **Raises** `ValueError` for no sequence, an empty one, an id outside the vocabulary, a batch
    size below one, or an ABI of another width than the model.
    """
    require_fits(abi, model)
    require_in("batch_size", batch_size, 1)
    if not sequences or not all(map(len, sequences)):
        raise ValueError("sequences must hold at least one sequence, and none that is empty.")
    require_in("sequences", np.concatenate(sequences), 0, model.config.vocab_size - 1)
    widths = np.array([padded_width(len(sequence) - 1) for sequence in sequences])
    groups = [
        rows[first : first + batch_size]
        for rows in (np.flatnonzero(widths == width) for width in np.unique(widths))
        for first in range(0, len(rows), batch_size)
    ]
    found: list = [None] * len(sequences)
    for rows in tqdm(groups, desc="loops", delay=2.0, leave=False):
        # Filled up with its first, so that each width is compiled once.
        filled = [*rows, *[rows[0]] * (batch_size - len(rows))]
        ids, real = _padded([sequences[row] for row in filled], int(widths[rows[0]]) + 1)
        parts = [np.asarray(part) for part in _ways(model, abi, ids, real)]
        for place, row in enumerate(rows):
            found[row] = [part[place] for part in parts]
    return LoopWays(*(np.stack(part) for part in zip(*found, strict=True)))


def _padded(sequences: Sequence[Sequence[int]], width: int) -> tuple[Array, Array]:
    """Ids and which are real, padded on the left."""
    ids, real = np.zeros((2, len(sequences), width), np.int32)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = sequence
        real[row, width - len(sequence) :] = 1
    return jnp.asarray(ids), jnp.asarray(real.astype(bool))


@eqx.filter_jit
def _ways(
    model: Ouro,
    abi: StateABI,
    ids: Int[Array, "batch tokens"],
    real: Bool[Array, "batch tokens"],
) -> tuple[Array, Array, Array]:
    rows, tokens = ids.shape
    empty = empty_cache(model, rows, tokens - 1)
    cache = prefill(model, empty, ids[:, :-1], real[:, :-1], Depth(), first=True).cache
    remembered = cache.remembered(0)
    context = model.context_of(real[:, -1:], before=cache.lengths, remembered=remembered)
    hidden, after = model.embed(ids[:, -1:]), []
    for history in cache.slots:
        hidden, _ = model.loop(hidden, context, history)
        after.append(hidden[:, 0])
    states = [abi.encode(h.astype(abi.encoder.weight.dtype)) for h in after]
    steps = zip(cache.slots[1:], states[:-1], strict=True)
    predicted = [one_loop(model, abi, context, history, x) for history, x in steps]
    none = jnp.zeros((rows, 0, abi.dim), states[0].dtype)
    return (
        jnp.stack(after, axis=1),
        jnp.stack(states, axis=1),
        jnp.stack(predicted, axis=1) if predicted else none,
    )


def follow_nodes(loops: LoopNodes) -> Float[Array, "loops d"]:
    """The states after each loop by way of the nodes alone, from where the first loop ends."""
    states = [loops.start]
    behind = [node for name, node in loops.nodes.items() if name != "loop_1"]
    for node in behind:
        states.append(_advance(node, states[-1]))
    return jnp.stack(states)


@eqx.filter_jit
def _advance(node: LoopNode, x: Array) -> Array:
    return node.advance(x)


def more_loops(node: LoopNode, x: Float[Array, " d"], loops: int) -> Float[Array, "loops d"]:
    """The states after each of `loops` further passes through one loop: x ← φ(loop(ψ(x))).

    Where they stand still is a fixed point of the node, at which its drift is zero. Differentiates.

    **Raises** `ValueError` for a number of loops below one.
    """
    require_in("loops", loops, 1)
    return _more_loops(node, x, loops)


@eqx.filter_jit
def _more_loops(node: LoopNode, x: Array, loops: int) -> Array:
    def turn(x: Array, _: None) -> tuple[Array, Array]:
        after = node.advance(x)
        return after, after

    return jax.lax.scan(turn, x, length=loops)[1]


def more_own_loops(
    node: LoopNode, hidden: Float[Array, " hidden_size"], loops: int
) -> Float[Array, "loops hidden_size"]:
    """The same of the kernel's own hidden states, h ← loop(h), without φ and ψ between.

    **Raises** `ValueError` for a number of loops below one.
    """
    require_in("loops", loops, 1)
    return _more_own_loops(node, jnp.asarray(hidden, node.model.dtype), loops)


@eqx.filter_jit
def _more_own_loops(node: LoopNode, hidden: Array, loops: int) -> Array:
    def turn(hidden: Array, _: None) -> tuple[Array, Array]:
        after = node.model.loop(hidden[None, None], node.context, node.history)[0][0, 0]
        return after, after

    return jax.lax.scan(turn, hidden, length=loops)[1]
