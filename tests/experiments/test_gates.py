"""The gates' program: from questions to a page that the ledger alone makes again."""

import json
from functools import partial
from pathlib import Path

import pytest

from experiments import gates_report
from experiments.gates import run_gates
from sigma_jax.grounding import LedgerError, read_rows
from tests.experiments.small_configuration import composed

PAGE = """# The machine

A swap is accepted if the relative drift is below 0.25.

Retries rest for 30 seconds after three errors.
"""
QUESTIONS = (
    ("swap", "Below which relative drift is a swap accepted?", "0.25", "relative drift is below"),
    ("rest", "How many seconds do retries rest after three errors?", "30", "30 seconds"),
    ("scan", "jump left twice", "I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP", "The machine"),
)
SMALL = ["passages=2", "max_tokens=24", "human_eval.problems=0"]
configure = partial(composed, "gates", SMALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A corpus of one page, and three questions about it."""
    folder = tmp_path_factory.mktemp("gates")
    (folder / "corpus" / "docs").mkdir(parents=True)
    (folder / "corpus" / "docs" / "page.md").write_text(PAGE)
    lines = [
        {
            "id": name,
            "difficulty": "easy",
            "category": "test",
            "prompt": question,
            "rubric": rubric,
            "sources": [{"path": "docs/page.md", "quote": quote}],
        }
        for name, question, rubric, quote in QUESTIONS
    ]
    (folder / "set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def overrides(place: Path) -> list[str]:
    return [
        f"corpus={place / 'corpus'}",
        f"prompts={place / 'set.jsonl'}",
        f"leaderboard={place / 'board.jsonl'}",
    ]


@pytest.fixture(scope="module")
def finished(place) -> tuple[Path, bool]:
    output = place / "run"
    return output, run_gates(configure(*overrides(place)), output)


@pytest.mark.slow
def test_three_questions_are_answered_and_a_set_so_small_fails_gate_a(finished, place):
    output, passed = finished
    summary = json.loads((output / "summary.json").read_text())
    gates = summary["gates"]
    assert not passed
    assert {letter: gate["passed"] for letter, gate in gates.items()} == {
        "A": False,
        "B": gates["B"]["passed"],  # three questions may be too few
        "C": None,
        "D": True,
        "E": True,
        "F": True,
    }
    assert gates["C"]["finding"] == "not measured: human_eval.problems is 0"
    assert summary["accuracy"]["all"][:2] == ["33.3%", "100.0%"]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert summary["ledger"]["head"] in page
    (row,) = read_rows(place / "board.jsonl")
    assert row["label"] == "kernel-mini"
    assert row["scores"]["offline"] == {"swap": 1.0, "rest": 1.0, "scan": 0.0}


@pytest.mark.slow
def test_the_ledger_alone_makes_the_page_again(finished, place, tmp_path):
    output, _ = finished
    config = configure(f"leaderboard={tmp_path / 'board.jsonl'}")
    gates_report.conclude(config, output / "ledger.jsonl", tmp_path)
    for name in ("summary.json", "report.html"):
        assert (tmp_path / name).read_bytes() == (output / name).read_bytes()
    forged = tmp_path / "forged.jsonl"
    lines = (output / "ledger.jsonl").read_bytes()
    forged.write_bytes(lines.replace(b'"rubric":"30"', b'"rubric":"31"'))
    (tmp_path / "forged.jsonl.head").write_bytes((output / "ledger.jsonl.head").read_bytes())
    with pytest.raises(LedgerError):
        gates_report.conclude(config, forged, tmp_path)


@pytest.mark.slow
def test_an_evaluation_is_not_written_over(finished, place):
    with pytest.raises(ValueError, match="holds an evaluation already"):
        run_gates(configure(*overrides(place)), finished[0])


@pytest.mark.parametrize(
    ("override", "error", "named"),
    [
        ("passages=0", ValueError, "passages must be a whole number of at least 1; got 0"),
        ("providers=[{kind: telegraph}]", ValueError, "kind must be openai or ollama"),
        ("corpus=nowhere", ValueError, "root must be a folder; got 'nowhere'"),
        ("prompts=nowhere.jsonl", OSError, "nowhere.jsonl"),
        ("kernel=./nowhere", OSError, "nowhere"),
        ("adapter=./nowhere", OSError, "nowhere"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(place, tmp_path, override, error, named):
    with pytest.raises(error, match=named):
        run_gates(configure(*overrides(place), override), tmp_path)
    assert not any(tmp_path.iterdir())
