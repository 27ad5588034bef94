"""A conversation that holds its shape: the loop around a language model."""

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .calibration import Calibration, uncalibrated
from .control import in_force
from .conversation_state import (
    ConversationState,
    state_bytes,
    state_from_bytes,
    window_numbers,
)
from .conversation_store import ConversationStore
from .encoded_texts import CachedEncoder
from .encoders import Encoder, HashedEncoder
from .identity import ASSISTANT, Identity
from .input_kinds import InputKind
from .memories import MemoryIndex, memories_of
from .models import Model, ModelFailure, as_model
from .monitor import monitor_step, start_monitor
from .motif_memory import MotifMemory
from .prompt import Prompt
from .turn_in_progress import Parts, RuntimeSettings, Turn
from .turn_records import TurnRecord
from .turn_stages import Stages, measurement_record

_monitor_step = jax.jit(monitor_step)  # one program for all conversations of one shape


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


class ConversationRuntime:
    """A language model in a loop that remembers, watches and corrects, one turn at a time.

    `step` takes the user's words and gives the reply. A turn is a step of a state machine: the
    reply is its observation, a reminder its control. The state is kept after every turn, so that a
    conversation that is opened again goes on with the same bits, and the same inputs give the same
    prompts, states and alarms. Independent of the authors of the design that it follows, and not
    certified by anyone.

    **Arguments:** `model`, anything that `as_model` takes: for a start, a function from a prompt's
    text to a reply; `identity`, who it is to be; `store`, a `ConversationStore`, or the path of
    its file; None keeps the conversation in memory; `conversation`, its id there; `encoder` of
    texts, by default hashed words; `calibration` of the monitor for this model and identity, see
    `calibrate_identity`: without one only the constraints are watched; `settings`; `stages`.

    **Raises** `ValueError` for what is no model; `StoreError` if the conversation was made with
    another identity, encoder or calibration, or the file is no store.
    """

    def __init__(
        self,
        model: Model | Callable[[str], Any],
        *,
        identity: Identity = ASSISTANT,
        store: ConversationStore | str | Path | None = None,
        conversation: str = "conversation",
        encoder: Encoder | None = None,
        calibration: Calibration | None = None,
        settings: RuntimeSettings = RuntimeSettings(),
        stages: Stages = Stages(),
    ):
        self._owned = not isinstance(store, ConversationStore)
        self.store = store if isinstance(store, ConversationStore) else ConversationStore(store)
        self.conversation = conversation
        self._stages, self._lock = stages, threading.RLock()
        encoder = CachedEncoder(encoder or HashedEncoder(), most=4096)
        constraints = len(identity.constraints)
        monitor = uncalibrated(constraints) if calibration is None else calibration.parameters
        if monitor.violated.shape[0] != constraints:
            raise ValueError(
                f"calibration must be of the identity's {constraints} constraints; it is of "
                f"{monitor.violated.shape[0]}."
            )
        self.parts = Parts(
            model=as_model(model),
            identity=identity,
            encoder=encoder,
            memories=MemoryIndex(encoder.dimension),
            monitor=jax.tree.map(jax.numpy.asarray, monitor),
            calibration=calibration,
            monitor_step=_monitor_step,
            settings=settings,
        )
        self.store.require_meta(
            conversation,
            encoder=encoder.name,
            identity=identity.digest,
            calibration=_digest(monitor),
        )
        self.store.note_meta(conversation, model=self.parts.model.name, name=identity.name)
        self.reload()

    def __enter__(self) -> "ConversationRuntime":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store, if it was opened here."""
        if self._owned:
            self.store.close()

    @property
    def state(self) -> ConversationState:
        """What the conversation is after its last turn."""
        return self._state

    def step(
        self,
        user_input: str,
        *,
        key: str | None = None,
        on_piece: Callable[[str], None] | None = None,
    ) -> str:
        """The reply to the user's words: see `turn`.

        **Raises** `ModelFailure` if the model gave none; the turn is kept all the same.
        """
        result = self.turn(user_input, key=key, on_piece=on_piece)
        if result.failure is not None:
            raise ModelFailure(self.parts.model.name, result.failure, result.failure_message)
        return result.text

    def turn(
        self,
        user_input: str,
        *,
        key: str | None = None,
        on_piece: Callable[[str], None] | None = None,
    ) -> TurnResult:
        """Take one turn, keep it, and say what came of it. That the model fails is an outcome.

        **Arguments:** `user_input`; `key` of the request: asked again with the key of a turn that
        has a reply, the model is not called, and that reply is given; with the key of a turn that
        failed, the turn is taken again; `on_piece`, given the reply piece by piece, live where the
        plan allows no further reply, else when it stands.

        **Raises** `ValueError` for words that are empty, too long or no text, and for a known key
        with other words; `ConversationConflict` if another process has taken a turn meanwhile.
        """
        with self._lock:
            before = self._state
            if key is not None:
                known = self.store.turn_with_key(self.conversation, key)
                if known is not None and known.user_text != user_input:
                    raise ValueError(f"key {key!r} is of turn {known.number}, with other words.")
                if known is not None and known.failure is None:
                    return _result(known, repeated=True)
                if known is not None:
                    before = _without(before, known.number)
            number = self._state.number + 1
            turn = Turn(number, user_input, before, before, on_piece)
            turn = self._stages.ingest(turn, self.parts)
            key = f"turn {number}" if key is None else key
            self.store.begin(self.conversation, number, key, user_input)
            turn = self._taken(turn)
            record = self._commit(turn, key)
            self._state = turn.after
        if on_piece is not None and turn.reply and in_force(turn.plan).may_regenerate:
            on_piece(turn.reply)
        return _result(record, prompt=turn.prompt, failure_message=turn.failure_message)

    def reload(self) -> None:
        """Read the conversation from its store, as it is there now.

        **Raises** `ValueError` if its state is of another floating-point precision.
        """
        store, name = self.store, self.conversation
        with self._lock:
            start, last = start_monitor(self.parts.monitor), store.last_turn(name)
            memories, vectors = store.memories(name)
            index = MemoryIndex(self.parts.encoder.dimension)
            if memories:
                index.add(memories, vectors.astype(np.float32))
            self.parts = _with_memories(self.parts, index)
            self._state = ConversationState(start)
            if not last:
                return
            (record,) = store.turns(name, first=last)
            numbers = window_numbers(record.state)
            first = min(numbers, default=last)
            texts = {t.number: (t.user_text, t.reply) for t in store.turns(name, first=first)}
            self._state = state_from_bytes(
                record.state,
                start,
                texts=texts,
                facts=store.facts(name),
                motifs=MotifMemory.from_json(record.motifs),
                last_output=record.reply,
            )

    def _taken(self, turn: Turn) -> Turn:
        """The turn, from what the user said to the state after it."""
        parts, stages = self.parts, self._stages
        turn = stages.update_state(turn, parts)
        turn = stages.retrieve(turn, parts)
        turn = stages.find_motifs(turn, parts)
        turn = stages.plan(turn, parts)
        turn = stages.make_prompt(turn, parts)
        turn = stages.call_model(turn, parts)
        turn = stages.check_reply(turn, parts)
        turn = stages.correct(turn, parts, stages)
        turn = stages.measure(turn, parts)
        return stages.conclude(turn, parts)

    def _commit(self, turn: Turn, key: str) -> TurnRecord:
        """Keep the turn: its record, what was stated in it, and what it changed of the facts."""
        memories = ()
        # A turn taken again has left them already; a wish about style states nothing.
        known = self.store.turn_with_key(self.conversation, key)
        if known is None and turn.kind is not InputKind.STYLE_COMMAND:
            index = self.parts.memories
            memories = memories_of(turn.user_text, turn.number, first=len(index))
        vectors = self.parts.encoder.encode([memory.text for memory in memories])
        record = _record(turn, self.conversation, key)
        changes = turn.after.facts.changes(self._state.facts)
        self.store.commit(record, memories, vectors, changes)
        if memories:
            self.parts.memories.add(memories, vectors)
        return record


def _with_memories(parts: Parts, index: MemoryIndex) -> Parts:
    return Parts(**{**vars(parts), "memories": index})


def _without(state: ConversationState, number: int) -> ConversationState:
    """The state without the exchange of a turn that is taken again."""
    return state._replace(window=tuple(e for e in state.window if e.number != number))


def _record(turn: Turn, conversation: str, key: str) -> TurnRecord:
    completion = turn.completion
    flags = [] if turn.problem is None else [turn.problem.value]
    flags += ["regenerated"] if turn.attempts > 1 else []
    about = measurement_record(turn.measurement) | {
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


def _result(
    record: TurnRecord,
    *,
    repeated: bool = False,
    prompt: Prompt | None = None,
    failure_message: str = "",
) -> TurnResult:
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


def _digest(parameters: Any) -> str:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(parameters)]
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
