"""200 turns through the front, which is killed three times: nothing is lost, doubled or changed."""

import dataclasses
import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import jax
import numpy as np
import openai
import pytest

from sigma_jax.runtime import (
    ASSISTANT,
    CALIBRATION_PROMPTS,
    Calibration,
    ConversationRuntime,
    ConversationStore,
    HashedEncoder,
    Identity,
    PromptParts,
    RuntimeSettings,
    SimulatedModel,
    TurnRecord,
    build_prompt,
    calibrate,
    load_scenario,
    render,
    save_calibration,
    style_features,
    violations,
)
from sigma_jax.serve import create_conversation_app
from tests.serve.fronts import Front, Upstream

SCENARIO = load_scenario()
MODEL = SimulatedModel(SCENARIO)
IDENTITY = Identity(
    SCENARIO.identity_name, SCENARIO.identity_description, SCENARIO.constraints, SCENARIO.motifs
)
TELLS_WHO_ANSWERED = ("conversation", "key", "finish_reason", "prompt_tokens", "completion_tokens")


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """Quickly made, and rough: what matters is that it measures, and alarms."""
    encoder, replies = HashedEncoder(), ([], [])
    for question in CALIBRATION_PROMPTS[:6]:
        messages = build_prompt(PromptParts(IDENTITY, (), (), (), "", question)).messages
        for kept, sent in zip(replies, (messages, messages[1:]), strict=True):
            kept.append(MODEL(render(sent)))
    features = [
        part
        for kept in replies
        for part in (np.stack([style_features(text) for text in kept]), encoder.encode(kept))
    ]
    return calibrate(
        *features,
        key=jax.random.key(0),
        identity_violations=np.array([violations(SCENARIO.constraints, t) for t in replies[0]]),
        components=3,
        replicas=100,
        horizon=20,
        identity=IDENTITY.told_digest,
        encoder=encoder.name,
    )


class Conversation:
    """A client that knows of nothing but its base URL, and asks again until it is answered."""

    def __init__(self, client: openai.OpenAI):
        self._client = client
        self.messages: list[dict] = []
        self.turns: list[dict] = []

    def say(self, words: str) -> None:
        self.messages.append({"role": "user", "content": words})
        until = time.monotonic() + 120
        while True:
            try:
                text, sigma = self._reply(streamed=len(self.messages) % 5 == 0)
                break
            except openai.APIStatusError:
                raise
            except (openai.APIError, httpx.TransportError):
                assert time.monotonic() < until
                time.sleep(0.02)
        self.messages.append({"role": "assistant", "content": text})
        self.turns.append(sigma)

    def _reply(self, streamed: bool) -> tuple[str, dict]:
        ask = {"model": "planner", "messages": self.messages, "stream": streamed}
        if not streamed:
            reply = self._client.chat.completions.create(**ask)
            return reply.choices[0].message.content, reply.sigma
        text, sigma = "", None
        with self._client.chat.completions.create(**ask) as stream:
            for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                sigma = getattr(chunk, "sigma", sigma)
        if sigma is None:
            raise httpx.ReadError("the stream broke off")
        return text, sigma

    @property
    def replies(self) -> list[str]:
        return [message["content"] for message in self.messages[1::2]]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream(lambda prompt, words: MODEL(prompt))
    yield upstream
    upstream.close()


@pytest.fixture
def front(upstream, calibration, tmp_path) -> Iterator[Front]:
    (tmp_path / "identity.json").write_text(json.dumps(IDENTITY.to_json()))
    save_calibration(tmp_path / "calibration", calibration)
    about = ("--identity", tmp_path / "identity.json", "--calibration", tmp_path / "calibration")
    front = Front(upstream, tmp_path / "conversations.db", *map(str, about))
    front.start()
    yield front
    front.kill()


def undisturbed(calibration: Calibration) -> ConversationRuntime:
    """The conversation without HTTP, front or kill."""
    runtime = ConversationRuntime(
        MODEL,
        identity=IDENTITY,
        calibration=calibration,
        settings=RuntimeSettings(max_tokens=1024, language=None),
    )
    for turn in SCENARIO.turns:
        runtime.step(turn.text)
    return runtime


