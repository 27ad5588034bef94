"""A conversation that holds its shape: the loop around a language model."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .attractors import attractor_parameters, start_attractors
from .calibration import Calibration, uncalibrated
from .conversation_state import (
    ConversationState,
    state_from_bytes,
    window_numbers,
)
from .conversation_store import ConversationStore
from .conversation_views import watched_note
from .encoded_texts import CachedEncoder
from .encoders import Encoder, HashedEncoder
from .identity import ASSISTANT, Identity
from .input_kinds import InputKind
from .memories import MemoryIndex, memories_of
from .models import Model, ModelFailure, as_model
from .monitor import start_monitor
from .motif_memory import MotifMemory
from .turn_in_progress import Parts, RuntimeSettings, Turn
from .turn_records import TurnRecord
from .turn_results import TurnResult, turn_record, turn_result
from .turn_stages import Stages, held_back


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

    **Raises** `ValueError` for what is no model, or a calibration of another identity or encoder;
    `StoreError` if the conversation was made with
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
        monitor = uncalibrated(constraints)
        if calibration is not None:
            _require_fit(calibration, identity, encoder)
            monitor = calibration.parameters
        self.parts = Parts(
            model=as_model(model),
            identity=identity,
            encoder=encoder,
            memories=MemoryIndex(encoder.dimension),
            monitor=jax.tree.map(jax.numpy.asarray, monitor),
            calibration=calibration,
            attractors=attractor_parameters(monitor),
            settings=settings,
        )
        self.store.require_meta(
            conversation,
            encoder=encoder.name,
            identity=identity.digest,
            calibration=_digest(monitor),
        )
        about = {"model": self.parts.model.name, "name": identity.name}
        self.store.note_meta(conversation, **about, **watched_note(identity, monitor))
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
                    return turn_result(known, repeated=True)
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
        if on_piece is not None and turn.reply and held_back(turn, self.parts):
            on_piece(turn.reply)
        return turn_result(record, prompt=turn.prompt, failure_message=turn.failure_message)

    def reload(self) -> None:
        """Read the conversation from its store, as it is there now.

        **Raises** `ValueError` if its state is of another floating-point precision.
        """
        store, name = self.store, self.conversation
        with self._lock:
            start = start_monitor(self.parts.monitor), start_attractors(self.parts.attractors)
            last = store.last_turn(name)
            memories, vectors = store.memories(name)
            index = MemoryIndex(self.parts.encoder.dimension)
            if memories:
                index.add(memories, vectors.astype(np.float32))
            self.parts = _with_memories(self.parts, index)
            self._state = ConversationState(*start)
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
        record = turn_record(turn, self.conversation, key)
        changes = turn.after.facts.changes(self._state.facts)
        self.store.commit(record, memories, vectors, changes)
        if memories:
            self.parts.memories.add(memories, vectors)
        return record


def _require_fit(calibration: Calibration, identity: Identity, encoder: Encoder) -> None:
    """Refuse a calibration of something else; one that names nothing is believed."""
    made, found = calibration.provenance, len(calibration.parameters.violated)
    if found != len(identity.constraints):
        raise ValueError(
            f"calibration must be of the identity's {len(identity.constraints)} constraints; it is "
            f"of {found}."
        )
    if made.identity not in ("", identity.told_digest):
        raise ValueError(
            f"calibration must be of the identity {identity.name!r}; it is of another."
        )
    if made.encoder not in ("", encoder.name):
        raise ValueError(
            f"calibration must be of the encoder {encoder.name!r}; it is of {made.encoder!r}."
        )


def _with_memories(parts: Parts, index: MemoryIndex) -> Parts:
    return Parts(**{**vars(parts), "memories": index})


def _without(state: ConversationState, number: int) -> ConversationState:
    """The state without the exchange of a turn that is taken again."""
    return state._replace(window=tuple(e for e in state.window if e.number != number))


def _digest(parameters: Any) -> str:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(parameters)]
    return hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest()
