"""Ouro's loops as nodes: the kernel's own way, Jacobians, gradients, certificates, a canary."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.bridge import (
    StateABI,
    calibrate_canary,
    certified_step,
    exit_states,
    fit_canary,
    loop_nodes,
    optimal_abi,
)
from sigma_jax.kernel import FixedDepth
from sigma_jax.stability import certify_map
from sigma_jax.vm import StateMachine, Swap, initial_state, rollout
from tests.kernel.restatement import one_loop, random_model, weights

IDS = [3, 1, 4, 1, 5, 9, 2]
SINGLE = 1e-5
"""Norms and softmax are taken in float32 whatever the model's type."""


@pytest.fixture(scope="module")
def model():
    sizes = {"hidden_size": 72, "num_attention_heads": 4, "kv_heads": 2, "num_hidden_layers": 2}
    return random_model(3, loops=3, dtype=np.float64, **sizes)


@pytest.fixture(scope="module")
def abi(model):
    rng = np.random.default_rng(2)
    sequences = rng.integers(0, model.config.vocab_size, (40, 12)).tolist()
    return optimal_abi(exit_states(model, sequences), 64)


@pytest.fixture(scope="module")
def loops(model, abi):
    return loop_nodes(model, abi, IDS, noise=0.1)


@eqx.filter_jit
def advance(node, x):
    return node.advance(x)


def expected_loop(model, abi, loop, x):
    """φ(loop(ψ(x))) of the last token, one token after another in NumPy, without a cache."""
    w, config = weights(model), model.config
    layers = range(config.num_hidden_layers)
    seen = [[[] for _ in layers] for _ in range(loop)]
    for position, token in enumerate(IDS[:-1]):
        state = w["model.embed_tokens.weight"][token]
        for earlier in seen:
            state, own = one_loop(w, config, state, position, earlier)
            for layer in layers:
                earlier[layer].append(own[layer])
    state, _ = one_loop(w, config, np.asarray(abi.decode(x)), len(IDS) - 1, seen[-1])
    return abi.encode(jnp.asarray(state))


def test_a_node_is_one_loop_heard_through_the_abi(model, abi, loops):
    assert list(loops.nodes) == ["loop_2", "loop_3"]
    assert loops.last is loops.nodes["loop_3"]
    x = loops.start
    for loop, node in enumerate(loops.nodes.values(), 2):
        after = advance(node, x)
        np.testing.assert_allclose(
            after, expected_loop(model, abi, loop, x), rtol=SINGLE, atol=SINGLE
        )
        np.testing.assert_allclose(node.drift(x, jnp.zeros(0)), after - x, atol=SINGLE)
        x = after


def test_the_start_is_the_state_after_the_first_loop(model, abi, loops):
    first = exit_states(model, [IDS], FixedDepth(max_loops=1))[-1]
    np.testing.assert_allclose(loops.start, abi.encode(jnp.asarray(first)), atol=SINGLE)


def test_a_rollout_goes_the_kernels_way(model, abi, loops):
    """Each loop in its turn, by swaps that nothing refuses; the swaps' own numbers stand beside."""
    quiet = loop_nodes(model, abi, IDS)
    machine = StateMachine(nodes=quiet.nodes, policy=None, swap_tolerance=float("inf"))
    state = initial_state(machine, quiet.start, 0.01 * jnp.eye(64), key=jax.random.key(0))
    run = rollout(machine, state, steps=4, dt=1.0, swaps=[Swap(1, "loop_3")])
    x = advance(quiet.nodes["loop_2"], quiet.start)
    old, new = (quiet.nodes[name].drift(x, jnp.zeros(0)) for name in ("loop_2", "loop_3"))
    expected = np.linalg.norm(old - new) / np.linalg.norm(old)
    np.testing.assert_allclose(run.swaps.delta, [expected], rtol=SINGLE)
    for _ in range(3):
        x = advance(quiet.last, x)
    np.testing.assert_allclose(run.state.x, x, atol=SINGLE)


