"""The stages of a turn: each takes a turn in progress and gives it back with more in it.

A stage is a function of the turn and of what the conversation is made of. None of them keeps
anything: what is to last is in the turn's `after`. `Stages` holds all of them, so that a user may
put another in the place of any.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._check import require_in
from .attractors import attractor_step
from .calibration import Calibration
from .checks import violations
from .control import (
    Level,
    Signals,
    after_turn,
    in_force,
    plan_turn,
    reminder_text,
)
from .fact_rules import extract_facts, forget_request
from .facts import FactBook
from .input_kinds import InputKind, input_kind
from .models import ModelFailure
from .monitor import Observation, monitor_step
from .phases import Phase
from .prompt import (
    Exchange,
    Note,
    PromptParts,
    build_prompt,
    cut_window,
    within,
)
from .reply_problems import ReplyProblem, reply_problem
from .style import style_features
from .style_commands import style_gate
from .symbols import extract_symbols
from .tokens import count_tokens
from .turn_in_progress import Parts, Turn

_MOTIFS_SHOWN = 3
_COMMANDED = 0.5
"""From this weight on a reply that strays does what the user asked for."""


Stage = Callable[[Turn, Parts], Turn]

_observe = eqx.filter_jit(Calibration.observe)


@jax.jit  # one program for all conversations of one shape
def _watch(parameters, state, seen: Observation):
    """A step of the monitor and of the attractors: both states, and both measurements."""
    monitor, measurement = monitor_step(parameters[0], state[0], seen)
    attractors, basin = attractor_step(parameters[1], state[1], seen.y, seen.present)
    return (monitor, attractors), (measurement, basin)


def ingest(turn: Turn, parts: Parts) -> Turn:
    """Look at the user's words.

    **Raises** `ValueError` for words that are empty, too long, or no Unicode text.
    """
    text = turn.user_text
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"user_input must be a text that is not empty; got {text!r}.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"user_input must be Unicode text; {error}.") from None
    require_in("the size of user_input in bytes", size, 1, parts.settings.most_user_bytes)
    return turn._replace(kind=input_kind(text))


def update_state(turn: Turn, parts: Parts) -> Turn:
    """Take up what the user states, corrects, wants forgotten, or commands of the style."""
    facts = turn.before.facts
    subject = forget_request(turn.user_text)
    key = None if subject is None else facts.find(subject)
    if key is not None and facts.history(key):
        facts = facts.forget(key, turn.number)
    facts = facts.add(extract_facts(turn.user_text, turn.number))
    kept_anyway = list(parts.wordings.values())
    gate = style_gate(turn.user_text, turn.before.gate, kept_anyway=kept_anyway)
    return turn._replace(after=turn.after._replace(facts=facts, gate=gate))


def retrieve(turn: Turn, parts: Parts) -> Turn:
    """Find what was said earlier and belongs to what is said now."""
    if turn.kind is InputKind.STYLE_COMMAND or not len(parts.memories):
        return turn
    hits = parts.memories.retrieve(
        turn.user_text,
        parts.encoder.encode([turn.user_text])[0],
        budget=parts.settings.budget.memories,
        count=parts.settings.memories,
        facts=turn.after.facts,
        window={exchange.number for exchange in turn.before.window},
        quarantined={memory for memory, _ in turn.before.control.quarantined},
    )
    return turn._replace(hits=hits)


def find_motifs(turn: Turn, parts: Parts) -> Turn:
    """Count the symbols of the user's words towards the motifs of the conversation."""
    symbols = extract_symbols(turn.user_text)
    motifs = turn.after.motifs.update(symbols, turn.number, role="user")
    return turn._replace(after=turn.after._replace(motifs=motifs))


def plan(turn: Turn, parts: Parts) -> Turn:
    """Decide what is done about the conversation, and make the window that is shown."""
    planned, control = plan_turn(parts.settings.policy, turn.before.control, turn.before.signals)
    done = in_force(planned)
    window = cut_window(turn.before.window, parts.settings.budget.window)
    if done.level is Level.REBUILD:
        window = window[-2:]
    if done.level >= Level.RESTATE:
        window = tuple(each._replace(kept=each.kept and not each.strayed) for each in window)
    shown = (*parts.identity.motifs, *(m.name for m in turn.after.motifs.active(turn.number)))
    reminder = reminder_text(
        done, parts.wordings, parts.identity.text, tuple(dict.fromkeys(shown))[:_MOTIFS_SHOWN]
    )
    after = turn.after._replace(control=control, window=window)
    return turn._replace(plan=planned, reminder=reminder, after=after)


