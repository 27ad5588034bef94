"""The two objectives against the paper's formulas in plain NumPy, and at their edges."""

import hypothesis
import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.special import expit

from sigma_jax.kernel import Ouro, OuroConfig, exit_distribution
from sigma_jax.training import (
    expected_loss,
    gate_loss,
    log_exit_distribution,
    token_losses,
)

IDENTITY = 1e-12
DIFFERENCES = 1e-6
"""Of central differences in float64."""


def plain_exit_distribution(gates: np.ndarray) -> np.ndarray:
    """p_t = λ_t Π (1 − λ_j), the last taking the rest; loops over everything, by the paper."""
    p = np.zeros_like(gates)
    for index in np.ndindex(gates.shape[1:]):
        left = 1.0
        for t in range(len(gates) - 1):
            leaves = 1.0 / (1.0 + np.exp(-gates[(t, *index)]))
            p[(t, *index)] = left * leaves
            left *= 1.0 - leaves
        p[(-1, *index)] = left
    return p


def plain_stage_one(losses, gates, weights, beta):
    p = plain_exit_distribution(gates)
    total = 0.0
    for index in np.ndindex(weights.shape):
        mine = p[(slice(None), *index)]
        entropy = -sum(x * np.log(x) for x in mine)
        expected = sum(
            x * loss for x, loss in zip(mine, losses[(slice(None), *index)], strict=True)
        )
        total += weights[index] * (expected - beta * entropy)
    return total / weights.sum()


def plain_stage_two(losses, gates, weights):
    total = 0.0
    for index in np.ndindex(weights.shape):
        for t in range(1, len(gates)):
            improvement = max(0.0, losses[(t - 1, *index)] - losses[(t, *index)])
            label = expit(50.0 * (improvement - 0.005))
            goes_on = 1.0 - expit(gates[(t, *index)])
            crossed = label * np.log(goes_on) + (1.0 - label) * np.log(1.0 - goes_on)
            total -= weights[index] * crossed / len(gates)
    return total / weights.sum()


