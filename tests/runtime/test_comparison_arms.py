"""Arms of a comparison: what each one sends, counted by hand, and what an ablation takes away."""

import dataclasses

import pytest

from sigma_jax.runtime import (
    ABLATIONS,
    ARMS,
    PlainArm,
    SimulatedModel,
    load_scenario,
    parse,
    render,
    run_arm,
)

SCENARIO = load_scenario()
IDENTITY = SCENARIO.identity
RAW, WINDOW, FULL, STATIC, REMIND_5, REMIND_1, RUNTIME = ARMS[:7]


class Recorder:
    """A model that repeats one reply and keeps what it was sent."""

    def __init__(self, reply="[plan] Noted.\nNext: wait."):
        self.reply, self.prompts = reply, []

    def __call__(self, prompt):
        self.prompts.append(prompt)
        return self.reply


def sent(arm, turns):
    model = Recorder()
    run = run_arm(arm, SCENARIO, model, turns=turns)
    return run, [parse(prompt) for prompt in model.prompts]


def users(messages):
    return [message.content for message in messages if message.role == "user"]


def test_raw_sends_each_question_alone_and_tells_the_identity_once():
    _, prompts = sent(RAW, 4)
    texts = [turn.text for turn in SCENARIO.turns]
    assert [users(prompt) for prompt in prompts] == [[text] for text in texts[:4]]
    assert [prompt[0].role for prompt in prompts] == ["system", "user", "user", "user"]


def test_the_identity_leaves_a_window_with_the_first_exchange_and_stays_in_a_static_prompt():
    for arm, told in ((WINDOW, False), (STATIC, True)):
        _, prompts = sent(arm, 23)
        for number, prompt in enumerate(prompts, start=1):
            assert len(users(prompt)) == min(number, 21)
            assert (prompt[0].content == IDENTITY.text) == (told or number <= 21)


def test_full_history_shows_every_exchange_and_a_cache_keeps_all_but_the_end():
    run, prompts = sent(FULL, 30)
    assert len(prompts[-1]) == 1 + 29 * 2 + 1
    for before, after, shared in zip(prompts, prompts[1:], run.shared_bytes[1:], strict=False):
        whole = len(render(before).encode()) - len(render(()).encode())
        assert shared >= whole
        assert after[: len(before)] == before


def test_a_reminder_comes_every_five_turns_and_stays_in_what_is_shown():
    _, prompts = sent(REMIND_5, 12)
    wording = IDENTITY.constraints[0].text
    reminded = [wording in prompt[-1].content for prompt in prompts]
    assert [n for n, yes in enumerate(reminded, start=1) if yes] == [5, 10]
    assert any(wording in text for text in users(prompts[6])[:-1])


def test_what_was_sent_is_counted_by_turn_with_what_is_asked_again():
    model = Recorder("No tag at all, I guarantee.")  # breaks hard constraints: it is asked again
    run = run_arm(RUNTIME, SCENARIO, model, turns=6)
    assert sum(run.calls) == len(model.prompts) > 6
    assert sum(run.sent_bytes) == sum(len(prompt.encode()) for prompt in model.prompts)
    assert run.sent_tokens == tuple(m["sent_tokens"] for m in run.measurements)
    assert run.phases == tuple(m["phase"] for m in run.measurements)


def test_the_same_arm_gives_the_same_bytes_and_another_seed_others():
    runs = [
        run_arm(arm, SCENARIO, SimulatedModel(seed=seed), turns=15)
        for arm in (STATIC, RUNTIME)
        for seed in (0, 0, 1)
    ]
    digests = [run.digest for run in runs]
    assert digests[0] == digests[1] != digests[2]
    assert digests[3] == digests[4] != digests[5]


def test_a_model_that_fails_costs_a_reply_and_no_turn():
    class Broken(Recorder):
        def __call__(self, prompt):
            super().__call__(prompt)
            if len(self.prompts) == 2:
                raise RuntimeError("down")
            return self.reply

    for arm in (STATIC, RUNTIME):
        run = run_arm(arm, SCENARIO, Broken(), turns=4)
        assert len(run.replies) == 4
        assert [not reply for reply in run.replies].count(True) == 1


@pytest.fixture(scope="module")
def ablated():
    """What each arm without a part sent, of a model that breaks a constraint in every reply."""
    found = {}
    for arm in (RUNTIME, *ABLATIONS):
        model = Recorder("Certainly.")
        arm = dataclasses.replace(arm, calibrated=False)
        found[arm.name] = run_arm(arm, SCENARIO, model, turns=40), model.prompts
    return found


def test_each_ablation_takes_its_part_away(ablated):
    prompts = {name: "\n".join(sent) for name, (_, sent) in ablated.items()}
    first = {
        name: [parse(p)[-1].content for p, n in zip(sent, _first(run.calls), strict=True) if n]
        for name, (run, sent) in ablated.items()
    }
    assert "Notes from earlier" in prompts["runtime"]
    assert "Notes from earlier" not in "\n".join(first["minus memories"])
    assert "Keep to: " in prompts["runtime"]
    assert "Keep to: " not in prompts["minus motifs"]
    assert any("Reminder: " in text for text in first["runtime"])
    assert not any("Reminder: " in text for text in first["minus reminders"])
    assert max(ablated["runtime"][0].calls) == 2
    assert max(ablated["minus regeneration"][0].calls) == 1


def test_without_the_statement_filter_questions_are_found_again():
    short = dataclasses.replace(SCENARIO, turns=SCENARIO.turns[:20] * 3)
    asked = [t.text for t in SCENARIO.turns[:20] if t.text.endswith("?")]
    by_name = {arm.name: arm for arm in (RUNTIME, *ABLATIONS)}

    def quoted(name):
        # Long replies, so that the window does not hold everything.
        model = Recorder("[plan] " + "Steady work. " * 60 + "\nNext: wait.")
        run_arm(by_name[name], short, model)
        notes = [
            line for prompt in model.prompts for line in prompt.splitlines() if line[:2] == "> "
        ]
        return any(line.endswith(text) for line in notes for text in asked)

    assert quoted("minus statement filter")
    assert not quoted("runtime")


def test_names_differ_and_bad_input_is_refused():
    assert len({arm.name for arm in ARMS}) == len(ARMS) == 15
    with pytest.raises(ValueError, match="turns must lie in"):
        run_arm(RAW, SCENARIO, Recorder(), turns=999)
    with pytest.raises(ValueError, match="window must"):
        PlainArm("x", "", -1, told=True)


def _first(calls):
    return [place == 0 for number in calls for place in range(number)]
