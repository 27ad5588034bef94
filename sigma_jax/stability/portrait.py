"""Two components of a drift on a grid: the phase plane and its nullclines."""

from typing import Any, cast

import contourpy
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from .flat import FlatDrift, VectorField, component_index, flatten


class PhasePlane(eqx.Module):
    """The drift of two components over a grid of their values, the others frozen."""

    first: Float[Array, " columns"]
    """The grid of the first component, along the columns."""
    second: Float[Array, " rows"]
    d_first: Float[Array, "rows columns"]
    """The first component's derivative, per unit of time."""
    d_second: Float[Array, "rows columns"]

    def nullclines(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Where either derivative is zero: for each, polylines `[points, 2]` of (first, second).

        Interpolated linearly between grid points (contourpy). A line along the grid's edge is
        seen only where the derivative beside it is positive: choose a grid that goes beyond it.
        """
        first, second = np.asarray(self.first), np.asarray(self.second)
        fields = (np.asarray(self.d_first), np.asarray(self.d_second))
        traced = (contourpy.contour_generator(first, second, f).lines(0.0) for f in fields)
        d_first, d_second = (cast(list[np.ndarray], lines) for lines in traced)
        return d_first, d_second


def phase_plane(
    vector_field: VectorField,
    y: PyTree,
    components: tuple[int | str, int | str],
    grids: tuple[Float[ArrayLike, " columns"], Float[ArrayLike, " rows"]],
    *,
    args: Any = None,
) -> PhasePlane:
    """The derivatives of two components over a grid, with the rest of the state frozen at `y`.

    `components` are two names (see `component_names`) or places in the flattened state; `grids`
    their values, increasing. The vector field is taken at t = 0.

    **Raises** `ValueError` for unknown or equal components, and grids that do not increase.
    """
    drift, x = flatten(vector_field, y, args)
    places = tuple(component_index(y, component) for component in components)
    if len(places) != 2 or places[0] == places[1]:
        raise ValueError(f"components must be two different ones; got {components}.")
    first, second = (np.asarray(grid, x.dtype) for grid in grids)
    for name, grid in (("first", first), ("second", second)):
        if grid.ndim != 1 or grid.size < 2 or not (np.diff(grid) > 0).all():
            raise ValueError(f"the {name} of grids must be a list of increasing numbers.")
    columns, rows = np.meshgrid(first, second)
    values = _on_grid(drift, jnp.asarray(x), jnp.asarray(columns), jnp.asarray(rows), places, args)
    return PhasePlane(jnp.asarray(first), jnp.asarray(second), values[..., 0], values[..., 1])


@eqx.filter_jit
def _on_grid(drift: FlatDrift, x, columns, rows, places, args):
    chosen = jnp.array(places)

    def at(first, second):
        return drift(x.at[chosen].set(jnp.stack([first, second])), args)[chosen]

    return jax.vmap(jax.vmap(at))(columns, rows)
