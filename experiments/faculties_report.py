"""What `experiments.faculties` prints and writes: scores, what was not answered, a page."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig, OmegaConf
from scipy import stats

import sigma_jax
from experiments.arc import write_summary
from sigma_jax import report

if TYPE_CHECKING:
    from experiments.faculties import Known
    from sigma_jax.faculties import Benchmark, Measurement, Score

NAMES = {
    "h_ptb": "learning (σ)",
    "h_afb": "attention (α)",
    "h_mcb": "metacognition (ζ)",
    "h_dcb": "executive (Ξ)",
    "h_stb": "social (μ)",
}
_COVERED = 0.95

Table = tuple[list[str], list[list[str]]]


def make_checks(known: "Mapping[str, Known]") -> list[report.Check]:
    """Whether the faculties of scripted agents are recovered: in order, and in the intervals."""
    checks = []
    for name, each in known.items():
        true, found = recovered(each)
        measured = np.isfinite(found[:, 0])
        outside = int(((found[:, 1] > true) | (true > found[:, 2]))[measured].sum())
        # As many as 95 % intervals leave out by chance, once in a thousand benchmarks.
        allowed = int(stats.binom.ppf(0.999, int(measured.sum()), 1.0 - _COVERED))
        checks += [
            report.Check(f"{name}: agents that are not measured", int((~measured).sum()), 0, 0),
            report.Check(f"{name}: means out of order", _out_of_order(true, found), 0, 0),
            report.Check(f"{name}: true values outside the interval", outside, 0, allowed),
        ]
    return checks


def recovered(known: "Known") -> tuple[np.ndarray, np.ndarray]:
    """The true values of the faculty, and estimates with intervals (NaN: not measured)."""
    faculty = known.measured[0].score.faculty
    true = np.array([getattr(agent, faculty) for agent in known.agents])
    scores = [measurement.score for measurement in known.measured]
    found = [(s.estimate, s.low, s.high) if s.measured else (np.nan,) * 3 for s in scores]
    return true, np.array(found, float)


def _out_of_order(true: np.ndarray, found: np.ndarray) -> int:
    """How many neighbouring values of the faculty have means in the wrong order."""
    values = np.unique(true)
    means = [np.nanmean(found[true == value, 0]) for value in values]
    return int((np.diff(means) <= 0.0).sum())


def scores_table(measured: "Mapping[str, Measurement]") -> Table:
    """A row a benchmark: the score, and what asking came to."""
    columns = ["benchmark", "faculty", "score", "95 % interval", "answered", "how others ended"]
    columns += ["questions", "characters", "seconds"]
    rows = []
    for name, measurement in measured.items():
        score = measurement.score
        others = {kind: n for kind, n in score.endings.items() if kind != "answered"}
        rows.append(
            [
                name,
                NAMES[name],
                f"{score.estimate:.3f}" if score.measured else "not measured",
                f"{score.low:.3f} to {score.high:.3f}" if score.measured else "",
                f"{score.n} of {score.asked}",
                ", ".join(f"{kind} {n}" for kind, n in others.items()) or "none",
                str(score.calls.questions),
                f"{score.calls.sent:,} out, {score.calls.received:,} in",
                f"{score.calls.seconds:.1f}",
            ]
        )
    return columns, rows


def parts_table(measured: "Mapping[str, Measurement]") -> Table:
    """The other numbers of the designs, those that could be measured."""
    rows = [
        [name, part, f"{each.estimate:.3f}", f"{each.low:.3f} to {each.high:.3f}", str(each.n)]
        for name, measurement in measured.items()
        for part, each in measurement.score.parts.items()
    ]
    return ["benchmark", "part", "estimate", "95 % interval", "answers"], rows


def validity_table(known: "Mapping[str, Known]") -> Table:
    """V_A and its factors."""
    columns = ["benchmark", "CI", "FD", "DG", "R_A", "V_A"]
    rows = []
    for name, each in known.items():
        v = each.validity
        factors = (v.construct, v.formats, v.difficulty, v.reliability, v.product)
        rows.append([name, *(f"{factor:.3f}" for factor in factors)])
    return columns, rows


def readings(measured: "Mapping[str, Measurement]") -> list[str]:
    """What the numbers lead to, in the benchmarks' words, or why there are none."""
    said = {
        name: m.score.reading if m.score.measured else f"not measured, as {m.score.why}"
        for name, m in measured.items()
    }
    return [f"{name}: {text}." for name, text in said.items() if text]


def closing_text(
    benchmarks: "Sequence[Benchmark]",
    measured: "Mapping[str, Measurement]",
    known: "Mapping[str, Known]",
    checks: list[report.Check],
) -> str:
    """The tables for a terminal, then the checks."""
    parts = [_plain(scores_table(measured)), "", *readings(measured), ""]
    parts += [_plain(validity_table(known)), "", report.checks_table(checks)]
    return "\n".join(parts)


