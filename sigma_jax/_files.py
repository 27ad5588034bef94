"""Writing results: each file appears whole, under its name, or not at all."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_whole(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Call `write(temporary)` and rename what it wrote to `path`; on failure leave nothing.

    **Raises** `OSError` naming `path` if the disk is full or the folder cannot be written; any
    file that was at `path` before is then still there, unchanged.
    """
    path = Path(path)
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        partial = Path(name)
        write(partial)
        os.chmod(partial, 0o644)
        os.replace(partial, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return path


def write_text(path: str | Path, text: str) -> Path:
    """Write `text` to `path`, whole or not at all (see `write_whole`)."""
    return write_whole(path, lambda partial: partial.write_text(text, encoding="utf-8"))
