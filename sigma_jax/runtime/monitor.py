"""The monitor: a Kalman filter of the replies, and charts of how they leave the identity."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .monitor_parameters import MonitorParameters, stationary_variance
from .phases import PhaseState, Signs, phase_step, start_phase

CHANNELS = ("style", "content")
"""The parts of an observation, in this order; no statistic mixes them."""

_CAP = 2.0  # a cumulative sum stays below so many limits, so that recovery is seen soon


class Observation(eqx.Module):
    """What is seen of one turn."""

    y: Float[Array, " d"]
    """The reply in whitened coordinates; anything where there is none."""
    present: Bool[ArrayLike, ""]
    """Whether there was a reply to look at. A y that is not finite counts as absent too."""
    commanded: Float[ArrayLike, ""]
    """How surely the user has asked for another style, in [0, 1]."""
    violations: Bool[Array, " k"]


class MonitorState(eqx.Module):
    """What the monitor believes after a turn."""

    x: Float[Array, " d"]
    average: Float[Array, " d"]
    """The exponentially weighted mean of the clipped, standardised innovations."""
    previous: Float[Array, " d"]
    """The last reply seen."""
    variance: Float[Array, "2"]
    """Of the error of x, in every coordinate of a channel."""
    contrast: Float[Array, "2"]
    """The contrastive sums."""
    constraints: Float[Array, " k"]
    """The constraints' sums."""
    dispersion: Float[Array, ""]
    observed: Int[Array, ""]
    """How many replies were seen."""
    phase: PhaseState


class Measurement(eqx.Module):
    """What a turn says about the conversation. Of an absent reply, `nis` and `step` are zero."""

    nis: Float[Array, "2"]
    """νᵀS⁻¹ν per channel: χ² with as many degrees of freedom as the channel has coordinates."""
    step: Float[Array, "2"]
    """The scaled log-likelihood ratio of default to identity, clipped: positive is towards the
    default; zero where there is no contrast."""
    contrast: Float[Array, "2"]
    departure: Float[Array, "2"]
    """T² of the averaged innovations."""
    constraints: Float[Array, " k"]
    drift_index: Float[Array, ""]
    """1 − exp(−T²/2d) of the worse channel, in [0, 1]; about 0.4 where all is well."""
    stability: Float[Array, ""]
    """1 minus the largest cumulative sum in units of its limit, in [0, 1]."""
    dispersion: Float[Array, ""]
    """How much replies differ from one to the next, in units of what the calibration expects."""
    phase: Int[Array, ""]
    """A `Phase`."""
    contrast_alarm: Bool[Array, "2"]
    departure_alarm: Bool[Array, "2"]
    constraint_alarm: Bool[Array, " k"]
    alarm: Bool[Array, ""]
    """Any of the three."""
    warn: Bool[Array, ""]
    """A cumulative sum above half its limit, or an alarm."""
    missing: Bool[Array, ""]
    """There was no reply to look at: prediction only."""


def start_monitor(parameters: MonitorParameters) -> MonitorState:
    """The state before the first turn: at the anchor, with the stationary variance."""
    p, zero = parameters, jnp.zeros((), parameters.dtype)
    return MonitorState(
        x=p.anchor,
        average=jnp.zeros_like(p.anchor),
        previous=p.anchor,
        variance=stationary_variance(p),
        contrast=jnp.zeros(2, p.dtype),
        constraints=jnp.zeros_like(p.violated),
        dispersion=zero + 1.0,
        observed=jnp.zeros((), jnp.int32),
        phase=start_phase(),
    )


def monitor_step(
    parameters: MonitorParameters, state: MonitorState, observation: Observation
) -> tuple[MonitorState, Measurement]:
    """The state and the measurement after one more turn; pure, for `jit`, `vmap` and `grad`.

    Prediction x⁻ = x* + a (x − x*); innovation ν = y − x⁻ of variance s = p⁻ + r; update with the
    gain w p⁻/s, where w = min(1, c √d/√NIS), variance in Joseph's form. Charts, per channel:
    m ← (1 − λ) m + λ w ν/√s and T² = ‖m‖² (2 − λ)/λ; g ← max(0, g + ℓ − slack) with
    ℓ = [D²(y; x*) − D²(y; μ₀)] / D²(x*; μ₀), clipped. Per constraint: the Bernoulli cumulative
    sum. Where a style is commanded, r grows and the two charts move the less, at full weight not
    at all. A missing reply changes no chart.

    Source: Bar-Shalom, Li & Kirubarajan (2001), §5.2 and 5.4; Lowry et al. (1992), Technometrics
    34, 46–53 (moving average); Page (1954), Biometrika 41, 100–115, and Reynolds & Stoumbos (1999),
    Journal of Quality Technology 31, 87–108 (cumulative sums).
    """
    p, y = parameters, jnp.asarray(observation.y, parameters.dtype)
    seen = jnp.asarray(observation.present, bool) & jnp.all(jnp.isfinite(y))
    y = jnp.where(seen, y, state.previous)
    free = 1.0 - jnp.clip(jnp.asarray(observation.commanded, p.dtype), 0.0, 1.0)
    style, content = (_channel_step(p, state, y, free, seen, index) for index in range(2))
    violations = jnp.asarray(observation.violations, p.dtype)
    rate = jnp.where(violations > 0, p.violated, p.kept)
    new = MonitorState(
        x=jnp.concatenate([style.x, content.x]),
        average=jnp.concatenate([style.average, content.average]),
        previous=y,
        variance=jnp.stack([style.variance, content.variance]),
        contrast=jnp.stack([style.contrast, content.contrast]),
        constraints=_summed(state.constraints, rate, p.constraint_limit, seen),
        dispersion=_dispersion(p, state, y, seen, free),
        observed=state.observed + seen.astype(jnp.int32),
        phase=state.phase,
    )
    nis, step, departure = (
        jnp.stack([getattr(style, name), getattr(content, name)])
        for name in ("nis", "step", "departure")
    )
    return _measured(p, new, nis, step, departure, ~seen)


