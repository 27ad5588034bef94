"""How a state is advanced: solvers, the one interface to them, boxes, events."""

from .batches import in_batches
from .belief import BeliefTerm, ItoRiccati, belief_step, dilation
from .box import Boxed, BoxReport
from .checkpoint import ChunkStore
from .events import Stop, advance_until
from .exponential import ETDRK4
from .imex import ARS232, ARS232Printed
from .ito import SDE, EulerMaruyama, Milstein, WeakEuler
from .long_runs import simulate_resumable, sweep
from .methods import Adaptive, FixedStep, Method
from .noise import NORMALS, increments, summed
from .riccati import Observation, require_covariance, riccati_field, riccati_step
from .runge_kutta import Tsit5
from .simulation import Solution, simulate, simulate_ensemble
from .stochastic import Paths, simulate_sde, simulate_sde_ensemble

__all__ = [
    "ARS232",
    "ETDRK4",
    "NORMALS",
    "SDE",
    "ARS232Printed",
    "Adaptive",
    "BeliefTerm",
    "BoxReport",
    "Boxed",
    "ChunkStore",
    "EulerMaruyama",
    "FixedStep",
    "ItoRiccati",
    "Method",
    "Milstein",
    "Observation",
    "Paths",
    "Solution",
    "Stop",
    "Tsit5",
    "WeakEuler",
    "advance_until",
    "belief_step",
    "dilation",
    "in_batches",
    "increments",
    "require_covariance",
    "riccati_field",
    "riccati_step",
    "simulate",
    "simulate_ensemble",
    "simulate_resumable",
    "simulate_sde",
    "simulate_sde_ensemble",
    "summed",
    "sweep",
]
