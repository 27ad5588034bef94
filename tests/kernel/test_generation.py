"""Generation: the same tokens however rows are batched, chunked, inserted or given up."""

import logging

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.kernel import (
    Adaptation,
    CachePolicy,
    Depth,
    Finish,
    FixedDepth,
    Generator,
    Ouro,
    QExit,
    Sampling,
    decode,
    empty_cache,
    fold_cache,
    generate,
    prefill,
    sample,
)
from tests.kernel.restatement import random_model

pytestmark = pytest.mark.usefixtures("compiled_in_a_hurry")

PROMPTS = [[1, 2, 3, 4, 5], [7, 8], list(range(12))]
CAPACITY = 36
ADAPTIVE = Depth(QExit(0.8))
SAMPLING = Sampling(temperature=1.0, top_p=0.95, repetition_penalty=1.1)


@pytest.fixture(scope="module")
def model():
    return small_model(11)


def small_model(seed):
    return random_model(seed, loops=2, max_position_embeddings=48)


def run(model, prompts, count=16, **options):
    """Always the same shapes and kind of depth, so that little has to be compiled."""
    options = {"depth": ADAPTIVE, "capacity": CAPACITY} | options
    return generate(model, prompts, max_new_tokens=count, **options)


@pytest.fixture(scope="module")
def sampled(model):
    """Three rows together."""
    return run(model, PROMPTS, sampling=SAMPLING, seed=5)


@pytest.fixture(scope="module")
def greedy(model):
    return run(model, PROMPTS)


read_prompt = jax.jit(lambda m, c, i, d: prefill(m, c, i, jnp.ones(i.shape, bool), d))
read_token = jax.jit(decode)
draw = jax.jit(sample)


def by_hand(model, prompt, count, depth, sampling, seed, window=64):
    """One row, token by token, without a canary or a running batch."""
    ids = jnp.array(prompt, jnp.int32)[None]
    step = read_prompt(model, empty_cache(model, 1, 64), ids, depth)
    loops = jnp.full(1, model.config.total_ut_steps, jnp.int32)
    step = step._replace(cache=fold_cache(step.cache, depth.cache, loops))
    recent, tokens, depths = [-1] * window + list(prompt), [], []
    for index in range(count):
        key = jax.random.fold_in(jax.random.key(seed), index)[None]
        seen = jnp.array(recent[-window:], jnp.int32)[None]
        token = draw(key, model.logits(step.hidden), sampling, seen)
        tokens.append(int(token[0]))
        depths.append(int(step.depth[0]))
        recent.append(tokens[-1])
        step = read_token(model, step.cache, token, depth)
    return tokens, depths


# The tokens --------------------------------------------------------------------------------------


def test_tokens_and_depths_are_those_of_the_steps_by_hand(model, sampled):
    """The canary that watches changes nothing."""
    for row in (0, 1):
        tokens, depths = by_hand(model, PROMPTS[row], 16, ADAPTIVE, SAMPLING, 5 + row)
        assert sampled.tokens[row] == tokens
        assert sampled.depths[row] == depths
    assert {depth for depths in sampled.depths for depth in depths} == {1, 2}


def test_prompts_are_folded_for_the_cache_policy(model):
    depth = Depth(QExit(0.8), cache=CachePolicy.AVERAGED)
    found = run(model, PROMPTS[:1], depth=depth)
    assert found.tokens[0] == by_hand(model, PROMPTS[0], 16, depth, Sampling(), 0)[0]


def test_a_row_in_a_batch_draws_what_it_draws_alone(model, sampled):
    for row, prompt in enumerate(PROMPTS):
        alone = run(model, [prompt], sampling=SAMPLING, seed=5 + row)
        assert alone.tokens == sampled.tokens[row : row + 1]
        assert alone.depths == sampled.depths[row : row + 1]


def test_numbers_of_each_row(model, greedy):
    depth = Depth(QExit(np.array([0.8, 1.0, 0.8]), max_loops=np.array([1, 2, 2])))
    sampling = Sampling(temperature=np.array([0.0, 0.0, 1.5]))
    found = run(model, PROMPTS[:1] * 3, depth=depth, sampling=sampling)
    assert [set(depths) for depths in found.depths] == [{1}, {2}, {1, 2}]
    assert found.tokens[2] != greedy.tokens[0]
    assert run(model, PROMPTS[:1] * 3, seed=9).tokens == [greedy.tokens[0]] * 3


