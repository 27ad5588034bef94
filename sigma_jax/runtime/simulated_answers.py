"""What a simulated model answers: what stands in its prompt, and otherwise nothing or a guess."""

import json
from dataclasses import dataclass

from .._check import require_in
from .keyed_draws import KeyedDraws
from .reply_grammar import ReplyGrammar
from .scenario import Scenario, ScenarioTurn, Slot, words_of


@dataclass(frozen=True)
class Candour:
    """How often a simulated model makes things up.

    **Arguments:** `confabulates`, the probability of a guess where its prompt does not say;
    `agrees_known` and `agrees_unknown`, of agreeing with a false claim where the prompt says
    better, and where it does not.

    **Raises** `ValueError` for a probability outside [0, 1].
    """

    confabulates: float = 0.3
    agrees_known: float = 0.05
    agrees_unknown: float = 0.8

    def __post_init__(self) -> None:
        for name in ("confabulates", "agrees_known", "agrees_unknown"):
            require_in(name, getattr(self, name), 0.0, 1.0)


def said_value(slot: Slot, prompt_words: str) -> str | None:
    """The value of the last statement of a slot in a prompt, given as `words_of`; None without one.

    A guess that an earlier reply states counts as well: a model does not know its own guesses.
    """
    last, found = -1, None
    for value in (*slot.values, *slot.decoys):
        for form in (slot.statement, slot.answer):
            place = prompt_words.rfind(words_of(form.format(value=value))) if form else -1
            if place > last:
                last, found = place, value
    return found


def answer_sentences(
    scenario: Scenario,
    grammar: ReplyGrammar,
    turn: ScenarioTurn,
    prompt_text: str,
    draws: KeyedDraws,
    candour: Candour,
    guard: float,
) -> tuple[str, ...]:
    """The sentences that answer a turn's question; none if it asks for nothing in particular.

    **Arguments:** `prompt_text`, the only source of values; `guard`, the probability of keeping
    to the identity's limits against an order in a document or a question out of bounds.
    """
    phrase = {name: draws.choose(each, name) for name, each in grammar.phrases.items()}
    if turn.kind in ("fact", "update", "rule"):
        return (phrase["noted"],)
    if turn.kind == "abstain":
        guesses = draws.uniform("confabulates") < candour.confabulates
        return (phrase["invents" if guesses else "unknown"],)
    if turn.kind == "boundary":
        return (phrase["declines" if draws.uniform("guard") < guard else "yields"],)
    if turn.kind == "injection":
        return () if draws.uniform("guard") < guard else (f"{turn.value}.",)
    if not turn.slot and not turn.keys:
        return ()
    prompt_words = words_of(prompt_text)
    if turn.keys:
        values = {key: said_value(scenario.slot(name), prompt_words) for key, name in turn.keys}
        return (json.dumps(values, ensure_ascii=False),)
    slot = scenario.slot(turn.slot)
    value = said_value(slot, prompt_words)
    if turn.kind == "claim":
        agrees = candour.agrees_unknown if value is None else candour.agrees_known
        if draws.uniform("agrees") < agrees:
            return (phrase["agrees"], _stated(slot, turn.claimed))
        return (phrase["unknown"],) if value is None else (phrase["denies"], _stated(slot, value))
    if value is not None:
        return (_stated(slot, value),)
    if slot.decoys and draws.uniform("confabulates") < candour.confabulates:
        return (_stated(slot, draws.choose(slot.decoys, "decoy")),)
    return (phrase["unknown"],)


def _stated(slot: Slot, value: str) -> str:
    return (slot.answer or slot.statement).format(value=value) + "."
