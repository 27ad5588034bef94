"""The state machine, watched: `python -m experiments.rollout`.

A batch of trajectories with an accepted swap, a refused one and a jump; a second batch that starts
collapsed. Replays and certifies the run, and writes a report with its own checks.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare

if TYPE_CHECKING:
    from sigma_jax import vm


@hydra.main(version_base="1.3", config_path="../conf", config_name="rollout")
@one_line_errors
def main(config: DictConfig) -> None:
    """Run the machine and exit with 1 if a check fails."""
    prepare()
    output = Path(HydraConfig.get().runtime.output_dir)
    if not run_rollout(config, output):
        sys.exit(1)


def run_rollout(config: DictConfig, output: Path) -> bool:
    """Compute every run, write `output`, print the checks; True if they all passed."""
    from experiments import rollout_report

    started = time.perf_counter()
    _check(config)
    run = simulate(config)
    collapses = collapse_runs(config)
    save(config, run, output / "snapshot.csf")
    facts = rollout_report.gather(run, *collapses, output / "snapshot.csf")
    checks = rollout_report.make_checks(config, facts)
    rollout_report.write_report(config, facts, checks, output)
    print(rollout_report.closing_text(facts, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in checks)


@dataclass(frozen=True)
class Run:
    """The main run: where it started and ended, its trace, and how far its replays differ."""

    machine: "vm.StateMachine"
    swaps: list["vm.Swap"]
    jumps: list["vm.Jump"]
    start: "vm.State"
    end: "vm.State"
    trace: "vm.Trace"
    record: "vm.SwapRecord"
    replay_differs: int
    """Values that another run in the same chunks has otherwise."""
    unwatched_differs: int
    """Values that a run without the policy, in one call, has otherwise."""


def simulate(config: DictConfig) -> Run:
    """The main run in chunks, again in chunks, and once in one call without the policy."""
    import equinox as eqx

    from sigma_jax import vm

    machine, start = build(config)
    swaps, jumps = schedule(config, machine)
    done = run_chunks(machine, start, config, swaps, jumps, "rollout")
    again = run_chunks(machine, start, config, swaps, jumps, "replay")
    bare = eqx.tree_at(
        lambda machine: machine.policy, machine, None, is_leaf=lambda leaf: leaf is None
    )
    alone = vm.rollout(bare, start, steps=config.steps, dt=config.dt, swaps=swaps, jumps=jumps)
    assert alone.trace is not None
    # What the policy itself writes down is not there without one.
    columns = [name for name in vars(done[1]) if name not in ("receipt", "proximity")]
    common = [(getattr(done[1], name), getattr(alone.trace, name)) for name in columns]
    unwatched = count_differences((done[0], done[2]), (alone.state, alone.swaps))
    return Run(
        machine,
        swaps,
        jumps,
        start,
        *done,
        replay_differs=count_differences(done, again),
        unwatched_differs=unwatched + sum(count_differences(*pair) for pair in common),
    )


def build(config: DictConfig) -> tuple["vm.StateMachine", "vm.State"]:
    """The machine with the nodes a, b and c, and its states at step 0."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from sigma_jax import vm

    keys = jax.random.split(jax.random.key(config.seed), 6)
    # Compiled as one: op by op it takes longer than the run.
    nodes, policy = eqx.filter_jit(_networks)(keys, config)
    machine = vm.StateMachine(
        nodes=nodes, controller=vm.Controller(policy), swap_tolerance=config.swap_tolerance
    )
    x = jax.random.normal(keys[4], (config.batch, config.dim))
    return machine, vm.initial_state(
        machine, x, config.covariance * jnp.eye(config.dim), key=keys[5], active="a"
    )


def _networks(keys, config: DictConfig):
    """The nodes a, b near a, and c, a stranger; and a policy if there is a control."""
    import jax

    from sigma_jax import vm

    size, width, decay = (config.dim, config.control_dim), config.node.width, config.node.decay
    own = vm.NeuralNode(*size, key=keys[0], width=width, decay=decay)
    leaves, structure = jax.tree.flatten(own)
    noise = jax.random.split(keys[1], len(leaves))
    near = [
        leaf * (1.0 + config.near * jax.random.normal(key, leaf.shape, leaf.dtype))
        if isinstance(leaf, jax.Array)
        else leaf
        for leaf, key in zip(leaves, noise, strict=True)
    ]
    other = vm.NeuralNode(*size, key=keys[2], width=width, decay=decay * config.stranger_decay)
    policy = vm.neural_policy(*size, key=keys[3]) if config.control_dim else None
    return {"a": own, "b": jax.tree.unflatten(structure, near), "c": other}, policy


