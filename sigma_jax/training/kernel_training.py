"""Training Ouro: the recipe, the state that a run is at, and compiled steps.

Source of the two stages and of the optimiser's numbers: Zhu et al. (arXiv 2510.25741), table 1.
"""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, PyTree

from .._check import require_in
from ..kernel import Ouro
from .batches import Batch, Batches
from .kernel_objectives import Objective, expected_loss, gate_loss, token_losses

_TRAINED = {"joint": ..., "gate": nnx.PathContains("early_exit_gate"), "adapter": nnx.LoRAParam}
"""The parameters that each stage trains, as a filter."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One stage of training.

    **Arguments:** `stage`, "joint" (I: everything, expected loss less β times the entropy), "gate"
    (II: the exit gate alone) or "adapter" (the low-rank adapters alone, by the loss of the joint
    stage); `steps` in all; `learning_rate`, its peak, reached after `warmup` steps and left along a
    cosine to `final_share` of it; `entropy_weight`, β in nats (not of the gate's stage);
    `weight_decay`, of matrices only; `clip`, the largest norm of a gradient.

    **Raises** `ValueError` for another stage or a number out of range.
    """

    stage: Literal["joint", "gate", "adapter"]
    steps: int
    learning_rate: float
    warmup: int = 0
    final_share: float = 0.1
    entropy_weight: float = 0.1
    weight_decay: float = 0.1
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.stage not in _TRAINED:
            raise ValueError(f"stage must be one of {', '.join(_TRAINED)}; got {self.stage!r}.")
        require_in("steps", self.steps, 1)
        require_in("warmup", self.warmup, 0, self.steps - 1)
        require_in("learning_rate", self.learning_rate, 0.0, open_low=True)
        require_in("final_share", self.final_share, 0.0, 1.0)
        require_in("entropy_weight", self.entropy_weight, 0.0)
        require_in("weight_decay", self.weight_decay, 0.0)
        require_in("clip", self.clip, 0.0, open_low=True)

    def schedule(self) -> optax.Schedule:
        """The learning rate by step."""
        return optax.warmup_cosine_decay_schedule(
            init_value=0.0 if self.warmup else self.learning_rate,
            peak_value=self.learning_rate,
            warmup_steps=self.warmup,
            decay_steps=self.steps,
            end_value=self.final_share * self.learning_rate,
        )

    def optimiser(self) -> optax.GradientTransformation:
        """AdamW (0.9, 0.95) behind a clip of the gradient's norm."""
        return optax.chain(
            optax.clip_by_global_norm(self.clip),
            optax.adamw(
                self.schedule(),
                b1=0.9,
                b2=0.95,
                weight_decay=self.weight_decay,
                mask=lambda parameters: jax.tree.map(lambda p: p.ndim > 1, parameters),
            ),
        )


class TrainingState(NamedTuple):
    """Where a run is: with the recipe and the batches, all that the next step depends on."""

    trained: PyTree
    """The parameters that the stage trains."""
    frozen: PyTree
    """Those that it leaves alone."""
    optimiser: PyTree
    step: Int[Array, ""]
    """Steps done; also the number of the next batch."""


class Metrics(NamedTuple):
    """Means over the steps of a segment, and what the last of them was at."""

    step: int
    """Steps done."""
    tokens: int
    """Tokens of the segment that are not padding."""
    loss: float
    loop_losses: np.ndarray
    """Cross-entropy of each loop, in nats: `[loops]`."""
    entropy: float
    exit_step: float
    gradient_norm: float
    """Before clipping."""
    learning_rate: float
    """Of the last step."""


def start_training(model: Ouro, recipe: Recipe) -> TrainingState:
    """The state before the first step of a stage, from a copy of the model as it is.

    **Raises** `ValueError` for the stage "adapter" of a model that has none.
    """
    _, *parameters = _split(model, recipe.stage)
    trained, frozen = jax.tree.map(jnp.copy, parameters)
    if not jax.tree.leaves(trained):
        raise ValueError("the model has no adapter to train: add_adapter first.")
    optimiser = recipe.optimiser().init(trained)
    return TrainingState(trained, frozen, optimiser, jnp.zeros((), jnp.int32))


