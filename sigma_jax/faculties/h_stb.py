"""H-STB, social: does a message carry the rules of what its sender knows to one who does not?

Source: paper, section 8, and `track_social.md`. Repaired are E-71 (there is a transmitter, whose
own message is what the receiver reads, and a condition without one, so that the return on
communication can be computed) and E-45 (μ̂). The languages are invented, a new one for every
sender: of a language that the receiver knows, no message could tell anything, and ten lines cannot
tell the logical forms of COGS.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..grammars import Pair
from .agents import Agent
from .asking import Outcome
from .clusters import worth_of_answers
from .invented_scan import LINES, OPTIONS, Item, Language, invented_language, language_items
from .measurement import Benchmark
from .percentages import error_of, predicted_shares
from .questions import Form, Key, Question, option_question, percent_question, text_question
from .scores import (
    Interval,
    Score,
    Shares,
    Tally,
    interval_of,
    make_score,
    ratio,
    tally,
    unanswered,
)

ITEMS = 4
"""Questions that the receiver of a message is asked."""
KINDS = ("fact", "schema", "mixed")
"""What a message may say: what sentences mean, what the rules are, or both in turn."""

_NONE = "no message"
_CELLS = (_NONE, *KINDS)
_FACT = "say what one sentence means, by quoting it with its actions; it states no rule"
_RULE = "state one rule, as general as possible; it quotes no sentence with its actions"
_ASKED_FOR = {
    "fact": f"Every line must {_FACT}.",
    "schema": f"Every line must {_RULE}.",
    "mixed": f"Every odd line must {_RULE}. Every even line must {_FACT}.",
}
_FALSIFIED_BY = (
    "senders with high coherence do not get more across by rules than by facts (one-tailed paired "
    "p > 0.05 and d < 0.3), or senders with low coherence do so as well"
)


def social_questions(seed: int, size: int) -> tuple[Question, ...]:
    """The first round: three messages for each language, and what is guessed without one.

    There are as many languages as make `size` items with four each, two at least. The sender sees
    ten lessons of the language and is asked for ten lines. The receiver's items are longer than
    any lesson, with four meanings to choose from.
    """
    names = [f"{number} of {seed}" for number in range(max(2, math.ceil(size / ITEMS)))]
    questions: list[Question] = []
    for name in names:
        language = invented_language(name)
        questions += [_message(language, kind) for kind in KINDS]
        questions += [_item(language, item, _NONE, "") for item in language_items(language, ITEMS)]
    return tuple(questions)


def social_round(outcomes: Sequence[Outcome]) -> tuple[Question, ...]:
    """The second round: the same items to those who read a message, and what its sender expects.

    A message is read up to its tenth line. One that was not written is read by nobody.
    """
    if any(outcome.question.key.cell in KINDS for outcome in outcomes):
        return ()
    questions: list[Question] = []
    for outcome in outcomes:
        if outcome.answered and outcome.question.form is Form.TEXT:
            key = outcome.question.key
            language = invented_language(key.group)
            lines = [line for line in outcome.answer.splitlines() if line.strip()]
            message, kind = "\n".join(lines[:LINES]), key.cell.removeprefix("message: ")
            items = language_items(language, ITEMS)
            questions.append(_expectation(language, items, kind, message))
            questions += [_item(language, item, kind, message) for item in items]
    return tuple(questions)


def social_score(outcomes: Sequence[Outcome]) -> Score:
    """μ̂, in [0, 1]: what share of the answers that were missing a message of rules brought.

    μ̂ = (Acc_schema − Acc_none) / (1 − Acc_none), zero where nothing was gained. It rises with the
    accuracy that rules bring, and what facts bring does not enter. The paper's ROI_S / (ROI_S + 1 −
    ROI_F) rises with that, and leaves [0, 1] (E-45). It is not measured where there is nothing to
    gain, all being right without a message.

    Parts, κ being "fact", "schema" or "mixed": "right(κ)" and "right(no message)"; "roi(κ)", the
    return Acc_κ − Acc_none; "schema_over_fact", the difference of two of these; "tom(κ)", what the
    sender expected the receivers to get right less what they did, ζ_AB = τ_A − σ_B, and "tom", the
    same over all kinds together; what the paper calls TMA is its absolute value.

    Answers to one message are not independent: the intervals are from as many answers as tell as
    much (`worth_of_answers`). Which sample of a message is read is not chosen by how well it does.

    Source: `track_social.md`; paper, equations 30 to 33.
    """
    sent = tally(_of(outcomes, Form.TEXT))
    answers = _of(outcomes, Form.OPTION) + _of(outcomes, Form.SENTENCE)
    tallies = tally(answers)
    worth = worth_of_answers(answers, cell=_cell, cluster=_language)

    def part(cells: Sequence[str], statistic, low: float = -1.0) -> Interval:
        return interval_of(tallies, cells, statistic, bounds=(low, 1.0), worth=worth)

    missing = {kind: _why_missing(sent, tallies, kind) for kind in KINDS}
    has_baseline = not unanswered(tallies, (_NONE,))
    parts: dict[str, Interval] = {}
    for cell in _CELLS:
        if not missing.get(cell, "" if has_baseline else "no baseline"):
            parts[f"right({cell})"] = part((cell,), lambda shares, cell=cell: shares[cell], 0.0)
    measured = [kind for kind in KINDS if f"right({kind})" in parts]
    if has_baseline:
        for kind in measured:
            parts[f"roi({kind})"] = part(
                (_NONE, kind), lambda shares, kind=kind: _roi(shares, kind)
            )
    if {"fact", "schema"} <= set(measured):
        parts["schema_over_fact"] = part(
            ("fact", "schema"), lambda shares: shares["schema"] - shares["fact"]
        )
    parts |= _theory_of_mind(outcomes, answers, measured)
    why = "; ".join(filter(None, (unanswered(tallies, (_NONE,)), missing["schema"])))
    if not why and tallies[_NONE].share == 1.0:
        why = "all is answered without a message: there is nothing to gain"
    return make_score(
        "h_stb",
        "mu",
        outcomes,
        estimate=None if why else part((_NONE, "schema"), _gained, 0.0),
        parts=parts,
        falsified_by=_FALSIFIED_BY,
        reading=_reading(parts),
        why=why,
    )


def dyad(sender: Agent, receiver: Agent) -> Agent:
    """Two agents as one for H-STB: the one writes messages and expects, the other reads them."""

    def agent(question: Question) -> "str | Sequence[float]":
        is_sender = question.form in (Form.TEXT, Form.PERCENT)
        return (sender if is_sender else receiver)(question)

    return agent


H_STB = Benchmark(
    name="h_stb",
    faculty="mu",
    confound="sigma",
    questions=social_questions,
    score=social_score,
    next_round=social_round,
)
"""Social: transmission of rules, against what sender or receiver know themselves."""


# --- questions ---------------------------------------------------------------------------------


def _message(language: Language, kind: str) -> Question:
    prompt = (
        f"{_lessons(language)}\n\nSomebody who knows nothing of the language will be asked what "
        "other, longer sentences mean, and will have read nothing but a message from you. Write "
        f"this message, of exactly {LINES} lines. {_ASKED_FOR[kind]}"
    )
    return text_question(
        prompt, Key(cell=f"message: {kind}", group=language.name, tells=_tells(language, kind))
    )


def _tells(language: Language, kind: str) -> tuple[str, ...]:
    """What a scripted sender may say: the rules or facts, for "mixed" half of each."""
    rules = tuple(language.rules.values())
    facts = tuple(f'"{lesson.source}" means {lesson.target}.' for lesson in language.lessons)
    # The languages differ in which words their rules are about, so every other rule is any half.
    mixed = tuple(line for pair in zip(rules[::2], facts[::2], strict=True) for line in pair)
    return {"fact": facts, "schema": rules, "mixed": mixed}[kind]


def _item(language: Language, item: Item, cell: str, message: str) -> Question:
    told = (
        f"Somebody who knows it has written to you:\n{message}"
        if message
        else "Nobody has told you anything about it."
    )
    prompt = (
        "Sentences of an invented language stand for sequences of actions. "
        f"{told}\n\nWhich actions does this sentence stand for?\n{item.source}"
    )
    return option_question(
        prompt,
        item.options,
        Key(
            cell=cell,
            right=item.right,
            item_type=item.kind,
            group=language.name,
            structure=math.inf,
            helped_by=item.rule,
        ),
    )


def _expectation(language: Language, items: Sequence[Item], kind: str, message: str) -> Question:
    prompt = (
        f"{_lessons(language)}\n\nYou have written this message to somebody who knows nothing of "
        f"the language:\n{message}\n\nThe reader is now asked what other, longer sentences mean, "
        f"and chooses among {OPTIONS} sequences of actions each time. What percentage of the "
        "choices will be right? Answer with one number from 0 to 100, and nothing else."
    )
    key = Key(
        cell=f"expected: {kind}",
        group=language.name,
        structure=math.inf,
        tells=tuple(item.rule for item in items),
        guessing=1.0 / OPTIONS,
    )
    return percent_question(prompt, key)


def _lessons(language: Language) -> str:
    return "\n".join(
        (
            "You have learned these sentences of an invented language, and the actions that they "
            "stand for:",
            *(_line(lesson) for lesson in language.lessons),
        )
    )


def _line(pair: Pair) -> str:
    return f"{pair.source} = {pair.target}"


# --- scoring -----------------------------------------------------------------------------------


def _cell(outcome: Outcome) -> str:
    return outcome.question.key.cell


def _language(outcome: Outcome) -> str:
    return outcome.question.key.group


def _of(outcomes: Sequence[Outcome], form: Form) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.question.form is form]


def _why_missing(sent: Mapping[str, Tally], tallies: Mapping[str, Tally], kind: str) -> str:
    return unanswered(sent, (f"message: {kind}",)) or unanswered(tallies, (kind,))


def _roi(shares: Shares, kind: str):
    return shares[kind] - shares[_NONE]


def _gained(shares: Shares):
    return ratio(_roi(shares, "schema"), 1.0 - shares[_NONE])


def _theory_of_mind(
    outcomes: Sequence[Outcome], answers: Sequence[Outcome], measured: Sequence[str]
) -> dict[str, Interval]:
    """What senders expected less what came, for each kind of message, and for all of them."""
    asked = tally(_of(outcomes, Form.PERCENT))
    expected = predicted_shares(outcomes, _cell)
    kinds = [kind for kind in measured if not unanswered(asked, (f"expected: {kind}",))]
    groups = {f"tom({kind})": [kind] for kind in kinds}
    if kinds:
        groups["tom"] = kinds
    return {
        name: _error(
            [outcome for outcome in answers if _cell(outcome) in over],
            [value for kind in over for value in expected[f"expected: {kind}"]],
        )
        for name, over in groups.items()
    }


def _error(answers: Sequence[Outcome], expected: Sequence[float]) -> Interval:
    """Mean expectation less the share of right answers, all messages of a language a cluster."""

    def cell(outcome: Outcome) -> str:
        return "read"

    error = error_of(expected, np.mean, len(KINDS))
    return interval_of(
        tally(answers, cell=cell),
        ("read",),
        lambda shares: error(shares["read"]),
        bounds=(-1.0, 1.0),
        worth=worth_of_answers(answers, cell=cell, cluster=_language),
    )


def _reading(parts: Mapping[str, Interval]) -> str:
    if "schema_over_fact" not in parts:
        return ""
    over = parts["schema_over_fact"]
    if over.low > 0.0:
        return "rules get more across than facts"
    if over.high < 0.0:
        return "facts get more across than rules"
    return "no difference between rules and facts that these items can show"
