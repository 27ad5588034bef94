"""The numbers of the arc: each stage takes the configuration and the results before it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig

from experiments.configure import as_arrays, make_initial, make_model, make_rates, plain
from sigma_jax import schema, solvers
from sigma_jax.report import Check

SAMPLES_PER_EPOCH = 4
GOLDEN_TIMES = (10, 20, 40, 80, 160, 400)
# σ at those epochs, from an independent integration (SciPy, rtol 1e-9) of the default regime.
GOLDEN = {
    ("consistent", "baseline"): (0.0503, 0.0264, 0.0077, 0.0007, 0.0, 0.0),
    ("consistent", "targeted"): (0.1234, 0.2050, 0.3610, 0.4343, 0.4375, 0.4375),
    ("consistent", "withdrawn"): (0.1234, 0.2050, 0.3610, 0.0231, 0.0002, 0.0),
    ("hysteretic", "baseline"): (0.0865, 0.0711, 0.0393, 0.0057, 0.0, 0.0),
    ("hysteretic", "targeted"): (0.2278, 0.6291, 0.8679, 0.8708, 0.8708, 0.8708),
    ("hysteretic", "withdrawn"): (0.2278, 0.6291, 0.8679, 0.6427, 0.6311, 0.6310),
}
# The published code's hand-written coherence curves (σ₀, slope a step) and what they add to it.
PUBLISHED_CURVES = {"additive": (0.05, 2.5e-4), "baseline": (0.10, 3e-4)}
PUBLISHED_NOISE = 0.012
# Steps at which the published runs entered phase 2, from their log; the medians are 313 and 183.
PUBLISHED_MEDIAN_ENTRY = {"additive": 313, "multiplicative": 183}


def _method(config: DictConfig) -> solvers.Adaptive:
    return solvers.Adaptive(rtol=config.solver.rtol, atol=config.solver.atol)


def _horizon_times(config: DictConfig) -> np.ndarray:
    epochs = np.arange(0.0, config.horizon + 0.5 / SAMPLES_PER_EPOCH, 1.0 / SAMPLES_PER_EPOCH)
    if len(epochs) < 2 or not 0 < config.withdrawal < epochs[-1]:
        raise ValueError(
            f"withdrawal must lie inside the horizon; got withdrawal = {config.withdrawal} and "
            f"horizon = {config.horizon}."
        )
    return np.union1d(epochs, [config.withdrawal])


def _stacked(config: DictConfig, variant: str) -> schema.SigmaModel:
    """A variant's models of all regimes, with a leading axis of regimes."""
    models = []
    for before, after in schema.SURFACE_REWARD.values():
        model = make_model(config, variant, "withdrawn")
        switch = schema.Switch((config.withdrawal,), (before, after))
        models.append(as_arrays(eqx.tree_at(lambda m: m.environment.r_surface, model, switch)))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)


def simulate_arcs(config: DictConfig, results: dict) -> dict:
    """Trajectories and phases of every model and regime, sampled and located by events."""
    del results
    if not config.models:
        raise ValueError(f"models must name at least one of {', '.join(schema.VARIANTS)}.")
    times, y0, thresholds = _horizon_times(config), make_initial(config), schema.Thresholds()

    @eqx.filter_jit
    def run(models):
        def one(model):
            solution = solvers.simulate(
                model, y0, times, method=_method(config), jump_times=(config.withdrawal,)
            )
            margins = schema.trajectory_margins(
                solution.ts, solution.ys, model.environment, thresholds
            )
            return solution, schema.follow_phases(margins, reverse_dwell=10 * SAMPLES_PER_EPOCH)

        return jax.vmap(one)(models)

    arcs = {}
    for variant in config.models:
        models = _stacked(config, variant)
        solution, phase = run(models)
        arcs[variant] = {}
        for index, name in enumerate(schema.REGIMES):
            model = jax.tree.map(lambda leaf, i=index: leaf[i], models)
            ys = jax.tree.map(lambda leaf, i=index: np.asarray(leaf[i]), solution.ys)
            events = schema.phase_transitions(
                model, y0, 0.0, float(config.horizon), thresholds=thresholds, method=_method(config)
            )
            arcs[variant][name] = {
                "delta_rel": ys.delta[:, 0, 0, 0] / config.environment.frontier,
                "sigma": ys.sigma[:, 0, 0, 0],
                "alpha": ys.alpha[:, 0, 0, 0],
                "self_model": ys.self_model[:, 0, 0, 0],
                "planning": ys.planning[:, 0],
                "inhibition": ys.inhibition[:, 0],
                "flexibility": ys.flexibility[:, 0],
                "phase": np.asarray(phase[index, :, 0]),
                "sampled": schema.transitions(times, phase[index, :, 0]),
                "events": [(float(e.time), e.before, e.after) for e in events],
                "steps": int(solution.steps[index]),
            }
    return {"times": times, "arcs": arcs}


