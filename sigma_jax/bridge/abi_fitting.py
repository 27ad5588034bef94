"""Fitting φ and ψ by gradient, on reconstruction and on what the kernel's head says."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int, Key

from .._check import require_in
from ..kernel import Ouro
from .abi_fidelity import divergences, require_fits, unexplained
from .state_abi import StateABI


class ABITraining(NamedTuple):
    """Where a fit is: all that a checkpoint must hold."""

    abi: StateABI
    memory: optax.OptState
    step: Int[Array, ""]


def start_abi_training(abi: StateABI) -> ABITraining:
    """A fit that starts at `abi`, best at that of `optimal_abi`."""
    memory = optax.scale_by_adam().init(eqx.filter(abi, eqx.is_array))
    return ABITraining(abi, memory, jnp.zeros((), jnp.int32))


def train_abi(
    training: ABITraining,
    model: Ouro,
    hidden: Float[ArrayLike, "samples hidden_size"],
    *,
    steps: int,
    key: Key[Array, ""],
    batch: int = 256,
    learning_rate: float = 1e-3,
    divergence_weight: float = 1.0,
) -> tuple[ABITraining, Float[Array, " steps"]]:
    """Adam on the unexplained variance plus `divergence_weight` times the head's KL, in nats.

    A step's batch is a function of `key` and the number of the step alone, so a run in pieces is
    the whole run. The model stays as it is.

    **Returns** the fit after `steps` further steps, and the loss before each.

    **Raises** `ValueError` for numbers out of range or an ABI of another width than the model.

    Source: Σ₀-K1, component 6: fitted on real exit-depth hidden states.
    """
    require_in("steps", steps, 1)
    require_in("batch", batch, 2)
    require_in("learning_rate", learning_rate, 0.0, open_low=True)
    require_in("divergence_weight", divergence_weight, 0.0)
    require_fits(training.abi, model)
    graph, state = nnx.split(model)
    numbers = (jnp.float32(learning_rate), jnp.float32(divergence_weight))
    return _train(training, graph, state, jnp.asarray(hidden), key, steps, batch, *numbers)


@eqx.filter_jit
def _train(training, graph, state, hidden, key, steps, batch, learning_rate, weight):
    model = nnx.merge(graph, state)
    optimiser = optax.scale_by_adam()

    def loss(abi: StateABI, chosen: Array) -> Array:
        rebuilt = abi.decode(abi.encode(chosen))
        heard = divergences(model.logits(chosen), model.logits(rebuilt)).mean()
        return unexplained(chosen, rebuilt) + weight * heard

    def turn(training: ABITraining, _: None) -> tuple[ABITraining, Array]:
        drawn = jax.random.fold_in(key, training.step)
        rows = jax.random.randint(drawn, (batch,), 0, hidden.shape[0])
        value, gradient = jax.value_and_grad(loss)(training.abi, hidden[rows])
        with jax.numpy_dtype_promotion("standard"):  # Adam raises floats to whole-number powers
            change, memory = optimiser.update(gradient, training.memory)
            abi = eqx.apply_updates(training.abi, optax.tree.scale(-learning_rate, change))
        return ABITraining(abi, memory, training.step + 1), value

    return jax.lax.scan(turn, training, None, length=steps)