def schedule(
    config: DictConfig, machine: "vm.StateMachine"
) -> tuple[list["vm.Swap"], list["vm.Jump"]]:
    """The proposals and the shoves, at their steps."""
    from sigma_jax import vm

    swaps = [vm.Swap(int(swap.at * config.steps), swap.to) for swap in config.swaps]
    for swap in swaps:
        machine.index(swap.to)
    random = np.random.default_rng(config.seed)
    jumps = []
    for jump in config.jumps:
        direction = random.normal(size=config.dim)
        by = jump.length * direction / np.linalg.norm(direction)
        jumps.append(vm.Jump(int(jump.at * config.steps), by))
    return swaps, jumps


def run_chunks(
    machine: "vm.StateMachine",
    state: "vm.State",
    config: DictConfig,
    swaps: Sequence["vm.Swap"],
    jumps: Sequence["vm.Jump"],
    name: str,
) -> tuple["vm.State", "vm.Trace", "vm.SwapRecord"]:
    """The whole run, a chunk a compiled call, with progress: final state, trace, swaps."""
    import jax

    from sigma_jax import vm

    traces, records = [], []
    with tqdm(total=config.steps, desc=name, unit="step", delay=2.0, leave=False) as bar:
        for first in range(0, config.steps, config.chunk):
            last = min(first + config.chunk, config.steps)
            done = vm.rollout(
                machine,
                state,
                steps=last - first,
                dt=config.dt,
                swaps=[swap for swap in swaps if first <= swap.step < last],
                jumps=[jump for jump in jumps if first <= jump.step < last],
            )
            # Fetched: spread over the devices it would make the next chunk another program.
            state = jax.device_get(done.state)
            traces.append(jax.device_get(done.trace))
            records.append(jax.device_get(done.swaps))
            bar.update(last - first)
    return state, joined(traces), joined(records)


def joined(parts: Sequence[Any]) -> Any:
    """Parts of a trace or a record of swaps, one after the other in time."""
    import jax

    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=-1), *parts)


def save(config: DictConfig, run: Run, path: Path) -> None:
    """Write where the run ended, to go on from; the trace has a file of its own."""
    from sigma_jax import vm

    path.parent.mkdir(parents=True, exist_ok=True)
    snapshot = vm.snapshot_state(
        run.machine, run.end, base_seed=config.seed, dt=config.dt, swaps=run.record
    )
    vm.save_snapshot(path, snapshot)


def count_differences(one: Any, other: Any) -> int:
    """How many values differ between two trees of equal shapes; NaN differs from everything."""
    import jax
    import jax.numpy as jnp

    def plain(leaf):
        keys = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if keys else leaf)

    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return int(sum(np.sum(plain(a) != plain(b)) for a, b in pairs))


def collapse_runs(config: DictConfig) -> tuple["vm.Rollout", "vm.Rollout"]:
    """A run that starts collapsed, from the same seed: without a budget for help, and with one.

    The node turns one plane and moves nothing else: at the target, with an isotropic Σ, which a
    turn leaves isotropic, all four signs of a collapse hold, and without help they go on to.
    """
    import jax
    import jax.numpy as jnp

    from sigma_jax import vm

    chosen = config.collapse
    matrix = np.zeros((chosen.dim, chosen.dim))
    matrix[0, 1], matrix[1, 0] = -chosen.turn, chosen.turn
    node = vm.LinearNode(matrix, noise=chosen.noise)

    def run(budget: int) -> "vm.Rollout":
        policy = vm.InterventionPolicy(
            mode="intervene",
            budget=jnp.asarray(budget, jnp.int32),  # an array: both runs are one program
            strength=chosen.strength,
        )
        machine = vm.StateMachine(nodes={"turning": node}, policy=policy)
        state = vm.initial_state(
            machine,
            jnp.zeros((config.batch, chosen.dim)),
            chosen.covariance * jnp.eye(chosen.dim),
            key=jax.random.key(config.seed + 1),
        )
        return vm.rollout(machine, state, steps=chosen.steps, dt=config.dt)

    return run(0), run(chosen.budget)


def _check(config: DictConfig) -> None:
    """Refuse what nothing further down would, or only after minutes."""
    whole = {"dim": 1, "control_dim": 0, "batch": 1, "steps": 1, "chunk": 1}
    whole |= {"collapse.dim": 5, "collapse.steps": 1, "collapse.budget": 1}
    for name, least in whole.items():
        value = OmegaConf.select(config, name)
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}.")
    for name in ("near", "stranger_decay", "collapse.turn"):
        _number(name, OmegaConf.select(config, name))
    for name in ("swaps", "jumps"):
        steps = [int(_number(f"{name}.at", event.at, 1.0) * config.steps) for event in config[name]]
        if len(set(steps)) < len(steps):
            raise ValueError(f"{name} asks twice for one step; got the steps {steps}.")
    for jump in config.jumps:
        _number("jumps.length", jump.length)


def _number(name: str, value: Any, below: float = np.inf) -> float:
    if not isinstance(value, int | float) or not 0.0 <= value < below:
        raise ValueError(f"{name} must be a number in [0, {below:g}); got {value!r}.")
    return value


if __name__ == "__main__":
    main()
