"""A kernel in this process, and the same one behind our own server."""

import threading

import jax
import jax.numpy as jnp
import pytest

from sigma_jax.bridge import (
    Failure,
    KernelProvider,
    OllamaEndpoint,
    OpenAIEndpoint,
    Passage,
    ProviderError,
    Request,
)
from sigma_jax.kernel import (
    Depth,
    FixedDepth,
    kernel_mini_directory,
    load_model,
    load_tokenizer,
)
from tests.serve.conftest import serving

CHAT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
JUMP = Request("jump twice", max_tokens=40)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(kernel_mini_directory())


@pytest.fixture(scope="module")
def provider(tokenizer):
    return KernelProvider(load_model(kernel_mini_directory()), tokenizer)


def test_it_does_what_it_was_taught(provider):
    reply = provider.answer(JUMP)
    assert reply.text == "I_JUMP I_JUMP"
    assert (reply.provider, reply.sent_bytes, reply.received_bytes) == ("kernel", 10, 13)
    assert reply.seconds > 0
    assert provider.answer(Request("walk left and run")).text == "I_TURN_LEFT I_WALK I_RUN"


def test_the_answer_is_as_short_as_is_asked(provider):
    assert provider.answer(Request("jump twice", max_tokens=1)).text == "I_JUMP"


def test_the_last_passages_go_until_the_prompt_fits(provider, tokenizer):
    passages = tuple(Passage(f"a:{line}-{line}", "jump twice " * 60) for line in range(1, 5))
    prompts = [Request("jump", passages[:kept]).prompt for kept in range(5)]
    lengths = [len(tokenizer.encode(CHAT.format(prompt))) for prompt in prompts]
    for max_tokens, kept in ((1, 3), (512 - lengths[2], 2), (513 - lengths[2], 1), (9999, 1)):
        reply = provider.answer(Request("jump", passages, max_tokens))
        assert reply.sent_bytes == len(prompts[kept].encode())
    assert lengths[1] <= 256 < lengths[2] < lengths[3] < 512 < lengths[4]
    huge = Passage("a:1-1", "jump twice " * 300)
    reply = provider.answer(Request("jump twice", (huge, passages[0])))
    assert (reply.text, reply.sent_bytes) == ("I_JUMP I_JUMP", 10)


def test_a_question_that_is_too_long_is_refused(provider):
    with pytest.raises(ProviderError, match="tokens, and there is room for 472") as caught:
        provider.answer(Request("jump " * 500, (Passage("a:1-1", "b"),), max_tokens=40))
    assert caught.value.failure is Failure.REFUSED
    assert caught.value.provider == "kernel"


def test_numbers_that_are_not_finite_are_the_kernels_fault(tokenizer):
    model = load_model(kernel_mini_directory())
    model.lm_head.weight[...] = jnp.full_like(model.lm_head.weight[...], jnp.nan)
    broken = KernelProvider(model, tokenizer, name="broken")
    with pytest.raises(ProviderError, match=r"provider broken: .* not finite") as caught:
        broken.answer(JUMP)
    assert caught.value.failure is Failure.SERVER


def test_the_depth_is_the_one_that_was_asked_for(provider, tokenizer):
    model = load_model(kernel_mini_directory())
    depth = Depth(FixedDepth(max_loops=1))
    shallow = KernelProvider(model, tokenizer, depth=depth)
    strange = Request("no command, but é", max_tokens=40)  # at commands it is good at any depth
    assert shallow.answer(strange).text != provider.answer(strange).text


def test_without_a_chat_template_the_prompt_is_continued(provider):
    plain = load_tokenizer(kernel_mini_directory())
    plain.chat_template = None
    bare = KernelProvider(load_model(kernel_mini_directory()), plain)
    assert bare.answer(Request(CHAT.format("jump twice"))).text == "I_JUMP I_JUMP"


def test_many_threads_get_what_they_asked_for(provider):
    wanted = {"walk": "I_WALK", "run twice": "I_RUN I_RUN", "look left": "I_TURN_LEFT I_LOOK"}
    heard: list[tuple[str, str]] = []

    def ask(question: str) -> None:
        heard.append((question, provider.answer(Request(question, max_tokens=40)).text))

    threads = [threading.Thread(target=ask, args=(question,)) for question in [*wanted] * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(heard) == sorted([*wanted.items()] * 3)


def test_prompts_of_like_length_share_a_program(provider):
    provider.answer(JUMP)
    compiled: list[str] = []

    def notice(event: str, seconds: float, **about: object) -> None:
        if "compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(notice)
    try:
        for question, most in (("walk", 3), ("run left and walk twice", 50), ("look", 200)):
            provider.answer(Request(question, max_tokens=most))
        assert compiled == []
        jax.jit(lambda x: x * 3 + 1)(jnp.arange(7))
        assert compiled  # it does notice
    finally:
        jax.monitoring.unregister_event_duration_listener(notice)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"name": ""}, "name must not be empty"), ({"context": 1}, "context must lie in")],
)
def test_bad_arguments_are_named(options, words, provider, tokenizer):
    with pytest.raises(ValueError, match=words):
        KernelProvider(load_model(kernel_mini_directory()), tokenizer, **options)


def test_the_context_is_at_most_the_models(tokenizer):
    model = load_model(kernel_mini_directory())
    longest = model.config.max_position_embeddings
    assert KernelProvider(model, tokenizer, context=10**6).context == longest


# Behind our own server --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server():
    with serving(kernel_mini_directory()) as running:
        yield running


def test_both_protocols_of_our_server_say_what_the_kernel_says(server, provider):
    with (
        OpenAIEndpoint("a", server.url, "ouro") as openai,
        OllamaEndpoint("b", server.url, "ouro") as ollama,
    ):
        for question in ("jump twice", "look opposite left", "no é"):
            request = Request(question, max_tokens=40)
            replies = [one.answer(request) for one in (provider, openai, ollama)]
            assert len({reply.text for reply in replies}) == 1
            assert len({(reply.sent_bytes, reply.received_bytes) for reply in replies}) == 1


@pytest.mark.parametrize("kind", [OpenAIEndpoint, OllamaEndpoint])
@pytest.mark.parametrize(
    ("model", "question", "words"),
    [("ouro", "walk " * 200, "context"), ("gone", "walk", "not found")],
)
def test_our_server_refuses_what_is_too_long_or_not_there(server, kind, model, question, words):
    with kind("far", server.url, model) as endpoint, pytest.raises(ProviderError) as caught:
        endpoint.answer(Request(question))
    assert caught.value.failure is Failure.REFUSED
    assert words in str(caught.value)
