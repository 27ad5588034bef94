"""Training: the kernel's two stages, their data, checkpoints, and how well it then answers."""

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

__all__ = [
    "CHAT_TEMPLATE",
    "SPECIAL_TOKENS",
    "Answers",
    "Batch",
    "Batches",
    "Dialogue",
    "DialogueBatches",
    "Metrics",
    "Objective",
    "Recipe",
    "TextBatches",
    "TrainingState",
    "byte_ids",
    "dialogues",
    "evaluate_objective",
    "expected_loss",
    "gate_loss",
    "greedy_answers",
    "load_training",
    "log_exit_distribution",
    "make_tokenizer",
    "pad_dialogues",
    "save_training",
    "start_training",
    "token_losses",
    "train",
    "trained_model",
]
