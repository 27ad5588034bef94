"""When a token has been looped over enough: exit policies.

A policy looks at one loop after another and says which rows want to stop. It knows nothing of what
follows from that: whether the loops that are left are really skipped, and what later tokens then
see of this one, is decided in `decoding.py` and `cache.py`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._check import require_in


class Loop(NamedTuple):
    """What a policy may look at after loop `index` (0, 1, …), one row a sequence."""

    index: int
    hidden: Float[Array, "batch size"]
    before: Float[Array, "batch size"]
    """The hidden state before this loop; before the first loop, the embedding."""
    gate: Float[Array, " batch"]
    """The exit gate's logit, float32."""
    logits: Callable[[], Float[Array, "batch vocabulary"]]
    """Computes the next-token logits: as dear as the head, so only called where needed."""


class ExitPolicy(eqx.Module):
    """Base of all policies. Derive from it to write another.

    `min_loops` and `max_loops` bound the depth; each is a number or one number a row. `None` for
    `max_loops` is every loop that the model has.
    """

    min_loops: eqx.AbstractVar[int | Int[Array, " batch"]]
    max_loops: eqx.AbstractVar[int | Int[Array, " batch"] | None]

    def start(self, embedding: Float[Array, "batch size"]) -> Any:
        """What the policy remembers from loop to loop, before the first."""
        return None

    def wants(self, memory: Any, loop: Loop) -> tuple[Bool[Array, " batch"], Any]:
        """Which rows want to stop after this loop, whatever the bounds, and the new memory."""
        raise NotImplementedError

    def bounded(
        self, wanted: Bool[Array, " batch"], index: int, loops: int
    ) -> Bool[Array, " batch"]:
        """Which rows stop after loop `index` of `loops`, once the bounds have had their say."""
        done = index + 1
        longest = loops if self.max_loops is None else jnp.minimum(self.max_loops, loops)
        return (wanted & (done >= jnp.asarray(self.min_loops))) | (done >= jnp.asarray(longest))


def _check_bounds(policy: ExitPolicy) -> None:
    require_in("min_loops", policy.min_loops, 1)
    if policy.max_loops is not None:
        require_in("max_loops", policy.max_loops, 1)


class FixedDepth(ExitPolicy):
    """Every token gets `max_loops` loops, or as many as the model has."""

    max_loops: int | Int[Array, " batch"] | None = None
    min_loops: int | Int[Array, " batch"] = 1

    def __check_init__(self):
        _check_bounds(self)

    def wants(self, memory: None, loop: Loop) -> tuple[Bool[Array, " batch"], None]:
        """Nobody wants to stop before the bound."""
        return jnp.zeros(loop.gate.shape, bool), None


class QExit(ExitPolicy):
    """Stop at the first loop where the exit distribution's CDF reaches `threshold`.

    λ_t = sigmoid(gate), p_t = λ_t Π_{j<t} (1 − λ_j), in float32. A threshold of 1 or more is full
    depth: with saturated gates a rounded CDF would reach 1 too early. The CDF counts from the
    first loop, below `min_loops` as well.

    Source: arXiv 2510.25741 (Q-exit).
    """

    threshold: float | Float[Array, " batch"]
    min_loops: int | Int[Array, " batch"] = 1
    max_loops: int | Int[Array, " batch"] | None = None

    def __check_init__(self):
        require_in("threshold", self.threshold, 0.0)
        _check_bounds(self)

    def start(self, embedding: Float[Array, "batch size"]) -> tuple[Array, Array]:
        """The CDF and the probability of having survived, before the first loop."""
        rows = embedding.shape[0]
        return jnp.zeros(rows, jnp.float32), jnp.ones(rows, jnp.float32)

    def wants(
        self, memory: tuple[Array, Array], loop: Loop
    ) -> tuple[Bool[Array, " batch"], tuple[Array, Array]]:
        """Rows whose CDF has reached the threshold."""
        reached, survival = memory
        leaves = jax.nn.sigmoid(loop.gate)
        reached = reached + leaves * survival
        threshold = jnp.asarray(self.threshold, jnp.float32)
        wanted = (reached >= threshold) & (threshold < 1.0)
        return wanted, (reached, survival * (1.0 - leaves))


