"""PCFG-SET as published: two text files, the sources and the targets, line by line."""

from pathlib import Path

from .._published import fetch
from .interface import Pair
from .plain_lines import read_lines

_HOME = "https://raw.githubusercontent.com/i-machine-think/am-i-compositional"
_FIRST = "3bdced8c0fd9218932d0b78b56ffdc81f14ff666"
_SECOND = "4d9cf128bf2037262d5d7979b78e5bb36bb33cd7"

# The commit, path and SHA-256 of the sources, and those of the targets.
_FILES = {
    "pcfgset_dev": (
        (
            f"{_FIRST}/data/pcfgset/pcfgset/dev.src",
            "67bd466f77b7acb9863ddbbbacb4784848bdfb9094c40e2f94955aff7cb75d0a",
        ),
        (
            f"{_FIRST}/data/pcfgset/pcfgset/dev.tgt",
            "95648e697cb86a8724d71d6e841f37eea27d15951091b134538906bfbf0d14d1",
        ),
    ),
    "pcfgset_test": (
        (
            f"{_FIRST}/data/pcfgset/pcfgset/test.src",
            "65af9357dc169a22629456be7cf43e97e275e076db10d72202d5389be7d8c0b2",
        ),
        (
            f"{_FIRST}/data/pcfgset/pcfgset/test.tgt",
            "7d23524995eb28a4726b3f1ffc11daec8f13692f7f804f4be20ca1a25c941517",
        ),
    ),
    "systematicity_test": (
        (
            f"{_FIRST}/data/pcfgset/systematicity/test.src",
            "9c47ccf869899e65c2c2cf530403c8fefdcb5de57787c9ff029dc7d9b8018941",
        ),
        (
            f"{_SECOND}/data/pcfgset/systematicity/test.tgt",
            "2896474cdeb151929bd85ed10aeeca37866e11dafa00f62e1660804f0dfc5a8a",
        ),
    ),
}


def published_pcfg_set(name: str, directory: str | Path | None = None) -> tuple[Pair, ...]:
    """Published pairs, loaded from their public home once and then from `directory`.

    The files are checked against their SHA-256, which the package has of three parts only; for
    others see `read_pcfg_set`, and `PcfgSet.sample` needs no file.

    **Arguments:** `name`, "pcfgset_dev" (4,860 pairs), "pcfgset_test" (9,721) or
    "systematicity_test" (10,175); `directory`, where the files, such as `pcfgset_test.src`, are or
    will be kept, by default a folder of the user's cache.

    **Raises** `ValueError` for another name or a file with other contents; `OSError` if a file is
    not there and cannot be fetched.

    Source: Hupkes, Dankers, Mul and Bruni (arXiv 1908.08351), MIT licence.
    """
    if name not in _FILES:
        raise ValueError(f"name must be one of {', '.join(_FILES)}; got {name!r}.")
    sources, targets = (
        fetch(
            # Behind the # stands what the file is called here: there, three are called "test.src".
            f"{_HOME}/{path}#/{name}{Path(path).suffix}",
            sha256,
            directory,
            instead="PcfgSet().sample needs no file",
        )
        .decode("ascii")
        .splitlines()
        for path, sha256 in _FILES[name]
    )
    return tuple(map(Pair, sources, targets))


def read_pcfg_set(sources: str | Path, targets: str | Path) -> tuple[Pair, ...]:
    """The pairs of two files in the published format, plain or `.gz`, line by line.

    Nothing is held against the grammar: the overgeneralisation files break it on purpose.

    **Raises** `ValueError` if the files differ in length, have an empty line or are no text;
    `OSError` if there is none.
    """
    source_lines, target_lines = read_lines(sources), read_lines(targets)
    if len(source_lines) != len(target_lines):
        raise ValueError(
            f"{sources} has {len(source_lines)} lines and {targets} has {len(target_lines)}: they "
            "are no pair."
        )
    pairs = []
    for number, (source, target) in enumerate(zip(source_lines, target_lines, strict=True), 1):
        if not source.strip() or not target.strip():
            raise ValueError(f"line {number} of {sources} or of {targets} is empty.")
        pairs.append(Pair(" ".join(source.split()), " ".join(target.split())))
    return tuple(pairs)
