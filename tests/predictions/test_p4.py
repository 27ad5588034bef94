"""P4: growth rates that are put in, and a shortcut set that coherence gates."""

import jax
import numpy as np
import pytest

from sigma_jax.predictions import PREDICTIONS, Study

STUDY = Study(n=200, null_studies=200)
GATED = ("surface-rewarded", "structure-targeted")


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["P4"].run(jax.random.key(4), STUDY)


def test_the_registered_test_returns_its_input(verdicts):
    registered = verdicts[0]
    put_in = (np.log(1.37) - np.log(1.10)) / 20.0
    assert registered.outcome == "not testable here"
    assert registered.low < put_in < registered.high


def test_delegation_starts_alike_everywhere(verdicts):
    # Depth 0.7 against shortcuts uniform in [0, 1], coherence 0.3 above σ_critical: 30 %.
    for _, size in verdicts[1].picture.series.values():
        assert size[0] == pytest.approx(0.3, abs=0.02)


def test_without_coherence_there_is_nothing_to_delegate(verdicts):
    series = verdicts[1].picture.series
    for name in GATED:
        gated, free = series[name][1], series[f"{name}, without σ ≥ σ_critical"][1]
        assert (gated <= free + 1e-12).all()
    assert series["surface-rewarded"][1][-1] < 0.5 * series["surface-rewarded"][1][0]


def test_one_kind_of_agent_refutes_the_joint_claim(verdicts):
    repaired = verdicts[1]
    assert "surface-rewarded" in repaired.effect
    assert repaired.high < 0.0
    assert repaired.outcome == "refuted"


def test_null_rates_are_not_above_the_level(verdicts):
    for verdict in verdicts:
        assert verdict.null_rate.low <= 0.05, verdict.null_rate


def test_same_key_same_verdict(verdicts):
    again = PREDICTIONS["P4"].run(jax.random.key(4), STUDY)
    assert [v.reason for v in again] == [v.reason for v in verdicts]
