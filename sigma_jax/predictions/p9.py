"""P9: learning speeds up where coherence crosses its critical value."""

from typing import NamedTuple

import jax
import numpy as np
import scipy
from jaxtyping import Array, Float, Key
from scipy import special

from ..schema import CONDITIONS, PilotCurves, Thresholds, load_pilot
from ..statistics import (
    TestResult,
    binomial,
    break_null,
    break_test,
    false_positive_rate,
    paired,
)
from .behaviour import ITEMS
from .nulls import NULL_ALPHA
from .piecewise_lines import Breaks, fit_breaks, fit_lines
from .population import TIMES, simulate_population
from .registration import (
    FAMILY_ALPHA,
    Picture,
    Prediction,
    Study,
    Verdict,
    decide,
    generator,
    numbers,
)

_EVALUATIONS = TIMES[1:]
"""50 evaluations: every 10 of 500 steps as registered, every 2 epochs here."""
_TRIM = 0.15
_TRIM_OF_TWO = 0.05
"""The first of two breaks may come early."""
_STEP = 0.05
"""To the neighbours of σ_critical with which it is compared."""
_CHANGE = 0.001
"""Registered change of slope, .02 percentage points a step, as a share an epoch of five steps."""
_POWER_STUDIES = 200
_POOL = 2000
_DRAWN = 8

Series = Float[np.ndarray, "learners evaluations"]


class _Learners(NamedTuple):
    accuracy: Series
    """Expected, σ·δ_rel, at the evaluations."""
    crossings: Float[np.ndarray, "learners three"]
    """Epochs at which σ reaches σ_critical, the value below and the value above; ∞ if never."""

    @property
    def crossing(self) -> np.ndarray:
        return self.crossings[:, 0]


def _tests(key: Key[Array, ""], study: Study) -> tuple[Verdict, ...]:
    first, second, third = jax.random.split(key, 3)
    return _registered(first, study), _repaired(second, study), _published(third, study)


def _registered(key: Key[Array, ""], study: Study) -> Verdict:
    """The t test of the change of slope at the estimated break, learner by learner."""
    rng = generator(key)
    learners = _learners(key, study.n)
    answered = _answered(rng, learners.accuracy)
    null = break_null(_EVALUATIONS, trim=_TRIM, alternative="greater", seed=1)

    def valid_p_values(series):
        return np.array(
            [
                break_test(_EVALUATIONS, y, trim=_TRIM, null=null, alternative="greater").p_value
                for y in series
            ]
        )

    naive, valid = _naive_p_values(answered), valid_p_values(answered)
    result = binomial(
        int(np.count_nonzero(naive < FAMILY_ALPHA)), naive.size, FAMILY_ALPHA, "greater"
    )
    chosen = rng.integers(len(answered), size=study.null_studies)
    straight = _answered(rng, _straight(learners.accuracy)[chosen])
    naive_rate = false_positive_rate(_naive_p_values(straight), NULL_ALPHA)
    valid_rate = false_positive_rate(valid_p_values(straight), NULL_ALPHA)
    bent = _answered(rng, _bent(learners)[:_POWER_STUDIES])
    return Verdict(
        version="as registered",
        outcome="not testable here",
        reason=(
            "The t test takes the break that fits best for one given beforehand: on straight lines "
            f"it finds an upward break in {naive_rate.rate:.0%} of series at level "
            f"{NULL_ALPHA:g} (the largest t over all breaks, compared with its own distribution, "
            f"in {valid_rate.rate:.1%}; in {np.mean(valid < FAMILY_ALPHA):.0%} of learners). And "
            "the accuracy is σ·δ_rel: it contains the σ whose growth defines the phase."
        ),
        effect="share of learners whose slope rises at the break, by the naive t test",
        **numbers(result),
        null_rate=naive_rate,
        power=float(np.mean(valid_p_values(bent) < FAMILY_ALPHA)),
        picture=_curves(answered, learners.crossing, "σ crosses its critical value (median)"),
    )


