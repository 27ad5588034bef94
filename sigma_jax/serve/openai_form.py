"""The form of OpenAI's chat completions: what is read of a request, and how a reply is written."""

import json
import secrets
import time
from typing import Any

from .errors import RequestError, invalid
from .fields import Fields
from .served_model import ROLES

EVENT_STREAM = "text/event-stream"
_UNSUPPORTED = ("tools", "functions", "logprobs", "logit_bias", "audio", "prediction")


def openai_error(error: RequestError) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    about = {"type": kind, "param": error.field, "code": error.code}
    return {"error": {"message": error.message, **about}}


def read_messages(fields: Fields) -> list[dict[str, str]]:
    """The messages of a request for one answer of text, each of a role and a content.

    **Raises** `RequestError`, 400, for no message, one that is no text or of another role, and for
    a field that wants another answer than one text.
    """
    fields.refuse(_UNSUPPORTED)
    if fields.whole("n", 1, 1, 2**31) != 1:
        raise invalid("n must be 1: one answer a request.", "n")
    if fields.table("response_format").text("type", "text") != "text":
        raise invalid("response_format must be text.", "response_format")
    messages = [_message(message) for message in fields.tables("messages")]
    if not messages:
        raise invalid("messages must hold at least one message.", "messages")
    return messages


class ChatForm:
    """One reply in OpenAI's form, whole or in chunks, under one id.

    **Arguments:** `name` of the model.
    """

    def __init__(self, name: str):
        self._name = name
        self._id, self._created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    def whole(self, text: str, reason: str, usage: dict[str, int] | None) -> dict[str, Any]:
        """The reply that is not streamed."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "finish_reason": reason,
            "logprobs": None,
        }
        return self._about("chat.completion", [choice]) | {"usage": usage}

    def opening(self) -> dict[str, Any]:
        """The first chunk: who speaks."""
        return self._chunk({"role": "assistant", "content": ""}, None)

    def piece(self, text: str) -> dict[str, Any]:
        """A chunk of text."""
        return self._chunk({"content": text}, None)

    def ending(self, reason: str) -> dict[str, Any]:
        """The chunk that says why the text ends."""
        return self._chunk({}, reason)

    def usage(self, usage: dict[str, int] | None) -> dict[str, Any]:
        """The chunk of tokens that were counted, behind the ending."""
        return self._about("chat.completion.chunk", []) | {"usage": usage}

    def _chunk(self, delta: dict[str, Any], reason: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return self._about("chat.completion.chunk", [choice])

    def _about(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        about = {"id": self._id, "object": kind, "created": self._created, "model": self._name}
        return about | {"choices": choices}


def event_line(value: dict[str, Any] | None) -> bytes:
    """A server-sent event of one object, or of the end of the stream for None."""
    return b"data: " + (b"[DONE]" if value is None else json.dumps(value).encode()) + b"\n\n"


def usage_of(read: int, written: int) -> dict[str, int]:
    """Tokens of a prompt and a reply as OpenAI counts them up."""
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
    }


def _message(fields: Fields) -> dict[str, str]:
    """A message whose content is a text or a list of parts of text."""
    role = fields.text("role", None)
    if role == "developer":
        role = "system"
    if role not in ROLES:
        raise invalid(
            f"{fields.full('role')} must be one of {', '.join(ROLES)}; got {role[:40]!r}.",
            fields.full("role"),
        )
    fields.refuse(("tool_calls", "function_call"))
    if not isinstance(fields.values.get("content"), list):
        return {"role": role, "content": fields.text("content", None)}
    parts = fields.tables("content")
    for part in parts:
        if part.text("type", None) != "text":
            raise invalid(f"{part.full('type')} must be text.", part.full("type"))
    return {"role": role, "content": "".join(part.text("text", None) for part in parts)}
