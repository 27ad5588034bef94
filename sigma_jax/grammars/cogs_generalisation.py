"""The 21 generalisation types of COGS: what training shows, and what is tested.

Names and words are those of Kim and Linzen (arXiv 2010.05465), section 3.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from .cogs_constructions import construction_of, verb_of
from .cogs_drawing import Wish, word_tree
from .cogs_lexicon import COGS_LIKE_LEXICON, VERB_KINDS, CogsVerb
from .cogs_reading import read_sentence
from .trees import Tree, subtrees

MOST_TRAINED_DEPTH = 2
"""Of clauses with "that", and of prepositional phrases, within each other in training."""
_DEEP = tuple(range(3, 13))
_ACTIVE = ("V", "V NP", "V NP NP", "V NP to NP")
_AT_OBJECT = ("V NP", "V NP NP", "V NP to NP", "was V NP", "was V NP by NP")  # a theme after V

Place = Literal["subject", "object", "verb", "infinitive"]


class Use(NamedTuple):
    """Where a word stands, in which constructions, with which kinds of verb."""

    place: Place
    """"object" is the first noun phrase after the verb."""
    constructions: tuple[str, ...]
    kinds: tuple[str, ...] = VERB_KINDS

    def fits(self, found: "Found") -> bool:
        """Whether a use that was found in a sentence is this one."""
        return (
            found.place == self.place
            and found.construction in self.constructions
            and bool(set(found.verb.kinds) & set(self.kinds))
        )


class Found(NamedTuple):
    """A word of a sentence, in its clause."""

    word: str
    """A noun, a name or the base of a verb."""
    place: str
    """A `Place`, or "elsewhere"."""
    construction: str
    verb: CogsVerb


class HeldOutUse(NamedTuple):
    """A word that is tested where training never has it."""

    label: Literal["N", "Name", "V"]
    word: str
    shown: Use | None
    """Its only use in training; None if it stands there alone."""
    tested: Use

    def wish(self, use: Use) -> Wish:
        """A sentence with the word in this use."""
        verb = COGS_LIKE_LEXICON.by_base[self.word] if use.place == "verb" else None
        tree = word_tree(self.label, self.word)
        return Wish(
            constructions=use.constructions,
            kinds=use.kinds,
            verb=verb,
            subject=tree if use.place == "subject" else None,
            object=tree if use.place == "object" else None,
            infinitive=tree if use.place == "infinitive" else None,
        )


_AGENT = Use("subject", ("V NP",))
_THEME = Use("object", ("V NP",))
_ANY_SUBJECT = Use("subject", _ACTIVE)
_ANY_OBJECT = Use("object", ("V NP", "V NP NP"))
_ROLLED = Use("subject", ("V",), ("unaccusative",))


def _verb_in(*constructions: str) -> Use:
    return Use("verb", constructions)


HELD_OUT_USES = {
    "subj_to_obj_common": HeldOutUse("N", "hedgehog", _AGENT, _ANY_OBJECT),
    "subj_to_obj_proper": HeldOutUse("Name", "Lina", _AGENT, _ANY_OBJECT),
    "obj_to_subj_common": HeldOutUse("N", "cockroach", _THEME, _ANY_SUBJECT),
    "obj_to_subj_proper": HeldOutUse("Name", "Charlie", _THEME, _ANY_SUBJECT),
    "prim_to_subj_common": HeldOutUse("N", "shark", None, _ANY_SUBJECT),
    "prim_to_subj_proper": HeldOutUse("Name", "Paula", None, _ANY_SUBJECT),
    "prim_to_obj_common": HeldOutUse("N", "shark", None, _ANY_OBJECT),
    "prim_to_obj_proper": HeldOutUse("Name", "Paula", None, _ANY_OBJECT),
    "prim_to_inf_arg": HeldOutUse("V", "crawl", None, Use("infinitive", ("V to V",))),
    "active_to_passive": HeldOutUse(
        "V", "bless", _verb_in("V NP"), _verb_in("was V", "was V by NP")
    ),
    "passive_to_active": HeldOutUse("V", "squeeze", _verb_in("was V"), _verb_in("V NP")),
    "obj_omitted_transitive_to_transitive": HeldOutUse(
        "V", "bake", _verb_in("V"), _verb_in("V NP")
    ),
    "unacc_to_transitive": HeldOutUse("V", "shatter", _verb_in("V"), _verb_in("V NP")),
    "do_dative_to_pp_dative": HeldOutUse(
        "V", "teleport", _verb_in("V NP NP"), _verb_in("V NP to NP")
    ),
    "pp_dative_to_do_dative": HeldOutUse("V", "ship", _verb_in("V NP to NP"), _verb_in("V NP NP")),
    "only_seen_as_transitive_subj_as_unacc_subj": HeldOutUse("N", "cobra", _AGENT, _ROLLED),
    "only_seen_as_unacc_subj_as_obj_omitted_transitive_subj": HeldOutUse(
        "N", "hippo", _ROLLED, Use("subject", ("V",), ("omissible",))
    ),
    "only_seen_as_unacc_subj_as_unerg_subj": HeldOutUse(
        "N", "hippo", _ROLLED, Use("subject", ("V",), ("unergative",))
    ),
}
"""The 18 lexical types, by their published names."""

HELD_OUT_STRUCTURES = {
    "obj_pp_to_subj_pp": Wish(subject_phrases=1),
    "cp_recursion": Wish(clauses=_DEEP),
    "pp_recursion": Wish(constructions=_AT_OBJECT, object_phrases=_DEEP),
}
"""The three structural types: a prepositional phrase in a subject; 3 to 12 deep recursion."""

COGS_GENERALISATIONS = (*HELD_OUT_USES, *HELD_OUT_STRUCTURES)
"""The published names of the 21 types."""

HELD_OUT_WORDS = frozenset(held.word for held in HELD_OUT_USES.values())
"""15 words: three that training has alone, and twelve that it has in one kind of sentence."""


def cogs_like_forbids(source: str) -> bool:
    """Whether a sentence of `CogsLike()` has what is kept from training for the 21 tests.

    That is one of the held-out words in another use than training shows, a prepositional phrase in
    a subject, or more than two clauses with "that" or prepositional phrases within each other. For
    the leak check of whatever is added to training: probes, alternations.

    **Raises** `ValueError` if `source` is not of the language.
    """
    tree = read_sentence(source, COGS_LIKE_LEXICON)
    if tree.label != "S":
        shown = [held.shown for held in HELD_OUT_USES.values() if held.word == source.strip()]
        return bool(shown) and shown[0] is not None
    deepest = max(_deepest(tree, "S") - 1, _deepest(tree, "PP"))
    subjects = (node.children[0] for node in subtrees(tree) if node.label == "S")
    if deepest > MOST_TRAINED_DEPTH or any(_deepest(subject, "PP") for subject in subjects):
        return True
    shown_uses = {held.word: held.shown for held in HELD_OUT_USES.values()}
    for found in _found(tree):
        use = shown_uses.get(found.word)
        if found.word in shown_uses and (use is None or not use.fits(found)):
            return True
    return False


def _deepest(tree: Tree, label: str) -> int:
    """How many nodes of this label stand within each other."""
    below = max((_deepest(child, label) for child in tree.children), default=0)
    return below + (tree.label == label)


def _found(tree: Tree) -> Iterator[Found]:
    """The verbs and nouns of every clause, each once."""
    for sentence in subtrees(tree):
        if sentence.label != "S":
            continue
        subject, phrase = sentence.children
        name, verb = construction_of(phrase), verb_of(phrase, COGS_LIKE_LEXICON)
        yield Found(verb.base, "verb", name, verb)
        if name == "V to V":
            yield Found(phrase.children[-1].children[0].label, "infinitive", name, verb)
        objects = [child for child in phrase.children if child.label == "NP"]
        for place, noun_phrase in zip(
            ("subject", "object", "elsewhere"), (subject, *objects), strict=False
        ):
            head, *others = _nouns(noun_phrase)
            yield Found(head, place, name, verb)
            for noun in others:
                yield Found(noun, "elsewhere", name, verb)


def _nouns(noun_phrase: Tree) -> list[str]:
    """The nouns or the name, the head first."""
    return [node.children[0].label for node in subtrees(noun_phrase) if node.label in ("N", "Name")]
