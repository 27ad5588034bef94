"""Figures of the bridge: what a state keeps of a hidden state."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from .style import BLUE, STYLE, VERMILION

_PANELS = (
    "variance not explained (share)",
    "KL of the predictions (nats)",
    "tokens predicted differently (share)",
)


def fidelity_figure(
    dims: Sequence[int],
    start: Float[np.ndarray, "dims 3"],
    fitted: Float[np.ndarray, "dims 3"],
) -> Figure:
    """What is lost over the dimension of the state, at the start and after the fit.

    **Arguments:** `start`, `fitted`: the share of variance not explained, the KL in nats and the
    share of tokens predicted differently. Zeros are drawn at the foot.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(12.0, 4.0))
        for panel, label, before, after in zip(axes, _PANELS, start.T, fitted.T, strict=True):
            positive = np.concatenate([before, after])
            positive = positive[positive > 0.0]
            foot = 10.0 ** np.floor(np.log10(positive.min())) if positive.size else 1e-6
            shown = [np.maximum(line, foot) for line in (before, after)]
            panel.plot(dims, shown[0], "o--", color=VERMILION, label="the data's own start")
            panel.plot(dims, shown[1], "s-", color=BLUE, label="fitted by gradient")
            panel.set_yscale("log")
            panel.set_xticks(dims)
            panel.set_xlabel("dimension of the state")
            panel.set_ylabel(label)
        axes[0].legend()
    return figure


def drift_matrix_figure(
    names: Sequence[str],
    panels: Mapping[str, tuple[Float[np.ndarray, "old new"], Float[np.ndarray, "old new"]]],
    *,
    tolerance: float,
) -> Figure:
    """Relative drifts of every pair as heat maps: blue below the tolerance, red above, white at it.

    A framed cell is a swap that is safe: the upper end of its interval is below the tolerance.

    **Arguments:** `names` of the variants; `panels`, by title, the relative drifts and the upper
    ends of their intervals, with the old variant along the first axis.
    """
    colours = LinearSegmentedColormap.from_list("tolerance", [BLUE, "white", VERMILION])
    scale = TwoSlopeNorm(vcenter=tolerance, vmin=0.0, vmax=4.0 * tolerance)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    side = 1.2 + 0.62 * len(names)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            rows, columns, figsize=(side * columns + 1.0, side * rows), squeeze=False
        )
        for panel in axes.flat[len(panels) :]:
            panel.set_axis_off()
        for panel, (title, (drifts, high)) in zip(axes.flat, panels.items(), strict=False):
            image = panel.imshow(np.minimum(drifts, 4.0 * tolerance), cmap=colours, norm=scale)
            panel.set_title(title)
            panel.set_xlabel("new")
            panel.set_ylabel("old")
            panel.set_xticks(range(len(names)), names, rotation=60, ha="right")
            panel.set_yticks(range(len(names)), names)
            _write_cells(panel, drifts, image.to_rgba(drifts))
            _frame_cells(panel, high < tolerance)
        bar = figure.colorbar(axes[0, 0].images[0], ax=axes, extend="max", shrink=0.8 / rows)
        bar.set_label("‖f_old − f_new‖ / ‖f_old‖")
        bar.set_ticks([0.0, tolerance, 2.0 * tolerance, 4.0 * tolerance])
        bar.ax.axhline(tolerance, color="black")
    return figure


def _write_cells(panel: Axes, values: np.ndarray, colours: np.ndarray) -> None:
    bright = colours[..., :3] @ (0.299, 0.587, 0.114) > 0.55
    for (old, new), value in np.ndenumerate(values):
        text = "∞" if np.isinf(value) else "0" if value == 0.0 else f"{value:.2f}"
        color = "black" if bright[old, new] else "white"
        panel.text(new, old, text, ha="center", va="center", fontsize=10, color=color)


def _frame_cells(panel: Axes, chosen: np.ndarray) -> None:
    for old, new in np.argwhere(chosen & ~np.eye(len(chosen), dtype=bool)):
        corner = (new - 0.46, old - 0.46)
        panel.add_patch(Rectangle(corner, 0.92, 0.92, fill=False, edgecolor="black", linewidth=1.5))
