"""Controllers: a policy, tempered by the belief's width, with its limit applied last."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, ArrayLike, Float, Key

from .._check import require_in
from ..solvers import dilation
from .costs import StageCost
from .nodes import LinearNode


class LinearPolicy(eqx.Module):
    """π(x) = −K (x − x*) + u*."""

    gain: Float[Array, "m d"]
    target: Float[Array, " d"] | ArrayLike = 0.0
    offset: Float[Array, " m"] | ArrayLike = 0.0

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " m"]:
        return jnp.asarray(self.offset) - self.gain @ (x - self.target)


def neural_policy(
    dim: int, control_dim: int, *, key: Key[Array, ""], width: int = 64
) -> eqx.nn.MLP:
    """A policy network with one hidden layer of SiLU units, as the reference's."""
    return eqx.nn.MLP(dim, control_dim, width, 1, jax.nn.silu, key=key)


class Controller(eqx.Module):
    """u = clip(π(x) s(Σ), ±limit): the clip is the last thing that happens to a control.

    s = sigmoid(−(D − 1)), in (0, ½], makes an uncertain agent careful; D is the dilation.
    Source: Σ₀-K1, state VM.

    **Arguments:** `policy`, a function x `[d]` → `[m]`, or None for no control; `limit`, positive;
    `tempered`, whether s is applied (an exact LQR needs it off).

    **Raises** `ValueError` for a limit that is not positive.
    """

    policy: Callable[[Float[Array, " d"]], Float[Array, " m"]] | None = None
    limit: float | Float[Array, ""] = 5.0
    tempered: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        require_in("limit", self.limit, 0.0, open_low=True)

    def __call__(
        self, x: Float[Array, " d"], covariance: Float[Array, "d d"], control_dim: int
    ) -> Float[Array, " m"]:
        if self.policy is None:
            return jnp.zeros(control_dim, x.dtype)
        u = self.policy(x)
        if self.tempered:
            u = u * jax.nn.sigmoid(1.0 - dilation(covariance))
        return jnp.clip(u, -self.limit, self.limit)


def lqr_policy(node: LinearNode, cost: StageCost, dt: float) -> LinearPolicy:
    """The exact optimum of Σ L dt over an endless rollout of a linear node with steps `dt`.

    The discrete algebraic Riccati equation of x₊ = (I + A dt) x + B dt u, with the cost dt L;
    independent Gaussian noise does not change it. If the node does not rest at x* by itself, the
    control that holds it there, B u* = −A (x* − c), is added; it must exist.

    **Raises** `ValueError` for a dt that is not positive, a node without control, and if no
    stabilising control, or none that holds the target, exists.
    """
    require_in("dt", dt, 0.0, open_low=True)
    matrix = np.asarray(node.matrix, float)
    control_matrix = np.asarray(node.control_matrix, float)
    dim, controls = control_matrix.shape
    if controls == 0:
        raise ValueError("node has no control, so there is nothing to choose.")
    target = np.broadcast_to(np.asarray(cost.target, float), (dim,))
    weight = float(cost.control_weight)
    transition, effect = np.eye(dim) + dt * matrix, dt * control_matrix
    try:
        value = scipy.linalg.solve_discrete_are(
            transition, effect, dt * np.eye(dim), dt * weight * np.eye(controls)
        )
    except np.linalg.LinAlgError as error:
        raise ValueError(f"node cannot be stabilised by its control: {error}") from error
    gain = np.linalg.solve(
        dt * weight * np.eye(controls) + effect.T @ value @ effect, effect.T @ value @ transition
    )
    pull = matrix @ (target - np.asarray(node.centre, float))
    offset, *_ = np.linalg.lstsq(control_matrix, -pull, rcond=None)
    left = np.abs(control_matrix @ offset + pull).max()
    if left > 1e-8 * (1.0 + np.abs(pull).max()):
        raise ValueError(f"no control holds the node at the target: a drift of {left:.3g} is left.")
    dtype = node.matrix.dtype
    return LinearPolicy(*(jnp.asarray(part, dtype) for part in (gain, target, offset)))
