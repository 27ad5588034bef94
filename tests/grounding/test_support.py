"""Support: what a text says, what it does not, and what was made up to look as if it did."""

from decimal import Decimal

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sigma_jax.grounding import Evidence, Verdict, check_evidence, supports

DOCUMENT = """# Grounding

Every accepted output is an envelope. Ungrounded output is not lost: its confidence is capped at
0.3 and it goes to proposals, not to trusted memory. The `ledger` is **append-only** and
hash-chained (sha256 over content), so that an edit is found.

| rule | value |
|---|---|
| quota hit | 60 s |
| recovery window | 30 s, doubling with each failed probe, at most 600 s |

- A swap is accepted if its delta is < 0.25.
- Σ̇ is integrated by an explicit step of 10⁻² s; it isn’t symmetric.
> A quotation may go
> over two lines.
"""


@pytest.mark.parametrize(
    "claim",
    [
        "Every accepted output is an envelope.",
        "ITS CONFIDENCE  is\n capped at 0.3",
        "its confidence is capped at 0.300",
        "The confidence is capped at .3 and goes to proposals",  # other small words, none moved
        "Ungrounded output is not lost",
        "the ledger is append-only and `hash-chained`",
        "The “ledger” is append‑only",  # a non-breaking hyphen
        "quota hit: 60 s",
        "recovery window 30 s",
        "at most 600 s |\n\n- A swap is accepted if its delta is < 0.25",  # two items
        "A swap is accepted if its delta is < 0.25",
        "an explicit step of 10^-2 s",
        "an explicit step of 0.01 s",
        "an explicit step of 1e-2 s",
        "it is not symmetric",
        "a quotation may go over two lines",
    ],
)
def test_what_a_document_says_is_supported(claim):
    assert supports(DOCUMENT, claim)


@pytest.mark.parametrize(
    "claim",
    [
        "its confidence is capped at 0.4",
        "its confidence is capped at 3",
        "its confidence is not capped at 0.3",
        "Ungrounded output is lost",
        "it goes to trusted memory",
        "it goes not to proposals",
        "the ledger is not append-only",
        "quota hit 30 s",  # of the next row
        "recovery window 60 s",
        "recovery window 600 s",  # one number of three
        "its delta is 0.25",
        "its delta is > 0.25",
        "a step of 102 s",
        "it is symmetric",
        "a quotation goes over two lines",  # it only may
        "content of trusted envelope edit",  # scattered
        "memory is accepted output",  # out of order
        "the ledger is a database",  # a word that is not there
        "",
        " \n",
        "...",
        "0.3",
        "it is not",
        "< 0.25",
        "at most 600",
    ],
)
def test_what_it_does_not_say_is_not(claim):
    assert not supports(DOCUMENT, claim)


@pytest.mark.parametrize(
    ("text", "claim"),
    [
        ("The loop is not stable.", "The loop is stable."),
        ("The loop isn't stable.", "The loop is stable."),
        ("The loop cannot be stable.", "The loop can be stable."),
        ("The loop is stable.", "The loop is not stable."),
        ("The loop is no longer stable.", "The loop is stable."),
        ("It is false that the loop is stable.", "The loop is stable."),
        ("It is wrong to say, as some do, that the loop is stable.", "The loop is stable."),
        ("False: the loop is stable.", "The loop is stable."),
        ("The loop is stable, which is wrong.", "The loop is stable."),
        ("The loop is stable? No.", "The loop is stable."),
        ("If the step is small, the loop is stable.", "The loop is stable."),
        ("The loop is stable, if the step is small.", "The loop is stable."),
        ("The loop may be stable.", "The loop is stable."),
        ("Only the loop is stable.", "The loop is stable."),
        ("The loop fails to converge.", "The loop converge."),
        ("The loop is non-zero.", "The loop is zero."),
        ("The loop is not fast but stable.", "The loop is not stable."),
        ("The loop is not fast but stable.", "The loop is stable but not fast."),
        ("The loop or the server is stable.", "The loop and the server is stable."),
        ("The loop is fast and the server is stable.", "The loop is stable."),
        ("The loop is fast. The server is stable.", "The loop is stable."),
        ("We watched the loop. Stable servers run.", "The loop is stable."),
        ("The quota hits 60 and windows 30 s.", "The quota hits 30 s."),
        ("The teacher corrects the student.", "The student corrects the teacher."),
        ("The cap is 0.3, not 0.5.", "The cap is 0.5."),
        ("The cap is not 0.3, but 0.5.", "The cap is not 0.5."),
        ("It opens after at least 3 errors.", "It opens after 3 errors."),
        ("It opens after more than 3 errors.", "It opens after 3 errors."),
        ("It opens after 100 errors.", "It opens after 10 errors."),
        ("It opens after 3 % errors.", "It opens after 3 errors."),
        ("The drift is -3.", "The drift is 3."),
        ("The drift is 2*3.", "The drift is 23."),
        ("The drift is 10⁴.", "The drift is 104."),
        ("The drift is 3½.", "The drift is 31."),
        ("The drift is 10₂.", "The drift is 102."),
        ("The version is 1.2.3.", "The version is 1.2."),
        ("The loop is un\u200bstable.", "The loop is stable."),
    ],
)
def test_claims_that_only_look_supported_are_refused(text, claim):
    assert not supports(text, claim)
    assert supports(text, text)
    assert supports(claim, claim)


