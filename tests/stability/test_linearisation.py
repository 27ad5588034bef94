"""The Σ-Model's Jacobian, timescales, couplings and phase plane; closed forms elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax import schema, stability
from sigma_jax.schema import Rates, initial_state, sigma_model

NAMES = ("delta", "sigma", "alpha", "self_model", "planning", "inhibition", "flexibility")
INSIDE = initial_state(delta=0.66, sigma=0.16, alpha=0.4)
PAPER_MAGNITUDES = Rates(
    rho=0.1, gamma=0.1, nu_m=0.01, xi_m=0.01, kappa_p=0.01, kappa_i=0.01, kappa_f=0.01
)


def linear(t, y, matrix):
    return matrix @ y


def printed_fast_jacobian(rates, e, delta, sigma, alpha):
    """The paper's matrix of (δ, σ, α), as printed."""
    growth, k = rates.rho * e.p_a, rates.saturation
    protection, lost = rates.decay_protection, rates.lambda_c
    bracket = growth * alpha * (1 - 2 * k * sigma) - rates.epsilon_sigma * e.omega_sl
    return np.array(
        [
            [-lost * (1 - protection * sigma), lost * protection * delta, 0.0],
            [0.0, bracket, growth * sigma * (1 - k * sigma)],
            [0.0, rates.gamma * e.c_a, -rates.gamma * (1 - alpha)],
        ]
    )


def test_components_are_called_by_their_paths():
    assert stability.component_names(INSIDE) == NAMES
    two = stability.component_names({"x": jnp.zeros((1, 2)), "z": jnp.zeros(1)})
    assert two == ("x[0,0]", "x[0,1]", "z")
    assert stability.component_names(jnp.zeros(2)) == ("y[0]", "y[1]")


def test_e21_printed_fast_jacobian_is_wrong_in_four_entries():
    """(δ, δ), (δ, σ), (α, σ) and (α, α) differ from the automatic Jacobian; nothing else does."""
    model = sigma_model("paper")
    point = dict(delta=0.6, sigma=0.3, alpha=0.4)
    automatic = stability.jacobian(model, initial_state(**point))[:3, :3]
    printed = printed_fast_jacobian(model.rates, model.environment(0.0, None), **point)
    wrong = np.argwhere(~np.isclose(automatic, printed))
    pairs = {(NAMES[i], NAMES[j]) for i, j in wrong}
    assert pairs == {("delta", "delta"), ("delta", "sigma"), ("alpha", "sigma"), ("alpha", "alpha")}


@pytest.mark.parametrize("variant", ["consistent", "hysteretic", "paper"])
def test_model_is_a_cascade(variant):
    """α → σ → {δ, M̂}, and executive control after depth and coherence; nothing feeds back."""
    found = stability.coupling(sigma_model(variant), INSIDE)
    if variant == "paper":  # the printed sum ties planning, inhibition and flexibility together
        assert set(found.groups[-1]) == set(NAMES[-3:])
        return
    assert found.is_cascade
    order = [group[0] for group in found.groups]
    assert order.index("alpha") < order.index("sigma") < order.index("delta")
    assert order.index("sigma") < order.index("self_model")
    drives = {(NAMES[j], NAMES[i]) for i, j in np.argwhere(found.influences) if i != j}
    assert drives == {
        ("alpha", "sigma"),
        ("sigma", "delta"),
        ("sigma", "self_model"),
        ("delta", "planning"),
        ("sigma", "inhibition"),
    }


def test_feedback_makes_one_group():
    """y₀ ⇄ y₁ → y₂, and y₃ alone."""
    matrix = jnp.array([[-1.0, 1, 0, 0], [1, -2, 0, 0], [0, 1, -1, 0], [0, 0, 0, -1]])
    found = stability.coupling(linear, jnp.ones(4), args=matrix)
    assert not found.is_cascade
    assert found.groups.index(("y[0]", "y[1]")) < found.groups.index(("y[2]",))
    assert set(found.groups) == {("y[0]", "y[1]"), ("y[2]",), ("y[3]",)}


def test_e23_the_slow_block_is_the_least_stiff():
    """Said to be stiff: M̂ and Ξ have the longest time constants, and allow the longest steps."""
    model = sigma_model(rates=PAPER_MAGNITUDES, environment=schema.regime("targeted"))
    found = stability.timescales(model, INSIDE)
    assert found.components == NAMES
    leader = [NAMES[i] for i in np.argmax(np.asarray(found.participation), axis=1)]
    rate = dict(zip(leader, 1 / np.asarray(found.time_constants), strict=True))
    slow = [rate[name] for name in ("self_model", "planning", "inhibition", "flexibility")]
    np.testing.assert_allclose(slow, [0.015, 0.01, 0.01, 0.01], rtol=1e-9)
    e, r = model.environment(0.0, None), model.rates
    assert rate["alpha"] == pytest.approx(r.gamma * e.c_a + r.zeta_alpha * e.r_surface)
    assert rate["alpha"] > 5 * max(slow)
    # The whole system's step is set by a fast mode, far below what the slow block would allow.
    assert found.largest_step(2.256) < 20.0 < 150.0 < 2.256 / max(slow)