def compare_backends(config: DictConfig, results: dict) -> dict:
    """Fixed steps against adaptive ones, and Eq. 28 against its exact solution."""
    times = results["arcs"]["times"]
    variant = config.models[0]
    model = make_model(config, variant, "withdrawn")
    fixed = solvers.simulate(model, make_initial(config), times, method=solvers.FixedStep(2))
    adaptive = results["arcs"]["arcs"][variant]["withdrawn"]["sigma"]
    difference = float(np.max(np.abs(np.asarray(fixed.ys.sigma)[:, 0, 0, 0] - adaptive)))
    return {"largest_difference": difference, "logistic_error": _logistic_error()}


def _logistic_error() -> float:
    """Largest error of a tight simulation of Eq. 28 at constant attention."""
    model = schema.sigma_model("consistent", environment=schema.regime("targeted"))
    conditions = model.environment(0.0, None)
    alpha = schema.attention_equilibrium(model.rates, conditions)
    times = np.linspace(0.0, 100.0, 51)
    solution = solvers.simulate(
        model, schema.initial_state(alpha=alpha), times, method=solvers.FixedStep(10)
    )
    growth = model.rates.rho * conditions.p_a * alpha
    pressure = model.rates.epsilon_sigma * conditions.omega_sl
    exact = schema.logistic_coherence(times, 0.10, growth, pressure, model.rates.saturation)
    return float(jnp.max(jnp.abs(solution.ys.sigma[:, 0, 0, 0] - exact)))


def sweep_up_and_down(config: DictConfig, results: dict) -> dict:
    """Exact equilibria over R₀, and what slow sweeps up and down find."""
    del results
    r0 = np.linspace(0.5, 1.5, 101)
    panels = {}
    for variant in config.models:
        model = make_model(config, variant, "baseline")
        up, down = eqx.filter_jit(schema.quasi_static_sweep)(model, r0)
        k, kappa = model.rates.saturation, model.rates.shortcut_relief
        fold = float(schema.saddle_node(k, kappa))
        fine = np.union1d(np.linspace(r0[0], r0[-1], 1001), fold * (1 + 1e-12))
        if variant == "hysteretic":
            unstable, stable = (np.asarray(b) for b in schema.hysteretic_equilibria(fine, k, kappa))
            unstable = np.where(unstable > 0, unstable, np.nan)
        else:
            stable = np.where(fine > 1, schema.core_equilibrium(fine, k), np.nan)
            unstable = np.full_like(fine, np.nan)
        panels[variant] = {
            "r0": r0,
            "branch_r0": fine,
            "stable": stable,
            "unstable": unstable,
            "up": np.asarray(up),
            "down": np.asarray(down),
            "predicted_fold": fold,
        }
    return panels


