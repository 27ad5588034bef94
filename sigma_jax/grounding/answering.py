"""The loop over one question: retrieve, reason, verify, record.

Source: Σ₀-K1, components 5 and 9.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ..bridge import Passage, Reply, Request, Router
from .admissions import Admission, admit, record_admission
from .corpus import Corpus
from .envelopes import Envelope, Evidence
from .ledger import Ledger
from .retrieval import Retriever
from .support import supports

# A full stop inside a number or a name ends nothing.
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`(\"'])|\n+")


@dataclass(frozen=True)
class Attempt:
    """What one provider said, and what its claims are worth."""

    reply: Reply
    admissions: tuple[Admission, ...]
    """One a sentence or line of the reply; none for a reply without words."""

    @property
    def trusted(self) -> tuple[Admission, ...]:
        """Those of its claims that are grounded."""
        return tuple(admission for admission in self.admissions if admission.trusted)


@dataclass(frozen=True)
class Answer:
    """What the asker gets, and how it came about."""

    question: str
    text: str
    """The grounded claims of the first provider that made one; if none did, a proposal."""
    trusted: bool
    provider: str
    """Who said it; empty if nobody said anything."""
    sources: tuple[str, ...]
    """What the grounded claims rest on."""
    attempts: tuple[Attempt, ...]

    @property
    def served_bytes(self) -> int:
        """What the asker is served, in UTF-8: the text and the sources behind it."""
        return len("\n".join((self.text, *self.sources)).encode())

    @property
    def exchanged_bytes(self) -> int:
        """What went to providers and came back for it."""
        replies = [attempt.reply for attempt in self.attempts]
        return sum(reply.sent_bytes + reply.received_bytes for reply in replies)


@dataclass(frozen=True)
class Answerer:
    """Answers from a corpus, by whichever provider first says something that the corpus supports.

    A question's passages are retrieved and sent along. Each sentence or line of a reply is a claim;
    its evidence is looked for among the passages, since a weak model does not cite. Claims without
    evidence are proposals: kept in the ledger, not trusted. If nobody says anything grounded, the
    question is asked once more without passages, since those that do not answer it only distract,
    and what is then said is passed on as a proposal. A provider that states no confidence counts as
    sure of all it says.

    **Arguments:** `corpus`; `retriever` over its passages; `router`; `ledger`, or None to record
    nothing; `passages`, how many are sent along; `max_tokens` of a reply; `entails(text, claim)`.
    """

    corpus: Corpus
    retriever: Retriever
    router: Router
    ledger: Ledger | None = None
    passages: int = 8
    max_tokens: int = 128
    entails: Callable[[str, str], bool] = supports

    def answer(self, question: str, *, seed: int = 0) -> Answer:
        """Answer one question, and record each step of it.

        **Raises** `ValueError` for an empty question, `ProviderError` if nobody replies.
        """
        found = self.retriever.retrieve(question, self.passages)
        passages = tuple(entry.passage for entry in found)
        self._record("retrieved", {"question": question, "sources": [p.source for p in passages]})
        request = Request(question, passages, max_tokens=self.max_tokens, seed=seed)
        attempts: list[Attempt] = []
        for reply in self.router.replies(request):
            attempts.append(self._attempt(question, reply, passages))
            if attempts[-1].trusted:
                return _answer(question, attempts)
        unaided = self.router.answer(replace(request, passages=()))
        attempts.append(self._attempt(question, unaided, passages))
        return _answer(question, attempts)

    def _attempt(self, question: str, reply: Reply, passages: tuple[Passage, ...]) -> Attempt:
        attempt = self._verified(reply, passages)
        self._record_attempt(question, attempt)
        return attempt

    def _verified(self, reply: Reply, passages: tuple[Passage, ...]) -> Attempt:
        claims = _claims(reply.text)
        return Attempt(
            reply,
            tuple(
                admit(
                    Envelope(claim, tuple(self._evidence(claim, passages)), 1.0, reply.provider),
                    self.corpus.resolve,
                    self.entails,
                )
                for claim in claims
            ),
        )

    def _evidence(self, claim: str, passages: tuple[Passage, ...]) -> Iterator[Evidence]:
        """The first passage that supports a claim."""
        for passage in passages:
            if self.entails(passage.text, claim):
                yield Evidence(passage.source, passage.text)
                return

    def _record_attempt(self, question: str, attempt: Attempt) -> None:
        reply = attempt.reply
        self._record(
            "reply",
            {
                "question": question,
                "provider": reply.provider,
                "text": reply.text,
                "sent_bytes": reply.sent_bytes,
                "received_bytes": reply.received_bytes,
                "seconds": reply.seconds,
            },
        )
        if self.ledger is not None:
            for admission in attempt.admissions:
                record_admission(self.ledger, admission)

    def _record(self, kind: str, content: dict) -> None:
        if self.ledger is not None:
            self.ledger.append(kind, content)


def _claims(text: str) -> list[str]:
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def _answer(question: str, attempts: list[Attempt]) -> Answer:
    """What the last attempt says: its grounded claims, or all of it as a proposal."""
    last = attempts[-1]
    told = last.trusted or last.admissions
    cited = [found.source for admission in last.trusted for found in admission.envelope.evidence]
    return Answer(
        question=question,
        text="\n".join(admission.envelope.claim for admission in told),
        trusted=bool(last.trusted),
        provider=last.reply.provider if told else "",
        sources=tuple(dict.fromkeys(cited)),
        attempts=tuple(attempts),
    )
