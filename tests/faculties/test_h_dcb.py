"""H-DCB: contexts and hints that only look right, and what agents of known inhibition do."""

import math
from collections import Counter

import numpy as np
import pytest

from sigma_jax.faculties import (
    DENSITIES,
    H_DCB,
    Interval,
    Question,
    Score,
    ScriptedAgent,
    executive_pairs,
    measure,
    rule_of,
    source_agent,
    surface_neighbours,
    text_agent,
)
from sigma_jax.grammars import interpret_scan, overlap, scan_forbids, scan_pairs, scan_split
from sigma_jax.statistics import binomial

SPLIT = "template_opposite_right"
POOL = executive_pairs()


def shown(question: Question) -> list[str]:
    """The lines between "found" and what is asked: the retrieved examples."""
    _, _, after = question.prompt.partition("These were found in a store of other commands:\n")
    return after.partition("\n\n")[0].splitlines()


def command_of(prompt: str) -> str:
    return prompt.splitlines()[-1].removesuffix(" =")


def holds(part: Interval | Score, value: float) -> bool:
    assert part.low is not None
    assert part.high is not None
    return part.low <= value <= part.high


def sensible(prompt: str) -> str:
    """Answers the command whatever else the prompt says."""
    return interpret_scan(command_of(prompt))


def copying(prompt: str) -> str:
    """Takes over a hint, else the first retrieved answer, else works it out."""
    for line in prompt.splitlines():
        if line.startswith("Somebody suggests"):
            return line.partition(": ")[2]
    found = prompt.partition("store of other commands:\n")[2].splitlines()
    return found[0].partition(" = ")[2] if found else sensible(prompt)


def bm25(command: str) -> np.ndarray:
    """The textbook loop: idf ln(1 + (n − m + ½)/(m + ½)), k₁ = 0.9, b = 0.4."""
    documents = [pair.source.split() for pair in POOL]
    mean_length = np.mean([len(document) for document in documents])
    scores = np.zeros(len(documents))
    for term in set(command.split()):
        having = sum(term in document for document in documents)
        idf = math.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        for at, document in enumerate(documents):
            count = document.count(term)
            scores[at] += idf * count / (count + 0.9 * (0.6 + 0.4 * len(document) / mean_length))
    return scores


def test_the_density_is_the_fraction_of_items_with_context():
    questions = H_DCB.questions(3, 15)
    assert H_DCB.questions(3, 15) == questions
    cells = Counter(question.key.cell for question in questions)
    assert cells == {
        **{f"density {density:g}": 15 for density in DENSITIES},
        "hint": 15,
        "familiar": 15,
    }
    for density in DENSITIES:
        own = [one for one in questions if one.key.cell == f"density {density:g}"]
        assert sum(one.key.context for one in own) == round(15 * density)
        assert all(len(shown(one)) == 3 * one.key.context for one in own)
    commands = Counter(command_of(one.prompt) for one in questions)
    assert Counter(commands.values()) == {1: 90, 2: 15}  # those of density 0 again with a hint
    with pytest.raises(ValueError, match="ask for fewer"):
        H_DCB.questions(0, 1_000)


def test_what_is_shown_has_another_rule_and_never_the_held_out_template():
    for question in H_DCB.questions(1, 20):
        command, right = command_of(question.prompt), question.key.right
        assert interpret_scan(command) == right
        assert scan_forbids(SPLIT, command) == (question.key.cell != "familiar")
        assert command not in {pair.source for pair in POOL}
        lines = [line for line in question.prompt.splitlines() if " = " in line]
        for source, _, actions in (line.partition(" = ") for line in lines):
            assert interpret_scan(source) == actions
            assert not scan_forbids(SPLIT, source)
        for source, _, actions in (line.partition(" = ") for line in shown(question)):
            assert rule_of(source) != rule_of(command)
            assert actions != right
        if question.key.hint is not None:
            assert question.key.hint != right
            assert question.key.hint in question.prompt
            nearest = surface_neighbours(command, right, 1)[0]
            assert question.key.hint == nearest.target
            assert rule_of(nearest.source) != rule_of(command)


