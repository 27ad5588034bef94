"""Does everything start? Imports every module and takes one short step through each room.

`python scripts/smoke_test.py`; a few seconds, no network.
"""

import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

from experiments.launch import prepare

prepare()

import jax  # noqa: E402  (JAX must be prepared before it is imported)
import numpy as np  # noqa: E402

import sigma_jax  # noqa: E402
from sigma_jax import report, schema, solvers  # noqa: E402

_METHOD = solvers.FixedStep(2)
_TIMES = np.array([0.0, 1.0, 2.0])


def every_module_imports() -> None:
    """Import all of sigma_jax."""
    for module in pkgutil.walk_packages(sigma_jax.__path__, "sigma_jax."):
        importlib.import_module(module.name)


def every_variant_moves() -> None:
    """Two epochs of every variant with several agents, domains and modalities."""
    state = schema.initial_state(2, 3, 2, breadth=0.1)
    for variant in schema.VARIANTS:
        slope = schema.sigma_model(variant)(0.0, state)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope)), variant


def gradients_flow() -> None:
    """The derivative of the final coherence in its start."""

    def final(sigma):
        solution = solvers.simulate(
            schema.sigma_model(), schema.initial_state(sigma=sigma), _TIMES, method=_METHOD
        )
        return solution.ys.sigma[-1].sum()

    assert np.isfinite(jax.grad(final)(0.1))


def the_pilot_is_there() -> None:
    """The packaged measurements."""
    assert sum(len(curves.acc_id) for curves in schema.load_pilot().values()) == 45


def chunks_resume() -> None:
    """A sweep that is called twice reads what it wrote."""
    points = np.linspace(0.0, 1.0, 8)
    with tempfile.TemporaryDirectory() as folder:
        first, second = (
            solvers.sweep(lambda x: x**2, points, directory=folder, chunk_size=4) for _ in range(2)
        )
    assert np.array_equal(first, second)


def a_page_is_written() -> None:
    """A report with a figure."""
    figure = report.sweep_figure(np.arange(3.0), np.arange(3.0), ("x", "y"))
    page = report.render_page("t", "l", [report.Section("s", "p", figure)], "f")
    with tempfile.TemporaryDirectory() as folder:
        assert report.write_text(Path(folder) / "page.html", page).stat().st_size > 1000


def main() -> int:
    """Run every check; 0 if all pass."""
    checks = (
        every_module_imports,
        every_variant_moves,
        gradients_flow,
        the_pilot_is_there,
        chunks_resume,
        a_page_is_written,
    )
    for check in checks:
        check()
        print(f"ok  {check.__name__.replace('_', ' ')}")
    print("ALL CHECKS PASSED")
    return 0


if __name__ == "__main__":
    sys.exit(main())
