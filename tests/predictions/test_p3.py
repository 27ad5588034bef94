"""P3: the tautology as registered, and an outcome that neither predictor defines."""

import jax
import numpy as np
import pytest

from sigma_jax.predictions import PREDICTIONS, Study

STUDY = Study(n=200, null_studies=200)


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["P3"].run(jax.random.key(3), STUDY)


def test_mastery_as_an_outcome_is_a_tautology(verdicts):
    registered = verdicts[0]
    assert registered.version == "as registered"
    assert registered.outcome == "not testable here"
    assert "tautology" in registered.reason
    assert registered.low > 0.0, "the predictor that defines the outcome must win"


def test_the_registered_outcome_is_yes_or_no_and_both_occur(verdicts):
    _, mastery = verdicts[0].picture.series["relative depth"]
    assert set(np.unique(mastery)) == {0.0, 1.0}


def test_both_predictors_are_held_against_one_outcome(verdicts):
    for verdict in verdicts:
        relative, absolute = verdict.picture.series.values()
        np.testing.assert_array_equal(relative[1], absolute[1])
        frontier = absolute[0] / relative[0]
        assert frontier.min() > 0.5 - 1e-9
        assert frontier.max() < 2.0 + 1e-9


def test_the_claim_fails_where_its_weakest_effort_fails(verdicts):
    repaired = verdicts[1]
    assert repaired.version == "repaired"
    assert repaired.p_value > 0.00625
    assert repaired.outcome == ("refuted" if repaired.power >= 0.8 else "not testable here")
    assert "f = 0.02" in repaired.reason


def test_null_rate_is_the_level(verdicts):
    assert verdicts[1].null_rate.consistent, verdicts[1].null_rate


def test_same_key_same_verdict(verdicts):
    again = PREDICTIONS["P3"].run(jax.random.key(3), STUDY)
    assert [v.reason for v in again] == [v.reason for v in verdicts]
    assert [v.estimate for v in again] == [v.estimate for v in verdicts]
