"""How well a model answers: greedy decoding, compared with the answers of dialogues."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from ..kernel import Depth, Finish, Ouro, generate
from .chat_tokens import Dialogue


class Answers(NamedTuple):
    """How greedy answers compare with those that were wanted."""

    exact: Bool[np.ndarray, " dialogues"]
    """Which are the wanted ones, token for token, and end there."""
    depths: Float[np.ndarray, " dialogues"]
    """Mean loops a token, the end not counted; NaN for an answer that has only an end."""


def greedy_answers(
    model: Ouro, dialogues: Sequence[Dialogue], depth: Depth = Depth(), *, rows: int = 256
) -> Answers:
    """Let the model answer every prompt, its likeliest token each time, and compare.

    **Arguments:** `dialogues`, whose answers end in the stop token; `rows`, how many are answered
    at once.

    **Raises** `ValueError` if there are no dialogues, and as `generate` does.
    """
    if not dialogues:
        raise ValueError("dialogues must hold at least one dialogue; got none.")
    longest = max(len(d.answer) for d in dialogues)
    capacity = max(len(d.prompt) for d in dialogues) + longest
    exact = np.zeros(len(dialogues), bool)
    depths = np.full(len(dialogues), np.nan)
    # Those of similar length together, because a batch goes on until its last row is done.
    order = sorted(range(len(dialogues)), key=lambda i: len(dialogues[i].answer))
    for start in range(0, len(order), rows):
        members = order[start : start + rows]
        # One number of rows, so that one program does.
        chosen = [dialogues[i] for i in itertools.islice(itertools.cycle(members), rows)]
        given = generate(
            model,
            [d.prompt for d in chosen],
            max_new_tokens=max(len(d.answer) for d in chosen),
            depth=depth,
            stop_ids=sorted({d.answer[-1] for d in dialogues}),
            capacity=capacity,
        )
        for row, index in enumerate(members):
            ended = given.finish[row] is Finish.STOP
            exact[index] = ended and given.tokens[row] == dialogues[index].answer[:-1]
            if given.depths[row]:
                depths[index] = np.mean(given.depths[row])
    return Answers(exact, depths)
