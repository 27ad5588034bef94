"""Tasks: five parts that share nothing, leaks that are planted and found, unseen words counted."""

from functools import cache

import numpy as np
import pytest

from sigma_jax.grammars import Pair, interpret_scan, pcfg_set_forbids, scan_forbids
from sigma_jax.training import (
    PARTS,
    TASKS,
    Pools,
    Seq2SeqPairs,
    Task,
    TaskSizes,
    encode_task,
    find_leaks,
    make_task,
)

SIZES = TaskSizes(compositional=12, calibration=6, familiar=6, test=8, longest=6, train=400)
# The length split tests what is long; logical forms are.
SIZES_OF = {"scan_length": SIZES._replace(longest=None), "cogs_like": SIZES._replace(longest=40)}
SIZES_OF["scan_template"] = SIZES._replace(longest=10)


@cache
def task(name: str) -> Task:
    return make_task(name, SIZES_OF.get(name, SIZES))


def sources(made: Task, part: str) -> list[str]:
    return [pair.source for pair in made.part(part)]


def test_there_are_six():
    assert len(TASKS) == len(set(TASKS)) == 6


@pytest.mark.parametrize("name", TASKS)
def test_no_sentence_is_in_two_parts_and_none_leaks(name):
    made, sizes = task(name), SIZES_OF.get(name, SIZES)
    leaks = find_leaks(made)
    assert leaks.total == 0
    assert len(leaks.shared) == 10
    different = [set(sources(made, part)) for part in PARTS]
    assert sum(map(len, different)) == len(set.union(*different))
    # What steers training has nothing that the split forbids; the test has nothing else.
    for part in ("task", "compositional", "calibration"):
        assert not any(map(made.forbids, sources(made, part)))
        assert all(map(made.may_be_shown, sources(made, part)))
    assert all(map(made.forbids, sources(made, "test")))
    assert not any(map(made.may_be_shown, sources(made, "test")))
    # As many as asked for, but for those with a word that training does not have.
    for part in PARTS[1:]:
        assert len(made.part(part)) + made.unseen[part] == getattr(sizes, part)
        assert len(set(sources(made, part))) == len(made.part(part))
    for part in PARTS:
        for pair in made.part(part):
            assert made.grammar.meaning(pair.source) == pair.target
            assert sizes.longest is None or len(pair.target.split()) <= sizes.longest


@pytest.mark.parametrize("name", TASKS)
def test_every_word_has_been_trained_on(name):
    made = task(name)
    trained = (*made.task, *made.compositional)
    for side in range(2):
        known = {word for pair in trained for word in pair[side].split()}
        assert known == (made.vocabulary.source_words, made.vocabulary.target_words)[side]
        for part in PARTS:
            assert known.issuperset(w for pair in made.part(part) for w in pair[side].split())


def test_the_rules_of_the_splits_are_told_apart_by_what_they_forbid():
    """By words, not by the functions that made the tasks."""

    def jumps_in_company(source):
        return "jump" in source.split() and source != "jump"

    assert all(map(jumps_in_company, sources(task("scan_add_jump"), "test")))
    assert not any(map(jumps_in_company, sources(task("scan_add_jump"), "task")))
    assert "jump" in sources(task("scan_add_jump"), "task")
    few = task("scan_few_jump")
    assert not any(map(jumps_in_company, sources(few, "task")))
    for part in ("compositional", "calibration", "test"):
        assert all(map(jumps_in_company, sources(few, part)))
    assert all(len(interpret_scan(s).split()) > 22 for s in sources(task("scan_length"), "test"))
    assert all("around right" in source for source in sources(task("scan_template"), "test"))
    assert not any("around right" in source for source in sources(task("scan_template"), "task"))


def test_few_jump_forbids_all_that_is_not_set_aside_not_only_what_is_drawn_for_the_test():
    few = task("scan_few_jump")
    drawn = set(sources(few, "test"))
    others = [
        source
        for source in (
            "jump twice",
            "jump left",
            "jump and walk",
            "run after jump",
            "walk and jump",
        )
        if source not in drawn
    ]
    shown = {*sources(few, "compositional"), *sources(few, "calibration")}
    assert len(others) > 0
    for source in others:
        assert few.forbids(source) == (source not in shown)
    assert not few.forbids("jump")
    assert scan_forbids("addprim_jump", "jump twice")


@pytest.mark.parametrize("name", ["scan_few_jump", "pcfg_systematicity", "cogs_like"])
def test_a_task_is_the_same_for_the_same_seed(name):
    made = task(name)
    again = make_task(name, SIZES_OF.get(name, SIZES))
    assert all(again.part(part) == made.part(part) for part in PARTS)
    other = make_task(name, SIZES_OF.get(name, SIZES), seed=1)
    assert all(other.part(part) != made.part(part) for part in PARTS)


