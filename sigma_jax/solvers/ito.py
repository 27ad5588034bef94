"""Itô equations with diagonal noise, and how one step of each scheme is taken."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import lineax
import numpy as np
from jaxtyping import ArrayLike, PyTree

from .._check import concrete
from .noise import NORMALS, SIGNS, Source

Field = Callable[[ArrayLike, PyTree, Any], PyTree]


class EulerMaruyama(eqx.Module):
    """y + f h + g ΔW: strong order 1/2, weak order 1 (Kloeden & Platen 1992, §10.2).

    For a scheme of your own, derive from this class and replace `step`.
    """

    noise: ClassVar[Source] = NORMALS

    def step(self, drift: Field, diffusion: Field, t, y: PyTree, args, h, dw: PyTree) -> PyTree:
        """The state after a step of length `h` with increments `dw`, shaped like `y`."""
        slope, spread = drift(t, y, args), diffusion(t, y, args)
        return jax.tree.map(lambda y, f, g, w: y + h * f + g * w, y, slope, spread, dw)


class WeakEuler(EulerMaruyama):
    """Euler–Maruyama with increments ±√h: weak order 1, for distributions, twice as fast.

    Means, probabilities and passage times converge as with `EulerMaruyama`; a single path
    approximates no Brownian path (Kloeden & Platen 1992, §14.1).
    """

    noise: ClassVar[Source] = SIGNS


class Milstein(EulerMaruyama):
    """Euler–Maruyama plus g g′ (ΔW² − h)/2: strong order 1 (Kloeden & Platen 1992, §10.3).

    That order needs each component's diffusion to depend on that component alone.
    """

    def step(self, drift: Field, diffusion: Field, t, y: PyTree, args, h, dw: PyTree) -> PyTree:
        """The state after a step of length `h` with increments `dw`, shaped like `y`."""
        slope, spread = drift(t, y, args), diffusion(t, y, args)
        _, curvature = jax.jvp(lambda y: diffusion(t, y, args), (y,), (spread,))
        return jax.tree.map(
            lambda y, f, g, gg, w: y + h * f + g * w + 0.5 * gg * (w**2 - h),
            y,
            slope,
            spread,
            curvature,
            dw,
        )


class SDE(eqx.Module):
    """The Itô equation dy = drift dt + diffusion dW with one Brownian motion a component.

    `drift` and `diffusion` are functions (t, y, args) → a pytree like y. `lower` and `upper` are
    the box of a state that must not leave it: numbers, or pytrees that are a prefix of the state.
    Noise that vanishes on its faces keeps the exact solution inside; a step of finite length can
    overshoot, is then projected back, and is counted in `Paths.box`.

    **Raises** `ValueError` for a lower bound that is not below its upper bound.
    """

    drift: Field
    diffusion: Field
    lower: PyTree = -jnp.inf
    upper: PyTree = jnp.inf

    def __check_init__(self):
        lower, upper = self.lower, self.upper
        if jax.tree.structure(lower) == jax.tree.structure(0.0):
            lower = jax.tree.broadcast(lower, upper)
        elif jax.tree.structure(upper) == jax.tree.structure(0.0):
            upper = jax.tree.broadcast(upper, lower)
        pairs = zip(jax.tree.leaves(lower), jax.tree.leaves(upper), strict=True)
        for low, high in pairs:
            if concrete(low) is None or concrete(high) is None:
                continue  # no values to compare while tracing
            if not np.all(np.less(low, high)):
                raise ValueError(f"the box needs lower < upper; got {low} and {high}.")

    def terms(self, brownian: diffrax.AbstractPath) -> diffrax.MultiTerm:
        """The same equation as diffrax terms, driven by `brownian` (a pytree like the state).

        For `simulate` with adaptive steps, a `diffrax.VirtualBrownianTree` and any of diffrax's
        Itô solvers; the box is not enforced.
        """

        def matrix(t, y, args):
            return lineax.DiagonalLinearOperator(self.diffusion(t, y, args))

        return diffrax.MultiTerm(diffrax.ODETerm(self.drift), diffrax.ControlTerm(matrix, brownian))
