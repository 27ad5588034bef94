"""H-PTB and H-AFB: what is asked, and that known faculties are recovered."""

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sigma_jax.faculties import (
    CUE,
    H_AFB,
    H_PTB,
    STRENGTHS,
    Benchmark,
    Question,
    ScriptedAgent,
    attention_pairs,
    learning_pairs,
    measure,
    scripted_grid,
)
from sigma_jax.grammars import PcfgSet, ScanGrammar, overlap, pcfg_set_forbids
from sigma_jax.statistics import binomial

PCFG, SCAN = PcfgSet(twins=True), ScanGrammar()
BENCHMARKS = pytest.mark.parametrize("benchmark", [H_PTB, H_AFB], ids=["h_ptb", "h_afb"])


def of_cell(questions: Sequence[Question], cell: str) -> list[Question]:
    return [question for question in questions if question.key.cell == cell]


def plain(source: str) -> str:
    return source.removeprefix(f"{CUE} ")


def has_trigger(actions: str) -> bool:
    return any(2 * f"{verb} " in f"{actions} " for verb in ("I_WALK", "I_LOOK", "I_RUN", "I_JUMP"))


def functions(source: str) -> int:
    return sum(word[0].islower() for word in source.split())


@BENCHMARKS
def test_questions_are_those_of_the_seed(benchmark: Benchmark):
    questions = benchmark.questions(3, 12)
    counts = Counter(question.key.cell for question in questions)
    assert len(counts) == 5
    assert set(counts.values()) == {12}
    assert len(set(questions)) == 60
    # Those of another size in between: nothing is left over from the cache.
    benchmark.questions(4, 8)
    assert benchmark.questions(3, 12) == questions
    assert {one.key.source for one in benchmark.questions(5, 12)} != {
        one.key.source for one in questions
    }


@BENCHMARKS
def test_right_answers_are_right_and_anywhere_among_the_options(benchmark: Benchmark):
    questions = benchmark.questions(0, 40)
    for question in questions:
        key = question.key
        if key.cell == "cue_only":
            continue
        grammar = SCAN if benchmark is H_AFB or key.cell == "contrast" else PCFG
        assert grammar.meaning(plain(key.source)) == key.right
        assert f"\n{key.source} =\n" in question.prompt
        assert f"\n{key.source} = " not in question.prompt  # it is not among the examples
        assert len(set(question.options)) == 4
    four = [question for question in questions if len(question.options) == 4]
    places = Counter(question.options.index(question.key.right) for question in four)
    assert all(binomial(places[place], len(four), 0.25).p_value > 1e-3 for place in range(4))


@pytest.mark.parametrize("seed", range(3))
def test_new_combinations_are_new_and_matched(seed: int):
    questions = H_PTB.questions(seed, 24)
    for question in questions:
        cell, source = question.key.cell, question.key.source
        if cell != "contrast":
            assert pcfg_set_forbids("systematicity", source) == (cell == "systematicity")
            assert ("_twin" in source) == (cell == "substitutivity")
            assert (functions(source) > 3) == (cell == "productivity")
            examples = [line for line in question.prompt.splitlines() if " = " in line]
            assert all(PCFG.meaning(one.split(" = ")[0]) == one.split(" = ")[1] for one in examples)
            assert not any(
                pcfg_set_forbids("systematicity", one.split(" = ")[0]) for one in examples
            )
            shown = {word for one in examples for word in one.split() if word[0].islower()}
            assert {word for word in source.split() if word[0].islower()} <= shown
    counts = [
        sorted(functions(one.key.source) for one in of_cell(questions, cell))
        for cell in ("familiar", "systematicity")
    ]
    assert counts[0] == counts[1]
    lengths = [
        np.mean([len(one.key.right.split()) for one in of_cell(questions, cell)])
        for cell in ("familiar", "systematicity")
    ]
    assert abs(lengths[0] - lengths[1]) < 0.5


