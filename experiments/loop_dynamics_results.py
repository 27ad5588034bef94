"""What `experiments.loop_dynamics` measures: one look at every position, then all together."""

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from omegaconf import DictConfig
from tqdm import tqdm

from experiments.loop_dynamics import Places
from sigma_jax import bridge, vm
from sigma_jax.kernel import Ouro
from sigma_jax.stability import chi_squared_threshold

_DIFFERENCE = 1e-2
"""Step of the difference that a gradient is compared with, relative to the state."""


class Look(NamedTuple):
    """What is seen of one position."""

    jacobians: np.ndarray
    """Of each loop where the kernel takes it, of the last at the exit and where going on led."""
    gates: np.ndarray
    """Norm gate and Lyapunov gate of each."""
    end: np.ndarray
    """The state after all loops by the nodes alone."""
    gone_on: np.ndarray
    """The state where going on led from the exit."""
    own_gone_on: np.ndarray
    """The same of the kernel's own hidden state."""
    steps: np.ndarray
    """Relative steps ‖x′ − x‖ / ‖x‖ of the loops 2, 3, …, and of those gone on with."""
    own_steps: np.ndarray
    """The same of the kernel's own hidden states."""
    stand_ins: np.ndarray
    """Relative drift of each loop but the last against the next, at the state between them."""


@dataclass(frozen=True)
class Spectrum:
    """The true Jacobians of one loop, a row for each position, and what is proven of them."""

    eigenvalues: np.ndarray
    """[positions, d], complex."""
    norms: np.ndarray
    """‖J‖₂."""
    norm_gate: np.ndarray
    """Proven: every disturbance shrinks at once."""
    lyapunov_gate: np.ndarray
    """Proven: every disturbance dies out in the end."""

    @property
    def radii(self) -> np.ndarray:
        """Spectral radii."""
        return np.abs(self.eigenvalues).max(axis=1)


class Thresholds(NamedTuple):
    """Above which innovations a canary flags."""

    rate: float
    """The nominal rate, on steps as they should be."""
    normal: float
    """That would give this rate if residuals were normal."""
    counted: np.ndarray
    """Counted on further steps, [loops]."""


@dataclass(frozen=True)
class Results:
    """Everything that is reported; a row is a position."""

    ways: bridge.LoopWays
    looks: Look
    spectra: dict[str, Spectrum]
    """By what the Jacobians are of, in the order of `Look.jacobians`."""
    tokens: dict[str, np.ndarray]
    """Said by the kernel, at the end of the nodes' way, and where going on led, by both."""
    squared: dict[str, np.ndarray]
    """Normalised innovations squared, [samples, loops], by kind of sample."""
    thresholds: "list[Thresholds]"
    """One for each nominal rate."""
    rollout_error: float
    """Largest distance between the machine's rollout and the nodes' way, relative."""
    gradient_error: float
    """Between the gradient through a rollout and a difference, relative."""

    @property
    def depth(self) -> int:
        """How many loops the kernel has."""
        return self.ways.states.shape[1]


def measure(config: DictConfig, model: Ouro, abi: bridge.StateABI, places: Places) -> Results:
    """Look at every position, and at what canaries make of all places."""
    calibration, ways, strangers = (
        bridge.loop_ways(model, abi, part)
        for part in (places.calibration, places.positions, places.strangers)
    )
    residuals = calibration.residuals[: config.calibration].swapaxes(0, 1)
    further = calibration.residuals[config.calibration :].swapaxes(0, 1)
    canaries = [bridge.fit_canary(of_loop, rate=config.rates[0]) for of_loop in residuals]
    first = bridge.loop_nodes(model, abi, places.positions[0])
    looks, distances = [], []
    for row, ids in enumerate(tqdm(places.positions, desc="positions", delay=2.0)):
        loops = bridge.loop_nodes(model, abi, ids)
        looks.append(_look(config, loops, ways, row, canaries))
        if len(distances) < config.rollouts and _shapes(loops) == _shapes(first):
            distances.append(_rollout_error(loops, looks[-1].end))
    found = Look(*(np.stack(part) for part in zip(*looks, strict=True)))
    said = {
        "kernel": ways.hidden[:, -1],
        "nodes": abi.decode(jnp.asarray(found.end)),
        "gone on": abi.decode(jnp.asarray(found.gone_on)),
        "gone on, hidden": found.own_gone_on,
    }
    return Results(
        ways=ways,
        looks=found,
        spectra=_spectra(config, found),
        tokens={
            name: np.asarray(model.logits(jnp.asarray(h)).argmax(-1)) for name, h in said.items()
        },
        squared=_innovations(config, canaries, ways, strangers),
        thresholds=[_thresholds(canaries, further, rate) for rate in config.rates],
        rollout_error=max(distances),
        gradient_error=_gradient_error(first, config.seed),
    )


