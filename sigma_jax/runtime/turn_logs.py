"""Logs of conversations, turn by turn: read with their gaps flagged, and written whole."""

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from .conversation_store import ConversationStore
from .log_lines import LogLine, log_lines, write_lines

MOST_MISSING = 10_000
"""Turns in one gap. A longer one is taken for a mistake in the numbers."""


class LogFlag(enum.Enum):
    """What is to be known of a turn in a log."""

    WHOLE = ""
    """Nothing: it is there once."""
    REPEATED = "repeated"
    """It is there several times with the same words."""
    CONFLICTING = "conflicting"
    """It is there several times with different words: a gap, as nobody knows which are true."""
    MISSING = "missing"
    """It is not there: a gap."""
    TRUNCATED = "truncated"
    """The log breaks off in its line: a gap."""


_SEEN = (LogFlag.WHOLE, LogFlag.REPEATED)


class LoggedTurn(NamedTuple):
    """What the user said and what was replied; in a gap both are empty."""

    number: int
    user: str = ""
    reply: str = ""
    flag: LogFlag = LogFlag.WHOLE

    @property
    def is_gap(self) -> bool:
        """Whether nothing is known of the turn but its number."""
        return self.flag not in _SEEN


@dataclass(frozen=True)
class LoggedConversation:
    """A conversation as a log tells it, its turns numbered one by one, gaps included.

    **Raises** `ValueError` for an empty name, no turn, numbers that skip or go back, or a gap with
    words in it.
    """

    name: str
    turns: tuple[LoggedTurn, ...]

    def __post_init__(self) -> None:
        if not self.name or not self.turns:
            raise ValueError(f"a conversation must have a name and a turn; got {self.name!r}.")
        for before, after in pairwise(self.turns):
            if after.number != before.number + 1:
                raise ValueError(
                    f"turns of {self.name!r} must be numbered one by one; got {after.number} after "
                    f"{before.number}."
                )
        for turn in self.turns:
            if turn.is_gap and (turn.user or turn.reply):
                raise ValueError(f"turn {turn.number} of {self.name!r} is a gap, and has words.")


def read_turns(path: str | Path) -> tuple[LoggedConversation, ...]:
    """The conversations in a log, in the order in which they begin there.

    A log is a file of JSON lines (`.jsonl`), CSV with a header, or Parquet, with a line a turn and
    the columns `conversation` (if there is none, all is one conversation, called like the file),
    `turn` or `cycle` (if there is none, lines are counted), `user` or `user_input`, `reply` or
    `response`, and `flag`, as `write_turns` writes it. Other columns are passed over. A reply that
    is null is empty.

    A conversation begins with the lowest number. A turn that is not there, or there several times,
    is flagged, see `LogFlag`. A last line that breaks off, without its end of line, is flagged as
    the turn after the last one of the conversation before it.

    **Raises** `OSError` if the file cannot be read; `ValueError` naming the file and the line that
    is malformed, or what else is wrong.
    """
    path = Path(path)
    lines, breaks_off = log_lines(path)
    if not lines:
        raise ValueError(f"{path} holds no whole turn.")
    named: dict[str, list[LogLine]] = {}
    for line in lines:
        named.setdefault(line.conversation or path.stem, []).append(line)
    cut = (lines[-1].conversation or path.stem) if breaks_off else None
    return tuple(_conversation(path, name, of, name == cut) for name, of in named.items())


def write_turns(path: str | Path, conversations: Iterable[LoggedConversation]) -> Path:
    """Write a log that `read_turns` reads as it was: in JSON lines, CSV or Parquet, by the suffix.

    The file is there whole or not at all.

    **Raises** `ValueError` for no conversation, two of one name, a text that UTF-8 cannot say, or
    another suffix; `OSError` if it cannot be written.
    """
    conversations = tuple(conversations)
    names = [conversation.name for conversation in conversations]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"conversations must be some, with different names; got {names[:8]}.")
    lines = [
        LogLine("", conversation.name, turn.number, turn.user, turn.reply, turn.flag.value)
        for conversation in conversations
        for turn in conversation.turns
    ]
    return write_lines(Path(path), lines)


def recorded_log(store: ConversationStore, conversation: str) -> LoggedConversation:
    """A conversation of a store, as a log. A turn without a reply has an empty one.

    **Raises** `ValueError` if it has no turn.
    """
    turns = store.turns(conversation)
    if not turns:
        raise ValueError(f"conversation {conversation!r} has no turn.")
    return LoggedConversation(
        conversation, tuple(LoggedTurn(turn.number, turn.user_text, turn.reply) for turn in turns)
    )


def _conversation(
    path: Path, name: str, lines: Sequence[LogLine], breaks_off: bool
) -> LoggedConversation:
    numbered: dict[int, list[LogLine]] = {}
    for place, line in enumerate(lines, start=1):
        number = place if line.number is None else line.number
        numbered.setdefault(number, []).append(line)
    order = sorted(numbered)
    for before, after in pairwise(order):
        if after - before > MOST_MISSING:
            raise ValueError(
                f"{path}, {numbered[after][0].place}: turn {after} of {name!r} follows turn "
                f"{before}; more than {MOST_MISSING} missing turns are taken for a mistake."
            )
    turns = [_turn(path, number, numbered) for number in range(order[0], order[-1] + 1)]
    if breaks_off:
        turns.append(LoggedTurn(order[-1] + 1, flag=LogFlag.TRUNCATED))
    return LoggedConversation(name, tuple(turns))


def _turn(path: Path, number: int, numbered: dict[int, list[LogLine]]) -> LoggedTurn:
    found: dict[tuple[str, str], None] = {}
    flags = []
    for line in numbered.get(number, ()):
        try:
            flag = LogFlag(line.flag)
        except ValueError:
            raise ValueError(f"{path}, {line.place}: no flag is called {line.flag!r}.") from None
        flags.append(flag)
        if flag in _SEEN:
            found[line.user, line.reply] = None
        elif line.user or line.reply:
            raise ValueError(f"{path}, {line.place}: the turn is flagged a gap, and has words.")
    if not found:
        return LoggedTurn(number, flag=flags[0] if flags else LogFlag.MISSING)
    if len(found) > 1:
        return LoggedTurn(number, flag=LogFlag.CONFLICTING)
    ((user, reply),) = found
    once = flags == [LogFlag.WHOLE]
    return LoggedTurn(number, user, reply, LogFlag.WHOLE if once else LogFlag.REPEATED)
