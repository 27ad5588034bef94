"""A provider's reasoning step as a node: a state is said, answered, and the answer is read.

Source: Σ₀-K1, component 4 (provider nodes).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from ..kernel import Ouro, check_tokenizer
from ..vm import ProviderNode
from .abi_fidelity import require_fits
from .requests import Provider, Request
from .state_abi import StateABI

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_NARROWEST = 16

Wording = Callable[[str, str], str]
"""How a question and a thought make a prompt."""


def question_and_thought(question: str, thought: str) -> str:
    """The question, and behind a space the thought, if there is one."""
    return f"{question} {thought}" if thought else question


def question_alone(question: str, thought: str) -> str:
    """The question, whatever the thought: the step then does not depend on the state."""
    return question


class Reader:
    """A kernel that says what is in a state, and makes a state of what it reads.

    **Arguments:** `model`, `tokenizer`; `abi`, between the model's hidden states and states.

    **Raises** `ValueError` if the ABI is of another width than the model, or the tokenizer has ids
    that the model does not have.
    """

    def __init__(self, model: Ouro, tokenizer: "PreTrainedTokenizerFast", abi: StateABI):
        require_fits(abi, model)
        check_tokenizer(tokenizer, model.config)
        self.abi = abi
        self._model, self._tokenizer = model, tokenizer

    def thought(self, x: Float[ArrayLike, " d"]) -> str:
        """The likeliest token that the head says of ψ(x), as text without white space around it.

        Empty for a special token: in ChatML the head says the end when all is said.

        **Raises** `ValueError` for a state of another dimension.
        """
        likeliest = _likeliest(self._model, self.abi, jnp.asarray(x))
        text = self._tokenizer.backend_tokenizer.decode([int(likeliest)], skip_special_tokens=True)
        return text.strip()

    def prompt_ids(self, question: str) -> list[int]:
        """The tokens of a question, up to where the answer begins, in the model's chat format."""
        tokenizer = self._tokenizer
        if tokenizer.chat_template is None:
            return tokenizer.backend_tokenizer.encode(question, add_special_tokens=True).ids
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def require_room(self, question: str, tokens: int) -> None:
        """Raise `ValueError` unless the model has positions for a question and so many more."""
        count, longest = len(self.prompt_ids(question)), self._model.config.max_position_embeddings
        if count + tokens > longest:
            raise ValueError(
                f"question and reply must have at most {longest} tokens, the reader's positions; "
                f"got {count} and {tokens}."
            )

    def state(
        self, question: str, reply: str = "", *, most: int | None = None
    ) -> Float[np.ndarray, " d"]:
        """φ of the hidden state, after all loops, of the last token of a question and its answer.

        Of an empty answer it is the last token before it, from which the kernel would answer.

        **Arguments:** `most`, how many tokens of the answer are read, from its beginning.

        **Raises** `ValueError` if question and answer have more tokens than the model has
        positions for.
        """
        answer = self._tokenizer.backend_tokenizer.encode(reply, add_special_tokens=False).ids
        answer = answer[:most]
        self.require_room(question, len(answer))
        ids = [*self.prompt_ids(question), *answer]
        # Padded on the left to few widths, so that little has to be compiled.
        width = max(_NARROWEST, 1 << (len(ids) - 1).bit_length())
        row = np.array([[0] * (width - len(ids)) + ids], np.int32)
        real = np.arange(width)[None] >= width - len(ids)
        return np.asarray(_read(self._model, self.abi, jnp.asarray(row), jnp.asarray(real)))


class ReasoningStep:
    """x′ of one reasoning step: ψ(x) is said, a provider answers, φ is taken of what it says.

    What the head says of ψ(x) ends the prompt; the reply is read behind the question. A function
    of x alone if the provider's reply is one of its prompt. Replies are kept by prompt, one for
    each thought that there has been, so a prompt is asked once.

    **Arguments:** `provider`; `reader`; `question`; `max_tokens` of a reply, in the provider's
    count when it is asked for, and in the reader's when it is read; `wording`, how question and
    thought make a prompt.

    **Raises** `ValueError` for an empty question, fewer than one token, or a question that, with a
    reply, is longer than the reader has positions for.
    """

    def __init__(
        self,
        provider: Provider,
        reader: Reader,
        *,
        question: str,
        max_tokens: int = 48,
        wording: Wording = question_and_thought,
    ):
        Request(question, max_tokens=max_tokens)  # raises for what nobody can be asked
        reader.require_room(question, max_tokens)
        self.reader, self.question, self.max_tokens = reader, question, max_tokens
        self._provider, self._wording = provider, wording
        self._known: dict[str, tuple[str, np.ndarray]] = {}
        self.__qualname__ = provider.name  # what errors of a `ProviderNode` call it

    def prompt(self, x: Float[ArrayLike, " d"]) -> str:
        """What the provider is asked at x."""
        return self._wording(self.question, self.reader.thought(x))

    def reply(self, x: Float[ArrayLike, " d"]) -> str:
        """What the provider answers at x.

        **Raises** `ProviderError` if it does not; the next call asks again.
        """
        return self._step(x)[0]

    def __call__(self, x: Float[ArrayLike, " d"], u: Float[ArrayLike, " m"]) -> np.ndarray:
        return self._step(x)[1]

    def _step(self, x: Float[ArrayLike, " d"]) -> tuple[str, np.ndarray]:
        prompt = self.prompt(x)
        if prompt not in self._known:
            reply = self._provider.answer(Request(prompt, max_tokens=self.max_tokens)).text
            after = self.reader.state(self.question, reply, most=self.max_tokens)
            self._known[prompt] = reply, after
        return self._known[prompt]


def reasoning_node(
    provider: Provider,
    reader: Reader,
    *,
    question: str,
    max_tokens: int = 48,
    wording: Wording = question_and_thought,
    noise: float | Float[Array, " d"] = 0.1,
) -> ProviderNode:
    """One reasoning step of a provider of text as a node without control: drift(x) = x′ − x.

    x acts on x′ through the text of one token, which does not change where x changes little: so
    ∂x′/∂x is zero but on the borders between two tokens, where there is no derivative, and the
    drift's Jacobian is given as −I. It says that x is forgotten, not that the provider is stable.

    **Arguments:** as of `ReasoningStep`; `noise`, g of the diffusion, a number or `[d]`.

    **Raises** `ValueError` as `ReasoningStep` does; called, it names a provider that fails, as
    every `ProviderNode` does.

    Source: Σ₀-K1, component 4: hidden = ψ(x) → prompt → provider → reply → encode → φ → x′.
    """
    step = ReasoningStep(
        provider, reader, question=question, max_tokens=max_tokens, wording=wording
    )
    return ProviderNode(provider=step, dim=reader.abi.dim, noise=noise, state_jacobian=_nothing)


def _nothing(x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """∂x′/∂x."""
    return np.zeros((x.size, x.size), x.dtype)


@eqx.filter_jit
def _likeliest(model: Ouro, abi: StateABI, x: Float[Array, " d"]) -> Int[Array, ""]:
    hidden = abi.decode(x.astype(abi.decoder.weight.dtype))
    return jnp.argmax(model.logits(hidden.astype(model.dtype)))


@eqx.filter_jit
def _read(
    model: Ouro, abi: StateABI, ids: Int[Array, "one tokens"], real: Bool[Array, "one tokens"]
) -> Float[Array, " d"]:
    hidden = model(ids, real=real).hidden[-1, 0, -1]
    return abi.encode(hidden.astype(abi.encoder.weight.dtype))
