"""Tokens through the loops: a prompt all at once, then one token at a time.

These are the pure steps. `generation.py` compiles them, samples and stops.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .cache import Cache, CachePolicy, append, fold
from .exits import ExitPolicy, FixedDepth, Loop
from .model import Layered, LoopOutputs, Ouro


class Depth(eqx.Module):
    """How deep tokens go, and what becomes of the loops behind.

    **Arguments:** `policy` says when a token has had enough. `skip` says whether the loops behind
    are skipped, which saves their time and leaves later tokens without their keys and values, or
    computed all the same and only not listened to (*select*, what the released code does).
    `cache` says what later tokens see of earlier ones.
    """

    policy: ExitPolicy = FixedDepth()
    skip: bool = eqx.field(static=True, default=True)
    cache: CachePolicy = eqx.field(static=True, default=CachePolicy.LAST_EXITED)


class Step(NamedTuple):
    """What a call gave for the last token of each row."""

    hidden: Float[Array, "batch size"]
    """The state of the loop that it stopped at: the head's input."""
    depth: Int[Array, " batch"]
    """How many loops it had."""
    cache: Cache


class _Carry(NamedTuple):
    x: Float[Array, "batch tokens size"]
    chosen: Float[Array, "batch size"]
    active: Bool[Array, " batch"]
    depth: Int[Array, " batch"]
    memory: Any
    own: Layered


def prefill(
    model: Ouro,
    cache: Cache,
    ids: Int[Array, "batch tokens"],
    real: Bool[Array, "batch tokens"],
    depth: Depth,
    *,
    first: bool = False,
) -> Step:
    """Read a chunk of prompts at full depth, behind what the cache holds.

    Where loops are skipped, prompts are still read to `max_loops`, and so is their last token;
    where they are not, the last token's state is the one that the policy selects.

    **Arguments:** `cache`, with one slot a loop and room for the chunk before its end; `ids`;
    `real`, False for padding, which stands on the left of rows that are empty; `first`, True if
    the cache is empty, which saves looking at it.
    """
    policy = FixedDepth(max_loops=depth.policy.max_loops) if depth.skip else depth.policy
    return _run(model, cache, ids, real, policy, depth.skip, CachePolicy.PER_LOOP, first)


def decode(model: Ouro, cache: Cache, tokens: Int[Array, " batch"], depth: Depth) -> Step:
    """Read one token of every row, behind what the cache holds, to the depth that each needs.

    **Arguments:** `cache`, folded for `depth.cache`; `tokens`.
    """
    real = jnp.ones((tokens.shape[0], 1), bool)
    ids = tokens[:, None]
    return _run(model, cache, ids, real, depth.policy, depth.skip, depth.cache, False)


def _run(
    model: Ouro,
    cache: Cache,
    ids: Int[Array, "batch tokens"],
    real: Bool[Array, "batch tokens"],
    policy: ExitPolicy,
    skip: bool,
    kept: CachePolicy,
    first: bool,
) -> Step:
    loops = model.config.total_ut_steps
    context = model.context_of(real, before=cache.lengths)
    x = model.embed(ids)
    rows = x.shape[0]

    def one_loop(index: int, carry: _Carry) -> _Carry:
        history = None if first else cache.history(index)
        seen = None if first else cache.remembered(index, kept)
        after, own = model.loop(carry.x, context._replace(remembered=seen), history)
        state, before = after[:, -1], carry.x[:, -1]
        looked_at = Loop(index, state, before, model.gate(state), lambda: model.logits(state))
        wanted, memory = policy.wants(carry.memory, looked_at)
        stops = policy.bounded(wanted, index, loops)
        if skip:
            after = _where(carry.active, after, carry.x)
            own = _keep(model, carry.active, own, carry.own)
        return _Carry(
            x=after,
            chosen=_where(carry.active, state, carry.chosen),
            active=carry.active & ~stops,
            depth=carry.depth + carry.active.astype(jnp.int32),
            memory=memory,
            own=own,
        )

    # Every row takes the first loop. That it is asked for at run time (a `Generator` makes an array
    # of `max_loops`) makes XLA read the cache in each loop before anything is written to it; else
    # the first loop's slot is copied.
    most = loops if policy.max_loops is None else policy.max_loops
    begins = jnp.broadcast_to(jnp.asarray(most) > 0, (rows,))
    own_shape = jax.eval_shape(lambda: model.loop(x, context, None)[1])
    carry = _Carry(
        x=x,
        chosen=jnp.zeros_like(x[:, -1]),
        active=begins,
        depth=jnp.zeros(rows, jnp.int32),
        memory=policy.start(x[:, -1]),
        own=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), own_shape),
    )
    kept_of_loops = []
    for index in range(loops):
        needed = carry.active if skip else begins
        carry = _if_any(needed, lambda c, i=index: one_loop(i, c), carry)
        kept_of_loops.append(carry.own)
    had = carry.depth if skip else jnp.full(rows, loops, jnp.int32)
    grown = append(
        cache,
        fold(kept_of_loops, kept, had),
        depths=jnp.broadcast_to(had[:, None], real.shape),
        real=real,
    )
    return Step(carry.chosen, carry.depth, grown)


def _if_any(
    active: Bool[Array, " batch"], body: Callable[[_Carry], _Carry], carry: _Carry
) -> _Carry:
    """`body(carry)` if any row is active, else `carry`.

    A loop of at most one turn: unlike `cond`, a loop keeps what it carries in place.
    """

    def turn(state: tuple[Bool[Array, ""], _Carry]) -> tuple[Bool[Array, ""], _Carry]:
        return jnp.zeros((), bool), body(state[1])

    return jax.lax.while_loop(lambda state: state[0], turn, (active.any(), carry))[1]


def _where(active: Bool[Array, " batch"], new: Array, old: Array) -> Array:
    return jnp.where(active.reshape(-1, *(1,) * (new.ndim - 1)), new, old)


def _keep(model: Ouro, active: Bool[Array, " batch"], new: Layered, old: Layered) -> Layered:
    """Each row's new keys and values where it is active, else those that it had (copy-down)."""

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(active.reshape(-1, 1, 1, 1), new, old)  # behind a leading layer axis too

    return jax.tree.map(choose, new, old)


def select(
    model: Ouro, outputs: LoopOutputs, policy: ExitPolicy
) -> tuple[Float[Array, "batch tokens size"], Int[Array, "batch tokens"]]:
    """The state and the depth that `policy` selects for every token of whole sequences.

    What the released code computes in one forward pass: every loop was run, and each token's state
    is taken from one of them. The policy's numbers must be plain, not one a row.
    """
    loops, batch, tokens, size = outputs.hidden.shape
    states = outputs.hidden.reshape(loops, batch * tokens, size)
    gates = outputs.gate.reshape(loops, batch * tokens)
    before = states[0]
    memory = policy.start(before)
    chosen = jnp.zeros_like(before)
    active = jnp.ones(batch * tokens, bool)
    depth = jnp.zeros(batch * tokens, jnp.int32)
    for index in range(loops):
        state = states[index]
        loop = Loop(index, state, before, gates[index], lambda s=state: model.logits(s))
        wanted, memory = policy.wants(memory, loop)
        chosen = _where(active, state, chosen)
        depth = depth + active.astype(jnp.int32)
        active = active & ~policy.bounded(wanted, index, loops)
        before = state
    return chosen.reshape(batch, tokens, size), depth.reshape(batch, tokens)
