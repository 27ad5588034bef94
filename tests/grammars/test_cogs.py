"""The COGS-like language: the published logical forms, its grammar, bad input, files."""

import collections
import gzip
import re
import shutil
from pathlib import Path

import pytest

from sigma_jax.grammars import (
    COGS_LIKE_LEXICON,
    CogsLexicon,
    CogsLike,
    CogsVerb,
    Grammar,
    Pair,
    Tree,
    cogs_like_forbids,
    published_cogs,
    read_cogs,
    subtrees,
)

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "cogs"
needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="the published files are not there"
)
LANGUAGE = CogsLike()
SAMPLE = LANGUAGE.sample(1_000, 0)
ROLE = re.compile(r"(\w+) \. (agent|theme|recipient|ccomp|xcomp) \( x _ (\d+) , ([^)]+) \)")
VARIABLE = re.compile(r"x _ (\d+)")


def lexicon_of(pairs: list[Pair]) -> CogsLexicon:
    """The words of published pairs, and what their logical forms show that verbs take."""
    names, nouns, prepositions = set(), set(), set()
    forms: dict[str, dict[str, str]] = collections.defaultdict(dict)
    kinds: dict[str, set[str]] = collections.defaultdict(set)
    for source, target in pairs:
        words = source.split()
        if len(words) == 1:
            lambdas = target.count("LAMBDA")
            if lambdas == 0:
                names.add(source)
            elif lambdas == 1:
                nouns.add(source)
            else:
                one_place = "unaccusative" if "theme" in target else "unergative"
                kinds[source].add(one_place if lambdas == 2 else "transitive")
            continue
        names.update(re.findall(r", (\w+) \)", target))
        prepositions.update(re.findall(r"nmod \. (\w+)", target))
        nouns.update(words[int(at)] for at in re.findall(r"\w+ \( x _ (\d+) \)", target))
        roles: dict[tuple[str, int], list[str]] = collections.defaultdict(list)
        for verb, role, at, _ in ROLE.findall(target):
            roles[verb, int(at)].append(role)
        for (verb, at), those in roles.items():
            before = words[at - 1]
            if before != "to":
                forms[verb]["participle" if before == "was" else "past"] = words[at]
            kinds[verb].add(kind_of(before, those))
    verbs = (
        CogsVerb(
            base,
            forms[base].get("past", "-" + base),
            forms[base].get("participle", "-" + base),
            tuple(sorted(those)),
        )
        for base, those in sorted(kinds.items())
    )
    places = {preposition: () for preposition in prepositions}
    return CogsLexicon(tuple(sorted(names)), tuple(sorted(nouns)), (), places, tuple(verbs))


def kind_of(before: str, roles: list[str]) -> str:
    for role, kind in (("ccomp", "clausal"), ("xcomp", "controlling"), ("recipient", "dative")):
        if role in roles:
            return kind
    if before == "was" or len(roles) == 2:
        return "transitive"
    return "unaccusative" if roles == ["theme"] else "omissible"


@needs_published
def test_every_published_logical_form_is_what_the_rules_give():
    parts = {}
    for part, count in (("train", 24_155), ("dev", 3_000), ("test", 3_000)):
        by_type = read_cogs(PUBLISHED / f"{part}.tsv.gz")
        parts[part] = [pair for pairs in by_type.values() for pair in pairs]
        assert len(parts[part]) == count
        assert all(
            kind in ("in_distribution", "primitive") or len(pairs) == 1
            for kind, pairs in by_type.items()
        )
    language = CogsLike(lexicon_of([pair for pairs in parts.values() for pair in pairs]))
    for pairs in parts.values():
        assert all(language.meaning(pair.source) == pair.target for pair in pairs)


PUBLISHED_EXAMPLES = {
    "A cake was given to Liam .": (
        "cake ( x _ 1 ) AND give . theme ( x _ 3 , x _ 1 ) AND give . recipient ( x _ 3 , Liam )"
    ),
    "The hippo floated .": "* hippo ( x _ 1 ) ; float . theme ( x _ 2 , x _ 1 )",
    "The girl needed to cook .": (
        "* girl ( x _ 1 ) ; need . agent ( x _ 2 , x _ 1 ) AND need . xcomp ( x _ 2 , x _ 4 ) AND "
        "cook . agent ( x _ 4 , x _ 1 )"
    ),
    "Henry liked a cockroach in a box .": (
        "like . agent ( x _ 1 , Henry ) AND like . theme ( x _ 1 , x _ 3 ) AND cockroach ( x _ 3 ) "
        "AND cockroach . nmod . in ( x _ 3 , x _ 6 ) AND box ( x _ 6 )"
    ),
    "Emma hoped that a girl was handed the cake on a table by Ava .": (
        "* cake ( x _ 8 ) ; hope . agent ( x _ 1 , Emma ) AND hope . ccomp ( x _ 1 , x _ 6 ) AND "
        "girl ( x _ 4 ) AND hand . recipient ( x _ 6 , x _ 4 ) AND hand . theme ( x _ 6 , x _ 8 ) "
        "AND hand . agent ( x _ 6 , Ava ) AND cake . nmod . on ( x _ 8 , x _ 11 ) AND "
        "table ( x _ 11 )"
    ),
    "The dog on the bed ran .": (
        "* dog ( x _ 1 ) ; * bed ( x _ 4 ) ; dog . nmod . on ( x _ 1 , x _ 4 ) AND "
        "run . agent ( x _ 5 , x _ 1 )"
    ),
    "shark": "LAMBDA a . shark ( a )",
    "Paula": "Paula",
    "crawl": "LAMBDA a . LAMBDA e . crawl . agent ( e , a )",
    "roll": "LAMBDA a . LAMBDA e . roll . theme ( e , a )",
    "see": "LAMBDA a . LAMBDA b . LAMBDA e . see . agent ( e , b ) AND see . theme ( e , a )",
}


