"""The conversations that are open, each in one request's hands at a time."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from .._check import require_in
from ..runtime import ConversationRuntime
from .asked_model import AskedModel
from .errors import RequestError

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class OpenConversation:
    """A conversation, once somebody has asked for it."""

    name: str
    """Its id."""
    runtime: ConversationRuntime | None = None
    model: AskedModel | None = None
    """The runtime's."""
    system: str = ""
    """The system message that it was begun with."""
    wanted: int = 0
    """Requests that have it or wait for it."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class OpenConversations:
    """Does work on conversations in threads: one at a time on each, on several at once.

    Used from one event loop. A conversation that nobody wants stays open until there are more than
    `most_open`; then that which has rested longest is closed. What it was is in its store.

    **Arguments:** `most_open`, conversations that are kept open; `workers`, threads.

    **Raises** `ValueError` for a number below one.
    """

    def __init__(self, *, most_open: int, workers: int):
        require_in("most_open", most_open, 1)
        require_in("workers", workers, 1)
        self._most = most_open
        self._open: OrderedDict[str, OpenConversation] = OrderedDict()
        self._tasks: set[asyncio.Task] = set()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="conversation")

    def __len__(self) -> int:
        return len(self._open)

    @property
    def busy(self) -> int:
        """Requests that have a conversation or wait for one."""
        return len(self._tasks)

    def start(
        self, conversation: str, work: Callable[[OpenConversation], _T]
    ) -> "asyncio.Task[_T]":
        """Begin to do `work` on a conversation, as soon as those before have done theirs.

        Whoever awaits the result may give up: the work is done all the same.
        """
        task = asyncio.ensure_future(self._done(conversation, work))
        self._tasks.add(task)  # the loop itself holds tasks weakly
        task.add_done_callback(self._settle)
        return task

    async def close(self) -> None:
        """Wait until all work is done, and close every conversation."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._workers.shutdown()
        while self._open:
            self._close(next(iter(self._open)))

    async def _done(self, name: str, work: Callable[[OpenConversation], _T]) -> _T:
        conversation = self._open.setdefault(name, OpenConversation(name))
        self._open.move_to_end(name)
        conversation.wanted += 1
        try:
            async with conversation.lock:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._workers, work, conversation)
        finally:
            conversation.wanted -= 1
            self._close_the_rested()

    def _close_the_rested(self) -> None:
        rested = [name for name, each in self._open.items() if not each.wanted]
        for name in rested[: max(len(self._open) - self._most, 0)]:
            self._close(name)

    def _close(self, name: str) -> None:
        runtime = self._open.pop(name).runtime
        if runtime is not None:
            runtime.close()

    def _settle(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, RequestError):
            _log.error("a turn failed", exc_info=error)  # even if nobody waits for it any more
