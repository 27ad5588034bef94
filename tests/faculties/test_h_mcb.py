"""H-MCB: labelled items that are what their labels say, and predictions held against answers."""

import re
from collections import Counter
from statistics import median

import numpy as np
import pytest

from sigma_jax.faculties import (
    H_MCB,
    CannotAnswer,
    Form,
    Interval,
    Question,
    Score,
    ScriptedAgent,
    measure,
    metacognition_pairs,
    source_agent,
)
from sigma_jax.grammars import CogsLike, Tree, cogs_like_forbids, subtrees
from sigma_jax.statistics import binomial

LANGUAGE = CogsLike()
# How much structure each type takes, as the scripted agents have it.
STRUCTURE = {
    "noun_in_new_role": 0.5,
    "verb_in_new_construction": 1.0,
    "new_passive": 1.0,
    "phrase_in_subject": 1.5,
    "deeper_recursion": 2.0,
}
TYPES = ("familiar", *STRUCTURE)


def items(seed: int, size: int) -> list[Question]:
    return [one for one in H_MCB.questions(seed, size) if one.form is Form.SENTENCE]


def deepest(tree: Tree, label: str) -> int:
    below = max((deepest(child, label) for child in tree.children), default=0)
    return below + (tree.label == label)


def true_error(agent: ScriptedAgent, structure: float) -> float:
    accuracy = agent.depth * agent.sigma**structure
    return min(1.0, max(0.0, accuracy + agent.zeta)) - accuracy


def width(score: Score) -> float:
    assert score.low is not None
    assert score.high is not None
    return score.high - score.low


def holds(part: Interval | Score, value: float) -> bool:
    assert part.low is not None
    assert part.high is not None
    return part.low <= value <= part.high


def test_predictions_come_first_and_every_item_has_its_type():
    questions = H_MCB.questions(2, 7)
    assert H_MCB.questions(2, 7) == questions
    assert [one.form for one in questions] == [Form.PERCENT] * 30 + [Form.SENTENCE] * 42
    assert Counter(one.key.item_type for one in questions[:30]) == dict.fromkeys(TYPES, 5)
    assert Counter(one.key.item_type for one in questions[30:]) == dict.fromkeys(TYPES, 7)
    assert len({one.key.source for one in questions[30:]}) == 42


@pytest.mark.parametrize("seed", range(3))
def test_items_are_what_their_types_say(seed: int):
    for question in items(seed, 16):
        source = question.key.source
        assert LANGUAGE.meaning(source) == question.key.right
        assert cogs_like_forbids(source) == (question.key.item_type != "familiar")
        tree = LANGUAGE.tree(source)
        recursion = max(deepest(tree, "S") - 1, deepest(tree, "PP"))
        subjects = [node.children[0] for node in subtrees(tree) if node.label == "S"]
        in_subject = any(deepest(subject, "PP") for subject in subjects)
        kind = question.key.item_type
        assert (recursion > 2) == (kind == "deeper_recursion")
        assert in_subject == (kind == "phrase_in_subject")
        if kind == "new_passive":
            assert "was blessed" in source


@pytest.mark.parametrize("seed", range(3))
def test_examples_have_what_it_takes_and_not_what_is_asked(seed: int):
    for question in items(seed, 16):
        lines = question.prompt.split("\n")
        examples = [line for line in lines[:-1] if line.endswith(" .")]
        assert lines[-1] == question.key.source
        assert len(examples) >= 14
        assert question.key.source not in examples
        assert not any(cogs_like_forbids(example) for example in examples)
        for example in examples:
            assert LANGUAGE.meaning(example) in lines
        if question.key.item_type in ("noun_in_new_role", "verb_in_new_construction"):
            # Its held-out word is shown in its other use.
            held_out = re.findall(
                r"hedgehog|Lina|cockroach|Charlie|baked|shattered|teleported|shipped",
                question.key.source,
            )
            assert any(word in example.split() for word in held_out for example in examples)


