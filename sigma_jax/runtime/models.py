"""What the loop asks for the next reply: any function of a text, or a model behind HTTP."""

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from ..bridge import ChatEndpoint, ChatReply, ProviderError
from .messages import Message, render

RAISED, NOT_TEXT = "raised", "not text"


@dataclass(frozen=True)
class Completion:
    """What a model said. None: the model does not tell."""

    text: str
    finish_reason: str | None
    """`stop`, `length`, or another word of the model's."""
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    """Of the prompt's tokens, those that had been computed before."""
    seconds: float


class ModelFailure(Exception):
    """A model gave no completion. The message names the model and what came instead."""

    def __init__(self, model: str, reason: str, message: str):
        super().__init__(f"model {model}: {message}")
        self.model = model
        self.reason = reason
        """A short word that stays the same: the value of a `Failure`, `raised`, or `not text`."""


@runtime_checkable
class Model(Protocol):
    """Anything that continues a conversation."""

    @property
    def name(self) -> str:
        """What it is called; a state is not carried from one name to another unnoticed."""
        ...

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        on_piece: Callable[[str], None] | None = None,
    ) -> Completion:
        """The next words of the assistant.

        **Arguments:** `messages`, the oldest first; `max_tokens` of the reply; `on_piece`, given
        the text piece by piece as it comes, which together are the completion's text.

        **Raises** `ModelFailure` if there is no completion; what `on_piece` raises goes through.
        """
        ...


class CallableModel:
    """A function from a prompt's text to the reply's, as a `Model`.

    The function is given `render(messages)`. It has no way to hear of `max_tokens`, so it keeps its
    own limit, and its text is one piece.

    **Arguments:** `function`; `clock`, in seconds.
    """

    def __init__(
        self, function: Callable[[str], Any], *, clock: Callable[[], float] = time.perf_counter
    ):
        self.name = _name(function)
        self._function, self._clock = function, clock

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        on_piece: Callable[[str], None] | None = None,
    ) -> Completion:
        """What the function returns.

        **Raises** `ModelFailure` where it raises, or returns what is no text of Unicode.
        """
        began = self._clock()
        text = self._text(render(messages))
        seconds = self._clock() - began
        if on_piece is not None and text:
            on_piece(text)
        return Completion(text, None, None, None, None, seconds)

    def _text(self, prompt: str) -> str:
        try:
            text = self._function(prompt)
        except ModelFailure:  # it says itself what went wrong
            raise
        except Exception as error:  # another's code: whatever it raises, the conversation goes on
            what = f"it raised {type(error).__name__}: {error}"
            raise ModelFailure(self.name, RAISED, what) from error
        if not isinstance(text, str):
            what = f"it returned {type(text).__name__}, not a text."
            raise ModelFailure(self.name, NOT_TEXT, what)
        try:
            text.encode()
        except UnicodeEncodeError as error:  # half of a surrogate pair
            what = f"it returned what is no Unicode text: {error}."
            raise ModelFailure(self.name, NOT_TEXT, what) from None
        return text


class EndpointModel:
    """A model behind HTTP, as a `Model`; it streams where pieces are wanted.

    **Arguments:** `endpoint`, which whoever made it closes; `seed` of its draws; `temperature`.
    """

    def __init__(self, endpoint: ChatEndpoint, *, seed: int = 0, temperature: float = 0.0):
        self.name = f"{endpoint.name}/{endpoint.model}"
        self._endpoint, self._seed, self._temperature = endpoint, seed, temperature

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        on_piece: Callable[[str], None] | None = None,
    ) -> Completion:
        """What the server replies.

        **Raises** `ModelFailure`, its reason the value of the `ProviderError`'s failure;
        `ValueError` as `ChatEndpoint.complete`.
        """
        about: dict[str, Any] = {
            "max_tokens": max_tokens,
            "seed": self._seed,
            "temperature": self._temperature,
        }
        try:
            if on_piece is None:
                reply = self._endpoint.complete(messages, **about)
            else:
                reply = _heard(self._endpoint.stream(messages, **about), on_piece)
        except ProviderError as error:
            raise ModelFailure(self.name, error.failure.value, str(error)) from error
        return Completion(
            text=reply.text,
            finish_reason=reply.finish_reason,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            cached_tokens=reply.cached_tokens,
            seconds=reply.seconds,
        )


def as_model(given: Model | ChatEndpoint | Callable[[str], Any]) -> Model:
    """A model of what is given: itself, an endpoint's `EndpointModel`, a `CallableModel`.

    **Raises** `ValueError` for anything else.
    """
    if isinstance(given, ChatEndpoint):  # it, too, has a name and completes, with other arguments
        return EndpointModel(given)
    if isinstance(given, Model):
        return given
    if callable(given):
        return CallableModel(given)
    raise ValueError(
        "model must be a Model, a ChatEndpoint, or a function from a prompt's text to the reply's; "
        f"got {given!r}."
    )


def _heard(pieces: Generator[str, None, ChatReply], on_piece: Callable[[str], None]) -> ChatReply:
    """Hand each piece on; return what the generator does. Hangs up if `on_piece` raises."""
    with contextlib.closing(pieces):
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                return end.value
            on_piece(piece)


def _name(function: Any) -> str:
    for field in ("name", "__qualname__"):
        name = getattr(function, field, None)
        if isinstance(name, str) and name:
            return name
    return type(function).__name__
