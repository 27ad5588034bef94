"""Decoding against the NumPy restatement, and what must hold of any decoding."""

import time
from functools import partial
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies

from sigma_jax.kernel import (
    Acceleration,
    CachePolicy,
    Depth,
    ExitPolicy,
    FixedDepth,
    HiddenDifference,
    Ouro,
    PredictionKL,
    QExit,
    decode,
    empty_cache,
    exit_distribution,
    fold_cache,
    prefill,
    select,
    stack_layers,
    unstack_layers,
)
from tests.kernel.restatement import Rule, random_model, read, weights

TOLERANCE = 1e-4  # float32, amplified from loop to loop
DRAWN = 5  # tokens behind the prompts


class EachItsOwn(ExitPolicy):
    """Row i follows `policies[i]`: every rule at once, in one compiled program."""

    policies: tuple[ExitPolicy, ...]
    min_loops: Any
    max_loops: Any

    def start(self, embedding):
        return [policy.start(embedding) for policy in self.policies]

    def wants(self, memory, loop):
        both = [p.wants(m, loop) for p, m in zip(self.policies, memory, strict=True)]
        wanted = jnp.stack([wanted[row] for row, (wanted, _) in enumerate(both)])
        return wanted, [memory for _, memory in both]


def rules(vocabulary):
    """(as restated, as ours); numbers that are neither always nor never met."""
    return [
        (Rule(most=2), FixedDepth()),
        (Rule("q", 0.0), QExit(0.0)),
        (Rule("q", 0.8, least=2), QExit(0.8)),
        (Rule("q", 1.0), QExit(1.0)),
        (Rule("q", 0.8), QExit(0.8)),
        (Rule("difference", 0.6), HiddenDifference(0.6)),
        (Rule("acceleration", 1.2, patience=1), Acceleration(1.2, patience=1)),
        (Rule("kl", 0.3), PredictionKL(0.3, vocabulary)),
    ]


def batch(model, rows, seed=0):
    """Prompts of different length, padded on the left, and the tokens that follow them."""
    rng = np.random.default_rng(seed)
    lengths = 3 + np.arange(rows) % 5
    real = np.arange(8) >= 8 - lengths[:, None]
    prompts = rng.integers(0, model.config.vocab_size, size=(rows, 8)).astype(np.int32)
    later = rng.integers(0, model.config.vocab_size, size=(rows, DRAWN)).astype(np.int32)
    return prompts, real, later


# Compiled in a hurry: these programs are many, and run once.
HURRY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@partial(jax.jit, static_argnames=("capacity", "chunk"), compiler_options=HURRY)
def read_prompts(model, prompts, real, depth, *, capacity, chunk):
    cache = empty_cache(model, prompts.shape[0], capacity)
    for begin in range(0, prompts.shape[1], chunk):
        part = slice(begin, begin + chunk)
        step = prefill(model, cache, prompts[:, part], real[:, part], depth, first=begin == 0)
        cache = step.cache
    return step


@partial(jax.jit, compiler_options=HURRY)
def read_tokens(model, step, later, depth):
    newest = (step.cache.cursor - 1) % step.cache.capacity
    folded = fold_cache(step.cache, depth.cache, jnp.take(step.cache.depths, newest, axis=1))

    def one(cache, tokens):
        step = decode(model, cache, tokens, depth)
        return step.cache, (step.hidden, step.depth)

    cache, (hidden, depths) = jax.lax.scan(one, folded, later.T)
    hidden = jnp.concatenate([step.hidden[None], hidden])
    depths = jnp.concatenate([step.depth[None], depths])
    return hidden.swapaxes(0, 1), depths.T, cache


def run(model, prompts, real, later, depth, *, capacity=16, chunk=8):
    """Read the prompts (in chunks of `chunk`), then `later` token by token: state and depth."""
    plain = Depth(depth.policy, skip=depth.skip)  # prompts are read before anything is folded
    step = read_prompts(model, prompts, real, plain, capacity=capacity, chunk=chunk)
    return read_tokens(model, step, later, depth)


