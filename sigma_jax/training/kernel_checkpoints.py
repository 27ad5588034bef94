"""Orbax checkpoints of a training run, from which it goes on with the same bits."""

from pathlib import Path
from typing import Any, Protocol, TypeVar

import jax
import numpy as np


class _Resumable(Protocol):
    """Where a run is: a tree of arrays, one of which counts its steps."""

    @property
    def step(self) -> Any: ...


_State = TypeVar("_State", bound=_Resumable)


def save_training(directory: str | Path, state: _Resumable, run: dict[str, Any]) -> None:
    """Add a checkpoint to those in `directory`, numbered by the steps done, and keep the last two.

    It is there when this returns, whole or not at all.

    **Arguments:** `state`, a tree of arrays that has its number of steps as `step`; `run`, what
    identifies the run (recipe, data, seed, shape), as JSON.

    **Raises** `OSError` if it cannot be written.
    """
    import orbax.checkpoint as ocp  # a second to import, and only checkpoints need it

    with _manager(directory, create=True) as manager:
        manager.save(
            int(state.step),
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_arrays(state)), run=ocp.args.JsonSave(run)
            ),
        )


def load_training(directory: str | Path, like: _State, run: dict[str, Any]) -> _State | None:
    """The state of the last checkpoint in `directory`, or None if there is none.

    What a kill left half-written is passed over.

    **Arguments:** `like`, a state of the same shapes; `run`, as it was saved.

    **Raises** `ValueError` if the checkpoint is of another run.
    """
    import orbax.checkpoint as ocp

    if not Path(directory).is_dir():
        return None
    with _manager(directory, create=False) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        found = manager.restore(step, args=ocp.args.Composite(run=ocp.args.JsonRestore()))["run"]
        if found != run:
            differs = sorted(k for k in {*found, *run} if found.get(k) != run.get(k))
            raise ValueError(
                f"{directory} holds another run: {', '.join(differs)} differ. Name another "
                "directory, or delete it."
            )
        target = {name: np.zeros(leaf.shape, leaf.dtype) for name, leaf in _arrays(like).items()}
        stored = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
        )["state"]
    leaves = [jax.numpy.asarray(stored[name]) for name in target]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _arrays(state: _Resumable) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _manager(directory: str | Path, *, create: bool):
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=2,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=create,
        create=create,
    )
    # A relative path would fail too, but in a thread of Orbax's.
    return ocp.CheckpointManager(Path(directory).absolute(), options=options)
