"""What `experiments.gates` prints and writes, all of it derived from the ledger."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

import sigma_jax
from experiments.arc import write_summary
from sigma_jax import grounding, report

if TYPE_CHECKING:
    from sigma_jax.grounding import Evaluation, Gate, LedgerSummary

_MARKS = {True: "ok", False: "FAILED", None: "not measured"}


def conclude(config: DictConfig, path: Path, output: Path) -> bool:
    """Derive the gates from a ledger, print them, write page, summary and the leaderboard's row."""
    evaluation = grounding.read_evaluation(grounding.read_ledger(path))
    place = grounding.verify_ledger(path)
    gates = grounding.judge_gates(evaluation)
    good = grounding.gates_passed(gates)
    write_report(evaluation, gates, place, output)
    grounding.append_row(Path(config.leaderboard), leaderboard_row(path, evaluation, gates))
    print(closing_text(gates))
    return good


def closing_text(gates: "tuple[Gate, ...]") -> str:
    """A line a gate, and the verdict."""
    lines = [
        f"{gate.letter}  {gate.title:<26}  {_mark(gate):<12}  {gate.finding}" for gate in gates
    ]
    failed = [gate.letter for gate in gates if gate.required and gate.passed is not True]
    verdict = "ALL GATES PASSED" if not failed else f"GATES FAILED: {', '.join(failed)}"
    return "\n".join([*lines, verdict])


def _mark(gate: "Gate") -> str:
    return "tracked" if not gate.required and gate.passed else _MARKS[gate.passed]


def leaderboard_row(
    path: Path, evaluation: "Evaluation", gates: "tuple[Gate, ...]"
) -> dict[str, Any]:
    """One evaluation for the leaderboard, with what each provider got right when it was asked."""
    about = evaluation.about
    return {
        "time": about["time"],
        "label": about["label"],
        "command": about["command"],
        "version": about["version"],
        "passed": grounding.gates_passed(gates),
        "gates": {gate.letter: {"passed": gate.passed, "value": gate.value} for gate in gates},
        "scores": grounding.provider_scores(grounding.read_ledger(path)),
        "ledger": str(path),
    }


def write_report(
    evaluation: "Evaluation", gates: "tuple[Gate, ...]", place: "LedgerSummary", output: Path
) -> None:
    """Write the summary and the page, each whole or not at all; the page comes last."""
    about = evaluation.about
    summary = {
        "about": about,
        "ledger": {"records": place.records, "head": place.head},
        "gates": {
            gate.letter: {
                "title": gate.title,
                "required": gate.required,
                "passed": gate.passed,
                "finding": gate.finding,
                "value": gate.value,
            }
            for gate in gates
        },
        "accuracy": {row[0]: row[1:] for row in _accuracy_rows(evaluation)},
        "passed": grounding.gates_passed(gates),
    }
    write_summary(output / "summary.json", summary)
    gate_rows = [[g.letter, g.title, g.finding, _mark(g)] for g in gates]
    columns = ["", "alone", "grounded", "difference", "95 % interval", "prompts"]
    sections = [
        report.Section(
            "Gates",
            "C is tracked; the others are required.",
            table=(["", "gate", "finding", ""], gate_rows),
        ),
        report.Section(
            "Answers to the golden set",
            f"Right by the rubric. Alone is {about['kernel']} without evidence; grounded is the "
            "whole loop around it. The figure has Wilson's 95 % intervals; those of the "
            "differences are paired, by bootstrap over prompts.",
            report.accuracy_figure(*_accuracy_bars(evaluation)),
            table=(columns, _accuracy_rows(evaluation)),
        ),
        report.Section(
            "Who said it",
            "Of the grounded answers: whose words were served, trusted ones (their evidence was "
            "checked) apart from proposals.",
            table=(["provider", "standing", "answers", "right"], _speaker_rows(evaluation)),
        ),
        report.Section(
            "Swaps",
            "Each candidate proposed to every trajectory, the kernel's loop active. A relative "
            "drift below the tolerance is accepted.",
            table=(
                ["candidate", "relative drift, least to most", "accepted", "stranger"],
                _swap_rows(evaluation),
            ),
        ),
        report.Section(
            "Replays",
            "SHA-256 of every number of the state, trace and swaps.",
            table=(
                ["run", "first", "again", ""],
                [[r.case, r.first[:16], r.second[:16], _same(r)] for r in evaluation.replays],
            ),
        ),
    ]
    page = report.render_page(
        f"The gates: {about['label']}",
        f"{len(evaluation.answers) // 2} questions over the corpus {about['corpus'][:12]}. "
        f"{closing_text(gates).splitlines()[-1]}.",
        sections,
        f"sigma_jax {sigma_jax.__version__}; command: {about['command']}; {about['time']}. Every "
        f"number is derived from ledger.jsonl: {place.records:,} records, head {place.head}.",
    )
    report.write_text(output / "report.html", page)


def _same(replay: Any) -> str:
    return "identical" if replay.first == replay.second else "FAILED"


def _accuracies(evaluation: "Evaluation") -> dict[str, Any]:
    groups = grounding.DIFFICULTIES
    found = {name: grounding.compare_arms(evaluation, difficulty=name) for name in groups}
    found["all"] = grounding.compare_arms(evaluation)
    return {name: accuracy for name, accuracy in found.items() if accuracy is not None}


def _accuracy_rows(evaluation: "Evaluation") -> list[list[str]]:
    return [
        [
            name,
            f"{found.first:.1%}",
            f"{found.second:.1%}",
            f"{found.difference.estimate:+.1%}",
            f"{found.difference.low:+.1%} to {found.difference.high:+.1%}",
            str(found.prompts),
        ]
        for name, found in _accuracies(evaluation).items()
    ]


def _accuracy_bars(evaluation: "Evaluation") -> tuple[list[str], list[Any], list[Any]]:
    found = _accuracies(evaluation)
    alone = [(a.first, round(a.first * a.prompts), a.prompts) for a in found.values()]
    grounded = [(a.second, round(a.second * a.prompts), a.prompts) for a in found.values()]
    return list(found), alone, grounded


def _speaker_rows(evaluation: "Evaluation") -> list[list[str]]:
    groups: dict[tuple[str, str], list[bool]] = {}
    for answer in evaluation.arm("grounded").values():
        standing = "trusted" if answer.trusted else "proposal"
        groups.setdefault((answer.provider or "nobody", standing), []).append(answer.right)
    return [
        [provider, standing, str(len(right)), str(sum(right))]
        for (provider, standing), right in sorted(groups.items())
    ]


def _swap_rows(evaluation: "Evaluation") -> list[list[str]]:
    groups: dict[str, list[Any]] = {}
    for swap in evaluation.swaps:
        groups.setdefault(swap.candidate, []).append(swap)
    return [
        [
            name,
            f"{min(s.delta for s in swaps):.3g} to {max(s.delta for s in swaps):.3g}",
            f"{sum(s.accepted for s in swaps)} of {len(swaps)}",
            "yes" if swaps[0].stranger else "no",
        ]
        for name, swaps in groups.items()
    ]