def drawn(seed: int, loops: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    losses = random.gamma(2.0, 0.5, (loops, 3, 5))
    gates = random.normal(0.0, 2.0, (loops, 3, 5))
    return losses, gates, (random.random((3, 5)) < 0.7) * random.random((3, 5))


@pytest.mark.parametrize("loops", [1, 2, 4, 7])
def test_stage_one_is_the_papers_formula(loops):
    losses, gates, weights = drawn(loops, loops)
    found = expected_loss(losses, jnp.asarray(gates), weights, entropy_weight=0.1)
    assert abs(found.loss - plain_stage_one(losses, gates, weights, 0.1)) < IDENTITY
    p = plain_exit_distribution(gates)
    share = weights / weights.sum()
    steps = np.arange(1, loops + 1)[:, None, None]
    np.testing.assert_allclose(found.loop_losses, (losses * share).sum((1, 2)), atol=IDENTITY)
    assert abs(found.exit_step - (p * steps * share).sum()) < IDENTITY
    assert abs(found.entropy + (p * np.log(p) * share).sum()) < IDENTITY


@pytest.mark.parametrize("loops", [1, 2, 4, 7])
def test_stage_two_is_the_papers_formula(loops):
    losses, gates, weights = drawn(loops, loops)
    losses[1:] -= 0.02 * np.arange(loops - 1)[:, None, None]  # some improvements near γ
    found = gate_loss(jnp.asarray(losses), jnp.asarray(gates), weights)
    assert abs(found.loss - plain_stage_two(losses, gates, weights)) < IDENTITY


def test_stage_one_is_the_evidence_bound_of_a_uniform_prior():
    losses, gates, weights = drawn(1, 4)
    p = plain_exit_distribution(gates)
    divergence = (p * np.log(p / 0.25)).sum(0)
    bound = (((p * losses).sum(0) + 0.3 * divergence) * weights).sum() / weights.sum()
    found = expected_loss(losses, jnp.asarray(gates), weights, entropy_weight=0.3).loss
    assert abs(found - (bound - 0.3 * np.log(4.0))) < IDENTITY


@pytest.mark.parametrize("objective", ["joint", "gate"])
def test_gradients_are_those_of_central_differences(objective):
    losses, gates, weights = drawn(2, 4)

    def value(gates):
        if objective == "gate":
            return gate_loss(jnp.asarray(losses), gates, weights).loss
        return expected_loss(jnp.asarray(losses), gates, weights, entropy_weight=0.1).loss

    found = np.asarray(jax.grad(value)(jnp.asarray(gates)))
    step = 1e-5
    for index in np.ndindex(gates.shape):
        moved = [gates.copy(), gates.copy()]
        moved[0][index] += step
        moved[1][index] -= step
        high, low = (float(value(jnp.asarray(g))) for g in moved)
        assert abs(found[index] - (high - low) / (2.0 * step)) < DIFFERENCES
    if objective == "joint":
        return
    assert not found[0].any(), "the first loop's gate gets no signal in stage II"
    assert found[-1].any(), "the last one's does, as in the paper"


def test_the_second_stage_leaves_the_losses_alone():
    losses, gates, weights = drawn(3, 4)
    slopes = jax.grad(lambda x: gate_loss(x, jnp.asarray(gates), weights).loss)(jnp.asarray(losses))
    assert not np.asarray(slopes).any()
    slopes = jax.grad(
        lambda x: expected_loss(x, jnp.asarray(gates), weights, entropy_weight=0.1).loss
    )(jnp.asarray(losses))
    p = plain_exit_distribution(gates)
    np.testing.assert_allclose(slopes, p * weights / weights.sum(), atol=IDENTITY)


finite = st.floats(-1e4, 1e4, width=32)


@hypothesis.given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3)), elements=finite)
)
def test_saturated_gates_give_numbers(gates):
    """Where 1 − σ(g) rounds to 0, its logarithm does not become −∞, nor the gradient NaN."""
    losses = jnp.ones(gates.shape, jnp.float32)
    weights = jnp.ones(3, jnp.float32)

    def joint(gates):
        return expected_loss(losses, gates, weights, entropy_weight=0.1).loss

    def gate(gates):
        return gate_loss(losses, gates, weights).loss

    for objective in (joint, gate):
        value, slopes = jax.value_and_grad(objective)(jnp.asarray(gates))
        assert value.dtype == jnp.float32
        assert np.isfinite(value)
        assert np.isfinite(slopes).all()
    logs = np.asarray(log_exit_distribution(jnp.asarray(gates)))
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(np.exp(logs).sum(0), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.exp(logs), exit_distribution(jnp.asarray(gates)), atol=1e-6)


def test_a_uniform_exit_has_all_the_entropy_there_is():
    loops = 5
    gates = np.array([-np.log(loops - 1 - t) for t in range(loops - 1)] + [7.0])[:, None]
    found = expected_loss(
        jnp.zeros((loops, 1)), jnp.asarray(gates), jnp.ones(1), entropy_weight=1.0
    )
    assert abs(found.entropy - np.log(loops)) < IDENTITY
    assert abs(found.exit_step - 3.0) < IDENTITY


def test_token_losses_are_cross_entropies():
    config = OuroConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=8,
        total_ut_steps=3,
        initializer_range=0.5,
    )
    model = Ouro(config, rngs=nnx.Rngs(0))
    ids = np.random.default_rng(0).integers(0, 11, (2, 6)).astype(np.int32)
    outputs = model(jnp.asarray(ids[:, :-1]))
    found = np.asarray(token_losses(model, outputs.hidden, jnp.asarray(ids[:, 1:])))
    head = np.asarray(model.lm_head.weight[...].T, np.float64)
    logits = np.asarray(outputs.hidden, np.float64) @ head
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    for loop, row, place in np.ndindex(found.shape):
        wanted = -np.log(p[loop, row, place, ids[row, place + 1]])
        assert abs(found[loop, row, place] - wanted) < 1e-5
