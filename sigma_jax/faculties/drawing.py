"""Draws for questions, the same for the same seed on every machine, and what is held out."""

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import TypeVar

Some = TypeVar("Some")


class Draws:
    """Choices from a seed and a purpose.

    They use `random()` alone, the one method whose values Python promises to keep.
    """

    def __init__(self, purpose: str, seed: int):
        self._next = random.Random(f"{purpose} {seed}").random

    def choose(self, options: Sequence[Some]) -> Some:
        """One of the options, each with equal chance."""
        return options[int(self._next() * len(options))]

    def chosen(self, options: Sequence[Some], count: int) -> list[Some]:
        """`count` of the options, at different places, in random order.

        **Raises** `ValueError` if there are fewer.
        """
        if count > len(options):
            raise ValueError(f"{count} different ones are wanted of {len(options)}: ask for fewer.")
        left, taken = list(options), []
        for _ in range(count):
            at = int(self._next() * len(left))
            taken.append(left[at])
            left[at] = left[-1]
            left.pop()
        return taken

    def shuffled(self, options: Sequence[Some]) -> list[Some]:
        """All of them in random order."""
        return self.chosen(options, len(options))


def is_asked(source: str) -> bool:
    """Whether a sentence is for questions only: one in five, by its digest, whatever the seed.

    No other sentence is asked about as familiar, and none of these is shown or trained on.
    """
    return hashlib.sha256(source.encode()).digest()[0] % 5 == 0


def chain(
    draws: Draws, right: Some, step: Callable[[Some], Some], length: int, *, tries: int = 200
) -> list[Some]:
    """`length` different things, `right` among them, each a step from another, in random order.

    Were each one step from the right one, an agent could find that one as the middle of all
    without the question. Here the right one stands at a random place of a chain.

    **Raises** `ValueError` if no new one is found after so many tries.
    """
    line = [right]
    before = int(draws.choose(range(length)))
    while len(line) < length:
        start = line[0] if before > 0 else line[-1]
        for _ in range(tries):
            new = step(start)
            if new not in line:
                break
        else:
            raise ValueError(f"no {length} different options were found around {right!r}.")
        line = [new, *line] if before > 0 else [*line, new]
        before -= 1
    return draws.shuffled(line)
