"""The nine predictions, M1 and H6.1 to H6.3: registrations, tests that can fail, and verdicts."""

from .coupled_learners import CoupledOutcomes
from .h6_1 import H6_1
from .h6_2 import H6_2
from .h6_3 import H6_3
from .m1 import M1
from .p1 import P1
from .p2 import P2
from .p3 import P3
from .p4 import P4
from .p5 import P5
from .p6 import P6
from .p7 import P7
from .p8 import P8
from .p9 import P9
from .population import HORIZON, TIMES, Population, simulate_population
from .registration import (
    FAMILY_ALPHA,
    Picture,
    Prediction,
    Registration,
    Study,
    Verdict,
    decide,
)
from .trained_designs import TRAINED_DESIGNS
from .trained_gap import GapOutcomes
from .trained_p2 import ShortcutOutcomes
from .trained_p8 import ModalityOutcomes
from .trained_study import TrainedDesign, TrainedStudy, TrainedTest

PREDICTIONS = {p.name: p for p in (P1, P2, P3, P4, P5, P6, P7, P8, P9, M1, H6_1, H6_2, H6_3)}
"""Every prediction by name."""

__all__ = [
    "FAMILY_ALPHA",
    "H6_1",
    "H6_2",
    "H6_3",
    "HORIZON",
    "M1",
    "P1",
    "P2",
    "P3",
    "P4",
    "P5",
    "P6",
    "P7",
    "P8",
    "P9",
    "PREDICTIONS",
    "TIMES",
    "TRAINED_DESIGNS",
    "CoupledOutcomes",
    "GapOutcomes",
    "ModalityOutcomes",
    "Picture",
    "Population",
    "Prediction",
    "Registration",
    "ShortcutOutcomes",
    "Study",
    "TrainedDesign",
    "TrainedStudy",
    "TrainedTest",
    "Verdict",
    "decide",
    "simulate_population",
]
