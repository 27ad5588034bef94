"""The loop: what it remembers, keeps, corrects and replays, and what happens when things fail."""

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import numpy as np
import pytest

from sigma_jax.runtime import (
    Constraint,
    ControlPolicy,
    ConversationConflict,
    ConversationRuntime,
    ConversationStore,
    HashedEncoder,
    Identity,
    ListsSteps,
    ModelFailure,
    MostWords,
    PromptBudget,
    RuntimeSettings,
    SigmaRuntime,
    SimulatedModel,
    Stages,
    StoreError,
    calibrate_identity,
    load_scenario,
    parse,
    users_words,
)

PLANNER = Identity(
    "planner",
    "You are a project planning assistant.",
    (Constraint("steps", "Number your steps.", ListsSteps(1, 20)),),
    motifs=("steps", "phased rollout", "risk review"),
)
TALK = (
    "We plan a migration. The database is called Heron.",
    "The deadline is 5 May.",
    "How should we begin?",
    "Actually, the deadline is 9 May.",
    "What is the name of the database?",
    "When is the deadline?",
)


def obedient(prompt):
    """Keeps the constraint, and says what it was asked last."""
    return f"1. You said: {users_words(parse(prompt)[-1].content)[:60]}\n2. Go on with that."


class Recorded:
    """A model that keeps its prompts."""

    def __init__(self, reply=obedient):
        self.prompts, self.reply = [], reply

    def __call__(self, prompt):
        self.prompts.append(prompt)
        return self.reply(prompt)


def traces(runtime):
    """All of a conversation that must be the same in a replay."""
    return [
        (t.number, t.key, t.user_text, t.reply, t.prompt_digest, t.measurement, t.plan, t.state)
        for t in runtime.store.turns(runtime.conversation)
    ]


def test_the_skeleton_of_the_design_works_as_it_is_written():
    runtime = SigmaRuntime(lambda prompt: "1. Make a list of the tables.")
    output = runtime.step("Help me build a 10-step migration plan.")
    assert output == "1. Make a list of the tables."
    assert runtime.state.last_output == output
    assert SigmaRuntime is ConversationRuntime


def test_what_was_said_before_the_window_comes_back_when_it_is_needed():
    model = Recorded()
    settings = RuntimeSettings(budget=PromptBudget(window=60))
    with ConversationRuntime(model, identity=PLANNER, settings=settings) as runtime:
        for text in (*TALK[:2], *(f"We talk of topic number {n}." for n in range(20)), TALK[4]):
            runtime.step(text)
    last = model.prompts[-1]
    assert "Heron" in last
    assert "topic number 3" not in last
    assert len(last) < 2500


def test_a_correction_sticks_and_nothing_is_dropped():
    with ConversationRuntime(model := Recorded(), identity=PLANNER) as runtime:
        for text in TALK:
            runtime.step(text)
        facts = runtime.state.facts
        (current,) = [fact for fact in facts.current() if "deadline" in fact.key]
        assert current.value == "9 May"
        assert [fact.value for fact in facts.history(current.key)] == ["5 May", "9 May"]
        # Far behind the window only what holds is shown.
        for n in range(80):
            runtime.step(f"We talk of the topic {n} for a while, and then of something else.")
        runtime.step("When is the deadline?")
    shown = parse(model.prompts[-1])
    assert any("9 May" in message.content for message in shown)
    assert not any("5 May" in message.content for message in shown)


def test_same_inputs_give_the_same_bytes_and_so_does_a_resumed_conversation(tmp_path):
    scenario = load_scenario()
    texts = [turn.text for turn in scenario.turns[:40]]
    identity = Identity(scenario.identity_name, scenario.identity_description, scenario.constraints)
    calibration = calibrate_identity(
        SimulatedModel(), identity, key=jax.random.key(0), prompts=scenario.calibration_prompts
    )
    about = {"identity": identity, "calibration": calibration}

    def whole(path):
        with ConversationRuntime(SimulatedModel(), store=path, **about) as runtime:
            for text in texts:
                runtime.step(text)
            return traces(runtime)

    first = whole(tmp_path / "one.db")
    assert whole(None) == first
    for text in texts:  # opened anew for each turn
        with ConversationRuntime(SimulatedModel(), store=tmp_path / "two.db", **about) as runtime:
            runtime.step(text)
    with ConversationRuntime(SimulatedModel(), store=tmp_path / "two.db", **about) as runtime:
        assert traces(runtime) == first
        assert runtime.state.number == 40


def test_a_key_is_answered_once():
    model = Recorded()
    with ConversationRuntime(model, identity=PLANNER) as runtime:
        first = runtime.turn("What first?", key="a")
        again = runtime.turn("What first?", key="a")
        assert (again.text, again.number, again.repeated) == (first.text, 1, True)
        assert len(model.prompts) == 1
        with pytest.raises(ValueError, match="key 'a' is of turn 1, with other words"):
            runtime.turn("And then?", key="a")
        assert runtime.turn("And then?", key="b").number == 2


