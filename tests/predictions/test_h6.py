"""H6.1 to H6.3: no path in the manuscript, one in the earlier paper, and the pilot's own change."""

import jax
import numpy as np
import pytest

from sigma_jax.predictions import PREDICTIONS, Study
from sigma_jax.schema import load_pilot

STUDY = Study(n=200, null_studies=200)
NAMES = ("H6.1", "H6.2", "H6.3")


@pytest.fixture(scope="module")
def verdicts():
    return {name: PREDICTIONS[name].run(jax.random.key(6), STUDY) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_as_registered_coherence_cannot_change(verdicts, name):
    registered = verdicts[name][0]
    assert registered.version == "as registered"
    assert registered.outcome == "not testable here"
    assert "contains no such path" in registered.reason
    assert "largest difference 0)" in registered.reason
    assert registered.low > 0.0


@pytest.mark.parametrize("name", NAMES)
def test_reasons_end_in_what_a_trained_learner_must_show(verdicts, name):
    for verdict in verdicts[name][:2]:
        assert "A trained learner would have to show" in verdict.reason.split(". ")[-1]


@pytest.mark.parametrize("name", ["H6.1", "H6.3"])
def test_where_depth_feeds_coherence_the_gap_narrows(verdicts, name):
    repaired = verdicts[name][1]
    assert repaired.version == "repaired"
    assert repaired.high < 0.0
    assert repaired.outcome == "refuted"


def test_engineering_one_domain_reaches_the_other_only_through_transfer(verdicts):
    registered, repaired = verdicts["H6.2"]
    assert repaired.outcome == "supported"
    familiar, structural = (values for (values,) in repaired.picture.series.values())
    assert familiar.mean() > 5.0 * abs(structural.mean())
    # Without the path the other domain does not change at all: two sittings of one test.
    (_, unchanged) = (values for (values,) in registered.picture.series.values())
    assert abs(unchanged.mean()) < 4.0 * unchanged.std() / np.sqrt(STUDY.n)


def test_the_estimate_is_the_mean_change_of_the_gap(verdicts):
    for name in NAMES:
        for verdict in verdicts[name][:2]:
            familiar, structural = (values for (values,) in verdict.picture.series.values())
            assert verdict.estimate == pytest.approx(np.mean(familiar - structural), abs=1e-12)


def test_the_pilots_gap_narrows_but_its_test_was_trained_on(verdicts):
    published = verdicts["H6.3"][2]
    pilot = load_pilot()
    gaps = [pilot[c].acc_id[:, -1] - pilot[c].acc_ood[:, -1] for c in ("additive", "baseline")]
    assert published.version == "published data"
    assert published.estimate == pytest.approx(np.mean(gaps[0] - gaps[1]))
    assert published.high < 0.0
    assert published.outcome == "not testable here"
    assert "training batches" in published.reason


@pytest.mark.parametrize("name", NAMES)
def test_null_rates_are_the_level(verdicts, name):
    for verdict in verdicts[name]:
        assert verdict.null_rate.consistent, verdict.null_rate


def test_same_key_same_verdict(verdicts):
    again = PREDICTIONS["H6.1"].run(jax.random.key(6), STUDY)
    assert [v.reason for v in again] == [v.reason for v in verdicts["H6.1"]]
