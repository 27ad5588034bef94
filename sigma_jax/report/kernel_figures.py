"""Figures of the kernel: how it was trained."""

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from .style import BLUE, GREEN, ORANGE, PURPLE, SKY, STYLE, VERMILION

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_DASHES = ("-", "--", "-.", ":")


def training_figure(
    steps: Float[np.ndarray, " lines"],
    loop_losses: Float[np.ndarray, "lines loops"],
    exit_step: Float[np.ndarray, " lines"],
    entropy: Float[np.ndarray, " lines"],
    *,
    second_stage: int | None = None,
) -> Figure:
    """Each loop's cross-entropy, the mean exit step and the entropy of the exits, by step.

    **Arguments:** `loop_losses` and `entropy` in nats; `exit_step` in loops, counted from one;
    `second_stage`, the step behind which the gate alone is trained, marked by a line; None if there
    is no such stage.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 3, figsize=(12.0, 4.0), width_ratios=(1.4, 1.0, 1.0))
        for loop, losses in enumerate(loop_losses.T):
            colour, dash = _COLOURS[loop % len(_COLOURS)], _DASHES[loop % len(_DASHES)]
            axes[0].plot(steps, losses, color=colour, ls=dash, lw=1.2, label=f"loop {loop + 1}")
        axes[0].set_yscale("log")
        axes[0].set_ylabel("cross-entropy (nats a token)")
        axes[0].legend()
        axes[1].plot(steps, exit_step, color=BLUE)
        axes[1].set_ylabel("mean exit step (loops)")
        axes[2].plot(steps, entropy, color=BLUE)
        axes[2].set_ylabel("entropy of the exits (nats)")
        for panel in axes:
            if second_stage is not None:
                panel.axvline(second_stage, color="black", lw=1.0, ls=":")
            panel.set_xlabel("step")
    return figure
