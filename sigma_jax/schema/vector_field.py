"""The Σ-Model's equations, one small module each, and the vector field that joins them.

Every equation is called with (state x, conditions e, rates r) and returns one component's time
derivative, per epoch.  Where the paper prints several versions, each stands here under a name of
its own; `variants.py` joins them into models.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from diffrax import MultiTerm, ODETerm
from jaxtyping import Array, ArrayLike, Float

from .derived import effective_decay, learning_efficiency, relative_depth
from .environment import Conditions, Environment
from .executive import ExecutiveTargets
from .rates import Rates
from .state import State

Field = Float[Array, "agents domains modalities"]
Equation = Callable[[State, Conditions, Rates], Array]
"""One component's equation, from (state, conditions, rates) to its derivative, per epoch."""


# Depth ------------------------------------------------------------------------------------------


class PrintedDepth(eqx.Module):
    """δ̇ = f η(δ_rel) T − λ_c (1 − γ_σ σ) δ (1 − r) (Eq. 14): nothing stops it at Δ."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        growth = e.f_learn * learning_efficiency(relative_depth(x.delta, e.frontier), r) * e.t_a
        return growth - effective_decay(x.sigma, r) * x.delta * (1.0 - e.r_a)


class BoundedDepth(eqx.Module):
    """Eq. 14 with its growth times (1 − δ_rel), so that depth cannot pass the frontier."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        delta_rel = relative_depth(x.delta, e.frontier)
        growth = e.f_learn * learning_efficiency(delta_rel, r) * e.t_a * (1.0 - delta_rel)
        return growth - effective_decay(x.sigma, r) * x.delta * (1.0 - e.r_a)


# Coherence --------------------------------------------------------------------------------------


def _growth(x: State, e: Conditions, r: Rates) -> Field:
    return r.rho * e.p_a * x.alpha


def _suppression(e: Conditions, r: Rates) -> Float[Array, "..."]:
    return r.epsilon_sigma * e.omega_sl


def _other_modalities(omega: ArrayLike, sigma: Field) -> Field:
    """Σ_{m'≠m} ω(m', m) σ(m'), with ω symmetric."""
    others = 1.0 - jnp.eye(sigma.shape[-1], dtype=sigma.dtype)
    return jnp.sum(omega * others * sigma[..., None, :], axis=-1)


