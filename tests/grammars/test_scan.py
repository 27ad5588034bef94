"""SCAN against its rules restated as rewriting, the counts of the paper, and bad input."""

import gzip
import hashlib
import itertools
import re

import pytest

from sigma_jax.grammars import (
    SCAN_ACTIONS,
    SCAN_COMMAND_WORDS,
    ScanPair,
    interpret_scan,
    published_scan_split,
    read_scan_file,
    scan_pairs,
    simple_scan_split,
)

PAIRS = scan_pairs()


def by_substitution(command: str) -> list[str]:
    """The paper's figure 7 as rewriting of text, from the inside out."""
    text = command
    for verb in ("walk", "look", "run", "jump"):
        text = re.sub(rf"\b{verb}\b", f"I_{verb.upper()}", text)
    text = re.sub(r"\bturn\b", "NOTHING", text)
    for turn, action in (("left", "I_TURN_LEFT"), ("right", "I_TURN_RIGHT")):
        text = re.sub(
            rf"(\w+) around {turn}", rf"({action} \1 {action} \1 {action} \1 {action} \1)", text
        )
        text = re.sub(rf"(\w+) opposite {turn}", rf"({action} {action} \1)", text)
        text = re.sub(rf"(\w+) {turn}\b", rf"({action} \1)", text)
    for word, count in (("twice", 2), ("thrice", 3)):
        text = re.sub(rf"(\([^)]*\)|\w+) {word}", lambda m, n=count: " ".join([m[1]] * n), text)
    if " after " in text:
        first, second = text.split(" after ")
        text = f"{second} {first}"
    return re.sub(r"[()]|NOTHING|\band\b", " ", text).split()


def test_every_pair_is_what_rewriting_gives():
    assert all(pair.actions.split() == by_substitution(pair.command) for pair in PAIRS)


def test_the_interpretation_of_every_command_is_its_actions():
    assert all(interpret_scan(pair.command) == pair.actions for pair in PAIRS)


def test_the_counts_are_those_of_the_paper():
    assert len(PAIRS) == len({pair.command for pair in PAIRS}) == 20_910
    assert max(len(pair.command.split()) for pair in PAIRS) == 9
    assert max(len(pair.actions.split()) for pair in PAIRS) == 48
    assert {word for pair in PAIRS for word in pair.command.split()} == set(SCAN_COMMAND_WORDS)
    assert {word for pair in PAIRS for word in pair.actions.split()} == set(SCAN_ACTIONS)
    # Splits of the paper that follow from a rule: longer than 22 actions; "jump" in company.
    assert sum(len(pair.actions.split()) > 22 for pair in PAIRS) == 3_920
    jumps = [p for p in PAIRS if "jump" in p.command.split() and p.command != "jump"]
    assert len(jumps) == 7_706


@pytest.mark.parametrize(
    ("command", "actions"),
    [
        ("jump", "I_JUMP"),
        ("turn left twice", "I_TURN_LEFT I_TURN_LEFT"),
        (
            "jump opposite left and walk thrice",
            "I_TURN_LEFT I_TURN_LEFT I_JUMP I_WALK I_WALK I_WALK",
        ),
        (
            "jump opposite left after walk around left",
            "I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK I_TURN_LEFT I_WALK "
            "I_TURN_LEFT I_TURN_LEFT I_JUMP",
        ),
    ],
)
def test_examples_of_the_paper(command, actions):
    assert interpret_scan(command) == actions


def test_no_other_arrangement_of_words_is_a_command():
    commands = {pair.command for pair in PAIRS}
    for length in range(4):
        for words in itertools.product(SCAN_COMMAND_WORDS, repeat=length):
            text = " ".join(words)
            if text in commands:
                assert interpret_scan(text)
            else:
                with pytest.raises(ValueError, match="is not a SCAN command"):
                    interpret_scan(text)


@pytest.mark.parametrize(
    "text", ["Jump", "jump and", "and jump", "jump and run and walk", "x" * 999]
)
def test_what_is_not_a_command(text):
    with pytest.raises(ValueError, match="is not a SCAN command"):
        interpret_scan(text)


def test_the_simple_split_divides_all_pairs():
    split = simple_scan_split()
    assert (len(split.train), len(split.test)) == (16_728, 4_182)
    assert {*split.train, *split.test} == set(PAIRS)
    # The first lines of the published test file.
    assert ScanPair(
        "run right twice after walk right twice",
        interpret_scan("run right twice after walk right twice"),
    ) in set(split.test)
    text = "\n".join(sorted(pair.command for pair in split.test))
    assert hashlib.sha256(text.encode()).hexdigest() == SIMPLE_TEST


