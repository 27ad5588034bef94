"""Fits recover what made the data, with honest errors; the pilot is what was published."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import curve_fit

from sigma_jax import schema, statistics

TIMES = np.linspace(0.0, 40.0, 41)
TRUE = {"growth": 0.5, "sigma_0": 0.05, "suppression": 0.3}
NOISE = 0.01
X = np.linspace(0.0, 2.0, 24)


def logistic(parameters):
    return schema.logistic_coherence(
        TIMES, parameters["sigma_0"], parameters["growth"], parameters["suppression"], 0.5
    )


def exponential(parameters):
    return parameters["a"] * jnp.exp(-parameters["b"] * X)


def noisy_exponential(seed=0):
    return 2.0 * np.exp(-0.7 * X) + 0.05 * np.random.default_rng(seed).standard_normal(X.size)


# Least squares ----------------------------------------------------------------------------------


def test_a_fit_without_noise_is_exact():
    fit = statistics.fit_curve(logistic, logistic(TRUE), dict.fromkeys(TRUE, 0.2))
    assert fit.success
    for name, value in TRUE.items():
        np.testing.assert_allclose(fit.estimate[name], value, rtol=1e-5)
    np.testing.assert_allclose(fit.r_squared, 1.0, atol=1e-9)


@functools.cache
def repeated_fits():
    rng = np.random.default_rng(7)
    exact = np.asarray(logistic(TRUE))
    return [
        statistics.fit_curve(
            logistic, exact + NOISE * rng.standard_normal(exact.size), dict.fromkeys(TRUE, 0.2)
        )
        for _ in range(40)
    ]


@pytest.mark.parametrize("name", TRUE)
def test_fits_to_noisy_logistics_are_unbiased_and_their_intervals_cover(name):
    fits = repeated_fits()
    assert all(fit.success for fit in fits)
    logs = np.log([float(fit.estimate[name]) for fit in fits])
    errors = np.array([float(fit.standard_error[name] / fit.estimate[name]) for fit in fits])
    # The mean of 40 misses by less than three of its standard errors; errors are as large as said.
    assert abs(logs.mean() - np.log(TRUE[name])) < 3 * logs.std(ddof=1) / np.sqrt(40)
    assert 0.7 < logs.std(ddof=1) / errors.mean() < 1.4
    # 95 % intervals: 38 of 40 are expected, fewer than 33 has a chance of 0.3 %.
    covered = sum(float(fit.low[name]) <= TRUE[name] <= float(fit.high[name]) for fit in fits)
    assert covered >= 33


def test_the_residual_scatter_is_the_noise():
    scatter = np.mean([float(fit.residual_sd) for fit in repeated_fits()])
    np.testing.assert_allclose(scatter, NOISE, rtol=0.06)


def test_standard_errors_agree_with_scipy():
    observed = noisy_exponential()
    fit = statistics.fit_curve(exponential, observed, {"a": 1.0, "b": 1.0})
    best, covariance = curve_fit(lambda x, a, b: a * np.exp(-b * x), X, observed, p0=(1.0, 1.0))
    deviation = np.sqrt(np.diag(covariance))
    for index, name in enumerate(("a", "b")):
        np.testing.assert_allclose(fit.estimate[name], best[index], rtol=1e-5)
        np.testing.assert_allclose(fit.standard_error[name], deviation[index], rtol=1e-3)
        spread = 1.96 * deviation[index] / best[index]
        np.testing.assert_allclose(fit.low[name], best[index] * np.exp(-spread), rtol=1e-4)
        np.testing.assert_allclose(fit.high[name], best[index] * np.exp(spread), rtol=1e-4)
    correlation = covariance[0, 1] / deviation.prod()
    np.testing.assert_allclose(fit.correlation, [[1, correlation], [correlation, 1]], rtol=1e-3)


def test_goodness_of_fit_by_hand():
    observed = noisy_exponential()
    fit = statistics.fit_curve(exponential, observed, {"a": 1.0, "b": 1.0})
    residual = observed - np.asarray(fit.fitted)
    rss, n = residual @ residual, X.size
    np.testing.assert_allclose(fit.residual_sd, np.sqrt(rss / (n - 2)), rtol=1e-12)
    np.testing.assert_allclose(fit.r_squared, 1 - rss / (n * observed.var()), rtol=1e-12)
    # −2 log-likelihood at the largest, with three parameters: a, b and the variance.
    likelihood = stats.norm.logpdf(residual, scale=np.sqrt(rss / n)).sum()
    np.testing.assert_allclose(fit.aic, -2 * likelihood + 2 * 3, rtol=1e-12)


@pytest.mark.parametrize("kind", ["array", "list", "names"])
def test_cluster_robust_errors_are_the_sandwich(kind):
    rng = np.random.default_rng(3)
    groups = np.arange(X.size) % 6
    observed = noisy_exponential() + 0.1 * rng.standard_normal(6)[groups]
    labels = {"array": groups, "list": list(groups), "names": [f"run {g}" for g in groups]}[kind]
    fit = statistics.fit_curve(exponential, observed, {"a": 1.0, "b": 1.0}, groups=labels)
    a, b = float(fit.estimate["a"]), float(fit.estimate["b"])
    jacobian = np.stack([np.exp(-b * X), -a * X * np.exp(-b * X)], axis=1)
    residual = observed - a * np.exp(-b * X)
    bread = np.linalg.inv(jacobian.T @ jacobian)
    meat = np.zeros((2, 2))
    for g in range(6):
        score = jacobian[groups == g].T @ residual[groups == g]
        meat += np.outer(score, score)
    deviation = np.sqrt(np.diag(6 / 5 * bread @ meat @ bread))
    np.testing.assert_allclose(fit.standard_error["a"], deviation[0], rtol=1e-6)
    np.testing.assert_allclose(fit.standard_error["b"], deviation[1], rtol=1e-6)
    plain = statistics.fit_curve(exponential, observed, {"a": 1.0, "b": 1.0})
    assert float(fit.estimate["a"]) == float(plain.estimate["a"])
    assert float(fit.standard_error["a"]) > 1.1 * float(plain.standard_error["a"])


def test_a_fit_that_gives_up_says_so():
    fit = statistics.fit_curve(exponential, noisy_exponential(), {"a": 1e3, "b": 9.0}, max_steps=2)
    assert not fit.success


@pytest.mark.parametrize(
    ("observed", "start", "options", "match"),
    [
        (np.ones(24), {"a": 0.0, "b": 1.0}, {}, r"start must lie in \(0, inf\); got 0"),
        (np.ones(24), {"a": -1.0, "b": 1.0}, {}, "start must lie"),
        (np.full(24, np.nan), {"a": 1.0, "b": 1.0}, {}, "observed must be finite"),
        (np.ones(2), {"a": 1.0, "b": 1.0}, {}, "2 parameters need more than 2 observations; got 2"),
        (np.ones(24), {"a": 1.0, "b": 1.0}, {"groups": np.zeros(24)}, "groups"),
        (np.ones(24), {"a": 1.0, "b": 1.0}, {"groups": np.arange(3)}, "groups"),
    ],
)
def test_fits_refuse_what_cannot_be_fitted(observed, start, options, match):
    with pytest.raises(ValueError, match=match):
        statistics.fit_curve(exponential, observed, start, **options)


def test_lack_of_fit_by_hand():
    """Pure error 2 + 2 + 0 = 4 on 3 degrees; residual 2.5 + 2.5 + 0 = 5; lack 1 on 3 − 2 = 1."""
    observed, points = [1.0, 3.0, 4.0, 6.0, 7.0, 7.0], [1, 1, 2, 2, 3, 3]
    test = statistics.lack_of_fit(observed, [2.5, 2.5, 4.5, 4.5, 7.0, 7.0], points, 2)
    assert test.degrees_of_freedom == (1, 3)
    assert test.f_statistic == pytest.approx(0.75, rel=1e-12)
    assert test.p_value == pytest.approx(stats.f.sf(0.75, 1, 3), rel=1e-12)
    assert test.pure_error_sd == pytest.approx(np.sqrt(4 / 3), rel=1e-12)
    # A t test in disguise: F(1, n) is the square of t(n).
    assert test.p_value == pytest.approx(2 * stats.t.sf(np.sqrt(0.75), 3), rel=1e-12)


def test_lack_of_fit_does_not_depend_on_order():
    rng = np.random.default_rng(0)
    points = np.repeat(np.arange(5), 4)
    observed = points + rng.standard_normal(20)
    order = rng.permutation(20)
    one = statistics.lack_of_fit(observed, points * 1.1, points, 2)
    other = statistics.lack_of_fit(observed[order], points[order] * 1.1, points[order], 2)
    assert one.f_statistic == pytest.approx(other.f_statistic, rel=1e-12)


def test_lack_of_fit_rejects_at_its_level():
    """On data that the curve made, p < 0.1 happens one time in ten."""
    rng = np.random.default_rng(5)
    points = np.repeat(np.arange(8.0), 5)
    design = np.stack([np.ones(40), points], axis=1)
    rejected = 0
    for _ in range(300):
        observed = points + rng.standard_normal(40)
        fitted = design @ np.linalg.lstsq(design, observed, rcond=None)[0]
        rejected += statistics.lack_of_fit(observed, fitted, points, 2).p_value < 0.1
    assert 15 <= rejected <= 46  # 30 expected; three standard deviations are 16


@pytest.mark.parametrize(
    ("points", "parameters"), [(np.arange(6), 2), ([1, 1, 2, 2, 3, 3], 3), ([1] * 6, 1)]
)
def test_lack_of_fit_needs_replicates_and_points(points, parameters):
    with pytest.raises(ValueError, match="needs replicates"):
        statistics.lack_of_fit(np.ones(6), np.ones(6), points, parameters)


# The pilot --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pilot():
    return schema.load_pilot()


def test_the_pilot_has_45_runs_at_40_checkpoints(pilot):
    assert tuple(pilot) == schema.CONDITIONS
    for name, curves in pilot.items():
        assert curves.condition == name
        for values in (curves.acc_id, curves.acc_ood, curves.sigma_proxy, curves.phase):
            assert values.shape == (15, 40)
        np.testing.assert_array_equal(curves.step, np.arange(0, 2000, 50))
        np.testing.assert_allclose(curves.epoch, curves.step / 250.0)
        assert curves.trained.sum() == 39
        assert curves.acc_id.max() <= 1.0
        assert curves.acc_id[:, -1].min() > 0.85


def test_sigma_hat_is_the_ratio_and_exceeds_one(pilot):
    for name in ("additive", "multiplicative"):
        trained = pilot[name].sigma_hat[:, pilot[name].trained]
        assert np.all(np.nanmax(trained, axis=1) > 1.0)
        assert np.nanmax(trained) < 1.1
    curves = pilot["baseline"]
    np.testing.assert_allclose(
        curves.sigma_hat[0, 1], curves.acc_ood[0, 1] / curves.acc_id[0, 1], rtol=1e-12
    )
    assert np.nanmax(curves.sigma_hat[:, 1:]) < 0.7


def test_published_phases_are_the_published_counts(pilot):
    counts = {"additive": (102, 243, 255), "multiplicative": (59, 286, 255)}
    for name, expected in counts.items():
        phase = pilot[name].phase
        assert tuple(int((phase == p).sum()) for p in (0, 2, 3)) == expected


def test_onsets_lie_between_the_checkpoints(pilot):
    assert pilot["baseline"].onset is None
    for name, checkpoint in (("additive", 350), ("multiplicative", 200)):
        curves = pilot[name]
        onset = curves.onset * schema.STEPS_PER_EPOCH
        assert np.median(onset) == pytest.approx(checkpoint - 25, abs=1e-9)
        first = np.array([curves.step[row >= 2][0] for row in curves.phase])
        np.testing.assert_allclose(first - onset, 25.0)


@pytest.fixture(scope="module")
def baseline_fit(pilot):
    return schema.fit_pilot(pilot["baseline"], "constant")


def test_the_baseline_fits(baseline_fit, pilot):
    fit = baseline_fit
    assert fit.curve.success
    assert (fit.condition, fit.explanation) == ("baseline", "constant")
    assert fit.observations + fit.left_out == 15 * 39
    estimate, low, high = fit.r0
    assert low < estimate < high
    # σ̂ hardly moves, so it is at its equilibrium (1 − 1/R₀)/k: R₀ = 1/(1 − kσ̂).
    curves = pilot["baseline"]
    level = np.nanmean(curves.sigma_hat[:, curves.trained])
    assert estimate == pytest.approx(1 / (1 - 0.5 * level), rel=0.02)
    # R₀ again, from its parts.
    rates = fit.curve.estimate
    assert estimate == pytest.approx(
        0.8 * 0.5 * float(rates["rho"]) / (0.5 * float(rates["epsilon_sigma"])), rel=1e-9
    )


def test_the_fitted_curve_is_the_closed_form(baseline_fit):
    rates = {name: float(value) for name, value in baseline_fit.curve.estimate.items()}
    exact = schema.logistic_coherence(
        baseline_fit.epoch, rates["sigma_0"], 0.4 * rates["rho"], 0.5 * rates["epsilon_sigma"], 0.5
    )
    np.testing.assert_allclose(baseline_fit.sigma, exact, atol=1e-5)
    residual_sd = float(baseline_fit.curve.residual_sd)
    assert baseline_fit.lack.pure_error_sd == pytest.approx(residual_sd, rel=0.1)


def test_the_interval_of_r0_uses_the_correlation(baseline_fit):
    """Growth and suppression are strongly tied: R₀ is known far better than either."""
    fit = baseline_fit.curve
    estimate, low, high = baseline_fit.r0
    assert low * high == pytest.approx(estimate**2, rel=1e-9)
    width = np.log(high / low)
    alone = np.log(float(fit.high["rho"] / fit.low["rho"]))
    assert width < alone
    assert jax.tree.structure(fit.low) == jax.tree.structure(fit.estimate)
