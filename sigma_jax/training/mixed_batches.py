"""Two supplies of batches as one, to learn the new without forgetting the old."""

import math

from .._check import require_in
from .batches import Batch, Batches


class MixedBatches:
    """Batches of `new`, with those of `old` evenly among them.

    Of the first n batches ⌊n · share⌋ are of `old`. Each supply's come in their own order, none
    left out.

    **Arguments:** `share`, of the batches that are of `old`.

    **Raises** `ValueError` for a share outside [0, 1].
    """

    def __init__(self, new: Batches, old: Batches, *, share: float):
        require_in("share", share, 0.0, 1.0)
        self._new, self._old, self._share = new, old, share

    def batch(self, number: int) -> Batch:
        """Batch `number`."""
        before, with_it = (math.floor(count * self._share) for count in (number, number + 1))
        if with_it > before:
            return self._old.batch(before)
        return self._new.batch(number - before)
