"""Calibrating the monitor to a model and an identity: the same prompts, with and without it."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Key

from .calibration import LEAST_REPLIES, Calibration, calibrate
from .checks import violations
from .encoders import Encoder, HashedEncoder
from .identity import Identity
from .models import Model, as_model
from .prompt import Exchange, PromptBudget, PromptParts, build_prompt, cut_window
from .reply_problems import ReplyProblem, reply_problem
from .style import style_features

CALIBRATION_PROMPTS = (
    "What should I do first today?",
    "Explain in short why backups are tested.",
    "I have two offers and cannot decide. How do I compare them?",
    "List what belongs into a handover.",
    "What is the difference between a risk and an issue?",
    "Somebody changed the file without telling anyone. What now?",
    "Give me a plan for learning a new tool in a month.",
    "How long may a meeting be?",
    "Describe a good summary.",
    "What would you ask before you start?",
    "The numbers do not add up. Where do I look?",
    "Write two sentences to a colleague who is late with a report.",
    "Which steps does a careful move of an office have?",
    "What can go wrong when two teams share a calendar?",
    "How do I say no to a request?",
    "Why does a checklist help people who know their work?",
    "Name three ways of finding the cause of a failure.",
    "I am tired of this project. What do you suggest?",
    "When is a decision final?",
    "Tell me what you would do with an hour that is free.",
    "The meeting room is on the second floor.",
    "My colleague Robin writes the report. It is due on Thursday.",
    "Which floor is the meeting room on?",
    "I moved the desk to the window, which helps.",
    "When is the report due?",
    "What is the door code of the archive?",
    "Who writes the report?",
    "Thanks, that is all for now.",
)
"""For identities that bring none of their own: questions, statements, and what was said before."""


def calibrate_identity(
    model: Model | Callable[[str], str],
    identity: Identity,
    *,
    key: Key[Array, ""],
    prompts: Sequence[str] = CALIBRATION_PROMPTS,
    encoder: Encoder | None = None,
    window: int = PromptBudget().window,
    max_tokens: int = 512,
    false_alarm: float = 0.05,
    horizon: int = 200,
    replicas: int = 10_000,
    progress: Callable[[int], None] | None = None,
) -> Calibration:
    """Lead two conversations with a model, with the identity and without; fit a monitor to them.

    In each all prompts are asked, one after the other: a model that sees its own last replies does
    not write as one that is asked for the first time, and in conversations it is to be watched.

    **Arguments:** `model`, `identity` and `encoder` as of the `ConversationRuntime` that is to use
    it; `key` of the simulation behind the limits; `prompts`, about twenty; `window`, the tokens of
    exchanges that a prompt shows, as of its `PromptBudget`; `max_tokens` of a reply; `false_alarm`,
    the share of conversations of `horizon` turns that may alarm without cause; `replicas` of the
    simulation; `progress`, called with the number of replies so far.

    **Raises** `ModelFailure` if the model gives none; `ValueError` if fewer than five prompts have
    a reply that is not empty both times.
    """
    model, encoder = as_model(model), encoder or HashedEncoder()
    replies: dict[bool, list[str]] = {True: [], False: []}
    for with_identity, said in replies.items():
        shown: tuple[Exchange, ...] = ()
        for place, prompt in enumerate(prompts, start=1):
            built = build_prompt(PromptParts(identity, (), shown, (), "", prompt))
            messages = built.messages[0 if with_identity else 1 :]
            said.append(model.complete(messages, max_tokens=max_tokens).text)
            shown = cut_window((*shown, Exchange(place, prompt, said[-1])), window)
            if progress is not None:
                progress(place + (not with_identity) * len(prompts))
    whole = [
        pair
        for pair in zip(replies[True], replies[False], strict=True)
        if all(reply_problem(each, most_bytes=2**30) is not ReplyProblem.EMPTY for each in pair)
    ]
    if len(whole) < LEAST_REPLIES:
        raise ValueError(
            f"prompts must get at least {LEAST_REPLIES} replies that are not empty, with the "
            f"identity and without; got {len(whole)} of {len(prompts)}."
        )
    own, other = ([pair[place] for pair in whole] for place in range(2))
    return calibrate(
        np.stack([style_features(reply) for reply in own]),
        encoder.encode(own),
        np.stack([style_features(reply) for reply in other]),
        encoder.encode(other),
        key=key,
        identity_violations=np.array([violations(identity.constraints, reply) for reply in own]),
        false_alarm=false_alarm,
        horizon=horizon,
        replicas=replicas,
        identity=identity.told_digest,
        encoder=encoder.name,
    )
