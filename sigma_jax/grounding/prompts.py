"""Prompts with rubrics and sources: the golden set of this project, and sets of one's own."""

import json
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from .rubrics import parse_rubric

DIFFICULTIES = ("smoke", "easy", "medium", "hard")
"""From what takes no thought to what takes two passages or a reason."""

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


class PromptSource(NamedTuple):
    """Where the answer to a prompt can be read."""

    path: str
    """Of a file, from the root of the project, with `/`."""
    quote: str
    """What the file says there, letter for letter."""


@dataclass(frozen=True)
class Prompt:
    """One question of a golden set.

    **Arguments:** `id`, of lower-case words joined by hyphens; `difficulty`, one of `DIFFICULTIES`;
    `category`, the subject; `prompt`, what is asked; `rubric`, see `meets`; `sources`, one at
    least.

    **Raises** `ValueError`, naming the field, what it is and what it may be.
    """

    id: str
    difficulty: str
    category: str
    prompt: str
    rubric: str
    sources: tuple[PromptSource, ...]

    def __post_init__(self) -> None:
        for name in ("id", "difficulty", "category", "prompt", "rubric"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"{name} must be a text, not empty; got {reprlib.repr(value)}.")
        if not _SLUG.fullmatch(self.id):
            raise ValueError(f"id must be lower-case words joined by hyphens; got {self.id!r}.")
        if self.difficulty not in DIFFICULTIES:
            allowed = ", ".join(DIFFICULTIES)
            raise ValueError(f"difficulty must be one of {allowed}; got {self.difficulty!r}.")
        parse_rubric(self.rubric)
        if not self.sources:
            raise ValueError("sources must hold at least one source; got none.")
        for source in self.sources:
            _check_source(source)


class UnresolvedSource(NamedTuple):
    """A source that does not say what a prompt needs, and why."""

    id: str
    """Of the prompt."""
    source: PromptSource
    reason: str


def golden_set() -> tuple[Prompt, ...]:
    """The 120 prompts over this project's own documents and code, 30 of each difficulty.

    Half of the smoke prompts are SCAN commands, as the kernel that travels with the package answers
    them; all others are questions that the documents and the code answer. The sources are files of
    a checkout (`unresolved`).
    """
    file = resources.files(__name__.rpartition(".")[0]) / "data" / "golden_set.jsonl"
    return _parsed(file.read_bytes(), "golden_set.jsonl")


def load_prompts(path: str | Path) -> tuple[Prompt, ...]:
    """The prompts of a file: one JSON object a line, with the fields of `Prompt`.

    A source is an object with `path` and `quote`. Empty lines are passed over.

    **Raises** `ValueError` naming the file, the number of the line and what is wrong with it, or
    that it holds no prompt; `OSError` if it cannot be read.
    """
    path = Path(path)
    return _parsed(path.read_bytes(), str(path))


def unresolved(prompts: Iterable[Prompt], root: str | Path) -> list[UnresolvedSource]:
    """The sources of `prompts` that are not to be found below `root`: none, if all is well."""
    texts: dict[str, str | None] = {}
    found = []
    for prompt in prompts:
        for source in prompt.sources:
            if source.path not in texts:
                texts[source.path] = _text(Path(root) / source.path)
            text = texts[source.path]
            if text is None:
                reason = "there is no such text file"
                found.append(UnresolvedSource(prompt.id, source, reason))
            elif source.quote not in text:
                reason = "the file does not hold the quote"
                found.append(UnresolvedSource(prompt.id, source, reason))
    return found


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _parsed(contents: bytes, where: str) -> tuple[Prompt, ...]:
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(contents.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            prompt = _prompt(line)
            if prompt.id in prompts:
                raise ValueError(f"id {prompt.id!r} is there twice.")
        except ValueError as error:
            raise ValueError(f"{where}, line {number}: {error}") from None
        prompts[prompt.id] = prompt
    if not prompts:
        raise ValueError(f"{where} must hold at least one prompt; it holds none.")
    return tuple(prompts.values())


def _prompt(line: bytes) -> Prompt:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON in UTF-8: {error}") from None
    values = _fields("a prompt", record, tuple(field.name for field in fields(Prompt)))
    if not isinstance(values["sources"], list):
        raise ValueError(
            f"sources must be a list of objects; got {reprlib.repr(values['sources'])}."
        )
    sources = [_fields("a source", each, PromptSource._fields) for each in values["sources"]]
    texts = {name: value for name, value in values.items() if name != "sources"}
    return Prompt(**texts, sources=tuple(PromptSource(**each) for each in sources))


def _fields(what: str, record: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a JSON object that must have these and no others."""
    if not isinstance(record, dict):
        raise ValueError(f"{what} must be an object; got {reprlib.repr(record)}.")
    if set(record) != set(names):
        raise ValueError(
            f"{what} must have the fields {', '.join(names)}; got {', '.join(record) or 'none'}."
        )
    return record


def _check_source(source: PromptSource) -> None:
    for name, value in source._asdict().items():
        if not isinstance(value, str) or not value.strip():
            raise ValueError(
                f"{name} of a source must be a text, not empty; got {reprlib.repr(value)}."
            )
    path = PurePosixPath(source.path)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(
            f"path of a source must lead below the project's root; got {source.path!r}."
        )
