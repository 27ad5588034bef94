"""Tasks for learners: a language, disjoint pools of pairs, and what may not be trained on."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from .._check import require_in
from ..grammars import (
    CogsLike,
    Grammar,
    Pair,
    PcfgSet,
    ScanGrammar,
    ScanPair,
    Split,
    cogs_like_forbids,
    cogs_like_splits,
    pcfg_set_forbids,
    pcfg_set_split,
    probes,
    scan_forbids,
    scan_split,
)
from .seq2seq_data import Vocabulary

TRAINED = ("task", "compositional")
"""The parts of a task that learners are trained on."""
PARTS = (*TRAINED, "calibration", "familiar", "test")
"""All parts, without a common sentence."""


class Task(NamedTuple):
    """Pairs of one language in five parts that share no sentence."""

    name: str
    grammar: Grammar
    vocabulary: Vocabulary
    """Of what is trained on."""
    task: tuple[Pair, ...]
    """What a plain learner is trained on, repeats included."""
    compositional: tuple[Pair, ...]
    """Known parts in combinations that `task` does not have: the curriculum's pairs."""
    calibration: tuple[Pair, ...]
    """More of these, never trained on: σ̂ is measured here, and the fusion calibrated."""
    familiar: tuple[Pair, ...]
    """Held out from the distribution of `task`: accuracy in distribution."""
    test: tuple[Pair, ...]
    """What the split tests: accuracy out of distribution. Nothing is decided by it."""
    forbids: Callable[[str], bool]
    """Whether the split keeps a sentence from training, by its rule or as a test sentence."""
    unseen: dict[str, int]
    """How many sentences were left out of each part for a word that training does not have."""

    def may_be_shown(self, source: str) -> bool:
        """Whether a learner may read a sentence in training: no test sentence, not forbidden."""
        return not self.forbids(source) and all(source != pair.source for pair in self.test)

    def part(self, name: str) -> tuple[Pair, ...]:
        """A part by its name in `PARTS`."""
        return getattr(self, name)


class Leaks(NamedTuple):
    """Sentences that are where they must not be; all zero is no leak."""

    shared: dict[str, int]
    """How many different sentences two parts share, by their names."""
    forbidden: dict[str, int]
    """How many sentences of a part the split forbids, by the part."""

    @property
    def total(self) -> int:
        """Their number in all."""
        return sum(self.shared.values()) + sum(self.forbidden.values())


def find_leaks(task: Task) -> Leaks:
    """Look for sentences that two parts share, and for ones that the split keeps from training.

    What steers training counts as training: the calibration part may hold no forbidden sentence.
    """
    sources = {name: {pair.source for pair in task.part(name)} for name in PARTS}
    pairs = [(one, other) for at, one in enumerate(PARTS) for other in PARTS[at + 1 :]]
    return Leaks(
        shared={f"{one}, {other}": len(sources[one] & sources[other]) for one, other in pairs},
        forbidden={
            name: sum(map(task.forbids, sources[name])) for name in (*TRAINED, "calibration")
        },
    )


class TaskSizes(NamedTuple):
    """How many pairs the parts have, and how long they are."""

    compositional: int = 400
    calibration: int = 100
    familiar: int = 100
    test: int = 200
    """At most: drawn from all that the split tests."""
    longest: int | None = None
    """Sentences whose target has more words are left out everywhere; None for no limit."""
    longest_source: int | None = None
    """The same for the words of a source."""
    train: int = 4_000
    """Of the languages that are sampled (PCFG-SET, COGS-like); SCAN has what it has."""


def make_task(name: str, sizes: TaskSizes = TaskSizes(), *, seed: int = 0) -> Task:
    """A task by name; the same for the same seed.

    | name | language | out of distribution |
    |---|---|---|
    | `scan_add_jump` | SCAN | "jump" in company, seen alone only |
    | `scan_length` | SCAN | more than 22 actions |
    | `scan_template` | SCAN | "around right" after a verb |
    | `scan_few_jump` | SCAN | as `scan_add_jump`, but the curriculum may show other such commands |
    | `pcfg_systematicity` | PCFG-SET, 20 symbols | four pairs of neighbouring functions |
    | `cogs_like` | COGS-like | the 21 generalisations |

    The compositional and calibration parts are probes, new combinations of phrases of the task
    part; in SCAN they are set aside from the split's training commands. `scan_few_jump` is the
    fair form of the paper's experiment, where the curriculum had the test's own sentences: here it
    has `sizes.compositional` commands with "jump" in company, and the test has others.

    **Raises** `ValueError` for another name, sizes below 1, or sizes that the language cannot give.
    """
    makers = _MAKERS
    if name not in makers:
        raise ValueError(f"task must be one of {', '.join(makers)}; got {name!r}.")
    for field in ("compositional", "calibration", "familiar", "test", "train"):
        require_in(f"sizes.{field}", getattr(sizes, field), 1)
    for field in ("longest", "longest_source"):
        if getattr(sizes, field) is not None:
            require_in(f"sizes.{field}", getattr(sizes, field), 1)
    return makers[name](name, sizes, np.random.default_rng([seed, *name.encode()]))


def _scan(split: str) -> Callable[[str, TaskSizes, np.random.Generator], Task]:
    def make(name: str, sizes: TaskSizes, random: np.random.Generator) -> Task:
        return _with_probes(
            name,
            ScanGrammar(),
            scan_split(split),
            lambda source: scan_forbids(split, source),
            sizes,
            random,
            # Some of those set aside hold a phrase that is nowhere else, and are no probes.
            aside=2 * (sizes.compositional + sizes.calibration),
            parts="phrases",
        )

    return make


