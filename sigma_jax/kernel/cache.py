"""What is remembered of earlier tokens, and how it is kept.

The columns of a cache are a ring that all rows share: a call writes the same columns of every row,
and a row of length n holds the last n columns before the cursor. Rows may differ in length, which
is how padding on the left, and requests that come and go, need no columns of their own.
"""

import enum
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Int

from .._check import require_in
from .layers import KeyValue
from .model import Layered, Ouro


class CachePolicy(enum.Enum):
    """What a loop sees of an earlier token.

    - `PER_LOOP`: the token's keys and values of the same loop; nothing, if it stopped before it.
    - `LAST_EXITED`: those of the same loop, or of the token's last one if it stopped before it
      (copy-down).
    - `SHARED`: those of the token's last loop, whatever the loop: one slot instead of T.
    - `AVERAGED`: their mean over the loops that the token had: one slot instead of T.

    Prompts are always read with one slot a loop, and folded into fewer afterwards.
    Source: arXiv 2510.25741 (cache sharing); the copy-down is that of vllm-rlt.
    """

    PER_LOOP = "per_loop"
    LAST_EXITED = "last_exited"
    SHARED = "shared"
    AVERAGED = "averaged"

    def slots(self, loops: int) -> int:
        """How many sets of keys and values are kept of each token."""
        return loops if self in (CachePolicy.PER_LOOP, CachePolicy.LAST_EXITED) else 1


class Cache(eqx.Module):
    """Keys and values of earlier tokens. Made by `empty_cache`, grown by `append`."""

    slots: tuple[Layered, ...]
    """One a loop, or one for all loops; [batch, kv_heads, columns, head_dim] in every layer."""
    depths: Int[Array, "batch columns"]
    """How many loops the token in each column had."""
    cursor: Int[Array, ""]
    """The column that is written next."""
    lengths: Int[Array, " batch"]
    """How many tokens each row has had, which is the next one's position. It holds the last of
    them: `capacity` at most."""

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.depths.shape[1]

    def history(self, loop: int) -> Layered:
        """The keys and values that loop `loop` sees."""
        return self.slots[min(loop, len(self.slots) - 1)]

    def remembered(
        self, loop: int, policy: CachePolicy = CachePolicy.LAST_EXITED
    ) -> Bool[Array, "batch columns"]:
        """Which columns loop `loop` may look at."""
        ages = (self.cursor - 1 - jnp.arange(self.capacity, dtype=jnp.int32)) % self.capacity
        held = ages < self.lengths[:, None]
        return held & (self.depths > loop) if policy is CachePolicy.PER_LOOP else held


def empty_cache(model: Ouro, batch: int, capacity: int, *, slots: int | None = None) -> Cache:
    """A cache that holds nothing, for `batch` rows of at most `capacity` tokens.

    **Arguments:** `slots`, by default one a loop of the model.

    **Raises** `ValueError` for a batch, capacity or number of slots below one.
    """
    config = model.config
    count = config.total_ut_steps if slots is None else slots
    for name, value in (("batch", batch), ("capacity", capacity), ("slots", count)):
        require_in(name, value, 1)
    shape = (batch, config.num_key_value_heads, capacity, config.rotary_size)
    layers = config.num_hidden_layers

    def one_slot() -> Layered:
        if isinstance(model.layers, nnx.List):
            return tuple(_zeros(shape, model) for _ in range(layers))
        return _zeros((layers, *shape), model)

    return Cache(
        slots=tuple(one_slot() for _ in range(count)),
        depths=jnp.zeros((batch, capacity), jnp.int32),
        cursor=jnp.zeros((), jnp.int32),
        lengths=jnp.zeros(batch, jnp.int32),
    )


def _zeros(shape: tuple[int, ...], model: Ouro) -> KeyValue:
    return KeyValue(jnp.zeros(shape, model.dtype), jnp.zeros(shape, model.dtype))


def append(
    cache: Cache,
    own: Sequence[Layered],
    *,
    depths: Int[Array, "batch tokens"],
    real: Bool[Array, "batch tokens"],
) -> Cache:
    """Write the keys and values of a call's tokens behind those that are there.

    Several tokens at once must fit before the end of the ring; a single one always does, and takes
    the place of the oldest when a row is full.

    **Arguments:** `own`, one entry a slot; `depths`, how many loops each token had; `real`, False
    for padding on the left of rows that were empty before.
    """
    start = cache.cursor

    def write(kept: Array, new: Array) -> Array:
        column = kept.ndim - 2
        return jax.lax.dynamic_update_slice_in_dim(kept, new.astype(kept.dtype), start, column)

    tokens = depths.shape[1]
    return Cache(
        slots=tuple(
            jax.tree.map(write, slot, new) for slot, new in zip(cache.slots, own, strict=True)
        ),
        depths=jax.lax.dynamic_update_slice_in_dim(cache.depths, depths, start, 1),
        cursor=(start + tokens) % cache.capacity,
        lengths=cache.lengths + real.sum(axis=1, dtype=jnp.int32),
    )


def fold(
    own: Sequence[Layered], policy: CachePolicy, depths: Int[Array, " batch"]
) -> list[Layered]:
    """What `policy` keeps of the keys and values of every loop, one entry a slot.

    **Arguments:** `own`, one entry a loop, where loops after a row's last repeat its last;
    `depths`, how many loops each row had.
    """
    if policy.slots(len(own)) > 1 or len(own) == 1:
        return list(own)
    if policy is CachePolicy.SHARED:
        return [own[-1]]

    def mean(*entries: Array) -> Array:
        stacked = jnp.stack(entries).astype(jnp.float32)
        loop = jnp.arange(len(entries), dtype=depths.dtype)
        counted = (loop[:, None] < depths).astype(jnp.float32)
        batch = entries[0].ndim - 4
        shape = (len(entries), *(1,) * batch, depths.shape[0], 1, 1, 1)
        total = jnp.sum(stacked * counted.reshape(shape), axis=0)
        return (total / depths.astype(jnp.float32).reshape(shape[1:])).astype(entries[0].dtype)

    return [jax.tree.map(mean, *own)]


def fold_cache(cache: Cache, policy: CachePolicy, depths: Int[Array, " batch"]) -> Cache:
    """A cache with one slot a loop, as a prompt leaves it, folded for decoding with `policy`."""
    return eqx.tree_at(lambda c: c.slots, cache, tuple(fold(cache.slots, policy, depths)))
