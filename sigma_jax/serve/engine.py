"""The engine: one thread that owns the model and a batch whose rows come and go."""

import logging
import threading
import time
from collections import deque
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..kernel import Chunk, Finish, Generator, Sampling
from .errors import RequestError
from .metrics import Metrics
from .rows import Row
from .served_model import ServedModel
from .settings import exit_depth
from .work import Embedding, Embeddings, Failure, Generation, Work

_NARROWEST = 16
_FREE = Sampling(repeat_last_n=0)
"""Of rows that answer nobody; no window is too short for it."""
_log = logging.getLogger(__name__)


class Engine:
    """Answers many requests at once with one model (continuous batching).

    A request waits for a free row; its prompt is read, its row joins the running batch, and leaves
    it at its end, whatever the others do. Between two looks at who came and who left, every row
    advances by `steps` tokens. With its seed, an answer does not depend on its neighbours but for
    the order in which floating-point sums are taken.

    Compiles before it returns, so that the first request need not wait for that.

    **Arguments:** `slots`, the rows; `queue`, how many requests may wait; `steps`; `chunk`, after
    how many tokens of a long prompt the others advance as well.

    **Raises** `ValueError` for a number below one.
    """

    def __init__(
        self,
        served: ServedModel,
        metrics: Metrics,
        *,
        slots: int = 8,
        queue: int = 128,
        steps: int = 4,
        chunk: int = 512,
    ):
        for name, value in (("slots", slots), ("queue", queue), ("steps", steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1; got {value}.")
        self.served, self.metrics = served, metrics
        self.slots, self.queue, self.steps = slots, queue, steps
        context = served.limits.context
        self._generator = Generator(
            served.model,
            capacity=context,
            stop_ids=served.stop_ids,
            chunk=chunk,
            window=context,
        )
        self._leaves, self._structure = jax.tree.flatten(served.model)
        self._waiting: deque[Work] = deque()
        self._rows: list[Row | None] = [None] * slots
        self._changed = threading.Condition()
        self._closing = False
        self._reset()
        self._warm_up()
        metrics.watch("slots", "Rows of the batch.", lambda: slots)
        metrics.watch("slots_in_use", "Rows that answer a request.", lambda: self.in_use)
        metrics.watch("queue_length", "Requests that wait.", lambda: self.waiting)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def in_use(self) -> int:
        """How many rows answer a request."""
        return sum(row is not None for row in self._rows)

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    @property
    def alive(self) -> bool:
        """Whether requests are being answered."""
        return self._thread.is_alive() and not self._closing

    def submit(self, work: Work) -> None:
        """Take a request, or raise `RequestError`, 503, if too many wait or the server is closing.

        Never blocks for long, so it may be called from an event loop.
        """
        with self._changed:
            if not self.alive:
                raise RequestError(503, "the server is shutting down.")
            if len(self._waiting) >= self.queue:
                message = f"too many requests: {self.queue} are waiting. Try again later."
                raise RequestError(503, message, code="overloaded", retry_after=1)
            self._waiting.append(work)
            self._changed.notify()

    def cancel(self, work: Work) -> None:
        """Give up a request, wherever it is. What has ended is left alone."""
        with self._changed:
            work.cancelled = True
            if work in self._waiting:
                self._waiting.remove(work)
                self.metrics.cancelled.inc()
            self._changed.notify()

    def close(self) -> None:
        """Stop, failing every request that is not answered yet."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._answer_all()
        finally:  # also if the thread dies of a failure: nobody waits for ever
            message = "the server is shutting down."
            with self._changed:
                self._closing = True
            self._fail_rows(message, 503)
            while self._waiting:
                self._deliver(self._waiting.popleft(), Failure(503, message))

    def _answer_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting or self.in_use)
                if self._closing:
                    return
                work = self._next()
            try:
                if work is not None:
                    self._begin(work)
                self._advance()
            except Exception:  # the batch may be gone: its rows fail, the server lives
                _log.exception("the running batch failed")
                self._fail_rows("the model failed; see the server's log.")
                self._reset()

    def _next(self) -> Work | None:
        """The first in the queue that can be begun now."""
        free = self.in_use < self.slots
        for work in self._waiting:
            if free or isinstance(work, Embedding):
                self._waiting.remove(work)
                return work
        return None

    def _begin(self, work: Work) -> None:
        """Begin a request. If that fails, only this one does."""
        try:
            if isinstance(work, Generation):
                started = self._read(work)
            else:
                assert isinstance(work, Embedding)
                self._embed(work)
                return
        except ValueError as error:
            self._deliver(work, Failure(400, str(error)))
            return
        except Exception:
            _log.exception("a request failed")
            self._deliver(work, Failure(500, "the model failed; see the server's log."))
            return
        if started is not None:
            row, other = started
            index = self._rows.index(None)
            self._rows[index] = row
            self._state = self._generator.insert(self._state, index, other)

    def _read(self, work: Generation) -> tuple[Row, Any] | None:
        """Read a prompt and draw its first token; None if that was all."""
        row = Row(work, self.served)
        settings = work.settings
        left = self.served.limits.context + 1 - len(work.prompt)
        other, chunk = self._generator.start(
            [work.prompt],
            max_new_tokens=min(settings.max_tokens, left),
            depth=settings.depth,
            sampling=settings.sampling,
            seeds=[settings.seed],
            compact=True,
            between=self._advance,
        )
        self._take(row, jax.device_get(chunk), 0)
        self.metrics.first_token.observe(row.seconds_to_first)
        self.metrics.tokens.labels("prompt").inc(len(work.prompt))
        if row.ended is not None or work.cancelled:
            self.metrics.cancelled.inc(work.cancelled)
            return None
        return row, other

    def _advance(self) -> None:
        """Let every row advance by a few tokens, once the cancelled have left."""
        for index, row in enumerate(self._rows):
            if row is not None and row.work.cancelled:
                self.metrics.cancelled.inc()
                self._leave(index)
        if not self.in_use:
            return
        self._state, chunk = self._generator.advance(self._state, self.steps)
        chunk = jax.device_get(chunk)
        for index, row in enumerate(self._rows):
            if row is None:
                continue
            self._take(row, chunk, index)
            if row.ended is not None:
                self._leave(index, running=int(chunk.finish[index]) == Finish.RUNNING)

    def _take(self, row: Row, chunk: Chunk, index: int) -> None:
        piece, depths = row.take(chunk, index)
        self.metrics.tokens.labels("generated").inc(len(depths))
        for depth in depths:
            self.metrics.depth.observe(depth)
        for event in (piece, row.ended):
            if event is not None:
                self._deliver(row.work, event)

    def _leave(self, index: int, running: bool = True) -> None:
        self._rows[index] = None
        if running:
            self._state = self._generator.release(self._state, index)

    def _embed(self, work: Embedding) -> None:
        """Embed the texts one by one, the batch advancing in between."""
        vectors = []
        for ids in work.texts:
            if work.cancelled:
                self.metrics.cancelled.inc()
                return
            width = max(1 << (len(ids) - 1).bit_length(), _NARROWEST)
            padded = np.zeros((1, width), np.int32)
            padded[0, width - len(ids) :] = ids
            real = np.arange(width)[None] >= width - len(ids)
            mean = _mean_hidden(self._leaves, padded, real, structure=self._structure)
            vector = np.asarray(mean, np.float64)[0, : work.dimensions]
            if not np.isfinite(vector).all():
                self._deliver(work, Failure(500, "the model's hidden states are not finite."))
                return
            vectors.append((vector / max(np.linalg.norm(vector), 1e-12)).astype(np.float32))
            self.metrics.tokens.labels("prompt").inc(len(ids))
            self._advance()
        self._deliver(work, Embeddings(vectors, time.monotonic() - work.arrived))

    def _deliver(self, work: Work, event: Any) -> None:
        if work.cancelled:
            return
        try:
            work.deliver(event)
        except RuntimeError:  # its event loop has been closed
            work.cancelled = True

    def _fail_rows(self, message: str, status: int = 500) -> None:
        for index, row in enumerate(self._rows):
            if row is not None:
                self._rows[index] = None
                self._deliver(row.work, Failure(status, message))

    def _reset(self) -> None:
        depth = exit_depth(1.0, 1, self.served.limits.loops)
        self._state = self._generator.empty(self.slots, depth=depth, sampling=_FREE)

    def _warm_up(self) -> None:
        """Compile what every request needs, with a row that is given up."""
        depth = exit_depth(1.0, 1, self.served.limits.loops)
        other, _ = self._generator.start(
            [[0]], max_new_tokens=2, depth=depth, sampling=_FREE, compact=True
        )
        self._state = self._generator.insert(self._state, 0, other)
        self._state, _ = self._generator.advance(self._state, self.steps)
        self._state = self._generator.release(self._state, 0)


@partial(jax.jit, static_argnames="structure")
def _mean_hidden(
    leaves: list[Array],
    ids: Int[Array, "batch tokens"],
    real: Bool[Array, "batch tokens"],
    *,
    structure: Any,
) -> Float[Array, "batch size"]:
    """The mean over the real tokens of the last loop's hidden states, float32."""
    model = jax.tree.unflatten(structure, leaves)
    hidden = model(ids, real=real).hidden[-1].astype(jnp.float32)
    weights = real.astype(jnp.float32)
    return jnp.einsum("btd,bt->bd", hidden, weights) / weights.sum(axis=1, keepdims=True)
