"""What was said earlier and belongs to what is asked now."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._check import require_in
from .facts import Ending, Fact, FactBook, say_the_same
from .statement_index import StatementIndex
from .statements import is_question, split_sentences
from .tokens import count_tokens

_MOST_WORDS = 40
"""Of a memory, unless one sentence is longer."""
_LONGEST = 60
"""Words. A longer sentence is cut."""
_MOST = 64
"""Memories of one text. A pasted book stays in its turn's record and is not all indexed."""


class Memory(NamedTuple):
    """Statements of one turn, as they are found again."""

    id: int
    """Counted from zero in each conversation."""
    turn: int
    role: str
    text: str
    """On one line."""
    source: str = "conversation"
    """Where the words come from."""


class MemoryHit(NamedTuple):
    """A memory that may belong to what is asked."""

    id: int
    turn: int
    role: str
    text: str
    """What of the memory still holds, with what has been corrected since."""
    score: float
    tokens: int
    """Of the text, by `count_tokens`."""
    source: str


def memories_of(
    text: str, turn: int, *, first: int, role: str = "user", source: str = "conversation"
) -> tuple[Memory, ...]:
    """What of `text` is worth finding again: its sentences without the questions.

    Short sentences that follow each other stay together, so that "it" keeps what it stands for.
    The memories are numbered from `first`, and at most 64.
    """
    pieces: list[list[str]] = []
    for sentence in split_sentences(text):
        if is_question(sentence):
            if pieces and pieces[-1]:
                pieces.append([])
            continue
        words = sentence.split(" ")
        for start in range(0, len(words), _LONGEST):
            piece = words[start : start + _LONGEST]
            if not pieces or (pieces[-1] and len(pieces[-1]) + len(piece) > _MOST_WORDS):
                pieces.append([])
            pieces[-1] += piece
        if len(pieces) > _MOST:
            break
    texts = [" ".join(piece) for piece in pieces if piece][:_MOST]
    return tuple(
        Memory(first + place, turn, role, each, source) for place, each in enumerate(texts)
    )


