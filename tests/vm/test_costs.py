"""Stage cost, Hamiltonian, co-state and free energy against restatements and exact gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sigma_jax.vm import (
    LinearNode,
    NeuralNode,
    StageCost,
    costate_step,
    free_energy,
    hamiltonian,
)

TARGET = np.array([0.5, -1.0, 0.0])
COST = StageCost(target=TARGET, control_weight=0.3)
X = np.array([1.0, 0.2, -0.7])
U = np.array([0.4, -2.0])
SIGMA = np.array([[1.0, 0.2, 0.0], [0.2, 0.5, -0.1], [0.0, -0.1, 2.0]])
NODE = NeuralNode(3, 2, key=jax.random.key(0), width=8, decay=0.5)


def test_stage_cost_in_numbers():
    """(½)² + 1.2² + 0.7² + 0.3 (0.4² + 2²)."""
    assert float(COST(X, U)) == pytest.approx(0.25 + 1.44 + 0.49 + 0.3 * 4.16)
    assert float(StageCost()(X, U)) == pytest.approx(1.0 + 0.04 + 0.49 + 0.1 * 4.16)
    assert float(StageCost(target=1.0)(X, np.zeros(0))) == pytest.approx(0.64 + 2.89)
    assert float(COST(TARGET, np.zeros(2))) == 0.0


def test_hamiltonian_in_numbers():
    matrix, control = np.diag([-1.0, -2.0, 0.5]), np.ones((3, 2))
    costate = np.array([1.0, -1.0, 2.0])
    found = hamiltonian(COST, LinearNode(matrix, control), X, U, costate, SIGMA)
    drift = matrix @ X - 1.6
    assert float(found) == pytest.approx(float(COST(X, U)) + costate @ drift + 3.5)


def test_hamiltons_equations():
    """∂H/∂λ is the drift, ∂H/∂Σ is I, and ∂H/∂u is 2cu + Bᵀλ for a linear node."""
    control = np.array([[1.0, 0.0], [0.5, -1.0], [0.0, 2.0]])
    node = LinearNode(-np.eye(3), control)
    costate = jnp.array([1.0, -1.0, 2.0])
    by_u, by_costate, by_sigma = jax.grad(
        lambda u, costate, sigma: hamiltonian(COST, node, X, u, costate, sigma), argnums=(0, 1, 2)
    )(jnp.asarray(U), costate, jnp.asarray(SIGMA))
    np.testing.assert_allclose(by_costate, node.drift(X, U), atol=1e-14)
    np.testing.assert_allclose(by_u, 0.6 * U + control.T @ costate, atol=1e-14)
    np.testing.assert_array_equal(by_sigma, np.eye(3))


@pytest.mark.parametrize("node", [NODE, LinearNode(-np.eye(3), np.ones((3, 2)), centre=0.3)])
def test_costate_is_the_exact_gradient_of_the_cost_to_come(node):
    """Backwards along Euler's path, against reverse-mode differentiation through that path."""
    h, steps = 0.07, 25
    controls = jax.random.normal(jax.random.key(1), (steps, 2))

    def path(x):
        def step(x, u):
            return x + h * node.drift(x, u), (x, h * COST(x, u))

        return jax.lax.scan(step, x, controls)[1]

    states, _ = path(jnp.asarray(X))

    def back(costate, given):
        costate = costate_step(COST, node, *given, costate, h)
        return costate, costate

    _, costates = jax.lax.scan(back, jnp.zeros(3), (states, controls), reverse=True)
    exact = jax.grad(lambda x: jnp.sum(path(x)[1]))(jnp.asarray(X))
    np.testing.assert_allclose(costates[0], exact, rtol=1e-12)
    # At the last step nothing but its own cost is left.
    np.testing.assert_allclose(costates[-1], 2 * h * (states[-1] - TARGET), rtol=1e-12)


def test_free_energy_against_sampled_divergence():
    """E[ln q − ln p] over draws of q = N(x, Σ), with p = N(x*, s I), by SciPy's densities."""
    prior = 0.8
    q = stats.multivariate_normal(X, SIGMA)
    p = stats.multivariate_normal(TARGET, prior * np.eye(3))
    draws = q.rvs(200_000, random_state=0)
    sampled = q.logpdf(draws) - p.logpdf(draws)
    found = float(free_energy(COST, X, U, SIGMA, prior)) - float(COST(X, U))
    assert abs(found - sampled.mean()) < 4 * sampled.std() / np.sqrt(sampled.size)
    assert sampled.std() / np.sqrt(sampled.size) < 0.01 * found


@st.composite
def beliefs(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    root = rng.standard_normal((3, 3)) * 10.0 ** draw(st.integers(-2, 2))
    return 3 * rng.standard_normal(3), root @ root.T + 1e-3 * np.eye(3)


divergence = jax.jit(
    lambda x, sigma, prior: free_energy(COST, x, jnp.zeros(2), sigma, prior) - COST(x, jnp.zeros(2))
)


@given(beliefs(), st.floats(0.01, 100.0))
def test_free_energy_in_the_textbook_form(belief, prior):
    """½ (tr S⁻¹Σ + (x* − x)ᵀ S⁻¹ (x* − x) − d + ln det S − ln det Σ) ≥ 0, with S = s I."""
    x, sigma = belief
    inverse = np.eye(3) / prior
    distance = (TARGET - x) @ inverse @ (TARGET - x)
    ratio = 3 * np.log(prior) - np.linalg.slogdet(sigma)[1]
    expected = 0.5 * (np.trace(inverse @ sigma) + distance - 3 + ratio)
    found = float(divergence(x, sigma, prior))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert found >= -1e-9


def test_free_energy_of_the_prior_itself_is_zero_and_a_minimum():
    prior = 0.7
    at_prior = jnp.asarray(TARGET), prior * jnp.eye(3)

    def energy(x, sigma):
        return free_energy(COST, x, jnp.zeros(2), sigma, prior)

    assert float(energy(*at_prior)) == pytest.approx(0.0, abs=1e-14)
    by_x, by_sigma = jax.grad(energy, argnums=(0, 1))(*at_prior)
    np.testing.assert_allclose(by_x, np.zeros(3), atol=1e-14)
    np.testing.assert_allclose(by_sigma, np.zeros((3, 3)), atol=1e-14)


def test_single_precision_stays_single():
    single = [jnp.asarray(value, jnp.float32) for value in (X, U, SIGMA)]
    cost = StageCost(target=jnp.asarray(TARGET, jnp.float32), control_weight=0.3)
    assert cost(single[0], single[1]).dtype == jnp.float32
    found = free_energy(cost, *single, prior_variance=0.8)
    assert found.dtype == jnp.float32
    assert found == pytest.approx(float(free_energy(COST, X, U, SIGMA, 0.8)), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": np.nan}, "target must not contain NaN"),
        ({"target": "0"}, "target is the text"),
        ({"target": [0.0, np.nan]}, "target must not contain NaN"),
        ({"control_weight": 0.0}, r"control_weight must lie in \(0, inf\); got 0"),
        ({"control_weight": -1.0}, "control_weight must lie in"),
        ({"control_weight": np.nan}, "control_weight must not contain NaN"),
    ],
)
def test_bad_costs_are_said_in_words(options, message):
    with pytest.raises(ValueError, match=message):
        StageCost(**options)


@pytest.mark.parametrize("prior", [0.0, -1.0, np.nan])
def test_bad_prior_is_said_in_words(prior):
    with pytest.raises(ValueError, match="prior_variance must"):
        free_energy(COST, X, U, SIGMA, prior)
