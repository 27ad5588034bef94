"""Agents made of what the other rooms have: trained learners, and providers of text."""

import jax
import numpy as np

from .._check import require_in
from ..bridge import Failure, Provider, ProviderError, Request
from ..training import END, PAD, LearnerState, Vocabulary, greedy_targets
from .agents import Agent, CannotAnswer, source_agent, text_agent

_NARROWEST = 16
"""Tokens of a row: one program serves all sources between two powers of two."""


def learner_agent(
    state: LearnerState, vocabulary: Vocabulary, *, member: int = 0, longest: int = 64
) -> Agent:
    """One of several trained learners; it answers the source of a question, without its prompt.

    A source with a word that is not in its vocabulary is one that it cannot answer. What it says
    without coming to an end is followed by "...", so that it is not taken for right. Ask it with
    `measure(..., options=False)`: it says sentences, not options.

    **Arguments:** `member`, which learner, by its place in `state.seeds`; `longest`, tokens of an
    answer, its end included.

    **Raises** `ValueError` for a member that is not there, no room for an answer, or a vocabulary
    of another size than the learner's.
    """
    require_in("member", member, 0, state.seeds.size - 1)
    require_in("longest", longest, 1)
    known = state.model.vocabulary_size
    if vocabulary.size != known:
        raise ValueError(f"vocabulary has {vocabulary.size} tokens, the learner {known}.")
    alone = jax.tree.map(lambda leaf: leaf[member : member + 1], state)

    def answer(source: str) -> str:
        words = source.split()
        unknown = sorted(set(words) - vocabulary.source_words)
        if unknown:
            raise CannotAnswer(f"unknown words: {', '.join(unknown)}")
        width = max(_NARROWEST, 1 << (len(words) - 1).bit_length())
        row = np.full((1, width), PAD, np.int32)
        row[0, : len(words)] = [vocabulary.numbers[word] for word in words]
        said = np.asarray(greedy_targets(alone, row, longest=longest))[0, 0]
        sentence = vocabulary.sentence(said)
        return sentence if END in said else f"{sentence} ..."

    return source_agent(answer)


def provider_agent(provider: Provider, *, max_tokens: int = 256, seed: int = 0) -> Agent:
    """A provider of text, such as an endpoint or the kernel; it reads the prompt alone.

    A question that the provider refuses, such as one too long for it, is one that it cannot answer;
    any other `ProviderError` is raised. Its own deadline should be less than that of `ask`. A model
    that was trained on sentences alone takes `source_agent` instead.

    **Arguments:** `max_tokens` of an answer; `seed` of its draws, if it draws.

    **Raises** `ValueError` for fewer than one token.
    """
    require_in("max_tokens", max_tokens, 1)

    def answer(prompt: str) -> str:
        try:
            return provider.answer(Request(prompt, max_tokens=max_tokens, seed=seed)).text
        except ProviderError as error:
            if error.failure is Failure.REFUSED:
                raise CannotAnswer(str(error)) from error
            raise

    return text_agent(answer)
