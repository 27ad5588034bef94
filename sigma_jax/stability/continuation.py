"""Branches of equilibria followed over a parameter, through folds (pseudo-arclength)."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, PyTree

from .._check import require_in
from .arc import Arc, Point, correct, is_found, matrix_at
from .flat import FlatDrift, VectorField, flat_like, flatten, precision
from .special_points import Segment, SpecialPoint, jacobians, special_points
from .spectrum import sorted_eigenvalues

SMALLEST_STEP = 1e-7
LARGEST_TURN = 0.2  # radians a step, in scaled coordinates
KINK_STEP = 1e-4  # a turn within so short a step is a corner of the branch, not a leap to another
GROWTH = 1.5
EDGE = 1e-9  # how far outside the box, as a share of its width, still counts as inside

Stopped = Literal[
    "left the parameter range", "left the box", "step too small", "closed", "max_points reached"
]


class Branch(eqx.Module):
    """A curve of equilibria, point by point, and the special points on it."""

    parameter: Float[Array, " points"]
    y: PyTree[Array]
    """The states; every leaf has a leading axis of points."""
    eigenvalues: Complex[Array, "points components"]
    """Leading (largest real part) first, per unit of time."""
    stable: Bool[Array, " points"]
    special: tuple[SpecialPoint, ...]
    """In the order in which the branch meets them."""
    stopped: Stopped
    """Why it ends. At an edge of the range or of the box, the last point is on the edge (to about
    10⁻⁵ of the scale where another branch crosses just there)."""


def continue_branch(
    vector_field: VectorField,
    y0: PyTree,
    parameter_range: tuple[float, float],
    *,
    start: float,
    direction: int = 1,
    lower: PyTree | None = None,
    upper: PyTree | None = None,
    step: float = 0.01,
    largest_step: float = 0.05,
    max_points: int = 2000,
) -> Branch:
    """Follow the equilibrium `y0` over a scalar parameter, by pseudo-arclength continuation.

    A step goes along the tangent and is corrected across it by Newton's method, so folds are
    passed. Its length adapts to the curve. Between two points a saddle-node is found by the sign
    of the tangent's parameter component, a branch point (transcritical, pitchfork) by that of the
    determinant bordered with the tangent, a Hopf point by that of the product of all λᵢ + λⱼ; each
    is then located along the arc by root finding. What happens twice within one step is missed:
    lower `largest_step` if in doubt.

    **Arguments:**

    - `vector_field`: (t, y, parameter) → dy/dt, taken at t = 0. It is compiled once for each
      function object (or structure of a module): pass the same one again.
    - `y0`: an equilibrium at the parameter value `start`, to within a hundredth of the scale.
    - `parameter_range`: (lowest, highest); `direction`: 1 to set out to higher values, −1 to lower.
    - `lower`, `upper`: an optional box, numbers or states. Its width is the scale of each
      component; without it, the scale is 1 or the component's size, if that is larger. The
      parameter's scale is the width of its range.
    - `step`, `largest_step`: first and largest length of a step, in scaled units.
    - `max_points`: how many points at most.

    **Raises** `ValueError` if `y0` is not an equilibrium at `start`, or is a branch point, or has
    a component without dynamics; for a start outside the range or the box; and for a direction
    that is not 1 or −1.

    Source: Keller (1977), in *Applications of Bifurcation Theory*, 359–384; Allgower & Georg,
    *Introduction to Numerical Continuation Methods* (2003).
    """
    low, high = (float(edge) for edge in parameter_range)
    if not low < high:
        raise ValueError(f"parameter_range must be (lowest, highest); got {parameter_range}.")
    if direction not in (1, -1):
        raise ValueError(f"direction must be 1 or -1; got {direction}.")
    require_in("start", start, low, high)
    require_in("largest_step", largest_step, SMALLEST_STEP)
    require_in("step", step, SMALLEST_STEP, largest_step)
    parameter = jnp.asarray(start, precision(y0))
    drift, x0 = flatten(vector_field, y0, parameter, "y0")
    bounds = _Bounds(drift, (lower, upper), (low, high))
    arc = Arc(drift, jnp.asarray(np.append(bounds.scale(x0), high - low), x0.dtype))
    first = _first_point(arc, x0, start, direction)
    if bounds.room(arc, first)[0] < 0:
        raise ValueError(f"y0 must lie in the box [{lower}, {upper}]; got {y0}.")
    points, special, stopped = _follow(arc, first, bounds, step, largest_step, max_points)
    return _branch(arc, points, special, stopped)


def crossing_branch(
    vector_field: VectorField, special: SpecialPoint, *, distance: float = 0.01
) -> tuple[PyTree[Array], float]:
    """A point on the branch that crosses at a branch point, for `continue_branch` to start from.

    `distance` is how far from the crossing, in scaled units of the continuation that found it; its
    sign chooses the side, positive towards higher parameter values.

    **Returns** the state and the parameter value.

    **Raises** `ValueError` for a point that is not a branch point, and if no equilibrium is found
    that way (then try a shorter distance).
    """
    if special.crossing is None:
        raise ValueError(f"special must be a branch point; a {special.kind} has no crossing.")
    origin, ahead = np.asarray(special.parameter), np.asarray(special.crossing[1])
    drift, x = flatten(vector_field, special.y, jnp.asarray(origin, precision(special.y)))
    _, towards = flatten(lambda t, y, args: y, special.crossing[0], None)
    arc = Arc(drift, jnp.ones(x.size + 1, x.dtype))
    across = np.append(towards, ahead)
    guess = np.append(x, origin) + distance * across
    point = correct(arc, guess, across / np.linalg.norm(across))
    if not is_found(point):
        raise ValueError(f"no equilibrium at distance {distance:g} along the crossing branch.")
    return drift.unflatten(point.z[:-1]), float(point.z[-1])


class _Bounds:
    """The parameter's range and the box, and how much room is left in them."""

    def __init__(self, drift: FlatDrift, box: tuple, parameter_range: tuple[float, float]):
        lower, upper = box
        self.low = flat_like(-np.inf if lower is None else lower, drift, "lower")
        self.high = flat_like(np.inf if upper is None else upper, drift, "upper")
        if (self.low >= self.high).any():
            raise ValueError(f"lower must be below upper; got {lower} and {upper}.")
        self.parameter_range = parameter_range

    def scale(self, x: np.ndarray) -> np.ndarray:
        width = self.high - self.low
        return np.where(np.isfinite(width), width, np.maximum(1.0, np.abs(x)))

    def room(self, arc: Arc, point: Point) -> tuple[float, Stopped]:
        """The least distance to an edge, as a share of the scale, and what lies beyond it."""
        scale = np.asarray(arc.scale)
        u, (low, high) = point.z * scale, self.parameter_range
        parameter = min(u[-1] - low, high - u[-1]) / scale[-1]
        box = np.min(np.minimum(u[:-1] - self.low, self.high - u[:-1]) / scale[:-1]) + EDGE
        if box < parameter:
            return float(box), "left the box"
        return float(parameter), "left the parameter range"


