"""Checks at the edge: bad input raises one clear line before anything is traced."""

from typing import Any

import jax
import jax.core
import numpy as np


def concrete(value: Any) -> np.ndarray | None:
    """Return `value` as a NumPy array, or None if it is being traced (nothing to check then)."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        return None
    return np.asarray(value)


def require_number(name: str, value: Any) -> None:
    """Raise ValueError naming `name` unless `value` is a number or an array of numbers."""
    if isinstance(value, str):
        raise ValueError(
            f"{name} is the text {value!r}, not a number. YAML 1.1 reads a number such as -3e-3, "
            "without a decimal point, as text: write -3.0e-3, without quotes."
        )
    array = concrete(value)
    if array is not None and array.dtype.kind not in "iuf":
        raise ValueError(f"{name} must be a number or an array of numbers; got {value!r}.")
    if array is not None and np.isnan(array).any():
        raise ValueError(f"{name} must not contain NaN; got {_shown(array)}.")


def require_in(
    name: str, value: Any, low: float, high: float = np.inf, *, open_low: bool = False
) -> None:
    """Raise ValueError naming `name` unless every entry lies in [low, high] (or (low, high])."""
    require_number(name, value)
    array = concrete(value)
    if array is None:
        return
    too_low = array <= low if open_low else array < low
    if (too_low | (array > high)).any():
        bracket = "(" if open_low else "["
        close = ")" if np.isinf(high) else "]"
        raise ValueError(
            f"{name} must lie in {bracket}{low:g}, {high:g}{close}; got {_shown(array)}."
        )


def _shown(array: np.ndarray) -> str:
    if array.size == 1:
        return f"{array.item():g}"
    return f"an array of shape {array.shape} from {array.min():g} to {array.max():g}"
