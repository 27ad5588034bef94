"""Couplings and ablations: what each leaves of the record it is made of."""

import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.training import (
    CONDITIONS,
    YOKED,
    Coupling,
    Record,
    no_record,
    stack_couplings,
    yoked_record,
)

LEARNERS, BLOCKS = 3, 40


@pytest.fixture(scope="module")
def full() -> Record:
    """σ and α of their own at every block; phase 2 from a block of each learner's own."""
    rng = np.random.default_rng(0)
    sigma, alpha = rng.uniform(size=(2, LEARNERS, BLOCKS))
    crystallised = (np.arange(BLOCKS) >= np.array([[5], [20], [40]])).astype(float)
    return Record(*map(jnp.asarray, (sigma, alpha, 0.1 + 0.3 * crystallised, crystallised)))


def same(one, other):
    return np.array_equal(np.asarray(one), np.asarray(other))


def test_the_conditions_are_the_paper_s_and_its_ablations():
    assert CONDITIONS["baseline"] == Coupling()
    assert CONDITIONS["additive"] == Coupling(additive=0.2)
    assert CONDITIONS["multiplicative"] == Coupling(multiplicative=0.2)
    assert set(YOKED) < set(CONDITIONS)
    full = CONDITIONS["full"]
    assert (full.schema, full.rate_gain, full.early_share, full.late_share) == (0.3, 0.2, 0.1, 0.4)
    for name, coupling in CONDITIONS.items():
        assert coupling.yoked == (name in YOKED)
        if name in YOKED:  # what it computes is what the full condition computes
            assert (coupling.schema, coupling.rate_gain) == (full.schema, full.rate_gain)


@pytest.mark.parametrize("name", YOKED)
def test_an_ablation_keeps_the_number_of_compositional_pairs_of_every_learner(full, name):
    record = yoked_record(name, full, seed=3)
    np.testing.assert_allclose(record.share.sum(axis=1), full.share.sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(record.crystallised.sum(axis=1), full.crystallised.sum(axis=1))
    # And all that coherence said, on average.
    np.testing.assert_allclose(record.sigma.mean(axis=1), full.sigma.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(record.alpha.mean(axis=1), full.alpha.mean(axis=1), rtol=1e-12)


def test_batches_without_sigma_have_a_constant_in_its_place(full):
    record = yoked_record("batches without σ", full)
    assert same(record.share, full.share)
    assert same(record.crystallised, full.crystallised)
    assert np.ptp(record.sigma, axis=1).max() == np.ptp(record.alpha, axis=1).max() == 0.0
    assert len(np.unique(record.sigma)) == LEARNERS


def test_permuted_sigma_has_the_same_values_at_other_times(full):
    record = yoked_record("permuted σ", full, seed=3)
    assert same(record.share, full.share)
    assert same(record.crystallised, full.crystallised)
    assert not same(record.sigma, full.sigma)
    assert same(np.sort(record.sigma, axis=1), np.sort(full.sigma, axis=1))
    # σ and α of one time stay together; every learner has an order of its own.
    orders = [
        [int(np.flatnonzero(full.sigma[row] == value)[0]) for value in np.asarray(sigma)]
        for row, sigma in enumerate(record.sigma)
    ]
    assert same(record.alpha, [full.alpha[row, np.array(o)] for row, o in enumerate(orders)])
    assert orders[0] != orders[1] != orders[2]


def test_a_random_schedule_has_the_same_shares_at_other_times(full):
    record = yoked_record("random schedule", full, seed=3)
    assert same(record.sigma, full.sigma)
    assert same(record.alpha, full.alpha)
    assert not same(record.share, full.share)
    assert same(np.sort(record.share, axis=1), np.sort(full.share, axis=1))
    # The phase goes with the share.
    assert same(record.crystallised, (np.asarray(record.share) > 0.2).astype(float))


def test_an_order_depends_on_the_seed_alone(full):
    one, again = (yoked_record("permuted σ", full, seed=3) for _ in range(2))
    assert same(one.sigma, again.sigma)
    assert not same(one.sigma, yoked_record("permuted σ", full, seed=4).sigma)


def test_couplings_are_stacked_learner_by_learner():
    found = stack_couplings([CONDITIONS["additive"], CONDITIONS["full"], Coupling(yoked=1.0)])
    assert same(found.additive, [0.2, 0.0, 0.0])
    assert same(found.late_share, [0.0, 0.4, 0.0])
    assert same(found.yoked, [0.0, 0.0, 1.0])
    assert {leaf.dtype for leaf in found} == {jnp.zeros(()).dtype}


def test_no_record_is_zero():
    assert all(same(part, np.zeros((2, 5))) for part in no_record(2, 5))


@pytest.mark.parametrize(
    ("coupling", "named"),
    [
        (Coupling(additive=-0.1), r"coupling.additive must lie in \[0, inf"),
        (Coupling(schema=float("nan")), "coupling.schema must not contain NaN"),
        (Coupling(late_share=1.1), r"coupling.late_share must lie in \[0, 1\]"),
        (Coupling(early_share=-0.1), "coupling.early_share must lie in"),
        (Coupling(yoked=2.0), "coupling.yoked must lie in"),
    ],
)
def test_a_coupling_out_of_range_is_refused(coupling, named):
    with pytest.raises(ValueError, match=named):
        stack_couplings([Coupling(), coupling])


def test_only_an_ablation_is_yoked(full):
    with pytest.raises(ValueError, match=r"condition must be one of .*; got 'full'"):
        yoked_record("full", full)
