"""All equilibria of a drift in a box: many starts, solved in one compiled call."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray, PyTree
from scipy.stats import qmc

from .flat import FlatDrift, VectorField, flat_jacobian, flat_like, flatten
from .spectrum import Stability, kind_of, sorted_eigenvalues, stability_of

NEWTON_STEPS = 60  # a start that needs more is given up
LONGEST_STEP = 0.5  # of the box's width, in any component
ROUND_OFF = 1e3  # units of round-off, at the size of the drift in the box, that count as no drift


class Equilibrium(eqx.Module):
    """A state at which the drift vanishes, and how the drift behaves beside it."""

    y: PyTree[Array]
    eigenvalues: Complex[Array, " free"]
    """Of the Jacobian of the components that are free to move; leading (largest real part) first,
    per unit of time."""
    jacobian: Float[Array, "components components"]
    """∂f_i/∂y_j, rows and columns in the order of `component_names(y)`."""
    stability: Stability
    """`"stable"`, `"unstable"` or `"not hyperbolic"`: linearisation decides nothing there."""
    kind: str
    """Stable or unstable node or focus, saddle, or not hyperbolic."""
    found_by: int
    """How many of the starts ended here: few means that others may have been missed."""

    @property
    def stable(self) -> bool:
        """Whether every eigenvalue has a negative real part."""
        return self.stability == "stable"


def find_equilibria(
    vector_field: VectorField,
    lower: PyTree,
    upper: PyTree,
    *,
    key: PRNGKeyArray,
    args: Any = None,
    starts: int = 256,
    separation: float = 1e-5,
) -> list[Equilibrium]:
    """The equilibria of an autonomous drift in the box [lower, upper], by multi-start.

    Quasi-random starts (a scrambled Halton sequence) take Newton's steps together: least-norm
    ones, shortened to half the box and kept inside it. They need not go downhill, which would trap
    them where the drift is least but not zero. Results are kept where the drift is zero to
    round-off, and merged. Flat parts (clipped components, a singular Jacobian) stop a start, not
    the search. No search of this kind proves that none was missed: compare `found_by`.

    **Arguments:**

    - `vector_field`: (t, y, args) → dy/dt, taken at t = 0.
    - `lower`, `upper`: states, the corners of the box. A component whose bounds are equal is held
      there: its drift is ignored and it has no eigenvalue. A component without dynamics that is
      not held makes a line of equilibria, of which each start finds another, not hyperbolic.
    - `starts`: how many; `separation`: nearer than this, as a share of the box's width in every
      component, two results are one equilibrium.

    **Returns** the equilibria, sorted by their components (the first one first). Where one is
    degenerate (a fold, a transcritical point) its place is known to about √round-off.

    **Raises** `ValueError` for bounds that are not finite or in the wrong order, and starts < 1.

    Source: Deuflhard, *Newton Methods for Nonlinear Problems* (2011), §4.4 (least-norm steps).
    """
    drift, low = flatten(vector_field, lower, args, "lower")
    high = flat_like(upper, drift, "upper")
    if not np.isfinite(high).all() or (low > high).any():
        raise ValueError(f"upper must be finite and not below lower; got {upper} above {lower}.")
    if starts < 1:
        raise ValueError(f"starts must be at least 1; got {starts}.")
    width = jnp.asarray(high - low, low.dtype)
    seed = int(jax.random.bits(key, dtype="uint32"))
    unit = jnp.asarray(qmc.Halton(low.size, rng=seed).random(starts), low.dtype)
    box = _Box(drift, jnp.asarray(low), width, args)
    z, solved, rate = jax.device_get(_solve(box, unit))
    kept = z[solved]
    groups = _merge(kept, separation)
    return [_describe(box, kept[group[0]], float(rate), len(group)) for group in groups]


class _Box(eqx.Module):
    """The drift on the unit box, without the components that are held."""

    drift: FlatDrift
    low: Float[Array, " components"]
    width: Float[Array, " components"]
    args: Any

    def state(self, z):
        return self.low + self.width * z

    def __call__(self, z):
        return jnp.where(self.width > 0, self.drift(self.state(z), self.args), 0.0)


@eqx.filter_jit
def _solve(box: _Box, starts: Float[Array, "starts components"]):
    # Each component's drift is measured in the largest that the starts meet, so that no unit of
    # measurement matters.
    met = jnp.max(jnp.abs(jax.vmap(box)(starts)), axis=0)
    size = jnp.where(met > 0, met, 1.0)
    eps = jnp.finfo(starts.dtype).eps

    def residual(z):
        value = box(z) / size
        return value, value

    def newton(z, _):
        matrix, value = jax.jacfwd(residual, has_aux=True)(z)
        step, *_ = jnp.linalg.lstsq(matrix, -value)
        longest = jnp.max(jnp.abs(step))
        step = step * jnp.minimum(1.0, LONGEST_STEP / jnp.where(longest > 0, longest, 1.0))
        moved = jnp.clip(z + step, 0.0, 1.0)
        return jnp.where(jnp.all(jnp.isfinite(moved)), moved, z), None

    def one(z):
        z, _ = jax.lax.scan(newton, z, None, length=NEWTON_STEPS)
        return z, jnp.all(jnp.abs(residual(z)[0]) <= ROUND_OFF * eps)

    z, solved = jax.vmap(one)(starts)
    rate = jnp.max(met / jnp.where(box.width > 0, box.width, 1.0))
    return (box.width > 0).astype(starts.dtype) * z, solved, rate


def _merge(points: Float[np.ndarray, "points components"], separation: float) -> list[list[int]]:
    """Groups of points that lie together, in the order of their first components."""
    groups: list[list[int]] = []
    for index, point in enumerate(points):
        near = [g for g in groups if np.max(np.abs(points[g[0]] - point)) <= separation]
        (near[0] if near else groups.append([]) or groups[-1]).append(index)
    return sorted(groups, key=lambda g: tuple(np.round(points[g[0]] / separation)))


def _describe(box: _Box, z: np.ndarray, rate: float, found_by: int) -> Equilibrium:
    x = box.state(jnp.asarray(z))
    free = np.asarray(box.width) > 0
    matrix = flat_jacobian(box.drift, x, box.args)
    eigenvalues = sorted_eigenvalues(np.asarray(matrix)[np.ix_(free, free)])
    return Equilibrium(
        y=box.drift.unflatten(x),
        eigenvalues=jnp.asarray(eigenvalues),
        jacobian=matrix,
        stability=stability_of(eigenvalues, rate),
        kind=kind_of(eigenvalues, rate),
        found_by=found_by,
    )
