"""Where a branch of equilibria folds, is crossed, or begins to oscillate."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, PyTree
from scipy.optimize import root_scalar

from .arc import Arc, Point, branch_point, correct, matrix_at
from .spectrum import sorted_eigenvalues

Kind = Literal["saddle-node", "transcritical", "pitchfork", "Hopf"]

# A sum of two eigenvalues below this share of the largest is round-off: no crossing is read off it.
ROUND_OFF = 1e-9
# A correction by more than this share of a step, from a guess that is far better, went astray.
STRAY = 1e-2
# A branch whose tangent has a smaller parameter component than this stands upright.
UPRIGHT = 1e-5


class SpecialPoint(eqx.Module):
    """A point of a branch at which the number or the stability of equilibria changes."""

    kind: Kind
    """A saddle-node (fold), a branch point (transcritical, or pitchfork where one of the branches
    is upright) or a Hopf point."""
    parameter: float
    y: PyTree[Array]
    eigenvalues: Complex[Array, " components"]
    """Leading first, per unit of time."""
    frequency: float
    """ω of the pair ±iω at a Hopf point, in radians per unit of time; elsewhere 0."""
    crossing: tuple[PyTree[Array], float] | None
    """At a branch point, the other branch's direction, in (state, parameter); else None."""


class Segment(NamedTuple):
    """One accepted step: from `start`, `length` along its tangent, to `end`."""

    arc: Arc
    start: Point
    end: Point
    length: float

    def at(self, distance: float) -> Point:
        """The curve's point over about `distance` along the tangent at the start.

        Beside a branch point a guess must be close, or Newton's method finds the other branch, or
        nothing: the guess is the cubic through both ends (Hermite), and stands where that fails.
        """
        if distance == 0.0:
            return self.start
        if distance == self.length:
            return self.end
        s, along = distance / self.length, self.end.z - self.start.z
        bulge = self.length * self.start.tangent - along
        slope = self.length * self.end.tangent - along
        guess = self.start.z + s * along + s * (1 - s) * ((1 - s) * bulge - s * slope)
        point = correct(self.arc, guess, self.start.tangent)
        moved = np.linalg.norm(point.z - guess)
        if np.isfinite(moved) and moved <= STRAY * self.length:
            return point
        matrix = np.asarray(matrix_at(self.arc, jnp.asarray(guess, self.arc.scale.dtype)))
        return point._replace(z=guess, matrix=matrix)

    def root(self, test: Callable[[Point], float]) -> float:
        """The distance at which `test`, of different sign at the ends, is zero (Brent)."""
        values = {0.0: test(self.start), self.length: test(self.end)}

        def value(distance: float) -> float:
            return values[distance] if distance in values else test(self.at(distance))

        found = root_scalar(value, bracket=(0.0, self.length), method="brentq", xtol=1e-14)
        return float(found.root)


def jacobians(arc: Arc, matrices: np.ndarray) -> np.ndarray:
    """The drift's Jacobians in the state, unscaled, from those in z (`[..., n, n + 1]`)."""
    return matrices[..., :-1] / np.asarray(arc.scale[:-1])


def special_points(segment: Segment) -> list[tuple[float, SpecialPoint]]:
    """The special points within a step, each with its distance from the start, in order."""
    crossings = _branch_points(segment)
    at_crossings = [distance for distance, _ in crossings]
    near = 1e-4 * segment.length

    def apart(distance: float) -> bool:
        return all(abs(distance - other) > near for other in at_crossings)

    folds = [(d, p) for d, p in _folds(segment) if apart(d)]  # at a pitchfork both tests vanish
    return sorted(crossings + folds + _hopf_points(segment), key=lambda found: found[0])


def _changes_sign(segment: Segment, test: Callable[[Point], float], floor: float = 0.0) -> bool:
    first, last = test(segment.start), test(segment.end)
    return (first >= 0) != (last >= 0) and max(abs(first), abs(last)) > floor