def compare(model, rows, skip, kept, *, capacity=16):
    """Our batch against the restatement, row by row. Returns the depths."""
    restated = [rule for rule, _ in rows]
    policy = EachItsOwn(
        tuple(policy for _, policy in rows),
        jnp.array([rule.least for rule in restated]),
        jnp.array([rule.most for rule in restated]),
    )
    prompts, real, later = batch(model, len(rows))
    depth = Depth(policy, skip=skip, cache=kept)
    hidden, depths, _ = run(model, prompts, real, later, depth, capacity=capacity)
    w = weights(model)
    for row, rule in enumerate(restated):
        ids = [*prompts[row][real[row]], *later[row]]
        prompt = int(real[row].sum())
        window = capacity if capacity < 8 + DRAWN else None
        expected, expected_depths = read(
            w, model.config, ids, prompt=prompt, rule=rule, skip=skip, kept=kept.value,
            window=window,
        )  # fmt: skip
        assert depths[row].tolist() == expected_depths[prompt - 1 :].tolist(), rule
        np.testing.assert_allclose(
            hidden[row], expected[prompt - 1 :], rtol=TOLERANCE, atol=TOLERANCE
        )
    return np.asarray(depths)


# Against the restatement -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three_loops():
    return random_model(11, loops=3)


@pytest.mark.parametrize("kept", CachePolicy)
@pytest.mark.parametrize("skip", [True, False])
def test_every_exit_rule_under_every_cache_policy(three_loops, skip, kept):
    depths = compare(three_loops, rules(31), skip, kept)
    assert (depths[0] == 2).all()
    assert (depths[1, skip:] == 1).all()
    assert (depths[3] == 3).all()
    for adaptive in (4, 5, 7):
        assert len(np.unique(depths[adaptive, 1:])) > 1, adaptive


@pytest.mark.parametrize(
    ("loops", "layers", "kv_heads", "kept"),
    [
        (1, 1, 1, CachePolicy.PER_LOOP),
        (2, 3, 4, CachePolicy.SHARED),
        (4, 1, 4, CachePolicy.AVERAGED),
        (5, 1, 2, CachePolicy.LAST_EXITED),
    ],
)
def test_other_shapes(loops, layers, kv_heads, kept):
    model = random_model(loops, loops=loops, kv_heads=kv_heads, num_hidden_layers=layers)
    rows = [*rules(31)[4:], (Rule("acceleration", 1.4), Acceleration(1.4))]
    compare(model, rows, True, kept)


def test_a_full_ring_forgets_the_oldest(three_loops):
    """Eight columns hold the prompt; the five tokens behind it take the place of its first."""
    compare(three_loops, rules(31)[3:6], True, CachePolicy.AVERAGED, capacity=8)


@hypothesis.given(
    seed=strategies.integers(0, 10**6),
    thresholds=strategies.lists(strategies.floats(0.0, 1.25, width=16), min_size=4, max_size=4),
    bounds=strategies.lists(strategies.integers(1, 4), min_size=8, max_size=8),
)
@hypothesis.settings(max_examples=15)
def test_thresholds_and_bounds_of_each_row(three_loops, seed, thresholds, bounds):
    least, most = bounds[:4], bounds[4:]
    prompts, real, later = batch(three_loops, 4, seed=seed)
    depth = q_exit(thresholds, least, most)
    hidden, depths, _ = run(three_loops, prompts, real, later, depth)
    w = weights(three_loops)
    for row in range(4):
        ids = [*prompts[row][real[row]], *later[row]]
        rule = Rule("q", float(thresholds[row]), least[row], most[row])
        expected, deep = read(w, three_loops.config, ids, prompt=int(real[row].sum()), rule=rule)
        assert depths[row].tolist() == deep[-DRAWN - 1 :].tolist()
        np.testing.assert_allclose(hidden[row], expected[-DRAWN - 1 :], rtol=1e-4, atol=1e-4)


def q_exit(thresholds=1.0, least=1, most=3, *, rows=4, **options):
    """A Q-exit with its numbers as arrays, so that one compiled program serves all of them."""
    numbers = ((thresholds, np.float32), (least, np.int32), (most, np.int32))
    each = (jnp.array(np.broadcast_to(np.array(x, t), (rows,))) for x, t in numbers)
    return Depth(QExit(*each), **options)


# What must hold of any decoding ------------------------------------------------------------------


