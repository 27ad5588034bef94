"""The phase arc P0–P5: what triggers each transition, and the machine that follows a trajectory."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from .._check import concrete
from .derived import (
    active_intersections,
    adjacent_possible,
    breadth_set,
    discovery_rate,
    marginal_coherence,
    marginal_depth,
    mastery_quality,
    mastery_set,
    obsolescence_rate,
)
from .environment import Environment
from .state import State
from .thresholds import Thresholds

PHASES = (
    "pre-domain initialisation",
    "asymmetric initialisation",
    "depth acceleration and crystallisation",
    "intersection discovery",
    "multi-domain navigation",
    "expanding frontier",
)
"""The paper's names of phases 0 to 5."""


class Margins(eqx.Module):
    """How far each transition is from its trigger; positive means triggered.

    `forward[..., i]` belongs to the transition i → i+1, `reverse[..., i]` to i+1 → i.
    """

    forward: Float[Array, "... 5"]
    reverse: Float[Array, "... 5"]


def domain_margins(
    delta_rel: Float[Array, "... domains"],
    sigma: Float[Array, "... domains"],
    thresholds: Thresholds,
    *,
    discovery: ArrayLike = -jnp.inf,
    expansion: ArrayLike = -jnp.inf,
) -> Margins:
    """The triggers of one agent's phases, from relative depth and coherence by domain.

    | move | trigger | reverse trigger |
    |---|---|---|
    | 0 → 1 | δ_rel > delta_onset in some domain (ours) | δ_rel < delta_onset_reverse (ours) |
    | 1 → 2 | σ > sigma_critical in such a domain | σ < sigma_critical − sigma_hysteresis |
    | 2 → 3 | δ_rel > delta_star in such a domain | δ_rel < delta_reverse, or as 1 → 2 (ours) |
    | 3 → 4 | `discovery` > 0 (ours): two domains mastered, Ψ between them | not so |
    | 4 → 5 | `expansion` > 0 (ours): the frontier moves, something new in reach | not so |

    A domain counts in 1 → 2 and 2 → 3 only if it passes both conditions at once, and the best
    one decides. A learner with depth but without coherence stays in phase 1: the σ-trap.

    **Returns** `Margins` with the leading axes of the arguments.
    """
    th = thresholds
    onset = delta_rel - th.delta_onset
    coherent = sigma - th.sigma_critical
    still_coherent = coherent + th.sigma_hysteresis

    def best(margin):
        return jnp.max(margin, axis=-1)

    shape = delta_rel.shape[:-1]
    discovery = jnp.broadcast_to(jnp.asarray(discovery, delta_rel.dtype), shape)
    expansion = jnp.broadcast_to(jnp.asarray(expansion, delta_rel.dtype), shape)
    return Margins(
        forward=jnp.stack(
            [
                best(onset),
                best(jnp.minimum(onset, coherent)),
                best(jnp.minimum(delta_rel - th.delta_star, coherent)),
                discovery,
                expansion,
            ],
            axis=-1,
        ),
        reverse=jnp.stack(
            [
                -best(delta_rel - th.delta_onset_reverse),
                -best(still_coherent),
                -best(jnp.minimum(delta_rel - th.delta_reverse, still_coherent)),
                -discovery,
                -expansion,
            ],
            axis=-1,
        ),
    )


def state_margins(
    t: ArrayLike, state: State, environment: Environment, thresholds: Thresholds
) -> Margins:
    """The triggers at one state, for every agent: `Margins` of shape `[agents, 5]`.

    Phase 4 needs two mastered domains (Eq. 10) and an active intersection (Eq. 16) whose Ψ
    exceeds `psi_minimum`; phase 5 a frontier that grows faster than `frontier_growth` while some
    domain lies in the adjacent possible. With one domain neither can be reached.
    """
    conditions = environment(t, state)
    depth = marginal_depth(state.delta)
    delta_rel = marginal_depth(state.delta / conditions.frontier)
    sigma = marginal_coherence(state.sigma)
    domains = depth.shape[-1]
    similarity = jnp.broadcast_to(
        jnp.asarray(environment.domain_similarity, depth.dtype), (domains, domains)
    )
    discovery = _discovery_margin(depth, delta_rel, sigma, similarity, thresholds)
    expansion = _expansion_margin(t, state, delta_rel, sigma, similarity, environment, thresholds)
    return domain_margins(
        delta_rel,
        sigma,
        thresholds,
        discovery=discovery,
        expansion=jnp.minimum(expansion, discovery),
    )


