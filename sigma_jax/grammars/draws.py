"""Choices at random that are the same for the same seed on every machine."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TypeVar

Draw = Callable[[], float]
"""`random.Random(seed).random`: the one method whose values Python promises to keep."""

Option = TypeVar("Option")


def choose(draw: Draw, options: Sequence[Option]) -> Option:
    """One of the options, each with equal chance."""
    return options[int(draw() * len(options))]


def choose_weighted(draw: Draw, options: Sequence[tuple[Option, float]]) -> Option:
    """One of the options, with a chance in proportion to the weight beside it."""
    bounds = list(accumulate(weight for _, weight in options))
    at = draw() * bounds[-1]
    return next(option for (option, _), bound in zip(options, bounds, strict=True) if at < bound)