def collect(generator, state, chunk):
    tokens = [chunk.tokens]
    while (np.asarray(chunk.finish) == Finish.RUNNING).any():
        state, chunk = generator.advance(state, 4)
        tokens.append(chunk.tokens)
    rows = np.concatenate(tokens, axis=1)
    return [row[row >= 0].tolist() for row in rows], np.asarray(chunk.finish)


def test_prompts_and_tokens_in_chunks(model, sampled):
    generator = Generator(model, capacity=CAPACITY, chunk=5)
    called = []
    begun = generator.start(
        PROMPTS,
        max_new_tokens=16,
        depth=ADAPTIVE,
        sampling=SAMPLING,
        seeds=[5, 6, 7],
        between=lambda: called.append(1),
    )
    assert len(called) == 2
    assert collect(generator, *begun)[0] == sampled.tokens


def test_different_seeds_draw_differently(model, sampled):
    other = run(model, PROMPTS, sampling=SAMPLING, seed=99)
    assert all(a != b for a, b in zip(other.tokens, sampled.tokens, strict=True))


# The end -----------------------------------------------------------------------------------------


def test_a_stop_id_ends_its_row_only(model, sampled):
    stop = sampled.tokens[0][5]
    found = run(model, PROMPTS, sampling=SAMPLING, seed=5, stop_ids=[stop, 30])
    for row in range(3):
        whole = sampled.tokens[row]
        ends = [index for index, token in enumerate(whole) if token in (stop, 30)]
        assert found.tokens[row] == whole[: ends[0] if ends else 16]
        assert found.finish[row] == (Finish.STOP if ends else Finish.LENGTH)
        assert len(found.depths[row]) == len(found.signs[row].margin) == len(found.tokens[row])
    assert found.finish[0] == Finish.STOP


def test_the_context_ends_a_row(model):
    """Behind a prompt of n tokens there is room for 48 - n, and for one that is never read."""
    found = run(model, [*PROMPTS[1:], [1] * 14], 60)
    assert [len(tokens) for tokens in found.tokens] == [47, 37, 35]
    assert found.finish == [Finish.LENGTH] * 3
    assert found.diverged == [True] * 3
    with pytest.raises(ValueError, match=r"prompts\[1\].*1 to 48 tokens.*got 49"):
        run(model, [[1], [1] * 49], capacity=64)


def test_a_small_ring_forgets_and_goes_on(model):
    """By hand nothing is forgotten: the same tokens until the first has had to go."""
    whole, _ = by_hand(model, PROMPTS[0], 40, ADAPTIVE, Sampling(), 0)
    cut = run(model, PROMPTS[:1], 40).tokens[0]
    assert len(cut) == 40
    before = CAPACITY - len(PROMPTS[0]) + 1
    assert cut[:before] == whole[:before]


def test_limits_of_each_row(model):
    generator = Generator(model, capacity=CAPACITY)
    begun = generator.start(PROMPTS, max_new_tokens=[1, 3, 9], depth=ADAPTIVE)
    tokens, finish = collect(generator, *begun)
    assert [len(row) for row in tokens] == [1, 3, 9]
    assert (finish == Finish.LENGTH).all()


def test_logits_that_are_not_finite_end_a_row_and_harm_no_other(greedy):
    model = small_model(11)
    table = np.array(model.embed_tokens.embedding[...])
    unused = next(token for token in range(1, 31) if token not in greedy.tokens[0] + PROMPTS[0])
    table[unused] = np.nan
    model.embed_tokens.embedding[...] = jnp.asarray(table)
    prompts = [PROMPTS[0], [unused, 1], PROMPTS[0]]
    with pytest.raises(FloatingPointError, match=r"rows \[1\]"):
        run(model, prompts)
    generator = Generator(model, capacity=CAPACITY)
    begun = generator.start(prompts, max_new_tokens=16, depth=ADAPTIVE)
    tokens, finish = collect(generator, *begun)
    assert finish.tolist() == [Finish.LENGTH, Finish.NOT_FINITE, Finish.LENGTH]
    assert tokens == [greedy.tokens[0], [], greedy.tokens[0]]


# Rows that come and go ---------------------------------------------------------------------------


