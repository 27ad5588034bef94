"""`rollout`: many steps of many trajectories in one compiled call."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from .._check import concrete, require_in
from ..solvers import NORMALS, in_batches, increments, summed
from .intervention import Receipt
from .machine import State, StateMachine
from .nodes import ProviderNode, provider_errors
from .stepping import SENSOR_STREAM, Outside, Proposal, SwapOutcomes, one_step
from .traces import SwapRecord, Trace

BLOCK = 32
"""Steps on which noise is drawn at once, and that reverse mode computes again together."""
WIDE = 32
"""From this dimension on each trajectory is advanced by itself: its matrix products are work
enough for a processor, and the choice of a node is a branch."""


class Swap(NamedTuple):
    """A proposal to make the node `to` active at the start of the step `step`."""

    step: int
    to: str


class Jump(NamedTuple):
    """A shove from outside: `by`, `[d]`, is added to the state at the end of the step `step`."""

    step: int
    by: ArrayLike


class Rollout(eqx.Module):
    """What `rollout` returns."""

    state: State
    trace: Trace | None
    swaps: SwapRecord


def rollout(
    machine: StateMachine,
    state: State,
    *,
    steps: int,
    dt: ArrayLike = 0.05,
    swaps: Sequence[Swap] = (),
    jumps: Sequence[Jump] = (),
    trace: bool = True,
    refine: int = 1,
    batch_size: int = 512,
) -> Rollout:
    """Advance `state` by `steps` steps of length `dt`.

    Pure: it may be jitted and differentiated, in the machine, the state and dt. A trajectory is a
    function of the machine, its own state and the schedule: the same bits come out whether it
    runs alone or in a batch, in one call or in several, or after a save and load between.

    In a step, in this order: a scheduled swap is accepted or refused for each trajectory by the
    relative drift at its own state and control; the policy looks at the state and may intervene;
    state and covariance move together (`solvers.belief_step`); a scheduled jump is added; the
    monitor compares. A trajectory that leaves `machine.bound`, or is no longer finite, stays at
    its last good state, and `State.diverged` says since when.

    **Arguments:**

    - `swaps`, `jumps`: schedules in the machine's own step count, so from `state.step` up to
      `state.step + steps − 1`; one of each kind a step at most. They are for all trajectories.
    - `trace`: whether a `Trace` is kept; without one, memory does not grow with `steps`.
    - `refine`: draws the noise on a grid so many times finer than the steps. From step 0,
      `steps=n, dt=h, refine=2r` and `steps=2n, dt=h/2, refine=r` follow one Brownian motion.
    - `batch_size`: how many trajectories share a loop, on one device; it changes no bit.

    **Raises** `ValueError` for steps, refine or batch size below one, a dt that is not positive, a
    schedule beyond the run, an unknown node, a jump of the wrong shape, or a state that does not
    fit the machine.
    """
    _check(machine, state, steps, dt, refine, batch_size)
    plan = _plan(machine, state, steps, swaps, jumps)
    dt = jnp.asarray(dt, state.x.dtype)
    single = state.x.ndim == 1
    if single:
        state = _map_lanes(lambda leaf: leaf[None], state)
    with provider_errors():
        done, kept, outcomes = _run(machine, state, dt, plan, steps, trace, refine, batch_size)
        if any(isinstance(node, ProviderNode) for node in machine.nodes.values()):
            jax.block_until_ready(done.x)  # so that what a provider raises is raised here
    if single:
        done = _map_lanes(lambda leaf: leaf[0], done)
        kept, outcomes = jax.tree.map(lambda leaf: leaf[0], (kept, outcomes))
    record = SwapRecord(
        jnp.asarray([swap.step for swap in swaps], jnp.int32),
        plan.outside.swap_to,
        *outcomes,
    )
    return Rollout(done, kept, record)


class _Plan(NamedTuple):
    """The schedule as arrays: for each step of the run a proposal."""

    proposals: Proposal
    outside: Outside


@eqx.filter_jit
def _run(machine, state, dt, plan, steps, trace, refine, batch_size):
    dim = state.x.shape[1]
    per_batch, multiple = (1, 1) if dim >= WIDE else (batch_size, LANES)
    # As words: differentiating a conditional on a device does not carry keys through.
    words = jax.random.key_data(state.key)
    step, lanes = state.step, eqx.tree_at(lambda s: s.key, _without_step(state), words)

    def one_batch(lanes):
        alone = dim >= WIDE
        if alone:
            lanes = jax.tree.map(lambda leaf: leaf[0], lanes)
        keys = jax.random.wrap_key_data(lanes.key, impl=str(jax.random.key_impl(state.key)))
        lanes = eqx.tree_at(lambda lanes: lanes.key, lanes, keys)
        done = _advance(machine, lanes, step, dt, plan, steps, trace, refine, alone)
        done = (eqx.tree_at(lambda lanes: lanes.key, done[0], None), *done[1:])
        return jax.tree.map(lambda leaf: leaf[None], done) if alone else done

    lanes, kept, outcomes = in_batches(one_batch, lanes, per_batch, multiple)
    done = eqx.tree_at(
        lambda done: (done.key, done.step),
        lanes,
        (state.key, step + steps),
        is_leaf=lambda leaf: leaf is None,
    )
    return done, kept, outcomes


LANES = 16
"""Batches are filled up to a multiple of this, so that every trajectory meets the same vector
instructions whatever the number of its neighbours."""


def _advance(machine, lanes, start, dt, plan, steps, trace, refine, alone):
    """All steps of one batch; arrays lead with the batch's axis, or, if `alone`, with none."""
    lift = _identity if alone else jax.vmap
    keys = lanes.key[None] if alone else lanes.key
    sensor_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, SENSOR_STREAM)
    dim, dtype = lanes.x.shape[-1], lanes.x.dtype
    observations = (
        dim if machine.observation.matrix is None else machine.observation.matrix.shape[0]
    )
    length = max(1, BLOCK // refine)

    def shaped(noise):
        return noise[:, 0] if alone else noise.T

    @jax.checkpoint
    def block(carry, number):
        first = number * length
        brownian = increments(
            machine.scheme.noise, keys, first * refine, length * refine, dim, dt / refine
        )
        sensor = None
        if machine.monitor is not None:
            variance = jnp.asarray(machine.monitor.noise, dtype)
            sensor = increments(NORMALS, sensor_keys, first, length, observations, variance)

        def step(carry, i):
            now = first + i

            def take(carry):
                state, swaps = carry
                proposal = jax.tree.map(lambda leaf: leaf[now - start], plan.proposals)
                dw = shaped(summed(brownian, now * refine, refine))
                noise = None if sensor is None else shaped(sensor(now))
                state = eqx.tree_at(
                    lambda state: state.step, state, now, is_leaf=lambda leaf: leaf is None
                )
                state, swaps, row = one_step(
                    machine, lift, state, swaps, proposal, plan.outside, dt, dw, noise
                )
                return (_without_step(state), swaps), _packed(row) if trace else None

            def skip(carry):
                rows = jax.eval_shape(take, carry)[1]
                return carry, jax.tree.map(lambda row: jnp.zeros(row.shape, row.dtype), rows)

            return jax.lax.cond((now >= start) & (now < start + steps), take, skip, carry)

        return jax.lax.scan(step, carry, jnp.arange(length, dtype=start.dtype))

    swap_count = plan.outside.swap_to.size
    none = (swap_count, *lanes.active.shape)
    outcomes = SwapOutcomes(
        jnp.zeros(none, jnp.int32), jnp.zeros(none, dtype), jnp.zeros(none, bool)
    )
    blocks = (steps + length - 2) // length + 1
    numbers = start // length + jnp.arange(blocks, dtype=start.dtype)
    (lanes, outcomes), rows = jax.lax.scan(block, (lanes, outcomes), numbers)
    outcomes = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), outcomes)
    if not trace:
        return lanes, None, outcomes

    def in_run(rows):
        rows = rows.reshape(-1, *rows.shape[2:])
        return jax.lax.dynamic_slice_in_dim(rows, start % length, steps)

    return lanes, _unpacked(jax.tree.map(in_run, rows)), outcomes


