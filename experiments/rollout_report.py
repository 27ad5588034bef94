"""What `experiments.rollout` writes: trace, summary, and a page with figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import scipy.linalg
from omegaconf import DictConfig, OmegaConf
from scipy import stats

import sigma_jax
from experiments.arc import write_summary
from experiments.rollout import Run, count_differences
from sigma_jax import report, stability, vm

ENVELOPE_TIMES = np.linspace(0.0, 10.0, 41)
LEVEL = 0.99
"""Of the interval in which the rate of flags must lie."""


@dataclass(frozen=True)
class Facts:
    """Everything that the checks, the figures and the page are made of."""

    run: Run
    watched: vm.Rollout
    rescued: vm.Rollout
    jacobians: dict[str, np.ndarray]
    """At the start and at the end: `[batch, d, d]`."""
    certificates: dict[str, stability.Certificate]
    threshold: float
    consistent: np.ndarray
    """Steps that nothing from outside moved: `[batch, steps]`."""
    flags: int
    """How many of them were flagged."""
    envelope_excess: float
    """By how much ‖e^{tA}‖ is above its certified envelope at worst, as a share."""
    snapshot_differs: int
    """Values that the state read back from the snapshot has otherwise."""

    @property
    def trials(self) -> int:
        return int(self.consistent.sum())


def gather(run: Run, watched: vm.Rollout, rescued: vm.Rollout, snapshot: Path) -> Facts:
    """Certify the states at the ends, count the flags, and read the snapshot again."""
    jacobians = {
        name: _jacobians(run.machine, state)
        for name, state in (("start", run.start), ("end", run.end))
    }
    certify = jax.jit(jax.vmap(stability.certify))
    certificates = {name: jax.device_get(certify(a)) for name, a in jacobians.items()}
    excess = max(_envelope_excess(a, certificates[name]) for name, a in jacobians.items())
    consistent = np.array(run.trace.alive)
    consistent[:, [jump.step for jump in run.jumps]] = False
    return Facts(
        run,
        watched,
        rescued,
        jacobians,
        certificates,
        threshold=stability.surprise_threshold(run.machine.dim),
        consistent=consistent,
        flags=int((run.trace.surprise & consistent).sum()),
        envelope_excess=excess,
        snapshot_differs=count_differences(
            run.end, vm.restore_state(run.machine, vm.load_snapshot(snapshot))
        ),
    )


def _jacobians(machine: vm.StateMachine, state: vm.State) -> np.ndarray:
    """∂f/∂x of each trajectory's active node, at its state and control."""
    # Fetched: a decomposition on several devices at once can hang (JAX 0.9.2).
    x, covariance, active = jax.device_get((state.x, state.covariance, state.active))

    @jax.jit
    def of_all(x, covariance):
        u = jax.vmap(lambda x, s: machine.controller(x, s, machine.control_dim))(x, covariance)
        nodes = [machine.nodes[name] for name in machine.names]
        return [jax.vmap(node.jacobian)(x, u) for node in nodes]

    return np.stack(of_all(x, covariance))[active, np.arange(len(x))]


def _envelope_excess(matrices: np.ndarray, certificates: stability.Certificate) -> float:
    """The largest share, over matrices and times, by which ‖e^{tA}‖ is above its envelope."""
    bounds = jax.jit(jax.vmap(lambda c: stability.envelope(c, ENVELOPE_TIMES)))(certificates)
    flows = scipy.linalg.expm(ENVELOPE_TIMES[:, None, None] * matrices[:, None])
    return float(np.max(np.linalg.norm(flows, 2, axis=(-2, -1)) / np.asarray(bounds) - 1.0))


