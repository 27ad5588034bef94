"""P7: five benchmarks cannot show anything; many can."""

import jax
import pytest

from sigma_jax.predictions import FAMILY_ALPHA, PREDICTIONS, Study

STUDY = Study(n=60, null_studies=200)


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["P7"].run(jax.random.key(0), STUDY)


def test_five_benchmarks_never_reach_the_registered_level(verdicts):
    """A perfect agreement of five ranks is one of 5! = 120 orders."""
    registered = verdicts[0]
    assert registered.version == "as registered"
    assert registered.outcome == "not testable here"
    assert registered.n == (5,)
    assert registered.power == 0.0
    assert registered.p_value >= 1 / 120 > FAMILY_ALPHA
    assert f"{1 / 120:.4f}" in registered.reason


def test_the_repaired_study_has_power_at_the_registered_limit(verdicts):
    repaired = verdicts[1]
    assert repaired.version == "repaired"
    assert repaired.n == (300,)
    assert repaired.power > 0.9
    assert repaired.null_rate.consistent


def test_the_outcome_follows_the_interval(verdicts):
    repaired = verdicts[1]
    if repaired.outcome == "supported":
        assert repaired.estimate >= 0.3
    elif repaired.outcome == "refuted":
        assert repaired.high < 0.3 or repaired.p_value >= FAMILY_ALPHA
    else:
        assert repaired.estimate < 0.3 <= repaired.high


def test_validity_and_stability_are_in_their_ranges(verdicts):
    validity, stability = verdicts[1].picture.series["benchmarks"]
    assert ((validity >= 0.0) & (validity <= 0.25)).all()  # no variance on [0, 1] exceeds 1/4
    assert ((stability >= -1.0) & (stability <= 1.0)).all()


def test_another_key_draws_other_benchmarks(verdicts):
    other = PREDICTIONS["P7"].run(jax.random.key(1), STUDY)
    assert other[1].estimate != verdicts[1].estimate
