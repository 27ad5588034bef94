"""H-DCB, executive: does an agent keep to the structure when the surface offers an answer?

Source: paper, section 8, and `track_executive.md`. Repaired are E-70: the retrieval density ρ is
the *fraction* of items that are given context, the context is what BM25 finds (not random), and the
bypass rate has one definition. The language is SCAN instead of COGS, because there a neighbour on
the surface has nearly the same words, so that its answer tempts (`surface_neighbours`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ..grammars import Pair, interpret_scan
from . import scan_retrieval
from .asking import Outcome
from .drawing import Draws
from .measurement import Benchmark
from .questions import Key, Question, sentence_question
from .scores import Interval, Score, Shares, Tally, interval_of, make_score, tally, unanswered

DENSITIES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""The retrieval densities ρ: what fraction of the items of a level is given context."""
RETRIEVED = 3
"""How many neighbours make a context."""

_FAMILIAR, _HINT, _NO_HINT = "familiar", "hint", "no hint"
_LEVELS = tuple(f"density {density:g}" for density in DENSITIES)
_FALSIFIED_BY = (
    "accuracy of agents with low coherence does not fall with the density of retrieval (slope not "
    "below zero), that of agents with high coherence is not above theirs in slope, or does not "
    "rise at densities of 0.8 and more"
)


def executive_questions(seed: int, size: int) -> tuple[Question, ...]:
    """`size` items at each of six densities, others at each, `size` with a hint, `size` familiar.

    Cells: "density 0" to "density 1", "hint" and "familiar". A context is the three commands of
    the pool that are nearest by BM25 and built otherwise, with their actions; a hint is the actions
    of the nearest one. The items with a hint are those of density 0 again. All these have the
    template that is held out; familiar items, without context or hint, have those of the pool.

    **Raises** `ValueError` if there are not enough items.
    """
    draws = Draws("h_dcb", seed)
    items = draws.chosen(scan_retrieval.held_out_commands(), len(DENSITIES) * size)
    questions: list[Question] = []
    for at, (level, density) in enumerate(zip(_LEVELS, DENSITIES, strict=True)):
        own = items[at * size : (at + 1) * size]
        given = round(density * size)
        questions += [
            _question(item, level, at * size + place, retrieved=place < given)
            for place, item in enumerate(own)
        ]
    questions += [_hinted(item, place) for place, item in enumerate(items[:size])]
    familiar = draws.chosen(scan_retrieval.familiar_commands(), size)
    questions += [_familiar(item) for item in familiar]
    return tuple(draws.shuffled(questions))


def executive_score(outcomes: Sequence[Outcome]) -> Score:
    """Ξ̂ = 1 − BCR, in [0, 1], and how accuracy goes with the density of retrieval.

    BCR, the bypass rate, is the share of answers to items with a wrong hint that are the hint, word
    for word. Parts:

    - "familiar", the accuracy on familiar items. Below one half Ξ̂ is not measured: who does not
      know the language has nothing to keep to. A constant answer ends there.
    - "bcr"; "bcr_without_hint", how often the very same wrong answers were given to these items
      without a hint; "bcr_excess", the one less the other; "right(hint)", the items with a hint
      that were solved all the same.
    - "right(0)" to "right(1)", the accuracy at each density; "slope", β̂₁ of the least-squares
      line Acc(ρ) = β₀ + β₁ρ through the six, each with the same weight.
    - "context", the accuracy of items with context less that of items without, over all densities;
      "copied", the share of answers to items with context that are those of the nearest neighbour.

    For an agent that keeps nothing from one question to the next, Acc(ρ) is a line by construction:
    it mixes the accuracies with and without context, so that β₁ is their difference, and no density
    between 0 and 1 can be best. A curve that bends would show that the agent remembers.

    Source: `track_executive.md`. Its other definition of BCR, the share of structural answers, is
    "right(hint)" here.
    """
    tallies = tally(outcomes)
    hints = tally(_in_cell(outcomes, _HINT), hit=_is_hint)
    parts = {
        f"right({level.removeprefix('density ')})": _share(tallies, level)
        for level in _LEVELS
        if not unanswered(tallies, (level,))
    }
    if not unanswered(tallies, _LEVELS):
        parts["slope"] = interval_of(tallies, _LEVELS, _slope, bounds=(-1.0, 1.0))
    parts |= _context_parts(outcomes)
    why = unanswered(tallies, (_FAMILIAR, _HINT))
    if not unanswered(tallies, (_FAMILIAR,)):
        parts["familiar"] = _share(tallies, _FAMILIAR)
        if not why and tallies[_FAMILIAR].share < 0.5:
            why = f"accuracy on familiar items is {tallies[_FAMILIAR].share:.2f}, below 0.50"
    if not unanswered(hints, (_HINT,)):
        parts["bcr"] = _share(hints, _HINT)
        parts["right(hint)"] = _share(tallies, _HINT)
        parts |= _without_hint(outcomes, hints)
    estimate = None
    if not why:
        estimate = interval_of(hints, (_HINT,), lambda shares: 1.0 - shares[_HINT])
    return make_score(
        "h_dcb",
        "xi",
        outcomes,
        estimate=estimate,
        parts=parts,
        falsified_by=_FALSIFIED_BY,
        reading="" if "slope" not in parts else _reading(parts["slope"]),
        why=why,
    )


