"""Coupled learners: every step restated by hand, the same bits however cut, beside whomever.

All tests but that of the cut use one compiled program: four learners, two blocks of two steps.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from sigma_jax.schema import initial_state, sigma_model
from sigma_jax.training import (
    CONDITIONS,
    FUSION_WEIGHTS,
    BlockRecipe,
    CoherenceBelief,
    CoherenceNoise,
    Coupling,
    Pools,
    Record,
    Seq2SeqPairs,
    TaskSizes,
    TransformerSizes,
    correct,
    encode_task,
    forecast,
    fuse_signals,
    make_signal_probes,
    make_task,
    no_record,
    paraphrase_consistency,
    sequence_loss,
    stack_couplings,
    start_coupled,
    start_learners,
    structure_alignment,
    train_coupled,
    yoked_record,
)

TASK = make_task("scan_few_jump", TaskSizes(12, 6, 6, 8, longest=6))
PROBES = make_signal_probes(
    TASK.grammar,
    TASK.vocabulary,
    (*TASK.task, *TASK.compositional),
    probes=8,
    triples=6,
    allowed=TASK.may_be_shown,
)
SIZES = TransformerSizes(1, 1, heads=2, width=16, hidden=32, dropout=0.0)
RATE, BATCH, STEPS, BLOCKS, LEARNERS = 3e-3, 8, 2, 2, 4
RECIPE = BlockRecipe(
    steps=STEPS, batch=BATCH, signal_pairs=4, learning_rate=RATE, epochs_per_step=0.1
)
NOISE = CoherenceNoise()
PLAIN = stack_couplings([Coupling()] * LEARNERS)
FREE = no_record(LEARNERS, BLOCKS)


def cut(pairs: Seq2SeqPairs, rows) -> Seq2SeqPairs:
    return Seq2SeqPairs(pairs.source[rows], pairs.target[rows])


@pytest.fixture(scope="module")
def pools() -> Pools:
    """64 training pairs, and the twelve of the curriculum."""
    both = encode_task(TASK).pools
    return Pools(cut(both.task, slice(1_000, 1_064)), both.compositional)


@pytest.fixture(scope="module")
def one_pair(pools) -> Pools:
    """Pools of one pair each, as often as the others have pairs: no draw makes a difference."""
    return Pools(*(cut(pool, [3] * len(pool.source)) for pool in pools))


def started(seeds=(0, 1, 2, 3), sigma=0.1, delta=0.05):
    """Learners in a state of ours, whose first seed may come again."""
    different = sorted(set(seeds))
    learners = start_learners(TASK.vocabulary.size, different, SIZES, dtype=jnp.float64)
    rows = np.array([different.index(seed) for seed in seeds])
    state = start_coupled(jax.tree.map(lambda leaf: leaf[rows], learners), NOISE)
    ours = initial_state(sigma=sigma, delta=delta)
    every = jax.tree.map(lambda leaf: jnp.stack([leaf] * LEARNERS), ours)
    return state._replace(belief=CoherenceBelief(every, state.belief.variance))


def trained(state, pools, couplings=PLAIN, record=FREE):
    return train_coupled(state, pools, PROBES, couplings, record, recipe=RECIPE, noise=NOISE)


def learner(tree, at):
    return jax.tree.map(lambda leaf: leaf[at], tree)


def assert_same(one, other, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


# One step, restated -----------------------------------------------------------------------------


@eqx.filter_jit
def restated_gradient(model, task, comp, weights):
    """Of `weights[0]` times the one pair's loss plus `weights[1]` times the other's."""

    def loss(model):
        losses = jnp.stack([sequence_loss(model, *task), sequence_loss(model, *comp)])
        return weights @ losses, losses

    return jax.grad(loss, has_aux=True)(model)


def restated(model, pools, coupling: Coupling, record: Record):
    """A textbook's clipped Adam on a loss that is written out; parameters, losses, norms."""
    task, comp = (cut(pool, [0]) for pool in pools)
    flat, shape = ravel_pytree(model)
    parameters = np.asarray(flat)
    m = v = np.zeros_like(parameters)
    losses, norms, count = [], [], 0
    for sigma, alpha, share, crystallised in zip(*map(np.asarray, record), strict=True):
        pairs = round(float(share) * BATCH)
        factor = (1 + coupling.additive * (1 - sigma)) * 1.0 + coupling.multiplicative * sigma
        weights = factor * np.array(
            [pairs < BATCH, (pairs > 0) * coupling.schema * (1 - sigma)], float
        )
        rate = RATE * (1 + coupling.rate_gain * alpha * crystallised)
        for _ in range(STEPS):
            count += 1
            gradient, both = restated_gradient(
                shape(jnp.asarray(parameters)), task, comp, jnp.asarray(weights)
            )
            g = np.asarray(ravel_pytree(gradient)[0])
            norms.append(np.linalg.norm(g))
            g = g / max(1.0, norms[-1])
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            step = m / (1 - 0.9**count) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
            parameters = parameters - rate * step
            losses.append(np.asarray(both) * [pairs < BATCH, pairs > 0])
    return parameters, np.array(losses).reshape(BLOCKS, STEPS, 2).mean(axis=1), norms


