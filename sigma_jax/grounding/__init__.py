"""Grounding: claims held against evidence, a ledger of what was said, gates that must be passed."""

from .admissions import Admission, admit, precision, record_admission
from .answering import Answer, Answerer, Attempt
from .corpus import Corpus, Skipped, read_corpus
from .distillation import Pair, is_held_out, training_pairs
from .envelopes import Envelope, Evidence, coverage, envelope_from
from .evaluation import (
    Evaluation,
    JudgedProgram,
    ProposedSwap,
    Replay,
    ScoredAnswer,
    SetCheck,
    provider_scores,
    read_evaluation,
    record_item,
)
from .gates import (
    GATE_ARMS,
    Accuracy,
    Gate,
    compare_arms,
    gates_passed,
    judge_gates,
    paired_accuracy,
)
from .human_eval import (
    Problem,
    completion_of,
    judge,
    judge_all,
    load_human_eval,
    pass_at_k,
)
from .latent_semantics import LatentSemantics
from .leaderboard import append_row, read_rows, win_rates
from .ledger import Ledger, read_ledger, verify_ledger
from .ledger_lines import LedgerError, LedgerRecord, LedgerSummary
from .program_runs import Ending, Limits, Outcome
from .prompts import (
    DIFFICULTIES,
    Prompt,
    PromptSource,
    UnresolvedSource,
    golden_set,
    load_prompts,
    unresolved,
)
from .retrieval import Retrieved, Retriever
from .rubrics import meets, parse_rubric
from .sandbox import run_untrusted
from .support import Verdict, check_evidence, supports

__all__ = [
    "DIFFICULTIES",
    "GATE_ARMS",
    "Accuracy",
    "Admission",
    "Answer",
    "Answerer",
    "Attempt",
    "Corpus",
    "Ending",
    "Envelope",
    "Evaluation",
    "Evidence",
    "Gate",
    "JudgedProgram",
    "LatentSemantics",
    "Ledger",
    "LedgerError",
    "LedgerRecord",
    "LedgerSummary",
    "Limits",
    "Outcome",
    "Pair",
    "Problem",
    "Prompt",
    "PromptSource",
    "ProposedSwap",
    "Replay",
    "Retrieved",
    "Retriever",
    "ScoredAnswer",
    "SetCheck",
    "Skipped",
    "UnresolvedSource",
    "Verdict",
    "admit",
    "append_row",
    "check_evidence",
    "compare_arms",
    "completion_of",
    "coverage",
    "envelope_from",
    "gates_passed",
    "golden_set",
    "is_held_out",
    "judge",
    "judge_all",
    "judge_gates",
    "load_human_eval",
    "load_prompts",
    "meets",
    "paired_accuracy",
    "parse_rubric",
    "pass_at_k",
    "precision",
    "provider_scores",
    "read_corpus",
    "read_evaluation",
    "read_ledger",
    "read_rows",
    "record_admission",
    "record_item",
    "run_untrusted",
    "supports",
    "training_pairs",
    "unresolved",
    "verify_ledger",
    "win_rates",
]
