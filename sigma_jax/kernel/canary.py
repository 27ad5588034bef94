"""The decode canary: does what is being written still look like writing?

It watches every generated token for the signs of degeneration, folds them into one number and lets
the surprise monitor of the state VM judge its course. It changes nothing unless it is asked to.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._check import require_in
from ..stability import KalmanMonitor, MonitorState
from .sampling import NO_TOKEN

WINDOW = 24
"""Generated ids that repeats and echoes are looked for in."""
WEIGHTS = (0.6, 0.3, 0.1)
"""Of self-repeat, 3-gram echo and certainty in the degeneracy."""
ENTROPY_RATE = 0.15
"""Of the moving average of the entropy."""
ENTROPY_LIMIT = 2.5
"""Standard deviations of the entropy that count as a change."""
ENTROPY_WARMUP = 8
"""Tokens before the entropy's average is trusted."""
CALM = 0.2
"""The degeneracy below which an alarm ends."""


class Adaptation(eqx.Module):
    """What an alarm changes, per unit of degeneracy. Every number is one for all, or one a row.

    The alarm starts at a surprising rise of the degeneracy and ends when that has fallen below
    0.2. Meanwhile, with the degeneracy d of the token before: the repetition penalty is multiplied
    by 1 + `repetition_penalty` · d, d · `exit_threshold` is added to the threshold of a Q-exit
    (towards full depth), and d · `stop_bias` to the logits of the stop ids. All zero, the default,
    only observes, and changes no bit.

    **Raises** `ValueError` for a number below zero.
    """

    repetition_penalty: float | Float[Array, " batch"] = 0.0
    exit_threshold: float | Float[Array, " batch"] = 0.0
    stop_bias: float | Float[Array, " batch"] = 0.0

    def __check_init__(self):
        for name in ("repetition_penalty", "exit_threshold", "stop_bias"):
            require_in(name, getattr(self, name), 0.0)


class CanarySigns(NamedTuple):
    """What the canary saw at each token."""

    repeat: Float[Array, "*batch"]
    """Self-repeat: how many of the last 24 generated ids occur earlier among them, over 24."""
    echo: Float[Array, "*batch"]
    """1 if the three newest ids occur, in this order, earlier among the last 24, else 0."""
    margin: Float[Array, "*batch"]
    """Probability of the likeliest token minus that of the second."""
    entropy_change: Float[Array, "*batch"]
    """The entropy's distance from its moving average, in moving standard deviations."""
    degeneracy: Float[Array, "*batch"]
    """0.6 · repeat + 0.3 · echo + 0.1 · certainty, in [0, 1]; certainty is the margin where the
    entropy has dropped by 2.5 standard deviations, else 0."""
    surprise: Float[Array, "*batch"]
    """The normalised innovation squared of the degeneracy."""
    flag: Bool[Array, "*batch"]
    """Whether that is more than the monitor expects of a degeneracy that drifts slowly."""


class CanaryState(NamedTuple):
    """What the canary remembers of each row."""

    recent: Int[Array, "batch window"]
    entropy_mean: Float[Array, " batch"]
    entropy_variance: Float[Array, " batch"]
    seen: Int[Array, " batch"]
    monitor: MonitorState
    degeneracy: Float[Array, " batch"]
    alarm: Bool[Array, " batch"]


def start_canary(rows: int) -> CanaryState:
    """The state of `rows` rows that have generated nothing."""
    zero = jnp.zeros(rows, jnp.float32)
    one = _monitor().start(np.zeros(1, np.float32), 0.01 * np.eye(1, dtype=np.float32))
    monitor = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (rows, *leaf.shape)), one)
    return CanaryState(
        recent=jnp.full((rows, WINDOW), NO_TOKEN, jnp.int32),
        entropy_mean=zero,
        entropy_variance=zero,
        seen=jnp.zeros(rows, jnp.int32),
        monitor=monitor,
        degeneracy=zero,
        alarm=jnp.zeros(rows, bool),
    )


