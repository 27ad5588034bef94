"""How much of a treatment's effect goes through a mediator."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy import special

from .._check import require_in
from .results import NORMAL_95, EffectSize
from .samples import no_variance, require_equal_lengths, require_observations, sample, variance


@dataclass(frozen=True)
class Mediation:
    """Paths of a treatment's effect on an outcome, in the outcome's unit per the treatment's."""

    indirect: EffectSize
    """Through the mediator: treatment on mediator times mediator on outcome."""
    direct: EffectSize
    """At a fixed mediator."""
    total: EffectSize
    """Their sum."""
    p_value: float
    """Of the indirect effect, two-sided: where its interval would just reach zero."""
    share: float
    """Indirect by total effect: outside [0, 1] if the paths have opposite signs, infinite if the
    total effect is zero."""


def mediation(
    treatment: Float[ArrayLike, " n"],
    mediator: Float[ArrayLike, " n"],
    outcome: Float[ArrayLike, " n"],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Mediation:
    """Product-of-coefficients mediation in linear models, with a bias-corrected bootstrap.

    The mediator is regressed on the treatment, and the outcome on both. That the indirect effect
    is causal is an assumption (nothing unmeasured moves both mediator and outcome), not a result.

    **Raises** `ValueError` for unequal lengths, NaN or infinite observations, fewer than ten, a
    constant variable, fewer than 100 resamples, or a mediator that the treatment determines.

    Source: MacKinnon, Lockwood & Williams (2004), Multivariate Behavioral Research 39, 99–128;
    with one of the two paths absent this interval covers zero somewhat less often than 95 %
    (Fritz, Taylor & MacKinnon 2012).
    """
    names = ("treatment", "mediator", "outcome")
    data = {
        name: sample(name, values)
        for name, values in zip(names, (treatment, mediator, outcome), strict=True)
    }
    require_equal_lengths("mediation", **data)
    require_observations("mediation", 10, data["treatment"])
    require_in("resamples", resamples, 100)
    for name, values in data.items():
        if variance(values) == 0.0:
            raise no_variance(f"all observations of {name}")
    stacked = np.stack(list(data.values()))
    scale = stacked.std(axis=1)
    standard = (stacked - stacked.mean(axis=1, keepdims=True)) / scale[:, None]

    n = stacked.shape[1]
    rows = np.random.default_rng(seed).integers(n, size=(resamples, n))
    observed, _ = _paths(standard[:, None, :])
    draws, identified = _paths(np.take(standard, rows, axis=1))
    if np.mean(identified) < 0.95:
        raise ValueError(
            "the treatment determines the mediator, in the data or in more than 5 % of the "
            "resamples: their paths cannot be told apart. Vary them independently or observe more."
        )
    unit = scale[2] / scale[0]
    indirect, direct, total = (
        _bias_corrected(unit * float(path[0]), unit * path_draws[identified])
        for path, path_draws in zip(observed, draws, strict=True)
    )
    p_value = _p_value(indirect.estimate, unit * draws[0][identified])
    share = (
        indirect.estimate / total.estimate
        if total.estimate != 0.0
        else math.copysign(math.inf, indirect.estimate)
    )
    return Mediation(indirect, direct, total, p_value, share)


def _paths(data):
    """Indirect, direct and total effect in each resample, and where they are identified.

    `data` holds treatment, mediator and outcome, standardised: `[3, resamples, observations]`.
    """
    by_resample = np.moveaxis(data, 0, 1)
    mean = by_resample.mean(axis=-1, keepdims=True)
    covariance = by_resample @ np.swapaxes(by_resample, 1, 2) / data.shape[-1]
    covariance -= mean @ np.swapaxes(mean, 1, 2)
    tt, tm, ty = covariance[:, 0, 0], covariance[:, 0, 1], covariance[:, 0, 2]
    mm, my = covariance[:, 1, 1], covariance[:, 1, 2]
    determinant = tt * mm - tm**2
    identified = determinant > 1e-12
    safe_determinant = np.where(identified, determinant, 1.0)
    safe_tt = np.where(identified, tt, 1.0)
    indirect = tm / safe_tt * (my * tt - ty * tm) / safe_determinant
    direct = (ty * mm - my * tm) / safe_determinant
    return np.stack([indirect, direct, indirect + direct]), identified


def _bias(estimate, draws):
    """The normal quantile of the share of draws below the estimate."""
    below = np.mean(draws < estimate) + 0.5 * np.mean(draws == estimate)
    return special.ndtri(np.clip(below, 0.5 / draws.size, 1.0 - 0.5 / draws.size))


def _bias_corrected(estimate, draws) -> EffectSize:
    shift = 2.0 * _bias(estimate, draws)
    low, high = np.quantile(draws, special.ndtr(shift + np.array([-NORMAL_95, NORMAL_95])))
    return EffectSize(float(estimate), float(low), float(high))


def _p_value(estimate, draws) -> float:
    """Two-sided level at which the bias-corrected interval just reaches zero."""
    below = (np.count_nonzero(draws < 0.0) + 0.5) / (draws.size + 1.0)
    tail = special.ndtr(special.ndtri(below) - 2.0 * _bias(estimate, draws))
    return float(2.0 * min(tail, 1.0 - tail))
