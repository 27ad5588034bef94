"""H-PTB, learning: is a new combination of what is known as good as known (σ), or is it depth (δ)?

Source: §8 of the paper and `track_learning.md`: ρ_OOD = Acc_OOD / Acc_ID on PCFG-SET. Repaired are
E-69 (contrastive pairs are of SCAN, where there are some, and stand in random order), the missing
held-out part, and that nothing was shown to learn from. The familiar items are matched to the new
ones by their number of functions and their length, so that ρ is not about difficulty. The design as
training, four orders of data and a change point, is for learners only and is not this module's.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

from ..grammars import Pair
from . import pcfg_items, scan_items
from .asking import Outcome
from .drawing import Draws, chain, is_asked
from .measurement import Benchmark
from .questions import Key, Question, option_question
from .scores import (
    Interval,
    Score,
    Statistic,
    interval_of,
    make_score,
    ratio,
    tally,
    unanswered,
    without_guessing,
)

OPTIONS = 4
NEW = ("systematicity", "productivity", "substitutivity")
_FALSIFIED_BY = (
    "Two groups of agents whose familiar accuracies are within 0.05 and whose rho are below 0.40 "
    "and above 0.55 do not differ by 30 points in accuracy on new combinations (one-tailed "
    "p > 0.05 and d < 0.3)."
)


@lru_cache(maxsize=4)
def learning_questions(seed: int, size: int) -> tuple[Question, ...]:
    """`size` questions of each of five cells, in random order.

    Cells: "familiar", three of new combinations of it, and "contrast", where one other option is
    what the same words mean in another order, and the prompt has shown that one.
    """
    draws = Draws("h_ptb", seed)
    pairs = pcfg_items.drawn_pairs(seed, 40 * size + 1_000)
    asked = [pair for pair in pairs if is_asked(pair.source)]
    familiar = [pair for pair in asked if pcfg_items.is_familiar(pair.source)]
    known = [
        pair for pair in pairs if pcfg_items.is_familiar(pair.source) and not is_asked(pair.source)
    ]
    items = {
        "systematicity": pcfg_items.newly_adjacent(draws, familiar, size),
        "productivity": draws.chosen(pcfg_items.longer(asked), size),
        "substitutivity": pcfg_items.with_twins(draws, familiar, size),
    }
    items["familiar"] = pcfg_items.matched(draws, familiar, items["systematicity"])
    shown = _lines(pcfg_items.shown_examples(draws, known, 12))
    questions = [_pcfg(draws, shown, cell, pair) for cell in items for pair in items[cell]]
    questions += [_contrast(draws, group) for group in draws.chosen(scan_items.same_words(), size)]
    return tuple(draws.shuffled(questions))


def learning_pairs(seed: int, count: int) -> tuple[Pair, ...]:
    """What a learner is trained on before it is asked: familiar PCFG-SET sentences and bare twins.

    None of them is ever asked, at any seed. Ten of each twin before strings alone come last.

    **Raises** `ValueError` for a count below one.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}.")
    pairs = pcfg_items.drawn_pairs(seed, 4 * count + 200)
    pool = [
        pair for pair in pairs if pcfg_items.is_familiar(pair.source) and not is_asked(pair.source)
    ]
    return (*pool[:count], *pcfg_items.alone(Draws("h_ptb twins", seed), pcfg_items.TWINS, 10))


