"""Taking a client's turn in a conversation, and what there is to say of it in HTTP's words."""

from collections.abc import Callable
from typing import Any

from ..bridge import ChatEndpoint, Failure
from ..runtime import (
    ASSISTANT,
    Calibration,
    ConversationConflict,
    ConversationRuntime,
    ConversationStore,
    HashedEncoder,
    Identity,
    Model,
    ReplyProblem,
    RuntimeSettings,
    StoreError,
    TurnResult,
)
from .asked_model import AskedModel
from .conversation_requests import Ask
from .errors import RequestError, invalid
from .open_conversations import OpenConversation

_SYSTEM = "system"
_STATUS = {Failure.TIMEOUT.value: 504, Failure.QUOTA.value: 429}
_LASTING = (Failure.REFUSED.value, Failure.NO_KEY.value)
"""Failures that trying again does not mend."""


class ConversationTurns:
    """Takes turns in conversations of one store, with one model behind all of them.

    **Arguments:** `model`, what `as_model` takes; `store`; `identity` of every conversation, or
    None for what its own system message says; `calibration` of the monitor, for `identity`;
    `settings` of every runtime.

    **Raises** `ValueError` for a calibration without an identity, of another one, or of another
    encoder.
    """

    def __init__(
        self,
        model: ChatEndpoint | Model | Callable[[str], Any],
        store: ConversationStore,
        *,
        identity: Identity | None = None,
        calibration: Calibration | None = None,
        settings: RuntimeSettings = RuntimeSettings(),
    ):
        if calibration is not None:
            _require_its_own(calibration, identity)
        self._model, self.store = model, store
        self._identity, self._calibration, self._settings = identity, calibration, settings

    def take(
        self, ask: Ask, conversation: OpenConversation, on_piece: Callable[[str], None] | None
    ) -> TurnResult:
        """Take a turn; for `on_piece`, the pieces of its text as they come, all of them.

        The conversation must be in nobody else's hands meanwhile.

        **Raises** `RequestError`: 409 if the conversation is another's, in its identity or its
        history, or was changed by another process; 400 for words that it cannot take; 429, 502 or
        504 if the model failed; 503 if the store did.
        """
        try:
            runtime = conversation.runtime or self._opened(ask, conversation)
        except (StoreError, ValueError) as error:
            raise RequestError(409, str(error), code="other_setting", final=True) from error
        _require_system(ask, conversation.name, conversation.system, self._identity)
        try:
            if ask.derived:
                _require_history(ask, self.store)
            assert conversation.model is not None
            conversation.model.sampling = ask.sampling
            result = self._taken(runtime, ask, on_piece)
        except ConversationConflict as error:
            raise RequestError(409, str(error), code="conversation_conflict") from error
        except StoreError as error:
            raise RequestError(503, str(error), code="store_failed", retry_after=1) from error
        except ValueError as error:
            raise invalid(str(error), "messages") from error
        if result.failure is not None:
            raise _failed(result, ask)
        return result

    def _opened(self, ask: Ask, conversation: OpenConversation) -> ConversationRuntime:
        kept = self.store.meta(ask.conversation).get(_SYSTEM)
        _require_system(ask, conversation.name, kept, self._identity)
        system = kept or ask.system
        described = Identity("assistant", system) if system else ASSISTANT
        model = AskedModel(self._model)
        runtime = ConversationRuntime(
            model,
            identity=self._identity or described,
            store=self.store,
            conversation=ask.conversation,
            calibration=self._calibration,
            settings=self._settings,
        )
        if self._identity is None and kept is None:
            self.store.note_meta(ask.conversation, **{_SYSTEM: system})
        conversation.runtime, conversation.model = runtime, model
        conversation.system = system
        return runtime

    def _taken(
        self, runtime: ConversationRuntime, ask: Ask, on_piece: Callable[[str], None] | None
    ) -> TurnResult:
        heard = None if on_piece is None else _Heard(on_piece, self._settings.most_reply_bytes)
        try:
            result = runtime.turn(ask.text, key=ask.key, on_piece=heard)
        except ConversationConflict:
            runtime.reload()  # another process has gone on with it
            if heard is not None and heard.characters:
                raise
            result = runtime.turn(ask.text, key=ask.key, on_piece=heard)
        if heard is not None:
            heard(result.text[heard.characters :])
        return result


