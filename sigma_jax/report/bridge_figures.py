"""Figures of the bridge: what a state keeps of a hidden state."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

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