def make_checks(config: DictConfig, facts: Facts) -> list[report.Check]:
    """What has to hold of every run, whatever the seed but for the rate: that fails 1 in 100."""
    run, batch = facts.run, config.batch
    expected = stability.nominal_rate(run.machine.dim, facts.threshold)
    error = (expected * (1.0 - expected) / max(facts.trials, 1)) ** 0.5
    deviations = float(stats.norm.isf((1.0 - LEVEL) / 2.0))
    record = run.record
    strangers = np.array([swap.to == "c" for swap in run.swaps], bool)
    smallest = np.linalg.eigvalsh(np.asarray(run.end.covariance)).min()
    asleep = np.asarray(trace_of(facts.watched).proximity) > 0
    rescued = np.asarray(trace_of(facts.rescued).proximity) > 0
    diverged = int((np.asarray(run.end.diverged) >= 0).sum())

    def none(name: str, value: float) -> report.Check:
        return report.Check(name, value=float(value), expected=0.0, tolerance=0.0)

    def all_of(name: str, value: float, expected: float) -> report.Check:
        return report.Check(name, value=float(value), expected=float(expected), tolerance=0.0)

    return [
        none("values that a replay has otherwise", run.replay_differs),
        none("values that a run unwatched, in one call, has otherwise", run.unwatched_differs),
        none("values that the state in the snapshot has otherwise", facts.snapshot_differs),
        none("trajectories that diverged", diverged),
        report.Check(
            "share of steps flagged, jumps apart",
            value=facts.flags / max(facts.trials, 1),
            expected=expected,
            tolerance=deviations * error + 0.5 / max(facts.trials, 1),
        ),
        all_of(
            "jumps flagged at once",
            sum(int(run.trace.surprise[:, jump.step].sum()) for jump in run.jumps),
            batch * len(run.jumps),
        ),
        all_of(
            "swaps to the near copy accepted",
            int(record.accepted[:, ~strangers].sum()),
            batch * (~strangers).sum(),
        ),
        none("swaps to the stranger accepted", int(record.accepted[:, strangers].sum())),
        none("swaps accepted at or above the tolerance", _unsafe(facts)),
        none("Σ at the end: how far its least eigenvalue is below 0", max(0.0, -smallest)),
        report.Check(
            "certified envelope: share by which ‖e^{tA}‖ is above it",
            value=max(0.0, facts.envelope_excess),
            expected=0.0,
            tolerance=1e-9,  # of the matrix exponential
        ),
        all_of("collapsed without help, first step to last", asleep.all(axis=1).sum(), batch),
        none("collapsed after an intervention", rescued[:, 1:].any(axis=1).sum()),
    ]


def trace_of(run: vm.Rollout) -> vm.Trace:
    """The trace, which every run here keeps."""
    assert run.trace is not None
    return run.trace


def _unsafe(facts: Facts) -> int:
    record = facts.run.record
    return int((record.accepted & (record.delta >= facts.run.machine.swap_tolerance)).sum())


def closing_text(facts: Facts, checks: list[report.Check]) -> str:
    """What happened, for a terminal, then the checks."""
    events = "\n".join(f"{row[0]:<7} {'  '.join(row[1:])}" for row in _event_rows(facts))
    return f"{events}\n\n{report.checks_table(checks)}"


def _event_rows(facts: Facts) -> list[list[str]]:
    """When, what, and what came of it."""
    run = facts.run
    batch = len(run.trace.norm)
    rows = [
        [
            str(swap.step),
            f"swap to {swap.to}",
            f"accepted by {run.record.accepted[:, place].sum()} of {batch}; relative drift "
            f"{run.record.delta[:, place].min():.3g} to {run.record.delta[:, place].max():.3g}",
        ]
        for place, swap in enumerate(run.swaps)
    ]
    rows += [
        [
            str(jump.step),
            f"jump of length {np.linalg.norm(jump.by):.3g}",
            f"flagged in {run.trace.surprise[:, jump.step].sum()} of {batch}; normalised "
            f"innovation squared {run.trace.innovation[:, jump.step].min():.4g} at least",
        ]
        for jump in run.jumps
    ]
    rows.sort(key=lambda row: int(row[0]))
    spent = np.asarray(facts.rescued.state.spent)
    return [
        *rows,
        ["0", "collapse (second run)", f"{spent.min()} to {spent.max()} interventions each"],
    ]


def write_report(
    config: DictConfig, facts: Facts, checks: list[report.Check], output: Path
) -> None:
    """Write every output file, each whole or not at all; the page comes last."""
    report.write_netcdf(output / "trace.nc", _dataset(config, facts))
    write_summary(output / "summary.json", _summary(config, facts, checks))
    page = report.render_page(
        "A run of the Σ₀ state machine",
        f"{config.batch} trajectories of {config.dim} dimensions, {config.steps} steps of "
        f"{config.dt:g}, under the neural node a. b is a with every weight off by about "
        f"{config.near:.3g} of itself, c a stranger. Everything here is simulated, with untrained "
        "networks.",
        _sections(config, facts, checks),
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.rollout; seed "
        f"{config.seed}.",
    )
    report.write_text(output / "report.html", page)


_COLUMNS = {
    "norm": "‖x‖",
    "covariance_trace": "tr Σ",
    "control_norm": "‖u‖",
    "dilation": "D = 1 + tr Σ / d",
    "speed": "‖f(x, u)‖, per unit of time",
    "cost": "stage cost, per unit of time",
    "proximity": "how near a collapse is, 0 to 1",
    "innovation": "normalised innovation squared",
    "surprise": "whether that is beyond the threshold",
    "active": "index of the node that took the step",
    "alive": "whether the step was taken",
}


