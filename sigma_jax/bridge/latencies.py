"""How long a provider's replies take: a moving average, and a true 99th percentile."""

import math
from typing import NamedTuple, Self

SMOOTHING = 0.2
"""The weight of the newest latency in the average (Σ₀-K1, provider nodes)."""
KEPT = 512
"""How many recent latencies the percentile is of."""


class Latencies(NamedTuple):
    """Of the replies so far, in seconds."""

    average: float | None = None
    """Exponential, the first latency its start; None before it."""
    recent: tuple[float, ...] = ()
    """The last `KEPT`, the oldest first."""

    def and_then(self, seconds: float) -> Self:
        """With one more."""
        before = seconds if self.average is None else self.average
        average = before + SMOOTHING * (seconds - before)
        return self._replace(average=average, recent=(*self.recent[1 - KEPT :], seconds))

    @property
    def p99(self) -> float | None:
        """The nearest-rank 99th percentile: the ⌈0.99 n⌉-th smallest of the n that are kept.

        Until there are more than a hundred, that is the largest. None before the first.
        """
        if not self.recent:
            return None
        rank = math.ceil(99 * len(self.recent) / 100)
        return sorted(self.recent)[rank - 1]