H_DCB = Benchmark("h_dcb", "xi", "sigma", executive_questions, executive_score)
"""Executive: inhibition of answers that only look right, against schema coherence."""


# --- questions ---------------------------------------------------------------------------------


def _question(item: Pair, cell: str, number: int, *, retrieved: bool) -> Question:
    neighbours = _neighbours(item) if retrieved else ()
    key = Key(
        cell=cell,
        right=item.target,
        surface=neighbours[0].target if neighbours else None,
        # A learner that reads the command alone sees no context: it has to decline.
        source="" if retrieved else item.source,
        item_type="with context" if retrieved else "alone",
        group=f"item {number}",
        structure=1.0,
        context=retrieved,
    )
    return sentence_question(_prompt(item, neighbours), key)


def _familiar(item: Pair) -> Question:
    key = Key(cell=_FAMILIAR, right=item.target, source=item.source)
    return sentence_question(_prompt(item, ()), key)


def _hinted(item: Pair, number: int) -> Question:
    hint = _neighbours(item)[0].target
    said = f"Somebody suggests, and may be wrong: {hint}"
    key = Key(cell=_HINT, right=item.target, hint=hint, group=f"item {number}", structure=1.0)
    return sentence_question(_prompt(item, (), said), key)


def _neighbours(item: Pair) -> tuple[Pair, ...]:
    return scan_retrieval.surface_neighbours(item.source, item.target, RETRIEVED)


def _prompt(item: Pair, neighbours: Sequence[Pair], said: str = "") -> str:
    known = [Pair(source, interpret_scan(source)) for source in scan_retrieval.EXAMPLES]
    parts = [f"Each line is a command and the actions that it means.\n{_lines(known)}"]
    if neighbours:
        parts.append(f"These were found in a store of other commands:\n{_lines(neighbours)}")
    asked = "Which actions does this mean? Write them on one line, and nothing else."
    return "\n\n".join((*parts, "\n".join(filter(None, (asked, said, f"{item.source} =")))))


def _lines(pairs: Sequence[Pair]) -> str:
    return "\n".join(f"{pair.source} = {pair.target}" for pair in pairs)


# --- scoring -----------------------------------------------------------------------------------


def _in_cell(outcomes: Sequence[Outcome], cell: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.question.key.cell == cell]


def _is_hint(outcome: Outcome) -> bool:
    return outcome.answer == outcome.question.key.hint


def _share(tallies: Mapping[str, Tally], cell: str) -> Interval:
    return interval_of(tallies, (cell,), lambda shares: shares[cell])


def _slope(shares: Shares):
    """Of the least-squares line through the accuracies at the six densities."""
    centred = np.asarray(DENSITIES) - np.mean(DENSITIES)
    weights = centred / np.sum(centred**2)
    return sum(weight * shares[level] for weight, level in zip(weights, _LEVELS, strict=True))


def _context_parts(outcomes: Sequence[Outcome]) -> dict[str, Interval]:
    """What context does, whatever the density."""
    levels = [outcome for outcome in outcomes if outcome.question.key.cell in _LEVELS]

    def cell(outcome: Outcome) -> str:
        return "with" if outcome.question.key.context else "without"

    right = tally(levels, cell=cell)
    if unanswered(right, ("with", "without")):
        return {}
    copied = tally(
        levels, cell=cell, hit=lambda outcome: outcome.answer == outcome.question.key.surface
    )
    return {
        "context": interval_of(
            right,
            ("with", "without"),
            lambda shares: shares["with"] - shares["without"],
            bounds=(-1.0, 1.0),
        ),
        "copied": _share(copied, "with"),
    }


def _without_hint(outcomes: Sequence[Outcome], hints: Mapping[str, Tally]) -> dict[str, Interval]:
    """How often the hint is answered where it was not given."""
    hint_of = {
        outcome.question.key.group: outcome.question.key.hint
        for outcome in _in_cell(outcomes, _HINT)
    }
    same = [
        outcome
        for outcome in _in_cell(outcomes, _LEVELS[0])
        if outcome.question.key.group in hint_of
    ]
    base = tally(
        same,
        cell=lambda outcome: _NO_HINT,
        hit=lambda outcome: outcome.answer == hint_of[outcome.question.key.group],
    )
    if unanswered(base, (_NO_HINT,)):
        return {}
    both = {_HINT: hints[_HINT], _NO_HINT: base[_NO_HINT]}
    return {
        "bcr_without_hint": _share(base, _NO_HINT),
        "bcr_excess": interval_of(
            both,
            (_HINT, _NO_HINT),
            lambda shares: shares[_HINT] - shares[_NO_HINT],
            bounds=(-1.0, 1.0),
        ),
    }


def _reading(slope: Interval) -> str:
    if slope.high < 0.0:
        return "retrieved context misleads"
    if slope.low > 0.0:
        return "retrieved context helps"
    return "no effect of retrieved context that these items can show"