class _ChannelStep(NamedTuple):
    """What one channel adds to the state and to the measurement."""

    x: Array
    average: Array
    variance: Array
    contrast: Array
    nis: Array
    step: Array
    departure: Array


def _channel_step(
    p: MonitorParameters, state: MonitorState, y: Array, free: Array, seen: Array, index: int
) -> _ChannelStep:
    """One channel's turn; `free` is how surely no style is commanded."""
    part = slice(0, p.style_size) if index == 0 else slice(p.style_size, None)
    anchor, y, size = p.anchor[part], y[part], max(p.sizes[index], 1)
    a = p.persistence[index]
    predicted = anchor + a * (state.x[part] - anchor)
    before = a * a * state.variance[index] + p.process_noise[index]
    noise = p.observation_noise[index] * (1.0 + p.commanded_inflation * (1.0 - free))
    spread = before + noise
    innovation = y - predicted
    nis = jnp.sum(innovation * innovation) / spread
    weight = jax.lax.rsqrt(jnp.maximum(1.0, nis / (p.robustness * p.robustness * size)))
    gain = weight * before / spread
    # Joseph's form for a multiple of the identity. No sum here has two products: which of the two
    # a processor rounds first would depend on the compiled program, and replays on it.
    short = 1.0 - weight
    after = before * ((noise + short * short * before) / spread)
    old = state.average[part]
    scaled = weight * jax.lax.rsqrt(spread) * innovation
    average = jnp.where(seen, old + p.memory * free * (scaled - old), old)
    step = _contrast_step(p, y, part)
    total, limit = state.contrast[index], p.contrast_limit[index]
    return _ChannelStep(
        x=jnp.where(seen, predicted + gain * innovation, predicted),
        average=average,
        variance=jnp.where(seen, after, before),
        contrast=_summed(total, free * (step - p.slack), limit, seen),
        nis=jnp.where(seen, nis, jnp.zeros_like(nis)),
        step=jnp.where(seen, step, jnp.zeros_like(step)),
        departure=jnp.sum(average * average) * ((2.0 - p.memory) / p.memory),
    )


def _contrast_step(p: MonitorParameters, y: Array, part: slice) -> Array:
    """ℓ of a reply, clipped; its mean is −1 with the identity and 1 without it."""
    apart = p.default[part] - p.anchor[part]
    distance = jnp.sum(apart * apart)
    towards = jnp.sum(apart * (y - p.anchor[part]))
    known = distance > 0
    ratio = (2.0 * towards - distance) / jnp.where(known, distance, jnp.ones_like(distance))
    return jnp.clip(jnp.where(known, ratio, jnp.zeros_like(ratio)), -p.clip, p.clip)


def _summed(total: Array, step: Array, limit: Array, seen: Array) -> Array:
    """A cumulative sum after one more step."""
    return jnp.where(seen, jnp.clip(total + step, 0.0, _CAP * limit), total)


def _dispersion(p: MonitorParameters, state: MonitorState, y: Array, seen: Array, free: Array):
    """The average squared step from reply to reply, over its expectation."""
    expected = 2.0 * ((1.0 - p.persistence) * stationary_variance(p) + p.observation_noise)
    moved = y - state.previous
    parts = moved[: p.style_size], moved[p.style_size :]
    style, content = (jnp.sum(part * part) / expected[k] for k, part in enumerate(parts))
    newest = (style + content) / max(sum(p.sizes), 1)
    change = p.dispersion_memory * free * (newest - state.dispersion)
    counts = seen & (state.observed > 0)
    return jnp.where(counts, state.dispersion + change, state.dispersion)


def _measured(
    p: MonitorParameters,
    state: MonitorState,
    nis: Array,
    step: Array,
    departure: Array,
    missing: Array,
) -> tuple[MonitorState, Measurement]:
    """The new state with its phase, and its measurement."""
    contrast = state.contrast / p.contrast_limit
    constraints = state.constraints / p.constraint_limit
    away = departure / p.departure_limit
    worst = jnp.max(contrast)
    sums = jnp.max(jnp.concatenate([contrast, constraints]))
    signs = Signs(sums, worst, jnp.max(away), state.dispersion / p.crystallised_below)
    phase = phase_step(state.phase, signs, state.observed < jnp.asarray(p.forming_turns, jnp.int32))
    alarms = contrast > 1.0, away > 1.0, constraints > 1.0
    alarm = jnp.any(jnp.concatenate(alarms))
    sizes = jnp.maximum(jnp.asarray(p.sizes, p.dtype), 1.0)
    measurement = Measurement(
        nis=nis,
        step=step,
        contrast=state.contrast,
        departure=departure,
        constraints=state.constraints,
        drift_index=-jnp.expm1(-0.5 * jnp.max(departure * (1.0 / sizes))),
        stability=jnp.clip(1.0 - sums, 0.0, 1.0),
        dispersion=state.dispersion,
        phase=phase.phase,
        contrast_alarm=alarms[0],
        departure_alarm=alarms[1],
        constraint_alarm=alarms[2],
        alarm=alarm,
        warn=alarm | (sums >= 0.5),
        missing=missing,
    )
    return eqx.tree_at(lambda state: state.phase, state, phase), measurement
