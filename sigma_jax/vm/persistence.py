"""A running machine's state on disk: as a snapshot that any program reads, and back, bit for bit.

Of the published members `x.npy` and `sigma.npy` hold the state and `meta.json` its step. What a
state has beyond them goes into members of ours, which other programs pass over:

| member | content |
|---|---|
| `sigma_jax/state.json` | `names`, which `active.npy` points into; `key_implementation` |
| `sigma_jax/{active,spent,surprised,diverged,key}.npy` | these fields of `State`, keys as words |
| `sigma_jax/trace/{column}.npy` | the columns of a `Trace`, `[*batch, steps]` |
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, Shaped

from .._check import require_in
from ..solvers import require_covariance
from .intervention import Receipt, describe
from .machine import State, StateMachine
from .manifests import json_bytes, json_object
from .snapshots import Snapshot, npy_array, npy_bytes
from .traces import SwapRecord, Trace

LONGEST_TABLE = 1000
"""Up to so many steps of one trajectory `trace.json` has a row a step; arrays are smaller."""
_OURS = "sigma_jax/"
_ABOUT = _OURS + "state.json"
_COLUMNS = _OURS + "trace/"
_OWN_MEMBERS = ("active", "spent", "surprised", "diverged", "key")
_KINDS = {
    "active": "i",
    "spent": "i",
    "surprised": "b",
    "diverged": "i",
    "key": "u",
    "step": "i",
}


def snapshot_state(
    machine: StateMachine,
    state: State,
    *,
    base_seed: int,
    dt: float,
    trace: Trace | None = None,
    swaps: SwapRecord | None = None,
) -> Snapshot:
    """A snapshot of `state`, from which `restore_state` goes on with the same bits.

    Its `active_id` is the active node's name, or, where trajectories differ, all their names with
    commas between: a program that knows one node a snapshot refuses that, and rightly.

    **Arguments:** `base_seed` and `dt`, of the run, for other programs: the noise follows the keys
    in the state. `trace` and `swaps`, of the steps that ended at this state. The trace is kept
    whole as arrays; its rows are given as JSON too if they are of one trajectory and at most 1,000.
    A number that JSON does not have, such as an infinite relative drift, is null there.

    **Raises** `ValueError` as `Snapshot` does.
    """
    arrays = state_arrays(state)
    used = [machine.names[index] for index in np.unique(arrays["active"])]
    about = {"names": list(machine.names), "key_implementation": key_implementation(state)}
    extra = {_ABOUT: json_bytes("the names of nodes", about)}
    extra |= {f"{_OURS}{name}.npy": npy_bytes(arrays[name]) for name in _OWN_MEMBERS}
    columns = {} if trace is None else _columns(trace)
    extra |= {f"{_COLUMNS}{name}.npy": npy_bytes(array) for name, array in columns.items()}
    step = int(arrays["step"])
    events: dict[str, list[Any]] = {"steps": [], "swaps": [], "collapses": []}
    if swaps is not None:
        events["swaps"] = _json_rows(swaps.rows(machine.names, float(machine.swap_tolerance)))
    if trace is not None:
        events["steps"] = _json_rows(_step_rows(columns, step))
        events["collapses"] = _json_rows(_collapse_rows(trace, step))
    return Snapshot(
        active_id=",".join(used),
        base_seed=base_seed,
        dt=dt,
        step=step,
        x=arrays["x"],
        covariance=arrays["covariance"],
        trace=events,
        extra=extra,
    )


def restore_state(machine: StateMachine, snapshot: Snapshot) -> State:
    """The state in `snapshot`, for `rollout` to go on from with the same bits.

    Active nodes are found by name, so the machine may have gained others since. A snapshot of
    another program says nothing of keys and counts: there trajectory i gets the key
    `fold_in(key(base_seed mod 2³²), i)`, as `initial_state` gives it, with nothing spent, no
    surprise, and all of them alive.

    **Raises** `ValueError` for another dimension, more than one batch axis, a node that the machine
    does not have, members of ours that are incomplete or do not fit, a covariance of another
    program that is not symmetric positive definite, and for float64 while JAX is set to float32.
    """
    if _ABOUT not in snapshot.extra:
        return _foreign_state(machine, snapshot)
    about = json_object(_ABOUT, snapshot.extra[_ABOUT])
    arrays = _published(snapshot)
    arrays |= {name: _member(snapshot, f"{_OURS}{name}.npy") for name in _OWN_MEMBERS}
    return state_from_arrays(machine, arrays, about.get("names"), about.get("key_implementation"))


def restore_trace(snapshot: Snapshot) -> Trace | None:
    """The trace that `snapshot_state` was given, as NumPy arrays; None if it was given none.

    **Raises** `ValueError`, naming it, for a column that is missing or no array of numbers.
    """
    if not any(name.startswith(_COLUMNS) for name in snapshot.extra):
        return None

    def fields(kind: type, prefix: str = "") -> dict[str, Any]:
        names = [field.name for field in dataclasses.fields(kind) if field.name != "receipt"]
        return {name: _member(snapshot, f"{_COLUMNS}{prefix}{name}.npy") for name in names}

    return Trace(receipt=Receipt(**fields(Receipt, "receipt.")), **fields(Trace))


def state_arrays(state: State) -> dict[str, np.ndarray]:
    """Every field of `state` by name as a NumPy array, random keys as their words."""
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    values["key"] = jax.random.key_data(state.key)
    return {name: np.asarray(value) for name, value in values.items()}


def key_implementation(state: State) -> str:
    """The name of the generator that the keys of `state` are for."""
    return str(jax.random.key_impl(state.key))


def state_from_arrays(
    machine: StateMachine,
    arrays: Mapping[str, Shaped[np.ndarray, "..."]],
    names: Sequence[str] | Any,
    implementation: str | Any,
) -> State:
    """The state whose `state_arrays` these are, with `active` an index into `names`.

    **Raises** `ValueError`, naming what is wrong, if they are not of one state of this machine.
    """
    x = arrays["x"]
    require_state_shape(machine, x)
    if jax.dtypes.canonicalize_dtype(x.dtype) != x.dtype:
        raise ValueError(
            f"the state is {x.dtype}, which JAX would round: set jax_enable_x64 to go on with it."
        )
    batch = x.shape[:-1]
    shapes = dict.fromkeys(_KINDS, batch) | {"covariance": (*x.shape, x.shape[-1]), "step": ()}
    shapes["key"] = (*batch, *arrays["key"].shape[-1:])
    for name, shape in shapes.items():
        kind = _KINDS.get(name, x.dtype.kind)
        if arrays[name].shape != shape or arrays[name].dtype.kind != kind:
            found = f"{arrays[name].shape} of {arrays[name].dtype}"
            raise ValueError(f"{name} must have shape {shape} and type {kind!r}; got {found}.")
    counts = {name: jnp.asarray(arrays[name], jnp.int32) for name in ("spent", "diverged", "step")}
    return State(
        x=jnp.asarray(x),
        covariance=jnp.asarray(arrays["covariance"]),
        active=_active(machine, arrays["active"], names),
        surprised=jnp.asarray(arrays["surprised"]),
        key=_keys(arrays["key"], implementation),
        **counts,
    )


def require_state_shape(machine: StateMachine, x: Shaped[np.ndarray, "..."]) -> None:
    """Raise ValueError unless `x` is a state of `machine`, or a batch of them."""
    if x.ndim not in (1, 2) or x.shape[-1] != machine.dim:
        raise ValueError(f"x must be [{machine.dim}] or [batch, {machine.dim}]; got {x.shape}.")


def _published(snapshot: Snapshot) -> dict[str, np.ndarray]:
    require_in("step", snapshot.step, 0, np.iinfo(np.int32).max)
    step = np.asarray(snapshot.step, np.int32)
    return {"x": snapshot.x, "covariance": snapshot.covariance, "step": step}


def _foreign_state(machine: StateMachine, snapshot: Snapshot) -> State:
    require_covariance("the snapshot's covariance", snapshot.covariance)
    require_state_shape(machine, snapshot.x)
    batch = snapshot.x.shape[:-1]
    key = jax.random.key(snapshot.base_seed % 2**32)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch[0])) if batch else key
    arrays = _published(snapshot) | {
        "active": np.zeros(batch, np.int32),
        "spent": np.zeros(batch, np.int32),
        "surprised": np.zeros(batch, bool),
        "diverged": np.full(batch, -1, np.int32),
        "key": np.asarray(jax.random.key_data(keys)),
    }
    return state_from_arrays(machine, arrays, [snapshot.active_id], str(jax.random.key_impl(key)))


def _active(machine: StateMachine, active: np.ndarray, names: Any) -> Array:
    """Indices into `names` as indices of the machine's nodes."""
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"the names of the nodes must be a list of text; got {names!r}.")
    if active.size and not (active.min() >= 0 and active.max() < len(names)):
        raise ValueError(f"active must point into {list(names)}; got {np.unique(active)}.")
    indices = np.zeros(len(names), np.int32)
    for index in np.unique(active):
        indices[index] = machine.index(names[index])
    return jnp.asarray(indices[active])


