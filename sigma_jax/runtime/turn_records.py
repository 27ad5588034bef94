"""What is kept of a turn."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


class Attempt(NamedTuple):
    """A turn that was begun: the model was about to be asked."""

    number: int
    key: str
    user_text: str


@dataclass(frozen=True)
class TurnRecord:
    """All that is kept of a turn, whether the model answered or failed.

    **Arguments:** `conversation`, its id; `number` of the turn, from one, without a gap; `key`, by
    which a client that asks again is recognised; `user_text`; `reply`, empty if the model failed;
    `finish_reason` as the model gave it; `failure`, why there is no reply, or None; `flags`, words
    about the turn; `prompt_digest` and `section_digests`, the name and digest of each section in
    order; `prompt_tokens` and `completion_tokens` as the model counted them, or None; `attempts`,
    how often the model was asked; `plan`, `measurement` and `motifs`, anything that JSON can say,
    without NaN; `vectors`, arrays by name, kept in their own dtype; `state`, the state after the
    turn, in bytes; `retry_of`, the number of the failed turn with the same key, which the store
    fills in.
    """

    conversation: str
    number: int
    key: str
    user_text: str
    reply: str = ""
    finish_reason: str | None = None
    failure: str | None = None
    flags: tuple[str, ...] = ()
    prompt_digest: str = ""
    section_digests: tuple[tuple[str, str], ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    attempts: int = 1
    plan: Any = None
    measurement: Any = None
    motifs: Any = None
    vectors: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    state: bytes = b""
    retry_of: int | None = None
