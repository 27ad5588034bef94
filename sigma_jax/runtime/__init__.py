"""Conversations that hold their shape: a loop of state, memory and correction around any model."""

from .attractors import (
    AttractorMeasurement,
    AttractorParameters,
    AttractorState,
    attractor_parameters,
    attractor_step,
    start_attractors,
)
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
from .comparison_arms import ARMS, ArmRun, PlainArm, RuntimeArm, run_arm
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
from .conversation import ConversationRuntime
from .conversation_pages import conversation_page
from .conversation_state import ConversationState
from .conversation_store import ConversationConflict, ConversationStore
from .conversation_views import conversation_view
from .detection_runs import (
    CASES,
    DetectionCase,
    DetectionSummary,
    Share,
    Watched,
    exact_share,
    summarise,
    watch_conversations,
)
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
from .monitor import CHANNELS, Measurement, MonitorState, Observation, monitor_step, start_monitor
from .monitor_parameters import MonitorParameters, monitor_node, stationary_variance
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
from .provider_swaps import SwapVerdict, fit_node, swap_gate
from .replayed_logs import ReplayedLog, measurement_table, replay_log
from .replays import replay
from .reply_problems import ReplyProblem, reply_problem
from .scenario import PHASES, Scenario, ScenarioTurn, load_scenario
from .scenario_scores import LAG_BINS, LagTally, ScenarioScore, Tally, score_reply, score_scenario
from .simulated_model import SimulatedModel, SimulatedState
from .simulated_modes import (
    AbruptLoss,
    AdversarialPull,
    Circumstances,
    Crystallising,
    Failing,
    GradualLoss,
    Mode,
    ObedientStyle,
    Oscillating,
    ProviderSwap,
    Stationary,
)
from .statement_index import StatementIndex
from .store_file import StoreError
from .style import STYLE_FEATURES, style_features
from .style_commands import StyleCommand, StyleGate, style_command, style_command_weight, style_gate
from .symbols import Symbol, extract_symbols
from .tokens import count_tokens
from .turn_in_progress import Parts, RuntimeSettings, Turn
from .turn_logs import (
    LogFlag,
    LoggedConversation,
    LoggedTurn,
    read_turns,
    recorded_log,
    write_turns,
)
from .turn_records import Attempt, TurnRecord
from .turn_results import TurnResult
from .turn_stages import Stages

SigmaRuntime = ConversationRuntime
"""The name under which the design describes the loop. Use `ConversationRuntime`."""

__all__ = [
    "ARMS",
    "ASSISTANT",
    "CALIBRATION_PROMPTS",
    "CASES",
    "CHANNELS",
    "LAG_BINS",
    "PHASES",
    "ROLES",
    "STYLE_FEATURES",
    "USER_SAYS",
    "AbruptLoss",
    "AdversarialPull",
    "AllOf",
    "AnyOf",
    "ArmRun",
    "Attempt",
    "AttractorMeasurement",
    "AttractorParameters",
    "AttractorState",
    "CachedEncoder",
    "Calibration",
    "CallableModel",
    "Check",
    "Circumstances",
    "Completion",
    "Constraint",
    "Contains",
    "ControlPolicy",
    "ControlState",
    "ConversationConflict",
    "ConversationRuntime",
    "ConversationState",
    "ConversationStore",
    "Crystallising",
    "DetectionCase",
    "DetectionSummary",
    "Encoder",
    "Ending",
    "EndpointModel",
    "Exchange",
    "Fact",
    "FactBook",
    "FactKind",
    "Failing",
    "Forbids",
    "GradualLoss",
    "HashedEncoder",
    "Identity",
    "InputKind",
    "IsJSON",
    "LagTally",
    "LeastWords",
    "Level",
    "ListsSteps",
    "LogFlag",
    "LoggedConversation",
    "LoggedTurn",
    "Matches",
    "Measurement",
    "Memory",
    "MemoryHit",
    "MemoryIndex",
    "Message",
    "MiniLM",
    "Mode",
    "Model",
    "ModelFailure",
    "MonitorParameters",
    "MonitorState",
    "MostWords",
    "Motif",
    "MotifMemory",
    "Not",
    "Note",
    "ObedientStyle",
    "Observation",
    "Oscillating",
    "Parts",
    "Phase",
    "PlainArm",
    "Plan",
    "Prompt",
    "PromptBudget",
    "PromptParts",
    "ProviderSwap",
    "Refuses",
    "ReplayedLog",
    "ReplyProblem",
    "RuntimeArm",
    "RuntimeSettings",
    "Scenario",
    "ScenarioScore",
    "ScenarioTurn",
    "Section",
    "Share",
    "SigmaRuntime",
    "Signals",
    "SimulatedModel",
    "SimulatedState",
    "Stages",
    "StatementIndex",
    "Stationary",
    "StoreError",
    "StyleCommand",
    "StyleGate",
    "SwapVerdict",
    "Symbol",
    "Tally",
    "Turn",
    "TurnRecord",
    "TurnResult",
    "Watched",
    "after_turn",
    "as_model",
    "attractor_parameters",
    "attractor_step",
    "build_prompt",
    "calibrate",
    "calibrate_identity",
    "check_from_json",
    "control_from_json",
    "conversation_page",
    "conversation_view",
    "count_tokens",
    "cut_window",
    "exact_share",
    "extract_facts",
    "extract_symbols",
    "fact_key",
    "fit_node",
    "forget_request",
    "identity_from_json",
    "in_force",
    "input_kind",
    "last_message",
    "load_calibration",
    "load_minilm",
    "load_scenario",
    "measurement_table",
    "memories_of",
    "monitor_node",
    "monitor_step",
    "parse",
    "plan_turn",
    "read_identity",
    "read_turns",
    "recorded_log",
    "reminder_text",
    "render",
    "replay",
    "replay_log",
    "reply_problem",
    "run_arm",
    "save_calibration",
    "score_reply",
    "score_scenario",
    "shared_prefix",
    "start_attractors",
    "start_monitor",
    "stationary_variance",
    "style_command",
    "style_command_weight",
    "style_features",
    "style_gate",
    "summarise",
    "swap_gate",
    "uncalibrated",
    "users_words",
    "violations",
    "watch_conversations",
    "within",
    "write_turns",
]
