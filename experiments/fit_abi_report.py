"""What `experiments.fit_abi` prints and writes: a table, a summary, a page with a figure."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

import sigma_jax
from experiments.arc import write_summary
from experiments.fit_abi import Fit
from sigma_jax import report
from sigma_jax.bridge import Fidelity

_COLUMNS = ["dimension", "maps", "variance explained", "KL (nats)", "top-1 agreement"]


def make_checks(
    config: DictConfig, fits: list[Fit], exact: tuple[float, float] | None
) -> list[report.Check]:
    """Agreement as required at the smallest dimension, the first; no answer lost on the task."""
    missing = max(0.0, config.required - float(fits[0].fitted.agreement))
    name = f"top-1 agreement missing at dimension {fits[0].abi.dim}"
    checks = [report.Check(name, missing, 0.0, 0.0)]
    if exact is not None:
        lost = max(0.0, exact[0] - exact[1])
        checks.append(report.Check("share of exact answers lost", lost, 0.0, 0.0))
    return checks


def closing_text(
    fits: list[Fit], exact: tuple[float, float] | None, checks: list[report.Check]
) -> str:
    """The table for a terminal, then the checks."""
    lines = ["  ".join(f"{cell:<18}" for cell in row).rstrip() for row in [_COLUMNS, *_rows(fits)]]
    if exact is not None:
        lines.append(_task(fits, exact))
    return "\n".join([*lines, "", report.checks_table(checks)])


def _rows(fits: list[Fit]) -> list[list[str]]:
    return [
        [
            str(fit.abi.dim),
            name,
            f"{float(found.explained):.5f}",
            f"{float(found.divergence):.3g}",
            f"{float(found.agreement):.3%}",
        ]
        for fit in fits
        for name, found in (("start", fit.start), ("fitted", fit.fitted))
    ]


def _task(fits: list[Fit], exact: tuple[float, float]) -> str:
    return (
        f"SCAN: {exact[0]:.2%} of the answers exact by the kernel alone, {exact[1]:.2%} with its "
        f"head behind {fits[0].abi.dim} numbers"
    )


def write_report(
    config: DictConfig,
    fits: list[Fit],
    exact: tuple[float, float] | None,
    samples: tuple[int, int],
    checks: list[report.Check],
    output: Path,
) -> None:
    """Write the summary and the page, each whole or not at all; the page comes last."""
    summary = {
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "samples": {"learnt": samples[0], "held_out": samples[1]},
        "dimensions": {
            fit.abi.dim: {"start": _numbers(fit.start), "fitted": _numbers(fit.fitted)}
            for fit in fits
        },
        "exact_answers": None if exact is None else {"kernel": exact[0], "behind_abi": exact[1]},
        "checks": {check.name: check.passed for check in checks},
        "all_checks_passed": all(check.passed for check in checks),
    }
    write_summary(output / "summary.json", summary)
    lost = [np.array([_lost(getattr(fit, name)) for fit in fits]) for name in ("start", "fitted")]
    check_rows = [
        [c.name, f"{c.value:.4g}", f"{c.tolerance:.3g}", "ok" if c.passed else "FAILED"]
        for c in checks
    ]
    sections = [
        report.Section(
            "What a state keeps",
            f"On {samples[1]:,} hidden states that were held out: the start is the best linear "
            f"map by least squares on {samples[0]:,} others.",
            report.fidelity_figure([fit.abi.dim for fit in fits], *lost),
        ),
        report.Section(
            "Numbers",
            _task(fits, exact) + "." if exact is not None else "No task was given.",
            table=(_COLUMNS, _rows(fits)),
        ),
        report.Section(
            "Checks",
            "Values must not exceed their tolerance.",
            table=(["check", "value", "tolerance", ""], check_rows),
        ),
    ]
    page = report.render_page(
        "The state ABI",
        f"Hidden states of {config.kernel} as states of the state machine, and back.",
        sections,
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.fit_abi; seed "
        f"{config.seed}.",
    )
    report.write_text(output / "report.html", page)


def _numbers(found: Fidelity) -> dict[str, float]:
    return {name: float(value) for name, value in found._asdict().items()}


def _lost(found: Fidelity) -> list[float]:
    return [
        1.0 - float(found.explained),
        float(found.divergence),
        1.0 - float(found.agreement),
    ]
