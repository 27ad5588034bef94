"""Orbax checkpoints of a machine's state, for programs that live in the JAX ecosystem."""

from pathlib import Path

import jax
import numpy as np

from .machine import State, StateMachine
from .persistence import key_implementation, state_arrays, state_from_arrays


def save_checkpoint(directory: str | Path, machine: StateMachine, state: State) -> None:
    """Add a checkpoint of `state` to those in `directory`, numbered by `state.step`.

    It is there when this returns, whole or not at all. The nodes' names are in it, not their
    weights.

    **Raises** `ValueError` if there is a checkpoint of this step, or a later one: Orbax would not
    write it, and only say so in its return value. `OSError` if it cannot be written.
    """
    import orbax.checkpoint as ocp  # a second to import, and only checkpoints need it

    arrays = state_arrays(state)
    about = {
        "names": list(machine.names),
        "key_implementation": key_implementation(state),
        "types": {name: str(array.dtype) for name, array in arrays.items()},
        "shapes": {name: list(array.shape) for name, array in arrays.items()},
    }
    step = int(arrays["step"])
    with _manager(directory, create=True) as manager:
        latest = manager.latest_step()
        if latest is not None and latest >= step:
            raise ValueError(
                f"{directory} has a checkpoint of step {latest} already, and the state is at step "
                f"{step}: name another directory, or delete it."
            )
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about)
            ),
        )


def load_checkpoint(
    directory: str | Path,
    machine: StateMachine,
    like: State | None = None,
    *,
    step: int | None = None,
) -> State:
    """The state of a checkpoint in `directory`, for `rollout` to go on from with the same bits.

    **Arguments:** `like`, a state whose shapes and types it must have, where a program cannot do
    with others; `step`, which checkpoint, by default the last.

    **Raises** `FileNotFoundError` if there is none; `ValueError` if it does not fit the machine or
    `like`, if a node in use is not in the machine, and for float64 while JAX is set to float32.
    """
    import orbax.checkpoint as ocp

    if not Path(directory).is_dir():
        raise FileNotFoundError(f"there is no directory {directory}.")
    with _manager(directory, create=False) as manager:
        steps = sorted(manager.all_steps())
        if not steps or step not in (None, *steps):
            asked = "a checkpoint" if step is None else f"a checkpoint of step {step}"
            raise FileNotFoundError(f"{directory} has not {asked}; there are steps {steps}.")
        step = steps[-1] if step is None else step
        about = manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))
        about = about["about"]
        # Asked for in the types it was written in: Orbax would cast to any other without a word.
        target = {
            name: np.zeros(about["shapes"][name], kind) for name, kind in about["types"].items()
        }
        stored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
        )
        arrays = {name: np.asarray(leaf) for name, leaf in stored["state"].items()}
    state = state_from_arrays(machine, arrays, about["names"], about["key_implementation"])
    if like is not None:
        _require_like(state, like)
    return state


def _manager(directory: str | Path, *, create: bool):
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=None,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=create,
        create=create,
    )
    # A relative path would fail too, but in a thread of Orbax's.
    return ocp.CheckpointManager(Path(directory).absolute(), options=options)


def _require_like(state: State, like: State) -> None:
    pairs = zip(jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(like), strict=True)
    for (path, found), wanted in pairs:
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            name = jax.tree_util.keystr(path, simple=True)
            raise ValueError(
                f"{name} of the checkpoint is {found.shape} of {found.dtype}; like has "
                f"{wanted.shape} of {wanted.dtype}."
            )
