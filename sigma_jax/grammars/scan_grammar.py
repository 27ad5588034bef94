"""SCAN as a grammar: structure trees by its rules, commands that mean the same, samples."""

import random
from collections.abc import Sequence
from functools import lru_cache

from .scan import ScanPair, interpret_scan, scan_pairs
from .trees import Tree


class ScanGrammar:
    """The 20,910 commands of SCAN.

    Source: Lake and Baroni, "Generalization without Systematicity" (arXiv 1711.00350), figures 6
    and 7.
    """

    name = "scan"

    def meaning(self, source: str) -> str:
        """The actions of a command. **Raises** `ValueError` if it is not of the grammar."""
        return interpret_scan(source)

    def tree(self, source: str) -> Tree:
        """The derivation of a command by the rules C, S, V, D and U; its leaves are its words.

        In V → D[1] around D[2] the direction phrase stands on both sides of the word between, so
        that "jump around left" is V(D(U(jump)), around, D(left)).

        **Raises** `ValueError` if it is not of the grammar.
        """
        interpret_scan(source)
        return _command(source.split())

    def paraphrases(self, source: str) -> tuple[str, ...]:
        """All other commands with the same actions, in the order of the grammar's rules.

        Such are "y after x" for "x and y", "x and x" for "x twice", "turn left twice" for "turn
        opposite left". A split that holds out a phrase may hold out a paraphrase of what it
        trains on: see `scan_forbids`.

        **Raises** `ValueError` if it is not of the grammar.
        """
        own = " ".join(source.split())
        return tuple(other for other in _by_actions()[interpret_scan(source)] if other != own)

    def sample(self, count: int, seed: int) -> tuple[ScanPair, ...]:
        """`count` commands, each one of all 20,910 with equal chance; they may repeat.

        **Raises** `ValueError` if `count` is negative.
        """
        if count < 0:
            raise ValueError(f"count must be at least 0; got {count}.")
        # `random()` is the one method whose values Python promises to keep.
        draw, pairs = random.Random(seed).random, scan_pairs()
        return tuple(pairs[int(draw() * len(pairs))] for _ in range(count))


@lru_cache(maxsize=1)
def _by_actions() -> dict[str, tuple[str, ...]]:
    commands: dict[str, list[str]] = {}
    for command, actions in scan_pairs():
        commands.setdefault(actions, []).append(command)
    return {actions: tuple(same) for actions, same in commands.items()}


def _command(words: Sequence[str]) -> Tree:
    """C → S and S | S after S | S."""
    for conjunction in ("and", "after"):
        if conjunction in words:
            at = words.index(conjunction)
            one, two = _sentence(words[:at]), _sentence(words[at + 1 :])
            return Tree("C", (one, Tree(conjunction), two))
    return Tree("C", (_sentence(words),))


def _sentence(words: Sequence[str]) -> Tree:
    """S → V twice | V thrice | V."""
    if words[-1] in ("twice", "thrice"):
        return Tree("S", (_verb_phrase(words[:-1]), Tree(words[-1])))
    return Tree("S", (_verb_phrase(words),))


def _verb_phrase(words: Sequence[str]) -> Tree:
    """V → D[1] opposite D[2] | D[1] around D[2] | D | U; D → U direction | turn direction."""
    verb, *rest = words
    head = Tree("turn") if verb == "turn" else Tree("U", (Tree(verb),))
    if not rest:
        return Tree("V", (head,))
    *manner, direction = (Tree(word) for word in rest)
    if manner:
        return Tree("V", (Tree("D", (head,)), *manner, Tree("D", (direction,))))
    return Tree("V", (Tree("D", (head, direction)),))
