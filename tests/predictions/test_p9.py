"""P9: where and whether learning speeds up."""

import jax
import numpy as np
import pytest

from sigma_jax.predictions import PREDICTIONS, Study

STUDY = Study(n=80, null_studies=200)


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["P9"].run(jax.random.key(0), STUDY)


def test_the_naive_test_finds_breaks_in_straight_lines(verdicts):
    registered = verdicts[0]
    assert registered.outcome == "not testable here"
    assert registered.null_rate.low > 0.05
    assert "contains the σ" in registered.reason


def test_the_location_test_keeps_its_level(verdicts):
    """The weaker of two tests counts, so it rejects at most as often as either."""
    repaired = verdicts[1]
    assert repaired.version == "repaired"
    assert repaired.null_rate.low <= 0.05
    assert repaired.low <= repaired.estimate <= repaired.high


def test_learners_break_where_they_grow_not_where_they_cross(verdicts):
    """Growth is smooth through σ_critical: a lower value of σ marks the break better."""
    repaired = verdicts[1]
    assert repaired.estimate < 0.0
    assert repaired.outcome != "supported"
    crossing, first = repaired.picture.series["learners"]
    assert crossing.shape == first.shape == repaired.n
    assert ((crossing >= 15.0) & (crossing <= 86.0)).all()


def test_published_runs_slow_down(verdicts):
    published = verdicts[2]
    assert published.outcome == "refuted"
    assert published.n == (15, 15)
    assert published.high < 0.0
    assert published.p_value > 0.99
    assert "0 of 30 coupled runs" in published.reason
    assert "falls by 0.167" in published.reason
    assert published.picture.marks["one break, pooled (step)"] == pytest.approx(460, abs=5)
    assert published.null_rate.consistent


def test_two_breaks_find_the_extra_batches(verdicts):
    assert "15 of 15 additive runs at median step 300" in verdicts[2].reason
    assert "multiplicative runs at median step 150" in verdicts[2].reason


def test_same_key_same_verdict(verdicts):
    again = PREDICTIONS["P9"].run(jax.random.key(0), STUDY)
    assert [v.estimate for v in again] == [v.estimate for v in verdicts]
    assert np.isfinite([v.p_value for v in again]).all()
