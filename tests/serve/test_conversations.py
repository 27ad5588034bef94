"""The front of conversations: real clients, a real process, a model that does what tests say."""

import base64
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from sigma_jax.runtime import (
    ConversationConflict,
    ConversationRuntime,
    ConversationStore,
    Identity,
)
from tests.serve.fronts import FRONT, Front, Refusal, Upstream

HUGE = "All is well here. " * 300_000


class Echo:
    """A model that says what it was told, and does what a test has set for some words."""

    def __init__(self):
        self.special = {}
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def __call__(self, prompt: str, words: str) -> str | list:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if words in self.special:
                return self.special[words](prompt)
            return f"You said: {words}"
        finally:
            with self._lock:
                self.at_once -= 1


@pytest.fixture(scope="module")
def model() -> Echo:
    return Echo()


@pytest.fixture(scope="module")
def upstream(model) -> Iterator[Upstream]:
    upstream = Upstream(model)
    yield upstream
    upstream.close()


@pytest.fixture(scope="module")
def front(upstream, tmp_path_factory) -> Iterator[Front]:
    store = tmp_path_factory.mktemp("front") / "conversations.db"
    options = ("--timeout", "2", "--open", "2", "--max-body", "1", "--regenerations", "0")
    front = Front(upstream, store, *options)
    front.start()
    yield front
    assert front.stop() == 0


