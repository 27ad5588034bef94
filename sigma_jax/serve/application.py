"""The ASGI application: all routes over one engine, errors in each interface's own form."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .engine import Engine
from .error_answers import error_handlers
from .errors import RequestError
from .metrics import Metrics
from .ollama_routes import OllamaRoutes, ollama_error
from .openai_form import openai_error
from .openai_routes import OpenAIRoutes


def create_app(engine: Engine, *, body_limit: int = 4 * 2**20) -> Starlette:
    """The application that serves `engine`, which it closes when it shuts down.

    **Arguments:** `body_limit`, how many bytes of a request's body are read at most.

    **Raises** `ValueError` for a limit below one.
    """
    if body_limit < 1:
        raise ValueError(f"body_limit must be at least 1; got {body_limit}.")

    async def health(request: Request) -> Response:
        about = {"model": engine.served.name, "slots": engine.slots}
        state = {"slots_in_use": engine.in_use, "waiting": engine.waiting}
        if not engine.alive:
            return JSONResponse({"status": "down", **about, **state}, 503)
        return JSONResponse({"status": "ok", **about, **state})

    async def metrics(request: Request) -> Response:
        return Response(engine.metrics.text(), media_type="text/plain; version=0.0.4")

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        engine.close()

    routes = [
        *OllamaRoutes(engine, body_limit).routes(),
        *OpenAIRoutes(engine, body_limit).routes(),
        Route("/health", health, methods=["GET"]),
        Route("/metrics", metrics, methods=["GET"]),
    ]
    known = {route.path for route in routes if "{" not in route.path}
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(_CountRequests, metrics=engine.metrics, known=known)],
        exception_handlers=error_handlers(_written),
    )


class _CountRequests:
    """Counts every answer by route and status. A route that is not known counts as `other`."""

    def __init__(self, app: ASGIApp, metrics: Metrics, known: set[str]):
        self._app, self._metrics, self._known = app, metrics, known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def counted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            route = scope["path"] if scope["path"] in self._known else "other"
            self._metrics.requests.labels(route, str(status)).inc()


def _written(request: Request, error: RequestError) -> dict[str, Any]:
    written = openai_error if request.url.path.startswith("/v1/") else ollama_error
    return written(error)
