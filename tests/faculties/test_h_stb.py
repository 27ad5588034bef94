"""H-STB: real messages, a condition without one, and a transmission that stays in [0, 1]."""

import itertools
import re
from collections import Counter
from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from sigma_jax.faculties import (
    H_STB,
    CannotAnswer,
    Form,
    Interval,
    Question,
    Score,
    ScriptedAgent,
    dyad,
    measure,
    text_agent,
)
from sigma_jax.statistics import binomial

KINDS = ("fact", "schema", "mixed")
CELLS = ("no message", *KINDS)


def holds(part: Interval | Score, value: float) -> bool:
    assert part.low is not None
    assert part.high is not None
    return part.low <= value <= part.high


def estimate(score: Score) -> float:
    assert score.estimate is not None, score.why
    return score.estimate


def lessons_in(prompt: str) -> list[tuple[list[str], list[str]]]:
    lines = [line.partition(" = ") for line in prompt.splitlines() if " = " in line]
    return [(source.split(), actions.split()) for source, _, actions in lines]


# --- a sender and a receiver that really read, write and reckon --------------------------------


def learned(prompt: str) -> dict[str, str]:
    """What each word of a language does, worked out from its lessons alone."""
    lessons = lessons_in(prompt)
    does = {words[0]: actions[0] for words, actions in lessons if len(words) == 1}
    for words, actions in lessons:
        if len(words) == 2:
            word, act = words[1], does[words[0]]
            does[word] = actions[0] if actions[0] != act else f"times {len(actions)}"
    for words, actions in lessons:
        if len(words) == 3 and words[1] not in does:
            does[words[1]] = "first" if actions[0] == does[words[0]] else "last"
    return does


def sender(prompt: str) -> str:
    """Writes what it has learned, one word a line, to whoever can read its shorthand."""
    if "What percentage" in prompt:
        return "100"
    if "state one rule" not in prompt:
        return "\n".join(line for line in prompt.splitlines() if " = " in line)
    return "\n".join(f"{word}: {does}" for word, does in learned(prompt).items())


def meaning(source: str, does: dict[str, str]) -> list[str]:
    joint = next(word for word in source.split() if does[word] in ("first", "last"))
    clauses = []
    for clause in source.split(f" {joint} "):
        verb, way, times = (does[word] for word in clause.split())
        clauses.append([way, verb] * int(times.removeprefix("times ")))
    first, second = clauses if does[joint] == "first" else clauses[::-1]
    return first + second


def receiver(prompt: str) -> str:
    """Reckons with the sender's shorthand; without it, it picks the first option."""
    does = dict(re.findall(r"^(\w+): (.+)$", prompt, re.MULTILINE))
    source = prompt.partition("stand for?\n")[2].splitlines()[0]
    if set(source.split()) <= set(does):
        return " ".join(meaning(source, does))
    return "A"


# --- questions ---------------------------------------------------------------------------------


def test_the_first_round_has_three_messages_and_no_answer_for_every_language():
    questions = H_STB.questions(3, 22)
    assert H_STB.questions(3, 22) == questions
    cells = Counter(question.key.cell for question in questions)
    assert cells == {**{f"message: {kind}": 6 for kind in KINDS}, "no message": 24}
    assert {one.key.group for one in questions if one.form is Form.TEXT} == {
        f"{number} of 3" for number in range(6)
    }
    assert len({one.key.group for one in H_STB.questions(0, 1)}) == 2


def test_lessons_are_enough_to_learn_the_language_and_shorter_than_what_is_asked():
    questions = H_STB.questions(0, 40)
    for question in questions:
        if question.form is not Form.TEXT:
            continue
        lessons = lessons_in(question.prompt)
        assert len({tuple(words) for words, _ in lessons}) == 10
        assert max(len(words) for words, _ in lessons) == 3
        does = learned(question.prompt)
        assert len(does) == 9
        items = [one for one in questions if one.key.group == question.key.group and one.options]
        for item in items:
            source = item.prompt.partition("stand for?\n")[2].splitlines()[0]
            assert len(source.split()) == 7
            assert meaning(source, does) == item.key.right.split()


def test_no_two_languages_have_the_same_words():
    questions = [one for one in H_STB.questions(0, 80) if one.key.cell == "message: fact"]
    known = [tuple(sorted(learned(one.prompt).items())) for one in questions]
    assert len(set(known)) == 20
    orders = Counter(joins(one) for one in known)
    assert min(orders["first"], orders["last"]) >= 4


def joins(known: tuple[tuple[str, str], ...]) -> str:
    return next(does for _, does in known if does in ("first", "last"))


