"""P6: the registered contrast cannot work, and the repaired one can."""

import jax
import numpy as np
import pytest

from sigma_jax.predictions import FAMILY_ALPHA, PREDICTIONS, Study

STUDY = Study(n=60, null_studies=200)


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["P6"].run(jax.random.key(0), STUDY)


def test_versions(verdicts):
    assert [v.version for v in verdicts] == ["as registered", "repaired", "published data"]
    assert verdicts[0].n == (120,)
    assert verdicts[1].n == (STUDY.n,)


def test_the_registered_contrast_misses_its_own_theory(verdicts):
    """120 models with σ, δ ~ U(0, 1) and Ψ by Eq. 18: R² differs by some .025, never by .10."""
    registered = verdicts[0]
    assert registered.outcome == "not testable here"
    assert registered.power < 0.06
    gain = registered.picture.series["Eq. 18"][0]
    assert gain.mean() == pytest.approx(0.798 - 0.773, abs=0.005)
    assert registered.null_rate.rate == 0.0


def test_the_repaired_test_separates_a_product_from_a_sum(verdicts):
    repaired = verdicts[1]
    assert repaired.outcome == "not testable here"  # Ψ is a definition in the model
    assert repaired.low <= 1.0 <= repaired.high
    assert repaired.p_value < FAMILY_ALPHA
    assert repaired.power > 0.95
    assert repaired.null_rate.consistent


def test_the_published_curve_saturates(verdicts):
    published = verdicts[2]
    assert published.outcome == "refuted"
    assert published.estimate == pytest.approx(-24.99, abs=0.01)
    assert published.high < 0.0
    assert "0.427 to 0.762" in published.reason
    assert published.null_rate.consistent
    assert sum(x.size for x, _ in published.picture.series.values()) == 120


def test_same_key_same_verdict(verdicts):
    again = PREDICTIONS["P6"].run(jax.random.key(0), STUDY)
    for a, b in zip(verdicts, again, strict=True):
        assert (a.estimate, a.p_value, a.power, a.null_rate) == (
            b.estimate,
            b.p_value,
            b.power,
            b.null_rate,
        )
        assert all(np.isfinite([a.estimate, a.low, a.high]))
