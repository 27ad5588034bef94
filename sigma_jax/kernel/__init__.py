"""Ouro, a language model whose layers are run several times: model, depth, cache, decoding."""

from .adapter_files import load_adapter, save_adapter
from .adapters import LoRAConfig, add_adapter, merge_adapter
from .cache import Cache, CachePolicy, append, empty_cache, fold_cache
from .canary import Adaptation, CanarySigns, CanaryState, observe, start_canary
from .configuration import OuroConfig, read_config
from .decoding import Depth, Step, decode, prefill, select
from .embedded import kernel_mini_directory
from .exits import (
    Acceleration,
    ExitPolicy,
    FixedDepth,
    HiddenDifference,
    PredictionKL,
    QExit,
    exit_distribution,
)
from .generation import Generated, Generator, generate
from .layers import Context, KeyValue
from .model import Layered, LoopOutputs, Ouro, stack_layers, unstack_layers
from .quantization import Quantization, quantize_model
from .running_batch import Chunk, Decoding, Finish
from .sampling import Sampling, sample
from .stop_strings import StopStrings
from .tokenizer_files import check_tokenizer, load_tokenizer, stop_ids
from .weights import load_model, save_model

__all__ = [
    "Acceleration",
    "Adaptation",
    "Cache",
    "CachePolicy",
    "CanarySigns",
    "CanaryState",
    "Chunk",
    "Context",
    "Decoding",
    "Depth",
    "ExitPolicy",
    "Finish",
    "FixedDepth",
    "Generated",
    "Generator",
    "HiddenDifference",
    "KeyValue",
    "Layered",
    "LoRAConfig",
    "LoopOutputs",
    "Ouro",
    "OuroConfig",
    "PredictionKL",
    "QExit",
    "Quantization",
    "Sampling",
    "Step",
    "StopStrings",
    "add_adapter",
    "append",
    "check_tokenizer",
    "decode",
    "empty_cache",
    "exit_distribution",
    "fold_cache",
    "generate",
    "kernel_mini_directory",
    "load_adapter",
    "load_model",
    "load_tokenizer",
    "merge_adapter",
    "observe",
    "prefill",
    "quantize_model",
    "read_config",
    "sample",
    "save_adapter",
    "save_model",
    "select",
    "stack_layers",
    "start_canary",
    "stop_ids",
    "unstack_layers",
]
