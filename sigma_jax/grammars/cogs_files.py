"""COGS as published: a table of sentence, logical form and type."""

from pathlib import Path

from .._published import fetch
from .interface import Pair
from .plain_lines import read_lines

_HOME = "https://raw.githubusercontent.com/najoungkim/COGS"
# The commit and path, and the SHA-256.
_FILES = {
    "train": (
        "29bcfe53d1c2646493dec895e96c719df0cae802/cogs/train.tsv",
        "220b3804b562c0156ee986eff1bdd15c27e52142549362a64f57baf86e304c78",
    ),
    "dev": (
        "86c9be5929c3b86b510afdfe56a4df9d5d341ab9/data/dev.tsv",
        "ab66388a309c7ac1ad210c781a6a0ce12281a9ef24619a12422a752cef61bc21",
    ),
    "test": (
        "29bcfe53d1c2646493dec895e96c719df0cae802/cogs/test.tsv",
        "68f8e51e9f6d9cd22d64efe68dd21d7ea5ba327e9a2359481030161aea757035",
    ),
}

CogsByType = dict[str, tuple[Pair, ...]]
"""The pairs of each type, such as "in_distribution", in the order of the file."""


def published_cogs(part: str, directory: str | Path | None = None) -> CogsByType:
    """A published set, loaded from its public home once and then from `directory`.

    The files are checked against their SHA-256, which the package does not have of the
    generalisation set: `read_cogs` reads it, and `cogs_like_splits` makes one without a file.

    **Arguments:** `part`, "train" (24,155 pairs), "dev" or "test" (3,000 each); `directory`, where
    the file, such as `cogs_train.tsv`, is or will be kept, by default a folder of the user's cache.

    **Raises** `ValueError` for another part or a file with other contents; `OSError` if it is not
    there and cannot be fetched.

    Source: Kim and Linzen (arXiv 2010.05465), MIT licence.
    """
    if part not in _FILES:
        raise ValueError(f"part must be one of {', '.join(_FILES)}; got {part!r}.")
    path, sha256 = _FILES[part]
    contents = fetch(
        f"{_HOME}/{path}#/cogs_{part}.tsv",  # behind the #, what the file is called here
        sha256,
        directory,
        instead="cogs_like_splits needs no file",
    )
    return _by_type(contents.decode("utf-8").splitlines(), f"COGS {part}")


def read_cogs(path: str | Path) -> CogsByType:
    """The pairs of a file in the published format, plain or `.gz`, by type.

    A line is a sentence, its logical form and its type, separated by tabs. Nothing is held against
    a grammar.

    **Raises** `ValueError` for a line of another form, or a file without any; `OSError` if there
    is none.
    """
    return _by_type(read_lines(path), str(path))


def _by_type(lines: list[str], where: str) -> CogsByType:
    if not lines:
        raise ValueError(f"{where} is empty.")
    found: dict[str, list[Pair]] = {}
    for number, line in enumerate(lines, 1):
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or not all(fields):
            raise ValueError(
                f"{where}, line {number}: a line is a sentence, its logical form and its type, "
                f"separated by tabs; got {line!r}."
            )
        source, target, kind = fields
        found.setdefault(kind, []).append(Pair(source, target))
    return {kind: tuple(pairs) for kind, pairs in found.items()}
