"""H-MCB, metacognition: how well an agent predicts its own accuracy, by type of item."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

import numpy as np
import scipy

from .asking import Outcome
from .cogs_items import FAMILIAR, ITEM_TYPES, CogsItems, ItemType, cogs_items
from .measurement import Benchmark
from .percentages import error_of, predicted_shares, resampled
from .questions import Key, Question, percent_question, sentence_question
from .scores import (
    DRAWS,
    Interval,
    Score,
    Shares,
    Tally,
    interval_of,
    make_score,
    tally,
    unanswered,
)

PREDICTIONS = 5
"""How often each prediction is asked for; their median counts."""

_NAMES = tuple(kind.name for kind in ITEM_TYPES)
_CELLS = (FAMILIAR.name, *_NAMES)
_SIGNED = (-1.0, 1.0)
_FALSIFIED_BY = (
    "zeta of an agent that is right on familiar items and wrong on new structures is not above "
    "zero, or is no higher than on familiar items"
)


def metacognition_questions(seed: int, size: int) -> tuple[Question, ...]:
    """First the predictions, five for each type of item; then `size` items of each type.

    A prediction is asked for with the same examples and a description of the type, before any item
    of it is seen. Items are to be translated in full.
    """
    material = cogs_items(seed, size)
    kinds = (FAMILIAR, *ITEM_TYPES)
    predictions = [_prediction(material, kind) for kind in kinds for _ in range(PREDICTIONS)]
    return (*predictions, *(item for kind in kinds for item in _items(material, kind)))


def metacognition_score(outcomes: Sequence[Outcome]) -> Score:
    """ζ̂, the mean over five types of predicted less actual accuracy, in [−1, 1].

    For type i, ζ̂(i) is the median of the predictions less the share of items translated exactly.
    Its interval allows for the sampling of items and, by resampling, for the scatter of the
    predictions. Parts: "zeta(i)", "predicted(i)" and "actual(i)" for each type and for the
    familiar items; "zeta_excess", ζ̂ less that of the familiar items; "ace", the mean of |ζ̂(i)|
    over the five types; and "ace_if_calibrated", what that would be, by the sampling of items
    alone, for an agent whose every prediction is its true accuracy. "ace" is biased upwards, the
    more the fewer the items, and is to be held against that; its interval, from simultaneous ones
    of all ζ(i), holds nevertheless, and is wide.

    Not measured if familiar items are right less than half of the time: it is to be an error about
    what new structures do to knowledge. A constant answer, such as "0", ends there.

    Source: paper, section 8 (H-MCB), ζ = M̂ − σ (equation 35). The paper's items had no types, so
    that its profile could not be computed (E-72).
    """
    predicted = predicted_shares(outcomes, _item_type)
    tallies = tally(_of(outcomes, "actual"), cell=_item_type)
    why = "; ".join(filter(None, (_too_few(outcomes), unanswered(tallies, _CELLS))))
    if not why and tallies[FAMILIAR.name].share < 0.5:
        why = f"accuracy on familiar items is {tallies[FAMILIAR.name].share:.2f}, below 0.50"
    parts: dict[str, Interval] = {}
    for name in _CELLS:
        if not unanswered(tallies, (name,)):
            parts |= _type_parts(name, tallies, predicted.get(name, ()))
    if why:
        return _score(outcomes, None, parts, why=why)
    errors = {
        name: error_of(predicted[name], np.median, purpose) for purpose, name in enumerate(_CELLS)
    }

    def zeta(shares: Shares):
        return sum(errors[name](shares[name]) for name in _NAMES) / len(_NAMES)

    estimate = interval_of(tallies, _NAMES, zeta, bounds=_SIGNED)
    parts["zeta_excess"] = interval_of(
        tallies,
        _CELLS,
        lambda shares: zeta(shares) - errors[FAMILIAR.name](shares[FAMILIAR.name]),
        bounds=(-2.0, 2.0),
    )
    parts["ace"] = _ace(tallies, predicted)
    parts["ace_if_calibrated"] = _ace_if_calibrated(tallies)
    return _score(outcomes, estimate, parts, reading=_reading(estimate, parts))


H_MCB = Benchmark(
    name="h_mcb",
    faculty="zeta",
    confound="sigma",
    questions=metacognition_questions,
    score=metacognition_score,
)
"""Metacognition: is what an agent believes of its own accuracy true, type by type?"""


# --- questions ---------------------------------------------------------------------------------


def _items(material: CogsItems, kind: ItemType) -> Iterator[Question]:
    for item in material.items[kind.name]:
        prompt = (
            f"{_task(material.shown_with(item))}\n\nTranslate this sentence. Write its logical "
            f"form on one line, and nothing else.\n{item.source}"
        )
        yield sentence_question(
            prompt,
            Key(
                cell="actual",
                right=item.target,
                source=item.source,
                item_type=kind.name,
                structure=kind.structure,
            ),
        )


def _prediction(material: CogsItems, kind: ItemType) -> Question:
    prompt = (
        f"{_task(material.examples)}\n\nYou will be given {len(material.items[kind.name])} other "
        "sentences, one at a time, each with these examples and one more that has its rarest word. "
        f"They are {kind.description}. What percentage of them will you translate without any "
        "mistake? Answer with one number from 0 to 100, and nothing else."
    )
    key = Key(cell="predicted", item_type=kind.name, structure=kind.structure)
    return percent_question(prompt, key)


def _task(examples: Sequence[tuple[str, str]]) -> str:
    lines = [f"{source}\n{target}" for source, target in examples]
    return "\n\n".join(("Sentences are translated to logical forms. Examples:", *lines))


# --- scoring -----------------------------------------------------------------------------------


def _item_type(outcome: Outcome) -> str:
    return outcome.question.key.item_type


def _of(outcomes: Sequence[Outcome], cell: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.question.key.cell == cell]


def _too_few(outcomes: Sequence[Outcome]) -> str:
    """For which types fewer than half of the predictions were made, in words."""
    made = tally(_of(outcomes, "predicted"), cell=_item_type)
    few = unanswered(made, _CELLS)
    return f"predictions, {few}" if few else ""


def _type_parts(
    name: str, tallies: Mapping[str, Tally], values: Sequence[float]
) -> dict[str, Interval]:
    parts = {f"actual({name})": interval_of(tallies, (name,), lambda shares: shares[name])}
    if not values:
        return parts
    purpose = _CELLS.index(name)
    error = error_of(values, np.median, purpose)
    low, high = np.quantile(resampled(values, np.median, purpose), [0.025, 0.975])
    return parts | {
        f"zeta({name})": interval_of(
            tallies, (name,), lambda shares: error(shares[name]), bounds=_SIGNED
        ),
        f"predicted({name})": Interval(median(values), float(low), float(high), len(values)),
    }


def _ace(tallies: Mapping[str, Tally], predicted: Mapping[str, Sequence[float]]) -> Interval:
    """Mean |ζ̂(i)|; the interval from intervals of ζ(i) that all hold at once with 95 %."""
    each = 0.95 ** (1.0 / len(_NAMES))
    errors, lows, highs = [], [], []
    for name in _NAMES:
        hits, n, _ = tallies[name]
        said = predicted[name]
        actual = scipy.stats.binomtest(hits, n).proportion_ci(each, method="wilson")
        low, high = min(said) - actual.high, max(said) - actual.low
        errors.append(abs(median(said) - hits / n))
        lows.append(max(0.0, low, -high))
        highs.append(max(abs(low), abs(high)))
    n = sum(tallies[name].answered for name in _NAMES)
    return Interval(float(np.mean(errors)), float(np.mean(lows)), float(np.mean(highs)), n)


def _ace_if_calibrated(tallies: Mapping[str, Tally]) -> Interval:
    """ACE of an agent whose true accuracies are these shares and who predicts exactly them."""
    rng = np.random.default_rng(2)
    errors = []
    for name in _NAMES:
        hits, n, _ = tallies[name]
        share = (hits + 1.0) / (n + 2.0)  # a share of none or all would never vary
        errors.append(np.abs(rng.binomial(n, share, DRAWS) / n - share))
    drawn = np.mean(errors, axis=0)
    low, high = np.quantile(drawn, [0.025, 0.975])
    n = sum(tallies[name].answered for name in _NAMES)
    return Interval(float(drawn.mean()), float(low), float(high), n)


def _reading(zeta: Interval, parts: Mapping[str, Interval]) -> str:
    if zeta.low > 0.0:
        said = "overconfident on new structures"
    elif zeta.high < 0.0:
        said = "underconfident on new structures"
    else:
        said = "no error of the self-model that these items can show"
    excess = parts["zeta_excess"]
    if excess.low > 0.0:
        said += ", more than on familiar ones"
    if parts["ace"].estimate > parts["ace_if_calibrated"].high and zeta.low <= 0.0 <= zeta.high:
        said += "; type by type it is wrong in both directions"
    return said


def _score(
    outcomes: Sequence[Outcome],
    estimate: Interval | None,
    parts: Mapping[str, Interval],
    *,
    reading: str = "",
    why: str = "",
) -> Score:
    return make_score(
        "h_mcb",
        "zeta",
        outcomes,
        estimate=estimate,
        parts=parts,
        falsified_by=_FALSIFIED_BY,
        reading=reading,
        why=why,
    )
