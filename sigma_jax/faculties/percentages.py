"""Percentages that agents predict: read as shares, and resampled for intervals."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from .asking import Outcome
from .questions import Form
from .scores import DRAWS


def predicted_shares(
    outcomes: Iterable[Outcome], group: Callable[[Outcome], str]
) -> dict[str, list[float]]:
    """The predictions that were made, in [0, 1], by group."""
    predicted: dict[str, list[float]] = {}
    for outcome in outcomes:
        if outcome.answered and outcome.question.form is Form.PERCENT:
            predicted.setdefault(group(outcome), []).append(float(outcome.answer) / 100.0)
    return predicted


def resampled(
    values: Sequence[float], middle: Callable[..., Any], purpose: int
) -> Float[np.ndarray, " draws"]:
    """`middle` of as many values drawn from them, as often as `interval_of` draws shares.

    **Arguments:** `middle`, `np.mean` or `np.median`; `purpose`, a number: draws for different ones
    are independent.
    """
    chosen = np.random.default_rng((1, purpose)).integers(len(values), size=(DRAWS, len(values)))
    return middle(np.asarray(values)[chosen], axis=1)


def error_of(
    values: Sequence[float], middle: Callable[..., Any], purpose: int
) -> Callable[[Any], Any]:
    """The function of a share that is the middle of the predictions less it.

    Of draws of the share, as `interval_of` has them, it is taken with the predictions resampled.
    """
    said, drawn = float(middle(values)), resampled(values, middle, purpose)

    def error(share: Any) -> Any:
        return (drawn if np.ndim(share) else said) - share

    return error
