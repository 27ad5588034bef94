"""The three signals of coherence: gradients, structure and paraphrases, each against its null.

As printed, all three are high in a network that has learnt nothing: any two batches push its output
the same way, sentences that share words lie close together, and so do paraphrases. So each is
measured against what shares the words but not the meaning.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array, ArrayLike, Float, Int, PyTree

from .._check import require_in
from ..grammars import Grammar, Pair, tree_distances
from .learner import Learner
from .seq2seq_data import PAD, Seq2SeqPairs, Vocabulary

SIGNALS = ("gradient", "structure", "consistency")
"""GCA, RGA and AC, in the order of the fusion weights."""


class SignalProbes(NamedTuple):
    """Sentences on which structure and consistency are measured; made once a task."""

    sources: Int[np.ndarray, "probes source"]
    """Sentences whose states are compared with one another."""
    structure: Float[np.ndarray, " probe_pairs"]
    """Ranks of their trees' edit distances, less what the surface explains; of norm 1."""
    surface: Float[np.ndarray, "3 probe_pairs"]
    """Ranks of how far two sentences are apart on their surface: in words, in words at their
    places, and in length. Centred, and made orthonormal in this order; zero for what adds nothing.
    """
    anchors: Int[np.ndarray, "triples source"]
    paraphrases: Int[np.ndarray, "triples source"]
    """Other sentences with the anchors' meaning; none if the language has no paraphrases."""
    foils: Int[np.ndarray, "triples source"]
    """Sentences with exactly the paraphrases' words, and another meaning."""


def make_signal_probes(
    grammar: Grammar,
    vocabulary: Vocabulary,
    pairs: Sequence[Pair],
    *,
    probes: int = 40,
    triples: int = 60,
    allowed: Callable[[str], bool] = lambda source: True,
    seed: int = 0,
) -> SignalProbes:
    """Probes from sentences that a learner may see: nothing of a test is needed.

    **Arguments:** `pairs`, from which the probes and the anchors of the triples are drawn;
    `triples`, how many at most: an anchor has one if it has a paraphrase of known words, and two
    of the paraphrase's words can change places so that it means something else. A language without
    paraphrases has none, and then consistency is not measured; `allowed`, whether a paraphrase or
    a foil may be shown to the learner.

    **Raises** `ValueError` for fewer than four probes, or fewer different sentences than probes.
    """
    require_in("probes", probes, 4)
    require_in("triples", triples, 0)
    different = sorted(set(pairs))
    if len(different) < probes:
        raise ValueError(
            f"pairs must hold at least {probes} different sentences; got {len(different)}."
        )
    random = np.random.default_rng(seed)
    order = random.permutation(len(different))
    chosen = [different[at].source for at in order[:probes]]
    upper = np.triu_indices(probes, 1)
    structure = tree_distances([grammar.tree(source) for source in chosen])[upper]
    surface = _orthonormal(
        [distances[upper] for distances in _surface_distances(vocabulary, chosen)]
    )
    may_be = _speakable(vocabulary, allowed)
    found = _triples(grammar, [different[at] for at in order], triples, may_be, random)
    width = max(len(source.split()) for pair in (*found, chosen) for source in pair)
    rows = [_rows(vocabulary, [triple[at] for triple in found], width) for at in range(3)]
    return SignalProbes(
        sources=_rows(vocabulary, chosen, width),
        structure=np.asarray(_without(_standard_ranks(structure), surface)),
        surface=surface,
        anchors=rows[0],
        paraphrases=rows[1],
        foils=rows[2],
    )


def gradient_alignment(
    compositional: PyTree[Float[Array, "..."]],
    training: PyTree[Float[Array, "..."]],
    shuffled: PyTree[Float[Array, "..."]],
) -> Float[Array, ""]:
    """GCA: how much better the two batches' gradients agree than without the sources' meaning.

    The correlation of the compositional gradient with the training gradient, less its correlation
    (if positive) with the gradient of the same training batch whose targets stand at other sources.
    In an untrained network both are about 0.9, as all batches teach how targets look.

    **Arguments:** three gradients of one model.

    **Returns** a number in [−1, 1].

    Source: Σ-Model, Eq. 3; the null is ours.
    """
    null = jnp.maximum(_correlation(compositional, shuffled), 0.0)
    return jnp.clip(_correlation(compositional, training) - null, -1.0, 1.0)


