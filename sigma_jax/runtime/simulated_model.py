"""A language model that is simulated: it writes text, forgets as models do, and costs nothing.

The design calls it SimLLM. Everything that it knows it reads from the bytes of its prompt, so only
what is in the prompt can help it, and its true state is known, so a detector can be marked.
"""

import functools
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from .._check import require_in
from ..bridge import Failure, ProviderError
from .control import VARIATIONS
from .keyed_draws import KeyedDraws
from .messages import Message, parse, render
from .prompt import users_words
from .reply_grammar import Blend, ReplyGrammar, load_grammar, marked_share, topic_of, write_text
from .scenario import Habit, Scenario, ScenarioTurn, load_scenario
from .simulated_answers import Candour, answer_sentences
from .simulated_modes import Circumstances, Mode, Stationary
from .tokens import BYTES_PER_TOKEN, count_tokens

_OVERSIZED = 5_000_000
_OWN_VOICE = "planner"


class SimulatedState(NamedTuple):
    """What is true of a simulated model as it replies."""

    turn: int
    share: float
    """Of its sentences that are in the identity's voice, in expectation: s in [0, 1]."""
    compliance: tuple[float, ...]
    """The probability p of keeping each constraint of the scenario, in order."""
    kept: tuple[bool, ...]
    """Whether this reply keeps it."""
    guard: float
    """The probability of keeping to the identity's limits."""
    style: str
    """The voice that the user has asked for; empty: none."""
    circumstances: Circumstances