@pytest.mark.parametrize("source", PUBLISHED_EXAMPLES)
def test_logical_forms(source):
    assert LANGUAGE.meaning(source) == PUBLISHED_EXAMPLES[source]


def test_the_tree_of_a_sentence():
    assert LANGUAGE.tree("A girl gave Liam the cake on a table .") == tree_of(
        "(S (NP (Det a) (N girl)) (VP (V gave) (NP (Name Liam)) "
        "(NP (Det the) (N cake) (PP (P on) (NP (Det a) (N table))))))"
    )
    assert LANGUAGE.tree("James said that Mia was helped by the dog .") == tree_of(
        "(S (NP (Name James)) (VP (V said) that (S (NP (Name Mia)) "
        "(VP was (V helped) by (NP (Det the) (N dog))))))"
    )


def tree_of(brackets: str) -> Tree:
    rest = brackets.replace("(", " ( ").replace(")", " ) ").split()

    def read() -> Tree:
        token = rest.pop(0)
        if token != "(":
            return Tree(token)
        label, children = rest.pop(0), []
        while rest[0] != ")":
            children.append(read())
        rest.pop(0)
        return Tree(label, tuple(children))

    return read()


def test_a_sample_is_of_the_language_and_its_trees_are_its_words():
    for pair in SAMPLE:
        assert LANGUAGE.meaning(pair.source) == pair.target
        words = [node.label for node in subtrees(LANGUAGE.tree(pair.source)) if not node.children]
        assert [*words, "."] == [words[0], *pair.source.split()[1:]]
        assert pair.source.split()[0] in (words[0], words[0].capitalize())
    assert LANGUAGE.sample(50, 0) == SAMPLE[:50]
    assert LANGUAGE.sample(50, 1) != SAMPLE[:50]


def test_a_sample_is_like_the_published_training_set_and_holds_out_what_it_does():
    """The published shares, counted once from train.tsv: 9.5 % with "that", and so on."""
    share = {
        word: sum(f" {word} " in pair.target for pair in SAMPLE) / len(SAMPLE)
        for word in ("ccomp", "nmod", "xcomp", "recipient")
    }
    assert share["ccomp"] == pytest.approx(0.095, abs=0.03)
    assert share["nmod"] == pytest.approx(0.21, abs=0.04)
    assert share["xcomp"] == pytest.approx(0.055, abs=0.02)
    assert share["recipient"] == pytest.approx(0.36, abs=0.05)
    assert not any(cogs_like_forbids(pair.source) for pair in SAMPLE)


def test_it_is_a_grammar_without_paraphrases():
    grammar: Grammar = LANGUAGE
    assert grammar.name == "cogs_like"
    assert grammar.paraphrases("A girl ran .") == ()


def facts(source: str, target: str) -> collections.Counter[str]:
    """A logical form with the word of its sentence in each variable's place."""
    words = source.split()
    named = VARIABLE.sub(lambda place: f"x:{words[int(place[1])]}", target)
    return collections.Counter(re.split(r" AND | ; ", named))


def test_alternations_say_the_same_with_other_numbers():
    found = 0
    for source, target in SAMPLE[:300]:
        for other in LANGUAGE.alternations(source):
            found += 1
            assert other != source
            ours, others = (
                collections.Counter(re.sub(r"x:(gave|given)", "x:give", fact) for fact in said)
                for said in (
                    facts(source, target),
                    facts(other, LANGUAGE.meaning(other)),
                )
            )
            # Past and participle of one verb are one event.
            assert by_base(ours) == by_base(others)
    assert found > 200


FORMS = {
    form: verb.base for verb in COGS_LIKE_LEXICON.verbs for form in (verb.past, verb.participle)
}


def by_base(said: collections.Counter[str]) -> collections.Counter[str]:
    return collections.Counter(
        {
            re.sub(r"x:(\w+)", lambda word: f"x:{FORMS.get(word[1], word[1])}", fact): count
            for fact, count in said.items()
        }
    )


