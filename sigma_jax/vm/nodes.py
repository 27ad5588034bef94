"""Nodes: what moves the state. Each gives a drift, a diffusion and the drift's Jacobian."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from .._check import concrete, require_in, require_number

DIFFUSION_BIAS = -1.0
"""Where the last layer of a diffusion network starts: softplus(−1) is about 0.31."""


class Node(eqx.Module):
    """A drift f(x, u) and a diffusion g(x) of a state x under control u.

    Derive from this class, give it the four below, and every part of this room works with it.
    All functions are of one trajectory: `rollout` batches them.
    """

    dim: eqx.AbstractVar[int]
    """d, the length of the state."""
    control_dim: eqx.AbstractVar[int]
    """m, the length of the control; may be zero."""

    def drift(self, x: Float[Array, " d"], u: Float[Array, " m"]) -> Float[Array, " d"]:
        """dx/dt without noise."""
        raise NotImplementedError

    def diffusion(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """The size of the noise on each component, not negative."""
        raise NotImplementedError

    def jacobian(self, x: Float[Array, " d"], u: Float[Array, " m"]) -> Float[Array, "d d"]:
        """A = ∂f/∂x, by forward-mode differentiation unless a node knows a shorter way."""
        return jax.jacfwd(self.drift)(x, u)


class NeuralNode(Node):
    """A drift and a diffusion network, each with one hidden layer of SiLU units.

    The diffusion network ends in a softplus. Source: Σ₀-K1, state VM; widths as there.

    **Arguments:** `dim` d and `control_dim` m; `key`; `width` of the hidden layers; `decay` λ,
    a linear part −λ x of the drift that keeps an untrained node bounded.

    **Raises** `ValueError` for a dimension or width that is not positive.
    """

    state_weights: Float[Array, "width d"]
    control_weights: Float[Array, "width m"]
    hidden_bias: Float[Array, " width"]
    output_weights: Float[Array, "d width"]
    output_bias: Float[Array, " d"]
    diffusion_network: eqx.nn.MLP
    decay: Float[Array, ""]

    def __init__(
        self,
        dim: int,
        control_dim: int,
        *,
        key: Key[Array, ""],
        width: int = 64,
        decay: float = 0.0,
    ):
        for name, size, least in (("dim", dim, 1), ("control_dim", control_dim, 0)):
            require_in(name, size, least)
        require_in("width", width, 1)
        keys = jax.random.split(key, 4)
        inputs = dim + control_dim
        self.state_weights = _uniform(keys[0], (width, dim), inputs)
        self.control_weights = _uniform(keys[1], (width, control_dim), inputs)
        self.hidden_bias = jnp.zeros(width)
        self.output_weights = _uniform(keys[2], (dim, width), width)
        self.output_bias = jnp.zeros(dim)
        network = eqx.nn.MLP(dim, dim, width, 1, jax.nn.silu, jax.nn.softplus, key=keys[3])
        self.diffusion_network = eqx.tree_at(
            lambda network: network.layers[-1].bias, network, jnp.full(dim, DIFFUSION_BIAS)
        )
        self.decay = jnp.asarray(decay, jnp.result_type(float))

    @property
    def dim(self) -> int:
        return self.output_weights.shape[0]

    @property
    def control_dim(self) -> int:
        return self.control_weights.shape[1]

    def drift(self, x, u):
        """W₂ SiLU(W₁ x + V u + b) + c − λ x."""
        hidden = jax.nn.silu(self._hidden(x, u))
        return self.output_weights @ hidden + self.output_bias - self.decay * x

    def diffusion(self, x):
        """Softplus of the diffusion network."""
        return self.diffusion_network(x)

    def jacobian(self, x, u):
        """W₂ diag(SiLU′) W₁ − λ I, in closed form."""
        z = self._hidden(x, u)
        gate = jax.nn.sigmoid(z)
        slope = gate * (1.0 + z * (1.0 - gate))
        product = (self.output_weights * slope) @ self.state_weights
        return product - self.decay * jnp.eye(self.dim, dtype=product.dtype)

    def _hidden(self, x, u):
        hidden = self.state_weights @ x + self.hidden_bias
        return hidden + self.control_weights @ u if self.control_dim else hidden


def _uniform(key: Array, shape: tuple[int, int], inputs: int) -> Array:
    """Uniform in ±1/√inputs, as `equinox.nn.Linear` starts its layers."""
    bound = 1.0 / np.sqrt(inputs)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


class LinearNode(Node):
    """f = A (x − c) + B u with constant noise g.

    **Arguments:** `matrix` A, `[d, d]`; `control_matrix` B, `[d, m]`, or None for no control;
    `noise` g, a number or `[d]`, not negative; `centre` c, a number or `[d]`.

    **Raises** `ValueError` for shapes that do not fit, NaN, or negative noise.
    """

    matrix: Float[Array, "d d"]
    control_matrix: Float[Array, "d m"]
    noise: Float[Array, " d"]
    centre: Float[Array, " d"]

    def __init__(
        self,
        matrix: ArrayLike,
        control_matrix: ArrayLike | None = None,
        *,
        noise: ArrayLike = 0.1,
        centre: ArrayLike = 0.0,
    ):
        given = {"matrix": matrix, "noise": noise, "centre": centre}
        if control_matrix is not None:
            given["control_matrix"] = control_matrix
        for name, value in given.items():
            require_number(name, value)
        require_in("noise", noise, 0.0)
        given = jnp.asarray(matrix)
        self.matrix = given if jnp.issubdtype(given.dtype, jnp.floating) else given.astype(float)
        if self.matrix.ndim != 2 or self.matrix.shape[0] != self.matrix.shape[1]:
            raise ValueError(f"matrix must be square, [d, d]; got shape {self.matrix.shape}.")
        dim, dtype = self.matrix.shape[0], self.matrix.dtype
        if control_matrix is None:
            control_matrix = jnp.zeros((dim, 0), dtype)
        self.control_matrix = jnp.asarray(control_matrix, dtype)
        if self.control_matrix.ndim != 2 or self.control_matrix.shape[0] != dim:
            raise ValueError(
                f"control_matrix must be [{dim}, m]; got shape {self.control_matrix.shape}."
            )
        self.noise = _vector("noise", noise, dim, dtype)
        self.centre = _vector("centre", centre, dim, dtype)

    @property
    def dim(self) -> int:
        return self.matrix.shape[0]

    @property
    def control_dim(self) -> int:
        return self.control_matrix.shape[1]

    def drift(self, x, u):
        """A (x − c) + B u."""
        pull = self.matrix @ (x - self.centre)
        return pull + self.control_matrix @ u if self.control_dim else pull

    def diffusion(self, x):
        """g, whatever x is."""
        return self.noise

    def jacobian(self, x, u):
        """A."""
        return self.matrix


def _vector(name: str, value: ArrayLike, dim: int, dtype) -> Array:
    if np.shape(value) not in ((), (dim,)):
        raise ValueError(f"{name} must be a number or [{dim}]; got shape {np.shape(value)}.")
    return jnp.broadcast_to(jnp.asarray(value, dtype), (dim,))


class ProviderNode(Node):
    """A node whose reasoning step x′ = provider(x, u) runs on the host: drift(x, u) = x′ − x.

    The provider is called with NumPy arrays, once for each trajectory and step, in an order that
    is not said; for replay it must be a function of its arguments alone. Its Jacobian is taken by
    forward differences, d more calls a step, unless `state_jacobian` gives ∂x′/∂x. Nothing
    differentiates through it.

    **Arguments:** `provider`, a function (x `[d]`, u `[m]`) → `[d]`; `dim`; `control_dim`;
    `noise`, a number or `[d]`; `state_jacobian`, a function (x, u) → `[d, d]`; `difference`, the
    step of the differences, in units of the state.

    **Raises** `ValueError` when called, naming what came back, if the provider returns another
    shape or a value that is not finite, or raises.
    """

    provider: Callable[[np.ndarray, np.ndarray], np.ndarray] = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    control_dim: int = eqx.field(static=True, default=0)
    noise: float | Float[Array, " d"] = 0.1
    state_jacobian: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = eqx.field(
        static=True, default=None
    )
    difference: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self):
        require_in("dim", self.dim, 1)
        require_in("control_dim", self.control_dim, 0)
        require_in("noise", self.noise, 0.0)
        require_in("difference", self.difference, 0.0, open_low=True)

    def drift(self, x, u):
        """x′ − x, by a call to the host."""
        return self._call(self.provider, x.shape, x, u) - x

    def diffusion(self, x):
        """`noise`, on every component."""
        return jnp.broadcast_to(jnp.asarray(self.noise, x.dtype), x.shape)

    def jacobian(self, x, u):
        """∂x′/∂x − I, given or by forward differences."""
        if self.state_jacobian is not None:
            slope = self._call(self.state_jacobian, (self.dim, self.dim), x, u)
        else:
            slope = self._call(self._differences, (self.dim, self.dim), x, u)
        return slope - jnp.eye(self.dim, dtype=x.dtype)

    def _differences(self, x: np.ndarray, u: np.ndarray) -> np.ndarray:
        centre = np.asarray(self.provider(x, u))
        shifts = self.difference * np.eye(self.dim, dtype=x.dtype)
        moved = [np.asarray(self.provider(x + shift, u)) for shift in shifts]
        return (np.stack(moved, axis=1) - centre[:, None]) / self.difference

    def _call(self, function: Callable, shape: tuple[int, ...], x: Array, u: Array) -> Array:
        def on_host(x, u):
            x, u = np.asarray(x), np.asarray(u)
            name = _name(self.provider if function == self._differences else function)
            try:
                result = np.asarray(function(x, u))
            except Exception as error:
                raise ValueError(
                    f"the provider {name} raised {type(error).__name__}: {error}"
                ) from error
            if result.shape != shape:
                raise ValueError(
                    f"the provider {name} must return shape {shape}; got {result.shape}."
                )
            if not np.isfinite(result).all():
                raise ValueError(f"the provider {name} returned a value not finite.")
            return result.astype(x.dtype)

        result = jax.ShapeDtypeStruct(shape, x.dtype)
        return jax.pure_callback(on_host, result, x, u, vmap_method="sequential")


@contextmanager
def provider_errors() -> Iterator[None]:
    """Raise as a plain ValueError what a provider raised inside compiled code, which JAX wraps."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        _, found, message = str(error).rpartition("ValueError: the provider ")
        if not found:
            raise
        raise ValueError("the provider " + message.splitlines()[0]) from None