def make_prompt(turn: Turn, parts: Parts) -> Turn:
    """Build the prompt: the same bytes for the same state and words."""
    window = turn.after.window
    first = window[0].number if window else turn.number
    facts = fact_notes(turn.after.facts, before=first, budget=parts.settings.budget.facts)
    prompt = build_prompt(
        PromptParts(
            identity=parts.identity,
            facts=facts,
            window=window,
            memories=tuple(Note(hit.turn, hit.role, hit.text) for hit in turn.hits),
            reminder=turn.reminder,
            user_text=turn.user_text,
        )
    )
    return turn._replace(prompt=prompt)


def call_model(turn: Turn, parts: Parts) -> Turn:
    """Ask the model. That it fails is an outcome, not an end."""
    heard = None if held_back(turn, parts) else turn.on_piece
    counted = turn._replace(
        attempts=turn.attempts + 1, prompt_tokens=turn.prompt_tokens + turn.prompt.tokens
    )
    try:
        completion = parts.model.complete(
            turn.prompt.messages, max_tokens=parts.settings.max_tokens, on_piece=heard
        )
    except ModelFailure as error:
        return counted._replace(
            completion=None, reply="", failure=error.reason, failure_message=str(error)
        )
    return counted._replace(
        completion=completion, reply=completion.text, failure=None, failure_message=""
    )


def check_reply(turn: Turn, parts: Parts) -> Turn:
    """See what is wrong with the reply, and which constraints it breaks."""
    if turn.completion is None:
        return turn._replace(problem=None, violated=())
    problem = reply_problem(
        turn.reply,
        finish_reason=turn.completion.finish_reason,
        expected_language=parts.settings.language,
        most_bytes=parts.settings.most_reply_bytes,
    )
    reply = turn.reply
    if problem is ReplyProblem.OVERSIZED:
        kept = reply.encode()[: parts.settings.most_reply_bytes]
        reply = kept.decode(errors="ignore")
    constraints = parts.identity.constraints
    broken = violations(constraints, reply) if problem is not ReplyProblem.EMPTY else ()
    names = tuple(c.name for c, is_broken in zip(constraints, broken, strict=False) if is_broken)
    return turn._replace(problem=problem, violated=names, reply=reply)


def correct(turn: Turn, parts: Parts, stages: "Stages") -> Turn:
    """Ask again for a reply that cannot stand, within the plan's budget; keep the best.

    Where no constraint is hard, replies are shown as they come, and only one that is empty is asked
    for again.
    """
    best = turn._replace(drafted=turn.violated)
    for _ in range(in_force(turn.plan).may_regenerate):
        shown = bool(best.reply) and not held_back(turn, parts)
        if best.completion is None or shown or not _faults(best, parts)[0]:
            break
        # All of them: another reply may break what this one kept.
        wanted = list(parts.wordings.values()) if turn.plan.level < Level.RESTATE else []
        kept = turn.reminder if turn.plan.level >= Level.RESTATE else ""
        again = "\n".join(part for part in (kept, *wanted) if part)
        tried = stages.make_prompt(best._replace(reminder=again), parts)
        tried = stages.check_reply(stages.call_model(tried, parts), parts)
        better = tried.completion is not None and _faults(tried, parts) < _faults(best, parts)
        counted = {"attempts": tried.attempts, "prompt_tokens": tried.prompt_tokens}
        best = tried if better else best._replace(**counted)
    return best


