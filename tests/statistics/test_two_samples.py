"""Two samples against Student's own data, SciPy, enumeration, and data without an effect."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from scipy import stats as scipy_stats

from sigma_jax import statistics

IDENTITY = 1e-12
ALTERNATIVES = ("two-sided", "less", "greater")
# Extra hours of sleep of ten patients under two drugs (Student 1908).
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


@pytest.fixture(scope="module")
def samples():
    generator = np.random.default_rng(3)
    return generator.normal(0.4, 1.0, 23), generator.normal(0.0, 2.5, 31)


def with_moments(mean, sd, n, seed):
    """A sample with exactly this mean and standard deviation."""
    draws = np.random.default_rng(seed).normal(size=n)
    return mean + sd * (draws - draws.mean()) / draws.std(ddof=1)


def rejections_within(count, trials, level):
    """Whether a count lies in the central 99.9 % of rejections of a test of exactly `level`."""
    low, high = scipy_stats.binom.ppf([0.0005, 0.9995], trials, level)
    return low <= count <= high


def test_welch_on_student_sleep():
    test = statistics.welch(SLEEP_1, SLEEP_2)
    assert test.statistic == pytest.approx(-1.8608, abs=5e-5)
    assert test.degrees_of_freedom[0] == pytest.approx(17.776, abs=5e-4)
    assert test.p_value == pytest.approx(0.07939, abs=5e-6)
    assert (test.low, test.high) == pytest.approx((-3.3655, 0.2055), abs=5e-5)
    assert test.n == (10, 10)


def test_paired_on_student_sleep():
    test = statistics.paired(SLEEP_1, SLEEP_2)
    assert test.statistic == pytest.approx(-4.0621, abs=5e-5)
    assert test.degrees_of_freedom == (9,)
    assert test.p_value == pytest.approx(0.002833, abs=5e-7)
    assert (test.low, test.high) == pytest.approx((-2.4599, -0.7001), abs=5e-5)


def test_welch_from_the_papers_own_means_is_not_the_t_it_prints():
    """The paper prints t(126) = 9.144 for these means, standard deviations and group sizes."""
    test = statistics.welch(with_moments(4.01, 0.56, 64, 0), with_moments(2.88, 0.82, 64, 1))
    assert test.statistic == pytest.approx(9.104, abs=5e-4)
    assert test.degrees_of_freedom[0] == pytest.approx(111.3, abs=0.05)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_t_tests_agree_with_scipy(samples, alternative):
    a, b = samples
    ours = statistics.welch(a, b, alternative=alternative)
    theirs = scipy_stats.ttest_ind(a, b, equal_var=False, alternative=alternative)
    assert (ours.statistic, ours.p_value) == pytest.approx(tuple(theirs), rel=1e-10)
    assert ours.degrees_of_freedom[0] == pytest.approx(theirs.df, rel=IDENTITY)
    ours = statistics.paired(a, b[:23], alternative=alternative)
    theirs = scipy_stats.ttest_rel(a, b[:23], alternative=alternative)
    assert (ours.statistic, ours.p_value) == pytest.approx(tuple(theirs), rel=1e-10)


def test_intervals_are_two_sided_whatever_the_alternative(samples):
    a, b = samples
    expected = scipy_stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    for alternative in ALTERNATIVES:
        test = statistics.welch(a, b, alternative=alternative)
        assert (test.low, test.high) == pytest.approx(tuple(expected), rel=1e-10)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_mann_whitney_agrees_with_scipy(samples, alternative):
    a, b = samples
    for first, second in ((a, b), (a[:6], b[:7]), (np.round(a), np.round(b))):
        ours = statistics.mann_whitney(first, second, alternative=alternative)
        theirs = scipy_stats.mannwhitneyu(first, second, alternative=alternative)
        assert (ours.statistic, ours.p_value) == pytest.approx(tuple(theirs), rel=IDENTITY)


def test_mann_whitney_estimates_the_share_of_pairs(samples):
    a, b = (np.round(values) for values in samples)
    test = statistics.mann_whitney(a, b)
    share = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert test.estimate == pytest.approx(share, rel=IDENTITY)
    assert 0.0 < test.low < share < test.high < 1.0


def test_mann_whitney_interval_solves_its_equation(samples):
    """At its ends the share lies 1.96 standard errors off, by Hanley and McNeil's formula."""
    a, b = samples
    test = statistics.mann_whitney(a, b)
    weight = 0.5 * (a.size + b.size) - 1.0
    for end in (test.low, test.high):
        q1, q2 = end / (2.0 - end), 2.0 * end**2 / (1.0 + end)
        squared = (end * (1 - end) + weight * (q1 + q2 - 2 * end**2)) / (a.size * b.size)
        assert abs(test.estimate - end) == pytest.approx(special.ndtri(0.975) * squared**0.5)


def test_mann_whitney_interval_of_separate_samples_is_not_a_point():
    above = statistics.mann_whitney([3.0, 4.0, 5.0], [1.0, 2.0])
    assert above.estimate == above.high == 1.0
    assert 0.3 < above.low < 0.6
    below = statistics.mann_whitney([1.0, 2.0], [3.0, 4.0, 5.0])
    assert (below.low, below.high) == pytest.approx((0.0, 1.0 - above.low), abs=1e-9)


