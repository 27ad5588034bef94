"""H-MCB, H-DCB and H-STB score the faculty that they name, and not the one beside it."""

import pytest

from sigma_jax.faculties import (
    H_DCB,
    H_MCB,
    H_STB,
    Benchmark,
    benchmark_validity,
    scripted_grid,
)

# By name: the benchmark, values of faculties, items a cell. Of H-STB's four items share a message.
GRIDS = {
    "h_mcb": (H_MCB, {"zeta": (-0.15, 0.0, 0.15), "sigma": (0.4, 0.7)}, 24),
    "h_dcb": (H_DCB, {"xi": (0.2, 0.5, 0.8), "sigma": (0.4, 0.8)}, 24),
    "h_stb": (H_STB, {"mu": (0.2, 0.5, 0.8), "sigma": (0.2, 0.8)}, 96),
}


@pytest.mark.parametrize(("benchmark", "axes", "size"), GRIDS.values(), ids=GRIDS)
def test_scores_go_with_the_faculty_and_not_with_coherence(
    benchmark: Benchmark, axes: dict[str, tuple[float, ...]], size: int
):
    grid = scripted_grid(axes)
    found = benchmark_validity(benchmark, grid, confounds=("sigma",), size=size, sessions=2)
    assert found.construct > 0.8
    assert 0.8 < found.formats < 1.0
    assert 0.0 < found.difficulty < 1.0
    assert 0.0 <= found.reliability <= 1.0
    turned = benchmark._replace(faculty="sigma")
    other = benchmark_validity(turned, grid, confounds=(benchmark.faculty,), size=size, sessions=2)
    assert other.construct < 0.1
