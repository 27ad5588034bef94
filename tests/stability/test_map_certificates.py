"""Certificates of iterated maps against powers, spectra, SciPy's Stein equation, closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from sigma_jax.stability import MapCertificate, certify_map

many = jax.jit(jax.vmap(certify_map))


def of(matrices) -> MapCertificate:
    return jax.tree.map(np.asarray, many(jnp.asarray(matrices)))


def zoo(rng: np.random.Generator, size: int, count: int) -> np.ndarray:
    """Random matrices of every spectral radius from 0.2 to 1.5, some very far from normal."""
    g = rng.standard_normal((count, size, size))
    radius = np.abs(np.linalg.eigvals(g)).max(axis=1)
    g *= (rng.uniform(0.2, 1.5, count) / radius)[:, None, None]
    skew = 10.0 ** rng.uniform(0.0, 2.0, (count, 1, size))
    return g * skew / np.swapaxes(skew, 1, 2)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_gates_say_what_norms_and_spectra_say(size):
    matrices = zoo(np.random.default_rng(size), size, 200)
    found = of(matrices)
    norms = np.linalg.norm(matrices, 2, axis=(1, 2))
    radii = np.abs(np.linalg.eigvals(matrices)).max(axis=1)
    for gate, value in ((found.norm_gate, norms), (found.lyapunov_gate, radii)):
        assert not gate[value >= 1.0].any()
        assert gate[value < 0.99].all()
    assert found.norm_gate.any() == (norms < 0.99).any()
    assert 0 < found.lyapunov_gate.sum() < len(matrices)


def test_the_bound_holds_for_every_power_and_p_is_that_of_scipy():
    matrices = zoo(np.random.default_rng(5), 6, 60)
    found = of(matrices)
    for matrix, holds, condition, factor in zip(
        matrices, found.lyapunov_gate, found.lyapunov_condition, found.lyapunov_factor, strict=True
    ):
        if not holds:
            assert np.isinf(condition)
            assert factor == 1.0
            continue
        p = scipy.linalg.solve_discrete_lyapunov(matrix.T, np.eye(6))
        assert condition == pytest.approx(np.linalg.norm(p), rel=1e-4)
        assert factor == pytest.approx(np.sqrt(1.0 - 1.0 / np.linalg.norm(p)), abs=1e-9)
        power = np.eye(6)
        for n in range(200):
            assert np.linalg.norm(power, 2) <= np.sqrt(condition) * factor**n
            power = power @ matrix


def test_a_map_that_grows_before_it_dies_out():
    """[[.5, 10], [0, .5]]: refused by the norm, proven by P; one that only just grows is not."""
    found = of([[[0.5, 10.0], [0.0, 0.5]], [[1.0 + 1e-9, 10.0], [0.0, 0.5]], np.eye(2)])
    np.testing.assert_array_equal(found.norm_gate, [False, False, False])
    np.testing.assert_array_equal(found.lyapunov_gate, [True, False, False])
    assert found.lyapunov_condition[0] > 100.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_near_one_nothing_is_proven_that_is_not_so(dtype):
    """Orthogonal matrices scaled to within round-off of one, where doubling nearly never ends."""
    rng = np.random.default_rng(3)
    q = np.linalg.qr(rng.standard_normal((50, 8, 8)))[0]
    eps = np.finfo(dtype).eps
    for excess in (0.0, 1.0, 3.0):
        found = of((q * (1.0 + excess * eps)).astype(dtype))
        assert not found.norm_gate.any()
        assert not found.lyapunov_gate.any()
    assert of((0.99 * q).astype(dtype)).norm_gate.all()
    assert of((0.9 * q).astype(dtype)).lyapunov_gate.all()


def test_a_margin_asks_for_more():
    matrix = 0.7 * np.eye(3)
    assert bool(certify_map(matrix, margin=0.25).norm_gate)
    near = certify_map(matrix, margin=0.31)
    assert not bool(near.norm_gate)
    assert not bool(near.lyapunov_gate)
    assert float(certify_map(matrix).lyapunov_factor) >= 0.7


def test_what_is_not_finite_proves_nothing_and_no_gradient_flows():
    found = of(np.full((1, 2, 2), np.nan))
    assert not found.norm_gate[0]
    assert not found.lyapunov_gate[0]
    assert np.isinf(found.lyapunov_residual[0])
    slope = jax.grad(lambda m: certify_map(m).lyapunov_condition)(0.5 * jnp.eye(2))
    np.testing.assert_array_equal(slope, np.zeros((2, 2)))


@pytest.mark.parametrize("bad", [np.ones((2, 3)), np.full((2, 2), np.inf), np.zeros((0, 0))])
def test_what_is_no_square_matrix_is_refused(bad):
    with pytest.raises(ValueError, match="jacobian must be"):
        certify_map(bad)


@pytest.mark.parametrize("bad", [-0.1, 1.0])
def test_margins_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="margin must lie in"):
        certify_map(np.eye(2), margin=bad)
