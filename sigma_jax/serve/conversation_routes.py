"""The routes of conversations: OpenAI's chat completions, and what is to be seen of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..runtime import TurnResult, conversation_page, conversation_view
from .conversation_requests import Ask, read_ask
from .conversation_turns import ConversationTurns, finish_reason, turn_fields, turn_headers
from .errors import RequestError
from .fields import Fields, read_fields
from .open_conversations import OpenConversations
from .openai_form import EVENT_STREAM, ChatForm, event_line, openai_error, usage_of


class ConversationRoutes:
    """Routes over the turns of a store.

    **Arguments:** `turns`; `opened`, the conversations in use; `name` of the model, as clients call
    it; `body_limit`, bytes of a request that are read.
    """

    def __init__(
        self, turns: ConversationTurns, opened: OpenConversations, name: str, body_limit: int
    ):
        self._turns, self._opened = turns, opened
        self._name, self._body_limit = name, body_limit
        self._started = int(time.time())

    def routes(self) -> list[Route]:
        """All of them."""
        return [
            Route("/v1/chat/completions", self._chat, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
            Route("/v1/models/{name:path}", self._model, methods=["GET"]),
            Route("/conversations", self._conversations, methods=["GET"]),
            Route("/conversations/{conversation:path}/view", self._view, methods=["GET"]),
            Route("/conversations/{conversation:path}", self._page, methods=["GET"]),
            Route("/health", self._health, methods=["GET"]),
        ]

    async def _chat(self, request: Request) -> Response:
        fields = await read_fields(request, self._body_limit)
        self._require_name(fields)
        ask = read_ask(request.headers, fields)
        if ask.streamed:
            return await self._streamed(ask)
        task = self._opened.start(
            ask.conversation, lambda conversation: self._turns.take(ask, conversation, None)
        )
        result = await asyncio.shield(task)
        about = turn_fields(result, ask)
        reply = ChatForm(self._name).whole(result.text, finish_reason(result), _usage(result))
        return JSONResponse(reply | {"sigma": about}, headers=_id_header(ask) | turn_headers(about))

    async def _streamed(self, ask: Ask) -> Response:
        """A response of pieces. What fails before the first of them still has a status."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def deliver(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        task = self._opened.start(
            ask.conversation, lambda conversation: self._turns.take(ask, conversation, deliver)
        )
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        first = await pieces.get()
        if first is None:
            await asyncio.shield(task)
        headers = _id_header(ask) | {"cache-control": "no-cache"}
        lines = self._lines(ask, first, pieces, task)
        return StreamingResponse(lines, media_type=EVENT_STREAM, headers=headers)

    async def _lines(
        self,
        ask: Ask,
        piece: str | None,
        pieces: "asyncio.Queue[str | None]",
        task: "asyncio.Task[TurnResult]",
    ) -> AsyncIterator[bytes]:
        form = ChatForm(self._name)
        yield event_line(form.opening())
        while piece is not None:
            yield event_line(form.piece(piece))
            piece = await pieces.get()
        try:
            result = await asyncio.shield(task)
        except RequestError as error:
            yield event_line(openai_error(error))
        else:
            about = {"sigma": turn_fields(result, ask)}
            yield event_line(form.ending(finish_reason(result)) | about)
            if ask.stream_usage:
                yield event_line(form.usage(_usage(result)))
        yield event_line(None)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._entry()]})

    async def _model(self, request: Request) -> Response:
        self._require_name(Fields({"model": request.path_params["name"]}))
        return JSONResponse(self._entry())

    async def _conversations(self, request: Request) -> Response:
        listed = await asyncio.to_thread(self._listed)
        return JSONResponse({"object": "list", "data": listed})

    async def _view(self, request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(self._seen, request))

    async def _page(self, request: Request) -> Response:
        path = quote(request.path_params["conversation"], safe="")
        source = f"{request.scope.get('root_path', '')}/conversations/{path}/view"

        def page() -> str:
            return conversation_page(self._seen(request), source=source)

        return HTMLResponse(await asyncio.to_thread(page))

    async def _health(self, request: Request) -> Response:
        state = {"open": len(self._opened), "busy": self._opened.busy}
        return JSONResponse({"status": "ok", "model": self._name, **state})

    def _listed(self) -> list[dict[str, Any]]:
        store = self._turns.store
        return [
            {
                "id": conversation,
                "turns": store.last_turn(conversation),
                **{k: v for k, v in store.meta(conversation).items() if k in ("name", "model")},
            }
            for conversation in store.conversations()
        ]

    def _seen(self, request: Request) -> dict[str, Any]:
        conversation, store = request.path_params["conversation"], self._turns.store
        if not store.meta(conversation) and not store.last_turn(conversation):
            raise RequestError(404, f"there is no conversation {conversation[:200]!r}.")
        return conversation_view(store, conversation)

    def _require_name(self, fields: Fields) -> None:
        name = fields.text("model", None)
        if name != self._name:
            raise RequestError(
                404,
                f"model {name[:200]!r} not found: this server has {self._name!r}.",
                field="model",
                code="model_not_found",
            )

    def _entry(self) -> dict[str, Any]:
        about = {"id": self._name, "object": "model", "created": self._started}
        return about | {"owned_by": "sigma_jax"}


def _id_header(ask: Ask) -> dict[str, str]:
    """The id for a client that was given none; one that is not ASCII's is written as in a URL."""
    name = ask.conversation
    return {"x-conversation-id": name if name.isascii() else quote(name)}


def _usage(result: TurnResult) -> dict[str, int] | None:
    read, written = result.prompt_tokens, result.completion_tokens
    return None if read is None or written is None else usage_of(read, written)
