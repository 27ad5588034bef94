"""Batches for training, each a pure function of its number, so that a run can go on anywhere."""

import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int

from .._check import require_in
from .chat_tokens import Dialogue


class Batch(NamedTuple):
    """Tokens to read and what each next one counts. Rows are padded on the left."""

    ids: Int[np.ndarray, "batch length"]
    real: Bool[np.ndarray, "batch length"]
    """False for padding."""
    weights: Float[np.ndarray, "batch counted"]
    """What the predictions of the last `counted` tokens count in the loss; of the others none."""


class Batches(Protocol):
    """An endless supply of batches."""

    def batch(self, number: int) -> Batch:
        """Batch `number` (0, 1, …): the same every time it is asked for."""
        ...


class DialogueBatches:
    """Dialogues in random order, those of similar length together; only answers count.

    Every dialogue comes once an epoch, except that each width's last batch is filled up with
    others of that width.

    **Arguments:** `dialogues`; `tokens`, of a batch, padding included, at most; `seed` of the
    order; `pad_id`; `step`, of the widths that batches may have.

    **Raises** `ValueError` if there are no dialogues, or for one without an answer or of more than
    `tokens`.
    """

    def __init__(
        self,
        dialogues: Sequence[Dialogue],
        *,
        tokens: int,
        seed: int,
        pad_id: int = 0,
        step: int = 8,
    ):
        if not dialogues:
            raise ValueError("dialogues must hold at least one dialogue; got none.")
        if not all(d.answer for d in dialogues):
            raise ValueError("every dialogue must have an answer, if only its end.")
        self._dialogues = dialogues
        self._pad_id = pad_id
        self._seed = seed
        lengths = np.array([len(d.prompt) + len(d.answer) for d in dialogues])
        if lengths.max() > tokens:
            raise ValueError(
                f"tokens must be at least {lengths.max()}, the longest dialogue's; got {tokens}."
            )
        widths = np.minimum(-(-lengths // step) * step, tokens)
        self._groups = {int(w): np.flatnonzero(widths == w) for w in np.unique(widths)}
        answers = np.array([len(d.answer) for d in dialogues])
        self._counted = {width: int(answers[g].max()) for width, g in self._groups.items()}
        self._rows = {width: tokens // width for width in self._groups}
        self.per_epoch = sum(-(-len(g) // self._rows[w]) for w, g in self._groups.items())
        """How many batches an epoch has."""
        self._plan = functools.lru_cache(2)(self._make_plan)

    def batch(self, number: int) -> Batch:
        """Batch `number`, of epoch `number // per_epoch`."""
        epoch, place = divmod(number, self.per_epoch)
        width, members = self._plan(epoch)[place]
        chosen = [self._dialogues[i] for i in members]
        return pad_dialogues(chosen, width, self._counted[width], self._pad_id)

    def _make_plan(self, epoch: int) -> list[tuple[int, np.ndarray]]:
        random = np.random.default_rng([self._seed, epoch])
        plan = []
        for width, group in self._groups.items():
            rows, order = self._rows[width], random.permutation(group)
            for start in range(0, len(order), rows):
                members = order[start : start + rows]
                plan.append((width, np.resize(np.concatenate([members, order]), rows)))
        return [plan[i] for i in random.permutation(len(plan))]


def pad_dialogues(
    dialogues: Sequence[Dialogue], width: int, counted: int, pad_id: int = 0
) -> Batch:
    """Dialogues as a batch of `width` columns, padded on the left; only their answers count.

    **Arguments:** `counted`, the length of the longest answer, or more.
    """
    ids = np.full((len(dialogues), width), pad_id, np.int32)
    real = np.zeros((len(dialogues), width), bool)
    weights = np.zeros((len(dialogues), counted), np.float32)
    for row, (prompt, answer) in enumerate(dialogues):
        whole = [*prompt, *answer]
        ids[row, width - len(whole) :] = whole
        real[row, width - len(whole) :] = True
        weights[row, counted - len(answer) :] = 1.0
    return Batch(ids, real, weights)


class TextBatches:
    """Windows of a text, from random places; every prediction counts.

    **Arguments:** `ids` of the text; `rows` and `length` of a batch; `seed` of the places.

    **Raises** `ValueError` if the text is shorter than a window.
    """

    def __init__(self, ids: Int[np.ndarray, " tokens"], *, rows: int, length: int, seed: int):
        require_in("rows", rows, 1)
        require_in("length", length, 2)
        if len(ids) < length:
            raise ValueError(f"the text must have at least {length} tokens; it has {len(ids)}.")
        self._ids, self._rows, self._length, self._seed = ids, rows, length, seed

    def batch(self, number: int) -> Batch:
        """Batch `number`."""
        random = np.random.default_rng([self._seed, number])
        starts = random.integers(len(self._ids) - self._length + 1, size=self._rows)
        ids = self._ids[starts[:, None] + np.arange(self._length)]
        real = np.ones(ids.shape, bool)
        return Batch(ids.astype(np.int32), real, np.ones(ids[:, 1:].shape, np.float32))
