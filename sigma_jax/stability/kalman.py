"""A monitor that follows a run with a model of it, and is surprised where they part."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._check import concrete, require_in, require_number
from .innovations import normalised_innovation, surprise_threshold


class MonitorState(eqx.Module):
    """What a `KalmanMonitor` believes after an observation, and how its observations looked."""

    mean: Float[Array, " d"]
    covariance: Float[Array, "d d"]
    """Of the error of the mean, symmetric positive semi-definite."""
    updates: Int[Array, ""]
    echoes: Int[Array, ""]
    """How many observations were the prediction itself in every component, to round-off."""


class KalmanMonitor(eqx.Module):
    """An extended Kalman filter that scores each observation before it learns from it.

    The model is x⁺ = x + f(x, u) dt + D g(x) √dt ξ, y = C x + √R η, with ξ, η standard normal; D is
    the dilation of the run that is watched. Prediction: mean x + f dt, covariance F P Fᵀ + diag(g
    D)² dt with F = I + (∂f/∂x) dt; innovation ν = y − C x̂ with covariance S = C P Cᵀ + R. For a
    linear drift, noise that does not depend on x and matching data, νᵀS⁻¹ν is χ².

    `gain_floor` is added to the predicted covariance where the gain is computed, and nowhere else.
    It keeps the monitor listening where belief has become narrow, and the covariance stays honest:
    Joseph's form is the error covariance for any gain, so consistent data still flags at the
    nominal rate. The price is a gain that is no longer optimal: innovations, white at a floor of
    zero, become correlated from step to step where the floor is not small against P. A floor on the
    covariance itself would, in whatever form, flag too rarely wherever it binds, since S would no
    longer be the covariance of ν.

    An observation must come from outside: a prediction fed back has ν = 0 and can never fire.
    Chance gives that about never, so `refuse_echoes` finds the mistake after a few steps.

    **Raises** `ValueError` for shapes that do not match, R that is not symmetric positive definite,
    or a step, floor or threshold out of range.

    Source: Bar-Shalom, Li & Kirubarajan (2001), Estimation with Applications to Tracking and
    Navigation, §5.2 (Joseph's form), §5.4 (consistency), §10.3 (extended filter).
    """

    drift: Callable[[Array, Array], Array]
    """(x [d], u [m]) → dx/dt [d]."""
    jacobian: Callable[[Array, Array], Array]
    """(x, u) → ∂f/∂x [d, d]."""
    diffusion: Callable[[Array], Array]
    """x → g(x) [d]."""
    dt: Float[ArrayLike, ""]
    observation_matrix: Float[Array, "p d"]
    observation_noise: Float[Array, "p p"]
    """R, a covariance: the variance of the observation, not its standard deviation."""
    gain_floor: Float[ArrayLike, ""] = 1e-3
    threshold: float | None = None
    """Flag above this; `surprise_threshold(p)` if None."""

    def __check_init__(self):
        require_in("dt", self.dt, 0.0, open_low=True)
        require_in("gain_floor", self.gain_floor, 0.0)
        if self.threshold is not None:
            require_in("threshold", self.threshold, 0.0)
        shape, noise = np.shape(self.observation_matrix), self.observation_noise
        if len(shape) != 2 or 0 in shape or np.shape(noise) != shape[:1] * 2:
            raise ValueError(
                "observation_matrix must be [p, d] and observation_noise [p, p]; got shapes "
                f"{shape} and {np.shape(noise)}."
            )
        require_number("observation_matrix", self.observation_matrix)
        _require_covariance("observation_noise", noise, definite=True)

    def start(
        self, mean: Float[ArrayLike, " d"], covariance: Float[ArrayLike, "d d"]
    ) -> MonitorState:
        """The state before the first observation.

        **Raises** `ValueError` for other shapes than [d] and [d, d], or a covariance that is not
        symmetric positive semi-definite.
        """
        size = np.shape(self.observation_matrix)[1]
        if np.shape(mean) != (size,) or np.shape(covariance) != (size, size):
            raise ValueError(
                f"mean must be [{size}] and covariance [{size}, {size}]; got shapes "
                f"{np.shape(mean)} and {np.shape(covariance)}."
            )
        require_number("mean", mean)
        _require_covariance("covariance", covariance, definite=False)
        none = jnp.zeros((), int)
        return MonitorState(jnp.asarray(mean), jnp.asarray(covariance), none, none)

    def predict(
        self,
        state: MonitorState,
        control: Float[Array, " m"],
        *,
        dilation: Float[ArrayLike, ""] = 1.0,
    ) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """Mean and covariance of the model's state one step of `dt` later."""
        mean, covariance = state.mean, state.covariance
        size = mean.shape[0]
        transition = jnp.eye(size, dtype=mean.dtype) + self.jacobian(mean, control) * self.dt
        spread = self.diffusion(mean) * dilation
        predicted = transition @ covariance @ transition.T + jnp.diag(spread**2 * self.dt)
        return mean + self.drift(mean, control) * self.dt, _symmetric(predicted)

    def update(
        self,
        state: MonitorState,
        control: Float[Array, " m"],
        observation: Float[ArrayLike, " p"],
        *,
        dilation: Float[ArrayLike, ""] = 1.0,
    ) -> tuple[MonitorState, Float[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Advance by `dt` under `control`, score `observation`, then learn from it.

        Returns the state, NIS = νᵀS⁻¹ν, the surprise (nats) and the flag NIS > threshold. The
        observation is of the state after the step. One that is not finite flags, with infinite NIS,
        and is not learnt from.

        **Raises** `ValueError` for an observation of another shape.
        """
        c, noise = self.observation_matrix, self.observation_noise
        if np.shape(observation) != c.shape[:1]:
            raise ValueError(
                f"observation must be [{c.shape[0]}]; got shape {np.shape(observation)}."
            )
        mean, covariance = self.predict(state, control, dilation=dilation)
        expected = c @ mean
        innovation = jnp.asarray(observation) - expected
        nis, surprise = _scored(innovation, _symmetric(c @ covariance @ c.T + noise))
        known = jnp.isfinite(nis)
        identity = jnp.eye(mean.shape[0], dtype=mean.dtype)
        gain = _gain(covariance + self.gain_floor * identity, c, noise)
        kept = identity - gain @ c
        learnt = mean + gain @ jnp.where(known, innovation, 0.0)
        joseph = _symmetric(kept @ covariance @ kept.T + gain @ noise @ gain.T)
        # To round-off of the products that a prediction made elsewhere goes through.
        round_off = 4.0 * mean.shape[0] * float(jnp.finfo(mean.dtype).eps)
        echo = jnp.all(jnp.abs(innovation) <= round_off * (jnp.abs(c) @ jnp.abs(mean)))
        new = MonitorState(
            mean=jnp.where(known, learnt, mean),
            covariance=jnp.where(known, joseph, covariance),
            updates=state.updates + 1,
            echoes=state.echoes + echo.astype(state.echoes.dtype),
        )
        limit = self.threshold
        limit = surprise_threshold(c.shape[0]) if limit is None else limit
        return new, nis, surprise, nis > limit


def refuse_echoes(state: MonitorState) -> None:
    """Raise ValueError if the monitor was given its own predictions: half its updates or more.

    For use outside compiled code, on one state or a batch of them, after a few updates.
    """
    updates, echoes = concrete(state.updates), concrete(state.echoes)
    if updates is None or echoes is None:
        raise ValueError("refuse_echoes looks at values, so it must be called outside jit.")
    if ((echoes > 0) & (2 * echoes >= updates)).any():
        raise ValueError(
            f"of {updates.max()} observations, {echoes.max()} were the monitor's own prediction, "
            "which can never surprise it: observe the run, not the model, or use observation noise "
            "of the run's own size."
        )


def _scored(innovation: Array, covariance: Array) -> tuple[Array, Array]:
    """NIS and surprise, infinite rather than refused where the observation is not finite."""
    finite = jnp.all(jnp.isfinite(innovation))
    nis, surprise = normalised_innovation(jnp.where(finite, innovation, 0.0), covariance)
    return jnp.where(finite, nis, jnp.inf), jnp.where(finite, surprise, jnp.inf)


def _gain(covariance: Array, c: Array, noise: Array) -> Array:
    """P Cᵀ (C P Cᵀ + R)⁻¹ by Cholesky."""
    cross = c @ covariance
    factor = jax.scipy.linalg.cho_factor(_symmetric(cross @ c.T + noise))
    return jax.scipy.linalg.cho_solve(factor, cross).T


def _symmetric(matrix: Array) -> Array:
    return 0.5 * (matrix + matrix.T)


def _require_covariance(name: str, value: ArrayLike, *, definite: bool) -> None:
    require_number(name, value)
    matrix = concrete(value)
    if matrix is None:
        return
    scale = np.abs(matrix).max()
    kind = "definite" if definite else "semi-definite"
    symmetric = np.isfinite(scale) and np.abs(matrix - matrix.T).max() <= 1e-6 * scale
    least = np.linalg.eigvalsh(matrix)[0] if symmetric else -np.inf
    if least < -1e-6 * scale or (definite and least <= 0.0):
        raise ValueError(f"{name} must be symmetric positive {kind}; got {matrix}.")