def structure_alignment(model: Learner, probes: SignalProbes) -> Float[Array, ""]:
    """RGA: Spearman's correlation of states' and trees' distances, beyond the sentences' surface.

    It is the partial rank correlation given how far two sentences are apart in their words, in
    their words at their places and in their length, since sentences with a like surface have like
    states before anything is learnt. States are the encoder's, averaged over the words and centred;
    their distance is one minus their cosine.

    Source: Σ-Model, Eq. 4; the partial correlation is ours.
    """
    states = _centred(_mean_states(model, probes.sources))
    distances = (1.0 - _cosines(states[:, None], states[None]))[
        np.triu_indices(len(probes.sources), 1)
    ]
    ranks = jax.scipy.stats.rankdata(distances).astype(states.dtype)
    surface = jnp.asarray(probes.surface, states.dtype)
    ours = _without(_standardised(ranks), surface)
    return jnp.sum(ours * jnp.asarray(probes.structure, states.dtype))


def paraphrase_consistency(model: Learner, probes: SignalProbes) -> Float[Array, ""]:
    """AC: how much closer a sentence's state is to a paraphrase's than to a foil's.

    With p and f the mean cosines to paraphrases and to foils, which have the paraphrases' words in
    another order, it is (p − f)/(1 − f): 0 if order means nothing to the learner, 1 if paraphrases
    have the same state. States are as for `structure_alignment`. 0 without triples.

    Source: Σ-Model, Eq. 5; centred and against foils as E-31 asks.
    """
    triples = len(probes.anchors)
    if not triples:
        return jnp.zeros((), model.dtype)
    sources = jnp.concatenate([probes.anchors, probes.paraphrases, probes.foils])
    anchors, paraphrases, foils = jnp.split(_centred(_mean_states(model, sources)), 3)
    close = jnp.mean(_cosines(anchors, paraphrases))
    apart = jnp.mean(_cosines(anchors, foils))
    return jnp.clip((close - apart) / jnp.maximum(1.0 - apart, 1e-6), -1.0, 1.0)


def shuffle_targets(pairs: Seq2SeqPairs) -> Seq2SeqPairs:
    """The same pairs with every target at the next source: the null of `gradient_alignment`."""
    return Seq2SeqPairs(pairs.source, jnp.roll(pairs.target, 1, axis=0))  # pyright: ignore[reportArgumentType]


def _mean_states(
    model: Learner, sources: Int[ArrayLike, "sources places"]
) -> Float[Array, "sources width"]:
    def mean(source: Int[Array, " places"]) -> Float[Array, " width"]:
        states = model.encode(source)
        real = (source != PAD).astype(states.dtype)
        return (real @ states) / jnp.sum(real)

    return jax.vmap(mean)(jnp.asarray(sources))


def _centred(states: Float[Array, "sources width"]) -> Float[Array, "sources width"]:
    return states - jnp.mean(states, axis=0)


def _cosines(one: Float[Array, "... width"], other: Float[Array, "... width"]) -> Array:
    squares = jnp.sum(one**2, axis=-1) * jnp.sum(other**2, axis=-1)
    return jnp.sum(one * other, axis=-1) / jnp.sqrt(jnp.maximum(squares, 1e-30))


def _correlation(one: PyTree, other: PyTree) -> Float[Array, ""]:
    """Pearson's correlation over all leaves, from their moments."""

    def moments(a: Array, b: Array) -> Array:
        return jnp.stack([jnp.sum(a), jnp.sum(b), jnp.sum(a * a), jnp.sum(b * b), jnp.sum(a * b)])

    totals = jax.tree.reduce(jnp.add, jax.tree.map(moments, one, other))
    a, b, aa, bb, ab = totals / sum(leaf.size for leaf in jax.tree.leaves(one))
    tiny = jnp.finfo(a.dtype).tiny
    return (ab - a * b) / jnp.sqrt(jnp.maximum((aa - a * a) * (bb - b * b), tiny))


