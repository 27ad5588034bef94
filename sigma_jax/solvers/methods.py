"""How to advance a state: adaptively with diffrax, or in fixed steps with a scan."""

from collections.abc import Callable

import diffrax
import equinox as eqx
import optimistix
from jaxtyping import Array, Float, PyTree

from .runge_kutta import Tsit5


class Adaptive(eqx.Module):
    """Adaptive steps by `diffrax.diffeqsolve`: the default, for a few trajectories or events.

    **Arguments:** `solver`, any diffrax solver; `rtol` and `atol`, the error allowed in a step;
    `max_steps` in one segment; `adjoint`, how gradients are taken: diffrax's default for
    reverse mode, `diffrax.ForwardMode()` for `jax.jvp` and `jax.jacfwd`; `norm`, how an error
    tree becomes one number.

    In an ensemble all trajectories of a batch share their steps, and the worst one's error
    decides: nothing is computed for a trajectory that has to wait.

    **Raises** `ValueError` for tolerances that are not positive.
    """

    solver: diffrax.AbstractSolver = Tsit5()
    rtol: float = 1e-6
    atol: float = 1e-8
    max_steps: int = 16**3
    adjoint: diffrax.AbstractAdjoint = diffrax.RecursiveCheckpointAdjoint()
    norm: Callable[[PyTree], Float[Array, ""]] = optimistix.rms_norm

    def __check_init__(self):
        if not (self.rtol > 0 and self.atol > 0):
            raise ValueError(
                f"rtol and atol must be positive; got rtol = {self.rtol}, atol = {self.atol}."
            )


class FixedStep(eqx.Module):
    """`steps` equal steps between successive saved times, in a scan: for ensembles and fits.

    Takes the same diffrax solvers.  The error is not controlled; compare with `Adaptive`.  Both
    forward- and reverse-mode gradients work.

    **Raises** `ValueError` unless `steps` is a positive integer.
    """

    steps: int = eqx.field(static=True)
    solver: diffrax.AbstractSolver = Tsit5()

    def __check_init__(self):
        if not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps must be a positive integer; got {self.steps!r}.")


Method = Adaptive | FixedStep
