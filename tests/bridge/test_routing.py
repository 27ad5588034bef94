"""The router: order, failures, probes, threads; with scripts, and with servers that are down."""

import http.server
import threading
import timeit
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from sigma_jax.bridge import (
    CapacityState,
    Failure,
    OllamaEndpoint,
    OpenAIEndpoint,
    ProviderError,
    Reply,
    Request,
    Router,
)
from tests.serve.conftest import free_port

ASK = Request("Why?")


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Script:
    """Replies, or does what it is told to do instead."""

    name: str
    act: Callable[[], None] | Failure | BaseException | None = None
    retry_after: float | None = None
    text: str = "says"
    asked: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Reply:
        with self.lock:
            self.asked += 1
        if isinstance(self.act, Failure):
            raise ProviderError(self.name, self.act, "scripted.", retry_after=self.retry_after)
        if isinstance(self.act, BaseException):
            raise self.act
        if self.act is not None:
            self.act()
        return Reply(self.text, self.name, 4, 4, 0.0)


def scripts(*names: str) -> list[Script]:
    return [Script(name) for name in names]


def routed(*providers: Script, **options: Any) -> tuple[Router, Clock]:
    clock = Clock()
    return Router(providers, offline=Script("offline"), clock=clock, **options), clock


def states(router: Router) -> dict[str, CapacityState]:
    return {row.provider: row.state for row in router.report()}


# Order ------------------------------------------------------------------------------------------


def test_priority_then_score_then_offline():
    router, _ = routed(*scripts("a", "b", "c", "d"), scores={"c": 0.9, "b": 0.9, "d": 1.0})
    assert router.chain() == ("d", "b", "c", "a", "offline")
    assert [row.score for row in router.report()] == [1.0, 0.9, 0.9, 0.0, 0.0]
    assert routed(*scripts("a", "b"))[0].chain() == ("a", "b", "offline")
    assert routed(*scripts("a"), scores={"offline": 1.0})[0].chain() == ("a", "offline")
    assert routed()[0].answer(ASK).provider == "offline"


