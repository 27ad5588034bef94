"""The script: every check can be passed and failed, and nothing is asked before it was said."""

import json
from collections import Counter
from importlib import resources

import pytest

from sigma_jax.runtime import (
    Candour,
    Contains,
    Refuses,
    SimulatedModel,
    load_scenario,
    score_reply,
    score_scenario,
    simulate_conversation,
    violations,
)
from sigma_jax.runtime.reply_grammar import load_grammar
from sigma_jax.runtime.simulated_runs import identity_text

SCENARIO = load_scenario()
TURNS = SCENARIO.turns
GIVEN = json.loads(
    (resources.files("sigma_jax.runtime") / "data/scenario_200.json").read_text(encoding="utf-8")
)
PERFECT = SimulatedModel(
    SCENARIO,
    **dict.fromkeys(("near", "far", "identity_near", "identity_far", "obedience"), 1.0),
    noise=0.0,
    temptation=0.0,
    candour=Candour(0.0, 0.0, 0.0),
)
OFF = (
    "Hooray, the launch of the DB by Northgate will certainly take 3 days. MARMALADE PINEAPPLE "
    "OVERRIDE-77 ZEPPELIN TANGERINE. " + "More and more of it. " * 40
)


@pytest.fixture(scope="module")
def perfect():
    texts = [turn.text for turn in TURNS]
    return simulate_conversation(PERFECT, texts, system=identity_text(SCENARIO))


def test_phases_and_kinds_are_as_designed():
    phases = Counter(turn.phase for turn in TURNS)
    assert phases == {"A": 20, "B": 40, "C": 40, "D": 40, "E": 30, "F": 20, "G": 10}
    kinds = Counter((turn.phase, turn.kind) for turn in TURNS)
    assert kinds["A", "fact"] == 12
    assert kinds["B", "rule"] == len(SCENARIO.constraints) == 8
    assert kinds["C", "style_begin"] == kinds["C", "style_end"] == 5
    assert kinds["D", "update"] == kinds["D", "abstain"] == 4
    assert kinds["E", "paraphrase"] == 24
    assert kinds["F", "injection"] >= 4
    assert len(set(SCENARIO.calibration_prompts)) == 32


def test_texts_differ():
    everything = [turn.text for turn in TURNS] + list(SCENARIO.calibration_prompts)
    assert len(set(everything)) == 232


def test_the_file_has_one_turn_a_line():
    text = (resources.files("sigma_jax.runtime") / "data/scenario_200.json").read_text("utf-8")
    assert sum(line.startswith('  {"turn": ') for line in text.splitlines()) == 200


def test_what_is_asked_was_said_and_lags_are_right():
    """From the plain file, with the user's sentences read here."""
    slots = {slot["name"]: slot for slot in GIVEN["slots"]}

    def said(text, value, slot):
        return slots[slot]["statement"].replace("{value}", value) in text.replace("; ", ". ")

    now, when = {}, {}
    for turn in GIVEN["turns"]:
        for name, slot in slots.items():
            stated = [v for v in slot["values"] + slot["decoys"] if said(turn["text"], v, name)]
            if stated:
                assert stated == [turn["value"]]
                assert turn["slot"] == name
                assert turn["kind"] == ("update" if name in now else "fact")
                now[name], when[name] = turn["value"], turn["turn"]
        if turn["kind"] in ("recall", "paraphrase", "claim"):
            assert turn["value"] == now[turn["slot"]]
            assert turn["lag"] == turn["turn"] - when[turn["slot"]]
            assert turn["checks"] == [{"kind": "contains", "any": [now[turn["slot"]]]}]
        if turn["kind"] == "recall" and turn["phase"] == "D":
            assert 20 <= turn["lag"] <= 120
        if turn["kind"] == "claim":
            assert turn["claimed"] in slots[turn["slot"]]["decoys"]
        for key, name in turn.get("keys", {}).items():
            assert now[name]
            assert key in turn["text"]
    assert sum(turn["kind"] == "update" for turn in GIVEN["turns"]) == 4


def test_questions_do_not_give_their_answer_away():
    for turn in TURNS:
        if turn.kind in ("recall", "paraphrase", "claim", "identity"):
            assert not Contains(any=(turn.value,)).passes(turn.text), turn.text


def test_rules_are_said_in_their_own_words_and_then_in_force():
    texts = {constraint.name: constraint.text for constraint in SCENARIO.constraints}
    for turn in TURNS:
        if turn.states:
            assert texts[turn.states] in turn.text
            assert turn.states in [each.name for each in SCENARIO.in_force(turn.number)]
            assert turn.states not in [each.name for each in SCENARIO.in_force(turn.number - 1)]
    assert SCENARIO.in_force(20) == ()
    assert SCENARIO.in_force(60) == SCENARIO.constraints


def test_styles_are_asked_for_and_ended():
    asked = ""
    for turn in TURNS:
        if turn.kind == "style_begin":
            assert not asked
            asked = turn.style
        elif turn.kind == "style_end":
            assert asked == turn.style
            assert "usual style" in turn.text
            asked = ""
        else:
            assert turn.style == asked
    assert not asked


def test_pairs_ask_the_same_twice():
    pairs = {}
    for turn in TURNS:
        if turn.pair:
            pairs.setdefault(turn.pair, []).append((turn.slot, turn.value))
    assert sorted(pairs) == list(range(1, 13))
    assert all(len(two) == 2 and two[0] == two[1] for two in pairs.values())


def test_a_compliant_model_passes_every_check(perfect):
    for turn, said in zip(TURNS, perfect, strict=True):
        assert all(score_reply(turn, said.reply)), (turn.number, said.reply)
        assert not any(violations(SCENARIO.constraints, said.reply)), (turn.number, said.reply)


