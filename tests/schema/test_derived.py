"""Derived quantities and equilibria: closed forms, ranges, monotonicity, and cases by hand."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given

from sigma_jax import schema

share = st.floats(0.0, 1.0, allow_subnormal=False)
inside = st.floats(0.01, 0.99)
positive = st.floats(0.01, 10.0)


def conditions(**values):
    return schema.Environment(**values)(0.0, None)


# Depth and quality ------------------------------------------------------------------------------


@given(share, positive)
def test_relative_depth_is_a_share_of_the_frontier(part, frontier):
    np.testing.assert_allclose(schema.relative_depth(part * frontier, frontier), part, rtol=1e-12)


@given(st.floats(0.1, 5.0), st.floats(0.1, 5.0), share, share)
def test_learning_efficiency_rises_with_depth(a, b, x, y):
    rates = schema.Rates(eta_max=0.35, gompertz_a=a, gompertz_b=b)
    low, high = (float(schema.learning_efficiency(v, rates)) for v in sorted((x, y)))
    assert 0.0 < low <= high < 0.35
    np.testing.assert_allclose(
        schema.learning_efficiency(0.0, rates), 0.35 * np.exp(-a), rtol=1e-12
    )


@given(st.floats(1.1, 6.0), positive)
def test_learning_efficiency_inflects_at_an_e_th_of_its_maximum(a, b):
    rates = schema.Rates(eta_max=0.35, gompertz_a=a, gompertz_b=b)
    location, value = schema.depth_inflection(rates)
    np.testing.assert_allclose(location, np.log(a) / b, rtol=1e-12)
    np.testing.assert_allclose(value, 0.35 / np.e, rtol=1e-12)
    x, step = float(location), 1e-3 / b
    slopes = [
        float(schema.learning_efficiency(p + step, rates) - schema.learning_efficiency(p, rates))
        for p in (x - 200 * step, x - step / 2, x + 200 * step)
    ]
    assert slopes[1] > max(slopes[0], slopes[2])


@given(share, share, share)
def test_coherence_slows_decay(x, y, protection):
    rates = schema.Rates(lambda_c=0.02, decay_protection=protection)
    low, high = sorted((x, y))
    assert 0.0 <= schema.effective_decay(high, rates) <= schema.effective_decay(low, rates) <= 0.02
    assert schema.effective_decay(0.0, rates) == 0.02
    np.testing.assert_allclose(
        schema.effective_decay(1.0, rates), 0.02 * (1 - protection), atol=1e-15
    )


@given(share, share, share)
def test_quality_and_score_are_shares(sigma, depth, weight):
    quality = float(schema.mastery_quality(sigma, depth))
    score = float(schema.mastery_score(sigma, depth, weight))
    assert quality == sigma * depth
    assert quality <= min(sigma, depth)
    assert min(sigma, depth) - 1e-12 <= score <= max(sigma, depth) + 1e-12


def test_score_weights_coherence():
    np.testing.assert_allclose(schema.mastery_score(0.8, 0.4, 0.25), 0.3 + 0.2, rtol=1e-12)
    np.testing.assert_allclose(schema.mastery_score(0.8, 0.4), 0.6, rtol=1e-12)


def test_marginals_take_the_weakest_coherence_and_the_deepest_depth():
    values = jnp.array([[[0.2, 0.7], [0.9, 0.1]]])
    np.testing.assert_array_equal(schema.marginal_coherence(values), [[0.2, 0.1]])
    np.testing.assert_array_equal(schema.marginal_depth(values), [[0.7, 0.9]])


# Intersections and sets -------------------------------------------------------------------------


@given(st.lists(share, min_size=3, max_size=3), st.lists(share, min_size=3, max_size=3))
def test_discovery_is_a_geometric_mean(quality, off_diagonal):
    quality = jnp.array(quality)
    a, b, c = off_diagonal
    similarity = jnp.array([[1.0, a, b], [a, 1.0, c], [b, c, 1.0]])
    psi = schema.discovery_rate(quality, similarity, 2.0)
    np.testing.assert_array_equal(psi, psi.T)
    np.testing.assert_allclose(
        psi, 2.0 * np.sqrt(np.outer(quality, quality)) * similarity, rtol=1e-12
    )
    assert np.all((psi >= 0) & (psi <= 2.0))


def test_discovery_has_a_finite_gradient_without_quality():
    slope = jax.grad(lambda q: schema.discovery_rate(q, 0.5).sum())
    np.testing.assert_array_equal(slope(jnp.zeros(2)), 0.0)
    assert np.isfinite(slope(jnp.array([0.0, 0.5]))).all()
    # ∂/∂q₁ of φ (q₁ + q₂ + 2√(q₁ q₂)) = φ (1 + √(q₂/q₁))
    np.testing.assert_allclose(slope(jnp.array([0.1, 0.4])), [1.5, 0.75], rtol=1e-12)


def test_intersections_need_two_different_deep_domains():
    active = schema.active_intersections(jnp.array([[0.5, 0.31, 0.3], [0.9, 0.1, 0.2]]), 0.3)
    expected = np.zeros((2, 3, 3), bool)
    expected[0, 0, 1] = expected[0, 1, 0] = True
    np.testing.assert_array_equal(active, expected)


def test_mastery_and_breadth_sets():
    thresholds = schema.Thresholds(theta_delta=0.7, theta_sigma=0.3, theta_beta=0.3)
    mastered = schema.mastery_set(
        jnp.array([0.31, 0.3, 0.9, 0.9]), jnp.array([0.71, 0.9, 0.7, 0.8]), thresholds
    )
    np.testing.assert_array_equal(mastered, [True, False, False, True])
    known = schema.breadth_set(jnp.array([0.9, 0.4, 0.3, 0.9]), mastered, thresholds)
    np.testing.assert_array_equal(known, [False, True, False, False])


def test_shortcuts_are_delegated_only_with_coherence():
    shortcut, own = jnp.array([0.5, 0.6, 0.4]), jnp.array([0.5, 0.7, 0.3])
    np.testing.assert_array_equal(schema.shortcut_set(shortcut, own, 0.15, 0.15), [1, 0, 1])
    np.testing.assert_array_equal(schema.shortcut_set(shortcut, own, 0.14, 0.15), [0, 0, 0])
    each = schema.shortcut_set(shortcut, own, jnp.array([0.1, 0.2, 0.2]), 0.15)
    np.testing.assert_array_equal(each, [0, 0, 1])
    batched = schema.shortcut_set(
        jnp.stack([shortcut] * 2), jnp.stack([own] * 2), jnp.array([0.1, 0.2]), 0.15
    )
    np.testing.assert_array_equal(batched, [[0, 0, 0], [1, 0, 1]])


# A path 0 – 1 – 2 – 3, with a weak link between 2 and 3, and domain 4 on its own.
GRAPH = np.eye(5)
for first, second, strength in ((0, 1, 0.8), (1, 2, 0.5), (2, 3, 0.2)):
    GRAPH[first, second] = GRAPH[second, first] = strength


@pytest.mark.parametrize(
    ("known", "minimum", "expected"),
    [
        ([0], 0.3, [1]),
        ([1], 0.3, [0, 2]),
        ([0, 1], 0.3, [2]),
        ([2], 0.3, [1]),
        ([2], 0.1, [1, 3]),
        ([2], 0.2, [1]),
        ([4], 0.1, []),
        ([], 0.1, []),
        ([0, 1, 2, 3, 4], 0.0, []),
    ],
)
def test_the_adjacent_possible_of_a_small_graph(known, minimum, expected):
    found = schema.adjacent_possible(
        jnp.isin(jnp.arange(5), jnp.array(known, int)), jnp.asarray(GRAPH), minimum
    )
    np.testing.assert_array_equal(np.flatnonzero(found), expected)


def test_reachability_is_the_best_mastered_support():
    quality = jnp.array([0.5, 0.9, 0.6, 0.4, 0.2])
    mastered = jnp.array([True, False, True, False, False])
    found = schema.reachability(quality, mastered, jnp.asarray(GRAPH))
    np.testing.assert_allclose(found, [0.5, max(0.4, 0.3), 0.6, 0.12, 0.0], rtol=1e-12)
    nothing = schema.reachability(quality, jnp.zeros(5, bool), jnp.asarray(GRAPH))
    np.testing.assert_array_equal(nothing, 0.0)


# Others -----------------------------------------------------------------------------------------


@given(share, share)
def test_calibration_error_is_positive_in_overconfidence(self_model, sigma):
    error = float(schema.calibration_error(self_model, sigma))
    assert error == self_model - sigma
    assert -1.0 <= error <= 1.0


def test_legibility_and_the_collective_field_by_hand():
    """The domain most similar to 0 is 1, to 1 it is 2, to 2 it is 1."""
    phi = jnp.array([[1.0, 0.5, 0.2], [0.5, 1.0, 0.8], [0.2, 0.8, 1.0]])
    sigma = jnp.array([[0.9, 0.6, 0.3], [0.2, 0.4, 1.0]])
    mu = schema.legibility(sigma, phi)
    np.testing.assert_allclose(mu[0, 1], [0.9 * 0.5 * 0.4, 0.6 * 0.8 * 1.0, 0.3 * 0.8 * 0.4])
    np.testing.assert_allclose(mu[1, 0], [0.2 * 0.5 * 0.6, 0.4 * 0.8 * 0.3, 1.0 * 0.8 * 0.6])
    np.testing.assert_allclose(mu[0, 0, 0], 0.9 * 0.5 * 0.6)
    field = schema.collective_field(mu, phi)
    assert field.shape == (2, 2, 3, 3)
    for one, two in ((0, 0), (0, 2), (2, 1)):
        expected = float(mu[0, 1, one]) * float(mu[1, 0, two]) * float(phi[one, two])
        np.testing.assert_allclose(field[0, 1, one, two], expected, rtol=1e-12)
    # What A and B see in (d₁, d₂) is what B and A see in (d₂, d₁).
    np.testing.assert_allclose(field[0, 1], field[1, 0].T, rtol=1e-12)
    single = schema.legibility(jnp.array([[0.5], [0.4]]), jnp.ones((1, 1)))
    np.testing.assert_allclose(single[:, :, 0], [[0.25, 0.2], [0.2, 0.16]], rtol=1e-12)


def test_cross_modal_transfer_by_hand():
    omega = jnp.array([[1.0, 0.5], [0.5, 1.0]])
    found = schema.cross_modal_transfer(jnp.array([0.8, 0.2]), omega)
    np.testing.assert_allclose(found, [[0.8, 0.4], [0.1, 0.2]], rtol=1e-12)


def test_a_frontier_that_stands_still_makes_nothing_obsolete():
    assert schema.obsolescence_rate(2.0, 1.0, None) == 0.0
    growing = schema.FrontierGrowth(start=2.0, rate=0.03, ceiling=4.0)
    np.testing.assert_allclose(schema.obsolescence_rate(growing, 5.0, None), 0.03, rtol=1e-12)
    assert schema.obsolescence_rate(growing, 100.0, None) == 0.0
    ramp = schema.Ramp(0.0, 10.0, 1.0, 2.0)
    np.testing.assert_allclose(schema.obsolescence_rate(ramp, 5.0, None), 0.1 / 1.5, rtol=1e-12)


# The threshold of coherence ---------------------------------------------------------------------


@given(positive, positive, positive, positive)
def test_r0_is_one_at_critical_attention(rho, epsilon, omega, principled):
    rates = schema.Rates(rho=rho, epsilon_sigma=epsilon)
    here = conditions(omega_sl=omega, p_a=principled)
    critical = schema.critical_attention(rates, here)
    np.testing.assert_allclose(schema.reproduction_number(rates, here, critical), 1.0, rtol=1e-12)
    np.testing.assert_allclose(
        schema.reproduction_number(rates, here, 3 * critical), 3.0, rtol=1e-12
    )


def test_r0_of_the_reference_regimes():
    for name, expected in (("baseline", 0.80), ("targeted", 1.28)):
        here, rates = schema.regime(name)(0.0, None), schema.Rates()
        alpha = schema.attention_equilibrium(rates, here)
        np.testing.assert_allclose(
            schema.reproduction_number(rates, here, alpha), expected, rtol=1e-12
        )
    assert schema.reproduction_number(schema.Rates(), conditions(omega_sl=0.0), 0.5) == np.inf


@given(st.floats(0.05, 20.0), st.floats(0.2, 4.0))
def test_the_core_equilibrium_is_a_zero_of_its_equation(r0, saturation):
    sigma = float(schema.core_equilibrium(r0, saturation))
    slope = sigma * (r0 * (1 - saturation * sigma) - 1)
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)
    assert 0.0 <= sigma <= 1 / saturation
    assert (sigma > 0) == (r0 > 1)
    printed = float(schema.printed_sigma_critical(r0, saturation))
    assert printed == sigma if r0 > 1 else printed <= 0


@given(st.floats(0.05, 20.0), st.floats(0.05, 20.0))
def test_the_core_equilibrium_rises_with_r0(x, y):
    low, high = sorted((x, y))
    assert schema.core_equilibrium(low, 0.5) <= schema.core_equilibrium(high, 0.5)


@given(st.floats(0.1, 3.0), st.floats(1.05, 20.0), st.floats(1e-3, 3.0))
def test_hysteretic_equilibria_are_zeros(k, ratio, above):
    kappa = k * ratio
    r0 = float(schema.saddle_node(k, kappa)) * (1.0 + above)
    low, high = (float(root) for root in schema.hysteretic_equilibria(r0, k, kappa))
    assert low < high
    for sigma in (low, high):
        bracket = r0 * (1 - k * sigma) * (1 + kappa * sigma) - 1
        np.testing.assert_allclose(bracket, 0.0, atol=1e-9 * (1 + r0) * (1 + kappa * abs(sigma)))
    assume(abs(r0 - 1) > 1e-6)
    assert (low > 0) == (r0 < 1)


@given(st.floats(0.1, 3.0), st.floats(1.05, 20.0))
def test_hysteretic_equilibria_merge_at_the_saddle_node(k, ratio):
    kappa = k * ratio
    fold = float(schema.saddle_node(k, kappa))
    assert 0 < fold < 1
    low, high = schema.hysteretic_equilibria(fold * (1 + 1e-12), k, kappa)
    middle = (kappa - k) / (2 * k * kappa)
    np.testing.assert_allclose([low, high], middle, atol=1e-4 * (kappa + k) / (k * kappa))
    assert np.isnan(schema.hysteretic_equilibria(fold * 0.999, k, kappa)).all()


def test_hysteretic_numbers():
    np.testing.assert_allclose(schema.saddle_node(0.9, 3.0), 0.710, atol=5e-4)
    low, high = schema.hysteretic_equilibria(0.8, 0.9, 3.0)
    np.testing.assert_allclose([low, high], [0.147, 0.631], atol=5e-4)
    _, targeted = schema.hysteretic_equilibria(1.28, 0.9, 3.0)
    np.testing.assert_allclose(targeted, 0.8708, atol=5e-5)


@given(positive, positive, positive, positive)
def test_attention_settles_where_its_equation_is_zero(gamma, zeta, contrast, surface):
    rates = schema.Rates(gamma=gamma, zeta_alpha=zeta)
    alpha = float(schema.attention_equilibrium(rates, conditions(c_a=contrast, r_surface=surface)))
    assert 0 < alpha < 1
    growth, erosion = gamma * contrast * (1 - alpha), zeta * alpha * surface
    np.testing.assert_allclose(growth, erosion, rtol=1e-9)


@given(positive, positive, share, share)
def test_the_self_model_settles_below_coherence(nu, xi, omega, sigma):
    rates = schema.Rates(nu_m=nu, xi_m=xi)
    settled = float(schema.self_model_equilibrium(rates, conditions(omega_sl=omega), sigma))
    np.testing.assert_allclose(nu * (sigma - settled), xi * omega * settled, atol=1e-12)
    assert settled <= sigma * (1 + 1e-12)


@pytest.mark.parametrize(
    ("a", "b", "k", "upper", "expected"),
    [
        (4.0, 3.0, 0.87, 1.0, [0.030, 0.645, 0.797]),
        (5.0, 5.0, 0.8, 1.0, [0.011, 0.202]),
        (5.0, 5.0, 0.8, 2.0, [0.011, 0.202, 1.237]),
        (4.0, 3.0, 0.5, 2.5, [1.98]),
    ],
)
def test_depth_equilibria_numbers(a, b, k, upper, expected):
    roots = schema.depth_equilibria(schema.Rates(gompertz_a=a, gompertz_b=b), k, upper=upper)
    np.testing.assert_allclose(roots[-len(expected) :], expected, atol=5e-3)
    np.testing.assert_allclose(roots, expected if k > 0.5 else roots, atol=1e-3)
    for root in roots:
        assert np.exp(-a * np.exp(-b * root)) == pytest.approx(k * root, rel=1e-9)


@given(st.floats(0.5, 2.7), st.floats(0.5, 6.0), st.floats(0.3, 5.0))
def test_depth_has_one_equilibrium_unless_a_exceeds_e(a, b, k):
    rates = schema.Rates(gompertz_a=a, gompertz_b=b)
    assert len(schema.depth_equilibria(rates, k, upper=1.05 / k)) == 1


def test_printed_delta_star():
    rates = schema.Rates(lambda_c=0.01, eta_max=1.0)
    np.testing.assert_allclose(schema.printed_delta_star(rates), 0.5438, atol=5e-5)


def test_derived_quantities_go_through_jit_and_grad():
    rates = schema.Rates()

    def everything(sigma, depth):
        quality = schema.mastery_quality(sigma, depth)
        psi = schema.discovery_rate(quality, 0.5)
        return psi.sum() + schema.effective_decay(sigma, rates).sum()

    slope = jax.jit(jax.grad(everything, argnums=(0, 1)))(jnp.array([0.0, 0.4]), jnp.ones(2) * 0.5)
    assert all(np.isfinite(part).all() for part in slope)


@pytest.mark.parametrize(("variant", "remembers"), [("consistent", False), ("hysteretic", True)])
def test_a_slow_sweep_finds_the_stable_branches(variant, remembers):
    """Only the extension depends on its history, and only between the saddle-node and R₀ = 1."""
    r0 = np.array([0.6, 0.8, 1.2])
    model = schema.sigma_model(variant)
    up, down = eqx.filter_jit(schema.quasi_static_sweep)(model, r0, hold=600.0, steps=300)
    k, kappa = model.rates.saturation, model.rates.shortcut_relief
    if remembers:
        _, stable = schema.hysteretic_equilibria(r0[1:], k, kappa)
    else:
        stable = schema.core_equilibrium(r0[1:], k)
    np.testing.assert_allclose(up, [1e-3, 1e-3, stable[1]], atol=2e-4)
    np.testing.assert_allclose(down, [1e-3, stable[0] if remembers else 1e-3, stable[1]], atol=2e-4)
    assert (abs(float(down[1] - up[1])) > 0.5) == remembers