@dataclass(frozen=True)
class SimulatedModel:
    """A deterministic model: a function of the prompt's bytes, these arguments and the turn.

    Constraint k is kept with probability p∞ + (p₀ − p∞) exp(−Δ/τ), where Δ counts the tokens
    behind the last place where the constraint's exact words stand in the prompt; p∞ if they stand
    nowhere. A sentence is in the identity's voice with probability
    s = (1 − β)(s∞ + (s₀ − s∞) a) + β m − pull + ε, within [0, 1], where
    a = (1 − loss) exp(−Δ/τ) + loss exp(−Δ/τ₁) with Δ counted from the identity's description, and m
    is the share of that voice in its own last four replies in the prompt, the later the heavier
    (β = 0 without any). Facts it states only as the prompt states them (`said_value`). What the
    user asks of the style it follows until an end is said or the request leaves the prompt.

    All noise is drawn by the seed, the user's last words and the attempt, so that two prompts for
    one turn share it.

    **Arguments:** `scenario`, whose slots, constraints and identity it has to do with; `seed`;
    `mode`, a schedule over turns; `near` p₀ and `far` p∞; `reach_scale`, a factor to the τ of every
    constraint, which the scenario gives; `identity_near` s₀, `identity_far` s∞, `identity_reach` τ
    and `restated_reach` τ₁, in tokens; `self_imitation` β; `noise`, the deviation of ε;
    `obedience`, the share of sentences in a voice asked for; `temptation`, the share of compliance
    that a probe takes away; `candour`; `context_tokens`, the longest prompt: of a longer one the
    oldest messages after the first system message are not seen.

    **Raises** `ValueError` for a number out of range.
    """

    scenario: Scenario = field(default_factory=load_scenario, repr=False)
    seed: int = 0
    mode: Mode = field(default_factory=Stationary)
    near: float = 0.98
    far: float = 0.5
    reach_scale: float = 1.0
    identity_near: float = 0.95
    identity_far: float = 0.05
    identity_reach: float = 12_000.0
    restated_reach: float = 150.0
    self_imitation: float = 0.4
    noise: float = 0.08
    obedience: float = 0.95
    temptation: float = 0.3
    candour: Candour = field(default_factory=Candour)
    context_tokens: int | None = None

    def __post_init__(self) -> None:
        for name in (
            *("near", "far", "identity_near", "identity_far", "self_imitation"),
            *("obedience", "temptation"),
        ):
            require_in(name, getattr(self, name), 0.0, 1.0)
        for name in ("reach_scale", "identity_reach", "restated_reach"):
            require_in(name, getattr(self, name), 0.0, open_low=True)
        require_in("noise", self.noise, 0.0)
        if self.context_tokens is not None:
            require_in("context_tokens", self.context_tokens, 1)

    def __call__(self, prompt_text: str) -> str:
        return self.reply(prompt_text)

    def reply(self, prompt_text: str, turn: int | None = None, attempt: int = 0) -> str:
        """The reply to a prompt.

        **Arguments:** `prompt_text`, as `render` writes it; `turn`, for the mode's schedule, by
        default the scenario's turn of the user's words, or else the number of user's messages in
        the prompt; `attempt`, another number for other noise.

        **Raises** `ProviderError` where the mode says so; `ValueError` for a prompt without a
        message.
        """
        return self.reply_and_state(prompt_text, turn, attempt)[0]

    def reply_and_state(
        self, prompt_text: str, turn: int | None = None, attempt: int = 0
    ) -> tuple[str, SimulatedState]:
        """The reply to a prompt, and what is true of the model as it replies: see `reply`."""
        seen = self._seen(prompt_text)
        state = self._state(seen, turn, attempt)
        draws = self._draws(seen, attempt, state.circumstances.alike)
        return self._failing(self._written(seen, state, draws), state, draws), state

    def state(self, prompt_text: str, turn: int | None = None, attempt: int = 0) -> SimulatedState:
        """What is true of the model as it replies to a prompt: see `reply` for the arguments."""
        return self._state(self._seen(prompt_text), turn, attempt)

    def _failing(self, text: str, state: SimulatedState, draws: KeyedDraws) -> str:
        failure = state.circumstances.failure
        if failure == "error":
            raise ProviderError("simulated", Failure.SERVER, f"no reply in turn {state.turn}.")
        if failure == "empty":
            return ""
        if failure == "other language":
            return " ".join(draws.shuffled(self._grammar.other_language, "language"))
        if failure == "truncated":
            return text[: max(len(text) // 2, 1)].rstrip(" .;!\n")
        if failure == "oversized":
            return (text + "\n") * -(-_OVERSIZED // len((text + "\n").encode()))
        return text

    def _seen(self, prompt_text: str) -> "_Seen":
        messages = parse(prompt_text)
        if not messages:
            raise ValueError(f"prompt_text must hold a message; got {prompt_text!r}.")
        if self.context_tokens is not None and count_tokens(prompt_text) > self.context_tokens:
            messages = within_context(messages, self.context_tokens)
            prompt_text = render(messages)
        words = users_words(messages[-1].content)
        return _Seen(prompt_text, messages, words, self._turns.get(words.strip()))

    def _state(self, seen: "_Seen", turn: int | None, attempt: int) -> SimulatedState:
        if turn is None:
            said = sum(message.role == "user" for message in seen.messages)
            turn = said if seen.turn is None else seen.turn.number
        now = self.mode.at(turn)
        if any(wish in seen.messages[-1].content for wish in VARIATIONS):
            now = now._replace(alike=0.2 * now.alike)
        draws = self._draws(seen, attempt, 0.0)
        distance = _distance(seen.text, self.scenario.identity_description)
        hold = (1 - now.loss) * math.exp(-distance / self.identity_reach)
        hold += now.loss * math.exp(-distance / self.restated_reach)
        compliance = tuple(
            self._compliance(habit, seen, text.text)
            for habit, text in zip(self.scenario.habits, self.scenario.constraints, strict=True)
        )
        return SimulatedState(
            turn=turn,
            share=self._share(seen, hold, now, draws),
            compliance=compliance,
            kept=tuple(
                draws.uniform("constraint", habit.constraint) < probability
                for habit, probability in zip(self.scenario.habits, compliance, strict=True)
            ),
            guard=self.far + (self.near - self.far) * hold,
            style=now.style or self._style(seen),
            circumstances=now,
        )

    def _compliance(self, habit: Habit, seen: "_Seen", text: str) -> float:
        reach = habit.reach * self.reach_scale
        kept = self.far + (self.near - self.far) * math.exp(-_distance(seen.text, text) / reach)
        tempted = seen.turn is not None and seen.turn.tempts == habit.constraint
        return kept * (1 - self.temptation) if tempted else kept

    def _share(self, seen: "_Seen", hold: float, now: Circumstances, draws: KeyedDraws) -> float:
        share = self.identity_far + (self.identity_near - self.identity_far) * hold
        voices = self._grammar.voices
        mark = voices[_OWN_VOICE].mark
        others = tuple(each.mark for each in voices.values() if each.mark and each.mark != mark)
        own = [message.content for message in seen.messages if message.role == "assistant"][-4:]
        measured = [marked_share(reply, mark, others) for reply in own]
        weights = [0.5 ** (len(own) - place) for place in range(len(own))]
        known = [(w, m) for w, m in zip(weights, measured, strict=True) if m is not None]
        if known:
            recent = sum(w * m for w, m in known) / sum(w for w, _ in known)
            share = (1 - self.self_imitation) * share + self.self_imitation * recent
        return min(max(share - now.pull + self.noise * draws.normal("share"), 0.0), 1.0)

    def _style(self, seen: "_Seen") -> str:
        style = ""
        for message in seen.messages:
            user = message.role == "user"
            turn = self._turns.get(users_words(message.content).strip()) if user else None
            if turn is not None:
                style = {"style_begin": turn.style, "style_end": ""}.get(turn.kind, style)
        return style

    def _written(self, seen: "_Seen", state: SimulatedState, draws: KeyedDraws) -> str:
        grammar, turn, now = self._grammar, seen.turn, state.circumstances
        answer: tuple[str, ...] = ()
        if turn is not None:
            answer = answer_sentences(
                *(self.scenario, grammar, turn, seen.text, draws, self.candour, state.guard)
            )
        default = grammar.voices[now.default_voice]
        blend = Blend(grammar.voices[_OWN_VOICE], default, state.share)
        if state.style:
            blend = Blend(grammar.voices[state.style], default, self.obedience)
        body = write_text(
            grammar,
            topic_of(grammar, "" if draws.is_settled("topic words") else seen.words, draws),
            blend,
            draws,
            before=answer,
            steps=turn is not None and turn.kind == "steps",
            less=len(answer),
        )
        return _with_habits(self.scenario.habits, state.kept, body, draws)

    def _draws(self, seen: "_Seen", attempt: int, alike: float) -> KeyedDraws:
        return KeyedDraws(f"{self.seed}\x1f{attempt}\x1f{seen.words}", alike)

    @functools.cached_property
    def _turns(self) -> dict[str, ScenarioTurn]:
        turns = (*self.scenario.turns, *self.scenario.calibration_turns)
        return {turn.text.strip(): turn for turn in turns}

    @property
    def _grammar(self) -> ReplyGrammar:
        return load_grammar()


class _Seen(NamedTuple):
    """A prompt as far as it fits, and what it is about."""

    text: str
    messages: tuple[Message, ...]
    words: str
    turn: ScenarioTurn | None


def within_context(messages: tuple[Message, ...], limit: int) -> tuple[Message, ...]:
    """The messages without the oldest after the first system message, to fit into a context.

    The first system message and the last message stay, whatever their size.

    **Arguments:** `limit`, in tokens of the rendered text.
    """
    head = messages[:1] if messages[0].role == "system" and len(messages) > 1 else ()
    rest = messages[len(head) :]
    end = len(render(()).encode())
    # What a message adds to the rendered text, in bytes: the text is as long as their sum.
    sizes = [len(render((each,)).encode("utf-8", "surrogatepass")) - end for each in messages]
    size = end + sum(sizes)
    dropped = 0
    while dropped < len(rest) - 1 and math.ceil(size / BYTES_PER_TOKEN) > limit:
        size -= sizes[len(head) + dropped]
        dropped += 1
    return (*head, *rest[dropped:])


def _distance(prompt_text: str, text: str) -> float:
    """The tokens of the prompt behind the last place where the text stands; infinite without."""
    place = prompt_text.rfind(text)
    return math.inf if place < 0 else float(count_tokens(prompt_text[place + len(text) :]))


def _with_habits(
    habits: tuple[Habit, ...], kept: tuple[bool, ...], body: str, draws: KeyedDraws
) -> str:
    """The body with what the keeping, or the breaking, of each constraint adds to it."""
    places: dict[str, list[str]] = {"start": [], "end": [], "last": []}
    for habit, keeps in zip(habits, kept, strict=True):
        words = habit.kept if keeps else habit.broken
        if words:
            places[habit.place].append(draws.choose(words, "habit", habit.constraint))
    # A list begins on a line of its own.
    joint = "\n" if body.startswith(("1. ", "- ")) else " "
    text = joint.join([*places["start"], body])
    return "\n".join([text, *([" ".join(places["end"])] if places["end"] else []), *places["last"]])
