"""What a test and an effect size return, and the t test that several of them end in."""

import math
from dataclasses import dataclass

from scipy import special

NORMAL_95 = float(special.ndtri(0.975))
"""Half-width of a two-sided 95 % interval, in standard errors."""


@dataclass(frozen=True)
class TestResult:
    """One hypothesis test: its p-value, and the effect with its interval. No entry is NaN."""

    __test__ = False  # not a class of tests, whatever pytest makes of its name

    statistic: float
    p_value: float
    """Under the alternative that was asked for."""
    degrees_of_freedom: tuple[float, ...]
    """Empty if the null distribution has none."""
    estimate: float
    """The effect the test is about, in its own unit."""
    low: float
    """Lower end of the two-sided 95 % interval of the effect, whatever the alternative."""
    high: float
    n: tuple[int, ...]
    """Observations, by group."""

    def __post_init__(self):
        numbers = (self.statistic, self.p_value, self.estimate, self.low, self.high)
        if any(math.isnan(number) for number in numbers):
            raise ValueError(
                "the test has no result in float64: the observations are too large, too small "
                f"or too close together to compute with; got {numbers}."
            )


@dataclass(frozen=True)
class EffectSize:
    """An effect and its two-sided 95 % interval."""

    estimate: float
    low: float
    high: float


def t_result(
    estimate: float, standard_error: float, freedom: float, n: tuple[int, ...], alternative: str
) -> TestResult:
    """Test an effect against zero by Student's t with `freedom` degrees of freedom."""
    statistic = estimate / standard_error
    margin = special.stdtrit(freedom, 0.975) * standard_error
    return TestResult(
        statistic=float(statistic),
        p_value=t_p_value(statistic, freedom, alternative),
        degrees_of_freedom=(float(freedom),),
        estimate=float(estimate),
        low=float(estimate - margin),
        high=float(estimate + margin),
        n=n,
    )


def t_p_value(statistic: float, freedom: float, alternative: str) -> float:
    """Tail probability of Student's t."""
    if alternative == "two-sided":
        return float(2.0 * special.stdtr(freedom, -abs(statistic)))
    return float(special.stdtr(freedom, -statistic if alternative == "greater" else statistic))