def test_the_jacobian_is_that_of_differences(loops):
    node, x, step = loops.last, loops.start, 1e-3
    columns = [
        (advance(node, x + step * e) - advance(node, x - step * e)) / (2 * step) for e in np.eye(64)
    ]
    jacobian = np.stack(columns, axis=1)
    np.testing.assert_allclose(node.jacobian(x, jnp.zeros(0)), jacobian - np.eye(64), atol=1e-3)


@pytest.mark.slow
def test_gradients_pass_through_a_rollout_to_state_abi_and_model(abi):
    """One random direction in everything at once, against central differences."""
    shape = {"hidden_size": 72, "num_attention_heads": 4, "kv_heads": 2}
    loops = loop_nodes(random_model(3, loops=2, dtype=np.float64, **shape), abi, [3, 1])
    both = (loops.last, loops.start)
    leaves, rebuild = jax.tree.flatten(eqx.filter(both, eqx.is_inexact_array))
    static = eqx.filter(both, eqx.is_inexact_array, inverse=True)
    rng = np.random.default_rng(1)
    way = [jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype) for leaf in leaves]

    @jax.jit
    def end(t):
        moved = [leaf + t.astype(leaf.dtype) * d for leaf, d in zip(leaves, way, strict=True)]
        node, x = eqx.combine(rebuild.unflatten(moved), static)
        machine = StateMachine(nodes={"loop": node}, policy=None, monitor=None)
        start = initial_state(machine, x, 0.01 * jnp.eye(64), key=jax.random.key(0))
        done = rollout(machine, start, steps=2, dt=0.5, trace=False).state
        return jnp.sum(jnp.sin(done.x)) + jnp.trace(done.covariance)

    step = jnp.asarray(1e-4)
    slope = (end(step) - end(-step)) / (2 * step)
    assert float(jax.jit(jax.grad(end))(jnp.zeros(()))) == pytest.approx(float(slope), rel=2e-3)


def test_a_first_token_has_no_history_and_one_loop_is_its_own_last(abi):
    shape = {"hidden_size": 72, "num_attention_heads": 4, "kv_heads": 2}
    single = random_model(4, loops=1, dtype=np.float64, **shape)
    found = loop_nodes(single, abi, [5])
    assert list(found.nodes) == ["loop_1"]
    state = exit_states(single, [[5]])[0]
    np.testing.assert_allclose(found.start, abi.encode(jnp.asarray(state)), atol=SINGLE)
    assert np.isfinite(advance(found.last, found.start)).all()


