"""Ouro against the same model in plain PyTorch: decoding, prompts, what skipping loops saves."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.timing import interleaved, matmul_peak, peer_module, row
from sigma_jax import kernel

SMALL = kernel.OuroConfig(
    vocab_size=8192,
    hidden_size=512,
    intermediate_size=1408,
    num_hidden_layers=6,
    num_attention_heads=8,
    num_key_value_heads=8,
    max_position_embeddings=4096,
)
FULL = kernel.OuroConfig(
    vocab_size=49152,
    hidden_size=2048,
    intermediate_size=5632,
    num_hidden_layers=24,
    num_attention_heads=16,
    num_key_value_heads=16,
    max_position_embeddings=65536,
)
"""The published 1.4B model."""
CASES = (
    ("512 × 6", SMALL, 32, ((1, 32), (1, 1024), (8, 32), (8, 1024)), 1024),
    ("1.4B", FULL, 4, ((1, 32), (1, 1024), (8, 32)), 256),
)
"""Name, model, tokens drawn at a time, (batch, context) of decoding, tokens of a prompt. The cache
of eight rows of 1,024 tokens of the 1.4B model takes 13 GB, twice: no machine of ours holds it."""
ROUNDS = 5


def rows() -> Iterator[dict]:
    """Every comparison, as {case, peer, ratio, ours, theirs, unit}."""
    for name, config, tokens, decoded, prompted in CASES:
        model = random_model(config)
        for batch, context in decoded:
            case = f"{name}, batch {batch}, context {context}"
            yield from decoding(case, model, batch, context, tokens)
        yield prompt(f"{name}, prompt of {prompted}", model, prompted)
        del model


def random_model(config: kernel.OuroConfig) -> kernel.Ouro:
    """Random float32 weights."""
    return jax.block_until_ready(kernel.Ouro(config, rngs=nnx.Rngs(0)))


def peer_weights(model: kernel.Ouro) -> dict[str, jax.Array]:
    """The same arrays by their published names."""
    named = {}
    for path, leaf in nnx.to_flat_state(nnx.state(model)):
        *parts, kind = map(str, path)
        prefix = "" if parts[0] == "lm_head" else "model."
        named[f"{prefix}{'.'.join(parts)}.{'bias' if kind == 'bias' else 'weight'}"] = leaf[...]
    return named


# Decoding --------------------------------------------------------------------------------------


class Uneven(kernel.ExitPolicy):
    """Stops after 1, 2 or 3 loops, each as likely, by a hash of the token's embedding."""

    min_loops: int = 1
    max_loops: int | None = None

    def start(self, embedding):
        """The depth of each row, as if drawn at random."""
        bits = jax.lax.bitcast_convert_type(embedding.astype(jnp.float32), jnp.uint32)
        return 1 + (bits.sum(axis=-1, dtype=jnp.uint32) >> 7) % 3

    def wants(self, memory, loop):
        """Rows that have reached their depth."""
        return loop.index + 1 >= memory, memory


def decoding(case: str, model, batch: int, context: int, tokens: int) -> Iterator[dict]:
    """Tokens a second over the batch, at fixed depth and where half of the loops are skipped."""
    capacity = context + (ROUNDS + 3) * tokens
    policies: list[kernel.ExitPolicy] = [kernel.FixedDepth(), kernel.FixedDepth(max_loops=2)]
    if batch > 1:
        policies.append(Uneven())
    peer = peer_module("kernel_peer").Peer(peer_weights(model), model.config, batch, capacity)
    leaves = jax.tree.leaves(random_cache(model, batch, context, capacity).slots)
    for slot, leaf in enumerate(leaves):  # keys and values of every layer of every loop
        peer.fill(*divmod(slot, 2), leaf)
    runs = [continued(model, batch, context, policy, capacity, tokens) for policy in policies]

    def theirs() -> np.ndarray:
        return peer.generate(np.zeros((batch, 1), int), context, tokens).numpy()

    _require_agreement(runs[0](), theirs())
    seconds = interleaved(*runs, theirs, rounds=ROUNDS)
    fixed, even, *uneven, peers = (batch * tokens / one for one in seconds)
    yield row(case, "PyTorch, all four loops", fixed, peers, "tokens/s")
    yield row(f"{case}, two loops each", "our four loops", even, fixed, "tokens/s")
    for rate in uneven:
        yield row(f"{case}, one to three loops", "our four loops", rate, fixed, "tokens/s")


def random_cache(model, batch: int, context: int, capacity: int) -> kernel.Cache:
    """What a prompt of `context` tokens might have left, without the time that it takes to read."""
    cache = kernel.empty_cache(model, batch, capacity)
    rng = np.random.default_rng(0)

    def drawn(leaf: jax.Array) -> jax.Array:
        return jnp.asarray(rng.standard_normal(leaf.shape, np.float32))

    return kernel.Cache(
        slots=jax.tree.map(drawn, cache.slots),
        depths=jnp.full_like(cache.depths, model.config.total_ut_steps),
        cursor=jnp.asarray(context, jnp.int32),
        lengths=jnp.full_like(cache.lengths, context),
    )


def continued(model, batch: int, context: int, policy: kernel.ExitPolicy, capacity: int, tokens):
    """A function that draws `tokens` more tokens of every row, each time it is called."""
    generator = kernel.Generator(model, capacity=capacity)
    prompts = [[0]] * batch
    depth = kernel.Depth(policy=policy)
    state, _ = generator.start(prompts, max_new_tokens=capacity, depth=depth, compact=True)
    cache = random_cache(model, batch, context, capacity)
    state = eqx.tree_at(lambda s: (s.cache, s.token), state, (cache, jnp.zeros_like(state.token)))

    def run():
        nonlocal state
        state, chunk = generator.advance(state, tokens)
        return chunk.tokens

    return run


def _require_agreement(ours, theirs) -> None:
    """Both draw the same tokens, but for the rare one that rounding decides."""
    same = np.asarray(ours) == theirs
    if same.mean() < 0.5 or not same[:, 0].all():
        raise AssertionError(f"ours and the peer's tokens agree in {same.mean():.0%} only")


# Prompts ---------------------------------------------------------------------------------------


def prompt(case: str, model: kernel.Ouro, tokens: int) -> dict:
    """Flops a second of reading a prompt, of its matrix products alone, against the peak."""
    config = model.config
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (1, tokens)).tolist()
    generator = kernel.Generator(model, capacity=tokens, chunk=tokens)
    peak = matmul_peak()
    (seconds,) = interleaved(lambda: generator.start(ids, max_new_tokens=1)[1].tokens, rounds=3)
    width = config.num_attention_heads * config.rotary_size
    heads = 2 * width + 2 * config.num_key_value_heads * config.rotary_size
    weights = config.hidden_size * (heads + 3 * config.intermediate_size)
    attention = width * (tokens + 1)  # scores and mixing, each with half of the tokens
    layers = config.total_ut_steps * config.num_hidden_layers
    flops = 2 * tokens * layers * (weights + attention)
    return row(case, "peak of a product", flops / seconds, peak, "flop/s")
