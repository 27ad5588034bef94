"""The pictures of the phase arc. Each function takes arrays and returns a matplotlib figure."""

import itertools
from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure

from .style import BLUE, GREEN, ORANGE, SKY, STYLE, VERMILION

# From nothing to almost black would hide the curves: light greys, darker with every phase.
_PHASE_SHADES = ("#ffffff", "#f2f2f2", "#e2e2e2", "#d0d0d0", "#bebebe", "#acacac")


def arc_figure(
    times: Float[np.ndarray, " times"],
    arcs: Mapping[str, Mapping[str, Mapping[str, np.ndarray]]],
    sigma_critical: float,
    withdrawal: float,
) -> Figure:
    """δ_rel, σ and α over time (epochs), one panel a model (rows) and regime (columns).

    `arcs[model][regime]` holds arrays `delta_rel`, `sigma`, `alpha` and `phase` over `times`.
    Time is drawn on a square-root scale, so that the first epochs can be read; the shades behind
    are the phases.
    """
    models, regimes = list(arcs), list(next(iter(arcs.values())))
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(models),
            len(regimes),
            figsize=(3.5 * len(regimes), 2.8 * len(models)),
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for row, model in zip(axes, models, strict=True):
            for panel, regime in zip(row, regimes, strict=True):
                _arc_panel(panel, times, arcs[model][regime], sigma_critical)
                if regime == "withdrawn":
                    panel.axvline(withdrawal, color="black", lw=1, ls=":")
                panel.set_title(f"{model}, {regime}")
            row[0].set_ylabel("value (share of one)")
        for panel in axes[-1]:
            panel.set_xlabel("time (epochs)")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def _arc_panel(panel, times, arc, sigma_critical) -> None:
    _shade_phases(panel, times, arc["phase"])
    panel.plot(times, arc["delta_rel"], color=BLUE, label=r"relative depth $\delta_{rel}$")
    panel.plot(times, arc["sigma"], color=VERMILION, label=r"coherence $\sigma$")
    panel.plot(times, arc["alpha"], color=GREEN, ls="--", label=r"attention $\alpha$")
    panel.axhline(
        sigma_critical, color=VERMILION, lw=1, ls=":", label=r"$\sigma_{critical}$ (phase 2)"
    )
    panel.set_xscale("function", functions=(np.sqrt, np.square))
    panel.set_xlim(0, times[-1])
    panel.set_xticks([tick for tick in (0, 10, 40, 100, 200, 300) if tick <= times[-1]])
    panel.set_yticks(np.linspace(0, 1, 6))
    panel.set_ylim(0, 1.16)


def _shade_phases(panel, times, phase: Int[np.ndarray, " times"]) -> None:
    edges = np.flatnonzero(np.diff(phase)) + 1
    bounds = [0, *edges, len(times) - 1]
    drawn = np.sqrt(times / times[-1])
    for start, end in itertools.pairwise(bounds):
        panel.axvspan(times[start], times[end], color=_PHASE_SHADES[phase[start]], lw=0, zorder=0)
        if drawn[end] - drawn[start] > 0.05:
            middle = np.square((np.sqrt(times[start]) + np.sqrt(times[end])) / 2)
            panel.text(middle, 1.13, f"P{phase[start]}", ha="center", va="top", color="#333333")


def bifurcation_figure(panels: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Coherence against R₀: exact branches, and what a slow sweep up and down really does.

    `panels[model]` holds `branch_r0` and, over it, `stable` and `unstable` (NaN where there is
    none); and `r0` and, over it, `up` and `down`. σ = 0 is drawn stable below R₀ = 1.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(4.6 * len(panels), 4.2), sharey=True, squeeze=False
        )
        for panel, (model, data) in zip(axes[0], panels.items(), strict=True):
            r0, branch = data["r0"], data["branch_r0"]
            panel.plot(branch, data["stable"], color="black", label="stable equilibrium")
            panel.plot([r0[0], 1.0], [0.0, 0.0], color="black")
            panel.plot(
                branch, data["unstable"], color="black", ls=":", label="unstable equilibrium"
            )
            panel.plot([1.0, r0[-1]], [0.0, 0.0], color="black", ls=":")
            every = slice(None, None, 2)
            panel.plot(
                r0[every], data["up"][every], "^", color=SKY, ms=6, label="swept up", zorder=3
            )
            panel.plot(
                r0[every],
                data["down"][every],
                "v",
                color=ORANGE,
                ms=6,
                label="swept down",
                mfc="none",
            )
            panel.set_title(model)
            panel.set_xlabel(r"reproduction number $R_0$")
            panel.set_xlim(r0[0], r0[-1])
        axes[0, 0].set_ylabel(r"coherence $\sigma$")
        axes[0, 0].set_ylim(-0.03, 1.0)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def phase_portrait_figure(
    alpha: Float[np.ndarray, " columns"],
    sigma: Float[np.ndarray, " rows"],
    panels: Mapping[str, Mapping[str, np.ndarray]],
) -> Figure:
    """The (α, σ) plane: flow, nullclines, equilibria and two trajectories, one panel a model.

    `panels[title]` holds `d_alpha` and `d_sigma` (`[rows, columns]`, per epoch), `stable` and
    `unstable` (`[points, 2]` of (α, σ)) and `paths`, a list of `[times, 2]`.
    """
    with plt.rc_context(STYLE):
        count = len(panels)
        figure, axes = plt.subplots(
            2, (count + 1) // 2, figsize=(8.6, 7.6), sharex=True, sharey=True, squeeze=False
        )
        for panel, (title, data) in zip(axes.flat, panels.items(), strict=True):
            panel.streamplot(
                alpha,
                sigma,
                data["d_alpha"],
                data["d_sigma"],
                color="#c4c4c4",
                density=0.9,
                linewidth=0.8,
            )
            panel.contour(alpha, sigma, data["d_alpha"], [0.0], colors=[GREEN], linewidths=2)
            # σ = 0 is a nullcline too: divide it out, so that the other one is drawn alone.
            rate = data["d_sigma"][1:] / sigma[1:, None]
            panel.contour(alpha, sigma[1:], rate, [0.0], colors=[VERMILION], linewidths=2)
            for path in data["paths"]:
                panel.plot(path[:, 0], path[:, 1], color=BLUE)
                panel.plot(*path[0], "o", color=BLUE, ms=5, mfc="white")
            for points, fill in ((data["stable"], "black"), (data["unstable"], "white")):
                for point in points:
                    panel.plot(*point, "o", color="black", mfc=fill, ms=9, clip_on=False, zorder=5)
            panel.set_title(title)
            panel.set_xlim(alpha[0], alpha[-1])
            panel.set_ylim(0, sigma[-1])
        for panel in axes[-1]:
            panel.set_xlabel(r"attention $\alpha$")
        for panel in axes[:, 0]:
            panel.set_ylabel(r"coherence $\sigma$")
        _portrait_legend(figure)
        figure.set_layout_engine("constrained", wspace=0.06)
    return figure


