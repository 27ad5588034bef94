"""Asking: whatever an agent does is counted, and only an answer can be right or wrong."""

import math
import threading
import time
from collections.abc import Iterator

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from sigma_jax.faculties import (
    CannotAnswer,
    Ending,
    Form,
    Key,
    Question,
    as_sentence,
    ask,
    count_calls,
    count_endings,
    option_question,
    percent_question,
    scoring_agent,
    sentence_question,
    source_agent,
    text_agent,
    text_question,
)

OPTIONS = ("I_WALK", "I_WALK I_WALK", "I_TURN_LEFT I_WALK")
CHOICE = option_question("walk twice =", OPTIONS, Key("cell", OPTIONS[1], source="walk twice"))
WORDS = sentence_question("walk twice =", Key("cell", "I_WALK I_WALK", source="walk twice"))
PERCENT = percent_question("How many per cent?", Key("cell"))
MESSAGE = text_question("Explain.", Key("cell"))


def outcome(question: Question, reply: object):
    (one,) = ask(lambda asked: reply, [question])  # pyright: ignore[reportArgumentType]
    return one


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("B", OPTIONS[1]),
        (" (b). ", OPTIONS[1]),
        ("B) I_WALK I_WALK", OPTIONS[1]),
        ("I_WALK  I_WALK\n", OPTIONS[1]),
        ("I would say that option C is right.", OPTIONS[2]),
        ("It means I_WALK I_WALK.", OPTIONS[1]),
        ("A and B are both thinkable.\nAnswer: B", OPTIONS[1]),
        ("**Answer:** A", OPTIONS[0]),
        ("**The answer is: C**", OPTIONS[2]),
        ("Answer:\nC", OPTIONS[2]),
        ("Answer: B\nAnswer: (B)", OPTIONS[1]),
        ([0.1, 0.7, 0.2], OPTIONS[1]),
        (np.array([-3.0, -2.0, -math.inf]), OPTIONS[1]),
        (["B", "I_WALK I_WALK"], OPTIONS[1]),
    ],
)
def test_one_option(reply: object, answer: str):
    one = outcome(CHOICE, reply)
    assert one.ending is Ending.ANSWERED, one
    assert one.answer == answer
    assert one.right == (answer == OPTIONS[1])


@pytest.mark.parametrize(
    ("question", "reply", "ending"),
    [
        (CHOICE, "Answer: A\nAnswer: B", Ending.SEVERAL),
        (CHOICE, "It is (A) or (B).", Ending.SEVERAL),
        (CHOICE, "I_WALK, or I_TURN_LEFT I_WALK", Ending.SEVERAL),
        (CHOICE, ["A", "B"], Ending.SEVERAL),
        (CHOICE, [0.5, 0.5, 0.0], Ending.SEVERAL),
        (CHOICE, "D", Ending.UNREADABLE),
        (CHOICE, "I_RUN", Ending.UNREADABLE),
        (CHOICE, [0.5, 0.5], Ending.UNREADABLE),
        (CHOICE, [0.5, math.nan, 0.0], Ending.UNREADABLE),
        (CHOICE, [0.5, "B", 0.0], Ending.UNREADABLE),
        (CHOICE, 1, Ending.UNREADABLE),
        (CHOICE, b"B", Ending.UNREADABLE),
        (CHOICE, [[0.5, 0.1, 0.1]], Ending.UNREADABLE),
        (CHOICE, "", Ending.EMPTY),
        (CHOICE, " \n", Ending.EMPTY),
        (CHOICE, [], Ending.EMPTY),
        (CHOICE, None, Ending.UNREADABLE),
        (WORDS, "", Ending.EMPTY),
        (WORDS, "I_WALK I_WALK\nI_WALK", Ending.SEVERAL),
        (WORDS, [1.0, 0.0], Ending.UNREADABLE),
        (PERCENT, "between 70 and 80", Ending.SEVERAL),
        (PERCENT, "most of them", Ending.UNREADABLE),
        (PERCENT, "120", Ending.UNREADABLE),
        (PERCENT, "Answer: -5", Ending.UNREADABLE),
    ],
)
def test_what_is_no_answer_is_neither_right_nor_wrong(
    question: Question, reply: object, ending: Ending
):
    one = outcome(question, reply)
    assert one.ending is ending
    assert one.why
    assert not one.answered
    assert not one.answer
    assert not one.right


def test_sentences_numbers_and_messages_are_read():
    assert outcome(WORDS, " I_WALK\tI_WALK \n").right
    wrong = outcome(WORDS, "I_WALK")
    assert wrong.answered
    assert not wrong.right
    assert outcome(WORDS, "Thinking of it ...\nAnswer: I_WALK I_WALK").right
    assert outcome(PERCENT, "About 72.5 %.").answer == "72.5"
    assert outcome(MESSAGE, "one line\nand another").answer == "one line\nand another"