def test_a_certified_step_is_the_step_its_jacobian_and_what_that_proves(loops):
    rng = np.random.default_rng(0)
    canary = fit_canary(0.01 * rng.normal(size=(500, 64)), rate=0.01)
    node, x = loops.last, loops.start
    after = advance(node, x)
    step = certified_step(node, x, after, canary)
    np.testing.assert_allclose(step.x, after, atol=SINGLE)
    np.testing.assert_allclose(
        step.jacobian, node.jacobian(x, jnp.zeros(0)) + np.eye(64), atol=SINGLE
    )
    own = certify_map(step.jacobian)
    for found, wanted in zip(jax.tree.leaves(step.certificate), jax.tree.leaves(own), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    radius = np.abs(np.linalg.eigvals(step.jacobian)).max()
    assert bool(step.certificate.lyapunov_gate) == (radius < 1.0)
    assert not bool(step.surprise)
    assert bool(certified_step(node, x, after + 0.1, canary).surprise)


def test_a_canary_flags_at_its_rate_and_a_shift_at_once():
    rng = np.random.default_rng(7)
    mixing = rng.normal(size=(8, 8))
    draws = rng.normal(size=(12_000, 8)) @ mixing + 3.0
    canary = fit_canary(draws[:6000], rate=0.05)
    squared, flagged = jax.vmap(canary.check)(jnp.zeros((6000, 8)), jnp.asarray(draws[6000:]))
    # The floor under the variances makes the canary a little slower than its rate.
    assert 0.025 < float(flagged.mean()) < 0.055
    assert float(squared.mean()) == pytest.approx(8.0, rel=0.1)
    weakest = np.linalg.svd(mixing)[2][-1]
    _, caught = canary.check(jnp.zeros(8), jnp.asarray(draws[6000] + 30.0 * weakest))
    assert bool(caught)


@pytest.mark.parametrize(("samples", "rate"), [(999, 0.001), (199, 0.05), (20, 0.05)])
def test_a_counted_threshold_keeps_its_rate_whatever_the_tails(samples, rate):
    """Of n + 1 exchangeable steps each is as likely as any other to be the one that is new."""
    rng = np.random.default_rng(5)
    fitted, counted, new = (rng.standard_t(2, size=(n, 4)) for n in (400, samples, 4000))
    canary = fit_canary(fitted, rate=rate)
    calibrated = calibrate_canary(canary, counted, rate=rate)
    check = jax.vmap(calibrated.check, (None, 0))
    squared, flagged = check(jnp.zeros(4), jnp.asarray(counted))
    above = int(round((samples + 1) * rate, 6))
    assert int(flagged.sum()) == above - 1
    assert float(calibrated.threshold) == np.sort(np.asarray(squared))[-above]
    # Beta distributed, with this mean and spread.
    mean, spread = above / (samples + 1), np.sqrt(rate / samples)
    assert float(check(jnp.zeros(4), jnp.asarray(new))[1].mean()) < mean + 4 * spread
    heavy = float(jax.vmap(canary.check, (None, 0))(jnp.zeros(4), jnp.asarray(new))[1].mean())
    assert heavy > 0.005


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": []}, "ids must hold at least one token"),
        ({"ids": [[1, 2]]}, "ids must hold at least one token"),
        ({"ids": [31]}, r"ids must lie in \[0, 30\]; got 31"),
        ({"noise": -0.1}, "noise must lie in"),
        ({"noise": np.ones(63)}, r"noise must be a number or \[64\]"),
        ({"abi": StateABI(71, 64, key=jax.random.key(0))}, "hidden states of 71 numbers"),
    ],
)
def test_what_does_not_fit_is_refused(model, abi, change, message):
    given = {"abi": abi, "ids": IDS, "noise": 0.0} | change
    with pytest.raises(ValueError, match=message):
        loop_nodes(model, given["abi"], given["ids"], noise=given["noise"])


@pytest.mark.parametrize(
    ("residuals", "rate", "message"),
    [
        (np.zeros((15, 8)), 0.01, "at least 2 d samples"),
        (np.full((20, 8), np.nan), 0.01, "residuals must be finite"),
        (np.zeros((20, 8)), 0.0, "rate must lie in"),
    ],
)
def test_residuals_that_say_nothing_are_refused(residuals, rate, message):
    with pytest.raises(ValueError, match=message):
        fit_canary(residuals, rate=rate)


@pytest.mark.parametrize(
    ("residuals", "rate", "message"),
    [
        (np.zeros((998, 4)), 0.001, "at least 999 to tell a rate of 0.001; got 998"),
        (np.zeros((1, 4)), 0.3, "at least 3 to tell a rate of 0.3; got 1"),
        (np.zeros((99, 5)), 0.1, r"\[samples, 4\], all finite; got shape \(99, 5\)"),
        (np.full((99, 4), np.inf), 0.1, "all finite"),
        (np.zeros((99, 4)), 1.5, "rate must lie in"),
    ],
)
def test_residuals_that_count_nothing_are_refused(residuals, rate, message):
    canary = fit_canary(np.random.default_rng(0).normal(size=(50, 4)))
    with pytest.raises(ValueError, match=message):
        calibrate_canary(canary, residuals, rate=rate)
