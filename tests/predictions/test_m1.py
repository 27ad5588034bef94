"""M1: an intervention that works while coherence stays low."""

import jax
import pytest

from sigma_jax.predictions import PREDICTIONS, Study

STUDY = Study(n=60, null_studies=200)


@pytest.fixture(scope="module")
def verdicts():
    return PREDICTIONS["M1"].run(jax.random.key(0), STUDY)


def test_the_registered_outcome_contains_its_mediator(verdicts):
    registered = verdicts[0]
    assert registered.outcome == "not testable here"
    assert "tautology" in registered.reason
    assert registered.low > 0.0


def test_an_intervention_works_with_coherence_held_down(verdicts):
    repaired = verdicts[1]
    assert repaired.outcome == "refuted"
    assert repaired.low > 0.5
    assert repaired.null_rate.consistent
    treated, control = (s[0] for s in repaired.picture.series.values())
    assert treated.mean() > control.mean()
    assert repaired.n == (STUDY.n, STUDY.n)


def test_the_pilot_improved_where_the_proxy_was_lower(verdicts):
    published = verdicts[2]
    assert published.outcome == "refuted"
    proxies = {name: x.mean() for name, (x, _) in published.picture.series.items()}
    assert proxies["additive"] < proxies["baseline"] == pytest.approx(0.684, abs=5e-4)
    assert published.estimate > 40.0
    assert published.power > 0.99
    assert published.null_rate.consistent


def test_bad_studies_are_refused():
    with pytest.raises(ValueError, match="n must be at least 20"):
        PREDICTIONS["M1"].run(jax.random.key(0), Study(n=5))
