"""Attractors: shares against a textbook mixture; basins found, merged and followed."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.runtime import (
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


def test_basins_that_overlap_are_merged_and_the_known_two_are_not():
    """exp(−d²/8) is 0.88 at a distance of 1, and 0.6 at 2.02."""
    parameters = basins()
    state = start_attractors(parameters)
    for distance, joined in ((1.0, True), (2.0, True), (2.05, False)):
        two = eqx.tree_at(
            lambda s: (s.means, s.weights, s.current),
            state,
            (
                state.means.at[2].set(place(3, 30.0)).at[3].set(place(3, 30.0 + distance)),
                jnp.array([5.0, 1.0, 10.0, 30.0, 0.0, 0.0]),
                jnp.array(3, jnp.int32),
            ),
        )
        after, m = attractor_step(parameters, two, np.zeros(14), True)
        assert bool(m.merged) == joined
        assert int(m.attractor) == (2 if joined else 3)
        if joined:
            np.testing.assert_allclose(after.means[2], place(3, 30.0 + 0.75 * distance), rtol=1e-9)
            np.testing.assert_allclose(after.weights[2:4], [40.0, 0.0], atol=1e-9)
    near = attractor_parameters(known_parameters(SIZES, distances=(0.5, 0.5)))
    _, m = followed(noise(5, 30), parameters=near)
    assert not np.asarray(m.merged).any()


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
