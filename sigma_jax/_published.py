"""Published files: fetched once from their public home, checked, and kept."""

import gzip
import hashlib
import os
import urllib.request
from pathlib import Path

from ._files import write_whole

_SECONDS = 30.0  # without an answer


def fetch(url: str, sha256: str, directory: str | Path | None, *, instead: str) -> bytes:
    """The contents of the file at `url`, from `directory` if it is there, plain or as `.gz`.

    **Arguments:** `sha256` of the plain contents; `directory`, by default a folder of the user's
    cache; `instead`, what the error says one can do without the file.

    **Raises** `ValueError` for other contents, in `directory` or at `url`; `OSError` if it is not
    there and cannot be fetched or kept.
    """
    folder = _default_directory() if directory is None else Path(directory)
    path = folder / url.rsplit("/", 1)[1]
    packed = path.with_name(path.name + ".gz")
    for candidate in (path, packed):
        if candidate.is_file():
            return _checked(_read(candidate), sha256, str(candidate))
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            contents = answer.read()
    except OSError as error:
        raise OSError(
            f"{path} is not there, and {url} cannot be fetched ({error}): put the file there, or "
            f"do without; {instead}."
        ) from error
    _checked(contents, sha256, url)
    write_whole(path, lambda partial: partial.write_bytes(contents))
    return contents


def _default_directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "sigma_jax" / "published"


def _read(path: Path) -> bytes:
    contents = path.read_bytes()
    if path.suffix != ".gz":
        return contents
    try:
        return gzip.decompress(contents)
    except (EOFError, OSError, ValueError) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from None


def _checked(contents: bytes, sha256: str, where: str) -> bytes:
    found = hashlib.sha256(contents).hexdigest()
    if found != sha256:
        raise ValueError(f"{where} is not the published file: its SHA-256 is {found}.")
    return contents
