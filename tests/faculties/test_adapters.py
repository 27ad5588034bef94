"""Trained learners and providers of text as agents."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.bridge import Failure, ProviderError, Reply, Request
from sigma_jax.faculties import (
    H_AFB,
    Ending,
    Key,
    Question,
    ask,
    attention_pairs,
    kernel_agent,
    learner_agent,
    measure,
    option_question,
    percent_question,
    provider_agent,
    sentence_question,
)
from sigma_jax.grammars import Pair, scan_pairs
from sigma_jax.kernel import kernel_mini_directory, load_model, load_tokenizer
from sigma_jax.training import (
    LearnerState,
    TransformerSizes,
    Vocabulary,
    encode_pairs,
    exact_match,
    start_learners,
    train_learners,
)

PAIRS = tuple(Pair(pair.source, pair.target) for pair in scan_pairs()[:16])


@pytest.fixture(scope="module")
def learners() -> tuple[LearnerState, Vocabulary]:
    """Two learners that know some of the pairs."""
    vocabulary = Vocabulary.of(PAIRS)
    sizes = TransformerSizes(1, 1, heads=2, width=16, hidden=32, dropout=0.0)
    state = start_learners(vocabulary.size, [3, 5], sizes)
    data = encode_pairs(vocabulary, PAIRS)
    return train_learners(state, data, steps=120, batch=16, learning_rate=1e-2)[0], vocabulary


def question(pair: Pair) -> Question:
    return sentence_question(f"{pair.source} =", Key("cell", pair.target, source=pair.source))


@pytest.mark.parametrize("member", [0, 1])
def test_a_learner_is_right_where_exact_match_says_so(
    learners: tuple[LearnerState, Vocabulary], member: int
):
    state, vocabulary = learners
    agent = learner_agent(state, vocabulary, member=member)
    expected = np.asarray(exact_match(state, encode_pairs(vocabulary, PAIRS)))[member]
    found = [outcome.right for outcome in ask(agent, map(question, PAIRS))]
    assert found == expected.tolist()
    assert sum(found) > 4


def test_words_that_a_learner_does_not_know_are_not_wrong(
    learners: tuple[LearnerState, Vocabulary],
):
    agent = learner_agent(*learners)
    outcomes = ask(
        agent,
        [
            question(Pair("RED walk", "I_WALK")),
            percent_question("How many?", Key("cell")),
            option_question("walk =", ["I_WALK", "I_RUN"], Key("cell", "I_WALK")),
        ],
    )
    assert [outcome.ending for outcome in outcomes] == [Ending.DECLINED] * 3
    assert "RED" in outcomes[0].why
    score = measure(H_AFB, agent, size=8, options=False).score
    assert not score.measured
    assert score.endings["declined"] >= 24


def test_an_answer_without_an_end_is_not_right(learners: tuple[LearnerState, Vocabulary]):
    state, vocabulary = learners
    whole = learner_agent(state, vocabulary)
    known = next(
        pair
        for pair in PAIRS
        if len(pair.target.split()) > 1 and whole(question(pair)) == pair.target
    )
    words = len(known.target.split())
    assert learner_agent(state, vocabulary, longest=words + 1)(question(known)) == known.target
    cut = learner_agent(state, vocabulary, longest=words)(question(known))
    assert cut == f"{known.target} ..."


def test_bad_learners_are_refused(learners: tuple[LearnerState, Vocabulary]):
    state, vocabulary = learners
    with pytest.raises(ValueError, match="member"):
        learner_agent(state, vocabulary, member=2)
    with pytest.raises(ValueError, match="longest"):
        learner_agent(state, vocabulary, longest=0)
    with pytest.raises(ValueError, match="tokens"):
        learner_agent(state, Vocabulary.of(attention_pairs(0, 0.6)))


def test_a_kernel_scores_options_by_their_likelihood():
    """Against one unpadded row at a time, in NumPy."""
    directory = kernel_mini_directory()
    model, tokenizer = load_model(directory), load_tokenizer(directory)
    options = ["a", "walk left and then"]
    asked = option_question("Say something:", options, Key("cell", "a"))
    given = kernel_agent(model, tokenizer)(asked)
    messages = [{"role": "user", "content": asked.prompt}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    for option, score in zip(options, given, strict=True):
        start, end = (
            tokenizer.backend_tokenizer.encode(str(part), add_special_tokens=False).ids
            for part in (text, option)
        )
        logits = np.asarray(model.logits(model(jnp.array([start + end])).hidden[-1])[0], float)
        logits -= logits.max(axis=1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        places = len(start) - 1 + np.arange(len(end))
        assert score == pytest.approx(log_p[places, end].mean(), abs=1e-4)
    too_long = option_question("walk " * 600, options, Key("cell", "a"))
    (outcome,) = ask(kernel_agent(model, tokenizer), [too_long])
    assert outcome.ending is Ending.DECLINED
    assert "512 positions" in outcome.why


class Scripted:
    """A provider that says what it is told to."""

    name = "scripted"

    def __init__(self, say: Callable[[Request], str]):
        self._say = say
        self.asked: list[Request] = []

    def answer(self, request: Request) -> Reply:
        self.asked.append(request)
        text = self._say(request)
        return Reply(text, self.name, len(request.prompt), len(text), 0.0)


def test_a_provider_reads_the_prompt_and_its_failures_are_counted():
    provider = Scripted(lambda request: "B")
    asked = option_question("walk =", ["I_RUN", "I_WALK"], Key("cell", "I_WALK", source="secret"))
    (outcome,) = ask(provider_agent(provider, max_tokens=9, seed=4), [asked])
    assert outcome.right
    assert provider.asked == [Request(asked.prompt, max_tokens=9, seed=4)]

    def failing(failure: Failure) -> Ending:
        def say(request: Request) -> str:
            raise ProviderError("scripted", failure, "nothing came.")

        (outcome,) = ask(provider_agent(Scripted(say)), [asked])
        assert "nothing came" in outcome.why
        return outcome.ending

    assert failing(Failure.TIMEOUT) is Ending.RAISED
    assert failing(Failure.REFUSED) is Ending.DECLINED
    (outcome,) = ask(provider_agent(Scripted(lambda request: "")), [asked])
    assert outcome.ending is Ending.EMPTY
    with pytest.raises(ValueError, match="max_tokens"):
        provider_agent(provider, max_tokens=0)
