"""SCAN as a grammar: derivations by the paper's rules, paraphrases, samples."""

import collections

import pytest

from sigma_jax.grammars import ScanGrammar, Tree, interpret_scan, scan_pairs, subtrees

GRAMMAR = ScanGrammar()
PAIRS = scan_pairs()

# Figure 6 of Lake and Baroni: what may stand below each label. D[1] and D[2] are the two words
# of a direction phrase, around the manner between them.
RULES = {
    "C": {("S",), ("S", "and", "S"), ("S", "after", "S")},
    "S": {("V",), ("V", "twice"), ("V", "thrice")},
    "V": {("U",), ("D",), ("D", "opposite", "D"), ("D", "around", "D")},
    "D": {
        *((verb, way) for verb in ("U", "turn") for way in ("left", "right")),
        *((half,) for half in ("U", "turn", "left", "right")),
    },
    "U": {("walk",), ("look",), ("run",), ("jump",)},
}


def leaves(tree: Tree) -> list[str]:
    return [part.label for part in subtrees(tree) if not part.children]


def test_every_tree_is_by_the_rules_over_the_words_of_its_command():
    for pair in PAIRS:
        tree = GRAMMAR.tree(pair.source)
        assert tree.label == "C"
        assert leaves(tree) == pair.source.split()
        for part in subtrees(tree):
            if part.children:
                assert tuple(child.label for child in part.children) in RULES[part.label]
            else:
                assert part.label not in RULES


def test_different_commands_have_different_trees():
    assert len({GRAMMAR.tree(pair.source) for pair in PAIRS}) == len(PAIRS)


def test_the_tree_of_an_example():
    jump = Tree("V", (Tree("U", (Tree("jump"),)),))
    around = Tree("V", (Tree("D", (Tree("turn"),)), Tree("around"), Tree("D", (Tree("left"),))))
    left = Tree("V", (Tree("D", (Tree("U", (Tree("walk"),)), Tree("left"))),))
    assert GRAMMAR.tree("jump twice after turn around left") == Tree(
        "C", (Tree("S", (jump, Tree("twice"))), Tree("after"), Tree("S", (around,)))
    )
    assert GRAMMAR.tree("walk left") == Tree("C", (Tree("S", (left,)),))


def test_paraphrases_mean_the_same_and_are_all_that_do():
    together = collections.defaultdict(set)
    for pair in PAIRS:
        together[pair.target].add(pair.source)
    for pair in PAIRS[::7]:
        others = GRAMMAR.paraphrases(pair.source)
        assert {interpret_scan(other) for other in others} <= {pair.target}
        assert len(others) == len(set(others))
        assert {pair.source, *others} == together[pair.target]
        assert pair.source not in others


@pytest.mark.parametrize(
    ("source", "among"),
    [
        ("walk and jump left twice", "jump left twice after walk"),
        ("jump left twice after walk", "walk and jump left twice"),
        ("run twice", "run and run"),
        ("run thrice", "run twice and run"),
        ("turn opposite left", "turn left twice"),
        ("jump opposite right", "turn right and jump right"),
        ("turn around left", "turn left twice and turn left twice"),
        ("look around right", "look right after look right thrice"),
    ],
)
def test_the_equivalences_of_the_language_are_among_them(source, among):
    assert among in GRAMMAR.paraphrases(source)


def test_only_the_six_single_actions_can_be_said_in_one_way():
    alone = {pair.source for pair in PAIRS if not GRAMMAR.paraphrases(pair.source)}
    assert alone == {"walk", "look", "run", "jump", "turn left", "turn right"}


def test_spaces_do_not_count():
    assert GRAMMAR.tree(" run  twice ") == GRAMMAR.tree("run twice")
    assert GRAMMAR.paraphrases(" run  twice ") == GRAMMAR.paraphrases("run twice")


def test_a_sample_is_of_the_grammar_and_a_function_of_its_seed():
    sample = GRAMMAR.sample(3_000, seed=5)
    assert sample == GRAMMAR.sample(3_000, seed=5)
    assert sample[:10] == GRAMMAR.sample(10, seed=5)
    assert sample != GRAMMAR.sample(3_000, seed=6)
    assert set(sample) <= set(PAIRS)
    assert [pair.source for pair in GRAMMAR.sample(3, seed=0)] == FROZEN
    # Each command is as likely as another.
    words = collections.Counter(
        word for pair in GRAMMAR.sample(20_000, seed=1) for word in pair.source.split()
    )
    assert words["and"] / 20_000 == pytest.approx(10_404 / 20_910, abs=0.02)
    assert words["after"] / 20_000 == pytest.approx(10_404 / 20_910, abs=0.02)


FROZEN = [
    "turn left thrice and look thrice",
    "jump opposite right thrice and walk opposite left twice",
    "look around left and run around left thrice",
]


def test_bad_input():
    for call in (GRAMMAR.tree, GRAMMAR.meaning, GRAMMAR.paraphrases):
        with pytest.raises(ValueError, match="'jump and' is not a SCAN command"):
            call("jump and")
    with pytest.raises(ValueError, match="count must be at least 0; got -1"):
        GRAMMAR.sample(-1, seed=0)
    assert GRAMMAR.sample(0, seed=0) == ()