def _portrait_legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=GREEN, label=r"$\dot\alpha = 0$"),
        Line2D([], [], color=VERMILION, label=r"$\dot\sigma = 0$"),
        Line2D([], [], color=BLUE, marker="o", mfc="white", label="trajectory"),
        Line2D([], [], color="black", marker="o", ls="", label="stable"),
        Line2D([], [], color="black", marker="o", mfc="white", ls="", label="unstable"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=5)


def fit_figure(panels: Mapping[str, Mapping]) -> Figure:
    """Measured σ̂ of every run, its mean, and the fitted curves, one panel a condition.

    `panels[condition]` holds `epoch`, `sigma_hat` (`[runs, checkpoints]`), and `fits`: from a
    label to (epochs, σ).
    """
    styles = [(VERMILION, "-"), (BLUE, "--"), (GREEN, "-.")]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(panels), figsize=(3.7 * len(panels), 3.8), sharey=True, squeeze=False
        )
        for panel, (condition, data) in zip(axes[0], panels.items(), strict=True):
            panel.plot(
                data["epoch"],
                data["sigma_hat"].T,
                ".",
                color="#bbbbbb",
                ms=3,
                zorder=0,
                rasterized=True,
            )
            mean = np.nanmean(data["sigma_hat"], axis=0)
            panel.plot(
                data["epoch"], mean, "o", color="black", ms=4, mfc="white", label="mean of 15 runs"
            )
            for (label, (epoch, sigma)), (colour, dash) in zip(
                data["fits"].items(), styles, strict=False
            ):
                panel.plot(epoch, sigma, color=colour, ls=dash, label=f"fit: {label}")
            panel.set_title(f"{condition} (measured)")
            panel.set_xlabel("time (epochs)")
            panel.set_xlim(0, 8)
            panel.set_ylim(0.2, 1.2)
        axes[0, 0].set_ylabel(r"$\hat\sigma$ = Acc$_{OOD}$ / Acc$_{ID}$")
        handles, labels = axes[0, -1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def measured_phases_figure(
    epoch: Float[np.ndarray, " checkpoints"],
    panels: Mapping[str, Mapping[str, Int[np.ndarray, "runs checkpoints"]]],
) -> Figure:
    """The share of runs in each phase over time, by rule (rows) and condition (columns)."""
    rules = list(panels)
    conditions = list(panels[rules[0]])
    shades = ["#f7f7f7", "#d9d9d9", SKY, BLUE]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            len(rules),
            len(conditions),
            figsize=(3.5 * len(conditions), 2.3 * len(rules)),
            sharex=True,
            sharey=True,
            squeeze=False,
        )
        for row, rule in zip(axes, rules, strict=True):
            for panel, condition in zip(row, conditions, strict=True):
                phases = panels[rule][condition]
                shares = [(phases == phase).mean(axis=0) for phase in range(4)]
                panel.stackplot(
                    epoch,
                    shares,
                    colors=shades,
                    labels=[f"P{p}" for p in range(4)],
                    edgecolor="#888888",
                    lw=0.5,
                    step="post",
                )
                panel.set_title(f"{condition}: {rule}")
                panel.set_xlim(epoch[0], epoch[-1])
                panel.set_ylim(0, 1)
            row[0].set_ylabel("share of runs")
        for panel in axes[-1]:
            panel.set_xlabel("time (epochs)")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
    return figure


def sweep_figure(
    x: Float[np.ndarray, " points"], y: Float[np.ndarray, " points"], labels: tuple[str, str]
) -> Figure:
    """One swept quantity against the swept parameter; `labels` are (x, y) with units."""
    with plt.rc_context(STYLE):
        figure, panel = plt.subplots(figsize=(6.0, 3.8))
        panel.plot(x, y, ".", color=BLUE, ms=2, rasterized=True)
        panel.set_xlabel(labels[0])
        panel.set_ylabel(labels[1])
    return figure
