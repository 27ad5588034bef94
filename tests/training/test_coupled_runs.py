"""A whole run: checkpoints, what is measured there, and weights that follow what was measured."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.training import (
    CONDITIONS,
    DISCREPANCY,
    FUSION_WEIGHTS,
    MEASURED,
    BlockRecipe,
    CoherenceNoise,
    Coupling,
    TaskSizes,
    TransformerSizes,
    advance_run,
    calibrate_fusion,
    encode_task,
    exact_match,
    load_training,
    make_signal_probes,
    make_task,
    no_record,
    save_training,
    stack_couplings,
    start_run,
    switched,
)

TASK = make_task("scan_few_jump", TaskSizes(12, 6, 6, 8, longest=6))
ROWS = encode_task(TASK)
PROBES = make_signal_probes(TASK.grammar, TASK.vocabulary, TASK.task, probes=8, triples=6)
SIZES = TransformerSizes(1, 1, heads=2, width=16, hidden=32, dropout=0.1)
RECIPE = BlockRecipe(steps=2, batch=8, signal_pairs=4, epochs_per_step=0.05)
SEEDS, CHECKPOINTS, BLOCKS = [3, 4], 2, 3
NAMES = ["baseline", "full"]
LEARNERS = len(SEEDS) * len(NAMES)
COUPLINGS = stack_couplings([CONDITIONS[name] for name in NAMES for _ in SEEDS])
RECORD = no_record(LEARNERS, CHECKPOINTS * BLOCKS)


def started():
    return start_run(TASK.vocabulary.size, SEEDS, len(NAMES), CHECKPOINTS, BLOCKS, sizes=SIZES)


def advanced(run, couplings=COUPLINGS):
    return advance_run(run, ROWS, PROBES, couplings, RECORD, recipe=RECIPE)


@pytest.fixture(scope="module")
def states():
    """The run at its start and at both checkpoints."""
    runs = [started()]
    for _ in range(CHECKPOINTS):
        runs.append(advanced(runs[-1]))
    return runs


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_a_run_starts_with_every_seed_in_every_condition(states):
    run = states[0]
    assert (run.step, run.checkpoints_done) == (0, 0)
    np.testing.assert_array_equal(run.state.learners.seeds, [3, 4, 3, 4])
    model = run.state.learners.model.output
    np.testing.assert_array_equal(model[:2], model[2:])
    assert not np.array_equal(model[0], model[1])
    assert np.isnan(run.accuracy).all()
    assert run.accuracy.shape == (LEARNERS, CHECKPOINTS, len(MEASURED))
    assert run.trace.sigma.shape == (LEARNERS, CHECKPOINTS * BLOCKS)
    assert run.trace.signals.shape == (LEARNERS, CHECKPOINTS * BLOCKS, 3)


def test_a_checkpoint_fills_its_part_and_leaves_the_others(states):
    start, half, whole = states
    assert [run.step for run in states] == [0, 6, 12]
    assert [run.checkpoints_done for run in states] == [0, 1, 2]
    for old, now, end in zip(start.trace, half.trace, whole.trace, strict=True):
        np.testing.assert_array_equal(now[:, BLOCKS:], old[:, BLOCKS:])
        np.testing.assert_array_equal(end[:, :BLOCKS], now[:, :BLOCKS])
    assert (np.asarray(whole.trace.task_loss) > 0).all()
    assert np.isnan(half.accuracy[:, 1]).all()
    np.testing.assert_array_equal(half.accuracy[:, 0], whole.accuracy[:, 0])
    # The baseline has no compositional pairs; in the same seed it has the same first signals.
    np.testing.assert_array_equal(whole.trace.share[:2], 0.0)
    np.testing.assert_array_equal(whole.trace.share[2:] > 0.0, True)
    np.testing.assert_allclose(
        whole.trace.signals[:2, 0], whole.trace.signals[2:, 0], rtol=1e-5, atol=1e-6
    )


def test_what_is_measured_is_exact_match(states):
    run = states[1]
    expected = [
        np.asarray(exact_match(run.state.learners, getattr(ROWS, part))).mean(axis=1)
        for part in MEASURED
    ]
    np.testing.assert_allclose(run.accuracy[:, 0], np.transpose(expected), rtol=1e-12)


def with_accuracy(run, values):
    return run._replace(accuracy=jnp.asarray(values, float))


def test_the_measured_coherence_is_a_ratio_that_may_not_be_known(states):
    values = np.zeros((LEARNERS, CHECKPOINTS, 3))
    values[:, 0, :2] = [[0.5, 0.25], [0.5, 0.8], [0.04, 0.04], [0.0, 0.0]]
    values[:, 1] = np.nan
    found = np.asarray(with_accuracy(states[0], values).measured_sigma)
    np.testing.assert_array_equal(found[:, 0], [0.5, 1.0, np.nan, np.nan])
    assert np.isnan(found[:, 1]).all()


def test_weights_are_fitted_where_observed_and_measured_coherence_differ(states, monkeypatch):
    """The second checkpoint with an accuracy of ours in the place of what was measured."""
    from sigma_jax.training import coupled_runs

    half, whole = states[1:]
    blocks = np.asarray(whole.trace.observed[:, BLOCKS:]).mean(axis=1)
    # Two learners as coherent as they look, two by far more.
    sigma = np.where(np.arange(LEARNERS) < 2, blocks + 0.9 * DISCREPANCY, 0.9)
    measured = iter([np.ones(LEARNERS), sigma, np.zeros(LEARNERS)])
    monkeypatch.setattr(coupled_runs, "_accuracy", lambda *_: jnp.asarray(next(measured)))
    start = with_accuracy(half, np.where(np.isnan(half.accuracy), np.nan, 0.0))
    found = advanced(start)
    np.testing.assert_array_equal(found.accuracy[:, 1, 1], sigma)
    np.testing.assert_array_equal(found.weights[:, 1], found.state.weights)
    np.testing.assert_array_equal(found.state.weights[:2], half.state.weights[:2])
    signals = np.asarray(whole.trace.signals).reshape(LEARNERS, CHECKPOINTS, BLOCKS, 3).mean(2)
    for at in (2, 3):
        known = jnp.array([jnp.nan, sigma[at]])  # nothing familiar was known at the first
        expected = jax.jit(calibrate_fusion)(
            jnp.asarray(signals[at]), known, half.state.weights[at]
        )
        np.testing.assert_allclose(found.state.weights[at], expected, rtol=1e-5, atol=1e-6)
        assert np.abs(found.state.weights[at] - jnp.asarray(FUSION_WEIGHTS)).max() > 1e-4


def test_without_anything_familiar_the_weights_stay(states):
    np.testing.assert_array_equal(states[0].state.weights, [FUSION_WEIGHTS] * LEARNERS)
    unknown = np.isnan(np.asarray(states[1].measured_sigma[:, 0]))
    np.testing.assert_array_equal(
        states[1].state.weights[unknown], np.broadcast_to(FUSION_WEIGHTS, (unknown.sum(), 3))
    )
    assert unknown.any()


@pytest.mark.slow
def test_from_a_checkpoint_on_disk_it_goes_on_with_the_same_bits(states, tmp_path):
    identity = {"seeds": SEEDS, "rate": 3e-3}
    save_training(tmp_path, states[1], identity)
    loaded = load_training(tmp_path, started(), identity)
    assert loaded is not None
    assert_same(loaded, states[1])
    assert_same(advanced(loaded), states[2])
    with pytest.raises(ValueError, match="holds another run: rate differ"):
        load_training(tmp_path, started(), identity | {"rate": 1e-3})
    assert load_training(tmp_path / "nowhere", started(), identity) is None


def test_an_intervention_ends_where_it_is_asked_to(states):
    plain = stack_couplings([Coupling()] * LEARNERS)
    where = np.array([False, False, True, False])
    found = switched(COUPLINGS, plain, where)
    np.testing.assert_array_equal(found.schema, [0.0, 0.0, 0.0, 0.3])
    np.testing.assert_array_equal(found.late_share, [0.0, 0.0, 0.0, 0.4])
    # From then on it has no compositional pairs, and the others train as before.
    after = advanced(states[1], found)
    np.testing.assert_array_equal(after.trace.share[2, BLOCKS:], 0.0)
    assert_same(
        jax.tree.map(lambda leaf: leaf[jnp.array([0, 1, 3])], after.trace),
        jax.tree.map(lambda leaf: leaf[jnp.array([0, 1, 3])], states[2].trace),
    )


def test_what_a_run_cannot_do_is_refused(states):
    with pytest.raises(ValueError, match="the run has all of its 2 checkpoints"):
        advanced(states[2])
    for name, change in (
        ("conditions", (0, 2, 3)),
        ("checkpoints", (2, 0, 3)),
        ("blocks", (2, 2, 0)),
    ):
        with pytest.raises(ValueError, match=f"{name} must lie in"):
            start_run(TASK.vocabulary.size, SEEDS, *change, sizes=SIZES)
    with pytest.raises(ValueError, match="seeds must be different"):
        start_run(TASK.vocabulary.size, [1, 1], 1, 1, 1, sizes=SIZES)
    with pytest.raises(ValueError, match=r"noise.initial must"):
        start_run(
            TASK.vocabulary.size, [1], 1, 1, 1, sizes=SIZES, noise=CoherenceNoise(initial=-1.0)
        )
