"""σ̃ from three signals, and its weights: against SciPy's constrained minimiser."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from hypothesis import given

from sigma_jax.training import FUSION_WEIGHTS, calibrate_fusion, fuse_signals

PRIOR = jnp.asarray(FUSION_WEIGHTS)
calibrate = jax.jit(calibrate_fusion)


def test_fusion_by_hand():
    assert sum(FUSION_WEIGHTS) == pytest.approx(1.0)
    given_signals = jnp.array([[0.5, 0.2, 0.8], [-0.5, 0.2, -1.0], [1.0, 1.0, 1.0]])
    np.testing.assert_allclose(
        fuse_signals(given_signals, PRIOR), [0.47, 0.07, 1.0], rtol=1e-12, atol=0
    )
    # A set of weights for each.
    weights = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.2]])
    np.testing.assert_allclose(fuse_signals(given_signals, weights), [0.5, 0.2, 0.6], rtol=1e-12)


def objective(weights, signals, measured, prior, ridge):
    error = np.maximum(signals, 0.0) @ weights - measured
    return np.mean(error**2) + ridge * np.sum((weights - prior) ** 2)


def minimised(signals, measured, prior, ridge):
    """By sequential quadratic programming, which knows nothing of projections."""
    found = scipy.optimize.minimize(
        objective,
        np.full(3, 1 / 3),
        (signals, measured, prior, ridge),
        method="SLSQP",
        bounds=[(0.0, None)] * 3,
        constraints={"type": "ineq", "fun": lambda w: 1.0 - w.sum()},
        options={"ftol": 1e-15, "maxiter": 500},
    )
    assert found.success
    return found.x


problems = st.tuples(
    st.integers(0, 10_000),
    st.sampled_from([1, 4, 9]),
    st.sampled_from([1e-2, 0.1, 1.0]),
    st.booleans(),
)


def problem(seed, rows, simplex):
    """Signals of both signs, and a prior on the simplex or at random."""
    rng = np.random.default_rng(seed)
    signals, measured = rng.uniform(-0.5, 1.0, (rows, 3)), rng.uniform(0.0, 1.0, rows)
    prior = rng.dirichlet(np.ones(3)) if simplex else np.asarray(FUSION_WEIGHTS)
    return signals, measured, prior


@given(problems)
def test_calibration_is_the_constrained_ridge_regression(drawn):
    seed, rows, ridge, simplex = drawn
    signals, measured, prior = problem(seed, rows, simplex)
    found = np.asarray(calibrate(*map(jnp.asarray, (signals, measured, prior)), ridge=ridge))
    assert (found >= 0.0).all()
    assert found.sum() <= 1.0 + 1e-12
    best = minimised(signals, measured, prior, ridge)
    args = (signals, measured, prior, ridge)
    assert objective(found, *args) <= objective(best, *args) + 1e-6
    if ridge >= 0.1:  # well conditioned, so the place is determined, not the height alone
        np.testing.assert_allclose(found, best, atol=1e-5)


def test_both_constraints_are_met_where_they_bind():
    # More coherence than the signals can say: their sum stops at one.
    signals = np.full((4, 3), 0.5)
    found = np.asarray(
        calibrate(jnp.asarray(signals), jnp.ones(4), jnp.array([0.5, 0.4, 0.1]), ridge=1e-3)
    )
    assert found.sum() == pytest.approx(1.0, abs=1e-12)
    # A signal that is high where coherence is low would get a negative weight.
    signals = np.array([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.5, 0.9]])
    found = np.asarray(
        calibrate(
            jnp.asarray(signals), jnp.array([0.0, 0.9, 0.5]), jnp.array([0.0, 0.5, 0.5]), ridge=1e-3
        )
    )
    assert found[0] == 0.0
    assert found[1] > 0.5


@given(st.integers(0, 10_000), st.sampled_from([1, 5]))
def test_rows_that_are_not_known_do_not_count(seed, unknown):
    signals, measured, prior = problem(seed, 4, simplex=True)
    rng = np.random.default_rng(seed + 1)
    more, wanted = rng.uniform(0.0, 1.0, (unknown, 3)), np.full(unknown, np.nan)
    if unknown > 1:  # one of them misses a signal instead
        more[0, rng.integers(3)], wanted[0] = np.nan, 0.7
    order = rng.permutation(4 + unknown)
    with_more = calibrate(
        jnp.asarray(np.concatenate([signals, more])[order]),
        jnp.asarray(np.concatenate([measured, wanted])[order]),
        jnp.asarray(prior),
    )
    without = calibrate(*map(jnp.asarray, (signals, measured, prior)))
    np.testing.assert_allclose(with_more, without, rtol=1e-12, atol=1e-14)


def test_without_data_the_prior_is_kept():
    signals = jnp.asarray(np.random.default_rng(0).uniform(size=(5, 3)))
    found = calibrate(signals, jnp.full(5, jnp.nan), PRIOR)
    np.testing.assert_allclose(found, PRIOR, rtol=1e-12)


def test_the_ridge_from_nothing_to_everything():
    signals = np.random.default_rng(5).uniform(size=(30, 3))
    true = np.array([0.2, 0.5, 0.1])
    arguments = jnp.asarray(signals), jnp.asarray(signals @ true), PRIOR
    distances = [
        float(jnp.abs(calibrate(*arguments, ridge=ridge) - true).max())
        for ridge in (1e-6, 0.01, 0.1, 1.0)
    ]
    assert distances == sorted(distances)
    assert distances[0] < 0.02  # as close as the projected gradients get without a ridge
    np.testing.assert_allclose(calibrate(*arguments, ridge=1e6), PRIOR, atol=1e-6)


def test_it_is_of_its_arguments_type():
    signals, measured = jnp.ones((2, 3), jnp.float32), jnp.ones(2, jnp.float32)
    assert calibrate(signals, measured, PRIOR.astype(jnp.float32)).dtype == jnp.float32
