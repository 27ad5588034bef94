"""Conversations with a simulated model: what a monitor is calibrated on, and plain drivers."""

from collections.abc import Sequence
from typing import NamedTuple

from .._check import require_in
from .messages import Message, render
from .scenario import Scenario
from .simulated_model import SimulatedModel, SimulatedState


class SimulatedTurn(NamedTuple):
    """A prompt, its reply, and what was true of the model."""

    prompt_text: str
    reply: str
    state: SimulatedState


def identity_text(scenario: Scenario) -> str:
    """The scenario's identity as a system message: its description, its constraints in lines."""
    lines = [f"- {constraint.text}" for constraint in scenario.constraints]
    return "\n".join([scenario.identity_description, "In every reply:", *lines])


def calibration_replies(model: SimulatedModel, *, with_identity: bool) -> tuple[str, ...]:
    """The model's replies to its scenario's calibration prompts, each asked by itself.

    **Arguments:** `with_identity`, whether the identity is said before.
    """
    said = [Message("system", identity_text(model.scenario))] if with_identity else []
    prompts = model.scenario.calibration_prompts
    return tuple(model.reply(render([*said, Message("user", each)]), turn=0) for each in prompts)


def simulate_conversation(
    model: SimulatedModel,
    user_texts: Sequence[str],
    *,
    system: str = "",
    window: int | None = None,
) -> tuple[SimulatedTurn, ...]:
    """A conversation without a runtime: the system's text, the last exchanges, the user's words.

    **Arguments:** `user_texts`, one a turn; `system`, said at the front of every prompt, or
    nothing; `window`, how many exchanges a prompt has, by default all.

    **Raises** `ValueError` for a window below none.
    """
    if window is not None:
        require_in("window", window, 0)
    head = [Message("system", system)] if system else []
    said: list[Message] = []
    turns: list[SimulatedTurn] = []
    for number, text in enumerate(user_texts, start=1):
        kept = said if window is None else said[len(said) - min(2 * window, len(said)) :]
        prompt_text = render([*head, *kept, Message("user", text)])
        reply, state = model.reply_and_state(prompt_text, turn=number)
        turns.append(SimulatedTurn(prompt_text, reply, state))
        said += [Message("user", text), Message("assistant", reply)]
    return tuple(turns)
