"""Providers of text as nodes: what is asked, what is made of the reply, swaps, failures."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.bridge import (
    Failure,
    KernelProvider,
    ProviderError,
    Reader,
    ReasoningStep,
    Reply,
    Request,
    StateABI,
    exit_states,
    optimal_abi,
    question_alone,
    reasoning_node,
)
from sigma_jax.kernel import kernel_mini_directory, load_model, load_tokenizer
from sigma_jax.vm import Jump, ProviderNode, StateMachine, Swap, initial_state, rollout

QUESTION = "jump left thrice"
ANSWER = "I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP I_TURN_LEFT I_JUMP"
CHAT = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
NOTHING = np.zeros(0)


class Fixed:
    """A provider that replies the same whatever it is asked, and remembers what it was asked."""

    def __init__(self, name: str, text: str, failures: int = 0):
        self.name, self.text, self.failures = name, text, failures
        self.asked: list[Request] = []

    def answer(self, request: Request) -> Reply:
        self.asked.append(request)
        if len(self.asked) <= self.failures:
            raise ProviderError(self.name, Failure.TIMEOUT, "no whole reply within 3 seconds.")
        return Reply(self.text, self.name, 0, 0, 0.0)


@pytest.fixture(scope="module")
def model():
    return load_model(kernel_mini_directory())


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(kernel_mini_directory())


@pytest.fixture(scope="module")
def abi(model, tokenizer):
    texts = [
        f"<|im_start|>user\n{verb} {how} {often}<|im_end|>\n<|im_start|>assistant\n{ANSWER}"
        for verb in ("walk", "jump", "run", "look")
        for how in ("left", "around right", "opposite left")
        for often in ("twice", "thrice")
    ]
    return optimal_abi(exit_states(model, [tokenizer.encode(text) for text in texts]), 64)


@pytest.fixture(scope="module")
def reader(model, tokenizer, abi):
    return Reader(model, tokenizer, abi)


@pytest.fixture(scope="module")
def x(reader):
    return reader.state(QUESTION)


def read_plainly(model, tokenizer, abi, text: str) -> np.ndarray:
    hidden = exit_states(model, [tokenizer.encode(text)])[-1]
    return np.asarray(abi.encode(jnp.asarray(hidden)))


def test_a_reply_is_read_behind_the_question(model, tokenizer, abi, reader, x):
    np.testing.assert_allclose(x, read_plainly(model, tokenizer, abi, CHAT), atol=1e-5)
    for reply in (ANSWER, "é"):
        wanted = read_plainly(model, tokenizer, abi, CHAT + reply)
        np.testing.assert_allclose(reader.state(QUESTION, reply), wanted, atol=1e-5)
    cut = reader.state(QUESTION, ANSWER, most=2)
    np.testing.assert_array_equal(cut, reader.state(QUESTION, "I_TURN_LEFT I_JUMP"))


def test_a_thought_is_what_the_head_says_of_the_state(model, tokenizer, abi, reader, x):
    """By hand from the numbers of ψ and of the head."""
    weight = np.asarray(model.lm_head.weight[...])
    for state in (x, reader.state(QUESTION, "I_TURN_LEFT"), np.zeros(64, np.float32)):
        hidden = np.asarray(abi.decoder.weight) @ state + np.asarray(abi.decoder.bias)
        token = tokenizer.decode([int(np.argmax(weight @ hidden))], skip_special_tokens=True)
        assert reader.thought(state) == token.strip()
    assert reader.thought(x) == "I_TURN_LEFT"
    assert reader.thought(reader.state(QUESTION, ANSWER)) == ""  # the head says the end


def test_the_prompt_ends_in_the_thought(reader, x):
    provider = Fixed("fixed", ANSWER)
    step = ReasoningStep(provider, reader, question=QUESTION, max_tokens=30)
    assert step.prompt(x) == "jump left thrice I_TURN_LEFT"
    assert step.reply(x) == ANSWER
    after = step(x, NOTHING)
    assert step.prompt(after) == QUESTION
    alone = ReasoningStep(provider, reader, question=QUESTION, wording=question_alone)
    assert alone.prompt(x) == QUESTION
    assert provider.asked == [Request("jump left thrice I_TURN_LEFT", max_tokens=30)]


def test_a_step_is_a_function_of_the_state_and_asks_once_a_prompt(reader, x):
    provider = Fixed("fixed", ANSWER)
    step = ReasoningStep(provider, reader, question=QUESTION)
    first = step(x, NOTHING)
    for other in (x, x * 1.0001, first):
        np.testing.assert_array_equal(step(other, NOTHING), first)
    assert [request.question for request in provider.asked] == [step.prompt(x), QUESTION]
    np.testing.assert_array_equal(first, reader.state(QUESTION, ANSWER))
    brief = ReasoningStep(provider, reader, question=QUESTION, max_tokens=2)
    np.testing.assert_array_equal(brief(x, NOTHING), reader.state(QUESTION, "I_TURN_LEFT I_JUMP"))


def test_a_node_has_the_steps_drift_and_no_slope_but_its_own(reader, x):
    node = reasoning_node(Fixed("fixed", ANSWER), reader, question=QUESTION, noise=0.3)
    assert isinstance(node, ProviderNode)
    assert (node.dim, node.control_dim) == (64, 0)
    state, u = jnp.asarray(x), jnp.zeros(0)
    np.testing.assert_array_equal(node.drift(state, u), reader.state(QUESTION, ANSWER) - x)
    np.testing.assert_array_equal(node.jacobian(state, u), -np.eye(64))
    np.testing.assert_array_equal(node.diffusion(state), np.full(64, np.float32(0.3)))


def machine_of(nodes, x, **options):
    machine = StateMachine(nodes=nodes, policy=None, monitor=None, **options)
    covariance = 0.01 * jnp.eye(64, dtype=jnp.float32)
    return machine, initial_state(
        machine, jnp.asarray(x), covariance, key=jax.random.key(0), active=min(nodes)
    )


def test_in_a_rollout_equals_stand_in_and_a_stranger_is_refused(reader, x):
    replies = {"a": ANSWER, "b": ANSWER, "stranger": "I_WALK"}
    nodes = {
        name: reasoning_node(Fixed(name, text), reader, question=QUESTION, noise=0.0)
        for name, text in replies.items()
    }
    machine, state = machine_of(nodes, x)
    run = rollout(machine, state, steps=4, dt=0.5, swaps=[Swap(1, "b"), Swap(2, "stranger")])
    np.testing.assert_array_equal(run.swaps.accepted, [True, False])
    assert float(run.swaps.delta[0]) == 0.0
    # After two steps of length ½ a quarter of the way to the reply is left.
    end, other = reader.state(QUESTION, ANSWER), reader.state(QUESTION, "I_WALK")
    old = (end - x) / 4
    wanted = np.linalg.norm(other - end) / np.linalg.norm(old)
    assert float(run.swaps.delta[1]) == pytest.approx(wanted, rel=1e-4)
    np.testing.assert_allclose(run.state.x, end - (end - x) / 16, atol=1e-4)
    assert machine.names[int(run.state.active)] == "b"


@pytest.mark.slow
def test_a_kernel_in_this_process_answers_inside_compiled_code(model, tokenizer, reader, x):
    """The callback starts programs of its own while one waits for it."""
    nodes = {
        name: reasoning_node(
            KernelProvider(model, tokenizer, name=name, context=64),
            reader,
            question=QUESTION,
            wording=question_alone,
            noise=0.0,
        )
        for name in ("first", "second")
    }
    machine, state = machine_of(nodes, np.stack([x, 0.5 * x, 0.0 * x]))
    run = rollout(machine, state, steps=3, dt=0.5, swaps=[Swap(1, "second")])
    assert run.swaps.accepted.all()
    end = reader.state(QUESTION, ANSWER)
    np.testing.assert_allclose(run.state.x, end - (end - np.asarray(state.x)) / 8, atol=1e-4)
    assert nodes["first"].provider.reply(x) == ANSWER  # pyright: ignore[reportFunctionMemberAccess]


def test_a_provider_that_fails_is_named_and_asked_again(reader, x):
    provider = Fixed("remote", ANSWER, failures=2)
    node = reasoning_node(provider, reader, question=QUESTION)
    told = "provider remote: no whole reply within 3 seconds"
    with pytest.raises(ProviderError, match=told) as caught:
        node.provider(x, NOTHING)
    assert caught.value.failure is Failure.TIMEOUT
    with pytest.raises(ValueError, match=f"^the provider remote raised ProviderError: {told}"):
        machine_of({"remote": node}, x)
    np.testing.assert_array_equal(node.provider(x, NOTHING), reader.state(QUESTION, ANSWER))


def test_a_failure_in_the_middle_of_a_run_is_named(reader, x):
    class Once(Fixed):
        def answer(self, request: Request) -> Reply:
            if self.asked:
                raise ProviderError(self.name, Failure.QUOTA, "none left.")
            return super().answer(request)

    node = reasoning_node(Once("stingy", ANSWER), reader, question=QUESTION, noise=0.0)
    machine, state = machine_of({"stingy": node}, np.zeros_like(x))
    answered = reader.state(QUESTION, ANSWER)
    assert reader.thought(state.x) != reader.thought(answered) == ""
    jump = Jump(0, answered)  # after a step that went as it should
    with pytest.raises(ValueError, match=r"^the provider stingy raised ProviderError: .*none left"):
        rollout(machine, state, steps=2, dt=1e-9, jumps=[jump])


def test_threads_get_the_same(reader, x):
    step = ReasoningStep(Fixed("fixed", ANSWER), reader, question=QUESTION)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(step(x, NOTHING))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all((one == found[0]).all() for one in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": "  "}, "question must not be empty"),
        ({"question": "jump " * 500}, "at most 512 tokens, the reader's positions; got 509 and 48"),
        ({"max_tokens": 0}, "max_tokens must lie in"),
        ({"noise": -1.0}, "noise must lie in"),
    ],
)
def test_bad_input_is_named(reader, change, message):
    given = {"question": QUESTION} | change
    with pytest.raises(ValueError, match=message):
        reasoning_node(Fixed("fixed", ANSWER), reader, **given)


def test_what_does_not_fit_is_named(model, tokenizer, reader):
    narrow = StateABI(95, 64, key=jax.random.key(0))
    with pytest.raises(ValueError, match="hidden states of 95 numbers; the model's have 96"):
        Reader(model, tokenizer, narrow)
    with pytest.raises(ValueError, match=r"x must have 64 numbers in its last axis; got \(65,\)"):
        reader.thought(np.zeros(65))
    node = reasoning_node(Fixed("fixed", ANSWER), reader, question=QUESTION)
    with pytest.raises(Exception, match="the provider fixed raised ValueError: x must have 64"):
        node.drift(jnp.zeros(65), jnp.zeros(0))
    with pytest.raises(ValueError, match=r"at most 512 tokens.*got 11 and"):
        reader.state(QUESTION, "I_WALK " * 600)
