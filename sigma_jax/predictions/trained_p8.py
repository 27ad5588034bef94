"""P8 on trained learners: two spellings of one language, and what one lends the other."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float

from ..grammars import Pair
from ..statistics import FalsePositiveRate, false_positive_rate
from ..training import Vocabulary, encode_pairs
from .few_seeds import rise, rise_power, undecided
from .nulls import NULL_ALPHA
from .registration import FAMILY_ALPHA, Picture, Registration, Verdict, decide, numbers
from .trained_study import (
    TrainedDesign,
    TrainedStudy,
    TrainedTest,
    few_jump_task,
    share_right,
    trained,
    untrained,
)

SIMILARITIES = (0.0, 0.25, 0.75)
"""ω: the share of the long commands' words that both modalities spell alike."""
LEVELS = ("few commands", "many commands")
"""What the trained modality's coherence is varied by."""
_FEW = 150
"""Different long commands of the lower level."""
_SHORT = 3
"""Words of the longest command that the second modality is trained on."""
_SECOND = 0.25
"""Training pairs in the second modality for each one in the first."""
_ASKED = 100
_LEAST = 0.3
"""The registered limit of the correlation."""
_EFFECT = 0.1
"""The change of the gain with coherence for which the power is computed, in shares."""
_SPREAD, _SEEDS = 0.08, 8

Shares = Float[np.ndarray, "levels similarities seeds"]


class ModalityOutcomes(NamedTuple):
    """Shares right at the end, by level, by ω (0 first) and by seed."""

    known: Shares
    """In the first modality, on long commands that the learner was trained on: depth."""
    source: Shares
    """In the first modality, on long commands that it was not trained on."""
    transfer: Shares
    """In the second modality, on the same; of these words it has read short commands only."""


def train_two_modalities(study: TrainedStudy) -> ModalityOutcomes:
    """The same seeds at both levels and every ω.

    The second modality says the same commands with other words, but for a share ω of the words,
    drawn once, that are the same. The actions are the same.
    """
    task = few_jump_task(study)
    commands = sorted(set(task.task))
    rng = study.generator("P8")
    order = rng.permutation(len(commands))
    short = [commands[at] for at in order if _words(commands[at]) <= _SHORT]
    long = [commands[at] for at in order if _words(commands[at]) > _SHORT]
    unseen, seen = long[:_ASKED], long[_ASKED:]
    words = [str(word) for word in rng.permutation(sorted(_vocabulary(long)))]
    every = _vocabulary(commands)
    vocabulary = Vocabulary(
        frozenset(every | {_own(word) for word in every}),
        frozenset(word for pair in commands for word in pair.target.split()),
    )
    # The same at both levels, so that one compiled function serves them.
    number = len(short) + len(seen)
    parts = []
    for level in LEVELS:
        chosen = seen[:_FEW] if level == LEVELS[0] else seen
        for similarity in SIMILARITIES:
            shared = frozenset(words[: round(similarity * len(words))])
            rows = [
                *_drawn([*short, *chosen], number, study.generator("P8, first")),
                *_respelt(
                    _drawn(short, round(_SECOND * number), study.generator("P8, second")), shared
                ),
            ]
            state = trained(study, untrained(study, vocabulary), encode_pairs(vocabulary, rows))
            asked = (chosen[:_ASKED], unseen, _respelt(unseen, shared))
            parts.append([share_right(state, encode_pairs(vocabulary, part)) for part in asked])
    shape = (len(LEVELS), len(SIMILARITIES), 3, study.seeds)
    return ModalityOutcomes(*np.moveaxis(np.reshape(parts, shape), 2, 0))


def _respelt(pairs: Sequence[Pair], shared: frozenset[str]) -> list[Pair]:
    """The pairs in the second modality's spelling, in which the shared words are the first's."""
    return [
        Pair(
            " ".join(word if word in shared else _own(word) for word in pair.source.split()),
            pair.target,
        )
        for pair in pairs
    ]


def _own(word: str) -> str:
    return f"{word}-2"


def _words(pair: Pair) -> int:
    return len(pair.source.split())


def _vocabulary(pairs: Sequence[Pair]) -> set[str]:
    return {word for pair in pairs for word in pair.source.split()}


