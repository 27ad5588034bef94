"""A language like COGS, as a grammar: any lexicon, COGS's constructions and logical forms."""

import random
from collections.abc import Iterator

from .cogs_constructions import (
    CONSTRUCTIONS,
    clause,
    construction_of,
    roles_in,
    verb_of,
    words_of,
)
from .cogs_drawing import Wish, draw_sentence
from .cogs_generalisation import HELD_OUT_WORDS
from .cogs_lexicon import COGS_LIKE_LEXICON, CogsLexicon
from .cogs_logical_form import logical_form
from .cogs_reading import read_sentence
from .interface import Pair
from .trees import Tree


class CogsLike:
    """Sentences such as "A girl gave the cake on a table to Liam .", and their logical forms.

    With the words of the published files it reads and interprets these; with its own, fewer ones
    it is a smaller language of the same structure.

    **Arguments:** `lexicon`, its words.

    Source: Kim and Linzen (arXiv 2010.05465).
    """

    name = "cogs_like"

    def __init__(self, lexicon: CogsLexicon = COGS_LIKE_LEXICON) -> None:
        self.lexicon = lexicon

    def tree(self, source: str) -> Tree:
        """The phrase structure of a sentence, without its full stop, or of a single word.

        **Raises** `ValueError` for text that is not of the language.
        """
        return read_sentence(source, self.lexicon)

    def meaning(self, source: str) -> str:
        """The logical form of a sentence or of a single word, as the published files write it.

        **Raises** `ValueError` for text that is not of the language.
        """
        return logical_form(self.tree(source), self.lexicon)

    def paraphrases(self, source: str) -> tuple[str, ...]:
        """None: a logical form numbers the places of words, so no other sentence has the same.

        `alternations` says the same with other numbers.

        **Raises** `ValueError` if `source` is not of the language.
        """
        self.tree(source)
        return ()

    def alternations(self, source: str) -> tuple[str, ...]:
        """The sentence with one of its clauses put another way, the roles staying as they are.

        Active and passive, both orders of a dative, "the ball rolled" and "the ball was rolled":
        the logical forms differ in their order and in the numbers of variables, not in what they
        say. One may be what a generalisation test holds out: see `cogs_like_forbids`.

        **Raises** `ValueError` if `source` is not of the language.
        """
        tree = self.tree(source)
        return tuple(words_of(other) for other in self._alternations(tree))

    def _alternations(self, tree: Tree) -> Iterator[Tree]:
        if tree.label != "S":
            return
        subject, phrase = tree.children
        verb, name = verb_of(phrase, self.lexicon), construction_of(phrase)
        if name == "V that S":
            *start, inner = phrase.children
            for other in self._alternations(inner):
                yield Tree("S", (subject, Tree("VP", (*start, other))))
        if name in ("V that S", "V to V"):
            return
        arguments = (subject, *(child for child in phrase.children if child.label == "NP"))
        by_role = dict(zip(roles_in(name, verb), arguments, strict=True))
        for other, construction in CONSTRUCTIONS.items():
            roles = roles_in(other, verb)
            is_open = set(construction.kinds) & set(verb.kinds)
            if other != name and is_open and set(roles) == set(by_role):
                yield clause(other, verb, [by_role[role] for role in roles])

    def sample(self, count: int, seed: int) -> tuple[Pair, ...]:
        """`count` pairs drawn as for training; they may repeat.

        None has a word that the generalisation tests hold out, a prepositional phrase in a
        subject, or more than two clauses with "that" or prepositional phrases in each other.

        **Raises** `ValueError` if `count` is negative, or the lexicon lacks what sentences need.
        """
        if count < 0:
            raise ValueError(f"count must be at least 0; got {count}.")
        draw, usual = random.Random(seed).random, self.lexicon.without(HELD_OUT_WORDS)
        if usual.lacking():
            raise ValueError(f"lexicon has no {', no '.join(usual.lacking())}.")
        drawn = (draw_sentence(draw, usual, Wish()) for _ in range(count))
        return tuple(Pair(words_of(tree), logical_form(tree, self.lexicon)) for tree in drawn)
