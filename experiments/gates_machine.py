"""What gates D and E run: the kernel's last loop as a node of the state machine, with stand-ins.

As a program, `python -m experiments.gates_machine FILE`, it goes on with a saved run in a process
of its own, and prints the SHA-256 of what came of it: FILE is the JSON that `replays` writes.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.launch import prepare

if TYPE_CHECKING:
    from sigma_jax import vm
    from sigma_jax.bridge import StateABI
    from sigma_jax.grounding import ProposedSwap, Replay
    from sigma_jax.kernel import Ouro

ROOT = Path(__file__).parents[1]
STEPS, DT, NOISE, COVARIANCE, BATCH = 8, 0.25, 0.05, 0.01, 16
STRANGERS = ("network", "shuffled")
_PROMPT_TOKENS = 16
_SPREAD = 0.1
"""Of the starting states, over the spread of the numbers of one."""


@dataclass(frozen=True)
class Run:
    """All that the runs depend on, so that another process can make them again."""

    kernel: str
    adapter: str | None
    abi: str
    ids: tuple[int, ...]
    """Of a prompt, over whose last token the kernel loops."""
    seed: int


def load_kernel(source: str, adapter: str | None = None, dtype: Any = None) -> "Ouro":
    """A kernel that travels with the package, by its name, or of a directory or hub."""
    from sigma_jax import kernel

    model = kernel.load_model(kernel_source(source), dtype=dtype)
    return model if adapter is None else kernel.load_adapter(model, adapter)


def kernel_source(source: str) -> str | Path:
    """Where the kernel of this name is."""
    from sigma_jax import kernel

    embedded = source in ("kernel-mini", "kernel-mini-2")
    return kernel.kernel_mini_directory(source) if embedded else source


def build(run: Run) -> "tuple[vm.StateMachine, vm.State]":
    """The machine and a batch of states at step 0, the kernel active.

    It may be replaced by itself in bfloat16, by itself heard through maps a hundredth and a fifth
    off, and by two strangers: the same loop with its weights shuffled, and a random network.
    """
    import jax
    import jax.numpy as jnp

    from sigma_jax import bridge, vm

    keys = jax.random.split(jax.random.key(run.seed), 6)
    abi = bridge.load_abi(run.abi)
    model = load_kernel(run.kernel, run.adapter)
    reduced = load_kernel(run.kernel, run.adapter, jnp.bfloat16)
    ids = run.ids[-_PROMPT_TOKENS:]

    def loop(model: "Ouro", abi: "StateABI") -> "vm.Node":
        return bridge.loop_nodes(model, abi, ids, noise=NOISE).last

    nodes = {
        "kernel": loop(model, abi),
        "bfloat16": loop(reduced, abi),
        "abi_near": loop(model, _changed(abi, _off(0.01), keys[0])),
        "abi_far": loop(model, _changed(abi, _off(0.2), keys[1])),
        "shuffled": loop(_changed(model, _shuffled, keys[2]), abi),
        "network": vm.NeuralNode(abi.dim, 0, key=keys[3], decay=1.0),
    }
    machine = vm.StateMachine(nodes=nodes, policy=None)
    start = bridge.loop_nodes(model, abi, ids).start.astype(jnp.result_type(float))
    away = jnp.std(start) * jax.random.normal(keys[4], (BATCH, abi.dim), start.dtype)
    state = vm.initial_state(
        machine,
        start + _SPREAD * away,
        COVARIANCE * jnp.eye(abi.dim, dtype=start.dtype),
        key=keys[5],
        active="kernel",
    )
    return machine, jax.device_get(state)


def _changed(tree: Any, change: Callable[[Any, Any], Any], key: Any) -> Any:
    import jax

    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    return structure.unflatten([change(k, leaf) for k, leaf in zip(keys, leaves, strict=True)])


def _off(size: float) -> Callable[[Any, Any], Any]:
    import jax
    import jax.numpy as jnp

    def change(key: Any, leaf: Any) -> Any:
        scale = jnp.asarray(size, leaf.dtype) * jnp.std(leaf)
        return leaf + scale * jax.random.normal(key, leaf.shape, leaf.dtype)

    return change


def _shuffled(key: Any, leaf: Any) -> Any:
    import jax

    return jax.random.permutation(key, leaf.ravel()).reshape(leaf.shape)


def proposed_swaps(machine: "vm.StateMachine", state: "vm.State") -> "list[ProposedSwap]":
    """Every candidate proposed to every trajectory, and its relative drift by other means."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from sigma_jax import vm
    from sigma_jax.grounding import ProposedSwap

    @eqx.filter_jit
    def drifts(node: "vm.Node", x: Any) -> Any:
        return jax.vmap(lambda x: node.drift(x, jnp.zeros(0, x.dtype)))(x)

    x = jnp.asarray(state.x)
    of = {name: np.asarray(drifts(node, x), np.float64) for name, node in machine.nodes.items()}
    found = []
    for name in machine.names:
        if name == "kernel":
            continue
        record = go_on(machine, state, [vm.Swap(0, name)]).swaps
        away = np.linalg.norm(of["kernel"] - of[name], axis=1)
        again = away / np.linalg.norm(of["kernel"], axis=1)
        for row in range(BATCH):
            delta, accepted = (np.asarray(a)[row, 0] for a in (record.delta, record.accepted))
            numbers = (float(delta), float(again[row]), bool(accepted), machine.swap_tolerance)
            found.append(ProposedSwap(name, name in STRANGERS, *numbers))
    return found


