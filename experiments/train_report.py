"""What `experiments.train` prints and writes: a table, a plain conclusion, curves, a page."""

import csv
import io
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

import sigma_jax
from experiments.arc import write_summary
from experiments.train_results import (
    CALIBRATION,
    FAMILIAR,
    TEST,
    Results,
    against,
    agreement,
    difference,
    first_entry,
    retained,
    untrained_signal,
)
from sigma_jax import report, training

WITHDRAWN = "full, withdrawn"
_MATCHED = "batches without σ"
_NOTABLE = 0.05
"""Differences of accuracy below are called small, whatever their p-value."""


def make_checks(results: Results) -> list[report.Check]:
    """Of the machinery: what the conditions do is a finding, and no check."""
    sigma = np.concatenate([np.asarray(t.sigma).ravel() for t in results.trace.values()])
    outside = int(((sigma < 0.0) | (sigma > 1.0)).sum())
    checks = [
        report.Check("test sentences in what steers training", results.leaks.total, 0.0, 0.0),
        report.Check("σ outside [0, 1]", outside, 0.0, 0.0),
        report.Check("σ̃ of untrained learners", untrained_signal(results), 0.0, 0.15),
    ]
    if {"full", _MATCHED} <= set(results.trace):
        shares = [
            float(np.asarray(results.trace[name].share).mean()) for name in ("full", _MATCHED)
        ]
        checks.append(
            report.Check("compositional pairs, matched less full", shares[1] - shares[0], 0.0, 1e-6)
        )
    return checks


def conclusion(results: Results) -> list[str]:
    """What came out, in sentences that follow from the numbers alone."""
    sentences = []
    if "baseline" in results.accuracy:
        base = results.final("baseline")
        familiar = results.final("baseline", FAMILIAR)
        sentences.append(
            f"Plain training solves {familiar.mean():.1%} of what is familiar and "
            f"{base.mean():.1%} of the test."
        )
        gains = against(results, "baseline")
        better = [n for n, (d, _, p) in gains.items() if p < 0.05 and d >= _NOTABLE]
        worse = [n for n, (d, _, p) in gains.items() if p < 0.05 and d <= -_NOTABLE]
        sentences.append(
            f"Better than that on the test by at least {_NOTABLE:.0%} (Holm's p < 0.05): "
            f"{', '.join(better) or 'no condition'}; worse: {', '.join(worse) or 'none'}."
        )
    if {"full", _MATCHED} <= set(results.accuracy):
        sentences.append(_versus(results, "full", _MATCHED, "What σ adds to the same batches"))
    if {"σ without batches", "baseline"} <= set(results.accuracy):
        sentences.append(
            _versus(results, "σ without batches", "baseline", "What σ does without batches")
        )
    for name, claim in (
        ("permuted σ", "What it costs to permute σ in time"),
        ("random schedule", "What it costs to permute the schedule in time"),
    ):
        if {name, "full"} <= set(results.accuracy):
            sentences.append(_versus(results, name, "full", claim))
    sentences.append(_withdrawal(results))
    found = agreement(results)
    if found is not None:
        sentences.append(
            f"σ̃ and σ̂ over all learners at the end: Spearman's ρ = {found.estimate:.2f} "
            f"[{found.low:.2f}, {found.high:.2f}] (the earlier paper expects at least 0.7)."
        )
    if "full" in results.accuracy:
        observed = results.observed_sigma("full")[:, -1].mean()
        measured = results.measured_sigma("full")[:, -1]
        if np.isfinite(measured).any():
            sentences.append(
                f"In the full condition σ̃ ends at {observed:.2f} where σ̂ is "
                f"{np.nanmean(measured):.2f}, with calibrated weights."
            )
    return [sentence for sentence in sentences if sentence]


def _versus(results: Results, one: str, other: str, claim: str) -> str:
    test = difference(results.final(one), results.final(other))
    mean = float((results.final(one) - results.final(other)).mean())
    interval = (
        "" if test is None else f" [{test.low:+.1%}, {test.high:+.1%}], p = {test.p_value:.2g}"
    )
    return f"{claim} ({one} less {other}): {mean:+.1%}{interval}."


def _withdrawal(results: Results) -> str:
    if WITHDRAWN not in results.accuracy:
        return ""
    left = retained(results, WITHDRAWN)
    if left is None:
        return (
            f"Withdrawn at step {results.withdraw_at}: the full condition gained less than 5 "
            "percentage points, so there is nothing that could be kept or lost."
        )
    return (
        f"Withdrawn at step {results.withdraw_at}, {left[0]:.0%} [{left[1]:.0%}, {left[2]:.0%}] of "
        "the full condition's gain is there at the end (the printed model forgets, the hysteretic "
        "one keeps)."
    )


