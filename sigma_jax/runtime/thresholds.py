"""Limits of the charts, from simulated conversations that keep their identity."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy import stats

from .monitor import Observation, monitor_step, start_monitor
from .monitor_parameters import MonitorParameters, spread_over, stationary_variance
from .recalibrations import Recalibrations

_ROWS = 500  # conversations simulated at a time
_RUNS = 20_000  # of one constraint's sum
_MARGIN = 1 + 1e-4  # sums of the same steps in another order differ by round-off: none may pass


class NullModel(NamedTuple):
    """What is known, and how surely, of conversations that keep their identity."""

    channels: tuple[Recalibrations, Recalibrations]
    violated: Float[np.ndarray, " k"]
    """In how many of the replies checked each constraint was violated."""
    checked: float


class Limits(NamedTuple):
    """The limits, and the share of simulated conversations in which anything passes its own."""

    contrast: Float[np.ndarray, "2"]
    departure: Float[np.ndarray, "2"]
    constraints: Float[np.ndarray, " k"]
    rate: float


def simulated_limits(
    parameters: MonitorParameters,
    null: NullModel,
    *,
    false_alarm: float,
    horizon: int,
    replicas: int,
    key: Key[Array, ""],
) -> Limits:
    """Limits that all charts together pass in at most `false_alarm` of the conversations.

    Every replica is a conversation of `horizon` turns watched by another calibration of as many
    replies (`recalibrations`), so that the limits allow for what so few can tell. The charts share
    the alarms equally: each passes its limit in the same number of replicas.
    """
    rate_key, key = jax.random.split(key)
    rates = jnp.asarray(_rates(null, replicas, rate_key), parameters.dtype)
    keys = jax.random.split(key, replicas)
    # Several conversations after each calibration, which takes longer to fit anew.
    channels = jax.tree.map(
        lambda part: jnp.asarray(np.resize(part, (replicas, *part.shape[1:])), parameters.dtype),
        null.channels,
    )
    maxima = np.asarray(_maxima(parameters, horizon, channels, rates, keys), float)
    on = np.ones(maxima.shape[1], bool)
    on[:2] = np.asarray(parameters.contrast_limit) < np.inf
    on[2:4] = np.array(parameters.sizes) > 0
    ordered = -np.sort(-maxima[:, on], axis=0)
    limits, rate = np.full(maxima.shape[1], np.inf), 0.0
    for allowed in range(replicas):
        above = np.any(maxima[:, on] > ordered[allowed], axis=1).sum()
        if allowed and above + 1 > false_alarm * (replicas + 1):
            break
        limits[on], rate = ordered[allowed], above / replicas
    # One reply is never enough, however well the classes are told apart.
    limits[:2] = np.maximum(limits[:2], float(parameters.clip - parameters.slack))
    limits[4:] = np.maximum(limits[4:], np.asarray(parameters.violated)) * _MARGIN
    return Limits(limits[:2], limits[2:4], limits[4:], rate)


def violation_limit(
    steps: tuple[float, float], rate: float, *, false_alarm: float, horizon: int
) -> float:
    """The limit of one constraint's sum that is passed in `false_alarm` of conversations.

    **Arguments:** `steps` of the sum at a violation and otherwise; `rate`, the true share of
    replies that violate the constraint.
    """
    random = np.random.default_rng(0)
    total, largest = np.zeros(_RUNS), np.zeros(_RUNS)
    for _ in range(horizon):
        total = np.maximum(0.0, total + np.where(random.random(_RUNS) < rate, *steps))
        largest = np.maximum(largest, total)
    passed = np.sort(largest)[::-1][int(false_alarm * _RUNS)]
    return max(float(passed), steps[0]) * _MARGIN


def _rates(null: NullModel, replicas: int, key) -> Float[np.ndarray, "r k"]:
    """True rates of violation, as Jeffreys' posterior has them after the replies checked."""
    levels = np.asarray(jax.random.uniform(key, (replicas, len(null.violated))), float)
    kept = null.checked - null.violated
    return stats.beta.ppf(levels, null.violated + 0.5, kept + 0.5)


@eqx.filter_jit
def _maxima(parameters: MonitorParameters, horizon: int, channels, rates, keys):
    """The largest value of every chart in each replica: `[r, 4 + k]`."""

    def replica(drawn):
        return _replica(parameters, horizon, *drawn)

    return jax.lax.map(replica, (channels, rates, keys), batch_size=_ROWS)


def _replica(parameters: MonitorParameters, horizon: int, channels, rate, key) -> Array:
    """The largest values in one conversation watched after one calibration."""
    p, dtype = parameters, parameters.dtype
    watched = _unlimited(p, jnp.concatenate([channel.default for channel in channels]))
    # Of the innovations' form of the null model, which needs one draw a turn and not two.
    before = p.persistence**2 * _settled(p) + p.process_noise
    spread = before + p.observation_noise
    size, gain = spread_over(p, jnp.sqrt(spread)), spread_over(p, before / spread)
    persistence = spread_over(p, p.persistence)

    def turn(carry, key):
        state, expected, largest = carry
        noise_key, violation_key = jax.random.split(key)
        innovation = size * jax.random.normal(noise_key, p.anchor.shape, dtype)
        white = expected + innovation
        parts = white[: p.style_size], white[p.style_size :]
        y = [each.factor @ part + each.offset for each, part in zip(channels, parts, strict=True)]
        violations = jax.random.uniform(violation_key, rate.shape, dtype) < rate
        observation = Observation(p.anchor + jnp.concatenate(y), True, 0.0, violations)
        state, m = monitor_step(watched, state, observation)
        now = jnp.concatenate([m.contrast, m.departure, m.constraints])
        expected = persistence * (expected + gain * innovation)
        return (state, expected, jnp.maximum(largest, now)), None

    start_key, turns_key = jax.random.split(key)
    known = spread_over(p, jnp.sqrt(stationary_variance(p) - before))
    expected = known * jax.random.normal(start_key, p.anchor.shape, dtype)
    start = start_monitor(watched), expected, jnp.zeros(4 + rate.shape[0], dtype)
    return jax.lax.scan(turn, start, jax.random.split(turns_key, horizon))[0][2]


def _unlimited(p: MonitorParameters, default: Array) -> MonitorParameters:
    """Parameters with this default and limits out of reach: only the largest values count here."""
    default = jnp.where(spread_over(p, p.contrast_limit) < jnp.inf, default, 0.0)
    far = jnp.asarray(1e6, p.dtype)
    limits = jnp.broadcast_to(far, 2), jnp.broadcast_to(far, 2), jnp.full_like(p.violated, far)
    return eqx.tree_at(
        lambda p: (p.default, p.contrast_limit, p.departure_limit, p.constraint_limit),
        p,
        (p.anchor + default, *limits),
    )


def _settled(p: MonitorParameters) -> Float[Array, "2"]:
    """The filter's variance after an update, when it no longer changes."""
    a, q, r = p.persistence, p.process_noise, p.observation_noise

    def update(variance, _):
        before = a**2 * variance + q
        return before * r / (before + r), None

    return jax.lax.scan(update, stationary_variance(p), None, length=60)[0]
