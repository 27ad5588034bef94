"""H-AFB, attention: does an agent follow a surface cue against what the structure says (α)?

Source: `track_attention.md` and §8 of the paper: SCAN with RED in front of a share s of those
examples whose actions have a trigger. Repaired are E-68 (the trigger is a verb done twice in a row,
15.8 % of SCAN and half of the examples, and RED really goes with it in what the agent is shown) and
SRI (E-45). The paper's α̂ = Acc_struct / Acc_ID is reported too, but cannot be α: new combinations
test σ. Here α̂ = Acc_conflict / Acc_plain, of the same commands with RED and without.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..grammars import Pair
from . import scan_items
from .asking import Outcome
from .drawing import Draws, is_asked
from .measurement import Benchmark
from .questions import Form, Key, Question, option_question
from .scan_items import repeats_a_verb
from .scores import (
    Interval,
    Score,
    Shares,
    Statistic,
    Tally,
    interval_of,
    make_score,
    ratio,
    tally,
    unanswered,
    without_guessing,
)

CUE = "RED"
STRENGTHS = (0.6, 0.7, 0.8, 0.9)
"""s: the share of the examples with the trigger that have the cue; no other example has it."""
OPTIONS = 4
_HALF = 10  # examples with the trigger, and as many without
_FALSIFIED_BY = (
    "Over agents, the drop under conflict is not larger than 1 − Acc_struct/Acc_ID (one-tailed "
    "Wilcoxon), or alpha does not separate agents below 0.45 from those above 0.65 whose Acc_ID "
    "are within 0.05 (p > 0.05, d < 0.3), or Spearman of alpha and rho_OOD is below 0.30."
)


@lru_cache(maxsize=4)
def attention_questions(seed: int, size: int) -> tuple[Question, ...]:
    """`size` questions of each of five cells, every strength in turn, in random order.

    Cells: "valid", the trigger with the cue; "structure", "jump" in combinations, which the
    examples have alone only, without the cue; "conflict", the cue without the trigger; "plain", the
    same commands without the cue; "cue_only", where the examples' commands were exchanged, so that
    the cue is all that tells which actions have the trigger.

    Of the four options one has the trigger; it is the right one in "valid".

    **Raises** `ValueError` for a size above 236, the commands with the trigger that may be asked.
    """
    draws = Draws("h_afb", seed)
    asked = _asked()
    headers = {strength: _examples(draws, strength) for strength in STRENGTHS}
    strengths = [STRENGTHS[at % len(STRENGTHS)] for at in range(size)]
    questions = []
    for strength, pair in zip(strengths, draws.chosen(asked.repeated, size), strict=True):
        options = _options(draws, pair)
        questions.append(_question(headers, strength, "valid", pair, options, cue=True))
    for strength, pair in zip(strengths, draws.chosen(asked.others, size), strict=True):
        options = _options(draws, pair)
        for cell in ("conflict", "plain"):
            questions.append(
                _question(headers, strength, cell, pair, options, cue=cell == "conflict")
            )
    for at, pair in enumerate(draws.chosen(asked.with_jump, size)):
        options = _options(draws, pair)
        questions.append(_question(headers, strengths[at], "structure", pair, options, cue=False))
    for at, pair in enumerate(draws.chosen((*asked.repeated, *asked.others), size)):
        questions.append(_cue_only(draws, strengths[at], pair, cue=at % 2 == 0))
    return tuple(draws.shuffled(questions))


def attention_pairs(seed: int, strength: float) -> tuple[Pair, ...]:
    """What a learner is trained on before it is asked, in random order.

    These are the commands of at most eight actions that are never asked, as many with the trigger
    as without, with the cue in front of a share `strength` of the former; and "jump", alone, ten
    times.

    **Raises** `ValueError` for a strength that is none of `STRENGTHS`.
    """
    if strength not in STRENGTHS:
        raise ValueError(f"strength must be one of {STRENGTHS}; got {strength!r}.")
    draws = Draws("h_afb pairs", seed)
    repeated, others = draws.shuffled(_shown().repeated), _shown().others
    cued = round(strength * len(repeated))
    pairs = [*map(_cued, repeated[:cued]), *repeated[cued:], *draws.chosen(others, len(repeated))]
    return tuple(draws.shuffled([*pairs, *([Pair("jump", "I_JUMP")] * 10)]))


def attention_score(outcomes: Sequence[Outcome]) -> Score:
    """α̂ = Acc_conflict / Acc_plain, cut to [0, 1]; guessing among options cancels out.

    Parts, with accuracies freed of guessing: "plain", "valid", "structure" and "cue_only";
    "surface", the share of conflicts answered with the trigger; "drop", Δ_surf = Acc_valid −
    Acc_conflict; "paper_alpha", Acc_structure / Acc_valid; "sri" = (Acc_structure − Acc_conflict) /
    Acc_valid, which is 0 where both fall alike, unlike E-45's; "slope", of α̂ in s by least squares.

    Not measured if "plain" or "conflict" is answered by less than half, or "plain" is below one
    half: then the structure is not known that the cue competes with. A constant answer ends there.
    """
    tallies = tally(outcomes, hit=_hit)
    options = max((len(outcome.question.options) for outcome in outcomes), default=0)
    parts = _parts(outcomes, tallies, options)
    why = unanswered(tallies, ("plain", "conflict"))
    if not why and parts["plain"].estimate < 0.5:
        why = f"accuracy without the cue is {parts['plain'].estimate:.2f}, below 0.50"
    estimate = None
    if not why:
        estimate = interval_of(
            tallies, ("plain", "conflict"), lambda shares: _alpha(shares, "conflict", "plain")
        )
    return make_score(
        "h_afb",
        "alpha",
        outcomes,
        estimate=estimate,
        parts=parts,
        falsified_by=_FALSIFIED_BY,
        reading="" if estimate is None else _reading(estimate, parts),
        why=why,
    )


H_AFB = Benchmark("h_afb", "alpha", "depth", attention_questions, attention_score)
"""Attention: to structure, against depth."""


def _parts(
    outcomes: Sequence[Outcome], tallies: Mapping[str, Tally], options: int
) -> dict[str, Interval]:
    def known(shares: Shares, cell: str):
        return without_guessing(shares[cell], options)

    wide = (-1.0, 1.0)
    statistics: dict[str, tuple[tuple[str, ...], Statistic, tuple[float, float]]] = {
        "plain": (("plain",), lambda s: known(s, "plain"), (0.0, 1.0)),
        "valid": (("valid",), lambda s: known(s, "valid"), (0.0, 1.0)),
        "structure": (("structure",), lambda s: known(s, "structure"), (0.0, 1.0)),
        "cue_only": (("cue_only",), lambda s: without_guessing(s["cue_only"], 2), (0.0, 1.0)),
        "drop": (("valid", "conflict"), lambda s: known(s, "valid") - known(s, "conflict"), wide),
        "paper_alpha": (
            ("structure", "valid"),
            lambda s: ratio(known(s, "structure"), known(s, "valid")),
            (0.0, 1.0),
        ),
        "sri": (
            ("structure", "conflict", "valid"),
            lambda s: ratio(known(s, "structure") - known(s, "conflict"), known(s, "valid")),
            wide,
        ),
    }
    parts = {
        name: interval_of(tallies, cells, statistic, bounds=bounds)
        for name, (cells, statistic, bounds) in statistics.items()
        if not unanswered(tallies, cells)
    }
    if "valid" in parts and parts["valid"].estimate < 0.5:
        # There is no accuracy that a share of it could be taken of.
        parts = {name: part for name, part in parts.items() if name not in ("paper_alpha", "sri")}
    followed = tally(outcomes, hit=lambda outcome: repeats_a_verb(outcome.answer))
    if not unanswered(followed, ["conflict"]):
        parts["surface"] = interval_of(followed, ["conflict"], lambda s: s["conflict"])
    by_strength = tally(outcomes, cell=_cell_and_strength, hit=_hit)
    cells = [f"{cell} {s}" for cell in ("conflict", "plain") for s in STRENGTHS]
    if not unanswered(by_strength, cells):
        parts["slope"] = interval_of(by_strength, cells, _slope, bounds=(-10.0, 10.0))
    return parts


def _alpha(shares: Shares, conflict: str, plain: str):
    return np.minimum(ratio(shares[conflict], shares[plain]), 1.0)


def _slope(shares: Shares):
    """Of α̂ in s, by least squares, per unit of s."""
    centred = np.array(STRENGTHS) - np.mean(STRENGTHS)
    alphas = [_alpha(shares, f"conflict {s}", f"plain {s}") for s in STRENGTHS]
    return sum(c * alpha for c, alpha in zip(centred, alphas, strict=True)) / (centred @ centred)


def _reading(alpha: Interval, parts: Mapping[str, Interval]) -> str:
    """The classes of the track, and whether the cue can be used at all (expected: 0.80 right)."""
    low, high = alpha.estimate < 0.45, alpha.estimate > 0.65
    found = "low attention" if low else "high attention" if high else "between the classes"
    if "cue_only" not in parts:
        return f"{found}; whether the cue was picked up is not known"
    if parts["cue_only"].estimate < 0.6:
        return f"{found}; but the cue was not picked up even where it was all there was"
    return found


def _hit(outcome: Outcome) -> bool:
    question = outcome.question
    if question.key.cell == "cue_only" and question.form is Form.SENTENCE:
        # No command gives these actions: that the trigger is there or not is all there is to know.
        return repeats_a_verb(outcome.answer) == repeats_a_verb(question.key.right)
    return outcome.right


def _cell_and_strength(outcome: Outcome) -> str:
    key = outcome.question.key
    return f"{key.cell} {key.item_type}"


class _Commands(NamedTuple):
    """Short commands: without "jump", by the trigger; those with it among other words."""

    repeated: tuple[Pair, ...]
    others: tuple[Pair, ...]
    with_jump: tuple[Pair, ...] = ()


@lru_cache(maxsize=1)
def _asked() -> _Commands:
    short = [pair for pair in scan_items.short_commands() if is_asked(pair.source)]
    with_jump = [pair for pair in scan_items.short_commands() if _has_jump(pair)]
    return _by_trigger(short)._replace(with_jump=tuple(p for p in with_jump if p.source != "jump"))


@lru_cache(maxsize=1)
def _shown() -> _Commands:
    return _by_trigger(scan_items.never_asked())


def _by_trigger(pairs: Iterable[Pair]) -> _Commands:
    known = [pair for pair in pairs if not _has_jump(pair)]
    return _Commands(
        tuple(pair for pair in known if repeats_a_verb(pair.target)),
        tuple(pair for pair in known if not repeats_a_verb(pair.target)),
    )


def _has_jump(pair: Pair) -> bool:
    return "jump" in pair.source.split()


def _cued(pair: Pair) -> Pair:
    return Pair(f"{CUE} {pair.source}", pair.target)


def _examples(draws: Draws, strength: float, *, exchanged: bool = False) -> str:
    """Ten examples with the trigger, `strength` of them with the cue, ten without; "jump" alone."""
    repeated = draws.chosen(_shown().repeated, _HALF)
    others = draws.chosen(_shown().others, _HALF)
    if exchanged:
        # Whatever the command, the cue stands before the actions with the trigger, and only there.
        commands = draws.shuffled([pair.source for pair in (*repeated, *others)])
        actions = [pair.target for pair in (*repeated, *others)]
        pairs = [Pair(*both) for both in zip(commands, actions, strict=True)]
        cued = _HALF
    else:
        pairs, cued = [*repeated, *others], round(strength * _HALF)
    lines = [*map(_cued, pairs[:cued]), *pairs[cued:]]
    if not exchanged:
        lines.append(Pair("jump", "I_JUMP"))
    return "\n".join(f"{pair.source} = {pair.target}" for pair in draws.shuffled(lines))


def _options(draws: Draws, pair: Pair) -> list[str]:
    """The right answer and those of near commands: one with the trigger, in random order.

    If the right one has it, the others do not.
    """
    near = {pair.source: pair}
    with_it, without = list[str](), list[str]()
    while not with_it or len(without) < OPTIONS - 1:
        for one in list(near.values()):
            near |= {new.source: new for new in scan_items.neighbours(one.source)}
        targets = sorted({one.target for one in near.values()} - {pair.target})
        with_it = [target for target in targets if repeats_a_verb(target)]
        without = [target for target in targets if not repeats_a_verb(target)]
    if repeats_a_verb(pair.target):
        return draws.shuffled([pair.target, *draws.chosen(without, OPTIONS - 1)])
    return draws.shuffled([pair.target, draws.choose(with_it), *draws.chosen(without, OPTIONS - 2)])


def _question(
    headers: Mapping[float, str],
    strength: float,
    cell: str,
    pair: Pair,
    options: Sequence[str],
    *,
    cue: bool,
) -> Question:
    source = f"{CUE} {pair.source}" if cue else pair.source
    suggested = next(option for option in options if repeats_a_verb(option))
    key = Key(
        cell,
        pair.target,
        surface=suggested if cue else None,
        source=source,
        item_type=str(strength),
        structure=1.0 if cell == "structure" else 0.0,
    )
    return option_question(_prompt(headers[strength], source), options, key)


def _cue_only(draws: Draws, strength: float, pair: Pair, *, cue: bool) -> Question:
    """Two options that the command does not mean, one with the trigger."""
    with_it, without = (
        draws.choose([one.target for one in group if one.target != pair.target])
        for group in (_shown().repeated, _shown().others)
    )
    right = with_it if cue else without
    prompt = _prompt(
        _examples(draws, strength, exchanged=True), f"{CUE} {pair.source}" if cue else pair.source
    )
    key = Key("cue_only", right, surface=right, item_type=str(strength))
    return option_question(prompt, draws.shuffled([with_it, without]), key)


def _prompt(examples: str, source: str) -> str:
    return (
        "Each line is a command and the actions that it means.\n"
        f"{examples}\nWhich actions does this mean?\n{source} ="
    )
