"""Predictions on trained learners: what is there is found, what is not there is not."""

import dataclasses

import numpy as np
import pytest

from sigma_jax.predictions import TRAINED_DESIGNS, GapOutcomes, TrainedStudy
from tests.predictions.made_up_learners import (
    STUDY,
    coupled,
    judged,
    modalities,
    registration,
    shortcut,
)

NAMES = ("P1", "P9", "M1", "H6.2", "P2", "P8", "H6.1", "H6.3")


def gap(familiar: float, structural: float, noise: float = 0.02, seed: int = 0) -> GapOutcomes:
    """Learners whose accuracies change by so much."""
    rng = np.random.default_rng(seed)
    seeds = np.zeros(STUDY.seeds)
    means = (0.6, 0.6 + familiar, 0.3, 0.3 + structural)
    return GapOutcomes(*(seeds + mean + noise * rng.standard_normal(seeds.size) for mean in means))


def test_every_prediction_that_needs_a_learner_is_there():
    named = [name for design in TRAINED_DESIGNS.values() for name in design.names]
    assert sorted(named) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_registered_before_any_run(name):
    fixed = registration(name)
    assert fixed.alpha == pytest.approx(0.05 / 8)
    assert fixed.planned_n == TrainedStudy().seeds
    assert 0.0 < fixed.planned_power <= 1.0
    assert "learners" in fixed.claim or fixed.claim
    assert fixed.falsified_if


@pytest.mark.parametrize(
    ("name", "outcomes", "outcome"),
    [
        ("P1", coupled(gain_of_sigma=2.0), "supported"),
        ("P1", coupled(gain_of_sigma=-2.0), "refuted"),
        ("P1", coupled(), "not testable here"),  # 40 learners are too few for d = 0.5
        ("P9", coupled(kink=1.0), "supported"),
        ("P9", coupled(kink=-1.0), "refuted"),
        ("P9", coupled(), "refuted"),
        ("M1", coupled(gain=0.4), "refuted"),
        ("M1", coupled(gain_of_sigma=2.0, sigma_of_batches=0.2, noise=1e-3), "supported"),
        ("H6.2", coupled(engineered=0.6), "supported"),
        ("H6.2", coupled(engineered=0.6, other=0.6), "refuted"),
        ("P2", shortcut(fall=0.5), "supported"),
        ("P2", shortcut(fall=0.0), "refuted"),
        ("P2", shortcut(fall=-0.5), "refuted"),
        ("P8", modalities(by_product=0.8), "supported"),
        ("P8", modalities(), "refuted"),
        ("H6.1", gap(0.2, 0.0), "supported"),
        ("H6.1", gap(0.2, 0.2), "refuted"),
        ("H6.1", gap(0.0, -0.2), "refuted"),
        ("H6.3", gap(0.2, 0.0), "supported"),
        ("H6.3", gap(0.2, 0.3), "refuted"),
    ],
)
def test_what_is_there_is_found(name, outcomes, outcome):
    verdict = judged(name, outcomes)
    assert verdict.version == "trained learners"
    assert verdict.outcome == outcome, verdict.reason
    assert verdict.low <= verdict.estimate <= verdict.high
    assert verdict.null_rate.low <= 0.05
    assert verdict.reason.endswith(".")


def test_an_association_of_conditions_alone_is_not_enough_for_p1():
    """Batches raise both; within a condition coherence and quality have nothing to do."""
    between = coupled(gain=0.4, sigma_of_batches=0.2)
    verdict = judged("P1", between)
    assert verdict.outcome != "supported"
    assert "within conditions" in verdict.effect


def test_what_batches_do_is_no_doing_of_the_phase():
    """The yoked learner speeds up just as much at that time, since its batches do."""
    verdict = judged("P9", coupled(kink=1.0, kink_when_yoked=1.0))
    assert verdict.outcome == "refuted"
    assert "yoked" in verdict.effect


