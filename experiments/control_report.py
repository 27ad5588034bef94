"""What `experiments.control` writes: a table of costs, a summary, and a page with figures."""

from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from scipy import stats

import sigma_jax
from experiments.arc import write_summary
from experiments.control import Study
from sigma_jax import report

LEVEL = 0.99
"""Of every interval here."""
SHOWN_STEPS = 200
"""Steps in the figures of the runs."""


@dataclass(frozen=True)
class Ratio:
    """A policy's mean cost over the reference's, on paired noise, with its interval."""

    value: float
    low: float
    high: float


def cost_ratio(costs: np.ndarray, reference: np.ndarray) -> Ratio:
    """The ratio of the means of two paired samples; its interval by the delta method."""
    ratio = costs.mean() / reference.mean()
    rest = costs - ratio * reference
    error = rest.std(ddof=1) / (len(rest) ** 0.5 * reference.mean())
    reach = float(stats.t.isf((1.0 - LEVEL) / 2.0, len(rest) - 1)) * error
    return Ratio(float(ratio), float(ratio - reach), float(ratio + reach))


def make_checks(studies: list[Study]) -> list[report.Check]:
    """Within 1 % of the optimum and never below it; below no control; nothing clipped, diverged."""
    checks = []
    for study in studies:
        reference = study.evaluations[study.reference]
        for name in study.losses:
            ratio = cost_ratio(study.evaluations[name].costs, reference.costs)
            checks += _ratio_checks(study, name, ratio)
        checks.append(
            report.Check(
                f"{study.title}: trajectories that diverged",
                value=float(sum(run.diverged for run in study.evaluations.values())),
                expected=0.0,
                tolerance=0.0,
            )
        )
    return checks


def _ratio_checks(study: Study, name: str, ratio: Ratio) -> list[report.Check]:
    title = f"{study.title}, {name}"
    if study.reference != "LQR":
        above = max(0.0, ratio.high - 1.0)
        return [report.Check(f"{title}: share above no control, at most", above, 0.0, 0.0)]
    reach = study.evaluations[name].largest_control / float(study.machine.controller.limit)
    return [
        report.Check(f"{title}: share above LQR, at most", max(0.0, ratio.high - 1.0), 0.0, 0.01),
        report.Check(f"{title}: share below LQR, at least", max(0.0, 1.0 - ratio.high), 0.0, 0.0),
        report.Check(f"{title}: largest control over its limit", reach, 0.0, 0.999),
    ]


def closing_text(studies: list[Study], checks: list[report.Check]) -> str:
    """The table of costs for a terminal, then the checks."""
    rows = [_COLUMNS, *_rows(studies)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    lines = [
        "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", report.checks_table(checks)])


_COLUMNS = ["node", "policy", "mean cost", f"over the reference ({LEVEL:.0%})", "largest ‖u‖"]


def _rows(studies: list[Study]) -> list[list[str]]:
    rows = []
    for study in studies:
        reference = study.evaluations[study.reference].costs
        for name, run in study.evaluations.items():
            shown = "reference"
            if name != study.reference:
                ratio = cost_ratio(run.costs, reference)
                shown = f"{ratio.value:.4f} ({ratio.low:.4f} to {ratio.high:.4f})"
            cost = f"{run.costs.mean():.4f}"
            rows.append([study.title, name, cost, shown, f"{run.largest_control:.3g}"])
    return rows