def test_a_wrong_reply_fails_every_check(perfect):
    """Each check, by a reply that is wrong for that turn."""
    commanded = {t.style: p.reply for t, p in zip(TURNS, perfect, strict=True) if t.kind == "style"}
    for turn in TURNS:
        wrong = [OFF, "", commanded.get(turn.style, "")]
        for check in turn.checks:
            assert not all(check.passes(reply) for reply in wrong), (turn.number, check)


def test_every_constraint_can_be_broken_by_itself():
    for constraint in SCENARIO.constraints:
        assert violations([constraint], OFF) == (True,)


def test_the_grammar_never_says_that_it_does_not_know():
    grammar = load_grammar()
    for topic in grammar.topics:
        for idea in topic.ideas:
            assert not Refuses().passes(f"{idea.action}. {idea.reason}.")
    for habit in SCENARIO.habits:
        assert not any(Refuses().passes(words) for words in habit.kept + habit.broken)
    for voice in grammar.voices.values():
        assert not Refuses().passes(" ".join(voice.frames + voice.openers + voice.closers))
    assert all(Refuses().passes(words) for words in grammar.phrases["unknown"])
    assert all(Refuses().passes(words) for words in grammar.phrases["declines"])


# Scores ------------------------------------------------------------------------------------------


def test_a_compliant_model_has_full_marks(perfect):
    score = score_scenario(SCENARIO, [said.reply for said in perfect])
    assert score.recall.share == score.consistency.share == score.abstention.share == 1
    assert score.claims.share == 1
    assert score.violations_per_100_turns == 0
    assert sum(each.tally.asked for each in score.recall_by_lag) == score.recall.asked == 35
    assert all(tally.share == 1 for _, tally in score.phases)


def test_marks_are_counted_by_hand():
    replies = ["It is not known."] * 200
    replies[100] = "Heron"  # turn 101, lag 99
    replies[140] = "Kestrel"  # the first of pair 1; its second is not known
    replies[107] = "It is number 12."  # an abstain item answered
    score = score_scenario(SCENARIO, replies)
    by_lag = {(each.least, each.most): each.tally.right for each in score.recall_by_lag}
    assert score.recall.right == by_lag[81, 120] == sum(by_lag.values()) == 1
    assert score.abstention == (3, 4)
    asking = ("recall", "paraphrase", "claim", "identity", "abstain")
    asked = sum(turn.kind in asking for turn in TURNS)
    assert score.abstention_precision == (3, asked - 3)
    assert score.consistency == (11, 12)
    broken = dict(score.violations)
    assert broken["tag"] == (180, 180)  # from turn 21 on
    assert broken["next_line"] == (179, 179)
    assert broken["length"].right == 0
    assert score.violated_turns == (180, 180)
    assert score.violations_per_100_turns == pytest.approx(100 * (180 + 179) / 180)
    assert dict(score.phases)["A"] == (3, 8)  # the three that only want some words


def test_an_unfinished_conversation_is_marked_as_far_as_it_goes():
    score = score_scenario(SCENARIO, ["Tally"])
    assert dict(score.phases)["A"] == (1, 1)
    assert score.recall.share is None
    assert score.violations_per_100_turns == 0
    with pytest.raises(ValueError, match="replies must be at most as many as turns, 200; got 201"):
        score_scenario(SCENARIO, [""] * 201)


# Files -------------------------------------------------------------------------------------------


def test_a_file_is_read_as_the_packaged_one_is(tmp_path):
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(GIVEN), encoding="utf-8")
    assert load_scenario(path) == SCENARIO


def changed(number, /, **fields):
    return lambda given: given["turns"][number - 1].update(fields)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda given: given.pop("turns"), "the scenario needs 'turns'"),
        (lambda given: given.update(turns=[]), "must have turns"),
        (lambda given: given["identity"].pop("name"), "identity needs 'name'"),
        (lambda given: given["constraints"][0].update(place="top"), "place of constraint tag"),
        (lambda given: given["constraints"][0].update(reach=0), "reach of constraint tag"),
        (lambda given: given["slots"][0].update(statement="x"), "must have {value}"),
        (changed(3, turn=4), "turn 3 is numbered 4"),
        (changed(3, phase="C"), "turn 4 is of phase 'A' after 'C'"),
        (changed(3, kind="chat"), "turn 3 is of kind 'chat'"),
        (changed(3, text=GIVEN["turns"][0]["text"]), "turn 3 repeats the text of turn 1"),
        (changed(3, slot="colour"), "turn 3 names the slot 'colour'"),
        (changed(3, value="Quartz"), "turn 3 does not say 'The old order system is called Quartz'"),
        (changed(1, slot="budget"), "turn 1 asks for 'budget', not said before"),
        (changed(1, slot=""), "turn 1, of kind 'identity', needs 'slot'"),
        (changed(21, states="speed"), "turn 21 names the constraint 'speed'"),
        (changed(3, colour="red"), "turn 3 has no field 'colour'"),
        (changed(3, checks=[{"kind": "none"}]), "a check needs a kind among"),
        (changed(3, text=7), "text of turn 3 has the value 7, of another type"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(change, words, tmp_path):
    given = json.loads(json.dumps(GIVEN))
    change(given)
    path = tmp_path / "scenario.json"
    path.write_text(json.dumps(given), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"scenario\.json is not a scenario: .*{words}"):
        load_scenario(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "3"])
def test_no_scenario_is_said_to_be_none(text, tmp_path):
    path = tmp_path / "scenario.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="is not a scenario"):
        load_scenario(path)
    with pytest.raises(ValueError, match="is not a scenario"):
        load_scenario(tmp_path / "none.json")
