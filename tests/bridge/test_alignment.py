"""A φ for another kernel's hidden states, taught by the states of one."""

import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.bridge import StateABI, aligned_abi, optimal_abi

SIZE, DIM = 80, 64


def normed(hidden: np.ndarray) -> np.ndarray:
    centred = hidden - hidden.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(8)


def test_it_finds_the_map_if_there_is_one(rng):
    mixing, shift = rng.normal(size=(SIZE, DIM)), rng.normal(size=DIM)
    hidden = rng.normal(1.0, 2.0, size=(400, SIZE))
    states = normed(hidden) @ mixing + shift
    found = aligned_abi(hidden[:200], states[:200])
    assert isinstance(found, StateABI)
    assert (found.hidden_size, found.dim) == (SIZE, DIM)
    np.testing.assert_allclose(found.encode(jnp.asarray(hidden[200:])), states[200:], atol=1e-8)


def test_a_kernel_is_its_own_twin(rng):
    hidden = rng.normal(size=(300, SIZE)) @ rng.normal(size=(SIZE, SIZE))
    own = optimal_abi(hidden, DIM)
    found = aligned_abi(hidden, np.asarray(own.encode(jnp.asarray(hidden))))
    fresh = jnp.asarray(rng.normal(size=(50, SIZE)) @ rng.normal(size=(SIZE, SIZE)))
    np.testing.assert_allclose(found.encode(fresh), own.encode(fresh), atol=1e-7)


def test_the_way_back_is_by_least_squares(rng):
    states = rng.normal(size=(300, DIM))
    hidden = states @ rng.normal(size=(DIM, SIZE)) + rng.normal(size=SIZE)
    noise = rng.normal(size=hidden.shape)
    found = aligned_abi(hidden + noise, states)
    design = np.column_stack([states, np.ones(300)])
    wanted = design @ np.linalg.lstsq(design, hidden + noise, rcond=None)[0]
    np.testing.assert_allclose(found.decode(jnp.asarray(states)), wanted, atol=1e-8)


@pytest.mark.parametrize(
    ("hidden", "states", "message"),
    [
        (np.ones(160), np.ones((160, DIM)), r"hidden and states must be .*\(160,\)"),
        (np.ones((160, SIZE)), np.ones((161, DIM)), r"\(160, 80\) and \(161, 64\)"),
        (np.full((160, SIZE), np.nan), np.ones((160, DIM)), "must be finite"),
        (np.ones((159, SIZE)), np.ones((159, DIM)), "at least 160 samples; got 159"),
        (np.ones((160, SIZE)), np.ones((160, 63)), r"dim must lie in \[64, 256\]; got 63"),
    ],
)
def test_bad_input_is_named(hidden, states, message):
    with pytest.raises(ValueError, match=message):
        aligned_abi(hidden, states)
