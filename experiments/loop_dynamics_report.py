"""What `experiments.loop_dynamics` prints and writes: sentences, tables, a page with figures."""

from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

import sigma_jax
from experiments.arc import write_summary
from experiments.loop_dynamics_results import Results, Spectrum
from sigma_jax import report
from sigma_jax.statistics import binomial

_LAST_STEPS = 8
"""Of going on, over which the rate of coming to rest is taken."""
_NOISE = 1e-5
"""Relative steps below are those of rounding in single precision."""

Table = tuple[list[str], list[list[str]]]


def make_checks(config: DictConfig, results: Results) -> list[report.Check]:
    """Of the machinery alone: whether loops contract is theirs to say."""
    spectra = results.spectra.values()
    wrong_radius = sum(int((s.lyapunov_gate & (s.radii >= 1.0)).sum()) for s in spectra)
    wrong_norm = sum(int((s.norm_gate & (s.norms >= 1.0)).sum()) for s in spectra)
    missing = max(0.0, config.required - float(_same(results, "nodes").mean()))
    return [
        report.Check("Lyapunov gates that eigenvalues contradict", wrong_radius, 0.0, 0.0),
        report.Check("norm gates that ‖J‖₂ contradicts", wrong_norm, 0.0, 0.0),
        report.Check("rollout against the nodes in turn, relative", results.rollout_error, 0, 1e-4),
        report.Check("gradient through the rollout, relative", results.gradient_error, 0, 1e-2),
        report.Check("share of tokens at the exit missing", missing, 0.0, 0.0),
    ]


def closing_text(config: DictConfig, results: Results, checks: list[report.Check]) -> str:
    """Tables and sentences for a terminal, then the checks."""
    parts = []
    for table, sentence in (
        (_faithfulness(results), _way(results)),
        (_contraction(results), _whether_it_contracts(config, results)),
        (_stand_ins(config, results), _whether_it_stands_in(config, results)),
        (_rates(results), ""),
        (_flags(results), _what_canaries_say(results)),
    ):
        parts += [_plain(table), "", *([sentence, ""] if sentence else [])]
    return "\n".join([*parts, report.checks_table(checks)])


