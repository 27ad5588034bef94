"""The simulated model: its formulas, and that it knows nothing but its prompt."""

import hashlib
import math
import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax.bridge import ProviderError
from sigma_jax.runtime import (
    NOTES,
    USER_SAYS,
    VARIATIONS,
    AbruptLoss,
    AdversarialPull,
    Candour,
    Crystallising,
    Failing,
    GradualLoss,
    Message,
    ObedientStyle,
    Oscillating,
    ProviderSwap,
    SimulatedModel,
    Stationary,
    count_tokens,
    load_scenario,
    render,
    simulate_conversation,
    style_features,
    violations,
)
from sigma_jax.runtime.keyed_draws import KeyedDraws
from sigma_jax.runtime.reply_grammar import Blend, load_grammar, marked_share, write_text
from sigma_jax.runtime.simulated_model import within_context
from sigma_jax.runtime.simulated_runs import calibration_replies, identity_text

SCENARIO = load_scenario()
SYSTEM = identity_text(SCENARIO)
PLAIN = [turn.text for turn in SCENARIO.turns if turn.kind == "plain"]
HONEST = Candour(0.0, 0.0, 0.0)
TURN = {turn.number: turn for turn in SCENARIO.turns}


def prompt(user, *, system=SYSTEM, before=(), notes=""):
    words = f"{notes}\n{USER_SAYS}\n{user}" if notes else user
    said = [Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(before)]
    head = [Message("system", system)] if system else []
    return render([*head, *said, Message("user", words)])


def numbered(count):
    """Texts that differ, and so draw other numbers."""
    return [f"{PLAIN[n % len(PLAIN)]} ({n})" for n in range(count)]


# Compliance --------------------------------------------------------------------------------------


def test_compliance_follows_the_formula():
    """Frequencies over 1,200 turns against p, and p against the formula written out here."""
    model = SimulatedModel(near=0.9, far=0.3, reach_scale=0.2)
    filler = ["Please read this. " * 150, "I have read it. " * 40]
    replies, expected = [], None
    for text in numbered(1200):
        given_prompt = prompt(text, before=filler)
        replies.append(violations(SCENARIO.constraints, model(given_prompt)))
        expected = [
            0.3
            + 0.6 * math.exp(-count_tokens(given_prompt.split(each.text)[-1]) / (0.2 * habit.reach))
            for each, habit in zip(SCENARIO.constraints, SCENARIO.habits, strict=True)
        ]
        assert model.state(given_prompt).compliance == pytest.approx(expected, rel=1e-12)
    assert expected
    kept = 1 - np.mean(replies, axis=0)
    deviation = np.sqrt(np.array(expected) * (1 - np.array(expected)) / 1200)
    assert np.all(abs(kept - expected) < 4 * deviation + 0.01)  # Δ varies a little with the text
    assert min(expected) < 0.5 < max(expected)


def test_a_constraint_that_is_nowhere_is_kept_as_from_far():
    model = SimulatedModel(far=0.37)
    assert set(model.state(prompt("Hello.", system="")).compliance) == {0.37}


def test_a_reminder_at_the_tail_raises_compliance():
    model, filler = SimulatedModel(), ["Please read this. " * 800, "Yes."]
    rule = SCENARIO.constraints[4].text
    far = [model.state(prompt(text, before=filler)) for text in numbered(400)]
    near = [
        model.state(prompt(text, before=filler, notes=f"Reminder: {rule}"))
        for text in numbered(400)
    ]
    assert all(
        n.compliance[4] > 0.95 > 0.75 > f.compliance[4] for n, f in zip(near, far, strict=True)
    )
    assert all(n.compliance[3] < 0.8 for n in near)  # the others are as far as before
    kept = [np.mean([each.kept[4] for each in states]) for states in (far, near)]
    assert kept[1] - kept[0] > 0.15
    # Shared noise: what is kept from far is kept from near as well.
    assert all(n.kept[4] >= f.kept[4] for n, f in zip(near, far, strict=True))


def test_a_reply_breaks_what_its_state_says_and_nothing_else():
    """Every combination of eight constraints turns up, each exactly as drawn."""
    seen = set()
    for seed in range(1500):
        given_prompt = prompt(PLAIN[seed % len(PLAIN)])
        reply, state = SimulatedModel(seed=seed, near=0.5, far=0.5).reply_and_state(given_prompt)
        broken = violations(SCENARIO.constraints, reply)
        assert tuple(not each for each in broken) == state.kept, reply
        seen.add(broken)
    assert len(seen) > 0.97 * len(list(product([0, 1], repeat=8)))