def test_alternations_of_each_kind():
    said = LANGUAGE.alternations
    assert said("A girl helped Liam .") == ("Liam was helped by a girl .",)
    assert said("The ball rolled .") == ("The ball was rolled .",)
    assert said("The boy ran .") == said("Mia ate .") == said("Mia tried to run .") == ()
    assert said("Liam was sent a ring .") == ("A ring was sent to Liam .",)
    assert said("Ava said that Mia sent a dog the ring in a box .") == (
        "Ava said that Mia sent the ring in a box to a dog .",
        "Ava said that a dog was sent the ring in a box by Mia .",
        "Ava said that the ring in a box was sent to a dog by Mia .",
    )


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "full stop"),
        ("A girl ran", "full stop"),
        (".", "no noun, name or verb"),
        ("gave", "no noun, name or verb"),
        ("give", "no noun, name or verb"),
        ("A girl ran . .", "should end"),
        ("A girl .", "another verb's form"),
        ("A gril ran .", "'gril' stands where a noun should"),
        ("girl ran .", "'girl' stands where a name, a or the should"),
        ("A girl The boy .", "another verb's form"),
        ("A girl ran the boy .", "'run' is not used as in 'V NP'"),
        ("A girl helped .", "'help' is not used as in 'V'"),
        ("A girl gave the cake .", "'give' is not used as in 'V NP'"),
        ("A girl was slept .", "'sleep' is not used as in 'was V'"),
        ("A girl said the boy ran .", "'say' is not used as in 'V NP'"),
        ("A girl helped that the boy ran .", "'help' is not used as in 'V that S'"),
        ("A girl said that .", "the end"),
        ("A girl wanted to ran .", "another verb's form"),
        ("A girl wanted to help .", "'help' does not stand alone after to"),
        ("A girl ran in the house .", "'in' stands where it should end"),
        ("A girl ran in .", "should end"),
        ("A girl helped a boy in .", "the end"),
        ("Mia said that " * 100 + "Mia ran .", "more than 300 words"),
    ],
)
def test_other_text_is_refused(source, why):
    for ask in (LANGUAGE.meaning, LANGUAGE.tree, LANGUAGE.paraphrases, LANGUAGE.alternations):
        with pytest.raises(ValueError, match=f"is not a sentence of this language: .*{why}"):
            ask(source)


def test_deep_sentences_are_read():
    source = "Mia said that " * 90 + "Mia ran ."
    assert LANGUAGE.meaning(source).count("ccomp") == 90


def test_lexicons_that_cannot_be():
    verb = CogsVerb("eat", "ate", "eaten", ("omissible",))
    with pytest.raises(ValueError, match="verbs: 'odd', of 'eat', is none of transitive"):
        CogsLexicon((), (), (), {}, (verb._replace(kinds=("odd",)),))
    with pytest.raises(ValueError, match="verbs: two of them have one past"):
        CogsLexicon((), (), (), {}, (verb, CogsVerb("et", "ate", "et", ("omissible",))))
    language = CogsLike(CogsLexicon(("Mia",), ("cat",), (), {"in": ()}, (verb,)))
    assert language.meaning("Mia ate a cat .") == (
        "eat . agent ( x _ 1 , Mia ) AND eat . theme ( x _ 1 , x _ 3 ) AND cat ( x _ 3 )"
    )
    with pytest.raises(
        ValueError, match="lexicon has no inanimate nouns, no places after in, no transitive verbs"
    ):
        language.sample(1, 0)
    with pytest.raises(ValueError, match="count must be at least 0; got -1"):
        LANGUAGE.sample(-1, 0)


@needs_published
def test_published_files_are_checked_and_kept_by_their_own_names(tmp_path):
    shutil.copy(PUBLISHED / "dev.tsv.gz", tmp_path / "cogs_dev.tsv.gz")
    assert published_cogs("dev", tmp_path) == read_cogs(PUBLISHED / "dev.tsv.gz")
    (tmp_path / "cogs_test.tsv").write_bytes(
        gzip.decompress((tmp_path / "cogs_dev.tsv.gz").read_bytes())
    )
    with pytest.raises(ValueError, match="not the published file"):
        published_cogs("test", tmp_path)
    with pytest.raises(ValueError, match=r"part must be one of train, dev, test; got 'gen'"):
        published_cogs("gen", tmp_path)


def test_files_that_are_no_tables(tmp_path):
    path = tmp_path / "gen.tsv"
    path.write_text("Mia ran .\trun . agent ( x _ 1 , Mia )\tprim_to_inf_arg\n" * 2)
    assert read_cogs(path) == {
        "prim_to_inf_arg": (Pair("Mia ran .", "run . agent ( x _ 1 , Mia )"),) * 2
    }
    for line in ("Mia ran .\trun\n", "Mia ran .\t\tgen\n", "\n", "a\tb\tc\td\n"):
        path.write_text("Mia ran .\tran\tgen\n" + line)
        with pytest.raises(ValueError, match=r"gen.tsv, line 2: a line is a sentence"):
            read_cogs(path)
    path.write_text("")
    with pytest.raises(ValueError, match="is empty"):
        read_cogs(path)
    with pytest.raises(FileNotFoundError):
        read_cogs(tmp_path / "none.tsv")
