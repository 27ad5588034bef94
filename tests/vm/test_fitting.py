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
from sigma_jax.vm.fitting import careful_adam, fit_policy

DT = 0.1
KEY = jax.random.key(0)
UNSTABLE = LinearNode(jnp.array([[0.3]]), jnp.array([[1.0]]), noise=0.2)
SGD = optax.sgd(1.0)  # one object, and limits as arrays below: most tests share one program


def machine(gain: float = 0.1, *, limit: float = 1e3, offset: float = 0.0) -> StateMachine:
    """One unstable scalar node under a linear policy."""
    policy = LinearPolicy(jnp.full((1, 1), gain), jnp.zeros(1), jnp.full(1, offset))
    return StateMachine(
        nodes={"a": UNSTABLE},
        controller=Controller(policy, limit=jnp.asarray(limit), tempered=False),
        monitor=None,
        policy=None,
        bound=1e5,
    )


def states(*x: float):
    """A trajectory from each x."""
    return initial_state(machine(), jnp.array(x)[:, None], 0.5 * jnp.eye(1), key=KEY)


@pytest.fixture(scope="module")
def fitted():
    """The result of one fit, and what its progress was told."""
    calls = []
    result = fit_policy(
        machine(),
        states(*[-1.0, 1.0] * 4),
        steps=40,
        iterations=150,
        key=KEY,
        dt=DT,
        optimiser=careful_adam(optax.cosine_decay_schedule(0.2, 150)),
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
    options = {"steps": 3, "iterations": 1} | options
    return fit_policy(start, state, dt=DT, key=KEY, optimiser=SGD, **options)


def noisy(state):
    """The state with the noise that the first iteration draws."""
    key = jax.random.fold_in(KEY, 0)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(state.x.shape[0]))
    return eqx.tree_at(lambda state: state.key, state, keys)


def test_the_loss_is_the_cost_integral_and_its_step_the_gradient():
    start, state = machine(0.4), states(1.0, 2.0, -1.0, 0.5)

    def loss(gain):
        moved = eqx.tree_at(lambda m: m.controller.policy.gain, start, jnp.full((1, 1), gain))
        return float(rollout(moved, noisy(state), steps=3, dt=DT).trace.cost.sum(1).mean() * DT)

    result = one_iteration(start, state)
    np.testing.assert_allclose(result.losses[0], loss(0.4), rtol=1e-12)
    slope = (loss(0.4 + 1e-5) - loss(0.4 - 1e-5)) / 2e-5
    moved = 0.4 - float(result.machine.controller.policy.gain[0, 0])
    np.testing.assert_allclose(moved, slope, rtol=1e-6)


def test_the_free_energy_adds_the_divergence_at_the_ends_of_segments():
    start, state = machine(0.4), states(1.0, 2.0)
    options = {"objective": "free_energy", "prior_variance": 2.0}
    result = one_iteration(start, state, steps=40, **options)
    run, expected = noisy(state), jnp.zeros(2)
    for length in (32, 8):
        done = rollout(start, run, steps=length, dt=DT)
        run, expected = done.state, expected + done.trace.cost.sum(1) * DT
        for i in range(2):
            one = (start.cost, run.x[i], jnp.zeros(1), run.covariance[i], 2.0)
            divergence = free_energy(*one) - start.cost(run.x[i], jnp.zeros(1))
            expected = expected.at[i].add(length * DT * divergence)
    np.testing.assert_allclose(result.losses[0], expected.mean(), rtol=1e-12)


def test_a_policy_beyond_the_limit_finds_its_way_back():
    # At the target a control only costs; of clip(5, ±1) itself the gradient is zero.
    start = machine(0.0, limit=1.0, offset=5.0)
    moved = one_iteration(start, states(0.0, 0.0, 0.0, 0.0)).machine.controller.policy
    assert moved.offset[0] < 5.0


def test_a_limit_that_binds_is_not_pushed_against():
    # Far from the target the best control is beyond the limit, but for the last, which acts on
    # nothing any more: only its cost, c u² dt, leads back.
    start = machine(0.0, limit=1.0, offset=-5.0)
    moved = one_iteration(start, states(*[100.0] * 4)).machine.controller.policy
    np.testing.assert_allclose(moved.offset[0], -5.0 + 2 * 0.1 * DT, rtol=1e-12)


def test_each_iteration_meets_fresh_noise_that_the_key_replays():
    start, state = machine(0.4), states(0.1, 0.1, 0.1, 0.1)
    first = one_iteration(start, state, iterations=2)
    moved = one_iteration(start, state).machine
    # The second iteration, of the policy that the first has left, on the noise of the first.
    other = one_iteration(moved, state).losses[0]
    assert first.losses[1] != other
    again = one_iteration(start, state, iterations=2)
    np.testing.assert_array_equal(first.losses, again.losses)


def test_trajectories_that_diverge_are_named():
    with pytest.raises(ValueError, match=r"2 of 4 trajectories diverged: 1 \(step 0\), 3 \(step"):
        one_iteration(machine(), states(0.5, 2e5, 0.5, -3e5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "iterations must be a positive integer; got 0"),
        ({"iterations": True}, "iterations"),
        ({"steps": 0}, "steps must be a positive integer; got 0"),
        ({"objective": "energy"}, "objective must be one of cost, free_energy; got 'energy'"),
        ({"prior_variance": 0.0}, "prior_variance must lie in"),
        ({"dt": -0.1}, "dt must lie in"),
    ],
)
def test_bad_options_are_refused(options, message):
    given = {"steps": 3, "iterations": 1, "dt": DT, "key": KEY} | options
    with pytest.raises(ValueError, match=message):
        fit_policy(machine(), states(1.0), **given)


def test_a_policy_without_parameters_is_refused():
    bare = Controller(lambda x: -x, tempered=False)
    for controller in (bare, Controller()):
        start = eqx.tree_at(lambda m: m.controller, machine(), controller)
        with pytest.raises(ValueError, match="no floating-point array to fit"):
            fit_policy(start, states(1.0), steps=3, iterations=1, key=KEY)
