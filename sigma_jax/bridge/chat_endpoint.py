"""Conversations behind HTTP: whole lists of messages, answered at once or piece by piece."""

import contextlib
import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._check import require_in
from .endpoints import OpenAIEndpoint, as_text
from .http_posts import shown
from .requests import Failure, ProviderError
from .server_sent_events import event_data

_DONE = b"[DONE]"


@dataclass(frozen=True)
class ChatReply:
    """What a model said next in a conversation. Counts are the server's own; None: it says none."""

    text: str
    finish_reason: str | None
    """`stop`, `length`, or another word of the server's."""
    prompt_tokens: int | None
    completion_tokens: int | None
    cached_tokens: int | None
    """Of the prompt's tokens, those that the server had computed before."""
    seconds: float


class ChatEndpoint(OpenAIEndpoint):
    """An `OpenAIEndpoint` that is also given whole conversations, and can stream.

    Arguments and errors are an `Endpoint`'s. `largest` is also of the text of a stream, which
    together with what wraps it may have 16 times that.
    """

    def complete(
        self,
        messages: Sequence[tuple[str, str]],
        *,
        max_tokens: int,
        seed: int = 0,
        temperature: float = 0.0,
    ) -> ChatReply:
        """The whole reply to a conversation.

        **Arguments:** `messages`, pairs of a role and a content, the oldest first; `max_tokens` of
        the reply; `seed` of the draws; `temperature`, 0 for the likeliest tokens.

        **Raises** `ValueError` for no message, a role or content that is no text, and numbers out
        of range; `ProviderError`, with every `Failure`, if there is no reply.
        """
        began = self._clock()
        body = json.dumps(self._conversation(messages, max_tokens, seed, temperature)).encode()
        reply = self._read(self._posts.post(self._path, body, self._key()), _whole)
        return self._reply(reply, began)

    def stream(
        self,
        messages: Sequence[tuple[str, str]],
        *,
        max_tokens: int,
        seed: int = 0,
        temperature: float = 0.0,
    ) -> Generator[str, None, ChatReply]:
        """The pieces of the reply as they come; the generator returns the whole of them.

        Nothing is asked before the first piece is wanted, and nothing asked again after the first
        has come. Closing the generator hangs up.

        **Arguments:** as of `complete`.

        **Raises** `ValueError` as `complete`, at once; from the generator `ProviderError`, with
        the `Failure` that the same would be in a whole reply. A stream that ends before it says so
        broke off.
        """
        asked = self._conversation(messages, max_tokens, seed, temperature)
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return self._pieces(json.dumps(asked).encode())

    def _pieces(self, body: bytes) -> Generator[str, None, ChatReply]:
        began, key = self._clock(), self._key()
        parts = self._posts.stream(self._path, body, key)
        heard: list[_Said] = []
        left, done = self._largest, False
        with contextlib.closing(parts):
            for data in event_data(parts):
                if data == _DONE:
                    done = True
                    break
                said = self._read(data, _chunk)
                if said.error is not None:
                    what = f"the stream ended with an error: {shown(said.error, key)!r}."
                    raise ProviderError(self.name, Failure.SERVER, what)
                left -= len(said.text.encode())
                if left < 0:
                    what = f"the text is larger than {self._largest} bytes."
                    raise ProviderError(self.name, Failure.TOO_LONG, what)
                heard.append(said)
                if said.text:
                    yield said.text
        if not heard:
            what = f"the reply is no stream of {self._path}."
            raise ProviderError(self.name, Failure.GARBAGE, what)
        whole = _joined(heard)
        if not done and whole.finish_reason is None:
            what = "the stream ended before the reply did."
            raise ProviderError(self.name, Failure.UNREACHABLE, what)
        return self._reply(whole, began)

    def _conversation(
        self,
        messages: Sequence[tuple[str, str]],
        max_tokens: int,
        seed: int,
        temperature: float,
    ) -> dict[str, Any]:
        if not messages:
            raise ValueError("messages must hold at least one message; got none.")
        for place, (role, content) in enumerate(messages):
            for field, text in (("role", role), ("content", content)):
                try:
                    text.encode()
                except (AttributeError, UnicodeEncodeError):
                    name = f"messages[{place}].{field}"
                    raise ValueError(f"{name} must be a text of Unicode; got {text!r}.") from None
        require_in("max_tokens", max_tokens, 1)
        require_in("temperature", temperature, 0.0, 2.0)
        return self._chat(messages, max_tokens, seed, temperature)

    def _reply(self, said: "_Said", began: float) -> ChatReply:
        return ChatReply(
            text=said.text,
            finish_reason=said.finish_reason,
            prompt_tokens=_count(said.usage, "prompt_tokens"),
            completion_tokens=_count(said.usage, "completion_tokens"),
            cached_tokens=_count(_field(said.usage, "prompt_tokens_details"), "cached_tokens"),
            seconds=self._clock() - began,
        )


class _Said(NamedTuple):
    """A reply, or a piece of one."""

    text: str = ""
    finish_reason: str | None = None
    usage: Any = None
    error: str | None = None


def _joined(heard: Sequence[_Said]) -> _Said:
    """The texts, and the last reason and usage that were given."""
    return _Said(
        "".join(said.text for said in heard),
        next((said.finish_reason for said in reversed(heard) if said.finish_reason), None),
        next((said.usage for said in reversed(heard) if said.usage), None),
    )


def _whole(reply: Any) -> _Said:
    choice = reply["choices"][0]
    text = as_text(choice["message"]["content"])
    return _Said(text, _reason(choice), reply.get("usage"))


def _chunk(event: Any) -> _Said:
    """One event of a stream: of text, of the end, of the usage (without a choice), or an error."""
    if event.get("error") is not None:
        error = event["error"]
        return _Said(error=str(_field(error, "message") or error))
    if not event["choices"]:
        return _Said(usage=event.get("usage"))
    choice = event["choices"][0]
    text = as_text(choice["delta"].get("content"))
    return _Said(text, _reason(choice), event.get("usage"))


def _reason(choice: Any) -> str | None:
    return as_text(choice.get("finish_reason")) or None


def _field(table: Any, name: str) -> Any:
    return table.get(name) if isinstance(table, dict) else None


def _count(usage: Any, name: str) -> int | None:
    """A count that the server gives; None where it gives none that can be one."""
    count = _field(usage, name)
    whole = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    return count if whole else None
