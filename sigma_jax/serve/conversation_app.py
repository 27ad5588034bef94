"""The ASGI application of conversations: an OpenAI-compatible endpoint in front of any model."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette

from .._check import require_in
from ..bridge import ChatEndpoint
from ..runtime import Calibration, ConversationStore, Identity, Model, RuntimeSettings
from .conversation_routes import ConversationRoutes
from .conversation_turns import ConversationTurns
from .error_answers import error_handlers
from .open_conversations import OpenConversations
from .openai_form import openai_error

FRONT_SETTINGS = RuntimeSettings(max_tokens=1024, language=None)
"""Of an endpoint that does not know who talks through it, nor in which language."""


def create_conversation_app(
    model: ChatEndpoint | Model | Callable[[str], Any],
    *,
    name: str,
    store: ConversationStore,
    identity: Identity | None = None,
    calibration: Calibration | None = None,
    settings: RuntimeSettings = FRONT_SETTINGS,
    most_open: int = 64,
    workers: int = 32,
    body_limit: int = 16 * 2**20,
) -> Starlette:
    """The application in which every conversation goes through a `ConversationRuntime`.

    When it shuts down it ends the turns that were begun and closes `store`.

    **Arguments:** `model`, what `as_model` takes; `name`, what clients call it by; `store` of the
    conversations; `identity` of all of them, by default what the client's system message says;
    `calibration` of the monitor, for that identity; `settings` of the runtimes; `most_open`,
    runtimes that are kept open while nobody uses them; `workers`, turns that are taken at the same
    time; `body_limit`, bytes of a request that are read.

    **Raises** `ValueError` for numbers below one, an empty name, and a calibration of no identity,
    another identity, or another encoder than hashed words.
    """
    require_in("body_limit", body_limit, 1)
    if not name:
        raise ValueError("name must not be empty.")
    turns = ConversationTurns(
        model, store, identity=identity, calibration=calibration, settings=settings
    )
    opened = OpenConversations(most_open=most_open, workers=workers)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await opened.close()
        store.close()

    return Starlette(
        routes=ConversationRoutes(turns, opened, name, body_limit).routes(),
        lifespan=lifespan,
        exception_handlers=error_handlers(lambda request, error: openai_error(error)),
    )
