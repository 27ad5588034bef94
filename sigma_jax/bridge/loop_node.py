"""Ouro as a node: one pass through its layers, seen from the state, is the drift.

Source: Σ₀-K1, components 2 and 6.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._check import require_in
from ..kernel import Cache, Context, Depth, Layered, Ouro, empty_cache, prefill
from ..vm import Node
from .abi_fidelity import require_fits
from .state_abi import StateABI

_NARROWEST = 16


class LoopNode(Node):
    """drift(x) = φ(loop(ψ(x))) − x: what one more loop does to the state of the last token.

    Made by `loop_nodes`. With steps of length one, a rollout without noise follows
    x ← φ(loop(ψ(x))), the kernel's own loop heard through the ABI; where the drift is zero, going
    on changes nothing, and the loop may exit. There is no control. Everything differentiates: the
    state, the ABI, the model.

    The earlier tokens are context: their keys and values, of one loop, are held fixed.
    """

    model: Ouro
    abi: StateABI
    context: Context
    history: Layered | None
    noise: Float[Array, " d"]

    @property
    def dim(self) -> int:
        return self.abi.dim

    @property
    def control_dim(self) -> int:
        return 0

    def advance(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """φ(loop(ψ(x))), in the type of x."""
        return one_loop(self.model, self.abi, self.context, self.history, x[None])[0]

    def drift(self, x, u):
        """φ(loop(ψ(x))) − x."""
        return self.advance(x) - x

    def diffusion(self, x):
        """`noise`, whatever x is."""
        return self.noise.astype(x.dtype)


def one_loop(
    model: Ouro,
    abi: StateABI,
    context: Context,
    history: Layered | None,
    x: Float[Array, "batch d"],
) -> Float[Array, "batch d"]:
    """φ(loop(ψ(x))) of the last token of every row, in the type of x."""
    hidden = abi.decode(x.astype(abi.decoder.weight.dtype))
    after, _ = model.loop(hidden.astype(model.dtype)[:, None], context, history)
    return abi.encode(after[:, 0].astype(abi.encoder.weight.dtype)).astype(x.dtype)


class LoopNodes(NamedTuple):
    """The loops over one token as nodes, and where the first of them starts."""

    nodes: dict[str, LoopNode]
    """`loop_2`, `loop_3`, … in order; of a model with a single loop, `loop_1`."""
    start: Float[Array, " d"]
    """The state after the first loop. The embedding before it is no state: φ knows hidden states,
    and its LayerNorm would not even keep their size."""

    @property
    def last(self) -> LoopNode:
        """The node of the last loop, which says what more loops would do."""
        return max(self.nodes.items(), key=lambda node: int(node[0].removeprefix("loop_")))[1]


def loop_nodes(
    model: Ouro,
    abi: StateABI,
    ids: Sequence[int],
    *,
    noise: ArrayLike = 0.0,
) -> LoopNodes:
    """The loops over the last token of `ids`, behind what they made of the tokens before it.

    Loop t attends to what loop t left of the earlier tokens, so the loops are different maps of one
    state. Taken in order, with steps of length one, they go the way that the kernel goes.

    **Arguments:** `ids`, token ids; `noise`, g of the diffusion, a number or `[d]`, not negative.

    **Raises** `ValueError` for no token, an id outside the vocabulary, noise that is negative or of
    another shape, or an ABI of another width than the model.
    """
    require_fits(abi, model)
    require_in("noise", noise, 0.0)
    if np.shape(noise) not in ((), (abi.dim,)):
        raise ValueError(f"noise must be a number or [{abi.dim}]; got shape {np.shape(noise)}.")
    given = np.asarray(ids)
    if given.ndim != 1 or not given.size:
        raise ValueError(f"ids must hold at least one token, in one list; got {ids!r}.")
    require_in("ids", given, 0, model.config.vocab_size - 1)
    earlier, last = given[None, :-1].astype(np.int32), given[None, -1:].astype(np.int32)
    context, histories = _read(model, earlier)
    start = _first_state(model, abi, jnp.asarray(last), context, histories[0])
    spread = jnp.broadcast_to(jnp.asarray(noise, abi.encoder.weight.dtype), (abi.dim,))
    loops = range(min(2, len(histories)), len(histories) + 1)
    # Pyright takes a node's dimensions, which are properties here, for fields to be given.
    node = cast(Any, LoopNode)
    nodes = {
        f"loop_{loop}": node(model, abi, context, histories[loop - 1], spread) for loop in loops
    }
    return LoopNodes(nodes, start)


@eqx.filter_jit
def _first_state(model, abi, last, context, history) -> Float[Array, " d"]:
    after, _ = model.loop(model.embed(last), context, history)
    return abi.encode(after[0, 0].astype(abi.encoder.weight.dtype))


def _read(model: Ouro, earlier: np.ndarray) -> tuple[Context, list[Layered | None]]:
    """What a token behind these may see, and what each loop left of them."""
    here = jnp.ones((1, 1), bool)
    tokens = earlier.shape[1]
    if tokens == 0:
        return model.context_of(here), [None] * model.config.total_ut_steps
    missing = padded_width(tokens) - tokens
    ids = np.pad(earlier, ((0, 0), (missing, 0)))
    real = np.pad(np.ones_like(earlier, bool), ((0, 0), (missing, 0)))
    cache = _prefilled(model, jnp.asarray(ids), jnp.asarray(real))
    remembered = cache.remembered(0)
    return model.context_of(here, before=cache.lengths, remembered=remembered), list(cache.slots)


def padded_width(tokens: int) -> int:
    """To how many columns earlier tokens are padded: few widths, so that little is compiled."""
    return max(_NARROWEST, 1 << (tokens - 1).bit_length())


@eqx.filter_jit
def _prefilled(
    model: Ouro, ids: Int[Array, "one tokens"], real: Bool[Array, "one tokens"]
) -> Cache:
    cache = empty_cache(model, 1, ids.shape[1])
    return prefill(model, cache, ids, real, Depth(), first=True).cache