def table(results: Results) -> tuple[list[str], list[list[str]]]:
    """A row a condition; means over the seeds, with Student's intervals."""
    columns = ["condition", "familiar", "calibration", "test", "test less baseline", "Holm's p"]
    columns += ["comp. pairs", "σ at the end", "phase 2 from step"]
    gains = against(results, "baseline") if "baseline" in results.accuracy else {}
    rows = []
    for name in results.accuracy:
        trace = results.trace[name]
        gain, test, p = gains.get(name, (float("nan"), None, float("nan")))
        entry = first_entry(results, name)
        entered = np.isfinite(entry)
        rows.append(
            [
                name,
                *(_interval(results.final(name, at)) for at in (FAMILIAR, CALIBRATION, TEST)),
                _gain(gain, test),
                "" if name not in gains else f"{p:.2g}",
                f"{np.asarray(trace.share).mean():.1%}",
                f"{np.asarray(trace.sigma)[:, -1].mean():.2f}",
                f"{np.median(entry[entered]):.0f} ({entered.sum()} of {entered.size})"
                if entered.any()
                else "never",
            ]
        )
    return columns, rows


def _gain(gain: float, test) -> str:
    if not np.isfinite(gain):
        return ""
    return f"{gain:+.1%}" + ("" if test is None else f" [{test.low:+.1%}, {test.high:+.1%}]")


def _interval(values: np.ndarray) -> str:
    from scipy import stats

    if len(values) < 2:
        return f"{values.mean():.1%}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():.1%} ± {half:.1%}"


def closing_text(config: DictConfig, results: Results, checks: list[report.Check]) -> str:
    """The table, the conclusion and the checks, for a terminal."""
    columns, rows = table(results)
    widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]
    lines = [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in [columns, *rows]
    ]
    return "\n".join([*lines, "", *conclusion(results), "", report.checks_table(checks)])


def write_report(
    config: DictConfig, results: Results, checks: list[report.Check], output: Path
) -> None:
    """Write the curves, the table, the summary and the page, each whole or not at all."""
    report.write_netcdf(output / "runs.nc", _dataset(config, results))
    report.write_text(output / "results.csv", _csv(results))
    write_summary(output / "summary.json", _summary(config, results, checks))
    page = report.render_page(
        "Learners coupled to the Σ-Model",
        f"Task {results.task.name}, {len(results.seeds)} seeds a condition, {results.steps[-1]} "
        f"steps, exact match of what the learners say alone. {' '.join(conclusion(results))}",
        _sections(config, results, checks),
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.train "
        f"task={results.task.name}; {len(results.seeds)} seeds from {results.seeds[0]}.",
    )
    report.write_text(output / "report.html", page)


def _sections(
    config: DictConfig, results: Results, checks: list[report.Check]
) -> list[report.Section]:
    counts = {name: len(results.task.part(name)) for name in training.PARTS}
    sizes = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    check_rows = [
        [c.name, f"{c.value:.4g}", f"{c.tolerance:.3g}", "ok" if c.passed else "FAILED"]
        for c in checks
    ]
    return [
        report.Section(
            "What the conditions do",
            "Means over the seeds with Student's 95 % intervals; every seed is in every condition, "
            "with the same initial parameters, batches and dropout, so differences are paired. All "
            "conditions take the same number of pairs a step.",
            table=table(results),
        ),
        report.Section(
            "Out of distribution, over training",
            "Exact match on the test (blue) and on what is familiar (red); lines are means, bands "
            "the range of the seeds; grey is the baseline on the test. Dotted: the median step of "
            "phase 2.",
            _accuracy_figure(results),
        ),
        report.Section(
            "Coherence",
            "What the three signals together observe (σ̃, blue), what the filter makes of it with "
            "the Σ-Model (σ, red), and what the calibration part measures (σ̂, green dots). Dotted: "
            f"the critical value {config.thresholds.sigma_critical:g}.",
            _coherence_figure(config, results),
        ),
        report.Section(
            "The signals",
            "Gradients (GCA, blue), structure (RGA, red) and paraphrases (AC, green), each against "
            "its null, so that an untrained network is near zero.",
            _signals_figure(results),
        ),
        report.Section(
            "The parts of the task",
            f"Sentences: {sizes}. Shared between parts: "
            f"{sum(results.leaks.shared.values())}; forbidden by the split in what steers "
            f"training: {sum(results.leaks.forbidden.values())}. Left out for a word that training "
            f"does not have: {results.task.unseen}.",
        ),
        report.Section(
            "Checks",
            "Of the machinery.",
            table=(["check", "value", "tolerance", ""], check_rows),
        ),
    ]


