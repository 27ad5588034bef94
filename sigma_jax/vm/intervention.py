"""Who may intervene in a run, how often and how; every decision leaves a receipt."""

import enum
from collections.abc import Sequence
from typing import Any, Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from .._check import concrete, require_in
from .collapse import (
    CollapseSigns,
    CollapseThresholds,
    Outcome,
    project_to_attractor,
    require_shape,
    require_square,
    symmetric_modes,
)
from .excitation import excite

Mode = Literal["observe", "intervene"]
Response = Literal["observe", "excite", "project_to_attractor"]


class Action(enum.IntEnum):
    """What was done with a trajectory in one step."""

    NOTHING = 0
    OBSERVE = 1
    EXCITE = 2
    PROJECT_TO_ATTRACTOR = 3
    BLOCKED = 4


class Trigger(enum.IntEnum):
    """What asked for it. A collapse goes before a surprise in the same step."""

    NONE = 0
    COLLAPSE = 1
    SURPRISE = 2


class Reason(enum.IntEnum):
    """Why; `REASONS` has each in words."""

    NOT_TRIGGERED = 0
    OBSERVE_ONLY = 1
    EXCITED = 2
    EXCITED_WITHOUT_SPREAD = 3
    PROJECTED = 4
    NULL = 5
    BUDGET_SPENT = 6
    NOT_FINITE = 7


REASONS: dict[Reason, str] = {
    Reason.NOT_TRIGGERED: "nothing asked for it",
    Reason.OBSERVE_ONLY: "the policy only looks on at this",
    Reason.EXCITED: "kicked along the slowest modes; the covariance's spread is above its margin",
    Reason.EXCITED_WITHOUT_SPREAD: "kicked; a single eigenvalue has no spread to lift",
    Reason.PROJECTED: "projected on the near-null modes",
    Reason.NULL: "no near-null mode: set to the zero state",
    Reason.BUDGET_SPENT: "the budget is spent",
    Reason.NOT_FINITE: "the result would not have been finite",
}


class InterventionPolicy(eqx.Module):
    """What may be done about a collapse or a surprise. By default: look on, and note it.

    **Raises** `ValueError` for an unknown mode or response, a budget that is negative or no whole
    number, a budget for a policy that only observes, and a negative strength.
    """

    mode: Mode = eqx.field(static=True, default="observe")
    budget: int | Int[Array, ""] = 0
    """How many interventions a trajectory may have in all."""
    on_collapse: Response = eqx.field(static=True, default="excite")
    on_surprise: Response = eqx.field(static=True, default="observe")
    strength: float | Float[Array, ""] = 0.1
    """Length of a kick along one mode, in units of the state; ours, the reference gives none."""
    thresholds: CollapseThresholds = CollapseThresholds()

    def __check_init__(self):
        for name, allowed in (("mode", Mode), ("on_collapse", Response), ("on_surprise", Response)):
            if getattr(self, name) not in get_args(allowed):
                known, given = ", ".join(get_args(allowed)), getattr(self, name)
                raise ValueError(f"policy.{name} must be one of {known}; got {given!r}.")
        require_in("policy.budget", self.budget, 0)
        require_in("policy.strength", self.strength, 0.0)
        budget = concrete(self.budget)
        if budget is not None and budget.dtype.kind not in "iu":
            raise ValueError(f"policy.budget must be a whole number; got {self.budget}.")
        if budget is not None and self.mode == "observe" and budget.any():
            raise ValueError(
                f"policy.budget is {self.budget}, but a policy that observes spends none: "
                'choose mode="intervene" or budget=0.'
            )


class Receipt(eqx.Module):
    """What was decided in one step, as arrays, so that it can be stacked in a compiled loop."""

    action: Int[Array, "..."]
    """An `Action`."""
    trigger: Int[Array, "..."]
    """A `Trigger`."""
    reason: Int[Array, "..."]
    """A `Reason`."""
    norm_before: Float[Array, "..."]
    """‖x‖ before and after, in units of the state."""
    norm_after: Float[Array, "..."]


def quiet_receipt(x: Float[Array, " d"], surprised: Bool[ArrayLike, ""] = False) -> Receipt:
    """The receipt of a step in which nothing was asked for, or a surprise only looked at."""
    norm = jnp.linalg.norm(jax.lax.stop_gradient(x))
    noted = jnp.asarray(surprised).astype(jnp.int32)
    return Receipt(
        action=noted * int(Action.OBSERVE),
        trigger=noted * int(Trigger.SURPRISE),
        reason=noted * int(Reason.OBSERVE_ONLY),
        norm_before=norm,
        norm_after=norm,
    )


