"""SCAN's splits: the published counts and sizes, the published files, and what stays hidden."""

import gzip
import hashlib
import re
from pathlib import Path

import pytest

from sigma_jax.grammars import (
    SCAN_SPLITS,
    ScanPair,
    interpret_scan,
    overlap,
    published_scan_split,
    scan_forbids,
    scan_pairs,
    scan_split,
)

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "scan"
SPLITS = {name: scan_split(name) for name in SCAN_SPLITS}

COUNTS = {
    "simple": (16_728, 4_182),
    "length": (16_990, 3_920),
    "addprim_jump": (14_670, 7_706),
    "addprim_turn_left": (21_890, 1_208),
    "template_around_right": (15_225, 4_476),
    "template_jump_around_right": (18_528, 1_173),
    "template_opposite_right": (15_225, 4_476),
    "template_right": (15_225, 4_476),
    "filler_num0": (15_225, 1_173),
    "filler_num1": (16_290, 1_173),
    "filler_num2": (17_391, 1_173),
    "filler_num3": (18_528, 1_173),
}

SIZES = {
    ("addprim_turn_left", "train"): 3_974_537,
    ("addprim_turn_left", "test"): 173_679,
    ("template_opposite_right", "train"): 2_990_057,
    ("template_opposite_right", "test"): 871_363,
    ("template_right", "train"): 3_173_282,
    ("template_right", "test"): 729_823,
    ("filler_num1", "train"): 2_851_719,
    ("filler_num2", "train"): 3_158_377,
    ("filler_num3", "train"): 3_468_272,
    ("filler_num0", "test"): 333_598,
}
"""The published files in characters (that of the few-shot split stands for the fillers' test).

From github.com/brendenlake/SCAN, commits 50893b9 (templates, fillers) and 6450bb1 (turn left). They
tell which phrases are in neither part: with "turn left" left out of `template_right` instead of
"turn right", the counts are the same but the sizes are 3,176,423 and 730,255.
"""


def lines(pairs) -> list[str]:
    return [f"IN: {source} OUT: {target}\n" for source, target in pairs]


def sha256(pairs) -> str:
    return hashlib.sha256("".join(sorted(lines(pairs))).encode()).hexdigest()


@pytest.mark.parametrize("name", SCAN_SPLITS)
def test_the_counts_are_the_published_ones(name):
    assert (len(SPLITS[name].train), len(SPLITS[name].test)) == COUNTS[name]


@pytest.mark.parametrize(("name", "part"), SIZES)
def test_the_sizes_are_those_of_the_published_files(name, part):
    pairs = getattr(SPLITS[name], part)
    assert sum(len(line) for line in lines(pairs)) == SIZES[name, part]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not there")
@pytest.mark.parametrize("name", ["simple", "addprim_jump"])
def test_these_two_are_the_published_files_line_by_line(name):
    for part in ("train", "test"):
        text = gzip.decompress((PUBLISHED / f"tasks_{part}_{name}.txt.gz").read_bytes()).decode()
        published = sorted(line.strip() + "\n" for line in text.splitlines())
        assert sorted(lines(getattr(SPLITS[name], part))) == published
    loaded = published_scan_split(name, str(PUBLISHED))
    assert sorted(loaded.train) == sorted(SPLITS[name].train)
    assert sorted(loaded.test) == sorted(SPLITS[name].test)


@pytest.mark.parametrize("name", SCAN_SPLITS)
def test_no_command_is_in_both_parts_and_every_pair_is_of_the_grammar(name):
    train, test = SPLITS[name]
    assert overlap(train, test) == 0
    assert {*train, *test} <= set(scan_pairs())
    assert len(set(test)) == len(test)


