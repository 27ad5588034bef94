"""The state machine against the reference's step in eager PyTorch, and what memory it takes."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import interleaved, matmul_peak, peer_module, row
from sigma_jax import vm

SIZES = ((4, 8), (8, 4096), (64, 16), (128, 16), (256, 1))
"""Dimension and batch."""
CONTROLS = 4
WIDTH = 64


def rows() -> Iterator[dict]:
    """Every comparison, as {case, peer, ratio, ours, theirs, unit}."""
    peak = matmul_peak()
    for dim, batch in SIZES:
        yield from against_the_peer(dim, batch, peak)
    yield from memory()


# Speed -----------------------------------------------------------------------------------------


def against_the_peer(dim: int, batch: int, peak: float) -> Iterator[dict]:
    """Steps × trajectories a second: controller, Riccati equation and trace on, float32."""
    vm_peer = peer_module("vm_peer")
    weights = random_weights(dim)
    peers = {
        jacobian: vm_peer.make_peer(
            dim, batch, CONTROLS, seed=0, weights=weights, jacobian=jacobian
        )
        for jacobian in vm_peer.LINEARISATIONS
    }
    machine = machine_of(weights, dim)
    x = peers["autograd"].x.numpy()
    start = vm.initial_state(machine, x, np.eye(dim, dtype=np.float32), key=jax.random.key(0))
    _require_agreement(machine, start, peers["autograd"])
    steps = max(64, int(1e6 / (batch * dim + 1e3)))
    few = max(3, steps // 30)

    def theirs(peer, threads):
        def run():
            peer.run(few, threads)

        return run

    runs = [theirs(peer, threads) for peer in peers.values() for threads in (1, 2)]
    ours, *seconds = interleaved(lambda: vm.rollout(machine, start, steps=steps), *runs, rounds=5)
    rate = batch * steps / ours
    for index, name in enumerate(("Jacobian by autograd", "Jacobian in closed form")):
        # The peer may use the number of threads that suits it.
        best = batch * few / min(seconds[2 * index : 2 * index + 2])
        yield row(f"d = {dim}, batch {batch}", f"PyTorch, {name}", rate, best, "steps/s")
    if dim >= 64:
        # The Jacobian, A Σ and Σ²; further products only where a bound fails.
        flops = rate * (2 * 2 * dim**3 + 2 * dim**2 * WIDTH)
        yield row(f"d = {dim}, batch {batch}", "peak of a product", flops, peak, "flop/s")


def _require_agreement(machine: vm.StateMachine, start: vm.State, peer) -> None:
    """Both compute one thing: the row of the first step, and the covariance after it."""
    one = vm.rollout(machine, start, steps=1)
    assert one.trace is not None
    x, sigma = peer.x.clone(), peer.sigma.clone()
    row = peer.step()
    ours = {
        "state_norm": one.trace.norm,
        "trace": one.trace.covariance_trace,
        "control_norm": one.trace.control_norm,
        "dilation": one.trace.dilation,
        "velocity_norm": one.trace.speed,
        "cost": one.trace.cost,
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values[:, 0], row[name].numpy(), rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(one.state.covariance, peer.sigma.numpy(), atol=1e-4)
    peer.x, peer.sigma, peer.steps_done = x, sigma, 0


def random_weights(dim: int) -> dict[str, np.ndarray]:
    """Nets under which a run of any length stays finite, as most random ones would not.

    With the drift's outer layer minus an eighth of the transpose of its inner one, x·f ≤ 0 for
    u = 0 and the Jacobian is about −I/2; the diffusion's small outer layer keeps the noise from
    growing faster than that.
    """
    rng = np.random.default_rng(0)

    def normal(rows: int, columns: int) -> np.ndarray:
        return rng.standard_normal((rows, columns), np.float32) / np.float32(np.sqrt(columns))

    inner = normal(WIDTH, dim + CONTROLS)
    layers = {
        "drift": (inner, np.float32(-0.125) * inner[:, :dim].T),
        "diffusion": (normal(WIDTH, dim), np.float32(0.1) * normal(dim, WIDTH)),
        "policy": (normal(WIDTH, dim), normal(CONTROLS, WIDTH)),
    }
    weights = {}
    for name, pair in layers.items():
        for part, matrix in zip(("inner", "outer"), pair, strict=True):
            weights[f"{name}_{part}"] = matrix
            weights[f"{name}_{part}_bias"] = np.zeros(matrix.shape[0], np.float32)
    return weights


def machine_of(weights: dict[str, np.ndarray], dim: int) -> vm.StateMachine:
    """A machine with the peer's networks."""
    key = jax.random.key(0)
    node = vm.NeuralNode(dim, CONTROLS, key=key, width=WIDTH)
    inner = weights["drift_inner"]
    node = eqx.tree_at(
        lambda node: (
            node.state_weights,
            node.control_weights,
            node.hidden_bias,
            node.output_weights,
            node.output_bias,
            node.diffusion_network,
        ),
        node,
        (
            inner[:, :dim],
            inner[:, dim:],
            weights["drift_inner_bias"],
            weights["drift_outer"],
            weights["drift_outer_bias"],
            network(node.diffusion_network, weights, "diffusion"),
        ),
    )
    policy = vm.neural_policy(dim, CONTROLS, key=key, width=WIDTH)
    machine = vm.StateMachine(
        nodes={"a": node}, controller=vm.Controller(network(policy, weights, "policy"))
    )
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, jnp.float32) if eqx.is_inexact_array_like(leaf) else leaf,
        machine,
    )


def network(like: eqx.nn.MLP, weights: dict[str, np.ndarray], name: str) -> eqx.nn.MLP:
    """An equinox network with weights of that name."""
    return eqx.tree_at(
        lambda mlp: [part for layer in mlp.layers for part in (layer.weight, layer.bias)],
        like,
        [
            jnp.asarray(weights[f"{name}_{part}"])
            for part in ("inner", "inner_bias", "outer", "outer_bias")
        ],
    )


# Memory ----------------------------------------------------------------------------------------


def memory() -> Iterator[dict]:
    """What the compiled programs ask for, beyond their arguments."""
    dim = 64
    machine = machine_of(random_weights(dim), dim)
    state = vm.initial_state(machine, np.zeros(dim, np.float32), np.eye(dim), key=jax.random.key(0))

    def forward(steps):
        def run(state):
            return vm.rollout(machine, state, steps=steps, trace=False).state.x

        return megabytes(run, state)

    yield row("d = 64, 10⁵ steps, no trace", "10³ steps", forward(100_000), forward(1_000), "MB")

    def gradient(state):
        def cost(machine):
            trace = vm.rollout(machine, state, steps=10_000).trace
            return jnp.sum(trace.cost if trace is not None else 0.0)

        return eqx.filter_grad(cost)(machine).nodes["a"].output_weights

    used = megabytes(gradient, state)
    yield row("reverse mode, d = 64, 10⁴ steps", "the goal of 4000 MB", used, 4000.0, "MB")


def megabytes(function, argument) -> float:
    """Temporary memory of the compiled function."""
    analysis: Any = jax.jit(function).lower(argument).compile().memory_analysis()
    return analysis.temp_size_in_bytes / 1e6