def test_ten_failing_turns_lose_nothing_and_a_retry_doubles_nothing():
    broken = True

    def model(prompt):
        if broken:
            raise RuntimeError("out of order")
        return obedient(prompt)

    with ConversationRuntime(Recorded(model), identity=PLANNER) as runtime:
        runtime_model = runtime.parts.model
        for n in range(10):
            with pytest.raises(ModelFailure, match="out of order"):
                runtime.step(f"The colour of house {n} is hue{n}.", key=f"k{n}")
        result = runtime.turn("The colour of house 3 is hue3.", key="k3")
        assert (result.failure, result.text) == ("raised", "")
        broken = False
        result = runtime.turn("The colour of house 3 is hue3.", key="k3")
        assert result.failure is None
        turns = runtime.store.turns(runtime.conversation)
        assert [turn.number for turn in turns] == list(range(1, 13))
        assert turns[-1].retry_of == 11
        assert {fact.value for fact in runtime.state.facts.current()} >= {
            f"hue{n}" for n in range(10)
        }
        assert len(runtime.parts.memories) == 10
        assert [e.number for e in runtime.state.window if "hue3" in e.user] == [12]
        assert runtime_model.name


def test_a_reply_that_breaks_a_hard_constraint_is_asked_for_once_more():
    def model(prompt):
        reminded = "Number your steps." in parse(prompt)[-1].content
        return "1. One step." if reminded else "no steps at all"

    with ConversationRuntime(seen := Recorded(model), identity=PLANNER) as runtime:
        result = runtime.turn("What first?")
        assert result.text == "1. One step."
        assert "regenerated" in result.flags
        assert len(seen.prompts) == 2
        # It broke the constraint by itself, so the next prompts bring it at once.
        runtime.turn("What next?")
        assert len(seen.prompts) == 3


def test_observing_sends_what_it_would_send_without_corrections():
    def model(prompt):
        return "no steps at all"

    settings = RuntimeSettings(policy=ControlPolicy(observe_only=True))
    with ConversationRuntime(seen := Recorded(model), identity=PLANNER, settings=settings) as run:
        results = [run.turn(text) for text in TALK]
    assert len(seen.prompts) == len(TALK)
    assert not any("Reminder:" in prompt for prompt in seen.prompts)
    assert results[-1].plan["applied"] is False
    assert results[-1].plan["reminded"] == ["steps"]


@pytest.mark.parametrize(
    ("reply", "flag"),
    [
        ("", "empty"),
        ("Begin with the list. It is short.\n```\nmake test", "truncated"),
        ("1. word\n" * 700_000, "oversized"),
        (
            "1. Das ist nicht die Sprache, die wir hier sprechen, und es ist auch nicht gut, wenn "
            "der Plan in einer anderen Sprache steht, weil das Team ihn dann nicht lesen kann.",
            "other language",
        ),
    ],
)
def test_a_reply_that_cannot_stand_is_flagged_and_kept(reply, flag):
    with ConversationRuntime(lambda prompt: reply, identity=PLANNER) as runtime:
        result = runtime.turn("What first?")
        assert flag in result.flags
        assert "regenerated" in result.flags
        (turn,) = runtime.store.turns(runtime.conversation)
        assert flag in turn.flags
        assert len(turn.reply.encode()) <= 64 * 1024
        assert bool(turn.measurement["missing"]) == (flag == "empty")


def test_pieces_are_shown_live_or_once_they_stand():
    pieces = []
    with ConversationRuntime(obedient, identity=PLANNER) as runtime:
        text = runtime.step("What first?", on_piece=pieces.append)
    assert "".join(pieces) == text
    live = []
    settings = RuntimeSettings(policy=ControlPolicy(regenerations=0))
    with ConversationRuntime(obedient, identity=PLANNER, settings=settings) as runtime:
        text = runtime.step("What first?", on_piece=live.append)
    assert "".join(live) == text


def test_any_stage_may_be_replaced():
    def shouting(turn, parts):
        turn = Stages().check_reply(turn, parts)
        return turn._replace(reply=turn.reply.upper())

    stages = dataclasses.replace(Stages(), check_reply=shouting)
    with ConversationRuntime(lambda prompt: "yes, that is right", stages=stages) as runtime:
        assert runtime.step("Is it?") == "YES, THAT IS RIGHT"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "user_input must be a text that is not empty"),
        (" \n", "user_input must be a text that is not empty"),
        ("a" * 70_000, "the size of user_input in bytes must lie in"),
        ("\ud800", "user_input must be Unicode text"),
        (None, "user_input must be a text"),
    ],
)
def test_words_that_are_none_are_refused_and_leave_no_trace(words, message):
    with ConversationRuntime(obedient) as runtime:
        with pytest.raises(ValueError, match=message):
            runtime.step(words)
        assert runtime.store.turns(runtime.conversation) == ()
        assert runtime.store.unfinished(runtime.conversation) == ()