_ROW: Any = cast(Any, Trace)(
    *("float",) * 8, "bool", "int32", cast(Any, Receipt)(*("int32",) * 3, *("float",) * 2), "bool"
)


def _packed(row: Trace) -> tuple[Array, Array]:
    """A row's numbers as two arrays, zero where the trajectory is not alive.

    One array for each kind: in a loop as small as this every array has a price of its own.
    """
    kinds, values = jax.tree.leaves(_ROW), jax.tree.leaves(row)
    floats = [v for kind, v in zip(kinds, values, strict=True) if kind == "float"]
    whole = [v.astype(jnp.int32) for kind, v in zip(kinds, values, strict=True) if kind != "float"]
    alive = row.alive[..., None]
    packs = (jnp.stack(floats, axis=-1), jnp.stack(whole, axis=-1))
    return jax.tree.map(lambda pack: jnp.where(alive, pack, jnp.zeros_like(pack)), packs)


def _unpacked(packs: tuple[Array, Array]) -> Trace:
    """The trace of packed rows `[steps, *batch, columns]`, as arrays `[*batch, steps]`."""
    floats, whole = (iter(jnp.moveaxis(pack, (-1, 0), (0, -1))) for pack in packs)
    kinds, structure = jax.tree.flatten(_ROW)
    columns = [next(floats) if kind == "float" else next(whole).astype(kind) for kind in kinds]
    return structure.unflatten(columns)


