"""The program that watches the state machine, as a user runs it: outputs, checks, bad input."""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from experiments.launch import one_line_errors
from experiments.rollout import count_differences, run_rollout
from sigma_jax.vm import load_snapshot
from tests.experiments.small_configuration import composed

SMALL = ["dim=3", "batch=4", "steps=80", "chunk=40", "node.width=8", "collapse.steps=10"]


configure = partial(composed, "rollout", SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, bool]:
    """One small run, and whether its checks passed."""
    output = tmp_path_factory.mktemp("rollout")
    return output, run_rollout(configure(), output)


@pytest.mark.slow
def test_every_check_passes(finished):
    output, passed = finished
    summary = json.loads((output / "summary.json").read_text())
    assert passed
    assert summary["all_checks_passed"]
    assert all(summary["checks"].values())
    assert len(summary["checks"]) == 13


@pytest.mark.slow
def test_the_summary_tells_what_happened(finished):
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert [row["accepted"] for row in summary["swaps"]] == [True, False] * 4
    assert summary["flags"]["steps"] == 4 * (80 - 2)
    assert {row["action"] for row in summary["interventions"]} == {"excite"}
    assert summary["configuration"]["dim"] == 3


@pytest.mark.slow
def test_the_trace_is_whole(finished):
    with xr.open_dataset(finished[0] / "trace.nc", engine="scipy") as trace:
        assert dict(trace.sizes) == {"trajectory": 4, "step": 80}
        assert trace["alive"].all()
        assert set(np.unique(trace["active"])) == {0, 1}
        np.testing.assert_allclose(trace["dilation"], 1 + trace["covariance_trace"] / 3)
        assert np.isfinite(trace["cost"]).all()


@pytest.mark.slow
def test_the_snapshot_is_of_the_end(finished):
    snapshot = load_snapshot(finished[0] / "snapshot.csf")
    assert snapshot.step == 80
    assert snapshot.active_id == "b"
    assert snapshot.x.shape == (4, 3)


@pytest.mark.slow
def test_the_page_has_its_figures_and_needs_nothing_else(finished):
    page = (finished[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "FAILED" not in page


def test_differences_are_counted():
    one = {"a": np.zeros(3), "b": np.array([True, False])}
    other = {"a": np.array([0.0, 1.0, np.nan]), "b": np.array([True, True])}
    assert count_differences(one, one) == 0
    assert count_differences(one, other) == 3


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("batch=0", "batch must be a whole number of at least 1; got 0"),
        ("steps=2.5", "steps must be a whole number"),
        ("chunk=0", "chunk must be a whole number"),
        ("near=x", "near must be a number in [0, inf); got 'x'"),
        ("swaps=[{at: 1.0, to: b}]", "swaps.at must be a number in [0, 1); got 1.0"),
        ("swaps=[{at: 0.5, to: d}]", "there is no node 'd'; choose from a, b, c"),
        ("swaps=[{at: 0.5, to: b}, {at: 0.501, to: c}]", "swaps asks twice for one step"),
        ("jumps=[{at: 0.5, length: -1}]", "jumps.length must be a number"),
        ("covariance=-1.0", "covariance must be positive definite"),
        ("node.width=0", "width"),
        ("collapse.dim=4", "collapse.dim must be a whole number of at least 5"),
    ],
)
def test_bad_input_is_one_line(override, named, tmp_path, capsys):
    config = configure(override)
    with pytest.raises(SystemExit) as stopped:
        one_line_errors(lambda c: run_rollout(c, tmp_path))(config)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
