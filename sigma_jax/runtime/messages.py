"""Messages of a conversation, and the text that a model which takes only text is given."""

import re
from collections.abc import Iterable
from typing import NamedTuple

ROLES = ("system", "user", "assistant")
_HEADINGS = {role: f"{role.capitalize()}:" for role in ROLES}
_ROLES = {heading: role for role, heading in _HEADINGS.items()}
_HEADING = re.compile(r"^\\*(?:System|User|Assistant):$")


class Message(NamedTuple):
    """Who said what."""

    role: str
    """One of `ROLES`."""
    content: str


def render(messages: Iterable[Message]) -> str:
    """The messages as one text, ending where the assistant's next words begin.

    Each message stands below a heading, `System:`, `User:` or `Assistant:`. A line of a message
    that is itself a heading gets a backslash before it, so that nobody's words can pass for
    somebody else's; `parse` takes it off again.

    **Raises** `ValueError` for a role that is none of `ROLES`.
    """
    lines: list[str] = []
    for role, content in messages:
        if role not in _HEADINGS:
            raise ValueError(f"role must be one of {', '.join(ROLES)}; got {role!r}.")
        lines.append(_HEADINGS[role])
        lines += ["\\" + line if _HEADING.match(line) else line for line in content.split("\n")]
    return "\n".join([*lines, _HEADINGS["assistant"]])


def parse(text: str) -> tuple[Message, ...]:
    """The messages that `render` made `text` of. Text without a heading is one user's message."""
    found: list[tuple[str, list[str]]] = []
    for line in text.split("\n"):
        if line in _ROLES:
            found.append((_ROLES[line], []))
        elif not found:
            found.append(("user", [line]))
        else:
            found[-1][1].append(line[1:] if _HEADING.match(line) else line)
    messages = [Message(role, "\n".join(lines)) for role, lines in found]
    if messages and messages[-1] == Message("assistant", ""):
        messages.pop()
    return tuple(messages)
