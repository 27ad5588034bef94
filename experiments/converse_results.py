"""What the conversations of `experiments.converse` come to: numbers a conversation, and tests."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats as distributions

from sigma_jax import report, statistics
from sigma_jax.runtime import CASES, DetectionSummary, score_scenario, summarise

if TYPE_CHECKING:
    from experiments.converse_runs import Machinery, SeedRuns
    from sigma_jax.runtime import ArmRun, Scenario

STYLE_KINDS = ("style_begin", "style")


class Metric(NamedTuple):
    """A number a conversation."""

    name: str
    title: str
    better: int
    """1: more is better; −1: less is."""
    digits: int = 2


METRICS = (
    Metric("recall", "recall", 1),
    Metric("violations", "violations per 100 turns", -1, 1),
    Metric("consistency", "consistency", 1),
    Metric("claims", "false claims set right", 1),
    Metric("abstention", "abstention", 1),
    Metric("abstention_precision", "abstention precision", 1),
    Metric("tokens", "thousand tokens sent", -1, 0),
    Metric("cached", "cache-hit share", 1),
    Metric("calls", "calls per turn", -1),
    Metric("style_corrections", "corrections in commanded style", -1),
)
"""Of a conversation. The last: restatements of the identity while the user has another style."""


class Compared(NamedTuple):
    """The runtime against another arm, over conversations of the same seeds."""

    arm: str
    metric: str
    difference: float
    """Of the runtime from the arm, on average."""
    low: float
    high: float
    p_value: float
    adjusted: float
    """By Holm, over the metrics of that arm."""
    n: int

    @property
    def verdict(self) -> str:
        """`better`, `worse`, or `undecided`: by the interval and the adjusted p-value."""
        metric = next(each for each in METRICS if each.name == self.metric)
        if self.adjusted > 0.05 or self.low <= 0.0 <= self.high:
            return "the same" if self.low == self.high == 0.0 else "undecided"
        return "better" if metric.better * self.difference > 0 else "worse"


@dataclass(frozen=True)
class Results:
    """Everything that is reported."""

    seeds: tuple[int, ...]
    arms: tuple[str, ...]
    about: dict[str, str]
    rows: dict[tuple[str, int], dict[str, float | None]]
    """By arm and seed."""
    lags: tuple[str, ...]
    recall_by_lag: dict[str, tuple[float | None, ...]]
    phases: dict[str, int]
    """How many turns of the runtime's conversations were in each."""
    compared: tuple[Compared, ...]
    detection: tuple[DetectionSummary, ...]
    power: tuple[tuple[float, float], ...]
    failures: dict[str, int]
    """Turns without a reply, by arm."""
    checks: list[report.Check]

    def values(self, arm: str, metric: str) -> np.ndarray:
        """Of the conversations in which there is such a number, in order of seeds."""
        found = [self.rows[arm, seed][metric] for seed in self.seeds]
        return np.array([value for value in found if value is not None], float)


def make_results(
    scenario: "Scenario", done: "Sequence[SeedRuns]", machinery: "Machinery"
) -> Results:
    """Mark every conversation and compare the arms."""
    from sigma_jax.runtime import ARMS

    seeds = tuple(each.seed for each in done)
    arms = tuple(run.arm for run in done[0].runs)
    rows, lagged, failures = {}, {}, dict.fromkeys(arms, 0)
    phases: dict[str, int] = {}
    lags: tuple[str, ...] = ()
    for each in done:
        for run in each.runs:
            score = score_scenario(scenario, run.replies)
            rows[run.arm, each.seed] = _row(scenario, run, score)
            lags = tuple(f"{lag.least}–{lag.most}" for lag in score.recall_by_lag)
            lagged.setdefault(run.arm, []).append([lag.tally for lag in score.recall_by_lag])
            failures[run.arm] += sum(not reply.strip() for reply in run.replies)
            if run.arm == "runtime":
                for phase in run.phases:
                    phases[phase] = phases.get(phase, 0) + 1
    watched = [one for each in done for one in each.watched]
    return Results(
        seeds=seeds,
        arms=arms,
        about={arm.name: arm.about for arm in ARMS},
        rows=rows,
        lags=lags,
        recall_by_lag={arm: _pooled(tallies) for arm, tallies in lagged.items()},
        phases=phases,
        compared=tuple(
            line for arm in arms if arm != "runtime" for line in _compare(rows, seeds, arm)
        ),
        detection=tuple(summarise(case.name, watched) for case in CASES) if watched else (),
        power=tuple(each.power for each in done),
        failures=failures,
        checks=[
            report.Check(
                "conversations that are not the same again", machinery.other_digests, 0, 0
            ),
            report.Check(
                "a replay's statistics against the loop's", machinery.replay_difference, 0, 1e-6
            ),
            report.Check("tokens counted twice, difference", machinery.tokens_difference, 0, 0),
        ],
    )


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean and its 95 % interval by Student's t; the mean alone of one value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, mean, mean
    half = float(distributions.t.ppf(0.975, len(values) - 1) * values.std(ddof=1))
    return mean, mean - half / len(values) ** 0.5, mean + half / len(values) ** 0.5


def _row(scenario: "Scenario", run: "ArmRun", score) -> dict[str, float | None]:
    turns = max(len(run.replies), 1)
    kinds = [turn.kind for turn in scenario.turns[: len(run.replies)]]
    restated = [level in ("RESTATE", "REBUILD") for level in run.levels]
    return {
        "recall": score.recall.share,
        "violations": score.violations_per_100_turns if score.violated_turns.asked else None,
        "consistency": score.consistency.share,
        "claims": score.claims.share,
        "abstention": score.abstention.share,
        "abstention_precision": score.abstention_precision.share,
        "tokens": sum(run.sent_tokens) / 1000,
        "cached": sum(run.shared_bytes) / max(sum(run.sent_bytes), 1),
        "calls": sum(run.calls) / turns,
        "style_corrections": float(
            sum(hit for hit, kind in zip(restated, kinds, strict=False) if kind in STYLE_KINDS)
        ),
    }


def _pooled(tallies) -> tuple[float | None, ...]:
    sums = [
        (sum(t.right for t in lag), sum(t.asked for t in lag)) for lag in zip(*tallies, strict=True)
    ]
    return tuple(right / asked if asked else None for right, asked in sums)


def _compare(rows, seeds: Sequence[int], arm: str) -> list[Compared]:
    """Every metric of which two conversations at least have a number in both arms."""
    found: list[Compared] = []
    for metric in METRICS:
        pairs = [
            (rows["runtime", seed][metric.name], rows[arm, seed][metric.name]) for seed in seeds
        ]
        both = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
        if len(both) < 2:
            continue
        test = _paired(both[:, 0], both[:, 1])
        found.append(Compared(arm, metric.name, *test, adjusted=test[3], n=len(both)))
    if not found:
        return []
    adjusted = statistics.holm(np.array([each.p_value for each in found]))
    return [each._replace(adjusted=float(p)) for each, p in zip(found, adjusted, strict=True)]


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float, float]:
    """The mean difference, its interval and p-value: Student's t.

    Differences that are all the same have no variance for it: then the exact sign test's p-value.
    """
    differences = a - b
    # Shares differ by rounding where their difference is the same.
    if np.ptp(differences) > 1e-9 * max(1.0, float(np.abs([a, b]).max())):
        test = statistics.paired(a, b)
        return test.estimate, test.low, test.high, test.p_value
    same = round(float(differences[0]), 12)
    p_value = 1.0 if same == 0.0 else statistics.binomial(len(a), len(a), 0.5).p_value
    return same, same, same, p_value