def whole(model, prompts, real, later):
    """All loops over prompts and what follows them, without a cache; the last DRAWN + 1 tokens."""
    ids = jnp.concatenate([prompts, later], axis=1)
    everywhere = jnp.concatenate([real, jnp.ones(later.shape, bool)], axis=1)
    read_all = jax.jit(lambda m, i, r: m(i, real=r), compiler_options=HURRY)
    outputs = read_all(model, ids, everywhere)
    return jax.tree.map(lambda leaf: leaf[:, :, -DRAWN - 1 :], outputs)


def test_cached_equals_uncached_at_every_depth(three_loops):
    """And shallow runs are prefixes of deep ones."""
    prompts, real, later = batch(three_loops, 4)
    outputs = whole(three_loops, prompts, real, later)
    for loops in (1, 2, 3):
        hidden, depths, _ = run(three_loops, prompts, real, later, q_exit(most=loops))
        assert (np.asarray(depths) == loops).all()
        np.testing.assert_allclose(
            hidden, outputs.hidden[loops - 1], rtol=TOLERANCE, atol=TOLERANCE
        )


def test_select_equals_selection_from_whole_sequences(three_loops):
    prompts, real, later = batch(three_loops, 4)
    outputs = whole(three_loops, prompts, real, later)
    hidden, depths, _ = run(three_loops, prompts, real, later, q_exit(0.8, skip=False))
    chosen, chosen_depths = select(three_loops, outputs, QExit(0.8))
    assert np.array_equal(depths, chosen_depths)
    assert len(np.unique(depths)) > 1
    np.testing.assert_allclose(hidden, chosen, rtol=TOLERANCE, atol=TOLERANCE)


def test_a_threshold_of_one_is_full_depth(three_loops):
    """Whatever the gate says: saturated, its rounded CDF is 1 after one loop."""
    saturated = random_model(11, loops=3, gate=200.0)
    inputs = batch(three_loops, 4)
    hidden, depths, _ = run(saturated, *inputs, q_exit(1.0))
    assert (np.asarray(depths) == 3).all()
    same, _, _ = run(three_loops, *inputs, q_exit(1.0))
    np.testing.assert_array_equal(hidden, same)
    _, depths, _ = run(saturated, *inputs, q_exit(0.999))
    assert (np.asarray(depths)[:, 1:] == 1).any()


def test_prompts_in_chunks_equal_prompts_whole(three_loops):
    inputs = batch(three_loops, 4)
    at_once, _, kept = run(three_loops, *inputs, q_exit())
    in_chunks, _, kept_in_chunks = run(three_loops, *inputs, q_exit(), chunk=4)
    np.testing.assert_allclose(in_chunks, at_once, rtol=TOLERANCE, atol=TOLERANCE)
    assert np.array_equal(kept.lengths, kept_in_chunks.lengths)


def test_a_long_prompt_attends_in_pieces():
    """Rows of more tokens than attend at once: every token against the restatement."""
    model = random_model(8, loops=2, max_position_embeddings=512)
    rng = np.random.default_rng(8)
    real = np.arange(300) >= np.array([[0], [89]])
    prompts = np.where(real, rng.integers(0, model.config.vocab_size, real.shape), 0)
    whole = jax.jit(lambda m, i, r: m(i, real=r), compiler_options=HURRY)(model, prompts, real)
    depth = Depth(FixedDepth())
    in_chunks = read_prompts(model, prompts, real, depth, capacity=320, chunk=150)
    for row in range(2):
        ids = prompts[row][real[row]]
        expected, _ = read(weights(model), model.config, ids, prompt=len(ids))
        found = np.asarray(whole.hidden[-1, row])[real[row]]
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE)
        last = in_chunks.hidden[row]
        np.testing.assert_allclose(last, expected[-1], rtol=TOLERANCE, atol=TOLERANCE)


def test_a_batch_equals_its_rows_alone(three_loops):
    prompts, real, later = batch(three_loops, 4)
    together, depths, _ = run(three_loops, prompts, real, later, q_exit(0.8))
    for row in range(4):
        own = slice(row, row + 1)
        inputs = (prompts[own], real[own], later[own], q_exit(0.8, rows=1))
        alone, alone_depths, _ = run(three_loops, *inputs)
        assert np.array_equal(alone_depths[0], depths[row])
        np.testing.assert_allclose(alone[0], together[row], rtol=TOLERANCE, atol=TOLERANCE)