def test_the_pool_is_what_the_split_trains_on():
    assert overlap(POOL, scan_split(SPLIT).test) == 0
    assert {pair.source for pair in POOL} <= {pair.source for pair in scan_split(SPLIT).train}
    examples = [line for line in H_DCB.questions(0, 1)[0].prompt.splitlines() if " = " in line]
    assert {line.partition(" = ")[0] for line in examples[:11]} <= {pair.source for pair in POOL}


@pytest.mark.parametrize(
    "command",
    ["run opposite right twice and walk right", "turn opposite right after look", "jump left"],
)
def test_neighbours_are_the_best_by_bm25_of_those_built_otherwise(command: str):
    right = interpret_scan(command)
    scores = bm25(command)
    other = np.array(
        [rule_of(pair.source) != rule_of(command) and pair.target != right for pair in POOL]
    )
    found = surface_neighbours(command, right, 3)
    place = {pair.source: at for at, pair in enumerate(POOL)}
    own = [scores[place[pair.source]] for pair in found]
    np.testing.assert_allclose(own, np.sort(scores[other])[::-1][:3], rtol=1e-9)
    assert all(other[place[pair.source]] for pair in found)


def test_a_rule_is_a_command_with_its_verbs_and_directions_open():
    assert rule_of("jump left twice and run") == rule_of("walk right twice and look")
    assert rule_of("jump left twice and run") != rule_of("run and jump left twice")
    assert rule_of("turn left") != rule_of("walk left")
    assert (
        len({rule_of(pair.source) for pair in scan_pairs()}) == 21 + 2 * 21**2
    )  # 7 phrases, 3 numbers


def test_the_best_neighbour_has_nearly_all_of_the_words():
    shares = []
    for question in H_DCB.questions(0, 60):
        if question.key.hint is not None:
            words = Counter(command_of(question.prompt).split())
            nearest = surface_neighbours(command_of(question.prompt), question.key.right, 1)[0]
            common = words & Counter(nearest.source.split())
            shares.append(common.total() / words.total())
    assert len(shares) == 60
    assert np.mean(shares) > 0.85


def test_xi_is_recovered_monotonically_whatever_the_coherence():
    for sigma in (0.2, 0.9):
        found = [
            measure(H_DCB, ScriptedAgent(xi=xi, sigma=sigma), size=30).score
            for xi in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
        ]
        estimates = [score.estimate for score in found if score.estimate is not None]
        assert len(estimates) == 6
        assert all(np.diff(estimates) > 0.0)
        assert (estimates[0], estimates[-1]) == (0.0, 1.0)
        for score in found:
            assert score.parts["bcr"].estimate == pytest.approx(1.0 - (score.estimate or 0.0))


def test_true_values_lie_in_the_intervals():
    held: dict[str, list[bool]] = {"xi": [], "slope": [], "context": [], "copied": []}
    for seed in range(12):
        for xi, alpha, sigma, retrieval in (
            (0.3, 0.5, 0.7, 0.0),
            (0.7, 0.8, 0.4, 0.3),
            (0.95, 1.0, 0.5, -0.2),
        ):
            agent = ScriptedAgent(
                xi=xi, alpha=alpha, sigma=sigma, retrieval=retrieval, seed=len(held["xi"])
            )
            score = measure(H_DCB, agent, seed=seed, size=24).score
            # With context it follows the neighbour, or solves with what retrieval adds.
            slope = alpha * (sigma + retrieval) - sigma
            held["xi"].append(holds(score, xi))
            held["slope"].append(holds(score.parts["slope"], slope))
            held["context"].append(holds(score.parts["context"], slope))
            held["copied"].append(holds(score.parts["copied"], 1.0 - alpha))
    for values in held.values():
        assert binomial(sum(values), len(values), 0.95, "less").p_value > 0.01


def test_slopes_have_the_sign_of_what_retrieval_does():
    def slope(sigma: float, alpha: float = 1.0, retrieval: float = 0.0) -> Interval:
        agent = ScriptedAgent(sigma=sigma, alpha=alpha, retrieval=retrieval)
        return measure(H_DCB, agent, size=40).score.parts["slope"]

    misled, helped = slope(sigma=0.7, alpha=0.3), slope(sigma=0.4, retrieval=0.5)
    assert misled.high < 0.0 < helped.low
    found = [slope(sigma=0.5, retrieval=gain).estimate for gain in (-0.4, -0.2, 0.0, 0.2, 0.4)]
    assert all(np.diff(found) > 0.0)


