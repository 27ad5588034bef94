"""What is lost between a kernel and the states that stand for its hidden states."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from ..kernel import ExitPolicy, FixedDepth, Ouro, select
from .state_abi import StateABI


class Fidelity(NamedTuple):
    """How well ψ(φ(h)) stands for h, over samples of h."""

    explained: Float[Array, ""]
    """The share of the variance of h that is reconstructed: 1 is all of it."""
    divergence: Float[Array, ""]
    """KL of the head's predictions from h to those from ψ(φ(h)), mean, in nats."""
    agreement: Float[Array, ""]
    """The share of samples for which both predict the same token as the likeliest."""


def fidelity(
    abi: StateABI, model: Ouro, hidden: Float[ArrayLike, "samples hidden_size"]
) -> Fidelity:
    """Reconstruction, and what the kernel's own head says of it.

    **Raises** `ValueError` if the ABI is of another width than the model.

    Source: Σ₀-K1, component 6: judged by the decoder's KL and top-1 agreement.
    """
    require_fits(abi, model)
    graph, state = nnx.split(model)
    return _fidelity(abi, graph, state, jnp.asarray(hidden))


@eqx.filter_jit
def _fidelity(abi, graph, state, hidden) -> Fidelity:
    model = nnx.merge(graph, state)
    rebuilt = abi.decode(abi.encode(hidden))
    logits, again = model.logits(hidden), model.logits(rebuilt)
    return Fidelity(
        explained=1.0 - unexplained(hidden, rebuilt),
        divergence=jnp.mean(divergences(logits, again)),
        agreement=jnp.mean((logits.argmax(-1) == again.argmax(-1)).astype(jnp.float32)),
    )


def unexplained(
    hidden: Float[Array, "samples hidden_size"], rebuilt: Float[Array, "samples hidden_size"]
) -> Float[Array, ""]:
    """The mean squared error of `rebuilt` over the variance of `hidden`."""
    spread = hidden - hidden.mean(axis=0)
    return jnp.sum(jnp.square(hidden - rebuilt)) / jnp.sum(jnp.square(spread))


def divergences(
    logits: Float[Array, "samples vocabulary"], others: Float[Array, "samples vocabulary"]
) -> Float[Array, " samples"]:
    """KL(softmax(logits) ‖ softmax(others)) of each row, in nats."""
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    log_q = jax.nn.log_softmax(others.astype(jnp.float32), axis=-1)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1)


def exit_states(
    model: Ouro, sequences: Sequence[Sequence[int]], policy: ExitPolicy = FixedDepth()
) -> Float[np.ndarray, "samples hidden_size"]:
    """The hidden state at which every token of every sequence leaves the loops, one a row.

    Sequences are read together, padded on the left.

    **Raises** `ValueError` if there is no sequence, or an empty one.
    """
    if not sequences or not all(map(len, sequences)):
        raise ValueError("sequences must hold at least one sequence, and none that is empty.")
    width = max(map(len, sequences))
    ids, real = np.zeros((2, len(sequences), width), np.int32)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence) :] = sequence
        real[row, width - len(sequence) :] = 1
    graph, state = nnx.split(model)
    chosen = _exit_states(graph, state, ids, real.astype(bool), policy)
    return np.asarray(chosen)[real.astype(bool)]


@eqx.filter_jit
def _exit_states(graph, state, ids, real, policy):
    model = nnx.merge(graph, state)
    return select(model, model(ids, real=real), policy)[0]


def require_fits(abi: StateABI, model: Ouro) -> None:
    """Raise `ValueError` if the ABI is of another width than the model's hidden states."""
    if abi.hidden_size != model.config.hidden_size:
        raise ValueError(
            f"the ABI is of hidden states of {abi.hidden_size} numbers; the model's have "
            f"{model.config.hidden_size}."
        )


class _HeadBehindABI(nnx.Module):
    """A head that hears what is left of a hidden state after φ and ψ."""

    def __init__(self, abi: StateABI, head: nnx.Module):
        self.abi, self.head = nnx.data(abi), head

    def __call__(self, hidden: Float[Array, "*batch hidden_size"]) -> Array:
        return self.head(self.abi.decode(self.abi.encode(hidden)))


def heard_through(abi: StateABI, model: Ouro) -> Ouro:
    """The same kernel, whose head hears ψ(φ(h)) in place of h: to test it on its own task.

    **Raises** `ValueError` if the ABI is of another width than the model.
    """
    require_fits(abi, model)
    copy = nnx.merge(*nnx.split(model))
    copy.lm_head = _HeadBehindABI(abi, copy.lm_head)  # pyright: ignore[reportAttributeAccessIssue]
    return copy