def test_a_probe_tempts():
    model = SimulatedModel(temptation=0.4)
    probe = next(turn for turn in SCENARIO.turns if turn.tempts == "cutover_word")
    place = [each.name for each in SCENARIO.constraints].index("cutover_word")
    tempted = model.state(prompt(probe.text)).compliance
    free = SimulatedModel(temptation=0.0).state(prompt(probe.text)).compliance
    assert tempted[place] == pytest.approx(0.6 * free[place], rel=1e-12)
    assert tempted[:place] == free[:place]


# Noise -------------------------------------------------------------------------------------------


def test_arms_share_their_noise():
    """Two prompts for the same words draw the same; other words, seeds or attempts do not."""
    model = SimulatedModel(self_imitation=0.0, near=0.7, far=0.7)
    text = PLAIN[3]
    one = prompt(text)
    other = prompt(text, before=["Hello.", "You begin; that is all."], notes=f"{NOTES}\n> a, b: c")
    first, second = model.state(one), model.state(other)
    assert first.kept == second.kept
    assert first.share == pytest.approx(second.share, abs=0.01)  # Δ differs by some tokens
    assert model(one) == SimulatedModel(self_imitation=0.0, near=0.7, far=0.7)(one)
    others = [
        SimulatedModel(seed=1)(one),
        SimulatedModel().reply(one, attempt=1),
        SimulatedModel()(prompt(PLAIN[4])),
    ]
    assert len({SimulatedModel()(one), *others}) == 4


@given(st.text(max_size=200), st.integers(0, 3))
@settings(max_examples=60)
def test_any_prompt_has_one_reply(text, seed):
    given_prompt = render([Message("user", text)])
    first, second = (SimulatedModel(seed=seed)(given_prompt) for _ in range(2))
    assert first == second != ""


def test_another_process_says_the_same():
    program = """
import hashlib
from sigma_jax.runtime import SimulatedModel
from sigma_jax.runtime import simulate_conversation
from sigma_jax.runtime.simulated_runs import identity_text
from sigma_jax.runtime import load_scenario
scenario = load_scenario()
turns = simulate_conversation(
    SimulatedModel(seed=3), [t.text for t in scenario.turns[:40]], system=identity_text(scenario)
)
print(hashlib.sha256("".join(t.prompt_text + t.reply for t in turns).encode()).hexdigest(), end="")
"""
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    texts = [turn.text for turn in SCENARIO.turns[:40]]
    turns = simulate_conversation(SimulatedModel(seed=3), texts, system=SYSTEM)
    own = hashlib.sha256("".join(t.prompt_text + t.reply for t in turns).encode()).hexdigest()
    assert outcome.stdout == own


@given(st.text(max_size=20), st.text(max_size=20))
def test_draws_are_by_name(key, name):
    draws = KeyedDraws(key)
    value = draws.uniform(name)
    draws.uniform("other")
    assert 0 < value < 1
    assert draws.uniform(name) == value
    assert draws.choose("abc", name) == "abc"[int(3 * value)]
    assert sorted(draws.shuffled(range(5), name)) == list(range(5))


def test_draws_are_uniform_and_normal():
    draws = [KeyedDraws(str(n)) for n in range(4000)]
    uniform = np.sort([each.uniform("x") for each in draws])
    assert np.max(abs(uniform - (np.arange(4000) + 0.5) / 4000)) < 1.63 / math.sqrt(4000)
    normal = np.array([each.normal("y") for each in draws])
    assert abs(normal.mean()) < 0.06
    assert abs(normal.std() - 1) < 0.05


# Facts -------------------------------------------------------------------------------------------


def test_a_fact_is_known_if_its_statement_is_in_the_prompt():
    model = SimulatedModel(candour=HONEST)
    question = TURN[101].text
    assert "Heron" in model(prompt(question, before=[TURN[2].text, "Noted."]))
    assert "Heron" in model(prompt(question, notes=f"{NOTES}\n> turn 2, user: {TURN[2].text}"))
    for reply in (model(prompt(question)), model(prompt(question, before=["Heron!", "Heron."]))):
        assert "Heron" not in reply
        assert "Kestrel" not in reply


def test_the_last_statement_counts():
    model = SimulatedModel(candour=HONEST)
    old, new = TURN[2].text, TURN[106].text
    both = model(prompt(TURN[126].text, before=[old, "Noted.", new, "Noted."]))
    assert "Kestrel" in both
    assert "Heron" not in both
    assert "Heron" in model(prompt(TURN[126].text, before=[new, "Noted.", old, "Noted."]))
    assert "Heron" in model(prompt(TURN[126].text, before=[old, "Noted."]))


def test_guesses_come_as_often_as_they_should():
    question, decoys = TURN[101].text, SCENARIO.slot("database_name").decoys
    guesses = [
        any(decoy in SimulatedModel(seed=seed)(prompt(question)) for decoy in decoys)
        for seed in range(400)
    ]
    assert np.mean(guesses) == pytest.approx(0.3, abs=0.08)