def trained_model(model: Ouro, state: TrainingState, recipe: Recipe) -> Ouro:
    """A copy of `model`, which gives the shape, with the parameters of `state`."""
    graph, _, _ = _split(model, recipe.stage)
    return nnx.merge(graph, *jax.tree.map(jnp.copy, (state.trained, state.frozen)))


def train(
    model: Ouro, state: TrainingState, batches: Batches, recipe: Recipe, *, steps: int
) -> tuple[TrainingState, Metrics]:
    """Go on for `steps` steps, and say how they went.

    The same bits come of it however the steps are divided into calls.

    **Arguments:** `model` gives the shape only; `state`, of which the buffers are used up.

    **Raises** `ValueError` for a number of steps below one, and if the loss or a gradient is no
    longer finite.
    """
    require_in("steps", steps, 1)
    graph, _, _ = _split(model, recipe.stage)
    first = int(state.step)
    given, tokens = [], 0
    for number in range(first, first + steps):
        batch = batches.batch(number)
        tokens += int(batch.real.sum())
        state, *measured = _step(state, batch, graph=graph, recipe=recipe)
        given.append(measured)
    objective, norms = jax.device_get(jax.tree.map(lambda *leaves: jnp.stack(leaves), *given))
    if not (np.isfinite(objective.loss).all() and np.isfinite(norms).all()):
        raise ValueError(
            f"the loss is no longer finite between steps {first} and {first + steps}: lower the "
            "learning rate, or lengthen the warmup."
        )
    metrics = Metrics(
        step=first + steps,
        tokens=tokens,
        loss=float(objective.loss.mean()),
        loop_losses=objective.loop_losses.mean(axis=0),
        entropy=float(objective.entropy.mean()),
        exit_step=float(objective.exit_step.mean()),
        gradient_norm=float(norms.mean()),
        learning_rate=float(jnp.asarray(recipe.schedule()(first + steps - 1))),
    )
    return state, metrics


def _split(model: Ouro, stage: str) -> tuple[Any, PyTree, PyTree]:
    graph, trained, frozen = nnx.split(model, _TRAINED[stage], ...)
    return graph, trained, frozen


@functools.partial(jax.jit, static_argnames=("graph", "recipe"), donate_argnums=0)
def _step(
    state: TrainingState, batch: Batch, *, graph: Any, recipe: Recipe
) -> tuple[TrainingState, Objective, Float[Array, ""]]:
    def loss(trained: PyTree) -> tuple[Array, Objective]:
        model = nnx.merge(graph, trained, state.frozen)
        objective = evaluate_objective(model, batch, recipe)
        return objective.loss, objective

    gradient, objective = jax.grad(loss, has_aux=True)(state.trained)
    with jax.numpy_dtype_promotion("standard"):  # Adam raises floats to whole-number powers
        updates, optimiser = recipe.optimiser().update(gradient, state.optimiser, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    after = TrainingState(trained, state.frozen, optimiser, state.step + 1)
    return after, objective, optax.tree.norm(gradient)


def evaluate_objective(model: Ouro, batch: Batch, recipe: Recipe) -> Objective:
    """The stage's objective on one batch."""
    outputs = model(jnp.asarray(batch.ids[:, :-1]), real=jnp.asarray(batch.real[:, :-1]))
    weights = jnp.asarray(batch.weights)
    counted = weights.shape[1]
    gates = outputs.gate[:, :, -counted:]
    targets = jnp.asarray(batch.ids[:, -counted:])
    losses = token_losses(model, outputs.hidden[:, :, -counted:], targets)
    if recipe.stage == "gate":
        return gate_loss(losses, gates, weights)
    return expected_loss(losses, gates, weights, entropy_weight=recipe.entropy_weight)
