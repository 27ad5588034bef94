"""What is kept of a turn that was taken, and what its caller is told."""

from dataclasses import dataclass
from typing import Any

from .conversation_state import state_bytes
from .prompt import Prompt
from .turn_in_progress import Turn
from .turn_records import TurnRecord
from .turn_stages import measurement_record


@dataclass(frozen=True)
class TurnResult:
    """What came of a turn."""

    number: int
    text: str
    """The reply; empty if the model failed."""
    failure: str | None = None
    """Why there is no reply: see `ModelFailure.reason`."""
    failure_message: str = ""
    repeated: bool = False
    """The key was known: this is what was replied then, and nobody was asked."""
    flags: tuple[str, ...] = ()
    """What is wrong with the reply, and `regenerated`."""
    measurement: Any = None
    """Numbers by name: see `Measurement`; and what the stages noted."""
    plan: Any = None
    """The receipt: what was done about the conversation, why, and whether it was only observed."""
    prompt: Prompt | None = None
    """The last that was sent; None where nobody was asked."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """As the model counted them."""
    finish_reason: str | None = None


def turn_record(turn: Turn, conversation: str, key: str) -> TurnRecord:
    """What is kept of a turn that was taken."""
    completion = turn.completion
    flags = [] if turn.problem is None else [turn.problem.value]
    flags += ["regenerated"] if turn.attempts > 1 else []
    about = measurement_record(turn) | {
        "kind": turn.kind.value,
        "commanded": turn.after.gate.now,
        "violated": list(turn.violated),
        "drafted": list(turn.drafted),
        "sent_tokens": turn.prompt_tokens,
        "hits": [[hit.id, hit.turn, round(hit.score, 9)] for hit in turn.hits],
    }
    plan = turn.plan._asdict() | {"level": turn.plan.level.name, "reminder": turn.reminder}
    return TurnRecord(
        conversation=conversation,
        number=turn.number,
        key=key,
        user_text=turn.user_text,
        reply=turn.reply,
        finish_reason=None if completion is None else completion.finish_reason,
        failure=turn.failure,
        flags=tuple(flags),
        prompt_digest=turn.prompt.digest,
        section_digests=tuple((part.name, part.digest) for part in turn.prompt.sections),
        prompt_tokens=None if completion is None else completion.prompt_tokens,
        completion_tokens=None if completion is None else completion.completion_tokens,
        attempts=turn.attempts,
        plan={name: list(v) if isinstance(v, tuple) else v for name, v in plan.items()},
        measurement=about,
        motifs=turn.after.motifs.to_json(),
        state=state_bytes(turn.after),
    )


def turn_result(
    record: TurnRecord,
    *,
    repeated: bool = False,
    prompt: Prompt | None = None,
    failure_message: str = "",
) -> TurnResult:
    """What the caller is told of a turn, from what is kept of it."""
    return TurnResult(
        number=record.number,
        text=record.reply,
        failure=record.failure,
        failure_message=failure_message,
        repeated=repeated,
        flags=record.flags,
        measurement=record.measurement,
        plan=record.plan,
        prompt=prompt,
        prompt_tokens=record.prompt_tokens,
        completion_tokens=record.completion_tokens,
        finish_reason=record.finish_reason,
    )
