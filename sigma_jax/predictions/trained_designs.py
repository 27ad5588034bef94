"""Every design of trained learners, by name."""

from .coupled_learners import train_coupled_learners
from .trained_h6_1 import META_LEARNING
from .trained_h6_2 import ENGINEERING
from .trained_h6_3 import REGIMES
from .trained_m1 import INTERVENTIONS
from .trained_p1 import QUALITY
from .trained_p2 import SHORTCUTS
from .trained_p8 import MODALITIES
from .trained_p9 import ENTRY
from .trained_study import TrainedDesign

_CONDITIONS = TrainedDesign(
    "conditions", train_coupled_learners, (QUALITY, ENTRY, INTERVENTIONS, ENGINEERING)
)

TRAINED_DESIGNS = {
    design.name: design for design in (_CONDITIONS, SHORTCUTS, MODALITIES, META_LEARNING, REGIMES)
}
"""Every design by name: which learners are trained once, and what is judged of them."""
