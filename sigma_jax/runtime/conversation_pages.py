"""A page of a conversation: one HTML file, which asks nobody for anything."""

import base64
import hashlib
import importlib.resources
import json
from collections.abc import Mapping
from typing import Any

_FILE = "data/conversation.html"
_SCRIPT = ("<script>", "</script>")
_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}


def conversation_page(view: Mapping[str, Any], *, source: str | None = None) -> str:
    """The HTML page of a conversation: its phase, charts over the turns, every turn, the facts.

    It loads nothing, so it can be mailed and kept. What users and models said is data in it: it
    is shown as text only, and the page's policy lets no script run but its own.

    **Arguments:** `view`, as `conversation_view` gives it; `source`, a URL on the server that the
    page comes from, which gives the view as JSON: the page asks it every two seconds.

    **Raises** `ValueError` for what JSON cannot say.
    """
    page = importlib.resources.files("sigma_jax.runtime").joinpath(_FILE).read_text("utf-8")
    script = page.rpartition(_SCRIPT[0])[2].partition(_SCRIPT[1])[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = json.dumps({"view": view, "source": source}, allow_nan=False)
    for character, escape in _ESCAPES.items():
        data = data.replace(character, escape)
    return page.replace("__SCRIPT_DIGEST__", digest, 1).replace("__DATA__", data, 1)
