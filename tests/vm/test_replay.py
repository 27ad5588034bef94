"""Gate D: a trajectory is a function of its key, its state and the schedule, and of nothing else.

Random nodes, seeds and schedules; values are drawn at fixed shapes, so that little is compiled.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import sigma_jax
from sigma_jax import vm
from sigma_jax.solvers import Observation

CHUNKS, CHUNK = 3, 15
STEPS = CHUNKS * CHUNK
seeds = st.integers(0, 2**32 - 1)
no_shrinking = (Phase.explicit, Phase.generate)  # a smaller seed says no more


@functools.cache
def template(dim):
    node = vm.NeuralNode(dim, 1, key=jax.random.key(0), width=6, decay=0.5)
    return node, vm.neural_policy(dim, 1, key=jax.random.key(1), width=6)


def neural_machine(seed, dim=4, dtype=np.float64):
    """Everything on: control, partial observation, monitor, and a policy that intervenes.

    Random weights; b is a near copy of a, and c a stranger.
    """
    rng = np.random.default_rng(seed)

    def drawn(leaf):
        if not eqx.is_array(leaf):
            return leaf
        size = 1.5 / np.sqrt(leaf.shape[-1]) if leaf.ndim == 2 else 0.3
        return jnp.asarray(size * rng.normal(size=leaf.shape), dtype)

    decaying = [
        eqx.tree_at(lambda n: n.decay, jax.tree.map(drawn, template(dim)[0]), jnp.ones((), dtype))
        for _ in "ac"
    ]
    copied = jax.tree.map(lambda leaf: leaf * 1.01 if eqx.is_array(leaf) else leaf, decaying[0])
    return vm.StateMachine(
        nodes=dict(zip("abc", (decaying[0], copied, decaying[1]), strict=True)),
        controller=vm.Controller(jax.tree.map(drawn, template(dim)[1])),
        observation=Observation(jnp.eye(dim, dtype=dtype)[: dim // 2], jnp.asarray(0.5, dtype)),
        policy=vm.InterventionPolicy(mode="intervene", budget=3, on_surprise="excite"),
    )


def linear_machine(seed, dim):
    """Without a policy or a monitor: little to compile."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(dim, dim)) / np.sqrt(dim) - 1.5 * np.eye(dim)
    nodes = {
        name: vm.LinearNode(scale * matrix, noise=rng.uniform(0.1, 1.0, dim))
        for name, scale in (("a", 1.0), ("b", 1.1), ("c", -0.2))
    }
    return vm.StateMachine(nodes=nodes, policy=None, monitor=None)


def start(machine, seed, batch, dtype=np.float64, first=0):
    rng = np.random.default_rng(seed)
    dim = machine.dim
    root = rng.normal(size=(batch, dim, dim)) / dim
    covariance = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(dim)
    state = vm.initial_state(
        machine,
        rng.normal(size=(batch, dim)).astype(dtype),
        covariance.astype(dtype),
        key=jax.random.key(seed),
    )
    active = jnp.asarray(rng.integers(0, 3, batch), jnp.int32)
    return eqx.tree_at(lambda s: (s.active, s.step), state, (active, jnp.int32(first)))


def schedule(data, first):
    """One swap and one jump in each chunk, at any of its steps."""
    swaps, jumps = [], []
    for chunk in range(CHUNKS):
        steps = st.integers(first + chunk * CHUNK, first + (chunk + 1) * CHUNK - 1)
        swaps.append(vm.Swap(data.draw(steps), data.draw(st.sampled_from("abc"))))
        jumps.append((data.draw(steps), data.draw(st.sampled_from([0.0, 0.5, 20.0]))))
    return swaps, jumps


def as_jumps(machine, jumps):
    return [vm.Jump(step, np.full(machine.dim, size)) for step, size in jumps]


def lanes(tree, index):
    """Part of a batch; the common clock has no batch."""
    return jax.tree.map(lambda leaf: leaf[index] if leaf.ndim else leaf, tree)


def assert_same_bits(first, second):
    pairs = zip(jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(second), strict=True)
    for (path, a), b in pairs:
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape), jax.tree_util.keystr(path)
        assert a.tobytes() == b.tobytes(), jax.tree_util.keystr(path)


def in_chunks(machine, state, swaps, jumps):
    parts = []
    for chunk in range(CHUNKS):
        own = slice(chunk, chunk + 1)
        parts.append(vm.rollout(machine, state, steps=CHUNK, swaps=swaps[own], jumps=jumps[own]))
        state = parts[-1].state
    trace = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, -1), *[p.trace for p in parts])
    fields = ("from_node", "delta", "accepted")
    decided = {
        name: jnp.concatenate([getattr(part.swaps, name) for part in parts], -1) for name in fields
    }
    record = vm.SwapRecord(
        *(jnp.concatenate([getattr(p.swaps, n) for p in parts]) for n in ("step", "to_node")),
        **decided,
    )
    return vm.Rollout(state, trace, record)


def assert_replays(machine, state, swaps, jumps):
    """The whole, the same again, and in chunks: all of the same bits."""
    whole = vm.rollout(machine, state, steps=STEPS, swaps=swaps, jumps=jumps)
    assert_same_bits(whole, vm.rollout(machine, state, steps=STEPS, swaps=swaps, jumps=jumps))
    assert_same_bits(whole, in_chunks(machine, state, swaps, jumps))
    return whole


