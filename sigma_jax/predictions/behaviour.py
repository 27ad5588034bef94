"""What simulated learners do, as far as it can be said without the coherence it is to test."""

import numpy as np
from jaxtyping import Float

ITEMS = 200
"""Held-out items an agent is asked: the paper's minimum."""


def item_accuracy(
    generator: np.random.Generator,
    delta_rel: Float[np.ndarray, "agents domains"],
    alpha: Float[np.ndarray, "agents domains"],
    items: int = ITEMS,
) -> Float[np.ndarray, " agents"]:
    """The share of cross-domain items solved: an outcome that does not contain coherence.

    An item asks for some relative depth in every domain and carries a distractor of some strength,
    both uniform in [0, 1]. It is solved if the agent is deep enough in its weakest domain and its
    mean attention exceeds the distractor: probability min_d δ_rel · mean α.
    """
    deep_enough = np.clip(delta_rel.min(axis=-1), 0.0, 1.0)
    attentive = np.clip(alpha.mean(axis=-1), 0.0, 1.0)
    return generator.binomial(items, deep_enough * attentive) / items
