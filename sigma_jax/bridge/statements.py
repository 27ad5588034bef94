"""A passage, taken apart into what can be quoted: sentences, table rows, statements of code."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .requests import Passage

_PROSE = (".md", ".rst", ".txt")
_LINES = re.compile(r":[0-9]+-[0-9]+$")
_GAP = re.compile(r"(?<=[.!?])\s+(?=[^\sa-z])")
"""White space after an end, before anything but a small letter."""
_ABBREVIATED = re.compile(
    r"(?:^|[\s(])(?:[A-Z]|al|vs|cf|Eqs?|Sec|Figs?|Thm|Alg|App|Prop|Ch|No|pp?|e\.g|i\.e)\.$"
)
_OWN_LINE = re.compile(r"\s*(?:[-*+]\s|\d+[.)]\s|\|)")
_HEADING = re.compile(r"#{1,6}\s")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_TABLE_RULE = re.compile(r"[\s|:-]+")
_DOCSTRING = re.compile(r'\s*[rR]?"""')
_QUOTED = re.compile(r"""("|')(?:\\.|(?!\1)[^\\])*(?:\1|$)""")
_IMPORT = re.compile(r"(?:from\s+\S+\s+)?import\s")
_COMMENT = re.compile(r"\s#\s")
_MOST_LINES = 12
"""A logical line of code has no more, lest one lost bracket join all that follows."""


def path_of(passage: Passage) -> str:
    """The file that a passage stands in."""
    return _LINES.sub("", passage.source)


class Statement(NamedTuple):
    """A piece of a passage's text, as it stands there."""

    text: str
    explained: bool
    """It is prose, or code with a comment or docstring."""


def statements(passage: Passage) -> list[Statement]:
    """The statements of a passage, in order.

    Of prose (`.md`, `.rst`, `.txt`): sentences, list items, rows of tables, lines of fenced code;
    no headings. Of all else: each logical line of code with the comments above it and the first
    paragraph of the docstring below it, and the other sentences of docstrings; no imports.
    """
    prose = path_of(passage).endswith(_PROSE)
    parts = _of_prose(passage.text) if prose else _of_code(passage.text)
    return [
        Statement(stripped, explained)
        for part, explained in parts
        if (stripped := part.strip()) and not (not prose and _IMPORT.match(stripped))
    ]


def _of_prose(text: str) -> Iterator[tuple[str, bool]]:
    block: list[str] = []
    fenced = False
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        alone = fence or fenced or _HEADING.match(line) or not line.strip()
        if alone or _OWN_LINE.match(line):
            yield from _sentences("\n".join(block))
            block = []
        if fence:
            fenced = not fenced
        elif fenced:
            yield line, True
        elif not alone and not _TABLE_RULE.fullmatch(line):
            block.append(line)
    yield from _sentences("\n".join(block))


def _sentences(text: str) -> Iterator[tuple[str, bool]]:
    start = 0
    if not text.lstrip().startswith("|"):
        for gap in _GAP.finditer(text):
            if not _ABBREVIATED.search(text, max(0, gap.start() - 8), gap.start()):
                yield text[start : gap.start()], True
                start = gap.end()
    yield text[start:], True


def _of_code(text: str) -> Iterator[tuple[str, bool]]:
    lines = text.split("\n")
    number = comments = 0
    while number < len(lines):
        line = lines[number].strip()
        if not line or line.startswith("#"):
            comments = comments + 1 if line else 0
            number += 1
            continue
        end = number if _DOCSTRING.match(line) else _logical_end(lines, number)
        docstring = _docstring(lines, end)
        summary, _, rest = docstring.partition("\n\n") if end > number else ("", "", docstring)
        first = lines[number - comments : end]
        explained = bool(comments or summary or _COMMENT.search(lines[end - 1]))
        yield "\n".join([*first, summary] if summary else first), explained
        yield from _of_prose(_without_quotes(rest))
        number = end + docstring.count("\n") + bool(docstring)
        comments = 0
    if comments:
        yield "\n".join(lines[len(lines) - comments :]), True


def _logical_end(lines: Sequence[str], start: int) -> int:
    """The number of lines up to the end of the logical line at `start`: its brackets are closed."""
    depth = 0
    for number in range(start, min(start + _MOST_LINES, len(lines))):
        bare = _QUOTED.sub("", lines[number])
        depth += sum(bare.count(sign) for sign in "([{") - sum(bare.count(sign) for sign in ")]}")
        if depth <= 0:
            return number + 1
    return start + 1


def _docstring(lines: Sequence[str], start: int) -> str:
    """The docstring that opens at line `start`, or nothing if none does."""
    if start >= len(lines) or not _DOCSTRING.match(lines[start]):
        return ""
    for end in range(start, len(lines)):
        inside = _DOCSTRING.sub("", lines[end], count=1) if end == start else lines[end]
        if inside.rstrip().endswith('"""'):
            return "\n".join(lines[start : end + 1])
    return "\n".join(lines[start:])


def _without_quotes(docstring: str) -> str:
    opening = _DOCSTRING.match(docstring)
    return docstring[opening.end() if opening else 0 :].rstrip().removesuffix('"""')