def phase_portraits(config: DictConfig, results: dict) -> dict:
    """The flow in the (α, σ) plane with equilibria and trajectories, by model and regime."""
    del results
    alpha, sigma = np.linspace(0.0, 1.0, 61), np.linspace(0.0, 1.0, 61)
    mesh_alpha, mesh_sigma = (m.ravel()[:, None, None] for m in np.meshgrid(alpha, sigma))
    grid = schema.initial_state(mesh_alpha.size, alpha=mesh_alpha, sigma=mesh_sigma)
    starts = schema.initial_state(2, alpha=0.2, sigma=np.array([0.10, 0.60])[:, None, None])
    times = np.linspace(0.0, 200.0, 201)
    panels = {}
    for variant in config.models:
        for name in ("baseline", "targeted"):
            model = make_model(config, variant, name)
            slope = model(0.0, grid)
            paths = solvers.simulate(
                as_arrays(model), starts, times, method=solvers.FixedStep(2)
            ).ys
            stable, unstable = _equilibria(model, variant)
            panels[variant, name] = {
                "d_alpha": np.asarray(slope.alpha).reshape(61, 61),
                "d_sigma": np.asarray(slope.sigma).reshape(61, 61),
                "stable": stable,
                "unstable": unstable,
                "paths": [
                    np.stack([paths.alpha[:, i, 0, 0], paths.sigma[:, i, 0, 0]], axis=-1)
                    for i in range(2)
                ],
            }
    return {"alpha": alpha, "sigma": sigma, "panels": panels}


def _equilibria(model: schema.SigmaModel, variant: str) -> tuple[np.ndarray, np.ndarray]:
    """Stable and unstable equilibria (α, σ) of Eq. 28 or of its extension."""
    conditions = model.environment(0.0, None)
    alpha = float(schema.attention_equilibrium(model.rates, conditions))
    r0 = float(schema.reproduction_number(model.rates, conditions, alpha))
    k, kappa = model.rates.saturation, model.rates.shortcut_relief
    if variant == "hysteretic":
        low, high = (float(root) for root in schema.hysteretic_equilibria(r0, k, kappa))
    else:
        low, high = np.nan, float(schema.core_equilibrium(r0, k)) or np.nan
    stable = [(alpha, 0.0)] if r0 < 1 else []
    unstable = [] if r0 < 1 else [(alpha, 0.0)]
    stable += [(alpha, high)] if high > 0 else []
    unstable += [(alpha, low)] if low > 0 else []
    return np.array(stable).reshape(-1, 2), np.array(unstable).reshape(-1, 2)


def read_pilot(config: DictConfig, results: dict) -> dict:
    """The measured curves and the phases they go through, by two rules."""
    del results
    pilot = schema.load_pilot(config.pilot)
    floor = float(np.nanmean(pilot["baseline"].sigma_hat[:, pilot["baseline"].trained]))
    rules = {"printed rule": {}, "above baseline": {}}
    for condition, curves in pilot.items():
        rules["printed rule"][condition] = _measured_phases(curves, 0.0)
        rules["above baseline"][condition] = _measured_phases(curves, floor)
    return {"curves": pilot, "floor": floor, "phases": rules}


def _measured_phases(curves: schema.PilotCurves, floor: float) -> np.ndarray:
    """Phases at the checkpoints: Acc_ID stands for δ_rel, (σ̂ − floor)/(1 − floor) for σ."""
    trained = curves.trained
    sigma = (curves.sigma_hat[:, trained] - floor) / (1.0 - floor)
    depth = curves.acc_id[:, trained]
    margins = schema.domain_margins(
        jnp.asarray(depth.T[..., None]), jnp.asarray(sigma.T[..., None]), schema.Thresholds()
    )
    return np.asarray(schema.follow_phases(margins)).T


def fit_measured_curves(config: DictConfig, results: dict) -> dict:
    """Rate constants of every condition under every explanation that applies to it."""
    if not config.fit:
        return {}
    fits = {}
    for condition, curves in results["pilot"]["curves"].items():
        names = ("constant",) if curves.onset is None else schema.EXPLANATIONS
        fits[condition] = {name: schema.fit_pilot(curves, name) for name in names}
    return fits


