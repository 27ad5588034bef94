"""An answer as an event loop sees it: awaited whole, or sent piece by piece, or given up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Iterable
from functools import partial
from typing import Any, Protocol, TypeVar

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from .engine import Engine
from .errors import CLIENT_GONE, RequestError
from .settings import Settings
from .work import Embedding, Embeddings, Ending, Failure, Generation, Piece, Work

_T = TypeVar("_T")


class Answer:
    """A request in the engine's hands. Made within an event loop; `cancel` it at the end."""

    def __init__(self, engine: Engine, kind: type[Work], **about: Any):
        loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        deliver = partial(loop.call_soon_threadsafe, self._events.put_nowait)
        self._engine = engine
        self._work = kind(deliver=deliver, **about)
        engine.submit(self._work)

    async def next(self) -> Any:
        """The next event; a `Failure` is raised as a `RequestError`."""
        event = await self._events.get()
        if isinstance(event, Failure):
            raise RequestError(event.status, event.message)
        return event

    async def whole(self) -> tuple[str, Ending]:
        """All of the text, and its ending."""
        text = []
        while isinstance(event := await self.next(), Piece):
            text.append(event.text)
        return "".join(text), event

    def cancel(self) -> None:
        """Give it up. Nothing happens if it has ended."""
        self._engine.cancel(self._work)


class Format(Protocol):
    """How the events of an answer are written to a stream."""

    media_type: str

    def piece(self, text: str) -> Iterable[dict[str, Any]]:
        """What is sent for the next text."""
        ...

    def ending(self, ending: Ending) -> Iterable[dict[str, Any]]:
        """What is sent last."""
        ...

    def error(self, error: RequestError) -> dict[str, Any]:
        """What is sent in place of the rest if that cannot be had."""
        ...

    def line(self, value: dict[str, Any] | None) -> bytes:
        """One object, or None for the end of the stream, as it is written."""
        ...


async def generate_text(
    request: Request, engine: Engine, prompt: list[int], settings: Settings
) -> tuple[str, Ending]:
    """The whole continuation of a prompt. If the client hangs up it is given up."""
    answer = Answer(engine, Generation, prompt=prompt, settings=settings)
    try:
        return await _unless_gone(request, answer.whole())
    finally:
        answer.cancel()


async def stream_text(
    request: Request, engine: Engine, prompt: list[int], settings: Settings, form: Format
) -> StreamingResponse:
    """A response that sends the continuation as it comes. What fails at once still has a status."""
    answer = Answer(engine, Generation, prompt=prompt, settings=settings)
    try:
        first = await _unless_gone(request, answer.next())
    except BaseException:
        answer.cancel()
        raise
    return _Stream(answer, _lines(answer, first, form), form.media_type)


async def embed_texts(
    request: Request, engine: Engine, texts: list[list[int]], dimensions: int
) -> Embeddings:
    """One vector a text."""
    answer = Answer(engine, Embedding, texts=texts, dimensions=dimensions)
    try:
        return await _unless_gone(request, answer.next())
    finally:
        answer.cancel()


class _Stream(StreamingResponse):
    """Gives its answer up when it ends, however it does."""

    def __init__(self, answer: Answer, lines: AsyncIterator[bytes], media_type: str):
        super().__init__(lines, media_type=media_type, headers={"cache-control": "no-cache"})
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.cancel()


async def _lines(answer: Answer, event: Piece | Ending, form: Format) -> AsyncIterator[bytes]:
    try:
        while isinstance(event, Piece):
            yield b"".join(map(form.line, form.piece(event.text)))
            event = await answer.next()
        yield b"".join(map(form.line, form.ending(event)))
    except RequestError as error:
        yield form.line(form.error(error))
    yield form.line(None)


async def _unless_gone(request: Request, awaitable: Awaitable[_T]) -> _T:
    """Await, or raise `RequestError` as soon as the client has hung up."""

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    wanted, hung_up = asyncio.ensure_future(awaitable), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({wanted, hung_up}, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        raise RequestError(CLIENT_GONE, "the client hung up.")
    finally:
        wanted.cancel()
        hung_up.cancel()