def _standardised(values: Array) -> Array:
    centred = values - values.mean()
    return centred / jnp.sqrt(jnp.maximum(jnp.sum(centred**2), jnp.finfo(centred.dtype).tiny))


def _without(values: Array | np.ndarray, controls: Array | np.ndarray) -> Array:
    """What orthonormal controls do not explain of the values, of norm 1."""
    return _standardised(values - (controls @ values) @ controls)  # pyright: ignore[reportArgumentType]


def _standard_ranks(values: np.ndarray) -> Float[np.ndarray, " values"]:
    ranks = scipy.stats.rankdata(values)
    centred = ranks - ranks.mean()
    return centred / max(np.sqrt(np.sum(centred**2)), np.finfo(float).tiny)


def _surface_distances(
    vocabulary: Vocabulary, sources: Sequence[str]
) -> list[Int[np.ndarray, "sources sources"]]:
    """Between every two sentences: words that differ, words that differ at their places, length."""
    width = max(len(source.split()) for source in sources)
    rows = _rows(vocabulary, sources, width)
    counts = np.stack([np.bincount(row[row != PAD], minlength=vocabulary.size) for row in rows])
    lengths = (rows != PAD).sum(axis=1)
    return [
        np.abs(counts[:, None] - counts[None]).sum(axis=-1),
        (rows[:, None] != rows[None]).sum(axis=-1),
        np.abs(lengths[:, None] - lengths[None]),
    ]


def _orthonormal(distances: Sequence[np.ndarray]) -> Float[np.ndarray, "controls pairs"]:
    """The ranks of each, less those before; zero where nothing is left."""
    controls = np.zeros((len(distances), distances[0].size))
    for at, each in enumerate(distances):
        ranks = _standard_ranks(each)
        left = ranks - (controls @ ranks) @ controls
        size = np.sqrt(np.sum(left**2))
        if size > 1e-6:
            controls[at] = left / size
    return controls


def _rows(vocabulary: Vocabulary, sources: Sequence[str], width: int) -> Int[np.ndarray, "n w"]:
    rows = np.full((len(sources), width), PAD, np.int32)
    for row, source in zip(rows, sources, strict=True):
        numbers = [vocabulary.numbers[word] for word in source.split()]
        row[: len(numbers)] = numbers
    return rows


def _speakable(vocabulary: Vocabulary, allowed: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda source: vocabulary.source_words.issuperset(source.split()) and allowed(source)


def _triples(
    grammar: Grammar,
    pairs: Sequence[Pair],
    count: int,
    may_be: Callable[[str], bool],
    random: np.random.Generator,
) -> list[tuple[str, str, str]]:
    """Anchors, each with a paraphrase and a foil."""
    found: list[tuple[str, str, str]] = []
    for anchor in pairs:
        if len(found) == count:
            break
        said = [other for other in grammar.paraphrases(anchor.source) if may_be(other)]
        if not said:
            continue
        paraphrase = said[random.integers(len(said))]
        foils = [
            other
            for other in _with_two_words_swapped(grammar, paraphrase)
            if other != anchor.source and may_be(other) and grammar.meaning(other) != anchor.target
        ]
        if foils:
            found.append((anchor.source, paraphrase, foils[random.integers(len(foils))]))
    return found


def _with_two_words_swapped(grammar: Grammar, source: str) -> list[str]:
    """All sentences of the language that two words' change of places makes of this one."""
    words, made = source.split(), []
    for one, other in itertools.combinations(range(len(words)), 2):
        if words[one] == words[other]:
            continue
        swapped = list(words)
        swapped[one], swapped[other] = words[other], words[one]
        try:
            grammar.meaning(" ".join(swapped))
        except ValueError:
            continue
        made.append(" ".join(swapped))
    return made
