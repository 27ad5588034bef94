"""Whether a provider may be asked now: breaker, quota, key, latency, as one value that is replaced.

Time comes as `now`, in seconds of any clock that does not go backwards. Nothing here waits, locks
or calls; `Router` does.

Source: Σ₀-K1, provider nodes.
"""

import enum
import math
from dataclasses import dataclass, field, replace
from typing import Self

from .latencies import Latencies
from .requests import Failure

ERRORS_TO_OPEN = 3
"""Consecutive errors after which nothing is asked of a provider."""
FIRST_WINDOW, LONGEST_WINDOW = 30.0, 600.0
"""Seconds until an open breaker lets one call through, doubled whenever that one fails."""
QUOTA_REST = 60.0
"""Seconds that a provider is left alone after a 429 that does not say for how long."""
KEY_REST = LONGEST_WINDOW
"""Seconds until it is looked again whether there is a key."""

_ERRORS = frozenset(
    (Failure.TIMEOUT, Failure.SERVER, Failure.GARBAGE, Failure.TOO_LONG, Failure.UNREACHABLE)
)


class CapacityState(enum.Enum):
    """What can be expected of a provider."""

    AVAILABLE = "available"
    """It is asked."""
    DEGRADED = "degraded"
    """It is asked, at its place in the chain, though the 99th percentile of its latency is high."""
    QUOTA_HIT = "quota hit"
    """It said that it was asked too much, and rests."""
    CIRCUIT_OPEN = "circuit open"
    """It failed too often, and no probe has brought a reply since."""
    UNAVAILABLE = "unavailable"
    """The same, and the last failure was that nobody was there."""
    NO_KEY = "no key"
    """Its key is missing or not accepted."""


@dataclass(frozen=True)
class Capacity:
    """What is known of a provider from its calls so far; a fresh one is available.

    A call begins with `claimed` and ends with `after_reply`, `after_failure` or `released`, each of
    which gives the capacity that follows.

    Timeouts, server errors, garbage, replies too long and lost connections are errors. A refusal, a
    429 or a 401 is not: the provider is there, so it ends a row of errors and closes the breaker.
    Once the breaker has opened, only the probe decides: what was begun before ends without effect
    on it.
    """

    errors: int = 0
    """In a row, with those of probes."""
    latencies: Latencies = field(default_factory=Latencies)
    window: float = FIRST_WINDOW
    probe_at: float | None = None
    """When an open breaker lets a probe through; None while it is closed."""
    probing: bool = False
    gone: bool = False
    """Whether the breaker opened because nobody was there."""
    era: int = 0
    """Changes when the breaker opens and when a probe begins. A call's permit is its era."""
    rest: CapacityState = CapacityState.AVAILABLE
    rest_until: float = -math.inf

    def state(self, now: float, slow: float = math.inf) -> CapacityState:
        """The state, where a 99th percentile above `slow` seconds is degraded."""
        if now < self.rest_until:
            return self.rest
        if self.probe_at is not None:
            return CapacityState.UNAVAILABLE if self.gone else CapacityState.CIRCUIT_OPEN
        p99 = self.latencies.p99
        if p99 is not None and p99 > slow:
            return CapacityState.DEGRADED
        return CapacityState.AVAILABLE

    def routable(self, now: float) -> bool:
        """Whether a call may begin: no rest, and the breaker closed or due for its one probe."""
        if now < self.rest_until or self.probing:
            return False
        return self.probe_at is None or now >= self.probe_at

    def next_try(self, now: float) -> float:
        """Seconds until a call may begin, if no probe is under way; 0 for now."""
        probe_at = -math.inf if self.probe_at is None else self.probe_at
        return max(self.rest_until - now, probe_at - now, 0.0)

    def claimed(self, now: float) -> tuple[Self, int | None]:
        """The capacity while a call is under way, and the call's permit; None if it may not be."""
        if not self.routable(now):
            return self, None
        if self.probe_at is None:
            return self, self.era
        return replace(self, probing=True, era=self.era + 1), self.era + 1

    def after_reply(self, permit: int, seconds: float) -> Self:
        """After a reply that took so many seconds."""
        heard = replace(self, latencies=self.latencies.and_then(seconds))
        return heard._present(permit)

    def after_failure(
        self, permit: int, failure: Failure, now: float, retry_after: float | None = None
    ) -> Self:
        """After a failure. `retry_after`, seconds, counts for a 429."""
        if failure in _ERRORS:
            return self._failed(permit, failure, now)
        after = self._present(permit)
        if failure is Failure.QUOTA:
            seconds = QUOTA_REST if retry_after is None else retry_after
            return replace(after, rest=CapacityState.QUOTA_HIT, rest_until=now + seconds)
        if failure is Failure.NO_KEY:
            return replace(after, rest=CapacityState.NO_KEY, rest_until=now + KEY_REST)
        return after

    def released(self, permit: int) -> Self:
        """After a call that ended without saying anything of the provider."""
        return replace(self, probing=False) if permit == self.era else self

    def _present(self, permit: int) -> Self:
        """It is there."""
        if permit != self.era:
            return self
        return replace(
            self, errors=0, window=FIRST_WINDOW, probe_at=None, probing=False, gone=False
        )

    def _failed(self, permit: int, failure: Failure, now: float) -> Self:
        if permit != self.era:
            return self
        errors = self.errors + 1
        if not self.probing and errors < ERRORS_TO_OPEN:
            return replace(self, errors=errors)
        window = min(2.0 * self.window, LONGEST_WINDOW) if self.probing else FIRST_WINDOW
        return replace(
            self,
            errors=errors,
            window=window,
            probe_at=now + window,
            probing=False,
            gone=failure is Failure.UNREACHABLE,
            era=self.era + 1,
        )
