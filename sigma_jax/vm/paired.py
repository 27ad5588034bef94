"""Paired runs: what a policy changes, and that looking on changes nothing."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .intervention import InterventionPolicy
from .machine import State, StateMachine
from .rollouts import Rollout, rollout

_ABOUT_OPERATORS = ("proximity", "receipt")
"""What a trace says of collapses and decisions: nothing, where no one looks."""


class Effect(eqx.Module):
    """What intervening did to each trajectory, against the run without operators."""

    interventions: Int[Array, "*batch"]
    """How many there were in the run."""
    cost_difference: Float[Array, "*batch"]
    """Stage cost where the run ended, less the other's: negative if it helped. A trajectory that
    diverged ends at its last good state."""
    distance: Float[Array, "*batch"]
    """‖x − x′‖ between the two ends."""


class PairedRuns(eqx.Module):
    """Three runs from one state, and so on one noise, that differ in their policy alone."""

    no_operators: Rollout
    """Without a policy."""
    observed: Rollout
    """With the policy, looking on only."""
    intervened: Rollout
    """With the policy, within its budget."""
    effect: Effect

    def changed_by_observing(self) -> tuple[str, ...]:
        """The names of all that differs in any bit between the first two runs; not for `jit`.

        State, swaps, and the columns of the trace but for `proximity` and `receipt`, which have
        nothing to say without a policy. It should be empty.
        """
        before, after = _compared(self.no_operators), _compared(self.observed)
        return tuple(name for name in before if _bits(before[name]) != _bits(after[name]))

    def check(self) -> None:
        """Raise RuntimeError, naming what changed, unless observing changed no bit."""
        if changed := self.changed_by_observing():
            raise RuntimeError(f"observing changed {', '.join(changed)}.")


def paired_rollouts(
    machine: StateMachine, state: State, policy: InterventionPolicy, **options: Any
) -> PairedRuns:
    """Run `machine` three times from `state`: without operators, observed, and intervened in.

    The machine's own policy is left out of it. **Arguments:** `policy`, one that intervenes;
    `options`, as of `rollout`, except for `trace`, which is always kept.

    **Raises** `ValueError` for a policy that only observes, and as `rollout` does.

    Source: Σ₀-K1, intervention policy.
    """
    if not isinstance(policy, InterventionPolicy) or policy.mode != "intervene":
        raise ValueError(
            'policy must be an InterventionPolicy(mode="intervene"); the run that observes is made '
            f"from it. Got {policy!r}."
        )
    onlooker = dataclasses.replace(policy, mode="observe", budget=0)
    runs = [
        rollout(_with_policy(machine, each), state, trace=True, **options)
        for each in (None, onlooker, policy)
    ]
    return PairedRuns(*runs, effect=_effect(machine, state, runs[0].state, runs[2].state))


def _with_policy(machine: StateMachine, policy: InterventionPolicy | None) -> StateMachine:
    return eqx.tree_at(
        lambda machine: machine.policy, machine, policy, is_leaf=lambda leaf: leaf is None
    )


@eqx.filter_jit
def _effect(machine: StateMachine, start: State, without: State, intervened: State) -> Effect:
    def cost(x, covariance):
        return machine.cost(x, machine.controller(x, covariance, machine.control_dim))

    costs = jax.vmap(cost) if start.x.ndim == 2 else cost
    ends = [costs(end.x, end.covariance) for end in (without, intervened)]
    return Effect(
        interventions=intervened.spent - start.spent,
        cost_difference=ends[1] - ends[0],
        distance=jnp.linalg.norm(intervened.x - without.x, axis=-1),
    )


def _compared(run: Rollout) -> dict[str, Any]:
    parts = {"state": run.state, "swaps": run.swaps, "trace": run.trace}
    return {
        f"{name}.{field.name}": getattr(part, field.name)
        for name, part in parts.items()
        for field in dataclasses.fields(part)
        if field.name not in _ABOUT_OPERATORS
    }


def _bits(array: Array) -> bytes:
    if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    return np.asarray(array).tobytes()
