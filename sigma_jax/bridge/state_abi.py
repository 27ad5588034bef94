"""The state ABI: between a kernel's hidden states and the state that the state machine moves.

Source: Σ₀-K1, component 6.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from .._check import require_in

LEAST, MOST = 64, 256
"""The dimensions that a state may have."""


class StateABI(eqx.Module):
    """φ: LayerNorm, then linear, from a hidden state of size H to a state x of `dim` numbers.

    ψ: linear, from x back to a hidden state that the kernel's head and loops understand.

    **Arguments:** `hidden_size`, H; `dim`, from 64 to 256; `key` for a random start, where
    `optimal_abi` gives the one that the data determine; `dtype` of the parameters.

    **Raises** `ValueError` for a size below one or a dimension out of range.

    Source: Σ₀-K1, component 6 (state ABI shim).
    """

    norm: eqx.nn.LayerNorm
    encoder: eqx.nn.Linear
    decoder: eqx.nn.Linear

    def __init__(
        self,
        hidden_size: int,
        dim: int,
        *,
        key: Key[Array, ""],
        dtype: DTypeLike = jnp.float32,
    ):
        require_in("hidden_size", hidden_size, 1)
        require_in("dim", dim, LEAST, MOST)
        self.norm = eqx.nn.LayerNorm(hidden_size, dtype=dtype)
        to, back = jax.random.split(key)
        self.encoder = eqx.nn.Linear(hidden_size, dim, dtype=dtype, key=to)
        self.decoder = eqx.nn.Linear(dim, hidden_size, dtype=dtype, key=back)

    @property
    def hidden_size(self) -> int:
        """H, the size of the kernel's hidden states."""
        return self.decoder.weight.shape[0]

    @property
    def dim(self) -> int:
        """How many numbers a state has."""
        return self.encoder.weight.shape[0]

    def encode(self, hidden: Float[Array, "*batch hidden_size"]) -> Float[Array, "*batch dim"]:
        """φ: the state of a hidden state.

        **Raises** `ValueError` for hidden states of another size.
        """
        _require_width("hidden", hidden, self.hidden_size)
        return jnp.vectorize(lambda h: self.encoder(self.norm(h)), signature="(h)->(d)")(hidden)

    def decode(self, x: Float[Array, "*batch dim"]) -> Float[Array, "*batch hidden_size"]:
        """ψ: the hidden state of a state.

        **Raises** `ValueError` for states of another dimension.
        """
        _require_width("x", x, self.dim)
        return jnp.vectorize(self.decoder, signature="(d)->(h)")(x)


def optimal_abi(hidden: Float[np.ndarray, "samples hidden_size"], dim: int) -> StateABI:
    """The φ and ψ that reconstruct `hidden` best, in the mean square.

    φ's LayerNorm is left plain. Behind it, the best linear maps through `dim` numbers are those of
    reduced-rank regression: the regression of h on LayerNorm(h), projected on the principal axes
    of what it explains. ψ's columns are those axes, orthonormal, so distances between states are
    distances between the hidden states that they stand for. Numbers of x beyond the rank are zero.

    **Raises** `ValueError` for fewer than two samples, samples that are not finite, or a dimension
    out of range.

    Source: Izenman (1975), Reduced-rank regression for the multivariate linear model.
    """
    hidden = np.asarray(hidden)
    if hidden.ndim != 2 or len(hidden) < 2 or not np.isfinite(hidden).all():
        raise ValueError(
            "hidden must be at least two samples, [samples, hidden_size], all finite; got shape "
            f"{hidden.shape}."
        )
    start = StateABI(hidden.shape[1], dim, key=jax.random.key(0), dtype=hidden.dtype)
    wide = hidden.astype(np.float64)
    normed = wide - wide.mean(axis=1, keepdims=True)
    normed /= np.sqrt(normed.var(axis=1, keepdims=True) + start.norm.eps)
    centre, middle = wide.mean(axis=0), normed.mean(axis=0)
    regression = np.linalg.lstsq(normed - middle, wide - centre, rcond=None)[0]
    explained = (normed - middle) @ regression
    _, axes = np.linalg.eigh(explained.T @ explained)
    axes = axes[:, ::-1][:, :dim]
    encoder = _padded(axes.T @ regression.T, dim, axis=0)
    decoder = _padded(axes, dim, axis=1)
    numbers = (encoder, -encoder @ middle, decoder, centre)
    return eqx.tree_at(
        lambda abi: (abi.encoder.weight, abi.encoder.bias, abi.decoder.weight, abi.decoder.bias),
        start,
        tuple(jnp.asarray(array, hidden.dtype) for array in numbers),
    )


def _padded(array: np.ndarray, dim: int, *, axis: int) -> np.ndarray:
    missing = [(0, 0), (0, 0)]
    missing[axis] = (0, dim - array.shape[axis])
    return np.pad(array, missing)


def _require_width(name: str, array: Array, width: int) -> None:
    if jnp.shape(array)[-1:] != (width,):
        raise ValueError(f"{name} must have {width} numbers in its last axis; got {array.shape}.")
