"""The rule that turns a test into an outcome, and what a verdict refuses to hold."""

import dataclasses

import numpy as np
import pytest

from sigma_jax.predictions import Picture, Verdict, decide
from sigma_jax.statistics import TestResult, false_positive_rate


def result(estimate: float, low: float, high: float, p_value: float) -> TestResult:
    return TestResult(
        statistic=0.0,
        p_value=p_value,
        degrees_of_freedom=(),
        estimate=estimate,
        low=low,
        high=high,
        n=(500, 500),
    )


@pytest.mark.parametrize(
    ("estimate", "low", "high", "p_value", "power", "outcome"),
    [
        (0.6, 0.4, 0.8, 1e-9, 0.99, "supported"),
        (0.2, 0.1, 0.3, 1e-4, 0.99, "refuted"),  # there, but below the registered minimum
        (0.4, 0.2, 0.6, 1e-4, 0.99, "not testable here"),  # the interval holds the minimum
        (0.05, -0.1, 0.2, 0.3, 0.99, "refuted"),  # a powered study did not find it
        (0.05, -0.4, 0.5, 0.3, 0.79, "not testable here"),  # a weak one did not
        (-0.3, -0.5, -0.1, 0.99, 0.10, "refuted"),  # it goes the other way, whatever the power
        (0.6, 0.1, 1.1, 0.01, 0.50, "not testable here"),  # below .05 is not below the level
    ],
)
def test_the_registered_decision(estimate, low, high, p_value, power, outcome):
    decided, why = decide(result(estimate, low, high, p_value), 0.05 / 8, power=power, minimum=0.5)
    assert decided == outcome
    assert why.endswith(".")


def test_a_verdict_never_holds_nan():
    verdict = Verdict(
        version="repaired",
        outcome="supported",
        reason="It is there.",
        effect="difference",
        estimate=0.6,
        low=0.4,
        high=0.8,
        p_value=1e-9,
        n=(60, 60),
        null_rate=false_positive_rate([0.04, 0.5], 0.05),
        power=0.99,
        picture=Picture("samples", "group", "value", {"one": (np.zeros(2),)}),
    )
    for name in ("estimate", "low", "high", "p_value", "power"):
        with pytest.raises(ValueError, match="must not contain NaN"):
            dataclasses.replace(verdict, **{name: np.nan})
