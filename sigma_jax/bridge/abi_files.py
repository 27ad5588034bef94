"""An ABI in a file: a line of JSON that says its shape, then its arrays."""

import json
from pathlib import Path

import equinox as eqx
import jax
import numpy as np

from .._files import write_whole
from .state_abi import StateABI


def save_abi(path: str | Path, abi: StateABI) -> None:
    """Write the ABI to a file, which is replaced only once the new one is whole.

    **Raises** `OSError` if it cannot be written.
    """
    shape = {"hidden_size": abi.hidden_size, "dim": abi.dim, "dtype": str(abi.decoder.weight.dtype)}

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(json.dumps(shape).encode() + b"\n")
            eqx.tree_serialise_leaves(file, abi)

    write_whole(path, write)


def load_abi(path: str | Path) -> StateABI:
    """Read what `save_abi` has written.

    **Raises** `OSError` if it cannot be read, and `ValueError`, naming the file, if it holds
    something else or was cut short.
    """
    with Path(path).open("rb") as file:
        try:
            shape = json.loads(file.readline(1000))
            dtype = np.dtype(shape["dtype"])
            sizes = shape["hidden_size"], shape["dim"]
            like = eqx.filter_eval_shape(StateABI, *sizes, key=jax.random.key(0), dtype=dtype)
            return eqx.tree_deserialise_leaves(file, like)
        except (ValueError, KeyError, TypeError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path} does not hold an ABI: {error}") from None
