"""The vectors of many texts in memory, and which are nearest to a question's."""

from collections.abc import Collection

import numpy as np
from jaxtyping import Float, Int

from .._check import require_in

_FINE = 4000
"""Steps of a unit vector's components. 4000² and what rounding adds stay below 2²⁴."""
_COARSE = 35
"""Steps of the first look: 35² and what rounding adds stay below 2¹¹, half of a float32."""
_SHIFT = 4096.0
_CANDIDATES = 1024


class VectorIndex:
    """Cosines of a question with many texts; the best are exact to the last bit, on any machine.

    Components are whole numbers, steps of 1/4000 of a unit vector, so that every sum in a scalar
    product is a whole number below 2²⁴: float32 adds those without rounding, in any order, on any
    number of threads. That moves a cosine by about 1e-4. Vectors pass through float16 first, as a
    store keeps them, so that what is read back is the same.

    From a thousand texts on, a first look sorts out all but a thousand. It has steps of 1/35 (a
    cosine is then wrong by about 0.012, one standard deviation) and two texts in one number, which
    halves what must be read from memory, and reading is all that it costs.

    Vectors take 4 bytes a component, and up to twice that where they came in one by one.

    **Arguments:** `dimension` of the vectors, 1 to 1024.
    """

    def __init__(self, dimension: int):
        require_in("dimension", dimension, 1, 1024)
        self.dimension = dimension
        self._count = 0
        self._fine = np.zeros((2, dimension), np.int16)
        self._coarse = np.zeros((1, dimension), np.float32)

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """What the vectors take in memory."""
        return self._fine.nbytes + self._coarse.nbytes

    def add(self, vectors: Float[np.ndarray, "texts dimension"]) -> None:
        """Append vectors of any length; their places are counted from the first ever added.

        **Raises** `ValueError` for another width, or a component that is not finite in float16.
        """
        units = self._units(vectors)
        end = self._count + len(units)
        self._grow(end)
        self._fine[self._count : end] = np.rint(units * _FINE)
        steps = np.rint(units * _COARSE).astype(np.float32)
        places = np.arange(self._count, end)
        for half, factor in ((0, np.float32(1)), (1, np.float32(_SHIFT))):
            chosen = places % 2 == half
            self._coarse[places[chosen] // 2] += factor * steps[chosen]
        self._count = end

    def nearest(
        self,
        vector: Float[np.ndarray, " dimension"],
        count: int,
        excluded: Collection[int] = (),
    ) -> tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]:
        """The places of at most `count` texts with the highest positive cosines, and the cosines.

        Equal cosines are in order of the places. Places in `excluded` are left out.
        """
        unit = self._units(np.asarray(vector)[None])[0]
        is_open = np.ones(self._count, bool)
        is_open[list(excluded)] = False
        places = self._candidates(unit, is_open)
        question = np.rint(unit * _FINE).astype(np.float32)
        scores = self._fine[places].astype(np.float32) @ question
        positive = scores > 0
        places, scores = places[positive], scores[positive]
        order = np.lexsort((places, -scores))[:count]
        return places[order], scores[order].astype(np.float64) / _FINE**2

    def _candidates(
        self, unit: Float[np.ndarray, " dimension"], is_open: np.ndarray
    ) -> Int[np.ndarray, " candidates"]:
        if self._count <= _CANDIDATES:
            return np.flatnonzero(is_open)
        pairs = self._coarse[: (self._count + 1) // 2]
        both = pairs @ np.rint(unit * _COARSE).astype(np.float32)
        odd = np.rint(both * np.float32(1 / _SHIFT))
        scores = np.stack([both - np.float32(_SHIFT) * odd, odd], axis=1).ravel()[: self._count]
        scores[~is_open] = -np.inf
        least = np.partition(scores, self._count - _CANDIDATES)[self._count - _CANDIDATES]
        # All that are equal to the last are in, so that no order of sorting decides.
        return np.flatnonzero(scores >= max(least, np.float32(1)))

    def _units(
        self, vectors: Float[np.ndarray, "texts dimension"]
    ) -> Float[np.ndarray, "texts dimension"]:
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(
                f"vectors must be [n, {self.dimension}]; got shape {list(vectors.shape)}."
            )
        if not (np.abs(vectors) <= np.finfo(np.float16).max).all():
            raise ValueError("vectors must be finite in float16, below 65504 in size.")
        # Squares of float16 numbers are exact in float64, and so are sums of theirs.
        vectors = vectors.astype(np.float16).astype(np.float64)
        length = np.sqrt(np.sum(vectors**2, axis=1, keepdims=True))
        return vectors / np.where(length > 0, length, 1.0)

    def _grow(self, count: int) -> None:
        if count > len(self._fine):
            capacity = max(count + count % 2, 2 * len(self._fine))
            for name, rows in (("_fine", capacity), ("_coarse", capacity // 2)):
                old = getattr(self, name)
                new = np.zeros((rows, self.dimension), old.dtype)
                new[: len(old)] = old
                setattr(self, name, new)
