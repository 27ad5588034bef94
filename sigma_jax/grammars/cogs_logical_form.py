"""From a tree of COGS to its logical form.

    A girl gave the cake on a table to Liam .
    * cake ( x _ 4 ) ; girl ( x _ 1 ) AND give . agent ( x _ 2 , x _ 1 ) AND give . theme
    ( x _ 2 , x _ 4 ) AND give . recipient ( x _ 2 , Liam ) AND cake . nmod . on ( x _ 4 , x _ 7 )
    AND table ( x _ 7 )

A variable is numbered by the place of its noun or verb in the sentence, from 0. Definites come
first, then everything in the order of the first variable; a name is a constant.

Source: Kim and Linzen (arXiv 2010.05465), as in their published files.
"""

from itertools import count

from .cogs_constructions import construction_of, roles_in, verb_of
from .cogs_lexicon import CogsLexicon
from .trees import Tree


def logical_form(tree: Tree, lexicon: CogsLexicon) -> str:
    """The logical form of a sentence, or of a single word."""
    if tree.label != "S":
        return _single_word(tree, lexicon)
    writer = _Writer(lexicon)
    writer.clause(tree)
    facts = " AND ".join(fact for _, fact in sorted(writer.facts, key=lambda fact: fact[0]))
    return " ".join((*writer.definites, facts))


def _single_word(tree: Tree, lexicon: CogsLexicon) -> str:
    """A name is itself; a noun and a verb wait for what they are said of."""
    (leaf,) = tree.children
    word = leaf.label
    if tree.label == "Name":
        return word
    if tree.label == "N":
        return f"LAMBDA a . {word.lower()} ( a )"
    kinds = lexicon.by_base[word].kinds
    if "unaccusative" in kinds:
        return f"LAMBDA a . LAMBDA e . {word} . theme ( e , a )"
    if "unergative" in kinds:
        return f"LAMBDA a . LAMBDA e . {word} . agent ( e , a )"
    return f"LAMBDA a . LAMBDA b . LAMBDA e . {word} . agent ( e , b ) AND {word} . theme ( e , a )"


class _Writer:
    """Goes over the words once, in their order, and collects what they say."""

    def __init__(self, lexicon: CogsLexicon) -> None:
        self.lexicon = lexicon
        self.definites: list[str] = []
        self.facts: list[tuple[int, str]] = []
        """With the number of the first variable; those of one number are in their final order."""
        self._places = count()

    def clause(self, sentence: Tree) -> str:
        """Adds what a clause says; its verb's variable."""
        subject, phrase = sentence.children
        arguments = [self._noun_phrase(subject)]
        event = infinitive = 0
        for child in phrase.children:
            if child.label == "NP":
                arguments.append(self._noun_phrase(child))
            elif child.label == "S":
                arguments.append(self.clause(child))
            elif child.label == "V" and child is phrase.children[-1] and event:
                infinitive = next(self._places)
                arguments.append(_variable(infinitive))
            else:
                place = next(self._places)
                event = place if child.label == "V" else event
        verb = verb_of(phrase, self.lexicon)
        roles = roles_in(construction_of(phrase), verb)
        for role, argument in zip(roles, arguments, strict=True):
            self._add(event, f"{verb.base} . {role}", argument)
        if infinitive:
            word = phrase.children[-1].children[0].label
            self._add(infinitive, f"{word} . agent", arguments[0])
        return _variable(event)

    def _noun_phrase(self, phrase: Tree) -> str:
        """Adds what a noun phrase says; its variable, or the name."""
        first, *rest = phrase.children
        place = next(self._places)
        if first.label == "Name":
            return first.children[0].label
        place = next(self._places)
        noun = rest[0].children[0].label.lower()  # "TV" is tv
        if first.children[0].label == "the":
            self.definites.append(f"* {noun} ( {_variable(place)} ) ;")
        else:
            self.facts.append((place, f"{noun} ( {_variable(place)} )"))
        for modifier in rest[1:]:
            preposition, inner = modifier.children
            next(self._places)
            role = f"{noun} . nmod . {preposition.children[0].label}"
            self._add(place, role, self._noun_phrase(inner))
        return _variable(place)

    def _add(self, place: int, role: str, argument: str) -> None:
        self.facts.append((place, f"{role} ( {_variable(place)} , {argument} )"))


def _variable(place: int) -> str:
    return f"x _ {place}"
