"""One step of the state machine, for a batch of trajectories inside a compiled loop."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..solvers import belief_step, dilation
from ..stability import normalised_innovation
from .collapse import cheap_signs, collapse_signs, quiet_signs
from .intervention import intervene, quiet_receipt
from .machine import State, StateMachine
from .nodes import Node, relative_drift
from .traces import Trace

EXCITATION_STREAM = 1
"""Folded into a trajectory's key for the noise of kicks, which are rare."""
SENSOR_STREAM = 2
"""Folded into a trajectory's key for the noise of the monitor's sensor."""


class Proposal(NamedTuple):
    """What may happen from outside in one step: indices into tables, −1 for nothing."""

    swap: Int[Array, ""]
    jump: Int[Array, ""]


class Outside(NamedTuple):
    """The tables that proposals point into."""

    swap_to: Int[Array, " swaps"]
    jumps: Float[Array, "jumps d"]


class SwapOutcomes(NamedTuple):
    """Records of the swaps, filled as they are decided: `[swaps, batch]` or `[swaps]`."""

    from_node: Array
    delta: Array
    accepted: Array


class Motion(NamedTuple):
    """What moves one trajectory in a step: the control and the active node's answers to it."""

    u: Float[Array, " m"]
    drift: Float[Array, " d"]
    diffusion: Float[Array, " d"]
    jacobian: Float[Array, "d d"]


def one_step(
    machine: StateMachine,
    lift: Callable,
    state: State,
    swaps: SwapOutcomes,
    proposal: Proposal,
    outside: Outside,
    h: Float[Array, ""],
    dw: Array,
    sensor_noise: Array | None,
) -> tuple[State, SwapOutcomes, Trace]:
    """Advance a batch by one step: swap, intervene, move, watch.

    `lift` is `jax.vmap` for a batch; for one trajectory, whose arrays have no leading axis, it is
    the identity, which leaves the choice among nodes a branch.
    """
    state, swaps = _swap(machine, lift, state, swaps, proposal, outside)
    motion = lift(lambda *own: _motion(machine, *own))(state.x, state.covariance, state.active)
    start = state
    state, motion, receipt, proximity = _decide(machine, lift, state, motion)
    moved, watched = lift(
        lambda state, motion, dw, noise: _move(
            machine, state, motion, proposal, outside, h, dw, noise
        ),
        in_axes=(_STATE_AXES, 0, 0, None if sensor_noise is None else 0),
    )(state, motion, dw, sensor_noise)
    alive = moved.diverged < 0
    squared, surprised = watched
    moved = eqx.tree_at(lambda moved: moved.surprised, moved, surprised & alive)
    quantities = lift(lambda *own: _quantities(machine, *own))(start.x, start.covariance, motion)
    row = Trace(
        *quantities,
        proximity=proximity,
        innovation=squared,
        surprise=surprised,
        active=state.active,
        receipt=receipt,
        alive=alive,
    )
    return _forward(moved), swaps, row


_STATE_AXES = cast(Any, State)(0, 0, 0, 0, 0, 0, 0, None)


def _forward(state: State) -> State:
    return eqx.tree_at(lambda state: state.step, state, state.step + 1)


def _with_active(machine: StateMachine, active: Array, call: Callable[[Node], Any]) -> Any:
    """`call(node)` for the active node of one trajectory."""
    nodes = [machine.nodes[name] for name in machine.names]
    if len(nodes) == 1:
        return call(nodes[0])
    return jax.lax.switch(active, [lambda node=node: call(node) for node in nodes])


def _motion(machine: StateMachine, x: Array, covariance: Array, active: Array) -> Motion:
    u = machine.controller(x, covariance, machine.control_dim)
    drift, diffusion, jacobian = _with_active(
        machine, active, lambda node: (node.drift(x, u), node.diffusion(x), node.jacobian(x, u))
    )
    return Motion(u, drift, diffusion, jacobian)


def _swap(machine, lift, state: State, swaps: SwapOutcomes, proposal: Proposal, outside: Outside):
    """Accept or refuse a scheduled swap, for each trajectory by its own state and control."""
    if outside.swap_to.size == 0:
        return state, swaps

    def propose(active, swaps):
        target = outside.swap_to[proposal.swap]

        def delta(x, covariance, active):
            u = machine.controller(x, covariance, machine.control_dim)
            old = _with_active(machine, active, lambda node: node.drift(x, u))
            return relative_drift(old, _with_active(machine, target, lambda n: n.drift(x, u)))

        deltas = lift(delta)(state.x, state.covariance, active)
        accepted = (deltas < machine.swap_tolerance) & (state.diverged < 0)
        swaps = SwapOutcomes(
            swaps.from_node.at[proposal.swap].set(active),
            swaps.delta.at[proposal.swap].set(deltas),
            swaps.accepted.at[proposal.swap].set(accepted),
        )
        return jnp.where(accepted, target, active), swaps

    active, swaps = jax.lax.cond(
        proposal.swap >= 0, propose, lambda *same: same, state.active, swaps
    )
    return eqx.tree_at(lambda state: state.active, state, active), swaps


