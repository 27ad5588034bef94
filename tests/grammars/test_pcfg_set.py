"""PCFG-SET against a stack machine, the published pairs and statistics, and bad input."""

import gzip
import hashlib
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.grammars import (
    PCFG_SET_FUNCTIONS,
    PCFG_SET_SYMBOLS,
    Grammar,
    Pair,
    PcfgSet,
    Tree,
    published_pcfg_set,
    read_pcfg_set,
    subtrees,
)

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "pcfg_set"
needs_published = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="the published files are not there"
)
LANGUAGE = PcfgSet()
SAMPLE = LANGUAGE.sample(2_000, 0)
UNARY = ("copy", "reverse", "shift", "echo", "swap_first_last", "repeat")


def by_stack(source: str) -> str:
    """The meaning by a stack machine that reads from the right and edits lists in place."""
    stack: list[list[str]] = []
    is_open = False  # whether the next symbol to the left goes on with the topmost string
    for word in reversed(source.split()):
        if word == ",":
            is_open = False
            continue
        if word in PCFG_SET_SYMBOLS:
            if not is_open:
                stack.append([])
            stack[-1].insert(0, word)
            is_open = True
            continue
        is_open = False
        first = list(stack.pop())
        name = word.removesuffix("_twin")
        if name == "reverse":
            first.reverse()
        elif name == "shift":
            first.append(first.pop(0))
        elif name == "echo":
            first.append(first[-1])
        elif name == "swap_first_last":
            first[0], first[-1] = first[-1], first[0]
        elif name == "repeat":
            first.extend(list(first))
        elif name != "copy":
            second = stack.pop()
            if name == "append":
                first.extend(second)
            elif name == "prepend":
                first[:0] = second
            elif name == "remove_first":
                first = second
        stack.append(first)
    (value,) = stack
    return " ".join(value)


strings = st.lists(st.sampled_from(PCFG_SET_SYMBOLS[:3]), min_size=1, max_size=4).map(" ".join)
calls = st.recursive(
    strings,
    lambda inner: st.one_of(
        st.builds("{} {}".format, st.sampled_from([*UNARY, "repeat_twin"]), inner),
        st.builds(
            "{} {} , {}".format,
            st.sampled_from([*PCFG_SET_FUNCTIONS[6:], "append_twin"]),
            inner,
            inner,
        ),
    ),
    max_leaves=6,
).filter(lambda text: text.split()[0] not in PCFG_SET_SYMBOLS)


@given(calls)
def test_meanings_and_trees_are_those_of_a_stack_machine(source):
    language = PcfgSet(symbols=3, twins=True)
    assert language.meaning(source) == by_stack(source)
    leaves = [node.label for node in subtrees(language.tree(source)) if not node.children]
    assert leaves == [word for word in source.split() if word in PCFG_SET_SYMBOLS]


def test_a_samples_meanings_are_those_of_a_stack_machine():
    assert all(by_stack(pair.source) == pair.target for pair in SAMPLE)


@given(calls)
def test_paraphrases_are_other_sentences_that_mean_the_same(source):
    language = PcfgSet(symbols=3, twins=True)
    paraphrases = language.paraphrases(source)
    assert source not in paraphrases
    assert len(set(paraphrases)) == len(paraphrases) > 0
    assert {by_stack(other) for other in paraphrases} == {by_stack(source)}
    assert {language.meaning(other) for other in paraphrases} == {language.meaning(source)}


def test_paraphrases_by_each_equation():
    def said(source, twins=False):
        return set(PcfgSet(twins=twins).paraphrases(source))

    assert said("repeat A1 B2") == {"append A1 B2 , A1 B2", "copy repeat A1 B2"}
    assert "repeat A1" in said("append A1 , A1")
    assert "prepend B2 , A1" in said("append A1 , B2")
    assert "remove_first B2 , A1" in said("remove_second A1 , B2")
    assert said("copy echo A1 B2") >= {"echo A1 B2"}
    assert said("copy A1 B2") == {"copy copy A1 B2"}  # a bare string is no sentence
    assert "echo A1 B2" in said("reverse reverse echo A1 B2")
    assert "echo swap_first_last A1 B2" in said(
        "echo swap_first_last swap_first_last swap_first_last A1 B2"
    )
    assert "append reverse B2 C3 , reverse A1" in said("reverse append A1 , B2 C3")
    assert "reverse append A1 , B2 C3" in said("append reverse B2 C3 , reverse A1")
    assert "shift repeat A1 B2" in said("repeat shift A1 B2")
    assert "repeat_twin A1" in said("repeat A1", twins=True) - said("repeat A1")


@needs_published
def test_every_published_pair_is_what_the_functions_give():
    counts = {"pcfgset_dev": 4_860, "pcfgset_test": 9_721, "systematicity_test": 10_175}
    for name, count in counts.items():
        pairs = published_pcfg_set(name, PUBLISHED)
        files = [PUBLISHED / f"{name}.{side}.gz" for side in ("src", "tgt")]
        assert pairs == read_pcfg_set(*files)
        assert len(pairs) == count
        assert all(LANGUAGE.meaning(pair.source) == pair.target for pair in pairs)


PUBLISHED_EXAMPLES = """\
reverse shift append V12 P3 R9 J8 , repeat K19 C16 P13 = V12 P13 C16 K19 P13 C16 K19 J8 R9 P3
echo shift remove_second K15 K16 T9 , F16 A13 A2 Y6 = K16 T9 K15 K15
remove_second Q14 D9 B18 F18 , remove_second append K14 D10 , R19 P7 , echo G6 I4 = Q14 D9 B18 F18
prepend swap_first_last copy O7 A2 B18 N13 , X10 Z14 W12 = X10 Z14 W12 N13 A2 B18 O7"""


