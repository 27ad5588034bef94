"""The tests of PCFG-SET for compositionality: splits of any pairs of it, and localism.

Source: Hupkes, Dankers, Mul and Bruni, "Compositionality Decomposed" (arXiv 1908.08351), and the
files that were published with it.
"""

import hashlib
import random
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

from .._check import require_in
from .draws import Draw
from .interface import Pair, Split
from .pcfg_set import TWINNED, PcfgSet, draw_string, functions_of, spell
from .trees import Tree

HELD_OUT_PAIRS = (
    ("swap_first_last", "repeat"),
    ("append", "remove_second"),
    ("repeat", "remove_second"),
    ("append", "swap_first_last"),
)
"""Functions that stand next to each other, in this order, in no sentence that systematicity trains
on, and in every one that it tests."""
MOST_TRAINED_FUNCTIONS = 8
"""Productivity trains on sentences of at most so many functions, and tests longer ones."""

PCFG_SET_SPLITS = ("random", "systematicity", "productivity")
"""The names of the splits that `pcfg_set_split` makes."""

_BINARY_TWINS = ("append", "remove_second")


def pcfg_set_split(
    name: str, pairs: Iterable[Pair], *, test_share: float = 0.1, seed: int = 0
) -> Split[Pair]:
    """The pairs, split by a rule; each part keeps their order.

    | name | trained on | tested on |
    |---|---|---|
    | `random` | the others | a share `test_share` of the sources, chosen by their text and `seed` |
    | `systematicity` | without any of the four `HELD_OUT_PAIRS` | with at least one |
    | `productivity` | at most 8 functions | 9 and more |

    **Raises** `ValueError` for another name, a share outside (0, 1), or an empty part.
    """
    pairs = tuple(pairs)
    if name == "random":
        tested = _drawn(pairs, test_share, seed)
    else:
        tested = {pair.source for pair in pairs if pcfg_set_forbids(name, pair.source)}
    split = Split(
        tuple(pair for pair in pairs if pair.source not in tested),
        tuple(pair for pair in pairs if pair.source in tested),
    )
    if not split.train or not split.test:
        raise ValueError(
            f"pairs, {len(pairs)} of them, leave {len(split.train)} to train on and "
            f"{len(split.test)} to test: give more of them."
        )
    return split


def pcfg_set_forbids(name: str, source: str) -> bool:
    """Whether the split `name`, systematicity or productivity, keeps `source` from training.

    For the leak check of whatever is added to the training pairs: probes, paraphrases. A twin
    counts as what it means.

    **Raises** `ValueError` for another name.
    """
    functions = [function.removesuffix("_twin") for function in functions_of(source)]
    if name == "productivity":
        return len(functions) > MOST_TRAINED_FUNCTIONS
    if name == "systematicity":
        words = [word.removesuffix("_twin") for word in source.split()]
        return any(pair in HELD_OUT_PAIRS for pair in pairwise(words))
    raise ValueError(f"name must be one of {', '.join(PCFG_SET_SPLITS[1:])}; got {name!r}.")


def _drawn(pairs: Sequence[Pair], share: float, seed: int) -> set[str]:
    """The share of the sources whose digest is smallest, whatever their order."""
    require_in("test_share", share, 0, 1, open_low=True)

    def digest(source: str) -> bytes:
        return hashlib.sha256(f"{seed} {source}".encode()).digest()

    sources = sorted({pair.source for pair in pairs}, key=digest)
    return set(sources[: round(share * len(sources))])


class TwinSplit(NamedTuple):
    """A split with, for every tested pair, the same pair with a function's twin in its place."""

    train: tuple[Pair, ...]
    test: tuple[Pair, ...]
    twins: tuple[Pair, ...]


