"""The pages of errata and claims: complete, and every test they name exists."""

import ast
import functools
import re
from pathlib import Path

import pytest

from sigma_jax.predictions import PREDICTIONS

ROOT = Path(__file__).parents[2]
ERRATA, CLAIMS = ROOT / "docs" / "errata.md", ROOT / "docs" / "claims.md"
STATUSES = ("holds", "holds with a change", "does not hold", "not tested here")
# A test, with its file before two colons if it has one; not the name of a file.
NAMED = re.compile(r"(?:(tests/[\w/]+\.py)::)?\b(test_\w+)\b(?!\.py)")


def rows(page: Path, prefix: str) -> list[list[str]]:
    """The cells of every table row whose first cell is an id."""
    lines = page.read_text(encoding="utf-8").splitlines()
    cells = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in lines
        if line.startswith("|")
    ]
    return [row for row in cells if re.fullmatch(prefix + r"\d+", row[0])]


@functools.cache
def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@functools.cache
def errata_tests() -> set[str]:
    names = names_in(ROOT / "tests" / "schema" / "test_errata.py")
    return {name for name in names if name.startswith("test_")}


def test_every_erratum_has_exactly_one_row() -> None:
    ids = [row[0] for row in rows(ERRATA, "E-")]
    assert ids == [f"E-{number:02d}" for number in range(1, 80)]


def test_every_row_of_errata_is_complete() -> None:
    for row in rows(ERRATA, "E-"):
        assert len(row) == 5, row
        assert all(row), row
        named = [name for _, name in NAMED.findall(row[-1])]
        assert named or row[-1] in ("read", "not in this version"), row
        own = [name for name in named if name in errata_tests()]
        wrong = [name for name in own if not name.startswith(f"test_e{row[0][2:]}_")]
        assert not wrong, f"{row[0]} names another erratum's test: {wrong}"


def test_every_erratum_test_is_on_the_page() -> None:
    listed = {name for row in rows(ERRATA, "E-") for _, name in NAMED.findall(row[-1])}
    assert errata_tests() <= listed


def test_every_claim_has_a_status_and_evidence() -> None:
    claims, predictions = rows(CLAIMS, "C-"), rows(CLAIMS, r"(?:P|M|H6\.)")
    ids = [row[0] for row in claims + predictions]
    assert len(set(ids)) == len(ids)
    assert [row[0] for row in predictions] == list(PREDICTIONS)
    for width, table in ((4, claims), (5, predictions)):
        for row in table:
            assert len(row) == width, row
            assert re.split(r"[:,;]| for | at | with | under | where ", row[-2])[0] in STATUSES, row
            assert row[-1], row


@pytest.mark.parametrize("page", [ERRATA, CLAIMS], ids=lambda page: page.name)
def test_every_test_named_exists(page: Path) -> None:
    named = NAMED.findall(page.read_text(encoding="utf-8"))
    assert named
    missing = [
        name
        for file, name in named
        if name not in (names_in(ROOT / file) if file else errata_tests())
    ]
    assert not missing