def told(turn: TurnRecord) -> dict:
    """All that is kept of a turn, but for what another model behind HTTP says otherwise."""
    return {k: v for k, v in vars(turn).items() if k not in TELLS_WHO_ANSWERED}


class Killer:
    """Kills the front in three turns that are drawn, and starts it again."""

    def __init__(self, front: Front, upstream: Upstream, store: ConversationStore):
        self.front, self._upstream, self._store = front, upstream, store
        self._draws = random.Random(5)
        self._asked, self.kept, self._any = self._draws.sample(range(1, len(SCENARIO.turns)), 3)
        self.killed: list[str] = []
        upstream.reply = self._reply

    def before(self, number: int, messages: list[dict], words: str) -> None:
        """What happens before a turn is asked for by the client."""
        if number == self.kept:
            self._when_kept(number, [*messages, {"role": "user", "content": words}])
        if number == self._any:
            threading.Timer(self._draws.uniform(0.0, 0.05), self._kill, ("at any time",)).start()

    def _reply(self, prompt: str, words: str) -> str:
        if words == SCENARIO.turns[self._asked].text and "when asked" not in self.killed:
            self._kill("when asked")
        return MODEL(prompt)

    def _when_kept(self, number: int, messages: list[dict]) -> None:
        """The front has kept a turn, and dies before anyone has heard of it."""
        body = {"model": "planner", "messages": messages}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{self.front.url}/v1/chat/completions",
                json=body,
                timeout=httpx.Timeout(30, read=1e-3),
            )
        (name,) = self._store.conversations()
        while self._store.last_turn(name) == number:
            time.sleep(1e-3)
        self._kill("when kept")

    def _kill(self, when: str) -> None:
        self.killed.append(when)
        self.front.kill()
        self.front.start()


@pytest.mark.slow
def test_200_turns_outlive_three_kills(front, upstream, calibration) -> None:
    about = {"base_url": f"{front.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 60}
    with (
        openai.OpenAI(**about) as client,
        ConversationStore(front.store) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        conversation, killer = Conversation(client), Killer(front, upstream, store)
        oracle = pool.submit(undisturbed, calibration)  # while the client waits for a new front
        for number, turn in enumerate(SCENARIO.turns):
            killer.before(number, conversation.messages, turn.text)
            conversation.say(turn.text)
        assert sorted(killer.killed) == ["at any time", "when asked", "when kept"]
        (name,) = store.conversations()
        turns, alone = store.turns(name), oracle.result()
        assert [turn.user_text for turn in turns] == [turn.text for turn in SCENARIO.turns]
        assert [turn.reply for turn in turns] == conversation.replies
        assert [sigma["turn"] for sigma in conversation.turns] == [turn.number for turn in turns]
        assert conversation.turns[killer.kept]["repeated"]
        assert list(map(told, turns)) == list(map(told, alone.store.turns("conversation")))
        assert any(turn.measurement["alarm"] for turn in turns)
        assert len({turn.prompt_digest for turn in turns}) == len(turns)
        assert store.facts(name) == alone.store.facts("conversation")
        memories, vectors = store.memories(name)
        expected, expected_vectors = alone.store.memories("conversation")
        assert memories == expected
        assert vectors.tobytes() == expected_vectors.tobytes()
        assert store.unfinished(name) == ()


def test_a_calibration_belongs_to_its_identity(calibration) -> None:
    with ConversationStore() as store:

        def made(**about):
            return create_conversation_app(MODEL, store=store, **{"name": "m"} | about)

        made(identity=IDENTITY, calibration=calibration)
        for wrong, message in (
            ({"calibration": calibration}, "needs an identity"),
            ({"calibration": calibration, "identity": ASSISTANT}, "another identity"),
            ({"name": ""}, "name must not be empty"),
            ({"most_open": 0}, "most_open must"),
            ({"workers": 0}, "workers must"),
            ({"body_limit": 0}, "body_limit must"),
        ):
            with pytest.raises(ValueError, match=message):
                made(**wrong)
        other = dataclasses.replace(calibration.provenance, encoder="MiniLM")
        foreign = dataclasses.replace(calibration, provenance=other)
        with pytest.raises(ValueError, match="encoder 'MiniLM'"):
            made(identity=IDENTITY, calibration=foreign)