def write_report(
    config: DictConfig, studies: list[Study], checks: list[report.Check], output: Path
) -> None:
    """Write every output file, each whole or not at all; the page comes last."""
    table = pd.concat(
        pd.DataFrame(
            {"node": study.title, "policy": name, "trajectory": range(len(run.costs))}
            | {"mean_cost": run.costs}
        )
        for study in studies
        for name, run in study.evaluations.items()
    )
    report.write_whole(output / "costs.csv", lambda path: table.to_csv(path, index=False))
    summary = {
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "studies": {study.title: _record(study) for study in studies},
        "checks": {check.name: check.passed for check in checks},
        "all_checks_passed": all(check.passed for check in checks),
    }
    write_summary(output / "summary.json", summary)
    page = report.render_page(
        "Policies fitted by gradient through the rollout",
        "Each policy starts from nothing known and is fitted to ∫ L dt, L = ‖x − x*‖² + c ‖u‖² "
        f"with c = {config.control_weight:g}, by the gradient through {config.fit.steps} steps of "
        f"{config.dt:g}. Costs are means per unit of time of {config.evaluate.batch} new "
        "trajectories, on noise that all policies of a node share. Everything here is simulated.",
        _sections(config, studies, checks),
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.control; seed "
        f"{config.seed}.",
    )
    report.write_text(output / "report.html", page)


def _record(study: Study) -> dict:
    reference = study.evaluations[study.reference].costs
    return {
        name: {
            "mean_cost": float(run.costs.mean()),
            "ratio": vars(cost_ratio(run.costs, reference)),
            "largest_control": run.largest_control,
            "diverged": run.diverged,
            "losses": study.losses[name].tolist() if name in study.losses else [],
        }
        for name, run in study.evaluations.items()
    }


def _sections(
    config: DictConfig, studies: list[Study], checks: list[report.Check]
) -> list[report.Section]:
    linear, neural = studies
    curves = {
        study.title: {**study.losses, study.reference: np.asarray(study.reference_loss)}
        for study in studies
    }
    check_rows = [
        [c.name, f"{c.value:.4g}", f"{c.tolerance:.3g}", "ok" if c.passed else "FAILED"]
        for c in checks
    ]
    return [
        report.Section("Costs", "What each policy costs.", table=(_COLUMNS, _rows(studies))),
        report.Section(
            "Checks",
            f"Against LQR both ends count: the upper end of the {LEVEL:.0%} interval must be "
            "within 1 % of the optimum, and it must not be below it, for nothing is better than "
            "the optimum. Values must not exceed their tolerance.",
            table=(["check", "value", "tolerance", ""], check_rows),
        ),
        report.Section(
            "Learning",
            "The loss of each iteration, before its update, on the noise of that iteration; thick, "
            "a running mean. The dashed line is what the reference costs over as many steps.",
            report.learning_figure(curves, "loss: ∫ L dt"),
        ),
        report.Section(
            "The linear node under control",
            "Over the trajectories: the median, the middle half and the middle nine tenths. The "
            "table holds the gain at the target, −∂u/∂x, of each policy.",
            _runs_figure(config, linear),
            _gains(linear),
        ),
        report.Section(
            "The neural node under control",
            "As above. Here the controller is tempered: a wide Σ makes it careful.",
            _runs_figure(config, neural),
        ),
    ]


def _runs_figure(config: DictConfig, study: Study):
    shown = min(SHOWN_STEPS, config.evaluate.steps)
    runs = {
        name: [
            report.Band(np.asarray(run.trace.norm)[:, :shown], "‖x‖"),
            report.Band(np.asarray(run.trace.control_norm)[:, :shown], "‖u‖"),
            report.Band(
                np.asarray(run.trace.cost)[:, :shown], "stage cost, per unit of time", True
            ),
        ]
        for name, run in study.evaluations.items()
    }
    return report.comparison_figure(config.dt * np.arange(shown), runs)


def _gains(study: Study) -> tuple[list[str], list[list[str]]]:
    target = jnp.broadcast_to(jnp.asarray(study.machine.cost.target, float), study.machine.dim)
    gains = {
        name: -np.asarray(jax.jacobian(run.policy)(target))
        for name, run in study.evaluations.items()
        if run.policy is not None
    }
    controls, dim = gains[study.reference].shape
    rows = [
        [f"u{i + 1}, x{j + 1}", *(f"{gain[i, j]:.3f}" for gain in gains.values())]
        for i in range(controls)
        for j in range(dim)
    ]
    return ["gain", *gains], rows