def test_what_learners_are_trained_on_is_never_asked():
    train = {pair.source for seed in range(2) for pair in metacognition_pairs(seed, 2_000)}
    asked = {question.key.source for seed in range(4) for question in items(seed, 20)}
    assert not train & asked
    assert not any(cogs_like_forbids(source) for source in train)
    words = {word for source in train for word in source.split()}
    assert all(word in words for source in asked for word in source.split())


def test_zeta_is_prediction_less_accuracy_type_by_type():
    agent = ScriptedAgent(sigma=0.6, zeta=0.2, seed=4)
    score, outcomes = measure(H_MCB, agent, seed=1, size=12)
    errors = {}
    for kind in TYPES:
        own = [one for one in outcomes if one.question.key.item_type == kind]
        said = median(float(one.answer) for one in own if one.question.form is Form.PERCENT)
        right = [one.right for one in own if one.question.form is Form.SENTENCE]
        errors[kind] = said / 100.0 - np.mean(right)
        part = score.parts[f"zeta({kind})"]
        assert part.estimate == pytest.approx(errors[kind], abs=1e-12)
        assert part.n == 12
        actual = score.parts[f"actual({kind})"]
        wilson = binomial(sum(right), 12, 0.5)
        assert (actual.low, actual.high) == pytest.approx((wilson.low, wilson.high), abs=0.02)
    new = [errors[kind] for kind in STRUCTURE]
    assert score.estimate == pytest.approx(np.mean(new), abs=1e-12)
    assert score.parts["ace"].estimate == pytest.approx(np.mean(np.abs(new)), abs=1e-12)
    excess = score.parts["zeta_excess"]
    assert excess.estimate == pytest.approx(np.mean(new) - errors["familiar"], abs=1e-12)
    assert excess.low <= excess.estimate <= excess.high


@pytest.mark.parametrize("sigma", [0.4, 0.7])
def test_zeta_is_recovered_monotonically(sigma: float):
    # Ranges in which no prediction of these agents is cut at 0 or 1.
    for structure in STRUCTURE.values():
        assert 0.15 < sigma**structure < 0.85
    zetas = (-0.15, -0.05, 0.05, 0.15)
    found = [measure(H_MCB, ScriptedAgent(sigma=sigma, zeta=zeta), size=20).score for zeta in zetas]
    # One seed's items are answered alike, so that only the predictions move.
    estimates = [score.estimate for score in found if score.estimate is not None]
    np.testing.assert_allclose(np.diff(estimates), [0.1] * 3, atol=1e-6)
    for zeta, score in zip(zetas, found, strict=True):
        assert holds(score, zeta)


def test_true_values_lie_in_the_intervals():
    held: dict[str, list[bool]] = {"zeta": [], "ace": [], "types": []}
    for seed in range(8):
        for at, (sigma, zeta) in enumerate(((0.9, -0.3), (0.5, 0.0), (0.3, 0.4), (0.7, 0.5))):
            agent = ScriptedAgent(sigma=sigma, zeta=zeta, seed=4 * seed + at)
            score = measure(H_MCB, agent, seed=seed, size=12).score
            errors = {kind: true_error(agent, need) for kind, need in STRUCTURE.items()}
            held["zeta"].append(holds(score, np.mean(list(errors.values())).item()))
            held["ace"].append(
                holds(score.parts["ace"], np.mean(np.abs(list(errors.values()))).item())
            )
            held["types"] += [
                holds(score.parts[f"zeta({kind})"], error) for kind, error in errors.items()
            ]
    for name, values in held.items():
        # Wilson's interval holds with 95 % on average over shares, with less for some.
        least = 0.93 if name == "types" else 0.95
        assert binomial(sum(values), len(values), least, "less").p_value > 0.01


