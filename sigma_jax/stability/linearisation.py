"""How fast a linearised drift moves, and which component moves which."""

from graphlib import TopologicalSorter
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, PyTree
from scipy.sparse.csgraph import connected_components

from .._check import require_in
from .flat import VectorField, component_names, jacobian
from .spectrum import ZERO


class Timescales(eqx.Module):
    """The modes of a drift linearised at a state, the fastest first."""

    components: tuple[str, ...]
    eigenvalues: Complex[Array, " modes"]
    """By falling |Re λ|, per unit of time; negative real parts decay."""
    time_constants: Float[Array, " modes"]
    """1/|Re λ|, increasing; infinite for a mode that neither grows nor decays."""
    participation: Float[Array, "modes components"]
    """How much each component takes part in each mode: |left × right eigenvector|, the sum over
    the components one. Modes with one eigenvalue share their components in no unique way."""

    @property
    def stiffness_ratio(self) -> float:
        """Longest time constant over the shortest; infinite if one mode is at rest, 1 if all."""
        shortest, longest = float(self.time_constants[0]), float(self.time_constants[-1])
        return 1.0 if shortest == longest else longest / shortest

    @property
    def gap(self) -> tuple[int, float]:
        """The widest gap: how many modes are faster, and the ratio of the time constants there.

        (0, 1) if all modes are equally fast.
        """
        times = np.asarray(self.time_constants)
        if times.size < 2 or times[0] == times[-1]:
            return 0, 1.0
        # Between two infinite time constants there is no gap.
        ratios = np.divide(
            times[1:], times[:-1], where=np.isfinite(times[:-1]), out=np.ones(times.size - 1)
        )
        return int(np.argmax(ratios)) + 1, float(np.max(ratios))

    def largest_step(self, real_axis_limit: float = 2.0) -> float:
        """The largest stable step of an explicit method, in units of time.

        `real_axis_limit` is where its stability region ends on the negative real axis (2 for
        Euler's method, 2.785 for the classical Runge–Kutta method). It holds for the decaying
        modes as if they did not oscillate; infinite if none decays.

        **Raises** `ValueError` for a limit that is not positive.
        """
        require_in("real_axis_limit", real_axis_limit, 0.0, open_low=True)
        fastest = float(np.max(-np.real(self.eigenvalues), initial=0.0))
        return real_axis_limit / fastest if fastest > 0 else float("inf")


def timescales(vector_field: VectorField, y: PyTree, *, args: Any = None) -> Timescales:
    """The time constants of the drift linearised at `y`, and which components make each mode.

    Meant for an equilibrium, but defined at any state: the vector field is taken at t = 0.

    **Raises** `ValueError` for a state that is not finite, and for a Jacobian whose eigenvectors
    do not span the state (equal eigenvalues that share one direction).

    Source: Pérez-Arriaga, Verghese & Schweppe (1982), IEEE Trans. Power App. Syst. 101(9),
    3117–3125, for participation factors.
    """
    matrix = np.asarray(jacobian(vector_field, y, args=args))
    eigenvalues, right = np.linalg.eig(matrix)
    if np.linalg.cond(right) > 1.0 / np.sqrt(np.finfo(matrix.dtype).eps) * 1e3:
        raise ValueError(
            "timescales needs a Jacobian whose eigenvectors span the state; here two modes with "
            f"one eigenvalue share their direction. Eigenvalues: {np.array2string(eigenvalues)}."
        )
    order = np.argsort(-np.abs(np.real(eigenvalues)), kind="stable")
    weight = np.abs(np.linalg.inv(right) * right.T)[order]
    rates = np.abs(np.real(eigenvalues[order]))
    still = rates <= ZERO**2 * np.max(np.abs(eigenvalues), initial=0.0)
    times = np.divide(1.0, rates, where=~still, out=np.full(rates.shape, np.inf, rates.dtype))
    return Timescales(
        components=component_names(y),
        eigenvalues=jnp.asarray(eigenvalues[order]),
        time_constants=jnp.asarray(times),
        participation=jnp.asarray(weight / weight.sum(axis=1, keepdims=True)),
    )


class Coupling(eqx.Module):
    """Which component drives which, read off the Jacobian at one state."""

    components: tuple[str, ...]
    influences: Bool[Array, "components components"]
    """Entry [i, j]: component j moves component i. A zero of the derivative counts as none."""
    groups: tuple[tuple[str, ...], ...]
    """Components that drive one another, directly or not; drivers before what they drive."""

    @property
    def is_cascade(self) -> bool:
        """Whether no two components drive one another: the eigenvalues are then the diagonal."""
        return all(len(group) == 1 for group in self.groups)


def coupling(vector_field: VectorField, y: PyTree, *, args: Any = None) -> Coupling:
    """Which components of the drift depend on which, and the loops among them, at `y`.

    Automatic differentiation gives exact zeros where there is no dependence, but also where it
    vanishes at this state (σ = 0, a clipped part): choose a state inside.

    **Raises** `ValueError` for a state that is not finite.
    """
    influences = np.asarray(jacobian(vector_field, y, args=args)) != 0
    names = component_names(y)
    count, labels = connected_components(influences, connection="strong")
    drivers = {group: set() for group in range(count)}
    for driven, driver in zip(*np.nonzero(influences), strict=True):
        if labels[driven] != labels[driver]:
            drivers[labels[driven]].add(labels[driver])
    ordered = TopologicalSorter(drivers).static_order()
    groups = [
        tuple(n for n, label in zip(names, labels, strict=True) if label == g) for g in ordered
    ]
    return Coupling(components=names, influences=jnp.asarray(influences), groups=tuple(groups))
