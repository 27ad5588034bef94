"""Attractors: shares against a textbook mixture; basins found, merged and followed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.runtime.attractors import (
    DEFAULT,
    IDENTITY,
    attractor_parameters,
    attractor_step,
    start_attractors,
)
from tests.runtime.simulated_replies import known_parameters

SIZES = (6, 8)


def basins(**options):
    return attractor_parameters(known_parameters(SIZES), **options)


@jax.jit
def follow(parameters, y, present):
    def turn(state, seen):
        state, measurement = attractor_step(parameters, state, *seen)
        return state, (state, measurement)

    return jax.lax.scan(turn, start_attractors(parameters), (y, present))[1]


def followed(y, present=None, parameters=None):
    present = np.ones(len(y), bool) if present is None else present
    parameters = basins() if parameters is None else parameters
    return follow(parameters, jnp.asarray(y), jnp.asarray(present))


def noise(seed, turns):
    return np.random.default_rng(seed).normal(size=(turns, 14))


def place(index, distance):
    return distance * (np.arange(14) == index)


def test_shares_are_those_of_a_mixture_of_normals():
    y = noise(0, 30) + 0.5 * np.asarray(basins().known[1])
    _, m = followed(y)
    means, weights = np.asarray(basins().known), np.ones(2)
    for turn, reply in enumerate(y):
        density = weights * np.exp(-0.5 * np.sum((reply - means) ** 2, axis=1))
        shares = density / density.sum()
        np.testing.assert_allclose(m.shares[turn, :2], shares, rtol=1e-8, atol=1e-12)
        assert not np.asarray(m.shares[turn, 2:]).any()
        weights += shares


def test_the_current_basin_changes_after_three_replies_and_not_for_one():
    y = 0.3 * noise(1, 60)
    default = np.asarray(basins().known[1])
    y[10] += default
    y[20:22] += default
    y[30:40] += default
    _, m = followed(y)
    expected = np.zeros(60, int)
    expected[32:42] = DEFAULT
    np.testing.assert_array_equal(m.attractor, expected)
    assert not np.asarray(m.found).any()


def test_five_far_replies_near_each_other_are_a_new_basin_and_scattered_ones_are_not():
    y = noise(2, 60)
    y[20:40] += place(3, -12.0)
    states, m = followed(y)
    assert np.flatnonzero(m.found).tolist() == [24]
    assert (np.asarray(m.attractor)[30:40] == 2).all()
    assert (np.asarray(m.attractor)[45:] == IDENTITY).all()
    found = np.asarray(states.means[39, 2])
    assert np.linalg.norm(found - place(3, -12.0)) < 3 * np.sqrt(14 / 20)
    scattered = noise(3, 60)
    scattered[20:40] *= 10.0
    assert not np.asarray(followed(scattered)[1].found).any()


def test_a_gap_does_not_join_far_replies_and_an_absent_one_does_not_divide_them():
    y = noise(4, 40) + place(2, 15.0)
    y[4::5] -= place(2, 15.0)
    assert not np.asarray(followed(y)[1].found).any()
    present = np.arange(40) % 5 != 4
    assert np.asarray(followed(y, present)[1].found)[5]


def test_basins_that_come_to_overlap_are_merged():
    """A basin is walked over to another one, which it then is."""
    steps = np.concatenate([np.full(40, 20.0), np.linspace(20.0, 4.0, 400), np.full(100, 4.0)])
    y = 0.3 * noise(5, 540)
    y[:20] += place(2, 4.0) + place(9, 8.0)
    y[20:] += steps[:520, None] * (np.arange(14) == 2) + place(9, 8.0)
    states, m = followed(y)
    assert np.asarray(m.found).sum() >= 2
    assert np.asarray(m.merged).any()
    active = (np.asarray(states.weights) > 0).sum(axis=1)
    first = np.flatnonzero(m.merged)[0]
    assert active[first] == active[first - 1] - 1
    # Whatever is left is apart: exp(−d²/8) at most 0.6.
    means = np.asarray(states.means[-1])[np.asarray(states.weights[-1]) > 0]
    apart = np.linalg.norm(means[:, None] - means, axis=-1) + 1e9 * np.eye(len(means))
    assert apart.min() >= np.sqrt(-8 * np.log(0.6)) - 1e-9
    np.testing.assert_array_equal(states.means[-1, :2], basins().known)


def test_no_more_basins_than_there_are_places():
    y = 0.3 * noise(6, 60)
    for spell in range(6):
        y[spell * 10 : spell * 10 + 10] += place(spell, -20.0)
    for most, count in ((0, 0), (2, 2), (4, 4)):
        states, m = followed(y, parameters=basins(most=most))
        assert int(np.asarray(m.found).sum()) == count
        assert states.means.shape[1] == 2 + most


def test_an_absent_reply_changes_nothing():
    y = noise(7, 20)
    y[5:15] = np.nan
    states, m = followed(y)
    for leaf in jax.tree.leaves(states):
        assert np.isfinite(np.asarray(leaf)).all()
        np.testing.assert_array_equal(leaf[5:15], np.broadcast_to(leaf[4], leaf[5:15].shape))
    assert not np.asarray(m.shares)[5:15].any()


def test_without_a_default_there_is_one_basin():
    parameters = attractor_parameters(known_parameters(SIZES, distances=(0.0, 0.0)))
    _, m = followed(noise(8, 20), parameters=parameters)
    np.testing.assert_array_equal(m.shares[:, IDENTITY], 1.0)
    with pytest.raises(ValueError, match="most must lie in"):
        basins(most=-1)
