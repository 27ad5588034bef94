"""Two models of the same observations compared: by likelihood, or by prediction."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy import special

from .._check import require_in
from .association import standardised_design
from .results import NORMAL_95, t_result
from .samples import (
    columns,
    no_variance,
    require_equal_lengths,
    require_observations,
    sample,
    variance,
)


@dataclass(frozen=True)
class Comparison:
    """Which of two models describes the same observations better."""

    statistic: float
    """Positive if the first is better."""
    p_value: float
    """Two-sided, under models that are equally good."""
    favours: Literal["first", "second", "neither"]
    """Which is better with p < 0.05."""
    mean_difference: float
    """By how much the first is better, per observation."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    n: int


def vuong(
    log_likelihood_a: Float[ArrayLike, " observations"],
    log_likelihood_b: Float[ArrayLike, " observations"],
    *,
    parameters: tuple[int, int],
) -> Comparison:
    """Vuong's test of two models that are not nested, with Schwarz's correction.

    **Arguments:** each observation's log-likelihood at each model's maximum-likelihood estimate;
    `parameters`, how many each model fitted. Observations must be independent. Where one model
    contains the other, or both can become the same, the statistic is not normal: compare
    by `cross_validate`.

    **Returns** a `Comparison` whose difference is in log-likelihood (nats) an observation, less the
    correction ½ (k_a − k_b) log(n) / n.

    **Raises** `ValueError` for unequal lengths, log-likelihoods that are not finite, fewer than
    two, no more observations than parameters, or models whose log-likelihoods do not differ.

    Source: Vuong (1989), Econometrica 57, 307–333.
    """
    a = sample("log_likelihood_a", log_likelihood_a)
    b = sample("log_likelihood_b", log_likelihood_b)
    require_equal_lengths("vuong", log_likelihood_a=a, log_likelihood_b=b)
    require_observations("vuong", 2, a)
    require_in("parameters", parameters, 0)
    n = a.size
    _require_more_observations(n, max(parameters))
    difference = a - b
    squared = variance(difference, scale=float(max(np.abs(a).max(), np.abs(b).max())))
    if squared == 0.0:
        raise no_variance("all differences of log-likelihood")
    penalty = 0.5 * (parameters[0] - parameters[1]) * math.log(n)
    mean = float(difference.mean()) - penalty / n
    error = math.sqrt(squared * (n - 1)) / n  # Vuong divides the sum of squares by n
    p_value = float(2.0 * special.ndtr(-abs(mean / error)))
    low, high = mean - NORMAL_95 * error, mean + NORMAL_95 * error
    return Comparison(mean / error, p_value, _favours(mean, p_value), mean, low, high, n)


def normal_log_likelihood(
    y: Float[ArrayLike, " observations"],
    fitted: Float[ArrayLike, " observations"],
    parameters: int = 0,
) -> Float[np.ndarray, " observations"]:
    """Each observation's log-likelihood under independent normal errors of one variance.

    The variance is its maximum-likelihood estimate, the mean squared residual.

    **Arguments:** `parameters`, how many coefficients were fitted, to be checked against the
    number of observations; they do not change the result.

    **Raises** `ValueError` for unequal lengths, NaN or infinite entries, no more observations than
    parameters, or a fit without residuals.
    """
    y, fitted = sample("y", y), sample("fitted", fitted)
    require_equal_lengths("normal_log_likelihood", y=y, fitted=fitted)
    require_observations("normal_log_likelihood", 1, y)
    _require_more_observations(y.size, parameters)
    squared = (y - fitted) ** 2
    mean = float(squared.mean())
    if mean <= (1e-14 * np.abs(y).max()) ** 2:
        raise no_variance("y lies on the fit: all residuals")
    return -0.5 * (math.log(2.0 * math.pi * mean) + squared / mean)


def cross_validate(
    design_a: Float[ArrayLike, "observations columns_a"],
    design_b: Float[ArrayLike, "observations columns_b"],
    y: Float[ArrayLike, " observations"],
    *,
    folds: int = 10,
    seed: int = 0,
) -> Comparison:
    """Compare two linear models of y by their squared errors on observations held out.

    Both get an intercept and the same random folds. The folds' mean differences are compared with
    zero by a t test whose variance is raised, by Nadeau and Bengio's factor, for training sets
    that overlap; it has folds − 1 degrees of freedom and errs towards `neither`.

    **Returns** a `Comparison` whose difference is the second model's squared error less the
    first's, in y's unit squared.

    **Raises** `ValueError` for unequal lengths, NaN or infinite entries, fewer than two folds or
    more than observations, training sets with no more observations than coefficients, or models
    whose errors do not differ.

    Source: Nadeau & Bengio (2003), Machine Learning 52, 239–281.
    """
    y = sample("y", y)
    require_observations("cross_validate", 4, y)
    designs = [columns("design_a", design_a, y.size), columns("design_b", design_b, y.size)]
    require_in("folds", folds, 2, y.size)
    fold = np.random.default_rng(seed).permutation(y.size) % folds
    errors = [_held_out_errors(design, y, fold) for design in designs]
    differences = np.array([np.mean((errors[1] - errors[0])[fold == k]) for k in range(folds)])
    squared = variance(differences, scale=float(np.max(errors)))
    if squared == 0.0:
        raise no_variance("all differences between the two models' errors")
    error = math.sqrt(squared * (1.0 / folds + 1.0 / (folds - 1)))  # tested per trained
    test = t_result(float(differences.mean()), error, folds - 1, (y.size,), "two-sided")
    favours = _favours(test.estimate, test.p_value)
    return Comparison(
        test.statistic, test.p_value, favours, test.estimate, test.low, test.high, y.size
    )


def _held_out_errors(design, y, fold):
    """Squared error of every observation, predicted by the fit to the other folds."""
    design = standardised_design(design)
    smallest = y.size - np.bincount(fold).max()
    _require_more_observations(int(smallest), design.shape[1])
    predicted = np.empty_like(y)
    for k in np.unique(fold):
        train = fold != k
        predicted[~train] = design[~train] @ np.linalg.lstsq(design[train], y[train])[0]
    return (y - predicted) ** 2


def _favours(difference: float, p_value: float) -> Literal["first", "second", "neither"]:
    if p_value >= 0.05:
        return "neither"
    return "first" if difference > 0.0 else "second"


def _require_more_observations(observations: int, parameters: int) -> None:
    if observations <= parameters:
        raise ValueError(
            f"{parameters} parameters need more than {parameters} observations to be fitted to; "
            f"got {observations}."
        )
