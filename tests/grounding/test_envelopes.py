"""Envelopes, their admission, and what is counted of them."""

import math
from dataclasses import FrozenInstanceError, asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.grounding import (
    Envelope,
    Evidence,
    Ledger,
    Verdict,
    admit,
    coverage,
    envelope_from,
    precision,
    read_ledger,
    record_admission,
)

TEXTS = {"docs/vm.md:1-1": "The swap tolerance is 0.25.", "docs/vm.md:2-2": "Dilation is wide."}
HOLDS = Evidence("docs/vm.md:1-1", "swap tolerance is 0.25")
BESIDE = Evidence("docs/vm.md:2-2", "dilation is wide")
MISQUOTED = Evidence("docs/vm.md:2-2", "swap tolerance is 0.25")
INVENTED = Evidence("docs/none.md:1-1", "swap tolerance is 0.25")
FIELDS = {
    "claim": "The swap tolerance is 0.25",
    "evidence": [{"source": "docs/vm.md:1-1", "quote": "swap tolerance is 0.25"}],
    "confidence": 0.9,
    "source": "kernel-mini",
}


def envelope(*evidence, confidence=0.9):
    return Envelope(FIELDS["claim"], evidence, confidence, "kernel-mini")


def test_an_envelope_is_what_its_fields_say():
    assert envelope_from(FIELDS) == envelope(HOLDS)
    assert envelope_from({**FIELDS, "evidence": []}) == envelope()
    assert envelope_from(asdict(envelope(HOLDS, BESIDE))) == envelope(HOLDS, BESIDE)
    with pytest.raises(FrozenInstanceError):
        envelope().confidence = 1.0  # pyright: ignore


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (None, "envelope must be a mapping; got None"),
        ([FIELDS], "envelope must be a mapping"),
        ("text", "envelope must be a mapping; got 'text'"),
        ({}, r"envelope must have the fields claim, evidence, confidence, source; got \[\]"),
        ({**FIELDS, "more": 1}, "envelope must have the fields .* 'more'"),
        ({**FIELDS, 1: 1}, "envelope must have the fields"),
        ({**FIELDS, "claim": ""}, "claim must be a text that is not empty; got ''"),
        ({**FIELDS, "claim": " \n"}, "claim must be a text that is not empty"),
        ({**FIELDS, "claim": 3}, "claim must be a text that is not empty; got 3"),
        ({**FIELDS, "claim": "\udc80"}, "claim must be valid Unicode"),
        ({**FIELDS, "source": None}, "source must be a text that is not empty; got None"),
        ({**FIELDS, "confidence": 1.1}, r"confidence must be a number in \[0, 1\]; got 1.1"),
        ({**FIELDS, "confidence": -0.1}, "confidence must be a number"),
        ({**FIELDS, "confidence": math.nan}, "confidence must be a number .* nan"),
        ({**FIELDS, "confidence": True}, "confidence must be a number .* True"),
        ({**FIELDS, "confidence": "0.9"}, "confidence must be a number .* '0.9'"),
        ({**FIELDS, "confidence": 10**400}, "confidence must be a number"),
        ({**FIELDS, "evidence": None}, "evidence must be a list; got None"),
        ({**FIELDS, "evidence": "text"}, "evidence must be a list; got 'text'"),
        ({**FIELDS, "evidence": {}}, "evidence must be a list"),
        ({**FIELDS, "evidence": ["docs/vm.md:1-1"]}, r"evidence\[0\] must be a mapping"),
        ({**FIELDS, "evidence": [{"source": "a"}]}, r"evidence\[0\] must have the fields"),
        (
            {**FIELDS, "evidence": [*FIELDS["evidence"], {"source": "a", "quote": ""}]},
            r"evidence\[1\]: quote must be a text that is not empty",
        ),
        (
            {**FIELDS, "evidence": [{"source": 5, "quote": "a"}]},
            r"evidence\[0\]: source must be a text that is not empty; got 5",
        ),
    ],
)
def test_what_is_no_envelope_is_named(fields, words):
    with pytest.raises(ValueError, match=words):
        envelope_from(fields)
    assert coverage([fields, FIELDS]) == 0.5