def test_ace_is_held_against_what_calibrated_agents_show():
    calibrated = measure(H_MCB, ScriptedAgent(sigma=0.6), size=20).score
    chance = calibrated.parts["ace_if_calibrated"]
    assert chance.low <= calibrated.parts["ace"].estimate <= chance.high
    assert calibrated.parts["ace"].low == 0.0

    asked = Counter()
    said = {"noun_in_new_role": 85, "verb_in_new_construction": 15, "new_passive": 85}

    def both_ways(question: Question) -> str:
        """Right every other time; too sure of two types, too unsure of two."""
        kind = question.key.item_type
        if question.form is Form.PERCENT:
            return str(said.get(kind, 15 if kind == "phrase_in_subject" else 50))
        asked[kind] += 1
        return question.key.right if asked[kind] % 2 else "nonsense"

    score = measure(H_MCB, both_ways, size=20).score
    assert score.estimate == pytest.approx(0.0)
    assert score.parts["ace"].estimate == pytest.approx(0.28)
    assert score.parts["ace"].estimate > score.parts["ace_if_calibrated"].high
    assert "both directions" in score.reading


def test_the_median_of_scattered_predictions_counts_and_scatter_widens_the_interval():
    asked = Counter()

    def scattered(question: Question) -> str:
        if question.form is not Form.PERCENT:
            return ScriptedAgent(sigma=0.5)(question)
        asked[question.key.item_type] += 1
        return str((50, 20, 60, 100, 45)[asked[question.key.item_type] - 1])

    steady = measure(
        H_MCB, lambda one: "50" if one.form is Form.PERCENT else ScriptedAgent(sigma=0.5)(one)
    ).score
    wide = measure(H_MCB, scattered).score
    assert wide.estimate == pytest.approx(steady.estimate)
    assert width(wide) > 1.2 * width(steady)


def test_failures_are_counted_and_never_taken_for_wrong_answers():
    asked = Counter()

    def moody(question: Question) -> str:
        kind = question.key.item_type
        asked[kind] += 1
        if question.form is Form.PERCENT:
            return "70"
        if asked[kind] % 3 == 0:
            raise RuntimeError("not today")
        return "" if asked[kind] == 7 else question.key.right

    score = measure(H_MCB, moody, size=16).score
    assert score.measured
    assert score.endings["raised"] > 0
    assert score.n == score.endings["answered"] < score.asked
    for kind in TYPES:
        assert score.parts[f"actual({kind})"].estimate == 1.0
    assert score.estimate == pytest.approx(-0.3)


@pytest.mark.parametrize("says", ["150", "", "between 40 and 60", "no idea"])
def test_without_predictions_there_is_no_zeta(says: str):
    def agent(question: Question) -> str:
        return says if question.form is Form.PERCENT else question.key.right

    score = measure(H_MCB, agent, size=4).score
    assert not score.measured
    assert "predictions" in score.why
    assert "familiar: 0 of 5" in score.why
    assert score.parts["actual(new_passive)"].estimate == 1.0
    assert not any(name.startswith("zeta") for name in score.parts)


def test_a_constant_answer_has_no_score():
    for answer in ("0", "50"):
        score = measure(H_MCB, lambda question, answer=answer: answer, size=4).score
        assert score.estimate is None
        assert "familiar" in score.why
        assert score.parts["zeta(new_passive)"].estimate == float(answer) / 100.0


def test_learners_have_accuracies_but_predict_nothing():
    score = measure(H_MCB, source_agent(LANGUAGE.meaning), size=4).score
    assert score.estimate is None
    assert score.endings == {"answered": 24, "declined": 30}
    assert {part.estimate for part in score.parts.values()} == {1.0}


def test_an_agent_that_can_do_nothing_is_not_measured():
    def agent(question: Question) -> str:
        raise CannotAnswer("no")

    score = measure(H_MCB, agent, size=3).score
    assert (score.estimate, score.n, dict(score.parts)) == (None, 0, {})
