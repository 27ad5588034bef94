"""Figures of a kernel's loops as nodes: spectra, steps, a canary's innovations."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Complex, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from .style import BLUE, GREEN, ORANGE, PURPLE, SKY, STYLE, VERMILION

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P")


def loop_spectra_figure(eigenvalues: Mapping[str, Complex[np.ndarray, "positions d"]]) -> Figure:
    """The eigenvalues of each loop's Jacobians beside the unit circle, and their largest moduli.

    Inside the circle a disturbance dies out in the end; a title says in which share of the
    positions all eigenvalues are there. Those that are not are crosses.
    """
    columns = -(-(len(eigenvalues) + 1) // 2)
    window = _window(np.concatenate([values.ravel() for values in eigenvalues.values()]))
    circle = np.exp(1j * np.linspace(0.0, 2.0 * np.pi, 200))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, columns, figsize=(3.5 * columns, 7.6), squeeze=False)
        *panels, last = axes.ravel()[: len(eigenvalues) + 1]
        for panel, (title, values) in zip(panels, eigenvalues.items(), strict=True):
            panel.plot(np.real(circle), np.imag(circle), color="black", lw=1.2)
            flat = values.ravel()
            for outside, colour, marker, size in ((False, BLUE, ".", 2), (True, VERMILION, "x", 4)):
                shown = flat[(np.abs(flat) >= 1.0) == outside]
                panel.plot(
                    np.real(shown),
                    np.imag(shown),
                    marker,
                    color=colour,
                    ms=size,
                    alpha=0.9 if outside else 0.25,
                    rasterized=True,
                )
            inside = np.mean(np.abs(values).max(axis=1) < 1.0)
            panel.set(**window, aspect="equal", title=f"{title}: inside {inside:.1%}")
            panel.set_xlabel("real part")
        for panel in axes[:, 0]:
            panel.set_ylabel("imaginary part")
        _radii(last, eigenvalues)
        for panel in axes.ravel()[len(eigenvalues) + 1 :]:
            panel.set_visible(False)
    return figure


def _window(eigenvalues: np.ndarray) -> dict[str, tuple[float, float]]:
    """A square that holds all of them, the origin and 1."""
    low, high = min(0.0, np.real(eigenvalues).min()), max(1.0, np.real(eigenvalues).max())
    reach = 1.1 * max(0.5 * (high - low), np.abs(np.imag(eigenvalues)).max())
    middle = 0.5 * (low + high)
    return {"xlim": (middle - reach, middle + reach), "ylim": (-reach, reach)}


def _radii(panel: Axes, eigenvalues: Mapping[str, np.ndarray]) -> None:
    """The distribution of the spectral radii over the positions, a line for each loop."""
    lowest, highest = np.inf, 1.0
    for index, (name, values) in enumerate(eigenvalues.items()):
        radii = np.sort(np.abs(values).max(axis=1))
        share = np.arange(1, len(radii) + 1) / len(radii)
        colour, dash = _COLOURS[index % len(_COLOURS)], _DASHES[index % len(_DASHES)]
        panel.step(radii, share, where="post", color=colour, ls=dash, lw=1.6, label=name)
        lowest, highest = min(lowest, radii[0]), max(highest, radii[-1])
    panel.axvline(1.0, color="black", lw=1.2)
    # Room for the legend, left of the lines.
    panel.set_xlim(lowest - 0.7 * (highest - lowest), None)
    panel.set_ylim(0.0, 1.0)
    panel.set_title("largest modulus")
    panel.set_xlabel("spectral radius")
    panel.set_ylabel("share of positions up to there")
    panel.legend(loc="upper left", fontsize=9, borderaxespad=0.0)


def loop_steps_figure(
    steps: Mapping[str, Float[np.ndarray, "positions steps"]], *, depth: int, rest: float
) -> Figure:
    """How far each loop moves the state, relative to it: loop 2, 3, …, and beyond the exit.

    **Arguments:** `steps`, by what moves; `depth`, the loop behind which the kernel exits; `rest`,
    the relative step below which something has come to rest, drawn as a line. Steps of exactly
    zero are left out of the drawing.
    """
    with plt.rc_context(STYLE):
        figure, panel = plt.subplots(figsize=(8.5, 5.0))
        for index, (name, each) in enumerate(steps.items()):
            loops = 2 + np.arange(each.shape[1])
            low, median, high = np.quantile(each, [0.1, 0.5, 0.9], axis=0)
            colour, dash = _COLOURS[index], _DASHES[index]
            if index == 0:
                panel.fill_between(loops, low, high, color=colour, alpha=0.18, lw=0)
            for edge in (low, high):
                panel.plot(loops, edge, color=colour, ls=dash, lw=0.8)
            panel.plot(loops, median, color=colour, ls=dash, label=f"{name}: median, 10 and 90 %")
        panel.axvline(depth, color="black", lw=1.2, ls="--", label=f"exit, after loop {depth}")
        panel.axhline(rest, color="black", lw=1.2, ls=":", label=f"at rest below {rest:g}")
        panel.set_yscale("log")
        panel.set_ylim(bottom=rest / 30.0)
        panel.set_xlim(2, 1 + max(each.shape[1] for each in steps.values()))
        panel.set_xlabel("loop")
        panel.set_ylabel("relative step")
        figure.legend(loc="outside upper center", ncols=2, fontsize=10)
    return figure


def loop_canary_figure(
    squared: Mapping[str, Float[np.ndarray, "samples loops"]],
    *,
    dim: int,
    normal: float,
    counted: Float[np.ndarray, " loops"],
) -> Figure:
    """Innovations of each loop: against the χ² of normal ones, and by kind of sample.

    **Arguments:** `squared`, normalised innovations squared of loops 2, 3, …, the first kind those
    that are as they should be; `normal`, `counted`: the two thresholds.
    """
    first = next(iter(squared.values()))
    share = (np.arange(len(first)) + 0.5) / len(first)
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.8), width_ratios=(1.0, 1.3))
        expected = stats.chi2.ppf(share, dim)
        left.plot(expected, expected, color="black", lw=1.2, label="as if normal")
        for loop, values in enumerate(first.T):
            colour, marker = _COLOURS[loop % len(_COLOURS)], _MARKERS[loop % len(_MARKERS)]
            left.plot(
                expected, np.sort(values), marker, color=colour, ms=3.5, label=f"loop {loop + 2}"
            )
        left.axhline(normal, color="black", lw=1.2, ls="--")
        left.set_yscale("log")
        left.set_xlabel(f"quantile of χ² with {dim} degrees")
        left.set_ylabel("innovation squared, steps as they are")
        left.legend(loc="upper left", markerscale=1.6)
        _kinds(right, squared, normal, counted)
    return figure


def _kinds(panel: Axes, squared: Mapping[str, np.ndarray], normal: float, counted) -> None:
    """Median, middle half and middle nine tenths of each kind of sample and loop."""
    loops = len(counted)
    for place, values in enumerate(squared.values()):
        for loop in range(loops):
            height = place + 0.22 * (loop - 0.5 * (loops - 1))
            low, first, median, third, high = np.quantile(
                values[:, loop], [0.05, 0.25, 0.5, 0.75, 0.95]
            )
            colour, marker = _COLOURS[loop % len(_COLOURS)], _MARKERS[loop % len(_MARKERS)]
            panel.plot([low, high], [height, height], color=colour, lw=1.2)
            panel.plot([first, third], [height, height], color=colour, lw=4.0)
            panel.plot(median, height, marker, color="white", mec=colour, ms=6)
    panel.axvline(normal, color="black", lw=1.2, ls="--", label="threshold, as if normal")
    panel.axvspan(counted.min(), counted.max(), color="black", alpha=0.15, lw=0, label="counted")
    panel.set_xscale("log")
    panel.set_yticks(range(len(squared)), list(squared))
    panel.invert_yaxis()
    panel.set_xlabel("normalised innovation squared")
    panel.legend(loc="lower right", fontsize=10)
