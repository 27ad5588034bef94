"""An evaluation as records of a ledger: what was measured, from which every score is derived."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from .ledger import Ledger
from .ledger_lines import LedgerRecord
from .rubrics import meets


@dataclass(frozen=True)
class SetCheck:
    """Whether a golden set is one: `prompts` by difficulty, and the ids without their source."""

    prompts: dict[str, int]
    unresolved: list[str]


@dataclass(frozen=True)
class ScoredAnswer:
    """What was answered to a prompt of the golden set, by the kernel alone or grounded."""

    arm: str
    id: str
    question: str
    difficulty: str
    category: str
    rubric: str
    text: str
    trusted: bool
    provider: str
    served_bytes: int
    exchanged_bytes: int
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the text meets the rubric; computed from both, not stored."""
        return meets(self.rubric, self.text)


@dataclass(frozen=True)
class JudgedProgram:
    """How one generated program ended, of `samples` for its task."""

    task: str
    ending: str
    seconds: float


@dataclass(frozen=True)
class Replay:
    """A run done twice, and the SHA-256 of what came of it each time."""

    case: str
    first: str
    second: str


@dataclass(frozen=True)
class ProposedSwap:
    """One proposal to swap nodes; `recomputed` is the relative drift by other means."""

    candidate: str
    stranger: bool
    delta: float
    recomputed: float
    accepted: bool
    tolerance: float


KINDS: dict[str, type[Any]] = {
    "golden set": SetCheck,
    "scored": ScoredAnswer,
    "program": JudgedProgram,
    "replay": Replay,
    "swap": ProposedSwap,
}
"""The kinds of records that an evaluation is made of; a ledger may hold others beside them."""
_NAMES = {kind: name for name, kind in KINDS.items()}


def record_item(
    ledger: Ledger, item: SetCheck | ScoredAnswer | JudgedProgram | Replay | ProposedSwap
) -> None:
    """Append one measurement, an instance of one of `KINDS`.

    **Raises** `KeyError` for anything else, and as `Ledger.append` does.
    """
    ledger.append(_NAMES[type(item)], asdict(item))


@dataclass(frozen=True)
class Evaluation:
    """All measurements of an evaluation, in the order in which they were made."""

    about: dict[str, Any] = field(default_factory=dict)
    """The record of the kind `evaluation`: what was evaluated, and how."""
    sets: tuple[SetCheck, ...] = ()
    answers: tuple[ScoredAnswer, ...] = ()
    programs: tuple[JudgedProgram, ...] = ()
    replays: tuple[Replay, ...] = ()
    swaps: tuple[ProposedSwap, ...] = ()
    notes: tuple[str, ...] = ()
    """Why something was not measured: the records of the kind `not run`."""

    def arm(self, name: str) -> dict[str, ScoredAnswer]:
        """The answers of one arm by the prompt's id."""
        return {answer.id: answer for answer in self.answers if answer.arm == name}


def read_evaluation(records: Iterable[LedgerRecord]) -> Evaluation:
    """The evaluation that a ledger's records are of, in the order that they stand.

    **Arguments:** `records`, as `read_ledger` gives them: verified.

    **Raises** `ValueError` for a record of one of `KINDS` whose fields are not that kind's, and for
    a ledger of more than one evaluation, or none.
    """
    found: dict[str, list[Any]] = defaultdict(list)
    for record in records:
        kind = KINDS.get(record.kind)
        if kind is None:
            found[record.kind].append(record.content)
            continue
        try:
            found[record.kind].append(kind(**record.content))
        except TypeError as error:
            raise ValueError(f"record {record.sequence} is no {record.kind!r}: {error}") from None
    if len(found["evaluation"]) != 1:
        raise ValueError(f"records must be of one evaluation; got {len(found['evaluation'])}.")
    return Evaluation(
        about=found["evaluation"][0],
        sets=tuple(found["golden set"]),
        answers=tuple(found["scored"]),
        programs=tuple(found["program"]),
        replays=tuple(found["replay"]),
        swaps=tuple(found["swap"]),
        notes=tuple(content["why"] for content in found["not run"]),
    )


def provider_scores(records: Iterable[LedgerRecord]) -> dict[str, dict[str, float]]:
    """By provider and prompt, 1 where what it said meets the rubric and 0 where it does not.

    Every provider that was asked about a prompt is scored, also one whose words were not served.
    What was asked again later counts as it was the first time.
    """
    said: dict[str, dict[str, str]] = defaultdict(dict)
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for record in records:
        content = record.content
        if record.kind == "reply":
            said[content["question"]].setdefault(content["provider"], content["text"])
        elif record.kind == "scored" and content["arm"] == "grounded":
            # The replies to a prompt stand before its score.
            for provider, text in said.pop(content["question"], {}).items():
                scores[provider][content["id"]] = float(meets(content["rubric"], text))
    return dict(scores)
