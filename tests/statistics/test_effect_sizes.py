"""Effect sizes and power against the paper's own figures, statsmodels and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats
from statsmodels.stats.power import TTestIndPower

from sigma_jax import statistics

SIDES = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}


def with_moments(mean, sd, n):
    """A sample with exactly this mean and standard deviation."""
    draws = special.ndtri((np.arange(n) + 0.5) / n)
    return mean + sd * (draws - draws.mean()) / draws.std(ddof=1)


def hedges(freedom):
    return special.gamma(freedom / 2) / (np.sqrt(freedom / 2) * special.gamma((freedom - 1) / 2))


def test_d_of_the_papers_first_prediction():
    """The paper prints d = 1.616; its means and standard deviations give 1.609."""
    effect = statistics.cohens_d(with_moments(4.01, 0.56, 64), with_moments(2.88, 0.82, 64))
    assert effect.estimate / hedges(126) == pytest.approx(1.609, abs=5e-4)
    assert effect.estimate == pytest.approx(1.600, abs=5e-4)
    assert effect.low < effect.estimate < effect.high


@pytest.mark.parametrize(
    ("n", "effect", "alpha", "power"),
    [
        (64, 0.5, 0.05, 0.801),
        (64, 0.5, 0.00625, 0.52),
        (500, 0.2, 0.05, 0.885),
        (500, 0.2, 0.00625, 0.663),
    ],
)
def test_power_of_the_papers_designs(n, effect, alpha, power):
    digits = 5e-3 if power == 0.52 else 5e-4
    assert statistics.power_of_t(effect, n, alpha=alpha) == pytest.approx(power, abs=digits)


def test_sample_size_the_corrected_level_asks_for():
    assert statistics.sample_size_of_t(0.5, alpha=0.05) == 64
    assert statistics.sample_size_of_t(0.5, alpha=0.05 / 8) == 105


@given(
    effect=st.floats(-2, 2),
    n=st.integers(2, 300),
    alpha=st.sampled_from([0.001, 0.05, 0.2]),
    alternative=st.sampled_from(sorted(SIDES)),
)
def test_power_agrees_with_statsmodels(effect, n, alpha, alternative):
    ours = statistics.power_of_t(effect, n, alpha=alpha, alternative=alternative)
    theirs = TTestIndPower().power(effect, n, alpha, alternative=SIDES[alternative])
    assert ours == pytest.approx(float(theirs), abs=1e-8)


def test_power_without_an_effect_is_alpha_and_with_a_huge_one_is_one():
    for alternative in SIDES:
        assert statistics.power_of_t(0.0, 20, alpha=0.01, alternative=alternative) == pytest.approx(
            0.01, abs=1e-9
        )
    assert statistics.power_of_t(1000.0, 10**6, alpha=0.001) == 1.0
    assert statistics.power_of_t(1000.0, 10**6, alpha=0.001, alternative="less") == 0.0


@pytest.mark.parametrize("effect", [0.01, 0.3, -0.8, 5.0])
def test_sample_size_is_the_smallest(effect):
    n = statistics.sample_size_of_t(effect, alpha=0.05, power=0.9)
    assert statistics.power_of_t(effect, n, alpha=0.05) >= 0.9
    assert n == 2 or statistics.power_of_t(effect, n - 1, alpha=0.05) < 0.9


def test_interval_inverts_the_noncentral_t():
    a, b = with_moments(1.0, 1.0, 20), with_moments(0.2, 1.3, 35)
    effect, per_d = statistics.cohens_d(a, b), 1 / np.sqrt(1 / 20 + 1 / 35)
    t = scipy_stats.ttest_ind(a, b).statistic
    assert effect.estimate == pytest.approx(hedges(53) * t / per_d, rel=1e-10)
    assert scipy_stats.nct.sf(t, 53, effect.low * per_d) == pytest.approx(0.025, abs=1e-6)
    assert scipy_stats.nct.cdf(t, 53, effect.high * per_d) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_interval_far_out_continues_the_one_nearer_by(sign):
    """Beyond t = 1000 a limit replaces the noncentral t; the two join."""
    ends = []
    for t in (999.0, 1001.0):
        d = sign * t * np.sqrt(2 / 30)
        effect = statistics.cohens_d(with_moments(d, 1.0, 30), with_moments(0.0, 1.0, 30))
        ends.append(np.array([effect.low, effect.high]) / d)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-3)
    huge = statistics.cohens_d(with_moments(1e9, 1.0, 30), with_moments(0.0, 1.0, 30))
    assert 0.0 < huge.low < huge.estimate < huge.high < np.inf


def test_interval_covers_and_estimate_is_unbiased():
    generator, truth, trials = np.random.default_rng(0), 0.7, 1000
    effects = [
        statistics.cohens_d(generator.normal(truth, 1, 8), generator.normal(0, 1, 8))
        for _ in range(trials)
    ]
    covered = sum(e.low <= truth <= e.high for e in effects)
    low, high = scipy_stats.binom.ppf([0.0005, 0.9995], trials, 0.95)
    assert low <= covered <= high
    estimates = np.array([e.estimate for e in effects])
    assert estimates.mean() == pytest.approx(truth, abs=3.3 * estimates.std() / trials**0.5)


@given(shift=st.floats(-100, 100), scale=st.sampled_from([1e-5, 3.0, 1e6]))
def test_d_ignores_shift_and_scale(shift, scale):
    a, b = with_moments(1.0, 1.0, 9), with_moments(0.4, 0.8, 12)
    plain, moved = (
        statistics.cohens_d(a, b),
        statistics.cohens_d(scale * (a + shift), scale * (b + shift)),
    )
    swapped = statistics.cohens_d(b, a)
    assert moved.estimate == pytest.approx(plain.estimate, rel=1e-9)
    assert (swapped.low, swapped.high) == pytest.approx((-plain.high, -plain.low), rel=1e-5)
