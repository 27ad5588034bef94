"""What every small language offers: meanings, structures, paraphrases and samples."""

from collections.abc import Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar

from .trees import Tree


class Pair(NamedTuple):
    """A sentence of a language, and what it means; both are words separated by spaces."""

    source: str
    target: str


SomePair = TypeVar("SomePair", bound=Pair)


class Split(NamedTuple, Generic[SomePair]):
    """Pairs to learn from, and pairs to be tested on."""

    train: tuple[SomePair, ...]
    test: tuple[SomePair, ...]


class Grammar(Protocol):
    """A language whose every sentence has one meaning and one structure, both from its rules."""

    @property
    def name(self) -> str:
        """What the language is called, such as "scan"."""
        ...

    def meaning(self, source: str) -> str:
        """The target of a source. **Raises** `ValueError` if it is not of the language."""
        ...

    def tree(self, source: str) -> Tree:
        """The structure of a source. **Raises** `ValueError` if it is not of the language."""
        ...

    def paraphrases(self, source: str) -> tuple[str, ...]:
        """Other sources with exactly the same meaning, by rule; there may be none.

        **Raises** `ValueError` if `source` is not of the language.
        """
        ...

    def sample(self, count: int, seed: int) -> tuple[Pair, ...]:
        """`count` pairs drawn at random; the same ones for the same seed, on every machine."""
        ...


def overlap(train: Iterable[Pair], test: Iterable[Pair]) -> int:
    """How many different sources are in both: what a leak check wants to be zero."""
    return len({pair.source for pair in train} & {pair.source for pair in test})
