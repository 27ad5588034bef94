"""Predictions on trained learners, as a user runs them: outputs, subsets, bad input."""

import json

import pandas as pd
import pytest

from experiments.launch import one_line_errors
from experiments.trained_predictions import judge_predictions
from tests.experiments.small_configuration import composed

SMALL = [
    "seeds=6",
    "steps=32",
    "null_studies=100",
    "batch=4",
    "learner.heads=1",
    "learner.width=4",
    "learner.hidden=4",
]


@pytest.mark.slow
def test_every_prediction_is_a_row_and_a_figure(tmp_path):
    chosen = ["P1", "P9", "M1", "H6.2", "H6.1"]
    select = f"select=[{','.join(chosen)}]"
    judge_predictions(composed("trained_predictions", SMALL, select), tmp_path)
    table = pd.read_csv(tmp_path / "verdicts.csv")
    assert list(table.prediction) == chosen
    assert (table.version == "trained learners").all()
    assert table.outcome.isin(["supported", "refuted", "not testable here"]).all()
    numbers = ["p_value", "false_positive_rate", "null_studies", "power", "estimate"]
    assert table[numbers].notna().all().all()
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(table)
    assert "nothing is simulated" in page
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["configuration"]["steps"] == 32


def test_one_alone_trains_its_own_learners_only(tmp_path, capsys):
    judge_predictions(composed("trained_predictions", SMALL, "select=[P2]"), tmp_path)
    assert list(pd.read_csv(tmp_path / "verdicts.csv").prediction) == ["P2"]
    printed = capsys.readouterr().out
    assert "shortcuts" in printed
    assert "conditions" not in printed


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("select=[P3]", "P3; choose from P1, P9"),
        ("select=[]", "an empty list"),
        ("seeds=5", "seeds must lie in [6, inf)"),
        ("steps=33", "steps must be a multiple of the 32 checkpoints"),
        ("learner.width=3", "width must be even"),
    ],
)
def test_bad_input_is_one_line(override, named, tmp_path, capsys):
    config = composed("trained_predictions", SMALL, override)
    with pytest.raises(SystemExit) as stopped:
        one_line_errors(lambda c: judge_predictions(c, tmp_path))(config)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
