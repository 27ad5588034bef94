"""A sweep of one parameter over many points in compiled chunks: `experiments.arc sweep=NAME`."""

import hashlib
import json
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from omegaconf import DictConfig

from experiments.configure import make_initial, make_model, plain
from sigma_jax import report, schema, solvers

_LABELS = {"r0": "reproduction number $R_0$"}


def run_sweep(config: DictConfig, output: Path) -> None:
    """Simulate the horizon at every point; write a table, a figure and a summary to `output`."""
    grid = _grid(config.sweep)
    problem = plain(config)
    del problem["sweep"]["directory"]
    directory = config.sweep.directory
    if directory is None:
        digest = hashlib.sha256(json.dumps(problem, sort_keys=True).encode()).hexdigest()[:12]
        name = config.sweep.parameter.replace(".", "-")
        directory = Path("outputs") / "sweeps" / f"{name}-{config.sweep.points}-{digest}"
    results = solvers.sweep(
        _final_states(config),
        grid,
        directory=directory,
        problem=problem,
        chunk_size=config.sweep.chunk_size,
        memory_limit=config.sweep.memory_limit,
        label=f"sweep {config.sweep.parameter}",
    )
    table = pd.DataFrame({config.sweep.parameter: grid} | results)
    report.write_whole(output / "sweep.parquet", lambda path: table.to_parquet(path, index=False))
    label = str(_LABELS.get(config.sweep.parameter, config.sweep.parameter))
    title = rf"final coherence $\sigma$ at {config.horizon:g} epochs"
    figure = report.sweep_figure(grid, results["sigma"], (label, title))
    report.write_whole(output / "sweep.png", lambda path: figure.savefig(path, dpi=150))
    failed = int(np.sum(~results["success"]))
    print(f"{len(table):,} points, {failed} failed; chunks kept in {directory}")
    print(f"final σ from {table.sigma.min():.4f} to {table.sigma.max():.4f}")
    print(f"table: {output / 'sweep.parquet'}; figure: {output / 'sweep.png'}")


def _grid(sweep: DictConfig) -> np.ndarray:
    if sweep.points < 1:
        raise ValueError(f"sweep.points must be at least 1; got {sweep.points}.")
    if not sweep.low < sweep.high:
        raise ValueError(f"sweep.low must be below sweep.high; got {sweep.low} and {sweep.high}.")
    return np.linspace(sweep.low, sweep.high, sweep.points)


def _final_states(config: DictConfig):
    """A function from a chunk of parameter values to the final states they lead to."""
    model = make_model(config, config.sweep.model, config.sweep.regime)
    y0 = make_initial(config)
    place = _place(config.sweep.parameter, model)
    jumps = (config.withdrawal,) if config.sweep.regime == "withdrawn" else ()
    times = np.array([0.0, *jumps, config.horizon])
    method = solvers.Adaptive(rtol=config.solver.rtol, atol=config.solver.atol)
    initial = config.sweep.parameter.startswith("initial.")

    def field(t, y, value):
        return (model if initial else place(model, value))(t, y)

    def finals(values):
        def start(value):
            return place(y0, jnp.reshape(value, (1, 1, 1))) if initial else y0

        solution = solvers.simulate_ensemble(
            field, jax.vmap(start)(values), times, args=values, method=method, jump_times=jumps
        )
        end = jax.tree.map(lambda leaf: leaf[:, -1].reshape(len(values)), solution.ys)
        return {
            "delta": end.delta,
            "sigma": end.sigma,
            "alpha": end.alpha,
            "self_model": end.self_model,
            "steps": solution.steps,
            "success": solution.success,
        }

    return finals


def _place(parameter: str, model: schema.SigmaModel):
    """How to put a value of `parameter` into the model (or, for `initial.*`, into the state)."""
    if parameter == "r0":
        conditions = model.environment(0.0, None)
        alpha = schema.attention_equilibrium(model.rates, conditions)
        pressure = model.rates.epsilon_sigma * conditions.omega_sl
        unit = pressure / (model.rates.rho * alpha)
        return lambda m, value: eqx.tree_at(lambda m: m.environment.p_a, m, value * unit)
    room, _, name = parameter.partition(".")
    homes = {"rates": model.rates, "environment": model.environment, "initial": schema.State}
    fields = getattr(homes.get(room), "__dataclass_fields__", {})
    if name not in fields:
        raise ValueError(
            f"unknown sweep.parameter {parameter!r}; it is r0, or rates.X, environment.X or "
            "initial.X with X a field of Rates, Environment or State."
        )
    if room == "initial":
        return lambda y0, value: eqx.tree_at(lambda s: getattr(s, name), y0, value)
    return lambda m, value: eqx.tree_at(lambda m: getattr(getattr(m, room), name), m, value)
