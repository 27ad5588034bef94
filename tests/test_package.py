"""Every file imports, and every room says what it offers."""

import importlib
import inspect
import pkgutil
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import sigma_jax

MODULES = sorted(m.name for m in pkgutil.walk_packages(sigma_jax.__path__, "sigma_jax."))
ROOMS = sorted(f"sigma_jax.{m.name}" for m in pkgutil.iter_modules(sigma_jax.__path__) if m.ispkg)


@pytest.mark.parametrize("name", MODULES)
def test_module_imports(name: str) -> None:
    importlib.import_module(name)


@pytest.mark.parametrize("name", ROOMS)
def test_room_lists_its_public_names(name: str) -> None:
    room = importlib.import_module(name)
    assert room.__doc__, f"{name} does not say what it is for"
    assert hasattr(room, "__all__"), f"{name} does not define __all__"
    assert len(set(room.__all__)) == len(room.__all__), f"{name}.__all__ repeats a name"
    missing = [public for public in room.__all__ if not hasattr(room, public)]
    assert not missing, f"{name}.__all__ names what is not there: {missing}"


@pytest.mark.parametrize("name", ROOMS)
def test_public_names_are_documented(name: str) -> None:
    room = importlib.import_module(name)
    bare = [public for public in room.__all__ if not is_documented(getattr(room, public))]
    for public in room.__all__:
        bare += undocumented_methods(getattr(room, public))
    assert not bare, f"without a docstring in {name}: {bare}"


@pytest.mark.parametrize("name", ROOMS)
def test_no_file_is_called_like_a_public_name(name: str) -> None:
    """`from room import name` would be the file or the object, depending on who imported what."""
    room = importlib.import_module(name)
    files = {m.name for m in pkgutil.iter_modules(room.__path__)}
    clashes = {
        public for public in room.__all__ if not isinstance(getattr(room, public), ModuleType)
    } & files
    assert not clashes, f"rename these files of {name}: {sorted(clashes)}"


def test_version_is_the_same_everywhere() -> None:
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = re.search(r"(?m)^version: (\S+)$", (root / "CITATION.cff").read_text("utf-8"))
    assert citation
    assert sigma_jax.__version__ == project["version"] == citation[1]


def is_documented(value: object) -> bool:
    """Functions, classes and modules need words of their own; constants cannot carry any.

    A dataclass without a docstring is given its signature as one, and a subclass inherits its
    parent's: neither counts.
    """
    if inspect.isclass(value):
        doc = vars(value).get("__doc__") or ""
        return bool(doc) and not doc.startswith(f"{value.__name__}(")
    if inspect.ismodule(value) or inspect.isroutine(value):
        return bool(inspect.getdoc(value))
    # A function wrapped by `jit` keeps its docstring.
    return not callable(value) or bool(getattr(value, "__doc__", None))


def undocumented_methods(value: object) -> list[str]:
    """A class's own public methods without a docstring, neither theirs nor their parent's."""
    if not inspect.isclass(value):
        return []
    methods = (name for name in vars(value) if not name.startswith("_"))
    return [
        f"{value.__name__}.{name}"
        for name in methods
        if inspect.isroutine(getattr(value, name)) and not inspect.getdoc(getattr(value, name))
    ]