# Properties -------------------------------------------------------------------------------------

NAMES = ["loop", "kernel", "drift", "ledger", "golden", "swap", "gate", "noise", "token", "depth"]
SMALL = ["the", "is", "of", "and", "it"]
NUMBERS = st.integers(0, 999).map(str)


@st.composite
def sentences(draw):
    """A few words, the first of them a name, and perhaps a number."""
    said = [draw(st.sampled_from(NAMES))]
    said += draw(st.lists(st.sampled_from(NAMES + SMALL), min_size=1, max_size=7))
    if draw(st.booleans()):
        said.insert(draw(st.integers(1, len(said))), draw(NUMBERS))
    return said


TEXTS = st.lists(sentences(), min_size=1, max_size=5)


def spelled(text):
    return " ".join(f"{' '.join(said).capitalize()}." for said in text)


@settings(max_examples=100)
@given(TEXTS, st.data())
def test_every_sentence_of_a_text_is_supported(text, data):
    said = data.draw(st.sampled_from(text))
    assert supports(spelled(text), " ".join(said))
    dressed = "\n".join(f"**{word.upper()}**" for word in said) + "!"
    assert supports(spelled(text), dressed)


@settings(max_examples=100)
@given(TEXTS, st.data())
def test_another_number_breaks_support(text, data):
    said = list(data.draw(st.sampled_from(text)))
    numbers = [index for index, word in enumerate(said) if word.isdigit()]
    other = data.draw(NUMBERS)
    assume(numbers and all(other not in sentence for sentence in text))
    said[numbers[0]] = other
    assert not supports(spelled(text), " ".join(said))


@settings(max_examples=100)
@given(TEXTS, st.data())
def test_one_not_more_or_less_breaks_support(text, data):
    said = data.draw(st.sampled_from(text))
    place = data.draw(st.integers(0, len(said)))
    denied = [*said[:place], "not", *said[place:]]
    assert not supports(spelled(text), " ".join(denied))
    assert supports(spelled([*text, denied]), " ".join(denied))
    assert not supports(spelled([denied]), " ".join(said))


@given(TEXTS, st.data())
def test_a_word_that_is_not_there_breaks_support(text, data):
    said = list(data.draw(st.sampled_from(text)))
    said.insert(data.draw(st.integers(0, len(said))), "elsewhere")
    assert not supports(spelled(text), " ".join(said))


@settings(max_examples=200)
@given(
    st.decimals(-(10**6), 10**6, places=3),
    st.decimals(-(10**6), 10**6, places=3) | st.none(),
    st.sampled_from(["f", "e", ",", ".6f"]),
)
def test_numbers_are_compared_by_value(one, other, form):
    """Against the standard library's own decimals; a minus zero is zero."""
    other = one if other is None else other
    text, claim = f"The cap of {one} holds.", f"the cap of {other:{form}} holds"
    assert supports(text, claim) == (Decimal(one) == Decimal(other))


@settings(max_examples=300)
@given(st.text(), st.text())
def test_any_text_is_read_and_says_itself(text, claim):
    assert supports(text, claim) in (True, False)
    assert supports(f"{text} loop", f"{text} loop")
    assert not supports(text, f"{claim} w0rdless")


# Evidence ---------------------------------------------------------------------------------------

LINES = {"docs/grounding.md:1-20": DOCUMENT, "empty.md:1-1": ""}
QUOTE = "its confidence is capped at 0.3"


@pytest.mark.parametrize(
    ("source", "quote", "claim", "verdict"),
    [
        ("docs/grounding.md:1-20", QUOTE, "The confidence is capped at 0.3", Verdict.HOLDS),
        ("docs/grounding.md:1-20", "CAPPED  at **0.3**", "confidence is capped at 0.3", "holds"),
        ("docs/grounding.md:1-21", QUOTE, "The confidence is capped at 0.3", Verdict.UNRESOLVED),
        ("empty.md:1-1", QUOTE, "The confidence is capped at 0.3", Verdict.MISQUOTED),
        ("docs/grounding.md:1-20", "capped at 0.4", "confidence is capped at 0.3", "misquoted"),
        ("docs/grounding.md:1-20", "fidence is capped", "confidence is capped", "misquoted"),
        ("docs/grounding.md:1-20", "confidence ... 0.3", "confidence is capped", "misquoted"),
        ("docs/grounding.md:1-20", "…", "confidence is capped at 0.3", Verdict.MISQUOTED),
        ("docs/grounding.md:1-20", QUOTE, "The confidence is capped at 0.4", Verdict.UNSUPPORTED),
        ("docs/grounding.md:1-20", QUOTE, "the ledger is a database", "unsupported"),
    ],
)
def test_evidence_is_checked(source, quote, claim, verdict):
    assert check_evidence(Evidence(source, quote), claim, LINES.get) is Verdict(verdict)


def test_another_judge_of_entailment_can_be_passed():
    asked = []

    def entails(text, claim):
        asked.append((text, claim))
        return claim == "so it is"

    cited = Evidence("docs/grounding.md:1-20", QUOTE)
    assert check_evidence(cited, "so it is", LINES.get, entails) is Verdict.HOLDS
    assert check_evidence(cited, QUOTE, LINES.get, entails) is Verdict.UNSUPPORTED
    assert asked == [(DOCUMENT, "so it is"), (DOCUMENT, QUOTE)]
