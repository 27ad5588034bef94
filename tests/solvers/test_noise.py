"""The random numbers: JAX's own bits, an exact transform, and no correlations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend.random import threefry_2x32

from sigma_jax.solvers import noise

ALL = np.arange(2**23, dtype=np.uint32) << np.uint32(9)
"""Every word that the transform can tell apart, but for the two bits that choose a quarter."""


@pytest.fixture(scope="module")
def box_muller():
    return jax.jit(noise.box_muller)


def test_the_bits_are_those_of_jax():
    threefry = jax.jit(noise.threefry)
    words = np.random.default_rng(0).integers(0, 2**32, (5, 2, 1000), dtype=np.uint32)
    for (key_0, key_1), (x_0, x_1) in itertools.pairwise(words):
        key = jnp.array([key_0[0], key_1[0]])
        expected = np.split(np.asarray(threefry_2x32(key, jnp.concatenate([x_0, x_1]))), 2)
        found = threefry(key[0], key[1], jnp.asarray(x_0), jnp.asarray(x_1))
        np.testing.assert_array_equal(np.asarray(found), expected)


def test_every_radius(box_muller):
    """Against the quantiles of the length of a normal vector: variance 1 to seven digits."""
    first, second = (np.asarray(z, float) for z in box_muller(ALL, np.zeros_like(ALL)))
    radius = np.hypot(first, second)
    share = (np.arange(2**23) + 0.5) / 2**23
    expected = scipy.stats.rayleigh.isf(share)  # a small word is a large radius
    np.testing.assert_allclose(radius, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.mean(radius**2) / 2, 1.0, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.mean(radius**4) / 8, 1.0, rtol=0, atol=1e-4)
    assert 5.7 < radius.max() < 5.8


def test_angles(box_muller):
    """23 bits place an angle evenly within ±45°, and two more reflect it into the four quarters."""
    words = ALL[::4]
    x, y = np.empty((2, 4, words.size))
    radial = np.full_like(words, ALL[2**22])
    for quarter in range(4):
        x[quarter], y[quarter] = box_muller(radial, words | np.uint32(quarter))
    x, y = np.array([x, y]) / np.sqrt(2.0 * np.log(2.0))
    angle = np.pi / 4 * (2.0 * ((words >> 9) + 0.5) / 2**23 - 1.0)
    cosine, sine = np.cos(angle), np.sin(angle)
    expected = [(cosine, sine), (-cosine, sine), (sine, cosine), (sine, -cosine)]
    np.testing.assert_allclose(np.stack([x, y], axis=1), expected, rtol=0, atol=5e-7)
    for moment in (x.mean(), y.mean(), (x * y).mean(), (x**2).mean() - 0.5):
        assert abs(moment) < 1e-6


def test_only_the_two_lowest_bits_choose_the_quarter(box_muller):
    rng = np.random.default_rng(1)
    radial, angular = rng.integers(0, 2**32, (2, 10_000), dtype=np.uint32)
    x, y = (np.asarray(z) for z in box_muller(radial, angular))
    swapped, flipped = angular & 2 != 0, angular & 1 != 0
    np.testing.assert_array_equal(np.abs(x) < np.abs(y), swapped)
    np.testing.assert_array_equal(np.where(swapped, y, x) < 0, flipped)


@pytest.fixture(scope="module", params=["normals", "signs"])
def deviates(request):
    """`[steps, components, paths]` = `[256, 7, 1024]` deviates of successive keys."""
    source = {"normals": noise.NORMALS, "signs": noise.SIGNS}[request.param]
    keys = jax.random.split(jax.random.key(5), 1024)

    @jax.jit
    def draw(keys):
        drawn = source.draw(keys, jnp.arange(256 // source.steps), 7)
        every = jax.vmap(
            lambda place: jax.vmap(lambda d: source.deviates(d, place, jnp.ones(())))(drawn)
        )
        return every(jnp.arange(source.steps))

    places = np.asarray(draw(keys))
    return request.param, np.moveaxis(places, 0, 1).reshape(256, 7, 1024)


def test_their_distribution(deviates):
    name, z = deviates
    if name == "signs":
        np.testing.assert_array_equal(np.unique(z), [-1.0, 1.0])
    else:
        assert scipy.stats.kstest(z.ravel(), "norm").pvalue > 0.01
    five_errors = 5.0 / np.sqrt(z.size)
    assert abs(z.mean()) < five_errors
    assert abs((z**2).mean() - 1.0) < five_errors * np.sqrt(2.0)
    assert abs((z**3).mean()) < five_errors * np.sqrt(15.0)


def test_no_correlation_between_steps_components_and_paths(deviates):
    _, z = deviates
    moved = [np.roll(z, shift, axis) for axis in range(3) for shift in (1, 2, 3)]
    for other in [*moved, np.roll(z, 32, axis=0), z[::-1], z[..., ::-1]]:
        assert abs((z * other).mean()) < 5.0 / np.sqrt(z.size)
        sizes = (np.abs(z) - np.abs(z).mean()) * (np.abs(other) - np.abs(z).mean())
        assert abs(sizes.mean()) < 5.0 / np.sqrt(z.size)


def test_any_part_can_be_drawn_again():
    keys = jax.random.split(jax.random.key(0), 3)
    for source in (noise.NORMALS, noise.SIGNS):
        draw = jax.jit(source.draw, static_argnums=2)
        whole = draw(keys, jnp.arange(10), 4)
        part = draw(keys[1:2], jnp.array([7]), 3)
        np.testing.assert_array_equal(np.asarray(part)[0], np.asarray(whole)[7, :3, 1:2])