def test_examples_as_published():
    for line in PUBLISHED_EXAMPLES.splitlines():
        source, target = line.split(" = ")
        assert LANGUAGE.meaning(source) == target


def test_the_tree_of_a_sentence():
    def text(*symbols):
        return Tree("string", tuple(Tree(symbol) for symbol in symbols))

    assert LANGUAGE.tree("append echo A1 B2 , C3") == Tree(
        "append", (Tree("echo", (text("A1", "B2"),)), text("C3"))
    )


def depth(tree: Tree) -> int:
    return 0 if tree.label == "string" else 1 + max(map(depth, tree.children))


def test_a_sample_has_the_published_statistics_about():
    """Means and medians of the published test set, counted once from its file."""
    words = [len(pair.source.split()) for pair in SAMPLE]
    functions = [sum(word in PCFG_SET_FUNCTIONS for word in pair.source.split()) for pair in SAMPLE]
    depths = [depth(LANGUAGE.tree(pair.source)) for pair in SAMPLE]
    assert statistics.mean(functions) == pytest.approx(5.12, abs=0.3)
    assert statistics.mean(depths) == pytest.approx(4.39, abs=0.25)
    assert statistics.mean(words) == pytest.approx(18.2, abs=1.0)
    assert statistics.median(functions) == 4
    assert statistics.median(depths) == 4
    assert statistics.median(words) == pytest.approx(16, abs=1)
    assert sum(count == 1 for count in functions) / len(SAMPLE) == pytest.approx(0.016, abs=0.01)


def test_a_sample_is_of_the_language_and_the_same_for_a_seed():
    assert isinstance(SAMPLE[0], Pair)
    assert len({pair.source for pair in SAMPLE}) == 2_000
    assert LANGUAGE.sample(100, 0) == SAMPLE[:100]
    assert LANGUAGE.sample(100, 1) != SAMPLE[:100]
    lines = sorted(f"{pair.source}\t{pair.target}\n" for pair in SAMPLE)
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    assert digest == "146175a16dac9091b092c7a5b81457410578dcc3a8cadd27f0505da53c1edd31"


def test_fewer_symbols_are_a_smaller_vocabulary():
    language = PcfgSet(symbols=20)
    words = {word for pair in language.sample(500, 3) for word in pair.source.split()}
    assert words == set(language.words)
    assert len(words) == 20 + 10 + 1


def test_it_is_a_grammar():
    grammar: Grammar = LANGUAGE
    assert grammar.name == "pcfg_set"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "missing"),
        ("A1 B2", "no function"),
        ("copy", "missing"),
        ("copy , A1", "missing"),
        ("append A1 B2", "two arguments"),
        ("append A1 ,", "missing"),
        ("copy A1 , B2", "should end"),
        ("A1 copy B2", "should end"),
        ("append A1 , B2 , C3", "should end"),
        ("copy a1", "'a1' is not a word"),
        ("append_twin A1 , B2", "'append_twin' is not a word"),
        ("copy " * 201 + "A1", "more than 200 functions"),
    ],
)
def test_other_text_is_refused(source, why):
    for ask in (LANGUAGE.meaning, LANGUAGE.tree, LANGUAGE.paraphrases):
        with pytest.raises(ValueError, match=f"is not a sentence of PCFG-SET: .*{why}"):
            ask(source)


def test_a_meaning_that_would_fill_the_memory_is_refused():
    with pytest.raises(ValueError, match="more than 10,000 symbols"):
        LANGUAGE.meaning("repeat " * 60 + "A1 B2")


def test_bad_arguments():
    with pytest.raises(ValueError, match="symbols must be from 2 to 520; got 1"):
        PcfgSet(symbols=1)
    with pytest.raises(ValueError, match="count must be at least 0; got -1"):
        LANGUAGE.sample(-1, 0)
    with pytest.raises(ValueError, match=r"name must be one of pcfgset_dev, .*got 'train'"):
        published_pcfg_set("train")


def test_files_that_are_no_pairs(tmp_path):
    sources, targets = tmp_path / "a.src", tmp_path / "a.tgt"
    sources.write_text("copy A1\nreverse A1 B2\n")
    targets.write_text("A1\nB2 A1\n")
    assert read_pcfg_set(sources, targets)[1] == Pair("reverse A1 B2", "B2 A1")
    targets.write_text("A1\n")
    with pytest.raises(ValueError, match=r"2 lines and .*a.tgt has 1"):
        read_pcfg_set(sources, targets)
    targets.write_text("A1\n\n")
    with pytest.raises(ValueError, match="line 2 of"):
        read_pcfg_set(sources, targets)
    packed = tmp_path / "a.tgt.gz"
    packed.write_bytes(gzip.compress(b"A1\nB2 A1\n")[:-9])
    with pytest.raises(ValueError, match="not a whole gzip file"):
        read_pcfg_set(sources, packed)
    packed.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="not a whole gzip file"):
        read_pcfg_set(sources, packed)
    targets.write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match="not text"):
        read_pcfg_set(sources, targets)
    with pytest.raises(FileNotFoundError):
        read_pcfg_set(sources, tmp_path / "none")


def test_a_published_file_with_other_contents_is_refused(tmp_path):
    (tmp_path / "pcfgset_dev.src").write_text("copy A1\n")
    with pytest.raises(ValueError, match="not the published file"):
        published_pcfg_set("pcfgset_dev", tmp_path)
