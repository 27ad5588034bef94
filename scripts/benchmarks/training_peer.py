"""The peer of the training benchmark: the same encoder–decoder in PyTorch, one seed at a time.

What one would write with `torch.nn`: its Transformer with the norm first, masks for padding and for
the future, cross-entropy, gradients clipped to norm 1, Adam. Every batch is cut to its longest
sentences.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

PAD, START = 0, 1


class Peer(nn.Module):
    """The learner of one seed."""

    def __init__(self, vocabulary_size: int, sizes, longest: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, sizes.width)
        nn.init.normal_(self.embedding.weight, std=sizes.width**-0.5)
        places = torch.arange(longest).float()[:, None]
        rates = torch.exp(torch.arange(0, sizes.width, 2) * (-math.log(1e4) / sizes.width))
        table = torch.zeros(longest, sizes.width)
        table[:, 0::2], table[:, 1::2] = torch.sin(places * rates), torch.cos(places * rates)
        self.register_buffer("positions", table)
        self.dropout = nn.Dropout(sizes.dropout)
        self.transformer = nn.Transformer(
            sizes.width,
            sizes.heads,
            sizes.encoder_layers,
            sizes.decoder_layers,
            sizes.hidden,
            sizes.dropout,
            batch_first=True,
            norm_first=True,
        )
        self.output = nn.Linear(sizes.width, vocabulary_size, bias=False)
        self.scale = math.sqrt(sizes.width)

    def forward(self, source: Tensor, target_in: Tensor) -> Tensor:
        """Logits of the next tokens."""
        future = torch.ones(target_in.shape[1], target_in.shape[1], dtype=torch.bool).triu(1)
        padding = source == PAD
        states = self.transformer(
            self._embedded(source),
            self._embedded(target_in),
            tgt_mask=future,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.output(states)

    def _embedded(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) * self.scale + self.positions[: tokens.shape[1]]
        return self.dropout(x)


class Trainer:
    """One seed's training."""

    def __init__(self, pairs, vocabulary_size: int, sizes, batch: int, learning_rate: float):
        self.source, self.target = (torch.from_numpy(np.asarray(rows)).long() for rows in pairs)
        self.batch = batch
        longest = max(self.source.shape[1], self.target.shape[1])
        self.model = Peer(vocabulary_size, sizes, longest).train()
        self.adam = torch.optim.Adam(self.model.parameters(), lr=learning_rate)

    def train(self, steps: int) -> float:
        """Some more steps; the last loss."""
        loss = torch.zeros(())
        for _ in range(steps):
            rows = torch.randint(len(self.source), (self.batch,))
            source, target = (_cut(each[rows]) for each in (self.source, self.target))
            target_in = torch.cat([torch.full_like(target[:, :1], START), target[:, :-1]], dim=1)
            logits = self.model(source, target_in)
            loss = nn.functional.cross_entropy(
                logits.flatten(0, 1), target.flatten(), ignore_index=PAD
            )
            self.adam.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.adam.step()
        return float(loss.detach())


def _cut(rows: Tensor) -> Tensor:
    """Without the columns that are padding in every row."""
    return rows[:, : int((rows != PAD).sum(dim=1).max())]