def _discovery_margin(depth, delta_rel, sigma, similarity, th: Thresholds):
    """The smaller of: the second-best domain's mastery margin, the best active Ψ's margin."""
    if depth.shape[-1] < 2:
        return -jnp.inf
    mastery = jnp.minimum(delta_rel - th.theta_delta, sigma - th.theta_sigma)
    second = jnp.sort(mastery, axis=-1)[..., -2]
    psi = discovery_rate(mastery_quality(sigma, delta_rel), similarity)
    active = active_intersections(depth, th.theta_i)
    best_psi = jnp.max(jnp.where(active, psi, 0.0), axis=(-2, -1))
    return jnp.minimum(second, best_psi - th.psi_minimum)


def _expansion_margin(t, state, delta_rel, sigma, similarity, environment, th: Thresholds):
    """Frontier growth beyond its threshold, if anything new is in reach."""
    growth = jnp.max(obsolescence_rate(environment.frontier, t, state))
    known = mastery_set(sigma, delta_rel, th)
    if state.breadth is not None:
        known |= breadth_set(state.breadth, known, th)
    reach = jnp.any(adjacent_possible(known, similarity, th.similarity_minimum), axis=-1)
    return jnp.where(reach, growth - th.frontier_growth, -1.0)


def trajectory_margins(
    ts: Float[Array, " times"], states: State, environment: Environment, thresholds: Thresholds
) -> Margins:
    """The triggers along a simulated trajectory: `Margins` of shape `[times, agents, 5]`."""
    return jax.vmap(lambda t, state: state_margins(t, state, environment, thresholds))(ts, states)


class PhaseProgress(eqx.Module):
    """Where a phase machine is: its phase, and for how many samples its triggers have held."""

    phase: Int[Array, "..."]
    risen: Int[Array, "..."]
    fallen: Int[Array, "..."]


def start_phases(shape: tuple[int, ...] = (), *, phase: int = 0) -> PhaseProgress:
    """Machines that stand in `phase`, of any shape.

    **Raises** `ValueError` for a phase outside 0 to 5.
    """
    if not 0 <= phase <= 5:
        raise ValueError(f"start must be a phase from 0 to 5; got {phase}.")
    zeros = jnp.zeros(shape, int)
    return PhaseProgress(zeros + phase, zeros, zeros)


def advance_phase(
    progress: PhaseProgress, margins: Margins, *, dwell: int = 1, reverse_dwell: int = 10
) -> PhaseProgress:
    """The machines after one more sample; see `follow_phases`."""
    up, down = _at_phase(margins, progress.phase)
    risen = jnp.where(up > 0, progress.risen + 1, 0)
    fallen = jnp.where(down > 0, progress.fallen + 1, 0)
    move = jnp.where(risen >= dwell, 1, jnp.where(fallen >= reverse_dwell, -1, 0))
    still = move == 0
    return PhaseProgress(
        progress.phase + move, jnp.where(still, risen, 0), jnp.where(still, fallen, 0)
    )


def follow_phases(
    margins: Margins, *, dwell: int = 1, reverse_dwell: int = 10, start: int = 0
) -> Int[Array, "times ..."]:
    """The phase at every sample of a simulated or measured trajectory.

    At each sample the machine may move one phase forward, if that transition's trigger has held
    for `dwell` samples in a row, or one back, if the reverse trigger has for `reverse_dwell`
    (the proofs ask for at least 10). Counters restart after a move.

    **Arguments:** `margins` with a leading axis of samples; any axes in between are independent.

    **Raises** `ValueError` for a dwell below one or a start outside 0 to 5.
    """
    for name, value in (("dwell", dwell), ("reverse_dwell", reverse_dwell)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1 sample; got {value}.")

    def step(progress: PhaseProgress, sample: Margins):
        progress = advance_phase(progress, sample, dwell=dwell, reverse_dwell=reverse_dwell)
        return progress, progress.phase

    initial = start_phases(margins.forward.shape[1:-1], phase=start)
    return jax.lax.scan(step, initial, margins)[1]


def _at_phase(margins: Margins, phase: Int[Array, "..."]) -> tuple[Array, Array]:
    """The margins that matter in `phase`: up (never from 5) and down (never from 0)."""
    none = jnp.full((*phase.shape, 1), -jnp.inf, margins.forward.dtype)
    up = jnp.concatenate([margins.forward, none], axis=-1)
    down = jnp.concatenate([none, margins.reverse], axis=-1)
    here = phase[..., None]
    return (
        jnp.take_along_axis(up, here, axis=-1)[..., 0],
        jnp.take_along_axis(down, here, axis=-1)[..., 0],
    )


def transitions(ts: ArrayLike, phases: Int[Array, " times"]) -> list[tuple[float, int, int]]:
    """The moves in one agent's phases, as (time, from, to); the machine starts in phase 0."""
    times, path = concrete(ts), concrete(phases)
    if times is None or path is None or path.ndim != 1:
        raise ValueError("transitions needs one agent's phases, outside of compiled code.")
    before = [0, *path[:-1]]
    return [
        (float(t), int(old), int(new))
        for t, old, new in zip(times, before, path, strict=True)
        if old != new
    ]