def _shapes(loops: bridge.LoopNodes) -> list[tuple[int, ...]]:
    """Nodes of the same shapes share what is compiled."""
    return [np.shape(leaf) for leaf in jax.tree.leaves(loops.last.context)]


def _look(
    config: DictConfig,
    loops: bridge.LoopNodes,
    ways: bridge.LoopWays,
    row: int,
    canaries: list[bridge.LoopCanary],
) -> Look:
    """Certify each loop where the kernel takes it, go on with the last, compare neighbours."""
    nodes, x = list(loops.nodes.values()), jnp.asarray(ways.states[row])
    further = bridge.more_loops(loops.last, x[-1], config.loops)
    own = bridge.more_own_loops(loops.last, jnp.asarray(ways.hidden[row, -1]), config.loops)
    steps = [
        bridge.certified_step(node, x[loop], x[loop + 1], canaries[loop])
        for loop, node in enumerate(nodes)
    ]
    # Of the last two only the Jacobian is looked at: the kernel has no loop to compare with.
    steps += [
        bridge.certified_step(loops.last, at, at, canaries[-1]) for at in (x[-1], further[-1])
    ]
    gates = [(step.certificate.norm_gate, step.certificate.lyapunov_gate) for step in steps]
    # What a hot swap looks at: the old node's drift and the new one's, where the new one begins.
    drifts = [
        (_drift(nodes[i], x[i + 1]), _drift(nodes[i + 1], x[i + 1])) for i in range(len(nodes) - 1)
    ]
    return Look(
        jacobians=np.stack([np.asarray(step.jacobian, np.float64) for step in steps]),
        gates=np.array(gates, bool),
        end=np.asarray(bridge.follow_nodes(loops)[-1]),
        gone_on=np.asarray(further[-1]),
        own_gone_on=np.asarray(own[-1]),
        steps=_relative_steps(ways.states[row], further),
        own_steps=_relative_steps(ways.hidden[row], own),
        stand_ins=np.array([vm.relative_drift(*both) for both in drifts], np.float64),
    )


@eqx.filter_jit
def _drift(node: bridge.LoopNode, x: jax.Array) -> jax.Array:
    return node.drift(x, jnp.zeros(0, x.dtype))


def _relative_steps(taken: np.ndarray, further: jax.Array) -> np.ndarray:
    way = np.concatenate([taken, np.asarray(further)]).astype(np.float64)
    return np.linalg.norm(np.diff(way, axis=0), axis=1) / np.linalg.norm(way[:-1], axis=1)


def _spectra(config: DictConfig, found: Look) -> dict[str, Spectrum]:
    last = found.jacobians.shape[1] - 1
    names = [f"loop {loop}" for loop in range(2, last + 1)]
    names += [f"loop {last} at the exit", f"loop {last} after {config.loops} more"]
    spectra = {}
    for place, name in enumerate(names):
        batch, gates = found.jacobians[:, place], found.gates[:, place]
        norms = np.linalg.norm(batch, 2, axis=(1, 2))
        spectra[name] = Spectrum(np.linalg.eigvals(batch), norms, gates[:, 0], gates[:, 1])
    return spectra


