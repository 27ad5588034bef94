"""Answers that come in clusters, such as those to one message, tell less than independent ones."""

from collections.abc import Callable, Iterable

import numpy as np
from scipy import special

from .asking import Outcome


def worth_of_answers(
    outcomes: Iterable[Outcome],
    *,
    cell: Callable[[Outcome], str],
    cluster: Callable[[Outcome], str],
) -> dict[str, float]:
    """For each cell, how many independent answers one answer tells as much as: for `interval_of`.

    That is one over the design effect, the variance of the share of right answers as the clusters
    scatter by what it would be if answers were independent, but one at most. It is less by
    (z / t)² for normal and Student's quantiles with clusters − 1 degrees of freedom, so that a
    scatter seen in few clusters is not taken for known. Where all answers are right, or none is,
    no scatter can be seen: a cluster then counts as one answer.

    Source: Korn and Graubard (1998), Survey Methodology 24, 193–201.
    """
    counts: dict[str, dict[str, list[int]]] = {}
    for outcome in outcomes:
        if outcome.answered:
            count = counts.setdefault(cell(outcome), {}).setdefault(cluster(outcome), [0, 0])
            count[0] += outcome.right
            count[1] += 1
    return {
        name: _worth(np.asarray(list(clusters.values()), float))
        for name, clusters in counts.items()
    }


def _worth(counts: np.ndarray) -> float:
    """From the right answers and the answers of each cluster."""
    right, answers = counts.T
    clusters, total = len(counts), float(answers.sum())
    if clusters == 1:
        return 1.0 / total  # no scatter either
    mean = float(right.sum()) / total
    residuals = right - mean * answers
    variance = clusters / (clusters - 1) * float(residuals @ residuals) / total**2
    independent = mean * (1.0 - mean) / total
    effect = max(1.0, variance / independent) if independent > 0.0 else total / clusters
    quantiles = special.ndtri(0.975) / special.stdtrit(clusters - 1, 0.975)
    return float(quantiles) ** 2 / effect
