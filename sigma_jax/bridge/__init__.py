"""The bridge between kernel and state machine: hidden states as states, and back."""

from .abi_fidelity import Fidelity, exit_states, fidelity, heard_through
from .abi_files import load_abi, save_abi
from .abi_fitting import ABITraining, start_abi_training, train_abi
from .alignment import aligned_abi
from .capacity import Capacity, CapacityState
from .certified_loop import LoopCanary, LoopStep, calibrate_canary, certified_step, fit_canary
from .chat_endpoint import ChatEndpoint, ChatReply
from .drift_matrices import DriftMatrix, drift_matrix
from .endpoints import OllamaEndpoint, OpenAIEndpoint
from .extractive import OfflineProvider
from .kernel_provider import KernelProvider
from .loop_node import LoopNode, LoopNodes, loop_nodes
from .reasoning_nodes import (
    Reader,
    ReasoningStep,
    question_alone,
    question_and_thought,
    reasoning_node,
)
from .requests import Failure, Passage, Provider, ProviderError, Reply, Request
from .routing import Router, Standing
from .state_abi import StateABI, optimal_abi
from .ways import LoopWays, follow_nodes, loop_ways, more_loops, more_own_loops
from .wording import STOP_WORDS, terms

__all__ = [
    "STOP_WORDS",
    "ABITraining",
    "Capacity",
    "CapacityState",
    "ChatEndpoint",
    "ChatReply",
    "DriftMatrix",
    "Failure",
    "Fidelity",
    "KernelProvider",
    "LoopCanary",
    "LoopNode",
    "LoopNodes",
    "LoopStep",
    "LoopWays",
    "OfflineProvider",
    "OllamaEndpoint",
    "OpenAIEndpoint",
    "Passage",
    "Provider",
    "ProviderError",
    "Reader",
    "ReasoningStep",
    "Reply",
    "Request",
    "Router",
    "Standing",
    "StateABI",
    "aligned_abi",
    "calibrate_canary",
    "certified_step",
    "drift_matrix",
    "exit_states",
    "fidelity",
    "fit_canary",
    "follow_nodes",
    "heard_through",
    "load_abi",
    "loop_nodes",
    "loop_ways",
    "more_loops",
    "more_own_loops",
    "optimal_abi",
    "question_alone",
    "question_and_thought",
    "reasoning_node",
    "save_abi",
    "start_abi_training",
    "terms",
    "train_abi",
]
