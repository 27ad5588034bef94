"""The filter: its forecast against an adaptive solver, its correction against Bayes' rule."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from sigma_jax.schema import Environment, initial_state, sigma_model
from sigma_jax.solvers import Adaptive, simulate
from sigma_jax.training import CoherenceBelief, CoherenceNoise, correct, forecast

NOISE = CoherenceNoise(observation=0.2, process=0.05)
SHARES = [0.0, 0.1, 0.4, 0.9]


def belief(sigma=0.3, variance=0.01, **others):
    state = initial_state(sigma=sigma, **({"alpha": 0.4, "delta": 0.2} | others))
    return CoherenceBelief(state, jnp.asarray(variance))


_ahead = eqx.filter_jit(lambda model, *given: forecast(model, *given, NOISE))


def ahead(model, before, share, epochs):
    return _ahead(model, before, jnp.asarray(share), jnp.asarray(epochs))


@eqx.filter_jit
def _solved(model, state, reward, epochs):
    environment = Environment(r_surface=reward)
    model = eqx.tree_at(
        lambda m: m.environment, model, environment, is_leaf=lambda x: isinstance(x, Environment)
    )
    method = Adaptive(rtol=1e-11, atol=1e-12)
    times = jnp.stack([jnp.zeros(()), epochs])
    return jax.tree.map(lambda leaf: leaf[-1], simulate(model, state, times, method=method).ys)


def solved(variant, state, share, epochs):
    """The state some epochs later to eleven digits: at 40 % and more, R^surface is .2, not .8."""
    reward = 0.8 - 0.6 * min(share / 0.4, 1.0)
    return _solved(sigma_model(variant), state, jnp.asarray(reward), jnp.asarray(epochs))


# Forecast ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["consistent", "hysteretic"])
def test_a_forecast_is_the_model_s_flow(variant):
    before = belief()
    for share in SHARES:
        found = ahead(sigma_model(variant), before, share, 0.05).state
        expected = solved(variant, before.state, share, 0.05)
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8)
        assert float(jnp.abs(found.sigma - before.state.sigma).max()) > 1e-4  # and it moves


def test_more_compositional_pairs_mean_more_coherence_up_to_the_largest_share():
    after = [float(ahead(sigma_model(), belief(), s, 2.0).state.sigma[0, 0, 0]) for s in SHARES]
    assert after[0] < after[1] < after[2]
    assert after[2] == after[3]


def test_its_one_step_is_of_order_four():
    """Half the step, a thirty-second of the error."""
    before = belief()

    def error(epochs):
        expected = solved("consistent", before.state, 0.4, epochs)
        found = ahead(sigma_model(), before, 0.4, epochs).state
        return float(jnp.abs(found.alpha - expected.alpha).max())

    order = np.log2(error(0.8) / error(0.4))
    assert 4.7 < order < 5.3


@pytest.mark.parametrize("sigma", [0.02, 0.3, 0.9])
def test_the_variance_grows_by_the_flow_s_slope_and_the_process_s_noise(sigma):
    share, epochs, step = 0.4, 0.25, 1e-4

    def later(start):
        return float(solved("consistent", belief(start).state, share, epochs).sigma[0, 0, 0])

    slope = (later(sigma + step) - later(sigma - step)) / (2 * step)
    found = ahead(sigma_model(), belief(sigma, 0.04), share, epochs).variance
    expected = slope**2 * 0.04 + 0.05**2 * epochs
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert abs(slope - 1.0) > 0.01  # it is not the noise alone
    # Without any variance to grow, what is left is the process's.
    known = ahead(sigma_model(), belief(sigma, 0.0), share, epochs).variance
    np.testing.assert_allclose(known, 0.05**2 * epochs, rtol=1e-12)


# Correction -------------------------------------------------------------------------------------


def test_a_correction_by_hand():
    """Precisions add: 1/.01 of the belief and 1/.04 of the observation."""
    found = correct(belief(0.3, 0.01), jnp.asarray(0.8), NOISE)
    np.testing.assert_allclose(found.variance, 1 / (100 + 25), rtol=1e-12)
    np.testing.assert_allclose(found.state.sigma, (100 * 0.3 + 25 * 0.8) / 125, rtol=1e-12)
    np.testing.assert_array_equal(found.state.alpha, belief().state.alpha)
    np.testing.assert_array_equal(found.state.delta, belief().state.delta)


def test_an_observation_without_noise_is_believed_and_one_that_is_all_noise_is_not():
    before = belief(0.3, 0.01)
    exact = correct(before, jnp.asarray(0.8), CoherenceNoise(observation=1e-9))
    np.testing.assert_allclose(exact.state.sigma, 0.8, rtol=1e-12)
    np.testing.assert_allclose(exact.variance, 0.0, atol=1e-15)
    useless = correct(before, jnp.asarray(0.8), CoherenceNoise(observation=1e6))
    np.testing.assert_allclose(useless.state.sigma, 0.3, rtol=1e-9)
    np.testing.assert_allclose(useless.variance, 0.01, rtol=1e-9)
    # Nor is one that comes when σ is known.
    np.testing.assert_array_equal(
        correct(belief(0.3, 0.0), jnp.asarray(0.8), NOISE).state.sigma, 0.3
    )


def test_many_observations_find_what_they_scatter_about():
    rng = np.random.default_rng(0)
    now = belief(0.1, 0.04)
    for observed in 0.7 + 0.2 * rng.standard_normal(400):
        now = correct(now, jnp.asarray(observed), NOISE)
    deviation = float(jnp.sqrt(now.variance))
    assert deviation == pytest.approx(0.2 / np.sqrt(400 + 1), rel=1e-6)
    assert abs(float(now.state.sigma[0, 0, 0]) - 0.7) < 3 * deviation


@given(
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.floats(-1.0, 2.0),
    st.floats(0.01, 10.0),
)
def test_coherence_stays_between_0_and_1(sigma, alpha, share, observed, epochs):
    """Also where one Runge–Kutta step is far too long for the equation."""
    before = belief(sigma, 0.5, alpha=alpha)
    later = ahead(sigma_model(), before, share, epochs)
    after = correct(later, jnp.asarray(observed), NOISE)
    for each in (later, after):
        for leaf in jax.tree.leaves(each.state):
            assert ((leaf >= 0.0) & (leaf <= 1.0)).all()
    assert float(after.variance) <= min(float(later.variance), 0.2**2)


@pytest.mark.parametrize("name", ["observation", "process", "initial"])
@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_noise_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"noise.{name} must"):
        CoherenceNoise(**{name: value})
