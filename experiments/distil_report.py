"""What `experiments.distil` prints and writes, all of it derived from the ledger."""

from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

import sigma_jax
from experiments.arc import write_summary
from experiments.distil import AFTER, BEFORE, HELD_OUT, LEARNT, PARTS, TOO_LONG
from sigma_jax import grounding, report

if TYPE_CHECKING:
    from sigma_jax.grounding import Accuracy, Evaluation, Gate, LedgerSummary

_NOT_LEARNT, _SCAN, _ALL = "not learnt", "SCAN prompts", "all prompts"
_SCAN_TEST, _GROUNDED = "SCAN's test", "grounded, all prompts"
_COLUMNS = ["", "before", "after", "difference", "95 % interval", "questions"]


@dataclass(frozen=True)
class Findings:
    """What the records of a distillation say."""

    evaluation: "Evaluation"
    pairs: list[dict[str, Any]]
    losses: dict[str, dict[str, Any]]
    """Before and after, by what became of the pairs."""
    log: list[dict[str, Any]]
    """Of the training, a line a segment."""
    adapter: dict[str, Any]
    scan: dict[str, list[bool]]
    """Which commands were answered exactly, by arm."""

    def part_of(self, name: str, category: str) -> str:
        """What became of the prompt of that id."""
        if name in {pair["id"] for pair in self.pairs if pair["part"] == LEARNT}:
            return LEARNT
        if category == "scan":
            return _SCAN
        share = self.evaluation.about["configuration"]["held_out"]
        return HELD_OUT if grounding.is_held_out(name, share) else _NOT_LEARNT

    def learnt_right(self) -> int:
        """How many of the learnt answers meet their prompt's rubric; the others are wrong."""
        rubrics = {answer.id: answer.rubric for answer in self.evaluation.answers}
        learnt = [pair for pair in self.pairs if pair["part"] == LEARNT]
        return sum(
            pair["id"] in rubrics and grounding.meets(rubrics[pair["id"]], pair["answer"])
            for pair in learnt
        )


def read_findings(path: Path) -> Findings:
    """What a distillation's ledger says, verified."""
    records = list(grounding.read_ledger(path))
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        found[record.kind].append(record.content)
    scan: dict[str, list[bool]] = defaultdict(list)
    for answer in found["scan"]:
        scan[answer["arm"]].append(answer["exact"])
    return Findings(
        evaluation=grounding.read_evaluation(records),
        pairs=found["pair"],
        losses={loss["part"]: loss for loss in found["loss"]},
        log=found["training"][-1]["log"],
        adapter=found["adapter"][-1],
        scan=dict(scan),
    )


def conclude(config: DictConfig, path: Path, output: Path) -> bool:
    """Derive all from the ledger: page, summary, the leaderboard's row; True if all checks pass."""
    findings = read_findings(path)
    place = grounding.verify_ledger(path)
    checks = make_checks(findings)
    table = accuracies(findings)
    gates = gates_after(findings.evaluation)
    write_report(findings, table, gates, checks, place, output)
    row = leaderboard_row(path, findings, table, gates)
    grounding.append_row(Path(config.leaderboard), row)
    print(closing_text(findings, table, checks))
    return all(check.passed for check in checks)


def make_checks(findings: Findings) -> list[report.Check]:
    """Of the machinery alone: whether the kernel is better is a finding, not a check."""
    loss, adapter = findings.losses[LEARNT], findings.adapter
    below_one = float(np.nextafter(1.0, 0.0))
    return [
        report.Check("loss of what is learnt, after / before", _share(loss), 0.0, below_one),
        report.Check(
            "adapter read again: largest difference of a logit",
            adapter["largest_logit_difference"],
            0.0,
            0.0,
        ),
        report.Check(
            "parameters changed that are not the adapter's",
            adapter["frozen_parameters_changed"],
            0.0,
            0.0,
        ),
    ]


def _share(loss: dict[str, Any]) -> float:
    return loss["after"] / loss["before"]


