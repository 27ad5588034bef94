"""What measurement noise does to phase entry: first passage, not a per-sample error."""

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jaxtyping import Array, ArrayLike, Float

from .._check import require_in


def printed_phase_error(
    sigma: ArrayLike,
    delta_rel: ArrayLike,
    noise: ArrayLike,
    sigma_critical: ArrayLike = 0.15,
    delta_star: ArrayLike = 0.55,
) -> Float[Array, "..."]:
    """The paper's error rate Φ(−|σ − σ_c|/ν) + Φ(−|δ_rel − δ*|/ν) (Eq. 50), as printed.

    It bounds the probability that *one* assignment is wrong, and reaches 1 at both thresholds,
    where the true value is 3/4. What matters for a phase entry is `first_passage`.
    """
    off = norm.cdf(-jnp.abs(jnp.asarray(sigma) - sigma_critical) / noise)
    return off + norm.cdf(-jnp.abs(jnp.asarray(delta_rel) - delta_star) / noise)


def first_passage(
    margin: Float[Array, " samples"], noise: ArrayLike, dwell: int = 1
) -> Float[Array, " samples"]:
    """The probability that a noisy trigger first fires at each sample.

    The trigger fires at sample n if margin + noise·ξ, ξ independent standard normal, has been
    positive for `dwell` samples in a row up to and including n, for the first time. Exact: the
    length of the current run is a Markov chain with `dwell` as absorbing state.

    **Arguments:** `margin`, the noise-free distance beyond the threshold at each sample;
    `noise`, its standard deviation, in the margin's unit (or one a sample).

    **Returns** probabilities that sum to at most one; the rest never fires.

    **Raises** `ValueError` for noise that is not positive or a dwell below one.
    """
    require_in("noise", noise, 0.0, open_low=True)
    if dwell < 1:
        raise ValueError(f"dwell must be at least 1 sample; got {dwell}.")
    above = norm.cdf(jnp.asarray(margin) / noise)

    def step(runs, probability):
        fired = runs[-1] * probability
        alive = jnp.sum(runs) * (1.0 - probability)
        return jnp.concatenate([alive[None], runs[:-1] * probability]), fired

    start = jnp.zeros(dwell, above.dtype).at[0].set(1.0)
    return jax.lax.scan(step, start, above)[1]


def passage_quantile(passage: Float[Array, " samples"], share: float = 0.5) -> int | None:
    """The first sample by which the trigger has fired with probability `share`; None if never."""
    reached = jnp.cumsum(passage) >= share
    return int(jnp.argmax(reached)) if bool(reached[-1]) else None


def premature_probability(
    passage: Float[Array, " samples"], margin: Float[Array, " samples"]
) -> Float[Array, ""]:
    """The probability that noise fires the trigger before the noise-free margin turns positive."""
    first_true = jnp.where(jnp.any(margin > 0), jnp.argmax(margin > 0), margin.size)
    return jnp.sum(jnp.where(jnp.arange(margin.size) < first_true, passage, 0.0))
