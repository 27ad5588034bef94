"""Signs of a collapse against plain NumPy; projection and reconstruction in closed form."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax.vm.collapse import (
    CollapseThresholds,
    Outcome,
    cheap_signs,
    collapse_signs,
    effective_rank,
    project_to_attractor,
    quiet_signs,
    relative_spread,
    symmetric_modes,
)
from sigma_jax.vm.reconstruction import active_modes, reconstruct

D = 4
THRESHOLDS = CollapseThresholds()
seeds = st.integers(0, 2**31)


def all_signs(covariance, gradient_x, gradient_u, jacobian):
    cheap = cheap_signs(covariance, gradient_x, gradient_u, THRESHOLDS)
    return collapse_signs(cheap, jacobian, THRESHOLDS)


jitted_signs = jax.jit(all_signs)
jitted_rank = jax.jit(effective_rank)
jitted_modes = jax.jit(symmetric_modes)


def random_orthogonal(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def random_jacobian(rng, rank, dim=D):
    """Not symmetric, of this rank, with singular values in [0.5, 2]."""
    left, right = random_orthogonal(rng, dim), random_orthogonal(rng, dim)
    values = np.where(np.arange(dim) < rank, rng.uniform(0.5, 2.0, dim), 0.0)
    return left @ np.diag(values) @ right


def with_spread(rng, spread, dim=D, scale=1.0):
    """A covariance of this mean eigenvalue and this spread, in a random basis."""
    values = rng.normal(size=dim)
    values = (values - values.mean()) / values.std()
    basis = random_orthogonal(rng, dim)
    matrix = scale * (basis * (1.0 + spread * values)) @ basis.T
    return 0.5 * (matrix + matrix.T)


# The four signs ----------------------------------------------------------------------------------


@given(seeds, st.floats(1e-12, 0.5), st.floats(-200, 200))
def test_spread_is_that_of_the_eigenvalues(seed, spread, exponent):
    """At every scale, and down to spreads where the mean of squares less the square of the mean
    has no correct digit left."""
    covariance = with_spread(np.random.default_rng(seed), spread, scale=10.0**exponent)
    found = float(relative_spread(jnp.asarray(covariance)))
    assert found == pytest.approx(spread, rel=1e-6, abs=1e-15)


def test_spread_does_not_cancel_in_float32():
    values = np.array([1.0, 1.0 + 2.0**-14, 1.0, 1.0 - 2.0**-14], np.float32)
    exact = np.std(values.astype(float)) / np.mean(values.astype(float))
    mean = np.float32(values.sum() / 4)
    naive = np.sqrt(np.float32((values**2).sum() / 4) - mean**2) / mean
    assert abs(naive / exact - 1) > 0.05
    assert float(relative_spread(jnp.diag(jnp.asarray(values)))) == pytest.approx(exact, rel=1e-5)


def test_spread_at_the_ends():
    assert float(relative_spread(jnp.array([[0.3]]))) == 0.0
    assert float(relative_spread(7.0 * jnp.eye(5))) == 0.0
    assert float(relative_spread(jnp.zeros((3, 3)))) == np.inf
    assert float(relative_spread(-jnp.eye(3))) == np.inf


@given(seeds, st.integers(0, D), st.floats(-9, 9))
def test_rank_counts_singular_values(seed, rank, exponent):
    rng = np.random.default_rng(seed)
    jacobian = 10.0**exponent * random_jacobian(rng, rank)
    assert int(jitted_rank(jnp.asarray(jacobian))) == rank


def test_rank_is_relative_to_the_largest():
    ladder = jnp.diag(jnp.array([100.0, 1.01, 0.99, 0.0]))
    assert int(jitted_rank(ladder)) == 2
    assert int(jitted_rank(ladder, 1e-3)) == 3
    assert int(jitted_rank(jnp.zeros((D, D)))) == 0


@settings(max_examples=200)
@given(
    seeds,
    st.sampled_from([0.0, 2e-3, 8e-3, 2e-2]),
    st.integers(0, D),
    st.sampled_from([0.0, 1e-2, 4e-2, 8e-2]),
    st.sampled_from([0.0, 5e-3, 3e-2]),
)
def test_signs_are_their_definition(seed, gradient, rank, spread, control):
    """A collapse is all four signs together; proximity is positive exactly when they are there."""
    rng = np.random.default_rng(seed)
    covariance = with_spread(rng, spread, scale=rng.uniform(0.1, 10))
    direction, push = rng.normal(size=D), rng.normal(size=3)
    found = jitted_signs(
        jnp.asarray(covariance),
        jnp.asarray(gradient * direction / np.linalg.norm(direction)),
        jnp.asarray(control * push / np.linalg.norm(push)),
        jnp.asarray(random_jacobian(rng, rank)),
    )
    pairs = [(gradient, 1e-2), (rank / D, 0.5), (spread, 5e-2), (control, 1e-2)]
    expected = min(max(0.0, 1.0 - value / threshold) for value, threshold in pairs)
    assert bool(found.triggered) == all(value < threshold for value, threshold in pairs)
    assert float(found.proximity) == pytest.approx(expected, abs=1e-9)
    assert (float(found.proximity) > 0) == bool(found.triggered)
    got = [float(v) for v in (found.gradient, found.spread, found.control_gradient)]
    np.testing.assert_allclose(got, [gradient, spread, control], atol=1e-12)
    assert int(found.rank) == rank


def test_cheap_signs_decompose_nothing_and_decide_the_rest():
    """Where they do not hold, all signs are the quiet ones but for the rank."""
    covariance, push = jnp.eye(D), jnp.zeros(0)
    dear = ("svd", "eigh", "householder", "cholesky")
    text = str(jax.make_jaxpr(cheap_signs)(covariance, jnp.ones(D), push))
    assert not any(word in text for word in dear)
    assert "svd" in str(jax.make_jaxpr(all_signs)(covariance, jnp.ones(D), push, covariance))
    cheap = cheap_signs(covariance, jnp.ones(D), push)
    assert not cheap.hold
    quiet, full = quiet_signs(cheap), collapse_signs(cheap, jnp.zeros((D, D)))
    assert int(quiet.rank) == -1
    assert jax.tree.structure(quiet) == jax.tree.structure(full)
    for name in ("gradient", "spread", "control_gradient", "proximity", "triggered"):
        assert getattr(quiet, name) == getattr(full, name)
        assert getattr(quiet, name).dtype == getattr(full, name).dtype
    assert quiet.rank.dtype == full.rank.dtype


def test_a_diverging_run_has_not_collapsed():
    still, push = jnp.zeros(D), jnp.zeros(2)
    bad = jnp.full((D, D), jnp.nan)
    assert bool(jitted_signs(jnp.eye(D), still, push, jnp.zeros((D, D))).triggered)
    for found in (
        jitted_signs(jnp.eye(D), still, push, bad),
        jitted_signs(bad, still, push, jnp.zeros((D, D))),
        jitted_signs(jnp.eye(D), still * jnp.nan, push, jnp.zeros((D, D))),
    ):
        assert not found.triggered
        assert float(found.proximity) == 0.0


def test_batched_signs_are_the_single_ones():
    rng = np.random.default_rng(3)
    batch = [
        jnp.asarray(np.stack(part))
        for part in zip(
            *[
                (
                    with_spread(rng, 0.03),
                    1e-3 * rng.normal(size=D),
                    np.zeros(2),
                    random_jacobian(rng, k),
                )
                for k in range(D)
            ],
            strict=True,
        )
    ]
    together = jax.jit(jax.vmap(all_signs))(*batch)
    for i in range(D):
        alone = jitted_signs(*(part[i] for part in batch))
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-12)
    np.testing.assert_array_equal(together.triggered, [True, True, False, False])


# The projection and the reconstruction -----------------------------------------------------------


def test_projection_in_closed_form():
    x = jnp.array([1.0, 2.0, 3.0, 4.0])
    modes = symmetric_modes(jnp.diag(jnp.array([-0.9, 0.0, -0.9, 0.0])))
    np.testing.assert_allclose(np.abs(modes.rates), [0.0, 0.0, 0.9, 0.9], atol=1e-15)
    projected, outcome = project_to_attractor(x, modes)
    np.testing.assert_allclose(projected, [0.0, 2.0, 0.0, 4.0], atol=1e-14)
    assert int(outcome) == Outcome.ATTRACTOR
    projected, outcome = project_to_attractor(x, symmetric_modes(-jnp.eye(D)))
    np.testing.assert_array_equal(projected, 0.0)
    assert int(outcome) == Outcome.NULL
    # A turn without growth: the symmetric part is zero, so every state stays.
    turning = symmetric_modes(jnp.array([[0.0, 5.0], [-5.0, 0.0]]))
    projected, _ = project_to_attractor(jnp.array([1.0, -2.0]), turning)
    np.testing.assert_allclose(projected, [1.0, -2.0], atol=1e-14)


@given(seeds, st.integers(0, D))
def test_projection_is_one_and_annihilates_the_rest(seed, null_modes):
    """Twice is once; the symmetric part barely moves what is left; the rest is orthogonal to it."""
    rng = np.random.default_rng(seed)
    rates = np.where(np.arange(D) < null_modes, rng.uniform(-9e-3, 9e-3, D), 1.0)
    rates *= rng.choice([-1.0, 1.0], D)
    basis, skew = random_orthogonal(rng, D), rng.normal(size=(D, D))
    symmetric = (basis * rates) @ basis.T
    modes = jitted_modes(jnp.asarray(symmetric + skew - skew.T))
    x = jnp.asarray(rng.normal(size=D))
    projected, outcome = project_to_attractor(x, modes)
    again, _ = project_to_attractor(projected, modes)
    np.testing.assert_allclose(again, projected, atol=1e-12)
    assert np.linalg.norm(symmetric @ projected) <= 1e-2 * np.linalg.norm(projected)
    assert abs(float(projected @ (x - projected))) < 1e-12
    assert bool(outcome) == (null_modes > 0)
    if null_modes == 0:
        np.testing.assert_array_equal(projected, 0.0)


@given(seeds, st.integers(0, D))
def test_reconstruction_is_the_best_of_its_size(seed, active):
    """The error falls with k, no other k active modes do better, and nothing is lost in all."""
    rng = np.random.default_rng(seed)
    basis = random_orthogonal(rng, D)
    rates = np.where(np.arange(D) < active, rng.uniform(0.1, 2.0, D), 1e-3 * rng.normal(size=D))
    modes = jitted_modes(jnp.asarray((basis * rates) @ basis.T))
    x = rng.normal(size=D)
    vectors = np.asarray(modes.vectors)[:, np.abs(modes.rates) >= 1e-2]
    assert vectors.shape[1] == active
    errors = [np.linalg.norm(x)]
    for k in range(1, D + 1):
        kept = active_modes(jnp.asarray(x), modes, k)
        assert kept.coefficients.shape == (k,)
        errors.append(np.linalg.norm(x - np.asarray(reconstruct(kept))))
        chosen = [
            list(c)
            for size in range(min(k, active) + 1)
            for c in itertools.combinations(range(active), size)
        ]
        others = [np.linalg.norm(x - vectors[:, c] @ (vectors[:, c].T @ x)) for c in chosen]
        assert errors[-1] == pytest.approx(min(others), abs=1e-12)
    assert (np.diff(errors) <= 1e-14).all()
    if active == D:
        assert errors[-1] < 1e-13
    projected, _ = project_to_attractor(jnp.asarray(x), modes)
    np.testing.assert_allclose(projected + reconstruct(kept), x, atol=1e-13)


# Gradients and bad input -------------------------------------------------------------------------


def test_gradients_are_finite_at_repeated_eigenvalues():
    """Isotropic Σ, vanishing cost gradient, equal rates: where derivatives by hand are NaN."""

    def total(x, covariance, jacobian):
        signs = all_signs(covariance, 2 * x, x[:1], jacobian)
        modes = symmetric_modes(jacobian)
        projected, _ = project_to_attractor(x, modes)
        rebuilt = reconstruct(active_modes(x, modes, 2))
        return signs.proximity + signs.spread + signs.gradient + projected.sum() + rebuilt.sum()

    for jacobian in (jnp.zeros((D, D)), -jnp.eye(D)):
        gradients = jax.grad(total, argnums=(0, 1, 2))(jnp.zeros(D), jnp.eye(D), jacobian)
        for gradient in gradients:
            assert np.isfinite(gradient).all()
        np.testing.assert_array_equal(gradients[2], 0.0)  # a discrete event in the Jacobian
    # In x the projection is linear: here it is the identity, and nothing is active.
    identity = jax.jacobian(lambda x: project_to_attractor(x, symmetric_modes(0 * jnp.eye(D)))[0])
    np.testing.assert_allclose(identity(jnp.ones(D)), np.eye(D), atol=1e-15)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gradient", 0.0),
        ("rank_tolerance", 1.5),
        ("rank_share", -1.0),
        ("spread", 0.6),
        ("control_gradient", float("nan")),
        ("null", "1e-2"),
    ],
)
def test_bad_thresholds_are_named(field, value):
    with pytest.raises(ValueError, match=f"thresholds.{field}"):
        CollapseThresholds(**{field: value})


def test_bad_input_is_said_in_words():
    modes = symmetric_modes(jnp.eye(3))
    with pytest.raises(ValueError, match=r"covariance must be a square matrix.*\(2, 3\)"):
        relative_spread(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="jacobian must be a square matrix"):
        effective_rank(jnp.ones(3))
    with pytest.raises(ValueError, match="jacobian must be a square matrix"):
        symmetric_modes(jnp.ones((0, 0)))
    with pytest.raises(ValueError, match="jacobian must not contain NaN"):
        symmetric_modes(jnp.full((2, 2), jnp.nan))
    with pytest.raises(ValueError, match=r"x must have shape \(3,\); got \(4,\)"):
        project_to_attractor(jnp.ones(4), modes)
    with pytest.raises(ValueError, match=r"x must have shape \(3,\)"):
        active_modes(jnp.ones((3, 3)), modes, 1)
    for count in (0, 4):
        with pytest.raises(ValueError, match=r"count must lie in \[1, 3\]"):
            active_modes(jnp.ones(3), modes, count)
