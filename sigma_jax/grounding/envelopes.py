"""Envelopes: a claim, the evidence cited for it, how sure its author is, and who that is."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Evidence:
    """A citation: where it says so, and in which words.

    **Arguments:** `source`, such as `docs/model.md:12-18`; `quote`, words that stand there.

    **Raises** `ValueError` if either is not a text, or empty.
    """

    source: str
    quote: str

    def __post_init__(self) -> None:
        _require_text("source", self.source)
        _require_text("quote", self.quote)


@dataclass(frozen=True)
class Envelope:
    """What every output must be to be accepted. It may cite nothing: it is then ungrounded.

    **Arguments:** `claim`; `evidence`; `confidence` in [0, 1], as its author states it; `source`,
    who says it.

    **Raises** `ValueError` naming the field that is not of its type, empty, or out of its range.
    """

    claim: str
    evidence: tuple[Evidence, ...]
    confidence: float
    source: str

    def __post_init__(self) -> None:
        _require_text("claim", self.claim)
        _require_text("source", self.source)
        if not isinstance(self.evidence, tuple):
            raise ValueError(f"evidence must be a tuple of Evidence; got {self.evidence!r}.")
        for index, cited in enumerate(self.evidence):
            if not isinstance(cited, Evidence):
                raise ValueError(f"evidence[{index}] must be Evidence; got {cited!r}.")
        stated = self.confidence
        number = isinstance(stated, int | float) and not isinstance(stated, bool)
        if not number or not 0 <= stated <= 1:
            raise ValueError(f"confidence must be a number in [0, 1]; got {stated!r}.")


def envelope_from(fields: Any) -> Envelope:
    """The envelope that `fields` describe: a mapping that anyone may have written.

    It has `claim`, `evidence`, `confidence` and `source`, and nothing else; `evidence` is a list
    of mappings with `source` and `quote`. `dataclasses.asdict` of an envelope is one.

    **Raises** `ValueError` naming what is missing, too much, or wrong.
    """
    _require_fields("envelope", fields, ("claim", "evidence", "confidence", "source"))
    cited = fields["evidence"]
    if not isinstance(cited, list | tuple):
        raise ValueError(f"evidence must be a list; got {cited!r}.")
    evidence = []
    for index, entry in enumerate(cited):
        _require_fields(f"evidence[{index}]", entry, ("source", "quote"))
        try:
            evidence.append(Evidence(**entry))
        except ValueError as error:
            raise ValueError(f"evidence[{index}]: {error}") from None
    return Envelope(fields["claim"], tuple(evidence), fields["confidence"], fields["source"])


def coverage(outputs: Iterable[Any]) -> float | None:
    """The share of outputs that are well-formed envelopes; None if there are no outputs.

    **Arguments:** `outputs`: envelopes, or what might become one (see `envelope_from`), or None
    where nothing came.
    """
    formed = [isinstance(output, Envelope) or _is_envelope(output) for output in outputs]
    return sum(formed) / len(formed) if formed else None


def _is_envelope(fields: Any) -> bool:
    try:
        envelope_from(fields)
    except ValueError:
        return False
    return True


def _require_fields(name: str, fields: Any, wanted: tuple[str, ...]) -> None:
    if not isinstance(fields, Mapping):
        raise ValueError(f"{name} must be a mapping; got {fields!r}.")
    if set(fields) != set(wanted):
        raise ValueError(f"{name} must have the fields {', '.join(wanted)}; got {list(fields)}.")


def _require_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} must be a text that is not empty; got {value!r}.")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError(f"{name} must be valid Unicode; got {value!r}.")
