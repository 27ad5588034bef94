"""How a learner's training listens to its coherence: the paper's couplings and their ablations."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._check import require_in


class Coupling(NamedTuple):
    """One learner's coupling, or with a leading axis many learners'; all zero is plain training.

    A batch's loss is (1 + additive (1 − σ) + multiplicative σ) (L_task + schema (1 − σ) L_comp),
    and the rate is (1 + rate_gain α) times the base rate from phase 2 on. L_comp is over the
    compositional pairs of the batch, which replace others: no coupling computes more than another.

    Source: Σ-Model, Eqs. 25 and 26, §3.4; the two loss couplings are in its experiment only.
    """

    additive: Float[Array, "..."] | float = 0.0
    """C of L (1 + C (1 − σ))."""
    multiplicative: Float[Array, "..."] | float = 0.0
    """C of L (1 + C σ)."""
    schema: Float[Array, "..."] | float = 0.0
    """λ_σ, the weight of L_comp where σ is 0."""
    rate_gain: Float[Array, "..."] | float = 0.0
    """κ_α."""
    early_share: Float[Array, "..."] | float = 0.0
    """The share of compositional pairs in a batch before phase 2."""
    late_share: Float[Array, "..."] | float = 0.0
    """The share from phase 2 on."""
    yoked: Float[Array, "..."] | float = 0.0
    """1 if σ, α, phase and share are another learner's, from a `Record`; else 0."""


class Record(NamedTuple):
    """What a learner was coupled to, block by block, for others to be yoked to."""

    sigma: Float[Array, "*learners blocks"]
    alpha: Float[Array, "*learners blocks"]
    share: Float[Array, "*learners blocks"]
    crystallised: Float[Array, "*learners blocks"]
    """1 from phase 2 on, else 0."""


_C, _LAMBDA, _KAPPA, _EARLY, _LATE = 0.20, 0.3, 0.2, 0.10, 0.40

CONDITIONS: dict[str, Coupling] = {
    "baseline": Coupling(),
    "additive": Coupling(additive=_C),
    "multiplicative": Coupling(multiplicative=_C),
    "schema loss": Coupling(schema=_LAMBDA, early_share=_EARLY, late_share=_EARLY),
    "full": Coupling(schema=_LAMBDA, rate_gain=_KAPPA, early_share=_EARLY, late_share=_LATE),
    "σ without batches": Coupling(additive=_C, rate_gain=_KAPPA),
    "batches without σ": Coupling(schema=_LAMBDA, rate_gain=_KAPPA, yoked=1.0),
    "permuted σ": Coupling(schema=_LAMBDA, rate_gain=_KAPPA, yoked=1.0),
    "random schedule": Coupling(schema=_LAMBDA, rate_gain=_KAPPA, yoked=1.0),
}
"""The paper's conditions with its constants, then the ablations; the yoked ones follow `full`."""

YOKED = ("batches without σ", "permuted σ", "random schedule")
"""The conditions that need `full` to have run, and `yoked_record` of it."""


def yoked_record(condition: str, full: Record, *, seed: int = 0) -> Record:
    """What an ablation is yoked to, learner by learner, made of the full condition's record.

    | condition | σ and α | share and phase |
    |---|---|---|
    | `batches without σ` | their means over the run | as recorded |
    | `permuted σ` | as recorded, blocks in random order | as recorded |
    | `random schedule` | as recorded | as recorded, blocks in random order |

    So each has the full condition's number of compositional pairs, and takes one thing away.

    **Raises** `ValueError` for another condition.
    """
    if condition not in YOKED:
        raise ValueError(f"condition must be one of {', '.join(YOKED)}; got {condition!r}.")
    if condition == "batches without σ":

        def mean(x: Array) -> Array:
            return jnp.broadcast_to(jnp.mean(x, axis=-1, keepdims=True), x.shape)

        return full._replace(sigma=mean(full.sigma), alpha=mean(full.alpha))
    random = np.random.default_rng(seed)
    learners, blocks = full.sigma.shape
    order = np.stack([random.permutation(blocks) for _ in range(learners)])

    def permuted(x: Array) -> Array:
        return jnp.take_along_axis(jnp.asarray(x), jnp.asarray(order), axis=1)

    if condition == "permuted σ":
        return full._replace(sigma=permuted(full.sigma), alpha=permuted(full.alpha))
    return full._replace(share=permuted(full.share), crystallised=permuted(full.crystallised))


def no_record(learners: int, blocks: int) -> Record:
    """Zeros, for learners that are not yoked."""
    zeros = jnp.zeros((learners, blocks))
    return Record(zeros, zeros, zeros, zeros)


def stack_couplings(couplings: list[Coupling]) -> Coupling:
    """One coupling a learner, as arrays.

    **Raises** `ValueError` for a negative number, or a share or yoke above 1.
    """
    for name in Coupling._fields:
        high = 1.0 if name in ("early_share", "late_share", "yoked") else np.inf
        require_in(f"coupling.{name}", [getattr(c, name) for c in couplings], 0.0, high)
    return jax.tree.map(lambda *values: jnp.asarray(values, float), *couplings)
