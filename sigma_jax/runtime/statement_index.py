"""Statements found by their words and by their sense, fused by rank."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._check import require_in
from .vector_index import VectorIndex
from .word_index import WordIndex

RANK_CONSTANT = 10
"""k of reciprocal rank fusion. Small, as the right statements of a conversation are few."""
DEPTH = 100
"""The ranks of each list that are fused."""


class RankedStatement(NamedTuple):
    """A statement's place in the index, its fused score, and its rank in either list, from one."""

    place: int
    score: float
    word_rank: int | None
    """By BM25; None if it is not among the first 100 or shares no term with the question."""
    sense_rank: int | None
    """By the cosine of the vectors; None if that is not among the first 100 or not positive."""


class StatementIndex:
    """Texts with their vectors, added at any time, ranked for a question.

    The score is 1/(10 + rank by BM25) + 1/(10 + rank by cosine); equal scores are in order of the
    places. The same texts and vectors give the same ranks in every process, however they came in.

    Source: Cormack et al., "Reciprocal rank fusion" (2009), who have k = 60.

    **Arguments:** `dimension` of the vectors.
    """

    def __init__(self, dimension: int):
        self.words = WordIndex()
        self.vectors = VectorIndex(dimension)

    def __len__(self) -> int:
        return len(self.words)

    def add(self, texts: list[str], vectors: Float[np.ndarray, "texts dimension"]) -> None:
        """Append texts; their places are counted from the first ever added.

        **Raises** `ValueError` for another number of vectors than of texts, vectors of another
        width, or such as are not finite. Nothing is added then.
        """
        vectors = np.asarray(vectors)
        if len(vectors) != len(texts):
            raise ValueError(f"vectors must be as many as texts, {len(texts)}; got {len(vectors)}.")
        if not texts:
            return
        self.vectors.add(vectors)
        for text in texts:
            self.words.add(text)

    def rank(
        self,
        question: str,
        vector: Float[np.ndarray, " dimension"] | None,
        *,
        count: int = DEPTH,
        excluded: Collection[int] = (),
    ) -> tuple[RankedStatement, ...]:
        """The best statements, at most `count`, without those at the places `excluded`.

        Without a `vector` only words count.

        **Raises** `ValueError` for a count below one or a vector of another width.
        """
        require_in("count", count, 1)
        words = _ranks(self.words.best(question, DEPTH, excluded)[0])
        senses = {} if vector is None else _ranks(self.vectors.nearest(vector, DEPTH, excluded)[0])
        fused: dict[int, float] = {}
        for ranks in (words, senses):
            for place, rank in ranks.items():
                fused[place] = fused.get(place, 0.0) + 1 / (RANK_CONSTANT + rank)
        best = sorted(fused, key=lambda place: (-fused[place], place))[:count]
        return tuple(
            RankedStatement(place, fused[place], words.get(place), senses.get(place))
            for place in best
        )


def _ranks(places: np.ndarray) -> dict[int, int]:
    return {int(place): rank for rank, place in enumerate(places, start=1)}