def _scan_few_jump(name: str, sizes: TaskSizes, random: np.random.Generator) -> Task:
    split = scan_split("addprim_jump")
    train = _short(split.train, sizes)
    company = _shuffled(_short(split.test, sizes), random)
    needed = sizes.compositional + sizes.calibration + 1
    if len(company) < needed:
        raise ValueError(
            f"sizes ask for more than {needed - 1} commands with jump; there are {len(company)}."
        )
    compositional, rest = _cut(company, sizes.compositional)
    calibration, rest = _cut(rest, sizes.calibration)
    familiar, train = _set_aside(train, sizes.familiar, random)
    tested = frozenset(pair.source for pair in rest)
    return _task(
        name,
        ScanGrammar(),
        train,
        (compositional, calibration, familiar, rest[: sizes.test]),
        tested.__contains__,
    )


def _pcfg_systematicity(name: str, sizes: TaskSizes, random: np.random.Generator) -> Task:
    grammar = PcfgSet(symbols=20)
    seed = int(random.integers(2**31))
    drawn = _short(grammar.sample(2 * sizes.train, seed), sizes)
    split = pcfg_set_split("systematicity", drawn)
    return _with_probes(
        name,
        grammar,
        Split(split.train[: sizes.train], split.test),
        lambda source: pcfg_set_forbids("systematicity", source),
        sizes,
        random,
    )


def _cogs_like(name: str, sizes: TaskSizes, random: np.random.Generator) -> Task:
    seed = int(random.integers(2**31))
    each = -(-2 * sizes.test // 21)
    splits = cogs_like_splits(
        train=sizes.train, dev=1, test=1, generalisation=max(each, 10), seed=seed
    )
    test = tuple(pair for pairs in splits.generalisation.values() for pair in pairs)
    split = Split(splits.train, test)
    return _with_probes(name, CogsLike(), split, cogs_like_forbids, sizes, random)


_MAKERS = {
    "scan_add_jump": _scan("addprim_jump"),
    "scan_length": _scan("length"),
    "scan_template": _scan("template_around_right"),
    "scan_few_jump": _scan_few_jump,
    "pcfg_systematicity": _pcfg_systematicity,
    "cogs_like": _cogs_like,
}

TASKS = tuple(_MAKERS)
"""The names that `make_task` knows."""


def _with_probes(
    name: str,
    grammar: Grammar,
    split: Split[Pair] | Split[ScanPair],
    forbids: Callable[[str], bool],
    sizes: TaskSizes,
    random: np.random.Generator,
    *,
    aside: int = 0,
    parts: Literal["phrases", "words"] = "words",
) -> Task:
    """The compositional and calibration parts are probes of what training is left with.

    `aside`, how many training sentences a finite language sets aside for them.
    """
    number = sizes.compositional + sizes.calibration
    familiar, train = _set_aside(_short(split.train, sizes), sizes.familiar + aside, random)
    familiar = familiar[: sizes.familiar]
    test = _shuffled(_short(split.test, sizes), random)[: sizes.test]

    def allowed(source: str) -> bool:
        return not forbids(source) and _fits(Pair(source, grammar.meaning(source)), sizes)

    found = probes(
        grammar,
        train,
        number,
        int(random.integers(2**31)),
        without=(*familiar, *test),
        allowed=allowed,
        parts=parts,
    )
    compositional, calibration = _cut(found, sizes.compositional)
    return _task(name, grammar, train, (compositional, calibration, familiar, test), forbids)


def _task(
    name: str,
    grammar: Grammar,
    train: Sequence[Pair],
    parts: Sequence[Sequence[Pair]],
    forbids: Callable[[str], bool],
) -> Task:
    """`parts` are those after the first, of which the first is trained on as well."""
    vocabulary = Vocabulary.of((*train, *parts[0]))
    kept = [tuple(pair for pair in part if not vocabulary.unseen(pair)) for part in parts]
    for part, given, pairs in zip(PARTS[1:], parts, kept, strict=True):
        if not given:
            raise ValueError(
                f"the {part} part has no sentence: make sizes.longest or sizes.train larger."
            )
        if not pairs:
            raise ValueError(
                f"every sentence of the {part} part has a word that training does not have: make "
                "sizes.train larger."
            )
    unseen = {
        part: len(given) - len(pairs)
        for part, given, pairs in zip(PARTS[1:], parts, kept, strict=True)
    }
    named = dict(zip(PARTS[1:], kept, strict=True))
    return Task(
        name, grammar, vocabulary, task=tuple(train), forbids=forbids, unseen=unseen, **named
    )


def _short(pairs: Sequence[Pair], sizes: TaskSizes) -> tuple[Pair, ...]:
    return tuple(pair for pair in pairs if _fits(pair, sizes))


def _fits(pair: Pair, sizes: TaskSizes) -> bool:
    limits = (pair.source, sizes.longest_source), (pair.target, sizes.longest)
    return all(limit is None or len(text.split()) <= limit for text, limit in limits)


def _shuffled(pairs: Sequence[Pair], random: np.random.Generator) -> tuple[Pair, ...]:
    return tuple(pairs[at] for at in random.permutation(len(pairs)))


def _cut(pairs: Sequence[Pair], at: int) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    return tuple(pairs[:at]), tuple(pairs[at:])


def _set_aside(
    train: Sequence[Pair], count: int, random: np.random.Generator
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """`count` different sentences of several words, and all the others with their repeats."""
    candidates = [pair for pair in dict.fromkeys(train) if len(pair.source.split()) > 1]
    if len(candidates) <= count:
        raise ValueError(
            f"sizes ask to set {count} sentences aside, of {len(candidates)} that training has."
        )
    aside = _shuffled(candidates, random)[:count]
    gone = frozenset(aside)
    return aside, tuple(pair for pair in train if pair not in gone)
