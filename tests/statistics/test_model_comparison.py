"""Vuong's test and cross-validation: restated, antisymmetric, and fair between equals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from sigma_jax import statistics

IDENTITY = 1e-12


def fitted(design, y):
    design = np.column_stack([np.ones_like(y), design])
    return design @ np.linalg.lstsq(design, y)[0]


def rivals(generator, n, first=1.0, second=1.0):
    """Two predictors and an outcome that follows them with these weights."""
    a, b = generator.normal(size=(2, n))
    return a, b, first * a + second * b + generator.normal(size=n)


def compared_by_vuong(a, b, y):
    likelihoods = [statistics.normal_log_likelihood(y, fitted(x, y), 2) for x in (a, b)]
    return statistics.vuong(*likelihoods, parameters=(3, 3))


@pytest.fixture(scope="module")
def likelihoods():
    generator = np.random.default_rng(0)
    return generator.normal(-1.0, 0.5, 80), generator.normal(-1.1, 0.5, 80)


def test_normal_log_likelihood_is_scipys():
    a, _, y = rivals(np.random.default_rng(1), 50)
    residual = y - fitted(a, y)
    expected = scipy_stats.norm.logpdf(residual, scale=np.sqrt(np.mean(residual**2)))
    np.testing.assert_allclose(
        statistics.normal_log_likelihood(y, fitted(a, y), parameters=2), expected, rtol=1e-10
    )


def test_vuong_restated(likelihoods):
    a, b = likelihoods
    ratio = np.sum(a - b) - (5 - 2) / 2 * np.log(80)
    omega = np.sqrt(np.mean((a - b) ** 2) - np.mean(a - b) ** 2)
    z = ratio / (np.sqrt(80) * omega)
    test = statistics.vuong(a, b, parameters=(5, 2))
    assert test.statistic == pytest.approx(z, rel=1e-10)
    assert test.p_value == pytest.approx(2 * scipy_stats.norm.sf(abs(z)), rel=1e-8)
    assert test.mean_difference == pytest.approx(ratio / 80, rel=1e-10)
    half = 1.959964 * omega / np.sqrt(80)
    assert (test.low, test.high) == pytest.approx((ratio / 80 - half, ratio / 80 + half), rel=1e-6)
    assert test.n == 80


def test_vuong_is_antisymmetric(likelihoods):
    a, b = likelihoods
    one, other = (
        statistics.vuong(a, b, parameters=(1, 4)),
        statistics.vuong(b, a, parameters=(4, 1)),
    )
    assert one.statistic == pytest.approx(-other.statistic, rel=IDENTITY)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), rel=IDENTITY)


def test_schwarz_correction_favours_the_smaller_model(likelihoods):
    a, _ = likelihoods
    b = a + 1e-3 * np.random.default_rng(2).normal(size=80)
    assert statistics.vuong(a, b, parameters=(2, 9)).favours == "first"
    assert statistics.vuong(a, b, parameters=(9, 2)).favours == "second"


@pytest.mark.parametrize(("weights", "favours"), [((1, 0.2), "first"), ((0.2, 1), "second")])
def test_both_find_the_better_model(weights, favours):
    a, b, y = rivals(np.random.default_rng(3), 200, *weights)
    assert compared_by_vuong(a, b, y).favours == favours
    test = statistics.cross_validate(a, b, y)
    assert test.favours == favours
    assert (test.statistic > 0) == (favours == "first")
    assert test.low <= test.mean_difference <= test.high


def test_both_are_fair_between_equally_good_models():
    generator, trials = np.random.default_rng(4), 600
    by_likelihood = by_prediction = 0
    for _ in range(trials):
        a, b, y = rivals(generator, 100)
        by_likelihood += compared_by_vuong(a, b, y).favours != "neither"
        by_prediction += statistics.cross_validate(a, b, y).favours != "neither"
    limit = scipy_stats.binom.ppf(0.9995, trials, 0.05)
    assert by_likelihood <= limit
    assert by_prediction <= limit


def test_cross_validation_restated():
    """By a loop over folds that are read off the same permutation."""
    a, b, y = rivals(np.random.default_rng(5), 47)
    design = np.column_stack([b, b**2])
    test = statistics.cross_validate(a, design, y, folds=5, seed=3)
    fold = np.random.default_rng(3).permutation(47) % 5
    differences = []
    for k in range(5):
        out, squares = fold == k, []
        for x in (a[:, None], design):
            x = np.column_stack([np.ones(47), x])
            beta = np.linalg.solve(x[~out].T @ x[~out], x[~out].T @ y[~out])
            squares.append(np.mean((y[out] - x[out] @ beta) ** 2))
        differences.append(squares[1] - squares[0])
    t = np.mean(differences) / np.sqrt(np.var(differences, ddof=1) * (1 / 5 + 1 / 4))
    assert test.statistic == pytest.approx(t, rel=1e-8)
    assert test.p_value == pytest.approx(2 * scipy_stats.t.sf(abs(t), 4), rel=1e-8)


def test_cross_validation_punishes_what_only_fits_the_noise():
    generator = np.random.default_rng(6)
    x = generator.normal(size=60)
    y = x + generator.normal(size=60)
    loaded = np.column_stack([x, generator.normal(size=(60, 35))])
    assert statistics.r_squared(loaded, y) > statistics.r_squared(x, y)
    assert statistics.cross_validate(x, loaded, y).favours == "first"


@given(shift=st.floats(-100, 100), scale=st.sampled_from([1e-4, -2.0, 1e5]))
def test_cross_validation_follows_the_units(shift, scale):
    a, b, y = rivals(np.random.default_rng(7), 40)
    plain = statistics.cross_validate(a, b, y)
    moved = statistics.cross_validate(3.0 * a - shift, b, scale * y + shift)
    assert moved.statistic == pytest.approx(plain.statistic, rel=1e-6)
    assert moved.mean_difference == pytest.approx(scale**2 * plain.mean_difference, rel=1e-6)