@hypothesis.given(
    strategies.lists(strategies.floats(-200.0, 200.0, width=32), min_size=5, max_size=5)
)
def test_the_exit_distribution_is_one(gates):
    p = np.asarray(exit_distribution(jnp.asarray(gates, jnp.float32)))
    leaves = 1.0 / (1.0 + np.exp(-np.array(gates)))
    leaves[-1] = 1.0
    survival = np.cumprod([1.0, *(1.0 - leaves[:-1])])
    assert (p >= 0.0).all()
    np.testing.assert_allclose(p, leaves * survival, atol=1e-6)
    np.testing.assert_allclose(p.sum(), 1.0, atol=1e-6)


def test_stacked_layers_equal_unrolled_ones():
    model = random_model(2, loops=2, num_hidden_layers=2)
    inputs = batch(model, 4)
    depth = q_exit(0.8, most=2)
    unrolled, depths, _ = run(model, *inputs, depth)
    stacked = stack_layers(model)
    scanned, scanned_depths, _ = run(stacked, *inputs, depth)
    assert np.array_equal(depths, scanned_depths)
    np.testing.assert_allclose(scanned, unrolled, rtol=TOLERANCE, atol=TOLERANCE)
    again = unstack_layers(stacked)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), again, model)
    assert all(jax.tree.leaves(same))


def test_bfloat16():
    model = random_model(1, loops=3, dtype=jnp.bfloat16)
    inputs = batch(model, 4)
    hidden, _, cache = run(model, *inputs, Depth(cache=CachePolicy.AVERAGED))
    assert hidden.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(cache.slots)} == {jnp.dtype(jnp.bfloat16)}
    w, (prompts, real, later) = weights(model), inputs
    ids = [*prompts[0][real[0]], *later[0]]
    expected, _ = read(w, model.config, ids, prompt=3, kept="averaged")
    error = np.abs(np.asarray(hidden[0], np.float32) - expected[2:]).max()
    assert error < 0.15 * np.abs(expected).max()


# Skipped loops are not computed ------------------------------------------------------------------


CALLS: list = []


class Counting(Ouro):
    """Says each time a loop is run."""

    def loop(self, hidden, context, history=None):
        jax.debug.callback(lambda: CALLS.append(1))
        return super().loop(hidden, context, history)


def test_loops_behind_the_exit_are_not_run():
    model = random_model(1, loops=3, kind=Counting)
    cache = empty_cache(model, 2, 16)
    tokens = jnp.zeros(2, jnp.int32)
    read_token = jax.jit(lambda m, c, t, d: decode(m, c, t, d), compiler_options=HURRY)
    for bounds, expected in ([1, 1], 1), ([1, 2], 2), ([3, 1], 3):
        for skip in (True, False):
            depth = Depth(FixedDepth(jnp.array(bounds, jnp.int32)), skip=skip)
            jax.effects_barrier()
            CALLS.clear()
            found = jax.block_until_ready(read_token(model, cache, tokens, depth))
            jax.effects_barrier()
            assert len(CALLS) == (expected if skip else 3)
            assert found.depth.tolist() == bounds


def test_skipping_saves_time():
    """Four loops of wide layers against one: at least twice as fast, expected four times."""
    model = random_model(1, loops=4, hidden_size=512, intermediate_size=2048, kv_heads=4)
    leaves, structure = jax.tree.flatten(model)

    @jax.jit
    def tokens(leaves, cache, depth):
        model = jax.tree.unflatten(structure, leaves)

        def one(cache, token):
            step = decode(model, cache, token, depth)
            return step.cache, step.hidden[0, 0]

        return jax.lax.scan(one, cache, jnp.zeros((20, 1), jnp.int32))

    def seconds(loops):
        depth = Depth(FixedDepth(jnp.array([loops], jnp.int32)))
        begin = time.perf_counter()
        jax.block_until_ready(tokens(leaves, empty_cache(model, 1, 32), depth))
        return time.perf_counter() - begin

    # In turn, so that a neighbour on the machine slows both, and the quickest of each.
    rounds = [(seconds(1), seconds(4)) for _ in range(12)]
    one, four = (min(column) for column in zip(*rounds[1:], strict=True))
    assert one * 2.0 < four
