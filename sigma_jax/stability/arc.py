"""A curve of equilibria in (state, parameter), in scaled coordinates: points on it, found."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .flat import FlatDrift

MAX_ITERATIONS = 8


class Arc(eqx.Module):
    """The drift of z = (state, parameter)/scale: zero along the curve."""

    drift: FlatDrift
    scale: Float[Array, " unknowns"]

    def __call__(self, z: Float[Array, " unknowns"]) -> Float[Array, " components"]:
        u = z * self.scale
        return self.drift(u[:-1], u[-1])


class Point(NamedTuple):
    """A corrected point: where it is, how the drift varies there, and how well it was found."""

    z: Float[np.ndarray, " unknowns"]
    matrix: Float[np.ndarray, "components unknowns"]
    """∂(drift)/∂z."""
    tangent: Float[np.ndarray, " unknowns"]
    """The curve's unit tangent, oriented as the given direction; not finite at a branch point."""
    last_step: float
    """Newton's last step: about the square root of the error that is left."""
    iterations: int


def correct(arc: Arc, guess: np.ndarray, direction: np.ndarray) -> Point:
    """The point of the curve in the plane through `guess` across `direction` (Newton's method)."""
    dtype = arc.scale.dtype
    found = _correct(arc, jnp.asarray(guess, dtype), jnp.asarray(direction, dtype))
    z, matrix, tangent, last_step, iterations = jax.device_get(found)
    return Point(z, matrix, tangent, float(last_step), int(iterations))


@eqx.filter_jit
def _correct(arc: Arc, guess, direction):
    tolerance = 10 * jnp.finfo(guess.dtype).eps

    def evaluate(z):
        value = arc(z)
        return value, value

    def newton(state):
        z, _, _, iterations = state
        matrix, value = jax.jacfwd(evaluate, has_aux=True)(z)
        value = jnp.append(value, direction @ (z - guess))
        step = jnp.linalg.solve(jnp.concatenate([matrix, direction[None]]), -value)
        step = jnp.where(jnp.any(value != 0), step, 0.0)  # also where the system is singular
        return z + step, matrix, jnp.linalg.norm(step), iterations + 1

    def unfinished(state):
        _, _, size, iterations = state
        return (iterations == 0) | ((size > tolerance) & (iterations < MAX_ITERATIONS))

    zero = jnp.zeros((), guess.dtype)
    start = (guess, jnp.zeros((guess.size - 1, guess.size), guess.dtype), zero, 0)
    # The matrix is that before the last step, which is no longer than round-off.
    z, matrix, last_step, iterations = jax.lax.while_loop(unfinished, newton, start)
    bordered = jnp.concatenate([matrix, direction[None]])
    tangent = jnp.linalg.solve(bordered, jnp.zeros_like(z).at[-1].set(1.0))
    return z, matrix, tangent / jnp.linalg.norm(tangent), last_step, iterations


def is_found(point: Point) -> bool:
    """Whether Newton's method converged, so far that its error is below round-off."""
    finite = np.isfinite(point.z).all() and np.isfinite(point.tangent).all()
    return bool(finite and point.last_step <= np.sqrt(np.finfo(point.z.dtype).eps))


@eqx.filter_jit
def matrix_at(arc: Arc, z: Float[Array, " unknowns"]) -> Float[Array, "components unknowns"]:
    """∂(drift)/∂z at any z, on the curve or not."""
    return jax.jacfwd(arc)(z)


@eqx.filter_jit
def _refine_branch_point(arc: Arc, z, left):
    # At a branch point the Jacobian loses rank: `left` is what it cannot reach.  The unfolding
    # drift + μ left = 0, leftᵀ Jacobian = 0, |left| = 1 is regular there.
    size = z.size

    def system(v):
        z, left, unfolding = v[:size], v[size:-1], v[-1]
        value, transpose = jax.vjp(arc, z)
        norm = jnp.array([left @ left - 1.0])
        return jnp.concatenate([value + unfolding * left, transpose(left)[0], norm])

    def evaluate(v):
        value = system(v)
        return value, value

    def newton(carry, _):
        v, _ = carry
        matrix, value = jax.jacfwd(evaluate, has_aux=True)(v)
        step = jnp.linalg.solve(matrix, -value)
        return (v + step, jnp.linalg.norm(step)), None

    start = jnp.concatenate([z, left, jnp.zeros(1, z.dtype)])
    start = (start, jnp.zeros((), z.dtype))
    (v, last_step), _ = jax.lax.scan(newton, start, None, length=MAX_ITERATIONS)
    return v[:size], v[size:-1], last_step


@eqx.filter_jit
def _curvature(arc: Arc, z, left, first, second):
    def slope(z):
        return jax.jvp(arc, (z,), (first,))[1]

    return left @ jax.jvp(slope, (z,), (second,))[1]


def branch_point(
    arc: Arc, near: np.ndarray, tangent: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A branch point beside `near`, refined, and the unit directions of the branches that cross.

    The first direction is the one nearer to `tangent`. Where the refinement fails or leads
    farther than `reach` (a drift without second derivatives), `near` stands.

    Source: Allgower & Georg, *Introduction to Numerical Continuation Methods* (2003), §8.
    """
    z = jnp.asarray(near, arc.scale.dtype)
    left = np.linalg.svd(np.asarray(matrix_at(arc, z)))[0][:, -1]
    *refined, last_step = _refine_branch_point(arc, z, jnp.asarray(left))
    if last_step <= reach and np.linalg.norm(refined[0] - z) <= reach:
        z, left = refined
    plane = np.linalg.svd(np.asarray(matrix_at(arc, z)))[2][-2:]
    along = plane @ tangent
    along = along / np.linalg.norm(along)
    basis = jnp.asarray(np.array([along, [-along[1], along[0]]]) @ plane, z.dtype)
    # The branches leave along u·basis₀ + v·basis₁ with c₀₀u² + 2c₀₁uv + c₁₁v² = 0.
    c00, c01, c11 = (
        float(_curvature(arc, z, left, basis[i], basis[j])) for i, j in ((0, 0), (0, 1), (1, 1))
    )
    root = -c01 - np.copysign(np.sqrt(max(c01**2 - c00 * c11, 0.0)), c01)
    own, other = (np.array(pair) @ np.asarray(basis) for pair in ((root, c00), (c11, root)))
    return np.asarray(z), _unit(own, basis[0]), _unit(other, basis[1])


def _unit(direction: np.ndarray, otherwise: Array) -> np.ndarray:
    length = np.linalg.norm(direction)
    direction = direction / length if length > 0 else np.asarray(otherwise)
    return direction if direction[-1] >= 0 else -direction