# Regular expressions, written apart from the rules: what no training command may hold.
HIDDEN = {
    "addprim_jump": r"jump",
    "addprim_turn_left": r"turn left",
    "template_around_right": r"around right",
    "template_jump_around_right": r"(jump|turn) around right",
    "template_opposite_right": r"opposite right",
    "template_right": r"(walk|look|run|jump|turn) right",
    "filler_num0": r"around right",
    "filler_num1": r"(jump|turn|walk|run) around right",
    "filler_num2": r"(jump|turn|run) around right",
    "filler_num3": r"(jump|turn) around right",
}
TESTED = {
    "addprim_jump": r"jump",
    "addprim_turn_left": r"turn left",
    "template_around_right": r"(walk|look|run|jump) around right",
    "template_opposite_right": r"(walk|look|run|jump) opposite right",
    "template_right": r"(walk|look|run|jump) right",
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_tested_is_hidden_from_training(name):
    train, test = SPLITS[name]
    primitive = {"addprim_jump": "jump", "addprim_turn_left": "turn left"}.get(name)
    hidden, tested = HIDDEN[name], TESTED.get(name, "jump around right")
    assert not any(re.search(hidden, p.source) for p in train if p.source != primitive)
    assert all(re.search(tested, p.source) and p.source != primitive for p in test)


def test_the_length_split_is_by_the_number_of_actions():
    train, test = SPLITS["length"]
    assert max(len(pair.target.split()) for pair in train) == 22
    assert {len(pair.target.split()) for pair in test} <= set(range(24, 49))


def test_a_new_primitive_is_a_tenth_of_its_training_part():
    for name, command in (("addprim_jump", "jump"), ("addprim_turn_left", "turn left")):
        train = SPLITS[name].train
        pair = ScanPair(command, interpret_scan(command))
        assert train.count(pair) * 10 == len(train)
        assert len(set(train)) == len(train) - train.count(pair) + 1


@pytest.mark.parametrize("name", SCAN_SPLITS)
def test_what_a_split_forbids_is_neither_trained_on_nor_left_out_of_the_test(name):
    train, test = SPLITS[name]
    assert not any(scan_forbids(name, source) for source in {pair.source for pair in train})
    assert all(scan_forbids(name, pair.source) for pair in test)
    others = {pair.source for pair in scan_pairs()} - {pair.source for pair in (*train, *test)}
    assert all(scan_forbids(name, source) for source in others)


def test_lines_of_the_published_files_are_where_they_were():
    """Of the files of the public repository, one or two each."""
    template = {pair.source for pair in SPLITS["template_opposite_right"].test}
    assert "turn around right thrice after run opposite right twice" in template
    right = {pair.source for pair in SPLITS["template_right"].train}
    assert {
        "turn opposite right twice after look around left thrice",
        "run and jump twice",
    } <= right
    filler = {pair.source for pair in SPLITS["filler_num1"].train}
    assert {"look around right and look", "jump and look around right twice"} <= filler


HASHES = {
    "simple": "e1a2f7b9d7debe26 7057e2e02af1eb9d",
    "length": "7ffb97f45029871c 3297fd0b676c391f",
    "addprim_jump": "0683daacfdce23cf 522454c6280eab95",
    "addprim_turn_left": "e0c26b51b6bba265 14dd6316d16204d2",
    "template_around_right": "f2b91818e1216d5c 8e1297eb61d98ff6",
    "template_jump_around_right": "48179f66fd28dcea 68ad864f20ede044",
    "template_opposite_right": "152a78134665d1ec 9f337575c283168a",
    "template_right": "b2bb5aaafd620068 666691ecf2889a4d",
    "filler_num0": "f2b91818e1216d5c 68ad864f20ede044",
    "filler_num1": "506f659952c886b5 68ad864f20ede044",
    "filler_num2": "b1b2bcfa0e8430d0 68ad864f20ede044",
    "filler_num3": "48179f66fd28dcea 68ad864f20ede044",
}
"""The first 16 digits of the SHA-256 of each part's lines, sorted."""


@pytest.mark.parametrize("name", HASHES)
def test_the_splits_never_change(name):
    train, test = SPLITS[name]
    assert f"{sha256(train)[:16]} {sha256(test)[:16]}" == HASHES[name]


def test_another_name_is_refused():
    for call in (scan_split, lambda name: scan_forbids(name, "jump")):
        with pytest.raises(ValueError, match=r"name must be one of simple, length, .*'fewshot'"):
            call("fewshot")


def test_text_that_is_no_command_is_refused():
    with pytest.raises(ValueError, match="'hop' is not a SCAN command"):
        scan_forbids("length", "hop")
