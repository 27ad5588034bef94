"""JSON files that hold an object, read with errors that name them."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    **Raises** `FileNotFoundError` if it is not there, `ValueError` naming it if it is no object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} holds no {path.name}.")
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError(f"{path} must hold a JSON object; got {type(fields).__name__}.")
    return fields