def learning_score(outcomes: Sequence[Outcome]) -> Score:
    """σ̂ = the mean over the three kinds of new combinations of Acc_new / Acc_familiar.

    Accuracies are freed of guessing, `(share − 1/options) / (1 − 1/options)`. Parts: the familiar
    accuracy ("depth"), ρ of each kind, and of the contrast the shares of the rule ("rule") and of
    the same words' other meaning ("surface"), as they are.

    Not measured if a cell is answered by less than half, or if the familiar accuracy is below one
    half: then nothing has been learned that could be combined. A constant answer ends there.
    """
    tallies = tally(outcomes)
    options = max((len(outcome.question.options) for outcome in outcomes), default=0)
    needed = ("familiar", *NEW)
    parts: dict[str, Interval] = {}
    why = unanswered(tallies, needed)
    if not unanswered(tallies, ["contrast"]):
        followed = tally(outcomes, hit=_followed_surface)
        parts["rule"] = interval_of(tallies, ["contrast"], lambda shares: shares["contrast"])
        parts["surface"] = interval_of(followed, ["contrast"], lambda shares: shares["contrast"])
    if not unanswered(tallies, ["familiar"]):
        parts["depth"] = interval_of(
            tallies, ["familiar"], lambda shares: without_guessing(shares["familiar"], options)
        )
        if not why and parts["depth"].estimate < 0.5:
            why = f"accuracy on familiar items is {parts['depth'].estimate:.2f}, below 0.50"
    estimate = None
    if not why:
        rhos = {kind: _rho(kind, options) for kind in NEW}
        for kind in NEW:
            parts[kind] = interval_of(tallies, ("familiar", kind), rhos[kind])
        estimate = interval_of(
            tallies, needed, lambda shares: sum(rhos[kind](shares) for kind in NEW) / len(NEW)
        )
    return make_score(
        "h_ptb",
        "sigma",
        outcomes,
        estimate=estimate,
        parts=parts,
        falsified_by=_FALSIFIED_BY,
        reading="" if estimate is None else _reading(parts["depth"], estimate),
        why=why,
    )


H_PTB = Benchmark("h_ptb", "sigma", "depth", learning_questions, learning_score)
"""Learning: schema coherence against depth."""


def _rho(kind: str, options: int) -> Statistic:
    return lambda shares: ratio(
        without_guessing(shares[kind], options), without_guessing(shares["familiar"], options)
    )


def _reading(depth: Interval, rho: Interval) -> str:
    """The classes that all tracks use; which they are is taken from the estimates."""
    if depth.estimate > 0.85 and rho.estimate < 0.40:
        return "high depth, low coherence"
    if rho.estimate > 0.55:
        return "high coherence"
    return "between the classes"


def _followed_surface(outcome: Outcome) -> bool:
    return outcome.answer == outcome.question.key.surface


def _pcfg(draws: Draws, shown: str, cell: str, pair: Pair) -> Question:
    def step(source: str) -> str:
        return pcfg_items.changed(draws, source)

    options = _distinct_meanings(draws, pair, step, pcfg_items.LANGUAGE.meaning)
    prompt = (
        "Each line is a call of functions on strings, and the string that it makes.\n"
        f"{shown}\nWhich string does this make?\n{pair.source} ="
    )
    structure = 0.0 if cell == "familiar" else 1.0
    key = Key(cell, pair.target, source=pair.source, item_type=cell, structure=structure)
    return option_question(prompt, options, key)


def _distinct_meanings(
    draws: Draws, pair: Pair, step: Callable[[str], str], meaning: Callable[[str], str]
) -> list[str]:
    """The right meaning among those of a chain of neighbours, all different."""
    sources = {pair.target: pair.source}

    def next_meaning(target: str) -> str:
        source = step(sources[target])
        new = meaning(source)
        sources.setdefault(new, source)
        return new

    return chain(draws, pair.target, next_meaning, OPTIONS)


def _contrast(draws: Draws, group: Sequence[Pair]) -> Question:
    """A command, with another of the same words among the examples and its meaning as an option.

    The other two options are one word from the one and one from the other, so that neither is in
    the middle.
    """
    pair, other = draws.chosen(group, 2)
    targets = [pair.target, other.target]
    for near in (pair, other):
        around = [new.target for new in scan_items.neighbours(near.source)]
        targets.append(draws.choose([target for target in around if target not in targets]))
    drawn = draws.chosen(scan_items.never_asked(), 25)
    words = sorted(pair.source.split())
    known = [one for one in drawn if sorted(one.source.split()) != words][:15]
    shown = _lines(draws.shuffled([*known, other]))
    prompt = (
        "Each line is a command and the actions that it means.\n"
        f"{shown}\nWhich actions does this mean?\n{pair.source} ="
    )
    key = Key(
        "contrast",
        pair.target,
        surface=other.target,
        source=pair.source,
        item_type="contrast",
        structure=1.0,
    )
    return option_question(prompt, draws.shuffled(targets), key)


def _lines(pairs: Sequence[Pair]) -> str:
    return "\n".join(f"{pair.source} = {pair.target}" for pair in pairs)
