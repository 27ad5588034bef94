"""Figures of faculties: one agent's scores on a radar, and known faculties recovered."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from .style import BLUE, STYLE, VERMILION

_GREY = "#9a9a9a"


class Spoke(NamedTuple):
    """One score in [0, 1] with its 95 % interval, or None if it could not be measured."""

    label: str
    score: tuple[float, float, float] | None
    """Estimate, low, high."""


def radar_figure(spokes: Sequence[Spoke]) -> Figure:
    """Scores around a circle, each from 0 in the middle to 1 at the rim, with its interval.

    What could not be measured has a cross at the rim, and the outline leaves it out.
    """
    angles = np.arange(len(spokes)) * 2.0 * np.pi / len(spokes)
    with plt.rc_context(STYLE):
        figure, panel = plt.subplots(figsize=(6.4, 5.6), subplot_kw={"projection": "polar"})
        panel.set_theta_offset(np.pi / 2.0)  # pyright: ignore[reportAttributeAccessIssue]
        panel.set_theta_direction(-1)  # pyright: ignore[reportAttributeAccessIssue]
        panel.set_ylim(0.0, 1.0)
        panel.set_yticks([0.25, 0.5, 0.75, 1.0])
        panel.tick_params(axis="y", labelsize=9, labelcolor="#666")
        panel.set_xticks(angles)
        panel.set_xticklabels([spoke.label for spoke in spokes])
        panel.tick_params(axis="x", pad=6)
        # Beside the rim, not across it.
        for label, angle in zip(panel.get_xticklabels(), angles, strict=True):
            side = round(float(np.sin(angle)), 6)
            label.set_horizontalalignment("left" if side > 0 else "right" if side < 0 else "center")
        known = [
            (angle, s.score) for angle, s in zip(angles, spokes, strict=True) if s.score is not None
        ]
        if known:
            around = np.array([angle for angle, _ in known] + [known[0][0]])
            values = np.array([score[0] for _, score in known] + [known[0][1][0]])
            panel.plot(around, values, color=BLUE)
            panel.fill(around, values, color=BLUE, alpha=0.15, linewidth=0)
        for angle, (estimate, low, high) in known:
            panel.plot([angle, angle], [low, high], color=BLUE, linewidth=5, alpha=0.45)
            panel.plot(angle, estimate, "o", color=BLUE)
        for angle, spoke in zip(angles, spokes, strict=True):
            if spoke.score is None:
                panel.plot(angle, 1.0, "x", color=VERMILION, markersize=10, clip_on=False)
    return figure


def recovery_figure(
    panels: Mapping[str, tuple[Float[np.ndarray, " agents"], Float[np.ndarray, "agents 3"]]],
) -> Figure:
    """What scripted agents score against the faculty that they have, a panel a benchmark.

    **Arguments:** `panels`, by title, the true values and the estimates with their intervals; NaN
    where an agent could not be measured.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(2.3 * len(panels) + 0.4, 2.8), squeeze=False
        )
        for panel, (name, (true, found)) in zip(axes[0], panels.items(), strict=True):
            span = [float(true.min()), float(true.max())]
            panel.plot(span, span, color=_GREY, linestyle=":", linewidth=1.2)
            # Side by side where several agents have one value.
            order = np.argsort(true, kind="stable")
            place = np.array([int((true[:at] == value).sum()) for at, value in enumerate(true)])
            width = 0.02 * max(span[1] - span[0], 1e-9)
            x = true + width * (place - place.mean())
            below, above = found[:, 0] - found[:, 1], found[:, 2] - found[:, 0]
            panel.errorbar(
                x[order],
                found[order, 0],
                yerr=np.stack([below, above])[:, order],
                fmt="o",
                color=BLUE,
                markersize=3.5,
                linewidth=1.0,
            )
            panel.set_title(name)
            panel.set_xlabel("true")
        axes[0, 0].set_ylabel("measured")
    return figure
