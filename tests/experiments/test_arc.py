"""The main job and its sweep, as a user runs them: outputs, checks, bad input, kill and resume."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hydra import compose, initialize_config_dir

ROOT = Path(__file__).parents[2]


def arc(*overrides: str, **options) -> subprocess.CompletedProcess:
    """Run the program and capture what it prints."""
    command = [sys.executable, "-m", "experiments.arc", *overrides]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[subprocess.CompletedProcess, Path]:
    """One whole run of the main job."""
    output = tmp_path_factory.mktemp("arc")
    return arc(f"hydra.run.dir={output}"), output


@pytest.mark.slow
def test_the_arc_passes_its_own_checks(finished):
    done, output = finished
    assert done.returncode == 0, done.stderr
    assert "ALL CHECKS PASSED" in done.stdout
    summary = json.loads((output / "summary.json").read_text())
    assert summary["all_checks_passed"]
    assert summary["simulated"]["hysteretic"]["withdrawn"]["final"]["sigma"] == pytest.approx(
        0.6310, abs=1e-3
    )
    assert len(summary["measured"]["fits"]["additive"]) == 3


@pytest.mark.slow
def test_the_report_needs_nothing_else(finished):
    _, output = finished
    page = (output / "report.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("data:image/png;base64,") == 5


@pytest.mark.slow
def test_trajectories_are_labelled(finished):
    _, output = finished
    with xr.open_dataset(output / "trajectories.nc", engine="scipy") as data:
        sigma = data.sigma.sel(model="consistent", regime="targeted", time=400.0)
        assert float(sigma) == pytest.approx(0.4375, abs=1e-3)
        assert set(data.phase.dims) == {"model", "regime", "time"}


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["rates.rho=-1"], "rates.rho"),
        (["rates.rho='-3e-3'"], "rates.rho is the text '-3e-3'"),
        (["initial.sigma=1.5"], "sigma must lie in [0, 1]"),
        (["environment.frontier=0"], "frontier"),
        (["models=[nonsense]"], "unknown variant 'nonsense'"),
        (["withdrawal=500"], "withdrawal"),
        (["models=[]"], "models"),
        (["sweep=r0", "sweep.parameter=rates.nonsense"], "rates.nonsense"),
        (["sweep=r0", "sweep.points=0"], "sweep.points"),
    ],
)
def test_bad_input_is_one_line(overrides, named, tmp_path, capsys, monkeypatch):
    from experiments import arc_results
    from experiments.arc import run_arc
    from experiments.launch import one_line_errors
    from experiments.sweep import run_sweep

    # The first stage, whose one input the next test spoils: it would compile anew in every case.
    monkeypatch.setattr(arc_results, "read_pilot", lambda config, results: {})
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        config = compose("arc", overrides=overrides)
    run = run_sweep if config.get("sweep") else run_arc
    with pytest.raises(SystemExit) as stopped:
        one_line_errors(lambda c: run(c, tmp_path))(config)
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert named in message
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file_ends_the_program_with_one_line(tmp_path):
    done = arc("pilot=/nowhere/curves.csv", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert "/nowhere/curves.csv" in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_killed_sweep_resumes_bit_for_bit(tmp_path):
    options = ["sweep=r0", "sweep.points=3000", "sweep.chunk_size=250", "horizon=200"]
    kept = tmp_path / "chunks"
    first = subprocess.Popen(
        [
            *(sys.executable, "-m", "experiments.arc", *options),
            f"sweep.directory={kept}",
            f"hydra.run.dir={tmp_path / 'killed'}",
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if (kept / "chunks" / "1").exists() or first.poll() is not None:
            break
        time.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL) if first.poll() is None else None
    first.wait()
    assert not (tmp_path / "killed" / "sweep.parquet").exists()
    for name, directory in (("resumed", kept), ("whole", tmp_path / "other")):
        done = arc(*options, f"sweep.directory={directory}", f"hydra.run.dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
    resumed, whole = (pd.read_parquet(tmp_path / n / "sweep.parquet") for n in ("resumed", "whole"))
    pd.testing.assert_frame_equal(resumed, whole, check_exact=True)
    assert np.all(whole.success)
