"""Conversations that hold their shape: a loop of state, memory and correction around any model."""

from .calibration import Calibration, calibrate, load_calibration, save_calibration, uncalibrated
from .checks import (
    AllOf,
    AnyOf,
    Check,
    Constraint,
    Contains,
    Forbids,
    IsJSON,
    LeastWords,
    ListsSteps,
    Matches,
    MostWords,
    Not,
    Refuses,
    check_from_json,
    violations,
)
from .control import (
    ControlPolicy,
    ControlState,
    Level,
    Plan,
    Signals,
    after_turn,
    control_from_json,
    in_force,
    plan_turn,
    reminder_text,
)
from .conversation import ConversationRuntime, TurnResult
from .conversation_state import ConversationState
from .conversation_store import ConversationConflict, ConversationStore
from .encoded_texts import CachedEncoder
from .encoders import Encoder, HashedEncoder
from .fact_rules import extract_facts, forget_request
from .facts import Ending, Fact, FactBook, FactKind, fact_key
from .identity import ASSISTANT, Identity, identity_from_json, read_identity
from .identity_calibration import CALIBRATION_PROMPTS, calibrate_identity
from .input_kinds import InputKind, input_kind
from .memories import Memory, MemoryHit, MemoryIndex, memories_of
from .messages import ROLES, Message, parse, render
from .minilm import MiniLM, load_minilm
from .models import CallableModel, Completion, EndpointModel, Model, ModelFailure, as_model
from .monitor import (
    CHANNELS,
    Measurement,
    MonitorParameters,
    MonitorState,
    Observation,
    monitor_step,
    start_monitor,
)
from .motif_memory import Motif, MotifMemory
from .phases import Phase
from .prompt import (
    USER_SAYS,
    Exchange,
    Note,
    Prompt,
    PromptBudget,
    PromptParts,
    Section,
    build_prompt,
    cut_window,
    last_message,
    shared_prefix,
    users_words,
    within,
)
from .replays import replay
from .reply_problems import ReplyProblem, reply_problem
from .scenario import Scenario, ScenarioTurn, load_scenario
from .scenario_scores import ScenarioScore, Tally, score_reply, score_scenario
from .simulated_model import SimulatedModel, SimulatedState
from .statement_index import StatementIndex
from .store_file import StoreError
from .style import STYLE_FEATURES, style_features
from .style_commands import StyleCommand, StyleGate, style_command, style_command_weight, style_gate
from .symbols import Symbol, extract_symbols
from .tokens import count_tokens
from .turn_in_progress import Parts, RuntimeSettings, Turn
from .turn_records import Attempt, TurnRecord
from .turn_stages import Stages

SigmaRuntime = ConversationRuntime
"""The name under which the design describes the loop. Use `ConversationRuntime`."""

__all__ = [
    "ASSISTANT",
    "CALIBRATION_PROMPTS",
    "CHANNELS",
    "ROLES",
    "STYLE_FEATURES",
    "USER_SAYS",
    "AllOf",
    "AnyOf",
    "Attempt",
    "CachedEncoder",
    "Calibration",
    "CallableModel",
    "Check",
    "Completion",
    "Constraint",
    "Contains",
    "ControlPolicy",
    "ControlState",
    "ConversationConflict",
    "ConversationRuntime",
    "ConversationState",
    "ConversationStore",
    "Encoder",
    "Ending",
    "EndpointModel",
    "Exchange",
    "Fact",
    "FactBook",
    "FactKind",
    "Forbids",
    "HashedEncoder",
    "Identity",
    "InputKind",
    "IsJSON",
    "LeastWords",
    "Level",
    "ListsSteps",
    "Matches",
    "Measurement",
    "Memory",
    "MemoryHit",
    "MemoryIndex",
    "Message",
    "MiniLM",
    "Model",
    "ModelFailure",
    "MonitorParameters",
    "MonitorState",
    "MostWords",
    "Motif",
    "MotifMemory",
    "Not",
    "Note",
    "Observation",
    "Parts",
    "Phase",
    "Plan",
    "Prompt",
    "PromptBudget",
    "PromptParts",
    "Refuses",
    "ReplyProblem",
    "RuntimeSettings",
    "Scenario",
    "ScenarioScore",
    "ScenarioTurn",
    "Section",
    "SigmaRuntime",
    "Signals",
    "SimulatedModel",
    "SimulatedState",
    "Stages",
    "StatementIndex",
    "StoreError",
    "StyleCommand",
    "StyleGate",
    "Symbol",
    "Tally",
    "Turn",
    "TurnRecord",
    "TurnResult",
    "after_turn",
    "as_model",
    "build_prompt",
    "calibrate",
    "calibrate_identity",
    "check_from_json",
    "control_from_json",
    "count_tokens",
    "cut_window",
    "extract_facts",
    "extract_symbols",
    "fact_key",
    "forget_request",
    "identity_from_json",
    "in_force",
    "input_kind",
    "last_message",
    "load_calibration",
    "load_minilm",
    "load_scenario",
    "memories_of",
    "monitor_step",
    "parse",
    "plan_turn",
    "read_identity",
    "reminder_text",
    "render",
    "replay",
    "reply_problem",
    "save_calibration",
    "score_reply",
    "score_scenario",
    "shared_prefix",
    "start_monitor",
    "style_command",
    "style_command_weight",
    "style_features",
    "style_gate",
    "uncalibrated",
    "users_words",
    "violations",
    "within",
]