def _dataset(config: DictConfig, facts: Facts) -> Any:
    trace = facts.run.trace
    variables = {name: (getattr(trace, name), text) for name, text in _COLUMNS.items()}
    variables["action"] = (trace.receipt.action, "what was done: see sigma_jax.vm.Action")
    batch, steps = trace.norm.shape
    return report.labelled_dataset(
        {
            name: (("trajectory", "step"), _as_netcdf(values), text)
            for name, (values, text) in variables.items()
        }
        | {"time": (("step",), config.dt * np.arange(steps), "time of each step's start")},
        {
            "trajectory": np.arange(batch, dtype=np.int32),
            "step": np.arange(steps, dtype=np.int32),
        },
        {
            "source": f"sigma_jax {sigma_jax.__version__}, python -m experiments.rollout",
            "seed": str(config.seed),
            "nodes": ",".join(facts.run.machine.names),
        },
    )


def _as_netcdf(values: np.ndarray) -> np.ndarray:
    """NetCDF 3 has no booleans."""
    return values.astype(np.int8) if values.dtype == bool else values


def _summary(config: DictConfig, facts: Facts, checks: list[report.Check]) -> dict:
    run = facts.run
    diagnosis = vm.diagnose(run.trace, run.machine.dim)
    decisions = vm.describe(trace_of(facts.rescued).receipt, ("trajectory", "step"))
    return {
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "diagnosis": {name: int(np.sum(value)) for name, value in vars(diagnosis).items()},
        "flags": {"steps": facts.trials, "flagged": facts.flags, "threshold": facts.threshold},
        "swaps": run.record.rows(run.machine.names, float(run.machine.swap_tolerance)),
        "interventions": [row for row in decisions if row["action"] != "observe"],
        "certificates": {row[0]: row[1:] for row in _certificate_rows(facts)},
        "checks": {check.name: check.passed for check in checks},
        "all_checks_passed": all(check.passed for check in checks),
    }


def _marks(config: DictConfig, facts: Facts) -> list[report.Mark]:
    run = facts.run
    batch = len(run.trace.norm)
    marks = []
    for place, swap in enumerate(run.swaps):
        accepted = int(run.record.accepted[:, place].sum())
        kind = "accepted" if 2 * accepted > batch else "refused"
        label = f"swap to {swap.to}: accepted by {accepted} of {batch}"
        marks.append(report.Mark(config.dt * swap.step, kind, label))
    return marks + [report.Mark(config.dt * jump.step, "jump", "jump") for jump in run.jumps]


def _sections(config: DictConfig, facts: Facts, checks: list[report.Check]) -> list[report.Section]:
    run = facts.run
    trace, marks = run.trace, _marks(config, facts)
    time = config.dt * np.arange(config.steps)
    alive = run.trace.alive
    bands = [
        report.Band(np.where(alive, values, np.nan), label, logarithmic)
        for values, label, logarithmic in (
            (trace.norm, "‖x‖", False),
            (trace.covariance_trace, "tr Σ", False),
            (trace.dilation, "dilation D = 1 + tr Σ / d", False),
            (trace.cost, "stage cost, per unit of time", True),
        )
    ]
    rate = stability.nominal_rate(run.machine.dim, facts.threshold)
    share = facts.flags / max(facts.trials, 1)
    return [
        _checks_section(checks),
        report.Section(
            "What happened",
            "Swaps are decided by each trajectory for itself, at its own state and control, "
            f"against a tolerance of {config.swap_tolerance:g}.",
            table=(["step", "event", "outcome"], _event_rows(facts)),
        ),
        report.Section(
            "The run",
            "Over the batch: the median, the middle half and the middle nine tenths. The jumps "
            "push x away; Σ, which follows its own Riccati equation along the path, is settled "
            "within the first few units of time.",
            report.rollout_figure(time, bands, marks),
        ),
        report.Section(
            "Surprises",
            "Every step against what the active node had predicted. Of a run that behaves as its "
            f"node says the normalised innovation squared is χ² with m = {run.machine.dim}. "
            f"Flagged, the jumps apart: {facts.flags} of {facts.trials} steps, {share:.2%}; "
            f"nominal is {rate:.2%}.",
            report.innovation_figure(
                time,
                np.asarray(trace.innovation),
                facts.consistent,
                run.machine.dim,
                facts.threshold,
                marks,
            ),
        ),
        report.Section(
            "Spectra of the Jacobians",
            "The drift's Jacobian of each trajectory, at its state, control and node. The edge of "
            "the numerical range lies outside the eigenvalues; where all of it is left of zero, "
            "every small difference shrinks at every instant. The table says what is proven, for "
            "how many trajectories or from the least to the largest of them; all of it is local.",
            report.spectra_figure(facts.jacobians),
            (["certificate", *facts.certificates], _certificate_rows(facts)),
        ),
        _collapse_section(config, facts),
    ]


