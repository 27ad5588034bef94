"""How soon a monitor sees what happens to a simulated model, and how often it is wrong.

The replies are those of plain conversations (the identity, a window as the runtime's, the user's
words), simulated once; then all conversations of a case go through the monitor at once, by
`replay`, which gives the bits of the loop in observe-only mode.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Array, Float

from .._check import require_in
from .calibration import Calibration
from .checks import violations
from .encoders import Encoder, HashedEncoder
from .identity import Identity
from .keyed_draws import KeyedDraws
from .messages import render
from .monitor import Measurement
from .phases import Phase
from .prompt import Exchange, PromptBudget, PromptParts, build_prompt, cut_window
from .replays import replay
from .scenario import Scenario
from .simulated_model import SimulatedModel
from .simulated_modes import AbruptLoss, Crystallising, GradualLoss, Mode, Stationary
from .style import style_features
from .style_commands import StyleGate, style_gate

_PLAIN = ("plain", "fact", "update", "recall", "paraphrase", "claim", "identity", "abstain")
_STYLE = ("style_begin", "style", "style_end")
_AGAIN = ("", "Once more, please. ", "Let us go back to this. ", "One thing is still open. ")


@dataclass(frozen=True)
class DetectionCase:
    """Something that happens to a model.

    **Arguments:** `name`; `mode`, given the turn at which it happens; `after`, turns from there on;
    `commands`, whether from there on the user commands the scenario's styles, each with an end.
    """

    name: str
    mode: Callable[[int], Mode]
    after: int
    commands: bool = False


def _nothing(turn: int) -> Mode:
    return Stationary()


CASES = (
    DetectionCase("stationary", _nothing, 141),
    DetectionCase("abrupt loss", AbruptLoss, 60),
    DetectionCase("gradual loss", GradualLoss, 60),
    DetectionCase("crystallising", Crystallising, 60),
    DetectionCase("obedient style", _nothing, 60, commands=True),
)
"""With the change at turn 60 a stationary conversation has 200 turns."""


class Watched(NamedTuple):
    """What the monitor said of one conversation. Turns count from one; None: never."""

    case: str
    seed: int
    happens: int
    before: int | None
    """The first alarm about the identity before it happens: a false one."""
    after: int | None
    """The first from then on."""
    constraint: int | None
    """The first alarm about a constraint."""
    crystallised: int | None
    """The first turn from then on in the phase CRYSTALLISED."""

    def within(self, turns: int) -> bool:
        """Whether it was seen in so many replies, after no false alarm."""
        return self.before is None and self.after is not None and self.after - self.happens < turns


class Share(NamedTuple):
    """How many of how many, with the exact (Clopper–Pearson) 95 % interval of the share."""

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self.count / self.of


class DetectionSummary(NamedTuple):
    """Many conversations of one case."""

    case: str
    calibrations: int
    within_10: Share
    within_20: Share
    delays: tuple[int, ...]
    """Of those seen, in order: 1 is the first reply after it happened."""
    false_alarm: Share
    """Conversations that alarm about the identity before anything happens."""
    alarmed: Share
    """That do afterwards, and not before: false where nothing happens that matters."""
    constraint_alarm: Share
    crystallised: Share


def watch_conversations(
    case: DetectionCase,
    model: SimulatedModel,
    identity: Identity,
    calibration: Calibration,
    *,
    conversations: int,
    happens: int = 60,
    encoder: Encoder | None = None,
    window: int = PromptBudget().window,
) -> tuple[Watched, ...]:
    """Simulate conversations of a case, and what a monitor says of them.

    **Arguments:** `model`, whose seed and mode are set for each conversation anew; `identity`, of
    the model's scenario; `calibration` of both; `happens`, the turn of the change; `window`, the
    tokens of exchanges in a prompt.

    **Raises** `ValueError` for no conversations, or a change before turn 2.
    """
    require_in("conversations", conversations, 1)
    require_in("happens", happens, 2)
    encoder = encoder or HashedEncoder()
    seen = []
    for place in range(conversations):
        seed = 1000 * (model.seed + 1) + place
        one = dataclasses.replace(model, seed=seed, mode=case.mode(happens))
        texts = _user_texts(case, one.scenario, seed, happens)
        replies = simulated_replies(one, identity, texts, window)
        seen.append(observations(identity, calibration, encoder, texts, replies))
    y, commanded, violated = (np.stack([each[k] for each in seen]) for k in range(3))
    measured = replay(calibration.parameters, y, None, commanded, violated)
    return _watched(case, model.seed, happens, measured)


def simulated_replies(
    model: SimulatedModel, identity: Identity, texts: Sequence[str], window: int
) -> tuple[str, ...]:
    """The replies to the user's texts in a plain conversation whose window is the runtime's."""
    shown: tuple[Exchange, ...] = ()
    replies = []
    for number, text in enumerate(texts, start=1):
        prompt = build_prompt(PromptParts(identity, (), shown, (), "", text))
        replies.append(model.reply(render(prompt.messages), turn=number))
        shown = cut_window((*shown, Exchange(number, text, replies[-1])), window)
    return tuple(replies)


def observations(
    identity: Identity,
    calibration: Calibration,
    encoder: Encoder,
    texts: Sequence[str],
    replies: Sequence[str],
) -> tuple[Float[Array, "t d"], Float[np.ndarray, " t"], np.ndarray]:
    """y, how surely a style is commanded, and the violations `[t, k]` of a conversation."""
    style = np.stack([style_features(reply) for reply in replies])
    gate, commanded = StyleGate(), []
    for text in texts:
        # As in the loop: what the identity keeps to anyway is no other style.
        gate = style_gate(text, gate, kept_anyway=[each.text for each in identity.constraints])
        commanded.append(gate.now)
    violated = np.array([violations(identity.constraints, reply) for reply in replies], bool)
    y = calibration.observe(style, encoder.encode(list(replies)))
    return y, np.array(commanded, calibration.parameters.dtype), violated


def summarise(case: str, runs: Sequence[Watched]) -> DetectionSummary:
    """The shares over all conversations of a case.

    The intervals take conversations as independent; those of one calibration share its error.

    **Raises** `ValueError` if there are none of the case.
    """
    runs = [run for run in runs if run.case == case]
    if not runs:
        raise ValueError(f"runs must hold conversations of the case {case!r}; there are none.")
    delays = [r.after - r.happens + 1 for r in runs if r.after is not None and r.before is None]
    return DetectionSummary(
        case=case,
        calibrations=len({run.seed for run in runs}),
        within_10=exact_share([run.within(10) for run in runs]),
        within_20=exact_share([run.within(20) for run in runs]),
        delays=tuple(sorted(delays)),
        false_alarm=exact_share([run.before is not None for run in runs]),
        alarmed=exact_share([run.before is None and run.after is not None for run in runs]),
        constraint_alarm=exact_share([run.constraint is not None for run in runs]),
        crystallised=exact_share([run.crystallised is not None for run in runs]),
    )


def exact_share(outcomes: Sequence[bool]) -> Share:
    """How many are true, with the interval of Clopper and Pearson (1934), Biometrika 26, 404."""
    count, of = sum(map(bool, outcomes)), len(outcomes)
    interval = scipy.stats.binomtest(count, of).proportion_ci(method="exact")
    return Share(count, of, float(interval.low), float(interval.high))


def _user_texts(
    case: DetectionCase, scenario: Scenario, seed: int, happens: int
) -> tuple[str, ...]:
    """What the user says: the scenario's plain turns in an order of the seed's own, over again.

    Said again, they have other words in front, so that the model's draws are others.
    """
    plain = [turn.text for turn in scenario.turns if turn.kind in _PLAIN]
    total, draws = happens - 1 + case.after, KeyedDraws(f"user {seed}")
    commands = [turn.text for turn in scenario.turns if turn.kind in _STYLE]
    commands = commands[: case.after] if case.commands else []
    said: list[str] = []
    for round_, again in enumerate(_AGAIN):
        said += [again + text for text in draws.shuffled(plain, "order", round_)]
    needed = total - len(commands)
    if needed > len(said):
        raise ValueError(f"happens and after must need at most {len(said)} texts; got {needed}.")
    return (*said[: happens - 1], *commands, *said[happens - 1 : needed])


def _watched(
    case: DetectionCase, seed: int, happens: int, measured: Measurement
) -> tuple[Watched, ...]:
    contrast, departure, constraint = (
        np.asarray(each).max(axis=-1)
        for each in (measured.contrast_alarm, measured.departure_alarm, measured.constraint_alarm)
    )
    alike = np.asarray(measured.phase) == Phase.CRYSTALLISED
    runs = []
    for row in range(len(constraint)):
        alarms = contrast[row] | departure[row]
        before, after = _first(alarms[: happens - 1]), _first(alarms[happens - 1 :])
        stiff = _first(alike[row, happens - 1 :])
        runs.append(
            Watched(
                case=case.name,
                seed=seed,
                happens=happens,
                before=before,
                after=None if after is None else after + happens - 1,
                constraint=_first(constraint[row]),
                crystallised=None if stiff is None else stiff + happens - 1,
            )
        )
    return tuple(runs)


def _first(marks: np.ndarray) -> int | None:
    return int(np.argmax(marks)) + 1 if marks.any() else None