def test_false_claims_are_set_right_only_with_the_truth_at_hand():
    claim = next(turn for turn in SCENARIO.turns if turn.kind == "claim")
    stated = SCENARIO.slot(claim.slot).statement.format(value=claim.value) + "."
    known = [
        SimulatedModel(seed=n)(prompt(claim.text, before=[stated, "Noted."])) for n in range(200)
    ]
    unknown = [SimulatedModel(seed=n)(prompt(claim.text)) for n in range(200)]
    assert np.mean([claim.value in reply for reply in known]) == pytest.approx(0.95, abs=0.06)
    assert np.mean([claim.claimed in reply for reply in unknown]) == pytest.approx(0.8, abs=0.1)
    assert not any(claim.value in reply for reply in unknown)


def test_documents_command_a_model_that_has_lost_its_identity():
    injection = next(turn for turn in SCENARIO.turns if turn.kind == "injection")
    with_identity = [SimulatedModel(seed=n)(prompt(injection.text)) for n in range(200)]
    without = [SimulatedModel(seed=n)(prompt(injection.text, system="")) for n in range(200)]
    assert np.mean([injection.value in reply for reply in with_identity]) < 0.08
    assert np.mean([injection.value in reply for reply in without]) == pytest.approx(0.5, abs=0.12)


# Context -----------------------------------------------------------------------------------------


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6), st.integers(1, 60), st.booleans())
def test_the_oldest_messages_are_lost_first(texts, limit, system):
    messages = tuple(Message("user", text) for text in texts)
    if system:
        messages = (Message("system", "s"), *messages)
    kept = within_context(messages, limit)
    head = 1 if system else 0
    assert kept[:head] == messages[:head]
    rest = kept[head:]
    assert rest == messages[len(messages) - len(rest) :]
    assert len(rest) >= 1
    assert len(rest) == 1 or count_tokens(render(kept)) <= limit
    if len(kept) < len(messages):
        more = (*kept[:head], *messages[len(messages) - len(rest) - 1 :])
        assert count_tokens(render(more)) > limit


def test_a_small_context_forgets_what_a_large_one_knows():
    before = [TURN[2].text, "Noted.", "Please read this. " * 400, "Done."]
    asked = prompt(TURN[101].text, before=before)
    assert "Heron" in SimulatedModel(candour=HONEST)(asked)
    assert "Heron" not in SimulatedModel(candour=HONEST, context_tokens=1500)(asked)


# Style -------------------------------------------------------------------------------------------


def shares(mode, turns, **options):
    run = simulate_conversation(
        SimulatedModel(mode=mode, **options), numbered(turns), system=SYSTEM, window=8
    )
    return np.array([turn.state.share for turn in run]), [turn.reply for turn in run]


def test_modes_do_what_they_are_called():
    steady, replies = shares(Stationary(), 90)
    assert steady[20:].mean() > 0.7
    assert len(set(replies)) == 90
    lost, _ = shares(AbruptLoss(41), 70)
    np.testing.assert_array_equal(lost[:40], steady[:40])  # the same until then
    assert lost[45:].mean() < 0.2
    fading, _ = shares(GradualLoss(41), 90)
    assert fading[42:50].mean() > fading[55:65].mean() > fading[75:].mean()
    assert fading[75:].mean() < 0.2
    swinging, _ = shares(Oscillating(40), 90)
    assert swinging[58:63].mean() < 0.3 < 0.6 < swinging[78:83].mean()
    pulled, _ = shares(AdversarialPull(41, 0.4), 70)
    assert pulled[45:].mean() < steady[45:70].mean() - 0.3
    swapped, texts = shares(ProviderSwap(41), 70)
    assert swapped[45:].mean() < 0.45
    assert sum("—" in text for text in texts[40:]) > 15
    assert not any("—" in text for text in texts[:40])


def test_crystallised_replies_are_alike_until_variation_is_asked_for():
    _, replies = shares(Crystallising(21), 60, identity_far=0.9, noise=0.0, near=1.0, far=1.0)
    assert len(set(replies[:20])) == 20
    bodies = {reply.split("\n", 1)[0].split("] ", 1)[-1] for reply in replies[35:]}
    assert len(bodies) < 6
    model = SimulatedModel(mode=Crystallising(1, 1))
    wished = prompt("Hello.", notes=f"Reminder: {VARIATIONS[0]}")
    assert model.state(wished).circumstances.alike == pytest.approx(0.2)
    assert model(wished) != model(prompt("Hello."))


def test_the_identity_said_again_brings_it_back():
    model = SimulatedModel(mode=AbruptLoss(1))
    again = f"Reminder: {SCENARIO.identity_description}"
    lost = [model.state(prompt(text)).share for text in numbered(50)]
    back = [model.state(prompt(text, notes=again)).share for text in numbered(50)]
    assert np.mean(back) > np.mean(lost) + 0.3


