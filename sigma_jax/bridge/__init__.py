"""The bridge between kernel and state machine: hidden states as states, and back."""

from .abi_fidelity import Fidelity, exit_states, fidelity, heard_through
from .abi_files import load_abi, save_abi
from .abi_fitting import ABITraining, start_abi_training, train_abi
from .state_abi import StateABI, optimal_abi

__all__ = [
    "ABITraining",
    "Fidelity",
    "StateABI",
    "exit_states",
    "fidelity",
    "heard_through",
    "load_abi",
    "optimal_abi",
    "save_abi",
    "start_abi_training",
    "train_abi",
]
