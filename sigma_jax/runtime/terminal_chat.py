"""A chat in a terminal, or on a pipe, with the conversation's state beside every reply."""

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from .._files import write_text
from .conversation import ConversationRuntime, TurnResult
from .conversation_pages import conversation_page
from .conversation_store import ConversationConflict
from .conversation_views import alarms_of, conversation_view
from .fact_rules import forget_request
from .facts import Ending

HELP = """/state       how the conversation stands
/facts       what you stated, and what it was before
/forget X    forget what you stated of X
/again       ask again what got no reply
/page FILE   draw the conversation as one HTML file
/quit        end; the conversation is kept
//...        say something that begins with a slash"""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_INTERRUPTED = 130


class Terminal:
    """Where a chat happens: standard input and output.

    **Arguments:** `place`, where the conversation is kept, as it is told to the user.
    """

    def __init__(self, place: str):
        self.place = place
        self.interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._dimmed = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        if self.interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # editing and history of the line

    def ask(self) -> str | None:
        """The user's next line; None at the end."""
        try:
            line = input("> " if self.interactive else "")
        except EOFError:
            return None
        except UnicodeDecodeError as error:
            self.say(f"That is no {error.encoding.upper()} text.")
            return ""
        return line.strip()

    def say(self, text: str, *, end: str = "\n") -> None:
        """Show a text, without what would move the cursor or change the terminal."""
        print(_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text), end=end, flush=True)

    def note(self, text: str) -> None:
        """Show a line about the conversation."""
        text = _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)
        print(f"\033[2m{text}\033[0m" if self._dimmed else text, flush=True)


def chat(runtime: ConversationRuntime, terminal: Terminal) -> int:
    """Talk until the input ends, `/quit`, or Ctrl-C at the prompt. Returns the exit status.

    It is 0; 130 after Ctrl-C; 1 if the input was no terminal's and a turn got no reply.
    """
    _greet(runtime, terminal)
    failed = False
    while True:
        try:
            line = terminal.ask()
        except KeyboardInterrupt:
            terminal.say("")
            return _INTERRUPTED
        if line is None or line == "/quit":
            if terminal.interactive and line is None:
                terminal.say("")
            return int(failed and not terminal.interactive)
        if not line:
            continue
        if line.startswith("/") and not line.startswith("//"):
            failed |= not _command(runtime, terminal, line)
        else:
            failed |= not _turn(runtime, terminal, line.removeprefix("/"))


def state_line(result: TurnResult, constraints: tuple[str, ...] = ()) -> str:
    """A turn in one line: phase, stability, alarms, what was done about it, and its tokens."""
    measured: Mapping[str, Any] = result.measurement or {}
    plan: Mapping[str, Any] = result.plan or {}
    alarms = alarms_of(measured, constraints)
    reasons = f" ({'; '.join(plan['reasons'])})" if plan.get("reasons") else ""
    observed = ", only observed" if plan.get("applied") is False else ""
    parts = [
        f"turn {result.number}",
        str(measured.get("phase", "FORMING")),
        f"stability {measured['stability']:.2f}" if "stability" in measured else "",
        f"alarm: {', '.join(alarms)}" if alarms else "no alarm",
        f"{plan.get('level', 'NONE')}{observed}{reasons}",
        f"broken: {', '.join(measured['violated'])}" if measured.get("violated") else "",
        ", ".join(result.flags),
        f"{measured.get('sent_tokens', 0):,} tokens",
    ]
    return "[" + " | ".join(part for part in parts if part) + "]"


def _greet(runtime: ConversationRuntime, terminal: Terminal) -> None:
    turns, parts = runtime.state.number, runtime.parts
    terminal.note(
        f"{parts.identity.name}, by {parts.model.name}. Conversation {runtime.conversation!r} in "
        f"{terminal.place}, {turns} turns so far. /help lists the commands."
    )
    if parts.calibration is None:
        terminal.note("There is no calibration: only the identity's constraints are watched.")
    elif parts.calibration.warning is not None:
        terminal.note(parts.calibration.warning)
    unanswered = _unanswered(runtime)
    if unanswered is not None:
        terminal.note(f"This got no reply; /again asks it again: {unanswered[1]}")


def _unanswered(runtime: ConversationRuntime) -> tuple[str, str] | None:
    """The key and the words of what was asked last, if it got no reply."""
    number = runtime.state.number
    attempts = runtime.store.unfinished(runtime.conversation)
    if attempts and attempts[-1].number == number + 1:
        return attempts[-1].key, attempts[-1].user_text
    if number:
        (last,) = runtime.store.turns(runtime.conversation, first=number)
        if last.failure is not None:
            return last.key, last.user_text
    return None


