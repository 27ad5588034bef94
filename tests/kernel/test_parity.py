"""Every array that the released model code gave for the fixture, loop by loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.kernel import (
    CachePolicy,
    Depth,
    FixedDepth,
    QExit,
    decode,
    empty_cache,
    exit_distribution,
    generate,
    prefill,
    select,
)
from tests.kernel.restatement import FIXTURE, fixture_model, read, weights

pytestmark = pytest.mark.usefixtures("compiled_in_a_hurry")

TOLERANCE = 5e-4  # the fixture's gain is harsh


@pytest.fixture(scope="module")
def oracle():
    with np.load(FIXTURE / "oracle.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model():
    return fixture_model()


@pytest.fixture(scope="module")
def ids(oracle):
    return jnp.asarray(oracle["input_ids"], jnp.int32)


@pytest.fixture(scope="module")
def outputs(model, ids):
    return jax.jit(lambda m, i: m(i))(model, ids)


def assert_close(found, expected, tolerance=TOLERANCE):
    np.testing.assert_allclose(np.asarray(found), expected, rtol=tolerance, atol=tolerance)


def published_select(pdf, threshold):
    """The released rule, literally: a rounded CDF may reach a threshold of 1 before the end."""
    reached = np.cumsum(pdf, axis=0) >= threshold
    return np.where(reached.any(0), reached.argmax(0), len(pdf) - 1)


def test_states_gates_and_logits_of_every_loop(model, outputs, oracle):
    logits = model.logits(outputs.hidden)
    for loop in range(4):
        assert_close(outputs.hidden[loop], oracle[f"hidden_{loop}"])
        assert_close(outputs.gate[loop], oracle[f"gate_{loop}"])
        assert_close(logits[loop], oracle[f"logits_step_{loop}"])
    assert_close(logits[-1], oracle["logits_last"])


def test_exit_distribution(outputs, oracle):
    pdf = exit_distribution(outputs.gate)
    assert_close(jnp.moveaxis(pdf, 0, -1), oracle["exit_pdf"])
    assert_close(jnp.cumsum(jnp.moveaxis(pdf, 0, -1), axis=-1), oracle["exit_cdf"])


def test_expected_logits_and_the_loss_of_the_release(model, outputs, oracle):
    pdf = exit_distribution(outputs.gate)
    expected = jnp.sum(pdf[..., None] * model.logits(outputs.hidden), axis=0)
    assert_close(expected, oracle["logits_expected"])
    shifted = jax.nn.log_softmax(expected[:, :-1].astype(float), axis=-1)
    targets = oracle["input_ids"][:, 1:, None]
    loss = -np.take_along_axis(np.asarray(shifted), targets, axis=-1).mean()
    assert_close(loss, oracle["loss_labels"])


@pytest.mark.parametrize("q", ["0.0", "0.3", "0.5", "0.7", "0.9", "0.99"])
def test_selection_at_a_threshold(model, outputs, oracle, q):
    hidden, depth = select(model, outputs, QExit(float(q)))
    assert_close(model.logits(hidden), oracle[f"logits_q{q}"])
    pdf = np.moveaxis(oracle["exit_pdf"], -1, 0)
    assert np.array_equal(depth, published_select(pdf, np.float32(q)) + 1)


def test_a_threshold_of_one_is_full_depth(model, outputs, oracle):
    hidden, depth = select(model, outputs, QExit(1.0))
    assert (np.asarray(depth) == 4).all()
    assert_close(model.logits(hidden), oracle["logits_last"])
    assert_close(model.logits(hidden), oracle["logits_default_thr1.0"])


def test_prompt_then_single_tokens(model, ids, oracle):
    """Seven tokens at once and then five one by one, as the release was run."""
    depth = Depth(FixedDepth(), skip=False, cache=CachePolicy.PER_LOOP)
    read_prompt = jax.jit(lambda m, c, i: prefill(m, c, i, jnp.ones(i.shape, bool), depth))
    read_token = jax.jit(lambda m, c, t: decode(m, c, t, depth))
    step = read_prompt(model, empty_cache(model, 2, 12), ids[:, :7])
    found = [step.hidden]
    for column in range(7, 12):
        step = read_token(model, step.cache, ids[:, column])
        found.append(step.hidden)
    logits = model.logits(jnp.stack(found, axis=1))
    assert_close(logits, oracle["logits_incremental"][:, 6:])
    assert_close(logits, oracle["logits_last"][:, 6:])


def test_greedy_generation(model, oracle):
    expected = oracle["generate_greedy"][0].tolist()
    found = generate(model, [expected[:7]], max_new_tokens=8)
    assert found.tokens == [expected[7:]]
    assert found.depths == [[4] * 8]


def test_left_padding(model, ids, oracle):
    """Equal where the release selects the last loop; where it does not, it stopped too early."""
    real = oracle["left_pad_mask"].astype(bool)
    found = jax.jit(lambda m, i, r: m(i, real=r))(model, ids, jnp.asarray(real))
    logits = np.asarray(model.logits(found.hidden))
    step = published_select(np.asarray(exit_distribution(found.gate)), 1.0)
    chosen = np.take_along_axis(logits, step[None, ..., None], axis=0)[0]
    assert_close(chosen[real], oracle["left_pad_logits"][real])
    early = real & (step < 3)
    assert np.argwhere(early).tolist() == [[0, 3]]  # its CDF, rounded, is 1 after three loops
    assert_close(logits[-1][real & ~early], oracle["left_pad_logits"][real & ~early])
    assert np.abs(logits[-1] - oracle["left_pad_logits"])[early].max() > 1.0


def test_padding_changes_nothing(model, ids, oracle):
    """A padded row gives what its real tokens give alone, which the release gets wrong."""
    real = oracle["left_pad_mask"].astype(bool)
    padded = jax.jit(lambda m, i, r: m(i, real=r))(model, ids, jnp.asarray(real)).hidden[:, 0, 3:]
    alone = jax.jit(lambda m, i: m(i))(model, ids[:1, 3:]).hidden[:, 0]
    assert_close(padded, alone)


def test_the_restatement_is_the_release(model, oracle):
    """The NumPy model that the other tests trust is itself held against the fixture."""
    w = weights(model)
    for row in range(2):
        hidden, _ = read(w, model.config, oracle["input_ids"][row], prompt=12)
        assert_close(hidden, oracle["hidden_3"][row])
