"""What can be seen of any drift: equilibria, branches, basins, phase planes, timescales."""

from .attraction import Basins, BasinShares, basin_shares, basins
from .certificates import Certificate, certify, envelope
from .continuation import Branch, continue_branch, crossing_branch
from .flat import component_names, jacobian
from .innovations import (
    chi_squared_threshold,
    nominal_rate,
    normalised_innovation,
    surprise_threshold,
)
from .kalman import KalmanMonitor, MonitorState, refuse_echoes
from .linearisation import Coupling, Timescales, coupling, timescales
from .map_certificates import MapCertificate, certify_map
from .multistart import Equilibrium, find_equilibria
from .portrait import PhasePlane, phase_plane
from .special_points import SpecialPoint
from .spectral_split import Dichotomy

__all__ = [
    "BasinShares",
    "Basins",
    "Branch",
    "Certificate",
    "Coupling",
    "Dichotomy",
    "Equilibrium",
    "KalmanMonitor",
    "MapCertificate",
    "MonitorState",
    "PhasePlane",
    "SpecialPoint",
    "Timescales",
    "basin_shares",
    "basins",
    "certify",
    "certify_map",
    "chi_squared_threshold",
    "component_names",
    "continue_branch",
    "coupling",
    "crossing_branch",
    "envelope",
    "find_equilibria",
    "jacobian",
    "nominal_rate",
    "normalised_innovation",
    "phase_plane",
    "refuse_echoes",
    "surprise_threshold",
    "timescales",
]
