"""P2: the joint claim, which of its parts is weakest, and what holds by construction."""

import dataclasses

import jax
import numpy as np
import pytest

from sigma_jax.predictions import PREDICTIONS, Study

STUDY = Study(n=200, null_studies=200)


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["P2"].run(jax.random.key(2), STUDY)


def test_registered_first_then_repaired(verdicts):
    assert [verdict.version for verdict in verdicts] == ["as registered", "repaired"]


def test_pressure_alone_cannot_move_breadth(verdicts):
    registered = verdicts[0]
    assert "breadth" in registered.effect
    assert registered.outcome != "supported"
    assert registered.low < 0.0 < registered.high


def test_the_other_two_parts_of_the_registered_claim_are_there(verdicts):
    series = verdicts[0].picture.series
    mean = {name: values[0].mean() for name, values in series.items()}
    assert mean["coherence, heavy"] < mean["coherence, moderate"]
    assert mean["overconfidence, heavy"] > mean["overconfidence, moderate"]


def test_printed_self_model_is_not_overconfident_at_rest(verdicts):
    # M̂* = σ ν/(ν + ξΩ) ≤ σ; the heavy group's σ, and with it ζ, goes to zero.
    series = verdicts[0].picture.series
    assert series["overconfidence, moderate"][0].mean() < -0.05
    assert abs(series["overconfidence, heavy"][0].mean()) < 0.02


def test_breadth_follows_exposure_as_its_equation_says(verdicts):
    # β̇ = κ u (1 − β) − λ_b β has no noise; after 100 epochs it has settled to e^-5 at least.
    exposure, breadth = verdicts[1].picture.series["breadth"]
    assistance = 0.05 * exposure
    settled = assistance / (assistance + 0.05)
    exact = settled * (1.0 - np.exp(-(assistance + 0.05) * 100.0))
    np.testing.assert_allclose(breadth, exact, atol=2e-3)


def test_confidence_less_performance_falls_with_exposure(verdicts):
    repaired = verdicts[1]
    assert "overconfidence" in repaired.effect
    assert repaired.estimate < 0.0
    assert repaired.outcome != "supported"


def test_null_rates_are_the_level(verdicts):
    for verdict in verdicts:
        assert verdict.null_rate.trials == STUDY.null_studies
        assert verdict.null_rate.consistent, verdict.null_rate


def test_same_key_same_verdicts(verdicts):
    again = PREDICTIONS["P2"].run(jax.random.key(2), STUDY)
    for first, second in zip(verdicts, again, strict=True):
        assert dataclasses.replace(first, picture=second.picture) == second


def test_too_small_a_study_is_refused():
    with pytest.raises(ValueError, match="n must be at least 20"):
        Study(n=5)
