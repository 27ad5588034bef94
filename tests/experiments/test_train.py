"""The program that trains coupled learners: outputs, a kill, a stop, leaks, bad input, numbers."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from experiments import train, train_results
from experiments.launch import one_line_errors
from experiments.train_kernel import STOPPED
from experiments.train_results import Results
from sigma_jax import training
from sigma_jax.training import BlockTrace, Leaks, find_leaks
from tests.experiments.small_configuration import ROOT, composed

SMALL = [
    "seeds=2",
    "steps=24",
    "evaluate_every=4",
    "withdraw_at=12",
    "recipe.steps=2",
    "recipe.batch=8",
    "recipe.signal_pairs=4",
    "sizes={compositional: 12, calibration: 6, familiar: 6, test: 8, longest: 6, train: 400}",
    "learner={encoder_layers: 1, decoder_layers: 1, heads: 2, width: 16, hidden: 32, dropout: 0.1}",
    "probes=8",
    "triples=6",
]
# As many with a coherence of their own as yoked ones, so that one compiled program serves both.
OWN = ["baseline", "full", "full, withdrawn"]
YOKED = ["batches without σ", "permuted σ", "random schedule"]
NAMES = [*OWN, *YOKED]
CONDITIONS = f"conditions=[{','.join(repr(name) for name in NAMES)}]"
configure = partial(composed, "train", SMALL)


# As a user runs it ------------------------------------------------------------------------------


def command(place: Path, cache: Path, *overrides: str) -> subprocess.Popen:
    """The program in a folder of its own; what is compiled is kept for the next one."""
    place.mkdir(exist_ok=True)
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "XDG_CACHE_HOME": str(cache),
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # half of the time goes into compiling
    }
    arguments = [*SMALL, CONDITIONS, "directory=kept", "hydra.run.dir=out", *overrides]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.train", *arguments],
        cwd=place,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen, there) -> None:
    """Until something is there; a program that ended before is a failure."""
    until = time.monotonic() + 300
    while not there():
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.005)


def checkpoints(place: Path, group: str) -> list[int]:
    folder = place / "kept" / "checkpoints" / group
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdigit())


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> tuple[Path, str, int]:
    """A run that nothing interrupted: its folder, what it said, and how it ended."""
    place = tmp_path_factory.mktemp("whole")
    process = command(place, cache)
    said, errors = process.communicate(timeout=300)
    assert process.returncode in (0, 1), errors
    return place, said, process.returncode


@pytest.mark.slow
def test_killed_and_stopped_it_goes_on_with_the_same_bits(finished, cache, tmp_path):
    place = tmp_path / "part"
    killed = command(place, cache)
    wait_for(killed, lambda: checkpoints(place, "own-0"))
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (place / "out" / "runs.nc").exists()
    assert not checkpoints(place, "yoked-0")
    # Then stopped, while the yoked learners are trained.
    stopped = command(place, cache)
    wait_for(stopped, lambda: checkpoints(place, "yoked-0"))
    os.kill(stopped.pid, signal.SIGTERM)
    said, _ = stopped.communicate(timeout=300)
    assert stopped.returncode == STOPPED == 143
    assert said.strip().splitlines()[-1] == "stopped; go on with directory=kept"
    assert checkpoints(place, "own-0")[-1] == 24
    assert checkpoints(place, "yoked-0")[-1] < 24
    assert not (place / "out" / "runs.nc").exists()
    again = command(place, cache)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == finished[2], errors
    for name in ("runs.nc", "results.csv", "summary.json"):
        assert (place / "out" / name).read_bytes() == (finished[0] / "out" / name).read_bytes()


@pytest.mark.slow
def test_it_writes_curves_a_table_a_summary_and_a_page(finished):
    place, said, code = finished
    output = place / "out"
    summary = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    assert summary["all_checks_passed"] == (code == 0)
    assert {check["name"] for check in summary["checks"]} >= {
        "test sentences in what steers training",
        "σ outside [0, 1]",
        "compositional pairs, matched less full",
    }
    assert list(summary["conditions"]) == NAMES
    assert summary["parts"]["compositional"] == 12
    leaks = summary["leaks"]
    assert sum(leaks["shared"].values()) == sum(leaks["forbidden"].values()) == 0
    assert len(leaks["shared"]) == 10
    assert set(leaks["forbidden"]) == {"task", "compositional", "calibration"}
    assert sum(summary["left out for unseen words"].values()) == 0
    rows = list(csv.DictReader((output / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(NAMES) * 2 * 6
    with xr.open_dataset(output / "runs.nc", engine="scipy") as runs:
        assert dict(runs.sizes) == {
            "condition": 6,
            "seed": 2,
            "block": 12,
            "checkpoint": 6,
            "part": 3,
            "signal": 3,
        }
        share, crystallised = runs["share"].values, runs["phase"].values >= 2
        sigma, alpha, accuracy = runs["sigma"].values, runs["alpha"].values, runs.accuracy.values
        assert np.isfinite(accuracy).all()
    for row in rows:
        condition, seed = NAMES.index(row["condition"]), int(row["seed"])
        checkpoint = int(row["step"]) // 4 - 1
        assert float(row["test"]) == pytest.approx(accuracy[condition, seed, checkpoint, 2])
    at = {name: number for number, name in enumerate(NAMES)}
    assert (share[at["baseline"]] == 0).all()
    # Withdrawn from step 12 on, block 6; the same as `full` before.
    withdrawn, full = (share[at[name]] for name in ("full, withdrawn", "full"))
    np.testing.assert_array_equal(withdrawn[:, :6], full[:, :6])
    assert (full > 0).all()
    assert (withdrawn[:, 6:] == 0).all()
    for name in YOKED:
        np.testing.assert_allclose(share[at[name]].sum(1), full.sum(1), rtol=1e-12)
    assert crystallised.shape == sigma.shape == alpha.shape
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', page)
    for name in NAMES:
        assert name in said


@pytest.mark.slow
def test_another_configuration_s_checkpoint_is_refused(finished, tmp_path):
    kept = f"directory={finished[0] / 'kept'}"
    for override, differs in (
        ("recipe.learning_rate=1.0e-3", "recipe"),
        ("seeds=1", "seeds"),
        ("noise.process=0.1", "noise"),
        ("conditions=[full]", "conditions"),
    ):
        names = [CONDITIONS] if "conditions" not in override else []
        config = configure(*names, kept, override)
        with pytest.raises(ValueError, match=f"holds another run: {differs} differ"):
            train.run_experiment(config, tmp_path)
    assert not any(tmp_path.iterdir())


def test_an_estimate_says_what_the_whole_would_cost(monkeypatch):
    """With steps that take 25 ms, the first block 200 ms more, as if it were compiled."""
    pauses = [0.25, 0.05, 0.05]

    def slowly(state, pools, probes, couplings, record, *, recipe, at_once):
        assert record.sigma.shape == (1, 1)
        time.sleep(pauses.pop(0))
        return state, np.zeros(1)

    monkeypatch.setattr(training, "train_coupled", slowly)
    said = train.estimate_cost(
        configure("conditions=[baseline, full, 'random schedule']", "seeds_at_once=1", "seeds=500")
    )
    found = re.fullmatch(
        r"1 learners at once on \d+ × \S+: ([\d.]+) ms a step .* after 0 s of compiling. "
        r"3 conditions × 500 seeds × 24 steps: ([\d.]+) hours of training here.*",
        said,
    )
    assert found, said
    milliseconds, hours = map(float, found.groups())
    assert 25.0 <= milliseconds < 50.0
    assert hours == pytest.approx(milliseconds * 3 * 500 * 24 / 3.6e6, abs=0.006)


# What is refused --------------------------------------------------------------------------------


def test_a_task_that_leaks_is_not_trained_on(tmp_path, monkeypatch):
    task = train.make_task(configure())
    leaking = task._replace(compositional=(*task.compositional, task.test[0]))
    assert find_leaks(leaking).total == 2
    monkeypatch.setattr(train, "make_task", lambda config: leaking)
    with pytest.raises(ValueError, match="the task scan_few_jump leaks, so nothing was trained"):
        train.run_experiment(configure(), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("task=scan", "task must be one of scan_add_jump"),
        ("conditions=[none]", "conditions must be different ones of baseline"),
        ("conditions=[]", "conditions must be different ones of baseline"),
        ("conditions=[full, full]", "conditions must be different ones of baseline"),
        ("conditions=[baseline, 'permuted σ']", "permuted σ is yoked to full: add full"),
        ("seeds=0", "seeds must be a whole number of at least 1; got 0"),
        ("seeds=1.5", "seeds must be a whole number of at least 1; got 1.5"),
        ("steps=22", "steps, 22, must be a multiple of evaluate_every, 4"),
        ("evaluate_every=3", "and that of recipe.steps, 2"),
        ("evaluate_every=0", "evaluate_every must be a whole number of at least 1; got 0"),
        ("recipe.steps=0", "recipe.steps must be a whole number of at least 1; got 0"),
        ("withdraw_at=10", "withdraw_at must be a multiple of evaluate_every, 4, between 0 and 24"),
        ("withdraw_at=24", "withdraw_at must be a multiple of evaluate_every"),
        ("withdraw_at=0", "withdraw_at must be a multiple of evaluate_every"),
        ("seeds_at_once=-1", "seeds_at_once must be a whole number of at least 1; got -1"),
        ("first_seed=-1", "seeds must lie in"),
        ("probes=3", "probes must lie in"),
        ("probes=100000", "pairs must hold at least 100000 different sentences"),
        ("sizes.longest=1", "sizes ask for more than 18 commands with jump"),
        ("sizes.test=0", "sizes.test must lie in"),
        ("noise.observation=0.0", "noise.observation must lie in"),
        ("thresholds.sigma_critical=-1.0", "thresholds.sigma_critical must lie in"),
        ("learner.width=15", "width must be even"),
        ("recipe.batch=0", "recipe.batch must lie in"),
        ("recipe.variant=none", "unknown variant 'none'"),
        ("recipe.learning_rate='3e-3'", "recipe.learning_rate is the text"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(override, named, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        one_line_errors(lambda c: train.run_experiment(c, tmp_path))(configure(override))
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_seeds_are_trained_in_groups():
    config = configure("seeds=5", "seeds_at_once=2", "first_seed=7")
    assert train.seed_groups(config) == [[7, 8], [9, 10], [11]]
    assert train.seed_groups(configure("seeds=5")) == [[0, 1, 2, 3, 4]]


# What came of it --------------------------------------------------------------------------------


def made_up(finals: dict[str, list[float]], **trace: dict[str, Any]) -> Results:
    """Results with these test accuracies at the end, and traces as given."""
    seeds = len(next(iter(finals.values())))
    accuracy = {name: np.zeros((seeds, 2, 3)) for name in finals}
    for name, values in finals.items():
        accuracy[name][:, -1, 2] = values
        accuracy[name][:, :, 0] = 1.0
    blocks = np.zeros((seeds, 4))

    def of(name: str) -> BlockTrace:
        fields: dict[str, Any] = dict.fromkeys(BlockTrace._fields, blocks)
        return BlockTrace(**fields | {f: np.asarray(v[name]) for f, v in trace.items()})

    return Results(
        task=None,  # pyright: ignore[reportArgumentType]
        leaks=Leaks({}, {}),
        seeds=list(range(seeds)),
        steps=np.array([20, 40]),
        accuracy=accuracy,
        weights={},
        trace={name: of(name) for name in finals},
        block_steps=np.array([0, 10, 20, 30]),
        withdraw_at=20,
    )


BASE = [0.1, 0.2, 0.3, 0.2]
BETTER = [0.5, 0.7, 0.6, 0.8]


def test_conditions_are_compared_with_the_baseline_in_pairs():
    """Student's t of four differences, and Holm's factors, as SciPy and a textbook have them."""
    import scipy.stats

    slightly = [0.2, 0.1, 0.4, 0.3]
    results = made_up({"baseline": BASE, "full": BETTER, "additive": slightly, "same": BASE})
    found = train_results.against(results, "baseline")
    assert set(found) == {"full", "additive", "same"}
    p = {
        name: float(scipy.stats.ttest_rel(values, BASE).pvalue)
        for name, values in (("full", BETTER), ("additive", slightly))
    }
    for name, factor, mean in (("full", 3, 0.45), ("additive", 2, 0.05)):
        difference, test, adjusted = found[name]
        assert difference == pytest.approx(mean)
        assert test is not None
        assert test.p_value == pytest.approx(p[name], rel=1e-9)
        assert adjusted == pytest.approx(min(1.0, factor * p[name]), rel=1e-9)
    assert p["full"] < p["additive"]
    assert found["same"] == (0.0, None, 1.0)
    # Alike in every seed there is no t: four equal signs have a chance of 1 in 8.
    quarters = [0.25, 0.5, 0.125, 0.25]
    level = made_up({"baseline": quarters, "full": [value + 0.25 for value in quarters]})
    difference, test, adjusted = train_results.against(level, "baseline")["full"]
    assert (difference, test, adjusted) == (pytest.approx(0.25), None, 0.125)


def test_what_is_retained_after_withdrawal():
    results = made_up({"baseline": [0.1] * 4, "full": [0.9] * 4, "ended": [0.5, 0.1, 0.9, 0.5]})
    share, low, high = train_results.retained(results, "ended") or (np.nan,) * 3
    assert share == pytest.approx(0.5)
    assert 0.0 <= low < 0.5 < high <= 1.0
    kept = made_up({"baseline": BASE, "full": BETTER, "ended": BETTER})
    assert train_results.retained(kept, "ended") == pytest.approx((1.0, 1.0, 1.0))
    lost = made_up({"baseline": BASE, "full": BETTER, "ended": BASE})
    assert train_results.retained(lost, "ended") == pytest.approx((0.0, 0.0, 0.0))
    # Of next to no gain no share means anything; nor where a condition was not run.
    none = made_up({"baseline": BASE, "full": np.add(BASE, 0.04).tolist(), "ended": BASE})
    assert train_results.retained(none, "ended") is None
    assert train_results.retained(made_up({"full": BETTER, "ended": BASE}), "ended") is None


def test_observed_and_measured_coherence_agree_or_not():
    finals = {"baseline": BASE, "full": BETTER}
    rising = {
        "baseline": np.array(
            [[0, 0, 0.1, 0.3], [0, 0, 0.2, 0.4], [0, 0, 0.3, 0.5], [0, 0, 0.4, 0.6]]
        ),
        "full": np.array([[9, 9, 0.5, 0.7], [9, 9, 0.6, 0.8], [9, 9, 0.7, 0.9], [9, 9, 0.8, 1.0]]),
    }
    results = made_up(finals, observed=rising)
    np.testing.assert_allclose(results.observed_sigma("full")[:, 1], [0.6, 0.7, 0.8, 0.9])
    np.testing.assert_allclose(results.observed_sigma("full")[:, 0], 9.0)
    assert train_results.agreement(results) is None  # nothing of the calibration part is known
    for at, name in enumerate(finals):
        results.accuracy[name][:, -1, 1] = 0.1 * np.arange(1, 5) + 0.4 * at
    agreed = train_results.agreement(results)
    assert agreed is not None
    assert agreed.estimate == pytest.approx(1.0)
    # A learner that knows nothing familiar has no σ̂, and does not count.
    results.accuracy["full"][:, -1, 0] = [0.04, 1.0, 1.0, 1.0]
    results.accuracy["full"][0, -1, 1] = 0.0
    agreed = train_results.agreement(results)
    assert agreed is not None
    assert agreed.estimate == pytest.approx(1.0)
    np.testing.assert_allclose(results.measured_sigma("full")[:, -1], [np.nan, 0.6, 0.7, 0.8])
    for name in finals:
        results.accuracy[name][:, -1, 1] = results.accuracy[name][::-1, -1, 1]
    results.accuracy["full"][:, -1, 0] = 1.0
    assert (train_results.agreement(results) or agreed).estimate < 0.9


def test_the_first_step_of_phase_2():
    phases = {"full": np.array([[0, 1, 2, 2], [2, 2, 2, 2], [0, 1, 1, 1], [1, 3, 0, 0]])}
    results = made_up({"full": BETTER}, phase=phases)
    np.testing.assert_array_equal(train_results.first_entry(results, "full"), [20, 0, np.inf, 10])


def test_the_signal_of_untrained_learners_is_that_of_step_0():
    observed = {"full": np.array([[0.1, 9, 9, 9], [0.0, 9, 9, 9], [0.2, 9, 9, 9], [0.1, 9, 9, 9]])}
    results = made_up({"full": BETTER}, observed=observed)
    assert train_results.untrained_signal(results) == pytest.approx(0.1)
