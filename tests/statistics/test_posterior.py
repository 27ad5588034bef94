"""Posteriors against closed forms, quadrature and profile intervals."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax import schema, solvers, statistics

X = np.linspace(-1.0, 1.0, 20)
DESIGN = np.stack([np.ones_like(X), X], axis=1)
CENTER = {"a": 1.0, "b": 2.0}
SPREAD, NOISE = 0.5, 0.4
OBSERVED = 0.3 + 1.0 * X + NOISE * np.random.default_rng(0).standard_normal(X.size)
PRIOR_MEAN = np.log([1.0, 2.0])


def predict(p):
    """Linear in the logarithms, so that the posterior of the logarithms is normal."""
    return jnp.log(p["a"]) + jnp.log(p["b"]) * X


def normal_posterior(noise):
    """Mean and covariance of the logarithms, and the log-density of the data, given the noise."""
    precision = DESIGN.T @ DESIGN / noise**2 + np.eye(2) / SPREAD**2
    covariance = np.linalg.inv(precision)
    mean = covariance @ (DESIGN.T @ OBSERVED / noise**2 + PRIOR_MEAN / SPREAD**2)
    spread = noise**2 * np.eye(X.size) + SPREAD**2 * DESIGN @ DESIGN.T
    residual = OBSERVED - DESIGN @ PRIOR_MEAN
    log_evidence = (
        -(np.linalg.slogdet(spread)[1] + residual @ np.linalg.solve(spread, residual)) / 2
    )
    return mean, covariance, log_evidence


def logs(posterior):
    return np.stack([np.log(posterior.samples[name]).ravel() for name in CENTER])


def assert_trustworthy(posterior):
    assert posterior.divergences == 0
    for name in posterior.names:
        assert posterior.r_hat[name] < 1.05
        assert posterior.effective_sample_size[name] > 100


def test_known_noise_gives_the_normal_posterior():
    posterior = statistics.sample_posterior(
        predict, OBSERVED, CENTER, spread=SPREAD, noise_sd=NOISE, draws=1000
    )
    mean, covariance, _ = normal_posterior(NOISE)
    assert_trustworthy(posterior)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((logs(posterior).mean(axis=1) - mean) / sd, 0.0, atol=0.1)
    np.testing.assert_allclose(np.cov(logs(posterior)), covariance, atol=0.1 * sd.max() ** 2)
    low = np.log([posterior.low[name] for name in CENTER])
    np.testing.assert_allclose((low - (mean - 1.96 * sd)) / sd, 0.0, atol=0.2)
    assert posterior.samples["a"].shape == posterior.noise_sd.shape == (4, 1000)
    np.testing.assert_allclose(posterior.noise_sd, NOISE, rtol=1e-12)


def test_unknown_noise_agrees_with_quadrature():
    posterior = statistics.sample_posterior(
        predict, OBSERVED, CENTER, spread=SPREAD, noise_scale=1.0, draws=1000
    )
    assert_trustworthy(posterior)
    grid = np.linspace(0.1, 2.0, 400)
    parts = [normal_posterior(noise) for noise in grid]
    weight = np.array([evidence for _, _, evidence in parts]) - grid**2 / 2
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    mean = weight @ np.array([m for m, _, _ in parts])
    second = np.einsum("k,kij->ij", weight, [c + np.outer(m, m) for m, c, _ in parts])
    covariance = second - np.outer(mean, mean)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((logs(posterior).mean(axis=1) - mean) / sd, 0.0, atol=0.1)
    np.testing.assert_allclose(logs(posterior).std(axis=1), sd, rtol=0.1)
    noise_mean = weight @ grid
    noise_sd = np.sqrt(weight @ grid**2 - noise_mean**2)
    assert posterior.noise_sd.mean() == pytest.approx(noise_mean, abs=0.1 * noise_sd)
    assert posterior.noise_sd.std() == pytest.approx(noise_sd, rel=0.15)


@pytest.mark.slow
def test_the_sigma_model_agrees_with_its_profile():
    model = schema.CurveModel(
        np.arange(10.0, 81.0, 10.0),
        observed=("sigma",),
        environment=schema.regime("withdrawn"),
        jump_times=(40.0,),
        method=solvers.FixedStep(4),
    )
    truth = {"epsilon_sigma": 0.6, "rho": 0.6, "sigma_0": 0.1}
    noise = 0.005 * np.random.default_rng(2).standard_normal(8)
    observed = np.asarray(model(truth)) + noise
    posterior = statistics.sample_posterior(
        model, observed, truth, noise_sd=0.005, warmup=200, draws=500, chains=2
    )
    profile = statistics.profile_likelihood(model, observed, truth, noise_sd=0.005, points=2)
    assert_trustworthy(posterior)
    for name in truth:
        width = np.log(profile.high[name] / profile.low[name])
        assert abs(np.log(posterior.low[name] / profile.low[name])) < 0.1 * width
        assert abs(np.log(posterior.high[name] / profile.high[name])) < 0.1 * width


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"center": {"a": -1.0, "b": 1.0}}, "center must lie"),
        ({"observed": np.full(20, np.nan)}, "observed must be a finite vector"),
        ({"spread": 0.0}, "spread must lie"),
        ({"noise_sd": -1.0}, "noise_sd must lie"),
        ({"draws": 1}, "draws must lie"),
        ({"predict": lambda p: jnp.log(-p["a"]) * X}, "no finite value at center"),
    ],
)
def test_bad_input_is_named(change, match):
    given = {"predict": predict, "observed": OBSERVED, "center": CENTER} | change
    with pytest.raises(ValueError, match=match):
        statistics.sample_posterior(**given)


def test_without_numpyro_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpyro", None)
    with pytest.raises(ValueError, match=r"pip install sigma_jax\[inference\]"):
        statistics.sample_posterior(predict, OBSERVED, CENTER)
