"""Pairwise relative drifts: against loops and hands, with intervals that cover."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sigma_jax.bridge import DriftMatrix, drift_matrix
from sigma_jax.vm import relative_drift

DRIFTS = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(1, 3)),
    elements=st.sampled_from([0.0, 1.0, -2.0, 0.5]),
)


def plainly(old: np.ndarray, new: np.ndarray) -> float:
    """‖old − new‖ / ‖old‖, one number after another."""
    size = sum(float(number) ** 2 for number in old.ravel()) ** 0.5
    distance = sum(float(a - b) ** 2 for a, b in zip(old.ravel(), new.ravel(), strict=True)) ** 0.5
    return distance / size if size else float("inf") if distance else 0.0


@given(DRIFTS)
def test_every_pair_is_what_a_loop_finds_and_what_the_machine_decides_by(drifts):
    found = drift_matrix(drifts, resamples=3)
    for a, old in enumerate(drifts):
        for b, new in enumerate(drifts):
            assert found.pooled[a, b] == pytest.approx(plainly(old, new), rel=1e-12)
            machine = float(relative_drift(jnp.asarray(old), jnp.asarray(new)))
            assert found.pooled[a, b] == pytest.approx(machine, rel=1e-12)
            alone = [plainly(one, other) for one, other in zip(old, new, strict=True)]
            np.testing.assert_allclose(found.each[a, b], alone, rtol=1e-12)
    assert not np.isnan(found.low).any()
    assert not np.isnan(found.high).any()
    assert (found.low <= found.high).all()


def test_by_hand():
    """Two prompts: drifts (3, 4), (0, 5) against (3, 4), (5, 5): 5 of √50, and 5 of √75."""
    found = drift_matrix(np.array([[[3.0, 4.0], [0.0, 5.0]], [[3.0, 4.0], [5.0, 5.0]]]))
    np.testing.assert_allclose(found.pooled, [[0.0, 0.5**0.5], [(1 / 3) ** 0.5, 0.0]], rtol=1e-15)
    np.testing.assert_allclose(found.each[0, 1], [0.0, 1.0])
    np.testing.assert_allclose(found.each[1, 0], [0.0, 0.5**0.5])
    np.testing.assert_array_equal(found.accepted(0.25), [[1.0, 0.5], [0.5, 1.0]])
    # Resamples have the first prompt twice, both, or the second twice.
    assert (found.low[0, 1], found.high[0, 1]) == (0.0, 1.0)


def test_a_drift_of_zero_is_no_unit():
    drifts = np.array([[[0.0], [0.0]], [[1.0], [2.0]], [[0.0], [0.0]]])
    found = drift_matrix(drifts)
    for part in (found.pooled, found.low, found.high):
        np.testing.assert_array_equal(part, [[0, np.inf, 0], [1, 0, 1], [0, np.inf, 0]])
    half = drift_matrix(np.array([[[0.0], [2.0]], [[1.0], [2.0]]]))
    assert (half.pooled[0, 1], half.low[0, 1], half.high[0, 1]) == (0.5, 0.0, np.inf)


def test_safe_unsafe_and_undecided():
    part = np.array([[0.0, 0.2, 0.3]])
    matrix = DriftMatrix(part, part - 0.1, np.array([[0.0, 0.25, 0.4]]), part[..., None])
    np.testing.assert_array_equal(matrix.safe(0.25), [[True, False, False]])
    np.testing.assert_array_equal(matrix.unsafe(0.19), [[False, False, True]])
    np.testing.assert_array_equal(matrix.accepted(0.2), [[1.0, 0.0, 0.0]])


def draws(rng: np.random.Generator, prompts: int) -> np.ndarray:
    """Two drifts of which the second is 0.5 of the first's size away."""
    old = rng.normal(size=(prompts, 4)) * rng.gamma(2.0, size=(prompts, 1)) ** 0.5
    return np.stack([old, old + rng.normal(size=(prompts, 4)) * 0.5 * 2.0**0.5])


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(3)
    hits = np.zeros(400, bool)
    for turn in range(len(hits)):
        found = drift_matrix(draws(rng, 80), resamples=200, seed=turn, level=0.9)
        hits[turn] = found.low[0, 1] <= 0.5 <= found.high[0, 1]
    low, high = scipy.stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.999)
    assert low < 0.9 < high
    assert 0.82 < hits.mean() < 0.95


def test_intervals_are_those_of_scipys_bootstrap():
    both = draws(np.random.default_rng(5), 100)
    found = drift_matrix(both, resamples=4000, seed=1)
    parts = (np.square(both[0] - both[1]).sum(1), np.square(both[0]).sum(1))
    other = scipy.stats.bootstrap(
        parts,
        lambda distance, size, axis: np.sqrt(distance.sum(axis) / size.sum(axis)),
        n_resamples=4000,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert found.low[0, 1] == pytest.approx(other.low, abs=0.005)
    assert found.high[0, 1] == pytest.approx(other.high, abs=0.005)


def test_a_seed_gives_the_same_bits():
    both = draws(np.random.default_rng(0), 30)
    first, again, other = (drift_matrix(both, seed=seed, resamples=300) for seed in (4, 4, 5))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(first.pooled, other.pooled)
    assert (first.low[0, 1], first.high[0, 1]) != (other.low[0, 1], other.high[0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"drifts": np.ones((2, 3))}, r"drifts must be \[variants, prompts, d\].*\(2, 3\)"),
        ({"drifts": np.ones((0, 3, 1))}, "at least one variant"),
        ({"drifts": np.ones((2, 1, 3))}, "two prompts"),
        ({"drifts": np.full((2, 2, 1), np.inf)}, "drifts must be finite"),
        ({"drifts": np.full((2, 2, 1), np.nan)}, "drifts must not contain NaN"),
        ({"level": 0.0}, "level must lie in"),
        ({"level": 1.0}, "level must lie in"),
        ({"resamples": 0}, "resamples must lie in"),
    ],
)
def test_bad_input_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        drift_matrix(**{"drifts": np.ones((2, 3, 4))} | change)
