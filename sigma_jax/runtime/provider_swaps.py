"""Whether another provider may take over a conversation: does it move the state alike?"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from .._check import require_in, require_number
from ..vm import LinearNode, relative_drift
from .monitor import MonitorParameters
from .replays import replay

_LEAST_TURNS = 10


class SwapVerdict(NamedTuple):
    """Whether a provider may take over, and on what grounds."""

    accepted: bool
    distance: float
    """δ, the relative difference of its drift from the present provider's."""
    low: float
    """Lower end of the 95 % bootstrap interval of δ."""
    high: float
    floor: float
    """The 95 % quantile of δ between runs of the present provider: what chance alone gives."""
    alarms: int
    """Turns of the probe conversation at which the monitor alarmed."""
    reason: str


def fit_node(y: Float[ArrayLike, "t d"], *, ridge: float = 5.0) -> LinearNode:
    """The drift f(y) = A (y − ȳ) that takes a reply to the next, by ridge regression.

    **Arguments:** `y`, the replies of a conversation in whitened coordinates; `ridge`, in units of
    replies: what is added to the diagonal of their sums of squares. The node's noise is the
    standard deviation of the residuals.

    **Raises** `ValueError` for fewer than ten turns, or numbers that are not finite.
    """
    replies = _conversation("y", y)
    require_in("ridge", ridge, 0.0)
    before, step = replies[:-1], np.diff(replies, axis=0)
    centre = replies.mean(axis=0)
    matrix = _ridge(before - centre, step, ridge)
    residuals = step - (before - centre) @ matrix.T
    return LinearNode(matrix, noise=residuals.std(axis=0), centre=centre)


def swap_gate(
    parameters: MonitorParameters,
    present: Float[ArrayLike, "t d"],
    reruns: Sequence[Float[ArrayLike, "t d"]],
    candidate: Float[ArrayLike, "t d"],
    *,
    ridge: float = 5.0,
    resamples: int = 500,
    seed: int = 0,
) -> SwapVerdict:
    """Accept a provider if it differs no more from the present one than that from itself.

    δ = ‖f_present − f_candidate‖/‖f_present‖ over the present provider's replies, of drifts fitted
    to one conversation each, on the same user turns. It is accepted if δ is at most the 95 %
    quantile of δ between every two runs of the present provider, and the monitor does not alarm on
    the candidate's conversation. The interval resamples turns with replacement.

    **Arguments:** `parameters` of the monitor calibrated for the identity; conversations in
    whitened coordinates: `present`, at least one of `reruns` of the same provider, `candidate`;
    `seed` of the resampling.

    **Raises** `ValueError` without reruns, for fewer than ten turns, other widths or numbers that
    are not finite.
    """
    require_in("resamples", resamples, 1)
    own = [_conversation("present", present)]
    own += [_conversation(f"reruns[{number}]", run) for number, run in enumerate(reruns)]
    if len(own) < 2:
        raise ValueError("reruns must hold at least one conversation; got none.")
    other = _conversation("candidate", candidate)
    size = parameters.anchor.shape[0]
    if any(run.shape[1] != size for run in (*own, other)):
        widths = [run.shape[1] for run in (*own, other)]
        raise ValueError(f"every conversation must be [t, {size}]; got widths {widths}.")
    itself = [
        _distance(first, second, ridge)
        for place, first in enumerate(own)
        for second in own[:place] + own[place + 1 :]
    ]
    floor, distance = float(np.quantile(itself, 0.95)), _distance(own[0], other, ridge)
    low, high = _interval(own[0], other, ridge, resamples, np.random.default_rng(seed))
    alarms = int(np.asarray(replay(parameters, other[None]).alarm).sum())
    reason = _reason(distance, floor, alarms)
    return SwapVerdict(not reason, distance, low, high, floor, alarms, reason)


def _reason(distance: float, floor: float, alarms: int) -> str:
    """Why not; empty if there is nothing against it."""
    found = []
    if distance > floor:
        found.append(f"its drift differs by {distance:.2f}, more than chance's {floor:.2f}")
    if alarms:
        found.append(f"the monitor alarmed at {alarms} turns")
    return "; ".join(found)


def _distance(first: np.ndarray, second: np.ndarray, ridge: float) -> float:
    """δ of the nodes fitted to two conversations, over the replies of the first."""
    nodes = [fit_node(replies, ridge=ridge) for replies in (first, second)]
    drifts = [(first - np.asarray(node.centre)) @ np.asarray(node.matrix).T for node in nodes]
    return float(relative_drift(jnp.asarray(drifts[0]), jnp.asarray(drifts[1])))


def _interval(first, second, ridge: float, resamples: int, random) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of δ over turns drawn with replacement."""

    def resampled(replies):
        rows = random.integers(0, len(replies) - 1, len(replies) - 1)
        before, step = replies[:-1][rows], np.diff(replies, axis=0)[rows]
        centre = replies.mean(axis=0)
        return (first - centre) @ _ridge(before - centre, step, ridge).T

    found = []
    for _ in range(resamples):
        old, new = resampled(first), resampled(second)
        scale = max(float(np.linalg.norm(old)), np.finfo(float).tiny)
        found.append(float(np.linalg.norm(old - new)) / scale)
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def _ridge(before: np.ndarray, step: np.ndarray, ridge: float) -> np.ndarray:
    products = before.T @ before + ridge * np.eye(before.shape[1])
    return np.linalg.lstsq(products, before.T @ step, rcond=None)[0].T


def _conversation(name: str, value: ArrayLike) -> Float[np.ndarray, "t d"]:
    require_number(name, value)
    array = np.asarray(value, float)
    if array.ndim != 2 or array.shape[1] == 0 or len(array) < _LEAST_TURNS:
        raise ValueError(
            f"{name} must be [t, d] of at least {_LEAST_TURNS} turns; got shape {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: leave turns without a reply out.")
    return array
