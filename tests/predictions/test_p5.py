"""P5: the order of events, and what heavy pressure does to the time between them."""

import jax
import numpy as np
import pytest

from sigma_jax.predictions import PREDICTIONS, TIMES, Study

STUDY = Study(n=200, null_studies=200)


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["P5"].run(jax.random.key(5), STUDY)


def test_with_the_models_thresholds_the_intersection_comes_first(verdicts):
    registered = verdicts[0]
    both = np.concatenate([values for (values,) in registered.picture.series.values()])
    assert registered.outcome == "not testable here"
    assert np.mean(both < 0) > 0.95
    assert registered.n[0] < registered.n[1] <= STUDY.n, "heavy pressure keeps more from mastery"


def test_the_registered_direction_finds_the_opposite_of_the_claim(verdicts):
    assert verdicts[0].p_value < 0.00625
    assert "opposite of the claim" in verdicts[0].reason


def test_heavy_pressure_lengthens_the_repaired_delay(verdicts):
    repaired = verdicts[1]
    assert repaired.low > 0.5
    assert repaired.outcome == "refuted"
    assert repaired.n == (STUDY.n, STUDY.n), "nobody is left out"


def test_who_does_not_get_there_ranks_last(verdicts):
    for (delays,) in verdicts[1].picture.series.values():
        late = delays > TIMES[-1]
        assert np.unique(delays[late]).size <= 1
        assert np.mean(delays[~late] >= 0) > 0.9


def test_null_rates_are_the_level(verdicts):
    for verdict in verdicts:
        assert verdict.null_rate.consistent, verdict.null_rate


def test_same_key_same_verdict(verdicts):
    again = PREDICTIONS["P5"].run(jax.random.key(5), STUDY)
    assert [v.reason for v in again] == [v.reason for v in verdicts]
