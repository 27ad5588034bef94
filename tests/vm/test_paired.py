"""Paired runs: looking on changes no bit in the loop, and intervening helps within its budget.

And certificates of a running machine, at the Jacobians that it really has.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sigma_jax import vm
from sigma_jax.stability import certify
from sigma_jax.vm.certification import certify_state
from sigma_jax.vm.paired import paired_rollouts

DIM, BATCH, STEPS = 4, 5, 30
POLICY = vm.InterventionPolicy(mode="intervene", budget=2)
seeds = st.integers(0, 2**32 - 1)
no_shrinking = (Phase.explicit, Phase.generate)  # a smaller seed says no more


def prone_machine(seed):
    """Two near copies with one slow mode left over, and hardly any noise: they collapse at rest."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    matrix = -(basis[:, :1] * rng.uniform(0.3, 1.0)) @ basis[:, :1].T
    matrix = matrix + 1e-4 * rng.normal(size=(DIM, DIM))
    nodes = {"a": vm.LinearNode(matrix, noise=1e-3), "b": vm.LinearNode(1.05 * matrix, noise=1e-3)}
    return vm.StateMachine(nodes=nodes)


def start(machine, seed):
    """At the target but for the last trajectory, with an isotropic belief."""
    rng = np.random.default_rng(seed)
    x = 1e-3 * rng.normal(size=(BATCH, DIM))
    x[-1] = 3.0
    covariance = rng.uniform(0.05, 0.5, (BATCH, 1, 1)) * np.eye(DIM)
    return vm.initial_state(machine, x, covariance, key=jax.random.key(seed))


@pytest.fixture(scope="module")
def runs():
    machine = prone_machine(0)
    return paired_rollouts(machine, start(machine, 1), POLICY, steps=STEPS, **events(5, 9))


def events(swap, jump):
    return {"swaps": [vm.Swap(swap, "b")], "jumps": [vm.Jump(jump, np.full(DIM, 0.01))]}


@given(node_seed=seeds, seed=seeds, steps=st.tuples(*[st.integers(0, STEPS - 1)] * 2))
@settings(max_examples=15, phases=no_shrinking)
def test_observing_changes_no_bit(node_seed, seed, steps):
    machine = prone_machine(node_seed)
    state = start(machine, seed)
    found = paired_rollouts(machine, state, POLICY, steps=STEPS, **events(*steps))
    assert found.changed_by_observing() == ()
    found.check()
    watched = np.asarray(found.observed.trace.receipt.action)
    assert set(np.unique(watched)) <= {vm.Action.NOTHING, vm.Action.OBSERVE}
    assert (watched == vm.Action.OBSERVE).any()
    assert not np.asarray(found.no_operators.trace.receipt.action).any()
    assert not np.asarray(found.observed.state.spent).any()


def test_intervening_stays_within_its_budget_and_is_noted(runs):
    intervened = runs.intervened
    kicked = np.asarray(intervened.trace.receipt.action) == vm.Action.EXCITE
    spent = np.asarray(intervened.state.spent)
    np.testing.assert_array_equal(kicked.sum(axis=1), spent)
    np.testing.assert_array_equal(spent, runs.effect.interventions)
    assert (spent[:-1] >= 1).all()
    assert spent.max() <= POLICY.budget
    rows = vm.describe(intervened.trace.receipt, ("trajectory", "step"))
    assert sum(row["action"] == "excite" for row in rows) == spent.sum()


def test_trajectories_that_were_left_alone_keep_their_bits(runs):
    """Beside others in the same batch that were not."""
    alone = np.asarray(runs.effect.interventions) == 0
    assert alone.tolist() == [False] * (BATCH - 1) + [True]
    for name in ("x", "covariance"):
        before, after = (
            np.asarray(getattr(run.state, name)) for run in (runs.no_operators, runs.intervened)
        )
        assert before[alone].tobytes() == after[alone].tobytes()
        assert not np.array_equal(before[~alone], after[~alone])


def test_the_effect_is_what_it_says(runs):
    ends = [np.asarray(run.state.x) for run in (runs.no_operators, runs.intervened)]
    costs = [(end**2).sum(axis=1) for end in ends]  # no control, target zero
    np.testing.assert_allclose(runs.effect.cost_difference, costs[1] - costs[0], atol=1e-15)
    distance = np.linalg.norm(ends[1] - ends[0], axis=1)
    np.testing.assert_allclose(runs.effect.distance, distance, rtol=1e-12)


