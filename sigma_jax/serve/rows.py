"""One answer in the making: tokens in, text and statistics out."""

import time

import numpy as np

from ..kernel import Chunk, Finish, StopStrings
from .served_model import ServedModel
from .text_stream import TextStream
from .work import Ending, Failure, Generation, Piece


class Row:
    """Follows the row of a batch that answers `work`, until its `ended` is set."""

    def __init__(self, work: Generation, served: ServedModel):
        self.work = work
        self.ended: Ending | Failure | None = None
        self._stop_ids = served.stop_ids
        self._stream = TextStream(served.decode)
        self._stops = StopStrings(work.settings.stop)
        self._tokens: list[int] = []
        self._depths: list[int] = []
        self._degeneracy, self._flags = 0.0, 0
        self._started = time.monotonic()
        self._first: float | None = None

    @property
    def seconds_to_first(self) -> float:
        """From the request's arrival to the first token."""
        return (self._first or time.monotonic()) - self.work.arrived

    def take(self, chunk: Chunk, row: int) -> tuple[Piece | None, list[int]]:
        """Take what `chunk` (NumPy arrays) drew for `row`.

        **Returns** the text that may be shown now, and the depths of the tokens that count: those
        up to a stop.
        """
        if self._first is None:
            self._first = time.monotonic()
        known, text = len(self._tokens), ""
        for column, token in enumerate(chunk.tokens[row].tolist()):
            if token < 0 or token in self._stop_ids:
                break
            self._tokens.append(token)
            self._depths.append(int(chunk.depths[row, column]))
            self._degeneracy = max(self._degeneracy, float(chunk.signs.degeneracy[row, column]))
            self._flags += bool(chunk.signs.flag[row, column])
            text += self._stops.push(self._stream.push(token))
            if self._stops.stopped:
                break
        finish = Finish(int(np.asarray(chunk.finish)[row]))
        if finish is Finish.NOT_FINITE:
            self.ended = Failure(500, "the model's logits are not finite.")
        elif self._stops.stopped or finish is not Finish.RUNNING:
            text += self._stops.finish()
            by_length = finish is Finish.LENGTH and not self._stops.stopped
            self.ended = self._ending("length" if by_length else "stop")
        return Piece(text) if text else None, self._depths[known:]

    def _ending(self, reason: str) -> Ending:
        now = time.monotonic()
        first = self._first or now
        return Ending(
            reason=reason,
            prompt_tokens=len(self.work.prompt),
            tokens=self._tokens,
            depths=self._depths,
            max_degeneracy=self._degeneracy,
            flags=self._flags,
            prompt_seconds=first - self._started,
            decode_seconds=now - first,
            total_seconds=now - self.work.arrived,
        )