# The shares are whole pairs of eight; two blocks of everything.
RECORD = Record(
    sigma=jnp.array([[0.2, 0.6], [0.0, 1.0], [0.3, 0.9], [0.1, 0.4]]),
    alpha=jnp.array([[0.5, 0.7]] * 4),
    share=jnp.array([[0.0, 0.0], [0.0, 0.25], [0.5, 1.0], [0.125, 0.5]]),
    crystallised=jnp.array([[0.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]]),
)
COUPLINGS = [
    Coupling(yoked=1.0),
    Coupling(yoked=1.0, additive=0.3, rate_gain=2.0),
    Coupling(yoked=1.0, multiplicative=0.4, schema=0.5),
    Coupling(yoked=1.0, additive=0.2, multiplicative=0.1, schema=0.3, rate_gain=0.5),
]


def flattened(model):
    return np.asarray(ravel_pytree(model)[0])


def test_every_step_is_what_a_textbook_would_do(one_pair):
    state = started()
    after, trace = trained(state, one_pair, stack_couplings(COUPLINGS), RECORD)
    for at, coupling in enumerate(COUPLINGS):
        expected, losses, _ = restated(
            learner(state.learners.model, at), one_pair, coupling, learner(RECORD, at)
        )
        found = flattened(learner(after.learners.model, at))
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(trace.task_loss[at], losses[:, 0], rtol=1e-9)
        np.testing.assert_allclose(trace.compositional_loss[at], losses[:, 1], rtol=1e-9)
    np.testing.assert_array_equal(trace.share, RECORD.share)
    assert after.step == STEPS * BLOCKS


def test_a_factor_of_the_whole_loss_is_inert(one_pair):
    """E-51: clipping undoes any factor while the gradient's norm is above 1."""
    couplings = [
        Coupling(yoked=1.0),
        Coupling(yoked=1.0, additive=0.5),
        Coupling(yoked=1.0, multiplicative=1.0),
        Coupling(yoked=1.0, schema=0.5),
    ]
    record = RECORD._replace(
        sigma=jnp.array([[0.1, 0.9]] * 4),
        share=jnp.asarray(np.full((4, 2), 0.5)),
        crystallised=jnp.zeros((4, 2)),
    )
    state = started([0] * 4)
    after, trace = trained(state, one_pair, stack_couplings(couplings), record)
    norms = restated(learner(state.learners.model, 0), one_pair, couplings[0], learner(record, 0))[
        2
    ]
    assert min(norms) > 1.0
    plain, additive, multiplicative, schema = map(
        flattened, map(lambda at: learner(after.learners.model, at), range(4))
    )
    moved = np.abs(plain - flattened(learner(state.learners.model, 0))).max()
    assert moved > RATE
    np.testing.assert_allclose(additive, plain, atol=1e-9 * moved)
    np.testing.assert_allclose(multiplicative, plain, atol=1e-9 * moved)
    # What does not scale the whole loss is not inert.
    assert np.abs(schema - plain).max() > 0.1 * moved
    np.testing.assert_allclose(
        trace.task_loss[1:3], trace.task_loss[:1].repeat(2, axis=0), rtol=1e-9
    )


def test_the_share_of_compositional_pairs_is_exact_on_average(one_pair):
    """7.6 pairs of 8: 8 in six steps of ten. A step without another pair has no task loss."""
    state = started()
    coupling = stack_couplings([Coupling(yoked=1.0, schema=0.3)] * LEARNERS)
    shares = np.array([0.95, 0.95, 0.875, 1.0])
    record = FREE._replace(share=jnp.asarray(np.repeat(shares[:, None], BLOCKS, axis=1)))
    whole = []
    for _ in range(40):
        state, trace = trained(state, one_pair, coupling, record)
        whole.append(np.asarray(trace.task_loss) == 0.0)
    both_steps = np.concatenate(whole, axis=1).mean(axis=1)
    # 160 blocks of two steps: .36 ± .038.
    assert both_steps[:2].mean() == pytest.approx(0.36, abs=0.12)
    assert both_steps[2] == 0.0
    assert both_steps[3] == 1.0


