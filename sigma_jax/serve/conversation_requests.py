"""What a client of a conversation asks for: whose turn it is, its words, and its key."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .asked_model import Sampling
from .errors import invalid
from .fields import Fields
from .openai_form import read_messages

MOST_CHARACTERS = 200
"""Of a conversation's id and of a key."""
_READ = (
    *("model", "messages", "stream", "stream_options", "n", "response_format", "user", "metadata"),
    *("max_tokens", "max_completion_tokens", "temperature", "seed"),
)
_UNSUPPORTED = ("stop", "web_search_options")
_SINGLE_TEXT = ["text"]


@dataclass(frozen=True)
class Ask:
    """A turn as a client asks for it."""

    conversation: str
    """Its id."""
    derived: bool
    """Nobody gave the id: it was made of the first messages."""
    system: str
    """The client's system messages, or nothing."""
    text: str
    """The user's last words: the turn."""
    key: str | None
    """By which the turn is recognised if it is asked for again."""
    parent: str | None
    """The key of the turn before, of an id that was derived; None in the first."""
    sampling: Sampling
    streamed: bool
    stream_usage: bool
    ignored: tuple[str, ...]
    """Fields that have no effect."""


def read_ask(headers: Mapping[str, str], fields: Fields) -> Ask:
    """The turn that a request asks for.

    The conversation is that of the header `X-Conversation-Id`, else of `metadata.conversation_id`,
    else of a hash of `user`, the system messages and the first message of the user, which clients
    that send the whole history send every time.

    The key is, of a derived id, a hash of all messages, as no two turns of one history are alike;
    of a given id, the header `Idempotency-Key`, else a hash of all messages; but of a given id and
    one message of the user alone there is none, as the same words twice may be two turns.

    **Raises** `RequestError`, 400, naming the field.
    """
    fields.refuse(_UNSUPPORTED)
    if (fields.values.get("modalities") or _SINGLE_TEXT) != _SINGLE_TEXT:
        raise invalid('modalities must be ["text"].', "modalities")
    messages = read_messages(fields)
    system, said = _divided(messages)
    given = _given_id(headers, fields)
    whole = _digest([said_by(message) for message in messages])
    asked_key = _printable("Idempotency-Key", headers.get("idempotency-key", ""))
    if given is None:
        key = f"messages {whole}"
    elif asked_key:
        key = f"request {asked_key}"
    else:
        key = f"messages {whole}" if len(said) > 1 else None
    first = [fields.text("user"), system, next(m["content"] for m in said if m["role"] == "user")]
    return Ask(
        conversation=given or f"derived-{_digest(first)[:32]}",
        derived=given is None,
        system=system,
        text=said[-1]["content"],
        key=key,
        parent=_parent(messages) if given is None else None,
        sampling=_sampling(fields),
        streamed=fields.flag("stream"),
        stream_usage=fields.table("stream_options").flag("include_usage"),
        ignored=tuple(sorted(name for name in fields.values if _ignored(fields, name))),
    )


def said_by(message: Mapping[str, str]) -> list[str]:
    """A message as it is hashed."""
    return [message["role"], message["content"]]


def _divided(messages: Sequence[dict[str, str]]) -> tuple[str, Sequence[dict[str, str]]]:
    """The system messages, joined, and the others, of which the last is the user's."""
    count = next((i for i, m in enumerate(messages) if m["role"] != "system"), len(messages))
    for place, message in enumerate(messages[count:], start=count):
        if message["role"] == "system":
            name = f"messages[{place}].role"
            raise invalid(f"{name} is system: those must stand before all others.", name)
    if count == len(messages) or messages[-1]["role"] != "user":
        raise invalid("the last of messages must be the user's: it is the turn.", "messages")
    system = "\n\n".join(m["content"] for m in messages[:count] if m["content"].strip())
    said = messages[count:]
    return system, said


def _given_id(headers: Mapping[str, str], fields: Fields) -> str | None:
    header = _printable("X-Conversation-Id", headers.get("x-conversation-id", ""))
    metadata = fields.table("metadata")
    name = metadata.full("conversation_id")
    return header or _printable(name, metadata.text("conversation_id")) or None


def _printable(name: str, text: str) -> str:
    if len(text) > MOST_CHARACTERS or not text.isprintable() or text != text.strip():
        raise invalid(
            f"{name} must have at most {MOST_CHARACTERS} printable characters, without a space at "
            f"an end; got {text[:40]!r}.",
            name,
        )
    return text


def _parent(messages: Sequence[dict[str, str]]) -> str | None:
    """The key of the request whose last message was the user's before the last one."""
    before = [place for place, m in enumerate(messages[:-1]) if m["role"] == "user"]
    if not before:
        return None
    return f"messages {_digest([said_by(message) for message in messages[: before[-1] + 1]])}"


def _sampling(fields: Fields) -> Sampling:
    newer = fields.values.get("max_completion_tokens") is not None
    name = "max_completion_tokens" if newer else "max_tokens"
    given = fields.values.get(name) is not None
    return Sampling(
        max_tokens=fields.whole(name, 1, 1, 2**31 - 1) if given else None,
        temperature=fields.number("temperature", 0.0, 0.0, 2.0),
        seed=fields.whole("seed", 0, -(2**63), 2**63 - 1),
    )


def _ignored(fields: Fields, name: str) -> bool:
    return name not in _READ and name != "modalities" and fields.given(name)


def _digest(value: list) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
