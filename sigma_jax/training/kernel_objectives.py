"""What Ouro is trained on: stage I, all loops and the gate together; stage II, the gate alone.

Source: Zhu et al., "Scaling Latent Reasoning via Looped Language Models" (arXiv 2510.25741).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ..kernel import Ouro

GAIN = 50.0
"""k of the second stage: how sharply an improvement is told from none, per nat."""
LEAST_IMPROVEMENT = 0.005
"""γ of the second stage: the improvement, in nats, from which a loop is worth its while."""


class Objective(NamedTuple):
    """A loss to go down, and what it is made of. All are means over the weighted tokens."""

    loss: Float[Array, ""]
    loop_losses: Float[Array, " loops"]
    """Cross-entropy of each loop's prediction, in nats."""
    entropy: Float[Array, ""]
    """Of the exit distribution, in nats; log T at most."""
    exit_step: Float[Array, ""]
    """The mean loop of the exit distribution, from 1 to T."""


def token_losses(
    model: Ouro,
    hidden: Float[Array, "loops batch tokens size"],
    targets: Int[Array, "batch tokens"],
) -> Float[Array, "loops batch tokens"]:
    """The cross-entropy, in nats, of every loop's prediction of the token that follows.

    **Arguments:** `hidden`, the states of every loop; `targets`, what follows each token.
    """
    logits = model.logits(hidden).astype(jnp.float32)
    every = jnp.broadcast_to(targets, logits.shape[:-1])
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, every)


def log_exit_distribution(gates: Float[Array, "loops *batch"]) -> Float[Array, "loops *batch"]:
    """The logarithm of the probability of stopping after each loop, from the gate's logits.

    log p_t = log σ(g_t) + Σ_{j<t} log σ(−g_j), without the first term for the last loop, which
    takes what is left. Finite for every finite gate, however saturated; in the gates' own type.
    """
    stays = jnp.cumsum(jax.nn.log_sigmoid(-gates[:-1]), axis=0)
    survives = jnp.concatenate([jnp.zeros_like(gates[:1]), stays])
    return survives.at[:-1].add(jax.nn.log_sigmoid(gates[:-1]))


def expected_loss(
    losses: Float[Array, "loops *batch"],
    gates: Float[Array, "loops *batch"],
    weights: Float[Array, "*batch"],
    *,
    entropy_weight: float,
) -> Objective:
    """Stage I: the expected loss under each token's exit distribution, less β times its entropy.

    Σ_t p_t L_t − β H(p), a weighted mean over the tokens. It is the negative evidence lower bound
    with a uniform prior: KL(p ‖ uniform) = log T − H(p).

    **Arguments:** `losses`, each loop's cross-entropy; `gates`, the gate's logits; `weights`, what
    each token counts, not all zero; `entropy_weight`, β in nats per nat.
    """
    logs = log_exit_distribution(gates)
    p = jnp.exp(logs)
    entropy = -jnp.sum(p * logs, axis=0)
    each = jnp.sum(p * losses, axis=0) - entropy_weight * entropy
    return _objective(each, losses, p, entropy, weights)


def gate_loss(
    losses: Float[Array, "loops *batch"],
    gates: Float[Array, "loops *batch"],
    weights: Float[Array, "*batch"],
    *,
    gain: float = GAIN,
    least_improvement: float = LEAST_IMPROVEMENT,
) -> Objective:
    """Stage II: the gate learns to go on where going on has helped. The losses are held fixed.

    The improvement of loop t is I_t = max(0, L_{t−1} − L_t), its label w_t = σ(k (I_t − γ)); the
    gate's 1 − λ_t is held against w_t by binary cross-entropy. Summed over t = 2 … T and divided
    by T, as in the paper; a weighted mean over the tokens. The first loop's gate is not trained.

    **Arguments:** as of `expected_loss`; `gain`, k per nat; `least_improvement`, γ in nats.
    """
    losses = jax.lax.stop_gradient(losses)
    improvement = jnp.maximum(losses[:-1] - losses[1:], 0.0)
    goes_on = jax.nn.sigmoid(gain * (improvement - least_improvement))
    logits = gates[1:]
    crossed = goes_on * jax.nn.log_sigmoid(-logits) + (1.0 - goes_on) * jax.nn.log_sigmoid(logits)
    each = -jnp.sum(crossed, axis=0) / gates.shape[0]
    logs = log_exit_distribution(gates)
    p = jnp.exp(logs)
    return _objective(each, losses, p, -jnp.sum(p * logs, axis=0), weights)


def _objective(each: Array, losses: Array, p: Array, entropy: Array, weights: Array) -> Objective:
    total = weights.sum()

    def mean(values: Array) -> Array:
        return jnp.sum(values * weights) / total

    steps = jnp.arange(1, losses.shape[0] + 1, dtype=p.dtype)
    return Objective(
        loss=mean(each),
        loop_losses=jax.vmap(mean)(losses),
        entropy=mean(entropy),
        exit_step=mean(jnp.tensordot(steps, p, axes=1)),
    )
