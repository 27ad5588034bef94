"""The real clients of Ollama and OpenAI, and raw replies where those drop fields."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import jax
import numpy as np
import ollama
import openai
import pytest

from sigma_jax.kernel import load_model, load_tokenizer

ASK = [{"role": "user", "content": "walk twice"}]


@pytest.fixture(scope="module")
def ollama_client(server) -> Iterator[ollama.Client]:
    client = ollama.Client(host=server.url)
    yield client
    client._client.close()


@pytest.fixture(scope="module")
def openai_client(server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def raw(server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


class Reader:
    """The model without a server, cache or batch: what its last loop gives for each token."""

    def __init__(self, directory: Path):
        self.tokenizer = load_tokenizer(directory)
        model = load_model(directory)
        self.head = np.asarray(model.lm_head.weight[...]).T
        self._call = jax.jit(lambda ids, real: model(ids, real=real).hidden[-1, 0])

    def ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def __call__(self, ids: list[int]) -> np.ndarray:
        padded = np.zeros((1, 32), np.int32)
        padded[0, -len(ids) :] = ids
        real = np.arange(32)[None] >= 32 - len(ids)
        return np.asarray(self._call(padded, real))[-len(ids) :]


@pytest.fixture(scope="module")
def read(model_directory) -> Reader:
    return Reader(model_directory)


@pytest.mark.parametrize("temperature", [0.0, 1.3])
def test_ollama_chat_streams_what_it_says_at_once(ollama_client, temperature) -> None:
    options = {"temperature": temperature, "seed": 7, "num_predict": 24}
    asked = {"model": "ouro", "messages": ASK, "options": options}
    whole = ollama_client.chat(**asked)
    parts = list(ollama_client.chat(**asked, stream=True))
    assert "".join(part.message.content for part in parts) == whole.message.content != ""
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].eval_count == whole.eval_count <= 24
    assert parts[-1].done_reason == whole.done_reason
    assert whole.prompt_eval_count > 0
    assert whole.total_duration >= whole.prompt_eval_duration > 0


def test_greedy_chat_is_what_the_model_finds_likeliest(ollama_client, read) -> None:
    options = {"temperature": 0, "repeat_penalty": 1, "num_predict": 12}
    reply = ollama_client.chat("ouro", ASK, options=options)
    ids = read.ids("<|im_start|>user\nwalk twice<|im_end|>\n<|im_start|>assistant\n")
    assert reply.prompt_eval_count == len(ids)
    made: list[int] = []
    while len(made) < 12:
        token = int((read(ids + made)[-1] @ read.head).argmax())
        if token in (0, 2):
            break
        made.append(token)
    text = read.tokenizer.backend_tokenizer.decode(made, skip_special_tokens=False)
    assert reply.message.content == text.removesuffix("\N{REPLACEMENT CHARACTER}")
    assert reply.eval_count == len(made) > 2


def test_ollama_generate_raw_or_through_the_template(ollama_client) -> None:
    options = {"temperature": 0, "num_predict": 8}
    shown = ollama_client.generate("ouro:latest", "run left", options=options)
    chat = ollama_client.chat("ouro", [{"role": "user", "content": "run left"}], options=options)
    assert shown.response == chat.message.content
    raw = ollama_client.generate("ouro", "run left", raw=True, options=options)
    assert raw.prompt_eval_count < shown.prompt_eval_count
    with_system = ollama_client.generate("ouro", "run left", system="jump", options=options)
    assert with_system.prompt_eval_count > shown.prompt_eval_count


def test_nothing_said_loads_and_unloads(ollama_client) -> None:
    assert ollama_client.chat("ouro", []).done_reason == "load"
    assert ollama_client.generate("ouro", "").done_reason == "load"
    assert ollama_client.generate("ouro", "", keep_alive=0).done_reason == "unload"


def test_ollama_tells_about_its_model(ollama_client, raw) -> None:
    (listed,) = ollama_client.list().models
    assert listed.model == "ouro:latest"
    assert listed.size == 4 * ollama_client.show("ouro").modelinfo["general.parameter_count"]
    about = ollama_client.show("ouro:latest")
    assert about.modelinfo["ouro.block_count"] == 2
    assert about.modelinfo["ouro.loop_count"] == 3
    assert about.capabilities == ["completion", "embedding"]
    (running,) = ollama_client.ps().models
    assert running.model == "ouro:latest"
    assert set(raw.get("/api/version").json()) == {"version"}
    assert raw.get("/").text


def test_embeddings_are_the_mean_of_the_last_loop(ollama_client, read) -> None:
    texts = ["walk", "run jump left walk é"]
    reply = ollama_client.embed("ouro", texts)
    for text, vector in zip(texts, reply.embeddings, strict=True):
        mean = read(read.ids(text)).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=2e-6)
    assert reply.prompt_eval_count == sum(len(read.ids(text)) for text in texts)
    short = np.array(ollama_client.embed("ouro", "walk", dimensions=5).embeddings[0])
    whole = np.array(reply.embeddings[0])[:5]
    np.testing.assert_allclose(short, whole / np.linalg.norm(whole), atol=2e-6)
    assert ollama_client.embed("ouro", "").embeddings == []
    long = "walk " * 200
    assert ollama_client.embed("ouro", long).prompt_eval_count == 96
    with pytest.raises(ollama.ResponseError, match="context"):
        ollama_client.embed("ouro", long, truncate=False)


@pytest.mark.parametrize("temperature", [0.0, 1.1])
def test_openai_chat_streams_what_it_says_at_once(openai_client, temperature) -> None:
    asked = dict(model="ouro", messages=ASK, seed=3, temperature=temperature, max_tokens=15)
    whole = openai_client.chat.completions.create(**asked)
    assert whole.choices[0].finish_reason in ("stop", "length")
    assert 1 <= whole.depth["mean"] <= 3  # the client keeps fields that it does not know
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    with openai_client.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert len({chunk.id for chunk in chunks}) == 1


def test_both_interfaces_say_the_same(ollama_client, openai_client) -> None:
    ours = ollama_client.chat(
        "ouro",
        ASK,
        options={"temperature": 1, "top_k": 0, "top_p": 1, "repeat_penalty": 1, "seed": 11}
        | {"num_predict": 10},
    )
    content = [{"type": "text", "text": "walk "}, {"type": "text", "text": "twice"}]
    theirs = openai_client.chat.completions.create(
        model="ouro", messages=[{"role": "user", "content": content}], seed=11, max_tokens=10
    )
    assert theirs.choices[0].message.content == ours.message.content


def test_openai_models_and_embeddings(openai_client, ollama_client, raw) -> None:
    assert [model.id for model in openai_client.models.list()] == ["ouro:latest"]
    assert openai_client.models.retrieve("ouro").id == "ouro:latest"
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("other/model")
    expected = ollama_client.embed("ouro", ["walk", "jump left"]).embeddings
    coded = openai_client.embeddings.create(model="ouro", input=["walk", "jump left"])
    floats = openai_client.embeddings.create(
        model="ouro", input=["walk", "jump left"], encoding_format="float"
    )
    for ours, a, b in zip(expected, coded.data, floats.data, strict=True):
        np.testing.assert_allclose(a.embedding, ours, atol=1e-6)
        np.testing.assert_allclose(b.embedding, ours, atol=1e-6)
    body = {"model": "ouro", "input": "walk", "encoding_format": "base64", "dimensions": 3}
    text = raw.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    assert np.frombuffer(base64.b64decode(text), "<f4").shape == (3,)
    ids = openai_client.embeddings.create(model="ouro", input=[[5, 6], [7]])
    assert ids.usage.prompt_tokens == 3
    one = openai_client.embeddings.create(model="ouro", input=[7])
    np.testing.assert_allclose(one.data[0].embedding, ids.data[1].embedding, atol=1e-6)


def test_depth_and_canary_are_reported(raw) -> None:
    options = {"temperature": 0, "num_predict": 12, "seed": 1, "report_depths": True}
    ask = {"model": "ouro", "stream": False, "messages": ASK}

    def depths(**more: float) -> list[int]:
        reply = raw.post("/api/chat", json=ask | {"options": options | more})
        about = reply.json()["depth"]
        assert len(about["tokens"]) == reply.json()["eval_count"]
        assert about["mean"] == pytest.approx(np.mean(about["tokens"]))
        assert float(reply.headers["x-depth-mean"]) == about["mean"]
        assert (about["least"], about["most"]) == (min(about["tokens"]), max(about["tokens"]))
        canary = reply.json()["canary"]
        assert 0 <= canary["max_degeneracy"] <= 1
        assert int(reply.headers["x-canary-flags"]) == canary["flags"] >= 0
        return about["tokens"][1:]  # the first is the prompt's, which is read at full depth

    assert set(depths()) == {3}
    assert set(depths(exit_threshold=1.5)) == {3}
    assert set(depths(max_loops=2)) == {2}
    assert set(depths(exit_threshold=0)) == {1}
    assert set(depths(exit_threshold=0, min_loops=2)) == {2}

    body = {"model": "ouro", "messages": ASK, "max_tokens": 6, "exit_threshold": 0, "seed": 1}
    whole = raw.post("/v1/chat/completions", json=body | {"report_depths": True})
    assert whole.json()["depth"]["tokens"][1:] == [1] * 5
    assert "x-depth-mean" in whole.headers
    streamed = raw.post("/v1/chat/completions", json=body | {"stream": True}).text
    events = [line.removeprefix("data: ") for line in streamed.splitlines() if line]
    assert events[-1] == "[DONE]"
    last = json.loads(events[-2])
    assert last["depth"]["mean"] == whole.json()["depth"]["mean"]
    assert "tokens" not in last["depth"]


def test_a_stop_string_ends_the_text_before_it(raw) -> None:
    ask = {"model": "ouro", "prompt": "jump", "stream": False}
    options = {"temperature": 0, "num_predict": 40}
    text = raw.post("/api/generate", json=ask | {"options": options}).json()["response"]
    stop = text[5:8]
    reply = raw.post("/api/generate", json=ask | {"options": options | {"stop": ["~~~~~", stop]}})
    assert reply.json()["response"] == text[: text.index(stop)]
    assert reply.json()["done_reason"] == "stop"
    streamed = raw.post(
        "/api/generate", json=ask | {"stream": True, "options": options | {"stop": stop}}
    )
    parts = [json.loads(line)["response"] for line in streamed.text.splitlines()]
    assert "".join(parts) == text[: text.index(stop)]


def test_an_answer_ends_with_the_context(raw) -> None:
    ask = {"model": "ouro", "prompt": "jump", "stream": False, "raw": True}
    options = {"temperature": 3, "top_k": 0, "top_p": 1, "num_ctx": 4096, "num_predict": -1}
    ends = set()
    for seed in range(8):
        reply = raw.post("/api/generate", json=ask | {"options": options | {"seed": seed}}).json()
        ends.add(reply["done_reason"])
        if reply["done_reason"] == "length":
            assert reply["prompt_eval_count"] + reply["eval_count"] == 96 + 1
    assert "length" in ends


def test_seeds_decide(raw) -> None:
    def said(**options: float) -> str:
        body = {"model": "ouro", "prompt": "run", "stream": False}
        options = {"temperature": 2, "num_predict": 12} | options
        return raw.post("/api/generate", json=body | {"options": options}).json()["response"]

    assert said(seed=1) == said(seed=1) == said(seed=1 + 2**32)
    assert said(seed=1) != said(seed=2)
    assert len({said() for _ in range(4)}) > 1
    assert said(seed=1, top_k=1) == said(seed=2, temperature=0)
