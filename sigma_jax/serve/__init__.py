"""The HTTP server: a language model behind Ollama's and OpenAI's interfaces.

`python -m sigma_jax.serve --help` says how it is started. The names below are loaded when they are
first asked for, so that a mistake in the arguments is told before JAX is imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .application import create_app
    from .conversation_app import create_conversation_app
    from .engine import Engine
    from .metrics import Metrics
    from .served_model import ServedModel
    from .text_stream import TextStream

_FILES = {
    "Engine": "engine",
    "Metrics": "metrics",
    "ServedModel": "served_model",
    "TextStream": "text_stream",
    "create_app": "application",
    "create_conversation_app": "conversation_app",
}
__all__ = [
    "Engine",
    "Metrics",
    "ServedModel",
    "TextStream",
    "create_app",
    "create_conversation_app",
]


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_FILES[name]}", __name__), name)
