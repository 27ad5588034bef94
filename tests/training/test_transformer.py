"""The Transformer alone: what each output may depend on, and the cached decoder."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.training import END, PAD, START, Seq2SeqTransformer, TransformerSizes, sequence_loss

SIZES = TransformerSizes(
    encoder_layers=2, decoder_layers=2, heads=2, width=8, hidden=12, dropout=0.5
)
SOURCE = np.array([3, 5, 4], np.int32)
TARGET_IN = np.array([START, 6, 4, 4], np.int32)
PADDED = np.append(SOURCE, [PAD, PAD]).astype(np.int32)
MODEL = Seq2SeqTransformer(7, SIZES, seed=0, dtype=jnp.float64)
logits = jax.jit(lambda source, target_in: MODEL.logits(source, target_in))


def test_padding_of_the_source_changes_nothing():
    encode = jax.jit(lambda source: MODEL.encode(source))
    np.testing.assert_allclose(
        logits(PADDED, TARGET_IN), logits(SOURCE, TARGET_IN), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(encode(PADDED)[:3], encode(SOURCE), rtol=1e-12, atol=1e-12)


def test_no_output_sees_a_later_token():
    before = logits(SOURCE, TARGET_IN)
    for place in range(1, 4):
        changed = TARGET_IN.copy()
        changed[place] = 3
        after = logits(SOURCE, changed)
        np.testing.assert_array_equal(after[:place], before[:place])
        assert np.abs(after[place:] - before[place:]).max(axis=1).min() > 1e-6


def test_every_output_sees_every_word_of_the_source_and_where_it_stands():
    before = logits(SOURCE, TARGET_IN)
    for changed in ([6, 5, 4], [3, 6, 4], [3, 5, 6], [5, 3, 4]):
        after = logits(np.array(changed, np.int32), TARGET_IN)
        assert np.abs(after - before).max(axis=1).min() > 1e-6


def test_the_cached_decoder_says_the_same():
    cache = jax.jit(lambda source: MODEL.start_cache(source, 6))(PADDED)
    step = jax.jit(lambda token, place, cache: MODEL.next_logits(token, place, cache))
    rows = []
    for place, token in enumerate(TARGET_IN):
        row, cache = step(token, np.int32(place), cache)
        rows.append(row)
    np.testing.assert_allclose(np.stack(rows), logits(SOURCE, TARGET_IN), rtol=1e-12, atol=1e-12)


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def norm(x, layer):
    centred = x - x.mean(axis=-1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / spread * np.asarray(layer.weight) + np.asarray(layer.bias)


def attend(a, x, y, allowed):
    out = []
    for head in np.split(np.arange(SIZES.width), SIZES.heads):
        q, k, v = (
            z @ np.asarray(m)[:, head] for z, m in ((x, a.queries), (y, a.keys), (y, a.values))
        )
        scores = np.where(allowed, q @ k.T / np.sqrt(len(head)), -np.inf)
        out.append(softmax(scores) @ v)
    return np.concatenate(out, axis=1) @ np.asarray(a.output)


def feed(f, x):
    hidden = np.maximum(x @ np.asarray(f.rise) + np.asarray(f.rise_bias), 0)
    return hidden @ np.asarray(f.fall) + np.asarray(f.fall_bias)


def embedded(ids):
    places = np.zeros((len(ids), SIZES.width))
    for place in range(len(ids)):
        for i in range(SIZES.width // 2):
            angle = place / 10000 ** (2 * i / SIZES.width)
            places[place, 2 * i : 2 * i + 2] = np.sin(angle), np.cos(angle)
    return np.asarray(MODEL.embedding)[ids] * np.sqrt(SIZES.width) + places


def test_it_is_the_textbook_transformer():
    x = embedded(SOURCE)
    for layer in MODEL.encoder:
        y = norm(x, layer.norms[0])
        x = x + attend(layer.own, y, y, True)
        x = x + feed(layer.feed_forward, norm(x, layer.norms[1]))
    states = norm(x, MODEL.encoder_norm)
    x, past = embedded(TARGET_IN), np.tri(len(TARGET_IN), dtype=bool)
    for layer in MODEL.decoder:
        y = norm(x, layer.norms[0])
        x = x + attend(layer.own, y, y, past)
        x = x + attend(layer.cross, norm(x, layer.norms[1]), states, True)
        x = x + feed(layer.feed_forward, norm(x, layer.norms[2]))
    expected = norm(x, MODEL.decoder_norm) @ np.asarray(MODEL.output)
    np.testing.assert_allclose(logits(SOURCE, TARGET_IN), expected, rtol=1e-10, atol=1e-10)


def test_the_loss_counts_the_tokens_that_are_not_padding_and_its_gradient_is_finite():
    # The last pair is of padding alone: it counts for nothing, and gives no NaN.
    source = np.array([SOURCE, [3, PAD, PAD], [PAD] * 3], np.int32)
    target = np.array([[6, 4, END], [5, END, PAD], [PAD] * 3], np.int32)
    expected = []
    for row, words in ((SOURCE, [6, 4, END]), (SOURCE[:1], [5, END])):
        target_in = np.array([START, *words[:-1], 3, 3], np.int32)[:4]
        padded = np.append(row, [PAD] * 2)[:3].astype(np.int32)
        log_p = np.log(softmax(np.asarray(logits(padded, target_in))))
        expected += [-log_p[place, word] for place, word in enumerate(words)]
    loss, gradient = jax.jit(jax.value_and_grad(sequence_loss))(MODEL, source, target)
    assert float(loss) == pytest.approx(np.mean(expected), rel=1e-12)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all()
        assert np.abs(leaf).max() > 0


def test_dropout_drops_its_share_by_its_key():
    dropped = jax.jit(lambda key: MODEL.logits(SOURCE, TARGET_IN, key=key))
    one, other = dropped(jax.random.key(1)), dropped(jax.random.key(2))
    np.testing.assert_array_equal(one, dropped(jax.random.key(1)))
    assert np.abs(one - other).max() > 1e-3
    # With silent sublayers the decoder is the norm of the embedding, in which all that is dropped
    # has one value; and the output is made to show it as it is.
    sizes = TransformerSizes(1, 1, heads=2, width=500, hidden=4, dropout=0.2)
    bare = Seq2SeqTransformer(7, sizes, seed=0, dtype=jnp.float64)
    silent = eqx.tree_at(
        lambda m: (m.decoder, m.output),
        bare,
        (jax.tree.map(jnp.zeros_like, bare.decoder), jnp.eye(500)),
    )
    shown = jax.jit(lambda key: silent.logits(SOURCE, TARGET_IN, key=key))(jax.random.key(3))
    for row in np.asarray(shown):
        assert np.unique(row.round(9), return_counts=True)[1].max() == pytest.approx(100, abs=35)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"width": 7, "heads": 7}, "width must be even"),
        ({"width": 8, "heads": 3}, "multiple of heads"),
        ({"decoder_layers": 0}, "decoder_layers"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_sizes_are_refused(wrong, named):
    with pytest.raises(ValueError, match=named):
        TransformerSizes(**wrong)
