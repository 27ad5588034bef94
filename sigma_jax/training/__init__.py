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
from .mixed_batches import MixedBatches
from .seq2seq_data import END, PAD, START, Seq2SeqPairs, Vocabulary, encode_pairs
from .seq2seq_decoding import exact_match, greedy_targets
from .seq2seq_training import LearnerState, sequence_loss, start_learners, train_learners
from .transformer import Seq2SeqTransformer, TransformerSizes

__all__ = [
    "CHAT_TEMPLATE",
    "END",
    "PAD",
    "SPECIAL_TOKENS",
    "START",
    "Answers",
    "Batch",
    "Batches",
    "Dialogue",
    "DialogueBatches",
    "LearnerState",
    "Metrics",
    "MixedBatches",
    "Objective",
    "Recipe",
    "Seq2SeqPairs",
    "Seq2SeqTransformer",
    "TextBatches",
    "TrainingState",
    "TransformerSizes",
    "Vocabulary",
    "byte_ids",
    "dialogues",
    "encode_pairs",
    "evaluate_objective",
    "exact_match",
    "expected_loss",
    "gate_loss",
    "greedy_answers",
    "greedy_targets",
    "load_training",
    "log_exit_distribution",
    "make_tokenizer",
    "pad_dialogues",
    "save_training",
    "sequence_loss",
    "start_learners",
    "start_training",
    "token_losses",
    "train",
    "train_learners",
    "trained_model",
]