class _Heard:
    """Hands pieces on up to where the runtime cuts the reply, `most` bytes, and counts them."""

    def __init__(self, on_piece: Callable[[str], None], most: int):
        self._on_piece, self._left = on_piece, most
        self.characters = 0

    def __call__(self, piece: str) -> None:
        data = piece.encode()
        shown = data[: self._left].decode(errors="ignore")
        self._left = max(self._left - len(data), 0)
        self.characters += len(shown)
        if shown:
            self._on_piece(shown)


def finish_reason(result: TurnResult) -> str:
    """Why the text ends, in OpenAI's words."""
    if ReplyProblem.OVERSIZED.value in result.flags:
        return "length"
    return result.finish_reason or "stop"


def turn_fields(result: TurnResult, ask: Ask) -> dict[str, Any]:
    """What a reply says of its turn, beside the text."""
    return {
        "conversation": ask.conversation,
        "turn": result.number,
        "repeated": result.repeated,
        "phase": result.measurement["phase"],
        "alarm": result.measurement["alarm"],
        "warn": result.measurement["warn"],
        "level": result.plan["level"],
        "violated": result.measurement["violated"],
        "flags": list(result.flags),
        "ignored": list(ask.ignored),
    }


def turn_headers(fields: dict[str, Any]) -> dict[str, str]:
    """The most important of `turn_fields` as headers, for clients that drop unknown fields."""
    return {
        "x-sigma-turn": str(fields["turn"]),
        "x-sigma-phase": fields["phase"],
        "x-sigma-alarm": str(fields["alarm"]).lower(),
        "x-sigma-flags": ", ".join(fields["flags"]),
    }


def _failed(result: TurnResult, ask: Ask) -> RequestError:
    reason = result.failure or ""
    again = "" if ask.key is None else " The same request takes it again."
    return RequestError(
        _STATUS.get(reason, 502),
        f"{result.failure_message} Turn {result.number} is kept without a reply.{again}",
        code=reason.replace(" ", "_"),
        final=reason in _LASTING,
    )


def _require_system(ask: Ask, name: str, kept: str | None, identity: Identity | None) -> None:
    """Raise unless the system message is none, or that with which the conversation was begun."""
    if identity is None and kept is not None and ask.system and ask.system != kept:
        raise RequestError(
            409,
            f"conversation {name!r} was begun with {'another' if kept else 'no'} system message. "
            "What it is does not fit this one: send that one or none, or begin another "
            "conversation with another X-Conversation-Id.",
            field="messages",
            code="other_system_message",
            final=True,
        )


def _require_history(ask: Ask, store: ConversationStore) -> None:
    """Raise unless the messages before are those that the conversation has gone through.

    Its id was made of the first messages, which may be those of another conversation too.
    """
    name = ask.conversation
    assert ask.key is not None
    known = store.turn_with_key(name, ask.key)
    if known is not None and known.failure is None:
        return  # it is asked for again
    parent = None if ask.parent is None else store.turn_with_key(name, ask.parent)
    if ask.parent is None or parent is not None:
        begun = 0 if parent is None else parent.number
        later = store.turns(name, first=begun + 1)
        if all(turn.failure is not None for turn in later):
            return
    raise RequestError(
        409,
        "the messages before the last are not those that this conversation has gone through here "
        f"(its last turn is {store.last_turn(name)}). No id was sent, so that it is told by its "
        "first messages. Send an X-Conversation-Id of your own with a history that began "
        "elsewhere, was cut or changed, or begins as another does.",
        field="messages",
        code="other_history",
        final=True,
    )


def _require_its_own(calibration: Calibration, identity: Identity | None) -> None:
    if identity is None:
        raise ValueError("calibration needs an identity: it was made for one.")
    made_for = calibration.provenance.identity
    if made_for and made_for != identity.told_digest:
        raise ValueError("calibration was made for another identity; calibrate it for this one.")
    encoder, ours = calibration.provenance.encoder, HashedEncoder().name
    if encoder and encoder != ours:
        raise ValueError(f"calibration was made with encoder {encoder!r}; here it is {ours!r}.")
