"""Figures of coupled learners: accuracy and coherence over training, a panel a condition."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import BLUE, GREEN, ORANGE, STYLE, VERMILION

_GREY = "#9a9a9a"
_COLOURS = (BLUE, VERMILION, GREEN, ORANGE)
_COLUMNS = 5


class LearnerCurve(NamedTuple):
    """One quantity of a condition's learners over training: `[seeds, steps]`, at its steps."""

    steps: Float[np.ndarray, " steps"]
    values: Float[np.ndarray, "seeds steps"]
    label: str
    points: bool = False
    """Whether the means are drawn as points, without the range."""


def learners_figure(
    panels: Mapping[str, Sequence[LearnerCurve]],
    ylabel: str,
    *,
    reference: LearnerCurve | None = None,
    marks: Mapping[str, float] | None = None,
    level: float | None = None,
    lowest: float = 0.0,
) -> Figure:
    """A panel for each condition: every curve's mean over the seeds, and their whole range.

    **Arguments:** `panels`, at most four curves by the condition's name; `reference`, a curve that
    every panel has in grey; `marks`, a step by condition, and `level`, a height, drawn as dotted
    lines; `lowest`, where the axis begins, which ends at 1.
    """
    rows = -(-len(panels) // _COLUMNS)
    columns = min(_COLUMNS, len(panels))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(2.3 * columns + 0.6, 2.3 * rows + 0.7),
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for panel, (name, curves) in zip(axes.ravel(), panels.items(), strict=False):
            if reference is not None:
                _curve(panel, reference, _GREY)
            for curve, colour in zip(curves, _COLOURS, strict=False):
                _curve(panel, curve, colour)
            if level is not None:
                panel.axhline(level, color=_GREY, linestyle=":", linewidth=1.2)
            if marks is not None and np.isfinite(marks.get(name, np.inf)):
                panel.axvline(marks[name], color="#444", linestyle=":", linewidth=1.2)
            panel.set_title(name)
            panel.set_ylim(lowest - 0.03, 1.03)
        for panel in axes.ravel()[len(panels) :]:
            panel.set_visible(False)
        for panel in axes[:, 0]:
            panel.set_ylabel(ylabel)
        for column in range(columns):
            shown = [row for row in range(rows) if row * columns + column < len(panels)]
            axes[shown[-1], column].set_xlabel("step")
            axes[shown[-1], column].tick_params(labelbottom=True)
        handles = {line.get_label(): line for line in axes[0, 0].get_lines()}
        labelled = {k: v for k, v in handles.items() if not str(k).startswith("_")}
        figure.legend(
            labelled.values(), labelled.keys(), loc="outside upper center", ncols=len(labelled)
        )
    return figure


def _curve(panel: Axes, curve: LearnerCurve, colour: str) -> None:
    """NaN are gaps."""
    known = np.isfinite(curve.values).any(axis=0)
    steps, values = curve.steps[known], curve.values[:, known]
    if not steps.size:
        return
    style = {"linestyle": "", "marker": "o", "markersize": 4} if curve.points else {}
    mean = np.nanmean(values, axis=0)
    panel.plot(steps, mean, color=colour, label=curve.label, **style)
    if not curve.points:
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        panel.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