@given(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_the_chain_is_filtered_and_sorted(scores, down):
    names = [f"p{i}" for i in range(len(scores))]
    providers = [Script(n, Failure.QUOTA if d else None) for n, d in zip(names, down, strict=False)]
    router, _ = routed(*providers, scores=dict(zip(names, scores, strict=True)))
    for _ in router.replies(ASK):
        pass
    up = [i for i in range(len(names)) if not down[i]]
    order = sorted(up, key=lambda i: (-scores[i], i))
    assert router.chain() == (*(names[i] for i in order), "offline")


def test_the_next_is_asked_only_when_it_is_wanted():
    a, b, c = scripts("a", "b", "c")
    b.act = Failure.REFUSED
    router, _ = routed(a, b, c)
    replies = router.replies(ASK)
    assert a.asked == 0
    assert next(replies).provider == "a"
    assert (a.asked, b.asked) == (1, 0)
    assert next(replies).provider == "c"
    assert (b.asked, c.asked) == (1, 1)
    assert [reply.provider for reply in replies] == ["offline"]


def test_nothing_said_is_a_reply():
    router, _ = routed(Script("a", text=""))
    for _ in range(5):
        assert router.answer(ASK) == Reply("", "a", 4, 4, 0.0)
    assert states(router)["a"] is CapacityState.AVAILABLE


def test_an_error_only_if_nobody_replies():
    offline = Script("offline", Failure.SERVER)
    down = [Script("a", Failure.TIMEOUT), Script("b", Failure.REFUSED)]
    router = Router(down, offline=offline)
    for _ in range(9):
        with pytest.raises(ProviderError, match="provider offline: scripted") as caught:
            router.answer(ASK)
        assert router.chain()[-1] == "offline"
    assert offline.asked == 9
    assert caught.value.__notes__ == ["Before it, provider b: scripted."]
    with pytest.raises(ProviderError, match="offline"):
        list(router.replies(ASK))
    heard = Router([Script("a")], offline=offline).replies(ASK)
    assert [reply.provider for reply in heard] == ["a"]


# Capacity ---------------------------------------------------------------------------------------


def test_two_down_at_once_are_left_alone_and_offline_answers():
    a, b = Script("a", Failure.TIMEOUT), Script("b", Failure.UNREACHABLE)
    router, clock = routed(a, b)
    for _ in range(10):
        assert router.answer(ASK).provider == "offline"
    assert (a.asked, b.asked) == (3, 3)
    assert router.chain() == ("offline",)
    assert list(states(router).values()) == [
        CapacityState.CIRCUIT_OPEN,
        CapacityState.UNAVAILABLE,
        CapacityState.AVAILABLE,
    ]
    a.act = None
    clock.now += 30.0
    assert router.chain() == ("a", "b", "offline")
    assert router.answer(ASK).provider == "a"
    assert states(router)["a"] is CapacityState.AVAILABLE
    assert (a.asked, b.asked) == (4, 3)


def test_probes_come_after_windows_that_double_to_six_hundred():
    a = Script("a", Failure.SERVER)
    router, clock = routed(a)
    for _ in range(3):
        router.answer(ASK)
    waits = []
    for _ in range(8):
        asked, began = a.asked, clock.now
        while a.asked == asked:
            clock.now += 1.0
            router.answer(ASK)
        waits.append(clock.now - began)
    assert waits == [30, 60, 120, 240, 480, 600, 600, 600]
    a.act = None
    clock.now += 600.0
    assert router.answer(ASK).provider == "a"
    a.act = Failure.SERVER
    for _ in range(3):
        router.answer(ASK)
    assert router.report()[0].next_try == 30.0


def test_a_quota_and_a_key_are_waited_for():
    a, b = Script("a", Failure.QUOTA, retry_after=7.0), Script("b", Failure.QUOTA)
    c = Script("c", Failure.NO_KEY)
    router, clock = routed(a, b, c)
    assert router.answer(ASK).provider == "offline"
    assert [row.next_try for row in router.report()] == [7.0, 60.0, 600.0, 0.0]
    quota = CapacityState.QUOTA_HIT
    available = CapacityState.AVAILABLE
    assert [*states(router).values()] == [quota, quota, CapacityState.NO_KEY, available]
    clock.now += 7.0
    assert router.chain() == ("a", "offline")
    clock.now += 53.0
    assert router.chain() == ("a", "b", "offline")
    clock.now += 540.0
    assert router.chain() == ("a", "b", "c", "offline")


def test_a_refusal_says_nothing_against_a_provider():
    a = Script("a", Failure.REFUSED)
    router, _ = routed(a)
    for _ in range(5):
        assert router.answer(ASK).provider == "offline"
    assert a.asked == 5
    assert states(router)["a"] is CapacityState.AVAILABLE


def test_latencies_are_measured_by_the_clock():
    def takes(seconds: float) -> Callable[[], None]:
        def act() -> None:
            clock.now += seconds

        return act

    a, b = scripts("a", "b")
    router, clock = routed(a, b, slow=4.0)
    a.act = takes(2.0)
    router.answer(ASK)
    a.act = takes(5.0)
    router.answer(ASK)
    row, other, _ = router.report()
    assert row[:5] == ("a", CapacityState.DEGRADED, 0.0, 0, pytest.approx(2.6))
    assert row.p99 == 5.0
    assert router.chain()[0] == "a"  # degraded is asked at its place
    assert other == ("b", CapacityState.AVAILABLE, 0.0, 0, None, None, 0.0)


# Probes and threads -----------------------------------------------------------------------------


def opened(script: Script) -> tuple[Router, Clock]:
    """A router whose one provider is due for a probe."""
    router, clock = routed(script)
    script.act = Failure.SERVER
    for _ in range(3):
        router.answer(ASK)
    clock.now += 30.0
    return router, clock


@pytest.mark.parametrize("recovers", [True, False])
def test_of_twenty_threads_one_probes(recovers):
    a = Script("a")
    router, clock = opened(a)
    before = a.asked
    others, together = threading.Semaphore(0), threading.Barrier(20)

    def waits_for_the_others() -> None:
        for _ in range(19):
            assert others.acquire(timeout=10)
        if not recovers:
            raise ProviderError("a", Failure.SERVER, "again.")

    a.act = waits_for_the_others
    heard: list[str] = []

    def ask() -> None:
        together.wait()
        heard.append(router.answer(ASK).provider)
        others.release()

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert a.asked == before + 1
    assert heard.count("offline") == 20 - recovers
    assert router.report()[0].next_try == (0.0 if recovers else 60.0)
    a.act = None
    clock.now += 60.0
    assert router.answer(ASK).provider == "a"


def test_whoever_made_its_chain_before_the_probe_began_does_not_ask():
    first, a = scripts("first", "a")
    router, clock = routed(first, a)
    early = router.replies(ASK)
    assert next(early).provider == "first"
    a.act = Failure.SERVER
    for _ in range(3):
        assert [reply.provider for reply in router.replies(ASK)] == ["first", "offline"]
    assert next(early).provider == "offline"  # its breaker is open by now
    clock.now += 30.0
    early = router.replies(ASK)
    assert next(early).provider == "first"
    others: list[str] = []
    a.act = lambda: others.extend(reply.provider for reply in early)
    assert [reply.provider for reply in router.replies(ASK)] == ["first", "a", "offline"]
    assert others == ["offline"]
    assert a.asked == 4


@pytest.mark.parametrize("fault", [KeyError("bug"), KeyboardInterrupt()])
def test_a_probe_that_ends_oddly_leaves_its_place_to_the_next(fault):
    a = Script("a")
    router, _ = opened(a)
    a.act = fault
    with pytest.raises(type(fault)):
        router.answer(ASK)
    assert router.report()[0].next_try == 0.0
    a.act = None
    assert router.answer(ASK).provider == "a"


def test_whoever_stops_asking_holds_no_place():
    a = Script("a")
    router, _ = opened(a)
    a.act = None
    replies = router.replies(ASK)
    assert next(replies).provider == "a"
    assert states(router)["a"] is CapacityState.AVAILABLE
    replies.close()
    assert router.answer(ASK).provider == "a"


def test_the_lock_is_not_held_during_a_call():
    a = Script("a")
    router, _ = routed(a)
    chains: list[tuple[str, ...]] = []

    def looks() -> None:
        thread = threading.Thread(target=lambda: chains.append(router.chain()))
        thread.start()
        thread.join(timeout=10)
        router.report()

    a.act = looks
    router.answer(ASK)
    assert chains == [("a", "offline")]


def test_what_began_before_the_breaker_opened_ends_without_effect():
    a = Script("a")
    router, _ = routed(a)

    def fails_late() -> None:
        a.act = Failure.SERVER
        for _ in range(3):
            router.answer(ASK)
        a.act = None
        raise ProviderError("a", Failure.TIMEOUT, "late.")

    a.act = fails_late
    assert router.answer(ASK).provider == "offline"
    assert (router.report()[0].errors, router.report()[0].next_try) == (3, 30.0)


def test_failures_all_at_once_open_the_breaker_once():
    together = threading.Barrier(8)

    def fails_with_the_others() -> None:
        together.wait(timeout=10)
        raise ProviderError("a", Failure.SERVER, "all at once.")

    router, clock = routed(Script("a", fails_with_the_others))
    threads = [threading.Thread(target=router.answer, args=(ASK,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (router.report()[0].errors, router.report()[0].next_try) == (3, 30.0)
    clock.now += 30.0
    assert router.chain() == ("a", "offline")


def test_a_decision_takes_less_than_fifty_microseconds():
    router = Router(scripts(*"abcdefgh"), offline=Script("offline"))
    for _ in router.replies(ASK):
        pass
    assert len(router.chain()) == 9
    assert min(timeit.repeat(router.chain, number=100, repeat=20)) / 100 < 50e-6


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "options", "words"),
    [
        ("aa", {}, "must have different names; got"),
        (("a", "offline"), {}, "must have different names; got"),
        ("a", {"scores": {"b": 0.5}}, r"scores given for \['b'\]"),
        ("a", {"scores": {"a": 1.5}}, "the score of a must lie in"),
        ("a", {"scores": {"a": -0.1}}, "the score of a must lie in"),
        ("a", {"scores": {"a": float("nan")}}, "the score of a must not contain NaN"),
        ("a", {"slow": 0.0}, "slow must lie in"),
    ],
)
def test_bad_arguments_are_named(names, options, words):
    with pytest.raises(ValueError, match=words):
        routed(*scripts(*names), **options)


# For real ---------------------------------------------------------------------------------------


class _Failing(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(500)

    def log_message(self, *arguments: Any) -> None:
        pass


def test_two_servers_are_down_and_offline_answers():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        with (
            OpenAIEndpoint("failing", url, "m", retries=0) as failing,
            OllamaEndpoint("gone", f"http://127.0.0.1:{free_port()}", "m", retries=0) as gone,
        ):
            router = Router([failing, gone], offline=Script("offline"))
            assert [router.answer(ASK).provider for _ in range(4)] == ["offline"] * 4
            assert router.chain() == ("offline",)
            assert states(router) == {
                "failing": CapacityState.CIRCUIT_OPEN,
                "gone": CapacityState.UNAVAILABLE,
                "offline": CapacityState.AVAILABLE,
            }
        server.shutdown()
        thread.join()