def test_timescales_of_a_known_matrix():
    """Rates 100, 90 and 1 (a turning pair): the gap is after two, participation is the identity."""
    matrix = jnp.diag(jnp.array([-1.0, -100.0, -90.0]))
    found = stability.timescales(linear, jnp.ones(3), args=matrix)
    np.testing.assert_allclose(found.eigenvalues, [-100, -90, -1])
    np.testing.assert_allclose(found.time_constants, [0.01, 1 / 90, 1.0])
    np.testing.assert_allclose(found.participation, [[0, 1, 0], [0, 0, 1], [1, 0, 0]], atol=1e-15)
    assert found.stiffness_ratio == pytest.approx(100.0)
    assert found.gap == (2, pytest.approx(90.0))
    assert found.largest_step() == pytest.approx(0.02)


def test_turning_and_still_modes():
    """ÿ = −y beside a mode at rest: infinite time constants, no step limit on the real axis."""
    matrix = jnp.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    found = stability.timescales(linear, jnp.ones(3), args=matrix)
    assert np.isinf(found.time_constants).all()
    assert found.largest_step() == np.inf
    assert found.gap == (0, 1.0)
    assert found.stiffness_ratio == 1.0
    one_still = stability.timescales(linear, jnp.ones(2), args=jnp.diag(jnp.array([-2.0, 0.0])))
    assert one_still.stiffness_ratio == np.inf
    assert one_still.gap == (1, np.inf)


@settings(max_examples=10)
@given(st.lists(st.floats(0.1, 10.0), min_size=9, max_size=9))
def test_timescales_do_not_depend_on_the_coordinates(entries):
    """A linear change of variables leaves time constants alone; participation sums to one."""
    change = np.array(entries).reshape(3, 3) + 20.0 * np.eye(3)
    rates = jnp.diag(jnp.array([-1.0, -3.0, -10.0]))
    matrix = jnp.asarray(np.linalg.inv(change)) @ rates @ change
    found = stability.timescales(linear, jnp.ones(3), args=matrix)
    np.testing.assert_allclose(found.time_constants, [0.1, 1 / 3, 1.0], rtol=1e-9)
    np.testing.assert_allclose(found.participation.sum(axis=1), 1.0, rtol=1e-12)


# The phase plane --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plane():
    model = sigma_model("hysteretic")
    grids = np.linspace(0.3, 0.7, 21), np.linspace(-0.05, 1.0, 106)
    return stability.phase_plane(model, INSIDE, ("alpha", "sigma"), grids)


def test_phase_plane_is_the_drift(plane):
    model = sigma_model("hysteretic")
    assert plane.d_first.shape == (106, 21)
    row, column = 40, 15
    state = initial_state(
        delta=0.66, sigma=float(plane.second[row]), alpha=float(plane.first[column])
    )
    slope = model(0.0, state)
    assert float(plane.d_first[row, column]) == pytest.approx(float(slope.alpha.squeeze()))
    assert float(plane.d_second[row, column]) == pytest.approx(float(slope.sigma.squeeze()))


def test_nullclines_are_the_closed_forms(plane):
    """α̇ = 0 at α = .5; σ̇ = 0 on σ = 0 and on the curve through σ₋ and σ₊."""
    of_alpha, of_sigma = plane.nullclines()
    np.testing.assert_allclose(np.concatenate(of_alpha)[:, 0], 0.5, atol=1e-9)
    alpha, sigma = np.concatenate(of_sigma).T
    r0 = 1.6 * alpha  # ρ P α/(ε_σ Ω)
    on_zero = np.abs(sigma) < 1e-9
    balance = r0 * (1 - 0.9 * sigma) * (1 + 3.0 * sigma) - 1.0
    np.testing.assert_allclose(balance[~on_zero], 0.0, atol=5e-3)  # linear interpolation
    assert on_zero.any()
    at_equilibrium = sigma[np.abs(alpha - 0.5) < 1e-9]
    expected = schema.hysteretic_equilibria(0.8, 0.9, 3.0)
    for value in expected:
        assert np.min(np.abs(at_equilibrium - float(value))) < 1e-3


def test_bad_input_is_said_in_words():
    grids = np.linspace(0.0, 1.0, 3), np.linspace(0.0, 1.0, 3)
    matrix = jnp.array([[-1.0, 1.0], [0.0, -1.0]])
    flat = jnp.ones(2)
    with pytest.raises(ValueError, match="component must be one of y"):
        stability.phase_plane(linear, flat, ("sigma", 0), grids, args=matrix)
    with pytest.raises(ValueError, match="two different"):
        stability.phase_plane(linear, flat, (0, 0), grids, args=matrix)
    with pytest.raises(ValueError, match="increasing"):
        stability.phase_plane(linear, flat, (0, 1), (grids[0][::-1], grids[1]), args=matrix)
    with pytest.raises(ValueError, match="eigenvectors span the state"):
        stability.timescales(linear, flat, args=matrix)
    with pytest.raises(ValueError, match="real_axis_limit must lie in"):
        stability.timescales(linear, flat, args=-jnp.eye(2)).largest_step(0.0)
    with pytest.raises(ValueError, match="y must not contain NaN"):
        stability.coupling(linear, flat * jnp.nan, args=jax.numpy.eye(2))
