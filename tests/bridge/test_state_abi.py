"""The maps between hidden states and states: what they promise, and how well they can do."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.bridge import StateABI, load_abi, optimal_abi, save_abi

HIDDEN = 80


@pytest.fixture(scope="module")
def hidden():
    """States of which 64 directions hold most, of unlike scales, off the origin."""
    rng = np.random.default_rng(0)
    scales = np.geomspace(1.0, 0.01, HIDDEN)
    mixed = rng.normal(size=(400, HIDDEN)) * scales @ rng.normal(size=(HIDDEN, HIDDEN))
    return mixed + rng.normal(size=HIDDEN)


def layer_norm(hidden):
    centred = hidden - hidden.mean(axis=1, keepdims=True)
    return centred / np.sqrt(centred.var(axis=1, keepdims=True) + 1e-5)


def error(abi, hidden):
    return float(np.square(hidden - np.asarray(abi.decode(abi.encode(hidden)))).sum())


def test_phi_and_psi_are_what_they_are_said_to_be(hidden):
    abi = StateABI(HIDDEN, 64, key=jax.random.key(1), dtype=jnp.float64)
    x = layer_norm(hidden) @ np.asarray(abi.encoder.weight).T + np.asarray(abi.encoder.bias)
    np.testing.assert_allclose(abi.encode(hidden), x, atol=1e-12)
    back = x @ np.asarray(abi.decoder.weight).T + np.asarray(abi.decoder.bias)
    np.testing.assert_allclose(abi.decode(jnp.asarray(x)), back, atol=1e-12)
    stacked = hidden.reshape(20, 20, HIDDEN)
    assert abi.encode(stacked).shape == (20, 20, 64)
    assert (abi.hidden_size, abi.dim) == (HIDDEN, 64)


def test_the_start_is_the_best_there_is(hidden):
    """As good as Eckart and Young allow after the regression, and no small change does better."""
    abi = optimal_abi(hidden, 64)
    normed, centred = layer_norm(hidden), hidden - hidden.mean(axis=0)
    middle = normed - normed.mean(axis=0)
    regression = np.linalg.lstsq(middle, centred, rcond=None)[0]
    rest = np.square(centred - middle @ regression).sum()
    cut = np.square(np.linalg.svd(middle @ regression, compute_uv=False)[64:]).sum()
    assert error(abi, hidden) == pytest.approx(rest + cut, rel=1e-9)
    leaves, structure = jax.tree.flatten(abi)
    rng = np.random.default_rng(1)
    for _ in range(20):
        moved = [leaf + 1e-3 * rng.normal(size=leaf.shape) for leaf in leaves]
        assert error(jax.tree.unflatten(structure, moved), hidden) > error(abi, hidden)


def test_distances_between_states_are_those_between_what_they_stand_for(hidden):
    abi = optimal_abi(hidden, 64)
    x = np.asarray(abi.encode(hidden))
    h = np.asarray(abi.decode(jnp.asarray(x)))
    np.testing.assert_allclose(
        np.linalg.norm(x[1:] - x[:-1], axis=1), np.linalg.norm(h[1:] - h[:-1], axis=1), rtol=1e-9
    )


def test_numbers_beyond_the_rank_are_zero(hidden):
    wide, full = optimal_abi(hidden, 128), optimal_abi(hidden, HIDDEN)
    x = np.asarray(wide.encode(hidden))
    assert (x[:, HIDDEN:] == 0.0).all()
    np.testing.assert_allclose(x[:, :HIDDEN], full.encode(hidden), atol=1e-12)
    assert error(wide, hidden) == pytest.approx(error(full, hidden))


@pytest.mark.parametrize(("size", "dim", "named"), [(0, 64, "hidden_size"), (8, 63, "dim")])
def test_sizes_out_of_range_are_refused(size, dim, named):
    with pytest.raises(ValueError, match=f"{named} must lie in"):
        StateABI(size, dim, key=jax.random.key(0))
    with pytest.raises(ValueError, match=r"dim must lie in \[64, 256\]; got 257"):
        optimal_abi(np.ones((3, 8)), 257)


def test_samples_and_widths_that_do_not_fit_are_refused(hidden):
    abi = optimal_abi(hidden, 64)
    with pytest.raises(ValueError, match=r"hidden must have 80 numbers .* got \(3, 81\)"):
        abi.encode(jnp.ones((3, 81)))
    with pytest.raises(ValueError, match=r"x must have 64 numbers"):
        abi.decode(jnp.ones(80))
    for bad in (hidden[:1], hidden[0], np.where(hidden > 0, hidden, np.nan)):
        with pytest.raises(ValueError, match="at least two samples"):
            optimal_abi(bad, 64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_file_gives_the_same_bits(hidden, tmp_path, dtype):
    abi = optimal_abi(hidden.astype(dtype), 64)
    save_abi(tmp_path / "new" / "abi.eqx", abi)
    loaded = load_abi(tmp_path / "new" / "abi.eqx")
    assert jax.tree.structure(loaded) == jax.tree.structure(abi)
    for found, wanted in zip(jax.tree.leaves(loaded), jax.tree.leaves(abi), strict=True):
        assert found.dtype == wanted.dtype == dtype
        np.testing.assert_array_equal(found, wanted)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["abi.eqx"]


def test_files_that_hold_something_else_are_refused(hidden, tmp_path):
    path = tmp_path / "abi.eqx"
    save_abi(path, optimal_abi(hidden, 64))
    whole = path.read_bytes()
    head, arrays = whole.split(b"\n", 1)
    other = json.dumps(json.loads(head) | {"hidden_size": 81}).encode() + b"\n" + arrays
    small = json.dumps(json.loads(head) | {"dim": 8}).encode() + b"\n" + arrays
    for bad in (b"", b"\x80\xff\n", b"[]\n", b"{}\n", head + b"\n", whole[:-9], other, small):
        path.write_bytes(bad)
        with pytest.raises(ValueError, match=r"abi\.eqx does not hold an ABI"):
            load_abi(path)
    with pytest.raises(FileNotFoundError):
        load_abi(tmp_path / "none.eqx")
