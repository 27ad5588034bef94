"""Breaker, quota and latencies, held against a textbook breaker and NumPy."""

import math
from dataclasses import dataclass, field

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sigma_jax.bridge import Capacity, CapacityState, Failure

ERRORS = (
    Failure.TIMEOUT,
    Failure.SERVER,
    Failure.GARBAGE,
    Failure.TOO_LONG,
    Failure.UNREACHABLE,
)


# Latencies --------------------------------------------------------------------------------------


def heard(seconds) -> Capacity:
    capacity = Capacity()
    for value in seconds:
        capacity, permit = capacity.claimed(0.0)
        assert permit is not None
        capacity = capacity.after_reply(permit, value)
    return capacity


@given(
    st.lists(st.floats(0, 1e3), min_size=1, max_size=40),
    st.sampled_from([1, 2, 99, 100, 101, 150, 199, 200, 201, 400, 511, 512, 513, 700]),
)
@example([1.0, 2.0], 700)
def test_the_99th_percentile_is_a_true_one(some, count):
    values = np.random.default_rng(len(some)).permutation(np.resize(some, count) + np.arange(count))
    p99 = heard(values).latencies.p99
    kept = values[-512:]
    assert p99 == np.percentile(kept, 99, method="inverted_cdf")
    assert (kept <= p99).mean() >= 0.99 > (kept < p99).mean()


def test_one_slow_reply_among_many_is_not_the_99th_percentile():
    values = [*np.linspace(1.0, 2.0, 199), 1000.0]
    latencies = heard(values).latencies
    assert latencies.p99 == values[197]
    assert heard([]).latencies.p99 is None


def test_what_is_older_than_512_replies_is_forgotten():
    assert heard([9.0] * 6 + [1.0] * 506).latencies.p99 == 9.0
    assert heard([9.0] * 6 + [1.0] * 507).latencies.p99 == 1.0


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=30))
def test_the_average_forgets_exponentially(values):
    weights = 0.2 * 0.8 ** np.arange(len(values))[::-1]
    weights[0] /= 0.2
    assert weights.sum() == pytest.approx(1.0)
    assert heard(values).latencies.average == pytest.approx(weights @ values, abs=1e-9)


def test_slow_is_degraded_and_still_asked():
    capacity = heard([1.0] * 98 + [9.0] * 2)
    assert capacity.state(0.0, slow=9.0) is CapacityState.AVAILABLE
    assert capacity.state(0.0, slow=8.9) is CapacityState.DEGRADED
    assert capacity.routable(0.0)


# The breaker ------------------------------------------------------------------------------------


@dataclass
class Textbook:
    """The usual breaker, as a diagram of three states, and a rest beside it."""

    mode: str = "closed"
    row: int = 0
    opened: float = 0.0
    window: float = 30.0
    last: Failure | None = None
    quiet: dict[CapacityState, float] = field(default_factory=dict)
    calls: dict[int, str] = field(default_factory=dict)
    """Calls under way: `probe`, `ordinary`, or `late` once the breaker has opened since."""

    def may(self, now: float) -> bool:
        if any(now < until for until in self.quiet.values()):
            return False
        if self.mode == "open":
            return now - self.opened >= self.window
        return self.mode == "closed"

    def begin(self, call: int, now: float) -> None:
        self.calls[call] = "ordinary" if self.mode == "closed" else "probe"
        if self.mode == "open":
            self.mode = "half-open"

    def end(self, call: int, outcome: Failure | str, now: float) -> None:
        kind = self.calls.pop(call)
        rests = {Failure.QUOTA: CapacityState.QUOTA_HIT, Failure.NO_KEY: CapacityState.NO_KEY}
        if outcome in rests:
            seconds = 60.0 if outcome is Failure.QUOTA else 600.0
            self.quiet = {rests[outcome]: now + seconds}
        if kind == "late":
            return
        if outcome == "released":
            if kind == "probe":
                self.mode = "open"
        elif outcome in ERRORS:
            self.row += 1
            if kind == "probe":
                self.window = min(600.0, 2 * self.window)
                self.open(outcome, now)
            elif self.row == 3:
                self.window = 30.0
                self.open(outcome, now)
        else:
            self.mode, self.row = "closed", 0

    def open(self, why, now: float) -> None:
        self.mode, self.opened, self.last = "open", now, why
        self.calls = dict.fromkeys(self.calls, "late")

    def state(self, now: float) -> CapacityState:
        for state, until in self.quiet.items():
            if now < until:
                return state
        if self.mode == "closed":
            return CapacityState.AVAILABLE
        gone = self.last is Failure.UNREACHABLE
        return CapacityState.UNAVAILABLE if gone else CapacityState.CIRCUIT_OPEN


