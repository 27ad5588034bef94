"""Many loops at once, by nodes alone, and beyond the last: against one node and token at a time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.bridge import (
    StateABI,
    exit_states,
    follow_nodes,
    loop_nodes,
    loop_ways,
    more_loops,
    more_own_loops,
    optimal_abi,
)
from sigma_jax.kernel import FixedDepth
from tests.kernel.restatement import random_model

SINGLE = 1e-5
"""Norms and softmax are taken in float32 whatever the model's type."""
SHAPE = {"hidden_size": 72, "num_attention_heads": 4, "kv_heads": 2}


@eqx.filter_jit
def advance(node, x):
    return node.advance(x)


@pytest.fixture(scope="module")
def model():
    return random_model(3, loops=3, dtype=np.float64, **SHAPE)


@pytest.fixture(scope="module")
def sequences(model):
    """Of one token, of a few, of one more than a width, and of more."""
    rng = np.random.default_rng(2)
    return [rng.integers(0, model.config.vocab_size, n).tolist() for n in (7, 1, 18, 17, 5)]


@pytest.fixture(scope="module")
def abi(model):
    rng = np.random.default_rng(2)
    drawn = rng.integers(0, model.config.vocab_size, (40, 12)).tolist()
    return optimal_abi(exit_states(model, drawn), 64)


@pytest.fixture(scope="module")
def ways(model, abi, sequences):
    return loop_ways(model, abi, sequences, batch_size=2)


def test_the_kernels_way_is_that_of_every_depth(model, abi, sequences, ways):
    last = np.cumsum([len(ids) for ids in sequences]) - 1
    for loop in (1, 2, 3):
        each = exit_states(model, sequences, FixedDepth(max_loops=loop))[last]
        np.testing.assert_allclose(ways.hidden[:, loop - 1], each, atol=SINGLE)
        states = abi.encode(jnp.asarray(each))
        np.testing.assert_allclose(ways.states[:, loop - 1], states, atol=SINGLE)


def test_each_step_is_that_of_its_node(model, abi, sequences, ways):
    assert ways.predicted.shape == ways.residuals.shape == (5, 2, 64)
    for ids, states, predicted, residuals in zip(
        sequences, ways.states, ways.predicted, ways.residuals, strict=True
    ):
        nodes = loop_nodes(model, abi, ids).nodes.values()
        each = [advance(node, jnp.asarray(x)) for node, x in zip(nodes, states[:-1], strict=True)]
        np.testing.assert_allclose(predicted, each, atol=SINGLE)
        np.testing.assert_allclose(residuals, states[1:] - np.stack(each), atol=SINGLE)
    assert np.abs(ways.residuals).max() > 1e-3


def test_nodes_alone_go_on_from_where_the_first_loop_ends(model, abi, sequences):
    loops = loop_nodes(model, abi, sequences[0])
    x = [loops.start]
    for node in loops.nodes.values():
        x.append(advance(node, x[-1]))
    np.testing.assert_allclose(follow_nodes(loops), jnp.stack(x), atol=SINGLE)


def test_more_loops_are_the_last_one_again_and_again(model, abi, sequences, ways):
    last = loop_nodes(model, abi, sequences[0]).last
    x = jnp.asarray(ways.states[0, -1])
    expected = []
    for _ in range(3):
        expected.append(advance(last, expected[-1] if expected else x))
    np.testing.assert_allclose(more_loops(last, x, 3), expected, atol=SINGLE)
    way = np.random.default_rng(1).normal(size=64)
    _, along = jax.jvp(lambda x: more_loops(last, x, 2)[-1], (x,), (jnp.asarray(way),))
    ahead, behind = (more_loops(last, x + step * way, 2)[-1] for step in (1e-3, -1e-3))
    np.testing.assert_allclose(along, (ahead - behind) / 2e-3, atol=1e-3)


def test_the_kernels_own_hidden_states_go_on_without_the_abi(model, abi, sequences, ways):
    last = loop_nodes(model, abi, sequences[0]).last
    after = more_own_loops(last, ways.hidden[0, 1], 2)
    # The last loop, from where the second ended, is where the kernel goes.
    np.testing.assert_allclose(after[0], ways.hidden[0, 2], atol=SINGLE)
    again = more_own_loops(last, ways.hidden[0, 2], 1)
    np.testing.assert_allclose(after[1], again[0], atol=SINGLE)


def test_a_single_loop_has_no_step_to_predict(abi):
    single = random_model(4, loops=1, dtype=np.float64, **SHAPE)
    ways = loop_ways(single, abi, [[5], [3, 1]], batch_size=2)
    assert ways.predicted.shape == ways.residuals.shape == (2, 0, 64)
    loops = loop_nodes(single, abi, [3, 1])
    np.testing.assert_allclose(follow_nodes(loops), ways.states[1], atol=SINGLE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sequences": []}, "at least one sequence"),
        ({"sequences": [[1], []]}, "none that is empty"),
        ({"sequences": [[1], [2, 31]]}, r"sequences must lie in \[0, 30\]; got .*31"),
        ({"batch_size": 0}, "batch_size must"),
        ({"abi": StateABI(71, 64, key=jax.random.key(0))}, "hidden states of 71 numbers"),
    ],
)
def test_what_does_not_fit_is_refused(model, abi, change, message):
    given = {"abi": abi, "sequences": [[1]], "batch_size": 2} | change
    with pytest.raises(ValueError, match=message):
        loop_ways(model, given["abi"], given["sequences"], batch_size=given["batch_size"])


def test_no_further_loop_is_refused(model, abi):
    last = loop_nodes(model, abi, [3, 1]).last
    with pytest.raises(ValueError, match="loops must"):
        more_loops(last, jnp.zeros(64), 0)
    with pytest.raises(ValueError, match="loops must"):
        more_own_loops(last, jnp.zeros(72), 0)