class CoreCoherence(eqx.Module):
    """σ̇ = σ [ρ P α (1 − γ_σ σ) − ε_σ Ω] (Eq. 28): autocatalytic, with a threshold at R₀ = 1."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        return x.sigma * (_growth(x, e, r) * (1.0 - r.saturation * x.sigma) - _suppression(e, r))


class MultimodalCoherence(eqx.Module):
    """σ̇ = ρ P α (1 − σ) − ε_σ σ Ω + ρ_θ Σ_{m'≠m} ω σ(m')² (Eq. 41): affine, unbounded transfer."""

    modality_similarity: ArrayLike = 1.0

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        transfer = r.transfer_rate * _other_modalities(self.modality_similarity, x.sigma**2)
        return _growth(x, e, r) * (1.0 - x.sigma) - x.sigma * _suppression(e, r) + transfer


class ExistenceProofCoherence(eqx.Module):
    """σ̇ = ρ P α (1 − γ_σ σ) − ε_σ Ω σ (the existence proof's version): affine, no trap."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        return _growth(x, e, r) * (1.0 - r.saturation * x.sigma) - _suppression(e, r) * x.sigma


class AppendixCoherence(eqx.Module):
    """σ̇ = ρ P α (1 − σ) − ε_σ σ Ω (Appendix B and the tracks): Eq. 41 without transfer."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        return _growth(x, e, r) * (1.0 - x.sigma) - x.sigma * _suppression(e, r)


class BoundedTransferCoherence(eqx.Module):
    """Eq. 28 plus ρ_θ Σ_{m'≠m} ω σ(m') (1 − σ): transfer that saturates; all-zero stays zero."""

    modality_similarity: ArrayLike = 1.0

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        transfer = r.transfer_rate * _other_modalities(self.modality_similarity, x.sigma)
        return CoreCoherence()(x, e, r) + transfer * (1.0 - x.sigma)


class HystereticCoherence(eqx.Module):
    """σ̇ = σ [ρ P α (1 − kσ) − ε_σ Ω/(1 + κσ)]: coherence relieves the pressure that erodes it.

    Our extension.  For κ > k a saddle-node at R₀ = 4kκ/(κ+k)² < 1 makes two stable states and a
    genuine threshold between them, which is what the paper describes and Eq. 28 does not have.
    """

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        pressure = _suppression(e, r) / (1.0 + r.shortcut_relief * x.sigma)
        return x.sigma * (_growth(x, e, r) * (1.0 - r.saturation * x.sigma) - pressure)


# Attention, self-model, executive control, breadth ----------------------------------------------


class Attention(eqx.Module):
    """α̇ = γ C (1 − α) − ζ_α α R^surface (Eq. 29)."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        return r.gamma * e.c_a * (1.0 - x.alpha) - r.zeta_alpha * x.alpha * e.r_surface


class PrintedSelfModel(eqx.Module):
    """M̂' = ν_M (σ − M̂) − ξ_M Ω M̂ (Eq. 36): shortcuts make an agent *under*confident."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        return r.nu_m * (x.sigma - x.self_model) - r.xi_m * e.omega_sl * x.self_model


class InflatingSelfModel(eqx.Module):
    """M̂' = ν_M (σ − M̂) + ξ_M Ω (1 − M̂): the overconfidence that the paper's text describes."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Field:
        return r.nu_m * (x.sigma - x.self_model) + r.xi_m * e.omega_sl * (1.0 - x.self_model)


class Executive(eqx.Module):
    """Ξ̇^i = κ_i (i* − Ξ^i), i = P, I, F (Eq. 33, read by components as the proofs do).

    **Returns** the three derivatives, each `[agents]`.
    """

    targets: ExecutiveTargets = ExecutiveTargets()

    def __call__(self, x: State, e: Conditions, r: Rates) -> tuple[Array, Array, Array]:
        planning, inhibition, flexibility = self.targets(x, e)
        return (
            r.kappa_p * (planning - x.planning),
            r.kappa_i * (inhibition - x.inhibition),
            r.kappa_f * (flexibility - x.flexibility),
        )


class PrintedExecutive(eqx.Module):
    """Ξ̇ = κ_P (P* − Ξ^P) + κ_I (I* − Ξ^I) + κ_F (F* − Ξ^F) (Eq. 33): one sum for all three.

    **Returns** the same derivative three times, `[agents]`.
    """

    targets: ExecutiveTargets = ExecutiveTargets()

    def __call__(self, x: State, e: Conditions, r: Rates) -> tuple[Array, Array, Array]:
        planning, inhibition, flexibility = Executive(self.targets)(x, e, r)
        total = planning + inhibition + flexibility
        return (total, total, total)


class Breadth(eqx.Module):
    """β̇ = g μ + κ Φ λ_AI (β_max − β) − λ_b β (the earlier paper's Eqs. 15 and 16)."""

    def __call__(self, x: State, e: Conditions, r: Rates) -> Float[Array, "agents domains"]:
        breadth = jnp.asarray(x.breadth)
        assisted = e.assistance * (r.beta_max - breadth)
        return e.exploration + assisted - r.lambda_b * breadth


# The whole --------------------------------------------------------------------------------------


class SigmaModel(eqx.Module):
    """The Σ-Model's vector field: `model(t, state, args)` is the state's derivative, per epoch.

    It follows diffrax's convention for vector fields (`args` is ignored), so that it goes
    straight into `sigma_jax.solvers.simulate` or `diffrax.diffeqsolve`, and through `jit`,
    `vmap` and `grad`.  Make one with `sigma_model(name)`, or from your own equations: anything
    called with (state, conditions, rates) will do.

    The equations form a cascade α → σ → {δ, M̂}; Ξ follows through its targets.
    """

    depth: Equation
    coherence: Equation
    attention: Equation
    self_model: Equation
    executive: Callable[[State, Conditions, Rates], tuple[Array, Array, Array]]
    breadth: Equation
    rates: Rates
    environment: Environment

    def __call__(self, t: ArrayLike, state: State, args: object = None) -> State:
        """The time derivative of `state` at time `t` (epochs), as a `State`."""
        del args
        x, e, r = state, self.environment(t, state), self.rates
        planning, inhibition, flexibility = self.executive(x, e, r)
        return State(
            delta=self.depth(x, e, r),
            sigma=self.coherence(x, e, r),
            alpha=self.attention(x, e, r),
            self_model=self.self_model(x, e, r),
            planning=planning,
            inhibition=inhibition,
            flexibility=flexibility,
            breadth=None if x.breadth is None else self.breadth(x, e, r),
        )

    def relaxation_rate(self, t: ArrayLike, state: State, args: object = None) -> State:
        """The rates at which α, M̂, Ξ and β relax, per epoch, for an exponential stepper.

        α: γC + ζ_α R; M̂: ν_M + ξ_M Ω; Ξ: κ; β: λ_b + κΦλ_AI; δ and σ, which do not relax
        linearly: 0.
        """
        del args
        e, r = self.environment(t, state), self.rates

        def like(rate: ArrayLike, component: Array) -> Array:
            return jnp.broadcast_to(jnp.asarray(rate, component.dtype), component.shape)

        return State(
            delta=jnp.zeros_like(state.delta),
            sigma=jnp.zeros_like(state.sigma),
            alpha=like(r.gamma * e.c_a + r.zeta_alpha * e.r_surface, state.alpha),
            self_model=like(r.nu_m + r.xi_m * e.omega_sl, state.self_model),
            planning=like(r.kappa_p, state.planning),
            inhibition=like(r.kappa_i, state.inhibition),
            flexibility=like(r.kappa_f, state.flexibility),
            breadth=None
            if state.breadth is None
            else like(r.lambda_b + e.assistance, state.breadth),
        )

    def imex_terms(self) -> MultiTerm:
        """The paper's split for an IMEX solver: δ, σ, α, β explicit; M̂ and Ξ implicit."""
        return MultiTerm(ODETerm(_Part(self, implicit=False)), ODETerm(_Part(self, implicit=True)))


class _Part(eqx.Module):
    model: SigmaModel
    implicit: bool = eqx.field(static=True)

    def __call__(self, t: ArrayLike, state: State, args: object) -> State:
        derivative = self.model(t, state, args)
        slow = ("self_model", "planning", "inhibition", "flexibility")
        fast = ("delta", "sigma", "alpha", "breadth")
        zeroed = fast if self.implicit else slow
        return eqx.tree_at(
            lambda d: [getattr(d, name) for name in zeroed if getattr(d, name) is not None],
            derivative,
            replace_fn=jnp.zeros_like,
        )
