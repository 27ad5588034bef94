"""Fitting a policy by gradient through the rollout."""

import dataclasses
from collections.abc import Callable
from typing import Literal, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Key

from .._check import require_in
from .costs import free_energy
from .machine import State, StateMachine
from .policies import Controller
from .rollouts import rollout

Objective = Literal["cost", "free_energy"]

SEGMENT = 32
"""Steps between two looks at Σ's determinant, for the free energy: the trace holds none."""


class FitResult(eqx.Module):
    """What `fit_policy` returns."""

    machine: StateMachine
    """The machine with the fitted policy, and else as it was."""
    losses: Float[Array, " iterations"]
    """The objective before each iteration's update, in units of cost times time."""


def fit_policy(
    machine: StateMachine,
    state: State,
    *,
    steps: int,
    iterations: int,
    key: Key[Array, ""],
    dt: ArrayLike = 0.05,
    objective: Objective = "cost",
    prior_variance: float = 1.0,
    optimiser: optax.GradientTransformation | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> FitResult:
    """Fit the controller's policy by gradient descent on ∫ L dt, or the free energy, of rollouts.

    Every iteration runs `steps` steps from `state`, one trajectory or a batch, on fresh noise drawn
    from `key`; its loss is the mean over the batch of Σ dt L, the left Riemann sum. With
    "free_energy" the divergence KL(N(x, Σ) ‖ N(x*, s I)), s the `prior_variance`, is added, as the
    Riemann sum over segments of 32 steps (the last may be shorter) of its value at their ends.
    Only the floating-point arrays in `machine.controller.policy` are trained. Reverse mode goes
    through every step, Σ's included; swaps and interventions are choices and not differentiated.

    **The limit.** A clip has no gradient beyond its limit, so a policy that starts out there would
    stay there. While fitting, the gradient of a clipped control is let through where descent moves
    the control back towards its limit, and is zero where it would drive it further out; the
    control itself is clipped as always. A fit ends where no policy parameter wants to move
    (Karush, Kuhn and Tucker's condition in each clipped control). Source: the zeroing gradients of
    Hausknecht & Stone (2016), Deep Reinforcement Learning in Parameterized Action Space, §5.

    **Arguments:** `optimiser`, by default `careful_adam(1e-2)`; `progress`, called after every
    iteration with how many are done and the loss.

    **Raises** `ValueError` for an unknown objective, steps or iterations below one, a policy
    without parameters, whatever `rollout` refuses, a loss or gradient that is not finite, and,
    naming the trajectories, if some diverge: the cost of one that was stopped is not its cost.
    """
    _check(machine, steps, iterations, objective, prior_variance)
    optimiser = careful_adam(1e-2) if optimiser is None else optimiser
    trained = _off_the_mesh(eqx.filter(machine.controller.policy, eqx.is_inexact_array))
    memory = optimiser.init(trained)
    losses = []
    for iteration in range(iterations):
        noisy = _with_fresh_noise(state, jax.random.fold_in(key, iteration))
        trained, memory, loss, sound, stopped = _update(
            trained, memory, machine, noisy, dt, steps, objective, prior_variance, optimiser
        )
        _refuse_diverged(np.atleast_1d(stopped), iteration)
        if not sound:
            raise ValueError(
                f"in iteration {iteration} the loss is {float(loss):g} and its gradient not "
                "finite: run fewer steps, or shorter ones."
            )
        trained, memory = _off_the_mesh((trained, memory))
        losses.append(float(loss))
        if progress is not None:
            progress(iteration + 1, losses[-1])
    policy = eqx.combine(trained, machine.controller.policy)
    fitted = eqx.tree_at(lambda machine: machine.controller.policy, machine, policy)
    return FitResult(fitted, jnp.asarray(losses, state.x.dtype))


def careful_adam(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Adam on gradients cut to norm one.

    The first gradients of a policy that does not stabilise its node yet are larger than all later
    ones by orders of magnitude, and Adam's memory of their squares would stop it for a thousand
    iterations. `rate` is the learning rate, or an optax schedule of it.
    """
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate))


@eqx.filter_jit
def _update(trained, memory, machine, state, dt, steps, objective, prior_variance, optimiser):
    def loss(trained):
        return _loss(trained, machine, state, dt, steps, objective, prior_variance)

    (value, stopped), gradient = jax.value_and_grad(loss, has_aux=True)(trained)
    sound = jnp.isfinite(value)
    for leaf in jax.tree.leaves(gradient):
        sound = sound & jnp.all(jnp.isfinite(leaf))
    with jax.numpy_dtype_promotion("standard"):  # Adam raises floats to whole-number powers
        change, memory = optimiser.update(gradient, memory, trained)
        trained = optax.apply_updates(trained, change)
    return trained, memory, value, sound, stopped


def _loss(trained, machine, state, dt, steps, objective, prior_variance):
    """The mean objective over the batch, and since when each trajectory is diverged."""
    given = machine.controller
    controller = _FittedController(
        eqx.combine(trained, given.policy), given.limit, tempered=given.tempered
    )
    machine = dataclasses.replace(machine, controller=controller)

    def segment(state, length):
        run = rollout(machine, state, steps=length, dt=dt)
        assert run.trace is not None
        total = jnp.sum(run.trace.cost, axis=-1)
        if objective == "free_energy":
            total = total + length * _divergence(machine, run.state, prior_variance)
        return run.state, total

    whole, rest = divmod(steps, SEGMENT) if objective == "free_energy" else (0, steps)
    total = jnp.zeros(state.x.shape[:-1], state.x.dtype)
    if whole:
        state, totals = jax.lax.scan(lambda state, _: segment(state, SEGMENT), state, length=whole)
        total = total + jnp.sum(totals, axis=0)
    if rest:
        state, last = segment(state, rest)
        total = total + last
    return jnp.mean(total) * jnp.asarray(dt, total.dtype), state.diverged


def _divergence(machine, state, prior_variance):
    """KL(N(x, Σ) ‖ N(x*, s I)) of each trajectory: the free energy less the cost."""
    none = jnp.zeros(machine.control_dim, state.x.dtype)

    def of_one(x, covariance):
        energy = free_energy(machine.cost, x, none, covariance, prior_variance)
        return energy - machine.cost(x, none)

    return jnp.vectorize(of_one, signature="(d),(d,d)->()")(state.x, state.covariance)


class _FittedController(Controller):
    """The same controls as `Controller`, with a gradient that leads back from beyond the limit."""

    def __call__(self, x, covariance, control_dim):
        free = Controller(self.policy, jnp.inf, self.tempered)
        limit = jnp.asarray(self.limit, x.dtype)
        return _returning_clip(free(x, covariance, control_dim), limit)


@jax.custom_vjp
def _returning_clip(u: Float[Array, " m"], limit: Float[Array, ""]) -> Float[Array, " m"]:
    """Clip(u, ±limit); see `fit_policy` for its gradient."""
    return jnp.clip(u, -limit, limit)


def _clip_forward(u, limit):
    return _returning_clip(u, limit), (u, limit)


def _clip_backward(kept, gradient):
    u, limit = kept
    # Descent moves u against its gradient.
    outward = ((u > limit) & (gradient < 0)) | ((u < -limit) & (gradient > 0))
    return jnp.where(outward, 0.0, gradient), jnp.zeros_like(limit)


_returning_clip.defvjp(_clip_forward, _clip_backward)


def _off_the_mesh(tree):
    """The same arrays on no particular device.

    Results of `rollout` are spread over all devices, and shard_map (JAX 0.9.2) fails to
    differentiate by an array that it closes over and that is.
    """
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)


def _with_fresh_noise(state: State, key: Array) -> State:
    batch = state.x.shape[:-1]
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch[0])) if batch else key
    return eqx.tree_at(lambda state: state.key, state, keys)


def _refuse_diverged(stopped: np.ndarray, iteration: int) -> None:
    (diverged,) = np.nonzero(stopped >= 0)
    if diverged.size == 0:
        return
    shown = ", ".join(f"{i} (step {stopped[i]})" for i in diverged[:8])
    more = f" and {diverged.size - 8} more" if diverged.size > 8 else ""
    raise ValueError(
        f"in iteration {iteration} {diverged.size} of {stopped.size} trajectories diverged: "
        f"{shown}{more}. Start them nearer to the target, run fewer steps, or learn more slowly."
    )


def _check(machine, steps, iterations, objective, prior_variance) -> None:
    if objective not in get_args(Objective):
        raise ValueError(
            f"objective must be one of {', '.join(get_args(Objective))}; got {objective!r}."
        )
    for name, value in (("steps", steps), ("iterations", iterations)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer; got {value!r}.")
    require_in("prior_variance", prior_variance, 0.0, open_low=True)
    policy = machine.controller.policy
    if not jax.tree.leaves(eqx.filter(policy, eqx.is_inexact_array)):
        raise ValueError("machine.controller.policy has no floating-point array to fit.")