def test_another_identity_encoder_or_calibration_is_never_taken_silently(tmp_path):
    path = tmp_path / "c.db"
    with ConversationRuntime(obedient, identity=PLANNER, store=path) as runtime:
        runtime.step("What first?")
    other = dataclasses.replace(PLANNER, description="You are a pirate.")
    with pytest.raises(StoreError, match="identity"):
        ConversationRuntime(obedient, identity=other, store=path)
    with pytest.raises(StoreError, match="encoder"):
        ConversationRuntime(obedient, identity=PLANNER, store=path, encoder=HashedEncoder(64))
    with ConversationRuntime(obedient, identity=PLANNER, store=path) as runtime:
        assert runtime.state.number == 1


def test_two_processes_at_one_conversation_lose_and_double_nothing(tmp_path):
    path = tmp_path / "c.db"
    with ConversationRuntime(obedient, identity=PLANNER, store=path) as one:
        one.step("What first?")
        with ConversationRuntime(obedient, identity=PLANNER, store=path) as other:
            other.step("What second?")
        with pytest.raises(ConversationConflict, match="turn 2"):
            one.step("What third?")
        one.reload()
        one.step("What third?")
        texts = [turn.user_text for turn in one.store.turns(one.conversation)]
    assert texts == ["What first?", "What second?", "What third?"]


def test_threads_at_one_conversation_take_turns():
    with ConversationRuntime(obedient, identity=PLANNER) as runtime:
        threads = [
            threading.Thread(target=runtime.step, args=(f"What about {n}?",)) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        turns = runtime.store.turns(runtime.conversation)
    assert [turn.number for turn in turns] == list(range(1, 9))
    assert {turn.user_text for turn in turns} == {f"What about {n}?" for n in range(8)}


def test_a_kill_between_call_and_commit_leaves_an_attempt_and_no_turn(tmp_path):
    path = tmp_path / "c.db"
    program = (
        "import os, signal, sys\n"
        "from sigma_jax.runtime import ConversationRuntime\n"
        "def model(prompt):\n"
        "    if 'second' in prompt: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return '1. This.'\n"
        "with ConversationRuntime(model, store=sys.argv[1]) as runtime:\n"
        "    runtime.step('What first?', key='a')\n"
        "    runtime.step('What second?', key='b')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"},
    )
    assert ended.returncode == -signal.SIGKILL
    with ConversationRuntime(lambda prompt: "1. This.", store=path) as runtime:
        assert runtime.state.number == 1
        ((number, key, words),) = runtime.store.unfinished(runtime.conversation)
        assert (number, key, words) == (2, "b", "What second?")
        assert runtime.turn(words, key=key).number == 2
        assert runtime.store.unfinished(runtime.conversation) == ()


def test_a_calibrated_monitor_sees_an_identity_that_is_lost():
    """The replies of another persona alarm; the same replies under a command do not."""

    def model(persona):
        def reply(prompt):
            words = users_words(parse(prompt)[-1].content)
            own = "You are Ada" in prompt and persona[0] == "Ada"
            n = sum(map(ord, words)) % 7
            if own:
                return f"Step {n}; then check the log; then sign; nothing else for item {n + 2}."
            return (
                f"**Wow!** I'm so happy you asked about {words[:9]}!\n- I love it!\n- Number {n}!"
            )

        return reply

    persona = ["Ada"]
    ada = Identity(
        "Ada", "You are Ada, terse and calm.", (Constraint("s", "Be short.", MostWords(90)),)
    )
    calibration = calibrate_identity(model(persona), ada, key=jax.random.key(1))
    with ConversationRuntime(model(persona), identity=ada, calibration=calibration) as runtime:
        for n in range(30):
            assert not runtime.turn(f"What about item {n} of the list?").measurement["alarm"]
        persona[0] = "nobody"
        alarms = [runtime.turn(f"And what of point {n}?").measurement["alarm"] for n in range(10)]
        assert any(alarms)
        assert runtime.state.signals.alarmed
    with ConversationRuntime(model(persona), identity=ada, calibration=calibration) as runtime:
        persona[0] = "Ada"
        for n in range(10):
            runtime.turn(f"What about item {n} of the list?")
        persona[0] = "nobody"
        first = runtime.turn("From now on, talk like an excited pirate.")
        alarms = [runtime.turn(f"And what of point {n}?").measurement["alarm"] for n in range(10)]
        assert first.measurement["kind"] == "style command"
        assert not any(alarms)


def test_a_store_may_hold_many_conversations(tmp_path):
    with ConversationStore(tmp_path / "c.db") as store:
        for name in ("a", "b"):
            with ConversationRuntime(obedient, store=store, conversation=name) as runtime:
                runtime.step(f"Hello from {name}.")
        assert store.conversations() == ("a", "b")
        assert [t.user_text for t in store.turns("b")] == ["Hello from b."]


def test_a_calibration_of_other_constraints_is_refused():
    calibration = calibrate_identity(obedient, PLANNER, key=jax.random.key(0))
    with pytest.raises(ValueError, match="calibration must be of the identity's 0 constraints"):
        ConversationRuntime(obedient, calibration=calibration)
    assert np.isfinite(np.asarray(calibration.power)).all()
