"""What `experiments.converse` prints and writes: tables, sentences, figures, a page."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from omegaconf import DictConfig, OmegaConf

import sigma_jax
from experiments.arc import write_summary
from experiments.converse_results import METRICS, Results, mean_interval
from sigma_jax import report
from sigma_jax.report import (
    ArmBar,
    DriftChart,
    arms_figure,
    detection_figure,
    drift_figure,
    lag_figure,
)

if TYPE_CHECKING:
    from experiments.converse_runs import LostIdentity
    from sigma_jax.runtime import Share

Table = tuple[list[str], list[list[str]]]
_SHOWN_LAGS = (
    "window",
    "full history",
    "static prompt",
    "runtime",
    "minus memories",
    "minus anchor facts",
)
_SHARES = ("within_10", "within_20", "alarmed", "false_alarm", "constraint_alarm", "crystallised")
_SAID = {
    "recall": "fact recall",
    "violations": "constraint violations",
    "consistency": "self-consistency",
    "claims": "setting false claims right",
    "abstention_precision": "abstention precision",
    "tokens": "tokens sent",
    "cached": "cache-hit share",
    "calls": "calls of the model",
    "style_corrections": "corrections of commanded style",
}


def arms_table(results: Results) -> Table:
    """A row an arm: means over the conversations."""
    rows = []
    for arm in results.arms:
        cells = []
        for metric in METRICS:
            values = results.values(arm, metric.name)
            cells.append(f"{values.mean():.{metric.digits}f}" if values.size else "—")
        rows.append([arm, *cells])
    return ["arm", *(metric.title for metric in METRICS)], rows


def compared_table(results: Results) -> Table:
    """The runtime less every other arm: differences, intervals, p-values."""
    titles = {metric.name: metric.title for metric in METRICS}
    rows = [
        [
            each.arm,
            titles[each.metric],
            f"{each.difference:+.3g}",
            f"{each.low:+.3g} to {each.high:+.3g}",
            f"{each.adjusted:.2g}",
            each.verdict,
        ]
        for each in results.compared
        if each.metric in _SAID
    ]
    return ["against", "of", "runtime's less its", "95 % interval", "p (Holm)", "runtime is"], rows


def detection_table(results: Results) -> Table:
    """A row a case: exact intervals."""
    rows = [
        [
            each.case,
            _share(each.within_10),
            _share(each.within_20),
            f"{np.median(each.delays):.0f}" if each.delays else "—",
            _share(each.alarmed),
            _share(each.false_alarm),
            _share(each.constraint_alarm),
            _share(each.crystallised),
        ]
        for each in results.detection
    ]
    columns = ["case", "alarm in 10", "in 20", "median delay", "alarm ever after", "alarm before"]
    return [*columns, "constraint alarm", "crystallised"], rows


def conclusion(results: Results) -> list[str]:
    """What the numbers say, also where the runtime does not win."""
    said = []
    for name, what in _SAID.items():
        by: dict[str, list[str]] = {}
        for each in results.compared:
            if each.metric == name and not each.arm.startswith("minus"):
                by.setdefault(each.verdict, []).append(each.arm)
        parts = [
            f"{verdict} than {_listed(by[verdict])}"
            for verdict in ("better", "worse")
            if verdict in by
        ]
        unlike = by.get("the same", []) + by.get("undecided", [])
        parts += [f"not told apart from {_listed(unlike)}"] if unlike else []
        if parts:
            said.append(f"In {what} the runtime is {'; '.join(parts)}.")
    for arm in (arm for arm in results.arms if arm.startswith("minus")):
        verdicts = {
            verdict: [
                _SAID[each.metric]
                for each in results.compared
                if each.arm == arm and each.metric in _SAID and each.verdict == verdict
            ]
            for verdict in ("better", "worse")
        }
        parts = [f"worse in {_listed(verdicts['better'])}"] if verdicts["better"] else []
        parts += [f"better in {_listed(verdicts['worse'])}"] if verdicts["worse"] else []
        said.append(f"{arm.capitalize()}: {', '.join(parts) or 'no difference is found'}.")
    return [*said, *_detection_sentences(results)]


def _detection_sentences(results: Results) -> list[str]:
    cases = {each.case: each for each in results.detection}
    if not cases:
        return []
    abrupt, steady = cases["abrupt loss"], cases["stationary"]
    style, stiff = cases["obedient style"], cases["crystallising"]
    alarmed = steady.alarmed.count + steady.false_alarm.count
    share = alarmed / steady.alarmed.of
    return [
        f"An abrupt loss of the identity is seen within 10 replies in {_share(abrupt.within_10)}: "
        f"the goal of 95 % is {_met(abrupt.within_10.share >= 0.95)}.",
        f"Of conversations in which nothing happens {share:.1%} alarm: the goal of 5 % is "
        f"{_met(share <= 0.05)}.",
        f"Where the user has commanded a style {_share(style.alarmed)} alarm: the goal of 5 % is "
        f"{_met(style.alarmed.share <= 0.05)}.",
        f"Replies that become alike are called CRYSTALLISED in {_share(stiff.crystallised)}, and "
        f"alarm otherwise in {_share(stiff.alarmed)}.",
    ]


def _met(is_met: bool) -> str:
    return "met" if is_met else "missed"


def closing_text(results: Results) -> str:
    """The tables for a terminal, the sentences, the checks."""
    parts = [_plain(arms_table(results)), ""]
    if results.detection:
        parts += [_plain(detection_table(results)), ""]
    parts += [*conclusion(results), "", report.checks_table(results.checks)]
    return "\n".join(parts)


def write_report(
    config: DictConfig, results: Results, lost: "Sequence[LostIdentity]", output: Path
) -> None:
    """Write the numbers, the summary and the page, each whole or not at all."""
    report.write_text(output / "results.csv", _csv(results))
    if results.detection:
        report.write_text(output / "detection.csv", _table_csv(detection_table(results)))
    write_summary(output / "summary.json", _summary(config, results))
    check_rows = [
        [c.name, f"{c.value:g}", f"{c.tolerance:g}", "ok" if c.passed else "FAILED"]
        for c in results.checks
    ]
    seeds = len(results.seeds)
    page = report.render_page(
        "Conversations, led in many ways",
        f"Model {config.model}; {seeds} conversation{'s' * (seeds > 1)} of each arm, by common "
        "random numbers. Every reply is marked by machine.",
        [
            report.Section(
                "What it shows",
                "Better and worse: the interval of the paired differences excludes zero, and "
                "Holm's p over the metrics is below 0.05.",
                table=(["finding"], [[sentence] for sentence in conclusion(results)]),
            ),
            report.Section(
                "Arms",
                "Means over conversations, the runtime in orange, with 95 % intervals. "
                + " ".join(f"{arm}: {results.about[arm]}" for arm in results.arms),
                arms_figure(_bars(results)),
                arms_table(results),
            ),
            report.Section(
                "Recall by lag",
                "Of what the user last said so many turns before. Abstention is not recall.",
                lag_figure(
                    results.lags,
                    {a: results.recall_by_lag[a] for a in _SHOWN_LAGS if a in results.arms},
                ),
            ),
            *_drift_section(results, lost, config.lost_at),
            *_detection_section(results),
            report.Section(
                "The runtime against each arm",
                "Paired over conversations of one seed: Student's t, or the exact sign test where "
                "all differences are the same; Holm over the metrics of an arm.",
                table=compared_table(results),
            ),
            report.Section(
                "Checks",
                "Of the machinery: a conversation led again has the same bytes, and a replay of "
                "its replies the same statistics.",
                table=(["check", "value", "tolerance", ""], check_rows),
            ),
        ],
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.converse; seeds "
        f"{results.seeds[0]} to {results.seeds[-1]}; turns without a reply: "
        f"{sum(results.failures.values())}.",
    )
    report.write_text(output / "report.html", page)


def _drift_section(
    results: Results, lost: "Sequence[LostIdentity]", lost_at: int
) -> list[report.Section]:
    if not lost:
        return []
    total = sum(results.phases.values())
    phases = ", ".join(
        f"{name.capitalize()} {count / total:.0%}" for name, count in sorted(results.phases.items())
    )
    return [
        report.Section(
            "A conversation that loses its identity",
            f"The scenario with a model whose identity reaches no further than the last message "
            f"from turn {lost_at} on (grey): above only watched, below with the corrections. Of "
            f"the runtime's turns without such a loss: {phases}.",
            drift_figure([DriftChart(*vars(each).values()) for each in lost], lost_at),
        )
    ]


def _detection_section(results: Results) -> list[report.Section]:
    if not results.detection:
        return []
    power = np.array(results.power)
    return [
        report.Section(
            "Detection",
            "Share of conversations with an alarm about the identity since something happened; a "
            "conversation that had alarmed before counts as not seen. Obedient style and "
            "stationary are false alarms. Intervals are exact binomial ones and take conversations "
            "as independent; those of one seed share a calibration by "
            f"{len(results.seeds)} seeds, of d' {power[:, 0].mean():.1f} (style) and "
            f"{power[:, 1].mean():.1f} (content).",
            detection_figure({e.case: (e.delays, e.alarmed.of) for e in results.detection}),
            detection_table(results),
        )
    ]


def _bars(results: Results) -> dict[str, list[ArmBar]]:
    chosen = ("recall", "violations", "tokens", "cached", "calls")
    return {
        metric.title.replace(" per ", "\nper ").replace(" tokens", "\ntokens"): [
            ArmBar(
                arm,
                *(
                    mean_interval(v)
                    if (v := results.values(arm, metric.name)).size
                    else (np.nan,) * 3
                ),
            )
            for arm in results.arms
        ]
        for metric in METRICS
        if metric.name in chosen
    }


def _share(share: "Share") -> str:
    return f"{share.share:.1%} of {share.of} ({share.low:.1%} to {share.high:.1%})"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _plain(table: Table) -> str:
    rows = [table[0], *table[1]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _csv(results: Results) -> str:
    names = [metric.name for metric in METRICS]
    rows = [
        [arm, str(seed), *("" if row[n] is None else f"{row[n]:.6g}" for n in names)]
        for (arm, seed), row in sorted(
            results.rows.items(), key=lambda item: (results.arms.index(item[0][0]), item[0][1])
        )
    ]
    return _table_csv((["arm", "seed", *names], rows))


def _table_csv(table: Table) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([table[0], *table[1]])
    return text.getvalue()


def _summary(config: DictConfig, results: Results) -> dict:
    return {
        "command": "python -m experiments.converse",
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "arms": {
            arm: {
                metric.name: list(mean_interval(values)) if values.size else None
                for metric in METRICS
                for values in [results.values(arm, metric.name)]
            }
            for arm in results.arms
        },
        "recall_by_lag": {
            arm: dict(zip(results.lags, shares, strict=True))
            for arm, shares in results.recall_by_lag.items()
        },
        "phases": results.phases,
        "compared": [each._asdict() | {"verdict": each.verdict} for each in results.compared],
        "detection": [
            each._asdict() | {name: getattr(each, name)._asdict() for name in _SHARES}
            for each in results.detection
        ],
        "failures": results.failures,
        "conclusion": conclusion(results),
        "checks": [
            {"name": c.name, "value": float(c.value), "passed": bool(c.passed)}
            for c in results.checks
        ],
        "all_checks_passed": all(check.passed for check in results.checks),
    }
