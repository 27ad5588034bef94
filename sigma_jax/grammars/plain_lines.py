"""The lines of a text file, plain or gzipped."""

import gzip
import zlib
from pathlib import Path


def read_lines(path: str | Path) -> list[str]:
    """The lines of the file at `path`, unpacked if its name ends in `.gz`.

    **Raises** `ValueError` for a broken gzip file or bytes that are not text; `OSError` if there is
    no such file.
    """
    contents = Path(path).read_bytes()
    try:
        if str(path).endswith(".gz"):
            contents = gzip.decompress(contents)
        return contents.decode("utf-8").splitlines()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8: {error}.") from None
