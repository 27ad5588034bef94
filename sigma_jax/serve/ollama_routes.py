"""Ollama's HTTP interface: /api/chat, /api/generate, /api/embed and what is asked about models."""

import asyncio
import datetime
import json
from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from .. import __version__
from .answers import embed_texts, generate_text, stream_text
from .engine import Engine
from .errors import RequestError, invalid
from .fields import Fields, read_fields
from .reply_statistics import statistics, statistics_headers
from .served_model import ROLES
from .settings import Settings, ollama_settings
from .work import Ending

MOST_TEXTS = 2048
"""Texts in one request for embeddings."""
_ALWAYS = "9999-12-31T23:59:59Z"
_UNSUPPORTED = (
    *("tools", "format", "think", "logprobs"),
    *("suffix", "template", "images", "context"),
)


class OllamaRoutes:
    """Ollama's routes over an engine; `body_limit`, bytes of a request that are read."""

    def __init__(self, engine: Engine, body_limit: int):
        self._engine, self._served, self._body_limit = engine, engine.served, body_limit

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/", self._root, methods=["GET"]),
            Route("/api/chat", self._chat, methods=["POST"]),
            Route("/api/generate", self._generate, methods=["POST"]),
            Route("/api/embed", self._embed, methods=["POST"]),
            Route("/api/tags", self._tags, methods=["GET"]),
            Route("/api/ps", self._ps, methods=["GET"]),
            Route("/api/show", self._show, methods=["POST"]),
            Route("/api/version", self._version, methods=["GET"]),
        ]

    async def _chat(self, request: Request) -> Response:
        fields = await self._fields(request)
        messages = [_message(message) for message in fields.tables("messages")]
        if not messages:
            return self._loaded(fields, {"message": {"role": "assistant", "content": ""}})

        def body(text: str) -> dict[str, Any]:
            return {"message": {"role": "assistant", "content": text}}

        def prompt() -> list[int]:
            return self._served.encode(self._served.render(messages), rendered=True)

        return await self._answer(request, fields, prompt, "messages", body)

    async def _generate(self, request: Request) -> Response:
        fields = await self._fields(request)
        text, system = fields.text("prompt"), fields.text("system")
        if not text:
            return self._loaded(fields, {"response": ""})
        as_it_is = fields.flag("raw") or self._served.tokenizer.chat_template is None
        if as_it_is and system:
            raise invalid("system needs a chat template, which is not used here.", "system")

        def body(text: str) -> dict[str, Any]:
            return {"response": text}

        def prompt() -> list[int]:
            if as_it_is:
                return self._served.encode(text)
            messages = [{"role": "system", "content": system}] if system else []
            messages.append({"role": "user", "content": text})
            return self._served.encode(self._served.render(messages), rendered=True)

        return await self._answer(request, fields, prompt, "prompt", body)

    async def _answer(
        self,
        request: Request,
        fields: Fields,
        prompt: Callable[[], list[int]],
        field: str,
        body: Callable[[str], dict[str, Any]],
    ) -> Response:
        settings = ollama_settings(fields, self._served.limits)
        streamed = fields.flag("stream", True)
        ids = await asyncio.to_thread(prompt)  # a long text takes a while
        self._served.require_fits(ids, field)
        form = _Lines(self._served.name, settings, body)
        if streamed:
            return await stream_text(request, self._engine, ids, settings, form)
        text, ending = await generate_text(request, self._engine, ids, settings)
        reply = form.last(ending) | body(text)
        return JSONResponse(reply, headers=statistics_headers(ending))

    async def _embed(self, request: Request) -> Response:
        fields = await self._fields(request)
        given = fields.texts("input", MOST_TEXTS)
        size, context = self._served.model.config.hidden_size, self._served.limits.context
        dimensions = fields.whole("dimensions", size, 1, size)
        cut = fields.flag("truncate", True)
        fields.table("options")
        if given == [""]:
            given = []

        def prompts() -> list[list[int]]:
            texts = [self._served.encode(text) for text in given]
            return [ids[:context] for ids in texts] if cut else texts

        texts = await asyncio.to_thread(prompts)
        for ids in texts:
            self._served.require_fits(ids, "input")
        embeddings = await embed_texts(request, self._engine, texts, dimensions)
        reply = {
            "model": self._served.name,
            "embeddings": [vector.tolist() for vector in embeddings.vectors],
            "total_duration": _nanoseconds(embeddings.total_seconds),
            "load_duration": 0,
            "prompt_eval_count": sum(map(len, texts)),
        }
        return JSONResponse(reply)

    async def _root(self, request: Request) -> Response:
        return PlainTextResponse("sigma_jax is running")

    async def _tags(self, request: Request) -> Response:
        return JSONResponse({"models": [self._entry()]})

    async def _ps(self, request: Request) -> Response:
        about = {
            "expires_at": _ALWAYS,
            "size_vram": 0,
            "context_length": self._served.limits.context,
        }
        return JSONResponse({"models": [self._entry() | about]})

    async def _version(self, request: Request) -> Response:
        return JSONResponse({"version": __version__})

    async def _show(self, request: Request) -> Response:
        await self._fields(request)
        template = self._served.tokenizer.chat_template
        reply = {
            "modelfile": f"FROM {self._served.name}\n",
            "parameters": "",
            "template": template if isinstance(template, str) else "",
            "license": "",
            "modified_at": _time(self._served.loaded),
            "details": self._served.details,
            "model_info": self._served.model_info,
            "capabilities": ["completion", "embedding"],
        }
        return JSONResponse(reply)

    def _entry(self) -> dict[str, Any]:
        return {
            "name": self._served.name,
            "model": self._served.name,
            "modified_at": _time(self._served.loaded),
            "size": self._served.size,
            "digest": self._served.digest,
            "details": self._served.details,
        }

    async def _fields(self, request: Request) -> Fields:
        fields = await read_fields(request, self._body_limit)
        name = "name" if "model" not in fields.values else "model"
        self._served.require(fields.text(name, None))
        fields.refuse(_UNSUPPORTED)
        return fields

    def _loaded(self, fields: Fields, body: dict[str, Any]) -> Response:
        """The reply to a request without text: the model is here, and stays whatever is asked."""
        unload = fields.values.get("keep_alive") in (0, "0", "0s")
        reason = "unload" if unload else "load"
        about = {"model": self._served.name, "created_at": _now()}
        return JSONResponse(about | body | {"done": True, "done_reason": reason})


