"""The monitor: a Kalman filter of the replies, and charts of how they leave the identity."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._check import require_in
from .phases import PhaseState, Signs, phase_step, start_phase

CHANNELS = ("style", "content")
"""The parts of an observation, in this order; no statistic mixes them."""

_CAP = 2.0  # a cumulative sum stays below so many limits, so that recovery is seen soon
_TINY_SHARE = 1e-3  # of a style command: below it, nothing is commanded


class MonitorParameters(eqx.Module):
    """All that a monitor knows before a conversation, in whitened coordinates y = W (φ − m).

    Per channel: a reply is y = x + v, v of variance `observation_noise`; the state x returns to the
    anchor, x⁺ = x* + a (x − x*) + w, w of variance `process_noise`, the same in every coordinate
    of a channel.

    **Raises** `ValueError` for shapes that do not match or values out of range.
    """

    anchor: Float[Array, " d"]
    """x*, where replies with the identity are."""
    default: Float[Array, " d"]
    """μ₀, where replies of the same model without the identity are."""
    persistence: Float[Array, "2"]
    """a, in [0, 1)."""
    process_noise: Float[Array, "2"]
    observation_noise: Float[Array, "2"]
    contrast_limit: Float[Array, "2"]
    """Of the contrastive sums; infinite where there is no contrast to see."""
    departure_limit: Float[Array, "2"]
    """Of T²."""
    constraint_limit: Float[Array, " k"]
    violated: Float[Array, " k"]
    """ln(p₁/p₀), the step of a constraint's sum at a violation."""
    kept: Float[Array, " k"]
    """ln((1 − p₁)/(1 − p₀)), its step otherwise."""
    slack: float | Float[Array, ""] = 0.25
    """What the contrastive sums lose every turn; their steps are within ±`clip`."""
    clip: float | Float[Array, ""] = 1.5
    memory: float | Float[Array, ""] = 0.2
    """λ of the moving average of innovations, in (0, 1]."""
    robustness: float | Float[Array, ""] = 1.5
    """c: an innovation longer than c √d standard deviations counts as one of that length."""
    commanded_inflation: float | Float[Array, ""] = 24.0
    """The observation noise is 1 + this times as large where a style is commanded."""
    dispersion_memory: float | Float[Array, ""] = 0.05
    """Weight of the newest turn in the dispersion: about 20 turns count."""
    crystallised_below: float | Float[Array, ""] = 0.35
    forming_turns: int | Int[Array, ""] = 3
    """No phase is read off fewer observations."""
    style_size: int = eqx.field(static=True, default=14)
    """How many of the d coordinates are the style's; they come first."""

    def __check_init__(self):
        size, constraints = np.shape(self.anchor), np.shape(self.violated)
        if len(size) != 1 or np.shape(self.default) != size or not 0 <= self.style_size <= size[0]:
            raise ValueError(
                "anchor and default must be [d], and style_size in [0, d]; got shapes "
                f"{size} and {np.shape(self.default)}, and {self.style_size}."
            )
        for name in ("constraint_limit", "kept"):
            if np.shape(getattr(self, name)) != constraints or len(constraints) != 1:
                raise ValueError(
                    f"violated, kept and constraint_limit must be [k]; got {constraints} and, of "
                    f"{name}, {np.shape(getattr(self, name))}."
                )
        for name in ("process_noise", "observation_noise", "contrast_limit", "departure_limit"):
            require_in(name, getattr(self, name), 0.0, open_low=True)
        require_in("persistence", self.persistence, 0.0, 1.0 - 1e-6)
        require_in("memory", self.memory, 0.0, 1.0, open_low=True)
        require_in("robustness", self.robustness, 0.0, open_low=True)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many coordinates the style and the content have."""
        return self.style_size, self.anchor.shape[0] - self.style_size

    @property
    def dtype(self):
        """The type of the state."""
        return self.anchor.dtype


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


def stationary_variance(parameters: MonitorParameters) -> Float[Array, "2"]:
    """q/(1 − a²): the variance of the state's own motion about the anchor."""
    return parameters.process_noise / (1.0 - parameters.persistence**2)


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
    parts = [_channel_step(p, state, y, free, seen, index) for index in range(2)]
    x, average, variance, contrast, nis, step, departure = (
        tuple(part[place] for part in parts) for place in range(7)
    )
    violations = jnp.asarray(observation.violations, p.dtype)
    rate = jnp.where(violations > 0, p.violated, p.kept)
    sums = _summed(state.constraints, rate, p.constraint_limit, seen)
    dispersion = _dispersion(p, state, y, seen, free)
    new = MonitorState(
        x=jnp.concatenate(x),
        average=jnp.concatenate(average),
        previous=y,
        variance=jnp.stack(variance),
        contrast=jnp.stack(contrast),
        constraints=sums,
        dispersion=dispersion,
        observed=state.observed + seen.astype(jnp.int32),
        phase=state.phase,
    )
    return _measured(p, new, jnp.stack(nis), jnp.stack(step), jnp.stack(departure), ~seen)