def _turn(
    runtime: ConversationRuntime, terminal: Terminal, text: str, key: str | None = None
) -> bool:
    """Take a turn and show it. Whether there is a reply."""
    if key is None:  # other words after a turn that was killed are not that turn
        number = runtime.state.number + 1
        key = f"chat {number} {hashlib.sha256(text.encode(errors='replace')).hexdigest()[:16]}"
    terminal.say(f"{runtime.parts.identity.name}: ", end="")
    try:
        result = runtime.turn(text, key=key, on_piece=lambda piece: terminal.say(piece, end=""))
    except KeyboardInterrupt:
        terminal.say("")
        runtime.reload()  # the turn was kept as a whole, or not at all
        terminal.note("Stopped. /again asks it again.")
        return False
    except ConversationConflict as error:
        terminal.say("")
        runtime.reload()
        terminal.note(f"{error} It was read again, {runtime.state.number} turns; /again asks.")
        return False
    except ValueError as error:
        terminal.say("")
        terminal.note(str(error))
        return False
    if result.failure is not None:
        terminal.say("")
        terminal.note(f"No reply: {result.failure_message} /again asks it again.")
        return False
    terminal.say("")
    names = tuple(constraint.name for constraint in runtime.parts.identity.constraints)
    terminal.note(state_line(result, names))
    return True


def _command(runtime: ConversationRuntime, terminal: Terminal, line: str) -> bool:
    """Do what a line with a slash says. False if a turn was taken and got no reply."""
    name, _, rest = line.partition(" ")
    rest = rest.strip()
    if name == "/help":
        terminal.say(HELP)
    elif name == "/state":
        _show_state(runtime, terminal)
    elif name == "/facts":
        _show_facts(runtime, terminal)
    elif name == "/forget":
        return _forget(runtime, terminal, rest)
    elif name == "/page":
        _draw_page(runtime, terminal, rest)
    elif name == "/again":
        unanswered = _unanswered(runtime)
        if unanswered is not None:
            return _turn(runtime, terminal, unanswered[1], key=unanswered[0])
        terminal.note("Everything has its reply.")
    else:
        terminal.note(f"There is no {name}. /help lists the commands.")
    return True


def _show_state(runtime: ConversationRuntime, terminal: Terminal) -> None:
    view = conversation_view(runtime.store, runtime.conversation)
    totals, turns = view["totals"], view["turns"]
    terminal.say(
        f"{totals['turns']} turns, {totals['failures']} without a reply, {totals['regenerated']} "
        f"regenerated, {totals['alarms']} in alarm; {totals['sent_tokens']:,} tokens sent"
    )
    if turns and turns[-1]["stability"] is not None:
        last = turns[-1]
        terminal.say(
            f"phase {last['phase']}, stability {last['stability']:.2f}, drift index "
            f"{last['drift_index']:.2f}, alarms: {', '.join(last['alarms']) or 'none'}"
        )
        terminal.say(f"motifs: {', '.join(m['name'] for m in view['motifs']['user']) or 'none'}")


def _show_facts(runtime: ConversationRuntime, terminal: Terminal) -> None:
    facts = runtime.state.facts
    for key in dict.fromkeys(fact.key for fact in facts.facts):
        history = facts.history(key)
        held = next((fact for fact in history if fact.ending is None), None)
        now = "holds no longer" if held is None else f"{held.value} (turn {held.turn})"
        terminal.say(f"{key}: {now}")
        for fact in history:
            if fact.ending is Ending.REFUSED:
                terminal.say(f"    not {fact.value} (turn {fact.turn}, refused)")
            elif fact.ending is not None:
                how = f"turns {fact.turn} to {fact.valid_to}, {fact.ending.value}"
                terminal.say(f"    was {fact.value} ({how})")
    if not facts.facts:
        terminal.say("No facts yet.")


def _forget(runtime: ConversationRuntime, terminal: Terminal, subject: str) -> bool:
    """Ask for it in the user's words, so that the turn shows it as any other."""
    facts, asked = runtime.state.facts, f"Forget my {subject}."
    key = facts.find(subject) if subject else None
    if key is None or all(fact.key != key for fact in facts.current()):
        terminal.note(f"Nothing is known of {subject!r}. /facts lists what is.")
        return True
    understood = forget_request(asked)
    if understood is None or facts.find(understood) != key:
        terminal.note("Say in your words what is to be forgotten: Forget that ...")
        return True
    return _turn(runtime, terminal, asked)


def _draw_page(runtime: ConversationRuntime, terminal: Terminal, path: str) -> None:
    if not path:
        terminal.note("/page needs a file to draw in, such as /page conversation.html.")
        return
    page = conversation_page(conversation_view(runtime.store, runtime.conversation))
    try:
        write_text(path, page)
    except OSError as error:
        terminal.note(str(error))
        return
    terminal.note(f"Drawn in {path}.")