def most_alike(question: Question) -> str:
    """The option that has most in common with the others."""

    def likeness(option: str) -> int:
        return sum(
            sum(one == two for one, two in zip(option.split(), other.split(), strict=False))
            for other in question.options
        )

    return max(question.options, key=likeness)


@pytest.mark.parametrize(
    "guess",
    [
        lambda question: question.options[0],
        lambda question: min(question.options, key=lambda option: (len(option), option)),
        lambda question: max(question.options, key=lambda option: (len(option), option)),
        lambda question: min(question.options),
        most_alike,
    ],
    ids=["first", "shortest", "longest", "alphabet", "most alike"],
)
def test_without_a_message_nothing_is_better_than_chance(guess: Callable[[Question], str]):
    questions = [one for seed in range(8) for one in H_STB.questions(seed, 100) if one.options]
    assert len(questions) == 800
    assert all(len(set(one.options)) == 4 for one in questions)
    right = sum(guess(one) == one.key.right for one in questions)
    assert binomial(right, 800, 0.25).p_value > 1e-3


def test_the_receiver_reads_what_was_sent_up_to_ten_lines():
    def chatty(question: Question) -> str:
        if question.form is Form.TEXT:
            return "\n\n".join(f"line {number} for {question.key.cell}" for number in range(14))
        return "50" if question.form is Form.PERCENT else "A"

    outcomes = measure(H_STB, chatty, size=8).outcomes
    read = [one.question for one in outcomes if one.question.key.cell in KINDS]
    assert len(read) == 3 * 8
    for question in read:
        assert f"line 9 for message: {question.key.cell}\n" in question.prompt
        assert "line 10 for" not in question.prompt
    without = [one.question for one in outcomes if one.question.key.cell == "no message"]
    assert all("line" not in question.prompt for question in without)
    # The same items with and without.
    options = Counter(question.options for question in (*read, *without))
    assert set(options.values()) == {4}
    expected = [one.question for one in outcomes if one.question.form is Form.PERCENT]
    assert len(expected) == 3 * 2
    assert all("line 9" in one.prompt and "line 10" not in one.prompt for one in expected)


# --- scores ------------------------------------------------------------------------------------


def test_a_pair_that_really_communicates():
    score = measure(H_STB, dyad(text_agent(sender), text_agent(receiver)), size=40).score
    assert estimate(score) == 1.0
    assert score.parts["right(schema)"].estimate == 1.0
    assert score.parts["right(fact)"].estimate == score.parts["right(no message)"].estimate < 0.5
    assert score.parts["roi(fact)"].estimate == 0.0
    assert score.parts["schema_over_fact"].low > 0.0
    assert score.parts["tom(schema)"].estimate == 0.0
    assert score.parts["tom(fact)"].low > 0.3
    assert score.reading == "rules get more across than facts"