def phase_entries_from_noise(config: DictConfig, results: dict) -> dict:
    """When noise alone first carries the published curves past σ_critical, in training steps."""
    del config, results
    threshold = schema.Thresholds().sigma_critical
    steps = np.arange(2000)
    curves = {name: s0 + slope * steps for name, (s0, slope) in PUBLISHED_CURVES.items()}
    curves["multiplicative"] = 0.05 + 0.85 * np.exp(-4.0 * np.exp(-0.003 * steps))
    entries = {}
    for name, curve in curves.items():
        passage = schema.first_passage(jnp.asarray(curve - threshold), PUBLISHED_NOISE)
        entries[name] = {
            "without_noise": int(np.argmax(curve > threshold)),
            "median_with_noise": schema.passage_quantile(passage),
            "premature": float(
                schema.premature_probability(passage, jnp.asarray(curve - threshold))
            ),
            "published_median": PUBLISHED_MEDIAN_ENTRY.get(name),
        }
    return entries


def make_checks(config: DictConfig, results: dict) -> list[Check]:
    """What must hold of these results; golden values only where nothing was overridden."""
    arcs, times = results["arcs"]["arcs"], results["arcs"]["times"]
    checks = []
    if _is_reference(config):
        at = np.searchsorted(times, GOLDEN_TIMES)
        for (variant, name), golden in GOLDEN.items():
            if variant not in arcs:
                continue
            error = np.max(np.abs(arcs[variant][name]["sigma"][at] - golden))
            checks.append(Check(f"golden σ: {variant}, {name} (error)", float(error), 0.0, 1e-3))
    backends = results["backends"]
    checks.append(Check("Eq. 28 against its closed form", backends["logistic_error"], 0.0, 1e-8))
    checks.append(Check("fixed against adaptive steps", backends["largest_difference"], 0.0, 1e-5))
    checks += [
        _event_check(variant, name, arc) for variant in arcs for name, arc in arcs[variant].items()
    ]
    checks += _hysteresis_checks(results["hysteresis"])
    for condition, fits in results["fits"].items():
        for name, fit in fits.items():
            done = float(fit.curve.success)
            checks.append(Check(f"fit converged: {condition}, {name}", done, 1.0, 0.0))
    for name, entry in results["noise"].items():
        if entry["published_median"] is not None:
            median = float(entry["median_with_noise"])
            expected = float(entry["published_median"])
            checks.append(Check(f"published entry step from noise: {name}", median, expected, 5.0))
    return checks


def _is_reference(config: DictConfig) -> bool:
    """Whether nothing that the golden values depend on was overridden."""
    same_rates = all(
        make_rates(config, variant) == schema.sigma_model(variant).rates
        for variant in config.models
        if (variant, "baseline") in GOLDEN
    )
    reference = schema.Environment(**plain(config.environment)) == schema.Environment()
    start = jax.tree.leaves(make_initial(config)) == jax.tree.leaves(schema.initial_state())
    return same_rates and reference and start and config.withdrawal == 40 and config.horizon >= 400


def _event_check(variant: str, name: str, arc: dict) -> Check:
    """Each sampled transition lags the located one by at most a sample for each so far."""
    sampled, events = arc["sampled"], arc["events"]
    if [move[1:] for move in sampled] != [move[1:] for move in events]:
        lag = float("nan")
    else:
        lag = max((abs(s[0] - e[0]) for s, e in zip(sampled, events, strict=True)), default=0.0)
    return Check(
        f"phases, sampled against located: {variant}, {name}", lag, 0.0, 5.0 / SAMPLES_PER_EPOCH
    )


def _hysteresis_checks(panels: dict) -> list[Check]:
    checks = []
    for variant, panel in panels.items():
        gap = np.abs(panel["up"] - panel["down"])
        if variant != "hysteretic":
            away = np.abs(panel["r0"] - 1.0) > 0.02
            checks.append(Check(f"no hysteresis: {variant}", float(gap[away].max()), 0.0, 1e-3))
            continue
        kept = panel["r0"][panel["down"] > 0.2]
        lost = panel["r0"][panel["up"] < 0.05]
        spacing = float(panel["r0"][1] - panel["r0"][0])
        checks.append(
            Check("saddle-node, swept down", float(kept.min()), panel["predicted_fold"], spacing)
        )
        checks.append(Check("jump, swept up", float(lost.max()), 1.0, spacing))
    return checks
