"""Asking an agent question after question, whatever it does, and counting what it did."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .._check import require_in
from .agents import Agent, CannotAnswer
from .questions import Question
from .readings import Ending, Reading, read_reply


class Outcome(NamedTuple):
    """A question and what became of it."""

    question: Question
    ending: Ending
    answer: str
    """Empty unless answered."""
    why: str
    """What was wrong, unless answered."""
    seconds: float
    sent: int
    """Characters of the prompt; 0 if it was not asked."""
    received: int
    """Characters of a reply of text, whether it could be read or not."""

    @property
    def answered(self) -> bool:
        """Whether there is one answer; otherwise it is neither right nor wrong."""
        return self.ending is Ending.ANSWERED

    @property
    def right(self) -> bool:
        """Whether the one answer is the right one."""
        return self.answered and self.answer == " ".join(self.question.key.right.split())


class Calls(NamedTuple):
    """What asking cost."""

    questions: int
    """How many were put to the agent."""
    sent: int
    """Characters of prompts."""
    received: int
    """Characters of texts."""
    seconds: float
    """Of waiting."""


def ask(
    agent: Agent,
    questions: Iterable[Question],
    *,
    seconds: float = 60.0,
    most_late: int = 4,
    progress: Callable[[int], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Outcome, ...]:
    """Ask every question once, in order; nothing that it does stops this.

    Each call runs in a thread of its own. One that takes longer than `seconds` is left to itself,
    since a thread cannot be stopped, and the next question is asked: an agent may so be called
    while an earlier call still runs. With `most_late` of these running no further question is put,
    and the rest is "not asked".

    **Arguments:** `seconds` for one answer; `progress`, called after each with the number done;
    `clock`, for what is reported, in seconds.

    **Raises** `ValueError` for no time at all, or a `most_late` below one.
    """
    require_in("seconds", seconds, 0.0, open_low=True)
    require_in("most_late", most_late, 1)
    outcomes: list[Outcome] = []
    late: list[threading.Thread] = []
    for question in questions:
        late = [thread for thread in late if thread.is_alive()]
        if len(late) >= most_late:
            why = f"{len(late)} calls were still running"
            outcomes.append(Outcome(question, Ending.NOT_ASKED, "", why, 0.0, 0, 0))
        else:
            began = clock()
            reading, received, thread = _call(agent, question, seconds)
            sent = len(question.prompt)
            outcomes.append(Outcome(question, *reading, clock() - began, sent, received))
            if reading.ending is Ending.TOO_LATE:
                late.append(thread)
        if progress is not None:
            progress(len(outcomes))
    return tuple(outcomes)


def count_endings(outcomes: Iterable[Outcome]) -> dict[str, int]:
    """How many questions ended in which way, those that occur, in the order of `Ending`."""
    counts = Counter(outcome.ending for outcome in outcomes)
    return {ending.value: counts[ending] for ending in Ending if counts[ending]}


def count_calls(outcomes: Iterable[Outcome]) -> Calls:
    """What the outcomes' questions cost together."""
    outcomes = tuple(outcomes)
    return Calls(
        questions=sum(outcome.ending is not Ending.NOT_ASKED for outcome in outcomes),
        sent=sum(outcome.sent for outcome in outcomes),
        received=sum(outcome.received for outcome in outcomes),
        seconds=sum(outcome.seconds for outcome in outcomes),
    )


def _call(
    agent: Agent, question: Question, seconds: float
) -> tuple[Reading, int, threading.Thread]:
    """The reading, the characters of the reply, and the thread, which may still run."""
    came: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            reply = agent(question)
        except BaseException as error:
            # Also SystemExit and the like: in a thread nobody else would ever hear of it.
            came.put((None, error))
        else:
            came.put((reply, None))

    thread = threading.Thread(target=run, name="agent", daemon=True)
    thread.start()
    try:
        reply, error = came.get(timeout=seconds)
    except queue.Empty:
        return Reading(Ending.TOO_LATE, why=f"no answer in {seconds:g} seconds"), 0, thread
    thread.join(seconds)
    if isinstance(error, CannotAnswer):
        return Reading(Ending.DECLINED, why=str(error)), 0, thread
    if error is not None:
        return Reading(Ending.RAISED, why=f"{type(error).__name__}: {error}"[:200]), 0, thread
    return read_reply(question, reply), len(reply) if isinstance(reply, str) else 0, thread
