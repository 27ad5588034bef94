"""COGS's 21 generalisation types: what training has, what it never has, and what is tested."""

import collections
import hashlib
import json
import re
from pathlib import Path

import pytest

from sigma_jax.grammars import (
    COGS_GENERALISATIONS,
    CogsLike,
    cogs_like_forbids,
    cogs_like_splits,
    overlap,
    probes,
    subtrees,
)

CASES = Path(__file__).parents[3] / "shared" / "data" / "cogs" / "gen_cases_to_paper_sections.json"
LANGUAGE = CogsLike()
SPLITS = cogs_like_splits(train=1_500, dev=100, test=100, generalisation=40)
ALL_TESTS = [pair for pairs in SPLITS.generalisation.values() for pair in pairs]
ROLE = re.compile(r"(\w+) \. (agent|theme|recipient|ccomp|xcomp) \( x _ (\d+) , ([^)]+) \)")


def roles(pairs) -> set[tuple[str, str, str]]:
    """Who is what to which verb, read off the logical forms: (cobra, theme, burn)."""
    found = set()
    for source, target in pairs:
        words = source.split()
        for verb, role, _, argument in ROLE.findall(target):
            place = re.fullmatch(r"x _ (\d+)", argument)
            found.add((words[int(place[1])] if place else argument, role, verb))
    return found


def test_the_types_are_the_published_ones():
    assert len(COGS_GENERALISATIONS) == 21
    assert set(SPLITS.generalisation) == set(COGS_GENERALISATIONS)
    if CASES.is_file():
        published = json.loads(CASES.read_text())
        assert set(COGS_GENERALISATIONS) == {
            name for name in published if not name.startswith(("exposure", "in_distribution"))
        }


def test_sizes_and_that_no_two_sets_share_a_sentence():
    sets = [SPLITS.train, SPLITS.dev, SPLITS.test, *SPLITS.generalisation.values()]
    assert [len(pairs) for pairs in sets[1:]] == [100, 100, *[40] * 21]
    sentences = [pair for pair in SPLITS.train if " " in pair.source]
    assert len(sentences) == 1_500 + 12
    for at, one in enumerate(sets):
        assert len({pair.source for pair in one}) == len(one)
        assert all(overlap(one, other) == 0 for other in sets[at + 1 :])


def test_all_is_of_the_language():
    for pair in (*SPLITS.train, *SPLITS.dev, *SPLITS.test, *ALL_TESTS):
        assert LANGUAGE.meaning(pair.source) == pair.target


def rules(pairs) -> set:
    return {
        (node.label, *(child.label for child in node.children))
        for pair in pairs
        for node in subtrees(LANGUAGE.tree(pair.source))
        if node.children
    }


def test_every_word_and_rule_of_a_test_is_trained_on():
    known = rules(SPLITS.train)
    words = {word for pair in SPLITS.train for word in pair.source.split()}
    targets = {word for pair in SPLITS.train for word in pair.target.split()}
    for name, pairs in SPLITS.generalisation.items():
        assert rules(pairs) <= known
        assert {word for pair in pairs for word in pair.source.split()} <= words
        if name not in ("cp_recursion", "pp_recursion"):  # these need higher numbers
            assert {word for pair in pairs for word in pair.target.split()} <= targets


