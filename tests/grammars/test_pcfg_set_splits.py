"""PCFG-SET's compositional tests: what is hidden, twins, and evaluation step by step."""

import collections
import hashlib
from pathlib import Path

import pytest

from sigma_jax.grammars import (
    PCFG_SET_SPLITS,
    Pair,
    PcfgSet,
    Split,
    localism_consistency,
    localism_steps,
    overlap,
    pcfg_set_forbids,
    pcfg_set_split,
    published_pcfg_set,
    substitutivity_split,
)

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "pcfg_set"
PAIRS = PcfgSet().sample(2_000, 5)
SPLITS = {name: pcfg_set_split(name, PAIRS) for name in PCFG_SET_SPLITS}
HELD_OUT = (
    "swap_first_last repeat",
    "append remove_second",
    "repeat remove_second",
    "append swap_first_last",
)
TWINNED = ("swap_first_last", "repeat", "append", "remove_second")
WITH_TWINS = PcfgSet(twins=True)

DIGESTS = {
    "random": "7b8f35e1915911990d8f362a523bd6b8730edea0f1161dcbc8b646fc1812c2b9",
    "systematicity": "9156a58d61cf1338198091d4f9ac4e81005f63c561d0e8c301f8d6633bd636c9",
    "productivity": "d1f0bb03208849abd66196d61037bf16774f5e902ad7ddf12793ef825de18ad7",
}


def digest(*parts) -> str:
    text = "\n\n".join("\n".join(sorted(map("\t".join, part))) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("name", PCFG_SET_SPLITS)
def test_the_parts_are_the_pairs_and_have_nothing_in_common(name):
    train, test = SPLITS[name]
    assert overlap(train, test) == 0
    assert sorted((*train, *test)) == sorted(PAIRS)
    assert digest(train, test) == DIGESTS[name]


def has_held_out(source: str) -> bool:
    return any(pair in f" {source} " for pair in (f" {two} " for two in HELD_OUT))


def functions(source: str) -> int:
    return sum(word.islower() for word in source.split())


def test_what_is_tested_is_hidden_from_training():
    train, test = SPLITS["systematicity"]
    assert all(has_held_out(pair.source) for pair in test)
    assert not any(has_held_out(pair.source) for pair in train)
    train, test = SPLITS["productivity"]
    assert min(functions(pair.source) for pair in test) == 9
    assert max(functions(pair.source) for pair in train) == 8


def test_every_function_is_trained_on_where_their_pairs_are_not():
    words = {word for pair in SPLITS["systematicity"].train for word in pair.source.split()}
    assert words >= {word for two in HELD_OUT for word in two.split()}


def test_a_random_split_goes_by_text_and_seed_alone():
    test = SPLITS["random"].test
    assert len(test) == 200
    again = pcfg_set_split("random", reversed(PAIRS))
    assert set(again.test) == set(test)
    assert set(pcfg_set_split("random", PAIRS, seed=1).test) != set(test)
    assert len(pcfg_set_split("random", PAIRS, test_share=0.25).test) == 500
    doubled = pcfg_set_split("random", (*PAIRS, *PAIRS))
    assert overlap(doubled.train, doubled.test) == 0


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="the published files are not there")
def test_the_published_systematicity_test_is_forbidden_and_as_was_counted():
    test = published_pcfg_set("systematicity_test", PUBLISHED)
    assert all(pcfg_set_forbids("systematicity", pair.source) for pair in test)
    counts = collections.Counter(two for pair in test for two in HELD_OUT if two in pair.source)
    assert [counts[two] for two in HELD_OUT] == [3_289, 2_526, 2_669, 2_381]


def test_a_twin_is_forbidden_as_what_it_means():
    assert pcfg_set_forbids("systematicity", "append_twin swap_first_last A1 B2 , C3")
    assert pcfg_set_forbids("systematicity", "append remove_second_twin A1 , B2 , C3")
    assert not pcfg_set_forbids("systematicity", "append A1 B2 , swap_first_last C3")
    assert pcfg_set_forbids("productivity", "repeat_twin " * 9 + "A1")
    assert not pcfg_set_forbids("productivity", "repeat_twin " * 8 + "A1")


@pytest.mark.parametrize("condition", ["equally_distributed", "primitive"])
def test_twins_mean_the_same_and_none_is_tested_that_was_trained_on(condition):
    split = substitutivity_split(SPLITS["random"], condition, primitives=20)
    assert len(split.test) == len(split.twins)
    for pair, twin in zip(split.test, split.twins, strict=True):
        changed = {
            (one, other)
            for one, other in zip(pair.source.split(), twin.source.split(), strict=True)
            if one != other
        }
        ((function, other),) = changed
        assert other == f"{function}_twin"
        assert function not in twin.source.split()
        assert pair.target == twin.target == WITH_TWINS.meaning(twin.source)
    assert {pair.source for pair in split.test} == {
        pair.source for pair in SPLITS["random"].test if set(TWINNED) & set(pair.source.split())
    }
    assert overlap(split.train, split.test) == overlap(split.train, split.twins) == 0
    assert all(WITH_TWINS.meaning(pair.source) == pair.target for pair in split.train)
    assert substitutivity_split(SPLITS["random"], condition, primitives=20) == split


