"""Shares of trials: the exact binomial test, and how often a test rejects a true null."""

from dataclasses import dataclass

import numpy as np
import scipy
from jaxtyping import ArrayLike, Float
from scipy import special

from .._check import require_in
from .results import TestResult
from .samples import require_alternative, sample


def binomial(
    successes: int, trials: int, probability: float, alternative: str = "two-sided"
) -> TestResult:
    """Exact test of the probability of success in independent trials.

    **Returns** a `TestResult` whose statistic is the number of successes and whose estimate is
    their share, with Wilson's interval.

    **Raises** `ValueError` for no trials, more successes than trials, numbers of either that are
    not whole, or a probability outside [0, 1].

    Source: Clopper & Pearson (1934); Wilson (1927).
    """
    require_alternative(alternative)
    require_in("trials", trials, 1)
    require_in("successes", successes, 0, trials)
    require_in("probability", probability, 0.0, 1.0)
    if successes != int(successes) or trials != int(trials):
        raise ValueError(
            f"successes and trials must be whole numbers; got {successes} of {trials}."
        )
    successes, trials = int(successes), int(trials)
    test = scipy.stats.binomtest(successes, trials, probability, alternative)
    # SciPy's interval follows the alternative; ours is always two-sided.
    interval = scipy.stats.binomtest(successes, trials).proportion_ci(method="wilson")
    return TestResult(
        statistic=float(successes),
        p_value=float(test.pvalue),
        degrees_of_freedom=(),
        estimate=successes / trials,
        low=float(interval.low),
        high=float(interval.high),
        n=(trials,),
    )


@dataclass(frozen=True)
class FalsePositiveRate:
    """How often a test rejected at level `alpha` on data where its null hypothesis is true."""

    rate: float
    low: float
    """Lower end of the exact (Clopper–Pearson) 95 % interval of the rate."""
    high: float
    trials: int
    alpha: float

    @property
    def consistent(self) -> bool:
        """Whether alpha lies in the 99 % interval: False for a liberal and a conservative test."""
        low, high = _clopper_pearson(round(self.rate * self.trials), self.trials, 0.99)
        return low <= self.alpha <= high


def false_positive_rate(p_values: Float[ArrayLike, " trials"], alpha: float) -> FalsePositiveRate:
    """Count how many p-values, each of a data set without effect, are at most `alpha`.

    **Raises** `ValueError` for no p-values, any outside [0, 1], or alpha outside (0, 1].

    Source: Clopper & Pearson (1934), Biometrika 26, 404–413.
    """
    require_in("alpha", alpha, 0.0, 1.0, open_low=True)
    p_values = require_p_values(p_values)
    rejections, trials = int(np.count_nonzero(p_values <= alpha)), p_values.size
    low, high = _clopper_pearson(rejections, trials, 0.95)
    return FalsePositiveRate(rejections / trials, low, high, trials, float(alpha))


def require_p_values(p_values: Float[ArrayLike, " tests"]) -> Float[np.ndarray, " tests"]:
    """Return the p-values as float64; raise ValueError unless there are some, all in [0, 1]."""
    p_values = sample("p_values", p_values)
    if p_values.size == 0:
        raise ValueError("p_values must hold at least one p-value; got none.")
    require_in("p_values", p_values, 0.0, 1.0)
    return p_values


def _clopper_pearson(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    tail, failures = 0.5 * (1.0 - confidence), trials - successes
    low = special.betaincinv(successes, failures + 1, tail) if successes else 0.0
    high = special.betaincinv(successes + 1, failures, 1.0 - tail) if failures else 1.0
    return float(low), float(high)
