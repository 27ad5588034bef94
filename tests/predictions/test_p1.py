"""P1: a tautology as registered; an intervention on coherence alone does next to nothing."""

import jax
import pytest

from sigma_jax.predictions import P1, Study
from sigma_jax.statistics import power_of_t


@pytest.fixture(scope="module")
def verdicts():
    return P1.run(jax.random.key(0), Study(n=60, null_studies=200))


def test_the_registered_test_cannot_fail(verdicts):
    registered, _ = verdicts
    assert registered.outcome == "not testable here"
    assert registered.null_rate.rate > 0.99  # it finds its effect in coherence handed out at random


def test_raising_coherence_alone_misses_the_registered_effect(verdicts):
    _, repaired = verdicts
    assert repaired.outcome != "supported"
    assert repaired.low < 0.5
    assert repaired.null_rate.consistent


def test_the_planned_power_is_what_64_a_group_have():
    assert P1.planned_power == power_of_t(0.5, 64, alpha=0.05 / 8, alternative="greater")
    assert round(P1.planned_power, 2) == 0.62


def test_the_same_key_gives_the_same_verdict(verdicts):
    again = P1.run(jax.random.key(0), Study(n=60, null_studies=200))
    assert [(v.estimate, v.p_value) for v in again] == [(v.estimate, v.p_value) for v in verdicts]
