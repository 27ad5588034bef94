"""Batches of two supplies: as many of each as asked for, none left out, evenly spread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.training import Batch, MixedBatches


class Numbered:
    """Batches that hold their supply and number."""

    def __init__(self, supply: int):
        self.supply = supply

    def batch(self, number: int) -> Batch:
        ids = np.array([[self.supply, number]], np.int32)
        return Batch(ids, np.ones((1, 2), bool), np.ones((1, 1), np.float32))


def taken(share: float, count: int) -> list[tuple[int, int]]:
    mixed = MixedBatches(Numbered(0), Numbered(1), share=share)
    return [tuple(mixed.batch(number).ids[0].tolist()) for number in range(count)]


@given(st.floats(0.0, 1.0), st.integers(0, 300))
def test_each_supply_comes_in_order_and_in_its_share(share, count):
    found = taken(share, count)
    for supply in (0, 1):
        numbers = [number for which, number in found if which == supply]
        assert numbers == list(range(len(numbers)))
    old = sum(which for which, _ in found)
    assert abs(old - share * count) < 1.0 + 1e-9


def test_the_ends_and_the_middle():
    assert taken(0.0, 3) == [(0, 0), (0, 1), (0, 2)]
    assert taken(1.0, 3) == [(1, 0), (1, 1), (1, 2)]
    assert taken(0.5, 4) == [(0, 0), (1, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_shares_that_are_none(share):
    with pytest.raises(ValueError, match="share must"):
        MixedBatches(Numbered(0), Numbered(1), share=share)