def test_the_change_of_slope_is_measured_in_its_unit():
    """A bend of 1 per 1,000 steps; each part's estimate is known without noise."""
    verdict = judged("P9", coupled(kink=1.0, noise=1e-6))
    assert "itself 1.00 [1.00, 1.00]" in verdict.reason
    assert "less the yoked learner's 1.00" in verdict.reason
    assert "holds the entry in 8" in verdict.reason


@pytest.mark.parametrize("entry", [np.inf, 0.0])
def test_an_entry_that_cannot_be_seen_is_said(entry):
    verdict = judged("P9", coupled(kink=1.0, entry=entry))
    assert verdict.outcome == "not testable here"
    assert (verdict.p_value, verdict.power) == (1.0, 0.0)
    assert "enter phase 2 at steps" in verdict.reason


def test_m1_needs_an_intervention_that_works():
    verdict = judged("M1", coupled())
    assert verdict.outcome == "not testable here"
    assert "no intervention worked" in verdict.reason


def test_m1_counts_learners_that_gain_below_the_critical_value():
    low = coupled(gain=0.4)
    low = low._replace(coherence={name: 0.0 * curve for name, curve in low.coherence.items()})
    low.coherence["baseline"][:, -1] += np.linspace(0.0, 0.1, STUDY.seeds)
    verdict = judged("M1", low)
    assert verdict.outcome == "refuted"
    assert "24 learners with batches end with σ̃ below 0.15, and gain 0.4" in verdict.reason


def test_the_fall_of_p2_is_a_slope_per_seed():
    verdict = judged("P2", shortcut(fall=0.3, noise=0.0))
    assert verdict.estimate == pytest.approx(0.3)
    assert verdict.p_value == pytest.approx(0.5**8)  # all seeds alike: the test of signs
    assert "breadth and confidence are not measured" in verdict.reason
    assert "Without any cue the ratio falls by 0.00" in verdict.reason.replace("-0.00", "0.00")


def test_a_small_fall_is_not_the_registered_one():
    assert judged("P2", shortcut(fall=0.05, noise=1e-3)).outcome == "refuted"


def test_p8_must_hold_beyond_similarity():
    verdict = judged("P8", modalities(by_similarity=0.8))
    assert verdict.outcome == "refuted"
    assert "at equal ω" in verdict.effect


def test_ratios_of_nothing_are_not_judged():
    nothing = shortcut(fall=0.0)
    verdict = judged("P2", nothing._replace(familiar=np.zeros_like(nothing.familiar)))
    assert verdict.outcome == "not testable here"
    assert judged("P8", modalities(noise=0.0)).outcome == "not testable here"
    unlearnt = GapOutcomes(*(0.1 * part for part in gap(0.2, 0.0)))
    assert judged("H6.1", unlearnt).outcome == "not testable here"


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("P1", lambda seed: coupled(seed=seed)),
        ("P9", lambda seed: coupled(seed=seed)),
        ("H6.2", lambda seed: coupled(engineered=0.6, other=0.6, seed=seed)),
        ("P2", lambda seed: shortcut(fall=0.0, seed=seed)),
        ("P8", lambda seed: modalities(seed=seed)),
        ("H6.1", lambda seed: gap(0.2, 0.2, seed=seed)),
    ],
)
def test_nothing_is_found_where_nothing_is(name, make):
    """At the family's level of 1 in 160, twice in 40 made-up studies has a chance of 2.5 %."""
    study = dataclasses.replace(STUDY, null_studies=100)
    p_values = [judged(name, make(seed), study).p_value for seed in range(40)]
    assert np.count_nonzero(np.array(p_values) < 0.05 / 8) <= 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seeds": 5}, "seeds"),
        ({"checkpoints": 20}, "checkpoints"),
        ({"null_studies": 99}, "null_studies"),
        ({"steps": 801}, "steps must be a multiple of the 32 checkpoints"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_a_study_too_small_is_refused(change, named):
    with pytest.raises(ValueError, match=named):
        TrainedStudy(**change)
