"""Profile-likelihood intervals of five rates: ours against SciPy with finite differences."""

from collections.abc import Callable, Iterator
from functools import partial

import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp
from scipy.optimize import brentq, least_squares
from scipy.stats import chi2

from benchmarks.schema import START, VARIED, interleaved, scalar_field
from sigma_jax import schema, statistics

EPOCHS = np.arange(4.0, 81.0, 4.0)
OBSERVED = ("delta", "sigma", "alpha", "self_model")
NOISE = 0.02
FREE = ("rho", "epsilon_sigma", "gamma", "nu_m", "eta_max")
PROFILED = ("rho", "nu_m")
"""The peer is timed on two of the five, and its time scaled: each profile is as much work."""
RATES = schema.Rates()
TRUTH = {name: getattr(RATES, name) for name in FREE}
THRESHOLD = float(chi2.ppf(0.95, 1))


def rows() -> Iterator[dict]:
    """One row: seconds for the intervals of all five rates."""
    curves = schema.CurveModel(
        epochs=EPOCHS, observed=OBSERVED, environment=schema.regime("targeted")
    )
    exact = np.asarray(curves(TRUTH))
    observed = exact + NOISE * np.random.default_rng(0).standard_normal(exact.size)

    def ours():
        return statistics.profile_likelihood(
            curves, jnp.asarray(observed), TRUTH, noise_sd=NOISE, points=3
        )

    found, reference = ours(), scipy_intervals(observed, PROFILED)
    for name, (low, high) in reference.items():
        np.testing.assert_allclose([found.low[name], found.high[name]], [low, high], rtol=2e-3)
    scale = len(FREE) / len(PROFILED)
    seconds, theirs = interleaved(ours, partial(scipy_intervals, observed, PROFILED), rounds=3)
    yield {
        "case": "profile likelihood, 5 rates",
        "peer": "SciPy least_squares, solve_ivp",
        "ratio": scale * theirs / seconds,
        "ours": seconds,
        "theirs": scale * theirs,
        "unit": "s",
    }


def predict(theta: np.ndarray) -> np.ndarray:
    """The observed curves at log-rates, by LSODA at the tolerances of a careful user."""
    values = {name: getattr(RATES, name) for name in VARIED}
    values |= dict(zip(FREE, np.exp(theta).tolist(), strict=True))
    rates = tuple(values.values())
    ys = solve_ivp(
        scalar_field,
        (0.0, EPOCHS[-1]),
        START,
        method="LSODA",
        t_eval=EPOCHS,
        args=(rates,),
        rtol=1e-6,
        atol=1e-8,
    ).y
    return ys[:4].ravel()


def scipy_intervals(observed: np.ndarray, names: tuple[str, ...]) -> dict:
    """The ends of each profile by Brent's method, each point refitted from the one before."""
    start = np.log([TRUTH[name] for name in FREE])
    best = _fit(lambda free: (predict(free) - observed) / NOISE, start)
    return {name: _ends(observed, best.x, 2 * best.cost, FREE.index(name)) for name in names}


def _fit(residual: Callable[[np.ndarray], np.ndarray], start: np.ndarray):
    # Solver noise is about 1e-7: the default difference would be lost in it.
    return least_squares(residual, start, method="lm", diff_step=1e-4, xtol=1e-6, ftol=1e-6)


def _ends(observed: np.ndarray, best: np.ndarray, least: float, held: int) -> tuple[float, float]:
    others = np.arange(best.size) != held
    warm = best[others]

    def excess(value: float) -> float:
        nonlocal warm

        def residual(free: np.ndarray) -> np.ndarray:
            theta = np.empty_like(best)
            theta[others], theta[held] = free, value
            return (predict(theta) - observed) / NOISE

        fitted = _fit(residual, warm)
        warm = fitted.x
        return 2 * fitted.cost - least - THRESHOLD

    ends = []
    for side in (-1.0, 1.0):
        warm, width = best[others], 0.1
        while excess(best[held] + side * width) < 0:
            width *= 2.0
        bracket = sorted((best[held], best[held] + side * width))
        root = brentq(excess, *bracket, xtol=1e-4)
        ends.append(float(np.exp(root)))  # pyright: ignore[reportCallIssue, reportArgumentType]
    return ends[0], ends[1]