# Observation, belief and phase ------------------------------------------------------------------


@pytest.fixture(scope="module")
def crystallising(pools):
    """Learners that begin deep and coherent, in four conditions, and what came of them."""
    state = started(sigma=0.8, delta=0.5)
    names = ("baseline", "full", "full", "schema loss")
    return state, *trained(state, pools, stack_couplings([CONDITIONS[n] for n in names]))


def test_a_block_observes_corrects_and_forecasts(crystallising):
    state, _, trace = crystallising
    aligned, consistent = map(jax.jit, (structure_alignment, paraphrase_consistency))
    onwards = jax.jit(lambda *given: forecast(sigma_model(), *given, NOISE))
    for at in range(LEARNERS):
        model = learner(state.learners.model, at)
        first = trace.signals[at, 0]
        np.testing.assert_allclose(first[1], aligned(model, PROBES), rtol=1e-9)
        np.testing.assert_allclose(first[2], consistent(model, PROBES), rtol=1e-9)
        assert float(trace.predicted[at, 0]) == 0.8
        observed = fuse_signals(first, jnp.asarray(FUSION_WEIGHTS))
        np.testing.assert_allclose(trace.observed[at, 0], observed, rtol=1e-12)
        belief = correct(learner(state.belief, at), observed, NOISE)
        np.testing.assert_allclose(trace.sigma[at, 0], belief.state.sigma[0, 0, 0], rtol=1e-12)
        np.testing.assert_allclose(trace.deviation[at, 0] ** 2, belief.variance, rtol=1e-12)
        later = onwards(belief, trace.share[at, 0], jnp.asarray(0.1 * STEPS))
        np.testing.assert_allclose(trace.predicted[at, 1], later.state.sigma[0, 0, 0], rtol=1e-9)
        np.testing.assert_allclose(trace.alpha[at, 1], later.state.alpha[0, 0, 0], rtol=1e-9)
        np.testing.assert_allclose(trace.delta_rel[at, 1], later.state.delta[0, 0, 0], rtol=1e-9)
    assert len(np.unique(trace.signals[:, 0, 0])) == LEARNERS


def test_the_second_phase_brings_the_late_share(crystallising):
    _, after, trace = crystallising
    np.testing.assert_array_equal(trace.phase, [[1, 2]] * LEARNERS)
    np.testing.assert_allclose(
        trace.share, [[0.0, 0.0], [0.1, 0.4], [0.1, 0.4], [0.1, 0.1]], rtol=1e-12
    )
    np.testing.assert_array_equal(trace.record.crystallised, [[0.0, 1.0]] * LEARNERS)
    np.testing.assert_array_equal(after.progress.phase, 2)
    # Who begins shallow stays where it is, and keeps its early share.
    assert (np.asarray(trace.compositional_loss[0]) == 0.0).all()


def test_a_shallow_learner_stays_in_phase_0(pools):
    couplings = stack_couplings([CONDITIONS["full"]] * LEARNERS)
    _, trace = trained(started(), pools, couplings)
    np.testing.assert_array_equal(trace.phase, 0)
    np.testing.assert_allclose(trace.share, 0.1, rtol=1e-12)


def test_a_learner_yoked_to_itself_has_the_same_bits(crystallising, pools):
    """Whatever is believed of it; so a yoked learner follows its record, and nothing else."""
    _, after, trace = crystallising
    yoked = stack_couplings([Coupling(schema=0.3, rate_gain=0.2, yoked=1.0)] * LEARNERS)
    again, follow = trained(started(sigma=0.01), pools, yoked, trace.record)
    for at in (1, 2):
        assert_same(learner(again.learners, at), learner(after.learners, at))
    np.testing.assert_array_equal(follow.share, trace.share)
    np.testing.assert_array_equal(follow.phase, 0)  # its own, which it does not follow
    # And with another's record it is another learner.
    other = jax.tree.map(lambda leaf: leaf[np.array([0, 0, 0, 0])], trace.record)
    apart, _ = trained(started(), pools, yoked, other)
    assert np.abs(apart.learners.model.output[1] - after.learners.model.output[1]).max() > 1e-6


