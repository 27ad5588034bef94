"""What the engine is asked for, and what it answers with."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .settings import Settings


class Piece(NamedTuple):
    """The next text of an answer."""

    text: str


class Ending(NamedTuple):
    """The end of an answer, and what there is to say of it."""

    reason: str
    """`stop` or `length`."""
    prompt_tokens: int
    tokens: list[int]
    """Without the stop id that ended it."""
    depths: list[int]
    """How many loops each token had."""
    max_degeneracy: float
    """The largest that the decode canary saw."""
    flags: int
    """How many tokens surprised it."""
    prompt_seconds: float
    """Reading the prompt and drawing the first token."""
    decode_seconds: float
    total_seconds: float
    """From the request's arrival, waiting included."""


class Embeddings(NamedTuple):
    """One vector a text, of length one."""

    vectors: list[np.ndarray]
    total_seconds: float


class Failure(NamedTuple):
    """The request could not be answered: an HTTP status and a message."""

    status: int
    message: str


Event = Piece | Ending | Embeddings | Failure


@dataclasses.dataclass(eq=False)
class Work:
    """A request in the engine's hands. `deliver` is called in its thread, with every event."""

    deliver: Callable[[Any], object]
    arrived: float = dataclasses.field(default_factory=time.monotonic, init=False)
    cancelled: bool = dataclasses.field(default=False, init=False)


@dataclasses.dataclass(eq=False)
class Generation(Work):
    """Continue a prompt: any number of `Piece`, then an `Ending` or a `Failure`."""

    prompt: list[int]
    settings: Settings


@dataclasses.dataclass(eq=False)
class Embedding(Work):
    """Embed texts, given as token ids, in `dimensions` numbers: `Embeddings` or a `Failure`."""

    texts: list[list[int]]
    dimensions: int
