"""A corpus: the text files below a folder, cut into passages that can be cited by their lines."""

import hashlib
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..bridge import Passage
from .markdown_spans import markdown_spans
from .python_spans import python_spans
from .spans import Span, plain_spans

PATTERNS = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "Makefile",
    "pyproject.toml",
    "docs/*.md",
    "conf/**/*.yaml",
    "experiments/*.py",
    "scripts/**/*.py",
    "sigma_jax/**/*.py",
    "sigma_jax/**/*.md",
)
"""The documents and code of this project. Not its tests: they would give answers away."""
EXCLUDED = ("sigma_jax/grounding/data",)
"""The golden set's own folder."""
MAX_BYTES = 2 * 2**20
"""A larger file is not read."""
MAX_LINE = 10_000
"""Nor one with a longer line: no passage can cut it."""

_SOURCE = re.compile(r"(.+):([1-9][0-9]{0,8})-([1-9][0-9]{0,8})", re.DOTALL)
_NEW_LINE = re.compile(r"\r\n|\n|\r")


class Skipped(NamedTuple):
    """A file that matches but was not read, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """What `read_corpus` has read. It does not look at the files again."""

    files: Mapping[str, tuple[str, ...]]
    """The lines of each file, by its path below the root."""
    passages: tuple[Passage, ...]
    """In order of path and line. Each text is exactly the lines that its source names."""
    contexts: tuple[str, ...]
    """For each passage the words that it stands under: path, headings, a table's header, names."""
    skipped: tuple[Skipped, ...]
    digest: str
    """Of the paths and contents of all files that were read: sha256, hexadecimal."""

    def resolve(self, source: str) -> str | None:
        """The exact lines that `path:first-last` names, or None if there are no such lines."""
        match = _SOURCE.fullmatch(source)
        if match is None:
            return None
        lines = self.files.get(match[1], ())
        first, last = int(match[2]), int(match[3])
        return "\n".join(lines[first - 1 : last]) if first <= last <= len(lines) else None


def read_corpus(
    root: str | Path,
    patterns: Sequence[str] = PATTERNS,
    *,
    exclude: Sequence[str] = EXCLUDED,
) -> Corpus:
    """Read the files below `root` that match, and cut them into passages.

    Markdown is cut at paragraphs, lists, code and groups of table rows; Python at definitions,
    constants and blocks of statements; other text at blank lines. No passage has more than 30
    lines, besides the headings above them. A file is left out, and listed with the reason, if it is
    binary (a NUL, or no UTF-8), is larger than 2 MiB, has a line of more than 10,000 characters,
    cannot be read, is no regular file, or is a link to outside the root.

    **Arguments:** `root`, a folder; `patterns` of paths below it, as `pathlib.Path.glob` takes
    them; `exclude`, files and folders below it that are left out, links to them too.

    **Raises** `ValueError` for a root that is no folder, patterns that are none or lead out of it,
    and if nothing that matches can be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"root must be a folder; got {str(root)!r}.")
    _require_patterns(patterns)
    found = {
        path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern)
    }
    top = os.path.realpath(root)
    closed = tuple(os.path.join(top, path) for path in exclude)
    texts: dict[str, str] = {}
    skipped = []
    digest = hashlib.sha256()
    for path in sorted(found):
        if _lies_in(os.path.join(top, path), closed):
            continue
        try:
            data = _read(top, path, closed)
            texts[path] = _decoded(data)
        except (_NotReadError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            printable = os.fsencode(path).decode(errors="replace")
            skipped.append(Skipped(printable, reason or type(error).__name__))
        else:
            for part in (path.encode(), data):
                digest.update(hashlib.sha256(part).digest())
    corpus = _cut(texts, tuple(skipped), digest.hexdigest())
    if not corpus.passages:
        raise ValueError(
            f"root {str(root)!r} has no text to read in files that match patterns "
            f"{tuple(patterns)}; skipped: {[tuple(item) for item in skipped[:5]]}."
        )
    return corpus


def _cut(texts: Mapping[str, str], skipped: tuple[Skipped, ...], digest: str) -> Corpus:
    files, passages, contexts = {}, [], []
    for path, text in texts.items():
        lines = _lines(text)
        files[path] = lines
        for first, last, context in _spans(path, lines):
            source = f"{path}:{first}-{last}"
            passages.append(Passage(source, "\n".join(lines[first - 1 : last])))
            contexts.append(f"{path} {context}".rstrip())
    return Corpus(files, tuple(passages), tuple(contexts), skipped, digest)


def _spans(path: str, lines: Sequence[str]) -> list[Span]:
    if path.endswith(".md"):
        return markdown_spans(lines)
    if path.endswith(".py"):
        return python_spans(lines)
    return plain_spans(lines)


def _lines(text: str) -> tuple[str, ...]:
    """As an editor counts them; `str.splitlines` also breaks at form feeds and the like."""
    lines = _NEW_LINE.split(text)
    return tuple(lines if lines[-1] else lines[:-1])


class _NotReadError(Exception):
    """The reason why a file is not read."""


def _read(top: str, path: str, closed: tuple[str, ...]) -> bytes:
    if os.fsencode(path).decode(errors="replace") != path:
        raise _NotReadError("its name is not UTF-8")
    real = os.path.realpath(os.path.join(top, path), strict=True)
    if not _lies_in(real, (top,)):
        raise _NotReadError("a link to outside the root")
    if _lies_in(real, closed):
        raise _NotReadError("a link to what is excluded")
    state = os.stat(real)
    if not stat.S_ISREG(state.st_mode):  # opening a pipe would wait for a writer
        raise _NotReadError("not a regular file")
    with open(real, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _NotReadError(f"larger than {MAX_BYTES} bytes")
    return data


def _decoded(data: bytes) -> str:
    if b"\0" in data:
        raise _NotReadError("binary: it has a NUL byte")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _NotReadError(f"not UTF-8: byte {error.start}") from None
    if max(map(len, _lines(text)), default=0) > MAX_LINE:
        raise _NotReadError(f"a line of more than {MAX_LINE} characters")
    return text


def _lies_in(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder + os.sep) for folder in folders)


def _require_patterns(patterns: Sequence[str]) -> None:
    good = not isinstance(patterns, str) and all(
        pattern and not pattern.startswith("/") and ".." not in pattern.split("/")
        for pattern in patterns
    )
    if not (good and patterns):
        raise ValueError(
            "patterns must be a sequence of relative patterns, such as 'docs/*.md', without '..'; "
            f"got {patterns!r}."
        )
