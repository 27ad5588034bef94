"""Figures of the state machine: rollouts, surprises, spectra, a collapse, fitted policies."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import ScalarFormatter
from scipy import stats

from .style import BLUE, GREEN, ORANGE, PURPLE, SKY, STYLE, VERMILION

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_DASHES = ("-", "--", "-.", ":")
_MARKS = {
    "accepted": (GREEN, "-"),
    "refused": (VERMILION, "--"),
    "jump": (PURPLE, "-."),
    "intervention": (ORANGE, ":"),
}


class Mark(NamedTuple):
    """Something that happened in a run: at a time, of a kind that has a colour, in words."""

    time: float
    kind: str
    """One of accepted, refused, jump, intervention."""
    label: str


class Band(NamedTuple):
    """One quantity over time in a batch: `[batch, times]`, and its name with its unit."""

    values: Float[np.ndarray, "batch times"]
    label: str
    logarithmic: bool = False


def rollout_figure(
    time: Float[np.ndarray, " times"], bands: Sequence[Band], marks: Sequence[Mark] = ()
) -> Figure:
    """A panel for each quantity: its median over the batch, and its quartiles and 5 to 95 %."""
    rows = -(-len(bands) // 2)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, 2, figsize=(10.0, 2.9 * rows), sharex=True, squeeze=False)
        for panel, band in zip(axes.ravel(), bands, strict=False):
            _band(panel, time, band.values, BLUE, "median; quartiles; 5 to 95 %")
            _mark(panel, marks)
            panel.set_ylabel(band.label)
            panel.set_yscale("log" if band.logarithmic else "linear")
        for panel in axes.ravel()[len(bands) :]:
            panel.set_visible(False)
        for panel in axes[-1]:
            panel.set_xlabel("time")
        _legend_above(figure, axes[0, 0])
    return figure


def innovation_figure(
    time: Float[np.ndarray, " times"],
    squared: Float[np.ndarray, "batch times"],
    consistent: Bool[np.ndarray, "batch times"],
    observations: int,
    threshold: float,
    marks: Sequence[Mark] = (),
) -> Figure:
    """Normalised innovations squared over time, and their histogram against χ².

    `consistent` says which are of steps that nothing from outside moved: those count in the
    histogram. `observations` is the number of degrees of freedom.
    """
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10.0, 4.2), width_ratios=(3, 2))
        times = np.broadcast_to(time, squared.shape)
        flagged = squared > threshold
        for chosen, colour, size, label in (
            (~flagged, SKY, 1.5, "a step of a trajectory"),
            (flagged, VERMILION, 4.0, "flagged"),
        ):
            shown = chosen & (squared > 0)
            left.plot(
                times[shown],
                squared[shown],
                ".",
                color=colour,
                ms=size,
                label=label,
                alpha=0.5,
                rasterized=True,
            )
        deviation = np.sqrt(2.0 * observations)
        low = max(observations - deviation, 1e-3)
        left.axhspan(low, observations + deviation, color=BLUE, alpha=0.2, lw=0, label="m ± √(2m)")
        left.axhline(observations, color=BLUE, lw=1, label=f"m = {observations}")
        left.axhline(threshold, color="black", lw=1, ls="--", label=f"threshold {threshold:.3g}")
        _mark(left, marks)
        left.set_yscale("log")
        left.set_ylim(bottom=float(stats.chi2.ppf(1e-5, observations)))
        left.set_xlabel("time")
        left.set_ylabel("normalised innovation squared")
        right.hist(
            squared[consistent],
            bins=60,
            range=(0.0, float(stats.chi2.isf(1e-5, observations))),
            density=True,
            color=SKY,
            label="steps without a jump",
        )
        grid = np.linspace(
            float(stats.chi2.ppf(1e-4, observations)),
            float(stats.chi2.isf(1e-5, observations)),
            300,
        )
        right.plot(
            grid,
            stats.chi2.pdf(grid, observations),
            color=BLUE,
            label=f"χ² with {observations} degrees",
        )
        right.axvline(threshold, color="black", lw=1, ls="--")
        right.set_xlabel("normalised innovation squared")
        right.set_ylabel("density")
        right.legend()
        _legend_above(figure, left, ncols=4)
    return figure


def spectra_figure(
    matrices: Mapping[str, Float[np.ndarray, "batch d d"]],
) -> Figure:
    """For each named batch of Jacobians a panel: eigenvalues, and where the numerical range ends.

    The two abscissae are the largest of the batch: of the spectrum, and of the numerical range.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(matrices),
            figsize=(5.0 * len(matrices), 4.6),
            squeeze=False,
            sharex=True,
            sharey=True,
        )
        for panel, (title, batch) in zip(axes[0], matrices.items(), strict=True):
            eigenvalues = np.linalg.eigvals(batch)
            for index, matrix in enumerate(batch):
                boundary = _numerical_range(matrix)
                panel.plot(
                    np.real(boundary),
                    np.imag(boundary),
                    color=SKY,
                    lw=0.8,
                    alpha=0.6,
                    label="edge of a numerical range" if index == 0 else None,
                )
            panel.plot(
                eigenvalues.real.ravel(),
                eigenvalues.imag.ravel(),
                ".",
                color=BLUE,
                ms=5,
                alpha=0.6,
                label="eigenvalue",
            )
            symmetric = np.linalg.eigvalsh(0.5 * (batch + batch.swapaxes(-1, -2)))
            for value, colour, dash, name in (
                (eigenvalues.real.max(), VERMILION, "-", "spectral abscissa"),
                (symmetric.max(), ORANGE, "--", "numerical abscissa"),
            ):
                panel.axvline(value, color=colour, lw=1.5, ls=dash, label=name)
            panel.axvline(0.0, color="black", lw=1)
            panel.set_title(title)
            panel.set_xlabel("real part, per unit of time")
        axes[0, 0].set_ylabel("imaginary part")
        _legend_above(figure, axes[0, 0], ncols=4)
    return figure


