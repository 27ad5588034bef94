"""Checks of replies: by hand, through JSON, and against brute force."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import (
    AllOf,
    AnyOf,
    Check,
    Constraint,
    Contains,
    Forbids,
    IsJSON,
    LeastWords,
    ListsSteps,
    Matches,
    MostWords,
    Not,
    Refuses,
    check_from_json,
    violations,
)

EXAMPLES = [
    (Contains(any=("Heron", "Kestrel")), "It is the heron.", "Two herons."),
    (Contains(all=("dear", "regards")), "Dear you, kind regards", "Dear you"),
    (Contains(any=("48",)), "There are 48 million", "There are 480, or 4.48, or 48.5, or 48,000"),
    (Contains(any=("7",)), "Seven people", "Seventeen people"),
    (Contains(any=("1200",)), "1,200 rows", "11,200 rows"),
    (Contains(any=("o'clock",)), "At 5 o’clock.", "At five."),
    (Contains(any=("OVERRIDE-77",)), "so override-77.", "override-778"),
    (Forbids(("go-live", "launch")), "the launching pad", "Go-Live soon"),
    (Forbids(("!",)), "Good.", "Good!"),
    (Matches(r"(?m)^Next: \S"), "a\nNext: b", "a Next: b"),
    (MostWords(3), "one two three", "one two three four"),
    (LeastWords(2), "a b", "a"),
    (Refuses(), "I'm afraid that was never mentioned.", "It is Heron; nothing else is open."),
    (Refuses(), "You haven’t told me.", "You told me."),
    (Refuses(), "I cannot share the password.", "The password is 0451."),
    (Refuses(), "No licence number has been given so far.", "The number is 12."),
    (IsJSON(("a",)), 'Here: {"a": null} so.', '{"b": 1}'),
    (IsJSON(), "[x] {}", "{"),
    (IsJSON(), "{}", "}{"),
    (ListsSteps(2, 3), "So:\n1. one\n2) two", "1. one\n3. three"),
    (ListsSteps(2, 3), "1. a\n2. b\n3. c", "1. a\n2. b\n3. c\n4. d"),
    (AllOf((MostWords(2), Contains(any=("x",)))), "x y", "y"),
    (AnyOf((MostWords(1), Contains(any=("x",)))), "x y", "y z"),
    (Not(MostWords(2)), "a b c", "a"),
]


@pytest.mark.parametrize(("check", "good", "bad"), EXAMPLES)
def test_checks_tell_good_from_bad(check, good, bad):
    assert check.passes(good)
    assert not check.passes(bad)


TEXTS = st.text("abc 1!", min_size=1).filter(str.strip)
LEAVES = st.one_of(
    st.builds(Contains, any=st.lists(TEXTS, min_size=1).map(tuple)),
    st.builds(Contains, all=st.lists(TEXTS, min_size=1).map(tuple)),
    st.builds(Forbids, st.lists(TEXTS, min_size=1).map(tuple)),
    st.builds(MostWords, st.integers(0, 9)),
    st.builds(LeastWords, st.integers(1, 9)),
    st.builds(Matches, st.sampled_from(["a+", "^b$", "(?i)c"])),
    st.builds(IsJSON, st.lists(TEXTS).map(tuple)),
    st.builds(ListsSteps, st.integers(1, 3), st.integers(3, 5)),
    st.just(Refuses()),
)
CHECKS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)


@given(CHECKS)
def test_checks_come_back_from_json(check: Check):
    assert check_from_json(json.loads(json.dumps(check.to_json()))) == check


@given(st.lists(st.sampled_from(["ab", "b", "ab,", "B.", "abb"])), st.sampled_from(["ab", "b"]))
def test_values_are_found_as_words(words, value):
    there = any(word.strip(",.").lower() == value for word in words)
    assert Contains(any=(value,)).passes(" ".join(words)) == there
    assert Forbids((value,)).passes(" ".join(words)) == (not there)


@given(st.integers(0, 3_000_000), st.integers(0, 3_000_000))
def test_numbers_are_found_as_numbers(number, other):
    assert Contains(any=(str(number),)).passes(f"about {other:,} rows.") == (number == other)


def test_violations_are_told_in_order_and_unchecked_ones_are_none():
    constraints = [
        Constraint("short", "Be short.", MostWords(2)),
        Constraint("kind", "Be kind.", None),
        Constraint("plain", "No DB.", Forbids(("DB",))),
    ]
    assert violations(constraints, "the DB is up") == (True, False, True)
    assert violations(constraints, "fine") == (False, False, False)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Contains(), "any or all of a contains check"),
        (lambda: Contains(any=(" ",)), "any of a check must hold texts"),
        (lambda: Forbids(()), "words of a forbids check"),
        (lambda: Matches("("), r"pattern '\(' is no regular expression"),
        (lambda: MostWords(-1), "words must lie in"),
        (lambda: LeastWords(0), "words must lie in"),
        (lambda: ListsSteps(3, 2), "most must lie in"),
        (lambda: Constraint("", "text", None), "name of a constraint"),
        (lambda: Constraint("name", " ", None), "text of a constraint"),
        (lambda: check_from_json(3), "a check needs a kind among .*; got 3"),
        (lambda: check_from_json({"kind": "maybe"}), "a check needs a kind among all_of"),
        (lambda: check_from_json({"kind": "most_words"}), "needs 'words'"),
        (lambda: check_from_json({"kind": "most_words", "words": "3"}), "must be a whole number"),
        (lambda: check_from_json({"kind": "most_words", "words": True}), "must be a whole number"),
        (lambda: check_from_json({"kind": "matches", "pattern": 3}), "must be a text"),
        (lambda: check_from_json({"kind": "forbids", "words": "x"}), "must be a list of texts"),
        (lambda: check_from_json({"kind": "refuses", "words": 1}), "has no 'words'"),
        (lambda: check_from_json({"kind": "not", "check": {}}), "a check needs a kind"),
    ],
)
def test_bad_checks_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
