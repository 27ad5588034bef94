"""SCAN: commands such as "jump around left twice" and the actions that they mean.

The phrase-structure grammar and its interpretation are those of Lake and Baroni, "Generalization
without Systematicity" (arXiv 1711.00350), figures 6 and 7.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path

import numpy as np

from .._published import fetch
from .interface import Pair, Split
from .plain_lines import read_lines

VERBS = ("walk", "look", "run", "jump")
DIRECTIONS = ("left", "right")
SCAN_COMMAND_WORDS = (
    *VERBS,
    "turn",
    *DIRECTIONS,
    "opposite",
    "around",
    "twice",
    "thrice",
    "and",
    "after",
)
"""The words that commands are made of."""
SCAN_ACTIONS = ("I_WALK", "I_LOOK", "I_RUN", "I_JUMP", "I_TURN_LEFT", "I_TURN_RIGHT")
"""The actions, as the published files write them."""

_TIMES = {"twice": 2, "thrice": 3}

_FILES = {
    "simple": "simple_split/tasks_{part}_simple.txt",
    "addprim_jump": "add_prim_split/tasks_{part}_addprim_jump.txt",
}
_CHECKSUMS = {
    ("simple", "train"): "941bb8a088c5f53ceff12fde902dc008933cf0c4203cc672c47b5f79d73262dd",
    ("simple", "test"): "1fe1c8f5a19d0dc40e41bab94278f45f66f3dc415a978bd29855a23440610fc6",
    ("addprim_jump", "train"): "e3c78485692e028eed4205e1b8b3fd0e785ef2c12d45b5b89204dadf5b239e23",
    ("addprim_jump", "test"): "8147ae2651422c701162e174d9d66158daa57858a26b30317ac61797118ac7a5",
}
_HOME = (
    "https://raw.githubusercontent.com/brendenlake/SCAN/c4b756cbc010d75c912f16c42c8f15dc6b7e6c8f"
)


class ScanPair(Pair):
    """A command, and its actions separated by spaces."""

    __slots__ = ()

    @property
    def command(self) -> str:
        """The source."""
        return self.source

    @property
    def actions(self) -> str:
        """The target."""
        return self.target


@lru_cache(maxsize=1)
def scan_pairs() -> tuple[ScanPair, ...]:
    """All 20,910 commands of the grammar with their actions, in the order of its rules."""
    verb_phrases = [*VERBS]
    for verb in (*VERBS, "turn"):
        for manner in ("", "opposite ", "around "):
            verb_phrases += [f"{verb} {manner}{direction}" for direction in DIRECTIONS]
    sentences = [phrase + times for phrase in verb_phrases for times in ("", " twice", " thrice")]
    actions = {sentence: _sentence(sentence.split()) for sentence in sentences}
    pairs = [ScanPair(sentence, " ".join(actions[sentence])) for sentence in sentences]
    for first in sentences:
        for second in sentences:
            one, two = actions[first], actions[second]
            pairs.append(ScanPair(f"{first} and {second}", " ".join(one + two)))
            pairs.append(ScanPair(f"{first} after {second}", " ".join(two + one)))
    return tuple(pairs)


def interpret_scan(command: str) -> str:
    """The actions that a command means.

    **Raises** `ValueError` for text that is not a command of the grammar.
    """
    words = command.split()
    try:
        for conjunction in ("and", "after"):
            if conjunction in words:
                at = words.index(conjunction)
                one, two = _sentence(words[:at]), _sentence(words[at + 1 :])
                return " ".join(one + two if conjunction == "and" else two + one)
        return " ".join(_sentence(words))
    except _NotScan:
        raise ValueError(f"{command!r} is not a SCAN command.") from None


class _NotScan(Exception):
    """The words are not those of a command."""


def _sentence(words: Sequence[str]) -> list[str]:
    """S → V twice | V thrice | V."""
    if words and words[-1] in _TIMES:
        return _verb_phrase(words[:-1]) * _TIMES[words[-1]]
    return _verb_phrase(words)


def _verb_phrase(words: Sequence[str]) -> list[str]:
    """V → D opposite | D around | D | U, the manner standing before the direction."""
    verb, *rest = words or ("",)
    if verb not in (*VERBS, "turn") or (verb == "turn" and not rest):
        raise _NotScan
    act = [] if verb == "turn" else [f"I_{verb.upper()}"]
    if not rest:
        return act
    manner, direction = rest if len(rest) == 2 else ("", rest[0])
    if len(rest) > 2 or manner not in ("", "opposite", "around") or direction not in DIRECTIONS:
        raise _NotScan
    turn = [f"I_TURN_{direction.upper()}"]
    if manner == "around":
        return (turn + act) * 4
    return (turn * 2 if manner == "opposite" else turn) + act


def simple_scan_split() -> Split[ScanPair]:
    """The simple split, 16,728 and 4,182 pairs, in the order of the grammar's rules.

    Its members were drawn at random once and cannot be had from the rules, so which of the
    commands are in the test is kept in the package, one bit each.

    Source: Lake and Baroni (arXiv 1711.00350), experiment 1; `published_scan_split` has the files.
    """
    pairs = scan_pairs()
    packed = (
        resources.files(__name__.rpartition(".")[0]) / "data" / "scan_simple_test.bin"
    ).read_bytes()
    in_test = np.unpackbits(np.frombuffer(packed, np.uint8), count=len(pairs)).astype(bool)
    return Split(
        train=tuple(pair for pair, chosen in zip(pairs, in_test, strict=True) if not chosen),
        test=tuple(pair for pair, chosen in zip(pairs, in_test, strict=True) if chosen),
    )


def published_scan_split(name: str, directory: str | None = None) -> Split[ScanPair]:
    """A published split, loaded from its public home once and then from `directory`.

    The files are checked against their SHA-256, which the package has of two splits only;
    `scan_split` derives these and the others from their rules, without a file, and
    `read_scan_file` reads a file that is there. `addprim_jump` repeats the command "jump" 1,467
    times in its training part, as published.

    **Arguments:** `name`, "simple" or "addprim_jump"; `directory`, where the files are or will be
    kept, by default a folder of the user's cache. Files that are there already need no network.

    **Raises** `ValueError` for another name or a file with other contents; `OSError` if a file is
    not there and cannot be fetched.

    Source: Lake and Baroni (arXiv 1711.00350), BSD licence.
    """
    if name not in _FILES:
        raise ValueError(
            f"name must be one of {', '.join(_FILES)}; got {name!r}. scan_split derives the others."
        )
    return Split(_published(name, "train", directory), _published(name, "test", directory))


def read_scan_file(path: str | Path) -> tuple[ScanPair, ...]:
    """The pairs of a file in the published format, plain or `.gz`: "IN: jump OUT: I_JUMP".

    For splits that no rule gives, such as few-shot. Every line is held against the grammar.

    **Raises** `ValueError` for a line of another form, a command that is not of the grammar, or
    actions that it does not mean; `OSError` if the file cannot be read.
    """
    pairs = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            pair = _pair(line)
            meant = interpret_scan(pair.source)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        if pair.target != meant:
            raise ValueError(f"{path}, line {number}: {pair.source!r} means {meant}.")
        pairs.append(pair)
    return tuple(pairs)


def _published(name: str, part: str, directory: str | None) -> tuple[ScanPair, ...]:
    file = _FILES[name].format(part=part)
    text = fetch(
        f"{_HOME}/{file}",
        _CHECKSUMS[name, part],
        directory,
        instead="scan_split and scan_pairs need no file",
    )
    return tuple(_pair(line) for line in text.decode("ascii").splitlines())


def _pair(line: str) -> ScanPair:
    command, out, actions = line.removeprefix("IN: ").partition(" OUT: ")
    if not out or not line.startswith("IN: "):
        raise ValueError(f"a line has the form 'IN: command OUT: actions'; got {line!r}.")
    return ScanPair(command, actions.strip())
