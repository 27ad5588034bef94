"""The predictions' program, as a user runs it: outputs, subsets, bad input."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from experiments.launch import one_line_errors
from experiments.predictions import run_predictions
from sigma_jax.predictions import PREDICTIONS

ROOT = Path(__file__).parents[2]
SMALL = ["n=40", "null_studies=100"]


def run(output: Path, *overrides: str) -> bool:
    """Run the program in this process."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("predictions", overrides=[*SMALL, *overrides])
    return run_predictions(config, output)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """One small run of two predictions."""
    output = tmp_path_factory.mktemp("predictions")
    run(output, "select=[P1,P6]")
    return output


def test_every_prediction_of_the_issue_is_there():
    core = [f"P{i}" for i in range(1, 10)]
    assert list(PREDICTIONS) == [*core, "M1", "H6.1", "H6.2", "H6.3"]


def test_every_test_is_a_row(finished):
    table = pd.read_csv(finished / "verdicts.csv")
    assert set(table.prediction) == {"P1", "P6"}
    assert {"as registered", "repaired"} <= set(table.version)
    assert table.outcome.isin(["supported", "refuted", "not testable here"]).all()
    numbers = ["p_value", "false_positive_rate", "null_studies", "power", "estimate"]
    assert table[numbers].notna().all().all()


def test_the_page_has_a_figure_for_each_and_needs_nothing_else(finished):
    page = (finished / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_a_row_run_alone_says_the_same(finished, tmp_path):
    run(tmp_path, "select=[P1]")
    alone = json.loads((tmp_path / "summary.json").read_text())["verdicts"]["P1"]
    among = json.loads((finished / "summary.json").read_text())["verdicts"]["P1"]
    assert alone == among


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["select=[P10]"], "P10"),
        (["select=[]"], "select"),
        (["n=5"], "n must be at least 20 runs a condition"),
        (["null_studies=3"], "null_studies must be at least 100"),
    ],
)
def test_bad_input_is_one_line(overrides, named, tmp_path, capsys):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("predictions", overrides=overrides)
    with pytest.raises(SystemExit) as stopped:
        one_line_errors(lambda c: run_predictions(c, tmp_path))(config)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
