"""Figures of conversations: a monitor's charts, arms side by side, recall by lag, detection."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from .style import BLUE, GREEN, ORANGE, PURPLE, SKY, STYLE, VERMILION

_GREY = "#9a9a9a"
_PHASES = {
    "FORMING": "#dddddd",
    "STABLE": GREEN,
    "REFLECTIVE": SKY,
    "RECOVERY": ORANGE,
    "FRAGMENTING": VERMILION,
    "CRYSTALLISED": PURPLE,
}
_LINES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, _GREY)
_MARKS = "osD^vPX"


class DriftChart(NamedTuple):
    """A conversation as a monitor saw it, every statistic over its limit."""

    title: str
    sums: Float[np.ndarray, "turns 2"]
    """Contrastive sums of style and content."""
    departures: Float[np.ndarray, "turns 2"]
    phases: Sequence[str]


class ArmBar(NamedTuple):
    """One arm in one panel: a mean over conversations and its 95 % interval."""

    arm: str
    mean: float
    low: float
    high: float


def drift_figure(charts: Sequence[DriftChart], marked: int | None = None) -> Figure:
    """A row a conversation: its statistics over their limits, and its phases as a strip below.

    **Arguments:** `charts`; `marked`, a turn with a line in every row.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2 * len(charts),
            1,
            figsize=(8.4, 2.9 * len(charts) + 0.5),
            sharex=True,
            squeeze=False,
            gridspec_kw={"height_ratios": [8, 1] * len(charts)},
        )
        for row, chart in enumerate(charts):
            panel, strip = axes[2 * row, 0], axes[2 * row + 1, 0]
            turns = np.arange(1, len(chart.phases) + 1)
            for place, (name, color) in enumerate((("style", BLUE), ("content", ORANGE))):
                panel.plot(
                    turns, chart.sums[:, place], color=color, label=f"{name}, towards default"
                )
                panel.plot(
                    turns,
                    chart.departures[:, place],
                    color=color,
                    linestyle=":",
                    linewidth=1.3,
                    label=f"{name}, departure",
                )
            panel.axhline(1.0, color="#444", linewidth=1.0, linestyle="--")
            panel.text(turns[0], 1.03, "limit", fontsize=9, color="#444", va="bottom")
            if marked is not None:
                panel.axvline(marked, color=_GREY, linewidth=1.0)
            panel.set_title(chart.title, loc="left")
            panel.set_ylabel("over its limit")
            panel.set_ylim(
                0.0, max(1.3, 1.05 * float(max(chart.sums.max(), chart.departures.max())))
            )
            for turn, phase in zip(turns, chart.phases, strict=True):
                strip.axvspan(turn - 0.5, turn + 0.5, color=_PHASES[phase], linewidth=0)
            strip.set_yticks([])
            strip.set_ylabel("phase", rotation=0, ha="right", va="center", fontsize=9)
            for side in ("left", "bottom"):
                strip.spines[side].set_visible(False)
        axes[-1, 0].set_xlabel("turn")
        seen = [name for name in _PHASES if any(name in chart.phases for chart in charts)]
        patches = [Patch(color=_PHASES[name], label=name.capitalize()) for name in seen]
        lines, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            [*lines, *patches],
            [*labels, *(str(patch.get_label()) for patch in patches)],
            loc="outside lower center",
            ncols=4,
            fontsize=9,
        )
    return figure


def arms_figure(panels: Mapping[str, Sequence[ArmBar]], marked: str = "runtime") -> Figure:
    """Arms from top to bottom, a panel a quantity: means with their intervals.

    **Arguments:** `panels`, by title, the same arms in each; `marked`, one in another colour.
    """
    arms = [bar.arm for bar in next(iter(panels.values()))]
    rows = np.arange(len(arms))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(2.3 * len(panels) + 1.6, 0.27 * len(arms) + 1.1),
            sharey=True,
            squeeze=False,
        )
        for panel, (title, bars) in zip(axes[0], panels.items(), strict=True):
            means = np.array([bar.mean for bar in bars])
            spread = np.array([[bar.mean - bar.low, bar.high - bar.mean] for bar in bars]).T
            colors = [VERMILION if bar.arm == marked else BLUE for bar in bars]
            panel.barh(rows, means, color=colors, height=0.68, alpha=0.85)
            panel.errorbar(means, rows, xerr=spread, fmt="none", ecolor="#222", elinewidth=1.0)
            panel.set_title(title)
            panel.set_xlim(left=0.0)
        axes[0, 0].set_yticks(rows, arms)
        axes[0, 0].invert_yaxis()
    return figure


def lag_figure(lags: Sequence[str], shares: Mapping[str, Sequence[float | None]]) -> Figure:
    """The share recalled against the turns since it was said, a line an arm.

    **Arguments:** `lags`, what is counted together, in order; `shares`, by arm, None: not asked.
    """
    places = np.arange(len(lags))
    with plt.rc_context(STYLE):
        figure, panel = plt.subplots(figsize=(7.2, 3.6))
        for number, (arm, values) in enumerate(shares.items()):
            # Side by side where several arms have one value.
            shift = 0.05 * (number - (len(shares) - 1) / 2)
            panel.plot(
                places + shift,
                [np.nan if value is None else value for value in values],
                color=_LINES[number % len(_LINES)],
                marker=_MARKS[number % len(_MARKS)],
                markersize=5,
                linewidth=1.4,
                label=arm,
            )
        panel.set_xticks(places, lags)
        panel.set_ylim(-0.03, 1.05)
        panel.set_xlabel("turns since it was last said")
        panel.set_ylabel("recalled")
        figure.legend(loc="outside right center", fontsize=9)
    return figure


def detection_figure(delays: Mapping[str, tuple[Sequence[int], int]], most: int = 60) -> Figure:
    """The share of conversations that have alarmed, against replies since something happened.

    **Arguments:** `delays`, by case, the delays of those that alarmed and how many there are.
    """
    turns = np.arange(0, most + 1)
    with plt.rc_context(STYLE):
        figure, panel = plt.subplots(figsize=(7.2, 3.4))
        for number, (case, (known, count)) in enumerate(delays.items()):
            found = np.searchsorted(np.sort(np.asarray(known, float)), turns, side="right") / count
            color = _LINES[number % len(_LINES)]
            panel.step(turns, found, where="post", color=color, label=case)
        panel.axvline(10, color=_GREY, linestyle=":", linewidth=1.2)
        panel.set_ylim(-0.02, 1.04)
        panel.set_xlim(0, most)
        panel.set_xlabel("replies since it happened")
        panel.set_ylabel("alarmed")
        figure.legend(loc="outside right center", fontsize=9)
    return figure
