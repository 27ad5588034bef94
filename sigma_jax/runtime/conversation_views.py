"""A recorded or running conversation as plain JSON: what a page, a terminal or a client shows."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .conversation_store import ConversationStore
from .facts import Fact
from .identity import Identity
from .memories import Memory
from .monitor import CHANNELS, MonitorParameters
from .motif_memory import MotifMemory
from .turn_records import TurnRecord

_WATCHED = "watched"
_MOTIFS = 24
_NUMBERS = (
    *("phase", "stability", "drift_index", "dispersion", "alarm", "warn", "missing", "kind"),
    *("contrast", "departure", "constraints", "commanded", "violated", "drafted", "sent_tokens"),
)


def watched_note(identity: Identity, parameters: MonitorParameters) -> dict[str, str]:
    """What is to be known of a monitor to draw what it measured: a note for `note_meta`.

    The names of the constraints, how many coordinates each channel has, and the limits, in the
    order of the measurements; null where a limit is infinite, as there is nothing to see.
    """
    limits = {
        name: [float(limit) if np.isfinite(limit) else None for limit in np.asarray(values)]
        for name, values in (
            ("contrast", parameters.contrast_limit),
            ("departure", parameters.departure_limit),
            ("constraints", parameters.constraint_limit),
        )
    }
    about = {
        "constraints": [constraint.name for constraint in identity.constraints],
        "sizes": list(parameters.sizes),
        "limits": limits,
    }
    return {_WATCHED: json.dumps(about)}


def conversation_view(store: ConversationStore, conversation: str) -> dict[str, Any]:
    """Everything that is shown of a conversation, as what JSON can say.

    The keys: `conversation`, `identity`, `model` and `encoder`, names; `channels`; `watched`, as
    `watched_note` has it, or null if nobody noted it; `turns`, oldest first; `facts`, those that
    hold (`current`) and those that hold no longer (`superseded`), each with its turn and sentence;
    `motifs` of the user and of the assistant that are active; `unfinished`, what was asked and has
    no turn; `totals`.

    **Raises** `ValueError` for a conversation that is not in the store; `StoreError` if that cannot
    be read.
    """
    meta = store.meta(conversation)
    if not meta and conversation not in store.conversations():
        known = ", ".join(store.conversations()[:8]) or "none"
        raise ValueError(f"conversation {conversation!r} is not in the store; there: {known}.")
    watched = json.loads(meta[_WATCHED]) if _WATCHED in meta else None
    records = store.turns(conversation)
    memories = {memory.id: memory for memory in store.memories(conversation)[0]}
    turns = [_turn(record, memories, watched) for record in records]
    facts = store.facts(conversation)
    return {
        "conversation": conversation,
        "identity": meta.get("name", ""),
        "model": meta.get("model", ""),
        "encoder": meta.get("encoder", ""),
        "channels": list(CHANNELS),
        "watched": watched,
        "turns": turns,
        "facts": {
            "current": [_fact(fact) for fact in facts.current()],
            "superseded": [_fact(fact) for fact in facts.facts if fact.ending is not None],
        },
        "motifs": _motifs(records[-1] if records else None),
        "unfinished": [
            {"number": attempt.number, "user": attempt.user_text}
            for attempt in store.unfinished(conversation)
        ],
        "totals": _totals(records, turns),
    }


def alarms_of(measurement: Mapping[str, Any], constraints: Sequence[str]) -> list[str]:
    """The alarms of a turn in words: "style contrast", "content departure", "constraint tag".

    **Arguments:** `measurement`, as a turn's record has it; `constraints`, the names in order.
    """
    found = [
        f"{channel} {chart}"
        for chart in ("contrast", "departure")
        for channel, is_on in zip(CHANNELS, measurement.get(f"{chart}_alarm", ()), strict=False)
        if is_on
    ]
    on = measurement.get("constraint_alarm", ())
    names = [*constraints, *(str(place + 1) for place in range(len(constraints), len(on)))]
    return found + [f"constraint {name}" for name, is_on in zip(names, on, strict=False) if is_on]


def _turn(
    record: TurnRecord, memories: Mapping[int, Memory], watched: Mapping[str, Any] | None
) -> dict[str, Any]:
    measured: Mapping[str, Any] = record.measurement or {}
    plan: Mapping[str, Any] = record.plan or {}
    names = watched["constraints"] if watched else ()
    return {
        "number": record.number,
        "user": record.user_text,
        "reply": record.reply,
        "failure": record.failure,
        "flags": list(record.flags),
        "finish_reason": record.finish_reason,
        "retry_of": record.retry_of,
        "attempts": record.attempts,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
        **{name: measured.get(name) for name in _NUMBERS},
        "alarms": alarms_of(measured, names),
        "hits": [_hit(hit, memories) for hit in measured.get("hits", ())],
        "plan": dict(plan),
    }


def _hit(hit: Sequence[Any], memories: Mapping[int, Memory]) -> dict[str, Any]:
    """A memory that stood in the prompt; its words are as they were said."""
    number, turn, score = hit
    text = memories[number].text if number in memories else ""
    return {"turn": turn, "score": score, "text": text}


def _fact(fact: Fact) -> dict[str, Any]:
    return {
        "key": fact.key,
        "value": fact.value,
        "text": fact.text,
        "turn": fact.turn,
        "kind": fact.kind.value,
        "confidence": fact.confidence,
        "is_correction": fact.is_correction,
        "replaces": fact.replaces,
        "valid_to": fact.valid_to,
        "ending": None if fact.ending is None else fact.ending.value,
    }


def _motifs(last: TurnRecord | None) -> dict[str, list[dict[str, Any]]]:
    if last is None or not last.motifs:
        return {"user": [], "assistant": []}
    memory = MotifMemory.from_json(last.motifs)
    return {
        role: [
            {
                "name": motif.name,
                "activation": motif.activation_at(last.number),
                "seen": motif.seen(last.number),
            }
            for motif in memory.active(last.number, _MOTIFS, role=role)
        ]
        for role in ("user", "assistant")
    }


def _totals(records: Sequence[TurnRecord], turns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Counts; of the tokens that the model counts null, if it never does."""

    def told(counts: list[int | None]) -> int | None:
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    return {
        "turns": len(records),
        "failures": sum(record.failure is not None for record in records),
        "regenerated": sum("regenerated" in record.flags for record in records),
        "calls": sum(record.attempts for record in records),
        "alarms": sum(bool(turn["alarm"]) for turn in turns),
        "sent_tokens": sum(turn["sent_tokens"] or 0 for turn in turns),
        "prompt_tokens": told([record.prompt_tokens for record in records]),
        "completion_tokens": told([record.completion_tokens for record in records]),
    }
