"""P8: transfer is in the equation; what can fail is that it is proportional."""

import jax
import numpy as np
import pytest

from sigma_jax.predictions import FAMILY_ALPHA, PREDICTIONS, Study

STUDY = Study(n=100, null_studies=200)


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["P8"].run(jax.random.key(0), STUDY)


def test_a_correlation_is_certain_and_proves_nothing(verdicts):
    registered = verdicts[0]
    assert registered.outcome == "not testable here"
    assert registered.low > 0.5
    assert "tautology" in registered.reason
    assert registered.null_rate.consistent


def test_transfer_is_not_proportional(verdicts):
    """At its equilibrium x/(c + x) the gain bends: an exponent below one."""
    repaired = verdicts[1]
    assert repaired.estimate < 0.0
    assert repaired.outcome == "refuted" or repaired.p_value >= FAMILY_ALPHA
    assert repaired.null_rate.consistent


def test_nothing_is_gained_without_similarity_or_coherence(verdicts):
    product, gain = verdicts[1].picture.series["learners"]
    least = product < np.quantile(product, 0.1)
    assert gain[least].mean() < 0.5 * gain[~least].mean()
    assert ((gain > 0.0) & (gain <= 1.0)).all()


def test_planned_power_is_the_registered_limit_at_the_registered_number():
    assert PREDICTIONS["P8"].planned_power > 0.999
