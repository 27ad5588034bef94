"""The JAX that is installed computes right numbers where one release did not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("size", [3, 7])  # 7: the Σ-Model's variables
@pytest.mark.parametrize(("dtype", "batch"), [("float64", 16_385), ("float32", 32_769)])
def test_batched_matvec_then_reduction_agrees_with_numpy(dtype: str, batch: int, size: int) -> None:
    """From these batches up, jax 0.10.2 is wrong on a CPU, in silence (jax#39103)."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((size, size)).astype(dtype)
    vectors = rng.standard_normal((batch, size)).astype(dtype)
    compiled = jax.jit(jax.vmap(lambda m, x: jnp.sum((m @ x) ** 2), in_axes=(None, 0)))
    expected = np.sum((vectors @ matrix.T) ** 2, axis=1)
    rtol = {"float64": 1e-12, "float32": 1e-4}[dtype]
    np.testing.assert_allclose(compiled(matrix, vectors), expected, rtol=rtol)
