"""The state of the Σ-Model: what each agent knows, in each domain and modality."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._check import concrete, require_in


class State(eqx.Module):
    """The Σ-Model's state for `agents` agents, `domains` domains and `modalities` modalities.

    All components are dimensionless.  Depth lives in [0, frontier], breadth in [0, ∞), the rest
    in [0, 1].  `breadth` is None in a model that does not follow it (the paper lists it as a
    state variable, gives it no equation and leaves it out of its state vector).
    """

    delta: Float[Array, "agents domains modalities"]
    """Parametric depth δ (Eq. 1)."""
    sigma: Float[Array, "agents domains modalities"]
    """Schema coherence σ (Eq. 28)."""
    alpha: Float[Array, "agents domains modalities"]
    """Attentional fidelity α (Eq. 27)."""
    self_model: Float[Array, "agents domains modalities"]
    """The agent's estimate M̂ of its own coherence (Eq. 34)."""
    planning: Float[Array, " agents"]
    """Planning Ξ^P (Eq. 32)."""
    inhibition: Float[Array, " agents"]
    """Inhibition Ξ^I (Eq. 32)."""
    flexibility: Float[Array, " agents"]
    """Flexibility Ξ^F (Eq. 32)."""
    breadth: Float[Array, "agents domains"] | None = None
    """Functional breadth β (the earlier paper's Eq. 15), or None."""


def initial_state(
    agents: int = 1,
    domains: int = 1,
    modalities: int = 1,
    *,
    delta: ArrayLike = 0.05,
    sigma: ArrayLike = 0.10,
    alpha: ArrayLike = 0.5,
    self_model: ArrayLike = 0.1,
    planning: ArrayLike = 0.5,
    inhibition: ArrayLike = 0.5,
    flexibility: ArrayLike = 0.5,
    breadth: ArrayLike | None = None,
    frontier: ArrayLike = 1.0,
) -> State:
    """Make a `State`, broadcasting each value to its full shape.

    **Arguments:** the three sizes; one value, or an array that broadcasts to the component's
    shape, for each component; `frontier` is Δ at the start, which bounds `delta`.
    `sigma=0` is legal and absorbing: without a seed, coherence never appears (Eq. 28).

    **Returns** a `State` in JAX's default floating-point type.

    **Raises** `ValueError`, naming the argument, for a size below one, a value outside its box
    or a frontier that is not positive.
    """
    for name, size in (("agents", agents), ("domains", domains), ("modalities", modalities)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}.")
    require_in("frontier", frontier, 0.0, open_low=True)
    bounded = dict(sigma=sigma, alpha=alpha, self_model=self_model)
    executive = dict(planning=planning, inhibition=inhibition, flexibility=flexibility)
    require_in("delta", delta, 0.0)
    limit, start = concrete(frontier), concrete(delta)
    if limit is not None and start is not None and (start > limit).any():
        raise ValueError(f"delta must not exceed the frontier {limit}; got {start}.")
    for name, value in (bounded | executive).items():
        require_in(name, value, 0.0, 1.0)
    dtype = jnp.result_type(float)
    shape = (agents, domains, modalities)

    def full(value: ArrayLike, to: tuple[int, ...]) -> Array:
        return jnp.broadcast_to(jnp.asarray(value, dtype), to)

    if breadth is not None:
        require_in("breadth", breadth, 0.0)
        breadth = full(breadth, (agents, domains))
    return State(
        delta=full(delta, shape),
        **{name: full(value, shape) for name, value in bounded.items()},
        **{name: full(value, (agents,)) for name, value in executive.items()},
        breadth=breadth,
    )
