"""Phases of a conversation, read off the monitor's statistics, with hysteresis."""

import enum

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Phase(enum.IntEnum):
    """How a conversation stands to its identity."""

    FORMING = 0
    """Too few replies yet, or no calibration: nothing is said about the identity."""
    STABLE = 1
    """Every statistic is below its warning level."""
    REFLECTIVE = 2
    """A cumulative sum is above half its limit, or a departure is far enough to watch."""
    RECOVERY = 3
    """A cumulative sum has passed its limit: replies look like the model without the identity,
    or a constraint is violated too often."""
    FRAGMENTING = 4
    """Replies have left the identity, and not towards the default."""
    CRYSTALLISED = 5
    """Replies hardly differ from one another any more."""


HOLD_TURNS = 3
"""A phase is left after so many turns in a row under its lower limit."""
COOLDOWN_TURNS = 10
"""For so long after one of the last three phases nothing above REFLECTIVE is entered."""

_LOWER = 0.5  # of the limit at which a phase was entered; it is left below that
_DISPERSION_MARGIN = 1.3  # CRYSTALLISED is left above so many times its limit
_SEVERITY = (0, 0, 1, 4, 3, 2)  # by phase: which of two wins


class PhaseState(eqx.Module):
    """The phase and what its hysteresis remembers."""

    phase: Int[Array, ""]
    calm: Int[Array, ""]
    """Turns in a row under the lower limit of the phase."""
    cooldown: Int[Array, ""]
    """Turns for which nothing above REFLECTIVE is entered."""


class Signs(eqx.Module):
    """What a phase is read off."""

    sums: Float[Array, ""]
    """The largest cumulative sum, in units of its limit."""
    towards_default: Float[Array, ""]
    """The largest contrastive sum, in units of its limit."""
    departure: Float[Array, ""]
    """The largest T², in units of its limit."""
    dispersion: Float[Array, ""]
    """In units of the limit below which the replies are crystallised."""


def start_phase() -> PhaseState:
    """FORMING, with nothing remembered."""
    none = jnp.zeros((), jnp.int32)
    return PhaseState(none, none, none)


def phase_step(state: PhaseState, signs: Signs, forming: Bool[Array, ""]) -> PhaseState:
    """The phase after one more turn.

    A more severe phase (RECOVERY, then FRAGMENTING, CRYSTALLISED, REFLECTIVE, STABLE) is entered
    at once; a less severe one after `HOLD_TURNS` turns under the lower limit. For `COOLDOWN_TURNS`
    after RECOVERY, FRAGMENTING or CRYSTALLISED none of the three is entered: alarms go on, the
    phase does not flap.

    **Arguments:** `signs` of this turn; `forming`, whether there are too few replies yet, which
    overrides everything.
    """
    severity = jnp.asarray(_SEVERITY, jnp.int32)
    target = _target(signs)
    reflective = jnp.asarray(int(Phase.REFLECTIVE), jnp.int32)
    target = jnp.where((state.cooldown > 0) & (severity[target] > 1), reflective, target)
    none = jnp.zeros((), jnp.int32)
    calm = jnp.where(_under(state.phase, signs), state.calm + 1, none)
    worse = severity[target] > severity[state.phase]
    leave = (calm >= HOLD_TURNS) & (severity[target] < severity[state.phase])
    changes = worse | leave | (state.phase == int(Phase.FORMING))
    phase = jnp.where(changes, target, state.phase)
    cools = leave & (severity[state.phase] > 1)
    cooldown = jnp.where(cools, COOLDOWN_TURNS, jnp.maximum(state.cooldown - 1, 0))
    counting = (~forming).astype(jnp.int32)
    return PhaseState(
        phase=jnp.where(forming, jnp.zeros_like(phase), phase).astype(jnp.int32),
        calm=jnp.where(changes, none, calm).astype(jnp.int32) * counting,
        cooldown=cooldown.astype(jnp.int32) * counting,
    )


def _target(signs: Signs) -> Int[Array, ""]:
    """The phase of these signs alone."""
    unknown = (signs.departure > 1.0) & (signs.towards_default < _LOWER)
    watched = (signs.sums >= _LOWER) | (signs.departure > 1.0)
    held = jnp.stack([signs.sums > 1.0, unknown, signs.dispersion < 1.0, watched])
    phases = Phase.RECOVERY, Phase.FRAGMENTING, Phase.CRYSTALLISED, Phase.REFLECTIVE, Phase.STABLE
    first = jnp.argmax(jnp.concatenate([held, jnp.ones(1, bool)]))
    return jnp.asarray(phases, jnp.int32)[first]


def _under(phase: Int[Array, ""], signs: Signs) -> Bool[Array, ""]:
    """Whether the signs are under the lower limit of `phase`."""
    under = jnp.stack(
        [
            jnp.ones((), bool),
            jnp.ones((), bool),
            (signs.sums < _LOWER**2) & (signs.departure < 1.0),
            signs.sums < _LOWER,
            signs.departure < (1.0 + _LOWER) / 2.0,
            signs.dispersion > _DISPERSION_MARGIN,
        ]
    )
    return under[phase]
