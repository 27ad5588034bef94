"""The program that fits policies, as a user runs it: outputs, intervals, bad input."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.control import run_control
from experiments.control_report import cost_ratio
from experiments.launch import one_line_errors
from tests.experiments.small_configuration import composed

SMALL = [
    "linear.matrix=[[0.3]]",
    "linear.control_matrix=[[1.0]]",
    "neural.dim=1",
    "neural.control_dim=1",
    "neural.width=4",
    "fit.batch=8",
    "fit.steps=40",
    "fit.linear_policy={iterations: 40, rate: 0.2}",
    "fit.neural_policy={iterations: 2, rate: 0.01}",
    "fit.on_neural_node={iterations: 2, rate: 0.01}",
    "evaluate={batch: 8, steps: 60, burn_in: 20}",
]


configure = partial(composed, "control", SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, bool]:
    """One small run, too short for the neural policy, and whether its checks passed."""
    output = tmp_path_factory.mktemp("control")
    return output, run_control(configure(), output)


@pytest.mark.slow
def test_the_costs_are_there_for_every_policy(finished):
    table = pd.read_csv(finished[0] / "costs.csv")
    assert len(table) == 5 * 8
    assert set(table.policy) == {
        "LQR",
        "fitted linear policy",
        "fitted neural policy",
        "no control",
    }
    assert np.isfinite(table.mean_cost).all()


@pytest.mark.slow
def test_a_fit_that_is_too_short_fails_its_check(finished):
    output, passed = finished
    summary = json.loads((output / "summary.json").read_text())
    assert not passed
    assert not summary["all_checks_passed"]
    failed = [name for name, ok in summary["checks"].items() if not ok]
    assert "a linear node, fitted neural policy: share above LQR, at most" in failed
    linear = summary["studies"]["a linear node"]
    assert linear["LQR"]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert linear["fitted linear policy"]["ratio"]["value"] < 1.2
    assert len(linear["fitted linear policy"]["losses"]) == 40


@pytest.mark.slow
def test_the_page_has_its_figures_and_needs_nothing_else(finished):
    page = (finished[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_interval_of_a_ratio_covers_it():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        shared = random.gamma(5.0, 0.2, 100)
        reference = shared + random.normal(0.0, 0.05, 100)
        ratio = cost_ratio(1.1 * shared + random.normal(0.0, 0.05, 100), reference)
        covered += ratio.low <= 1.1 <= ratio.high
    # 99 % of 2,000, less four standard errors.
    assert covered >= 0.981 * 2000
    assert covered < 2000


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("dt=0.0", "dt"),
        ("control_weight=0.0", "control_weight must lie in (0, inf)"),
        ("linear.matrix=[[0.3, 1.0]]", "matrix must be square"),
        ("linear.control_matrix=[[0.0]]", "node cannot be stabilised by its control"),
        ("linear.limit=0.0", "limit"),
        ("fit.batch=1", "fit.batch must be a whole number of at least 2"),
        ("fit.linear_policy.iterations=0", "iterations must be a whole number of at least 1"),
        ("evaluate.burn_in=60", "evaluate.burn_in must lie in"),
        ("evaluate.steps=30", "fit.steps must not exceed evaluate.steps"),
    ],
)
def test_bad_input_is_one_line(override, named, tmp_path, capsys):
    config = configure(override)
    with pytest.raises(SystemExit) as stopped:
        one_line_errors(lambda c: run_control(c, tmp_path))(config)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
