"""The published splits of SCAN that follow from a rule, derived from it."""

from functools import lru_cache
from typing import NamedTuple

from .interface import Split
from .scan import VERBS, ScanPair, interpret_scan, scan_pairs, simple_scan_split

_LONGEST = 22  # actions of a command that the length split trains on
_PER_PRIMITIVE = 9  # other commands for each repeat of the primitive, which is thus one in ten


class _Rule(NamedTuple):
    """Which verb phrases, with "twice" and "thrice" or without, put a command where."""

    test: frozenset[str]
    """A command with one of these is tested."""
    absent: frozenset[str] = frozenset()
    """A command with one of these is in neither part."""
    untrained: frozenset[str] = frozenset()
    """A command with one of these is not trained on; it may be tested."""
    primitive: str | None = None
    """A command of a `test` phrase alone, trained on as often as makes a tenth of the part."""


def _each(template: str, verbs: tuple[str, ...] = VERBS) -> frozenset[str]:
    return frozenset(template.format(verb) for verb in verbs)


def _filler(count: int) -> _Rule:
    """The fillers look, walk and run, of which the first `count` are trained on."""
    others = ("look", "walk", "run")[count:]
    return _Rule(
        test=frozenset({"jump around right"}),
        absent=frozenset({"turn around right"}),
        untrained=_each("{} around right", others),
    )


_RULES = {
    "addprim_jump": _Rule(
        frozenset({"jump"}).union(
            f"jump {manner}{direction}"
            for manner in ("", "opposite ", "around ")
            for direction in ("left", "right")
        ),
        primitive="jump",
    ),
    "addprim_turn_left": _Rule(frozenset({"turn left"}), primitive="turn left"),
    "template_around_right": _Rule(_each("{} around right"), frozenset({"turn around right"})),
    "template_jump_around_right": _filler(3),
    "template_opposite_right": _Rule(
        _each("{} opposite right"), frozenset({"turn opposite right"})
    ),
    "template_right": _Rule(_each("{} right"), frozenset({"turn right"})),
    "filler_num0": _filler(0),
    "filler_num1": _filler(1),
    "filler_num2": _filler(2),
    "filler_num3": _filler(3),
}

SCAN_SPLITS = ("simple", "length", *_RULES)
"""The names of the published splits that `scan_split` makes."""


def scan_split(name: str) -> Split[ScanPair]:
    """A published split of SCAN, made without a file, in the order of the grammar's rules.

    | name | trained on | tested on |
    |---|---|---|
    | `simple` | 16,728 commands | 4,182 others, drawn at random by the authors |
    | `length` | 16,990 of at most 22 actions | 3,920 of 24 to 48 |
    | `addprim_jump` | 13,203 without "jump", and "jump" 1,467 times | 7,706: "jump" in company |
    | `addprim_turn_left` | 19,701, and "turn left" 2,189 times | 1,208: "turn left" in company |
    | `template_around_right` | 15,225 | 4,476 with "around right" after a verb |
    | `template_opposite_right` | 15,225 | 4,476 with "opposite right" after a verb |
    | `template_right` | 15,225 | 4,476 with "right" straight after a verb |
    | `template_jump_around_right` | 18,528 | 1,173 with "jump around right" |
    | `filler_num0` | 15,225 | the same 1,173; no verb trained on "around right" |
    | `filler_num1` | 16,290 | the same; "look around right" trained on |
    | `filler_num2` | 17,391 | the same; "walk around right" too |
    | `filler_num3` | 18,528 | the same; "run around right" too |

    "turn" is not one of the verbs: as published, "turn around right" ("turn opposite right", "turn
    right") is in neither part of its template's split, and "turn around right" in none by filler.

    Published too, but drawn at random, so that no rule gives them: few-shot (`num1` to `num1024`),
    the sizes of `simple`, the complex examples of `addprim_jump`. `read_scan_file` reads the files
    of these.

    **Raises** `ValueError` for another name.

    Source: Lake and Baroni (arXiv 1711.00350), experiments 1 to 3; Loula, Baroni and Lake,
    "Rearranging the Familiar" (arXiv 1807.07545).
    """
    _require_name(name)
    if name == "simple":
        return simple_scan_split()
    train, held_out = [], []
    for pair in scan_pairs():
        (held_out if scan_forbids(name, pair.source) else train).append(pair)
    if name == "length":
        return Split(tuple(train), tuple(held_out))
    rule = _RULES[name]
    if rule.primitive is not None:
        primitive = ScanPair(rule.primitive, interpret_scan(rule.primitive))
        train += [primitive] * ((len(train) - 1) // _PER_PRIMITIVE - 1)
    phrases = [_verb_phrases(pair.source) for pair in held_out]
    tested = [bool(some & rule.test) and not some & rule.absent for some in phrases]
    return Split(
        tuple(train), tuple(pair for pair, is_in in zip(held_out, tested, strict=True) if is_in)
    )


def scan_forbids(name: str, command: str) -> bool:
    """Whether the split `name` keeps `command` from training, by its rule or as a test command.

    For the leak check of whatever is added to the training commands: probes, paraphrases.

    **Raises** `ValueError` for another name, and for text that is not a command.
    """
    _require_name(name)
    actions = interpret_scan(command)
    command = " ".join(command.split())
    if name == "simple":
        return command in _simple_test()
    if name == "length":
        return len(actions.split()) > _LONGEST
    rule = _RULES[name]
    forbidden = rule.test | rule.absent | rule.untrained
    return command != rule.primitive and not forbidden.isdisjoint(_verb_phrases(command))


@lru_cache(maxsize=1)
def _simple_test() -> frozenset[str]:
    return frozenset(pair.source for pair in simple_scan_split().test)


def _verb_phrases(command: str) -> set[str]:
    """The one or two phrases V of a command, as text."""
    sentences = command.replace(" after ", " and ").split(" and ")
    return {sentence.removesuffix(" twice").removesuffix(" thrice") for sentence in sentences}


def _require_name(name: str) -> None:
    if name not in SCAN_SPLITS:
        raise ValueError(f"name must be one of {', '.join(SCAN_SPLITS)}; got {name!r}.")
