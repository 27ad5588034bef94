"""The rules of COGS: its constructions, and what trees they make.

    S → NP VP
    NP → Name | Det N | Det N PP
    PP → P NP
    VP → one of `CONSTRUCTIONS`

Kim and Linzen, "COGS: A Compositional Generalization Challenge Based on Semantic Interpretation"
(arXiv 2010.05465), and what the published sentences show.
"""

from collections.abc import Sequence
from typing import NamedTuple

from .cogs_lexicon import CogsLexicon, CogsVerb
from .trees import Tree, subtrees

DETERMINERS = ("the", "a")
_PATIENT = ("transitive", "omissible", "unaccusative")  # kinds of verb that act on something


class Construction(NamedTuple):
    """A rule for the verb phrase."""

    roles: tuple[str, ...]
    """What the phrases of the clause are to the verb, in their order, the subject first."""
    kinds: tuple[str, ...]
    """The kinds of verb that it is open to."""
    share: float
    """Of a hundred sentences drawn, about as in the published sets."""


CONSTRUCTIONS = {
    "V": Construction(("agent",), ("omissible", "unaccusative", "unergative"), 11),
    "V NP": Construction(("agent", "theme"), _PATIENT, 21),
    "was V": Construction(("theme",), _PATIENT, 9),
    "was V by NP": Construction(("theme", "agent"), _PATIENT, 18),
    "V NP NP": Construction(("agent", "recipient", "theme"), ("dative",), 7),
    "V NP to NP": Construction(("agent", "theme", "recipient"), ("dative",), 7),
    "was V NP": Construction(("recipient", "theme"), ("dative",), 5),
    "was V NP by NP": Construction(("recipient", "theme", "agent"), ("dative",), 5),
    "was V to NP": Construction(("theme", "recipient"), ("dative",), 6),
    "was V to NP by NP": Construction(("theme", "recipient", "agent"), ("dative",), 6),
    "V to V": Construction(("agent", "xcomp"), ("controlling",), 5),
    "V that S": Construction(("agent", "ccomp"), ("clausal",), 0),
}
"""The verb phrases. "V that S" has no share: it is put around the others."""
INFINITIVES = ("omissible", "unergative")
"""The kinds of verb that stand after "to" in "V to V"."""


def construction_of(verb_phrase: Tree) -> str:
    """The rule by which a verb phrase is made, such as "was V by NP"."""
    return " ".join(child.label for child in verb_phrase.children)


def roles_in(construction: str, verb: CogsVerb) -> tuple[str, ...]:
    """The roles with this verb: who eats is an agent, but what rolls is the theme."""
    if construction == "V" and "unaccusative" in verb.kinds:
        return ("theme",)
    return CONSTRUCTIONS[construction].roles


def verb_of(verb_phrase: Tree, lexicon: CogsLexicon) -> CogsVerb:
    """The verb of the clause, not that of an infinitive in it.

    **Raises** `KeyError` if its form is not in the lexicon.
    """
    first, *rest = verb_phrase.children
    if first.label == "was":
        return lexicon.by_participle[rest[0].children[0].label]
    return lexicon.by_past[first.children[0].label]


def clause(construction: str, verb: CogsVerb, phrases: Sequence[Tree]) -> Tree:
    """The clause of these phrases, the subject first; an infinitive is given as its V."""
    subject, *left = phrases
    form = verb.participle if construction.startswith("was") else verb.past
    children = []
    for label in construction.split():
        if label == "V" and form:
            children.append(Tree("V", (Tree(form),)))
            form = ""
        elif label in ("V", "NP", "S"):
            children.append(left.pop(0))
        else:
            children.append(Tree(label))
    return Tree("S", (subject, Tree("VP", tuple(children))))


def words_of(tree: Tree) -> str:
    """The sentence, or the single word, whose tree this is."""
    words = [node.label for node in subtrees(tree) if not node.children]
    if tree.label != "S":
        return " ".join(words)
    return " ".join((words[0][0].upper() + words[0][1:], *words[1:], "."))
