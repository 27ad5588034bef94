"""A drift on a state of any structure, as a function of one flat vector."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._check import require_number

VectorField = Callable[[Any, Any, Any], PyTree]
"""The drift, a function (t, y, args) → dy/dt in diffrax's convention."""


class FlatDrift(eqx.Module):
    """The drift at t = 0 as a function of the flattened state (`[components]`) and `args`."""

    vector_field: VectorField
    template: PyTree[Array]

    def __call__(self, x: Float[Array, " components"], args: Any) -> Float[Array, " components"]:
        y = ravel_pytree(self.template)[1](x)
        return ravel_pytree(self.vector_field(jnp.zeros((), x.dtype), y, args))[0]

    def unflatten(self, rows: ArrayLike) -> PyTree:
        """The state, or with leading axes the states, that `rows` (`[..., components]`) hold."""
        return split_like(np.asarray(rows), self.template)


def split_like(rows: Float[np.ndarray, "... components"], template: PyTree) -> PyTree:
    """Flat states as states: `template`'s structure, shapes and precision, with leading axes."""
    leaves, structure = jax.tree.flatten(template)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    parts = np.split(rows, ends, axis=-1)
    shaped = [
        jnp.asarray(part.reshape(rows.shape[:-1] + np.shape(leaf)), jnp.result_type(leaf))
        for part, leaf in zip(parts, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, shaped)


def flatten(
    vector_field: VectorField, y: PyTree, args: Any, name: str = "y"
) -> tuple[FlatDrift, Float[np.ndarray, " components"]]:
    """The flat drift and the flat state, checked: finite, and a drift of the state's own shape."""
    y = jax.tree.map(_floating, y)
    for leaf in jax.tree.leaves(y):
        require_number(name, leaf)
    flat = np.asarray(ravel_pytree(y)[0])
    if not np.isfinite(flat).all():
        raise ValueError(f"{name} must be finite; got {y}.")
    drift = FlatDrift(vector_field, y)
    derivative = eqx.filter_eval_shape(drift, jnp.asarray(flat), args)
    if derivative.shape != flat.shape:
        raise ValueError(
            f"vector_field must return a derivative for each of the {flat.size} components of the "
            f"state; got {derivative.size} for {name} = {y}."
        )
    return drift, flat


def flat_like(value: PyTree, drift: FlatDrift, name: str) -> Float[np.ndarray, " components"]:
    """`value`, a number for every component or a tree like the state, as a flat vector."""
    size = ravel_pytree(drift.template)[0].size
    if np.ndim(value) == 0 and not isinstance(value, eqx.Module | dict | tuple | list):
        require_number(name, value)
        return np.full(size, float(value))
    flat = np.asarray(ravel_pytree(jax.tree.map(_floating, value))[0], float)
    require_number(name, flat)
    if flat.shape != (size,):
        raise ValueError(f"{name} must be a number or like the state; got {flat.size} components.")
    return flat


@eqx.filter_jit
def flat_jacobian(
    drift: FlatDrift, x: Float[Array, " components"], args: Any
) -> Float[Array, "components components"]:
    """∂f_i/∂y_j at `x` by forward-mode automatic differentiation."""
    return jax.jacfwd(drift)(x, args)


def jacobian(
    vector_field: VectorField, y: PyTree, *, args: Any = None
) -> Float[Array, "components components"]:
    """The drift's Jacobian ∂f_i/∂y_j at `y`, by automatic differentiation.

    Rows and columns follow the flattened state; `component_names` says which is which.

    **Raises** `ValueError` for a state that is not finite, or a drift of another shape.
    """
    drift, x = flatten(vector_field, y, args)
    return flat_jacobian(drift, jnp.asarray(x), args)


def component_names(y: PyTree) -> tuple[str, ...]:
    """The names of the state's components, in the order in which it is flattened.

    A leaf of one element is called by its path (`sigma`), an element of a longer one by path and
    index (`sigma[0,1]`); a state that is one array has the path `y`.
    """
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(y):
        stem = jax.tree_util.keystr(path, simple=True, separator=".") or "y"
        indices = np.ndindex(np.shape(leaf))
        single = np.size(leaf) == 1
        names += [stem if single else f"{stem}[{','.join(map(str, i))}]" for i in indices]
    return tuple(names)


def component_index(y: PyTree, component: int | str) -> int:
    """The place of a component, given by its name or its place, in the flattened state."""
    names = component_names(y)
    if isinstance(component, str) and component in names:
        return names.index(component)
    if isinstance(component, int) and 0 <= component < len(names):
        return component
    raise ValueError(
        f"component must be one of {', '.join(names)}, or a place from 0 to {len(names) - 1}; "
        f"got {component!r}."
    )


def precision(y: PyTree) -> jnp.dtype:
    """The floating-point type of the flattened state."""
    return jnp.result_type(*jax.tree.leaves(jax.tree.map(_floating, y)))


def _floating(leaf: ArrayLike) -> Array:
    array = jnp.asarray(leaf)
    keep = jnp.issubdtype(array.dtype, jnp.floating)
    return array if keep else array.astype(jnp.result_type(float))