SIMPLE_TEST = "42390d618c51e38d5a32c502ae561ddf8700eea0a43e2492a2dd8e7f7875566a"
"""SHA-256 of the commands of the published test file, sorted."""


def test_published_files_that_are_not_there_name_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(OSError, match="scan_split and scan_pairs need no file"):
        published_scan_split("simple", tmp_path)
    assert list(tmp_path.iterdir()) == []


def offline(*_, **__):
    raise OSError("no network")


class Answer:
    """What `urlopen` gives."""

    def __init__(self, contents: bytes):
        self.contents = contents

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def read(self) -> bytes:
        return self.contents


def test_a_download_with_other_contents_is_refused_and_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *_, **__: Answer(b"IN: jump OUT: I_JUMP\n")
    )
    with pytest.raises(ValueError, match="is not the published file"):
        published_scan_split("simple", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("tasks_train_simple.txt", b"IN: jump OUT: I_JUMP\n", "is not the published file"),
        ("tasks_train_simple.txt.gz", gzip.compress(b"nothing"), "is not the published file"),
        ("tasks_train_simple.txt.gz", gzip.compress(b"nothing")[:-4], "is not a whole gzip file"),
        ("tasks_train_simple.txt.gz", b"plain", "is not a whole gzip file"),
    ],
)
def test_a_file_with_other_contents_is_refused(name, contents, message, tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", offline)
    (tmp_path / name).write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        published_scan_split("simple", tmp_path)


def test_published_files_are_fetched_once_checked_and_kept(tmp_path, monkeypatch):
    """Of files written here in the published format, with their own checksums in place."""
    split = simple_scan_split()
    files = {
        part: "".join(f"IN: {c} OUT: {a} \n" for c, a in pairs).encode()
        for part, pairs in zip(("train", "test"), split, strict=True)
    }
    sums = {("simple", part): hashlib.sha256(text).hexdigest() for part, text in files.items()}
    monkeypatch.setattr("sigma_jax.grammars.scan._CHECKSUMS", sums)
    asked = []

    def serve(url, **_):
        asked.append(url)
        return Answer(files["train" if "train" in url else "test"])

    monkeypatch.setattr("urllib.request.urlopen", serve)
    assert published_scan_split("simple", tmp_path) == split
    assert [url.rsplit("/", 1)[1] for url in asked] == [
        "tasks_train_simple.txt",
        "tasks_test_simple.txt",
    ]
    monkeypatch.setattr("urllib.request.urlopen", offline)
    assert published_scan_split("simple", tmp_path) == split
    for path in list(tmp_path.iterdir()):
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert published_scan_split("simple", tmp_path) == split


def test_another_split_is_refused():
    with pytest.raises(ValueError, match=r"name must be one of simple, addprim_jump; got 'length'"):
        published_scan_split("length")


def test_a_file_in_the_published_format_is_read_plain_and_packed(tmp_path):
    text = b"IN: jump OUT: I_JUMP\nIN: turn left twice OUT: I_TURN_LEFT I_TURN_LEFT \n"
    (tmp_path / "few.txt").write_bytes(text)
    (tmp_path / "few.txt.gz").write_bytes(gzip.compress(text))
    for name in ("few.txt", "few.txt.gz"):
        assert read_scan_file(tmp_path / name) == (
            ("jump", "I_JUMP"),
            ("turn left twice", "I_TURN_LEFT I_TURN_LEFT"),
        )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("IN: hop OUT: I_HOP", "line 2: 'hop' is not a SCAN command"),
        ("IN: walk OUT: I_RUN", "line 2: 'walk' means I_WALK"),
        ("IN: walk", "line 2: a line has the form 'IN: command OUT: actions'; got 'IN: walk'"),
        ("walk OUT: I_WALK", "line 2: a line has the form"),
    ],
)
def test_a_file_with_a_wrong_line_is_refused_by_its_number(line, message, tmp_path):
    (tmp_path / "few.txt").write_text(f"IN: jump OUT: I_JUMP\n{line}\n")
    with pytest.raises(ValueError, match=message):
        read_scan_file(tmp_path / "few.txt")


def test_a_pair_is_called_by_its_own_words_and_the_general_ones():
    pair = ScanPair("jump twice", "I_JUMP I_JUMP")
    assert (pair.command, pair.actions) == (pair.source, pair.target) == tuple(pair)
