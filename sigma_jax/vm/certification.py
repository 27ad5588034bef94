"""Certificates of a running machine: of the Jacobian where each trajectory stands."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..stability import Certificate, certify
from .machine import State, StateMachine


def certify_state(machine: StateMachine, state: State, **options: Any) -> Certificate:
    """Certify the linear flow at each trajectory's own active node, state and control.

    A certificate is of A = ∂f/∂x with the control u held, there and then: it says how a small
    disturbance of the belief's drift fares under e^{tA}, and nothing of states elsewhere. Jit it,
    or call it between chunks of `rollout`; every field has the state's batch axis in front.

    **Arguments:** `options`, as of `sigma_jax.stability.certify`: margin, perturbation, gap,
    kreiss_points.

    **Raises** `ValueError` for a state that does not fit the machine, and as `certify` does for
    its options. A Jacobian that is not finite passes no gate.

    Source: Σ₀-K1, certificates; see `certify` for each.
    """
    x = state.x
    if x.ndim not in (1, 2) or x.shape[-1] != machine.dim:
        raise ValueError(
            f"state.x must be [{machine.dim}] or [batch, {machine.dim}]; got {x.shape}."
        )
    certificates = partial(certify, **options)
    if x.ndim == 2:
        certificates = jax.vmap(certificates)
    return certificates(_jacobians(machine, state))


@eqx.filter_jit
def _jacobians(machine: StateMachine, state: State) -> Float[Array, "*batch d d"]:
    nodes = [machine.nodes[name] for name in machine.names]

    def of_one(x, covariance, active):
        u = machine.controller(x, covariance, machine.control_dim)
        return jax.lax.switch(active, [partial(node.jacobian, x, u) for node in nodes])

    lifted = jax.vmap(of_one) if state.x.ndim == 2 else of_one
    return lifted(state.x, state.covariance, state.active)