def _checks_section(checks: list[report.Check]) -> report.Section:
    rows = [
        [
            c.name,
            f"{c.value:.6g}",
            f"{c.expected:.6g}",
            f"{c.tolerance:.2g}",
            "ok" if c.passed else "FAILED",
        ]
        for c in checks
    ]
    return report.Section(
        "Checks",
        "The run replayed, with and without the policy that watches it, and held against what is "
        "known of it.",
        table=(["check", "value", "expected", "tolerance", ""], rows),
    )


def _certificate_rows(facts: Facts) -> list[list[str]]:
    def span(values: np.ndarray) -> str:
        return f"{values.min():.3g} to {values.max():.3g}"

    def count(values: np.ndarray) -> str:
        return f"{values.sum()} of {values.size}"

    wanted = {
        "numerical abscissa ω": ("numerical_abscissa", span),
        "ω < 0: differences shrink at every instant": ("numerical_range_gate", count),
        "spectral abscissa": ("spectral_abscissa", span),
        "Lyapunov: differences die out": ("lyapunov_gate", count),
        "transient at most √cond P, cond P": ("lyapunov_condition", span),
        "decay proven, per unit of time": ("lyapunov_rate", span),
        "small-gain bound": ("small_gain_bound", span),
        "small-gain gate": ("small_gain_gate", count),
        "pseudospectral bound": ("pseudospectral_bound", span),
        "pseudospectral gate": ("pseudospectral_gate", count),
        "Kreiss constant, at least": ("kreiss_constant", span),
        "numerical range in the left half-plane (Crouzeix–Palencia)": (
            "crouzeix_palencia_gate",
            count,
        ),
        "null modes of sym A": ("null_dimension", span),
    }
    return [
        [text, *(show(np.asarray(getattr(c, name))) for c in facts.certificates.values())]
        for text, (name, show) in wanted.items()
    ]


def _collapse_section(config: DictConfig, facts: Facts) -> report.Section:
    runs = {"without a budget": facts.watched, f"budget {config.collapse.budget}": facts.rescued}
    action = np.asarray(trace_of(facts.rescued).receipt.action)
    kicks = np.isin(action, (vm.Action.EXCITE, vm.Action.PROJECT_TO_ATTRACTOR)).any(axis=0)
    marks = [
        report.Mark(config.dt * step, "intervention", "intervention")
        for step in np.nonzero(kicks)[0]
    ]
    bands = {
        name: [
            report.Band(np.asarray(trace_of(run).proximity), "proximity of a collapse"),
            report.Band(np.asarray(trace_of(run).norm), "‖x‖"),
            report.Band(np.asarray(trace_of(run).covariance_trace), "tr Σ"),
        ]
        for name, run in runs.items()
    }
    rows = [[name, *_collapse_row(run)] for name, run in runs.items()]
    return report.Section(
        "A collapse, and the way out of it",
        "A node that turns the state in one plane and moves it nowhere else, at the target, with "
        "an isotropic Σ: nothing pulls, few modes act, the belief prefers no direction. Left "
        "alone it stays so. An intervention kicks the state along the slowest modes and lifts Σ "
        "on them until its spread is above the margin.",
        report.comparison_figure(config.dt * np.arange(config.collapse.steps), bands, marks),
        (
            ["run", "proximity at first", "at last", "‖x‖ at last", "spread of Σ at last",
             "interventions"],
            rows,
        ),
    )  # fmt: skip


def _collapse_row(run: vm.Rollout) -> list[str]:
    trace = trace_of(run)
    proximity, norm = np.asarray(trace.proximity), np.asarray(trace.norm)
    spread = jax.vmap(vm.relative_spread)(run.state.covariance)
    return [
        f"{np.median(proximity[:, 0]):.3g}",
        f"{np.median(proximity[:, -1]):.3g}",
        f"{np.median(norm[:, -1]):.3g}",
        f"{np.median(np.asarray(spread)):.3g}",
        f"{int(np.asarray(run.state.spent).sum())}",
    ]
