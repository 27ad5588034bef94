"""The whole single-domain Σ-Model as a curve through observations, for fits and Fisher."""

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ..solvers import FixedStep, Method, simulate
from .environment import Environment
from .rates import Rates
from .state import State, initial_state
from .variants import VARIANTS, sigma_model

COMPONENTS = ("delta", "sigma", "alpha", "self_model", "planning", "inhibition", "flexibility")
"""The state's components that a `CurveModel` can observe."""

_RATES = tuple(field.name for field in dataclasses.fields(Rates))
_CONDITIONS = tuple(field.name for field in dataclasses.fields(Environment))[:-2]
_INITIAL = tuple(f"{name}_0" for name in COMPONENTS)


class CurveModel(eqx.Module):
    """Observations of one learner in one domain, as a function of named parameters.

    `model(parameters)` integrates the Σ-Model from time 0 and returns the `observed` components
    at `epochs`, one component after the other, `[len(observed) · len(epochs)]`. `parameters` is a
    dictionary of scalars under any of these names, and everything it does not name keeps the
    model's own value:

    - a field of `Rates`: `rho`, `epsilon_sigma`, `gamma`, `nu_m`, `kappa_p`, …
    - a constant of `Environment`: `omega_sl`, `p_a`, `c_a`, …
    - an initial value: `sigma_0`, `alpha_0`, `self_model_0`, `delta_0`, `planning_0`, …

    It goes into `fit_curve`, `profile_likelihood`, `fisher_information`, `sample_posterior` and
    `profile_coverage` as their `predict`.

    **Arguments:** `epochs`, increasing and positive; `observed`, names from `COMPONENTS`;
    `environment`, whose `jump_times` (epochs at which it jumps) must be among `epochs` with
    `FixedStep`; `variant`, as for `sigma_model`; `method`, how it is integrated.

    **Raises** `ValueError` for epochs that are not increasing and positive, or an unknown
    component, variant or parameter.
    """

    epochs: tuple[float, ...] = eqx.field(
        static=True, converter=lambda x: tuple(np.asarray(x, float).ravel().tolist())
    )
    observed: tuple[str, ...] = eqx.field(static=True, default=COMPONENTS)
    environment: Environment = Environment()
    jump_times: tuple[float, ...] = eqx.field(static=True, default=())
    rates: Rates = Rates()
    start: State = eqx.field(default_factory=initial_state)
    variant: str = eqx.field(static=True, default="consistent")
    method: Method = FixedStep(steps=4)

    def __check_init__(self):
        if not (self.epochs and (np.diff(self.epochs, prepend=0.0) > 0).all()):
            raise ValueError(f"epochs must increase and be positive; got {self.epochs}.")
        unknown = [name for name in self.observed if name not in COMPONENTS]
        if unknown or not self.observed:
            raise ValueError(
                f"observed must name some of {', '.join(COMPONENTS)}; got {self.observed}."
            )
        if self.variant not in VARIANTS:
            raise ValueError(
                f"unknown variant {self.variant!r}; choose one of {', '.join(VARIANTS)}."
            )

    def __call__(self, parameters: Mapping[str, ArrayLike]) -> Float[Array, " observations"]:
        """The observed components at `epochs`, one component after the other."""
        known = (*_RATES, *_CONDITIONS, *_INITIAL)
        for name in parameters:
            if name not in known:
                raise ValueError(f"unknown parameter {name!r}; choose from {', '.join(known)}.")

        def chosen(names: tuple[str, ...]) -> dict:
            return {name: parameters[name] for name in names if name in parameters}

        model = sigma_model(
            self.variant,
            rates=dataclasses.replace(self.rates, **chosen(_RATES)),
            environment=dataclasses.replace(self.environment, **chosen(_CONDITIONS)),
        )
        start = {name.removesuffix("_0"): value for name, value in chosen(_INITIAL).items()}
        filled = {
            name: jnp.broadcast_to(value, jnp.shape(getattr(self.start, name)))
            for name, value in start.items()
        }
        ys = simulate(
            model,
            dataclasses.replace(self.start, **filled),
            np.array([0.0, *self.epochs]),
            method=self.method,
            jump_times=self.jump_times,
            throw=False,
        ).ys
        return jnp.concatenate([getattr(ys, name)[1:].reshape(-1) for name in self.observed])
