"""Training: the kernel's stages, their data, checkpoints, and how well it then answers."""

from .answers import Answers, greedy_answers
from .batches import Batch, Batches, DialogueBatches, TextBatches, pad_dialogues
from .chat_tokens import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    Dialogue,
    byte_ids,
    dialogues,
    make_tokenizer,
)
from .coherence_filter import CoherenceBelief, CoherenceNoise, correct, forecast
from .coherence_signals import (
    SIGNALS,
    SignalProbes,
    gradient_alignment,
    make_signal_probes,
    paraphrase_consistency,
    structure_alignment,
)
from .compositional_tasks import PARTS, TASKS, Leaks, Task, TaskSizes, find_leaks, make_task
from .coupled_runs import (
    MEASURED,
    CoupledRun,
    TaskRows,
    advance_run,
    encode_task,
    start_run,
    switched,
)
from .coupled_training import (
    BlockRecipe,
    BlockTrace,
    CoupledState,
    Pools,
    start_coupled,
    train_coupled,
)
from .kernel_checkpoints import load_training, save_training
from .kernel_objectives import (
    Objective,
    expected_loss,
    gate_loss,
    log_exit_distribution,
    token_losses,
)
from .kernel_training import (
    Metrics,
    Recipe,
    TrainingState,
    evaluate_objective,
    start_training,
    train,
    trained_model,
)
from .learner import Learner, make_learner
from .learner_coupling import (
    CONDITIONS,
    YOKED,
    Coupling,
    Record,
    no_record,
    stack_couplings,
    yoked_record,
)
from .looped_learner import LoopedLearner
from .mixed_batches import MixedBatches
from .seq2seq_data import END, PAD, START, Seq2SeqPairs, Vocabulary, encode_pairs
from .seq2seq_decoding import exact_match, greedy_targets
from .seq2seq_training import LearnerState, sequence_loss, start_learners, train_learners
from .signal_fusion import DISCREPANCY, FUSION_WEIGHTS, calibrate_fusion, fuse_signals
from .transformer import Seq2SeqTransformer, TransformerSizes

__all__ = [
    "CHAT_TEMPLATE",
    "CONDITIONS",
    "DISCREPANCY",
    "END",
    "FUSION_WEIGHTS",
    "MEASURED",
    "PAD",
    "PARTS",
    "SIGNALS",
    "SPECIAL_TOKENS",
    "START",
    "TASKS",
    "YOKED",
    "Answers",
    "Batch",
    "Batches",
    "BlockRecipe",
    "BlockTrace",
    "CoherenceBelief",
    "CoherenceNoise",
    "CoupledRun",
    "CoupledState",
    "Coupling",
    "Dialogue",
    "DialogueBatches",
    "Leaks",
    "Learner",
    "LearnerState",
    "LoopedLearner",
    "Metrics",
    "MixedBatches",
    "Objective",
    "Pools",
    "Recipe",
    "Record",
    "Seq2SeqPairs",
    "Seq2SeqTransformer",
    "SignalProbes",
    "Task",
    "TaskRows",
    "TaskSizes",
    "TextBatches",
    "TrainingState",
    "TransformerSizes",
    "Vocabulary",
    "advance_run",
    "byte_ids",
    "calibrate_fusion",
    "correct",
    "dialogues",
    "encode_pairs",
    "encode_task",
    "evaluate_objective",
    "exact_match",
    "expected_loss",
    "find_leaks",
    "forecast",
    "fuse_signals",
    "gate_loss",
    "gradient_alignment",
    "greedy_answers",
    "greedy_targets",
    "load_training",
    "log_exit_distribution",
    "make_learner",
    "make_signal_probes",
    "make_task",
    "make_tokenizer",
    "no_record",
    "pad_dialogues",
    "paraphrase_consistency",
    "save_training",
    "sequence_loss",
    "stack_couplings",
    "start_coupled",
    "start_learners",
    "start_run",
    "start_training",
    "structure_alignment",
    "switched",
    "token_losses",
    "train",
    "train_coupled",
    "train_learners",
    "trained_model",
    "yoked_record",
]
