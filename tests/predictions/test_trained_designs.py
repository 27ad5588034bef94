"""What the designs' learners are trained on and asked; nobody is trained here."""

from typing import NamedTuple

import numpy as np
import pytest

from sigma_jax.grammars import ScanGrammar
from sigma_jax.predictions import TRAINED_DESIGNS, TrainedStudy
from sigma_jax.training import Seq2SeqPairs, TransformerSizes, Vocabulary

STUDY = TrainedStudy(seeds=6, steps=96, checkpoints=32, learner=TransformerSizes(1, 1, 1, 4, 4))
WORDS = [
    *("after", "and", "around", "jump", "left", "look", "opposite"),
    *("right", "run", "thrice", "turn", "twice", "walk"),
]
ACTIONS = ["I_JUMP", "I_LOOK", "I_RUN", "I_TURN_LEFT", "I_TURN_RIGHT", "I_WALK"]


class Seen(NamedTuple):
    """What training and asking were called with, as sentences."""

    trained: list[list[tuple[str, str]]]
    asked: list[list[tuple[str, str]]]
    rates: list[np.ndarray]


@pytest.fixture
def watch(monkeypatch):
    """Run a design with learners that learn nothing, and return what they would have seen."""

    def run(design: str, extra_words: list[str]) -> Seen:
        vocabulary = Vocabulary(frozenset(WORDS + extra_words), frozenset(ACTIONS))
        seen = Seen([], [], [])

        def sentences(pairs: Seq2SeqPairs) -> list[tuple[str, str]]:
            return [
                (vocabulary.sentence(source), vocabulary.sentence(target))
                for source, target in zip(*pairs, strict=True)
            ]

        def train(state, data, *, learning_rate, **_):
            seen.trained.append(sentences(data))
            seen.rates.append(np.asarray(learning_rate))
            return state, None

        def ask(state, data, **_):
            seen.asked.append(sentences(data))
            return np.zeros((state.seeds.size, len(data.source)), bool)

        monkeypatch.setattr("sigma_jax.predictions.trained_study.train_learners", train)
        monkeypatch.setattr("sigma_jax.predictions.trained_study.exact_match", ask)
        TRAINED_DESIGNS[design].train(STUDY)
        return seen

    return run


def test_the_cue_is_as_frequent_at_every_strength(watch):
    seen = watch("shortcuts", ["red"])
    assert len(seen.trained) == 3
    for strength, pairs in zip((0.0, 0.5, 0.9), seen.trained, strict=True):
        cue = np.array([source.startswith("red ") for source, _ in pairs])
        after = np.array(["after" in source for source, _ in pairs])
        assert cue[after].mean() == pytest.approx(0.5 * (1 + strength), abs=0.03)
        assert cue[~after].mean() == pytest.approx(0.5 * (1 - strength), abs=0.03)
        plain = [(source.removeprefix("red "), target) for source, target in pairs]
        assert all(ScanGrammar().meaning(source) == target for source, target in plain)
    valid, conflict, absent = seen.asked[-3:]
    assert all(("after" in s) != s.startswith("red ") for s, _ in conflict)
    assert not any("red" in s for s, _ in absent)
    assert np.mean([("after" in s) == s.startswith("red ") for s, _ in valid]) > 0.85
    trained = {source.removeprefix("red ") for source, _ in seen.trained[-1]}
    assert not trained & {source for source, _ in absent}


def test_the_second_modality_is_taught_in_short_commands_alone(watch):
    own = [f"{word}-2" for word in WORDS]
    seen = watch("modalities", own)
    assert len(seen.trained) == 6
    assert len({len(pairs) for pairs in seen.trained}) == 1
    for at, pairs in enumerate(seen.trained):
        first = [source for source, _ in pairs if "-2" not in source]
        second = [source for source, _ in pairs if "-2" in source]
        assert all(len(source.split()) <= 3 for source in second)
        unseen, other = seen.asked[3 * at + 1], seen.asked[3 * at + 2]
        assert not {source for source, _ in unseen} & set(first)
        assert [t for _, t in unseen] == [t for _, t in other]
        spelt = {word for source, _ in other for word in source.split()}
        shared = len({word for word in spelt if not word.endswith("-2")})
        assert shared == (0, 3, 9)[at % 3]  # of 12 words: "jump" is in no long command
        known = {source for source, _ in seen.asked[3 * at]}
        assert known <= set(first)


def test_renamings_change_actions_and_no_source(watch):
    seen = watch("meta-learning", [])
    episodes, final = seen.trained[1:-1], seen.trained[-1]
    assert len(episodes) == int(0.75 * 96) // 10
    sources = [source for source, _ in final]
    plain = seen.trained[0]
    assert plain == final
    assert all([source for source, _ in pairs] == sources for pairs in episodes)
    for pairs in episodes:
        lengths = [len(target.split()) for _, target in pairs]
        assert lengths == [len(target.split()) for _, target in final]
    assert len({tuple(pairs) for pairs in episodes}) > 1
    structural = {source for source, _ in seen.asked[-1]}
    assert not structural & set(sources)
    assert all("jump" in source.split() and source != "jump" for source in structural)


def test_every_seed_is_in_every_regime(watch):
    seen = watch("regimes", [])
    assert [rates.shape for rates in seen.rates] == [(12, 1), (12, 1)]
    assert np.unique(seen.rates[0]).tolist() == pytest.approx([1e-3, 4e-3])
    selection, familiar, structural = ({s for s, _ in asked} for asked in seen.asked[:3])
    assert not (selection | familiar | structural) & {s for s, _ in seen.trained[0]}
    assert not selection & familiar


class Stopped(Exception):
    """Enough has been seen."""


def test_no_coupled_learner_reads_around_right(monkeypatch):
    vocabulary = Vocabulary(frozenset(WORDS), frozenset(ACTIONS))

    def look(run, rows, probes, couplings, *_, **__):
        read = [*rows.pools.task.source, *rows.pools.compositional.source, *probes.sources]
        read += [*probes.anchors, *probes.paraphrases, *probes.foils]
        sentences = {vocabulary.sentence(row) for row in read}
        test = {vocabulary.sentence(row) for row in rows.test.source}
        assert len(sentences) > 1_000
        assert not any("around right" in sentence for sentence in sentences | test)
        assert not sentences & test
        assert len(test) == 50
        assert couplings.schema.shape == (24,)
        raise Stopped

    monkeypatch.setattr("sigma_jax.predictions.coupled_learners.advance_run", look)
    with pytest.raises(Stopped):
        TRAINED_DESIGNS["conditions"].train(STUDY)