def intervene(
    policy: InterventionPolicy,
    x: Float[Array, " d"],
    covariance: Float[Array, "d d"],
    jacobian: Float[Array, "d d"],
    signs: CollapseSigns,
    noise: Float[Array, " d"],
    spent: Int[Array, ""],
    *,
    surprised: Bool[ArrayLike, ""] = False,
) -> tuple[Float[Array, " d"], Float[Array, "d d"], Int[Array, ""], Receipt]:
    """State, covariance, interventions spent so far, and the receipt, after one decision.

    `signs` are those of `policy.thresholds`. Unless the receipt says EXCITE or
    PROJECT_TO_ATTRACTOR, `x` and `covariance` come back bit for bit. A kick for a collapse is
    graded by its proximity; one for a surprise has full strength, as proximity says nothing of it.
    A result that is not finite is withheld and costs nothing.

    The event is discrete: its choice is not differentiated, and where nothing is done the
    derivative is the identity. The eigenvectors of the Jacobian are computed only if something is
    done, but under `vmap` for every trajectory: batches put a `cond` of their own around it.

    **Raises** `ValueError` for shapes that do not fit and for NaN (where values can be seen).
    """
    require_square("jacobian", jacobian)
    require_shape("covariance", covariance, jnp.shape(jacobian))
    require_shape("x", x, (jnp.shape(jacobian)[0],))
    require_shape("noise", noise, jnp.shape(x))
    spent = jnp.asarray(spent)
    trigger, wanted = _decide(policy, signs, jnp.asarray(surprised))
    acting = wanted > Action.OBSERVE
    affordable = spent < jnp.asarray(policy.budget, spent.dtype)
    due = acting & affordable
    new_x, new_covariance, done = _respond(
        policy, due, wanted, x, covariance, jacobian, signs, noise
    )
    commit = due & jnp.isfinite(new_x).all() & jnp.isfinite(new_covariance).all()

    refused = jnp.where(affordable, int(Reason.NOT_FINITE), int(Reason.BUDGET_SPENT))
    idle = jnp.where(wanted > 0, int(Reason.OBSERVE_ONLY), int(Reason.NOT_TRIGGERED))
    reason = jnp.where(commit, done, jnp.where(acting, refused, idle))
    after = jnp.where(commit, new_x, x)
    receipt = Receipt(
        action=jnp.where(acting & ~commit, int(Action.BLOCKED), wanted).astype(jnp.int32),
        trigger=trigger,
        reason=reason.astype(jnp.int32),
        norm_before=jnp.linalg.norm(jax.lax.stop_gradient(x)),
        norm_after=jnp.linalg.norm(jax.lax.stop_gradient(after)),
    )
    covariance = jnp.where(commit, new_covariance, covariance)
    return after, covariance, spent + commit.astype(spent.dtype), receipt


def describe(receipts: Receipt, axes: Sequence[str] = ("step",)) -> list[dict[str, Any]]:
    """A table, a row for each receipt that says something happened, in words; not for `jit`.

    `axes` names the leading axes of the receipts' arrays in order, such as ("trajectory", "step"):
    each is a column with the index, before action, trigger, reason, norm_before, norm_after.

    **Raises** `ValueError` unless there is one name for each axis.
    """
    action = np.asarray(receipts.action)
    if action.ndim != len(axes):
        raise ValueError(f"axes must name {action.ndim} axes; got {tuple(axes)}.")
    trigger, reason = np.asarray(receipts.trigger), np.asarray(receipts.reason)
    before, after = np.asarray(receipts.norm_before), np.asarray(receipts.norm_after)
    rows = []
    for place in zip(*np.nonzero(np.atleast_1d(action)), strict=True):
        at = tuple(int(index) for index in place[: action.ndim])
        rows.append(
            dict(zip(axes, at, strict=True))
            | {
                "action": _in_words(Action(action[at])),
                "trigger": _in_words(Trigger(trigger[at])),
                "reason": REASONS[Reason(reason[at])],
                "norm_before": float(before[at]),
                "norm_after": float(after[at]),
            }
        )
    return rows


def _decide(policy: InterventionPolicy, signs: CollapseSigns, surprised: Array):
    """The trigger and the action it asks for, as int32 codes."""
    trigger = jnp.where(surprised, int(Trigger.SURPRISE), int(Trigger.NONE))
    trigger = jnp.where(signs.triggered, int(Trigger.COLLAPSE), trigger).astype(jnp.int32)
    answers = [Action.NOTHING] * len(Trigger)
    answers[Trigger.COLLAPSE] = Action[policy.on_collapse.upper()]
    answers[Trigger.SURPRISE] = Action[policy.on_surprise.upper()]
    if policy.mode == "observe":
        answers[1:] = [Action.OBSERVE] * (len(Trigger) - 1)
    return trigger, jnp.array([int(answer) for answer in answers], jnp.int32)[trigger]


def _respond(
    policy: InterventionPolicy,
    due: Array,
    wanted: Array,
    x: Array,
    covariance: Array,
    jacobian: Array,
    signs: CollapseSigns,
    noise: Array,
) -> tuple[Array, Array, Array]:
    """The state, covariance and `Reason` of the action if it is due, else what came in."""
    if policy.mode == "observe":  # known before tracing: no eigenvectors in the program at all
        return x, covariance, jnp.zeros((), jnp.int32)

    def excited(modes):
        gain = jnp.where(signs.triggered, signs.proximity, 1.0)
        new_x, new_covariance = excite(
            x,
            covariance,
            modes,
            signs.rank,
            gain,
            noise,
            strength=policy.strength,
            thresholds=policy.thresholds,
        )
        reason = Reason.EXCITED if x.size > 1 else Reason.EXCITED_WITHOUT_SPREAD
        return new_x, new_covariance, jnp.int32(int(reason))

    def projected(modes):
        new_x, outcome = project_to_attractor(x, modes, policy.thresholds)
        reason = jnp.where(outcome == Outcome.ATTRACTOR, int(Reason.PROJECTED), int(Reason.NULL))
        return new_x, covariance, reason.astype(jnp.int32)

    def act():
        modes = symmetric_modes(jacobian)
        return jax.lax.cond(wanted == Action.EXCITE, excited, projected, modes)

    return jax.lax.cond(due, act, lambda: (x, covariance, jnp.zeros((), jnp.int32)))


def _in_words(code: enum.IntEnum) -> str:
    return code.name.lower().replace("_", " ")