def accuracies(findings: Findings) -> "dict[str, Accuracy]":
    """Before against after, alone by what became of the prompts, and grounded."""
    evaluation = findings.evaluation
    groups = defaultdict(list)
    for answer in evaluation.answers:
        groups[findings.part_of(answer.id, answer.category)].append(answer)
    arms = (BEFORE[0], AFTER[0])
    found = {
        name: grounding.compare_arms(replace(evaluation, answers=tuple(groups[name])), arms=arms)
        for name in (LEARNT, _NOT_LEARNT, HELD_OUT, _SCAN)
    }
    found[_ALL] = grounding.compare_arms(evaluation, arms=arms)
    if findings.scan:
        found[_SCAN_TEST] = grounding.paired_accuracy(*(findings.scan[arm] for arm in arms))
    found[_GROUNDED] = grounding.compare_arms(evaluation, arms=(BEFORE[1], AFTER[1]))
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def gates_after(evaluation: "Evaluation") -> "dict[str, Gate]":
    """The gates that were measured of the distilled kernel: B and F."""
    names = dict(zip(AFTER, grounding.GATE_ARMS, strict=True))
    after = [replace(a, arm=names[a.arm]) for a in evaluation.answers if a.arm in names]
    gates = grounding.judge_gates(replace(evaluation, answers=tuple(after)))
    return {gate.letter: gate for gate in gates if gate.letter in "BF"}


def closing_text(
    findings: Findings, table: "dict[str, Accuracy]", checks: list[report.Check]
) -> str:
    """What was learnt, the table, whether the kernel is better or worse, and the checks."""
    rows = [_COLUMNS, *_rows(table)]
    wide = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(
        [
            material_text(findings),
            "",
            *lines,
            "",
            verdict(table),
            "",
            report.checks_table(checks),
        ]
    )


def material_text(findings: Findings) -> str:
    """How many pairs there were, and what the training made of them."""
    counts = {part: sum(pair["part"] == part for pair in findings.pairs) for part in PARTS}
    text = (
        f"{len(findings.pairs)} hard questions were answered by others with checked evidence: "
        f"{counts[LEARNT]} learnt ({findings.learnt_right()} of the answers are right by the "
        f"rubric), {counts[HELD_OUT]} held out, {counts[TOO_LONG]} too long. Nats a token:"
    )
    losses = [
        f" {name} {loss['before']:.2f} → {loss['after']:.2f}"
        for name, loss in findings.losses.items()
    ]
    return text + ",".join(losses) + "."


def verdict(table: "dict[str, Accuracy]") -> str:
    """Better or worse, in plain words."""
    judged = [f"alone it is {_changed(table[_ALL])} on the golden set"]
    if _SCAN_TEST in table:
        judged.append(f"{_changed(table[_SCAN_TEST])} on SCAN's test")
    judged.append(f"and the loop around it {_changed(table[_GROUNDED])}")
    answered = [
        f"{_count(table[name].second, table[name])} of {table[name].prompts} questions that "
        f"{said} ({_count(table[name].first, table[name])} before)"
        for name, said in ((LEARNT, "it learnt from"), (HELD_OUT, "were held out"))
        if name in table
    ]
    sentence = ", ".join(judged)
    text = f"{sentence[0].upper()}{sentence[1:]}."
    return f"{text} Alone it now answers {' and '.join(answered)}." if answered else text


def _changed(found: "Accuracy") -> str:
    word = "no different beyond chance"
    if found.difference.low > 0.0:
        word = "better"
    elif found.difference.high < 0.0:
        word = "worse"
    return f"{word} ({found.first:.1%} → {found.second:.1%})"


def _count(share: float, found: "Accuracy") -> int:
    return round(share * found.prompts)


def _rows(table: "dict[str, Accuracy]") -> list[list[str]]:
    return [
        [
            name,
            f"{found.first:.1%}",
            f"{found.second:.1%}",
            f"{found.difference.estimate:+.1%}",
            f"{found.difference.low:+.1%} to {found.difference.high:+.1%}",
            str(found.prompts),
        ]
        for name, found in table.items()
    ]


def leaderboard_row(
    path: Path, findings: Findings, table: "dict[str, Accuracy]", gates: "dict[str, Gate]"
) -> dict[str, Any]:
    """The distilled kernel's row: the two gates that were measured, and what has changed.

    Without scores of providers: the kernel that they would be kept for is another.
    """
    about = findings.evaluation.about
    return {
        "time": about["time"],
        "label": f"{about['label']}+distilled",
        "command": about["command"],
        "version": about["version"],
        "gates": {
            letter: {"passed": gate.passed, "value": gate.value} for letter, gate in gates.items()
        },
        "before_and_after": {name: [found.first, found.second] for name, found in table.items()},
        "adapter": findings.adapter["adapter"],
        "ledger": str(path),
    }