@pytest.mark.parametrize("name", ["batches without σ", "permuted σ", "random schedule"])
def test_an_ablation_has_as_many_compositional_pairs(crystallising, pools, name):
    _, _, trace = crystallising
    full = jax.tree.map(lambda leaf: leaf[np.array([1, 2, 1, 2])], trace.record)
    record = yoked_record(name, full, seed=1)
    couplings = stack_couplings([CONDITIONS[name]] * LEARNERS)
    _, found = trained(started([1, 2, 1, 2]), pools, couplings, record)
    np.testing.assert_array_equal(found.share, record.share)
    np.testing.assert_allclose(np.sum(found.share, axis=1), np.sum(full.share, axis=1), rtol=1e-12)


# The same bits ----------------------------------------------------------------------------------


def test_a_learner_does_not_depend_on_who_trains_beside_it(crystallising, pools):
    state, after, trace = crystallising
    names = ("additive", "full", "baseline", "multiplicative")
    beside = started([9, 2, 7, 8], sigma=0.8, delta=0.5)
    there, other_trace = trained(beside, pools, stack_couplings([CONDITIONS[n] for n in names]))
    one, other = learner((after, trace), 2), learner((there, other_trace), 1)
    assert_same(other, one, rtol=1e-9, atol=1e-12)
    assert np.abs(there.learners.model.output[0] - after.learners.model.output[0]).max() > 1e-3
    assert state.step == 0


@pytest.mark.slow
def test_the_cut_does_not_matter(pools):
    couplings = stack_couplings([CONDITIONS[n] for n in ("baseline", "full", "full", "additive")])
    state = started(sigma=0.8, delta=0.5)
    half, first = trained(state, pools, couplings)
    whole, second = trained(half, pools, couplings)
    joined = jax.tree.map(lambda *leaves: jnp.concatenate(leaves, axis=1), first, second)
    uncut = trained(state, pools, couplings, no_record(LEARNERS, 2 * BLOCKS))
    assert_same((whole, joined), uncut)


def test_what_comes_out_goes_in_again(crystallising):
    """Of the same types, weak ones being others: so the next call is not compiled anew."""

    def types(tree):
        return [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in jax.tree.leaves(tree)]

    state, after, _ = crystallising
    assert types(after) == types(state)


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"steps": 0}, "recipe.steps must lie in"),
        ({"batch": 0}, "recipe.batch must lie in"),
        ({"signal_pairs": 1}, r"recipe.signal_pairs must lie in \[2, inf"),
        ({"dwell": 0}, "recipe.dwell must lie in"),
        ({"reverse_dwell": 0}, "recipe.reverse_dwell must lie in"),
        ({"learning_rate": -1.0}, "recipe.learning_rate must lie in"),
        ({"epochs_per_step": 0.0}, r"recipe.epochs_per_step must lie in \(0"),
        ({"variant": "none"}, "unknown variant 'none'"),
    ],
)
def test_a_recipe_out_of_range_is_refused(pools, change, named):
    recipe = RECIPE._replace(**change)
    with pytest.raises(ValueError, match=named):
        train_coupled(started(), pools, PROBES, PLAIN, FREE, recipe=recipe)


def test_what_does_not_fit_is_refused(pools):
    state = started()
    with pytest.raises(ValueError, match=r"couplings must be of 4 learners; its shape is \[3\]"):
        trained(state, pools, stack_couplings([Coupling()] * 3))
    with pytest.raises(ValueError, match=r"record must be of 4 learners; its shape is \[5, 2\]"):
        trained(state, pools, record=no_record(5, 2))
    with pytest.raises(ValueError, match="couplings must be of 4 learners"):
        trained(state, pools, Coupling())
    empty = cut(pools.task, slice(0, 0))
    with pytest.raises(ValueError, match=r"pools.compositional must hold at least one pair"):
        trained(state, pools._replace(compositional=empty))
    unknown = pools.task._replace(source=pools.task.source + 20)
    with pytest.raises(ValueError, match="a token must lie in"):
        trained(state, pools._replace(task=unknown))


def test_a_loss_that_is_not_finite_names_its_seeds(pools):
    state = started([5, 6, 7, 8])
    model = eqx.tree_at(
        lambda m: m.output, state.learners.model, replace_fn=lambda p: p.at[2].set(jnp.nan)
    )
    lost = state._replace(learners=state.learners._replace(model=model))
    with pytest.raises(ValueError, match=r"the loss is not finite.*seeds \[7\]"):
        trained(lost, pools)