def _numerical_range(matrix: np.ndarray, points: int = 180) -> np.ndarray:
    """Points on the boundary of {v* A v : |v| = 1}, by Johnson's (1978) support lines."""
    turned = np.exp(1j * np.linspace(0.0, 2.0 * np.pi, points))[:, None, None] * matrix
    hermitian = 0.5 * (turned + turned.conj().swapaxes(-1, -2))
    extreme = np.linalg.eigh(hermitian)[1][..., -1]
    return np.einsum("pi,ij,pj->p", extreme.conj(), matrix, extreme)


def comparison_figure(
    time: Float[np.ndarray, " times"],
    runs: Mapping[str, Sequence[Band]],
    marks: Sequence[Mark] = (),
) -> Figure:
    """Several runs of the same quantities, a panel for each quantity and a colour for each run."""
    quantities = next(iter(runs.values()))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(quantities), figsize=(4.4 * len(quantities), 3.9), squeeze=False
        )
        for place, (panel, quantity) in enumerate(zip(axes[0], quantities, strict=True)):
            styles = zip(_COLOURS, _DASHES, strict=False)
            for (name, bands), (colour, dash) in zip(runs.items(), styles, strict=False):
                _band(panel, time, bands[place].values, colour, name, dash)
            _mark(panel, marks)
            panel.set_xlabel("time")
            panel.set_ylabel(quantity.label)
            panel.set_yscale("log" if quantity.logarithmic else "linear")
        _legend_above(figure, axes[0, 0])
    return figure


def learning_figure(
    panels: Mapping[str, Mapping[str, Float[np.ndarray, "*iterations"]]], label: str
) -> Figure:
    """A panel for each machine: losses by iteration, with a running mean over a twentieth of them.

    An array without an axis is a level to compare with. `label` is that of the losses.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(5.0 * len(panels), 4.4), squeeze=False)
        for panel, (title, curves) in zip(axes[0], panels.items(), strict=True):
            for (name, losses), colour in zip(curves.items(), _COLOURS, strict=False):
                if np.ndim(losses) == 0:
                    panel.axhline(float(losses), color="black", lw=1.5, ls="--", label=name)
                    continue
                panel.plot(losses, color=colour, lw=0.8, alpha=0.4)
                window = max(1, len(losses) // 20)
                smooth = np.convolve(losses, np.full(window, 1.0 / window), "valid")
                centres = window // 2 + np.arange(len(smooth))
                panel.plot(centres, smooth, color=colour, label=name)
            panel.set_title(title)
            panel.set_xlabel("iteration")
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter(ScalarFormatter())
            panel.yaxis.set_minor_formatter(ScalarFormatter())
            panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
        axes[0, 0].set_ylabel(label)
    return figure


def _band(panel: Axes, time, values, colour, label, dash="-") -> None:
    """The median, and two shades: the middle half and the middle nine tenths."""
    low, first, median, third, high = np.nanquantile(values, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    panel.fill_between(time, low, high, color=colour, alpha=0.18, lw=0)
    panel.fill_between(time, first, third, color=colour, alpha=0.3, lw=0)
    panel.plot(time, median, color=colour, ls=dash, lw=1.2, label=label)


def _mark(panel: Axes, marks: Sequence[Mark]) -> None:
    for mark in marks:
        colour, dash = _MARKS[mark.kind]
        panel.axvline(mark.time, color=colour, ls=dash, lw=1.5, label=mark.label)


def _legend_above(figure: Figure, panel: Axes, ncols: int = 3) -> None:
    """One legend for the figure, of one panel's labels, each once."""
    handles, labels = panel.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    legend = figure.legend(
        list(unique.values()),
        list(unique),
        loc="outside upper center",
        ncols=ncols,
        markerscale=3,
    )
    for handle in legend.legend_handles:
        if isinstance(handle, Line2D):
            handle.set_alpha(1.0)
