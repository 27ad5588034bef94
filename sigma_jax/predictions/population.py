"""A population of simulated learners: heterogeneous rates, process noise, one compiled call."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from ..schema import (
    Environment,
    Noise,
    Rates,
    State,
    initial_state,
    sigma_model,
    stochastic_model,
)
from ..solvers import SDE, simulate_sde_ensemble

HORIZON = 100.0
"""Epochs that a population is followed."""
TIMES = np.linspace(0.0, HORIZON, 51)
"""When it is observed, in epochs."""
_STEPS = 8
_CHUNK = 512
_HETEROGENEITY = 0.15
_VARIED = ("eta_max", "lambda_c", "rho", "epsilon_sigma", "gamma", "zeta_alpha", "nu_m", "xi_m")
_NOISE = 0.05


class Population(eqx.Module):
    """Simulated learners at `TIMES`; NumPy arrays."""

    delta: Float[Any, "agents times domains"]
    delta_rel: Float[Any, "agents times domains"]
    sigma: Float[Any, "agents times domains"]
    """Of the weakest modality, as `marginal_coherence`."""
    alpha: Float[Any, "agents times domains"]
    self_model: Float[Any, "agents times domains"]
    modal_sigma: Float[Any, "agents times domains modalities"]
    breadth: Float[Any, "agents times domains"]
    executive: Float[Any, "agents times three"]
    """Planning, inhibition, flexibility."""


def simulate_population(
    key: Key[Array, ""],
    agents: int,
    *,
    model: str = "consistent",
    domains: int = 1,
    modalities: int = 1,
    environment: Mapping[str, object] | None = None,
    initial: Mapping[str, ArrayLike] | None = None,
    rates: Mapping[str, ArrayLike] | None = None,
    heterogeneity: float = _HETEROGENEITY,
    noise: float = _NOISE,
) -> Population:
    """Simulate `agents` independent learners of the stochastic Σ-Model for `HORIZON` epochs.

    Each learner has rates of its own, log-normal around the default regime's with standard
    deviation `heterogeneity`; `noise` is the amplitude of the process noise (`schema.Noise`).

    **Arguments:** `environment`, `initial` and `rates` override fields of `Environment`,
    `initial_state` and `Rates`: a number for all agents, or an array with a leading axis of
    agents and trailing axes that broadcast to the field's own shape (for a field of
    `[domains, modalities]`, `[agents, domains, 1]`, say). Environment fields may be signals
    (`Switch`, `Ramp`, ...), the same for all agents. Breadth is followed from 0.

    The paths depend on the key alone: the same key with another environment gives every learner
    the same rates and the same noise (common random numbers), so that conditions can be paired.
    """
    rate_key, path_key = jax.random.split(key)
    centre = sigma_model(model).rates
    spread = jnp.exp(heterogeneity * jax.random.normal(rate_key, (len(_VARIED), agents)))
    own = {
        name: getattr(centre, name) * factor for name, factor in zip(_VARIED, spread, strict=True)
    }
    chosen = {f.name: getattr(centre, f.name) for f in dataclasses.fields(Rates)}
    chosen |= own | dict(rates or {})
    lanes = _lanes({**chosen}, agents)
    signals = {k: v for k, v in (environment or {}).items() if callable(v)}
    constants = {f.name: getattr(Environment(), f.name) for f in dataclasses.fields(Environment)}
    constants |= {k: v for k, v in (environment or {}).items() if not callable(v)}
    constants = {k: v for k, v in constants.items() if k not in signals}
    starts = _lanes({"delta": 0.05, "sigma": 0.10, "alpha": 0.5} | dict(initial or {}), agents)
    y0 = jax.vmap(
        lambda s: initial_state(1, domains, modalities, breadth=0.0, **s, frontier=jnp.inf)
    )(starts)
    sde = SDE(
        _Drift(model, signals),
        _Spread(model, signals, noise),
        *_box(),
    )
    keys = jax.random.split(path_key, agents)
    everything = (y0, keys, (lanes, _lanes(constants, agents)))
    parts = []
    for start in range(0, agents, _CHUNK):  # of one size, so that one compiled function serves all
        index = np.minimum(np.arange(start, start + _CHUNK), agents - 1)
        chunk = jax.tree.map(lambda leaf, index=index: leaf[index], everything)
        parts.append(jax.tree.map(np.asarray, _observe(sde, *chunk)))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:agents], *parts)


def _lanes(values: Mapping[str, object], agents: int) -> dict[str, Array]:
    """Every value as an array with a leading axis of agents."""

    def lane(value):
        array = jnp.asarray(value, jnp.result_type(float))
        per_agent = array.ndim > 0 and array.shape[0] == agents
        return array if per_agent else jnp.broadcast_to(array, (agents, *array.shape))

    return {name: lane(value) for name, value in values.items()}


class _Drift(eqx.Module):
    model: str = eqx.field(static=True)
    signals: dict

    def build(self, args):
        rates, constants = args
        environment = Environment(**constants, **self.signals)
        return sigma_model(self.model, rates=Rates(**rates), environment=environment)

    def __call__(self, t, y: State, args) -> State:
        return self.build(args)(t, y)


class _Spread(_Drift):
    amplitude: ArrayLike

    def __call__(self, t, y: State, args) -> State:
        amplitudes = dict.fromkeys(
            ("delta", "sigma", "alpha", "self_model", "planning", "inhibition", "flexibility"),
            jnp.asarray(self.amplitude),
        )
        return stochastic_model(self.build(args), Noise(**amplitudes), breadth=True).diffusion(
            t, y, None
        )


def _box() -> tuple[State, State]:
    sde = stochastic_model(sigma_model(), Noise(), breadth=True)
    return sde.lower, sde.upper


@eqx.filter_jit
def _observe(sde, y0, keys, args) -> Population:
    paths = simulate_sde_ensemble(
        sde, y0, TIMES, keys=keys, steps=_STEPS, args=args, batch_size=256
    )
    states = jax.tree.map(lambda leaf: leaf[:, :, 0], paths.ys)  # one agent in every state

    frontier = sde.drift.signals.get("frontier")  # the same for all agents, or a constant of each
    if frontier is None:
        frontier = args[1]["frontier"][:, None]
    else:
        frontier = jax.vmap(lambda t: frontier(t, None))(jnp.asarray(TIMES))[None]
    relative = states.delta / frontier[:, :, None, None]
    return Population(
        delta=jnp.max(states.delta, axis=-1),
        delta_rel=jnp.max(relative, axis=-1),
        sigma=jnp.min(states.sigma, axis=-1),
        alpha=jnp.mean(states.alpha, axis=-1),
        self_model=jnp.mean(states.self_model, axis=-1),
        modal_sigma=states.sigma,
        breadth=states.breadth,
        executive=jnp.stack([states.planning, states.inhibition, states.flexibility], axis=-1),
    )