def test_a_run_that_observing_had_changed_is_found(runs):
    """So that the comparison can fail, in the last bit of any part."""
    for part, name in (("state", "x"), ("trace", "cost"), ("trace", "surprise"), ("state", "key")):

        def place(run, part=part, name=name):
            return getattr(getattr(run, part), name)

        value = place(runs.observed)
        if name == "x":
            value = jnp.nextafter(value, jnp.inf)
        elif name == "key":
            value = value[::-1]
        else:
            value = ~value if value.dtype == bool else -value
        tampered = dataclasses.replace(runs, observed=eqx.tree_at(place, runs.observed, value))
        assert tampered.changed_by_observing() == (f"{part}.{name}",)
        with pytest.raises(RuntimeError, match=rf"observing changed {part}\.{name}"):
            tampered.check()


@pytest.mark.parametrize("policy", [vm.InterventionPolicy(), None, "excite"])
def test_a_policy_that_only_observes_is_refused(policy):
    machine = prone_machine(0)
    with pytest.raises(ValueError, match="policy must be an InterventionPolicy"):
        paired_rollouts(machine, start(machine, 0), policy, steps=3)


# Certificates -----------------------------------------------------------------------------------


def neural_machine():
    keys = jax.random.split(jax.random.key(0), 3)
    node, other = (vm.NeuralNode(DIM, 2, key=key, width=8, decay=1.0) for key in keys[:2])
    policy = vm.neural_policy(DIM, 2, key=keys[2], width=8)
    return vm.StateMachine(nodes={"a": node, "b": other}, controller=vm.Controller(policy))


def test_each_trajectory_is_certified_where_it_stands():
    """Its own node, state and control; the same in compiled code, and for one alone."""
    machine = neural_machine()
    state = start(machine, 3)
    active = np.array([0, 1, 1, 0, 1], np.int32)
    state = eqx.tree_at(lambda s: s.active, state, jnp.asarray(active))
    found = certify_state(machine, state, kreiss_points=0, margin=0.1)
    for i, name in enumerate(np.array(["a", "b"])[active]):
        u = machine.controller(state.x[i], state.covariance[i], 2)
        jacobian = jax.jacfwd(machine.nodes[name].drift)(state.x[i], u)
        expected = certify(jacobian, kreiss_points=0, margin=0.1)
        for part in ("numerical_abscissa", "lyapunov_condition", "spectral_abscissa"):
            value = float(getattr(found, part)[i])
            assert value == pytest.approx(float(getattr(expected, part)), rel=1e-9)
        assert bool(found.lyapunov_gate[i]) == bool(expected.lyapunov_gate)
    compiled = eqx.filter_jit(lambda s: certify_state(machine, s, kreiss_points=0, margin=0.1))
    inside = compiled(state)
    np.testing.assert_allclose(inside.numerical_abscissa, found.numerical_abscissa, rtol=1e-12)
    one = jax.tree.map(lambda leaf: leaf[1] if leaf.ndim else leaf, state)
    alone = certify_state(machine, one, kreiss_points=0, margin=0.1)
    assert alone.numerical_abscissa.shape == ()
    assert float(alone.numerical_abscissa) == pytest.approx(float(found.numerical_abscissa[1]))


def test_a_jacobian_that_is_not_finite_passes_no_gate():
    machine = neural_machine()
    state = start(machine, 3)
    state = eqx.tree_at(lambda s: s.x, state, state.x.at[0].set(jnp.inf))
    found = certify_state(machine, state, kreiss_points=0, margin=0.1)
    for gate in ("numerical_range_gate", "lyapunov_gate", "small_gain_gate", "pseudospectral_gate"):
        assert not bool(getattr(found, gate)[0])
    assert np.isinf(found.numerical_abscissa[0])
    assert np.isfinite(found.numerical_abscissa[1:]).all()


def test_bad_certificates_are_named():
    machine = neural_machine()
    state = start(machine, 3)
    wide = eqx.tree_at(lambda s: s.x, state, jnp.zeros((BATCH, DIM + 1)))
    with pytest.raises(ValueError, match=r"state\.x must be \[4\] or \[batch, 4\]; got \(5, 5\)"):
        certify_state(machine, wide)
    with pytest.raises(ValueError, match="margin must lie in"):
        certify_state(machine, state, margin=-1.0)
