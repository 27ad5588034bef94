"""Published files: fetched once from their public home, checked, and kept."""

import gzip
import hashlib
import os
import urllib.request
import zlib
from pathlib import Path

from ._files import write_whole

_SECONDS = 30.0  # without an answer


def fetch(url: str, sha256: str, directory: str | Path | None, *, instead: str) -> bytes:
    """The plain contents of the file at `url`, from `directory` if it is there, plain or as `.gz`.

    A file that is published as `.gz` is kept so.

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
            return _checked(candidate.read_bytes(), sha256, str(candidate))
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            contents = answer.read()
    except OSError as error:
        raise OSError(
            f"{path} is not there, and {url} cannot be fetched ({error}): put the file there, or "
            f"do without; {instead}."
        ) from error
    plain = _checked(contents, sha256, url)
    write_whole(path, lambda partial: partial.write_bytes(contents))
    return plain


def _default_directory() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return cache / "sigma_jax" / "published"


def _checked(contents: bytes, sha256: str, where: str) -> bytes:
    """The contents of what was found at `where`, unpacked if that ends in `.gz`."""
    plain = _unpacked(contents, where) if where.endswith(".gz") else contents
    found = hashlib.sha256(plain).hexdigest()
    if found != sha256:
        raise ValueError(f"{where} is not the published file: its SHA-256 is {found}.")
    return plain


def _unpacked(contents: bytes, where: str) -> bytes:
    try:
        return gzip.decompress(contents)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise ValueError(f"{where} is not a whole gzip file: {error}") from None
