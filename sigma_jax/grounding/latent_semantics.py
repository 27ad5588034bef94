"""Latent semantic analysis: texts as vectors, learnt from the texts themselves."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse
from jaxtyping import Float
from scipy.sparse.linalg import svds
from threadpoolctl import threadpool_limits

from .._check import require_in
from ..bridge import terms


class LatentSemantics:
    """Embeds texts by the leading singular vectors of the term weights of the texts it is given.

    A text is its terms with weights (1 + ln count) · ln((1 + n)/(1 + number of texts with the
    term)), scaled to length one. With X those of the n texts, as rows, and X ≈ U S Vᵀ, a text q is
    embedded as q V, scaled to length one; the n texts so become the rows of U S. Terms that none of
    them has are ignored, and a text without any other is embedded as zero.

    Source: Deerwester et al., "Indexing by latent semantic analysis" (1990).

    **Arguments:** `texts`; `dimensions`, as many as there are texts or terms at most.

    **Raises** `ValueError` if no text has a term, and for fewer than one dimension.
    """

    def __init__(self, texts: Sequence[str], *, dimensions: int = 128):
        require_in("dimensions", dimensions, 1)
        counts = [Counter(terms(text)) for text in texts]
        if not any(counts):
            raise ValueError(f"texts must hold terms; got {len(counts)} texts without any.")
        having = Counter(term for count in counts for term in count)
        self._places = {term: place for place, term in enumerate(sorted(having))}
        number = np.array([having[term] for term in self._places], float)
        self._weights = np.log((1 + len(texts)) / (1 + number))
        matrix = self._matrix(counts)
        self._vectors = _right_vectors(matrix, min(len(texts), len(self._places)), dimensions)
        self.embedded: Float[np.ndarray, "texts dim"] = _to_length_one(matrix @ self._vectors)
        """The texts that it was learnt from."""

    def __call__(self, texts: Sequence[str]) -> Float[np.ndarray, "texts dim"]:
        return _to_length_one(
            self._matrix([Counter(terms(text)) for text in texts]) @ self._vectors
        )

    def _matrix(self, counts: Sequence[Counter[str]]) -> scipy.sparse.csr_array:
        rows, columns, values = [], [], []
        for row, count in enumerate(counts):
            for term, times in count.items():
                if (place := self._places.get(term)) is not None:
                    rows.append(row)
                    columns.append(place)
                    values.append((1 + np.log(times)) * self._weights[place])
        matrix = scipy.sparse.csr_array(
            (np.array(values, float), (np.array(rows, int), np.array(columns, int))),
            shape=(len(counts), len(self._places)),
        )
        length = np.sqrt(matrix.multiply(matrix).sum(axis=1))
        return scipy.sparse.csr_array(
            scipy.sparse.diags_array(1 / np.where(length > 0, length, 1)) @ matrix
        )


def _right_vectors(
    matrix: scipy.sparse.csr_array, smaller: int, dimensions: int
) -> Float[np.ndarray, "terms dim"]:
    """The leading right singular vectors, the largest first; `smaller` of the shape's sides."""
    if dimensions >= smaller:  # what ARPACK cannot do
        return np.linalg.svd(matrix.toarray(), full_matrices=False)[2][:dimensions].T
    # ARPACK starts from a random vector unless it is given one, and is made of many small products,
    # which wait for one another if they are split among threads.
    with threadpool_limits(1, user_api="blas"):
        _, values, vectors = svds(matrix, k=dimensions, v0=np.ones(smaller))
    return vectors[np.argsort(-values)].T


def _to_length_one(vectors: Float[np.ndarray, "texts dim"]) -> Float[np.ndarray, "texts dim"]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