@pytest.fixture(scope="module")
def client(front) -> Iterator[openai.OpenAI]:
    about = {"base_url": f"{front.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 30}
    with openai.OpenAI(**about) as client:
        yield client


@pytest.fixture
def store(front) -> Iterator[ConversationStore]:
    with ConversationStore(front.store) as store:
        yield store


def say(client: openai.OpenAI, *words: str, id: str | None = None, **more):
    """A request; words of the user and of the assistant in turn, `system` before them."""
    system = more.pop("system", None)
    messages = [] if system is None else [{"role": "system", "content": system}]
    roles = ("user", "assistant")
    messages += [{"role": roles[i % 2], "content": text} for i, text in enumerate(words)]
    headers = more.pop("headers", {}) | ({} if id is None else {"X-Conversation-Id": id})
    return client.chat.completions.create(
        model="planner", messages=messages, extra_headers=headers, **more
    )


def text_of(reply) -> str:
    return reply.choices[0].message.content


def test_a_client_that_sends_its_history_has_one_conversation(client, upstream, store) -> None:
    first = say(client, "We plan the Heron move.", system="You are a planner.", user="ann")
    assert text_of(first) == "You said: We plan the Heron move."
    assert first.choices[0].finish_reason == "stop"
    assert first.usage.total_tokens == first.usage.prompt_tokens + first.usage.completion_tokens
    told = ["We plan the Heron move.", text_of(first), "And now?"]
    second = say(client, *told, system="You are a planner.", user="ann", top_p=0.5, seed=7)
    sigma = second.sigma
    assert (sigma["turn"], sigma["phase"], sigma["alarm"]) == (2, "FORMING", False)
    assert sigma["ignored"] == ["top_p"]
    assert sigma["conversation"] == first.sigma["conversation"]
    turns = store.turns(sigma["conversation"])
    assert [turn.user_text for turn in turns] == ["We plan the Heron move.", "And now?"]
    sent = upstream.bodies[-1]
    assert "You are a planner." in sent["messages"][0]["content"]
    assert (sent["seed"], sent["max_tokens"]) == (7, 1024)
    assert sent["messages"][-1]["content"].endswith("And now?")
    other = say(client, "We plan the Heron move.", system="You are a planner.", user="bob")
    assert other.sigma["conversation"] != sigma["conversation"]


def test_the_id_is_the_headers_or_the_metadatas(client, upstream) -> None:
    assert say(client, "Hello.", id="first chat").sigma["turn"] == 1
    raw = client.chat.completions.with_raw_response.create(
        model="planner",
        messages=[{"role": "user", "content": [{"type": "text", "text": "How "}] * 2}],
        metadata={"conversation_id": "first chat"},
        temperature=0.5,
        max_completion_tokens=9,
    )
    sent = upstream.bodies[-1]
    assert (sent["temperature"], sent["max_tokens"]) == (0.5, 9)
    assert raw.headers["x-conversation-id"] == "first chat"
    assert raw.headers["x-sigma-turn"] == "2"
    assert raw.headers["x-sigma-phase"] == "FORMING"
    assert (raw.headers["x-sigma-alarm"], raw.headers["x-sigma-flags"]) == ("false", "")
    assert text_of(raw.parse()) == "You said: How How "
    both = say(client, "Hi.", id="second chat", metadata={"conversation_id": "first chat"})
    assert (both.sigma["conversation"], both.sigma["turn"]) == ("second chat", 1)


def test_a_stream_is_live_and_says_the_same(client, model, upstream) -> None:
    heard = threading.Event()

    def wait() -> str:
        return "and two." if heard.wait(10) else "too late"

    model.special["Stream it."] = lambda prompt: ["One, ", wait]
    with say(
        client, "Stream it.", id="live", stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = []
        for chunk in stream:
            chunks.append(chunk)
            if chunk.choices and chunk.choices[0].delta.content == "One, ":
                heard.set()
    assert upstream.bodies[-1]["stream"] is True
    assert chunks[0].choices[0].delta.role == "assistant"
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(pieces) == "One, and two."
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-2].sigma["turn"] == 1
    assert chunks[-1].usage.prompt_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_key_is_one_turn_and_words_are_not(client, upstream, store) -> None:
    once = {"headers": {"Idempotency-Key": "k1"}, "id": "keys"}
    first, again = (say(client, "Only once.", **once) for _ in range(2))
    assert text_of(first) == text_of(again)
    assert (first.sigma["repeated"], again.sigma["repeated"]) == (False, True)
    assert first.sigma["turn"] == again.sigma["turn"] == 1
    with say(client, "Only once.", stream=True, **once) as stream:
        assert "".join(c.choices[0].delta.content or "" for c in stream) == text_of(first)
    assert upstream.calls("Only once.") == 1
    with pytest.raises(openai.BadRequestError, match="with other words"):
        say(client, "Something else.", **once)
    told = ["Only once.", text_of(first), "Go on."]
    assert [say(client, *told, id="keys").sigma["turn"] for _ in range(2)] == [2, 2]
    assert upstream.calls("Go on.") == 1
    assert [say(client, "Continue.", id="keys").sigma["turn"] for _ in range(2)] == [3, 4]
    assert upstream.calls("Continue.") == 2
    assert len(store.turns("keys")) == 4


def test_one_conversation_is_taken_turn_by_turn(client, model, store) -> None:
    def pause(prompt: str) -> str:
        time.sleep(0.02)
        return "Done."

    words = [f"Job {i}." for i in range(8)]
    model.special |= dict.fromkeys(words, pause)
    model.most_at_once = 0
    with ThreadPoolExecutor(4) as clients:
        replies = list(clients.map(lambda text: say(client, text, id="shared"), words))
    turns = store.turns("shared")
    assert {turn.number: turn.user_text for turn in turns} == {
        reply.sigma["turn"]: text for reply, text in zip(replies, words, strict=True)
    }
    assert sorted(turn.number for turn in turns) == list(range(1, 9))
    assert model.most_at_once == 1


def test_two_conversations_are_taken_at_once(client, model) -> None:
    meet = threading.Barrier(2, timeout=10)

    def together(prompt: str) -> str:
        meet.wait()
        return "Met."

    model.special["Meet."] = together
    with ThreadPoolExecutor(2) as clients:
        replies = clients.map(lambda id: say(client, "Meet.", id=id), ("left", "right"))
        assert [text_of(reply) for reply in replies] == ["Met.", "Met."]


def test_the_same_request_twice_at_once_is_one_turn(client, model, upstream) -> None:
    model.special["Twins."] = lambda prompt: time.sleep(0.1) or "Done."
    key = {"Idempotency-Key": "twin"}
    with ThreadPoolExecutor(2) as clients:
        replies = list(
            clients.map(lambda _: say(client, "Twins.", id="twins", headers=key), range(2))
        )
    assert sorted(reply.sigma["repeated"] for reply in replies) == [False, True]
    assert upstream.calls("Twins.") == 1


def refuse(status: int):
    def refusing(prompt: str) -> str:
        raise Refusal(status)

    return refusing


@pytest.mark.parametrize(
    ("words", "special", "status", "code"),
    [
        ("Fail.", refuse(500), 502, "server"),
        ("Too many.", refuse(429), 429, "quota"),
        ("No.", refuse(400), 502, "refused"),
        ("Who are you?", refuse(401), 502, "no_key"),
        ("Be slow.", lambda prompt: time.sleep(2.5) or "late", 504, "timeout"),
    ],
)
def test_a_model_that_fails_is_told_kept_and_asked_again(
    client, model, store, words, special, status, code
) -> None:
    model.special[words] = special
    ask = {"id": f"failing {code}", "headers": {"Idempotency-Key": "again"}}
    with pytest.raises(openai.APIStatusError) as failed:
        say(client, words, **ask)
    assert failed.value.status_code == status
    assert failed.value.body["code"] == code
    lasting = failed.value.response.headers.get("x-should-retry") == "false"
    assert lasting == (code in ("refused", "no_key"))
    assert "Turn 1 is kept without a reply" in failed.value.body["message"]
    with pytest.raises(openai.APIStatusError) as failed:
        say(client, words, stream=True, **ask)
    assert failed.value.status_code == status
    del model.special[words]
    reply = say(client, words, **ask)
    assert text_of(reply) == f"You said: {words}"
    assert reply.sigma["turn"] == 3
    turns = store.turns(ask["id"])
    assert [turn.failure is None for turn in turns] == [False, False, True]
    assert turns[2].retry_of == 2


def test_a_stream_that_breaks_off_says_so(client, model, store) -> None:
    model.special["Break."] = lambda prompt: ["Half of ", lambda: None]
    heard = []
    with say(client, "Break.", id="broken", stream=True) as stream, pytest.raises(openai.APIError):
        heard += [chunk.choices[0].delta.content for chunk in stream if chunk.choices]
    (turn,) = store.turns("broken")
    assert (turn.failure, turn.reply) == ("unreachable", "")
    del model.special["Break."]
    assert say(client, "Next.", id="broken").sigma["turn"] == 2


def test_five_megabytes_are_cut_and_said_to_be(client, model, store) -> None:
    model.special["Everything."] = lambda prompt: HUGE
    whole = say(client, "Everything.", id="huge")
    assert whole.choices[0].finish_reason == "length"
    assert whole.sigma["flags"] == ["oversized"]
    assert text_of(whole) == HUGE[: 64 * 1024]
    model.special["Everything."] = lambda prompt: [HUGE[:-5]] + ["x"] * 5
    with say(client, "Everything.", id="huge", stream=True) as stream:
        chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text_of(whole)
    assert [turn.reply for turn in store.turns("huge")] == [text_of(whole)] * 2
    model.special["Everything."] = lambda prompt: ""
    empty = say(client, "Everything.", id="huge")
    assert (text_of(empty), empty.sigma["flags"]) == ("", ["empty"])


def test_another_system_message_is_refused(client, store) -> None:
    assert say(client, "Hello.", id="kept", system="You are A.").sigma["turn"] == 1
    for ask in ({"system": "You are B."}, {"system": "You are B.", "stream": True}):
        with pytest.raises(openai.ConflictError, match="another system message") as refused:
            say(client, "Hello again.", id="kept", **ask)
        assert refused.value.body["code"] == "other_system_message"
        assert refused.value.response.headers["x-should-retry"] == "false"
    for id in ("x", "y", "z"):  # so that it is closed, and opened again
        say(client, "Hello.", id=id)
    with pytest.raises(openai.ConflictError, match="another system message"):
        say(client, "Hello again.", id="kept", system="You are B.")
    assert say(client, "Hello again.", id="kept").sigma["turn"] == 2
    assert say(client, "And again.", id="kept", system="You are A.").sigma["turn"] == 3
    with pytest.raises(openai.ConflictError, match="no system message"):
        say(client, "Hello again.", id="x", system="You are B.")
    assert len(store.turns("kept")) == 3


def test_a_history_that_is_not_the_conversations_is_refused(client, store) -> None:
    first = say(client, "Forks?")
    told = ["Forks?", text_of(first), "Left."]
    say(client, *told)
    assert say(client, "Forks?").sigma["repeated"]  # another who begins so hears the same
    for other in (
        ["Forks?", text_of(first), "Right."],
        ["Forks?", "Something that was not said.", "Left."],
        [*told, "ok", "Cut.", "ok", "And on."],
        ["Nobody has said this.", "Hm.", "Or that."],
    ):
        with pytest.raises(openai.ConflictError, match="not those that this conversation"):
            say(client, *other)
    third = say(client, *told, "You said: Left.", "And on.")
    assert third.sigma["turn"] == 3
    assert [t.user_text for t in store.turns(third.sigma["conversation"])] == [
        *("Forks?", "Left.", "And on.")
    ]
    assert say(client, *told, "cut", "On.", id="given").sigma["turn"] == 1


def test_a_turn_that_failed_may_be_given_up(client, model) -> None:
    first = say(client, "Begin with this.")
    model.special["Fails now."] = refuse(400)
    told = ["Begin with this.", text_of(first)]
    with pytest.raises(openai.InternalServerError):
        say(client, *told, "Fails now.")
    assert say(client, *told, "Then this.").sigma["turn"] == 3


def test_closed_conversations_are_opened_as_they_were(client, front, upstream) -> None:
    say(client, "The deadline is 5 May.", id="one")
    for id in ("two", "three", "four"):
        say(client, "Hello.", id=id)
    assert httpx.get(f"{front.url}/health").json()["open"] <= 2
    assert say(client, "When is the deadline?", id="one").sigma["turn"] == 2
    assert "The deadline is 5 May." in json.dumps(upstream.bodies[-1])


def test_another_process_may_go_on_with_a_conversation(client, store) -> None:
    say(client, "The server is called Heron.", id="both")
    with ConversationRuntime(lambda prompt: "Noted.", store=store, conversation="both") as other:
        other.step("The deadline is 5 May.")
        assert say(client, "What do you know?", id="both").sigma["turn"] == 3
        with pytest.raises(ConversationConflict):
            other.step("And I?")
        planner = Identity("planner", "You plan.")
        ConversationRuntime(print, identity=planner, store=store, conversation="elsewhere")
    with pytest.raises(openai.ConflictError, match="another identity") as refused:
        say(client, "Hello.", id="elsewhere")
    assert refused.value.body["code"] == "other_setting"
    assert [turn.reply for turn in store.turns("both")][1] == "Noted."


def test_what_is_asked_wrongly_is_named(client, front, store) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    user = {"role": "user", "content": "Hi."}
    tool = {"role": "tool", "content": "x", "tool_call_id": "1"}
    begun = store.conversations()
    for body, where in (
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "You."}]}, "messages"),
        ({"messages": [user, {"role": "assistant", "content": "Hm."}]}, "messages"),
        ({"messages": [user, {"role": "system", "content": "You."}, user]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": [image]}]}, "messages[0].content[0].type"),
        ({"messages": [user, tool, user]}, "messages[1].role"),
        ({"messages": [user], "tools": [{"type": "function"}]}, "tools"),
        ({"messages": [user], "n": 2}, "n"),
        ({"messages": [user], "stop": ["."]}, "stop"),
        ({"messages": [user], "modalities": ["text", "audio"]}, "modalities"),
        ({"messages": [user], "response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [user], "max_tokens": 0}, "max_tokens"),
        ({"messages": [user], "temperature": 3}, "temperature"),
        ({"messages": [user], "metadata": {"conversation_id": 3}}, "metadata.conversation_id"),
        ({"messages": [user], "metadata": {"conversation_id": "x\n"}}, "metadata.conversation_id"),
    ):
        reply = httpx.post(f"{front.url}/v1/chat/completions", json={"model": "planner"} | body)
        assert reply.status_code == 400, body
        assert reply.json()["error"]["param"] == where, body
        assert reply.json()["error"]["type"] == "invalid_request_error"
    with pytest.raises(openai.BadRequestError, match="at most 200"):
        say(client, "Hi.", id="x" * 201)
    with pytest.raises(openai.NotFoundError, match="this server has 'planner'"):
        client.chat.completions.create(model="gpt", messages=[user])
    with pytest.raises(openai.APIStatusError) as large:
        say(client, "x" * 2**20)
    assert large.value.status_code == 413
    url = f"{front.url}/v1/chat/completions"
    assert httpx.post(url, content=b"{").json()["error"]["message"].startswith("the body is not")
    assert httpx.get(url).status_code == 405
    assert store.conversations() == begun
    for words in (" \n", "x" * (64 * 1024 + 1)):
        with pytest.raises(openai.BadRequestError, match="user_input"):
            say(client, words, id="bad words")
    assert store.turns("bad words") == ()


def test_models_health_and_pages(client, front) -> None:
    assert [model.id for model in client.models.list()] == ["planner"]
    assert client.models.retrieve("planner").id == "planner"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt")
    about = httpx.get(f"{front.url}/health").json()
    assert (about["status"], about["model"], about["busy"]) == ("ok", "planner", 0)
    say(client, "The <b>server</b> is called Heron.", id="a/b c")
    listed = httpx.get(f"{front.url}/conversations").json()["data"]
    (entry,) = [each for each in listed if each["id"] == "a/b c"]
    assert (entry["turns"], entry["model"]) == (1, "model/planner")
    page = httpx.get(f"{front.url}/conversations/a%2Fb%20c")
    assert page.headers["content-type"].startswith("text/html")
    assert "/conversations/a%2Fb%20c/view" in page.text
    assert "<b>server" not in page.text
    view = httpx.get(f"{front.url}/conversations/a%2Fb%20c/view").json()
    assert view["conversation"] == "a/b c"
    assert len(view["turns"]) == 1
    for path in ("/conversations/nobody", "/conversations/nobody/view"):
        nothing = httpx.get(front.url + path)
        assert nothing.status_code == 404
        assert "nobody" in nothing.json()["error"]["message"]


def test_a_client_that_hangs_up_has_its_turn_taken(client, front, model, upstream) -> None:
    going, begun = threading.Event(), threading.Event()

    def wait(prompt: str) -> str:
        begun.set()
        return "Taken." if going.wait(10) else "too late"

    model.special["Impatient."] = wait
    body = {"model": "planner", "messages": [{"role": "user", "content": "Impatient."}]}
    for stream in (True, False):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{front.url}/v1/chat/completions", json=body | {"stream": stream}, timeout=0.3
            )
        assert begun.wait(10)
    going.set()
    reply = say(client, "Impatient.")
    assert (text_of(reply), reply.sigma["repeated"]) == ("Taken.", True)
    assert upstream.calls("Impatient.") == 1


def test_what_the_program_says_before_it_serves(tmp_path) -> None:
    def refused(*arguments: str, front=FRONT) -> str:
        needed = ["--model", "http://127.0.0.1:9", "--model-name", "m", "--port", "0"]
        store = ["--store", str(tmp_path / "store.db")]
        command = [*front, *needed, *store, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in (1, 2)
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "--regenerations" in refused("--regenerations", "7")
    (tmp_path / "store.db").write_bytes(base64.b64encode(b"no database" * 20))
    assert "is no SQLite database" in refused()
    importless = [sys.executable, "-X", "importtime", *FRONT[1:], "--help"]
    helped = subprocess.run(importless, capture_output=True, text=True, check=True, timeout=60)
    assert "base URL" in helped.stdout
    assert "| jax\n" not in helped.stderr
