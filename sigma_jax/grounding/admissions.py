"""Admission: what becomes of an envelope once its evidence has been checked."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace

from .envelopes import Envelope
from .ledger import Ledger
from .ledger_lines import LedgerRecord
from .support import Verdict, check_evidence, supports

_CONFIDENT = 0.7
_UNGROUNDED_CONFIDENCE = 0.3


@dataclass(frozen=True)
class Admission:
    """An envelope as it is accepted, and why so."""

    envelope: Envelope
    """With its confidence cut to 0.3 unless `trusted`."""
    stated_confidence: float
    """As its author stated it."""
    verdicts: tuple[Verdict, ...]
    """On each piece of evidence, in order."""
    trusted: bool
    """Whether it is grounded: for trusted memory, not only for proposals."""


def admit(
    envelope: Envelope,
    resolve: Callable[[str], str | None],
    entails: Callable[[str, str], bool] = supports,
) -> Admission:
    """Check an envelope's evidence and decide what it is worth. Nothing is lost.

    It is grounded if a piece of its evidence holds, and none is misquoted or unresolved: one
    invented citation taints the others. Evidence that is really there but does not support the
    claim is only useless.

    **Arguments:** `resolve` and `entails` as in `check_evidence`.
    """
    verdicts = tuple(
        check_evidence(cited, envelope.claim, resolve, entails) for cited in envelope.evidence
    )
    invented = {Verdict.UNRESOLVED, Verdict.MISQUOTED} & set(verdicts)
    trusted = Verdict.HOLDS in verdicts and not invented
    stated = envelope.confidence
    if not trusted:
        envelope = replace(envelope, confidence=min(stated, _UNGROUNDED_CONFIDENCE))
    return Admission(envelope, stated, verdicts, trusted)


def record_admission(ledger: Ledger, admission: Admission) -> LedgerRecord:
    """Append an admission to a ledger, under the kind `trusted` or `proposal`.

    **Raises** as `Ledger.append` does.
    """
    content = {
        **asdict(admission.envelope),
        "stated_confidence": admission.stated_confidence,
        "verdicts": [verdict.value for verdict in admission.verdicts],
    }
    return ledger.append("trusted" if admission.trusted else "proposal", content)


def precision(admissions: Iterable[Admission]) -> float | None:
    """Among outputs stated with confidence ≥ 0.7, the share that is grounded.

    What counts is the confidence as it was stated: after the cut to 0.3 it would always be 1.
    None if no output is so sure.
    """
    sure = [admission for admission in admissions if admission.stated_confidence >= _CONFIDENT]
    return sum(admission.trusted for admission in sure) / len(sure) if sure else None