def _channel_step(p: MonitorParameters, state: MonitorState, y, free, seen, index: int):
    """x, average, variance, sum, NIS, step of the sum and T² of one channel."""
    part = slice(0, p.style_size) if index == 0 else slice(p.style_size, None)
    anchor, y, size = p.anchor[part], y[part], max(p.sizes[index], 1)
    a = p.persistence[index]
    predicted = anchor + a * (state.x[part] - anchor)
    before = a * a * state.variance[index] + p.process_noise[index]
    noise = p.observation_noise[index] * (1.0 + p.commanded_inflation * (1.0 - free))
    spread = before + noise
    innovation = y - predicted
    nis = _squared_norm(innovation) / spread
    weight = jax.lax.rsqrt(jnp.maximum(1.0, nis / (p.robustness * p.robustness * size)))
    gain = weight * before / spread
    # Joseph's form for a multiple of the identity: a sum of positive terms, and one product a sum.
    short = 1.0 - weight
    after = before * ((noise + short * short * before) / spread)
    old = state.average[part]
    scaled = weight * jax.lax.rsqrt(spread) * innovation
    average = jnp.where(seen, old + p.memory * free * (scaled - old), old)
    departure = _squared_norm(average) * ((2.0 - p.memory) / p.memory)
    step = _contrast_step(p, y, part)
    contrast = _summed(
        state.contrast[index], free * (step - p.slack), p.contrast_limit[index], seen
    )
    return (
        jnp.where(seen, predicted + gain * innovation, predicted),
        average,
        jnp.where(seen, after, before),
        contrast,
        jnp.where(seen, nis, 0.0),
        jnp.where(seen, step, 0.0),
        departure,
    )


def _contrast_step(p: MonitorParameters, y: Array, part: slice) -> Array:
    """ℓ of a reply, clipped; it is −1 on average with the identity and 1 without it."""
    apart = p.default[part] - p.anchor[part]
    distance = _squared_norm(apart)
    towards = _sum(apart * (y - p.anchor[part]))
    ratio = (2.0 * towards - distance) / jnp.where(distance > 0, distance, 1.0)
    return jnp.where(distance > 0, jnp.clip(ratio, -p.clip, p.clip), 0.0)


def _summed(total: Array, step: Array, limit: Array, seen: Array) -> Array:
    """A cumulative sum after one more step."""
    ceiling = _CAP * limit
    return jnp.where(seen, jnp.clip(total + step, 0.0, ceiling), total)


def _dispersion(p: MonitorParameters, state: MonitorState, y, seen, free) -> Array:
    """The average squared step from reply to reply, over its expectation."""
    weight = p.dispersion_memory * free
    stationary = stationary_variance(p)
    expected = 2.0 * ((1.0 - p.persistence) * stationary + p.observation_noise)
    moved = y - state.previous
    total = sum(
        _squared_norm(part) / expected[index]
        for index, part in enumerate((moved[: p.style_size], moved[p.style_size :]))
    )
    newest = total / max(sum(p.sizes), 1)
    dispersion = state.dispersion + weight * (newest - state.dispersion)
    return jnp.where(seen & (state.observed > 0), dispersion, state.dispersion)


def _measured(p: MonitorParameters, state: MonitorState, nis, step, departure, missing):
    """The measurement of the new state, and that state with its phase."""
    contrast = state.contrast / p.contrast_limit
    constraints = state.constraints / p.constraint_limit
    away = departure / p.departure_limit
    worst = jnp.max(contrast)
    sums = jnp.max(jnp.concatenate([contrast, constraints]))
    signs = Signs(sums, worst, jnp.max(away), state.dispersion / p.crystallised_below)
    phase = phase_step(state.phase, signs, state.observed < p.forming_turns)
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


def _squared_norm(vector: Array) -> Array:
    return _sum(vector * vector)


def _sum(products: Array) -> Array:
    return jnp.sum(products)