class Server:
    """A running batch, and what each of its rows has given so far."""

    def __init__(self, model, rows, depth=ADAPTIVE):
        self.generator = Generator(model, capacity=CAPACITY)
        self.depth = depth
        self.state = self.generator.empty(rows, depth=depth)
        self.given = [[] for _ in range(rows)]

    def put(self, row, prompt, count, seed=0, sampling=Sampling()):
        other, chunk = self.generator.start(
            [prompt],
            max_new_tokens=count,
            depth=self.depth,
            sampling=sampling,
            seeds=[seed],
            compact=True,
        )
        self.state = self.generator.insert(self.state, row, other)
        self.given[row] = [int(chunk.tokens[0, 0])]

    def step(self):
        self.state, chunk = self.generator.advance(self.state, 4)
        for row, tokens in enumerate(np.asarray(chunk.tokens)):
            self.given[row] += tokens[tokens >= 0].tolist()
        return np.asarray(chunk.finish)


def test_rows_that_are_inserted_give_what_they_give_alone(model, greedy):
    """Rows begin at different times, one place is used three times, and the ring goes round."""
    expected = greedy.tokens
    server = Server(model, 3)
    assert (server.step() == Finish.RELEASED).all()
    for turn in range(3):
        server.put(0, PROMPTS[turn], 16)
        server.step()
        server.put(2, PROMPTS[1], 16)
        server.step()
        server.step()
        finish = server.step()
        assert server.given[0] == expected[turn]
        assert server.given[2] == expected[1][: len(server.given[2])]
        assert len(server.given[2]) >= 13
        assert server.given[1] == []
        assert finish[:2].tolist() == [Finish.LENGTH, Finish.RELEASED]


def test_numbers_and_draws_come_with_the_row(model, sampled, greedy):
    server = Server(model, 3)
    server.put(0, PROMPTS[0], 16)
    server.put(1, PROMPTS[1], 16, seed=6, sampling=SAMPLING)
    for _ in range(4):
        server.step()
    assert server.given[1] == sampled.tokens[1]
    assert (
        server.given[0] == generate(model, PROMPTS[:1], max_new_tokens=16, depth=ADAPTIVE).tokens[0]
    )


def test_a_released_row_gives_nothing_more_and_harms_no_other(model, greedy):
    expected = greedy.tokens
    server = Server(model, 3)
    for row in range(3):
        server.put(row, PROMPTS[row], 16)
    server.step()
    server.state = server.generator.release(server.state, 1)
    for _ in range(3):
        finish = server.step()
    assert finish.tolist() == [Finish.LENGTH, Finish.RELEASED, Finish.LENGTH]
    assert server.given == [expected[0], expected[1][:5], expected[2]]


CALLS: list = []


class Counting(Ouro):
    """Says each time a loop is run."""

    def loop(self, hidden, context, history=None):
        jax.debug.callback(lambda: CALLS.append(1))
        return super().loop(hidden, context, history)


def test_rows_that_have_ended_ask_for_no_depth():
    model = random_model(1, loops=3, kind=Counting)
    generator = Generator(model, capacity=CAPACITY)
    depth = Depth(FixedDepth(max_loops=np.array([3, 1])))
    state, _ = generator.start([[1, 2], [3, 4]], max_new_tokens=[5, 50], depth=depth)
    state, _ = generator.advance(state, 4)  # the deep row has drawn its five
    jax.block_until_ready(state.token)
    jax.effects_barrier()
    CALLS.clear()
    state, chunk = generator.advance(state, 4)
    jax.block_until_ready(state.token)
    jax.effects_barrier()
    assert len(CALLS) == 4
    assert (chunk.tokens[1] >= 0).all()


# Compiling, memory, bad input --------------------------------------------------------------------


def test_what_was_compiled_is_used_again(model, sampled, caplog):
    """Another generator, another model of the same shape, other numbers: nothing is compiled."""
    other = small_model(12)
    rows = [[3] * 5, [4] * 2, [5] * 15]
    sampling = Sampling(temperature=0.3, top_k=3)
    depth = Depth(QExit(0.3, max_loops=2))
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        again = run(other, rows, 17, depth=depth, sampling=sampling, seed=8)
    assert [len(tokens) for tokens in again.tokens] == [17] * 3
    heavy = ("read_chunk", "first_tokens", "next_tokens")
    assert not [r for r in caplog.messages if "Compiling" in r and any(n in r for n in heavy)]


