"""Probes of a small language whose right ones can be listed, and of SCAN."""

import hashlib

import pytest

from sigma_jax.grammars import (
    Grammar,
    Pair,
    ScanGrammar,
    Tree,
    overlap,
    probes,
    scan_forbids,
    scan_split,
    subtrees,
)


class Sums:
    """Digits, sums such as "1 + 2", and digits negated, "- 1"; the meaning is the value."""

    name = "sums"

    def __init__(self, digits: str):
        sums = [f"{one} + {two}" for one in digits for two in digits]
        self.sources = [*digits, *sums, *(f"- {digit}" for digit in digits)]

    def meaning(self, source: str) -> str:
        if source not in self.sources:
            raise ValueError(f"{source!r} is not a sum.")
        return str(sum(int(part) for part in source.replace("- ", "-").split(" + ")))

    def tree(self, source: str) -> Tree:
        """A sum of its numbers with the sign between; a sign alone is a function's name."""
        self.meaning(source)
        numbers = [Tree("number", (Tree(word),)) for word in source.split() if word.isdigit()]
        if "+" in source:
            return Tree("sum", (numbers[0], Tree("+"), numbers[1]))
        return Tree("sum", (Tree("-", tuple(numbers)) if "-" in source else numbers[0],))

    def paraphrases(self, source: str) -> tuple[str, ...]:
        return ()

    def sample(self, count: int, seed: int) -> tuple[Pair, ...]:
        order = [self.sources[(seed + at) % len(self.sources)] for at in range(count)]
        return tuple(Pair(source, self.meaning(source)) for source in order)


def of(grammar: Grammar, *sources: str) -> tuple[Pair, ...]:
    return tuple(Pair(source, grammar.meaning(source)) for source in sources)


def test_probes_are_exactly_the_new_combinations_of_known_phrases():
    sums = Sums("123")
    train = of(sums, "1", "2", "1 + 2")
    # 3 is unknown, "+" and the numbers 1 and 2 are known; "1 + 2" is in train.
    found = probes(sums, train, 3, seed=0, draws=200)
    assert {pair.source for pair in found} == {"2 + 1", "1 + 1", "2 + 2"}
    assert all(pair.target == sums.meaning(pair.source) for pair in found)
    assert set(probes(sums, train, 3, seed=0, draws=200, parts="words")) == set(found)


def test_a_function_of_one_phrase_combines_too():
    sums = Sums("123")
    train = of(sums, "1", "2", "- 1")
    assert probes(sums, train, 1, seed=0, draws=200) == (Pair("- 2", "-2"),)
    with pytest.raises(ValueError, match="hold only 1 sentences"):
        probes(sums, train, 2, seed=0, draws=200)


def test_a_word_alone_is_no_combination():
    sums = Sums("12")
    train = of(sums, "1 + 2", "2 + 1", "1 + 1", "2 + 2")
    for parts in ("phrases", "words"):
        with pytest.raises(ValueError, match=f"hold only 0 sentences of known {parts}"):
            probes(sums, train, 1, seed=0, draws=200, parts=parts)


def test_what_is_in_the_test_or_not_allowed_is_no_probe():
    sums = Sums("12")
    train = of(sums, "1", "2", "1 + 2")
    found = probes(sums, train, 2, seed=0, without=of(sums, "2 + 2"), draws=200)
    assert {pair.source for pair in found} == {"2 + 1", "1 + 1"}
    found = probes(sums, train, 1, seed=0, allowed=lambda source: source == "2 + 2", draws=200)
    assert found == (Pair("2 + 2", "4"),)


def test_too_few_are_not_passed_over_in_silence():
    sums = Sums("123")
    train = of(sums, "1", "2", "1 + 2")
    with pytest.raises(ValueError, match="count is 4, but 200 draws from sums hold only 3"):
        probes(sums, train, 4, seed=0, draws=200)
    with pytest.raises(ValueError, match="hold only 0 sentences of known phrases"):
        probes(sums, (), 1, seed=0, draws=200)


def test_bad_input():
    sums = Sums("12")
    with pytest.raises(ValueError, match="count must be at least 1; got 0"):
        probes(sums, of(sums, "1"), 0, seed=0)
    with pytest.raises(ValueError, match="parts must be 'phrases' or 'words'; got 'letters'"):
        probes(sums, of(sums, "1"), 1, seed=0, parts="letters")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'1 - 2' is not a sum"):
        probes(sums, (Pair("1 - 2", "-1"),), 1, seed=0)


TRAIN, TEST = scan_split("addprim_jump")
SEEN = tuple(pair for at, pair in enumerate(TRAIN) if at % 7 or pair.source == "jump")
SCAN = ScanGrammar()


def test_of_scan_every_phrase_is_known_and_the_whole_is_not():
    found = probes(SCAN, SEEN, 300, seed=1, without=TEST)
    known = {part for pair in SEEN for part in subtrees(SCAN.tree(pair.source))}
    assert overlap(found, SEEN) == overlap(found, TEST) == 0
    assert len({pair.source for pair in found}) == 300
    for pair in found:
        assert pair.target == SCAN.meaning(pair.source)
        whole = SCAN.tree(pair.source)
        while len(whole.children) == 1:
            whole = whole.children[0]
        assert set(whole.children) <= known
        assert whole not in known
        assert not scan_forbids("addprim_jump", pair.source)


def test_of_scan_they_depend_on_the_seed_alone():
    found = probes(SCAN, SEEN, 50, seed=1, without=TEST)
    assert found == probes(SCAN, SEEN, 50, seed=1, without=TEST)
    assert found != probes(SCAN, SEEN, 50, seed=2, without=TEST)
    text = "\n".join(sorted(pair.source for pair in found))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FROZEN


FROZEN = "773a1da1420e4ce5"


def test_a_combination_that_lies_deeper_is_found_by_words():
    """With "look left thrice" held out, "walk and look left thrice" has an unknown phrase."""
    hidden = "look left thrice"
    train = tuple(pair for pair in TRAIN if hidden not in pair.source)
    aside = {pair.source for pair in TRAIN} - {pair.source for pair in train}
    only = {"count": 20, "seed": 0, "without": TEST, "allowed": aside.__contains__}
    found = probes(SCAN, train, **only, parts="words")
    assert all(hidden in pair.source for pair in found)
    with pytest.raises(ValueError, match="hold only 1 sentences of known phrases"):
        probes(SCAN, train, **only)


def test_a_language_that_is_divided_whole_has_no_probe():
    with pytest.raises(ValueError, match="hold only 0 sentences of known phrases"):
        probes(SCAN, TRAIN, 1, seed=0, without=TEST, draws=2_000)


def test_overlap_counts_different_sources():
    train = (Pair("a", "1"), Pair("a", "1"), Pair("b", "2"))
    assert overlap(train, (Pair("b", "3"), Pair("c", "4"), Pair("b", "2"))) == 1
    assert overlap(train, ()) == 0
