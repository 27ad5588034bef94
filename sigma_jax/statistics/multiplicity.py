"""P-values adjusted for how many tests were made."""

import numpy as np
from jaxtyping import ArrayLike, Float

from .shares import require_p_values


def holm(p_values: Float[ArrayLike, " tests"]) -> Float[np.ndarray, " tests"]:
    """Holm's adjusted p-values: the family-wise error rate, under any dependence.

    **Raises** `ValueError` for no p-values or any outside [0, 1].

    Source: Holm (1979), Scandinavian J. Statistics 6, 65–70.
    """
    return _adjusted(p_values, "holm")


def bonferroni(p_values: Float[ArrayLike, " tests"]) -> Float[np.ndarray, " tests"]:
    """Bonferroni's adjusted p-values: each times the number of tests, at most one.

    Holm's are never larger and guarantee the same. **Raises** `ValueError` as `holm` does.
    """
    return _adjusted(p_values, "bonferroni")


def benjamini_hochberg(p_values: Float[ArrayLike, " tests"]) -> Float[np.ndarray, " tests"]:
    """Benjamini and Hochberg's adjusted p-values: the false discovery rate.

    For independent or positively dependent tests. **Raises** `ValueError` as `holm` does.

    Source: Benjamini & Hochberg (1995), J. Royal Statistical Society B 57, 289–300.
    """
    return _adjusted(p_values, "fdr_bh")


def _adjusted(p_values, method):
    from statsmodels.stats.multitest import multipletests  # takes a second to import

    return np.asarray(multipletests(require_p_values(p_values), method=method)[1])
