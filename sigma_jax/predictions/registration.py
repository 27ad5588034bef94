"""What a prediction registers before it is run, and the verdict that it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import jax
import numpy as np
from jaxtyping import Array, Key

from ..statistics import FalsePositiveRate, TestResult

FAMILY_ALPHA = 0.05 / 8
"""The paper's level: Bonferroni over eight predictions."""

ENOUGH_POWER = 0.8
"""A study that finds nothing refutes a claim only if it would have found it this often."""

Outcome = Literal["supported", "refuted", "not testable here"]


@dataclass(frozen=True)
class Picture:
    """What to draw for a verdict: groups of points or curves over one x, with axis labels.

    `kind` is "samples" (each series is a sample of values; x is unused), "scatter" or "lines"
    (each series is (x, y)).
    """

    kind: Literal["samples", "scatter", "lines"]
    xlabel: str
    ylabel: str
    series: Mapping[str, tuple[np.ndarray, ...]]
    marks: Mapping[str, float] = field(default_factory=dict)
    """Vertical lines ("lines" and "scatter") or horizontal ones ("samples"), by label."""


@dataclass(frozen=True)
class Verdict:
    """What one test of a prediction found, on simulated data unless `version` says otherwise."""

    version: Literal["as registered", "repaired", "published data", "trained learners"]
    outcome: Outcome
    reason: str
    """One or two sentences: why this outcome, in plain words."""
    effect: str
    """What `estimate` is, with its unit."""
    estimate: float
    low: float
    high: float
    """The 95 % interval of the estimate."""
    p_value: float
    n: tuple[int, ...]
    """Observations, by condition."""
    null_rate: FalsePositiveRate
    """How often the same test, on data without the effect, says that there is one."""
    power: float
    """The share of studies of this size that find the registered effect (by calculation or
    simulation)."""
    picture: Picture

    def __post_init__(self):
        numbers = (self.estimate, self.low, self.high, self.p_value, self.power)
        if np.isnan(numbers).any():
            raise ValueError(f"a verdict must not contain NaN; got {self}.")


@dataclass(frozen=True)
class Registration:
    """A prediction as registered: everything that is fixed before any data are seen."""

    name: str
    """P1 to P9, M1, H6.1 to H6.3."""
    title: str
    claim: str
    null: str
    alternative: str
    statistic: str
    alpha: float
    planned_n: int
    """Observations per condition that the registered test plans."""
    planned_power: float
    """Power of the registered test at its planned n, at its own alpha and effect; 0 if it
    cannot work at all."""
    simulation: str
    """What is simulated, or trained, to test it."""
    falsified_if: str


@dataclass(frozen=True)
class Prediction(Registration):
    """A prediction and its tests on simulated learners and published data."""

    tests: Callable[[Key[Array, ""], "Study"], tuple[Verdict, ...]]
    """The tests: as registered first, then the repaired one."""

    def run(self, key: Key[Array, ""], study: "Study | None" = None) -> tuple[Verdict, ...]:
        """The verdicts: as registered, then repaired, then on published data, where they exist."""
        return self.tests(key, Study() if study is None else study)


@dataclass(frozen=True)
class Study:
    """How large a study is.

    **Raises** `ValueError` for fewer than 20 runs a condition, or fewer than 100 null studies.
    """

    n: int = 500
    """Simulated agents per condition: the registered number."""
    null_studies: int = 1000
    """Studies without the effect, for the false-positive rate."""

    def __post_init__(self):
        if self.n < 20:
            raise ValueError(
                f"n must be at least 20 runs a condition for the tests' intervals to hold; "
                f"got {self.n}."
            )
        if self.null_studies < 100:
            raise ValueError(
                "null_studies must be at least 100 to see a false-positive rate near 0.05; "
                f"got {self.null_studies}."
            )


def decide(
    result: TestResult, alpha: float, *, power: float, minimum: float = 0.0
) -> tuple[Outcome, str]:
    """The decision on a one-sided test of a positive effect, and the sentence that says why.

    | p < alpha | and | outcome |
    |---|---|---|
    | yes | the estimate reaches the registered `minimum` | supported |
    | yes | the 95 % interval ends below `minimum` | refuted: there, but too small |
    | yes | neither | not testable here: undecided |
    | no | power at least 0.8, or the interval ends at or below zero | refuted |
    | no | neither | not testable here |
    """
    found = f"estimate {result.estimate:.3g} [{result.low:.3g}, {result.high:.3g}]"
    if result.p_value < alpha:
        if result.estimate >= minimum:
            return "supported", f"p < {alpha:.3g} and the effect is at least {minimum:g}."
        if result.high < minimum:
            return "refuted", f"An effect is there, but below the registered {minimum:g}: {found}."
        return "not testable here", f"Undecided about the registered {minimum:g}: {found}."
    if result.high <= 0:
        return "refuted", f"The effect goes the other way: {found}."
    if power >= ENOUGH_POWER:
        return "refuted", (
            f"The study had power {power:.2f} and did not find it: p = {result.p_value:.2g}, "
            f"{found}."
        )
    return "not testable here", f"The study's power is only {power:.2f}: {found}."


def joint_power(power: float, parts: int) -> float:
    """The least power of a claim that holds only if all of its `parts` do, each with `power`.

    Bonferroni's inequality: it does not matter how the parts depend on one another.
    """
    return max(0.0, 1.0 - parts * (1.0 - power))


def numbers(result: TestResult) -> dict:
    """A test's effect, interval, p-value and n, as a `Verdict` takes them."""
    return {
        "estimate": result.estimate,
        "low": result.low,
        "high": result.high,
        "p_value": result.p_value,
        "n": result.n,
    }


def generator(key: Key[Array, ""]) -> np.random.Generator:
    """A NumPy generator seeded by a JAX key, for resampling."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))
