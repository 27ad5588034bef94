"""Sentences of COGS drawn at random, with what is asked of them."""

from collections.abc import Sequence
from typing import NamedTuple

from .cogs_constructions import CONSTRUCTIONS, DETERMINERS, INFINITIVES, clause, roles_in
from .cogs_lexicon import VERB_KINDS, CogsLexicon, CogsVerb
from .draws import Draw, choose, choose_weighted
from .trees import Tree

# How many, with their shares in the published training set: clauses with "that" around a clause;
# prepositional phrases at a theme that is no subject and no name.
_CLAUSES = ((0, 0.905), (1, 0.088), (2, 0.007))
_PHRASES = ((0, 0.53), (1, 0.43), (2, 0.04))
_NAMED = 0.4  # of persons; the others are "a girl", "the girl"
_ANIMATE = 0.4  # of themes that may be either


class Wish(NamedTuple):
    """What a sentence is to have; where nothing is said, it is drawn as for training.

    Nouns, names and infinitives are given as trees, such as `word_tree("N", "shark")`.
    """

    constructions: tuple[str, ...] = tuple(CONSTRUCTIONS)
    """Of the innermost clause, which the other wishes are about, too."""
    kinds: tuple[str, ...] = VERB_KINDS
    verb: CogsVerb | None = None
    infinitive: Tree | None = None
    subject: Tree | None = None
    object: Tree | None = None
    """The first noun phrase after the verb."""
    clauses: tuple[int, ...] | None = None
    """Numbers, one of which is chosen, of clauses with "that" around it."""
    object_phrases: tuple[int, ...] | None = None
    """Numbers of prepositional phrases, each in the one before, at a theme that is no subject."""
    subject_phrases: int = 0


def word_tree(label: str, word: str) -> Tree:
    """A word under its part of speech."""
    return Tree(label, (Tree(word),))


def draw_sentence(draw: Draw, lexicon: CogsLexicon, wish: Wish) -> Tree:
    """A sentence that fulfils the wish, its other words from the lexicon."""
    name = choose_weighted(draw, [(each, CONSTRUCTIONS[each].share) for each in wish.constructions])
    verb = wish.verb or choose(
        draw, lexicon.verbs_of(set(CONSTRUCTIONS[name].kinds) & set(wish.kinds))
    )
    phrases = []
    for slot, role in enumerate(roles_in(name, verb)):
        if role == "xcomp":
            phrases.append(wish.infinitive or _infinitive(draw, lexicon))
            continue
        depth = wish.subject_phrases
        if slot > 0:
            depth = _depth(draw, wish.object_phrases, _PHRASES) if role == "theme" else 0
        given = (wish.subject, wish.object, None)[min(slot, 2)]
        phrases.append(_phrase(draw, lexicon, given, role, "dative" in verb.kinds, depth))
    sentence = clause(name, verb, phrases)
    for _ in range(_depth(draw, wish.clauses, _CLAUSES)):
        sentence = _reported(draw, lexicon, sentence)
    return sentence


def _depth(draw: Draw, wished: tuple[int, ...] | None, usual: Sequence[tuple[int, float]]) -> int:
    return choose_weighted(draw, usual) if wished is None else choose(draw, wished)


def _infinitive(draw: Draw, lexicon: CogsLexicon) -> Tree:
    return word_tree("V", choose(draw, lexicon.verbs_of(INFINITIVES)).base)


def _reported(draw: Draw, lexicon: CogsLexicon, sentence: Tree) -> Tree:
    """The sentence after "somebody said that"."""
    verb = choose(draw, lexicon.verbs_of(("clausal",)))
    subject = _phrase(draw, lexicon, None, "agent", given_away=False, depth=0)
    return clause("V that S", verb, (subject, sentence))


def _phrase(
    draw: Draw, lexicon: CogsLexicon, given: Tree | None, role: str, given_away: bool, depth: int
) -> Tree:
    """A noun phrase with `depth` prepositional phrases, each in the one before.

    Who acts and who receives is a person or an animal; a theme is either, but a thing if it is
    given away.
    """
    if given is None:
        is_animate = role != "theme" or (not given_away and draw() < _ANIMATE)
        if is_animate and depth == 0 and draw() < _NAMED:
            given = word_tree("Name", choose(draw, lexicon.names))
        else:
            nouns = lexicon.animate if is_animate else lexicon.inanimate
            given = word_tree("N", choose(draw, nouns))
    if given.label == "Name":
        return Tree("NP", (given,))
    return _common(draw, lexicon, given, depth)


def _common(draw: Draw, lexicon: CogsLexicon, noun: Tree, depth: int) -> Tree:
    """NP → Det N | Det N PP; PP → P NP."""
    children = [word_tree("Det", choose(draw, DETERMINERS)), noun]
    if depth > 0:
        preposition = choose(draw, tuple(lexicon.places))
        place = word_tree("N", choose(draw, lexicon.places[preposition]))
        inner = _common(draw, lexicon, place, depth - 1)
        children.append(Tree("PP", (word_tree("P", preposition), inner)))
    return Tree("NP", tuple(children))
