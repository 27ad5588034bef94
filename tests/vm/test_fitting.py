"""Policies fitted by gradient: against LQR, beyond the limit, and what is refused."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sigma_jax.vm import (
    Controller,
    LinearNode,
    LinearPolicy,
    StageCost,
    StateMachine,
    free_energy,
    initial_state,
    lqr_policy,
    rollout,
)
from sigma_jax.vm.fitting import fit_policy

DT = 0.1
KEY = jax.random.key(0)
UNSTABLE = LinearNode(jnp.array([[0.3]]), jnp.array([[1.0]]), noise=0.2)


def machine(gain: float = 0.1, *, limit: float = 1e3, offset: float = 0.0) -> StateMachine:
    """One unstable scalar node under a linear policy."""
    policy = LinearPolicy(jnp.full((1, 1), gain), jnp.zeros(1), jnp.full(1, offset))
    return StateMachine(
        nodes={"a": UNSTABLE},
        controller=Controller(policy, limit=limit, tempered=False),
        monitor=None,
        policy=None,
    )


def states(batch: int = 8, x: float = 1.0):
    return initial_state(machine(), jnp.full((batch, 1), x), 0.5 * jnp.eye(1), key=KEY)


@pytest.fixture(scope="module")
def fitted():
    """The result of one fit, and what its progress was told."""
    calls = []
    result = fit_policy(
        machine(),
        states(),
        steps=60,
        iterations=150,
        key=KEY,
        dt=DT,
        optimiser=optax.adam(optax.cosine_decay_schedule(0.2, 150)),
        progress=lambda done, loss: calls.append((done, loss)),
    )
    return result, calls


def test_the_fitted_gain_is_that_of_lqr(fitted):
    gain = lqr_policy(UNSTABLE, StageCost(), DT).gain
    # A finite horizon asks for a little less; the loss is noisy.
    np.testing.assert_allclose(fitted[0].machine.controller.policy.gain, gain, rtol=0.1)


def test_losses_fall_and_progress_hears_of_each(fitted):
    result, calls = fitted
    assert result.losses.shape == (150,)
    assert result.losses[-20:].mean() < 0.5 * result.losses[0]
    assert [done for done, _ in calls] == list(range(1, 151))
    np.testing.assert_array_equal([loss for _, loss in calls], result.losses)


def test_only_the_policy_is_trained(fitted):
    before = eqx.tree_at(lambda m: m.controller.policy, machine(), None)
    after = eqx.tree_at(lambda m: m.controller.policy, fitted[0].machine, None)
    assert eqx.tree_equal(before, after)


def one_iteration(start: StateMachine, state, **options):
    options = {"steps": 3, "dt": DT, "key": KEY, "optimiser": optax.sgd(1.0)} | options
    return fit_policy(start, state, iterations=1, **options)


def noisy(state):
    """The state with the noise that the first iteration draws."""
    key = jax.random.fold_in(KEY, 0)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(state.x.shape[0]))
    return eqx.tree_at(lambda state: state.key, state, keys)


def test_the_loss_is_the_cost_integral_and_its_step_the_gradient():
    start, state = machine(0.4), states(4)

    def loss(gain):
        moved = eqx.tree_at(lambda m: m.controller.policy.gain, start, jnp.full((1, 1), gain))
        return float(rollout(moved, noisy(state), steps=3, dt=DT).trace.cost.sum(1).mean() * DT)

    result = one_iteration(start, state)
    np.testing.assert_allclose(result.losses[0], loss(0.4), rtol=1e-12)
    slope = (loss(0.4 + 1e-5) - loss(0.4 - 1e-5)) / 2e-5
    moved = 0.4 - float(result.machine.controller.policy.gain[0, 0])
    np.testing.assert_allclose(moved, slope, rtol=1e-6)


@pytest.mark.parametrize("steps", [5, 40])
def test_the_free_energy_adds_the_divergence_at_the_ends_of_segments(steps):
    start, state = machine(0.4), states(2)
    result = one_iteration(start, state, steps=steps, objective="free_energy", prior_variance=2.0)
    run, expected = noisy(state), 0.0
    for length in [32, steps - 32] if steps > 32 else [steps]:
        done = rollout(start, run, steps=length, dt=DT)
        run, expected = done.state, expected + done.trace.cost.sum(1) * DT
        for i in range(2):
            one = (start.cost, run.x[i], jnp.zeros(1), run.covariance[i], 2.0)
            divergence = free_energy(*one) - start.cost(run.x[i], jnp.zeros(1))
            expected = expected.at[i].add(length * DT * divergence)
    np.testing.assert_allclose(result.losses[0], expected.mean(), rtol=1e-12)


def test_a_policy_beyond_the_limit_finds_its_way_back():
    # At the target, with a control that only costs: clip(5, ±1) has no gradient, a fit must.
    start = machine(0.0, limit=1.0, offset=5.0)
    state = states(4, x=0.0)
    moved = one_iteration(start, state, optimiser=optax.sgd(0.1)).machine.controller.policy
    assert moved.offset[0] < 5.0


def test_a_limit_that_binds_is_not_pushed_against():
    # Far from the target the best control is beyond the limit: no gradient there.
    start = machine(0.0, limit=1.0, offset=-5.0)
    moved = one_iteration(start, states(4, x=100.0)).machine.controller.policy
    assert moved.offset[0] == -5.0
    assert moved.gain[0, 0] == 0.0


def test_each_iteration_meets_fresh_noise():
    options = {"steps": 3, "dt": DT, "optimiser": optax.sgd(0.0)}
    losses = fit_policy(machine(), states(), iterations=3, key=KEY, **options).losses
    again = fit_policy(machine(), states(), iterations=3, key=KEY, **options).losses
    assert len(np.unique(losses)) == 3
    np.testing.assert_array_equal(losses, again)


def test_trajectories_that_diverge_are_named():
    x = jnp.array([[0.5], [2e5], [0.5], [3e5]])
    start = eqx.tree_at(lambda m: m.bound, machine(), 1e5)
    state = initial_state(start, x, jnp.eye(1), key=KEY)
    with pytest.raises(ValueError, match=r"2 of 4 trajectories diverged: 1 \(step 0\), 3"):
        one_iteration(start, state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations must be a positive integer; got 0"),
        ({"iterations": True}, "iterations"),
        ({"objective": "energy"}, "objective must be one of cost, free_energy; got 'energy'"),
        ({"prior_variance": 0.0}, "prior_variance must lie in"),
        ({"steps": 0}, "steps must be a positive integer"),
        ({"dt": -0.1}, "dt must lie in"),
    ],
)
def test_bad_options_are_refused(options, message):
    given = {"steps": 3, "iterations": 1, "dt": DT, "key": KEY} | options
    with pytest.raises(ValueError, match=message):
        fit_policy(machine(), states(), **given)


def test_a_policy_without_parameters_is_refused():
    bare = eqx.tree_at(lambda m: m.controller, machine(), Controller(lambda x: -x, tempered=False))
    for start in (bare, StateMachine(nodes={"a": UNSTABLE})):
        with pytest.raises(ValueError, match="no floating-point array to fit"):
            fit_policy(start, states(), steps=3, iterations=1, key=KEY)
