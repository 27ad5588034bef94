"""Figures of grounding: how often two arms answer rightly."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from ..statistics import binomial
from .style import BLUE, STYLE, VERMILION

Share = tuple[float, int, int]
"""A share, and the successes and trials that it is of."""


def accuracy_figure(
    groups: Sequence[str],
    first: Sequence[Share],
    second: Sequence[Share],
    *,
    arms: tuple[str, str] = ("kernel alone", "grounded"),
    grouped_by: str = "difficulty of the prompts",
) -> Figure:
    """Shares of right answers by group, two arms side by side, with Wilson's 95 % intervals."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(8.0, 3.8))
        places = np.arange(len(groups))
        drawn = zip(arms, (first, second), (VERMILION, BLUE), "os", (-0.1, 0.1), strict=True)
        for label, shares, colour, marker, shift in drawn:
            found = [binomial(right, trials, 0.5) for _, right, trials in shares]
            middle = np.array([share for share, *_ in shares])
            ends = np.array([[m - f.low, f.high - m] for m, f in zip(middle, found, strict=True)])
            axes.errorbar(
                places + shift,
                100 * middle,
                yerr=100 * np.maximum(ends.T, 0.0),
                fmt=marker,
                color=colour,
                capsize=4,
                markersize=8,
                label=label,
            )
        axes.set_xticks(places, groups)
        axes.set_xlabel(grouped_by)
        axes.set_ylabel("right answers (%)")
        axes.set_ylim(-3.0, 103.0)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
