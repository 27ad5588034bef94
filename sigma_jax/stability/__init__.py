"""What can be seen of any drift: equilibria, branches, basins, phase planes, timescales."""

from .attraction import Basins, BasinShares, basin_shares, basins
from .continuation import Branch, continue_branch, crossing_branch
from .flat import component_names, jacobian
from .linearisation import Coupling, Timescales, coupling, timescales
from .multistart import Equilibrium, find_equilibria
from .portrait import PhasePlane, phase_plane
from .special_points import SpecialPoint

__all__ = [
    "BasinShares",
    "Basins",
    "Branch",
    "Coupling",
    "Equilibrium",
    "PhasePlane",
    "SpecialPoint",
    "Timescales",
    "basin_shares",
    "basins",
    "component_names",
    "continue_branch",
    "coupling",
    "crossing_branch",
    "find_equilibria",
    "jacobian",
    "phase_plane",
    "timescales",
]
