"""Binomial shares, false-positive rates and multiplicity against published tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from sigma_jax import statistics

IDENTITY = 1e-12
# Newcombe (1998), Statistics in Medicine 17, 857–872, table I: Wilson's and the exact interval.
NEWCOMBE = {
    (81, 263): ((0.2553, 0.3662), (0.2527, 0.3676)),
    (15, 148): ((0.0624, 0.1605), (0.0578, 0.1617)),
    (0, 20): ((0.0, 0.1611), (0.0, 0.1684)),
    (1, 29): ((0.0061, 0.1718), (0.0009, 0.1776)),
}
# The example of Benjamini & Hochberg (1995).
FIFTEEN = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459),
    *(0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0),
]


@pytest.mark.parametrize(("successes", "trials"), NEWCOMBE)
def test_intervals_of_newcombes_table(successes, trials):
    wilson, exact = NEWCOMBE[successes, trials]
    test = statistics.binomial(successes, trials, 0.5, "less")
    assert (test.low, test.high) == pytest.approx(wilson, abs=5.1e-5)
    p_values = np.repeat([0.01, 0.9], [successes, trials - successes])
    rate = statistics.false_positive_rate(p_values, 0.05)
    assert (rate.low, rate.high) == pytest.approx(exact, abs=5.1e-5)
    assert rate.rate == test.estimate == successes / trials


@pytest.mark.parametrize("alternative", ["two-sided", "less", "greater"])
def test_binomial_sums_its_tail(alternative):
    probability = scipy_stats.binom.pmf(np.arange(11), 10, 0.3)
    tails = {
        "less": probability[:6].sum(),
        "greater": probability[5:].sum(),
        "two-sided": probability[probability <= probability[5] * (1 + 1e-7)].sum(),
    }
    test = statistics.binomial(5, 10, 0.3, alternative)
    assert test.p_value == pytest.approx(tails[alternative], rel=1e-10)
    assert (test.statistic, test.n) == (5.0, (10,))


def test_binomial_is_never_liberal():
    counts = np.random.default_rng(0).binomial(20, 0.4, 2000)
    p_values = np.array([statistics.binomial(k, 20, 0.4).p_value for k in range(21)])[counts]
    assert np.mean(p_values <= 0.05) < 0.05


def test_false_positive_rate_knows_a_valid_test_from_a_liberal_one():
    uniform = np.random.default_rng(1).uniform(size=1000)
    valid = statistics.false_positive_rate(uniform, 0.05)
    assert valid.consistent
    assert valid.low < 0.05 < valid.high
    assert valid.trials == 1000
    assert not statistics.false_positive_rate(uniform / 2, 0.05).consistent
    assert not statistics.false_positive_rate(np.minimum(2 * uniform, 1.0), 0.05).consistent


def test_a_p_value_equal_to_alpha_rejects():
    assert statistics.false_positive_rate([0.05, 0.06], 0.05).rate == 0.5


def test_none_and_all_rejected():
    none = statistics.false_positive_rate(np.ones(100), 0.05)
    assert (none.rate, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 100), rel=1e-9)
    every = statistics.false_positive_rate(np.zeros(100), 0.05)
    assert (every.rate, every.high) == (1.0, 1.0)


def test_fifteen_p_values_of_benjamini_and_hochberg():
    assert np.sum(statistics.bonferroni(FIFTEEN) <= 0.05) == 3
    assert np.sum(statistics.holm(FIFTEEN) <= 0.05) == 3
    assert np.sum(statistics.benjamini_hochberg(FIFTEEN) <= 0.05) == 4


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_adjusted_p_values(p_values):
    holm = statistics.holm(p_values)
    bonferroni = statistics.bonferroni(p_values)
    discovery = statistics.benjamini_hochberg(p_values)
    m = len(p_values)
    np.testing.assert_allclose(bonferroni, np.minimum(m * np.array(p_values), 1.0), rtol=IDENTITY)
    order = np.argsort(p_values, kind="stable")
    stepped = np.maximum.accumulate(np.array(p_values)[order] * (m - np.arange(m)))
    np.testing.assert_allclose(holm[order], np.minimum(stepped, 1.0), rtol=IDENTITY)
    np.testing.assert_allclose(
        discovery, scipy_stats.false_discovery_control(p_values), rtol=IDENTITY
    )
    assert (discovery <= holm * (1 + IDENTITY)).all()
    assert (holm <= bonferroni * (1 + IDENTITY)).all()
