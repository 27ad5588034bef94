"""The distance of trees against every mapping of small ones, and the axioms of a metric."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax.grammars import ScanGrammar, Tree, subtrees, tree_distance, tree_distances

LABELS = st.sampled_from("abc")


@st.composite
def trees(draw: st.DrawFn, most: int) -> Tree:
    """Trees of at most `most` nodes over three labels: each node hangs below an earlier one."""
    count = draw(st.integers(1, most))
    labels = [draw(LABELS) for _ in range(count)]
    parents = [draw(st.integers(0, node - 1)) for node in range(1, count)]

    def build(node: int) -> Tree:
        below = (child for child, parent in enumerate(parents, start=1) if parent == node)
        return Tree(labels[node], tuple(build(child) for child in below))

    return build(0)


def nodes_with_paths(tree: Tree, path: tuple[int, ...] = ()) -> list[tuple[tuple[int, ...], str]]:
    below = [
        node
        for at, child in enumerate(tree.children)
        for node in nodes_with_paths(child, (*path, at))
    ]
    return [(path, tree.label), *below]


def relation(one: tuple[int, ...], other: tuple[int, ...]) -> str:
    """How two different nodes stand to each other in their tree."""
    if other[: len(one)] == one:
        return "above"
    if one[: len(other)] == other:
        return "below"
    return "left" if one < other else "right"


def by_every_mapping(one: Tree, other: Tree) -> int:
    """Tai's definition: the cheapest mapping that keeps ancestry and order, among all of them."""
    first, second = nodes_with_paths(one), nodes_with_paths(other)

    def cheapest(at: int, pairs: tuple) -> int:
        if at == len(first):
            changed = sum(label != to for (_, label), (_, to) in pairs)
            return len(first) + len(second) - 2 * len(pairs) + changed
        options = [cheapest(at + 1, pairs)]
        for node in second:
            keeps = all(
                node[0] != mapped[0]
                and relation(source[0], first[at][0]) == relation(mapped[0], node[0])
                for source, mapped in pairs
            )
            if keeps:
                options.append(cheapest(at + 1, (*pairs, (first[at], node))))
        return min(options)

    return cheapest(0, ())


@given(trees(5), trees(5))
@settings(max_examples=200)
def test_the_distance_is_that_of_the_cheapest_mapping(one, other):
    assert tree_distance(one, other) == by_every_mapping(one, other)


@given(trees(9), trees(9), trees(9))
@settings(max_examples=100)
def test_it_is_a_metric(one, two, three):
    assert tree_distance(one, one) == 0
    assert (tree_distance(one, two) == 0) == (one == two)
    assert tree_distance(one, two) == tree_distance(two, one)
    assert tree_distance(one, three) <= tree_distance(one, two) + tree_distance(two, three)


def test_the_example_of_the_paper():
    """Zhang and Shasha (1989), figure 4: delete c, insert it above the rest."""
    one = Tree("f", (Tree("d", (Tree("a"), Tree("c", (Tree("b"),)))), Tree("e")))
    other = Tree("f", (Tree("c", (Tree("d", (Tree("a"), Tree("b"))),)), Tree("e")))
    assert tree_distance(one, other) == 2


def test_chains_are_as_far_apart_as_their_words():
    """A tree without branches is a string; Levenshtein's "kitten" and "sitting" differ by 3."""

    def chain(word: str) -> Tree:
        return Tree(word[0], (chain(word[1:]),) if len(word) > 1 else ())

    def flat(word: str) -> Tree:
        return Tree("root", tuple(Tree(letter) for letter in word))

    assert tree_distance(chain("kitten"), chain("sitting")) == 3
    assert tree_distance(flat("kitten"), flat("sitting")) == 3


@given(st.lists(trees(8), min_size=1, max_size=6))
def test_all_pairs_at_once_are_what_each_pair_is_alone(some):
    """Parts recur among these, so that what is kept between pairs is used, and dropped."""
    distances = tree_distances(some)
    for at, to in itertools.product(range(len(some)), repeat=2):
        assert distances[at, to] == tree_distance(some[at], some[to])


def test_all_pairs_of_scan_trees():
    grammar = ScanGrammar()
    some = [grammar.tree(pair.source) for pair in grammar.sample(40, seed=3)]
    distances = tree_distances(some)
    assert distances.shape == (40, 40)
    assert (distances == distances.T).all()
    assert (np.diag(distances) == 0).all()
    for at, to in ((0, 1), (7, 30), (39, 2)):
        assert distances[at, to] == tree_distance(some[at], some[to])


def test_commands_that_differ_by_a_word_are_one_edit_apart():
    grammar = ScanGrammar()
    one, two, three = (
        grammar.tree(f"walk around left twice and {end}") for end in ("run", "jump", "run thrice")
    )
    assert tree_distance(one, two) == tree_distance(one, three) == 1
    assert tree_distance(two, three) == 2


def test_no_trees_have_no_distances():
    assert tree_distances([]).shape == (0, 0)


def test_subtrees_are_the_tree_and_all_below_it():
    tree = Tree("a", (Tree("b", (Tree("c"),)), Tree("d")))
    assert [part.label for part in subtrees(tree)] == ["a", "b", "c", "d"]
    assert next(subtrees(tree)) == tree


@pytest.mark.parametrize("depth", [1, 300])
def test_deep_trees(depth):
    tree = Tree("end")
    for _ in range(depth):
        tree = Tree("a", (tree,))
    assert tree_distance(tree, Tree("end")) == depth