def _first_point(arc: Arc, x0: np.ndarray, start: float, direction: int) -> Point:
    scale = np.asarray(arc.scale)
    z = np.append(x0, start) / scale
    upright = np.eye(z.size)[-1]
    point = correct(arc, z, upright)
    moved = np.linalg.norm(point.z - z)
    eps = np.finfo(x0.dtype).eps
    if not (point.last_step <= np.sqrt(eps) and moved <= 0.01):
        value = np.max(np.abs(arc(jnp.asarray(z, x0.dtype))))
        raise ValueError(
            f"y0 must be an equilibrium at the parameter value {start:g}; the drift there is up to "
            f"{value:.3g}, and Newton's method finds no equilibrium close by. Take one from "
            "find_equilibria."
        )
    matrix = np.asarray(matrix_at(arc, jnp.asarray(point.z)))
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    _, values, directions = np.linalg.svd(matrix / np.where(lengths > 0, lengths, 1.0))
    if values[-1] < np.sqrt(eps):
        raise ValueError(
            "y0 must not be a branch point, and every component must have dynamics of its own: "
            f"the drift's derivatives at the parameter value {start:g} are linearly dependent. "
            "Start beside it, or leave the constant component out of the state."
        )
    tangent = directions[-1]
    ahead = tangent[-1] if tangent[-1] != 0 else tangent[np.argmax(np.abs(tangent))]
    return point._replace(z=point.z, matrix=matrix, tangent=tangent * direction * np.sign(ahead))


def _follow(
    arc: Arc, first: Point, bounds: _Bounds, step: float, largest_step: float, max_points: int
) -> tuple[list[Point], list[SpecialPoint], Stopped]:
    points, special = [first], []
    while len(points) < max_points:
        here = points[-1]
        there = correct(arc, here.z + step * here.tangent, here.tangent)
        if not _acceptable(here, there, step):
            step *= 0.5
            if step < SMALLEST_STEP:
                return points, special, "step too small"
            continue
        segment = Segment(arc, here, there, step)
        found = special_points(segment)
        end, stopped = _end(segment, bounds, first if len(points) > 2 else None)
        slack = 1e-6 * step
        special += [point for distance, point in found if distance <= end + slack]
        if stopped is not None:
            last = segment.at(end)
            return [*points, last] if end > 0 else points, special, stopped
        points.append(there)
        step = min(GROWTH * step, largest_step) if there.iterations <= 4 else step
    return points, special, "max_points reached"


def _acceptable(here: Point, there: Point, step: float) -> bool:
    if not is_found(there):
        return False
    turn = np.cos(LARGEST_TURN) if step > KINK_STEP else 0.0
    return bool(here.tangent @ there.tangent > turn)


def _end(segment: Segment, bounds: _Bounds, first: Point | None) -> tuple[float, Stopped | None]:
    """Where within the step the branch ends, and why; the whole step and None if it does not."""

    def room(point: Point) -> float:
        return bounds.room(segment.arc, point)[0]

    left, reason = bounds.room(segment.arc, segment.end)
    if left < 0:
        return segment.root(room), reason
    if first is not None and (end := _closes(segment, first)) is not None:
        return end, "closed"
    return segment.length, None


def _closes(segment: Segment, first: Point) -> float | None:
    """Where within the step the branch comes back to its first point, in the same direction."""

    def past(point: Point) -> float:
        return float(first.tangent @ (point.z - first.z))

    near = np.linalg.norm(segment.end.z - first.z) <= 2.0 * segment.length
    if not (near and past(segment.start) < 0 <= past(segment.end)):
        return None
    end = segment.root(past)
    gap = np.linalg.norm(segment.at(end).z - first.z)
    return end if gap <= np.sqrt(np.finfo(first.z.dtype).eps) else None


def _branch(arc: Arc, points: list[Point], special: list[SpecialPoint], stopped: Stopped) -> Branch:
    u = np.stack([point.z for point in points]) * np.asarray(arc.scale)
    matrices = jacobians(arc, np.stack([point.matrix for point in points]))
    eigenvalues = sorted_eigenvalues(matrices)
    return Branch(
        parameter=jnp.asarray(u[:, -1]),
        y=arc.drift.unflatten(u[:, :-1]),
        eigenvalues=jnp.asarray(eigenvalues),
        stable=jnp.asarray((np.real(eigenvalues) < 0).all(axis=1)),
        special=tuple(special),
        stopped=stopped,
    )
