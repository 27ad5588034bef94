"""Ouro, a language model whose layers are run several times: model, depth, cache, decoding."""

from .cache import Cache, CachePolicy, append, empty_cache, fold_cache
from .configuration import OuroConfig, read_config
from .decoding import Depth, Step, decode, prefill, select
from .exits import (
    Acceleration,
    ExitPolicy,
    FixedDepth,
    HiddenDifference,
    PredictionKL,
    QExit,
    exit_distribution,
)
from .layers import Context, KeyValue
from .model import LoopOutputs, Ouro, stack_layers, unstack_layers

__all__ = [
    "Acceleration",
    "Cache",
    "CachePolicy",
    "Context",
    "Depth",
    "ExitPolicy",
    "FixedDepth",
    "HiddenDifference",
    "KeyValue",
    "LoopOutputs",
    "Ouro",
    "OuroConfig",
    "PredictionKL",
    "QExit",
    "Step",
    "append",
    "decode",
    "empty_cache",
    "exit_distribution",
    "fold_cache",
    "prefill",
    "read_config",
    "select",
    "stack_layers",
    "unstack_layers",
]
