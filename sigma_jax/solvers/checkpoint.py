"""Chunks of results on disk, so that a run that was killed goes on from its last finished chunk."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree


class ChunkStore:
    """Numbered chunks of arrays under a directory, written by Orbax, each whole or not at all.

    **Arguments:** `directory`, made if it is missing; `problem`, anything JSON can say that
    identifies what is computed. It is written once, and a later run must bring the same.

    **Raises** `ValueError`, naming what differs, if the directory holds another problem;
    `OSError` if it cannot be written.
    """

    def __init__(self, directory: str | Path, problem: dict[str, Any]):
        import orbax.checkpoint as ocp  # a second to import, and only long runs need it

        self._directory = Path(directory).absolute()
        self._directory.mkdir(parents=True, exist_ok=True)
        self._check(json.loads(json.dumps(problem)))
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._args = ocp.args
        self._manager = ocp.CheckpointManager(self._directory / "chunks", options=options)

    def _check(self, problem: dict[str, Any]) -> None:
        record = self._directory / "problem.json"
        if not record.exists():
            partial = record.with_suffix(".tmp")
            partial.write_text(json.dumps(problem, indent=2, sort_keys=True))
            os.replace(partial, record)
            return
        stored = json.loads(record.read_text())
        differing = sorted(key for key in stored | problem if stored.get(key) != problem.get(key))
        if differing:
            raise ValueError(
                f"{self._directory} holds results of another problem (it differs in "
                f"{', '.join(differing)}); name another directory, or delete it."
            )

    def finished(self) -> int:
        """How many chunks, from 0 on, are complete."""
        steps = set(self._manager.all_steps())
        return next(index for index in range(len(steps) + 1) if index not in steps)

    def save(self, index: int, chunk: PyTree) -> None:
        """Write chunk `index`; it counts as finished only once it is all there."""
        leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(chunk))}
        self._manager.save(index, args=self._args.StandardSave(leaves))

    def load(self, index: int, like: PyTree) -> PyTree:
        """Read chunk `index` into the structure of `like` (arrays or their shapes and types)."""
        leaves, structure = jax.tree.flatten(like)
        target = {str(i): np.zeros(leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)}
        stored = self._manager.restore(index, args=self._args.StandardRestore(target))
        return jax.tree.unflatten(
            structure, [np.asarray(stored[str(i)]) for i in range(len(leaves))]
        )

    def close(self) -> None:
        """Release Orbax's threads."""
        self._manager.close()

    def __enter__(self) -> "ChunkStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
