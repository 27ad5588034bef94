"""A view says what the store holds, all of it as JSON, and the same for a running conversation."""

import json

import numpy as np
import pytest

from sigma_jax.runtime import (
    Constraint,
    ConversationRuntime,
    ConversationStore,
    FactBook,
    Forbids,
    Identity,
    Memory,
    ModelFailure,
    MonitorParameters,
    MotifMemory,
    Symbol,
    TurnRecord,
    alarms_of,
    conversation_view,
    extract_facts,
    watched_note,
)

IDENTITY = Identity(
    "Tally",
    "You plan.",
    (
        Constraint("calm", "No exclamation marks.", Forbids(("!",))),
        Constraint("plain", "Never say magic.", Forbids(("magic",))),
    ),
)
PARAMETERS = MonitorParameters(
    anchor=np.zeros(3),
    default=np.zeros(3),
    persistence=np.full(2, 0.5),
    process_noise=np.ones(2),
    observation_noise=np.ones(2),
    contrast_limit=np.array([2.0, np.inf]),
    departure_limit=np.array([4.0, 5.0]),
    constraint_limit=np.array([3.0, 3.5]),
    violated=np.ones(2),
    kept=-np.ones(2),
    style_size=2,
)


def recorded() -> ConversationStore:
    """A conversation of three turns and an attempt: corrected, alarmed, failed, unfinished."""
    store = ConversationStore()
    store.require_meta("c", encoder="hashed", identity="digest")
    store.note_meta("c", name="Tally", model="m", **watched_note(IDENTITY, PARAMETERS))
    book = FactBook().add(extract_facts("The database is called Heron.", 1))
    motifs = MotifMemory()
    for turn in (1, 2, 3):
        motifs = motifs.update([Symbol("copy", 1.0)], turn)
    store.begin("c", 1, "k1", "The database is called Heron.")
    store.commit(
        TurnRecord("c", 1, "k1", "The database is called Heron.", "Noted.", prompt_tokens=7),
        [Memory(0, 1, "user", "The database is called Heron.")],
        np.ones((1, 4)),
        book.changes(FactBook()),
    )
    later = book.add(extract_facts("Actually, the database is called Kestrel.", 2))
    plan = {"level": "RESTATE", "reasons": ["in alarm"], "reminder": "You plan.", "applied": True}
    measured = dict(
        phase="RECOVERY",
        stability=0.25,
        drift_index=0.5,
        alarm=True,
        missing=False,
        contrast=[2.5, 0.0],
        departure=[1.0, 6.0],
        constraints=[0.0, 4.0],
        contrast_alarm=[True, False],
        departure_alarm=[False, True],
        constraint_alarm=[False, True],
        violated=["plain"],
        drafted=["plain", "calm"],
        hits=[[0, 1, 0.5]],
        sent_tokens=40,
    )
    store.commit(
        TurnRecord(
            "c",
            2,
            "k2",
            "Actually, the database is called Kestrel.",
            "Magic.",
            flags=("regenerated",),
            attempts=2,
            plan=plan,
            measurement=measured,
        ),
        facts=later.changes(book),
    )
    store.commit(TurnRecord("c", 3, "k3", "More.", failure="timeout"))
    store.commit(TurnRecord("c", 4, "k3", "More.", "Yes.", motifs=motifs.update([], 4).to_json()))
    store.begin("c", 5, "k5", "And then?")
    return store


def test_a_view_says_what_the_store_holds() -> None:
    view = conversation_view(recorded(), "c")
    assert json.loads(json.dumps(view, allow_nan=False)) == view
    about = ("conversation", "identity", "model", "encoder", "channels")
    assert [view[name] for name in about] == ["c", "Tally", "m", "hashed", ["style", "content"]]
    assert view["watched"] == {
        "constraints": ["calm", "plain"],
        "sizes": [2, 1],
        "limits": {"contrast": [2.0, None], "departure": [4.0, 5.0], "constraints": [3.0, 3.5]},
    }
    assert [turn["number"] for turn in view["turns"]] == [1, 2, 3, 4]
    second = view["turns"][1]
    assert (second["user"], second["reply"]) == (
        "Actually, the database is called Kestrel.",
        "Magic.",
    )
    assert second["alarms"] == ["style contrast", "content departure", "constraint plain"]
    assert (second["phase"], second["stability"], second["drift_index"]) == ("RECOVERY", 0.25, 0.5)
    assert (second["contrast"], second["departure"]) == ([2.5, 0.0], [1.0, 6.0])
    assert second["hits"] == [{"turn": 1, "score": 0.5, "text": "The database is called Heron."}]
    assert second["plan"]["level"] == "RESTATE"
    assert (second["violated"], second["flags"]) == (["plain"], ["regenerated"])
    assert (view["turns"][2]["failure"], view["turns"][3]["retry_of"]) == ("timeout", 3)
    assert view["unfinished"] == [{"number": 5, "user": "And then?"}]
    assert view["motifs"]["assistant"] == []
    assert [motif["name"] for motif in view["motifs"]["user"]] == ["copy"]
    assert view["totals"] == dict(
        turns=4,
        failures=1,
        regenerated=1,
        calls=5,
        alarms=1,
        sent_tokens=40,
        prompt_tokens=7,
        completion_tokens=None,
    )


def test_facts_are_shown_with_what_they_were() -> None:
    facts = conversation_view(recorded(), "c")["facts"]
    (now,), (before,) = facts["current"], facts["superseded"]
    assert (now["key"], now["value"], now["turn"]) == ("database name", "Kestrel", 2)
    assert (before["value"], before["turn"], before["valid_to"]) == ("Heron", 1, 2)
    assert (before["ending"], before["text"]) == ("corrected", "The database is called Heron.")
    assert (now["ending"], now["is_correction"]) == (None, True)


def test_an_alarm_has_a_name_also_where_nobody_noted_the_constraints() -> None:
    on = {"constraint_alarm": [False, True], "contrast_alarm": [False, True]}
    assert alarms_of(on, ()) == ["content contrast", "constraint 2"]
    assert alarms_of({}, ("calm",)) == []


def test_a_running_conversation_looks_as_it_will_when_it_is_opened_again(tmp_path) -> None:
    replies = iter(["Noted!", "Noted.", "Kestrel."])

    def model(prompt: str) -> str:
        if "fail" in prompt.rsplit("User:", 1)[-1]:
            raise ModelFailure("model", "timeout", "too slow")
        return next(replies)

    path = tmp_path / "store.db"
    with ConversationRuntime(model, identity=IDENTITY, store=path, conversation="c") as runtime:
        assert conversation_view(runtime.store, "c")["turns"] == []
        for text in ("The database is called Kestrel.", "fail", "Which database?"):
            runtime.turn(text)
        running = conversation_view(runtime.store, "c")
    with ConversationStore(path) as store:
        assert conversation_view(store, "c") == running
    assert [turn["reply"] for turn in running["turns"]] == ["Noted.", "", "Kestrel."]
    assert [turn["drafted"] for turn in running["turns"]] == [["calm"], [], []]
    assert running["turns"][1]["missing"]
    assert running["identity"] == "Tally"
    assert running["watched"] is None or running["watched"]["constraints"] == ["calm", "plain"]
    json.dumps(running, allow_nan=False)


def test_a_conversation_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"'d' is not in the store; there: c"):
        conversation_view(recorded(), "d")
