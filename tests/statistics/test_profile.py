"""Profiles of models whose intervals are known, and intervals that hold what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from sigma_jax import statistics

X = np.linspace(0.0, 2.0, 24)
DESIGN = np.stack([np.ones_like(X), X], axis=1)
START = {"intercept": 1.0, "slope": 1.0}
NOISE = 0.3


def line(p):
    return p["intercept"] + p["slope"] * X


def exponential(p):
    return p["a"] * jnp.exp(-p["b"] * X)


def product(p):
    return p["a"] * p["c"] * jnp.exp(-p["b"] * X)


def rise(p):
    return p["level"] * (1.0 - jnp.exp(-p["rate"] * (X + 0.1)))


LINE_DATA = 2.0 + 3.0 * X + NOISE * np.random.default_rng(0).standard_normal(X.size)
DECAY_DATA = 2.0 * np.exp(-0.7 * X) + 0.3 * np.random.default_rng(1).standard_normal(X.size)


def least_squares():
    best, rss, *_ = np.linalg.lstsq(DESIGN, LINE_DATA, rcond=None)
    return best, float(rss[0]), np.linalg.inv(DESIGN.T @ DESIGN)


@pytest.mark.parametrize("known", [True, False])
def test_a_straight_line_has_the_textbook_interval(known):
    profile = statistics.profile_likelihood(
        line, LINE_DATA, START, noise_sd=NOISE if known else None
    )
    best, rss, inverse = least_squares()
    sd = NOISE if known else np.sqrt(rss / (X.size - 2))
    quantile = stats.norm.ppf(0.975) if known else stats.t.ppf(0.975, X.size - 2)
    assert profile.success
    assert profile.threshold == pytest.approx(quantile**2, rel=1e-9)
    assert profile.noise_sd == pytest.approx(sd, rel=1e-9)
    for index, name in enumerate(START):
        error = sd * np.sqrt(inverse[index, index])
        assert profile.low[name] == pytest.approx(best[index] - quantile * error, rel=1e-6)
        assert profile.high[name] == pytest.approx(best[index] + quantile * error, rel=1e-6)
        assert profile.bounded_below[name]
        assert profile.bounded_above[name]
        assert not profile.at_bound[name]
        values = profile.values[profile.names.index(name)]
        np.testing.assert_allclose(
            profile.deviance[profile.names.index(name)],
            ((values - best[index]) / error) ** 2,
            atol=1e-5,
        )


def test_noise_may_differ_between_observations():
    noise = 0.1 + 0.2 * X
    profile = statistics.profile_likelihood(line, LINE_DATA, START, noise_sd=noise)
    weighted = DESIGN / noise[:, None]
    best = np.linalg.lstsq(weighted, LINE_DATA / noise, rcond=None)[0]
    error = np.sqrt(np.linalg.inv(weighted.T @ weighted)[1, 1])
    quantile = stats.norm.ppf(0.975)
    assert profile.low["slope"] == pytest.approx(best[1] - quantile * error, rel=1e-6)
    assert profile.high["slope"] == pytest.approx(best[1] + quantile * error, rel=1e-6)


def test_correlated_errors_widen_a_line_to_the_sandwich():
    groups = np.arange(X.size) // 4
    shift = np.random.default_rng(5).standard_normal(6)[groups]
    observed = LINE_DATA + 0.3 * shift
    profile = statistics.profile_likelihood(line, observed, START, groups=groups)
    best = np.linalg.lstsq(DESIGN, observed, rcond=None)[0]
    residual, bread = observed - DESIGN @ best, np.linalg.inv(DESIGN.T @ DESIGN)
    scores = np.stack([DESIGN[groups == g].T @ residual[groups == g] for g in range(6)])
    error = np.sqrt(np.diag(6 / 5 * bread @ scores.T @ scores @ bread))
    for index, name in enumerate(START):
        reach = stats.t.ppf(0.975, 5) * error[index]
        assert profile.low[name] == pytest.approx(best[index] - reach, rel=1e-5)
        assert profile.high[name] == pytest.approx(best[index] + reach, rel=1e-5)


def test_a_curved_profile_agrees_with_nested_minimisation():
    profile = statistics.profile_likelihood(exponential, DECAY_DATA, {"a": 1.0, "b": 1.0})

    def basis(b):
        return np.exp(-b * X)

    def rss(b):
        """The best `a` is linear regression through the origin."""
        a = basis(b) @ DECAY_DATA / (basis(b) @ basis(b))
        return np.sum((DECAY_DATA - a * basis(b)) ** 2)

    found = optimize.minimize_scalar(rss, bracket=(0.3, 1.5), tol=1e-12)
    limit = found.fun * (1 + stats.f.ppf(0.95, 1, X.size - 2) / (X.size - 2))
    low = optimize.brentq(lambda b: rss(b) - limit, found.x / 10, found.x)
    high = optimize.brentq(lambda b: rss(b) - limit, found.x, found.x * 5)
    assert profile.estimate["b"] == pytest.approx(found.x, rel=1e-5)
    assert profile.low["b"] == pytest.approx(low, rel=1e-5)
    assert profile.high["b"] == pytest.approx(high, rel=1e-5)
    # It is not symmetric in the logarithm, as a Wald interval would be.
    assert low * high != pytest.approx(found.x**2, rel=1e-3)


def test_a_product_is_not_identified_but_its_partner_is():
    start = {"a": 1.0, "b": 1.0, "c": 1.0}
    profile = statistics.profile_likelihood(product, DECAY_DATA, start)
    alone = statistics.profile_likelihood(
        exponential, DECAY_DATA, {"a": 1.0, "b": 1.0}, noise_sd=profile.noise_sd
    )
    for name in ("a", "c"):
        assert (profile.low[name], profile.high[name]) == (0.0, np.inf)
        assert not profile.bounded_below[name]
        assert not profile.bounded_above[name]
    assert profile.bounded_below["b"]
    assert profile.bounded_above["b"]
    assert profile.estimate["a"] * profile.estimate["c"] == pytest.approx(
        alone.estimate["a"], rel=1e-4
    )
    assert profile.low["b"] < alone.low["b"] < alone.high["b"] < profile.high["b"]
    assert np.isfinite(profile.values).all()
    assert np.isfinite(profile.deviance).all()


def test_a_rate_that_runs_away_is_bounded_from_below_only():
    """A rise that is over before the first observation says that it is fast, not how fast."""
    observed = 1.0 + 0.02 * np.random.default_rng(4).standard_normal(X.size)
    observed[0] = 1.04
    bounds = ({"level": 0.1, "rate": 0.1}, {"level": 10.0, "rate": 1e4})
    profile = statistics.profile_likelihood(
        rise, observed, {"level": 0.9, "rate": 5.0}, bounds=bounds, noise_sd=0.02
    )
    assert profile.bounded_below["rate"]
    assert not profile.bounded_above["rate"]
    assert profile.high["rate"] == np.inf
    # At the lower end 1 − exp(−0.1 k) is seen to miss one by about two standard deviations.
    assert 20.0 < profile.low["rate"] < 100.0
    assert profile.bounded_above["level"]
    capped = statistics.profile_likelihood(
        exponential,
        DECAY_DATA,
        {"a": 1.0, "b": 0.2},
        bounds=({"a": 0.1, "b": 0.01}, {"a": 9.0, "b": 0.3}),
    )
    assert capped.at_bound == {"a": False, "b": True}
    assert capped.estimate["b"] == pytest.approx(0.3, rel=1e-12)
    assert not capped.bounded_above["b"]


def test_only_some_parameters():
    profile = statistics.profile_likelihood(line, LINE_DATA, START, only=["slope"], points=4)
    assert profile.names == ("slope",)
    assert profile.values.shape == (1, 4)
    assert profile.low["intercept"] is None
    best, _, _ = least_squares()
    assert profile.estimate["intercept"] == pytest.approx(best[0], rel=1e-6)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"start": {"intercept": 0.0, "slope": 1.0}}, "start must lie"),
        ({"start": {"intercept": np.ones(2), "slope": 1.0}}, "scalar leaves"),
        ({"observed": np.full(24, np.nan)}, "observed must be a finite vector"),
        ({"observed": np.ones(2)}, "2 parameters need more than 2 observations; got 2"),
        ({"noise_sd": 0.0}, "noise_sd must lie"),
        ({"noise_sd": np.ones(3)}, "noise_sd must be a number or one for each of 24"),
        ({"only": ["spread"]}, "only must name some of intercept, slope"),
        ({"bounds": ({"intercept": 0.1}, {"intercept": 9.0})}, "trees shaped like start"),
        ({"bounds": (dict.fromkeys(START, 2.0), dict.fromkeys(START, 9.0))}, "within bounds"),
        ({"groups": np.zeros(24)}, "groups needs one label"),
        ({"observed": 2.0 + 3.0 * X}, "exactly; give noise_sd"),
        ({"predict": lambda p: p["slope"] * jnp.log(-X)}, "no finite value at start"),
    ],
)
def test_profiles_refuse_what_cannot_be_profiled(change, match):
    given = {"predict": line, "observed": LINE_DATA, "start": START} | change
    with pytest.raises(ValueError, match=match):
        statistics.profile_likelihood(**given)


# Coverage ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def line_coverage():
    truth = {"intercept": 2.0, "slope": 3.0}
    return statistics.profile_coverage(line, truth, NOISE, key=jax.random.key(0), replicates=2000)


def test_intervals_of_a_line_cover_as_promised(line_coverage):
    assert line_coverage.failed == 0
    assert line_coverage.adjusted_p_value > 0.01
    np.testing.assert_allclose(line_coverage.share, 0.95, atol=0.02)
    covered = int(line_coverage.covered[:, 0].sum())
    assert line_coverage.p_value[0] == pytest.approx(stats.binomtest(covered, 2000, 0.95).pvalue)


def test_the_deviance_of_a_line_has_the_f_distribution(line_coverage):
    for column in line_coverage.deviance.T:
        assert stats.kstest(column, stats.f(1, X.size - 2).cdf).pvalue > 0.01


def test_the_test_of_coverage_can_fail():
    """A mean that must be positive and drowns in noise: intervals that end at 0 cover too often."""
    coverage = statistics.profile_coverage(
        lambda p: p["mean"] * jnp.ones(5),
        {"mean": 0.1},
        1.0,
        key=jax.random.key(1),
        replicates=1000,
        noise_known=True,
    )
    assert coverage.failed == 0
    assert coverage.share[0] > 0.96
    assert coverage.adjusted_p_value < 1e-2


def test_coverage_refuses_unknown_names():
    with pytest.raises(ValueError, match="only must name some of intercept, slope"):
        statistics.profile_coverage(line, START, 0.1, key=jax.random.key(0), only=["spread"])