def _drawn(pairs: Sequence[Pair], number: int, rng: np.random.Generator) -> list[Pair]:
    """So many pairs, each as often as the others to within one."""
    order = np.concatenate([rng.permutation(len(pairs)) for _ in range(-(-number // len(pairs)))])
    return [pairs[at] for at in order[:number]]


def judge_transfer(outcomes: ModalityOutcomes, study: TrainedStudy) -> Verdict:
    """Within each seed, does the gain go with ωσ, and with σ at equal ω?

    Registered before the run: the mean over seeds of the rank correlation of gain and ωσ is at
    least 0.3, and the gain is larger where σ is, at equal ω: the first alone would follow from ω.
    Both must be positive at the family's level; the weaker decides. Learners of one seed and level
    share a run without common words, so that seeds are what is counted.
    """
    product, gain = _gains(outcomes)
    if outcomes.known.min() <= 0.0 or np.ptp(outcomes.transfer) == 0.0:
        return undecided(
            "A learner knows nothing of what it was trained on, or nothing was transferred to "
            f"anyone (transfer {outcomes.transfer.mean():.1%}).",
            _BY_RANK,
            (study.seeds,),
            study.null_studies,
            _picture(product, gain),
        )
    parts = _parts(product, gain)
    tests = {name: rise(values) for name, values in parts.items()}
    weaker = max(tests, key=lambda name: tests[name].p_value)
    least, claimed = (_LEAST, _LEAST) if weaker == _BY_RANK else (0.0, _EFFECT)
    power = rise_power(claimed, float(parts[weaker].std(ddof=1)), study.seeds)
    outcome, why = decide(tests[weaker], FAMILY_ALPHA, power=power, minimum=least)
    found = "; ".join(
        f"{name} {t.estimate:.2f} [{t.low:.2f}, {t.high:.2f}]" for name, t in tests.items()
    )
    return Verdict(
        version="trained learners",
        outcome=outcome,
        reason=f"{why} {found}. {_levels(outcomes)}",
        effect=f"{weaker} (the weaker part)",
        **numbers(tests[weaker]),
        null_rate=_null(product, gain, study),
        power=power,
        picture=_picture(product, gain),
    )


_BY_RANK = "rank correlation of the gain with ωσ within a seed"
_BY_SIGMA = "gain with more coherence less gain with less, at equal ω (share)"

_Cells = Float[np.ndarray, "levels similarities seeds"]


def _gains(outcomes: ModalityOutcomes) -> tuple[_Cells, _Cells]:
    """ωσ and the gain, where modalities share words.

    σ, unseen by known accuracy, is of the same seed's run without common words, whose transfer the
    gain is above.
    """
    sigma = outcomes.source[:, :1] / np.maximum(outcomes.known[:, :1], 0.01)
    similarity = np.array(SIMILARITIES[1:])[:, None]
    return similarity * np.clip(sigma, 0.0, 1.0), (outcomes.transfer - outcomes.transfer[:, :1])[
        :, 1:
    ]


def _parts(product: _Cells, gain: _Cells) -> dict[str, Float[np.ndarray, " seeds"]]:
    """The two quantities that must be positive, seed by seed.

    At equal ω the levels are compared in the order of their coherence.
    """
    ranks = [
        scipy.stats.rankdata(cells.reshape(-1, cells.shape[-1]), axis=0)
        for cells in (product, gain)
    ]
    centred = [rank - rank.mean(axis=0) for rank in ranks]
    norms = [np.linalg.norm(rank, axis=0) for rank in centred]
    correlation = (centred[0] * centred[1]).sum(axis=0) / np.maximum(norms[0] * norms[1], 1e-12)
    order = np.sign(product[1] - product[0])
    return {_BY_RANK: correlation, _BY_SIGMA: (order * (gain[1] - gain[0])).mean(axis=0)}


def _null(product: _Cells, gain: _Cells, study: TrainedStudy) -> FalsePositiveRate:
    """Gains that go with ω alone: which level each seed's gains are of is drawn anew."""
    rng, p_values = study.generator("P8, null"), []
    for _ in range(study.null_studies):
        swapped = np.where(rng.integers(2, size=gain.shape[-1]) == 1, gain[::-1], gain)
        parts = _parts(product, swapped)
        p_values.append(max(rise(values).p_value for values in parts.values()))
    return false_positive_rate(np.array(p_values), NULL_ALPHA)


def _levels(outcomes: ModalityOutcomes) -> str:
    """The mean shares, level by level."""
    means = (
        outcomes.known.mean(axis=(1, 2)),
        outcomes.source.mean(axis=(1, 2)),
        outcomes.transfer.mean(axis=2),
    )
    levels = "; ".join(
        f"{level}: {known:.0%} of known and {source:.0%} of unseen commands right, transfer "
        f"{', '.join(f'{share:.0%}' for share in transfer)}"
        for level, known, source, transfer in zip(LEVELS, *means, strict=True)
    )
    return f"At ω = {', '.join(f'{w:g}' for w in SIMILARITIES)}: {levels}."


def _picture(product: _Cells, gain: _Cells) -> Picture:
    return Picture(
        "scatter",
        "ω σ of the trained modality (σ without common words)",
        "gain in the other modality (share right)",
        {
            f"{level.split()[0]}, ω = {w:g}": (product[at, column], gain[at, column])
            for at, level in enumerate(LEVELS)
            for column, w in enumerate(SIMILARITIES[1:])
        },
    )


MODALITIES = TrainedDesign(
    "modalities",
    train_two_modalities,
    (
        TrainedTest(
            Registration(
                name="P8",
                title="Cross-modal transfer follows similarity times coherence",
                claim="What a modality gains from another is proportional to ω(m₁, m₂) σ(d, m₁).",
                null="the gain is not correlated with ωσ, or not beyond ω",
                alternative=f"a positive correlation of at least {_LEAST:g}, and more at equal ω",
                statistic=(
                    "rank correlation of the gain with ωσ within a seed, and the gain's change "
                    "with σ at equal ω; Student's t over seeds, one-sided, the larger p"
                ),
                alpha=FAMILY_ALPHA,
                planned_n=_SEEDS,
                planned_power=rise_power(_EFFECT, _SPREAD, _SEEDS),
                simulation=(
                    f"{_SEEDS} seeds on SCAN in two spellings that share a share ω of the words, "
                    f"ω = {', '.join(f'{w:g}' for w in SIMILARITIES)}; the first has {_FEW} or all "
                    f"long commands, the second those of at most {_SHORT} words. Gain: exact match "
                    "on unseen long commands of the second, less that at ω = 0."
                ),
                falsified_if="no correlation above the transfer without common words",
            ),
            judge_transfer,
        ),
    ),
)