def test_evidence_must_be_evidence():
    with pytest.raises(ValueError, match="evidence must be a tuple of Evidence; got"):
        Envelope("a", [HOLDS], 0.5, "b")  # pyright: ignore
    with pytest.raises(ValueError, match=r"evidence\[1\] must be Evidence; got 'docs'"):
        Envelope("a", (HOLDS, "docs"), 0.5, "b")  # pyright: ignore


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(
        ["claim", "evidence", "confidence", "source", "quote"]), inner, max_size=5),
)  # fmt: skip


@given(ANYTHING)
def test_untrusted_fields_give_an_envelope_or_a_value_error(fields):
    try:
        formed = envelope_from(fields)
    except ValueError:
        formed = None
    assert coverage([fields]) == float(formed is not None)
    assert formed is None or envelope_from(asdict(formed)) == formed


# Admission --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "verdicts", "trusted"),
    [
        ((), (), False),
        ((HOLDS,), ("holds",), True),
        ((BESIDE,), ("unsupported",), False),
        ((MISQUOTED,), ("misquoted",), False),
        ((INVENTED,), ("unresolved",), False),
        ((BESIDE, HOLDS), ("unsupported", "holds"), True),
        ((HOLDS, MISQUOTED), ("holds", "misquoted"), False),
        ((INVENTED, HOLDS), ("unresolved", "holds"), False),
    ],
)
def test_only_the_grounded_is_trusted(evidence, verdicts, trusted):
    for confidence in (0.0, 0.2, 0.3, 0.31, 1):
        given = envelope(*evidence, confidence=confidence)
        admission = admit(given, TEXTS.get)
        assert admission.verdicts == tuple(Verdict(word) for word in verdicts)
        assert admission.trusted == trusted
        assert admission.stated_confidence == confidence
        kept = confidence if trusted else min(confidence, 0.3)
        assert admission.envelope == replace(given, confidence=kept)


def test_another_judge_of_entailment_is_asked():
    assert not admit(envelope(HOLDS), TEXTS.get, entails=lambda text, claim: False).trusted
    assert admit(envelope(BESIDE), TEXTS.get, entails=lambda text, claim: True).trusted


def test_proposals_are_kept_apart_and_not_lost(tmp_path):
    admissions = [admit(envelope(*cited), TEXTS.get) for cited in [(HOLDS,), (), (INVENTED, HOLDS)]]
    with Ledger(tmp_path / "ledger.jsonl") as ledger:
        for admission in admissions:
            record_admission(ledger, admission)
    records = list(read_ledger(ledger.path))
    assert [record.kind for record in records] == ["trusted", "proposal", "proposal"]
    for record, admission in zip(records, admissions, strict=True):
        said = dict(record.content)
        assert said.pop("stated_confidence") == admission.stated_confidence
        assert said.pop("verdicts") == [verdict.value for verdict in admission.verdicts]
        assert envelope_from(said) == admission.envelope


# What is counted --------------------------------------------------------------------------------


def test_precision_counts_the_grounded_among_the_sure():
    def admitted(*evidence, confidence):
        return admit(envelope(*evidence, confidence=confidence), TEXTS.get)

    unsure = [admitted(HOLDS, confidence=0.69), admitted(confidence=0.1)]
    sure = [
        admitted(HOLDS, confidence=0.7),
        admitted(confidence=0.7),  # cut to 0.3, but it was stated so
        admitted(INVENTED, confidence=1.0),
        admitted(BESIDE, HOLDS, confidence=0.9),
        admitted(MISQUOTED, confidence=0.8),
    ]
    assert precision(unsure + sure) == 2 / 5
    assert precision(sure[:1]) == 1
    assert precision(iter(sure[1:2])) == 0
    assert precision(unsure) is None
    assert precision([]) is None


def test_coverage_counts_the_well_formed():
    assert coverage([]) is None
    assert coverage(iter([envelope(), FIELDS, None, {}, "text", {**FIELDS, "claim": ""}])) == 2 / 6
