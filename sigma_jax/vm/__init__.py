"""The Σ₀ state machine: a state and its covariance under control, replayable and certified."""

from .archive import Archive, ArchiveError, read_archive, write_archive
from .certification import certify_state
from .checkpoints import load_checkpoint, save_checkpoint
from .collapse import CollapseThresholds, effective_rank, relative_spread, symmetric_modes
from .costs import StageCost, costate_step, free_energy, hamiltonian
from .fitting import FitResult, careful_adam, fit_policy
from .intervention import Action, InterventionPolicy, Reason, Receipt, Trigger, describe
from .machine import State, StateMachine, SurpriseMonitor, initial_state
from .nodes import LinearNode, NeuralNode, Node, ProviderNode, relative_drift
from .paired import Effect, PairedRuns, paired_rollouts
from .persistence import restore_state, restore_trace, snapshot_state
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
    "Effect",
    "FitResult",
    "InterventionPolicy",
    "Jump",
    "LinearNode",
    "LinearPolicy",
    "NeuralNode",
    "Node",
    "PairedRuns",
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
    "careful_adam",
    "certify_state",
    "costate_step",
    "describe",
    "diagnose",
    "effective_rank",
    "fit_policy",
    "free_energy",
    "hamiltonian",
    "initial_state",
    "load_checkpoint",
    "load_snapshot",
    "lqr_policy",
    "neural_policy",
    "paired_rollouts",
    "read_archive",
    "reconstruct",
    "relative_drift",
    "relative_spread",
    "restore_state",
    "restore_trace",
    "rollout",
    "save_checkpoint",
    "save_snapshot",
    "snapshot_state",
    "symmetric_modes",
    "write_archive",
]