def observe(
    state: CanaryState, logits: Float[Array, "batch vocabulary"], ids: Int[Array, " batch"]
) -> tuple[CanaryState, CanarySigns]:
    """Look at the token `ids` that was drawn in each row, and at the model's own `logits`.

    Source: Σ₀-K1, kernel (decode canary). What it leaves open is settled in `CanarySigns`.
    """
    recent = jnp.concatenate([state.recent[:, 1:], ids[:, None]], axis=1)
    repeat, echo = self_repeat(recent), trigram_echo(recent)
    logs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    top = jnp.exp(jax.lax.top_k(logs, 2)[0])
    margin = top[:, 0] - top[:, 1]
    entropy = -jnp.sum(jnp.exp(logs) * logs, axis=-1)

    started = state.seen > 0
    offset = jnp.where(started, entropy - state.entropy_mean, 0.0)
    spread = jnp.sqrt(state.entropy_variance + 1e-6)
    change = jnp.where(state.seen >= ENTROPY_WARMUP, offset / spread, 0.0)
    mean = jnp.where(started, state.entropy_mean + ENTROPY_RATE * offset, entropy)
    variance = (1.0 - ENTROPY_RATE) * (state.entropy_variance + ENTROPY_RATE * offset**2)

    certainty = jnp.where(change <= -ENTROPY_LIMIT, margin, 0.0)
    degeneracy = WEIGHTS[0] * repeat + WEIGHTS[1] * echo + WEIGHTS[2] * certainty
    monitor, surprise, flag, rose = jax.vmap(_score)(state.monitor, degeneracy)
    alarm = (flag & rose) | (state.alarm & (degeneracy >= CALM))
    signs = CanarySigns(repeat, echo, margin, change, degeneracy, surprise, flag)
    return CanaryState(recent, mean, variance, state.seen + 1, monitor, degeneracy, alarm), signs


def self_repeat(recent: Int[Array, "batch window"]) -> Float[Array, " batch"]:
    """The share of `recent` that is ids which occur earlier in it (`NO_TOKEN` never does)."""
    window = recent.shape[1]
    same = recent[:, :, None] == recent[:, None, :]
    earlier = np.tri(window, k=-1, dtype=bool)
    again = (same & earlier).any(axis=-1) & (recent != NO_TOKEN)
    return again.sum(axis=1).astype(jnp.float32) / window


def trigram_echo(recent: Int[Array, "batch window"]) -> Float[Array, " batch"]:
    """1 where the last three ids of `recent` occur earlier in it, in this order, else 0."""
    starts = recent.shape[1] - 3
    first, second, third = (recent[:, i : i + starts] for i in range(3))
    newest = recent[:, -3:]
    match = (first == newest[:, :1]) & (second == newest[:, 1:2]) & (third == newest[:, 2:])
    return (match.any(axis=1) & (newest[:, 0] != NO_TOKEN)).astype(jnp.float32)


def _monitor() -> KalmanMonitor:
    """Of a degeneracy that drifts without a direction, by about 0.02 a token, and reads to ±0.1.

    So a repeat more or less passes, and an echo that sets in, 0.3 at once, is a surprise.
    """
    one = jnp.ones((1, 1), jnp.float32)
    return KalmanMonitor(
        drift=lambda x, u: jnp.zeros_like(x),
        jacobian=lambda x, u: jnp.zeros((1, 1), x.dtype),
        diffusion=lambda x: jnp.full_like(x, 0.02),
        dt=1.0,
        observation_matrix=one,
        observation_noise=0.01 * one,
    )


def _score(
    state: MonitorState, degeneracy: Float[ArrayLike, ""]
) -> tuple[MonitorState, Array, Array, Array]:
    """The monitor's next state, the surprise, the flag, and whether the degeneracy rose."""
    observation = jnp.asarray(degeneracy)[None]
    control = jnp.zeros(0, observation.dtype)
    after, surprise, _, flag = _monitor().update(state, control, observation)
    return after, surprise, flag, observation[0] > state.mean[0]