def _plain(table: Table) -> str:
    rows = [table[0], *table[1]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write_report(
    config: DictConfig,
    benchmarks: "Sequence[Benchmark]",
    measured: "Mapping[str, Measurement]",
    known: "Mapping[str, Known]",
    checks: list[report.Check],
    output: Path,
) -> None:
    """Write every answer, the scores, the summary and the page, each whole or not at all."""
    report.write_text(output / "answers.jsonl", _answers(measured))
    report.write_text(output / "scores.csv", _csv(measured))
    write_summary(output / "summary.json", _summary(config, measured, known, checks))
    check_rows = [
        [c.name, f"{c.value:g}", f"{c.tolerance:g}", "ok" if c.passed else "FAILED"] for c in checks
    ]
    page = report.render_page(
        "Five faculties",
        f"Agent {config.agent}, {config.size} items a cell. {' '.join(readings(measured))}",
        [
            report.Section(
                "Scores",
                "Each from 0 to 1 with its 95 % interval; metacognition is shown as 1 − |ζ|. A "
                "cross: not measured.",
                report.radar_figure([_spoke(b, measured[b.name].score) for b in benchmarks]),
                table=scores_table(measured),
            ),
            report.Section(
                "Parts",
                "The other numbers of the designs. What was not answered is in none of them.",
                table=parts_table(measured),
            ),
            report.Section(
                "Whether the benchmarks measure what they say",
                "Scripted agents with known faculties: measured against true, with 95 % intervals; "
                "on the dotted line they agree.",
                report.recovery_figure({n: recovered(each) for n, each in known.items()}),
                table=validity_table(known),
            ),
            report.Section(
                "What would speak against them",
                " ".join(f"{b.name}: {measured[b.name].score.falsified_by}" for b in benchmarks),
            ),
            report.Section(
                "Checks",
                "Of the benchmarks, by scripted agents.",
                table=(["check", "value", "tolerance", ""], check_rows),
            ),
        ],
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.faculties "
        f"agent={config.agent}; seed {config.seed}.",
    )
    report.write_text(output / "report.html", page)


def _spoke(benchmark: "Benchmark", score: "Score") -> report.Spoke:
    label = NAMES[benchmark.name]
    if score.estimate is None or score.low is None or score.high is None:
        return report.Spoke(label, None)
    if benchmark.faculty != "zeta":
        return report.Spoke(label, (score.estimate, score.low, score.high))
    ends = abs(score.low), abs(score.high)
    nearest = 0.0 if score.low <= 0.0 <= score.high else min(ends)
    return report.Spoke(label, (1.0 - abs(score.estimate), 1.0 - max(ends), 1.0 - nearest))


def _answers(measured: "Mapping[str, Measurement]") -> str:
    lines = []
    for name, measurement in measured.items():
        for outcome in measurement.outcomes:
            key = outcome.question.key
            line = {
                "benchmark": name,
                "cell": key.cell,
                "item_type": key.item_type,
                "prompt": outcome.question.prompt,
                "right": key.right,
                "ending": outcome.ending.value,
                "answer": outcome.answer,
                "why": outcome.why,
                "seconds": round(outcome.seconds, 4),
            }
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    return "".join(lines)


def _csv(measured: "Mapping[str, Measurement]") -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["benchmark", "part", "estimate", "low", "high", "n"])
    for name, measurement in measured.items():
        score = measurement.score
        whole = (score.estimate, score.low, score.high)
        cells = ["" if value is None else f"{value:.6g}" for value in whole]
        writer.writerow([name, score.faculty, *cells, score.n])
        for part, each in score.parts.items():
            numbers = (each.estimate, each.low, each.high)
            writer.writerow([name, part, *(f"{value:.6g}" for value in numbers), each.n])
    return text.getvalue()


def _summary(
    config: DictConfig,
    measured: "Mapping[str, Measurement]",
    known: "Mapping[str, Known]",
    checks: list[report.Check],
) -> dict:
    return {
        "command": f"python -m experiments.faculties agent={config.agent}",
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "scores": {
            name: {
                "faculty": m.score.faculty,
                "estimate": m.score.estimate,
                "low": m.score.low,
                "high": m.score.high,
                "answered": m.score.n,
                "asked": m.score.asked,
                "endings": dict(m.score.endings),
                "why": m.score.why,
                "reading": m.score.reading,
                "calls": m.score.calls._asdict(),
            }
            for name, m in measured.items()
        },
        "validity": {
            name: {**each.validity._asdict(), "product": each.validity.product}
            for name, each in known.items()
        },
        "checks": [
            {"name": c.name, "value": float(c.value), "passed": bool(c.passed)} for c in checks
        ],
        "all_checks_passed": all(check.passed for check in checks),
    }
