"""What a state and a control cost: stage cost, Hamiltonian, co-state, free energy."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._check import require_in, require_number
from .nodes import Node


class StageCost(eqx.Module):
    """L(x, u) = ‖x − x*‖² + c ‖u‖², a unit of time.

    Source: Σ₀-K1, state VM. **Arguments:** `target` x*, a number or `[d]`; `control_weight` c.

    **Raises** `ValueError` for NaN or a weight that is not positive.
    """

    target: ArrayLike | Float[Array, " d"] = 0.0
    control_weight: float | Float[Array, ""] = 0.1

    def __check_init__(self):
        require_number("target", self.target)
        require_in("control_weight", self.control_weight, 0.0, open_low=True)

    def __call__(self, x: Float[Array, " d"], u: Float[Array, " m"]) -> Float[Array, ""]:
        return jnp.sum((x - self.target) ** 2) + self.control_weight * jnp.sum(u**2)


def hamiltonian(
    cost: StageCost,
    node: Node,
    x: Float[Array, " d"],
    u: Float[Array, " m"],
    costate: Float[Array, " d"],
    covariance: Float[Array, "d d"],
) -> Float[Array, ""]:
    """H = L(x, u) + λᵀ f(x, u) + tr Σ. Source: Σ₀-K1, state VM."""
    return cost(x, u) + costate @ node.drift(x, u) + jnp.trace(covariance)


def costate_step(
    cost: StageCost,
    node: Node,
    x: Float[Array, " d"],
    u: Float[Array, " m"],
    costate: Float[Array, " d"],
    h: ArrayLike,
) -> Float[Array, " d"]:
    """λ_t = λ_{t+1} + h ∂H/∂x (x_t, u_t, λ_{t+1}): the co-state, one Euler step back in time.

    Backwards along Euler's path without noise from λ = 0 at its end, λ_t is the exact gradient of
    the cost still to come, Σ h L, in x_t, with the controls held. In continuous time this is
    Pontryagin's dλ/dt = −∂H/∂x; Σ enters H only through its trace and does not depend on x there.

    Source: Σ₀-K1, state VM; Pontryagin et al. (1962).
    """

    def of_state(x):
        return cost(x, u) + costate @ node.drift(x, u)

    return costate + h * jax.grad(of_state)(x)


def free_energy(
    cost: StageCost,
    x: Float[Array, " d"],
    u: Float[Array, " m"],
    covariance: Float[Array, "d d"],
    prior_variance: ArrayLike = 1.0,
) -> Float[Array, ""]:
    """F = L(x, u) + KL(N(x, Σ) ‖ N(x*, s I)), with s the `prior_variance`.

    Source: Σ₀-K1, state VM. By a Cholesky factor of Σ.

    **Raises** `ValueError` for a prior variance that is not positive.
    """
    require_in("prior_variance", prior_variance, 0.0, open_low=True)
    dim = x.shape[0]
    log_determinant = 2.0 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(covariance))))
    distance = jnp.sum((x - cost.target) ** 2)
    divergence = 0.5 * (
        (jnp.trace(covariance) + distance) / prior_variance
        - dim
        + dim * jnp.log(prior_variance)
        - log_determinant
    )
    return cost(x, u) + divergence
