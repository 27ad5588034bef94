"""The simulated learners on whom the predictions are tested."""

import jax
import numpy as np
import pytest

from sigma_jax import schema, solvers
from sigma_jax.predictions import TIMES, Study, simulate_population


def learners(**options):
    return simulate_population(jax.random.key(4), 30, environment={"r_surface": 0.2}, **options)


def test_without_noise_and_differences_everyone_follows_the_model():
    population = learners(heterogeneity=0.0, noise=0.0)
    model = schema.sigma_model(environment=schema.regime("targeted"))
    exact = solvers.simulate(model, schema.initial_state(), TIMES).ys
    # Euler steps of a quarter of an epoch.
    np.testing.assert_allclose(population.sigma[7, :, 0], exact.sigma[:, 0, 0, 0], atol=5e-3)
    np.testing.assert_allclose(population.delta_rel[0, :, 0], exact.delta[:, 0, 0, 0], atol=2e-2)
    assert np.ptp(population.sigma, axis=0).max() < 1e-12


def test_the_same_key_gives_the_same_learners_in_any_environment():
    population = learners()
    np.testing.assert_array_equal(population.sigma, learners().sigma)
    # Attention does not see Ω, and neither do rates and noise.
    other = simulate_population(
        jax.random.key(4), 30, environment={"r_surface": 0.2, "omega_sl": 0.9}
    )
    np.testing.assert_array_equal(population.alpha, other.alpha)
    assert np.all(other.sigma[:, -1] < population.sigma[:, -1])


def test_nobody_leaves_the_box():
    population = learners(noise=0.3)
    for name in ("sigma", "alpha", "self_model", "executive"):
        values = getattr(population, name)
        assert np.all((values >= 0) & (values <= 1)), name


@pytest.mark.parametrize(
    ("options", "named"), [({"n": 3}, "n must be"), ({"null_studies": 10}, "null_studies must be")]
)
def test_a_study_that_is_too_small_is_refused(options, named):
    with pytest.raises(ValueError, match=named):
        Study(**options)
