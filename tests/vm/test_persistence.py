"""A run goes on bit for bit after a save and a load, here and in a new process, in both formats."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sigma_jax
from sigma_jax import vm
from sigma_jax.vm.checkpoints import load_checkpoint, save_checkpoint
from sigma_jax.vm.persistence import restore_state, restore_trace, snapshot_state
from sigma_jax.vm.snapshots import npy_bytes

HALF = 25
DTYPES = {4: np.float64, 8: np.float32, 40: np.float64}
DT = 0.05


@functools.cache
def machine(dim):
    """Two near copies; d = 4 with everything on, the others linear, without a policy."""
    key = jax.random.key(dim)
    if dim == 4:
        node = vm.NeuralNode(dim, 1, key=key, width=6, decay=1.0)
        near = eqx.tree_at(lambda n: n.output_bias, node, node.output_bias + 0.01)
        controller = vm.Controller(vm.neural_policy(dim, 1, key=key, width=6))
        policy = vm.InterventionPolicy(mode="intervene", budget=3, on_surprise="excite")
        return vm.StateMachine(nodes={"a": node, "b": near}, controller=controller, policy=policy)
    matrix = np.random.default_rng(dim).normal(size=(dim, dim)) / dim - np.eye(dim)
    matrix = matrix.astype(DTYPES[dim])
    nodes = {name: vm.LinearNode(scale * matrix) for name, scale in (("a", 1.0), ("b", 1.01))}
    return vm.StateMachine(nodes=nodes, policy=None)


def beginning(dim):
    rng = np.random.default_rng(dim)
    x = rng.normal(size=(3, dim)).astype(DTYPES[dim])
    covariance = 0.2 * np.eye(dim, dtype=DTYPES[dim])
    return vm.initial_state(machine(dim), x, covariance, key=jax.random.key(5))


def run(dim, state, steps):
    """A swap in the first half, and a jump that comes as a surprise at its very end."""
    swaps, jumps = [], []
    if int(state.step) == 0:
        jump = np.full(dim, 3.0, DTYPES[dim])
        swaps, jumps = [vm.Swap(10, "b")], [vm.Jump(HALF - 1, jump)]
    return vm.rollout(machine(dim), state, steps=steps, dt=DT, swaps=swaps, jumps=jumps)


@functools.cache
def runs(dim):
    """The whole of it, and its first half."""
    state = beginning(dim)
    return run(dim, state, 2 * HALF), run(dim, state, HALF)


def flat(tree):
    def numbers(leaf):
        typed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if typed else leaf)

    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): numbers(leaf) for path, leaf in leaves}


def assert_same_bits(first, second):
    assert set(first) == set(second)
    for name, a in first.items():
        b = second[name]
        assert (a.dtype, a.shape) == (b.dtype, b.shape), name
        assert a.tobytes() == b.tobytes(), name


def second_half(dim):
    """State and trace of the uninterrupted run from the middle on."""
    whole, _ = runs(dim)
    return flat((whole.state, jax.tree.map(lambda leaf: leaf[:, HALF:], whole.trace)))


def snapshot(dim=4, **changes):
    done = runs(dim)[1]
    kept = snapshot_state(
        machine(dim), done.state, base_seed=5, dt=DT, trace=done.trace, swaps=done.swaps
    )
    return dataclasses.replace(kept, **changes)


# Going on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", DTYPES)
def test_what_is_loaded_is_what_was_saved(dim, tmp_path):
    done = runs(dim)[1]
    vm.save_snapshot(tmp_path / "run.csf", snapshot(dim))
    loaded = vm.load_snapshot(tmp_path / "run.csf")
    assert_same_bits(flat(restore_state(machine(dim), loaded)), flat(done.state))
    assert_same_bits(flat(restore_trace(loaded)), flat(done.trace))
    save_checkpoint(tmp_path / "orbax", machine(dim), done.state)
    found = load_checkpoint(tmp_path / "orbax", machine(dim), like=done.state)
    assert_same_bits(flat(found), flat(done.state))


def test_the_state_that_is_saved_has_everything_to_lose():
    """An accepted swap, a surprise pending, money spent: a field left out would be missed."""
    state = runs(4)[1].state
    assert bool(np.asarray(state.active == 1).any())
    assert bool(np.asarray(state.surprised).all())
    whole = runs(4)[0]
    fields = {"active": 0, "surprised": False, "key": state.key[::-1], "step": jnp.int32(0)}
    for name, other in fields.items():
        changed = jnp.full_like(getattr(state, name), other) if np.isscalar(other) else other
        forgetful = eqx.tree_at(lambda s, name=name: getattr(s, name), state, changed)
        after = vm.rollout(machine(4), forgetful, steps=HALF, dt=DT).state.x
        assert not np.array_equal(after, whole.state.x), name


def test_a_new_process_goes_on_with_the_same_bits(tmp_path):
    """From snapshots and from checkpoints, of a small, a middling and a wide machine."""
    for dim in DTYPES:
        vm.save_snapshot(tmp_path / f"{dim}.csf", snapshot(dim))
        save_checkpoint(tmp_path / f"{dim}.orbax", machine(dim), runs(dim)[1].state)
    root = Path(sigma_jax.__file__).parents[1]
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "PYTHONPATH": os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, __file__, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for dim in DTYPES:
        for source in ("csf", "orbax"):
            with np.load(tmp_path / f"{dim}.{source}.npz") as found:
                assert_same_bits(dict(found), second_half(dim))


def main(directory):
    """Load each, go on, and keep what came of it."""
    for dim in DTYPES:
        loaded = {
            "csf": restore_state(machine(dim), vm.load_snapshot(directory / f"{dim}.csf")),
            "orbax": load_checkpoint(directory / f"{dim}.orbax", machine(dim)),
        }
        for source, state in loaded.items():
            after = run(dim, state, HALF)
            np.savez(directory / f"{dim}.{source}.npz", **flat((after.state, after.trace)))


# What a snapshot says ---------------------------------------------------------------------------


def test_the_published_members_say_what_happened():
    done, kept = runs(4)[1], snapshot()
    assert (kept.base_seed, kept.dt, kept.step) == (5, DT, HALF)
    assert kept.active_id == "b"
    assert [row["to"] for row in kept.trace["swaps"]] == ["b"] * 3
    assert all(row["accepted"] for row in kept.trace["swaps"])
    assert kept.trace["steps"] == []  # of three trajectories
    one = jax.tree.map(lambda leaf: leaf[0] if leaf.ndim else leaf, (done.state, done.trace))
    rows = snapshot_state(machine(4), one[0], base_seed=5, dt=DT, trace=one[1]).trace["steps"]
    assert [row["step"] for row in rows] == list(range(HALF))
    assert [row["norm"] for row in rows] == np.asarray(done.trace.norm[0]).tolist()
    assert [row["receipt.action"] for row in rows] == done.trace.receipt.action[0].tolist()
    json.dumps(rows, allow_nan=False)


def resting(matrix_b=None):
    """Linear machines: a has no drift, so that it collapses at rest, and no scale for a swap."""
    still = vm.LinearNode(np.zeros((3, 3)), noise=1e-4)
    other = vm.LinearNode(-np.eye(3) if matrix_b is None else matrix_b, noise=1e-4)
    built = vm.StateMachine(nodes={"a": still, "b": other}, monitor=None)
    state = vm.initial_state(built, np.ones((2, 3)) * 1e-3, 0.1 * np.eye(3), key=jax.random.key(0))
    return built, state


def test_numbers_that_json_lacks_are_null(tmp_path):
    """An infinite relative drift: from no drift at all to some."""
    built, state = resting()
    done = vm.rollout(built, state, steps=4, swaps=[vm.Swap(2, "b")])
    assert np.isinf(done.swaps.delta).all()
    kept = snapshot_state(built, done.state, base_seed=0, dt=DT, trace=done.trace, swaps=done.swaps)
    assert [row["delta"] for row in kept.trace["swaps"]] == [None, None]
    assert not any(row["accepted"] for row in kept.trace["swaps"])
    collapses = kept.trace["collapses"]
    assert {(row["trajectory"], row["step"]) for row in collapses} >= {(0, 0), (1, 0)}
    assert {row["trigger"] for row in collapses} == {"collapse"}
    vm.save_snapshot(tmp_path / "run.csf", kept)
    assert vm.load_snapshot(tmp_path / "run.csf").trace == kept.trace


def test_trajectories_on_different_nodes_are_told_apart():
    built, state = resting()
    state = eqx.tree_at(lambda s: s.active, state, jnp.array([1, 0], jnp.int32))
    kept = snapshot_state(built, state, base_seed=0, dt=DT)
    assert kept.active_id == "a,b"
    assert restore_trace(kept) is None
    assert_same_bits(flat(restore_state(built, kept)), flat(state))
    more = dataclasses.replace(built, nodes={"0": built.nodes["a"], **built.nodes})
    assert restore_state(more, kept).active.tolist() == [2, 1]


def foreign(**changes):
    """As another program writes it: the published members alone."""
    fields = {"active_id": "b", "base_seed": 7, "dt": DT, "step": 12, "x": np.full((2, 3), 0.5)}
    return vm.Snapshot(**fields | {"covariance": np.tile(np.eye(3), (2, 1, 1))} | changes)


@pytest.mark.parametrize("seed", [7, -1, 2**70 + 3])
def test_a_snapshot_of_another_program_gets_what_it_lacks(seed):
    built, _ = resting()
    state = restore_state(built, foreign(base_seed=seed))
    key = jax.random.key(seed % 2**32)
    fresh = vm.initial_state(built, np.full((2, 3), 0.5), np.eye(3), key=key, active="b")
    assert_same_bits(flat(state), flat(eqx.tree_at(lambda s: s.step, fresh, jnp.int32(12))))
    one = restore_state(built, foreign(x=np.ones(3), covariance=np.eye(3), base_seed=seed))
    assert_same_bits(flat(one.key), flat(key))


# What is refused --------------------------------------------------------------------------------


def edited(name, value):
    """Ours, with one of our own members replaced (None: gone)."""
    kept = snapshot_state(*resting(), base_seed=0, dt=DT)
    extra = {k: v for k, v in kept.extra.items() if k != f"sigma_jax/{name}"}
    return dataclasses.replace(
        kept, extra=extra | ({} if value is None else {f"sigma_jax/{name}": value})
    )


def npy(values, dtype):
    return npy_bytes(np.asarray(values, dtype))


def about(**changes):
    said = {"names": ["a", "b"], "key_implementation": "threefry2x32"} | changes
    return edited("state.json", json.dumps(said).encode())


REFUSED = {
    "another dimension": (
        lambda: foreign(x=np.ones((2, 4)), covariance=np.ones((2, 4, 4)) + np.eye(4)),
        r"x must be \[3\] or \[batch, 3\]",
    ),
    "two batch axes": (
        lambda: foreign(x=np.ones((1, 2, 3)), covariance=np.ones((1, 2, 3, 3)) + np.eye(3)),
        "x must be",
    ),
    "an unknown node": (lambda: foreign(active_id="v1"), "no node 'v1'; choose from a, b"),
    "several nodes": (lambda: foreign(active_id="a,b"), "no node 'a,b'"),
    "no covariance": (
        lambda: foreign(covariance=-np.tile(np.eye(3), (2, 1, 1))),
        "positive definite",
    ),
    "not symmetric": (
        lambda: foreign(covariance=np.eye(3) + np.triu(np.ones((2, 3, 3)), 1)),
        "symmetric",
    ),
    "a step beyond": (lambda: foreign(step=2**31), "step must lie in"),
    "no keys": (lambda: edited("key.npy", None), r"lacks sigma_jax/key\.npy"),
    "keys for three": (
        lambda: edited("key.npy", npy(np.ones((3, 2)), "u4")),
        "key must have shape",
    ),
    "keys of three words": (
        lambda: edited("key.npy", npy(np.ones((2, 3)), "u4")),
        "key is of no generator",
    ),
    "one number for keys": (lambda: edited("key.npy", npy(3, "u4")), "key must have shape"),
    "keys that are floats": (
        lambda: edited("key.npy", npy(np.ones((2, 2)), "f4")),
        "key must have",
    ),
    "an index below": (lambda: edited("active.npy", npy([0, -1], "i4")), "active must point into"),
    "an index above": (lambda: edited("active.npy", npy([0, 2], "i4")), "active must point into"),
    "a float index": (lambda: edited("active.npy", npy([0, 1], "f4")), "active must have"),
    "no array": (lambda: edited("spent.npy", b"3"), r"spent\.npy is not a NumPy array file"),
    "numbers for flags": (
        lambda: edited("surprised.npy", npy([0, 1], "i4")),
        "surprised must have",
    ),
    "no list of names": (lambda: about(names=3), "names of the nodes must be a list"),
    "names that are none": (lambda: about(names=[1, 2]), "names of the nodes must be a list"),
    "a node gone": (lambda: about(names=["old", "b"]), "no node 'old'"),
    "a foreign generator": (lambda: about(key_implementation="dice"), "key is of no generator"),
    "no generator": (lambda: about(key_implementation=None), "key_implementation must be text"),
    "no JSON": (lambda: edited("state.json", b"{"), "is not UTF-8 JSON"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_snapshots_that_do_not_fit_are_refused(case):
    build, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        restore_state(resting()[0], build())


def test_a_name_that_is_not_in_use_may_be_gone():
    kept = snapshot_state(*resting(), base_seed=0, dt=DT)
    lone = vm.StateMachine(nodes={"a": resting()[0].nodes["a"]})
    assert restore_state(lone, kept).active.tolist() == [0, 0]


def test_a_trace_with_a_column_missing_is_refused():
    kept = snapshot()
    del kept.extra["sigma_jax/trace/receipt.reason.npy"]  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"lacks sigma_jax/trace/receipt\.reason\.npy"):
        restore_trace(kept)


def test_double_precision_is_not_rounded_behind_your_back(tmp_path):
    built, state = resting()
    save_checkpoint(tmp_path / "orbax", built, state)
    kept = snapshot_state(built, state, base_seed=0, dt=DT)
    with jax.enable_x64(False):
        for load in (
            lambda: restore_state(built, kept),
            lambda: load_checkpoint(tmp_path / "orbax", built),
        ):
            with pytest.raises(ValueError, match="float64, which JAX would round: set jax_enable"):
                load()


# Orbax ------------------------------------------------------------------------------------------


def test_checkpoints_are_numbered_by_step(tmp_path, monkeypatch):
    """A relative path; an older step on demand; what is there is not written again."""
    monkeypatch.chdir(tmp_path)
    built, state = resting()
    later = eqx.tree_at(lambda s: (s.step, s.x), state, (jnp.int32(9), state.x + 1.0))
    save_checkpoint("orbax", built, state)
    save_checkpoint("orbax", built, later)
    assert_same_bits(flat(load_checkpoint("orbax", built)), flat(later))
    assert_same_bits(flat(load_checkpoint("orbax", built, step=0)), flat(state))
    for again in (state, later):
        with pytest.raises(ValueError, match="orbax has a checkpoint of step 9 already"):
            save_checkpoint("orbax", built, again)
    with pytest.raises(FileNotFoundError, match=r"has not a checkpoint of step 4; there are steps"):
        load_checkpoint("orbax", built, step=4)
    with pytest.raises(FileNotFoundError, match="there is no directory"):
        load_checkpoint("elsewhere", built)
    assert not Path("elsewhere").exists()
    Path("empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty has not a checkpoint"):
        load_checkpoint("empty", built)


def test_checkpoints_that_do_not_fit_are_refused(tmp_path):
    built, state = resting()
    save_checkpoint(tmp_path, built, state)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (state.x, state.covariance))
    narrow = eqx.tree_at(lambda s: (s.x, s.covariance), state, single)
    with pytest.raises(ValueError, match=r"x of the checkpoint is \(2, 3\) of float64; like has"):
        load_checkpoint(tmp_path, built, like=narrow)
    with pytest.raises(ValueError, match=r"x must be \[4\] or \[batch, 4\]; got \(2, 3\)"):
        load_checkpoint(tmp_path, machine(4))
    lone = vm.StateMachine(nodes={"b": built.nodes["b"]})
    with pytest.raises(ValueError, match="no node 'a'"):
        load_checkpoint(tmp_path, lone)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
