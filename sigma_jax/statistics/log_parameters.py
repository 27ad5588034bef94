"""Positive parameters as a vector of logarithms, and back."""

from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PyTree

from .._check import require_in


def names_of(parameters: PyTree) -> tuple[str, ...]:
    """A name for every leaf: the key of a dictionary, the field of a module, `a.b` when nested."""
    paths, _ = jax.tree_util.tree_flatten_with_path(parameters)
    return tuple(
        jax.tree_util.keystr(path, simple=True, separator=".") or "parameter" for path, _ in paths
    )


def to_logarithms(argument: str, parameters: PyTree) -> Float[np.ndarray, " parameters"]:
    """The logarithm of every leaf, in the order of `names_of`.

    **Raises** `ValueError`, naming `argument`, for a leaf that is not a positive number.
    """
    for leaf in jax.tree.leaves(parameters):
        require_in(argument, leaf, 0.0, open_low=True)
        if np.ndim(leaf) != 0:
            raise ValueError(f"{argument} must have scalar leaves; got one of {np.shape(leaf)}.")
    return np.log(np.array([float(leaf) for leaf in jax.tree.leaves(parameters)]))


def like(parameters: PyTree, vector: Iterable) -> PyTree:
    """The entries of `vector`, as a tree of the structure of `parameters`."""
    return jax.tree.unflatten(jax.tree.structure(parameters), list(vector))


def skeleton(parameters: PyTree) -> PyTree:
    """The structure of `parameters` without its values, so that compiled code is shared."""
    return jax.tree.map(lambda _: 0.0, parameters)


def in_logarithms(
    predict: Callable[[PyTree], Array], parameters: PyTree
) -> Callable[[Float[Array, " parameters"]], Array]:
    """`predict` as a function of the vector of logarithms."""
    structure = jax.tree.structure(parameters)
    return lambda theta: predict(jax.tree.unflatten(structure, list(jnp.exp(theta))))


def finite_observations(observed: ArrayLike, parameters: int) -> Float[np.ndarray, " observations"]:
    """`observed` as an array.

    **Raises** `ValueError` if an observation is not finite or there are too few.
    """
    array = np.asarray(observed, float)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError("observed must be a finite vector; leave missing observations out.")
    if array.size <= parameters:
        raise ValueError(
            f"{parameters} parameters need more than {parameters} observations; got {array.size}."
        )
    return array
