"""False-positive rates: the same test on many studies in which there is nothing to find."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from ..statistics import FalsePositiveRate, false_positive_rate

NULL_ALPHA = 0.05
"""False-positive rates are counted at this level, where 1,000 null studies can see them; the
verdicts themselves use the registered level."""


def two_group_rate(
    test: Callable[[np.ndarray, np.ndarray], float],
    pool: Float[np.ndarray, " agents"],
    n: int,
    studies: int,
    generator: np.random.Generator,
    alpha: float = NULL_ALPHA,
) -> FalsePositiveRate:
    """The rate at which `test` (to a p-value) separates two groups of `n` drawn from one pool.

    The pool holds outcomes of agents of a single condition; each study draws 2n of them without
    replacement.

    **Raises** `ValueError` for a pool smaller than two groups.
    """
    if pool.size < 2 * n:
        raise ValueError(f"a pool of {pool.size} agents cannot give two groups of {n}.")
    p_values = np.empty(studies)
    for study in range(studies):
        drawn = generator.choice(pool, 2 * n, replace=False)
        p_values[study] = test(drawn[:n], drawn[n:])
    return false_positive_rate(p_values, alpha)