def write_report(
    findings: Findings,
    table: "dict[str, Accuracy]",
    gates: "dict[str, Gate]",
    checks: list[report.Check],
    place: "LedgerSummary",
    output: Path,
) -> None:
    """Write log, summary and page, each whole or not at all; the page comes last."""
    about = findings.evaluation.about
    log = pd.DataFrame(findings.log)
    report.write_whole(output / "training_log.csv", lambda path: log.to_csv(path, index=False))
    summary = {
        "about": about,
        "ledger": {"records": place.records, "head": place.head},
        "pairs": {
            part: [pair["id"] for pair in findings.pairs if pair["part"] == part] for part in PARTS
        },
        "learnt_answers_right": findings.learnt_right(),
        "nats_a_token": findings.losses,
        "accuracy": {row[0]: row[1:] for row in _rows(table)},
        "gates": {letter: vars(gate) for letter, gate in gates.items()},
        "verdict": verdict(table),
        "adapter": findings.adapter,
        "checks": {check.name: check.passed for check in checks},
        "all_checks_passed": all(check.passed for check in checks),
    }
    write_summary(output / "summary.json", summary)
    page = report.render_page(
        f"Distilled: {about['label']}",
        f"{verdict(table)} {material_text(findings)}",
        _sections(findings, table, gates, checks, log),
        f"sigma_jax {sigma_jax.__version__}; command: {about['command']}; {about['time']}. Every "
        f"number is derived from ledger.jsonl: {place.records:,} records, head {place.head}.",
    )
    report.write_text(output / "report.html", page)


def _bar(share: float, found: "Accuracy") -> tuple[float, int, int]:
    return share, _count(share, found), found.prompts


def _sections(
    findings: Findings,
    table: "dict[str, Accuracy]",
    gates: "dict[str, Gate]",
    checks: list[report.Check],
    log: pd.DataFrame,
) -> list[report.Section]:
    alone = {name: found for name, found in table.items() if name != _GROUNDED}
    loops = [name for name in log.columns if name.startswith("loss_loop_")]
    check_rows = [
        [c.name, f"{c.value:.4g}", f"{c.tolerance:.3g}", "ok" if c.passed else "FAILED"]
        for c in checks
    ]
    pair_rows = [
        [pair["id"], pair["part"], pair["provider"], str(pair["tokens"])] for pair in findings.pairs
    ]
    return [
        report.Section(
            "Better or worse",
            "Right by the rubric (SCAN's test: exact), the kernel alone unless said otherwise. "
            "A hash of their id decides which questions are held out; of the others those were "
            "learnt that another provider had answered with checked evidence, as far as they are "
            "short enough. The figure has Wilson's 95 % intervals; those of the "
            "differences are paired, by bootstrap over questions. Of the distilled kernel: "
            + "; ".join(f"{gate.letter}, {gate.finding}" for gate in gates.values())
            + ".",
            report.accuracy_figure(
                list(alone),
                [_bar(found.first, found) for found in alone.values()],
                [_bar(found.second, found) for found in alone.values()],
                arms=("before", "after"),
                grouped_by="what became of the questions",
            ),
            table=(_COLUMNS, _rows(table)),
        ),
        report.Section(
            "Learning",
            "Each loop's cross-entropy on the batches, those that are practised again among them; "
            "a point is the mean over a line of the log.",
            report.training_figure(
                log.step.to_numpy(float),
                log[loops].to_numpy(),
                log.exit_step.to_numpy(),
                log.entropy.to_numpy(),
            ),
        ),
        report.Section(
            "Checks",
            "Of the machinery alone. Values must not exceed their tolerance.",
            table=(["check", "value", "tolerance", ""], check_rows),
        ),
        report.Section(
            "The pairs",
            "Chosen by their evidence alone, whether right or wrong.",
            table=(["question", "part", "answered by", "tokens"], pair_rows),
        ),
    ]
