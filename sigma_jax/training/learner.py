"""The architectures that can be learners, and how one is made from its sizes."""

import jax.numpy as jnp
from jax.typing import DTypeLike

from ..kernel import OuroConfig
from .looped_learner import LoopedLearner
from .transformer import Seq2SeqTransformer, TransformerSizes

Learner = Seq2SeqTransformer | LoopedLearner
"""What is trained to say the target of a source: both have the same methods."""


def make_learner(
    vocabulary_size: int,
    sizes: TransformerSizes | OuroConfig,
    *,
    seed: int,
    dtype: DTypeLike = jnp.float32,
) -> Learner:
    """An untrained learner of the architecture that the sizes belong to."""
    kind = LoopedLearner if isinstance(sizes, OuroConfig) else Seq2SeqTransformer
    return kind(vocabulary_size, sizes, seed=seed, dtype=dtype)  # pyright: ignore[reportArgumentType]
