"""From logits to a token: penalties, temperature, truncation, a draw."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from .._check import require_in

NO_TOKEN = -1
"""Stands in a window of recent ids where there was no token yet."""


class Sampling(eqx.Module):
    """How the next token is drawn. Every number is one for all rows, or one a row.

    Applied in this order:

    1. `repetition_penalty` r ≥ 1: logits of recent tokens are divided by r where positive and
       multiplied where negative. `presence_penalty` is taken off the logits of recent tokens once,
       `frequency_penalty` as often as they occurred. Recent are the last `repeat_last_n` tokens,
       the prompt included.
    2. `temperature`: what logits are divided by; 0 is greedy, which ends here.
    3. `top_k`: only the k likeliest tokens (ties with the last included; 0 is all).
    4. `top_p`: of those, the fewest that hold a share p of the probability (1 is all).
    5. `min_p`: of those, the ones with at least p times the probability of the likeliest.

    **Raises** `ValueError` for a number out of range.

    Source: Keskar et al. (arXiv 1909.05858), section 4.1, repetition; Holtzman et al. (arXiv
    1904.09751), top-p; Nguyen et al. (arXiv 2407.01082), min-p.
    """

    temperature: float | Float[Array, " batch"] = 0.0
    top_k: int | Int[Array, " batch"] = 0
    top_p: float | Float[Array, " batch"] = 1.0
    min_p: float | Float[Array, " batch"] = 0.0
    repetition_penalty: float | Float[Array, " batch"] = 1.0
    presence_penalty: float | Float[Array, " batch"] = 0.0
    frequency_penalty: float | Float[Array, " batch"] = 0.0
    repeat_last_n: int | Int[Array, " batch"] = 64

    def __check_init__(self):
        require_in("temperature", self.temperature, 0.0)
        require_in("top_k", self.top_k, 0)
        require_in("top_p", self.top_p, 0.0, 1.0, open_low=True)
        require_in("min_p", self.min_p, 0.0, 1.0)
        require_in("repetition_penalty", self.repetition_penalty, 0.0, open_low=True)
        require_in("presence_penalty", self.presence_penalty, -jnp.inf)
        require_in("frequency_penalty", self.frequency_penalty, -jnp.inf)
        require_in("repeat_last_n", self.repeat_last_n, 0)


def sample(
    keys: Key[Array, " batch"],
    logits: Float[Array, "batch vocabulary"],
    sampling: Sampling,
    recent: Int[Array, "batch window"],
) -> Int[Array, " batch"]:
    """Draw one token a row.

    A row's token depends on its own key, logits, numbers and recent tokens only, whatever rows
    stand beside it. Nothing is sorted while every row is greedy or untruncated.

    **Arguments:** `keys`, one a row; `recent`, the last ids, newest at the end, `NO_TOKEN` where
    there is none. It bounds `repeat_last_n`.
    """
    rows = logits.shape[0]
    logits = _penalised(logits.astype(jnp.float32), sampling, recent)
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    temperature = _real(sampling.temperature, rows)
    draws = temperature > 0.0

    def drawn() -> Int[Array, " batch"]:
        scaled = logits / jnp.where(draws, temperature, 1.0)[:, None]
        allowed = scaled >= _cutoff(scaled, sampling, draws)[:, None]
        kept = jnp.where(allowed, scaled, -jnp.inf)
        ids = jax.vmap(jax.random.categorical)(keys, kept).astype(jnp.int32)
        return jnp.where(draws, ids, greedy)

    return jax.lax.cond(draws.any(), drawn, lambda: greedy)


def _penalised(
    logits: Float[Array, "batch vocabulary"], sampling: Sampling, recent: Int[Array, "batch window"]
) -> Float[Array, "batch vocabulary"]:
    """Logits less the penalties for the tokens in `recent`."""
    rows, vocabulary = logits.shape
    window = recent.shape[1]
    ages = window - jnp.arange(window, dtype=jnp.int32)
    counted = (ages <= _whole(sampling.repeat_last_n, rows)[:, None]) & (recent >= 0)
    where = jnp.where(counted, recent, vocabulary)  # beyond the last: dropped
    row = jnp.arange(rows, dtype=jnp.int32)[:, None]
    counts = jnp.zeros(logits.shape, jnp.float32).at[row, where].add(1.0, mode="drop")
    ratio = _real(sampling.repetition_penalty, rows)[:, None]
    repeated = jnp.where(logits > 0.0, logits / ratio, logits * ratio)
    seen = counts > 0.0
    presence = _real(sampling.presence_penalty, rows)[:, None]
    frequency = _real(sampling.frequency_penalty, rows)[:, None]
    lowered = repeated - presence - frequency * counts
    return jnp.where(seen, lowered, logits)


def _cutoff(
    scaled: Float[Array, "batch vocabulary"], sampling: Sampling, draws: Bool[Array, " batch"]
) -> Float[Array, " batch"]:
    """The least logit that truncation leaves in each row."""
    rows, vocabulary = scaled.shape
    top_k = _whole(sampling.top_k, rows)
    top_k = jnp.where(top_k > 0, jnp.minimum(top_k, vocabulary), vocabulary)
    top_p = _real(sampling.top_p, rows)
    truncates = draws & ((top_k < vocabulary) | (top_p < 1.0))

    def ranked() -> Float[Array, " batch"]:
        falling = -jnp.sort(-scaled, axis=-1)
        last = jnp.take_along_axis(falling, top_k[:, None] - 1, axis=-1)
        weights = jax.nn.softmax(jnp.where(falling >= last, falling, -jnp.inf), axis=-1)
        before = jnp.cumsum(weights, axis=-1) - weights
        kept = (falling >= last) & ((before < top_p[:, None]) | (top_p[:, None] >= 1.0))
        least = jnp.min(jnp.where(kept, falling, jnp.inf), axis=-1)
        return jnp.where(truncates, least, -jnp.inf)

    rank = jax.lax.cond(truncates.any(), ranked, lambda: jnp.full_like(scaled[:, 0], -jnp.inf))
    likeliest = scaled.max(axis=-1)
    return jnp.maximum(rank, likeliest + jnp.log(_real(sampling.min_p, rows)))


def _real(number: ArrayLike, rows: int) -> Float[Array, " batch"]:
    return jnp.broadcast_to(jnp.asarray(number).astype(jnp.float32), (rows,))


def _whole(number: ArrayLike, rows: int) -> Int[Array, " batch"]:
    return jnp.broadcast_to(jnp.asarray(number).astype(jnp.int32), (rows,))
