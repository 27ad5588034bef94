"""The picture of a prediction: one panel a test, with the data that decided it."""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..predictions import Picture
from .style import BLUE, GREEN, ORANGE, PURPLE, SKY, STYLE, VERMILION

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_LABEL_WIDTH, _TICK_WIDTH = 40, 16
_DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


def verdict_figure(pictures: Sequence[tuple[str, Picture]]) -> Figure:
    """One panel for each (title, picture): samples as box plots with points, clouds, or curves."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(pictures), figsize=(4.6 * len(pictures), 4.6), squeeze=False
        )
        for panel, (title, picture) in zip(axes[0], pictures, strict=True):
            _DRAW[picture.kind](panel, picture)
            panel.set_title(title)
            panel.set_xlabel(textwrap.fill(picture.xlabel, _LABEL_WIDTH))
            panel.set_ylabel(textwrap.fill(picture.ylabel, _LABEL_WIDTH))
    return figure


def _samples(panel: Axes, picture: Picture) -> None:
    """A box over every sample's points; points are spread sideways by rank, not at random."""
    for place, (values, *_) in enumerate(picture.series.values()):
        values = np.asarray(values)
        side = np.modf(np.arange(values.size) * 0.618034)[0] - 0.5
        panel.plot(
            place + 0.5 * side,
            values,
            ".",
            color=_COLOURS[place % len(_COLOURS)],
            ms=2,
            alpha=0.35,
            rasterized=True,
            zorder=0,
        )
        panel.boxplot(
            values,
            positions=[place],
            widths=0.6,
            showfliers=False,
            medianprops={"color": "black", "lw": 2},
        )
    if len(picture.series) > 4:
        panel.set_xticks(range(len(picture.series)), list(picture.series), fontsize=9)
        panel.tick_params("x", rotation=30)
        plt.setp(panel.get_xticklabels(), ha="right", rotation_mode="anchor")
    else:
        labels = [textwrap.fill(label, _TICK_WIDTH) for label in picture.series]
        panel.set_xticks(range(len(labels)), labels)
    for place, (label, height) in enumerate(picture.marks.items()):
        panel.axhline(height, color="black", lw=1, ls=_DASHES[1 + place], label=label)
    _legend(panel, len(picture.marks))


def _scatter(panel: Axes, picture: Picture) -> None:
    for (label, (x, y)), colour in zip(picture.series.items(), _COLOURS, strict=False):
        if len(x) == 2:  # two points are a line to compare with
            panel.plot(x, y, color="black", lw=1, ls="--", label=label)
        else:
            panel.plot(x, y, ".", color=colour, ms=4, alpha=0.5, label=label, rasterized=True)
    _finish(panel, picture)


def _lines(panel: Axes, picture: Picture) -> None:
    for (label, (x, y)), colour, dash in zip(
        picture.series.items(), _COLOURS, _DASHES, strict=False
    ):
        panel.plot(x, y, color=colour, ls=dash, label=label)
    _finish(panel, picture)


def _finish(panel: Axes, picture: Picture) -> None:
    for place, (label, x) in enumerate(picture.marks.items()):
        panel.axvline(x, color="black", lw=1, ls=_DASHES[1 + place], label=label)
    entries = len(picture.series) + len(picture.marks)
    _legend(panel, entries if entries > 1 else 0)


def _legend(panel: Axes, entries: int) -> None:
    """Below the axis, where it hides no data."""
    if entries:
        panel.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.2),
            ncols=2 if entries > 2 else 1,
            markerscale=2,
        )


_DRAW = {"samples": _samples, "scatter": _scatter, "lines": _lines}
