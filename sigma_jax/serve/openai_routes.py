"""OpenAI's HTTP interface: /v1/chat/completions, /v1/embeddings, /v1/models."""

import asyncio
import base64
from collections.abc import Iterable
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .answers import embed_texts, generate_text, stream_text
from .engine import Engine
from .errors import RequestError, invalid
from .fields import Fields, is_text, read_fields
from .openai_form import (
    EVENT_STREAM,
    ChatForm,
    event_line,
    openai_error,
    read_messages,
    usage_of,
)
from .reply_statistics import statistics, statistics_headers
from .settings import openai_settings
from .work import Ending

MOST_TEXTS = 2048
"""Texts in one request for embeddings."""


class OpenAIRoutes:
    """OpenAI's routes over an engine; `body_limit`, bytes of a request that are read."""

    def __init__(self, engine: Engine, body_limit: int):
        self._engine, self._served, self._body_limit = engine, engine.served, body_limit

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/embeddings", self._embeddings, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._model, methods=["GET"]),
        ]

    async def _chat(self, request: Request) -> Response:
        fields = await self._fields(request)
        messages = read_messages(fields)
        settings = openai_settings(fields, self._served.limits)
        streamed = fields.flag("stream")
        usage = fields.table("stream_options").flag("include_usage")

        def prompt() -> list[int]:
            return self._served.encode(self._served.render(messages), rendered=True)

        ids = await asyncio.to_thread(prompt)  # a long text takes a while
        self._served.require_fits(ids, "messages")
        form = _Events(self._served.name, usage, every_token=settings.report_depths)
        if streamed:
            return await stream_text(request, self._engine, ids, settings, form)
        text, ending = await generate_text(request, self._engine, ids, settings)
        return JSONResponse(form.whole(text, ending), headers=statistics_headers(ending))

    async def _embeddings(self, request: Request) -> Response:
        fields = await self._fields(request)
        size = self._served.model.config.hidden_size
        dimensions = fields.whole("dimensions", size, 1, size)
        encoding = fields.text("encoding_format", "float")
        if encoding not in ("float", "base64"):
            raise invalid("encoding_format must be float or base64.", "encoding_format")
        texts = await asyncio.to_thread(self._inputs, fields.values.get("input"))
        for ids in texts:
            self._served.require_fits(ids, "input")
        embeddings = await embed_texts(request, self._engine, texts, dimensions)
        written = [_written(vector, encoding) for vector in embeddings.vectors]
        count = sum(map(len, texts))
        reply = {
            "object": "list",
            "model": self._served.name,
            "data": [
                {"object": "embedding", "index": index, "embedding": vector}
                for index, vector in enumerate(written)
            ],
            "usage": {"prompt_tokens": count, "total_tokens": count},
        }
        return JSONResponse(reply)

    def _inputs(self, given: Any) -> list[list[int]]:
        """Token ids of a text, texts, ids, or lists of ids."""
        vocabulary = self._served.model.config.vocab_size

        def is_ids(value: Any) -> bool:
            return isinstance(value, list) and all(
                isinstance(i, int) and not isinstance(i, bool) and 0 <= i < vocabulary
                for i in value
            )

        one = not isinstance(given, list) or (len(given) > 0 and is_ids(given))
        many: list[Any] = [given] if one else given
        if not many or len(many) > MOST_TEXTS:
            raise invalid(f"input must hold 1 to {MOST_TEXTS} texts; got {len(many)}.", "input")
        if all(map(is_text, many)):
            return [self._served.encode(text) for text in many]
        if all(map(is_ids, many)):
            return many
        raise invalid(
            f"input must be a text, a list of texts, or token ids below {vocabulary}.", "input"
        )

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._entry()]})

    async def _model(self, request: Request) -> Response:
        self._served.require(request.path_params["name"])
        return JSONResponse(self._entry())

    def _entry(self) -> dict[str, Any]:
        created = int(self._served.loaded.timestamp())
        about = {"id": self._served.name, "object": "model"}
        return about | {"created": created, "owned_by": "sigma_jax"}

    async def _fields(self, request: Request) -> Fields:
        fields = await read_fields(request, self._body_limit)
        self._served.require(fields.text("model", None))
        return fields


class _Events:
    """The server-sent events that OpenAI streams. Implements `Format`."""

    media_type = EVENT_STREAM

    def __init__(self, name: str, usage: bool, *, every_token: bool):
        self._form, self._usage, self._every_token = ChatForm(name), usage, every_token
        self._begun = False

    def piece(self, text: str) -> Iterable[dict[str, Any]]:
        yield from self._opening()
        yield self._form.piece(text)

    def ending(self, ending: Ending) -> Iterable[dict[str, Any]]:
        yield from self._opening()
        about = statistics(ending, every_token=self._every_token)
        yield self._form.ending(ending.reason) | about
        if self._usage:
            yield self._form.usage(_usage(ending))

    def error(self, error: RequestError) -> dict[str, Any]:
        return openai_error(error)

    def line(self, value: dict[str, Any] | None) -> bytes:
        return event_line(value)

    def whole(self, text: str, ending: Ending) -> dict[str, Any]:
        """The reply that is not streamed."""
        about = self._form.whole(text, ending.reason, _usage(ending))
        return about | statistics(ending, every_token=self._every_token)

    def _opening(self) -> Iterable[dict[str, Any]]:
        if not self._begun:
            self._begun = True
            yield self._form.opening()


def _usage(ending: Ending) -> dict[str, int]:
    return usage_of(ending.prompt_tokens, len(ending.tokens))


def _written(vector: np.ndarray, encoding: str) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