VERBS = {
    "bless": "blessed",
    "squeeze": "squeezed",
    "bake": "baked",
    "shatter": "shattered",
    "teleport": "teleported",
    "ship": "shipped",
}
# What the sentences with a held-out word look like, in training and in its test.
LOOKS = {
    "active_to_passive": (r"[^w]\w* blessed (a|the|[A-Z])", r"was blessed"),
    "passive_to_active": (r"was squeezed \.", r"(?<!was) squeezed (a|the|[A-Z])"),
    "obj_omitted_transitive_to_transitive": (r"baked \.", r"baked (a|the|[A-Z])"),
    "unacc_to_transitive": (r"(?<!was) shattered \.", r"(?<!was) shattered (a|the|[A-Z])"),
    "do_dative_to_pp_dative": (r"teleported [^t]?[^o]*(a|the) \w+", r"teleported .* to "),
    "pp_dative_to_do_dative": (r"shipped .* to ", r"shipped (?!.* to )"),
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_verb_is_shown_in_one_construction_and_tested_in_another(name):
    shown, tested = LOOKS[name]
    form = next(form for form in VERBS.values() if form in shown)
    training = [pair.source for pair in SPLITS.train if form in pair.source]
    assert len(training) == 1
    assert re.search(shown, training[0])
    assert not re.search(tested, training[0])
    for pair in SPLITS.generalisation[name]:
        assert re.search(tested, pair.source)


ROLES = {
    "subj_to_obj_common": ("hedgehog", {"agent"}, {"theme", "recipient"}),
    "subj_to_obj_proper": ("Lina", {"agent"}, {"theme", "recipient"}),
    "obj_to_subj_common": ("cockroach", {"theme"}, {"agent", "theme"}),
    "obj_to_subj_proper": ("Charlie", {"theme"}, {"agent", "theme"}),
    "prim_to_subj_common": ("shark", set(), {"agent", "theme"}),
    "prim_to_subj_proper": ("Paula", set(), {"agent", "theme"}),
    "prim_to_obj_common": ("shark", set(), {"theme", "recipient"}),
    "prim_to_obj_proper": ("Paula", set(), {"theme", "recipient"}),
    "prim_to_inf_arg": ("crawl", set(), {"xcomp"}),
    "only_seen_as_transitive_subj_as_unacc_subj": ("cobra", {"agent"}, {"theme"}),
    "only_seen_as_unacc_subj_as_obj_omitted_transitive_subj": ("hippo", {"theme"}, {"agent"}),
    "only_seen_as_unacc_subj_as_unerg_subj": ("hippo", {"theme"}, {"agent"}),
}
SUBJECT = r"(^|that )((A|a|The|the) )?{} "


@pytest.mark.parametrize("name", ROLES)
def test_a_noun_is_shown_in_one_role_and_tested_in_another(name):
    word, shown, tested = ROLES[name]
    training = [pair for pair in SPLITS.train if word in pair.source.split()]
    assert len(training) == 1
    assert {role for noun, role, _ in roles(training) if noun == word} == shown
    pairs = SPLITS.generalisation[name]
    assert all(word in pair.source.split() for pair in pairs)
    assert {role for noun, role, _ in roles(pairs) if noun == word} == tested
    is_subject = [bool(re.search(SUBJECT.format(word), pair.source)) for pair in pairs]
    if name != "prim_to_inf_arg":
        assert all(is_subject) if "subj" in name.split("_to_")[-1] else not any(is_subject)


def test_the_hippo_is_tested_with_verbs_of_both_kinds():
    names = (
        "only_seen_as_unacc_subj_as_obj_omitted_transitive_subj",
        "only_seen_as_unacc_subj_as_unerg_subj",
    )
    omitted, unergative = (
        {verb for noun, _, verb in roles(SPLITS.generalisation[name]) if noun == "hippo"}
        for name in names
    )
    assert omitted <= {"eat", "cook", "paint", "draw", "clean", "hunt"}
    assert unergative <= {"sleep", "run", "laugh", "smile", "dance", "walk"}


SUBJECT_PHRASE = re.compile(r"(^|that )(A|a|The|the) \w+ (in|on|beside) ")
PHRASES = re.compile(r"(?: (?:in|on|beside) (?:a|the) \w+)+")


def clauses(source: str) -> int:
    return source.count(" that ")


def phrases(source: str) -> int:
    return max((len(run.split()) // 3 for run in PHRASES.findall(source)), default=0)


def test_structures_are_tested_that_training_never_has():
    sources = {name: [p.source for p in pairs] for name, pairs in SPLITS.generalisation.items()}
    for source in (pair.source for pair in (*SPLITS.train, *SPLITS.dev, *SPLITS.test)):
        assert not SUBJECT_PHRASE.search(source)
        assert clauses(source) <= 2
        assert phrases(source) <= 2
    assert all(SUBJECT_PHRASE.search(source) for source in sources["obj_pp_to_subj_pp"])
    assert {clauses(source) for source in sources["cp_recursion"]} == set(range(3, 13))
    assert {phrases(source) for source in sources["pp_recursion"]} == set(range(3, 13))


def test_what_training_may_not_have_is_exactly_what_is_tested():
    for pair in (*SPLITS.train, *SPLITS.dev, *SPLITS.test):
        assert not cogs_like_forbids(pair.source)
    for pair in ALL_TESTS:
        assert cogs_like_forbids(pair.source)


@pytest.mark.parametrize(
    ("source", "is_forbidden"),
    [
        ("hedgehog", True),  # training does not have it alone
        ("shark", False),
        ("Paula ran .", True),
        ("A hedgehog helped Mia .", False),
        ("A hedgehog ran .", True),
        ("Mia was helped by a hedgehog .", True),
        ("Mia blessed a dog .", False),
        ("A dog was blessed by Mia .", True),
        ("The hippo rolled .", False),
        ("The hippo ran .", True),
        ("Mia helped a dog in the house on the road .", False),
        ("Mia helped a dog in the house on the road in the house .", True),
        ("A dog in the house ran .", True),
        ("Mia said that a dog in the house ran .", True),
    ],
)
def test_single_sentences_may_be_trained_on_or_not(source, is_forbidden):
    assert cogs_like_forbids(source) is is_forbidden


def test_more_exposures_are_more_sentences_of_the_same_use():
    splits = cogs_like_splits(train=1_500, dev=0, test=0, generalisation=10, exposures=5)
    counts = collections.Counter(word for pair in splits.train for word in pair.source.split())
    for word in ("hedgehog", "Lina", "cockroach", "Charlie", "cobra", "hippo", *VERBS.values()):
        assert counts[word] == 5
    assert not any(cogs_like_forbids(pair.source) for pair in splits.train)


def test_the_sets_follow_from_the_seed():
    sizes = dict(train=1_500, dev=100, test=100, generalisation=40)
    assert cogs_like_splits(**sizes, seed=1).train != SPLITS.train
    larger = cogs_like_splits(**{**sizes, "train": 1_600})
    assert larger.train[: len(SPLITS.train)] == SPLITS.train
    sets = (SPLITS.train, SPLITS.dev, SPLITS.test, *SPLITS.generalisation.values())
    text = "\n\n".join("\n".join(sorted(map("\t".join, pairs))) for pairs in sets)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert digest == "988b0122a8e845cddc5a0954a09d794d6ff1b17494172b945ea128566671f594"


def test_probes_are_new_combinations_that_no_test_is_about():
    train = SPLITS.train[:400]
    found = probes(
        LANGUAGE, train, 20, 0, without=ALL_TESTS, allowed=lambda s: not cogs_like_forbids(s)
    )
    assert len(found) == 20
    assert overlap(train, found) == overlap(ALL_TESTS, found) == 0


def test_bad_arguments():
    with pytest.raises(ValueError, match="dev must be at least 0; got -1"):
        cogs_like_splits(dev=-1)
    with pytest.raises(ValueError, match="exposures must be at least 1; got 0"):
        cogs_like_splits(exposures=0)
    with pytest.raises(ValueError, match=r"inf_arg: of 2 sentences only 0 .*make train larger"):
        cogs_like_splits(train=0, dev=0, test=0, generalisation=2)
