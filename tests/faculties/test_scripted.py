"""Scripted agents do what their faculties say, as often as these say."""

import pytest

from sigma_jax.faculties import (
    Key,
    Question,
    ScriptedAgent,
    ask,
    option_question,
    percent_question,
    sentence_question,
    text_question,
)
from sigma_jax.statistics import binomial

MANY = 2_000


def many(key: Key, options: tuple[str, ...] = ()) -> list[Question]:
    if options:
        return [option_question(f"Question {n}", options, key) for n in range(MANY)]
    return [sentence_question(f"Question {n}", key) for n in range(MANY)]


def share(agent: ScriptedAgent, questions: list[Question], answer: str) -> float:
    said = [agent(question) for question in questions]
    letters = "ABCD"
    wanted = letters[questions[0].options.index(answer)] if questions[0].options else answer
    return sum(one == wanted for one in said)


def goes_with(hits: float, chance: float) -> bool:
    return binomial(int(hits), MANY, chance).p_value > 1e-3


def test_chances_are_those_of_the_faculties():
    agent = ScriptedAgent(sigma=0.5, depth=0.8, alpha=0.7, xi=0.6, seed=3)
    key = Key("cell", "a b")
    assert goes_with(share(agent, many(key), "a b"), 0.8)
    assert goes_with(share(agent, many(key._replace(structure=1.0)), "a b"), 0.4)
    assert goes_with(share(agent, many(key._replace(structure=2.0)), "a b"), 0.2)
    assert goes_with(share(agent, many(key, ("a b", "c", "d", "e")), "a b"), 0.8 + 0.2 / 4)
    conflict = key._replace(surface="c")
    assert goes_with(share(agent, many(conflict), "c"), 0.3)
    assert goes_with(share(agent, many(conflict), "a b"), 0.7 * 0.8)
    hinted = key._replace(hint="d")
    assert goes_with(share(agent, many(hinted), "d"), 0.4)
    assert goes_with(share(agent, many(hinted), "a b"), 0.6 * 0.8)


def test_retrieval_and_what_was_told():
    agent = ScriptedAgent(sigma=0.5, depth=0.8, retrieval=-0.3)
    key = Key("cell", "a b", structure=1.0)
    assert agent.chance_of(key._replace(context=True)) == pytest.approx(0.1)
    assert agent.chance_of(key._replace(context=True, structure=9.0)) == 0.0
    told = key._replace(helped_by="The rule.")
    with_rule = [sentence_question(f"The rule. Question {n}", told) for n in range(MANY)]
    assert goes_with(share(agent, with_rule, "a b"), 0.8)
    assert goes_with(share(agent, many(told), "a b"), 0.4)


def test_predictions_and_messages():
    key = Key("cell", structure=1.0)
    said = [
        ScriptedAgent(sigma=0.5, zeta=zeta)(percent_question("How many?", key))
        for zeta in (-1.0, -0.2, 0.0, 0.3, 0.9)
    ]
    assert [float(one) for one in said] == [0.0, 30.0, 50.0, 80.0, 100.0]
    statements = tuple(f"Statement {n}." for n in range(MANY))
    message = ScriptedAgent(mu=0.3)(text_question("Explain.", Key("cell", tells=statements)))
    assert goes_with(len(set(message.splitlines()) & set(statements)), 0.3)
    assert ScriptedAgent(mu=0.0)(text_question("Explain.", Key("cell", tells=statements))).strip()


@pytest.mark.parametrize("name", ["sigma", "alpha", "depth", "xi"])
def test_raising_a_faculty_never_makes_a_right_answer_wrong(name: str):
    key = Key("cell", "a", surface="b", hint="c", structure=1.0)
    for options in ((), ("a", "b", "c", "d")):
        questions = many(key, options)[:200]
        before: set[str] = set()
        for value in (0.0, 0.3, 0.6, 0.9, 1.0):
            others = {"sigma": 0.7, "alpha": 0.7, "depth": 0.9, "xi": 0.7}
            agent = ScriptedAgent(**{**others, name: value})  # pyright: ignore[reportArgumentType]
            now = {one.question.prompt for one in ask(agent, questions) if one.right}
            assert before <= now
            before = now


def test_what_is_wrong_is_never_right():
    agent = ScriptedAgent(depth=0.0)
    for right in ("a", "a a", "a b a", "a b"):
        assert agent(sentence_question("Say it.", Key("cell", right))) != right


def test_answers_depend_on_seed_and_question_alone():
    questions = many(Key("cell", "a"), ("a", "b"))[:50]

    def answers(seed: int, order: int = 1) -> list[str]:
        agent = ScriptedAgent(sigma=0.5, depth=0.5, seed=seed)
        return [agent(question) for question in questions[::order]][::order]

    assert answers(0) == answers(0, order=-1)
    assert answers(0) != answers(1)


def test_a_faculty_out_of_range_is_refused():
    for name, value in (("sigma", 1.1), ("mu", -0.1), ("zeta", 1.5), ("retrieval", -2.0)):
        with pytest.raises(ValueError, match=name):
            ScriptedAgent(**{name: value})  # pyright: ignore[reportArgumentType]