# Leaks ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scan_few_jump", "pcfg_systematicity"])
@pytest.mark.parametrize("part", ["task", "compositional", "calibration", "familiar"])
def test_a_planted_test_sentence_is_found(name, part):
    made = task(name)
    leaking = made._replace(**{part: (*made.part(part), made.test[0], made.test[0])})
    leaks = find_leaks(leaking)
    assert leaks.shared[f"{part}, test"] == 1  # once, however often it is there
    assert leaks.forbidden == {
        each: int(each == part) for each in ("task", "compositional", "calibration")
    }
    assert leaks.total == 1 + (part != "familiar")


def test_a_planted_template_is_found_though_the_test_does_not_have_it():
    made = task("pcfg_systematicity")
    tested = set(sources(made, "test"))
    template = next(
        pair
        for pair in made.grammar.sample(2_000, 5)
        if pcfg_set_forbids("systematicity", pair.source) and pair.source not in tested
    )
    leaks = find_leaks(made._replace(compositional=(*made.compositional, template)))
    assert leaks.total == leaks.forbidden["compositional"] == 1
    assert sum(leaks.shared.values()) == 0


def test_a_sentence_shared_by_any_two_parts_is_found():
    made = task("scan_add_jump")
    for at, one in enumerate(PARTS):
        for other in PARTS[at + 1 : -1]:
            leaking = made._replace(**{other: (*made.part(other), made.part(one)[-1])})
            leaks = find_leaks(leaking)
            assert leaks.shared == {pair: int(pair == f"{one}, {other}") for pair in leaks.shared}
            assert leaks.total == 1


# Unseen words and bad sizes ---------------------------------------------------------------------


def test_sentences_with_an_unseen_word_are_left_out_and_counted():
    """With twenty training sentences of PCFG-SET some of its forty words have not been met."""
    made = make_task("pcfg_systematicity", SIZES._replace(train=20))
    assert made.unseen["familiar"] > 0
    assert len(made.familiar) == SIZES.familiar - made.unseen["familiar"]
    encode_task(made)  # which refuses an unseen word


@pytest.mark.parametrize(
    ("name", "changes", "named"),
    [
        ("scan", {}, "task must be one of scan_add_jump, .*; got 'scan'"),
        ("scan_few_jump", {"test": 0}, r"sizes.test must lie in \[1, inf"),
        ("scan_few_jump", {"longest": 0}, "sizes.longest must lie in"),
        ("scan_few_jump", {"longest": 1}, "more than 18 commands with jump; there are 0"),
        ("scan_add_jump", {"longest": 1}, "set 42 sentences aside, of 2 that training has"),
        ("scan_few_jump", {"compositional": 8_000}, "8006 commands with jump"),
        ("scan_length", {}, "the test part has no sentence: make sizes.longest"),
        ("cogs_like", {}, "set 6 sentences aside, of 0 that training has"),
        ("cogs_like", {"train": 60, "longest": None}, "make train larger"),
    ],
)
def test_a_task_that_cannot_be_had_is_refused(name, changes, named):
    with pytest.raises(ValueError, match=named):
        make_task(name, SIZES._replace(**changes))


def test_a_part_of_which_every_sentence_has_an_unseen_word_is_refused():
    """Searched for: a handful of training sentences, so that it happens at some seed."""
    sizes = SIZES._replace(train=8, familiar=1, compositional=2, calibration=1, test=1)
    refused = 0
    for seed in range(12):
        try:
            made = make_task("pcfg_systematicity", sizes, seed=seed)
        except ValueError as error:
            refused += "has a word that training does not have" in str(error)
        else:
            assert all(made.part(part) for part in PARTS)
    assert refused > 0


def test_an_empty_pool_is_refused():
    made = task("scan_few_jump")
    with pytest.raises(ValueError, match="pairs must hold at least one pair"):
        encode_task(made._replace(compositional=()))


def test_rows_say_what_the_pairs_say():
    made = task("scan_few_jump")
    rows = encode_task(made)
    assert isinstance(rows.pools, Pools)
    widths = {(pool.source.shape[1], pool.target.shape[1]) for pool in rows.pools}
    assert len(widths) == 1
    groups: list[tuple[Seq2SeqPairs, str]] = [
        (rows.pools.task, "task"),
        (rows.pools.compositional, "compositional"),
        (rows.calibration, "calibration"),
        (rows.familiar, "familiar"),
        (rows.test, "test"),
    ]
    for group, part in groups:
        said = [
            Pair(made.vocabulary.sentence(source), made.vocabulary.sentence(target))
            for source, target in zip(*map(np.asarray, group), strict=True)
        ]
        assert said == [Pair(pair.source, pair.target) for pair in made.part(part)]