class HiddenDifference(ExitPolicy):
    """Stop when ‖h_t − h_{t−1}‖ / ‖h_{t−1}‖ < `tolerance`, from the second loop on.

    Source: Σ₀-K1, kernel (fixed-point exit).
    """

    tolerance: float | Float[Array, " batch"]
    min_loops: int | Int[Array, " batch"] = 1
    max_loops: int | Int[Array, " batch"] | None = None

    def __check_init__(self):
        require_in("tolerance", self.tolerance, 0.0)
        _check_bounds(self)

    def wants(self, memory: None, loop: Loop) -> tuple[Bool[Array, " batch"], None]:
        """Rows whose last step was small."""
        step, size = _norm(_wide(loop.hidden) - _wide(loop.before)), _norm(_wide(loop.before))
        small = step < jnp.asarray(self.tolerance, jnp.float32) * size
        return small & (loop.index > 0), None


class Acceleration(ExitPolicy):
    """Stop when the second difference of h stays small for `patience` loops.

    Small means ‖(h_t − h_{t−1}) − (h_{t−1} − h_{t−2})‖ < `tolerance` ‖h_{t−1}‖; the first one is
    that of the third loop.

    Source: Σ₀-K1, kernel (acceleration exit; two steps there).
    """

    tolerance: float | Float[Array, " batch"]
    patience: int = eqx.field(static=True, default=2)
    min_loops: int | Int[Array, " batch"] = 1
    max_loops: int | Int[Array, " batch"] | None = None

    def __check_init__(self):
        require_in("tolerance", self.tolerance, 0.0)
        require_in("patience", self.patience, 1)
        _check_bounds(self)

    def start(self, embedding: Float[Array, "batch size"]) -> tuple[Array, Array]:
        """The last step, and for how many loops the second difference has been small."""
        return jnp.zeros_like(_wide(embedding)), jnp.zeros(embedding.shape[0], jnp.int32)

    def wants(
        self, memory: tuple[Array, Array], loop: Loop
    ) -> tuple[Bool[Array, " batch"], tuple[Array, Array]]:
        """Rows that have moved evenly for long enough."""
        last_step, calm = memory
        before = _wide(loop.before)
        step = _wide(loop.hidden) - before
        tolerance = jnp.asarray(self.tolerance, jnp.float32)
        small = (_norm(step - last_step) < tolerance * _norm(before)) & (loop.index > 1)
        calm = jnp.where(small, calm + 1, 0)
        return calm >= self.patience, (step, calm)


class PredictionKL(ExitPolicy):
    """Stop when KL(prediction of loop t ‖ prediction of loop t−1) < `tolerance`, in nats.

    It needs the head once a loop, which costs as much as several layers where the vocabulary is
    large. Source: the exit of Huginn (arXiv 2502.05171), carried over to Ouro.
    """

    tolerance: float | Float[Array, " batch"]
    vocab_size: int = eqx.field(static=True)
    min_loops: int | Int[Array, " batch"] = 1
    max_loops: int | Int[Array, " batch"] | None = None

    def __check_init__(self):
        require_in("tolerance", self.tolerance, 0.0)
        require_in("vocab_size", self.vocab_size, 1)
        _check_bounds(self)

    def start(self, embedding: Float[Array, "batch size"]) -> Float[Array, "batch vocabulary"]:
        """The log-probabilities of the loop before; there is none yet."""
        return jnp.zeros((embedding.shape[0], self.vocab_size), jnp.float32)

    def wants(
        self, memory: Float[Array, "batch vocabulary"], loop: Loop
    ) -> tuple[Bool[Array, " batch"], Float[Array, "batch vocabulary"]]:
        """Rows whose prediction has settled."""
        logs = jax.nn.log_softmax(loop.logits().astype(jnp.float32), axis=-1)
        divergence = jnp.sum(jnp.exp(logs) * (logs - memory), axis=-1)
        settled = divergence < jnp.asarray(self.tolerance, jnp.float32)
        return settled & (loop.index > 0), logs


def exit_distribution(
    gates: Float[Array, "loops *batch"],
) -> Float[Array, "loops *batch"]:
    """The probability of stopping after each loop, from the gate's logits along the first axis.

    p_t = λ_t Π_{j<t} (1 − λ_j); the last loop takes what is left, whatever its gate says.
    Source: arXiv 2510.25741 (exit distribution).
    """
    leaves = jax.nn.sigmoid(gates.astype(jnp.float32)).at[-1].set(1.0)
    stays = jnp.cumprod(1.0 - leaves[:-1], axis=0)
    survival = jnp.concatenate([jnp.ones_like(leaves[:1]), stays])
    return leaves * survival


def _wide(x: Array) -> Array:
    return x.astype(jnp.float32)


def _norm(x: Array) -> Array:
    return jnp.sqrt(jnp.sum(jnp.square(x), axis=-1))