def test_contrasts_are_of_the_same_words_and_the_other_was_shown():
    for question in of_cell(H_PTB.questions(0, 24), "contrast"):
        key = question.key
        assert key.surface
        assert key.surface != key.right
        others = [
            line.split(" = ")
            for line in question.prompt.splitlines()
            if " = " in line and sorted(line.split(" = ")[0].split()) == sorted(key.source.split())
        ]
        assert [actions for _, actions in others] == [key.surface]
        assert SCAN.meaning(others[0][0]) == key.surface


@pytest.mark.parametrize("seed", range(3))
def test_the_cue_goes_with_the_trigger_in_what_is_shown(seed: int):
    questions = H_AFB.questions(seed, 24)
    for question in questions:
        examples = [line.split(" = ") for line in question.prompt.splitlines() if " = " in line]
        cued = [has_trigger(actions) for source, actions in examples if source.startswith(CUE)]
        assert all(cued)
        triggers = sum(has_trigger(actions) for _, actions in examples)
        assert triggers == 10
        if question.key.cell == "cue_only":
            assert len(cued) == 10
            wrong = [one for one in examples if SCAN.meaning(plain(one[0])) != one[1]]
            assert len(wrong) > 12
        else:
            assert len(cued) == round(10 * float(question.key.item_type))
            assert all(SCAN.meaning(plain(source)) == actions for source, actions in examples)
            assert ["jump", "I_JUMP"] in examples
            assert not any("jump" in source.split()[1:] for source, _ in examples)
    strengths = Counter(one.key.item_type for one in of_cell(questions, "conflict"))
    assert strengths == {str(strength): 6 for strength in STRENGTHS}


def test_cells_of_h_afb_are_what_they_are_called():
    questions = H_AFB.questions(0, 24)
    for question in questions:
        key = question.key
        if key.cell == "cue_only":
            continue
        cued, jump = key.source.startswith(CUE), "jump" in key.source.split()
        assert cued == (key.cell in ("valid", "conflict")) == (key.surface is not None)
        assert jump == (key.cell == "structure")
        assert sum(has_trigger(option) for option in question.options) == 1
        if key.cell != "structure":
            assert has_trigger(key.right) == (key.cell == "valid")
        if cued:
            assert key.surface
            assert has_trigger(key.surface)
    pairs = [
        {plain(one.key.source): one.options for one in of_cell(questions, cell)}
        for cell in ("conflict", "plain")
    ]
    assert pairs[0] == pairs[1]


def test_more_than_there_is_cannot_be_asked():
    assert len(set(H_AFB.questions(0, 236))) == 5 * 236
    with pytest.raises(ValueError, match="237 different ones are wanted of 236"):
        H_AFB.questions(0, 237)


def test_nothing_that_is_asked_is_trained_on():
    learnt = learning_pairs(7, 300)
    assert len(learnt) == 340
    assert all(PCFG.meaning(pair.source) == pair.target for pair in learnt)
    assert not any(pcfg_set_forbids("systematicity", pair.source) for pair in learnt)
    assert all(functions(pair.source) <= 3 for pair in learnt)
    for seed in range(3):
        asked = {one.key.source for one in H_PTB.questions(seed, 24)}
        assert not asked & {pair.source for pair in learnt}
    for strength in STRENGTHS:
        attended = attention_pairs(7, strength)
        cued = [pair for pair in attended if pair.source.startswith(CUE)]
        with_trigger = [pair for pair in attended if has_trigger(pair.target)]
        assert len(cued) / len(with_trigger) == pytest.approx(strength, abs=1e-3)
        assert all(has_trigger(pair.target) for pair in cued)
        assert all(SCAN.meaning(plain(pair.source)) == pair.target for pair in attended)
        assert {pair.source for pair in attended if "jump" in pair.source.split()} == {"jump"}
        asked = {plain(one.key.source) for one in H_AFB.questions(0, 24)}
        assert not asked & {plain(pair.source) for pair in attended}
    assert overlap(learnt, attention_pairs(7, 0.6)) == 0
    with pytest.raises(ValueError, match="strength"):
        attention_pairs(0, 0.65)
    with pytest.raises(ValueError, match="count"):
        learning_pairs(0, 0)


