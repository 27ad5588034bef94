"""Retrieval: the passages that may answer a question, by their words and by their sense."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from .._check import require_in
from ..bridge import Passage, terms
from .latent_semantics import LatentSemantics

RANK_CONSTANT = 60
"""k of reciprocal rank fusion, as its authors chose it."""
DEPTH = 200
"""The ranks of each list that are fused."""

_K1, _B = 0.9, 0.4


class Retrieved(NamedTuple):
    """A passage, its fused score, and its rank in either list, counted from one."""

    passage: Passage
    score: float
    word_rank: int | None
    """By BM25; None if it is not among the first 200 or shares no term with the question."""
    sense_rank: int | None
    """By the cosine of the embeddings; None if that is not among the first 200 or not positive."""


class Retriever:
    """Finds passages: BM25 on their terms, and the cosine of embeddings, fused by rank.

    BM25 (bm25s, method "lucene") with k₁ = 0.9, b = 0.4 and idf ln(1 + (n − m + ½)/(m + ½)), where
    m of n passages have the term. The score of a passage is 1/(60 + its rank by BM25) +
    w/(60 + its rank by cosine). Equal scores are in order of the source.

    Source: Robertson and Zaragoza, "The probabilistic relevance framework" (2009), in the form and
    with the constants of Kamphuis et al., "Which BM25 do you mean?" (2020); Cormack et al.,
    "Reciprocal rank fusion" (2009), where w = 1.

    **Arguments:** `passages`; `contexts`, for each the words that it is found by besides its text
    (`Corpus.contexts`), or none; `embed`, a function of n texts to n vectors, for instance a
    model's, by default latent semantic analysis of the passages themselves; `sense_weight` w, by
    default below one because that analysis finds less than BM25 does.

    **Raises** `ValueError` without a passage with a term, for another number of contexts than of
    passages, a negative weight, and if `embed` gives anything but one finite vector a text.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        *,
        contexts: Sequence[str] = (),
        embed: Callable[[Sequence[str]], Any] | None = None,
        sense_weight: float = 0.3,
    ):
        require_in("sense_weight", sense_weight, 0.0)
        if contexts and len(contexts) != len(passages):
            raise ValueError(
                f"contexts must be as many as passages, {len(passages)}; got {len(contexts)}."
            )
        order = sorted(range(len(passages)), key=lambda place: passages[place])
        self.passages = tuple(passages[place] for place in order)
        texts = [
            f"{contexts[place]}\n{passages[place].text}" if contexts else passages[place].text
            for place in order
        ]
        documents = [terms(text) for text in texts]
        if not any(documents):
            raise ValueError(f"passages must hold terms; got {len(passages)} without any.")
        self._having = Counter(term for document in documents for term in set(document))
        self._bm25 = _bm25(documents)
        if embed is None:
            embed = LatentSemantics(texts)
            self._embedded = embed.embedded
        else:
            self._embedded = _embeddings(embed, texts)
        self._embed, self._sense_weight = embed, sense_weight

    def retrieve(self, question: str, count: int = 8) -> tuple[Retrieved, ...]:
        """The best passages, at most `count`; fewer if fewer have anything to do with it.

        **Raises** `ValueError` for a count below one, and if `embed` gives anything but one finite
        vector of the passages' width.
        """
        require_in("count", count, 1)
        words = _ranking(self._word_scores(question))
        senses = _ranking(self._sense_scores(question))
        fused: dict[int, float] = {}
        for ranks, weight in ((words, 1.0), (senses, self._sense_weight)):
            for place, rank in ranks.items():
                fused[place] = fused.get(place, 0.0) + weight / (RANK_CONSTANT + rank)
        best = sorted(fused, key=lambda place: (-fused[place], place))[:count]
        return tuple(
            Retrieved(self.passages[place], fused[place], words.get(place), senses.get(place))
            for place in best
        )

    def word_weight(self, term: str) -> float:
        """How much a term tells: BM25's idf, highest for a term that no passage has."""
        having = self._having[term]
        return math.log(1 + (len(self.passages) - having + 0.5) / (having + 0.5))

    def _word_scores(self, question: str) -> Float[np.ndarray, " passages"]:
        known = [term for term in dict.fromkeys(terms(question)) if term in self._having]
        if not known:
            return np.zeros(len(self.passages))
        return self._bm25.get_scores(known)

    def _sense_scores(self, question: str) -> Float[np.ndarray, " passages"]:
        vector = _embeddings(self._embed, [question])
        if vector.shape[1] != self._embedded.shape[1]:
            raise ValueError(
                f"embed must give vectors of one width; got {self._embedded.shape[1]} for the "
                f"passages and {vector.shape[1]} for the question."
            )
        # Rounded, so that passages of the same words are equal and stand in order of source.
        return np.round(self._embedded @ vector[0], 9)


def _bm25(documents: Sequence[list[str]]) -> Any:
    # Imported here: bm25s asks JAX for its devices when it is imported, and after that a program
    # can no longer choose them.
    import bm25s

    # It sets its own logger to say everything, to whoever listens at the root.
    logging.getLogger("bm25s").setLevel(logging.WARNING)
    index = bm25s.BM25(k1=_K1, b=_B, method="lucene", dtype="float64", backend="numpy")
    index.index(documents, show_progress=False)
    return index


def _embeddings(
    embed: Callable[[Sequence[str]], Any], texts: Sequence[str]
) -> Float[np.ndarray, "texts dim"]:
    vectors = np.asarray(embed(texts), float)
    if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
        raise ValueError(
            f"embed must give one finite vector a text; got shape {vectors.shape} for {len(texts)}."
        )
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def _ranking(scores: Float[np.ndarray, " passages"]) -> dict[int, int]:
    """The rank of each of the best places with a positive score, counted from one."""
    order = np.argsort(-scores, kind="stable")[:DEPTH]
    return {int(place): rank for rank, place in enumerate(order, start=1) if scores[place] > 0}