def test_twins_are_half_of_the_training_or_stand_alone():
    train = substitutivity_split(SPLITS["random"], "equally_distributed").train
    words = collections.Counter(word for pair in train for word in pair.source.split())
    for function in TWINNED:
        share = words[f"{function}_twin"] / (words[function] + words[f"{function}_twin"])
        assert share == pytest.approx(0.5, abs=0.06)
    assert [p.source.replace("_twin", "") for p in train] == [
        p.source for p in SPLITS["random"].train
    ]
    train = substitutivity_split(SPLITS["random"], "primitive", primitives=20).train
    assert train[: len(SPLITS["random"].train)] == SPLITS["random"].train
    added = train[len(SPLITS["random"].train) :]
    assert len(set(added)) == 80
    assert all(functions(pair.source) == 1 for pair in added)
    assert collections.Counter(pair.source.split()[0] for pair in added) == {
        f"{function}_twin": 20 for function in TWINNED
    }


def test_the_steps_are_those_of_the_published_file():
    """Two samples of its localism/unrolled_test.tsv."""
    assert localism_steps("reverse shift append V12 P3 R9 J8 , repeat K19 C16 P13") == (
        "repeat K19 C16 P13",
        "append V12 P3 R9 J8 , *1",
        "shift *2",
        "reverse *3",
    )
    assert localism_steps("remove_first echo R3 , copy remove_second shift D15 R20 , B17 U17") == (
        "echo R3",
        "shift D15 R20",
        "remove_second *2 , B17 U17",
        "copy *3",
        "remove_first *1 , *4",
    )


SOURCES = [pair.source for pair in PAIRS[:200]]


def test_learners_of_known_consistency():
    right = WITH_TWINS.meaning
    assert localism_consistency(lambda asked: [right(source) for source in asked], SOURCES) == 1.0
    # Always wrong, and always in the same way.
    assert localism_consistency(lambda asked: ["A1 B2" for _ in asked], SOURCES) == 1.0
    # Right about single functions only: the others are answered otherwise than step by step.
    single = [functions(source) == 1 for source in SOURCES]

    def local(asked):
        return [right(source) if functions(source) == 1 else "A1" for source in asked]

    expected = sum(
        one or right(source) == "A1" for one, source in zip(single, SOURCES, strict=True)
    )
    assert localism_consistency(local, SOURCES) == expected / len(SOURCES) < 0.1


def test_a_learners_own_answers_stand_for_the_parts():
    asked_for = []

    def mistaken(asked):
        asked_for.append(list(asked))
        return ["Z9" if source.startswith("echo") else "A1  B1" for source in asked]

    share = localism_consistency(mistaken, ["append echo A1 , repeat B2", "echo C3"])
    assert asked_for == [
        ["echo A1", "echo C3"],
        ["repeat B2"],
        ["append Z9 , A1 B1"],
        ["append echo A1 , repeat B2", "echo C3"],
    ]
    assert share == 1.0


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"name must be one of .*got 'localism'"):
        pcfg_set_split("localism", PAIRS)
    with pytest.raises(ValueError, match="name must be one of systematicity, productivity"):
        pcfg_set_forbids("random", "copy A1")
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match="test_share must lie in"):
            pcfg_set_split("random", PAIRS, test_share=share)
    with pytest.raises(ValueError, match="pairs, 1 of them, leave 1 to train on and 0 to test"):
        pcfg_set_split("systematicity", [Pair("copy A1", "A1")])
    with pytest.raises(ValueError, match=r"condition must be .*got 'both'"):
        substitutivity_split(SPLITS["random"], "both")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="primitives must be at least 1; got 0"):
        substitutivity_split(SPLITS["random"], "primitive", primitives=0)
    with pytest.raises(ValueError, match="split tests no sentence with any of swap_first_last"):
        substitutivity_split(Split((Pair("copy A1", "A1"),), (Pair("copy B2", "B2"),)), "primitive")
    with pytest.raises(ValueError, match="is not a sentence of PCFG-SET"):
        localism_steps("copy")
    with pytest.raises(ValueError, match="sources must not be empty"):
        localism_consistency(lambda asked: list(asked), [])
    with pytest.raises(ValueError, match="was asked 1 sources and gave 0 targets"):
        localism_consistency(lambda asked: [], ["copy A1"])
