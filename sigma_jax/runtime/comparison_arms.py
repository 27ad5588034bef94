"""Ways to lead one scripted conversation: plain ones, the runtime, and the runtime minus a part."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .._check import require_in
from .calibration import Calibration
from .control import ControlPolicy
from .conversation import ConversationRuntime
from .encoders import Encoder
from .identity import Identity
from .memories import Memory, MemoryIndex, memories_of
from .messages import Message, render
from .models import Completion, Model, ModelFailure, as_model
from .prompt import PromptBudget, last_message, shared_prefix
from .scenario import Scenario
from .simulated_model import SimulatedModel
from .statements import is_question, split_sentences
from .tokens import count_tokens
from .turn_in_progress import Parts, RuntimeSettings, Turn
from .turn_stages import Stages, plan, retrieve, update_state

_NO_REPLY = "(There was no reply.)"


@dataclass(frozen=True)
class PlainArm:
    """A list of messages and nothing else: what a client does without a runtime.

    **Arguments:** `name`; `about`, a sentence; `window`, the exchanges that are shown, None for
    all; `told`, whether the identity is the system message of every prompt, or else only of the
    first, and leaves the window with the first exchange; `remind_every`, turns between reminders
    of the constraints, which stay in the shown exchanges; 0: none.

    **Raises** `ValueError` for a negative number.
    """

    name: str
    about: str
    window: int | None
    told: bool
    remind_every: int = 0

    def __post_init__(self) -> None:
        require_in("window", 0 if self.window is None else self.window, 0)
        require_in("remind_every", self.remind_every, 0)


@dataclass(frozen=True)
class RuntimeArm:
    """The runtime, or what is left of it.

    **Arguments:** `name`; `about`, a sentence; `settings`; `stages`, called for each conversation;
    `calibrated`, whether it is given a calibration; `motifs`, whether the identity's are used.
    """

    name: str
    about: str
    settings: RuntimeSettings = field(default_factory=RuntimeSettings)
    stages: Callable[[], Stages] = Stages
    calibrated: bool = True
    motifs: bool = True


Arm = PlainArm | RuntimeArm


class ArmRun(NamedTuple):
    """One conversation of an arm. Entries are of turns, in order."""

    arm: str
    replies: tuple[str, ...]
    """Empty where the model gave none."""
    calls: tuple[int, ...]
    """Of the model."""
    sent_tokens: tuple[int, ...]
    """Of all prompts of the turn, as `count_tokens` counts them."""
    sent_bytes: tuple[int, ...]
    shared_bytes: tuple[int, ...]
    """Of those sent, what each prompt begins with as the prompt before did: a cache keeps that."""
    levels: tuple[str, ...]
    """What the runtime did about the conversation; empty for a plain arm, as the next two."""
    alarms: tuple[bool, ...]
    measurements: tuple[Mapping[str, Any], ...]
    digest: str
    """Hexadecimal SHA-256 of all prompts and replies."""

    @property
    def phases(self) -> tuple[str, ...]:
        """The conversation's phase after each turn."""
        return tuple(each["phase"] for each in self.measurements)


def run_arm(
    arm: Arm,
    scenario: Scenario,
    model: Model | Callable[[str], Any],
    *,
    calibration: Calibration | None = None,
    encoder: Encoder | None = None,
    turns: int | None = None,
    max_tokens: int = 512,
) -> ArmRun:
    """Lead the scenario's conversation with a model.

    **Arguments:** `arm`; `scenario`; `model`, anything that `as_model` takes; `calibration` of the
    model and `encoder`, for the runtime; `turns`, the first so many only; `max_tokens` of a reply.

    **Raises** `ValueError` for more turns than the scenario has.
    """
    turns = len(scenario.turns) if turns is None else turns
    require_in("turns", turns, 0, len(scenario.turns))
    texts = [turn.text for turn in scenario.turns[:turns]]
    counted, identity = _Counted(model), scenario.identity
    if isinstance(arm, PlainArm):
        return _run_plain(arm, identity, texts, counted, max_tokens)
    return _run_runtime(arm, identity, texts, counted, max_tokens, calibration, encoder)


