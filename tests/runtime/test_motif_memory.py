"""Motifs against a memory that replays every turn from the beginning."""

import json
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import MotifMemory, Symbol

HERON = (Symbol("heron", 1.0),)
turns = st.lists(
    st.tuples(
        st.integers(0, 6),  # turns since the last
        st.sampled_from(["user", "assistant"]),
        st.dictionaries(st.sampled_from("abcde"), st.floats(0.1, 2.0), max_size=4),
    ),
    max_size=40,
)


def remembered(history):
    memory, turn = MotifMemory(), 0
    for gap, role, weights in history:
        turn += gap
        memory = memory.update([Symbol(*each) for each in weights.items()], turn, role=role)
    return memory


def replayed(history, role, now):
    """Decays every turn; every hit of the last 20 turns is counted."""
    activations, hits = defaultdict(float), defaultdict(set)
    turn = 0
    timeline = defaultdict(list)
    for gap, speaker, weights in history:
        turn += gap
        if speaker == role:
            timeline[turn].append(weights)
    for turn in range(now + 1):
        for name in activations:
            activations[name] *= 0.98
        for weights in timeline[turn]:
            for name, weight in weights.items():
                activations[name] += weight
                hits[name].add(turn)
    recent = {name: [each for each in seen if each > now - 20] for name, seen in hits.items()}
    return {name: activations[name] for name, seen in recent.items() if len(seen) >= 3}


@given(turns, st.integers(0, 25), st.sampled_from(["user", "assistant"]))
def test_active_motifs_are_those_of_a_replay(history, later, role):
    memory = remembered(history)
    now = memory.turn + later
    found = memory.active(now, 99, role=role)
    expected = replayed(history, role, now)
    assert {motif.name for motif in found} == set(expected)
    activations = [motif.activation_at(now) for motif in found]
    assert activations == sorted(activations, reverse=True)
    assert activations == pytest.approx([expected[motif.name] for motif in found], rel=1e-12)


@given(turns)
def test_json_gives_the_memory_back_exactly(history):
    memory = remembered(history).quarantine('ä\n"', 10_000)
    text = memory.to_json()
    again = MotifMemory.from_json(text)
    assert again == memory
    assert again.to_json() == text
    assert again.update(HERON, 10_001) == memory.update(HERON, 10_001)


def test_roles_are_kept_apart():
    memory = MotifMemory()
    for turn in range(1, 4):
        memory = memory.update(HERON, turn).update((Symbol("owl", 1.0),), turn, role="assistant")
    assert [motif.name for motif in memory.active(3)] == ["heron"]
    assert [motif.name for motif in memory.active(3, role="assistant")] == ["owl"]


def test_three_turns_make_a_motif_and_twenty_forget_it():
    memory = MotifMemory().update(HERON, 1).update(HERON, 1).update(HERON, 5)
    assert memory.active(5) == ()  # twice in one turn is one turn
    memory = memory.update(HERON, 9)
    assert len(memory.active(20)) == 1
    assert memory.active(21) == ()


def test_an_activation_by_hand():
    memory = MotifMemory()
    for turn, weight in ((1, 1.0), (3, 0.5), (9, 2.0)):
        memory = memory.update([Symbol("heron", weight)], turn)
    (motif,) = memory.active(12)
    assert motif.activation_at(12) == pytest.approx(0.98**11 + 0.5 * 0.98**9 + 2 * 0.98**3)


def test_what_is_quarantined_is_not_active_for_so_many_turns():
    memory = MotifMemory()
    for turn in range(1, 31):
        memory = memory.update(HERON, turn)
        if turn == 5:
            memory = memory.quarantine("heron", 5, 10).quarantine("heron", 5, 2)
        assert bool(memory.active(turn)) == (turn in (3, 4) or turn > 15)
    assert memory.quarantined == ()


def test_of_equals_the_first_by_name_are_kept():
    many = [Symbol(f"w{number:03}", 1.0) for number in range(300)]
    memory = MotifMemory().update(many[::-1], 1)
    assert [motif.name for motif in memory.motifs] == [f"w{number:03}" for number in range(256)]
    memory = memory.update((Symbol("z", 1.0),), 2)  # the others have decayed
    assert len(memory.motifs) == 256
    assert {"z", "w254"} <= {motif.name for motif in memory.motifs}
    assert "w255" not in {motif.name for motif in memory.motifs}


def test_an_update_changes_nothing_before():
    memory = MotifMemory().update(HERON, 1)
    before = memory.to_json()
    memory.update(HERON, 2)
    memory.quarantine("heron", 2)
    assert memory.to_json() == before


def test_bad_arguments_are_named():
    memory = MotifMemory().update(HERON, 4)
    with pytest.raises(ValueError, match=r"turn must lie in \[4, inf\); got 3"):
        memory.update(HERON, 3)
    with pytest.raises(ValueError, match="role must be one of user, assistant; got 'system'"):
        memory.update(HERON, 5, role="system")
    with pytest.raises(ValueError, match="most must lie in"):
        memory.active(5, 0)
    with pytest.raises(ValueError, match="turns must lie in"):
        memory.quarantine("heron", 5, 0)


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        "{}",
        '{"motifs":[],"quarantined":[]}',
        '{"motifs":[["user","a",1.0,[]]],"quarantined":[],"turn":1}',
        '{"motifs":[["user","a",1.0,[2]]],"quarantined":[],"turn":1}',
        '{"motifs":[["owl","a",1.0,[1]]],"quarantined":[],"turn":1}',
        '{"motifs":[["user","a",NaN,[1]]],"quarantined":[],"turn":1}',
        '{"motifs":[["user","a"]],"quarantined":[],"turn":1}',
    ],
)
def test_a_damaged_memory_is_refused(damaged):
    with pytest.raises(ValueError, match="text must be a MotifMemory as to_json writes it"):
        MotifMemory.from_json(damaged)


def test_json_is_plain():
    record = json.loads(MotifMemory().update(HERON, 2).to_json())
    assert record == {"motifs": [["user", "heron", 1.0, [2]]], "quarantined": [], "turn": 2}
