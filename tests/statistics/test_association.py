"""Rank correlation and slope against published figures, closed forms and data without an effect."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from sigma_jax import statistics

IDENTITY = 1e-12
ALTERNATIVES = ("two-sided", "less", "greater")


@pytest.fixture(scope="module")
def line():
    """Sixty points on y = 1 + 2 x − 3 z, with scatter that grows with x."""
    generator = np.random.default_rng(0)
    x, z = generator.uniform(0, 2, 60), generator.normal(size=60)
    x += 0.5 * z
    return x, z, 1.0 + 2.0 * x - 3.0 * z + generator.normal(size=60) * (0.2 + np.abs(x))


def test_spearman_on_a_worked_example():
    """Intelligence quotient and hours of television: ρ = −29/165, p = 0.627."""
    quotient = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    test = statistics.spearman(quotient, hours)
    assert test.estimate == pytest.approx(-29 / 165, rel=IDENTITY)
    assert test.p_value == pytest.approx(0.627188, abs=5e-6)
    assert test.degrees_of_freedom == (8,)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_spearman_agrees_with_scipy(line, alternative):
    x, _, y = line
    for first, second in ((x, y), (np.round(x), np.round(y))):
        ours = statistics.spearman(first, second, alternative=alternative)
        theirs = scipy_stats.spearmanr(first, second, alternative=alternative)
        assert (ours.estimate, ours.p_value) == pytest.approx(tuple(theirs), rel=1e-9)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_spearman_of_few_points_counts_all_permutations(alternative):
    x, y = [1, 2, 3, 4, 5, 6], [2, 1, 3, 3, 6, 5]

    def correlation(values):
        return scipy_stats.spearmanr(x, values).statistic

    seen = correlation(y)
    everywhere = np.array([correlation(values) for values in itertools.permutations(y)])
    extreme = {
        "two-sided": np.abs(everywhere) >= abs(seen) - IDENTITY,
        "less": everywhere <= seen + IDENTITY,
        "greater": everywhere >= seen - IDENTITY,
    }[alternative]
    test = statistics.spearman(x, y, alternative=alternative)
    assert test.p_value == pytest.approx(extreme.mean(), rel=IDENTITY)


def test_five_points_cannot_be_significant_at_a_corrected_level():
    """Even five benchmarks in perfect order reach p = 2/120 only."""
    test = statistics.spearman(range(5), range(5))
    assert test.p_value == pytest.approx(2 / 120, rel=IDENTITY)
    assert test.low < 0.3
    assert test.high == 1.0


def test_spearman_interval_is_bonett_and_wrights(line):
    x, _, y = line
    test = statistics.spearman(x, y)
    error = np.sqrt((1 + test.estimate**2 / 2) / (x.size - 3))
    ends = np.tanh(np.arctanh(test.estimate) + 1.959964 * error * np.array([-1, 1]))
    assert (test.low, test.high) == pytest.approx(tuple(ends), rel=1e-6)


def test_spearman_interval_covers():
    generator, rho, trials = np.random.default_rng(1), 0.6, 500
    truth = 6 / np.pi * np.arcsin(rho / 2)  # of a bivariate normal
    covered = 0
    for _ in range(trials):
        x = generator.normal(size=30)
        y = rho * x + np.sqrt(1 - rho**2) * generator.normal(size=30)
        test = statistics.spearman(x, y)
        covered += test.low <= truth <= test.high
    assert 0.92 < covered / trials < 0.98


def test_slope_of_two_groups_has_a_closed_form():
    """On a 0/1 variable the robust squared error is s²/(n − 1), summed over the groups."""
    generator = np.random.default_rng(2)
    a, b = generator.normal(size=12), generator.normal(1, 4, size=20)
    test = statistics.slope(np.repeat([0, 1], [12, 20]), np.concatenate([a, b]))
    error = np.sqrt(a.var(ddof=1) / 11 + b.var(ddof=1) / 19)
    assert test.estimate == pytest.approx(b.mean() - a.mean(), rel=1e-10)
    assert test.statistic == pytest.approx(test.estimate / error, rel=1e-10)
    assert test.degrees_of_freedom == (30,)


def test_slope_restated_with_covariates(line):
    x, z, y = line
    test = statistics.slope(x, y, covariates=z)
    design = np.column_stack([np.ones_like(x), x, z])
    bread = np.linalg.inv(design.T @ design)
    beta = bread @ design.T @ y
    scaled = (y - design @ beta) / (1 - np.diag(design @ bread @ design.T))
    covariance = bread @ (design.T * scaled**2) @ design @ bread
    assert test.estimate == pytest.approx(beta[1], rel=1e-10)
    t = beta[1] / np.sqrt(covariance[1, 1])
    assert test.statistic == pytest.approx(t, rel=1e-10)
    assert test.p_value == pytest.approx(2 * scipy_stats.t.sf(abs(t), 57), rel=1e-8)
    half = scipy_stats.t.ppf(0.975, 57) * np.sqrt(covariance[1, 1])
    assert (test.low, test.high) == pytest.approx((beta[1] - half, beta[1] + half), rel=1e-8)
    assert test.low < 2.0 < test.high


def test_slope_without_the_confounder_is_elsewhere(line):
    x, z, y = line
    assert statistics.slope(x, y).high < statistics.slope(x, y, covariates=z).low


@given(
    shift=st.floats(-1e3, 1e3),
    scale=st.sampled_from([-3.0, 1e-4, 1e6]),
    side=st.sampled_from(ALTERNATIVES),
)
def test_slope_follows_the_units(line, shift, scale, side):
    x, z, y = line
    plain = statistics.slope(x, y, covariates=z, alternative=side)
    moved = statistics.slope(x, scale * y + shift, covariates=2 * z - shift, alternative=side)
    assert moved.estimate == pytest.approx(scale * plain.estimate, rel=1e-6)
    across = statistics.slope(scale * x + shift, y, covariates=z)
    assert across.estimate == pytest.approx(plain.estimate / scale, rel=1e-6)
    if scale > 0:
        assert moved.p_value == pytest.approx(plain.p_value, rel=1e-5)


def test_slope_holds_its_level_where_the_plain_one_does_not():
    """Scatter that grows with |x| misleads the classical standard error."""
    generator, trials = np.random.default_rng(4), 1000
    robust = classical = 0
    x = generator.normal(size=60)
    for _ in range(trials):
        y = generator.normal(size=60) * x**2
        robust += statistics.slope(x, y).p_value <= 0.05
        classical += scipy_stats.linregress(x, y).pvalue <= 0.05
    assert classical > 0.15 * trials
    assert robust < 0.075 * trials


@pytest.mark.parametrize("n", [7, 30])
def test_level_of_spearman(n):
    generator, trials = np.random.default_rng(5), 1000
    pairs = generator.normal(size=(trials, 2, n))
    count = sum(statistics.spearman(x, y, alternative="greater").p_value <= 0.05 for x, y in pairs)
    # Of the 5,040 permutations of seven ranks 222 lie in the largest tail of at most 5 %.
    level = 0.05 if n == 30 else 222 / 5040
    low, high = scipy_stats.binom.ppf([0.0005, 0.9995], trials, level)
    assert low <= count <= high


def test_r_squared_is_the_squared_correlation(line):
    x, z, y = line
    assert statistics.r_squared(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-10)
    both = statistics.r_squared(np.column_stack([x, z]), y)
    fitted = np.column_stack([np.ones_like(x), x, z])
    fitted = fitted @ np.linalg.lstsq(fitted, y)[0]
    assert both == pytest.approx(np.corrcoef(fitted, y)[0, 1] ** 2, rel=1e-10)


def test_r_squared_ignores_intercepts_and_units(line):
    x, z, y = line
    design = np.column_stack([x, z, np.ones_like(x), x + z])
    moved = statistics.r_squared(1e6 * design - 3.0, 1e-3 * y + 50.0)
    assert moved == pytest.approx(statistics.r_squared(np.column_stack([x, z]), y), rel=1e-9)
    assert statistics.r_squared(x, 4.0 - 2.0 * x) == pytest.approx(1.0, abs=1e-12)
