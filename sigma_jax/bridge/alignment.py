"""One kernel's hidden states in the terms of another's: φ and ψ from texts that both have read."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from .state_abi import StateABI


def aligned_abi(
    hidden: Float[np.ndarray, "samples hidden_size"], states: Float[np.ndarray, "samples dim"]
) -> StateABI:
    """The φ that takes `hidden` nearest to `states`, by least squares, and the ψ that leads back.

    Two kernels trained apart have no basis in common, so what φ of one says of the other's hidden
    states means nothing. Where both have read the same tokens, the states of one teach a φ for the
    other: an affine map behind its LayerNorm. It holds for texts like those.

    **Arguments:** `hidden`, of the kernel that is to be understood; `states`, φ of the other one's
    hidden states at the same tokens.

    **Raises** `ValueError` for arrays that are not rows of numbers, finite, and as many; for fewer
    than twice as many samples as a hidden state has numbers; for a dimension out of range.
    """
    hidden, states = np.asarray(hidden), np.asarray(states)
    if hidden.ndim != 2 or states.ndim != 2 or len(hidden) != len(states):
        raise ValueError(
            "hidden and states must be [samples, hidden_size] and [samples, dim]; got shapes "
            f"{hidden.shape} and {states.shape}."
        )
    if not (np.isfinite(hidden).all() and np.isfinite(states).all()):
        raise ValueError("hidden and states must be finite.")
    size = hidden.shape[1]
    if len(hidden) < 2 * size:
        raise ValueError(f"hidden must have at least {2 * size} samples; got {len(hidden)}.")
    start = StateABI(size, states.shape[1], key=jax.random.key(0), dtype=hidden.dtype)
    wide = hidden.astype(np.float64)
    normed = wide - wide.mean(axis=1, keepdims=True)
    normed /= np.sqrt(normed.var(axis=1, keepdims=True) + start.norm.eps)
    numbers = (*_affine(normed, states.astype(np.float64)), *_affine(states, wide))
    return eqx.tree_at(
        lambda abi: (abi.encoder.weight, abi.encoder.bias, abi.decoder.weight, abi.decoder.bias),
        start,
        tuple(jnp.asarray(array, hidden.dtype) for array in numbers),
    )


def _affine(given: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W and b of the smallest least-squares W g + b."""
    centre, middle = given.mean(axis=0), wanted.mean(axis=0)
    slope = np.linalg.lstsq(given - centre, wanted - middle, rcond=None)[0]
    return slope.T, middle - slope.T @ centre