@given(st.one_of(st.text(), st.lists(st.floats()), st.lists(st.text()), st.binary(), st.none()))
def test_no_reply_is_an_error(reply: object):
    for question in (CHOICE, WORDS, PERCENT, MESSAGE):
        one = outcome(question, reply)
        assert one.answered == (not one.why)
        if question is CHOICE and one.answered:
            assert one.answer in OPTIONS


def test_errors_are_counted_and_the_next_question_is_asked():
    def agent(question: Question) -> str:
        if question is CHOICE:
            raise KeyError("weights")
        if question is WORDS:
            raise CannotAnswer("unknown words: twice")
        if question is MESSAGE:
            raise SystemExit(3)
        return "50"

    said = ask(agent, [CHOICE, WORDS, MESSAGE, PERCENT])
    assert [one.ending.value for one in said] == ["raised", "declined", "raised", "answered"]
    assert "weights" in said[0].why
    assert "twice" in said[1].why
    assert count_endings(said) == {"answered": 1, "declined": 1, "raised": 2}


def test_what_takes_too_long_is_left_to_itself():
    release, running = threading.Event(), threading.active_count()

    def agent(question: Question) -> str:
        if question is CHOICE:
            release.wait(60.0)
        return "I_WALK I_WALK"

    began = time.monotonic()
    said = ask(agent, [CHOICE, WORDS], seconds=0.2)
    assert time.monotonic() - began < 5.0
    assert [one.ending for one in said] == [Ending.TOO_LATE, Ending.ANSWERED]
    assert said[0].seconds >= 0.2
    assert "0.2 seconds" in said[0].why
    release.set()
    deadline = time.monotonic() + 5.0
    while threading.active_count() > running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == running


def test_no_more_threads_than_allowed_hang():
    release, asked = threading.Event(), []

    def agent(question: Question) -> str:
        asked.append(question)
        release.wait(60.0)
        return "A"

    said = ask(agent, [CHOICE] * 6, seconds=0.02, most_late=2)
    release.set()
    assert count_endings(said) == {"too late": 2, "not asked": 4}
    assert len(asked) == 2
    assert count_calls(said).questions == 2


def test_calls_are_counted():
    ticks: Iterator[float] = iter(range(0, 100, 2))
    done: list[int] = []
    said = ask(
        text_agent(lambda prompt: "B"),
        [CHOICE, WORDS],
        clock=lambda: float(next(ticks)),
        progress=done.append,
    )
    calls = count_calls(said)
    assert calls == (2, len(CHOICE.prompt) + len(WORDS.prompt), 2, 4.0)
    assert done == [1, 2]


def test_agents_are_shown_what_is_theirs():
    seen: list[object] = []

    def remember(*shown: object) -> str:
        seen.extend(shown)
        return "A"

    text_agent(remember)(CHOICE)
    source_agent(remember)(CHOICE)
    scoring_agent(lambda prompt, options: [float(bool(remember(options)))])(CHOICE)
    assert seen == [CHOICE.prompt, "walk twice", OPTIONS]
    assert "C) I_TURN_LEFT I_WALK" in CHOICE.prompt
    with pytest.raises(CannotAnswer):
        scoring_agent(lambda prompt, options: [])(WORDS)
    with pytest.raises(CannotAnswer):
        source_agent(remember)(PERCENT)


def test_a_choice_without_its_options():
    words = as_sentence(CHOICE)
    assert words.form is Form.SENTENCE
    assert not words.options
    assert "I_WALK" not in words.prompt
    assert outcome(words, "I_WALK I_WALK").right
    with pytest.raises(ValueError, match="choice"):
        as_sentence(WORDS)


def test_bad_questions_are_refused():
    with pytest.raises(ValueError, match="prompt"):
        percent_question(" ", Key("cell"))
    with pytest.raises(ValueError, match=r"key\.right"):
        sentence_question("Say it.", Key("cell"))
    with pytest.raises(ValueError, match="number of options"):
        option_question("Choose.", ["a"], Key("cell", "a"))
    with pytest.raises(ValueError, match="different"):
        option_question("Choose.", ["a b", "a  b"], Key("cell", "a b"))
    with pytest.raises(ValueError, match=r"key\.right"):
        option_question("Choose.", ["a", "b"], Key("cell", "c"))
    with pytest.raises(ValueError, match=r"key\.surface"):
        option_question("Choose.", ["a", "b"], Key("cell", "a", surface="c"))
    with pytest.raises(ValueError, match="seconds"):
        ask(lambda question: "A", [CHOICE], seconds=0.0)
    with pytest.raises(ValueError, match="most_late"):
        ask(lambda question: "A", [CHOICE], most_late=0)
