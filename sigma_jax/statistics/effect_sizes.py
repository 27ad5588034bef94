"""How large a difference of two means is, and how many observations it takes to see it."""

import math

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy import special

from .._check import require_in
from .results import NORMAL_95, EffectSize
from .samples import no_variance, require_alternative, require_observations, sample, variance

LARGEST_SAMPLE = 10**9


def cohens_d(a: Float[ArrayLike, " n"], b: Float[ArrayLike, " m"]) -> EffectSize:
    """Difference of two means in units of their pooled standard deviation.

    The estimate is unbiased (Hedges' exact correction: 0.6 % smaller than the plain ratio with 64
    in a group). The interval inverts the noncentral t, so it is exact for normal samples with
    equal variances.

    **Raises** `ValueError` for NaN or infinite observations, fewer than two in a group, or no
    variance in either group.

    Source: Hedges (1981), J. Educational Statistics 6, 107–128; Steiger & Fouladi (1997).
    """
    a, b = sample("a", a), sample("b", b)
    require_observations("cohens_d", 2, a, b)
    freedom = a.size + b.size - 2
    pooled = ((a.size - 1) * variance(a) + (b.size - 1) * variance(b)) / freedom
    if pooled == 0.0:
        raise no_variance("all observations of each group")
    difference = float(a.mean() - b.mean()) / math.sqrt(pooled)
    error = math.sqrt(1.0 / a.size + 1.0 / b.size)
    correction = math.exp(
        special.gammaln(0.5 * freedom) - special.gammaln(0.5 * (freedom - 1))
    ) / math.sqrt(0.5 * freedom)
    low, high = _noncentrality(difference / error, freedom)
    return EffectSize(correction * difference, low * error, high * error)


def _noncentrality(t: float, freedom: int) -> tuple[float, float]:
    """The 95 % interval of a noncentral t's noncentrality."""
    if abs(t) < 1000.0:
        low, high = (special.nctdtrinc(freedom, p, t) for p in (0.975, 0.025))
        return float(low), float(high)
    # SciPy's inverse loses digits and time far out. There the errors of the difference and of the
    # standard deviation combine as a root of squares.
    ratio = np.sqrt(special.chdtri(freedom, [0.975, 0.025]) / freedom)
    short, long = np.hypot(abs(t) * (ratio - 1.0), NORMAL_95)
    below, above = (short, long) if t > 0.0 else (long, short)
    return float(t - below), float(t + above)


def power_of_t(effect: float, n: int, *, alpha: float, alternative: str = "two-sided") -> float:
    """Probability that Student's t test of two groups of `n` each rejects at level `alpha`.

    **Arguments:** `effect`, the true difference of means in standard deviations; `alpha`, after
    correction for multiple tests, if any; `alternative` as in `welch`.

    **Raises** `ValueError` for fewer than two in a group, alpha outside (0, 1), or an effect beyond
    a thousand standard deviations.

    Source: Cohen, *Statistical Power Analysis*, 2nd ed. (1988), ch. 2.
    """
    _check_design(effect, alpha, alternative)
    require_in("n", n, 2)
    freedom, shift = 2 * n - 2, effect * math.sqrt(0.5 * n)
    tail = 0.5 * alpha if alternative == "two-sided" else alpha
    critical = special.stdtrit(freedom, 1.0 - tail)
    above = 1.0 - special.nctdtr(freedom, shift, critical)
    below = 1.0 - special.nctdtr(freedom, -shift, critical)
    power = {"two-sided": above + below, "greater": above, "less": below}[alternative]
    return float(np.clip(power, 0.0, 1.0))


def sample_size_of_t(
    effect: float, *, alpha: float, power: float = 0.8, alternative: str = "two-sided"
) -> int:
    """Smallest number in each of two groups with which `power_of_t` reaches `power`.

    **Raises** `ValueError` for an effect of zero or on the other side of the alternative, alpha or
    power outside (0, 1), or an effect so small that a billion would not do.
    """
    _check_design(effect, alpha, alternative)
    require_in("power", power, 0.0, 1.0 - 1e-12, open_low=True)
    toward = -effect if alternative == "less" else effect
    if effect == 0.0 or (alternative != "two-sided" and toward < 0.0):
        raise ValueError(f"no sample shows an effect of {effect:g} to be {alternative}.")

    def enough(n):
        return power_of_t(effect, n, alpha=alpha, alternative=alternative) >= power

    few, many = 1, 2
    while not enough(many):
        few, many = many, 2 * many
        if many > LARGEST_SAMPLE:
            raise ValueError(f"an effect of {effect:g} needs more than {LARGEST_SAMPLE:g} a group.")
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if enough(middle) else (middle, many)
    return many


def _check_design(effect, alpha, alternative):
    require_alternative(alternative)
    require_in("effect", effect, -1000.0, 1000.0)
    require_in("alpha", alpha, 0.0, 1.0 - 1e-12, open_low=True)