def test_the_memory_of_a_batch_is_used_over(model):
    generator = Generator(model, capacity=CAPACITY)
    state, _ = generator.start(PROMPTS, max_new_tokens=30, depth=ADAPTIVE)
    before = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state.cache.slots)]
    old = state.cache.slots[0]
    state, _ = generator.advance(state, 4)
    after = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state.cache.slots)]
    assert set(before) == set(after)
    assert jax.tree.leaves(old)[0].is_deleted()


def test_arrays_that_are_handed_in_are_left_alone(model):
    threshold = jnp.full(3, 0.8, jnp.float32)
    depth = Depth(QExit(threshold))
    run(model, PROMPTS, depth=depth)
    assert not threshold.is_deleted()


@pytest.mark.parametrize(
    ("prompts", "changes", "message"),
    [
        ([], {}, "prompts must hold at least one"),
        ([[]], {}, r"prompts\[0\] must have 1 to 36 tokens"),
        ([[1] * 37], {}, r"prompts\[0\] must have 1 to 36 tokens, the context; got 37"),
        ([[1], [31]], {}, r"prompts\[1\] must hold token ids from 0 to 30"),
        ([[-1]], {}, "token ids"),
        ([[0.5]], {}, "token ids"),
        ([[1]], {"max_new_tokens": 0}, "max_new_tokens"),
        ([[1]], {"max_new_tokens": [1, 2]}, "max_new_tokens"),
        ([[1]], {"max_new_tokens": 1.5}, "max_new_tokens"),
        ([[1]], {"seeds": [-1]}, "seeds"),
        ([[1]], {"seeds": [1, 2]}, "seeds"),
        ([[1]], {"sampling": Sampling(top_p=np.array([0.5, 0.5]))}, "sampling"),
        ([[1]], {"sampling": Sampling(repeat_last_n=65)}, "repeat_last_n .* window of 64"),
        ([[1]], {"depth": Depth(QExit(np.array([0.5, 0.5])))}, "depth"),
        ([[1]], {"adaptation": Adaptation(stop_bias=np.array([0.5, 0.5]))}, "adaptation"),
    ],
)
def test_bad_requests_are_refused_by_name(model, prompts, changes, message):
    generator = Generator(model, capacity=CAPACITY)
    with pytest.raises(ValueError, match=message):
        generator.start(prompts, **({"max_new_tokens": 4} | changes))


@pytest.mark.parametrize(
    "numbers",
    [{"capacity": 0}, {"chunk": 0}, {"window": 0}, {"stop_ids": [31]}, {"stop_ids": [-1]}],
)
def test_bad_generators_are_refused_by_name(model, numbers):
    with pytest.raises(ValueError, match=next(iter(numbers))):
        Generator(model, **({"capacity": CAPACITY} | numbers))


def test_rows_that_do_not_fit_are_refused(model):
    generator = Generator(model, capacity=CAPACITY)
    state = generator.empty(3, depth=ADAPTIVE)
    one = generator.start(PROMPTS[:1], max_new_tokens=16, depth=ADAPTIVE, compact=True)[0]
    for row in (-1, 3):
        with pytest.raises(ValueError, match="row must lie in"):
            generator.insert(state, row, one)
        with pytest.raises(ValueError, match="row must lie in"):
            generator.release(state, row)
    with pytest.raises(ValueError, match="other must hold one row of at most 36 columns"):
        generator.insert(state, 0, state)
    wider = eqx.tree_at(lambda s: s.cache, one, empty_cache(model, 1, 64))
    with pytest.raises(ValueError, match="got 1 of 64"):
        generator.insert(state, 0, wider)
    for depth in (
        Depth(),
        Depth(QExit(0.8), skip=False),
        Depth(QExit(0.8), cache=CachePolicy.SHARED),
    ):
        with pytest.raises(ValueError, match="batch's kind, QExit, skip=True, LAST_EXITED"):
            generator.insert(state, 0, generator.empty(1, depth=depth))
    with pytest.raises(ValueError, match="steps"):
        generator.advance(state, 0)
    with pytest.raises(ValueError, match="rows"):
        generator.empty(0)