def _curves(results: Results, part: int, label: str) -> dict[str, report.LearnerCurve]:
    return {
        name: report.LearnerCurve(results.steps, each[..., part], label)
        for name, each in results.accuracy.items()
    }


def _accuracy_figure(results: Results):
    test, familiar = (
        _curves(results, part, label) for part, label in ((TEST, "test"), (FAMILIAR, "familiar"))
    )
    marks = {name: float(np.median(first_entry(results, name))) for name in results.accuracy}
    base = test.get("baseline")
    return report.learners_figure(
        {name: (test[name], familiar[name]) for name in test},
        "exact match (share)",
        reference=None if base is None else base._replace(label="baseline, test"),
        marks=marks,
    )


def _coherence_figure(config: DictConfig, results: Results):
    panels = {}
    for name, trace in results.trace.items():
        panels[name] = (
            report.LearnerCurve(results.block_steps, np.asarray(trace.observed), "σ̃ observed"),
            report.LearnerCurve(results.block_steps, np.asarray(trace.sigma), "σ filtered"),
            report.LearnerCurve(results.steps, results.measured_sigma(name), "σ̂ measured", True),
        )
    return report.learners_figure(panels, "coherence", level=config.thresholds.sigma_critical)


def _signals_figure(results: Results):
    labels = ("gradients", "structure", "paraphrases")
    return report.learners_figure(
        {
            name: [
                report.LearnerCurve(results.block_steps, np.asarray(trace.signals)[..., at], label)
                for at, label in enumerate(labels)
            ]
            for name, trace in results.trace.items()
        },
        "signal",
        lowest=-0.3,
    )


def _csv(results: Results) -> str:
    """A row for each learner and checkpoint."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["condition", "seed", "step", "familiar", "calibration", "test", "sigma_hat"])
    for name, accuracy in results.accuracy.items():
        measured = results.measured_sigma(name)
        for row, seed in enumerate(results.seeds):
            for at, step in enumerate(results.steps):
                known = np.isfinite(measured[row, at])
                sigma = f"{measured[row, at]:.6g}" if known else ""
                numbers = (f"{value:.6g}" for value in accuracy[row, at])
                writer.writerow([name, seed, step, *numbers, sigma])
    return text.getvalue()


def _dataset(config: DictConfig, results: Results):
    """Every block of every learner, and every checkpoint."""
    names = list(results.accuracy)
    variables: dict[str, tuple[tuple[str, ...], np.ndarray, str]] = {
        field: (
            ("condition", "seed", "block"),
            np.stack([np.asarray(getattr(results.trace[n], field), float) for n in names]),
            field.replace("_", " "),
        )
        for field in training.BlockTrace._fields
        if field != "signals"
    }
    variables["signals"] = (
        ("condition", "seed", "block", "signal"),
        np.stack([np.asarray(results.trace[n].signals, float) for n in names]),
        "GCA, RGA, AC",
    )
    for field, values in (("accuracy", results.accuracy), ("weights", results.weights)):
        last = "part" if field == "accuracy" else "signal"
        variables[field] = (
            ("condition", "seed", "checkpoint", last),
            np.stack([values[n] for n in names]),
            "exact match (share)" if field == "accuracy" else "weights of the signals in σ̃",
        )
    return report.labelled_dataset(
        variables,
        {
            "condition": names,
            "seed": np.asarray(results.seeds),
            "block": results.block_steps,
            "checkpoint": results.steps,
            "part": list(training.MEASURED),
            "signal": list(training.SIGNALS),
        },
        {"configuration": OmegaConf.to_yaml(config, resolve=True)},
    )


def _summary(config: DictConfig, results: Results, checks: list[report.Check]) -> dict:
    gains = against(results, "baseline") if "baseline" in results.accuracy else {}
    return {
        "command": f"python -m experiments.train task={results.task.name}",
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "conclusion": conclusion(results),
        "parts": {name: len(results.task.part(name)) for name in training.PARTS},
        "left out for unseen words": results.task.unseen,
        "leaks": {"shared": results.leaks.shared, "forbidden": results.leaks.forbidden},
        "conditions": {
            name: {
                "familiar": results.final(name, FAMILIAR).tolist(),
                "calibration": results.final(name, CALIBRATION).tolist(),
                "test": results.final(name).tolist(),
                "holm_p_against_baseline": gains[name][2] if name in gains else None,
            }
            for name in results.accuracy
        },
        "checks": [
            {"name": c.name, "value": float(c.value), "passed": bool(c.passed)} for c in checks
        ],
        "all_checks_passed": all(check.passed for check in checks),
    }
