"""A break of unknown place: found where it is, and not found too often where there is none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats

from sigma_jax import statistics

CHECKPOINTS = np.arange(0.0, 500.0, 10.0)
"""Fifty evaluations, one every ten of 500 steps."""


@pytest.fixture(scope="module")
def null():
    return {
        side: statistics.break_null(CHECKPOINTS, alternative=side, seed=1)
        for side in ("two-sided", "greater", "less")
    }


def kinked(x, at, before, change, noise=0.0, seed=0):
    scatter = noise * np.random.default_rng(seed).normal(size=x.size)
    return 3.0 + before * x + change * np.maximum(x - at, 0.0) + scatter


def autoregressive(phi, n, generator):
    errors = generator.normal(size=n + 100)
    for i in range(1, errors.size):
        errors[i] += phi * errors[i - 1]
    return errors[100:]


@pytest.mark.parametrize("change", [0.02, -0.02])
def test_finds_a_known_break(change):
    test = statistics.break_test(CHECKPOINTS, kinked(CHECKPOINTS, 200.0, 0.01, change, 0.2))
    assert test.low < 200.0 < test.high
    assert test.high - test.low < 80.0
    assert test.break_at == pytest.approx(200.0, abs=30.0)
    assert test.slope_before == pytest.approx(0.01, abs=3e-3)
    assert test.slope_change == pytest.approx(change, abs=3e-3)
    assert test.p_value == 1 / 1000
    assert test.n == 50


def test_finds_a_break_without_noise_exactly():
    test = statistics.break_test(CHECKPOINTS, kinked(CHECKPOINTS, 200.0, 0.01, 0.02))
    assert test.break_at == 200.0
    assert (test.slope_before, test.slope_change) == pytest.approx((0.01, 0.02), rel=1e-9)
    assert test.low < 200.0 < test.high
    assert np.isfinite(test.statistic)


def test_finds_a_break_between_observations():
    test = statistics.break_test(CHECKPOINTS, kinked(CHECKPOINTS, 204.0, 0.01, 0.02))
    assert test.break_at == pytest.approx(204.0, abs=1.5)


def test_statistic_is_the_largest_f_of_any_hinge():
    y = kinked(CHECKPOINTS, 300.0, 0.01, 0.01, 1.0)
    test = statistics.break_test(CHECKPOINTS, y, replicates=19)
    line = np.column_stack([np.ones(50), CHECKPOINTS])
    rss = np.sum((y - line @ np.linalg.lstsq(line, y)[0]) ** 2)
    f = []
    for tau in np.linspace(80.0, 410.0, 1000):
        hinge = np.column_stack([line, np.maximum(CHECKPOINTS - tau, 0.0)])
        left = np.sum((y - hinge @ np.linalg.lstsq(hinge, y)[0]) ** 2)
        f.append((rss - left) / (left / 47))
    assert test.statistic == pytest.approx(max(f), rel=1e-3)
    assert test.break_at == pytest.approx(np.linspace(80.0, 410.0, 1000)[np.argmax(f)], abs=2.0)
    greater = statistics.break_test(CHECKPOINTS, y, replicates=19, alternative="greater")
    assert greater.statistic**2 == pytest.approx(test.statistic, rel=1e-9)


def test_a_break_of_the_other_sign_is_shown_and_not_believed(null):
    """The registered claim is a positive change; the series bends down."""
    y = kinked(CHECKPOINTS, 200.0, 0.03, -0.02, 0.2)
    greater = statistics.break_test(CHECKPOINTS, y, alternative="greater", null=null["greater"])
    less = statistics.break_test(CHECKPOINTS, y, alternative="less", null=null["less"])
    assert greater.p_value > 0.99
    assert less.p_value == 1 / 1000
    assert greater.slope_change == less.slope_change < 0.0
    assert greater.break_at == less.break_at == pytest.approx(200.0, abs=30.0)


@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_level_without_a_break(null, alternative):
    generator, trials = np.random.default_rng(2), 1000
    shared = null[alternative]
    p_values = [
        statistics.break_test(
            CHECKPOINTS, 1 - 0.3 * CHECKPOINTS + noise, alternative=alternative, null=shared
        ).p_value
        for noise in generator.normal(size=(trials, 50))
    ]
    # One simulated null for all series: its own 5 % point has a standard error of 0.7 %.
    assert 0.05 - 0.03 < np.mean(np.array(p_values) <= 0.05) < 0.05 + 0.03


def test_level_with_a_null_of_its_own_for_each_series():
    generator, trials = np.random.default_rng(3), 1000
    x = np.sort(generator.exponential(size=24))
    count = sum(
        statistics.break_test(x, noise, replicates=99, seed=i).p_value <= 0.05
        for i, noise in enumerate(generator.normal(size=(trials, 24)))
    )
    low, high = scipy_stats.binom.ppf([0.0005, 0.9995], trials, 0.05)
    assert low <= count <= high


def test_the_naive_t_at_the_best_break_rejects_far_too_often(null):
    generator, trials = np.random.default_rng(4), 1000
    naive = 0
    for noise in generator.normal(size=(trials, 50)):
        largest = statistics.break_test(CHECKPOINTS, noise, null=null["two-sided"]).statistic
        naive += 2 * special.stdtr(46, -np.sqrt(largest)) <= 0.05
    assert naive > 0.12 * trials


def test_serial_correlation_is_allowed_for():
    generator, trials, x = np.random.default_rng(5), 300, np.arange(60.0)
    shared = statistics.break_null(x)
    correlated = independent = 0
    for i in range(trials):
        y = 0.1 * x + autoregressive(0.6, x.size, generator)
        test = statistics.break_test(x, y, errors="ar1", replicates=199, seed=i)
        correlated += test.p_value <= 0.05
        independent += statistics.break_test(x, y, null=shared).p_value <= 0.05
    assert independent > 0.3 * trials
    assert correlated <= scipy_stats.binom.ppf(0.9995, trials, 0.05)


def test_a_clear_break_is_seen_through_serial_correlation():
    generator = np.random.default_rng(6)
    y = kinked(CHECKPOINTS, 250.0, 0.0, 0.1) + autoregressive(0.4, 50, generator)
    assert statistics.break_test(CHECKPOINTS, y, errors="ar1").p_value < 0.01


def test_interval_covers(null):
    trials, covered = 300, 0
    for seed in range(trials):
        y = kinked(CHECKPOINTS, 200.0, 0.01, 0.02, 0.8, seed)
        test = statistics.break_test(CHECKPOINTS, y, null=null["two-sided"])
        covered += test.low <= 200.0 <= test.high
    assert 0.90 < covered / trials < 0.99


def test_interval_without_a_break_has_no_end():
    generator = np.random.default_rng(7)
    tests = [statistics.break_test(CHECKPOINTS, generator.normal(size=50)) for _ in range(10)]
    assert sum(np.isinf(t.low) or np.isinf(t.high) for t in tests) >= 8


@given(
    intercept=st.floats(-50, 50),
    tilt=st.floats(-1, 1),
    scale=st.sampled_from([1e-4, 1.0, 1e5]),
    stretch=st.sampled_from([1e-3, 1.0, 40.0]),
)
def test_line_and_units_do_not_matter(null, intercept, tilt, scale, stretch):
    y = kinked(CHECKPOINTS, 150.0, 0.0, 0.01, 0.7)
    shared = null["two-sided"]
    plain = statistics.break_test(CHECKPOINTS, y, null=shared)
    x = stretch * CHECKPOINTS - 70.0
    moved = statistics.break_test(x, scale * (y + intercept + tilt * CHECKPOINTS), null=shared)
    assert moved.statistic == pytest.approx(plain.statistic, rel=1e-6)
    assert moved.p_value == plain.p_value
    assert moved.break_at == pytest.approx(stretch * plain.break_at - 70.0, rel=1e-9)
    assert moved.slope_change == pytest.approx(scale / stretch * plain.slope_change, rel=1e-6)


def test_order_of_observations_does_not_matter(null):
    y = kinked(CHECKPOINTS, 150.0, 0.0, 0.01, 0.7)
    order = np.random.default_rng(8).permutation(50)
    shared = null["two-sided"]
    assert statistics.break_test(CHECKPOINTS[order], y[order], null=shared) == (
        statistics.break_test(CHECKPOINTS, y, null=shared)
    )


def test_a_shared_null_is_the_one_each_series_would_draw(null):
    y = kinked(CHECKPOINTS, 150.0, 0.0, 0.01, 0.7)
    own = statistics.break_test(CHECKPOINTS, y, seed=1)
    assert own == statistics.break_test(CHECKPOINTS, y, null=null["two-sided"])
    assert (np.diff(null["two-sided"]) >= 0).all()
    shorter = statistics.break_null(CHECKPOINTS, trim=0.4)
    assert np.quantile(shorter, 0.95) < np.quantile(null["two-sided"], 0.95)


def test_repeated_and_very_many_x():
    x = np.repeat(np.arange(10.0), 30)
    test = statistics.break_test(x, kinked(x, 6.0, 0.1, 1.0, 1.0))
    assert test.low < 6.0 < test.high
    x = np.linspace(0.0, 1.0, 5000)
    test = statistics.break_test(x, kinked(x, 0.3, 0.1, 2.0, 0.5), replicates=99)
    assert test.low < 0.3 < test.high
    assert test.high - test.low < 0.2
