"""`rollout` as a user meets it: a loop written out in NumPy, gate E, surprise, bad input."""

import functools
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sigma_jax import vm
from sigma_jax.solvers import NORMALS, Observation, increments
from sigma_jax.stability import nominal_rate, surprise_threshold
from sigma_jax.vm.stepping import SENSOR_STREAM

DIM, BATCH, STEPS, DT = 3, 4, 24, 0.05
seeds = st.integers(0, 2**32 - 1)
no_shrinking = (Phase.explicit, Phase.generate)  # a smaller seed says no more


def linear_machine(seed, observed=True, **options):
    """Two near copies and a stranger under linear control, with partial observation."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(DIM, DIM)) / 2 - np.eye(DIM)
    control = rng.normal(size=(DIM, 2))
    noise, centre = rng.uniform(0.1, 0.5, DIM), rng.normal(size=DIM)
    nodes = {
        name: vm.LinearNode(scale * matrix, control, noise=noise, centre=centre)
        for name, scale in (("a", 1.0), ("b", 1.02), ("c", -2.0))
    }
    seen = Observation(jnp.asarray(rng.normal(size=(2, DIM))), jnp.diag(jnp.array([0.5, 2.0])))
    return vm.StateMachine(
        nodes=nodes,
        controller=vm.Controller(vm.LinearPolicy(jnp.asarray(rng.normal(size=(2, DIM))))),
        cost=vm.StageCost(target=jnp.asarray(rng.normal(size=DIM))),
        observation=seen if observed else Observation(),
        **({"policy": None} | options),
    )


def start(machine, seed, batch=BATCH):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(batch, machine.dim, machine.dim)) / 3
    covariance = root @ root.transpose(0, 2, 1) + 0.1 * np.eye(machine.dim)
    x = rng.normal(size=(batch, machine.dim))
    return vm.initial_state(machine, x, covariance, key=jax.random.key(seed))


# A loop written out ---------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=(1, 2))
def drawn(keys, components, steps, variance):
    """All increments `[steps, batch, components]`, from the solvers' own generator.

    Compiled, as they are in a run: drawn one operation at a time they are rounded otherwise, in
    the last bits of single precision.
    """
    of_step = increments(NORMALS, keys, jnp.int32(0), 32, components, jnp.float64(variance))
    return jax.lax.map(lambda i: of_step(i).T, jnp.arange(steps, dtype=jnp.int32))


def in_numpy(machine, x, covariance, dw, sensed, swaps, jump):
    """One trajectory: final x, Σ, and a row a step, from the definitions."""
    nodes = {name: [np.asarray(v) for v in (n.matrix, n.control_matrix, n.noise, n.centre)]
             for name, n in machine.nodes.items()}  # fmt: skip
    seen, noise_of_seen = (
        np.asarray(v) for v in (machine.observation.matrix, machine.observation.covariance)
    )
    information = seen.T @ np.linalg.inv(noise_of_seen) @ seen
    gain, target = np.asarray(machine.controller.policy.gain), np.asarray(machine.cost.target)
    active, rows = "a", []
    for t in range(len(dw)):
        dilation = 1 + np.trace(covariance) / DIM
        u = np.clip(-gain @ x / (1 + np.exp(dilation - 1)), -5, 5)
        if t in swaps:
            a, b, _, c = nodes[active]
            old = a @ (x - c) + b @ u
            a, b, _, c = nodes[swaps[t]]
            if np.linalg.norm(a @ (x - c) + b @ u - old) / np.linalg.norm(old) < 0.25:
                active = swaps[t]
        a, b, g, c = nodes[active]
        drift = a @ (x - c) + b @ u
        after = x + DT * drift + g * dilation * dw[t] + (jump[1] if t == jump[0] else 0.0)
        innovation = seen @ (after - x - DT * drift) + sensed[t]
        predicted = DT * (seen * (g * dilation) ** 2) @ seen.T + 0.01 * np.eye(2)
        squared = innovation @ np.linalg.solve(predicted, innovation)
        cost = ((x - target) ** 2).sum() + 0.1 * (u**2).sum()
        sizes = [np.linalg.norm(x), np.trace(covariance), np.linalg.norm(u), dilation]
        rows.append([*sizes, np.linalg.norm(drift), cost, squared, "abc".index(active)])
        # Euler's step of the Riccati equation; ours is that where no lift is needed.
        slope = a @ covariance + covariance @ a.T - covariance @ information @ covariance
        covariance = covariance + DT * (slope + np.diag(g**2))
        x = after
    return x, covariance, np.array(rows)


@given(node_seed=seeds, seed=seeds, data=st.data())
@settings(max_examples=15, phases=no_shrinking)
def test_a_linear_machine_follows_the_equations(node_seed, seed, data):
    machine = linear_machine(node_seed)
    state = start(machine, seed)
    steps = data.draw(st.lists(st.integers(0, STEPS - 1), min_size=2, max_size=2, unique=True))
    names = [data.draw(st.sampled_from("abc")) for _ in steps]
    jump = data.draw(st.integers(0, STEPS - 1)), np.array([0.5, -1.0, 2.0])
    swaps = [vm.Swap(*pair) for pair in zip(steps, names, strict=True)]
    done = vm.rollout(machine, state, steps=STEPS, dt=DT, swaps=swaps, jumps=[vm.Jump(*jump)])
    sensors = jax.vmap(jax.random.fold_in, (0, None))(state.key, SENSOR_STREAM)
    dw, sensed = drawn(state.key, DIM, STEPS, DT), drawn(sensors, 2, STEPS, 0.01)
    dw, sensed = np.asarray(dw), np.asarray(sensed)
    columns = ("norm", "covariance_trace", "control_norm", "dilation", "speed", "cost",
               "innovation", "active")  # fmt: skip
    for i in range(BATCH):
        x, covariance, rows = in_numpy(
            machine,
            *(np.asarray(part[i]) for part in (state.x, state.covariance)),
            dw[:, i],
            sensed[:, i],
            dict(zip(steps, names, strict=True)),
            jump,
        )
        np.testing.assert_allclose(done.state.x[i], x, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(done.state.covariance[i], covariance, rtol=1e-11, atol=1e-12)
        found = np.stack([np.asarray(getattr(done.trace, name)[i]) for name in columns], axis=1)
        np.testing.assert_allclose(found, rows, rtol=1e-9, atol=1e-11)


# Noise ------------------------------------------------------------------------------------------


def test_noise_is_independent_over_seeds_steps_trajectories_and_components():
    """The reference seeds step t with base + t, so that (0, 1) and (1, 0) share their noise."""
    still = vm.LinearNode(np.zeros((2, 2)), noise=1.0)
    machine = vm.StateMachine(nodes={"a": still}, policy=None, monitor=None)
    per_seed, seeds_used, steps = 4096, 8, 4
    states = [
        vm.initial_state(machine, np.zeros((per_seed, 2)), np.eye(2), key=jax.random.key(seed))
        for seed in range(seeds_used)
    ]
    moved = []
    for state in states:
        for _ in range(steps):
            after = vm.rollout(machine, state, steps=1, trace=False).state
            moved.append(np.asarray(after.x - state.x))
            state = after
    # [seed · step, trajectory · component]; a row against the next trajectory's too.
    rows = np.stack(moved).reshape(seeds_used * steps, -1)
    rows = np.concatenate([rows, np.roll(rows, 2, axis=1), np.roll(rows, 1, axis=1)])
    correlations = np.corrcoef(rows)[np.triu_indices(len(rows), 1)]
    z = np.abs(correlations) * np.sqrt(rows.shape[1])
    assert z.max() < 5.0  # of 4,560 pairs: exceeded by chance once in 400
    assert z.mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.03)


class Pendulum(vm.Node):
    """Multiplicative noise, componentwise, and a drift that is not linear."""

    dim: ClassVar[int] = 2
    control_dim: ClassVar[int] = 0

    def drift(self, x, u):
        return jnp.stack([x[1], -jnp.sin(x[0]) - 0.2 * x[1]])

    def diffusion(self, x):
        return 0.3 + 0.2 * jnp.sin(x)


def test_a_finer_step_follows_the_same_brownian_motion():
    """Errors against the finest of one Brownian motion fall with the order ½ of Euler–Maruyama."""
    machine = vm.StateMachine(nodes={"a": Pendulum()}, policy=None, monitor=None)
    state = vm.initial_state(machine, np.ones((256, 2)), 0.2 * np.eye(2), key=jax.random.key(1))
    ends = {}
    for refine in (1, 8, 32, 128):
        steps = 2048 // refine
        run = vm.rollout(machine, state, steps=steps, dt=2.0 / steps, refine=refine, trace=False)
        ends[refine] = np.asarray(run.state.x)
    errors = [np.abs(ends[refine] - ends[1]).mean() for refine in (8, 32, 128)]
    orders = np.log(np.divide(errors[1:], errors[:-1])) / np.log(4)
    assert (orders > 0.4).all()
    assert errors[-1] < 0.3 * np.abs(ends[1] - ends[1][::-1]).mean()  # another path is far away


# Swaps: gate E ----------------------------------------------------------------------------------


@functools.cache
def neural_template():
    return vm.NeuralNode(DIM, 0, key=jax.random.key(0), width=5, decay=1.0)


def random_node(rng, like=None, distance=0.0):
    """A node of random weights, or a relative `distance` from another."""

    def of(leaf, own):
        if not eqx.is_array(leaf):
            return leaf
        noise = 0.5 * rng.normal(size=leaf.shape)
        return jnp.asarray(noise if like is None else np.asarray(own) * (1 + distance * noise))

    template = neural_template()
    node = jax.tree.map(of, template, template if like is None else like)
    return eqx.tree_at(lambda node: node.decay, node, jnp.float64(1.0))


@given(seed=seeds, data=st.data())
@settings(max_examples=40, phases=no_shrinking)
def test_no_swap_is_accepted_at_or_beyond_the_tolerance(seed, data):
    """Nodes at any distance from one another, any tolerance, any schedule."""
    rng = np.random.default_rng(seed)
    first = random_node(rng)
    near = random_node(rng, first, data.draw(st.floats(-4, 0.5).map(lambda e: 10**e)))
    tolerance = data.draw(st.sampled_from([0.0, 1e-3, 0.25, 1.0, 5.0]))
    machine = vm.StateMachine(
        nodes={"a": first, "b": near, "c": random_node(rng)},
        policy=None,
        monitor=None,
        swap_tolerance=jnp.float64(tolerance),  # an array, so that all share one compilation
    )
    state = start(machine, seed)
    later = st.lists(st.integers(1, STEPS - 1), min_size=2, max_size=2, unique=True)
    steps = [0, *sorted(data.draw(later))]
    swaps = [vm.Swap(step, data.draw(st.sampled_from("abc"))) for step in steps]
    done = vm.rollout(machine, state, steps=STEPS, swaps=swaps)
    record = jax.tree.map(np.asarray, done.swaps)
    stopped = np.asarray(done.state.diverged)[:, None]
    able = (stopped == -1) | (stopped >= np.array(steps))  # random nodes may diverge
    np.testing.assert_array_equal(record.accepted, able & (record.delta < tolerance))

    old = np.stack([np.asarray(machine.nodes["a"].drift(x, jnp.zeros(0))) for x in state.x])
    new = np.stack([np.asarray(machine.nodes[swaps[0].to].drift(x, jnp.zeros(0))) for x in state.x])
    delta = np.linalg.norm(old - new, axis=1) / np.linalg.norm(old, axis=1)
    np.testing.assert_allclose(record.delta[:, 0], delta, rtol=1e-9, atol=1e-14)

    active, expected = np.zeros(BATCH, int), []
    for step in range(STEPS):
        if step in steps:
            swap = steps.index(step)
            np.testing.assert_array_equal(record.from_node[:, swap], active)
            active = np.where(record.accepted[:, swap], machine.index(swaps[swap].to), active)
        expected.append(active)
    alive = np.asarray(done.trace.alive)
    np.testing.assert_array_equal(done.trace.active, np.stack(expected, axis=1) * alive)
    np.testing.assert_array_equal(done.state.active, active)


def test_a_refused_swap_leaves_the_run_as_it_was():
    machine = linear_machine(0)
    jumps = [vm.Jump(3, np.ones(DIM))]
    refused, idle = (
        vm.rollout(machine, start(machine, 1), steps=STEPS, swaps=swaps, jumps=jumps)
        for swaps in ([vm.Swap(4, "c"), vm.Swap(9, "c")], [vm.Swap(4, "a"), vm.Swap(9, "a")])
    )
    assert not np.asarray(refused.swaps.accepted).any()
    for one, other in zip(jax.tree.leaves(refused.trace), jax.tree.leaves(idle.trace), strict=True):
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    rows = refused.swaps.rows(machine.names, 0.25)
    assert len(rows) == 2 * BATCH
    assert {(row["from"], row["to"], row["accepted"]) for row in rows} == {("a", "c", False)}
    assert all("is not below 0.25" in row["reason"] for row in rows)


def test_a_node_without_drift_is_left_only_for_another():
    """‖f_old‖ = 0: nothing divides by it."""
    nodes = {
        name: vm.LinearNode(matrix, noise=0.1)
        for name, matrix in (("a", np.zeros((DIM, DIM))), ("b", 1e-9 * np.eye(DIM)))
    }
    nodes["c"] = nodes["a"]
    machine = vm.StateMachine(nodes=nodes, policy=None, monitor=None)
    swaps = [vm.Swap(0, "b"), vm.Swap(STEPS - 1, "c")]  # the very first and the very last step
    done = vm.rollout(machine, start(machine, 2), steps=STEPS, swaps=swaps)
    np.testing.assert_array_equal(done.swaps.delta, np.tile([np.inf, 0.0], (BATCH, 1)))
    np.testing.assert_array_equal(done.swaps.accepted, np.tile([False, True], (BATCH, 1)))
    active = np.zeros((BATCH, STEPS))
    active[:, -1] = 2
    np.testing.assert_array_equal(done.trace.active, active)


# Surprise ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [None, 2])
def test_surprises_come_at_the_nominal_rate_and_at_once_on_a_jump(rows):
    """128,000 steps of a neural node, seen whole or in part; then a jump at the end of the last."""
    dim, batch, steps = 4, 640, 201
    rng = np.random.default_rng(0)
    seen = None if rows is None else jnp.asarray(rng.normal(size=(rows, dim)))
    machine = vm.StateMachine(
        nodes={"a": vm.NeuralNode(dim, 0, key=jax.random.key(3), width=8, decay=1.0)},
        observation=Observation(seen),
        policy=None,
    )
    jump = vm.Jump(steps - 1, np.full(dim, 5.0))
    run = vm.rollout(machine, start(machine, 4, batch), steps=steps, jumps=[jump])
    flags = np.asarray(run.trace.surprise)
    degrees = rows or dim
    rate = nominal_rate(degrees, surprise_threshold(degrees))
    count = batch * (steps - 1)
    assert count > 1e5
    z = (flags[:, :-1].sum() - count * rate) / np.sqrt(count * rate * (1 - rate))
    assert abs(z) < 3.5
    squared = np.asarray(run.trace.innovation)[:, :-1]
    assert squared.mean() == pytest.approx(degrees, abs=4 * np.sqrt(2 * degrees / count))
    # The same rate at the beginning and at the end, and from one step to the next.
    assert abs(np.corrcoef(squared[:, 1:].ravel(), squared[:, :-1].ravel())[0, 1]) < 0.012
    assert flags[:, -1].all()
    assert np.asarray(run.state.surprised).all()


# Divergence -------------------------------------------------------------------------------------


class Runaway(vm.Node):
    """Cubic growth beyond one; beyond 30 not even a number."""

    dim: ClassVar[int] = 2
    control_dim: ClassVar[int] = 0

    def drift(self, x, u):
        return jnp.where(jnp.abs(x) > 30.0, jnp.nan, x**3 - x)

    def diffusion(self, x):
        return jnp.full_like(x, 0.01)


@pytest.mark.parametrize("bound", [20.0, 1e6])
def test_a_diverging_run_ends_with_a_diagnosis_and_no_nan(bound):
    """By leaving the bound, or by NaN; the others of the batch are none the worse."""
    policy = vm.InterventionPolicy(mode="intervene", budget=1)
    machine = vm.StateMachine(
        nodes={"a": Runaway()}, policy=policy, bound=jnp.float64(bound), monitor=None
    )
    x = np.array([[0.1, 0.2], [3.0, 0.0], [0.3, -0.1], [-2.0, 2.0]])
    state = vm.initial_state(machine, x, 0.1 * np.eye(2), key=jax.random.key(0))
    tame = vm.initial_state(machine, x[[0, 0, 2, 2]], 0.1 * np.eye(2), key=jax.random.key(0))
    with_others, alone = (vm.rollout(machine, each, steps=60) for each in (state, tame))
    end, trace = with_others.state, with_others.trace
    stopped = np.asarray(end.diverged)
    assert (stopped[[0, 2]] == -1).all()
    assert (stopped[[1, 3]] > 0).all()
    for leaf in jax.tree.leaves(eqx.filter((end, trace), eqx.is_inexact_array)):
        assert np.isfinite(leaf).all()
    assert (np.linalg.norm(end.x, axis=1) < bound).all()
    for lane in (1, 3):
        dead = ~np.asarray(trace.alive[lane])
        np.testing.assert_array_equal(dead, np.arange(60) >= stopped[lane])
        for leaf in jax.tree.leaves(trace):
            assert not np.asarray(leaf[lane])[dead].any()
    for lane in (0, 2):
        assert np.asarray(end.x[lane]).tobytes() == np.asarray(alone.state.x[lane]).tobytes()
    diagnosis = vm.diagnose(trace, 2)
    assert diagnosis.diverged.tolist() == [False, True, False, True]
    assert not np.asarray(diagnosis.converged)[[1, 3]].any()
    assert not np.asarray(diagnosis.lyapunov_falling)[[1, 3]].any()
    assert np.asarray(diagnosis.covariance_bounded).all()
    assert np.asarray(diagnosis.lyapunov_falling)[[0, 2]].all()
    again = vm.rollout(machine, end, steps=60)
    np.testing.assert_array_equal(again.state.diverged, stopped)
    assert not np.asarray(again.trace.alive)[[1, 3]].any()
    np.testing.assert_array_equal(again.state.x[1], end.x[1])


# Interventions ----------------------------------------------------------------------------------


@given(seed=seeds)
@settings(max_examples=20, phases=no_shrinking)
def test_forced_collapses_are_rescued_in_the_loop(seed):
    """Random low-rank nodes, states at the target, round beliefs; the noise too small to help."""
    dim, batch, steps = 6, 8, 12
    rng = np.random.default_rng(seed)
    rank = rng.integers(0, 3)
    left, right = (np.linalg.qr(rng.normal(size=(dim, dim)))[0][:, :rank] for _ in range(2))
    matrix = -(left * rng.uniform(0.3, 1.0, rank)) @ right.T
    x = rng.normal(size=(batch, dim))
    x *= rng.uniform(0, 2e-3, (batch, 1)) / np.linalg.norm(x, axis=1, keepdims=True)
    covariance = rng.uniform(0.01, 0.5, (batch, 1, 1)) * np.eye(dim)
    node = vm.LinearNode(matrix, noise=1e-6)
    runs = {}
    for budget in (0, 3):
        policy = vm.InterventionPolicy(
            mode="intervene", budget=jnp.int32(budget), strength=jnp.float64(1.0)
        )
        machine = vm.StateMachine(nodes={"a": node}, policy=policy, monitor=None)
        state = vm.initial_state(machine, x, covariance, key=jax.random.key(seed))
        runs[budget] = vm.rollout(machine, state, steps=steps)
    near = {budget: np.asarray(run.trace.proximity) > 0 for budget, run in runs.items()}
    action = {budget: np.asarray(run.trace.receipt.action) for budget, run in runs.items()}
    assert near[0][:, 0].all()
    np.testing.assert_array_equal(action[0], np.where(near[0], vm.Action.BLOCKED, 0))
    np.testing.assert_array_equal(action[3] != 0, near[3])
    spent = np.asarray(runs[3].state.spent)
    np.testing.assert_array_equal(spent, (action[3] == vm.Action.EXCITE).sum(axis=1))
    assert (spent >= 1).all()
    assert (spent <= 3).all()
    assert not near[3][:, -1].any()
    receipt = runs[3].trace.receipt
    kicked = action[3] == vm.Action.EXCITE
    assert (np.asarray(receipt.norm_after) != np.asarray(receipt.norm_before))[kicked].all()
    np.testing.assert_array_equal(
        np.asarray(receipt.norm_after)[~kicked], np.asarray(receipt.norm_before)[~kicked]
    )
    rows = vm.describe(receipt, ("trajectory", "step"))
    assert len(rows) == (action[3] != 0).sum()
    assert {row["trigger"] for row in rows} == {"collapse"}


# Gradients and memory ---------------------------------------------------------------------------


def long_machine(dim):
    node = vm.NeuralNode(dim, 1, key=jax.random.key(0), width=6, decay=1.0)
    policy = vm.neural_policy(dim, 1, key=jax.random.key(1), width=6)
    return vm.StateMachine(nodes={"a": node}, controller=vm.Controller(policy), policy=None)


def cost_of(machine, state, steps):
    """∫L dt, as a function of where it starts."""

    def cost(x, covariance):
        there = eqx.tree_at(lambda s: (s.x, s.covariance), state, (x, covariance))
        return DT * jnp.sum(vm.rollout(machine, there, steps=steps, dt=DT).trace.cost)

    return cost


def test_the_cost_can_be_differentiated_in_the_state_and_the_covariance():
    machine = long_machine(DIM)
    state = start(machine, 5, 2)
    cost = jax.jit(jax.value_and_grad(cost_of(machine, state, 40), argnums=(0, 1)))
    _, slopes = cost(state.x, state.covariance)
    rng = np.random.default_rng(0)
    for _ in range(3):
        toward = [jnp.asarray(rng.normal(size=part.shape)) for part in slopes]
        toward[1] = toward[1] + jnp.swapaxes(toward[1], 1, 2)
        ends = [
            cost(state.x + h * toward[0], state.covariance + h * toward[1])[0]
            for h in (1e-5, -1e-5)
        ]
        expected = (ends[0] - ends[1]) / 2e-5
        found = sum(jnp.sum(slope * part) for slope, part in zip(slopes, toward, strict=True))
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert all(np.abs(slope).max() > 1e-6 for slope in slopes)


def test_memory_of_reverse_mode_is_that_of_a_few_states():
    """Kept are a state for each block of 32 steps and the trace, not what the steps compute."""
    dim = 8
    policy = vm.LinearPolicy(0.1 * jnp.ones((1, dim)))
    machine = vm.StateMachine(
        nodes={"a": vm.LinearNode(-np.eye(dim), np.ones((dim, 1)))},
        controller=vm.Controller(policy),
        policy=None,
        monitor=None,
    )
    state = start(machine, 5, 1)
    needed = []
    for steps in (256, 1280):
        slope = jax.jit(jax.grad(cost_of(machine, state, steps), argnums=(0, 1)))
        compiled = slope.lower(state.x, state.covariance).compile()
        needed.append(compiled.memory_analysis().temp_size_in_bytes)
    lanes, columns = 16, 18
    state_a_block = (dim + dim * dim) / 32
    assert needed[1] - needed[0] < 1024 * lanes * 8 * (2 * state_a_block + columns)
    assert columns < (dim + dim * dim) / 3  # all that a single step computes would not fit
    for part in compiled(state.x, state.covariance):
        assert np.isfinite(part).all()
        assert np.abs(part).max() > 0


@pytest.mark.parametrize("dim", [3, 32])
def test_memory_without_a_trace_does_not_grow(dim):
    """But for a number for each block of 32 steps; the schedule, two for each, is an argument."""
    node = vm.LinearNode(-np.eye(dim), noise=0.1)
    machine = vm.StateMachine(nodes={"a": node}, policy=None)
    state = start(machine, 5, 2)
    needed = []
    for steps in (10**3, 10**5):

        def end(x, steps=steps):
            there = eqx.tree_at(lambda s: s.x, state, x)
            return vm.rollout(machine, there, steps=steps, trace=False).state.x

        analysis = jax.jit(end).lower(state.x).compile().memory_analysis()
        assert analysis.output_size_in_bytes == 2 * dim * 8
        needed.append(analysis.temp_size_in_bytes)
    assert needed[1] - needed[0] < 0.2 * 10**5


# Bad input --------------------------------------------------------------------------------------

GOOD = {"steps": 5}
BAD_RUNS = [
    ({"steps": 0}, "steps must be a positive integer; got 0"),
    ({"steps": 2.0}, "steps must be a positive integer"),
    ({"refine": 0}, "refine must be a positive integer"),
    ({"batch_size": -1}, "batch_size must be a positive integer"),
    ({"dt": 0.0}, "dt must lie in"),
    ({"dt": -0.1}, "dt must lie in"),
    ({"dt": float("nan")}, "dt must not contain NaN"),
    ({"swaps": [vm.Swap(5, "b")]}, "swaps asks for step 5, but the run is of steps 0 to 4"),
    ({"swaps": [vm.Swap(-1, "b")]}, "swaps asks for step -1"),
    ({"swaps": [vm.Swap(2, "b"), vm.Swap(2, "c")]}, "swaps asks twice for step 2"),
    ({"swaps": [vm.Swap(2, "d")]}, "no node 'd'; choose from a, b, c"),
    ({"jumps": [vm.Jump(7, np.zeros(DIM))]}, "jumps asks for step 7"),
    ({"jumps": [vm.Jump(1, np.zeros(DIM))] * 2}, "jumps asks twice for step 1"),
    ({"jumps": [vm.Jump(1, np.zeros(2))]}, "jump at step 1 must be finite"),
    ({"jumps": [vm.Jump(1, np.full(DIM, np.nan))]}, "jump at step 1 must be finite"),
    ({"jumps": [vm.Jump(1, 1.0)]}, "jump at step 1 must be finite"),
]


@pytest.mark.parametrize(("options", "words"), BAD_RUNS)
def test_bad_runs_are_named(options, words):
    machine = linear_machine(0)
    with pytest.raises(ValueError, match=words):
        vm.rollout(machine, start(machine, 0), **GOOD | options)


def test_a_schedule_is_in_the_machines_own_steps():
    machine = linear_machine(0)
    state = eqx.tree_at(lambda s: s.step, start(machine, 0), jnp.int32(7))
    with pytest.raises(ValueError, match="asks for step 4, but the run is of steps 7 to 11"):
        vm.rollout(machine, state, steps=5, swaps=[vm.Swap(4, "b")])


def skewed(dim=DIM):
    return np.eye(dim) + np.triu(np.full((dim, dim), 0.1), 1)


BAD_STATES = [
    (np.zeros(DIM), skewed(), "covariance must be symmetric"),
    (np.zeros(DIM), np.diag([1.0, 1.0, 0.0]), "covariance must be positive definite"),
    (np.zeros(DIM), np.diag([1.0, 1.0, -1.0]), "covariance must be positive definite"),
    (np.zeros(DIM), np.full((DIM, DIM), np.nan), "covariance must not contain NaN"),
    (np.zeros(DIM), np.diag([1.0, np.inf, 1.0]), "covariance must be finite"),
    (np.zeros(DIM), np.eye(4), "covariance must be"),
    (np.zeros((2, DIM)), np.tile(np.eye(DIM), (3, 1, 1)), "covariance must be"),
    (np.zeros(DIM), np.eye(DIM)[0], "covariance must be square"),
    (np.zeros(4), np.eye(DIM), r"x must be \[3\] or \[batch, 3\]; got \(4,\)"),
    (np.zeros((2, 2, DIM)), np.eye(DIM), "x must be"),
    (np.array([0.0, np.nan, 0.0]), np.eye(DIM), "x must not contain NaN"),
    (np.array([0.0, np.inf, 0.0]), np.eye(DIM), "x must be finite"),
    ("here", np.eye(DIM), "x is the text 'here'"),
]


@pytest.mark.parametrize(("x", "covariance", "words"), BAD_STATES)
def test_bad_states_are_named(x, covariance, words):
    with pytest.raises(ValueError, match=words):
        vm.initial_state(linear_machine(0), x, covariance, key=jax.random.key(0))


def test_a_state_of_another_machine_is_refused():
    machine = linear_machine(0)
    wide = vm.StateMachine(nodes={"a": vm.LinearNode(-np.eye(5))})
    with pytest.raises(ValueError, match=r"state\.x must be \[5\] or \[batch, 5\]; got \(4, 3\)"):
        vm.rollout(wide, start(machine, 0), steps=2)
    with pytest.raises(ValueError, match="no node 'z'"):
        vm.initial_state(machine, np.zeros(DIM), np.eye(DIM), key=jax.random.key(0), active="z")


class Wrong(vm.Node):
    """Answers with whatever it was given."""

    answer: np.ndarray
    dim: ClassVar[int] = 2
    control_dim: ClassVar[int] = 0

    def drift(self, x, u):
        return jnp.asarray(self.answer)

    def diffusion(self, x):
        return jnp.ones(2)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.zeros(3), r"node 'odd': its drift must be \(2,\); got \(3,\)"),
        (np.array([0.0, np.nan]), "node 'odd': its drift at the zero state is not finite"),
    ],
)
def test_a_node_that_answers_wrongly_is_refused(answer, words):
    machine = vm.StateMachine(nodes={"odd": Wrong(answer)}, policy=None)
    with pytest.raises(ValueError, match=words):
        vm.initial_state(machine, np.zeros(2), np.eye(2), key=jax.random.key(0))


def test_a_provider_that_fails_in_the_run_is_named():
    def fragile(x, u):
        if np.linalg.norm(x) > 2.0:
            raise RuntimeError("out of quota")
        return 2.0 * x

    machine = vm.StateMachine(
        nodes={"a": vm.ProviderNode(fragile, 2, noise=1e-3)}, policy=None, monitor=None
    )
    state = vm.initial_state(machine, np.full(2, 0.5), 0.1 * np.eye(2), key=jax.random.key(0))
    with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match="the provider") as caught:
        jax.block_until_ready(vm.rollout(machine, state, steps=60))
    assert "out of quota" in str(caught.value)
