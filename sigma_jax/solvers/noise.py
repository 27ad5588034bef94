"""Replayable noise: every deviate a function of (key, step, component), drawn in bulk."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int, Key, Shaped, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


class Source(NamedTuple):
    """Deviates of mean 0 and variance 1, one for each step and component.

    A draw holds the deviates of `steps` successive steps, from step `number · steps` on. It
    depends on the key, its number and the component alone, so any part of a path can be drawn
    again. Both functions work on many paths, whose axis comes last: there it keeps the processor's
    vector units busy.
    """

    steps: int
    """How many steps one draw serves."""
    draw: Callable[[Key[Array, " paths"], Int[Array, " draws"], int], Shaped[Array, "..."]]
    """(keys, numbers of the draws, components) → `[draws, components, paths]`, not yet deviates."""
    deviates: Callable[[Shaped[Array, "..."], Int[Array, ""], Float[Array, ""]], Array]
    """(one draw `[components, paths]`, step within it, scale) → scaled deviates, in its dtype."""


def threefry(
    key_0: UInt32[Array, "..."],
    key_1: UInt32[Array, "..."],
    x_0: UInt32[Array, "..."],
    x_1: UInt32[Array, "..."],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """The Threefry-2x32 block cipher of 20 rounds, on which `jax.random` stands, unrolled.

    The same bits as JAX's own; written out, the compiler keeps the rounds in registers, where
    JAX's loop on CPUs goes through memory at every round.

    Source: Salmon et al. (2011), "Parallel random numbers: as easy as 1, 2, 3", SC11.
    """
    keys = (key_0, key_1, key_0 ^ key_1 ^ _PARITY)
    x_0, x_1 = x_0 + keys[0], x_1 + keys[1]
    for block in range(5):
        for rotation in _ROTATIONS[block % 2]:
            x_0 = x_0 + x_1
            x_1 = (x_1 << np.uint32(rotation)) | (x_1 >> np.uint32(32 - rotation))
            x_1 = x_0 ^ x_1
        x_0 = x_0 + keys[(block + 1) % 3]
        x_1 = x_1 + keys[(block + 2) % 3] + np.uint32(block + 1)
    return x_0, x_1


def _words(
    keys: Key[Array, " paths"], numbers: Int[Array, " draws"], components: int
) -> tuple[UInt32[Array, "draws components paths"], UInt32[Array, "draws components paths"]]:
    """Two random words each: Threefry with the counter (number of the draw, component)."""
    data = jax.random.key_data(keys).astype(jnp.uint32)
    number = numbers.astype(jnp.uint32)[:, None, None]
    component = jnp.arange(components, dtype=jnp.uint32)[None, :, None]
    return threefry(data[None, None, :, 0], data[None, None, :, 1], number, component)


def _normal_pairs(
    keys: Key[Array, " paths"], numbers: Int[Array, " draws"], components: int
) -> Complex[Array, "draws components paths"]:
    """Pairs of normal deviates as the two parts of a complex number.

    One array, because XLA's CPU compiler computes each array of a loop by itself: two would run
    the cipher twice, and stacking them would keep it from using vector instructions.
    """
    return jax.lax.complex(*box_muller(*_words(keys, numbers, components)))


def _one_of_pair(
    pair: Complex[Array, "..."], place: Int[Array, ""], scale: Float[Array, ""]
) -> Float[Array, "..."]:
    return scale * jnp.where(place == 0, pair.real, pair.imag).astype(scale.dtype)


def _sign_words(
    keys: Key[Array, " paths"], numbers: Int[Array, " draws"], components: int
) -> UInt32[Array, "draws components paths"]:
    return _words(keys, numbers, components)[0]


def _sign(
    word: UInt32[Array, "..."], place: Int[Array, ""], scale: Float[Array, ""]
) -> Float[Array, "..."]:
    bit = word & (np.uint32(1) << place.astype(jnp.uint32))
    return jnp.where(bit == 0, -scale, scale)


NORMALS = Source(2, _normal_pairs, _one_of_pair)
"""Normal deviates up to ±5.8: Brownian increments, once they are multiplied by √h."""

SIGNS = Source(32, _sign_words, _sign)
"""+1 or −1 with probability one half: the first three moments of a normal deviate, for weak
order 1 at a small part of the cost (Kloeden & Platen 1992, §14.1)."""


def increments(
    source: Source,
    keys: Key[Array, " paths"],
    first: Int[Array, ""],
    count: int,
    components: int,
    h: Float[Array, ""],
) -> Callable[[Int[Array, ""]], Float[Array, "components paths"]]:
    """Draw the increments over `count` steps of length `h`, from step `first` on.

    `first` is a multiple of `count`. **Returns** a function from a step's number to its increments,
    which are a function of the key, that number and the component alone.
    """
    aligned = count % source.steps == 0 or source.steps % count == 0
    origin = first // source.steps
    draws = -(-count // source.steps) + (not aligned)
    numbers = origin + jnp.arange(draws, dtype=jnp.result_type(origin))
    drawn = source.draw(keys, numbers, components)

    def of_step(number):
        draw, place = drawn[number // source.steps - origin], number % source.steps
        return source.deviates(draw, place, jnp.sqrt(h))

    return of_step


def summed(
    of_step: Callable[[Int[Array, ""]], Float[Array, "components paths"]],
    first: Int[Array, ""],
    count: int,
) -> Float[Array, "components paths"]:
    """The increments of `count` successive steps together."""
    if count == 1:
        return of_step(first)
    numbers = first + jnp.arange(count, dtype=jnp.result_type(first))
    return jnp.sum(jax.vmap(of_step)(numbers), axis=0)


# Minimax-like fits at Chebyshev nodes on [0, (π/4)²], in x²; absolute error below 2e-8.
_SINE = (-0.16666664, 0.008332748, -0.0001958789)
_COSINE = (0.041666664, -0.0013888302, 2.4547942e-05)


def box_muller(
    radial: UInt32[Array, "..."], angular: UInt32[Array, "..."]
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Two independent standard normal deviates from two random words, in single precision.

    The radius √(−2 ln u) takes 2²³ values of equal probability up to 5.8, the angle 2²⁵: 23 bits
    place it within a quarter of the circle, two more choose the quarter. Nothing is ever infinite.

    Source: Box & Muller (1958), Annals of Mathematical Statistics 29, 610–611.
    """
    # Midpoints of 2²³ equal parts of (0, 1), and of (−1, 1); both are exact in single precision.
    uniform = _from_one_to_two(radial) - np.float32(1.0 - 2.0**-24)
    signed = (np.float32(2.0) * _from_one_to_two(angular) - np.float32(3.0)) + np.float32(2.0**-23)
    radius = jnp.sqrt(np.float32(-2.0) * jnp.log(uniform))
    x = np.float32(np.pi / 4) * signed
    squared = x * x
    sine = x + x * squared * _polynomial(_SINE, squared)
    cosine = np.float32(1.0) + squared * (
        np.float32(-0.5) + squared * _polynomial(_COSINE, squared)
    )
    # The bits below the mantissa's: the lowest moves the point to the other side of the vertical
    # axis, the next reflects it in the diagonal.
    flipped = jax.lax.bitcast_convert_type(cosine, jnp.uint32) ^ (angular << np.uint32(31))
    cosine = jax.lax.bitcast_convert_type(flipped, jnp.float32)
    swap = angular & np.uint32(2) != 0
    first, second = jnp.where(swap, sine, cosine), jnp.where(swap, cosine, sine)
    return radius * first, radius * second


def _from_one_to_two(words: UInt32[Array, "..."]) -> Float[Array, "..."]:
    """The first 23 bits as the mantissa of a number in [1, 2): cheaper than a conversion."""
    bits = words >> np.uint32(9) | np.uint32(0x3F800000)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _polynomial(coefficients: tuple[float, ...], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """From the constant term up, by Horner's rule."""
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + np.float32(coefficient)
    return value