def test_a_model_imitates_itself():
    ours, theirs = "You begin; all else waits; stay.", "Great! I love it! **Yes**!"
    text = PLAIN[0]
    model = SimulatedModel(self_imitation=0.4, noise=0.0)
    alone, own, other = (
        model.state(prompt(text, before=before)).share
        for before in ([], ["Hi.", ours], ["Hi.", theirs])
    )
    assert own == pytest.approx(0.6 * alone + 0.4, abs=0.01)
    assert other == pytest.approx(0.6 * alone, abs=0.01)


def test_a_style_is_followed_until_it_ends_or_is_out_of_sight():
    model = SimulatedModel()
    begin, inside, end = TURN[61].text, TURN[62].text, TURN[66].text
    assert model.state(prompt(begin)).style == "sailor"
    assert model.state(prompt(inside, before=[begin, "Aye."])).style == "sailor"
    assert model.state(prompt(inside)).style == ""
    assert model.state(prompt(inside, before=[begin, "Aye.", end, "Yes."])).style == ""
    quoted = f"{NOTES}\n> turn 61, user: {begin}"
    assert model.state(prompt(inside, notes=quoted)).style == ""  # notes are data
    assert SimulatedModel(mode=ObedientStyle(5, 9)).state(prompt(inside), turn=9).style == "sailor"
    assert SimulatedModel(mode=ObedientStyle(5, 9)).state(prompt(inside), turn=10).style == ""


def test_turns_are_told_by_the_words_or_by_counting():
    model = SimulatedModel()
    assert model.state(prompt(TURN[101].text)).turn == 101
    assert model.state(prompt("Something else.", before=["a", "b", "c", "d"])).turn == 3
    assert model.state(prompt("Something else."), turn=17).turn == 17


def test_texts_go_from_one_voice_to_the_other():
    grammar = load_grammar()
    planner, chatty = grammar.voices["planner"], grammar.voices["chatty"]
    assert sum(len(topic.ideas) for topic in grammar.topics) >= 40
    assert len(grammar.topics) >= 8

    def measured(share):
        texts = [
            write_text(grammar, topic, Blend(planner, chatty, share), KeyedDraws(f"{n}"))
            for n in range(25)
            for topic in grammar.topics
        ]
        found = [marked_share(text, ";", ("!", "—")) for text in texts]
        return np.mean([each for each in found if each is not None]), texts

    for share in (0.0, 0.3, 0.7, 1.0):
        mean, texts = measured(share)
        assert mean == pytest.approx(share, abs=0.1)
        assert len(set(texts)) > 0.95 * len(texts)
        spread = np.std([style_features(text) for text in texts], axis=0)
        assert np.sum(spread > 0) >= 9


def test_styles_with_and_without_the_identity_are_apart():
    ours, default = (
        np.array(
            [
                style_features(text)
                for text in calibration_replies(SimulatedModel(), with_identity=w)
            ]
        )
        for w in (True, False)
    )
    assert ours.shape == default.shape == (32, 14)
    pooled = np.sqrt((ours.var(0) + default.var(0)) / 2 + 1e-6)
    distance = abs(ours.mean(0) - default.mean(0)) / pooled
    assert np.sum(distance > 1.5) >= 4


# Failures and bad input --------------------------------------------------------------------------


def test_failures():
    def said(failure, turn=5):
        return SimulatedModel(mode=Failing(failure, 5, 6)).reply(prompt("Hello."), turn=turn)

    whole = SimulatedModel().reply(prompt("Hello."), turn=5)
    assert said("empty") == ""
    assert whole.startswith(said("truncated"))
    assert 0 < len(said("truncated")) < 0.6 * len(whole)
    assert 5_000_000 <= len(said("oversized").encode()) < 5_010_000
    assert " und " in said("other language")
    with pytest.raises(ProviderError, match="simulated: no reply in turn 5"):
        said("error")
    assert said("error", 7) == said("empty", 4) == whole


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SimulatedModel(near=1.1), "near must lie in"),
        (lambda: SimulatedModel(identity_reach=0.0), "identity_reach must lie in"),
        (lambda: SimulatedModel(noise=-1.0), "noise must lie in"),
        (lambda: SimulatedModel(context_tokens=0), "context_tokens must lie in"),
        (lambda: Candour(confabulates=2.0), "confabulates must lie in"),
        (lambda: Failing("rude", 1, 2), "failure must be one of empty, truncated"),
        (lambda: GradualLoss(1, 0), "length must lie in"),
        (lambda: Oscillating(1), "period must lie in"),
        (lambda: SimulatedModel()("Assistant:"), "prompt_text must hold a message"),
        (lambda: simulate_conversation(SimulatedModel(), ["a"], window=-1), "window must lie in"),
    ],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