def test_mu_is_recovered_monotonically_whatever_the_receiver_knows():
    for sigma in (0.1, 0.9):
        found = [
            estimate(measure(H_STB, ScriptedAgent(mu=mu, sigma=sigma), size=80).score)
            for mu in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        assert all(np.diff(found) > 0.0)
        assert found[-1] == 1.0


def test_true_values_lie_in_the_intervals():
    held: dict[str, list[bool]] = {"mu": [], "roi(schema)": [], "tom(schema)": [], "tom": []}
    for seed in range(16):
        for mu, zeta in ((0.3, 0.0), (0.6, -0.2), (0.9, 0.0)):
            agent = ScriptedAgent(mu=mu, zeta=zeta, seed=len(held["mu"]))
            score = measure(H_STB, agent, seed=seed, size=40).score
            held["mu"].append(holds(score, mu))
            held["roi(schema)"].append(holds(score.parts["roi(schema)"], 0.75 * mu))
            held["tom(schema)"].append(holds(score.parts["tom(schema)"], zeta))
            held["tom"].append(holds(score.parts["tom"], zeta))
    for values in held.values():
        assert binomial(sum(values), len(values), 0.95, "less").p_value > 0.01


def test_messages_that_work_or_fail_as_a_whole_are_the_units():
    """Sixteen answers to four messages that either work or not tell as much as four."""
    inside = trials = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        works = {f"{number} of {seed}": bool(rng.random() < 0.6) for number in range(10)}

        def agent(question: Question, works: dict[str, bool] = works) -> str:
            if question.form in (Form.TEXT, Form.PERCENT):
                return "60"
            right = question.key.cell == "schema" and works[question.key.group]
            return question.key.right if right else wrong(question)

        part = measure(H_STB, agent, seed=seed, size=40).score.parts["right(schema)"]
        trials += 1
        inside += holds(part, 0.6)
        naive = binomial(round(40 * part.estimate), 40, 0.5)
        assert part.high - part.low > 1.5 * (naive.high - naive.low)
    assert binomial(inside, trials, 0.95, "less").p_value > 0.01


def wrong(question: Question) -> str:
    return next(option for option in question.options if option != question.key.right)


def answering(right: dict[str, int]) -> Callable[[Question], str]:
    """Right in so many of the eight questions of each cell."""
    asked = Counter()

    def agent(question: Question) -> str:
        if question.form is not Form.OPTION:
            return "50"
        asked[question.key.cell] += 1
        is_right = asked[question.key.cell] <= right[question.key.cell]
        return question.key.right if is_right else wrong(question)

    return agent


counts = st.integers(0, 8)


@settings(deadline=None, max_examples=25)
@given(counts, counts, counts, counts)
def test_mu_stays_in_its_bounds_and_is_monotone(none: int, fact: int, schema: int, mixed: int):
    """E-45: the paper's form leaves [0, 1], and rises with what facts bring."""
    score = measure(
        H_STB, answering(dict(zip(CELLS, (none, fact, schema, mixed), strict=True))), size=8
    ).score
    if none == 8:
        assert score.estimate is None
        assert "nothing to gain" in score.why
        return
    mu = estimate(score)
    assert 0.0 <= (score.low or 0.0) <= mu <= (score.high or 0.0) <= 1.0
    assert mu == pytest.approx(max(0.0, (schema - none) / (8 - none)))
    assert score.parts["roi(fact)"].estimate == pytest.approx((fact - none) / 8)
    assert score.parts["schema_over_fact"].estimate == pytest.approx((schema - fact) / 8)
    assert score.parts["tom(mixed)"].estimate == pytest.approx(0.5 - mixed / 8)


def test_the_papers_form_of_mu_is_not_monotone():
    def papers(schema: float, fact: float) -> float:
        return schema / (schema + 1.0 - fact)

    assert papers(0.5, 0.9) > papers(0.5, 0.5) > papers(0.5, 0.0)
    assert papers(-0.2, 0.9) > 1.0
    grid = list(itertools.product((0, 4, 8), (0, 4, 8)))
    found = {
        (schema, fact): estimate(
            measure(
                H_STB,
                answering({"no message": 2, "schema": schema, "fact": fact, "mixed": 4}),
                size=8,
            ).score
        )
        for schema, fact in grid
    }
    for fact in (0, 4, 8):
        assert found[0, fact] < found[4, fact] < found[8, fact]
    for schema in (0, 4, 8):
        assert len({found[schema, fact] for fact in (0, 4, 8)}) == 1


def test_the_sender_and_the_receiver_are_who_they_are():
    """Whose mu and whose depth it is: the sender's, and the receiver's."""
    good, bad = ScriptedAgent(mu=1.0), ScriptedAgent(mu=0.1)
    assert estimate(measure(H_STB, dyad(good, bad), size=40).score) == 1.0
    assert estimate(measure(H_STB, dyad(bad, good), size=40).score) < 0.5
    shallow = ScriptedAgent(depth=0.4)
    assert holds(measure(H_STB, dyad(good, shallow), size=80).score, 0.4)


def test_messages_that_do_not_come_are_counted_and_read_by_nobody():
    def silent(question: Question) -> str:
        if question.form is Form.TEXT and question.key.cell == "message: schema":
            raise ConnectionError("gone")
        return ScriptedAgent(mu=0.5)(question)

    score, outcomes = measure(H_STB, silent, size=16)
    assert score.estimate is None
    assert "message: schema: 0 of 4" in score.why
    assert score.endings["raised"] == 4
    assert not any(one.question.key.cell == "schema" for one in outcomes)
    assert "roi(fact)" in score.parts
    assert not any("schema" in name for name in score.parts)


def test_one_message_that_does_not_come_leaves_the_others():
    def forgetful(question: Question) -> str:
        if question.key.cell == "message: schema" and question.key.group.startswith("0 "):
            return "  "
        return ScriptedAgent(mu=1.0)(question)

    score = measure(H_STB, forgetful, size=16).score
    assert estimate(score) == 1.0
    assert score.parts["right(schema)"].n == 12
    assert score.parts["right(fact)"].n == 16
    assert score.endings["empty"] == 1


def test_agents_that_cannot_take_part_are_not_measured():
    def refuses(question: Question) -> str:
        raise CannotAnswer("no")

    score, outcomes = measure(H_STB, refuses, size=8)
    assert (score.estimate, score.n, len(outcomes)) == (None, 0, 6 + 8)
    assert "no message: 0 of 8" in score.why
    assert not score.parts


def test_a_constant_answer_transmits_nothing():
    score = measure(H_STB, lambda question: "A", size=80).score
    assert holds(score, 0.0)
    assert estimate(score) < 0.15
    assert not any(name.startswith("tom") for name in score.parts)
