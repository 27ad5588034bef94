"""Models: functions, and endpoints on loopback."""

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.bridge import ChatEndpoint
from sigma_jax.runtime import (
    CallableModel,
    Completion,
    EndpointModel,
    Message,
    Model,
    ModelFailure,
    as_model,
    parse,
    render,
)
from tests.bridge.test_chat_endpoint import PIECES, TOLD, WHOLE, closes, streams
from tests.bridge.test_endpoints import loopback, says

TALK = (Message("system", "You are Ada."), Message("user", "Which port?"))


def fails(model: Model, **options) -> ModelFailure:
    with pytest.raises(ModelFailure, match=f"model {model.name}: ") as caught:
        model.complete(TALK, max_tokens=8, **options)
    assert caught.value.model == model.name
    return caught.value


class Ticks:
    """A clock that is a second on at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


# Functions --------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text()), min_size=1))
def test_a_function_is_given_the_whole_conversation(pairs):
    talk = tuple(Message(*pair) for pair in pairs)
    given_to: list[str] = []

    def model(prompt: str) -> str:
        given_to.append(prompt)
        return prompt

    pieces: list[str] = []
    made = CallableModel(model, clock=Ticks())
    completion = made.complete(talk, max_tokens=8, on_piece=pieces.append)
    assert given_to == pieces == [render(talk)]
    assert completion == Completion(render(talk), None, None, None, None, 1.0)


def test_an_empty_reply_is_one_without_a_piece():
    pieces: list[str] = []
    model = as_model(lambda prompt: "")
    assert model.complete(TALK, max_tokens=8, on_piece=pieces.append).text == ""
    assert pieces == []


def named(prompt: str) -> str:
    return prompt


class Parrot:
    def __call__(self, prompt: str) -> str:
        return parse(prompt)[-1].content


class Named(Parrot):
    name = "polly"


class Numbered(Parrot):
    name = 7


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (named, "named"),
        (Parrot(), "Parrot"),
        (Parrot().__call__, "Parrot.__call__"),
        (Named(), "polly"),
        (Numbered(), "Numbered"),
        (functools.partial(named), "partial"),
    ],
)
def test_a_function_keeps_its_name(function, name):
    model = as_model(function)
    assert isinstance(model, CallableModel)
    assert model.name == name
    assert "Which port?" in model.complete(TALK, max_tokens=8).text


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyError("x"), OSError(5, "no")])
def test_what_a_function_raises_is_a_failure_that_names_it(error):
    def model(prompt: str) -> str:
        raise error

    failure = fails(as_model(model))
    assert failure.reason == "raised"
    assert f"{type(error).__name__}: {error}" in str(failure)
    assert failure.__cause__ is error


def test_what_says_itself_why_it_fails_is_believed():
    def model(prompt: str) -> str:
        raise ModelFailure("inner", "quota", "none left.")

    with pytest.raises(ModelFailure, match=r"model inner: none left\.") as caught:
        as_model(model).complete(TALK, max_tokens=8)
    assert caught.value.reason == "quota"


def test_an_interrupt_is_no_failure():
    def model(prompt: str) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        as_model(model).complete(TALK, max_tokens=8)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (None, "returned NoneType, not a text"),
        (b"bytes", "bytes"),
        (["text"], "list"),
        (7, "int"),
        ("half a pair: \ud83d", "no Unicode text"),
    ],
)
def test_what_is_no_text_is_a_failure(reply, words):
    pieces: list[str] = []
    failure = fails(as_model(lambda prompt: reply), on_piece=pieces.append)
    assert failure.reason == "not text"
    assert words in str(failure)
    assert pieces == []


# Endpoints --------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_an_endpoint_completes_and_streams_where_pieces_are_wanted(streamed):
    pieces: list[str] = []
    act = streams(*TOLD) if streamed else says(json.dumps(WHOLE).encode())
    with loopback(act) as server, ChatEndpoint("far", server.url, "m", clock=Ticks()) as endpoint:
        model = EndpointModel(endpoint, seed=5, temperature=0.25)
        options = {"on_piece": pieces.append} if streamed else {}
        completion = model.complete(TALK, max_tokens=8, **options)
        _, _, asked = server.asked[0]
    assert completion.seconds > 0
    assert completion == Completion("It is 11434, é.", "stop", 9, 4, 5, completion.seconds)
    assert tuple(pieces) == (PIECES if streamed else ())
    assert asked["stream"] is streamed
    assert asked["messages"] == [{"role": role, "content": content} for role, content in TALK]
    assert (asked["max_tokens"], asked["seed"], asked["temperature"]) == (8, 5, 0.25)
    assert model.name == "far/m"


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (says(b"slow down", 429), "quota"),
        (says(b"busy", 500), "server"),
        (says(b"<html>"), "garbage"),
        (closes, "unreachable"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_endpoints_failures_keep_their_words(act, reason, streamed):
    options = {"on_piece": lambda piece: None} if streamed else {}
    with loopback(act) as server, ChatEndpoint("far", server.url, "m", retries=0) as endpoint:
        failure = fails(as_model(endpoint), **options)
    assert failure.reason == reason
    assert "provider far: " in str(failure)


def test_what_takes_the_pieces_may_end_it():
    def full(piece: str) -> None:
        raise BufferError(piece)

    with loopback(streams(*TOLD)) as server, ChatEndpoint("far", server.url, "m") as endpoint:
        for model in (as_model(endpoint), as_model(lambda prompt: "It is")):
            with pytest.raises(BufferError, match="It is"):
                model.complete(TALK, max_tokens=8, on_piece=full)


# What is a model --------------------------------------------------------------------------------


def test_a_model_is_itself():
    class Own(Parrot):
        name = "own"

        def complete(self, messages, *, max_tokens, on_piece=None):
            return Completion("", None, None, None, None, 0.0)

    own = Own()
    assert as_model(own) is own
    model = as_model(named)
    assert as_model(model) is model
    assert isinstance(model, Model)


@pytest.mark.parametrize("given_model", [None, "http://127.0.0.1", 7])
def test_what_is_none_is_named(given_model):
    with pytest.raises(ValueError, match="model must be a Model, a ChatEndpoint, or a function"):
        as_model(given_model)


def test_bad_messages_are_the_callers_fault():
    with pytest.raises(ValueError, match="role must be one of"):
        as_model(named).complete([Message("narrator", "a")], max_tokens=8)
    with (
        ChatEndpoint("far", "http://127.0.0.1:9", "m") as endpoint,
        pytest.raises(ValueError, match="messages must hold at least one"),
    ):
        as_model(endpoint).complete([], max_tokens=8, on_piece=print)