def _identity(function, in_axes=0):
    """In place of `jax.vmap` where there is one trajectory."""
    return function


def _without_step(state: State) -> State:
    """The parts of a state that each trajectory has for itself."""
    return eqx.tree_at(lambda state: state.step, state, None)


def _map_lanes(function, state: State) -> State:
    lanes = jax.tree.map(function, _without_step(state))
    return eqx.tree_at(
        lambda state: state.step, lanes, state.step, is_leaf=lambda leaf: leaf is None
    )


def _plan(
    machine: StateMachine,
    state: State,
    steps: int,
    swaps: Sequence[Swap],
    jumps: Sequence[Jump],
) -> _Plan:
    clock = concrete(state.step)
    if clock is None and (swaps or jumps):
        raise ValueError("a schedule needs a state whose step is known, but it is being traced.")
    start = 0 if clock is None else int(clock)
    tables = {}
    for name, events in (("swaps", swaps), ("jumps", jumps)):
        table = np.full(steps, -1, np.int32)
        for index, event in enumerate(events):
            if not start <= event.step < start + steps:
                raise ValueError(
                    f"{name} asks for step {event.step}, but the run is of steps {start} to "
                    f"{start + steps - 1}."
                )
            if table[event.step - start] >= 0:
                raise ValueError(f"{name} asks twice for step {event.step}; one a step is allowed.")
            table[event.step - start] = index
        tables[name] = jnp.asarray(table)
    shoves = [np.asarray(concrete(jump.by)) for jump in jumps]
    for jump, shove in zip(jumps, shoves, strict=True):
        if shove.shape != (machine.dim,) or not np.isfinite(shove).all():
            raise ValueError(
                f"the jump at step {jump.step} must be finite, [{machine.dim}]; got {shove}."
            )
    return _Plan(
        Proposal(tables["swaps"], tables["jumps"]),
        Outside(
            jnp.asarray([machine.index(swap.to) for swap in swaps], jnp.int32),
            jnp.asarray(np.reshape(shoves, (len(jumps), machine.dim)), state.x.dtype),
        ),
    )


def _check(machine: StateMachine, state: State, steps, dt, refine, batch_size) -> None:
    for name, value in (("steps", steps), ("refine", refine), ("batch_size", batch_size)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer; got {value!r}.")
    require_in("dt", dt, 0.0, open_low=True)
    if state.x.ndim not in (1, 2) or state.x.shape[-1] != machine.dim:
        raise ValueError(
            f"state.x must be [{machine.dim}] or [batch, {machine.dim}]; got {state.x.shape}."
        )
