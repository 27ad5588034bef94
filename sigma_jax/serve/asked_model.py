"""A model that is asked for every reply as a client wants it drawn."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..bridge import ChatEndpoint
from ..runtime import Completion, EndpointModel, Message, Model, as_model


class Sampling(NamedTuple):
    """How the next reply is to be drawn."""

    max_tokens: int | None = None
    """None: as many as the runtime says."""
    temperature: float = 0.0
    seed: int = 0


class AskedModel:
    """A `Model` whose `sampling` may be set anew before every turn.

    **Arguments:** `given`, an endpoint, or whatever else `as_model` takes, which then draws as it
    always does.
    """

    def __init__(self, given: ChatEndpoint | Model | Callable[[str], Any]):
        self._given = given
        self.name = as_model(given).name
        self.sampling = Sampling()

    def complete(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        on_piece: Callable[[str], None] | None = None,
    ) -> Completion:
        """The next words: see `Model`."""
        asked = self.sampling
        model = (
            EndpointModel(self._given, seed=asked.seed, temperature=asked.temperature)
            if isinstance(self._given, ChatEndpoint)
            else as_model(self._given)
        )
        most = max_tokens if asked.max_tokens is None else asked.max_tokens
        return model.complete(messages, max_tokens=most, on_piece=on_piece)