class Breaker(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now, self.count = 1000.0, 0
        self.ours, self.textbook = Capacity(), Textbook()
        self.permits: dict[int, int] = {}

    @rule(seconds=st.sampled_from([0.5, 29.5, 30.0, 60.0, 120.0, 240.0, 599.5, 600.0]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def wait_until_it_may_be_asked(self):
        self.now += self.ours.next_try(self.now)
        assert self.ours.probing or self.ours.routable(self.now)

    @rule()
    def begin(self):
        self.ours, permit = self.ours.claimed(self.now)
        assert (permit is not None) == self.textbook.may(self.now)
        if permit is not None:
            self.count += 1
            self.permits[self.count] = permit
            self.textbook.begin(self.count, self.now)

    @precondition(lambda self: self.permits)
    @rule(
        data=st.data(),
        outcome=st.one_of(
            st.sampled_from(ERRORS), st.sampled_from([*Failure, "reply", "released"])
        ),
    )
    def end(self, data, outcome):
        call = data.draw(st.sampled_from(sorted(self.permits)))
        permit = self.permits.pop(call)
        before = self.ours
        if outcome == "reply":
            self.ours = before.after_reply(permit, 1.0)
        elif outcome == "released":
            self.ours = before.released(permit)
        else:
            self.ours = before.after_failure(permit, outcome, self.now)
        self.textbook.end(call, outcome, self.now)

    @rule(failure=st.sampled_from(ERRORS), times=st.integers(1, 3))
    def fail(self, failure, times):
        for _ in range(times):
            self.ours, permit = self.ours.claimed(self.now)
            if permit is None:
                return
            self.count += 1
            self.textbook.begin(self.count, self.now)
            self.ours = self.ours.after_failure(permit, failure, self.now)
            self.textbook.end(self.count, failure, self.now)

    @invariant()
    def they_agree(self):
        assert self.ours.routable(self.now) == self.textbook.may(self.now)
        assert self.ours.state(self.now) is self.textbook.state(self.now)
        assert self.ours.errors == self.textbook.row
        assert self.ours.probing == (self.textbook.mode == "half-open")
        if self.textbook.mode == "open":
            assert self.ours.window == self.textbook.window
            assert self.ours.probe_at == self.textbook.opened + self.textbook.window


TestBreaker = Breaker.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=60)


@pytest.mark.parametrize("failure", ERRORS)
def test_it_opens_after_three_and_its_window_doubles_to_six_hundred(failure):
    capacity, now, windows = Capacity(), 0.0, []
    for _ in range(10):
        capacity, permit = capacity.claimed(now)
        assert permit is not None
        capacity = capacity.after_failure(permit, failure, now)
        wait = capacity.next_try(now)
        if wait:
            assert not capacity.routable(math.nextafter(now + wait, 0.0))
            windows.append(wait)
        now += wait
    assert windows == [30, 60, 120, 240, 480, 600, 600, 600]
    capacity, permit = capacity.claimed(now)
    capacity = capacity.after_reply(permit, 1.0)
    assert capacity.state(now) is CapacityState.AVAILABLE
    for _ in range(3):
        capacity, permit = capacity.claimed(now)
        capacity = capacity.after_failure(permit, failure, now)
    assert capacity.next_try(now) == 30


@pytest.mark.parametrize("answer", [Failure.REFUSED, Failure.QUOTA, Failure.NO_KEY])
def test_whoever_answers_is_there(answer):
    """A provider that says no has not failed: errors before and after are not in a row."""
    capacity, now = Capacity(), 0.0
    for failure in (Failure.SERVER, Failure.SERVER, answer, Failure.SERVER, Failure.SERVER):
        now += capacity.next_try(now)
        capacity, permit = capacity.claimed(now)
        capacity = capacity.after_failure(permit, failure, now)
    assert capacity.routable(now)
    assert capacity.errors == 2


@pytest.mark.parametrize(("retry_after", "rest"), [(None, 60.0), (7.0, 7.0), (0.0, 0.0)])
def test_a_quota_rests(retry_after, rest):
    capacity, permit = Capacity().claimed(0.0)
    capacity = capacity.after_failure(permit, Failure.QUOTA, 5.0, retry_after)
    assert capacity.next_try(5.0) == rest
    assert capacity.routable(5.0) == (rest == 0)
    waits = CapacityState.QUOTA_HIT if rest else CapacityState.AVAILABLE
    assert capacity.state(5.0) is capacity.state(5.0 + 0.99 * rest) is waits
    assert capacity.state(5.0 + rest) is CapacityState.AVAILABLE
