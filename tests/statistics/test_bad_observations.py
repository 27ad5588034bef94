"""What cannot be tested is said, in words; nothing comes back NaN."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax import statistics

UP, FLAT = [1.0, 2.0, 4.0, 3.0, 6.0, 5.0, 9.0, 7.0, 8.0, 10.0], [2.0] * 10
HOLE = [1.0, float("nan"), 3.0]
LINE = np.arange(10.0)

TWO = {
    "welch": statistics.welch,
    "paired": statistics.paired,
    "mann_whitney": statistics.mann_whitney,
    "permutation": lambda a, b, **options: statistics.permutation(
        a, b, key=0, resamples=99, **options
    ),
    "spearman": statistics.spearman,
    "slope": statistics.slope,
    "cohens_d": statistics.cohens_d,
    "break_test": statistics.break_test,
    "normal_log_likelihood": statistics.normal_log_likelihood,
    "vuong": lambda a, b: statistics.vuong(a, b, parameters=(1, 1)),
    "r_squared": statistics.r_squared,
    "cross_validate": lambda a, b: statistics.cross_validate(a, a, b),
    "mediation": lambda a, b: statistics.mediation(a, b, b, resamples=100),
}
PAIRED = ("paired", "spearman", "slope", "break_test", "vuong", "r_squared", "mediation")
SIDED = ("welch", "paired", "mann_whitney", "permutation", "spearman", "slope", "break_test")


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_what_is_not_finite(name, value):
    with pytest.raises(ValueError, match="must be finite; 1 of its 10 entries"):
        TWO[name](UP, [*UP[1:], value])


@pytest.mark.parametrize("name", TWO)
def test_observations_in_a_table(name):
    with pytest.raises(ValueError, match=r"one-dimensional|one row"):
        TWO[name](np.ones((2, 2, 2)), np.ones((2, 2, 2)))


@pytest.mark.parametrize("name", PAIRED)
def test_unequal_lengths(name):
    with pytest.raises(ValueError, match=r"lengths must agree|one row for each"):
        TWO[name](UP, UP[1:])


@pytest.mark.parametrize("name", TWO)
def test_no_observations(name):
    with pytest.raises(ValueError, match=r"at least|more than"):
        TWO[name]([], [])


@pytest.mark.parametrize("name", SIDED)
def test_unknown_alternative(name):
    with pytest.raises(ValueError, match="one of two-sided, less, greater; got 'larger'"):
        TWO[name](UP, UP[::-1], alternative="larger")


def test_too_few_observations():
    with pytest.raises(
        ValueError, match="welch needs at least 2 observations in each group; got 1 and 30"
    ):
        statistics.welch([1.0], np.arange(30.0))
    with pytest.raises(ValueError, match="paired needs at least 2 observations; got 1"):
        statistics.paired([1.0], [2.0])
    with pytest.raises(ValueError, match="spearman needs at least 4 observations; got 3"):
        statistics.spearman([1, 2, 3], [1, 3, 2])
    with pytest.raises(ValueError, match="mediation needs at least 10 observations; got 3"):
        statistics.mediation([1, 2, 3], [1, 3, 2], [2, 1, 3])


@pytest.mark.parametrize(
    "test",
    [
        lambda: statistics.welch([0.1] * 10, [0.3] * 10),
        lambda: statistics.cohens_d([0.1] * 10, [0.3] * 10),
        lambda: statistics.paired(UP, np.array(UP) + 0.1),
        lambda: statistics.mann_whitney(FLAT, FLAT),
        lambda: statistics.permutation(FLAT, FLAT, key=0),
        lambda: statistics.spearman(UP, FLAT),
        lambda: statistics.slope(FLAT, UP),
        lambda: statistics.slope(LINE, FLAT),
        lambda: statistics.slope(LINE, 0.3 + 0.1 * LINE),
        lambda: statistics.break_test(LINE, FLAT),
        lambda: statistics.break_test(LINE, 0.3 + 0.1 * LINE),
        lambda: statistics.normal_log_likelihood(UP, UP),
        lambda: statistics.vuong(UP, UP, parameters=(1, 2)),
        lambda: statistics.cross_validate(LINE, 2.0 - 3.0 * LINE, UP, folds=5),
        lambda: statistics.r_squared(UP, FLAT),
        lambda: statistics.mediation(FLAT, UP, UP),
    ],
)
def test_no_variance(test):
    with pytest.raises(ValueError, match="are equal: there is no variance to test against"):
        test()


def test_more_coefficients_than_observations():
    wide = np.random.default_rng(0).normal(size=(10, 9))
    for call in (
        lambda: statistics.slope(LINE, UP, covariates=wide),
        lambda: statistics.r_squared(wide, UP),
        lambda: statistics.cross_validate(wide, LINE, UP),
    ):
        with pytest.raises(ValueError, match=r"need more than 1[01] observations"):
            call()
    with pytest.raises(ValueError, match="8 parameters need more than 8 observations"):
        statistics.cross_validate(wide[:, :7], LINE, UP, folds=5)
    with pytest.raises(ValueError, match="10 parameters need more than 10 observations"):
        statistics.normal_log_likelihood(UP, LINE, 10)
    with pytest.raises(ValueError, match="12 parameters need more than 12 observations"):
        statistics.vuong(UP, LINE, parameters=(2, 12))


def test_slopes_that_are_not_determined():
    with pytest.raises(ValueError, match="linearly independent"):
        statistics.slope(LINE, UP, covariates=5.0 - 2.0 * LINE)
    with pytest.raises(ValueError, match="observation 9 alone determines a coefficient"):
        statistics.slope(LINE, UP, covariates=(LINE == 9).astype(float))


def test_a_mediator_that_is_the_treatment():
    with pytest.raises(ValueError, match="the treatment determines the mediator"):
        statistics.mediation(LINE, 1.0 - 3.0 * LINE, UP)


def test_breaks_that_cannot_be_looked_for():
    with pytest.raises(ValueError, match=r"no candidate break: with trim=0\.49"):
        statistics.break_test(LINE, UP, trim=0.49)
    with pytest.raises(ValueError, match=r"no candidate break.*2 different x in 10"):
        statistics.break_test(np.repeat([0.0, 1.0], 5), UP)
    with pytest.raises(ValueError, match="errors must be one of independent, ar1; got 'ar2'"):
        statistics.break_test(LINE, UP, errors="ar2")
    with pytest.raises(ValueError, match="evenly spaced x"):
        statistics.break_test(LINE**2, UP, errors="ar1")
    with pytest.raises(ValueError, match="null is for independent errors"):
        statistics.break_test(LINE, UP, errors="ar1", null=np.ones(99))
    with pytest.raises(ValueError, match="null of break_test needs at least 19"):
        statistics.break_test(LINE, UP, null=np.ones(9))
    with pytest.raises(ValueError, match="replicates must lie in"):
        statistics.break_null(LINE, replicates=9)
    with pytest.raises(ValueError, match="trim must lie in"):
        statistics.break_null(LINE, trim=0.6)


def test_shares_that_are_none():
    for successes, trials, probability in ((3, 2, 0.5), (-1, 2, 0.5), (0, 0, 0.5), (1, 2, 1.5)):
        with pytest.raises(ValueError, match="must lie in"):
            statistics.binomial(successes, trials, probability)
    with pytest.raises(ValueError, match=r"whole numbers; got 0\.5 of 2"):
        statistics.binomial(0.5, 2, 0.5)


@pytest.mark.parametrize(
    "adjust", [statistics.holm, statistics.bonferroni, statistics.benjamini_hochberg]
)
def test_p_values_that_are_none(adjust):
    for call in (adjust, lambda p: statistics.false_positive_rate(p, 0.05)):
        with pytest.raises(ValueError, match="p_values must lie in"):
            call([0.2, 1.2])
        with pytest.raises(ValueError, match="at least one p-value"):
            call([])


def test_designs_without_an_answer():
    with pytest.raises(ValueError, match="no sample shows an effect of 0"):
        statistics.sample_size_of_t(0.0, alpha=0.05)
    with pytest.raises(ValueError, match=r"no sample shows an effect of -0\.5 to be greater"):
        statistics.sample_size_of_t(-0.5, alpha=0.05, alternative="greater")
    with pytest.raises(ValueError, match="needs more than 1e"):
        statistics.sample_size_of_t(1e-6, alpha=0.05)
    for alpha in (0.0, 1.0):
        with pytest.raises(ValueError, match="alpha must lie in"):
            statistics.power_of_t(0.5, 10, alpha=alpha)
    with pytest.raises(ValueError, match="n must lie in"):
        statistics.power_of_t(0.5, 1, alpha=0.05)


def test_a_statistic_that_fails_on_a_resample():
    with pytest.raises(ValueError, match="statistic must be finite on every resample"):
        statistics.permutation(UP, LINE, statistic=lambda a, b: float("nan"), key=0, resamples=9)


WILD = st.floats(-1e50, 1e50, allow_subnormal=False)


@given(st.data())
def test_no_result_is_nan(data):
    n = data.draw(st.integers(10, 14))
    a, b = (np.array(data.draw(st.lists(WILD, min_size=n, max_size=n))) for _ in range(2))
    for name in (*SIDED, "cohens_d", "vuong", "mediation", "cross_validate"):
        try:
            result = TWO[name](a, b)
        except ValueError:
            continue
        for value in np.hstack(list(_numbers(result))):
            assert not np.isnan(value), (name, result)


def _numbers(result):
    for value in vars(result).values():
        if dataclasses.is_dataclass(value):
            yield from _numbers(value)
        elif not isinstance(value, str):
            yield np.atleast_1d(np.asarray(value, float))
