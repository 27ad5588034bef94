"""The kernel as an agent that gives each option the likelihood that it has for the model."""

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from ..kernel import Ouro, check_tokenizer
from ..training import token_losses
from .agents import Agent, CannotAnswer, scoring_agent

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def kernel_agent(model: Ouro, tokenizer: "PreTrainedTokenizerFast") -> Agent:
    """A kernel that is shown a prompt and scores each option by its mean log-probability a token.

    The prompt is in the chat format if the tokenizer has one; all loops are run. Questions without
    options, and prompts that with an option are longer than the model has positions for, are ones
    that it cannot answer. For an agent that writes, see `provider_agent`.

    **Raises** `ValueError` for a tokenizer with ids that the model does not have.
    """
    check_tokenizer(tokenizer, model.config)
    graph, state = nnx.split(model)
    most = model.config.max_position_embeddings

    def encoded(text: str) -> list[int]:
        return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def asked(prompt: str) -> list[int]:
        if tokenizer.chat_template is None:
            return tokenizer.backend_tokenizer.encode(prompt, add_special_tokens=True).ids
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert isinstance(text, str)
        return encoded(text)

    def scores(prompt: str, options: tuple[str, ...]) -> list[float]:
        start, ends = asked(prompt), [encoded(option) for option in options]
        longest = len(start) + max(map(len, ends))
        if longest > most:
            raise CannotAnswer(f"{longest} tokens, and the model has {most} positions")
        # One program serves all lengths between two powers of two.
        width = min(most, 1 << (longest - 1).bit_length()) + 1
        rows = [[*start, *end] for end in ends]
        ids = np.zeros((len(rows), width), np.int32)
        counted = np.zeros(ids.shape, bool)
        for at, (row, end) in enumerate(zip(rows, ends, strict=True)):
            ids[at, width - len(row) :] = row
            counted[at, width - len(end) :] = True
        lengths = np.array([len(row) for row in rows])
        real = np.arange(width) >= width - lengths[:, None]
        return np.asarray(_mean_log_likelihoods(graph, state, ids, real, counted)).tolist()

    return scoring_agent(scores)


@partial(jax.jit, static_argnames="graph")
def _mean_log_likelihoods(
    graph: nnx.GraphDef[Ouro],
    state: nnx.State,
    ids: Int[Array, "options tokens"],
    real: Bool[Array, "options tokens"],
    counted: Bool[Array, "options tokens"],
) -> Float[Array, " options"]:
    model = nnx.merge(graph, state)
    hidden = model(ids[:, :-1], real=real[:, :-1]).hidden[-1:]
    losses = token_losses(model, hidden, ids[:, 1:])[0]
    weights = counted[:, 1:].astype(losses.dtype)
    return -jnp.sum(losses * weights, axis=1) / jnp.sum(weights, axis=1)