def go_on(machine: "vm.StateMachine", state: "vm.State", swaps: Sequence["vm.Swap"]) -> Any:
    """The next steps of a run, fetched: left on the devices they would make another program."""
    import jax

    from sigma_jax import vm

    return jax.device_get(vm.rollout(machine, state, steps=STEPS, dt=DT, swaps=swaps))


def replays(
    run: Run, machine: "vm.StateMachine", state: "vm.State", output: Path
) -> "list[Replay]":
    """The same run again, from a file, and in another process; each as two hashes."""
    from sigma_jax import report, vm
    from sigma_jax.grounding import Replay

    first = go_on(machine, state, [vm.Swap(0, "bfloat16")])
    second = _second_half(machine, first.state)
    again = go_on(machine, state, [vm.Swap(0, "bfloat16")])
    snapshot = output / "run.csf"
    saved = vm.snapshot_state(machine, first.state, base_seed=run.seed, dt=DT)
    vm.save_snapshot(snapshot, saved)
    loaded = vm.restore_state(machine, vm.load_snapshot(snapshot))
    task = output / "run.json"
    given = json.dumps({"run": asdict(run), "snapshot": str(snapshot.resolve())}, indent=2)
    report.write_text(task, given + "\n")
    return [
        Replay("the same seed", digest(first), digest(again)),
        Replay("through a file", digest(second), digest(_second_half(machine, loaded))),
        Replay("in another process", digest(second), _elsewhere(task)),
    ]


def _second_half(machine: "vm.StateMachine", state: "vm.State") -> Any:
    from sigma_jax import vm

    return go_on(machine, state, [vm.Swap(STEPS, "abi_near")])


def _elsewhere(task: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.gates_machine", str(task.resolve())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.split()
    return lines[-1] if done.returncode == 0 and lines else f"failed: {done.stderr[-500:]}"


def digest(tree: Any) -> str:
    """The SHA-256 of every number in a tree of arrays, in order."""
    import jax
    import jax.numpy as jnp

    found = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
        found.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def main(path: str) -> None:
    """Go on from a snapshot and print the hash."""
    prepare()
    from sigma_jax import vm

    given = json.loads(Path(path).read_text(encoding="utf-8"))
    machine, _ = build(Run(**given["run"] | {"ids": tuple(given["run"]["ids"])}))
    state = vm.restore_state(machine, vm.load_snapshot(given["snapshot"]))
    print(digest(_second_half(machine, state)))


if __name__ == "__main__":
    main(sys.argv[1])
