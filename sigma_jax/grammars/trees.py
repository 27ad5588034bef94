"""Ordered labelled trees, and how far one is from another."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int


class Tree(NamedTuple):
    """A label over its children, in order; a leaf has none."""

    label: str
    children: tuple["Tree", ...] = ()


def subtrees(tree: Tree) -> Iterator[Tree]:
    """The tree itself and everything below it, each parent before its children."""
    yield tree
    for child in tree.children:
        yield from subtrees(child)


def tree_distance(one: Tree, other: Tree) -> int:
    """The fewest edits that make `other` of `one`; each relabels, deletes or inserts one node.

    Deleting a node puts its children in its place; inserting is the reverse. It is a metric: zero
    only between equal trees, symmetric, and it satisfies the triangle inequality.

    Source: Zhang and Shasha, "Simple fast algorithms for the editing distance between trees and
    related problems", SIAM Journal on Computing 18 (1989), with unit costs.
    """
    return int(tree_distances((one, other))[0, 1])


def tree_distances(trees: Sequence[Tree]) -> Int[np.ndarray, "trees trees"]:
    """The `tree_distance` of every pair; much faster than pair by pair where parts recur.

    What two parts are apart is computed once, however many trees they stand in. Two trees of n
    nodes take O(n² min(depth, leaves)²) steps at worst.
    """
    kinds: dict[tuple[str, tuple[int, ...]], int] = {}
    flat = [_flatten(tree, kinds) for tree in trees]
    last_use = {kind: at for at, tree in enumerate(flat) for kind in tree.kinds}
    known: dict[int, dict[int, int]] = {kind: {} for kind in last_use}
    distances = np.zeros((len(flat), len(flat)), np.int64)
    for at, one in enumerate(flat):
        for to in range(at + 1, len(flat)):
            distances[at, to] = distances[to, at] = _distance(one, flat[to], known)
        for kind in set(one.kinds):
            if last_use[kind] == at:
                known[kind].clear()
    return distances


class _Flat(NamedTuple):
    """A tree's nodes in postorder."""

    labels: list[str]
    leftmost: list[int]
    """The leftmost leaf below each node."""
    kinds: list[int]
    """Equal for equal subtrees, of this tree or another."""
    keyroots: list[int]
    """The nodes that are no first child: the subtrees that need a table of their own."""


def _flatten(tree: Tree, kinds: dict[tuple[str, tuple[int, ...]], int]) -> _Flat:
    flat = _Flat([], [], [], [])

    def visit(node: Tree) -> int:
        below = [visit(child) for child in node.children]
        at = len(flat.labels)
        flat.labels.append(node.label)
        flat.leftmost.append(flat.leftmost[below[0]] if below else at)
        known_as = (node.label, tuple(flat.kinds[child] for child in below))
        flat.kinds.append(kinds.setdefault(known_as, len(kinds)))
        return at

    visit(tree)
    # The last node over each leftmost leaf, in postorder.
    flat.keyroots.extend(sorted({leaf: at for at, leaf in enumerate(flat.leftmost)}.values()))
    return flat


def _distance(one: _Flat, other: _Flat, known: dict[int, dict[int, int]]) -> int:
    """Fills `known` with what these trees' parts are apart; the whole trees come last."""
    for at in one.keyroots:
        row = known[one.kinds[at]]
        for to in other.keyroots:
            if other.kinds[to] not in row:
                _fill(one, at, other, to, known)
    return known[one.kinds[-1]][other.kinds[-1]]


def _fill(one: _Flat, at: int, other: _Flat, to: int, known: dict[int, dict[int, int]]) -> None:
    """The forest distances below keyroots `at` and `to`, and from them the tree distances.

    Row x, column y of the table is the distance between the forests of the first x and first y
    nodes below the two, in postorder. Whole trees among them go into `known`.
    """
    start, begin = one.leftmost[at], other.leftmost[to]
    columns = [
        (other.labels[node], other.kinds[node], other.leftmost[node] - begin)
        for node in range(begin, to + 1)
    ]
    above = list(range(len(columns) + 1))
    table = [above]
    for node in range(start, at + 1):
        label, row_known = one.labels[node], known[one.kinds[node]]
        before = table[one.leftmost[node] - start]
        whole = one.leftmost[node] == start
        left = above[0] + 1
        row = [left]
        for y, (other_label, kind, first) in enumerate(columns):
            if whole and first == 0:
                best = above[y] + (label != other_label)
            else:
                best = before[first] + row_known[kind]
            if left < best:
                best = left + 1
            if above[y + 1] < best:
                best = above[y + 1] + 1
            if whole and first == 0:
                row_known[kind] = best
            row.append(best)
            left = best
        table.append(row)
        above = row
