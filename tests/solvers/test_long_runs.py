"""Long computations: chunks give the same bits, a killed run goes on, and mix-ups are refused.

Run as a program, this file does what its tests do in a process of its own:
`python test_long_runs.py {sweep,simulation} DIRECTORY OUT CHUNKS`, killed before the chunk CHUNKS.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sigma_jax
from sigma_jax import solvers

SIZE, CHUNK = 21, 4
POINTS = {"rate": np.linspace(0.1, 2.0, SIZE), "start": np.linspace(1.0, 0.2, SIZE)}
TIMES = np.linspace(0.0, 2.0, 9)
STEP = solvers.FixedStep(4)


def logistic(t, y, args):
    return args * y * (1.0 - y)


class Logistic(eqx.Module):
    """The same equation as a module with a rate of its own."""

    rate: float

    def __call__(self, t, y, args):
        return self.rate * y * (1.0 - y)


def solve(points):
    """What the sweeps map over their points: a batch of trajectories."""
    run = solvers.simulate_ensemble(
        logistic, points["start"], (0.0, 1.0, 2.0), args=points["rate"], method=STEP
    )
    return {"ys": run.ys, "success": run.success}


def other(points):
    """Another computation with results of the same shapes."""
    return {"ys": jnp.zeros((points["rate"].size, 3)), "success": points["rate"] > 0.0}


def sweep_here(directory, **options):
    options = {"problem": {"model": "logistic"}, "chunk_size": CHUNK} | options
    return solvers.sweep(options.pop("function", solve), POINTS, directory=directory, **options)


def simulate_here(directory, **options):
    options = {"segment": 2, "args": 1.5, "method": STEP, "times": TIMES, "y0": 0.1} | options
    field = options.pop("vector_field", logistic)
    times, y0 = options.pop("times"), options.pop("y0")
    return solvers.simulate_resumable(field, y0, times, directory=directory, **options)


COMPUTE = {
    "sweep": lambda directory: sweep_here(directory)["ys"],
    "simulation": lambda directory: simulate_here(directory).ys,
}


def main(what: str, directory: str, out: str, chunks: str) -> None:
    """Compute; killed, at once and without ceremony, when `chunks` chunks have been saved."""
    save, saved = solvers.ChunkStore.save, []

    def save_until_killed(self, index, chunk):
        if len(saved) == int(chunks):
            os.kill(os.getpid(), signal.SIGKILL)
        save(self, index, chunk)
        saved.append(index)

    solvers.ChunkStore.save = save_until_killed
    np.savez(out, result=COMPUTE[what](directory), devices=len(jax.devices()))


def run_program(what, directory, out, chunks, devices=1):
    root = Path(sigma_jax.__file__).parents[1]
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    command = [sys.executable, __file__, what, str(directory), str(out), str(chunks)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def unchunked():
    return solvers.sweep(solve, POINTS)


# Sweeps -----------------------------------------------------------------------------------------


def test_a_sweep_computes_every_point(unchunked):
    exact = 1.0 / (1.0 + (1.0 / POINTS["start"] - 1.0) * np.exp(-2.0 * POINTS["rate"]))
    np.testing.assert_allclose(unchunked["ys"][:, -1], exact, atol=1e-5)
    assert isinstance(unchunked["ys"], np.ndarray)
    assert unchunked["ys"].shape == (SIZE, 3)
    assert unchunked["success"].dtype == bool
    assert unchunked["success"].all()


@pytest.mark.parametrize("chunk_size", [CHUNK, 7, 1])
def test_a_sweep_in_chunks_gives_the_same_bits(unchunked, chunk_size):
    chunked = solvers.sweep(solve, POINTS, chunk_size=chunk_size)
    for name, expected in unchunked.items():
        np.testing.assert_array_equal(chunked[name], expected)


def test_finished_chunks_are_read_and_not_computed(tmp_path, unchunked):
    first = sweep_here(tmp_path)
    again = sweep_here(tmp_path, function=other)
    for name, expected in unchunked.items():
        np.testing.assert_array_equal(first[name], expected)
        np.testing.assert_array_equal(again[name], expected)
        assert again[name].dtype == expected.dtype


@pytest.mark.parametrize(("limit", "expected"), [(1e9, [16]), (1.0, [16, 8, 4, 2, 1])])
def test_the_memory_limit_halves_the_chunk(unchunked, limit, expected):
    sizes = []

    def traced(points):
        sizes.append(points["rate"].size)
        return solve(points)

    limited = solvers.sweep(traced, POINTS, chunk_size=16, memory_limit=limit)
    assert sizes == expected
    np.testing.assert_array_equal(limited["ys"], unchunked["ys"])


def test_a_sweep_refuses_a_chunk_without_points():
    with pytest.raises(ValueError, match="chunk_size must be at least 1; got 0"):
        solvers.sweep(solve, POINTS, chunk_size=0)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"problem": {"model": "gompertz"}}, "model"),
        ({"problem": {}}, "model"),
        ({"chunk_size": 5}, "chunk_size"),
    ],
)
def test_a_sweep_refuses_the_directory_of_another(tmp_path, change, differs):
    sweep_here(tmp_path)
    with pytest.raises(ValueError, match=rf"another problem \(it differs in {differs}\)"):
        sweep_here(tmp_path, **change)


def test_a_sweep_refuses_the_directory_of_other_points(tmp_path):
    sweep_here(tmp_path)
    points = POINTS | {"rate": POINTS["rate"] + 1e-12}
    with pytest.raises(ValueError, match="differs in points"):
        solvers.sweep(
            solve, points, directory=tmp_path, problem={"model": "logistic"}, chunk_size=CHUNK
        )


def test_half_written_chunks_do_not_count(tmp_path):
    problem = {"model": "none"}
    with solvers.ChunkStore(tmp_path, problem) as store:
        for index in range(3):
            store.save(index, {"x": np.full(2, float(index))})
        assert store.finished() == 3
    chunks = tmp_path / "chunks"
    # What a process leaves that is killed while it writes chunk 3: a directory under another name.
    shutil.copytree(chunks / "2", chunks / "3.orbax-checkpoint-tmp-17")
    # And a gap: chunk 1 was never finished.
    shutil.rmtree(chunks / "1")
    with solvers.ChunkStore(tmp_path, problem) as store:
        assert store.finished() == 1
        np.testing.assert_array_equal(store.load(0, {"x": np.zeros(2)})["x"], [0.0, 0.0])


def test_a_half_written_chunk_is_computed_again(tmp_path, unchunked):
    sweep_here(tmp_path)
    chunks = tmp_path / "chunks"
    os.rename(chunks / "4", chunks / "4.orbax-checkpoint-tmp-17")
    (chunks / "5").rename(tmp_path / "gone")
    np.testing.assert_array_equal(sweep_here(tmp_path)["ys"], unchunked["ys"])


# One long simulation ----------------------------------------------------------------------------


def test_a_resumable_simulation_is_the_simulation_with_the_same_segment(tmp_path):
    resumable = simulate_here(tmp_path)
    plain = solvers.simulate(logistic, 0.1, TIMES, args=1.5, method=STEP, segment=2)
    np.testing.assert_allclose(resumable.ys, plain.ys, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(resumable.ts, TIMES)
    assert int(resumable.steps) == int(plain.steps)
    assert bool(resumable.success)


def test_resumable_segments_add_up_their_box_reports(tmp_path):
    method = solvers.FixedStep(4, solvers.Boxed(solvers.Tsit5(), 0.0, 0.5))
    resumable = simulate_here(tmp_path, method=method)
    plain = solvers.simulate(logistic, 0.1, TIMES, args=1.5, method=method, segment=2)
    assert int(resumable.box.count) == int(plain.box.count) > 0
    np.testing.assert_allclose(resumable.box.excess, plain.box.excess, rtol=1e-9)
    again = simulate_here(tmp_path, method=method)
    assert int(again.box.count) == int(resumable.box.count)


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        ({"y0": 0.2}, "start"),
        ({"args": 1.6}, "args"),
        ({"times": TIMES * 2}, "times"),
        ({"segment": 4}, "segment"),
        ({"method": solvers.FixedStep(5)}, "method"),
    ],
)
def test_a_resumable_simulation_refuses_the_directory_of_another(tmp_path, change, differs):
    simulate_here(tmp_path)
    with pytest.raises(ValueError, match=f"differs in {differs}"):
        simulate_here(tmp_path, **change)


def test_a_resumable_simulation_refuses_the_directory_of_other_equations(tmp_path):
    simulate_here(tmp_path, vector_field=Logistic(rate=1.0))
    with pytest.raises(ValueError, match="differs in vector_field"):
        simulate_here(tmp_path, vector_field=Logistic(rate=1.1))


def test_a_resumable_simulation_refuses_a_segment_that_does_not_fit(tmp_path):
    with pytest.raises(ValueError, match="segment must divide the 8 intervals; got 3"):
        simulate_here(tmp_path, segment=3)


# Killed, and on several devices -----------------------------------------------------------------


@pytest.mark.parametrize("what", COMPUTE)
def test_a_killed_run_goes_on_with_the_same_bits(tmp_path, what):
    killed = run_program(what, tmp_path / "run", tmp_path / "out.npz", chunks=2)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "out.npz").exists()
    kept = sorted(entry.name for entry in (tmp_path / "run/chunks").iterdir())
    assert kept == ["0", "1"]
    inodes = [(tmp_path / "run/chunks" / name).stat().st_ino for name in kept]
    resumed = COMPUTE[what](tmp_path / "run")
    np.testing.assert_array_equal(resumed, COMPUTE[what](tmp_path / "uninterrupted"))
    assert inodes == [(tmp_path / "run/chunks" / name).stat().st_ino for name in kept]


def test_several_devices_give_the_same_results(tmp_path, unchunked):
    done = run_program("sweep", tmp_path / "run", tmp_path / "out.npz", chunks=99, devices=2)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as out:
        assert int(out["devices"]) == 2
        np.testing.assert_allclose(out["result"], unchunked["ys"], rtol=1e-14)


if __name__ == "__main__":
    main(*sys.argv[1:])