def _run_plain(
    arm: PlainArm, identity: Identity, texts: list[str], model: "_Counted", max_tokens: int
) -> ArmRun:
    system = Message("system", identity.text)
    wordings = "\n".join(constraint.text for constraint in identity.constraints)
    exchanges: list[tuple[Message, ...]] = []
    replies = []
    for number, text in enumerate(texts, start=1):
        due = arm.remind_every and number % arm.remind_every == 0
        words = last_message("", f"Reminder: {wordings}", text) if due else text
        asked = (Message("user", words),)
        if number == 1 and not arm.told:
            asked = (system, *asked)
        shown = exchanges if arm.window is None else exchanges[max(number - 1 - arm.window, 0) :]
        before = [message for exchange in shown for message in exchange]
        model.begin_turn()
        try:
            messages = [*([system] if arm.told else []), *before, *asked]
            reply = model.complete(messages, max_tokens=max_tokens).text
        except ModelFailure:
            reply = ""
        replies.append(reply)
        exchanges.append((*asked, Message("assistant", reply or _NO_REPLY)))
    return model.run(arm.name, replies)


def _run_runtime(
    arm: RuntimeArm,
    identity: Identity,
    texts: list[str],
    model: "_Counted",
    max_tokens: int,
    calibration: Calibration | None,
    encoder: Encoder | None,
) -> ArmRun:
    if not arm.motifs:
        identity = dataclasses.replace(identity, motifs=())
    results = []
    with ConversationRuntime(
        model,
        identity=identity,
        encoder=encoder,
        calibration=calibration if arm.calibrated else None,
        settings=dataclasses.replace(arm.settings, max_tokens=max_tokens),
        stages=arm.stages(),
    ) as runtime:
        for text in texts:
            model.begin_turn()
            results.append(runtime.turn(text))
    return model.run(
        arm.name,
        [result.text for result in results],
        levels=tuple(result.plan["level"] for result in results),
        alarms=tuple(result.measurement["alarm"] for result in results),
        measurements=tuple(result.measurement for result in results),
    )


class _Counted:
    """A model, and what it was sent in each turn.

    A simulated one draws anew each time that it is asked in one turn, as a sampled model does; all
    arms share the draws of the first time.
    """

    def __init__(self, model: Model | Callable[[str], Any]):
        self._simulated = model if isinstance(model, SimulatedModel) else None
        self._model = as_model(model if self._simulated is None else self._drawn)
        self.name, self._last = as_model(model).name, ""
        self._turns: list[list[tuple[int, int, int]]] = []
        self._seen = hashlib.sha256()

    def begin_turn(self) -> None:
        self._turns.append([])

    def _drawn(self, prompt: str) -> str:
        assert self._simulated is not None
        return self._simulated.reply(prompt, attempt=len(self._turns[-1]) - 1)

    def complete(
        self,
        messages: Any,
        *,
        max_tokens: int,
        on_piece: Callable[[str], None] | None = None,
    ) -> Completion:
        prompt = render(messages)
        size = len(prompt.encode())
        sent = count_tokens(prompt), size, shared_prefix(self._last, prompt)
        self._turns[-1].append(sent)
        self._last = prompt
        self._seen.update(prompt.encode())
        completion = self._model.complete(messages, max_tokens=max_tokens, on_piece=on_piece)
        self._seen.update(completion.text.encode())
        return completion

    def run(self, arm: str, replies: list[str], levels=(), alarms=(), measurements=()) -> ArmRun:
        sums = [tuple(map(sum, zip(*turn, strict=True))) or (0, 0, 0) for turn in self._turns]
        return ArmRun(
            arm=arm,
            replies=tuple(replies),
            calls=tuple(len(turn) for turn in self._turns),
            sent_tokens=tuple(each[0] for each in sums),
            sent_bytes=tuple(each[1] for each in sums),
            shared_bytes=tuple(each[2] for each in sums),
            levels=levels,
            alarms=alarms,
            measurements=measurements,
            digest=self._seen.hexdigest(),
        )


