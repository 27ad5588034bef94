"""Distillation: what a kernel can learn from a ledger, and what is kept back to test it on.

Source: Σ₀-K1, component 9: retrieve, reason, verify, record, distil.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from .._check import require_in
from .ledger_lines import LedgerRecord


class Pair(NamedTuple):
    """A question, and what a kernel could have answered to it."""

    question: str
    answer: str
    """The grounded claims that were served, a line each."""
    sources: tuple[str, ...]
    """What they rest on, as `path:first-last`."""
    provider: str
    """Who said it."""
    id: str
    """Of the prompt that asks it; the question itself, where no prompt of the ledger does."""


class _Heard(NamedTuple):
    """What one provider replied to a question, as far as it was trusted."""

    provider: str
    claims: list[str]
    sources: list[str]


def training_pairs(records: Iterable[LedgerRecord], *, kernel: str) -> tuple[Pair, ...]:
    """The hard questions of a ledger with the answers that were served to them, in order.

    A question is hard if the kernel said nothing to it that was trusted, with passages or without,
    and somebody else did. What is trusted was checked against its evidence, and only that counts.
    Neither rubrics nor scores are looked at, nor whether an answer is right: to choose by them
    would be training on the test. So a wrong answer that its passage supports is learnt as well.

    A question that was asked several times counts as it was the first time. A kernel that was not
    asked, because somebody before it had answered, has said nothing.

    **Arguments:** `records`, as `read_ledger` gives them: verified; `kernel`, the provider's name.

    **Raises** `ValueError` if the records of two questions are interleaved, as those of several
    threads are: then it is not known which claim answers which.
    """
    asked: dict[str, list[_Heard]] = {}
    ids: dict[str, str] = {}
    question, heard = "", list[_Heard]()
    for record in records:
        content = record.content
        if record.kind == "retrieved":
            question, heard = content["question"], []
            asked.setdefault(question, heard)
        elif record.kind == "reply":
            _require(record, content["question"] == question)
            heard.append(_Heard(content["provider"], [], []))
        elif record.kind == "trusted" and heard:
            _require(record, content["source"] == heard[-1].provider)
            heard[-1].claims.append(content["claim"])
            heard[-1].sources.extend(cited["source"] for cited in content["evidence"])
        elif record.kind == "scored":
            ids.setdefault(content["question"], content["id"])
    found = (_pair(asking, replies, ids.get(asking, asking)) for asking, replies in asked.items())
    return tuple(pair for pair in found if pair is not None and pair.provider != kernel)


def _pair(question: str, replies: list[_Heard], name: str) -> Pair | None:
    """The first grounded answer, which is the one that was served: nobody is asked after it."""
    for provider, claims, sources in replies:
        if claims:
            answer = "\n".join(dict.fromkeys(claims))
            return Pair(question, answer, tuple(dict.fromkeys(sources)), provider, name)
    return None


def _require(record: LedgerRecord, fits: bool) -> None:
    if not fits:
        raise ValueError(
            f"record {record.sequence} ({record.kind}) belongs to another question than the "
            "records before it: pairs can only be had from a ledger of one question at a time."
        )


def is_held_out(name: str, share: float) -> bool:
    """Whether a question is kept back for testing: about `share` of them are.

    Decided by the SHA-256 of its name alone, so that it is always the same ones, whatever else is
    asked, and a larger share keeps back those of a smaller one too.

    **Raises** `ValueError` for a share outside [0, 1].
    """
    require_in("share", share, 0.0, 1.0)
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2.0**64
    return place < share