def substitutivity_split(
    split: Split[Pair],
    condition: Literal["equally_distributed", "primitive"],
    *,
    seed: int = 0,
    primitives: int = 100,
    symbols: int = 520,
) -> TwinSplit:
    """A split whose training part teaches four functions their twins, and tests one a line.

    With **equally_distributed** each occurrence of the four in `split.train` is made a twin with
    chance one half. With **primitive** the training part is as it was, and `primitives` sentences
    that consist of a twin before strings alone are added for each of the four. As published, a
    sentence with several of the functions is tested once for each; all occurrences of that one
    function change.

    **Arguments:** `split`, of sentences without twins; `symbols`, as of `PcfgSet`.

    **Raises** `ValueError` for another condition, fewer than one primitive, or a split that tests
    none of the functions.

    Source: arXiv 1908.08351; how many primitives were added there is not known here.
    """
    if condition not in ("equally_distributed", "primitive"):
        raise ValueError(
            f"condition must be 'equally_distributed' or 'primitive'; got {condition!r}."
        )
    if primitives < 1:
        raise ValueError(f"primitives must be at least 1; got {primitives}.")
    test, twins = [], []
    for pair in split.test:
        for function in TWINNED:
            words = pair.source.split()
            if function in words:
                twin = [f"{word}_twin" if word == function else word for word in words]
                test.append(pair)
                twins.append(Pair(" ".join(twin), pair.target))
    if not test:
        raise ValueError(f"split tests no sentence with any of {', '.join(TWINNED)}.")
    draw = random.Random(seed).random
    if condition == "equally_distributed":
        train = [Pair(_with_twins(pair.source, draw), pair.target) for pair in split.train]
    else:
        tested = {pair.source for pair in twins}
        train = [*split.train, *_primitives(draw, primitives, symbols, tested)]
    return TwinSplit(tuple(train), tuple(test), tuple(twins))


def _with_twins(source: str, draw: Draw) -> str:
    return " ".join(
        f"{word}_twin" if word in TWINNED and draw() < 0.5 else word for word in source.split()
    )


def _primitives(draw: Draw, count: int, symbols: int, tested: set[str]) -> list[Pair]:
    """`count` sentences of each twin before strings alone, all different and none tested."""
    language = PcfgSet(symbols=symbols, twins=True)
    known = [word for word in language.words if not functions_of(word) and word != ","]
    made: dict[str, Pair] = {}
    for number, function in enumerate(TWINNED, 1):
        while len(made) < number * count:
            arguments = [draw_string(draw, known) for _ in range(1 + (function in _BINARY_TWINS))]
            source = spell(Tree(f"{function}_twin", tuple(arguments)))
            if source not in tested:
                made[source] = Pair(source, language.meaning(source))
    return list(made.values())


def localism_steps(source: str) -> tuple[str, ...]:
    """The calls that evaluate a source one function at a time, innermost first.

    `*1` in a call stands for what the first call gave, and so on, as in the published
    `unrolled_test.tsv`: "repeat copy A1 B2" has the steps "copy A1 B2" and "repeat *1".

    **Raises** `ValueError` if `source` is not of the language, twins included.
    """
    steps: list[str] = []

    def visit(tree: Tree) -> str:
        if not functions_of(tree.label):
            return spell(tree)
        arguments = [visit(argument) for argument in tree.children]
        steps.append(f"{tree.label} {' , '.join(arguments)}")
        return f"*{len(steps)}"

    visit(PcfgSet(twins=True).tree(source))
    return tuple(steps)


def localism_consistency(
    answers: Callable[[Sequence[str]], Sequence[str]], sources: Sequence[str]
) -> float:
    """The share of sources answered alike whole and step by step, whether rightly or not.

    Step by step, a learner's own answer to a part stands in the place of the part.

    **Arguments:** `answers`, the learner: from sources to as many targets; it is asked once for
    the whole sources and once for all first steps, all second steps and so on.

    **Raises** `ValueError` without sources, for one that is not of the language, or for another
    number of answers than of questions.
    """
    if not sources:
        raise ValueError("sources must not be empty.")
    steps = [localism_steps(source) for source in sources]
    results: list[list[str]] = [[] for _ in sources]
    for step in range(max(map(len, steps))):
        unfinished = [at for at, calls in enumerate(steps) if step < len(calls)]
        asked = [_filled(steps[at][step], results[at]) for at in unfinished]
        for at, answer in zip(unfinished, _asked(answers, asked), strict=True):
            results[at].append(answer)
    whole = _asked(answers, list(sources))
    alike = sum(one == many[-1] for one, many in zip(whole, results, strict=True))
    return alike / len(sources)


def _filled(call: str, results: Sequence[str]) -> str:
    return re.sub(r"\*(\d+)", lambda place: results[int(place[1]) - 1], call)


def _asked(answers: Callable[[Sequence[str]], Sequence[str]], asked: list[str]) -> list[str]:
    given = [" ".join(answer.split()) for answer in answers(asked)]
    if len(given) != len(asked):
        raise ValueError(f"answers was asked {len(asked)} sources and gave {len(given)} targets.")
    return given
