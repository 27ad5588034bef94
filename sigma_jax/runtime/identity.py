"""Who a model is to be in a conversation: the text that says so, and what can be checked of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .checks import Constraint, check_from_json


@dataclass(frozen=True)
class Identity:
    """A name, a description for the prompt, and constraints that hold in every reply.

    **Arguments:** `name`; `description`, in the second person, as the model is told it;
    `constraints`, each with its wording and, where a machine can tell, a check; `motifs`, words
    that stand for the work, offered when the conversation strays; `rules` of the house, said first.

    **Raises** `ValueError` for an empty name or description, or two constraints of one name.
    """

    name: str
    description: str
    constraints: tuple[Constraint, ...] = ()
    motifs: tuple[str, ...] = ()
    rules: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "description"):
            if not getattr(self, field).strip():
                raise ValueError(f"{field} of an identity must not be empty.")
        names = [constraint.name for constraint in self.constraints]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"constraints must have different names; twice: {', '.join(twice)}.")

    @property
    def text(self) -> str:
        """The description and the constraints, a line each, as they stand in the prompt."""
        lines = [f"- {constraint.text}" for constraint in self.constraints]
        return "\n".join([self.description, *(["In every reply:", *lines] if lines else [])])

    @property
    def digest(self) -> str:
        """Hexadecimal SHA-256 of all that the identity is."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    @property
    def told_digest(self) -> str:
        """Hexadecimal SHA-256 of what the model is told of it: a calibration depends on no more."""
        return hashlib.sha256(f"{self.rules}\n\n{self.text}".encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """What `identity_from_json` reads."""
        return {
            "name": self.name,
            "description": self.description,
            "rules": self.rules,
            "motifs": list(self.motifs),
            "constraints": [
                {
                    "name": constraint.name,
                    "text": constraint.text,
                    "hard": constraint.hard,
                    "check": None if constraint.check is None else constraint.check.to_json(),
                }
                for constraint in self.constraints
            ],
        }


ASSISTANT = Identity("assistant", "You are a helpful assistant.")
"""Who answers when nobody said who should."""


def identity_from_json(given: Mapping[str, Any]) -> Identity:
    """The identity that a mapping of `Identity.to_json`'s form describes.

    **Raises** `ValueError` naming a field that is missing, unknown or of another kind.
    """
    known = {"name", "description", "rules", "motifs", "constraints"}
    unknown = sorted(set(given) - known)
    if unknown:
        raise ValueError(
            f"identity has no field {unknown[0]!r}; it has {', '.join(sorted(known))}."
        )
    for field in ("name", "description", "rules"):
        if not isinstance(given.get(field, "" if field == "rules" else None), str):
            raise ValueError(f"identity.{field} must be a text; got {given.get(field)!r}.")
    motifs = given.get("motifs", [])
    if not isinstance(motifs, list) or not all(isinstance(motif, str) for motif in motifs):
        raise ValueError(f"identity.motifs must be a list of texts; got {motifs!r}.")
    constraints = given.get("constraints", [])
    if not isinstance(constraints, list):
        raise ValueError(f"identity.constraints must be a list; got {constraints!r}.")
    return Identity(
        name=given["name"],
        description=given["description"],
        constraints=tuple(_constraint(each) for each in constraints),
        motifs=tuple(motifs),
        rules=given.get("rules", ""),
    )


def read_identity(path: str | Path) -> Identity:
    """The identity in a JSON file.

    **Raises** `ValueError` naming the file and what is wrong with it.
    """
    try:
        given = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise ValueError("it must hold one JSON object")
        return identity_from_json(given)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is not an identity: {error}") from None


def _constraint(given: Any) -> Constraint:
    if not isinstance(given, dict) or not all(
        isinstance(given.get(field), str) for field in ("name", "text")
    ):
        raise ValueError(f"a constraint needs a name and a text; got {given!r}.")
    check = given.get("check")
    return Constraint(
        name=given["name"],
        text=given["text"],
        check=None if check is None else check_from_json(check),
        hard=bool(given.get("hard", True)),
    )