def _repaired(key: Key[Array, ""], study: Study) -> Verdict:
    """Is the break where σ crosses σ_critical, rather than a little below or above it?

    A second break takes up the saturation of learning, which otherwise hides the first. The
    claim has to beat both neighbours, so the larger p-value counts (an intersection–union test).
    """
    rng = generator(key)
    learners = _learners(key, study.n)
    breaks = fit_breaks(_EVALUATIONS, _answered(rng, learners.accuracy), 2, trim=_TRIM_OF_TWO)
    contained = _contained(breaks, learners)
    result = _against_neighbours(contained)
    lag = paired(breaks.first, learners.crossing)

    # Without the effect the three values of σ are alike: which is called critical is drawn anew.
    shuffled = rng.permuted(np.tile(contained, (study.null_studies, 1, 1)), axis=-1)
    bent = fit_breaks(_EVALUATIONS, _answered(rng, _bent(learners)), 2, trim=_TRIM_OF_TWO)
    found = _contained(bent, learners)
    drawn = rng.integers(len(found), size=(_POWER_STUDIES, len(found)))
    power = float(np.mean(_p_values(found[drawn]) < FAMILY_ALPHA))
    outcome, why = decide(result, FAMILY_ALPHA, power=power)
    critical, below, above = (f"{share:.0%}" for share in contained.mean(axis=0))
    claimed = f"{found[:, 0].mean():.0%}"
    return Verdict(
        version="repaired",
        outcome=outcome,
        reason=(
            f"{why} The slope rises at the first of two breaks in {np.mean(breaks.change > 0):.0%} "
            f"of learners, as growth is autocatalytic, but the break's interval contains the "
            f"crossing of σ = {_critical():g} in {critical} (in {claimed} if learning sped up "
            f"there), of {_critical() - _STEP:g} in {below} "
            f"and of {_critical() + _STEP:g} in {above}. The break comes {lag.estimate:.1f} "
            f"[{lag.low:.1f}, {lag.high:.1f}] epochs after the crossing; in the equations nothing "
            "happens at it."
        ),
        effect="share of break intervals with the crossing, less that of the better neighbour",
        **numbers(result),
        null_rate=false_positive_rate(_p_values(shuffled), NULL_ALPHA),
        power=power,
        picture=Picture(
            "scatter",
            "σ crosses its critical value (epochs)",
            "first break of the accuracy (epochs)",
            {
                "learners": (learners.crossing, breaks.first),
                "if at the crossing": (np.sort(learners.crossing), np.sort(learners.crossing)),
            },
        ),
    )


