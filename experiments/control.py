"""Policies fitted by gradient through the rollout: `python -m experiments.control`.

On an unstable linear node against the exact optimum, on a neural node against no control.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare

if TYPE_CHECKING:
    from jax import Array

    from sigma_jax import vm


@hydra.main(version_base="1.3", config_path="../conf", config_name="control")
@one_line_errors
def main(config: DictConfig) -> None:
    """Fit and compare; exit with 1 if a check fails."""
    prepare()
    output = Path(HydraConfig.get().runtime.output_dir)
    if not run_control(config, output):
        sys.exit(1)


def run_control(config: DictConfig, output: Path) -> bool:
    """Fit and compare every policy, write `output`, print the checks; True if they all passed."""
    from experiments import control_report

    started = time.perf_counter()
    _check(config)
    studies = [linear_study(config), neural_study(config)]
    checks = control_report.make_checks(studies)
    control_report.write_report(config, studies, checks, output)
    print(control_report.closing_text(studies, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in checks)


@dataclass(frozen=True)
class Evaluation:
    """A policy in use, on the noise that every policy of the study meets."""

    policy: Callable | None
    costs: np.ndarray
    """Mean stage cost of each trajectory after the burn-in, per unit of time: `[batch]`."""
    trace: "vm.Trace"
    largest_control: float
    diverged: int


@dataclass(frozen=True)
class Study:
    """Policies on one node: what they cost, and how the fitted ones were found."""

    title: str
    reference: str
    """The policy that the others are held against."""
    machine: "vm.StateMachine"
    evaluations: dict[str, Evaluation]
    losses: dict[str, np.ndarray]
    """By iteration, for each fitted policy."""
    reference_loss: float
    """What the reference has for a loss, on noise of the same kind."""


def linear_study(config: DictConfig) -> Study:
    """A linear and a neural policy on the linear node, against LQR."""
    import jax
    import jax.numpy as jnp

    from sigma_jax import vm

    chosen = config.linear
    matrices = [np.asarray(chosen[name], float) for name in ("matrix", "control_matrix")]
    node = vm.LinearNode(*matrices, noise=chosen.noise)
    cost = vm.StageCost(target=chosen.target, control_weight=config.control_weight)
    machine = vm.StateMachine(
        nodes={"linear": node},
        # Not tempered: the optimum of the node alone is the optimum then.
        controller=vm.Controller(limit=chosen.limit, tempered=False),
        cost=cost,
        monitor=None,
        policy=None,
    )
    key = jax.random.key(config.seed)
    size = (node.dim, node.control_dim)
    # Not from zero, where ‖u‖ in the trace has no derivative.
    gain = 0.01 * jax.random.normal(jax.random.fold_in(key, 5), size[::-1])
    start = vm.LinearPolicy(gain, jnp.zeros(size[0]), jnp.zeros(size[1]))
    return _study(
        "a linear node",
        "LQR",
        machine,
        {"LQR": vm.lqr_policy(node, cost, config.dt)},
        {
            "fitted linear policy": (start, config.fit.linear_policy),
            "fitted neural policy": (vm.neural_policy(*size, key=key), config.fit.neural_policy),
        },
        config,
        jax.random.fold_in(key, 1),
    )


def neural_study(config: DictConfig) -> Study:
    """A neural policy on the neural node, against no control."""
    import jax

    from sigma_jax import vm

    chosen = config.neural
    key = jax.random.key(config.seed)
    size = (chosen.dim, chosen.control_dim)
    node = vm.NeuralNode(
        *size, key=jax.random.fold_in(key, 2), width=chosen.width, decay=chosen.decay
    )
    machine = vm.StateMachine(
        nodes={"neural": node},
        controller=vm.Controller(limit=chosen.limit),
        cost=vm.StageCost(target=chosen.target, control_weight=config.control_weight),
        monitor=None,
        policy=None,
    )
    start = vm.neural_policy(*size, key=jax.random.fold_in(key, 3))
    return _study(
        "a neural node",
        "no control",
        machine,
        {"no control": None},
        {"fitted neural policy": (start, config.fit.on_neural_node)},
        config,
        jax.random.fold_in(key, 4),
    )


def _study(
    title: str,
    reference: str,
    machine: "vm.StateMachine",
    given: dict,
    to_fit: dict,
    config: DictConfig,
    key: "Array",
) -> Study:
    """Fit what is to be fitted, then run every policy on the same noise."""
    import jax

    training, unseen = (
        _states(machine, config[name].batch, jax.random.fold_in(key, place))
        for place, name in enumerate(("fit", "evaluate"))
    )
    policies, losses = dict(given), {}
    for name, (start, how) in to_fit.items():
        policies[name], losses[name] = _fitted(
            with_policy(machine, start), training, how, config, key, f"{title}, {name}"
        )
    evaluations = {
        name: _evaluated(with_policy(machine, policy), unseen, config)
        for name, policy in policies.items()
    }
    in_training = evaluations[reference].trace.cost[:, : config.fit.steps]
    loss = float(config.dt * in_training.sum(axis=1).mean())
    return Study(title, reference, machine, evaluations, losses, loss)


def with_policy(machine: "vm.StateMachine", policy) -> "vm.StateMachine":
    """The machine under another policy."""
    import equinox as eqx

    return eqx.tree_at(
        lambda machine: machine.controller.policy,
        machine,
        policy,
        is_leaf=lambda leaf: leaf is None,
    )


def _states(machine: "vm.StateMachine", batch: int, key: "Array") -> "vm.State":
    """States spread around the target by a standard normal."""
    import jax
    import jax.numpy as jnp

    from sigma_jax import vm

    spread, noise = jax.random.split(key)
    x = machine.cost.target + jax.random.normal(spread, (batch, machine.dim))
    return vm.initial_state(machine, x, 0.5 * jnp.eye(machine.dim), key=noise)


def _fitted(machine, state, how: DictConfig, config: DictConfig, key, description: str):
    """A fitted policy, and its losses."""
    import optax

    from sigma_jax.vm import careful_adam, fit_policy

    with tqdm(
        total=how.iterations, desc=description, delay=2.0, leave=False, mininterval=1.0
    ) as bar:

        def progress(done: int, loss: float) -> None:
            bar.set_postfix_str(f"loss {loss:.4g}", refresh=False)
            bar.update()

        fit = fit_policy(
            machine,
            state,
            steps=config.fit.steps,
            iterations=how.iterations,
            key=key,
            dt=config.dt,
            optimiser=careful_adam(optax.cosine_decay_schedule(how.rate, how.iterations)),
            progress=progress,
        )
    return fit.machine.controller.policy, np.asarray(fit.losses)


def _evaluated(machine, state, config: DictConfig) -> Evaluation:
    import jax

    from sigma_jax import vm

    run = vm.rollout(machine, state, steps=config.evaluate.steps, dt=config.dt)
    trace = jax.device_get(run.trace)
    return Evaluation(
        machine.controller.policy,
        trace.cost[:, config.evaluate.burn_in :].mean(axis=1),
        trace,
        float(trace.control_norm.max()),
        int((np.asarray(run.state.diverged) >= 0).sum()),
    )


def _check(config: DictConfig) -> None:
    counts = {"fit.batch": 2, "fit.steps": 1, "evaluate.batch": 2, "evaluate.burn_in": 0}
    counts |= {
        f"fit.{name}.iterations": 1 for name in ("linear_policy", "neural_policy", "on_neural_node")
    }
    for name, least in counts.items():
        value = OmegaConf.select(config, name)
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    if not 0 <= config.evaluate.burn_in < config.evaluate.steps:
        raise ValueError(
            f"evaluate.burn_in must lie in [0, evaluate.steps); got {config.evaluate.burn_in} of "
            f"{config.evaluate.steps} steps."
        )
    if config.fit.steps > config.evaluate.steps:
        raise ValueError(
            f"fit.steps must not exceed evaluate.steps; got {config.fit.steps} and "
            f"{config.evaluate.steps}."
        )


if __name__ == "__main__":
    main()
