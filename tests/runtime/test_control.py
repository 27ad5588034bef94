"""The ladder of corrections, step by step."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import (
    ControlPolicy,
    ControlState,
    Level,
    Signals,
    after_turn,
    control_from_json,
    in_force,
    plan_turn,
    reminder_text,
)

POLICY = ControlPolicy(remind_for=3, patience=4, cooldown=6, quarantine_after=2, quarantine_for=5)
WORDS = {"short": "Use at most 60 words.", "steps": "Number your steps."}
SIGNALS = st.builds(
    Signals,
    warned=st.booleans(),
    alarmed=st.booleans(),
    began=st.booleans(),
    crystallised=st.booleans(),
    violated=st.lists(st.sampled_from(sorted(WORDS)), unique=True).map(tuple),
    memories=st.lists(st.integers(1, 4), unique=True).map(tuple),
)


def run(signals, policy=POLICY, state=ControlState()):
    plans = []
    for each in signals:
        plan, state = plan_turn(policy, state, each)
        plans.append(plan)
    return plans, state


def test_a_calm_conversation_costs_nothing():
    plans, _ = run([Signals()] * 20)
    assert {plan.level for plan in plans} == {Level.NONE}
    assert {reminder_text(plan, WORDS, "You are Ada.", ()) for plan in plans} == {""}


def test_a_broken_constraint_is_reminded_of_for_a_while():
    plans, _ = run([Signals(violated=("steps",)), *[Signals()] * 4])
    assert [plan.reminded for plan in plans] == [("steps",)] * 3 + [()] * 2
    assert reminder_text(plans[0], WORDS, "You are Ada.", ()) == "Number your steps."


def test_a_warning_brings_the_motifs_and_an_alarm_the_identity():
    (warned, alarmed), _ = run([Signals(warned=True), Signals(warned=True, alarmed=True)])
    assert warned.level is Level.REMIND
    assert reminder_text(warned, WORDS, "You are Ada.", ("risk",)) == "Keep to: risk."
    assert alarmed.level is Level.RESTATE
    assert reminder_text(alarmed, WORDS, "You are Ada.", ()) == "You are Ada."


def test_an_alarm_that_lasts_rebuilds_once_and_rests():
    plans, _ = run([Signals(alarmed=True)] * 12)
    rebuilt = [turn for turn, plan in enumerate(plans) if plan.level is Level.REBUILD]
    # At the fourth turn, then not before six turns of rest and four of alarm.
    assert rebuilt == [3, 10]


def test_memories_before_alarms_are_left_out_for_a_while():
    began = Signals(alarmed=True, began=True, memories=(7, 9))
    plans, _ = run([began, began._replace(memories=(7,)), *[Signals()] * 6])
    assert [plan.quarantined for plan in plans] == [(), *[(7,)] * 5, (), ()]


def test_alike_replies_are_asked_for_in_another_form_each_time():
    plans, _ = run([Signals(crystallised=True)] * 4)
    assert len({plan.variation for plan in plans[:3]}) == 3
    assert plans[0].variation == plans[3].variation


def test_regeneration_has_a_budget():
    policy, state = ControlPolicy(regenerated_share=0.25), ControlState()
    again = 0
    for _ in range(100):
        plan, state = plan_turn(policy, state, Signals())
        again += plan.may_regenerate
        state = after_turn(state, plan.may_regenerate > 0)
    assert again == 2 + 24


@given(st.lists(SIGNALS, max_size=30))
def test_observing_changes_nothing_and_says_what_it_would_do(signals):
    plans, _ = run(signals, ControlPolicy(observe_only=True))
    would, _ = run(signals, ControlPolicy())
    for plan, other in zip(plans, would, strict=True):
        assert plan[:-1] == other[:-1]
        quiet = in_force(plan)
        assert quiet.level is Level.NONE
        assert quiet.may_regenerate == 0
        assert quiet.reasons == other.reasons
        assert reminder_text(quiet, WORDS, "You are Ada.", ()) == ""


@given(st.lists(SIGNALS, max_size=30))
def test_the_state_survives_json(signals):
    _, state = run(signals)
    assert control_from_json(json.loads(json.dumps(state.to_json()))) == state


@pytest.mark.parametrize(
    ("field", "value"), [("regenerations", 3), ("patience", 0), ("regenerated_share", 1.5)]
)
def test_a_policy_out_of_range_is_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} must lie in"):
        ControlPolicy(**{field: value})