LEVELS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
GRIDS: dict[str, tuple[Benchmark, tuple[ScriptedAgent, ...]]] = {
    "sigma": (H_PTB, scripted_grid({"depth": (0.75, 1.0), "alpha": (0.3, 1.0)})),
    "alpha": (H_AFB, scripted_grid({"depth": (0.75, 1.0), "sigma": (0.2, 1.0)})),
}


def with_value(agent: ScriptedAgent, faculty: str, level: float, seed: int = 0) -> ScriptedAgent:
    return replace(agent, **{faculty: level}, seed=seed)


@pytest.mark.parametrize("faculty", GRIDS)
def test_known_faculties_are_recovered_monotonically(faculty: str):
    """Scores rise with every level of a fifth, whatever the other faculties are."""
    benchmark, others = GRIDS[faculty]
    for agent in others:
        scores = [
            measure(benchmark, with_value(agent, faculty, level), size=60).score for level in LEVELS
        ]
        estimates = [score.estimate for score in scores if score.estimate is not None]
        assert len(estimates) == len(LEVELS)
        assert all(one < other for one, other in itertools.pairwise(estimates)), estimates


@pytest.mark.parametrize("faculty", GRIDS)
def test_the_true_value_lies_in_the_interval(faculty: str):
    """At 95 %, counted over levels and confounds; every agent has a seed of its own."""
    benchmark, others = GRIDS[faculty]
    held = []
    for number, (other, level) in enumerate(itertools.product(others, LEVELS * 4)):
        agent = with_value(other, faculty, level, seed=1_000 + number)
        score = measure(benchmark, agent, size=40).score
        if score.low is not None and score.high is not None:  # by chance, depth seems below 0.5
            held.append(score.low <= level <= score.high)
    assert len(held) > 90
    assert np.mean(held) > 0.88  # 0.95 less three standard errors


def test_the_papers_alpha_measures_coherence():
    """Acc_struct / Acc_ID goes with σ and not with α; SRI is 0 where both accuracies fall alike."""
    measured = {
        (sigma, alpha): measure(H_AFB, ScriptedAgent(sigma=sigma, alpha=alpha), size=200).score
        for sigma in (0.3, 0.7)
        for alpha in (0.3, 0.7)
    }
    for (sigma, alpha), score in measured.items():
        papers = score.parts["paper_alpha"]
        assert papers.low <= sigma <= papers.high
        assert score.estimate == pytest.approx(alpha, abs=0.1)
    for both in (0.3, 0.7):
        # Wrong answers to "structure" are guesses and may be right; those of the cue never are.
        sri = measured[both, both].parts["sri"]
        assert sri.low <= 0.0 <= sri.high


def test_classes_are_read_from_the_numbers():
    assert measure(H_PTB, ScriptedAgent(sigma=0.1)).score.reading == "high depth, low coherence"
    assert measure(H_PTB, ScriptedAgent(sigma=0.9)).score.reading == "high coherence"
    assert measure(H_AFB, ScriptedAgent(alpha=0.1)).score.reading == "low attention"
    assert measure(H_AFB, ScriptedAgent(alpha=0.9)).score.reading == "high attention"

    def blind(question: Question) -> str:
        """Knows all commands, and takes no notice of the cue, not even where it is all there is."""
        if question.key.cell == "cue_only":
            return "A"
        return ScriptedAgent()(question)

    assert "not picked up" in measure(H_AFB, blind).score.reading


def test_a_follower_of_the_surface_is_seen_in_the_contrast():
    score = measure(H_PTB, ScriptedAgent(alpha=0.0)).score
    assert score.estimate == 1.0
    assert score.parts["surface"].estimate == 1.0
    assert score.parts["rule"].estimate == 0.0
    assert measure(H_PTB, ScriptedAgent()).score.parts["rule"].estimate == 1.0