def measure(turn: Turn, parts: Parts) -> Turn:
    """Let the monitor see the reply, and say what the next turn is to look at."""
    names = [constraint.name for constraint in parts.identity.constraints]
    present = turn.completion is not None and turn.problem is not ReplyProblem.EMPTY
    y = np.zeros(parts.monitor.anchor.shape, parts.monitor.dtype)
    if present and parts.calibration is not None:
        content = parts.encoder.encode([turn.reply])[0]
        y = _observe(parts.calibration, style_features(turn.reply), content)
    seen = Observation(
        y=jnp.asarray(y, parts.monitor.dtype),
        present=jnp.asarray(present),
        commanded=jnp.asarray(turn.after.gate.now, parts.monitor.dtype),
        violations=jnp.asarray([name in turn.drafted for name in names], bool),
    )
    before = turn.before.monitor, turn.before.attractors
    (monitor, attractors), seen_as = _watch((parts.monitor, parts.attractors), before, seen)
    measurement, basin = jax.device_get(seen_as)
    alarm = bool(measurement.alarm)
    signals = Signals(
        warned=bool(measurement.warn),
        alarmed=alarm,
        began=alarm and not turn.before.signals.alarmed,
        crystallised=int(measurement.phase) == Phase.CRYSTALLISED,
        violated=turn.drafted,
        memories=tuple(hit.id for hit in turn.hits),
    )
    after = turn.after._replace(monitor=monitor, attractors=attractors, signals=signals)
    return turn._replace(measurement=measurement, basin=basin, after=after)


def conclude(turn: Turn, parts: Parts) -> Turn:
    """Put the turn into the state that the next one begins with."""
    strayed = (
        turn.measurement is not None
        and turn.after.gate.now < _COMMANDED
        and bool(np.any(np.asarray(turn.measurement.step) > 0))
    )
    motifs = turn.after.motifs
    if turn.reply:
        symbols = extract_symbols(turn.reply)
        motifs = motifs.update(symbols, turn.number, role="assistant")
    window = (*turn.after.window, Exchange(turn.number, turn.user_text, turn.reply, strayed))
    return turn._replace(
        after=turn.after._replace(
            number=turn.number,
            window=window,
            motifs=motifs,
            control=after_turn(turn.after.control, turn.attempts > 1),
            last_output=turn.reply,
        )
    )


@dataclass(frozen=True)
class Stages:
    """The stages in their order. `dataclasses.replace` puts another in the place of one.

    `correct` is also given the stages, as it goes back to three of them.
    """

    ingest: Stage = ingest
    update_state: Stage = update_state
    retrieve: Stage = retrieve
    find_motifs: Stage = find_motifs
    plan: Stage = plan
    make_prompt: Stage = make_prompt
    call_model: Stage = call_model
    check_reply: Stage = check_reply
    correct: Callable[[Turn, Parts, "Stages"], Turn] = correct
    measure: Stage = measure
    conclude: Stage = conclude


def fact_notes(facts: FactBook, *, before: int, budget: int) -> tuple[Note, ...]:
    """The latest facts that hold, of turns before `before`, within `budget` tokens, in order.

    A note is a sentence; of one of which a part has ended, what still holds of it.
    """
    notes: dict[tuple[int, str], None] = {}
    for fact in reversed(facts.current()):
        if fact.turn < before:
            together = [other for other in facts.of_turn(fact.turn) if other.text == fact.text]
            whole = all(other.ending is None for other in together)
            notes[fact.turn, fact.text if whole else f"{fact.key}: {fact.value}"] = None
        if count_tokens("".join(text for _, text in notes)) > budget:
            break
    return within([Note(turn, "user", text) for turn, text in reversed(notes)], budget)


def measurement_record(turn: Turn) -> dict[str, Any]:
    """What the monitor and the attractors say, as plain numbers and lists by their names."""
    if turn.measurement is None or turn.basin is None:
        return {}
    said = vars(turn.measurement) | {"attractor": turn.basin.attractor, "found": turn.basin.found}
    record = {name: np.asarray(value).tolist() for name, value in said.items()}
    return record | {"phase": Phase(record["phase"]).name}


def held_back(turn: Turn, parts: Parts) -> bool:
    """Whether the reply is not shown before it stands, as another may be asked for."""
    hard = any(each.hard and each.check is not None for each in parts.identity.constraints)
    return hard and in_force(turn.plan).may_regenerate > 0


def _faults(turn: Turn, parts: Parts) -> tuple[int, int]:
    """How many things make the reply unfit to stand, and how many are not as they should be."""
    hard = {constraint.name for constraint in parts.identity.constraints if constraint.hard}
    unfit = (turn.problem is not None) + sum(name in hard for name in turn.violated)
    return unfit, len(turn.violated)