@given(data=st.data(), node_seed=seeds, seed=seeds, first=st.integers(0, 10**6))
@settings(max_examples=20, phases=no_shrinking)
def test_a_trajectory_replays_however_it_is_run(data, node_seed, seed, first):
    machine = neural_machine(node_seed)
    state = start(machine, seed, 5, first=first)
    swaps, jumps = schedule(data, first)
    options = {"steps": STEPS, "swaps": swaps, "jumps": as_jumps(machine, jumps)}
    whole = assert_replays(machine, state, swaps, options["jumps"])
    index = data.draw(st.integers(0, 4))
    unbatched = vm.rollout(machine, lanes(state, index), **options)
    assert_same_bits(lanes((whole.state, whole.trace), index), (unbatched.state, unbatched.trace))
    record = (unbatched.swaps.from_node, unbatched.swaps.delta, unbatched.swaps.accepted)
    kept = (whole.swaps.from_node, whole.swaps.delta, whole.swaps.accepted)
    assert_same_bits(lanes(kept, index), record)
    order = np.array(data.draw(st.permutations(range(5))))
    shuffled = vm.rollout(machine, lanes(state, order), **options)
    assert_same_bits(lanes(whole.trace, order), shuffled.trace)
    others = start(machine, seed ^ 1, 5, first=first)
    among = jax.tree.map(
        lambda own, other: jnp.concatenate([own[:1], other[1:]]) if own.ndim else own, state, others
    )
    assert_same_bits(lanes(whole.trace, 0), lanes(vm.rollout(machine, among, **options).trace, 0))


@given(data=st.data(), node_seed=seeds, seed=seeds, first=st.integers(0, 10**6))
@settings(max_examples=4, phases=no_shrinking)
@pytest.mark.slow
def test_wide_trajectories_replay(data, node_seed, seed, first):
    """d = 40: each is a loop of its own; in single precision."""
    machine = neural_machine(node_seed, 40, np.float32)
    state = start(machine, seed, 3, np.float32, first)
    swaps, jumps = schedule(data, first)
    assert_replays(machine, state, swaps, as_jumps(machine, jumps))


@pytest.mark.parametrize("dim", [9, 33])
@given(data=st.data(), node_seed=seeds, seed=seeds, first=st.integers(0, 10**6))
@settings(max_examples=5, phases=no_shrinking)
def test_linear_machines_replay(dim, data, node_seed, seed, first):
    """Sizes beyond those at which products of matrices, and loops, are taken otherwise."""
    machine = linear_machine(node_seed, dim)
    state = start(machine, seed, 3, first=first)
    swaps, jumps = schedule(data, first)
    whole = assert_replays(machine, state, swaps, as_jumps(machine, jumps))
    options = {"steps": STEPS, "swaps": swaps, "jumps": as_jumps(machine, jumps)}
    one = vm.rollout(machine, lanes(state, slice(1, 2)), **options)
    assert_same_bits(lanes(whole.trace, slice(1, 2)), one.trace)


def test_the_batch_size_changes_no_bit():
    """20 lanes in one batch of a loop, and in two."""
    machine = linear_machine(3, 4)
    state = start(machine, 4, 20)
    options = {"steps": STEPS, "swaps": [vm.Swap(3, "b")], "jumps": [vm.Jump(30, np.ones(4))]}
    together = vm.rollout(machine, state, **options)
    assert_same_bits(together, vm.rollout(machine, state, batch_size=16, **options))


def test_a_change_of_anything_that_matters_changes_the_trace():
    """So that the comparisons above can fail."""
    machine = neural_machine(3)
    state = start(machine, 4, 5)
    options = {
        "steps": STEPS,
        "swaps": [vm.Swap(step, "a") for step in (3, 20, 44)],
        "jumps": [vm.Jump(step, np.full(4, 0.5)) for step in (3, 20, 44)],
    }
    run = vm.rollout(machine, state, **options).trace.norm
    key = eqx.tree_at(lambda s: s.key, state, state.key[::-1])
    nudged = eqx.tree_at(lambda s: s.x, state, jnp.nextafter(state.x, jnp.inf))
    for changed in (key, nudged):
        assert not np.array_equal(run, vm.rollout(machine, changed, **options).trace.norm)
    # On another clock the schedule moves along, and the noise is that of other steps.
    clock = eqx.tree_at(lambda s: s.step, state, jnp.int32(64))
    options |= {
        name: [event._replace(step=event.step + 64) for event in options[name]]
        for name in ("swaps", "jumps")
    }
    assert not np.array_equal(run, vm.rollout(machine, clock, **options).trace.norm)


# Several devices ------------------------------------------------------------------------------


def on_devices():
    """Five lanes of a small and three of a wide machine."""
    found = {}
    for dim, batch, build in ((4, 5, neural_machine), (40, 3, linear_machine)):
        machine = build(7, dim)
        state = start(machine, 8, batch)
        run = vm.rollout(
            machine,
            state,
            steps=STEPS,
            swaps=[vm.Swap(5, "b"), vm.Swap(20, "c"), vm.Swap(44, "a")],
            jumps=[vm.Jump(step, np.full(dim, 3.0)) for step in (0, 16, 30)],
        )
        found |= {f"{dim}.x": run.state.x, f"{dim}.covariance": run.state.covariance}
        for number, leaf in enumerate(jax.tree.leaves((run.trace, run.swaps))):
            found[f"{dim}.{number}"] = leaf
    return {name: np.asarray(leaf) for name, leaf in found.items()}


def test_two_devices_give_the_bits_of_one(tmp_path):
    root = Path(sigma_jax.__file__).parents[1]
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    out = tmp_path / "two.npz"
    command = [sys.executable, __file__, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with np.load(out) as two:
        assert two["devices"] == 2
        assert_same_bits(on_devices(), {name: two[name] for name in two if name != "devices"})


if __name__ == "__main__":
    np.savez(sys.argv[1], devices=len(jax.devices()), **on_devices())