def _leave(turn: Turn, parts: Parts) -> Turn:
    """A stage that does nothing."""
    return turn


def _without_gate(turn: Turn, parts: Parts) -> Turn:
    """`update_state`, but no command about the style counts."""
    gate = turn.before.gate
    turn = update_state(turn, parts)
    return turn._replace(after=turn.after._replace(gate=gate))


def _without_reminder(turn: Turn, parts: Parts) -> Turn:
    """`plan`, but nothing stands before the user's words."""
    return plan(turn, parts)._replace(reminder="")


class _AllSentences:
    """`retrieve` from an index of everything that the user says, the questions too."""

    def __init__(self) -> None:
        self._index: MemoryIndex | None = None

    def __call__(self, turn: Turn, parts: Parts) -> Turn:
        index = self._index = self._index or MemoryIndex(parts.encoder.dimension)
        found = retrieve(turn, dataclasses.replace(parts, memories=index))
        memories = list(memories_of(turn.user_text, turn.number, first=len(index)))
        for sentence in filter(is_question, split_sentences(turn.user_text)):
            memories.append(Memory(len(index) + len(memories), turn.number, "user", sentence))
        index.add(memories, parts.encoder.encode([memory.text for memory in memories]))
        return found


def _stages(**others: Any) -> Callable[[], Stages]:
    return lambda: dataclasses.replace(Stages(), **others)


RAW = PlainArm("raw", "Each question alone; the identity is told once.", 0, told=False)
WINDOW = PlainArm("window", "The last 20 exchanges; the identity is told once.", 20, told=False)
FULL = PlainArm("full history", "All exchanges behind the identity.", None, told=True)
STATIC = PlainArm("static prompt", "The identity, and the last 20 exchanges.", 20, told=True)
REMIND_5 = PlainArm("reminder every 5", "Static, and the constraints every 5 turns.", 20, True, 5)
REMIND_1 = PlainArm("reminder every turn", "Static, and the constraints every turn.", 20, True, 1)
RUNTIME = RuntimeArm("runtime", "As it comes.")

PLAIN_ARMS = (RAW, WINDOW, FULL, STATIC, REMIND_5, REMIND_1)
ABLATIONS = (
    RuntimeArm("minus memories", "Nothing is retrieved.", stages=_stages(retrieve=_leave)),
    RuntimeArm(
        "minus anchor facts",
        "What holds is not listed behind the identity.",
        settings=RuntimeSettings(budget=PromptBudget(facts=0)),
    ),
    RuntimeArm(
        "minus motifs",
        "None is counted, none is named.",
        stages=_stages(find_motifs=_leave),
        motifs=False,
    ),
    RuntimeArm("minus drift", "No calibration: only constraints are watched.", calibrated=False),
    RuntimeArm(
        "minus gate",
        "Commands about the style are not heard by the monitor.",
        stages=_stages(update_state=_without_gate),
    ),
    RuntimeArm(
        "minus reminders",
        "Nothing stands before the user's words in a first prompt.",
        stages=_stages(plan=_without_reminder),
    ),
    RuntimeArm(
        "minus regeneration",
        "Every first reply stands.",
        settings=RuntimeSettings(policy=ControlPolicy(regenerations=0)),
    ),
    RuntimeArm(
        "minus statement filter",
        "The user's questions are found again as well.",
        stages=lambda: dataclasses.replace(Stages(), retrieve=_AllSentences()),
    ),
)
ARMS: tuple[Arm, ...] = (*PLAIN_ARMS, RUNTIME, *ABLATIONS)
"""All, in the order of the tables."""
