"""Tests and their power for a few seeds, every one of them in every condition."""

import numpy as np
from jaxtyping import Float
from scipy import special

from ..statistics import FalsePositiveRate, TestResult, false_positive_rate, paired
from .nulls import NULL_ALPHA
from .registration import FAMILY_ALPHA, Picture, Verdict

Seeds = Float[np.ndarray, " seeds"]


def rise(difference: Seeds) -> TestResult:
    """Is the mean of the seeds' differences above zero? Student's t, one-sided.

    Where all differences are equal there is no t: by the exact test of signs, p is then one
    half to the power of their number if they are positive, and 1 if not.
    """
    difference = np.asarray(difference, float)
    if np.ptp(difference) > 1e-12:
        return paired(difference, np.zeros(difference.size), alternative="greater")
    estimate, number = float(difference.mean()), difference.size
    p_value = 0.5**number if estimate > 0.0 else 1.0
    return TestResult(estimate, p_value, (), estimate, estimate, estimate, (number,))


def rise_power(effect: float, deviation: float, seeds: int) -> float:
    """Power of `rise` at the family's level, for normal differences of mean `effect`.

    **Arguments:** `deviation`, the differences' standard deviation.
    """
    return t_power(effect, deviation / np.sqrt(seeds), seeds - 1)


def t_power(effect: float, error: float, freedom: float) -> float:
    """Power of a one-sided t test at the family's level, for an estimate of known standard error.

    Without any error the power is 1.
    """
    if error <= 1e-12:
        return 1.0
    critical = special.stdtrit(freedom, 1.0 - FAMILY_ALPHA)
    shift = min(effect / error, 30.0)  # beyond that the power is 1, and SciPy slow
    return float(np.clip(1.0 - special.nctdtr(freedom, shift, critical), 0.0, 1.0))


def standard_error(result: TestResult) -> float:
    """Of a t test's estimate, from its 95 % interval."""
    (freedom,) = result.degrees_of_freedom
    return (result.high - result.low) / (2.0 * float(special.stdtrit(freedom, 0.975)))


def flipped_rate(
    parts: Float[np.ndarray, "parts seeds"], studies: int, generator: np.random.Generator
) -> FalsePositiveRate:
    """How often `rise` finds all parts in differences about zero, a sign drawn for each seed."""
    centred = parts - parts.mean(axis=1, keepdims=True)
    signs = generator.choice([-1.0, 1.0], (studies, parts.shape[1]))
    p_values = [max(rise(part * sign).p_value for part in centred) for sign in signs]
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


def partial_correlation(
    x: Float[np.ndarray, " learners"],
    y: Float[np.ndarray, " learners"],
    covariates: Float[np.ndarray, "learners columns"],
) -> TestResult:
    """The correlation of what the covariates leave of x and of y, one-sided.

    A constant remainder has correlation 0 with everything. The interval is Fisher's.
    """
    design = np.column_stack([np.ones(x.size), covariates])
    rank = int(np.linalg.matrix_rank(design))
    left = [v - design @ np.linalg.lstsq(design, v)[0] for v in (x, y)]
    norms = [float(np.linalg.norm(v)) for v in left]
    constant = min(norms) <= 1e-9
    r = 0.0 if constant else float(np.clip(left[0] @ left[1] / (norms[0] * norms[1]), -1.0, 1.0))
    freedom = x.size - rank - 1
    if freedom < 2:
        raise ValueError(f"{rank} coefficients need at least {rank + 3} learners; got {x.size}.")
    inner = float(np.clip(r, -1.0 + 1e-12, 1.0 - 1e-12))
    t = inner * np.sqrt(freedom / (1.0 - inner**2))
    margin = special.ndtri(0.975) / np.sqrt(freedom - 1)
    low, high = np.tanh(np.arctanh(inner) + np.array([-margin, margin]))
    p_value = float(special.stdtr(freedom, -t))
    return TestResult(r, p_value, (float(freedom),), r, float(low), float(high), (x.size,))


def correlation_power(r: float, freedom: float) -> float:
    """Power of `partial_correlation` at the family's level, by Fisher's z."""
    return float(special.ndtr(np.arctanh(r) * np.sqrt(freedom - 1) + special.ndtri(FAMILY_ALPHA)))


def indicators(labels: np.ndarray) -> Float[np.ndarray, "learners columns"]:
    """A column of zeros and ones for each label but the first."""
    return (labels[:, None] == np.unique(labels)[1:]).astype(float)


def undecided(
    reason: str, effect: str, n: tuple[int, ...], studies: int, picture: Picture
) -> Verdict:
    """The verdict where the learners do not give the test what it needs."""
    return Verdict(
        version="trained learners",
        outcome="not testable here",
        reason=reason,
        effect=effect,
        estimate=0.0,
        low=-np.inf,
        high=np.inf,
        p_value=1.0,
        n=n,
        null_rate=false_positive_rate(np.ones(studies), NULL_ALPHA),
        power=0.0,
        picture=picture,
    )
