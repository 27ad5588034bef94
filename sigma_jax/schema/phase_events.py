"""Phase transitions as events: located by the solver's root finder, not by scanning samples."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int

from ..solvers import Adaptive, Stop, advance_until
from .phases import state_margins
from .state import State
from .thresholds import Thresholds
from .vector_field import SigmaModel

_Watched = tuple[Int[Array, ""], Float[Array, ""]]


class Transition(eqx.Module):
    """One move of the phase machine: when (epochs), from and to which phase, in which state."""

    time: Float[Array, ""]
    before: int
    after: int
    state: State


def phase_transitions(
    model: SigmaModel,
    y0: State,
    t0: float,
    t1: float,
    *,
    thresholds: Thresholds = Thresholds(),
    reverse_dwell: float = 10.0,
    method: Adaptive = Adaptive(),
    most: int = 50,
) -> list[Transition]:
    """The phase transitions of one agent between `t0` and `t1` (epochs), in order.

    A forward transition happens where its trigger's margin crosses zero; a reverse one where
    its margin has stayed positive for `reverse_dwell` epochs. Crossings are located by root
    finding to the solver's tolerance.

    **Raises** `ValueError` for more than one agent, or times that do not increase;
    `RuntimeError` if there are more than `most` transitions.
    """
    if y0.planning.shape != (1,):
        raise ValueError(f"phase_transitions follows one agent; got {y0.planning.shape[0]}.")
    if not t1 > t0:
        raise ValueError(f"t1 must exceed t0; got t0 = {t0} and t1 = {t1}.")
    triggers = _Triggers(model, thresholds)
    found: list[Transition] = []
    phase, t, y = 0, jnp.asarray(t0, jnp.result_type(float)), y0
    while True:
        t, y, move = _until_move(triggers, method, phase, t, y, t1, reverse_dwell)
        if move == 0:
            return found
        if len(found) == most:
            raise RuntimeError(f"more than {most} phase transitions before t = {t}; raise `most`.")
        found.append(Transition(t, phase, phase + move, y))
        phase += move


class _Triggers(eqx.Module):
    """The margins of the current phase, as event conditions that fire when they rise to zero.

    `args` is (phase, direction): direction −1 watches for the reverse margin to fall instead.
    """

    model: SigmaModel
    thresholds: Thresholds

    def forward(self, t: ArrayLike, y: State, args: _Watched) -> Float[Array, ""]:
        phase, _ = args
        margins = state_margins(t, y, self.model.environment, self.thresholds).forward[0]
        return _finite(jnp.append(margins, -1.0)[phase])

    def reverse(self, t: ArrayLike, y: State, args: _Watched) -> Float[Array, ""]:
        phase, direction = args
        margins = state_margins(t, y, self.model.environment, self.thresholds).reverse[0]
        return direction * _finite(jnp.insert(margins, 0, -1.0)[phase])


def _finite(margin: Float[Array, ""]) -> Float[Array, ""]:
    """A transition that cannot happen has margin −∞; root finding needs numbers."""
    return jnp.clip(margin, -1.0, 1.0)


def _until_move(triggers, method, phase: int, t, y, t1: float, dwell: float):
    """Advance until the phase moves: (time, state, +1 or −1), or (t1, state, 0)."""
    rising, falling = ((jnp.asarray(phase), jnp.asarray(sign)) for sign in (1.0, -1.0))
    up, down = _margins(triggers, t, y, rising)
    if up > 0:
        return t, y, 1
    since = t if down > 0 else None
    while True:
        deadline = t1 if since is None else min(float(since) + dwell, t1)
        if t < deadline:
            watched = rising if since is None else falling
            stop = _advance(triggers, t, y, jnp.asarray(deadline), watched, method)
            t, y, which = stop.time, stop.y, int(stop.which)
        else:
            which = -1
        if which == 0:
            return t, y, 1
        if which == 1:  # the reverse trigger has just risen, or, while it was up, fallen
            since = t if since is None else None
        elif since is not None and t >= since + dwell:
            return t, y, -1
        else:
            return t, y, 0


@eqx.filter_jit
def _margins(triggers: _Triggers, t, y, watched: _Watched):
    return triggers.forward(t, y, watched), triggers.reverse(t, y, watched)


@eqx.filter_jit
def _advance(triggers: _Triggers, t, y, deadline, watched: _Watched, method: Adaptive) -> Stop:
    return advance_until(
        lambda t, y, args: triggers.model(t, y),
        y,
        t,
        deadline,
        (triggers.forward, triggers.reverse),
        rising=(True, True),
        args=watched,
        method=method,
    )
