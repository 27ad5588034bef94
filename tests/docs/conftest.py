import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="session")
def run_page():
    """A function: runs all Python blocks of a page as one program, and gives its variables."""

    def run(name: str) -> dict:
        page = DOCS / name
        blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        assert blocks, f"{name} has no Python"
        scope: dict = {}
        exec(compile("\n".join(blocks), str(page), "exec"), scope)
        return scope

    return run
