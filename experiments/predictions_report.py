"""What `experiments.predictions` writes: a table, a summary, and a page with a figure each."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from omegaconf import DictConfig, OmegaConf

import sigma_jax
from experiments.arc import write_summary
from sigma_jax import report
from sigma_jax.predictions import Registration, Verdict

Verdicts = dict[str, tuple[Verdict, ...]]


class Wording(NamedTuple):
    """What the page says besides its results."""

    title: str
    introduction: str
    footer: str


def simulated_wording(config: DictConfig) -> Wording:
    """For verdicts on simulated learners."""
    return Wording(
        "The predictions of the Σ-Model and their verdicts",
        "Simulated learners obey the model's own equations, with rates that differ between "
        "learners and with process noise; verdicts say whether the model bears its predictions "
        "out, not whether networks do. Rows marked published data use the published pilot. Every "
        "test was also run on data without the effect: its false positives are counted at the "
        "level .05, whatever level the verdict uses.",
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.predictions; seed "
        f"{config.seed}, n = {config.n} a condition, {config.null_studies} null studies a test.",
    )


def make_checks(verdicts: Verdicts) -> list[report.Check]:
    """That no test that counts rejects on null data more often than it may (99 % interval).

    Less often is allowed: a test that asks for several things at once is conservative.
    """
    return [
        report.Check(
            f"{name}: false positives at .05 beyond .05",
            value=max(0.0, v.null_rate.rate - v.null_rate.alpha),
            expected=0.0,
            tolerance=_tolerance(v),
        )
        for name, tests in verdicts.items()
        for v in tests
        if v.version in ("repaired", "trained learners")
    ]


def _tolerance(verdict: Verdict) -> float:
    """2.58 standard errors of the rate, plus half a study."""
    rate = verdict.null_rate
    error = (rate.alpha * (1.0 - rate.alpha) / rate.trials) ** 0.5
    return 2.576 * error + 0.5 / rate.trials


def closing_text(verdicts: Verdicts, checks: list[report.Check]) -> str:
    """The verdict table for a terminal, then the checks."""
    rows = [
        [name if i == 0 else "", *_cells(verdict)]
        for name, tests in verdicts.items()
        for i, verdict in enumerate(tests)
    ]
    table = [[*_COLUMNS], *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]
    return "\n".join([*lines, "", *([report.checks_table(checks)] if checks else [])])


_COLUMNS = (
    "",
    "test",
    "outcome",
    "estimate (95 %)",
    "p",
    "n",
    "false positives at .05",
    "power",
)


def _cells(v: Verdict) -> list[str]:
    null = v.null_rate
    return [
        v.version,
        v.outcome,
        f"{v.estimate:.3g} ({v.low:.3g} to {v.high:.3g})",
        f"{v.p_value:.2g}",
        " + ".join(str(n) for n in v.n),
        f"{null.rate:.3f} ({null.low:.3f} to {null.high:.3f})",
        f"{v.power:.2f}",
    ]


def write_report(
    config: DictConfig,
    chosen: Mapping[str, Registration],
    verdicts: Verdicts,
    checks: list[report.Check],
    output: Path,
    wording: Wording,
) -> None:
    """Write every output file, each whole or not at all; the page comes last."""
    table = pd.DataFrame(
        {"prediction": name} | _record(verdict)
        for name, tests in verdicts.items()
        for verdict in tests
    )
    report.write_whole(output / "verdicts.csv", lambda path: table.to_csv(path, index=False))
    summary = {
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "verdicts": {name: [_record(v) for v in tests] for name, tests in verdicts.items()},
        "all_checks_passed": all(check.passed for check in checks),
    }
    write_summary(output / "summary.json", summary)
    sections = [_overview(chosen, verdicts)]
    sections += [_section(chosen[name], tests) for name, tests in verdicts.items()]
    page = report.render_page(wording.title, wording.introduction, sections, wording.footer)
    report.write_text(output / "report.html", page)


def _record(v: Verdict) -> dict:
    return {
        "version": v.version,
        "outcome": v.outcome,
        "effect": v.effect,
        "estimate": _finite(v.estimate),
        "low_95": _finite(v.low),
        "high_95": _finite(v.high),
        "p_value": v.p_value,
        "n": " + ".join(str(n) for n in v.n),
        "false_positive_rate": v.null_rate.rate,
        "false_positive_low_95": v.null_rate.low,
        "false_positive_high_95": v.null_rate.high,
        "null_studies": v.null_rate.trials,
        "power": v.power,
        "reason": v.reason,
    }


def _finite(value: float) -> float | None:
    """None for an open end of an interval: JSON has no infinity."""
    return float(value) if abs(value) != float("inf") else None


def _overview(chosen: Mapping[str, Registration], verdicts: Verdicts) -> report.Section:
    counts = {
        outcome: sum(tests[-1].outcome == outcome for tests in verdicts.values())
        for outcome in ("supported", "refuted", "not testable here")
    }
    last = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    rows = [
        [f"{name}: {chosen[name].title}" if i == 0 else "", *_cells(verdict)]
        for name, tests in verdicts.items()
        for i, verdict in enumerate(tests)
    ]
    paragraph = (
        f"The last test of each prediction counts most: {last}. An outcome is `supported` only if "
        "the registered level is met in the registered direction with the registered effect, "
        "`refuted` only if the study had power 0.8 and did not find it, and `not testable here` if "
        "the test cannot decide, because its outcome contains its predictor or its power is too "
        "small."
    )
    columns = ["prediction", *_COLUMNS[1:]]
    return report.Section("Verdicts", paragraph, table=(columns, rows))


def _section(prediction: Registration, tests: tuple[Verdict, ...]) -> report.Section:
    reasons = " ".join(f"{v.version.capitalize()}: {v.outcome}. {v.reason}" for v in tests)
    paragraph = (
        f"Claim: {prediction.claim} H0: {prediction.null}. H1: {prediction.alternative}. "
        f"Learners: {prediction.simulation} {reasons}"
    )
    rows = [
        ["statistic", prediction.statistic],
        ["level", f"{prediction.alpha:.5g}"],
        ["planned n, power", f"{prediction.planned_n} a condition, {prediction.planned_power:.2f}"],
        ["falsified if", prediction.falsified_if],
        *[[f"effect, {v.version}", f"{v.effect}: {_cells(v)[2]}"] for v in tests],
    ]
    figure = report.verdict_figure([(v.version, v.picture) for v in tests])
    title = f"{prediction.name}: {prediction.title}"
    return report.Section(title, paragraph, figure, (["registered", ""], rows))