class _Lines:
    """The lines of JSON that Ollama streams. Implements `Format`."""

    media_type = "application/x-ndjson"

    def __init__(self, name: str, settings: Settings, body: Callable[[str], dict[str, Any]]):
        self._name, self._body = name, body
        self._every_token = settings.report_depths

    def piece(self, text: str) -> Iterable[dict[str, Any]]:
        yield {"model": self._name, "created_at": _now(), **self._body(text), "done": False}

    def ending(self, ending: Ending) -> Iterable[dict[str, Any]]:
        yield self.last(ending)

    def last(self, ending: Ending) -> dict[str, Any]:
        """The last line; the text has been sent by then."""
        return {
            "model": self._name,
            "created_at": _now(),
            **self._body(""),
            "done": True,
            "done_reason": ending.reason,
            "total_duration": _nanoseconds(ending.total_seconds),
            "load_duration": 0,
            "prompt_eval_count": ending.prompt_tokens,
            "prompt_eval_duration": _nanoseconds(ending.prompt_seconds),
            "eval_count": len(ending.tokens),
            "eval_duration": _nanoseconds(ending.decode_seconds),
            **statistics(ending, every_token=self._every_token),
        }

    def error(self, error: RequestError) -> dict[str, Any]:
        return ollama_error(error)

    def line(self, value: dict[str, Any] | None) -> bytes:
        return b"" if value is None else json.dumps(value).encode() + b"\n"


def ollama_error(error: RequestError) -> dict[str, Any]:
    """An error as Ollama writes it."""
    return {"error": error.message}


def _message(fields: Fields) -> dict[str, str]:
    role = fields.text("role", None)
    if role not in ROLES:
        raise invalid(
            f"{fields.full('role')} must be one of {', '.join(ROLES)}; got {role[:40]!r}.",
            fields.full("role"),
        )
    fields.refuse(("images", "tool_calls"))
    return {"role": role, "content": fields.text("content")}


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)


def _now() -> str:
    return _time(datetime.datetime.now(datetime.UTC))


def _time(moment: datetime.datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
