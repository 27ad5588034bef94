"""From a sentence of COGS to its tree."""

from collections.abc import Mapping

from .cogs_constructions import CONSTRUCTIONS, DETERMINERS, INFINITIVES, construction_of, verb_of
from .cogs_lexicon import CogsLexicon, CogsVerb
from .trees import Tree

_MOST_WORDS = 300  # in a sentence; sentences are nested at most half as deep


def read_sentence(source: str, lexicon: CogsLexicon) -> Tree:
    """The tree of a sentence, such as "A girl ran .", or of a single word.

    Nodes are S, NP, VP, PP, Det, N, Name, P, V and the words; "was", "to", "by" and "that" stand
    straight in their phrase, and the full stop is left out. A prepositional phrase belongs to the
    noun before it.

    **Raises** `ValueError` for text that is not of the language.
    """
    words = source.split()
    try:
        if len(words) > _MOST_WORDS:
            raise _NotCogs(f"it has more than {_MOST_WORDS} words")
        if len(words) == 1:
            return _single_word(words[0], lexicon)
        if not words or words[-1] != ".":
            raise _NotCogs("a sentence ends with a full stop of its own")
        if words[0].lower() in DETERMINERS:
            words[0] = words[0].lower()
        reader = _Reader(words[-2::-1], lexicon)
        tree = reader.sentence()
        if reader.rest:
            raise _NotCogs(f"{reader.rest[-1]!r} stands where it should end")
    except _NotCogs as error:
        raise ValueError(f"{source!r} is not a sentence of this language: {error}.") from None
    return tree


class _NotCogs(Exception):
    """Why the words are no sentence of the language."""


def _single_word(word: str, lexicon: CogsLexicon) -> Tree:
    verb = lexicon.by_base.get(word)
    if verb is not None and set(verb.kinds) & {*CONSTRUCTIONS["V"].kinds, "transitive"}:
        return Tree("V", (Tree(word),))
    if word in lexicon.nouns:
        return Tree("N", (Tree(word),))
    if word in lexicon.names:
        return Tree("Name", (Tree(word),))
    raise _NotCogs(f"{word!r} is no noun, name or verb that stands alone")


class _Reader:
    """Takes words from the end of `rest`, which is reversed, one rule of the grammar a method."""

    def __init__(self, rest: list[str], lexicon: CogsLexicon) -> None:
        self.rest = rest
        self.lexicon = lexicon

    def sentence(self) -> Tree:
        """S → NP VP."""
        return Tree("S", (self._noun_phrase(), self._verb_phrase()))

    def _noun_phrase(self) -> Tree:
        """NP → Name | Det N | Det N PP; PP → P NP."""
        if self._next in self.lexicon.names:
            return Tree("NP", (self._taken("Name"),))
        if self._next not in DETERMINERS:
            raise _NotCogs(f"{self._next or 'the end'!r} stands where a name, a or the should")
        determiner = self._taken("Det")
        if self._next not in self.lexicon.nouns:
            raise _NotCogs(f"{self._next or 'the end'!r} stands where a noun should")
        children = [determiner, self._taken("N")]
        if self._next in self.lexicon.places:
            children.append(Tree("PP", (self._taken("P"), self._noun_phrase())))
        return Tree("NP", tuple(children))

    def _verb_phrase(self) -> Tree:
        """VP → the verb and what follows it; must then be one of the constructions."""
        if self._next == "was":
            children = [Tree(self.rest.pop()), self._verb(self.lexicon.by_participle)]
            children += self._objects()
        else:
            children = [self._verb(self.lexicon.by_past)]
            if self._next == "that":
                children += [Tree(self.rest.pop()), self.sentence()]
            elif self._next == "to":
                children += [Tree(self.rest.pop()), self._verb(self.lexicon.by_base)]
            else:
                children += self._objects()
        phrase = Tree("VP", tuple(children))
        self._check(phrase)
        return phrase

    def _objects(self) -> list[Tree]:
        objects = []
        while self._next in DETERMINERS or self._next in self.lexicon.names:
            objects.append(self._noun_phrase())
        for word in ("to", "by"):
            if self._next == word:
                objects += [Tree(self.rest.pop()), self._noun_phrase()]
        return objects

    def _verb(self, forms: Mapping[str, CogsVerb]) -> Tree:
        if self._next not in forms:
            raise _NotCogs(f"{self._next or 'the end'!r} stands where another verb's form should")
        return self._taken("V")

    def _check(self, phrase: Tree) -> None:
        """That the verb is open to the construction, and an infinitive to its place."""
        name, verb = construction_of(phrase), verb_of(phrase, self.lexicon)
        if name not in CONSTRUCTIONS or not set(CONSTRUCTIONS[name].kinds) & set(verb.kinds):
            raise _NotCogs(f"{verb.base!r} is not used as in {name!r}")
        if name == "V to V":
            infinitive = self.lexicon.by_base[phrase.children[2].children[0].label]
            if not set(INFINITIVES) & set(infinitive.kinds):
                raise _NotCogs(f"{infinitive.base!r} does not stand alone after to")

    @property
    def _next(self) -> str:
        return self.rest[-1] if self.rest else ""

    def _taken(self, label: str) -> Tree:
        return Tree(label, (Tree(self.rest.pop()),))