class MemoryIndex:
    """The memories of a conversation, in order of their ids, and how they are found.

    **Arguments:** `dimension` of the vectors of the encoder.
    """

    def __init__(self, dimension: int):
        self._memories: list[Memory] = []
        self._of_turn: dict[int, list[int]] = {}
        self._index = StatementIndex(dimension)
        # What of the book is known here, and what follows from it: memories of which nothing holds
        # any more, and those of which not all does. A long book is not read again at every turn.
        self._book = FactBook()
        self._holding: dict[str, Fact] = {}
        self._unread: set[int] = set()
        self._gone: set[int] = set()
        self._changed: set[int] = set()

    def __len__(self) -> int:
        return len(self._memories)

    @property
    def memories(self) -> tuple[Memory, ...]:
        """All of them."""
        return tuple(self._memories)

    def add(
        self, memories: Sequence[Memory], vectors: Float[np.ndarray, "memories dimension"]
    ) -> None:
        """Append memories with the vectors of their texts.

        **Raises** `ValueError` for ids that do not continue the count, and for vectors of another
        number or width or such as are not finite. Nothing is added then.
        """
        ids = [memory.id for memory in memories]
        if ids != list(range(len(self), len(self) + len(ids))):
            raise ValueError(f"ids must continue from {len(self)}, one by one; got {ids[:8]}.")
        self._index.add([memory.text for memory in memories], vectors)
        for memory in memories:
            self._memories.append(memory)
            self._of_turn.setdefault(memory.turn, []).append(memory.id)
            self._unread.add(memory.turn)

    def retrieve(
        self,
        question: str,
        vector: Float[np.ndarray, " dimension"] | None = None,
        *,
        budget: int,
        count: int = 8,
        facts: FactBook | None = None,
        window: Collection[int] = (),
        quarantined: Collection[int] = (),
    ) -> tuple[MemoryHit, ...]:
        """What belongs to `question`, at most `count` memories of at most `budget` tokens in all.

        The best come first into the budget, what does not fit is passed over, and the outcome is in
        order of the turns. Sentences of which nothing holds any more, by `facts`, are left out; one
        of which a part holds is shown with the correction. Left out are also the turns of the
        `window`, which the prompt shows anyway, what is said there in the same words, memories with
        ids in `quarantined`, and all but the last of memories in the same words.

        **Raises** `ValueError` for a negative budget, a count below one, or a vector of another
        width.
        """
        require_in("budget", budget, 0)
        require_in("count", count, 1)
        book = FactBook() if facts is None else facts
        self._read(book)
        in_window = [id for turn in window for id in self._of_turn.get(turn, ())]
        excluded = self._gone.union(in_window, (id for id in quarantined if 0 <= id < len(self)))
        shown = {_plain(self._memories[id].text) for id in in_window}
        hits: dict[str, MemoryHit] = {}
        for ranked in self._index.rank(question, vector, excluded=excluded):
            memory = self._memories[ranked.place]
            plain = _plain(memory.text)
            if plain in shown:
                continue
            score, before = ranked.score, hits.get(plain)
            if before is not None:
                score = before.score
                memory = max(memory, self._memories[before.id])
            text = self._what_holds(memory.id) if memory.id in self._changed else memory.text
            hits[plain] = MemoryHit(
                memory.id, memory.turn, memory.role, text, score, count_tokens(text), memory.source
            )
        return _within(list(hits.values()), budget, count)

    def _read(self, book: FactBook) -> None:
        """Take in what is new in the book, or all of a book that is no later one than the last."""
        if len(book.facts) < len(self._book.facts):
            self._book, self._holding = FactBook(), {}
            self._unread = set(self._of_turn)
        keys = {fact.key for _, fact in book.changes(self._book)}
        if keys:
            self._holding = {fact.key: fact for fact in book.current()}
            self._unread |= {fact.turn for fact in book.facts if fact.key in keys}
        self._book = book
        for turn in self._unread:
            for id in self._of_turn.get(turn, ()):
                text = self._what_holds(id)
                for ids, belongs in (
                    (self._gone, not text),
                    (self._changed, text != self._memories[id].text),
                ):
                    (ids.add if belongs else ids.discard)(id)
        self._unread = set()

    def _what_holds(self, id: int) -> str:
        """A memory's text without sentences of which nothing holds, and with what has changed."""
        text = self._memories[id].text
        of_sentence: dict[str, list[Fact]] = {}
        for fact in self._book.of_turn(self._memories[id].turn):
            of_sentence.setdefault(fact.text, []).append(fact)
        for sentence, facts in of_sentence.items():
            text = text.replace(sentence, _as_it_is_now(sentence, facts, self._holding))
        return " ".join(text.split())


def _as_it_is_now(sentence: str, facts: list[Fact], holding: Mapping[str, Fact]) -> str:
    """The sentence, or with what holds instead of a part of it, or nothing."""
    false = [
        fact
        for fact in facts
        if fact.key not in holding or not say_the_same(fact, holding[fact.key])
    ]
    if len(false) == len(facts) or any(fact.ending is Ending.FORGOTTEN for fact in facts):
        return ""
    keys = dict.fromkeys(fact.key for fact in false if fact.key in holding)
    now = "; ".join(f"{key}: {holding[key].value}" for key in keys)
    return f"{sentence} (Since then: {now or 'no longer all so'}.)" if false else sentence


def _within(hits: list[MemoryHit], budget: int, count: int) -> tuple[MemoryHit, ...]:
    chosen: list[MemoryHit] = []
    for hit in sorted(hits, key=lambda hit: (-hit.score, hit.id)):
        if len(chosen) < count and hit.tokens <= budget:
            chosen.append(hit)
            budget -= hit.tokens
    return tuple(sorted(chosen, key=lambda hit: (hit.turn, hit.id)))


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".! ")
