"""Many clients at once: each gets what it gets alone, and those who leave take nothing along."""

import concurrent.futures
import contextlib
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest

from sigma_jax.kernel import Generator

SLOTS, QUEUE = 3, 90
PROMPTS = ["walk", "run twice", "jump left and walk", "é €", "left " * 12, "walk walk run"]


@pytest.fixture
def raw(server) -> Iterator[httpx.Client]:
    limits = httpx.Limits(max_connections=200)
    with httpx.Client(base_url=server.url, timeout=120, limits=limits) as client:
        yield client
        server.settle()


def asked(prompt: str, **options: float) -> dict:
    options = {"temperature": 0, "num_predict": 16} | options
    return {"model": "ouro", "prompt": prompt, "stream": False, "options": options}


def said(raw: httpx.Client, body: dict) -> tuple[str, int]:
    reply = raw.post("/api/generate", json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()["response"], reply.json()["eval_count"]


def streamed(raw: httpx.Client, body: dict) -> tuple[str, int]:
    reply = raw.post("/api/generate", json=body | {"stream": True})
    lines = [json.loads(line) for line in reply.text.splitlines()]
    return "".join(line["response"] for line in lines), lines[-1]["eval_count"]


@pytest.mark.slow
def test_together_as_alone(raw) -> None:
    bodies = [asked(p, exit_threshold=q) for p in PROMPTS for q in (0.3, 1.0)]
    bodies += [asked(p, temperature=1.0, seed=9) for p in PROMPTS]
    alone = [said(raw, body) for body in bodies]
    with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
        assert list(pool.map(lambda body: said(raw, body), bodies)) == alone
        assert list(pool.map(lambda body: streamed(raw, body), bodies)) == alone


def test_64_clients_at_once(raw, server) -> None:
    before = server.metric("requests_total", route="/api/generate", status="200")
    with concurrent.futures.ThreadPoolExecutor(64) as pool:
        replies = list(pool.map(lambda i: said(raw, asked(PROMPTS[i % 6])), range(64)))
    assert all(replies[i] == replies[i % 6] for i in range(64))
    after = server.metric("requests_total", route="/api/generate", status="200")
    assert after - before == 64


def endless(prompt: str = "walk") -> dict:
    """A request that takes as long as the context allows, whatever is drawn."""
    return asked(prompt, temperature=3.0, top_k=0, top_p=1.0, num_predict=-1)


def test_who_hangs_up_frees_the_slot(raw, server) -> None:
    before = server.metric("cancelled_total")
    hurried = 0
    for _ in range(12):
        with raw.stream("POST", "/api/generate", json=endless() | {"stream": True}) as reply:
            next(reply.iter_lines())
        try:
            raw.post("/api/generate", json=endless(), timeout=0.005)
        except httpx.TimeoutException:
            hurried += 1
    server.settle()
    assert hurried
    assert server.metric("cancelled_total") > before
    assert server.metric("slots_in_use") == server.metric("queue_length") == 0
    assert server.metric("slots") == SLOTS


def test_too_many_are_turned_away(raw, server) -> None:
    count = SLOTS + QUEUE + 40
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        replies = list(pool.map(lambda _: raw.post("/api/generate", json=endless()), range(count)))
    statuses = Counter(reply.status_code for reply in replies)
    assert set(statuses) == {200, 503}
    assert statuses[200] >= SLOTS + QUEUE
    turned = next(reply for reply in replies if reply.status_code == 503)
    assert int(turned.headers["retry-after"]) >= 1
    assert "too many requests" in turned.json()["error"]


def test_a_failure_of_the_model_is_told_and_survived(raw, server, monkeypatch, caplog) -> None:
    good = said(raw, asked("walk"))
    with monkeypatch.context() as patched:

        def fails(*args: object, **others: object) -> None:
            raise RuntimeError("out of memory")

        patched.setattr(Generator, "advance", fails)
        reply = raw.post("/api/generate", json=asked("walk"))
        assert reply.status_code == 500
        assert "out of memory" not in reply.text
        assert "out of memory" in caplog.text
        patched.setattr(Generator, "start", fails)
        assert raw.post("/api/generate", json=asked("walk")).status_code == 500
    assert said(raw, asked("walk")) == good
    assert raw.get("/health").json()["status"] == "ok"


def test_an_engine_that_cannot_go_on_says_so(own_server, monkeypatch) -> None:
    def fails(*args: object, **others: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(threading, "excepthook", lambda about: None)
    with httpx.Client(base_url=own_server.url, timeout=60) as client:
        assert client.get("/health").status_code == 200
        with monkeypatch.context() as patched:
            patched.setattr(Generator, "advance", fails)
            patched.setattr(Generator, "empty", fails)
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                replies = pool.map(lambda _: client.post("/api/generate", json=endless()), range(8))
                assert {reply.status_code for reply in replies} <= {500, 503}
        assert client.get("/health").status_code == 503
        assert client.post("/api/generate", json=endless()).status_code == 503


def test_health_and_metrics(raw, server) -> None:
    health = raw.get("/health").json()
    assert (health["status"], health["slots"], health["waiting"]) == ("ok", SLOTS, 0)
    names = ("tokens_total", "token_depth_count", "first_token_seconds_count")
    before = [server.metric(name) for name in names]
    prompts = server.metric("tokens_total", kind="prompt")
    reply = raw.post("/api/generate", json=asked("walk")).json()
    read, written = reply["prompt_eval_count"], reply["eval_count"]
    after = [server.metric(name) for name in names]
    assert np.subtract(after, before).tolist() == [read + written, written, 1]
    assert server.metric("tokens_total", kind="prompt") - prompts == read
    raw.get("/no/such/route")
    assert server.metric("requests_total", route="other", status="404") >= 1


@pytest.mark.slow
def test_load_of_all_kinds_loses_nothing(raw, server) -> None:
    """`SIGMA_JAX_LOAD_SECONDS` sets how long; ten seconds unless it does."""
    seconds = float(os.environ.get("SIGMA_JAX_LOAD_SECONDS", "10"))
    bodies = [asked(p, exit_threshold=q) for p in PROMPTS for q in (0.3, 1.0)]
    bodies += [asked(p, temperature=1.0, seed=4, stop=["run", "\n"]) for p in PROMPTS]
    expected = [said(raw, body) for body in bodies]
    vector = raw.post("/api/embed", json={"model": "ouro", "input": "walk"}).json()["embeddings"]
    counts: Counter[str] = Counter()
    failures = server.metric("requests_total", status="500")
    until = time.monotonic() + seconds

    def good(client: httpx.Client, draw: random.Random) -> None:
        which = draw.randrange(len(bodies))
        ask = draw.choice([said, streamed])
        assert ask(client, bodies[which]) == expected[which]

    def embed(client: httpx.Client, draw: random.Random) -> None:
        reply = client.post("/api/embed", json={"model": "ouro", "input": "walk"})
        np.testing.assert_allclose(reply.json()["embeddings"], vector, atol=1e-6)

    def leave(client: httpx.Client, draw: random.Random) -> None:
        body = endless(draw.choice(PROMPTS)) | {"stream": True}
        with client.stream("POST", "/api/generate", json=body) as reply:
            for _, _line in zip(range(draw.randrange(3)), reply.iter_lines(), strict=False):
                pass

    def hurry(client: httpx.Client, draw: random.Random) -> None:
        with contextlib.suppress(httpx.TimeoutException):
            client.post("/api/generate", json=endless(), timeout=draw.uniform(0.001, 0.1))

    def wrong(client: httpx.Client, draw: random.Random) -> None:
        body = draw.choice([b"{", b'{"model": "x"}', b'{"model": "ouro", "prompt": 3}'])
        assert client.post("/api/generate", content=body).status_code in (400, 404)

    kinds: list[Callable[[httpx.Client, random.Random], None]] = [
        *[good] * 5,
        embed,
        leave,
        hurry,
        wrong,
    ]
    lock = threading.Lock()

    def client_of(seed: int) -> None:
        draw = random.Random(seed)
        with httpx.Client(base_url=server.url, timeout=120) as client:
            while time.monotonic() < until:
                kind = draw.choice(kinds)
                kind(client, draw)
                with lock:
                    counts[kind.__name__] += 1

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for done in [pool.submit(client_of, seed) for seed in range(12)]:
            done.result()
    server.settle()
    assert set(counts) == {"good", "embed", "leave", "hurry", "wrong"}, counts
    assert server.metric("slots_in_use") == 0
    assert server.metric("requests_total", status="500") == failures
    print(f"{seconds:g} s: {dict(counts)}")
