"""The gap between familiar and structural items, and how an intervention changes it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from ..schema import PrincipledPractice
from ..statistics import FalsePositiveRate, TestResult, false_positive_rate, paired, power_of_t
from .behaviour import ITEMS
from .nulls import NULL_ALPHA
from .population import Population
from .registration import FAMILY_ALPHA, Picture, Study, Verdict, decide, generator, numbers

_EFFECT = 0.5


def gap_verdicts(
    key: Key[Array, ""],
    study: Study,
    simulate: Callable[[Key[Array, ""], bool, bool], Population],
    *,
    intervention: str,
    tested: int = 0,
    caveat: str = "",
    learner_must: str,
) -> tuple[Verdict, Verdict]:
    """Whether an intervention raises familiar skill and leaves structural skill behind.

    **Arguments:** `simulate` makes the agents from (key, whether they get the intervention,
    whether the earlier paper's path from depth to coherence exists); the same key must give the
    same agents. `intervention` names it; `tested` is the domain of the structural items (the
    familiar ones are of domain 0); `caveat` is added to the repaired verdict's reason;
    `learner_must` says what a trained learner would have to show.

    **Returns** the verdict as registered, without the path, and the repaired one, with it.
    """
    first, second = jax.random.split(key)
    verdict, change, sigma = _compare(first, study, simulate, False, tested)
    registered = dataclasses.replace(
        verdict,
        outcome="not testable here",
        reason=(
            "The equation contains no such path: no term of Eq. 28 leads from depth, or from "
            f"another domain, to σ, so with equal noise {intervention} leaves it as it is (largest "
            f"difference {np.abs(sigma).max():g}), and the gap can only widen (by "
            f"{change.gap.estimate:.3f}). {learner_must}"
        ),
    )
    verdict, change, sigma = _compare(second, study, simulate, True, tested)
    outcome, why = decide(change.gap, FAMILY_ALPHA, power=verdict.power)
    repaired = dataclasses.replace(
        verdict,
        version="repaired",
        outcome=outcome,
        reason=(
            f"{why} With the earlier paper's Eq. 18, where depth makes structure available, "
            f"{intervention} changes familiar items by {change.familiar.mean():.3f}, structural "
            f"ones by {change.structural.mean():.3f} and σ by {sigma.mean():.3f}. "
            f"{caveat}{learner_must}"
        ),
    )
    return registered, repaired


def _compare(key, study, simulate, path, tested) -> tuple[Verdict, "_Change", np.ndarray]:
    """Both conditions with common random numbers; also the change of the tested domain's σ."""
    without, treated = (simulate(key, chosen, path) for chosen in (False, True))
    change = _change(generator(key), _skills(without, tested), _skills(treated, tested), study)
    verdict = Verdict(
        version="as registered",
        outcome="not testable here",
        reason="",
        effect="change of the gap, familiar less structural items (share solved)",
        **numbers(change.gap),
        null_rate=change.null_rate,
        power=gap_power(study.n),
        picture=Picture(
            "samples",
            "items",
            "change of the share of items solved",
            {"familiar": (change.familiar,), "structural": (change.structural,)},
            {"no change": 0.0},
        ),
    )
    return verdict, change, (treated.sigma - without.sigma)[:, -1, tested]


def gap_power(n: int) -> float:
    """Power of the paired t of `n` agents for half a standard deviation of the differences.

    That is what P1 registers; H6.1 to H6.3 register no effect. Two groups with √2 times the
    effect have the same noncentrality.
    """
    effect = float(np.sqrt(2.0)) * _EFFECT
    return power_of_t(effect, n, alpha=FAMILY_ALPHA, alternative="greater")


def forgetful_rates() -> dict[str, float]:
    """Forgetting so fast that depth settles short of the frontier, where training matters."""
    return {"lambda_c": 0.2}


def principled_practice(f_learn: ArrayLike = 1.0) -> PrincipledPractice:
    """P_A = 1.2 f_learn δ_rel (the earlier paper's Eq. 18): about 0.8 at the depth that is held."""
    return PrincipledPractice(p0=jnp.asarray(1.2), f_learn=jnp.asarray(f_learn))


@dataclass(frozen=True)
class _Skills:
    """The probability that each agent solves an item of either kind."""

    familiar: Float[np.ndarray, " agents"]
    structural: Float[np.ndarray, " agents"]

    def answers(self, rng: np.random.Generator) -> np.ndarray:
        """The shares of familiar and of structural items solved in one sitting."""
        return rng.binomial(ITEMS, np.stack([self.familiar, self.structural])) / ITEMS


@dataclass(frozen=True)
class _Change:
    """What an intervention changes, agent by agent."""

    familiar: Float[np.ndarray, " agents"]
    structural: Float[np.ndarray, " agents"]
    gap: TestResult
    null_rate: FalsePositiveRate


def _skills(learners: Population, tested: int) -> _Skills:
    """Familiar items need depth; structural ones need σ as well.

    Familiar: relative depth δ_rel in domain 0. Structural: q = σ δ_rel of the tested domain, so
    that σ̂ of Eq. 7, the ratio of the two accuracies within a domain, is σ.
    """
    relative = np.clip(learners.delta_rel[:, -1], 0.0, 1.0)
    coherence = np.clip(learners.sigma[:, -1, tested], 0.0, 1.0)
    return _Skills(relative[:, 0], coherence * relative[:, tested])


def _change(rng: np.random.Generator, without: _Skills, treated: _Skills, study: Study) -> _Change:
    """The intervention's effect, and the same test on two sittings of the untreated agents."""
    before, after = without.answers(rng), treated.answers(rng)
    p_values = [
        _widening(without.answers(rng), without.answers(rng)).p_value
        for _ in range(study.null_studies)
    ]
    return _Change(
        *(after - before),
        gap=_widening(before, after),
        null_rate=false_positive_rate(np.array(p_values), NULL_ALPHA),
    )


def _widening(before: np.ndarray, after: np.ndarray) -> TestResult:
    """Paired t of whether familiar less structural items are more `after` than `before`."""
    return paired(after[0] - after[1], before[0] - before[1], alternative="greater")
