"""The Σ₀ state machine: a state and its covariance under control, replayable and certified."""

from .archive import Archive, ArchiveError, read_archive, write_archive
from .collapse import CollapseThresholds, effective_rank, relative_spread, symmetric_modes
from .costs import StageCost, costate_step, free_energy, hamiltonian
from .intervention import Action, InterventionPolicy, Reason, Receipt, Trigger, describe
from .machine import State, StateMachine, SurpriseMonitor, initial_state
from .nodes import LinearNode, NeuralNode, Node, ProviderNode, relative_drift
from .policies import Controller, LinearPolicy, lqr_policy, neural_policy
from .reconstruction import ActiveModes, active_modes, reconstruct
from .rollouts import Jump, Rollout, Swap, rollout
from .snapshots import Snapshot, load_snapshot, save_snapshot
from .traces import Diagnosis, SwapRecord, Trace, diagnose

__all__ = [
    "Action",
    "ActiveModes",
    "Archive",
    "ArchiveError",
    "CollapseThresholds",
    "Controller",
    "Diagnosis",
    "InterventionPolicy",
    "Jump",
    "LinearNode",
    "LinearPolicy",
    "NeuralNode",
    "Node",
    "ProviderNode",
    "Reason",
    "Receipt",
    "Rollout",
    "Snapshot",
    "StageCost",
    "State",
    "StateMachine",
    "SurpriseMonitor",
    "Swap",
    "SwapRecord",
    "Trace",
    "Trigger",
    "active_modes",
    "costate_step",
    "describe",
    "diagnose",
    "effective_rank",
    "free_energy",
    "hamiltonian",
    "initial_state",
    "load_snapshot",
    "lqr_policy",
    "neural_policy",
    "read_archive",
    "reconstruct",
    "relative_drift",
    "relative_spread",
    "rollout",
    "save_snapshot",
    "symmetric_modes",
    "write_archive",
]
