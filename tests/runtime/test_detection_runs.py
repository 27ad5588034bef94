"""Detection on simulated models: known answers of a calibration, and how shares are counted."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats

from sigma_jax.runtime import (
    CASES,
    ControlPolicy,
    HashedEncoder,
    RuntimeArm,
    RuntimeSettings,
    SimulatedModel,
    Watched,
    calibrate_identity,
    exact_share,
    load_scenario,
    observations,
    replay,
    run_arm,
    summarise,
    watch_conversations,
)

SCENARIO = load_scenario()
IDENTITY = SCENARIO.identity
CASE = {case.name: case for case in CASES}


@pytest.fixture(scope="module")
def calibration():
    return calibrate_identity(
        SimulatedModel(),
        IDENTITY,
        key=jax.random.key(0),
        prompts=SCENARIO.calibration_prompts,
        replicas=500,
    )


def watched(name, calibration, conversations=3, happens=20):
    return watch_conversations(
        CASE[name],
        SimulatedModel(),
        IDENTITY,
        calibration,
        conversations=conversations,
        happens=happens,
    )


def test_an_abrupt_loss_is_seen_soon_and_a_command_is_not_one(calibration):
    lost = watched("abrupt loss", calibration)
    seen = [run.within(10) for run in lost if run.before is None]
    assert len(seen) >= 2
    assert all(seen)
    obedient = summarise("obedient style", watched("obedient style", calibration))
    assert obedient.alarmed.count <= 1


def test_the_same_conversations_are_watched_the_same(calibration):
    assert watched("gradual loss", calibration) == watched("gradual loss", calibration)


def test_a_replay_of_replies_is_the_loop_that_only_observes(calibration):
    settings = RuntimeSettings(policy=ControlPolicy(observe_only=True))
    run = run_arm(
        RuntimeArm("observes", "", settings),
        SCENARIO,
        SimulatedModel(),
        calibration=calibration,
        turns=65,
    )
    texts = [turn.text for turn in SCENARIO.turns[:65]]
    y, commanded, violated = observations(
        IDENTITY, calibration, HashedEncoder(), texts, run.replies
    )
    assert commanded.max() > 0.5  # the scenario's first commands of a style are among them
    again = replay(calibration.parameters, y[None], None, commanded[None], violated[None])
    for name in ("contrast", "departure", "constraints"):
        given = np.array([each[name] for each in run.measurements])
        np.testing.assert_allclose(np.asarray(getattr(again, name)[0]), given, atol=1e-8)


def test_shares_are_counted_after_no_false_alarm():
    def run(before, after):
        return Watched("x", 0, 60, before, after, None, None)

    runs = [run(None, 60), run(None, 69), run(None, 70), run(12, 60), run(None, None)]
    summary = summarise("x", runs)
    assert summary.within_10[:2] == (2, 5)
    assert summary.within_20[:2] == (3, 5)
    assert summary.alarmed[:2] == (3, 5)
    assert summary.false_alarm[:2] == (1, 5)
    assert summary.delays == (1, 10, 11)


def test_the_interval_is_exact():
    """Its ends are where what was counted has a tail of 2.5 %: Clopper and Pearson's definition."""
    for count, of in itertools.product((0, 3, 10), (10,)):
        share = exact_share([True] * count + [False] * (of - count))
        if count:
            assert stats.binom.sf(count - 1, of, share.low) == pytest.approx(0.025)
        if count < of:
            assert stats.binom.cdf(count, of, share.high) == pytest.approx(0.025)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"conversations": 0}, "conversations must"),
        ({"happens": 1}, "happens must"),
        ({"happens": 5000}, "need at most"),
    ],
)
def test_bad_input(calibration, about, message):
    with pytest.raises(ValueError, match=message):
        watched("stationary", calibration, **({"conversations": 1} | about))
    with pytest.raises(ValueError, match="there are none"):
        summarise("y", [])