def _folds(segment: Segment) -> list[tuple[float, SpecialPoint]]:
    def test(point: Point) -> float:
        return float(point.tangent[-1])

    if not _changes_sign(segment, test, floor=1e-9):
        return []
    distance = segment.root(test)
    return [(distance, describe(segment.arc, "saddle-node", segment.at(distance).z))]


def _branch_points(segment: Segment) -> list[tuple[float, SpecialPoint]]:
    border = segment.start.tangent[None]
    lengths = np.linalg.norm(segment.start.matrix, axis=1, keepdims=True)

    def test(point: Point) -> float:
        return float(np.linalg.det(np.concatenate([point.matrix / lengths, border])))

    if not _changes_sign(segment, test):
        return []
    distance = segment.root(test)
    near = segment.at(distance).z
    z, own, crossing = branch_point(segment.arc, near, segment.start.tangent, segment.length)
    upright = min(abs(own[-1]), abs(crossing[-1])) < UPRIGHT
    kind = "pitchfork" if upright else "transcritical"
    return [(distance, describe(segment.arc, kind, z, crossing=crossing))]


def _hopf_points(segment: Segment) -> list[tuple[float, SpecialPoint]]:
    def test(point: Point) -> float:
        return _least_sum(_eigenvalues(segment.arc, point))[0]

    largest = np.max(np.abs(_eigenvalues(segment.arc, segment.start)), initial=0.0)
    if not _changes_sign(segment, test, floor=ROUND_OFF * largest):
        return []
    distance = segment.root(test)
    point = segment.at(distance)
    frequency = _least_sum(_eigenvalues(segment.arc, point))[1]
    if frequency == 0.0:  # two real eigenvalues of opposite sign: a neutral saddle
        return []
    return [(distance, describe(segment.arc, "Hopf", point.z, frequency=frequency))]


def _eigenvalues(arc: Arc, point: Point) -> np.ndarray:
    return sorted_eigenvalues(jacobians(arc, point.matrix))


def _least_sum(eigenvalues: np.ndarray) -> tuple[float, float]:
    """The sum λᵢ + λⱼ (i < j) nearest zero, with the sign of all sums' product, and |Im λᵢ|.

    The product is the determinant of the Jacobian's bialternate product with the identity
    (Kuznetsov, *Elements of Applied Bifurcation Theory*, 2004, §10.2), which changes sign at a
    Hopf point and at a neutral saddle. Complex sums come in conjugate pairs.
    """
    i, j = np.triu_indices(eigenvalues.size, 1)
    if i.size == 0:
        return 1.0, 0.0
    sums = eigenvalues[i] + eigenvalues[j]
    negative = np.count_nonzero((np.imag(sums) == 0) & (np.real(sums) < 0))
    least = np.argmin(np.abs(sums))
    sign = -1.0 if negative % 2 else 1.0
    return sign * float(np.abs(sums[least])), float(np.abs(np.imag(eigenvalues)[i[least]]))


def describe(
    arc: Arc,
    kind: Kind,
    z: np.ndarray,
    *,
    crossing: np.ndarray | None = None,
    frequency: float = 0.0,
) -> SpecialPoint:
    """The special point at `z`, in the units of the state and the parameter."""
    scale = np.asarray(arc.scale)
    u = z * scale
    matrix = jacobians(arc, np.asarray(matrix_at(arc, jnp.asarray(z, arc.scale.dtype))))
    direction = None
    if crossing is not None:
        direction = (arc.drift.unflatten((crossing * scale)[:-1]), float((crossing * scale)[-1]))
    return SpecialPoint(
        kind=kind,
        parameter=float(u[-1]),
        y=arc.drift.unflatten(u[:-1]),
        eigenvalues=jnp.asarray(sorted_eigenvalues(matrix)),
        frequency=frequency,
        crossing=direction,
    )