def _plain(table: Table) -> str:
    rows = [table[0], *table[1]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(table[0]))]
    lines = ("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _share(flags: np.ndarray) -> str:
    """A share with Wilson's 95 % interval."""
    found = binomial(int(flags.sum()), flags.size, 0.5)
    return f"{found.estimate:.1%} ({found.low:.1%} to {found.high:.1%})"


def _spread(values: np.ndarray) -> str:
    low, median, high = np.quantile(values, [0.1, 0.5, 0.9])
    return f"{median:#.3g} ({low:#.3g} to {high:#.3g})"


def _same(results: Results, who: str) -> np.ndarray:
    """Whether the token said is the kernel's at its exit."""
    return results.tokens[who] == results.tokens["kernel"]


def _loops(results: Results) -> range:
    return range(2, results.depth + 1)


def _errors(results: Results) -> np.ndarray:
    """How far each node lands from where the kernel's own loop does, relative, by loop."""
    size = np.linalg.norm(results.ways.states[:, 1:], axis=-1)
    return np.linalg.norm(results.ways.residuals, axis=-1) / size


def _whole_way(results: Results) -> np.ndarray:
    last = results.ways.states[:, -1]
    return np.linalg.norm(results.looks.end - last, axis=-1) / np.linalg.norm(last, axis=-1)


def _faithfulness(results: Results) -> Table:
    columns = ["step", "error: median (10 to 90 %)", "largest"]
    errors = [(f"loop {loop}", _errors(results)[:, loop - 2]) for loop in _loops(results)]
    errors.append(("all, by nodes alone", _whole_way(results)))
    return columns, [[name, _spread(each), f"{each.max():#.3g}"] for name, each in errors]


def _way(results: Results) -> str:
    return (
        "The nodes alone end at the kernel's own token in "
        f"{_share(_same(results, 'nodes'))} of {len(results.looks.end)} positions."
    )


def _contraction(results: Results) -> Table:
    columns = ["Jacobian of", "spectral radius", "‖J‖₂", "contracts at once", "in the end"]
    return columns, [
        [name, _spread(s.radii), _spread(s.norms), _share(s.norm_gate), _share(s.lyapunov_gate)]
        for name, s in results.spectra.items()
    ]


def _at_rest(config: DictConfig, results: Results) -> np.ndarray:
    return results.looks.steps[:, -1] < config.rest


def _exit_and_end(results: Results) -> tuple[Spectrum, Spectrum]:
    *_, at_exit, at_end = results.spectra.values()
    return at_exit, at_end


def _whether_it_contracts(config: DictConfig, results: Results) -> str:
    at_exit, _ = _exit_and_end(results)
    step = results.looks.steps[:, results.depth - 2]
    own = results.looks.own_steps[:, -1] < config.rest
    rest = _at_rest(config, results)
    return (
        f"At the exit, loop {results.depth} contracts in every direction in "
        f"{at_exit.norm_gate.mean():.1%} of the positions and in the end in "
        f"{at_exit.lyapunov_gate.mean():.1%}; the median spectral radius is "
        f"{np.median(at_exit.radii):.3f}. The exit is no fixed point: the last step is still "
        f"{np.median(step):.2g} of the state (median). Held on to for {config.loops} more "
        f"loops, {_share(rest)} of them come to rest (relative step below {config.rest:g}); of "
        f"the kernel's own hidden states {_share(own)} do. {_of_those_at_rest(config, results)}"
    )


def _of_those_at_rest(config: DictConfig, results: Results) -> str:
    rest, (_, at_end) = _at_rest(config, results), _exit_and_end(results)
    said = _same(results, "gone on")
    if not rest.any():
        return f"All together say the token of the exit in {said.mean():.1%}."
    sentence = (
        f"Where they rest, {at_end.lyapunov_gate[rest].mean():.1%} contract in the end, "
        f"{at_end.norm_gate[rest].mean():.1%} in every direction, the largest spectral radius is "
        f"{at_end.radii[rest].max():.3f}, and {said[rest].mean():.1%} say the token of the exit"
    )
    if not rest.all():
        sentence += f" (of those still on their way {said[~rest].mean():.1%})"
    return sentence + "." + _rate_of_rest(config, results)


def _rate_of_rest(config: DictConfig, results: Results) -> str:
    """What a Jacobian predicts of the way, where steps are small and not yet rounding."""
    steps, (_, at_end) = results.looks.steps, _exit_and_end(results)
    if config.loops <= _LAST_STEPS:
        return ""
    shown = _at_rest(config, results) & (steps[:, -1] > _NOISE)
    if not shown.any():
        return ""
    factors = (steps[shown, -1] / steps[shown, -1 - _LAST_STEPS]) ** (1.0 / _LAST_STEPS)
    return (
        f" Their last {_LAST_STEPS} steps shrink by {np.median(factors):.3f} a loop (median); "
        f"the spectral radius says {np.median(at_end.radii[shown]):.3f}."
    )


def _stand_ins(config: DictConfig, results: Results) -> Table:
    columns = ["in the place of", "stands", "relative drift", f"below {config.tolerance:g}"]
    rows = [
        [f"loop {loop + 1}", f"loop {loop}", _spread(each), _share(each < config.tolerance)]
        for loop, each in enumerate(results.looks.stand_ins.T, 2)
    ]
    return columns, rows


def _whether_it_stands_in(config: DictConfig, results: Results) -> str:
    drifts = results.looks.stand_ins
    if not drifts.size:
        return "There is one step; no loop could stand in for another."
    safe = (drifts < config.tolerance).mean(axis=0)
    pairs = [
        f"loop {loop} for loop {loop + 1} in {share:.1%}" for loop, share in enumerate(safe, 2)
    ]
    return f"At {config.tolerance:g} a swap would take {', '.join(pairs)} of the positions."


def _rates(results: Results) -> Table:
    """What canaries flag of steps as they are, with both thresholds."""
    squared = results.squared["as they are"]
    columns = ["nominal", "threshold", *(f"flagged, loop {loop}" for loop in _loops(results))]
    columns += [f"p, loop {loop}" for loop in _loops(results)]
    rows = []
    for rate, normal, counted in results.thresholds:
        for name, threshold in (("as if normal", normal), ("counted", counted)):
            flags = (squared > threshold).T
            tests = [binomial(int(each.sum()), each.size, rate) for each in flags]
            shares = [_share(each) for each in flags]
            rows.append([f"{rate:g}", name, *shares, *(f"{t.p_value:.2g}" for t in tests)])
    return columns, rows


def _flags(results: Results) -> Table:
    """What canaries at the first rate flag of every kind of sample."""
    columns = ["steps", "threshold", *(f"flagged, loop {loop}" for loop in _loops(results))]
    _, normal, counted = results.thresholds[0]
    return columns, [
        [kind, name, *(_share(each) for each in (squared > threshold).T)]
        for kind, squared in results.squared.items()
        for name, threshold in (("as if normal", normal), ("counted", counted))
    ]


def _what_canaries_say(results: Results) -> str:
    rate, normal, counted = results.thresholds[0]
    usual, other = results.squared["as they are"], results.squared["other text"]
    return (
        f"At a nominal rate of {rate:g} a canary flags {(usual > normal).mean():.1%} of the steps "
        f"that are as they should be if residuals are taken for normal, and "
        f"{(usual > counted).mean():.1%} with a counted threshold; of other text "
        f"{(other > normal).mean():.1%} and {(other > counted).mean():.1%}."
    )


def write_report(
    config: DictConfig, results: Results, checks: list[report.Check], output: Path
) -> None:
    """Write the summary and the page, each whole or not at all; the page comes last."""
    write_summary(output / "summary.json", _summary(config, results, checks))
    page = report.render_page(
        "A kernel's loops as nodes",
        f"The loops of {config.kernel} over one token, as maps x ← φ(loop(ψ(x))) of a state of "
        f"{results.ways.states.shape[-1]} numbers, at {len(results.looks.end)} held-out "
        "positions. Shares have Wilson's 95 % interval; other numbers are medians with the 10 and "
        "90 % quantiles.",
        _sections(config, results, checks),
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.loop_dynamics; seed "
        f"{config.seed}.",
    )
    report.write_text(output / "report.html", page)


def _sections(
    config: DictConfig, results: Results, checks: list[report.Check]
) -> list[report.Section]:
    check_rows = [
        [c.name, f"{c.value:.4g}", f"{c.tolerance:.3g}", "ok" if c.passed else "FAILED"]
        for c in checks
    ]
    steps = {
        "state, by the nodes": results.looks.steps,
        "hidden state, by the kernel's loop": results.looks.own_steps,
    }
    _, normal, counted = results.thresholds[0]
    spectra = {name: s.eigenvalues for name, s in results.spectra.items()}
    dim = results.ways.states.shape[-1]
    return [
        report.Section(
            "Whether the loop contracts",
            _whether_it_contracts(config, results),
            table=_contraction(results),
        ),
        report.Section(
            "Eigenvalues of the true Jacobians",
            "Each loop where the kernel takes it, then the last loop where the kernel exits and "
            "where going on led. A title says in which share of the positions all eigenvalues are "
            "inside the unit circle; those outside are crosses. One near zero is what the "
            "normalisation at the end of a loop leaves of the state's size.",
            report.loop_spectra_figure(spectra),
        ),
        report.Section(
            "Going on",
            "How far a loop moves the state, relative to it. Behind the exit the last loop is held "
            "on to, by its node and, without φ and ψ, in the kernel's own hidden state.",
            report.loop_steps_figure(steps, depth=results.depth, rest=config.rest),
        ),
        report.Section(
            "How near the nodes are to the kernel",
            "Distance between where a node and where the kernel's own loop goes, relative to the "
            f"state. {_way(results)}",
            table=_faithfulness(results),
        ),
        report.Section(
            "Whether a loop may stand in for the next",
            "Relative drift ‖f_old − f_new‖ / ‖f_old‖ of two neighbours at the state where the "
            f"second begins. {_whether_it_stands_in(config, results)}",
            table=_stand_ins(config, results),
        ),
        report.Section(
            "What a canary sees",
            f"{_what_canaries_say(results)} Left: innovations of steps as they are, against those "
            "of normal ones. Right: median, middle half and middle nine tenths of each kind of "
            f"step. Other text: {len(results.squared['other text'])} lines of "
            f"{config.strangers or 'the README'}, of the same lengths.",
            report.loop_canary_figure(results.squared, dim=dim, normal=normal, counted=counted),
            _flags(results),
        ),
        report.Section(
            "A canary's rate",
            "Steps as they are, flagged at each nominal rate; p is that of an exact binomial test "
            "of this rate. The normal threshold is that of χ²; the counted one is a rank among "
            f"{config.counted} further steps.",
            table=_rates(results),
        ),
        report.Section(
            "Checks",
            "Of the machinery. Values must not exceed their tolerance.",
            table=(["check", "value", "tolerance", ""], check_rows),
        ),
    ]


def _summary(config: DictConfig, results: Results, checks: list[report.Check]) -> dict:
    rest, looks = _at_rest(config, results), results.looks
    named = {f"loop_{loop}": each for loop, each in enumerate(_errors(results).T, 2)}
    return {
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "positions": len(looks.end),
        "faithfulness": {
            **{name: _quantiles(each) for name, each in named.items()},
            "whole_way": _quantiles(_whole_way(results)),
            "same_token": float(_same(results, "nodes").mean()),
        },
        "spectra": {
            name: {
                "spectral_radius": _quantiles(s.radii),
                "norm": _quantiles(s.norms),
                "contracts_at_once": float(s.norm_gate.mean()),
                "contracts_in_the_end": float(s.lyapunov_gate.mean()),
            }
            for name, s in results.spectra.items()
        },
        "going_on": {
            "at_rest": float(rest.mean()),
            "own_hidden_states_at_rest": float((looks.own_steps[:, -1] < config.rest).mean()),
            "same_token": float(_same(results, "gone on").mean()),
            "same_token_of_own_hidden_states": float(_same(results, "gone on, hidden").mean()),
            "median_steps": np.median(looks.steps, axis=0).tolist(),
        },
        "stand_ins": {
            f"loop_{loop}_for_loop_{loop + 1}": _quantiles(each)
            | {"below_tolerance": float((each < config.tolerance).mean())}
            for loop, each in enumerate(looks.stand_ins.T, 2)
        },
        "canaries": [
            {
                "rate": rate,
                "flagged": {
                    kind: {
                        "as_if_normal": (squared > normal).mean(axis=0).tolist(),
                        "counted": (squared > counted).mean(axis=0).tolist(),
                    }
                    for kind, squared in results.squared.items()
                },
            }
            for rate, normal, counted in results.thresholds
        ],
        "rollout_error": results.rollout_error,
        "gradient_error": results.gradient_error,
        "checks": {check.name: check.passed for check in checks},
        "all_checks_passed": all(check.passed for check in checks),
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    low, median, high = np.quantile(values, [0.1, 0.5, 0.9])
    return {"low": float(low), "median": float(median), "high": float(high)}