def _decide(machine: StateMachine, lift, state: State, motion: Motion):
    """Look for a collapse or a surprise, and do about it what the policy allows.

    The dear signs and the operators run only if some trajectory of the batch needs them; the
    others keep their bits.
    """
    policy = machine.policy
    if policy is None:
        return state, motion, lift(quiet_receipt)(state.x), jnp.zeros_like(state.x[..., 0])

    def look(x, covariance, u):
        of_x, of_u = jax.grad(machine.cost, argnums=(0, 1))(x, u)
        return cheap_signs(covariance, of_x, of_u, policy.thresholds)

    cheap = lift(look)(state.x, state.covariance, motion.u)
    # A surprise that is only noted needs no decomposition.
    looks_on = policy.mode == "observe"
    answered = not looks_on and policy.on_surprise != "observe"
    asked = (cheap.hold | state.surprised) if answered else cheap.hold
    asked = asked & (state.diverged < 0)

    def act(state, motion):
        def one(cheap, state, motion, asked):
            signs = collapse_signs(cheap, motion.jacobian, policy.thresholds)
            key = jax.random.fold_in(jax.random.fold_in(state.key, EXCITATION_STREAM), state.step)
            noise = jax.random.normal(key, state.x.shape, state.x.dtype)
            x, covariance, spent, receipt = intervene(
                policy,
                state.x,
                state.covariance,
                motion.jacobian,
                signs,
                noise,
                state.spent,
                surprised=state.surprised,
            )
            if looks_on:
                return None, receipt, signs.proximity
            changed = spent > state.spent
            new = _motion(machine, x, covariance, state.active)
            motion = jax.tree.map(lambda n, old: jnp.where(changed, n, old), new, motion)
            return (x, covariance, spent, motion), receipt, signs.proximity

        return lift(one, in_axes=(0, _STATE_AXES, 0, 0))(cheap, state, motion, asked)

    def quiet(state, motion):
        proximity = lift(quiet_signs)(cheap).proximity
        same = None if looks_on else (state.x, state.covariance, state.spent, motion)
        return same, lift(quiet_receipt)(state.x, state.surprised), proximity

    changes, receipt, proximity = jax.lax.cond(jnp.any(asked), act, quiet, state, motion)
    if changes is None:
        return state, motion, receipt, proximity
    x, covariance, spent, motion = changes
    state = eqx.tree_at(
        lambda state: (state.x, state.covariance, state.spent), state, (x, covariance, spent)
    )
    return state, motion, receipt, proximity


def _move(machine: StateMachine, state, motion, proposal, outside, h, dw, sensor_noise):
    """The Itô and Riccati step of one trajectory, what the sensor says, and a stop if it fails."""
    x, covariance = belief_step(
        lambda t, x, args: motion.drift,
        lambda t, x, args: _with_active(machine, state.active, lambda node: node.diffusion(x)),
        motion.jacobian,
        machine.observation.information().astype(state.x.dtype),
        0.0,
        (state.x, state.covariance),
        None,
        h,
        dw,
        machine.scheme,
    )
    if outside.jumps.shape[0]:
        x = jnp.asarray(jnp.where(proposal.jump >= 0, x + outside.jumps[proposal.jump], x))
    watched = _watch(machine, state, motion, x, h, sensor_noise)
    sound = (
        jnp.isfinite(jnp.sum(covariance))
        & (jnp.sum(x**2) < machine.bound**2)
        & (state.diverged < 0)
    )
    stopped = jnp.where(state.diverged < 0, state.step, state.diverged)
    moved = eqx.tree_at(
        lambda state: (state.x, state.covariance, state.diverged),
        state,
        (
            jnp.where(sound, x, state.x),
            jnp.where(sound, covariance, state.covariance),
            jnp.where(sound, state.diverged, stopped),
        ),
    )
    return moved, watched


def _watch(machine: StateMachine, state: State, motion: Motion, x, h, sensor_noise):
    """The normalised innovation squared of the step to `x`, and whether it is a surprise."""
    monitor, matrix = machine.monitor, machine.observation.matrix
    if monitor is None:
        return jnp.zeros((), x.dtype), jnp.zeros((), bool)
    innovation = x - (state.x + h * motion.drift)
    variance = h * (dilation(state.covariance) * motion.diffusion) ** 2
    noise = jnp.asarray(monitor.noise, x.dtype)
    if matrix is None:  # a diagonal covariance, positive by the noise
        squared = jnp.sum((innovation + sensor_noise) ** 2 / (variance + noise))
        return squared, monitor.flag(squared, x.shape[0])
    matrix = matrix.astype(x.dtype)
    covariance = (matrix * variance) @ matrix.T + noise * jnp.eye(matrix.shape[0], dtype=x.dtype)
    squared, _ = normalised_innovation(matrix @ innovation + sensor_noise, covariance)
    return squared, monitor.flag(squared, matrix.shape[0])


def _quantities(machine: StateMachine, x, covariance, motion: Motion):
    """The first six columns of a trace."""
    return (
        _norm(x),
        jnp.trace(covariance),
        _norm(motion.u),
        dilation(covariance),
        _norm(motion.drift),
        machine.cost(x, motion.u),
    )


def _norm(vector: Array) -> Array:
    """‖vector‖, with the slope zero at zero."""
    squared = jnp.sum(vector**2)
    return jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1.0)), 0.0)