def _keys(words: np.ndarray, implementation: Any) -> Key[Array, "*batch"]:
    if not isinstance(implementation, str):  # None would stand for JAX's default
        raise ValueError(f"key_implementation must be text; got {implementation!r}.")
    try:
        return jax.random.wrap_key_data(jnp.asarray(words), impl=implementation)
    except (TypeError, ValueError) as error:
        raise ValueError(f"key is of no generator {implementation!r}: {error}") from error


def _member(snapshot: Snapshot, name: str) -> np.ndarray:
    if name not in snapshot.extra:
        raise ValueError(f"the snapshot lacks {name}.")
    return npy_array(name, snapshot.extra[name])


def _columns(trace: Trace) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(trace)
    spelled = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return {name: np.asarray(leaf) for name, (_, leaf) in zip(spelled, leaves, strict=True)}


def _step_rows(columns: Mapping[str, np.ndarray], end: int) -> list[dict[str, Any]]:
    """A row a step, of one trajectory over not too many steps; otherwise none."""
    shape = columns["norm"].shape
    if math.prod(shape) != shape[-1] or shape[-1] > LONGEST_TABLE:
        return []
    flat = {name: array.ravel().tolist() for name, array in columns.items()}
    return [
        {"step": end - shape[-1] + row} | {name: values[row] for name, values in flat.items()}
        for row in range(shape[-1])
    ]


def _collapse_rows(trace: Trace, end: int) -> list[dict[str, Any]]:
    axes = ("trajectory", "step")[-trace.norm.ndim :]
    first = end - trace.norm.shape[-1]
    rows = [row for row in describe(trace.receipt, axes) if row["trigger"] == "collapse"]
    return [row | {"step": first + row["step"]} for row in rows]


def _json_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def said(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return [{key: said(value) for key, value in row.items()} for row in rows]
