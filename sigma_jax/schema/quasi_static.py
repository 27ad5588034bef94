"""Does coherence depend on its history?  R₀ raised and lowered slowly, by simulation."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from .._check import require_in
from ..solvers import FixedStep, simulate
from .equilibria import attention_equilibrium
from .state import initial_state
from .vector_field import SigmaModel


def quasi_static_sweep(
    model: SigmaModel,
    r0: Float[ArrayLike, " values"],
    *,
    hold: float = 2000.0,
    steps: int = 2000,
    seed: float = 1e-3,
) -> tuple[Float[Array, " values"], Float[Array, " values"]]:
    """Coherence after holding R₀ at each value in turn: first upwards, then back down.

    P_A is set so that R₀ = ρ P_A α*/(ε_σ Ω) takes each value, with attention at its equilibrium;
    each value is held for `hold` epochs (`steps` fixed steps) and hands its state to the next.
    `seed` is the least coherence handed over: zero is absorbing (Eq. 28), so without a seed the
    way up would never leave it.

    **Returns** σ on the way up and σ on the way down, both in the order of `r0`.

    **Raises** `ValueError` for R₀ that is not positive, or a seed outside [0, 1].
    """
    require_in("r0", r0, 0.0, open_low=True)
    require_in("seed", seed, 0.0, 1.0)
    r0 = jnp.asarray(r0, jnp.result_type(float))
    conditions = model.environment(0.0, None)
    alpha = attention_equilibrium(model.rates, conditions)
    pressure = model.rates.epsilon_sigma * conditions.omega_sl
    principled = r0 * pressure / (model.rates.rho * alpha)
    start = initial_state(delta=0.9, sigma=seed, alpha=alpha)

    def settle(state, p_a):
        held = eqx.tree_at(lambda m: m.environment.p_a, model, p_a)
        solution = simulate(
            held, state, jnp.array([0.0, hold]), method=FixedStep(steps), throw=False
        )
        end = jax.tree.map(lambda leaf: leaf[-1], solution.ys)
        end = eqx.tree_at(lambda s: s.sigma, end, jnp.maximum(end.sigma, seed))
        return end, end.sigma[0, 0, 0]

    top, up = jax.lax.scan(settle, start, principled)
    _, down = jax.lax.scan(settle, top, principled[::-1])
    return up, down[::-1]
