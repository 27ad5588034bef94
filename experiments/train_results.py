"""What came of `experiments.train`: arrays by condition, and the paired comparisons of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig

from sigma_jax.statistics import TestResult, holm, paired, spearman

if TYPE_CHECKING:
    from sigma_jax.training import BlockTrace, CoupledRun, Leaks, Task

FAMILIAR, CALIBRATION, TEST = range(3)
"""Places of the measured parts in an accuracy."""

Part = tuple[list[int], "list[tuple[list[str], CoupledRun]]"]


@dataclass(frozen=True)
class Results:
    """Everything that the report is made of."""

    task: "Task"
    leaks: "Leaks"
    seeds: list[int]
    steps: np.ndarray
    """Of the checkpoints."""
    accuracy: dict[str, Float[np.ndarray, "seeds checkpoints 3"]]
    """Exact match on what is familiar, the calibration part and the test, by condition."""
    weights: dict[str, Float[np.ndarray, "seeds checkpoints 3"]]
    trace: "dict[str, BlockTrace]"
    """[seeds, blocks], by condition."""
    block_steps: np.ndarray
    """At which every block starts."""
    withdraw_at: int

    def final(self, condition: str, part: int = TEST) -> Float[np.ndarray, " seeds"]:
        """The accuracy at the end, seed by seed."""
        return self.accuracy[condition][:, -1, part]

    def measured_sigma(self, condition: str) -> Float[np.ndarray, "seeds checkpoints"]:
        """σ̂ on the calibration part; NaN where nothing familiar is known."""
        familiar, calibration, _ = np.moveaxis(self.accuracy[condition], -1, 0)
        known = familiar >= 0.05
        ratio = np.divide(calibration, familiar, where=known, out=np.full_like(familiar, np.nan))
        return np.clip(ratio, 0.0, 1.0)

    def observed_sigma(self, condition: str) -> Float[np.ndarray, "seeds checkpoints"]:
        """σ̃, averaged over the blocks before each checkpoint."""
        observed = np.asarray(self.trace[condition].observed)
        return observed.reshape(len(observed), len(self.steps), -1).mean(axis=2)


def join_results(config: DictConfig, task: "Task", leaks: "Leaks", parts: list[Part]) -> Results:
    """Put the groups of seeds together, condition by condition."""
    import jax

    accuracy: dict[str, list] = {}
    weights: dict[str, list] = {}
    trace: dict[str, list] = {}
    for seeds, runs in parts:
        for conditions, run in runs:
            for at, name in enumerate(conditions):
                rows = slice(at * len(seeds), (at + 1) * len(seeds))
                accuracy.setdefault(name, []).append(np.asarray(run.accuracy[rows], float))
                weights.setdefault(name, []).append(np.asarray(run.weights[rows], float))
                trace.setdefault(name, []).append(
                    jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf[rows]), run.trace)
                )
    blocks = config.steps // config.recipe.steps
    return Results(
        task=task,
        leaks=leaks,
        seeds=[seed for seeds, _ in parts for seed in seeds],
        steps=np.arange(config.evaluate_every, config.steps + 1, config.evaluate_every),
        accuracy={name: np.concatenate(each) for name, each in accuracy.items()},
        weights={name: np.concatenate(each) for name, each in weights.items()},
        trace={
            name: jax.tree.map(lambda *leaves: np.concatenate(leaves), *each)
            for name, each in trace.items()
        },
        block_steps=np.arange(blocks) * config.recipe.steps,
        withdraw_at=config.withdraw_at,
    )


def difference(one: np.ndarray, other: np.ndarray) -> TestResult | None:
    """The paired t of seeds' differences; None for a single seed, or if all differences are one."""
    if len(one) < 2 or np.ptp(one - other) == 0.0:
        return None
    return paired(one, other)


def against(results: Results, other: str) -> dict[str, tuple[float, TestResult | None, float]]:
    """Every condition's mean test accuracy less another's, its test, and Holm's p-value.

    Where all seeds differ by the same there is no t: p is then that of the signs, 2^(1 − seeds), or
    1 for no difference.
    """
    base = results.final(other)
    names = [name for name in results.accuracy if name != other]
    tests = {name: difference(results.final(name), base) for name in names}
    means = {name: float((results.final(name) - base).mean()) for name in names}
    by_signs = 2.0 ** (1 - len(base))
    raw = [
        test.p_value if test is not None else by_signs if means[name] else 1.0
        for name, test in tests.items()
    ]
    adjusted = holm(np.array(raw)) if raw else ()
    return {
        name: (means[name], tests[name], float(p)) for name, p in zip(names, adjusted, strict=True)
    }


def agreement(results: Results) -> TestResult | None:
    """Spearman's correlation of σ̃ and σ̂ over learners at the last checkpoint."""
    observed = np.concatenate([results.observed_sigma(n)[:, -1] for n in results.accuracy])
    measured = np.concatenate([results.measured_sigma(n)[:, -1] for n in results.accuracy])
    known = np.isfinite(measured)
    if known.sum() < 4 or np.ptp(measured[known]) == 0.0 or np.ptp(observed[known]) == 0.0:
        return None
    return spearman(observed[known], measured[known])


def untrained_signal(results: Results) -> float:
    """The mean of σ̃ at step 0, where nothing is learnt: it should be near zero."""
    first = next(iter(results.trace.values()))
    return float(np.asarray(first.observed)[:, 0].mean())


def retained(results: Results, withdrawn: str) -> tuple[float, float, float] | None:
    """What is left, at the end, of the full condition's gain after it was withdrawn.

    The share (withdrawn − baseline)/(full − baseline) of the mean test accuracies at the end, with
    a bootstrap interval over seeds; None if the conditions were not run, or the full one gained
    less than 5 percentage points, of which no share means anything.
    """
    if not {withdrawn, "full", "baseline"} <= set(results.accuracy):
        return None
    ended, full, base = (results.final(name) for name in (withdrawn, "full", "baseline"))
    if full.mean() - base.mean() < 0.05:
        return None
    rows = np.random.default_rng(0).integers(len(full), size=(2_000, len(full)))
    shares = (ended[rows] - base[rows]).mean(1) / np.maximum(
        (full[rows] - base[rows]).mean(1), 1e-9
    )
    low, high = np.quantile(shares, [0.025, 0.975])
    return float((ended - base).mean() / (full - base).mean()), float(low), float(high)


def first_entry(results: Results, condition: str) -> Float[np.ndarray, " seeds"]:
    """The step at which each learner enters phase 2; infinite if it never does."""
    entered = np.asarray(results.trace[condition].phase) >= 2
    return np.where(entered.any(1), results.block_steps[entered.argmax(1)], np.inf)
