"""Which provider is asked, and who is asked next if it does not reply."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from .._check import require_in
from .capacity import Capacity, CapacityState
from .requests import Provider, ProviderError, Reply, Request


class Standing(NamedTuple):
    """How a provider stands with a router: a row of a table."""

    provider: str
    state: CapacityState
    score: float
    """Of the leaderboard; 0 without one."""
    errors: int
    """In a row."""
    latency: float | None
    """Seconds, the moving average of replies; None before the first."""
    p99: float | None
    """Seconds, the 99th percentile of recent replies; None before the first."""
    next_try: float
    """Seconds until it may be asked again; 0 for now."""


class Router:
    """Asks providers in order, leaves alone those that fail; the last is always there.

    The chain is the providers in their order, filtered to those that may be asked now, then sorted
    by score, highest first, so that the order decides between equals; then `offline`. A call that
    fails is recorded and the next is asked. Safe from several threads: the lock is held while
    something is looked up or recorded, never during a call.

    **Arguments:** `providers`, by priority, perhaps none; `offline`, whose failures never take it
    out; `clock`, seconds; `scores`, the win rates of the leaderboard by name, 0 for those that it
    lacks; `slow`, seconds: a provider whose 99th percentile is above is reported as degraded.

    **Raises** `ValueError` for two providers of one name, a score of a name that is not there or
    outside [0, 1], and `slow` that is not positive.

    Source: Σ₀-K1, provider nodes.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        offline: Provider,
        clock: Callable[[], float] = time.monotonic,
        scores: Mapping[str, float] | None = None,
        slow: float = 30.0,
    ):
        names = [provider.name for provider in (*providers, offline)]
        if len(set(names)) < len(names):
            raise ValueError(f"providers and offline must have different names; got {names}.")
        self._scores = dict(scores or {})
        if strangers := [name for name in self._scores if name not in names]:
            raise ValueError(f"scores given for {strangers}; the providers are {names}.")
        for name, score in self._scores.items():
            require_in(f"the score of {name}", score, 0.0, 1.0)
        require_in("slow", slow, 0.0, open_low=True)
        ranked = sorted(providers, key=lambda provider: -self._score(provider.name))
        self._providers = {provider.name: provider for provider in (*ranked, offline)}
        self._offline, self._clock, self._slow = offline.name, clock, slow
        self._lock = threading.Lock()
        self._capacities = dict.fromkeys(self._providers, Capacity())

    def chain(self) -> tuple[str, ...]:
        """The names of those that may be asked now, in the order in which they would be."""
        now = self._clock()
        with self._lock:
            return tuple(
                name
                for name, capacity in self._capacities.items()
                if name == self._offline or capacity.routable(now)
            )

    def answer(self, request: Request) -> Reply:
        """The first reply.

        **Raises** `ProviderError`, that of the last, with the others as notes, if nobody replies,
        not even offline.
        """
        return next(self.replies(request))

    def replies(self, request: Request) -> Iterator[Reply]:
        """One reply after the other, each asked for when it is wanted, for whoever is choosy.

        Every provider of the chain is asked at most once. Whoever has heard enough just stops.

        **Raises** `ProviderError`, as `answer`, if there is none.
        """
        failures: list[ProviderError] = []
        heard = False
        for name in self.chain():
            permit = self._claim(name)
            if permit is None:  # somebody else was faster
                continue
            try:
                reply = self._ask(name, permit, request)
            except ProviderError as error:
                failures.append(error)
                continue
            heard = True
            yield reply
        if not heard:
            *others, last = failures
            for error in others:
                last.add_note(f"Before it, {error}")
            raise last

    def report(self) -> tuple[Standing, ...]:
        """How each provider stands, in the order of the chain if all were in it."""
        now = self._clock()
        with self._lock:
            capacities = dict(self._capacities)
        return tuple(
            Standing(
                provider=name,
                state=capacity.state(now, self._slow),
                score=self._score(name),
                errors=capacity.errors,
                latency=capacity.latencies.average,
                p99=capacity.latencies.p99,
                next_try=capacity.next_try(now),
            )
            for name, capacity in capacities.items()
        )

    def _score(self, name: str) -> float:
        return self._scores.get(name, 0.0)

    def _claim(self, name: str) -> int | None:
        now = self._clock()
        with self._lock:
            capacity, permit = self._capacities[name].claimed(now)
            self._capacities[name] = capacity
        return permit

    def _ask(self, name: str, permit: int, request: Request) -> Reply:
        """Call the provider and record how that ended, however it did."""
        began = self._clock()
        try:
            reply = self._providers[name].answer(request)
        except ProviderError as error:
            now = self._clock()
            if name != self._offline:
                why = (error.failure, now, error.retry_after)
                self._record(name, lambda capacity: capacity.after_failure(permit, *why))
            raise
        except BaseException:  # a fault in the code, or an interrupt: no news of the provider
            self._record(name, lambda capacity: capacity.released(permit))
            raise
        seconds = self._clock() - began
        self._record(name, lambda capacity: capacity.after_reply(permit, seconds))
        return reply

    def _record(self, name: str, change: Callable[[Capacity], Capacity]) -> None:
        with self._lock:
            self._capacities[name] = change(self._capacities[name])
