"""A turn in progress, and what a conversation is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from .._check import require_in
from .attractors import AttractorMeasurement, AttractorParameters
from .calibration import Calibration
from .control import ControlPolicy, Level, Plan
from .conversation_state import ConversationState
from .encoders import Encoder
from .identity import Identity
from .input_kinds import InputKind
from .memories import MemoryHit, MemoryIndex
from .models import Completion, Model
from .monitor import Measurement, MonitorParameters
from .prompt import Prompt, PromptBudget
from .reply_problems import ReplyProblem


@dataclass(frozen=True)
class RuntimeSettings:
    """What a user may want otherwise.

    **Arguments:** `budget` of the prompt; `policy` of corrections; `max_tokens` of a reply;
    `memories`, at most so many in a prompt; `language` that replies are expected in, or None;
    `most_user_bytes` and `most_reply_bytes` of a text, in UTF-8.

    **Raises** `ValueError` for a number below one.
    """

    budget: PromptBudget = field(default_factory=PromptBudget)
    policy: ControlPolicy = field(default_factory=ControlPolicy)
    max_tokens: int = 512
    memories: int = 8
    language: str | None = "en"
    most_user_bytes: int = 64 * 1024
    most_reply_bytes: int = 64 * 1024

    def __post_init__(self) -> None:
        for name in ("max_tokens", "memories", "most_user_bytes", "most_reply_bytes"):
            require_in(name, getattr(self, name), 1)


@dataclass(frozen=True, eq=False)
class Parts:
    """What a conversation is made of: its stages look things up here and change none of it."""

    model: Model
    identity: Identity
    encoder: Encoder
    memories: MemoryIndex
    monitor: MonitorParameters
    attractors: AttractorParameters
    calibration: Calibration | None
    settings: RuntimeSettings

    @property
    def wordings(self) -> dict[str, str]:
        """The constraints' words, by their names."""
        return {constraint.name: constraint.text for constraint in self.identity.constraints}


class Turn(NamedTuple):
    """A turn in progress. What a stage has not yet done is as it is here."""

    number: int
    user_text: str
    before: ConversationState
    after: ConversationState
    on_piece: Callable[[str], None] | None = None
    kind: InputKind = InputKind.STATEMENT
    hits: tuple[MemoryHit, ...] = ()
    plan: Plan = Plan(Level.NONE, (), "", 0, (), (), True)
    reminder: str = ""
    prompt: Prompt = Prompt((), ())
    completion: Completion | None = None
    failure: str | None = None
    """Why there is no completion."""
    failure_message: str = ""
    reply: str = ""
    problem: ReplyProblem | None = None
    violated: tuple[str, ...] = ()
    """The constraints that the reply breaks."""
    drafted: tuple[str, ...] = ()
    """Those that the first reply broke, before any other was asked for."""
    attempts: int = 0
    """Calls of the model."""
    prompt_tokens: int = 0
    """Of all calls, as `count_tokens` counts them."""
    measurement: Measurement | None = None
    basin: AttractorMeasurement | None = None
