"""How one variable goes with another: rank correlation, a robust slope, the share explained."""

import functools
import itertools
import math

import numpy as np
import scipy
from jaxtyping import ArrayLike, Float

from .results import NORMAL_95, TestResult, t_p_value, t_result
from .samples import (
    columns,
    no_variance,
    require_alternative,
    require_equal_lengths,
    require_observations,
    sample,
    variance,
)

EXACT_BELOW = 9
"""With fewer observations all permutations of the ranks are counted: 40,320 for eight."""


def spearman(
    x: Float[ArrayLike, " n"], y: Float[ArrayLike, " n"], *, alternative: str = "two-sided"
) -> TestResult:
    """Spearman's rank correlation.

    The p-value is exact, by all permutations of the ranks, up to eight observations; from nine on
    it comes from Student's t with n − 2 degrees of freedom.

    **Returns** a `TestResult` whose statistic and estimate are the correlation. The interval is
    Fisher's z with Bonett and Wright's standard error. A perfect correlation is taken half a
    step below one: otherwise its interval would be a point, and Student's p-value zero.

    **Raises** `ValueError` for unequal lengths, NaN or infinite observations, fewer than four, or
    a constant sample.

    Source: Bonett & Wright (2000), Psychometrika 65, 23–28.
    """
    require_alternative(alternative)
    x, y = sample("x", x), sample("y", y)
    require_equal_lengths("spearman", x=x, y=y)
    require_observations("spearman", 4, x)
    for name, values in {"x": x, "y": y}.items():
        if values.min() == values.max():
            raise no_variance(f"all observations of {name}")
    n = x.size
    rank_x, rank_y = (_standardised_ranks(values) for values in (x, y))
    rho = float(np.clip(rank_x @ rank_y, -1.0, 1.0))
    half_step = 6.0 / (n**3 - n)  # exchanging two neighbouring ranks changes rho by two of these
    inner = np.clip(rho, half_step - 1.0, 1.0 - half_step)
    margin = NORMAL_95 * math.sqrt((1.0 + 0.5 * inner**2) / (n - 3))
    low, high = np.tanh(np.arctanh(inner) + np.array([-margin, margin]))
    if n < EXACT_BELOW:
        p_value, freedom = _exact_p_value(rank_x, rank_y, rho, alternative), ()
    else:
        statistic = float(inner) * math.sqrt((n - 2) / (1.0 - float(inner) ** 2))
        p_value = t_p_value(statistic, n - 2, alternative)
        freedom = (float(n - 2),)
    return TestResult(rho, p_value, freedom, rho, min(float(low), rho), max(float(high), rho), (n,))


def _standardised_ranks(values):
    centred = scipy.stats.rankdata(values) - 0.5 * (values.size + 1)
    return centred / np.linalg.norm(centred)


@functools.cache
def _permutations(n: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(n))), np.int8)


def _exact_p_value(rank_x, rank_y, rho, alternative) -> float:
    """Share of all permutations at least as extreme as what was seen."""
    everywhere = rank_y[_permutations(rank_y.size)] @ rank_x
    slack = 1e-9  # equal correlations may differ by rounding
    if alternative == "two-sided":
        return float(np.mean(np.abs(everywhere) >= abs(rho) - slack))
    sign = 1.0 if alternative == "greater" else -1.0
    return float(np.mean(sign * everywhere >= sign * rho - slack))


def slope(
    x: Float[ArrayLike, " n"],
    y: Float[ArrayLike, " n"],
    *,
    alternative: str = "two-sided",
    covariates: Float[ArrayLike, "n columns"] | None = None,
) -> TestResult:
    """Slope of y on x by least squares, with standard errors robust to unequal variances (HC3).

    **Arguments:** `covariates`, one or several columns that the slope is adjusted for. An
    intercept is always fitted.

    **Returns** a `TestResult` whose estimate is the slope, in y's unit per x's unit, tested by
    Student's t with as many degrees of freedom as observations minus coefficients.

    **Raises** `ValueError` for unequal lengths, NaN or infinite observations, too few of them for
    the coefficients, x constant or determined by the covariates, an observation that alone
    determines a coefficient, or y without scatter around the fit.

    Source: MacKinnon & White (1985), J. Econometrics 29, 305–325; Long & Ervin (2000).
    """
    from statsmodels.regression.linear_model import OLS  # takes a second to import

    require_alternative(alternative)
    x, y = sample("x", x), sample("y", y)
    require_equal_lengths("slope", x=x, y=y)
    require_observations("slope", 3, x)
    scale = math.sqrt(variance(x))
    if scale == 0.0:
        raise no_variance("all observations of x")
    regressors = x[:, None]
    if covariates is not None:
        regressors = np.hstack([regressors, columns("covariates", covariates, x.size)])
    design = standardised_design(regressors)
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise ValueError(
            "x and the covariates must be linearly independent: one of these columns is constant "
            "or a combination of the others."
        )
    leverage = np.sum(np.linalg.qr(design)[0] ** 2, axis=1)
    if leverage.max() > 1.0 - 1e-10:
        raise ValueError(
            f"observation {int(leverage.argmax())} alone determines a coefficient: its residual is "
            "zero whatever it is, and no robust standard error exists."
        )
    fit = OLS(y, design).fit(cov_type="HC3", use_t=True)
    if np.linalg.norm(fit.resid) <= 1e-13 * np.linalg.norm(y):
        raise no_variance("y lies on the fit: all residuals")
    estimate, error = float(fit.params[1] / scale), float(fit.bse[1] / scale)
    return t_result(estimate, error, float(fit.df_resid), (x.size,), alternative)


def standardised_design(
    regressors: Float[np.ndarray, "observations columns"],
) -> Float[np.ndarray, "observations coefficients"]:
    """An intercept beside the columns, each centred and, unless constant, scaled to unit SD.

    Raises ValueError unless there are more observations than coefficients.
    """
    rows, count = regressors.shape[0], regressors.shape[1] + 1
    if rows <= count:
        raise ValueError(
            f"{count} coefficients, the intercept included, need more than {count} observations; "
            f"got {rows}."
        )
    deviations = np.sqrt([variance(column) for column in regressors.T])
    centred = (regressors - regressors.mean(0)) / np.where(deviations > 0.0, deviations, 1.0)
    return np.column_stack([np.ones(rows), np.where(deviations > 0.0, centred, 0.0)])


def r_squared(
    design: Float[ArrayLike, "observations columns"], y: Float[ArrayLike, " observations"]
) -> float:
    """Share of the variance of y that least squares on `design` and an intercept explains.

    **Raises** `ValueError` for unequal lengths, NaN or infinite entries, no more observations than
    coefficients, or a constant y.
    """
    y = sample("y", y)
    require_observations("r_squared", 2, y)
    if variance(y) == 0.0:
        raise no_variance("all observations of y")
    design = standardised_design(columns("design", design, y.size))
    centred = y - y.mean()
    residual = centred - design @ np.linalg.lstsq(design, centred)[0]
    return float(np.clip(1.0 - residual @ residual / (centred @ centred), 0.0, 1.0))
