"""First passages of the stochastic Σ-Model: when phases are entered, and when coherence is lost."""

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Key
from scipy.stats import chi2

from .._check import require_in
from ..solvers import EulerMaruyama, Paths, simulate_sde_ensemble
from ..statistics import binomial
from .diffusion import Noise, stochastic_model
from .environment import Environment
from .phases import follow_phases, trajectory_margins
from .state import State
from .thresholds import Thresholds
from .vector_field import SigmaModel

# The proxy's errors come from a key of their own: the path itself uses no draw of this number.
_PROXY = 0x7FFFFFFF


def phase_passage(
    model: SigmaModel,
    noise: Noise,
    y0: State,
    times: ArrayLike,
    *,
    keys: Key[Array, " paths"],
    steps: int,
    thresholds: Thresholds = Thresholds(),
    proxy_noise: float = 0.0,
    dwell: int = 1,
    reverse_dwell: int = 10,
    scheme: EulerMaruyama = EulerMaruyama(),
    batch_size: int = 1024,
) -> Float[Array, "paths agents 5"]:
    """When each path from `y0` first enters phases 1 to 5, in epochs; inf for never.

    The phase machine (`follow_phases`, with its `dwell` and `reverse_dwell`) looks at the saved
    `times`, with `steps` steps between them, so passages are multiples of their spacing and come
    late by up to as much. `proxy_noise` is the standard deviation of an independent normal error
    of the measured coherence, cut off at 0 and 1, at every look: what fires a trigger early then
    is the extreme of many errors.

    Only the passages leave a batch: 10⁵ paths need no more memory than a thousand.

    **Raises** `ValueError` as `simulate_sde_ensemble` does, and for a negative `proxy_noise`.
    """
    require_in("proxy_noise", proxy_noise, 0.0)

    summary = _PhasePassage(model.environment, thresholds, proxy_noise, dwell, reverse_dwell)
    return _summaries(model, noise, y0, times, keys, steps, scheme, summary, batch_size)


def escape_times(
    model: SigmaModel,
    noise: Noise,
    y0: State,
    times: ArrayLike,
    *,
    keys: Key[Array, " paths"],
    steps: int,
    below: float,
    scheme: EulerMaruyama = EulerMaruyama(),
    batch_size: int = 1024,
) -> Float[Array, " paths"]:
    """When coherence, in any agent, domain and modality, is first seen below `below`; else inf.

    For noise-induced transitions: start a bistable model in its coherent state (for `hysteretic`
    σ₊ of `hysteretic_equilibria`) and take a level well below the separatrix σ₋, from where hardly
    any path returns. `Escapes.of` turns the times into a rate.

    **Returns** epochs, multiples of the spacing of `times`.

    **Raises** `ValueError` as `simulate_sde_ensemble` does, and for a level outside (0, 1].
    """
    require_in("below", below, 0.0, 1.0, open_low=True)

    return _summaries(model, noise, y0, times, keys, steps, scheme, _Escape(below), batch_size)


@dataclasses.dataclass(frozen=True)
class Escapes:
    """How many of many paths escaped by a horizon, and how long that takes on average."""

    share: float
    """The share that escaped, with its 95 % interval after Wilson (1927)."""
    share_low: float
    share_high: float
    mean: float
    """The mean escape time, with its 95 % interval by χ² (slightly too wide); inf for none."""
    mean_low: float
    mean_high: float
    paths: int

    @classmethod
    def of(cls, times: Float[ArrayLike, " paths"], horizon: float) -> "Escapes":
        """From escape times, inf or beyond `horizon` for those that have not escaped by then.

        The mean is the maximum-likelihood one of an exponential distribution, censored at the
        horizon: all the time spent divided by the escapes. Escapes by weak noise are exponential
        after a short while (Kramers 1940); where the share is high, check that they are.

        **Raises** `ValueError` for no times, a time that is not positive, or such a horizon.
        """
        require_in("horizon", horizon, 0.0, open_low=True)
        require_in("times", times, 0.0, open_low=True)
        times = np.asarray(times, float)
        if times.size == 0:
            raise ValueError("times must hold at least one escape time; got none.")
        escaped = int(np.count_nonzero(times <= horizon))
        spent = float(np.minimum(times, horizon).sum())
        share = binomial(escaped, times.size, 0.5)
        return cls(
            share=share.estimate,
            share_low=share.low,
            share_high=share.high,
            mean=spent / escaped if escaped else np.inf,
            mean_low=2.0 * spent / float(chi2.ppf(0.975, 2 * escaped + 2)),
            mean_high=2.0 * spent / float(chi2.ppf(0.025, 2 * escaped)) if escaped else np.inf,
            paths=times.size,
        )


# Modules rather than functions made on the spot: an equal one is not compiled again.
class _PhasePassage(eqx.Module):
    environment: Environment
    thresholds: Thresholds
    proxy_noise: float
    dwell: int
    reverse_dwell: int

    def __call__(self, paths: Paths) -> Float[Array, "agents 5"]:
        states = _measured(paths, self.proxy_noise) if self.proxy_noise else paths.ys
        margins = trajectory_margins(paths.ts, states, self.environment, self.thresholds)
        phases = follow_phases(margins, dwell=self.dwell, reverse_dwell=self.reverse_dwell)
        return _first_time(paths.ts, phases[..., None] >= jnp.arange(1, 6))


class _Escape(eqx.Module):
    below: float

    def __call__(self, paths: Paths) -> Float[Array, ""]:
        lowest = jnp.min(paths.ys.sigma.reshape(paths.ts.size, -1), axis=1)
        return _first_time(paths.ts, lowest < self.below)


def _summaries(
    model, noise, y0, times, keys, steps, scheme, summary: Callable[[Paths], Array], batch_size
) -> Array:
    """`summary` of every path from `y0`."""
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (keys.size, *leaf.shape)), y0)
    return simulate_sde_ensemble(
        stochastic_model(model, noise, breadth=y0.breadth is not None),
        starts,
        times,
        keys=keys,
        steps=steps,
        scheme=scheme,
        summary=summary,
        batch_size=batch_size,
    )


def _first_time(
    ts: Float[Array, " times"], reached: Bool[Array, "times ..."]
) -> Float[Array, "..."]:
    return jnp.where(jnp.any(reached, axis=0), ts[jnp.argmax(reached, axis=0)], jnp.inf)


def _measured(paths: Paths, proxy_noise: float) -> State:
    """The states with an error in their coherence."""
    sigma = paths.ys.sigma
    key = jax.random.fold_in(paths.key, _PROXY)
    error = proxy_noise * jax.random.normal(key, sigma.shape, sigma.dtype)
    return eqx.tree_at(lambda y: y.sigma, paths.ys, jnp.clip(sigma + error, 0.0, 1.0))