def _published(key: Key[Array, ""], study: Study) -> Verdict:
    """One hinge in each of the pilot's 30 coupled runs; then two, against the extra batches."""
    rng = generator(key)
    pilot = load_pilot()
    coupled = [pilot[name] for name in CONDITIONS[1:]]
    step = coupled[0].step.astype(float)
    runs = 100.0 * np.concatenate([c.acc_ood for c in coupled])

    def changes(series):
        return fit_breaks(step, series, 1, trim=_TRIM).change

    change = changes(runs)
    pooled = break_test(step, runs.mean(axis=0), trim=_TRIM, alternative="greater")
    rising = np.count_nonzero(change > 0)
    result = paired(change, np.zeros_like(change), alternative="greater")
    trained = coupled[0].trained  # the network at step 0 is random
    two = fit_breaks(step[trained], runs[:, trained], 2, trim=_TRIM_OF_TWO)
    where = " and ".join(
        _rises(c, first, change)
        for c, first, change in zip(
            coupled, np.split(two.first, 2), np.split(two.change, 2), strict=True
        )
    )

    # No break: the baseline's lines with its residuals in any order; the effect: the registered
    # change of slope at the middle.
    baseline = 100.0 * pilot["baseline"].acc_ood[rng.integers(len(runs) // 2, size=_POOL)]
    straight = fit_lines(step, baseline)
    straight += rng.permuted(baseline - straight, axis=1)
    hinge = np.maximum(step - np.median(step), 0.0)
    absent, present = changes(straight), changes(straight + 0.02 * hinge)

    def p_values(pool, studies):
        drawn = (rng.choice(pool, len(runs)) for _ in range(studies))
        zero = np.zeros(len(runs))
        return np.array([paired(d, zero, alternative="greater").p_value for d in drawn])

    return Verdict(
        version="published data",
        outcome="refuted",
        reason=(
            f"One hinge, as registered, finds the slope rising in {rising} of {len(runs)} "
            f"coupled runs; on their mean it falls by {-pooled.slope_change:.3f} "
            f"percentage points a step at step {pooled.break_at:.0f}. With a second break the "
            f"first one rises in {where}: where batches from the test distribution begin."
        ),
        effect="change of slope at one break, mean over runs (percentage points per step)",
        estimate=result.estimate,
        low=result.low,
        high=result.high,
        p_value=result.p_value,
        n=tuple(len(c.acc_ood) for c in coupled),
        null_rate=false_positive_rate(p_values(absent, study.null_studies), NULL_ALPHA),
        power=float(np.mean(p_values(present, _POWER_STUDIES) < FAMILY_ALPHA)),
        picture=Picture(
            "lines",
            "training step",
            "published out-of-distribution accuracy (%)",
            {c.condition: (step, 100.0 * c.acc_ood.mean(axis=0)) for c in coupled},
            {"one break, pooled (step)": pooled.break_at},
        ),
    )


def _learners(key: Key[Array, ""], agents: int) -> _Learners:
    """Learners that start with little coherence, so that the crossing comes well after the start.

    Those that do not cross where a break is looked for are left out.
    """
    population = simulate_population(
        key, agents, environment={"r_surface": 0.2}, initial={"sigma": 0.02}
    )
    values = _critical() + _STEP * np.array([0.0, -1.0, 1.0])
    reached = population.sigma[:, 1:] >= values
    crossings = np.where(reached.any(axis=1), _EVALUATIONS[reached.argmax(axis=1)], np.inf)
    low, high = np.quantile(_EVALUATIONS, [_TRIM, 1.0 - _TRIM])
    kept = (crossings[:, 0] >= low) & (crossings[:, 0] <= high)
    accuracy = (population.sigma * population.delta_rel)[kept, 1:, 0]
    return _Learners(np.clip(accuracy, 0.0, 1.0), crossings[kept])


def _answered(rng: np.random.Generator, accuracy: Series) -> Series:
    """Accuracy as measured, on `ITEMS` items at every evaluation."""
    return rng.binomial(ITEMS, accuracy) / ITEMS


def _straight(accuracy: Series) -> Series:
    """The same learners without a break: their straight lines."""
    return np.clip(fit_lines(_EVALUATIONS, accuracy), 0.0, 1.0)


def _bent(learners: _Learners) -> Series:
    """The same learners as claimed: level until the crossing, then rising."""
    late = np.maximum(_EVALUATIONS - learners.crossing[:, None], 0.0)
    return np.clip(learners.accuracy[:, :1] + _CHANGE * late, 0.0, 1.0)


def _critical() -> float:
    return Thresholds().sigma_critical


def _naive_p_values(series: Series) -> np.ndarray:
    """Of a rising slope at the best break, as if it had been known: Student's t, one-sided."""
    breaks = fit_breaks(_EVALUATIONS, series, 1, trim=_TRIM)
    straight = np.sum((series - fit_lines(_EVALUATIONS, series)) ** 2, axis=1)
    freedom = _EVALUATIONS.size - 4
    t = np.sqrt(np.maximum(straight / breaks.squares - 1.0, 0.0) * freedom)
    return special.stdtr(freedom, -np.copysign(t, breaks.change))


def _contained(breaks: Breaks, learners: _Learners) -> Float[np.ndarray, "learners three"]:
    """1 where a learner's interval contains its crossing of each value of σ, else 0."""
    low, high = breaks.low[:, None], breaks.high[:, None]
    return ((low <= learners.crossings) & (learners.crossings <= high)).astype(float)


def _p_values(contained: Float[np.ndarray, "... learners three"]) -> Float[np.ndarray, "..."]:
    """Is the first column's share above both others? McNemar's exact test; the larger p-value."""
    own, neighbours = contained[..., :1], contained[..., 1:]
    wins = np.sum(own > neighbours, axis=-2)
    losses = np.sum(own < neighbours, axis=-2)
    return scipy.stats.binom.sf(wins - 1, wins + losses, 0.5).max(axis=-1)


def _against_neighbours(contained: Float[np.ndarray, "learners three"]) -> TestResult:
    """That test, with the difference of shares from the better neighbour and its interval."""
    better = 1 + int(contained[:, 1:].mean(axis=0).argmax())
    difference = contained[:, 0] - contained[:, better]
    estimate, n = float(difference.mean()), difference.size
    margin = special.stdtrit(n - 1, 0.975) * difference.std(ddof=1) / np.sqrt(n)
    return TestResult(
        statistic=estimate,
        p_value=float(_p_values(contained)),
        degrees_of_freedom=(),
        estimate=estimate,
        low=float(estimate - margin),
        high=float(estimate + margin),
        n=(n,),
    )


def _rises(condition: PilotCurves, first: np.ndarray, change: np.ndarray) -> str:
    """In how many runs the first break is upward, where, and when batches are first on record."""
    up = change > 0
    batches = condition.step[(condition.phase >= 2).argmax(axis=1)]
    return (
        f"{np.count_nonzero(up)} of {up.size} {condition.condition} runs at median step "
        f"{np.median(first[up]):.0f} (batches on record from {np.median(batches):.0f})"
    )


def _curves(answered: Series, crossing: np.ndarray, label: str) -> Picture:
    series = {f"learner {i + 1}": (_EVALUATIONS, y) for i, y in enumerate(answered[:_DRAWN])}
    series["mean"] = (_EVALUATIONS, answered.mean(axis=0))
    return Picture(
        "lines",
        "time (epochs)",
        f"accuracy on {ITEMS} items (share)",
        series,
        {label: float(np.median(crossing))},
    )


P9 = Prediction(
    name="P9",
    title="Learning speeds up on entry into phase 2",
    claim="The slope of accuracy over time rises where σ crosses σ_critical.",
    null="the slope does not change: β₂ = 0 in Acc = β₀ + β₁ t + β₂ (t − τ)₊",
    alternative="β₂ > 0 at a break τ that is the entry into phase 2",
    statistic="t of β₂ at the estimated break; repaired: McNemar's test of where the break is",
    alpha=FAMILY_ALPHA,
    planned_n=_EVALUATIONS.size,
    planned_power=0.0,
    simulation=(
        "n structure-targeted learners from σ = 0.02, evaluated 50 times on 200 items with "
        "accuracy σ·δ_rel; those are kept whose σ crosses 0.15 where a break is looked for."
    ),
    falsified_if="no rise of the slope at the crossing (p > α in a powered study)",
    tests=_tests,
)