def _name(function: Callable) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def require_node(name: str, node: Node, dtype) -> None:
    """Raise ValueError naming the node unless its functions have the right shapes and are finite.

    The drift, the diffusion and the Jacobian are asked once, at the zero state without control.
    """
    x, u = jnp.zeros(node.dim, dtype), jnp.zeros(node.control_dim, dtype)
    parts = {
        "drift": (node.drift, (x, u), (node.dim,)),
        "diffusion": (node.diffusion, (x,), (node.dim,)),
        "jacobian": (node.jacobian, (x, u), (node.dim, node.dim)),
    }
    for part, (function, arguments, shape) in parts.items():
        with provider_errors():
            answer = jax.block_until_ready(function(*arguments))
        if answer.shape != shape:
            raise ValueError(f"node {name!r}: its {part} must be {shape}; got {answer.shape}.")
        value = concrete(answer)
        if value is None:  # inside compiled code there are no values to look at
            continue
        if not np.isfinite(value).all():
            raise ValueError(f"node {name!r}: its {part} at the zero state is not finite.")
        if part == "diffusion" and (value < 0).any():
            raise ValueError(f"node {name!r}: its diffusion at the zero state is negative.")


def relative_drift(
    old: Float[Array, "probes d"] | Float[Array, " d"],
    new: Float[Array, "probes d"] | Float[Array, " d"],
) -> Float[Array, ""]:
    """‖f_old − f_new‖ / ‖f_old‖ over a batch of probes: 0 for equal drifts, ∞ if only f_old is 0.

    Source: Σ₀-K1, hot swap: a swap is accepted if this is below its tolerance.
    """
    scale, distance = jnp.linalg.norm(old), jnp.linalg.norm(old - new)
    ratio = distance / jnp.where(scale > 0, scale, 1.0)
    without: Any = jnp.where(distance > 0, jnp.inf, 0.0)
    return jnp.where(scale > 0, ratio, without)