def test_mann_whitney_interval_covers():
    generator, shift, trials = np.random.default_rng(5), 0.8, 400
    truth = special.ndtr(shift / np.sqrt(2.0))
    covered = 0
    for _ in range(trials):
        test = statistics.mann_whitney(generator.normal(shift, 1, 12), generator.normal(size=25))
        covered += test.low <= truth <= test.high
    assert 0.91 < covered / trials < 0.985


def test_permutation_of_small_samples_counts_all_of_them():
    a, b = [2.1, 3.4, 4.0, 5.2], [1.0, 1.9, 2.0, 3.0, 0.5]
    pooled, difference = np.array(a + b), np.mean(a) - np.mean(b)
    everywhere = []
    for chosen in itertools.combinations(range(9), 4):
        inside = np.isin(np.arange(9), chosen)
        everywhere.append(pooled[inside].mean() - pooled[~inside].mean())
    greater = np.mean(np.array(everywhere) >= difference - IDENTITY)
    test = statistics.permutation(a, b, key=0, alternative="greater")
    assert test.estimate == pytest.approx(difference, rel=IDENTITY)
    assert test.p_value == pytest.approx(greater, rel=IDENTITY)
    assert test.low < difference < test.high


def test_permutation_is_repeatable_and_takes_any_statistic(samples):
    a, b = samples

    def ratio(first, second):
        return np.std(first) / np.std(second)

    def ratio_along(first, second, axis=-1):
        return np.std(first, axis) / np.std(second, axis)

    one = statistics.permutation(a, b, statistic=ratio, key=7, resamples=199)
    other = statistics.permutation(
        a, b, statistic=ratio_along, key=np.random.default_rng(7), resamples=199
    )
    assert one == other
    assert one.estimate == pytest.approx(ratio(a, b))
    assert one.p_value < 0.05  # 1.0 against 2.5


def test_permutation_interval_is_about_the_t_tests(samples):
    a, b = samples
    drawn = statistics.permutation(a, b, key=1, resamples=4999)
    exact = statistics.welch(a, b)
    assert (drawn.low, drawn.high) == pytest.approx((exact.low, exact.high), abs=0.15)
    assert drawn.p_value >= 1 / 5000


ONE_DECIMAL = st.lists(st.integers(-50, 50).map(lambda k: k / 10), min_size=4, max_size=12)
SHIFT = st.integers(-20, 20).map(float)
SCALE = st.sampled_from([1e-6, 0.3, 7.0, 1e5])


@given(a=ONE_DECIMAL, b=ONE_DECIMAL, shift=SHIFT, scale=SCALE)
def test_p_values_ignore_shift_and_scale(a, b, shift, scale):
    a, b = np.array([0.0, 0.1, *a]), np.array([0.0, 0.2, *b])
    size = min(a.size, b.size)
    for test in (statistics.welch, statistics.mann_whitney, statistics.paired):
        first, second = (a, b) if test is not statistics.paired else (a[:size], b[:size])
        if np.ptp(first - second if test is statistics.paired else first) < 1e-9:
            continue
        plain = test(first, second)
        moved = test(scale * (first + shift), scale * (second + shift))
        # Ranks of equal decimals stay equal only up to rounding: compare them unmoved.
        if test is not statistics.mann_whitney:
            assert moved.p_value == pytest.approx(plain.p_value, rel=1e-6)
            assert moved.estimate == pytest.approx(scale * plain.estimate, abs=1e-9 * scale)
        swapped = test(second, first)
        assert swapped.p_value == pytest.approx(plain.p_value, rel=1e-9)
        one_sided = [test(first, second, alternative=side).p_value for side in ALTERNATIVES[1:]]
        assert plain.low <= plain.estimate <= plain.high
        assert min(one_sided) <= plain.p_value + IDENTITY


@given(a=ONE_DECIMAL, b=ONE_DECIMAL)
def test_mann_whitney_sees_only_ranks(a, b):
    a, b = np.array([0.0, 0.1, *a]), np.array(b)
    assert statistics.mann_whitney(a, b) == statistics.mann_whitney(np.exp(a), np.exp(b))


def test_welch_holds_its_level_where_students_test_does_not():
    """The small group is the more scattered one: pooling the variances rejects too often."""
    generator, trials = np.random.default_rng(11), 2000
    ours = pooled = 0
    for _ in range(trials):
        a, b = generator.normal(0, 3, 10), generator.normal(0, 1, 40)
        ours += statistics.welch(a, b).p_value <= 0.05
        pooled += scipy_stats.ttest_ind(a, b).pvalue <= 0.05
    assert rejections_within(ours, trials, 0.05)
    assert pooled > 0.15 * trials


@pytest.mark.parametrize("test", [statistics.paired, statistics.mann_whitney])
@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_level_without_an_effect(test, alternative):
    generator, trials = np.random.default_rng(12), 1000
    draws = generator.standard_t(5, (trials, 2, 30))
    count = sum(test(a, b, alternative=alternative).p_value <= 0.05 for a, b in draws)
    assert rejections_within(count, trials, 0.05)


def test_level_of_permutation():
    """With 99 draws a one-sided p-value of at most 0.05 has probability 0.05 exactly."""
    generator, trials = np.random.default_rng(13), 500
    count = 0
    for _ in range(trials):
        a, b = generator.exponential(size=(2, 9))
        test = statistics.permutation(a, b, key=generator, resamples=99, alternative="greater")
        count += test.p_value <= 0.05
    assert rejections_within(count, trials, 0.05)
