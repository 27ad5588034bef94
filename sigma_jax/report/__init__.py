"""What a person looks at: figures, tables, pages, and files that are whole or not there."""

from .._files import write_text, write_whole
from .arrays import labelled_dataset, write_netcdf
from .bridge_figures import drift_matrix_figure, fidelity_figure
from .checks import Check, checks_table
from .conversation_figures import (
    ArmBar,
    DriftChart,
    arms_figure,
    detection_figure,
    drift_figure,
    lag_figure,
)
from .faculty_figures import Spoke, radar_figure, recovery_figure
from .figures import (
    arc_figure,
    bifurcation_figure,
    fit_figure,
    measured_phases_figure,
    phase_portrait_figure,
    sweep_figure,
)
from .grounding_figures import accuracy_figure
from .kernel_figures import training_figure
from .learner_figures import LearnerCurve, learners_figure
from .loop_figures import loop_canary_figure, loop_spectra_figure, loop_steps_figure
from .machine_figures import (
    Band,
    Mark,
    comparison_figure,
    innovation_figure,
    learning_figure,
    rollout_figure,
    spectra_figure,
)
from .page import Section, render_page
from .verdict_figures import verdict_figure

__all__ = [
    "ArmBar",
    "Band",
    "Check",
    "DriftChart",
    "LearnerCurve",
    "Mark",
    "Section",
    "Spoke",
    "accuracy_figure",
    "arc_figure",
    "arms_figure",
    "bifurcation_figure",
    "checks_table",
    "comparison_figure",
    "detection_figure",
    "drift_figure",
    "drift_matrix_figure",
    "fidelity_figure",
    "fit_figure",
    "innovation_figure",
    "labelled_dataset",
    "lag_figure",
    "learners_figure",
    "learning_figure",
    "loop_canary_figure",
    "loop_spectra_figure",
    "loop_steps_figure",
    "measured_phases_figure",
    "phase_portrait_figure",
    "radar_figure",
    "recovery_figure",
    "render_page",
    "rollout_figure",
    "spectra_figure",
    "sweep_figure",
    "training_figure",
    "verdict_figure",
    "write_netcdf",
    "write_text",
    "write_whole",
]