def _thresholds(
    canaries: list[bridge.LoopCanary], residuals: np.ndarray, rate: float
) -> Thresholds:
    counted = [
        float(bridge.calibrate_canary(canary, of_loop, rate=rate).threshold)
        for canary, of_loop in zip(canaries, residuals, strict=True)
    ]
    normal = chi_squared_threshold(residuals.shape[-1], rate)
    return Thresholds(float(rate), normal, np.array(counted))


def _innovations(
    config: DictConfig,
    canaries: list[bridge.LoopCanary],
    ways: bridge.LoopWays,
    strangers: bridge.LoopWays,
) -> dict[str, np.ndarray]:
    """Of steps as they are, of steps whose end is shoved in a random direction, of other text."""
    rng = np.random.default_rng(config.seed)
    observed = ways.states[:, 1:]

    def squared(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
        both = jnp.asarray(predicted), jnp.asarray(observed)
        each = [
            jax.vmap(canary.check)(*(states[:, loop] for states in both))[0]
            for loop, canary in enumerate(canaries)
        ]
        return np.stack(each, axis=1)

    found = {"as they are": squared(ways.predicted, observed)}
    for size in config.shoves:
        way = rng.normal(size=observed.shape)
        way /= np.linalg.norm(way, axis=-1, keepdims=True)
        shove = size * np.linalg.norm(observed, axis=-1, keepdims=True) * way
        shoved = observed + shove.astype(observed.dtype)
        found[f"shoved by {size:.0%}"] = squared(ways.predicted, shoved)
    return found | {"other text": squared(strangers.predicted, strangers.states[:, 1:])}


class _Rolled(NamedTuple):
    """What the state machine makes of a start."""

    end: jax.Array
    """Where it comes to, each loop in its turn, by swaps that are never refused."""
    loss: jax.Array
    """‖end − target‖²."""
    gradient: jax.Array
    """Of the loss, by the start."""


def _rolled(loops: bridge.LoopNodes, x: jax.Array) -> _Rolled:
    """The rollout from x; the target is where the first loop ends."""
    nodes = dict[str, vm.Node](loops.nodes)
    machine = vm.StateMachine(nodes=nodes, policy=None, monitor=None, swap_tolerance=float("inf"))
    return _compiled(machine, tuple(nodes), x, loops.start)


@eqx.filter_jit
def _compiled(
    machine: vm.StateMachine, names: tuple[str, ...], x: jax.Array, target: jax.Array
) -> _Rolled:
    swaps = [vm.Swap(step, name) for step, name in enumerate(names[1:], 1)]

    def loss(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        belief = 1e-2 * jnp.eye(machine.dim, dtype=x.dtype)
        key = jax.random.key(0)  # nothing is drawn: the nodes have no noise
        state = vm.initial_state(machine, x, belief, key=key, active=names[0])
        # A schedule needs a step that is known while this is compiled.
        state = eqx.tree_at(lambda state: state.step, state, np.zeros((), np.int32))
        run = vm.rollout(machine, state, steps=len(names), dt=1.0, swaps=swaps, trace=False)
        return jnp.sum((run.state.x - target) ** 2), run.state.x

    (value, end), gradient = jax.value_and_grad(loss, has_aux=True)(x)
    return _Rolled(end, value, gradient)


def _rollout_error(loops: bridge.LoopNodes, end: np.ndarray) -> float:
    reached = np.asarray(_rolled(loops, loops.start).end)
    return float(np.linalg.norm(reached - end) / np.linalg.norm(end))


def _gradient_error(loops: bridge.LoopNodes, seed: int) -> float:
    """Along the gradient and a random way in one, relative to the difference quotient there."""
    gradient = np.asarray(_rolled(loops, loops.start).gradient, np.float64)
    random = np.random.default_rng(seed).normal(size=gradient.shape)
    way = gradient / np.linalg.norm(gradient) + random / np.linalg.norm(random)
    step = _DIFFERENCE * float(jnp.linalg.norm(loops.start)) / np.linalg.norm(way)
    ahead, behind = (
        _rolled(loops, loops.start + jnp.asarray(sign * step * way, loops.start.dtype)).loss
        for sign in (1, -1)
    )
    slope = float(ahead - behind) / (2.0 * step)
    return float(abs(gradient @ way - slope) / abs(slope))
