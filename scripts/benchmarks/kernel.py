"""Ouro against the same model in plain PyTorch: decoding, prompts, what skipping loops saves."""

from collections.abc import Iterator

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
CONTEXTS = (32, 1024)
BATCHES = (1, 8)
ROUNDS = 5


def rows() -> Iterator[dict]:
    """Every comparison, as {case, peer, ratio, ours, theirs, unit}."""
    peak = matmul_peak()
    for name, config, tokens in (("512 × 6", SMALL, 32), ("1.4B", FULL, 4)):
        model = random_model(config)
        weights = peer_weights(model)
        for batch in BATCHES:
            for context in CONTEXTS:
                case = f"{name}, batch {batch}, context {context}"
                yield from decoding(case, model, weights, batch, context, tokens)
        for context in CONTEXTS[1:]:
            yield prompt(f"{name}, prompt of {context}", model, context, peak)
        del model, weights


def random_model(config: kernel.OuroConfig) -> kernel.Ouro:
    """Random float32 weights."""
    return jax.block_until_ready(kernel.Ouro(config, rngs=nnx.Rngs(0)))


def peer_weights(model: kernel.Ouro) -> dict[str, np.ndarray]:
    """The same weights by their published names, laid out as PyTorch keeps them."""
    named = {}
    for path, leaf in nnx.to_flat_state(nnx.state(model)):
        *parts, kind = map(str, path)
        prefix = "" if parts[0] == "lm_head" else "model."
        array = np.asarray(leaf[...])
        name = f"{prefix}{'.'.join(parts)}.{'bias' if kind == 'bias' else 'weight'}"
        named[name] = np.ascontiguousarray(array.T) if kind == "kernel" else array.copy()
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


def decoding(case: str, model, weights, batch: int, context: int, tokens: int) -> Iterator[dict]:
    """Tokens a second over the batch, at fixed depth and where half of the loops are skipped."""
    capacity = context + (ROUNDS + 3) * tokens
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (batch, context))
    peer = peer_module("kernel_peer").Peer(weights, model.config, batch, capacity)
    first = peer.next_ids(ids)
    policies = (kernel.FixedDepth(), kernel.FixedDepth(max_loops=2), Uneven())
    runs = [continued(model, ids, policy, capacity, tokens) for policy in policies]
    _require_agreement(runs[0](), peer.generate(first, context, tokens).numpy())
    seconds = interleaved(*runs, lambda: peer.generate(first, context, tokens), rounds=ROUNDS)
    fixed, even, uneven, theirs = (batch * tokens / one for one in seconds)
    yield row(case, "PyTorch, all four loops", fixed, theirs, "tokens/s")
    yield row(f"{case}, two loops each", "our four loops", even, fixed, "tokens/s")
    if batch > 1:
        yield row(f"{case}, one to three loops", "our four loops", uneven, fixed, "tokens/s")


def continued(model, ids: np.ndarray, policy: kernel.ExitPolicy, capacity: int, tokens: int):
    """A function that draws `tokens` more tokens behind `ids`, each time it is called."""
    generator = kernel.Generator(model, capacity=capacity)
    state, _ = generator.start(
        ids.tolist(), max_new_tokens=capacity, depth=kernel.Depth(policy=policy)
    )

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


def prompt(case: str, model: kernel.Ouro, context: int, peak: float) -> dict:
    """Flops a second of reading a prompt, of the products with weights alone, against the peak."""
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (1, context)).tolist()
    generator = kernel.Generator(model, capacity=context)
    (seconds,) = interleaved(lambda: generator.start(ids, max_new_tokens=1)[1].tokens, rounds=3)
    config = model.config
    heads = (2 * config.num_attention_heads + 2 * config.num_key_value_heads) * config.rotary_size
    weights = config.hidden_size * (heads + 3 * config.intermediate_size)
    products = config.total_ut_steps * config.num_hidden_layers * weights
    return row(case, "peak of a product", 2 * products * context / seconds, peak, "flop/s")
