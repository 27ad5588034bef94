"""Evidence, checked: a citation resolves, its quotation stands there, the text supports the claim.

The support is lexical. It compares words and knows no meaning: it draws no inference, and sees no
synonyms. It refuses when in doubt, so it misses much that a reader would accept. It can still be
deceived, by a denial in another sentence ("So it is said. It is not so."), or by words that stand
together without belonging together. A model of entailment can be passed in its place.
"""

import enum
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain, groupby

from .envelopes import Evidence
from .statement_words import Word, condition, punctuation, words

_MOST_WORDS = 100  # of a claim that is not in the text word for word


class Verdict(enum.Enum):
    """What a check of evidence found."""

    HOLDS = "holds"
    UNRESOLVED = "unresolved"
    """The citation leads nowhere."""
    MISQUOTED = "misquoted"
    """Where it leads, the quotation does not stand."""
    UNSUPPORTED = "unsupported"
    """The quotation stands there, but the text does not say what is claimed."""


def supports(text: str, claim: str) -> bool:
    """Whether a text contains a claim, or holds all its words closely enough to say it.

    The claim must have a word of its own, beside numbers and words such as "it is not". Then either
    its words stand in the text, one after the other, punctuation included; or, for a claim of one
    sentence or two, within as many sentences of the text all of its words and numbers occur in the
    claim's order, are more than half of what stands there, and no other number stands between
    them. Both ways, a word under a negation, a comparison or a bound ("not", "<", "at least") is
    another word, and the clauses that were used, with those that govern them, must hold the same
    words that deny, condition or weaken ("not", "if", "may", "only") as the claim, as often.

    Case, white space, marks of Markdown and forms of Unicode make no difference, and numbers are
    compared by value. No inference, no synonyms, no inflection.
    """
    said = words(claim)
    if not any(word.names for word in said):
        return False
    passage = words(text)
    turned = Counter(word.turns for word in said if word.turns)
    spans = chain(_verbatim(passage, _trimmed(said)), _in_order(passage, said))
    return any(_turned_alike(passage, span, turned) for span in spans)


def check_evidence(
    evidence: Evidence,
    claim: str,
    resolve: Callable[[str], str | None],
    entails: Callable[[str, str], bool] = supports,
) -> Verdict:
    """Check one piece of evidence for a claim.

    **Arguments:** `resolve`, from a source to the text that it names, or None if there is none;
    `entails(text, claim)`, whether that text says it. The quotation is compared as in `supports`,
    word for word, and must have a word or number.
    """
    text = resolve(evidence.source)
    if text is None:
        return Verdict.UNRESOLVED
    quoted = _trimmed(words(evidence.quote))
    if not quoted or next(_verbatim(words(text), quoted), None) is None:
        return Verdict.MISQUOTED
    return Verdict.HOLDS if entails(text, claim) else Verdict.UNSUPPORTED


def _trimmed(said: list[Word]) -> list[Word]:
    """Without the punctuation at both ends."""
    kept = [index for index, word in enumerate(said) if not punctuation(word)]
    return said[kept[0] : kept[-1] + 1] if kept else []


def _verbatim(passage: list[Word], wanted: list[Word]) -> Iterator[range]:
    """Where in the passage the wanted words stand, one after the other."""
    text = "".join(f"\n{word.text}" for word in passage) + "\n"
    sought = "".join(f"\n{word.text}" for word in wanted) + "\n"
    at = text.find(sought)
    while at >= 0:
        start = text.count("\n", 0, at)
        yield range(start, start + len(wanted))
        at = text.find(sought, at + 1)


def _in_order(passage: list[Word], said: list[Word]) -> Iterator[range]:
    """The closest places where the claim's words stand in its order, with no other number."""
    wanted = [word.text for word in said if word.counts]
    numbers = Counter(word.number for word in said if word.number)
    sentences = said[-1].sentence + 1
    if sentences > 2 or len(wanted) > _MOST_WORDS:
        return
    counting = [index for index, word in enumerate(passage) if word.counts]
    for last, end in enumerate(counting):
        # More than half of what stands there must be the claim's, so it begins no further back.
        start = _start(passage, counting[max(0, last - 2 * len(wanted) + 2) : last + 1], wanted)
        if start is None or passage[end].sentence - passage[start].sentence >= sentences:
            continue
        there = Counter(word.number for word in passage[start : end + 1] if word.number)
        if not numbers or there == numbers:
            yield range(start, end + 1)


def _start(passage: list[Word], near: list[int], wanted: list[str]) -> int | None:
    """Where the shortest run that holds `wanted` in order, and ends where `near` does, begins."""
    left = len(wanted)
    for place in reversed(near):
        if passage[place].text == wanted[left - 1]:
            left -= 1
        elif left == len(wanted):
            return None
        if not left:
            return place
    return None


def _turned_alike(passage: list[Word], span: range, turned: Counter[str]) -> bool:
    """Whether the clauses that a span lies in, and those over them, are turned as the claim is."""
    first, last = passage[span[0]], passage[span[-1]]
    begin = bisect_left(passage, first.sentence, key=_sentence)
    end = bisect_right(passage, last.sentence, key=_sentence)
    found = Counter[str]()
    for clause, group in groupby(passage[begin:end], key=lambda word: word.clause):
        members = list(group)
        if first.clause <= clause <= last.clause or _governs(members, clause < first.clause):
            found.update(word.turns for word in members if word.turns)
    return found == turned


def _governs(clause: list[Word], before: bool) -> bool:
    """Whether a clause turns its sentence: "if it is so", "it is wrong to say" before it, "not so".

    One that has more to say ("output is not lost: it …") speaks for itself.
    """
    if not any(word.turns for word in clause):
        return False
    others = sum(word.counts and not word.turns for word in clause)
    return any(condition(word) for word in clause) or others <= (2 if before else 0)


def _sentence(word: Word) -> int:
    return word.sentence