def test_the_slope_is_that_of_least_squares():
    score, outcomes = measure(H_DCB, ScriptedAgent(sigma=0.5, alpha=0.6), size=20)
    levels = [
        np.mean([one.right for one in outcomes if one.question.key.cell == f"density {density:g}"])
        for density in DENSITIES
    ]
    assert score.parts["slope"].estimate == pytest.approx(np.polyfit(DENSITIES, levels, 1)[0])
    for density, level in zip(DENSITIES, levels, strict=True):
        assert score.parts[f"right({density:g})"].estimate == pytest.approx(level)


def test_accuracy_of_an_agent_without_memory_is_a_line_in_the_density():
    """The mean over many agents lies on the line between the two accuracies, at every density."""
    runs = [
        measure(H_DCB, ScriptedAgent(sigma=0.8, alpha=0.4, seed=seed), seed=seed, size=20).score
        for seed in range(12)
    ]
    for density in DENSITIES:
        found = np.mean([score.parts[f"right({density:g})"].estimate for score in runs])
        expected = 0.8 * (1.0 - density * (1.0 - 0.4))
        assert found == pytest.approx(expected, abs=3.5 * math.sqrt(0.25 / 240))


def test_agents_that_read():
    good = measure(H_DCB, text_agent(sensible), size=10).score
    assert good.estimate == 1.0
    assert good.parts["slope"].estimate == pytest.approx(0.0)
    assert good.parts["copied"].estimate == 0.0
    assert good.parts["right(hint)"].estimate == 1.0

    bad = measure(H_DCB, text_agent(copying), size=10).score
    assert bad.estimate == 0.0
    assert bad.parts["bcr"].estimate == bad.parts["copied"].estimate == 1.0
    assert bad.parts["bcr_excess"].estimate == 1.0
    assert bad.parts["slope"].estimate == pytest.approx(-1.0)
    assert bad.reading == "retrieved context misleads"


def test_the_hints_own_part_is_told_from_mistakes_that_are_made_anyway():
    def mistaken(prompt: str) -> str:
        command = command_of(prompt)
        return surface_neighbours(command, interpret_scan(command), 1)[0].target

    parts = measure(H_DCB, text_agent(mistaken), size=12).score.parts
    assert parts["bcr"].estimate == parts["bcr_without_hint"].estimate == 1.0
    assert parts["bcr_excess"].estimate == 0.0
    assert holds(parts["bcr_excess"], 0.0)


def test_a_constant_answer_falls_for_no_hint_and_has_no_score():
    score = measure(H_DCB, lambda question: "I_WALK", size=10).score
    assert score.parts["bcr"].estimate == 0.0
    assert score.estimate is None
    assert "familiar" in score.why


def test_a_learner_that_is_shown_no_context_is_not_measured():
    score = measure(H_DCB, source_agent(interpret_scan), size=6).score
    assert not score.measured
    assert "hint: 0 of 6" in score.why
    assert score.parts["familiar"].estimate == score.parts["right(0)"].estimate == 1.0
    assert "slope" not in score.parts
    assert score.endings["declined"] == 6 + sum(round(6 * density) for density in DENSITIES)


def test_failures_are_counted_and_never_taken_for_resistance():
    def moody(question: Question) -> str:
        number = question.key.group.removeprefix("item ")
        if question.key.hint is not None and int(number) % 3 == 0:
            return "Answer: I_WALK\nAnswer: I_RUN"
        if question.key.cell == "density 1":
            raise TimeoutError("no")
        return question.key.hint or question.key.right

    score = measure(H_DCB, moody, size=9).score
    assert (score.estimate, score.parts["bcr"].n) == (0.0, 6)
    assert score.endings == {"answered": 60, "raised": 9, "several answers": 3}
    assert (score.n, score.asked) == (60, 72)
    assert "slope" not in score.parts
    assert "right(1)" not in score.parts
    assert score.parts["right(0.8)"].estimate == 1.0
