"""Sobol indices: how much of an outcome's variance each uncertain input explains."""

from collections.abc import Callable, Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._check import require_in


class SobolIndices(eqx.Module):
    """First-order and total indices, by input, each with a 95 % bootstrap interval's half width."""

    first: dict[str, float]
    """Share of the variance that the input explains alone."""
    first_margin: dict[str, float]
    total: dict[str, float]
    """Share that it explains together with all its interactions."""
    total_margin: dict[str, float]
    evaluations: int
    mean: float
    """The outcome's mean over the inputs' box."""
    variance: float


def sobol_indices(
    evaluate_batch: Callable[[dict[str, Float[Array, " evaluations"]]], Float[Array, "..."]],
    bounds: Mapping[str, tuple[float, float]],
    *,
    samples: int = 1024,
    seed: int = 0,
) -> SobolIndices:
    """Variance-based sensitivity of a scalar outcome to independent, uniform inputs.

    **Arguments:** `evaluate_batch`, from a dictionary of inputs, each `[evaluations]`, to
    outcomes `[evaluations]`: it is compiled and called once; `bounds`, (low, high) of each input;
    `samples`, a power of two: there are samples · (inputs + 2) evaluations; `seed`, of the
    sequence's scrambling and of the bootstrap.

    Sampling and analysis are SALib's (install `sigma_jax[inference]`).

    **Raises** `ValueError` if SALib is not installed, samples is not a power of two, a bound is
    empty, or an outcome is missing, not finite or the same everywhere.

    Source: Saltelli et al. (2010), Computer Physics Communications 181, 259–270.
    """
    analyze, sample = _salib()
    if samples < 2 or samples & (samples - 1):
        raise ValueError(f"samples must be a power of two; got {samples}.")
    if not bounds:
        raise ValueError("bounds must name at least one input; got none.")
    for name, (low, high) in bounds.items():
        require_in(f"bounds[{name!r}]", high, low, open_low=True)
    problem = {
        "num_vars": len(bounds),
        "names": list(bounds),
        "bounds": [list(pair) for pair in bounds.values()],
    }
    inputs = sample(problem, samples, calc_second_order=False, seed=seed)
    batch = dict(zip(bounds, jnp.asarray(inputs.T), strict=True))
    outcome = np.asarray(eqx.filter_jit(evaluate_batch)(batch), float)
    if outcome.shape != (len(inputs),):
        raise ValueError(f"evaluate_batch must return {len(inputs)} outcomes; got {outcome.shape}.")
    if not np.isfinite(outcome).all():
        bad = np.flatnonzero(~np.isfinite(outcome))[0]
        at = {name: float(column[bad]) for name, column in batch.items()}
        raise ValueError(f"evaluate_batch has no finite value at {at}.")
    if np.ptp(outcome) == 0.0:
        raise ValueError(
            f"the outcome is {outcome[0]:g} everywhere: there is no variance to share."
        )
    found = analyze(problem, outcome, calc_second_order=False, conf_level=0.95, seed=seed)

    def by_name(column: str) -> dict[str, float]:
        return dict(zip(bounds, found[column].tolist(), strict=True))

    return SobolIndices(
        first=by_name("S1"),
        first_margin=by_name("S1_conf"),
        total=by_name("ST"),
        total_margin=by_name("ST_conf"),
        evaluations=len(inputs),
        mean=float(outcome.mean()),
        variance=float(outcome.var()),
    )


def _salib():
    try:
        from SALib.analyze.sobol import analyze
        from SALib.sample.sobol import sample
    except ImportError as error:
        raise ValueError(
            "sobol_indices needs SALib, which is not installed: pip install sigma_jax[inference]"
        ) from error
    return analyze, sample
