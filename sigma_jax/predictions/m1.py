"""M1: interventions work only insofar as they raise coherence above its critical value."""

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from ..schema import Thresholds, load_pilot
from ..statistics import (
    Mediation,
    cohens_d,
    false_positive_rate,
    mediation,
    power_of_t,
    welch,
)
from .behaviour import ITEMS, item_accuracy
from .nulls import NULL_ALPHA, two_group_rate
from .population import TIMES, Population, simulate_population
from .registration import (
    FAMILY_ALPHA,
    Outcome,
    Picture,
    Prediction,
    Study,
    Verdict,
    decide,
    generator,
    numbers,
)

_EFFECT = 0.5
_SURFACE, _TREATED = 0.8, 0.2
_RESAMPLES, _SMALL = 199, 100
_POWER_STUDIES = 100


def _tests(key: Key[Array, ""], study: Study) -> tuple[Verdict, ...]:
    first, second, third = jax.random.split(key, 3)
    return _registered(first, study), _repaired(second, study), _published(third, study)


def _registered(key: Key[Array, ""], study: Study) -> Verdict:
    """Less surface reward, mediated by σ, on Acc_OOD = σ·δ_rel: the outcome contains σ."""
    rng = generator(key)
    treated, control = _pair(key, study.n)
    treatment = np.repeat([1.0, 0.0], study.n)
    sigma = np.concatenate([treated.sigma[:, -1, 0], control.sigma[:, -1, 0]])
    depth = np.concatenate([treated.delta_rel[:, -1, 0], control.delta_rel[:, -1, 0]])
    outcome = rng.binomial(ITEMS, np.clip(sigma * depth, 0.0, 1.0)) / ITEMS
    result = mediation(treatment, sigma, outcome, seed=int(rng.integers(2**31)))

    # In both, smaller studies with fewer resamples, as the test runs a thousand times. Without an
    # effect: learners of one condition, the treatment handed out at random.
    size = min(_SMALL, study.n // 2)
    label = np.repeat([1.0, 0.0], size)

    def p_value(rows):
        return mediation(
            label,
            sigma[rows],
            outcome[rows],
            resamples=_RESAMPLES,
            seed=int(rng.integers(2**31)),
        ).p_value

    def alike():
        return study.n + rng.choice(study.n, 2 * size, replace=False)

    def different():
        return np.concatenate([rng.choice(study.n, size), study.n + rng.choice(study.n, size)])

    null = [p_value(alike()) for _ in range(study.null_studies)]
    found = [p_value(different()) < NULL_ALPHA for _ in range(_POWER_STUDIES)]
    return Verdict(
        version="as registered",
        outcome="not testable here",
        reason=(
            "A tautology: Acc_OOD = σ·δ_rel contains the mediator, so whatever raises the outcome "
            f"goes through σ unless it deepens knowledge; the share through σ is {result.share:.0%}"
            "."
        ),
        effect="effect of the intervention on σ·δ_rel that goes through σ (share of items)",
        estimate=result.indirect.estimate,
        low=result.indirect.low,
        high=result.indirect.high,
        p_value=result.p_value,
        n=(study.n, study.n),
        null_rate=false_positive_rate(np.array(null), NULL_ALPHA),
        power=float(np.mean(found)),
        picture=Picture(
            "scatter",
            "coherence σ",
            f"σ·δ_rel on {ITEMS} items (share)",
            {
                "intervention": (sigma[: study.n], outcome[: study.n]),
                "surface reward": (sigma[study.n :], outcome[study.n :]),
            },
        ),
    )


def _repaired(key: Key[Array, ""], study: Study) -> Verdict:
    """The same intervention on learners whose σ cannot grow, and an outcome that lacks σ."""
    rng = generator(key)
    free_key, clamped_key, pool_key = jax.random.split(key, 3)
    treated, control = _pair(clamped_key, study.n, rho=0.0)
    highest = max(float(treated.sigma.max()), float(control.sigma.max()))
    high, low = _solved(rng, treated), _solved(rng, control)
    result = welch(high, low, alternative="greater")
    size = cohens_d(high, low)
    power = power_of_t(_EFFECT, study.n, alpha=FAMILY_ALPHA, alternative="greater")
    through = _free_mediation(rng, free_key, study.n)

    # M1 says that there is nothing here: an effect refutes it.
    found, _ = decide(result, FAMILY_ALPHA, power=power)
    opposite: dict[str, Outcome] = {"supported": "refuted", "refuted": "supported"}
    outcome = opposite.get(found, found)
    pool = _solved(rng, _learners(pool_key, 4 * study.n, _SURFACE, rho=0.0))
    free, clamped = f"{through.share:.0%}", f"{np.mean(high) - np.mean(low):.2f}"
    return Verdict(
        version="repaired",
        outcome=outcome,
        reason=(
            f"With σ held below {Thresholds().sigma_critical} (highest {highest:.2f}) the "
            f"intervention still raises the share of items solved by {clamped}: attention answers "
            f"to surface reward without σ (Eq. 29). Where σ is free, {free} of the effect goes "
            f"through it, and {through.direct.estimate:.2f} [{through.direct.low:.2f}, "
            f"{through.direct.high:.2f}] does not. This refutes 'only', for outcomes that need "
            "attention."
        ),
        effect="Cohen's d of items solved, with against without the intervention, σ held down",
        estimate=size.estimate,
        low=size.low,
        high=size.high,
        p_value=result.p_value,
        n=result.n,
        null_rate=two_group_rate(
            lambda a, b: welch(a, b, alternative="greater").p_value,
            pool,
            study.n,
            study.null_studies,
            rng,
        ),
        power=power,
        picture=Picture(
            "samples",
            "learners with σ held below its critical value",
            f"items solved (share of {ITEMS})",
            {"intervention": (high,), "surface reward": (low,)},
        ),
    )


def _published(key: Key[Array, ""], study: Study) -> Verdict:
    """The pilot: a condition whose proxy ends below the baseline's, and its accuracy."""
    rng = generator(key)
    pilot = load_pilot()
    final = {name: 100.0 * c.acc_ood[:, -1] for name, c in pilot.items()}
    proxy = {name: float(c.sigma_proxy[:, -1].mean()) for name, c in pilot.items()}
    additive, baseline = final["additive"], final["baseline"]
    result = welch(additive, baseline, alternative="greater")
    gap = 100.0 * pilot["baseline"].acc_id[:, -1].mean() - baseline.mean()
    deviation = np.sqrt(0.5 * (additive.var(ddof=1) + baseline.var(ddof=1)))
    centred = np.concatenate([values - values.mean() for values in (additive, baseline)])
    return Verdict(
        version="published data",
        outcome="refuted",
        reason=(
            f"The baseline's σ̃ ends at {proxy['baseline']:.3f}, above its critical value "
            f"{Thresholds().sigma_critical} and above the additive condition's "
            f"{proxy['additive']:.3f}, with {baseline.mean():.1f} % out of distribution against "
            f"{additive.mean():.1f} %: the intervention worked while σ̃ was lower. But σ̃ is a "
            "written curve, and the intervention trains on the test's strings."
        ),
        effect="final accuracy out of distribution, additive less baseline (percentage points)",
        **numbers(result),
        null_rate=two_group_rate(
            lambda a, b: welch(a, b, alternative="greater").p_value,
            centred,
            len(additive),
            study.null_studies,
            rng,
        ),
        power=power_of_t(
            0.5 * gap / deviation, len(additive), alpha=FAMILY_ALPHA, alternative="greater"
        ),
        picture=Picture(
            "scatter",
            "proxy σ̃ at the last checkpoint (published)",
            "accuracy out of distribution (%)",
            {name: (c.sigma_proxy[:, -1], final[name]) for name, c in pilot.items()},
            {"σ_critical": Thresholds().sigma_critical},
        ),
    )


def _learners(
    key: Key[Array, ""], agents: int, surface: float, rho: float | None = None
) -> Population:
    rates = {} if rho is None else {"rho": rho}
    return simulate_population(key, agents, environment={"r_surface": surface}, rates=rates)


def _pair(
    key: Key[Array, ""], agents: int, rho: float | None = None
) -> tuple[Population, Population]:
    """Learners with less surface reward, and others under the usual one."""
    treated, control = jax.random.split(key)
    return _learners(treated, agents, _TREATED, rho), _learners(control, agents, _SURFACE, rho)


def _solved(rng: np.random.Generator, learners: Population) -> Float[np.ndarray, " agents"]:
    return item_accuracy(rng, learners.delta_rel[:, -1], learners.alpha[:, -1])


def _free_mediation(rng: np.random.Generator, key: Key[Array, ""], agents: int) -> Mediation:
    """How much of the effect on items solved goes through σ where σ may grow."""
    groups = _pair(key, agents)
    return mediation(
        np.repeat([1.0, 0.0], agents),
        np.concatenate([g.sigma[:, -1, 0] for g in groups]),
        np.concatenate([_solved(rng, g) for g in groups]),
        seed=int(rng.integers(2**31)),
    )


M1 = Prediction(
    name="M1",
    title="Interventions work only through coherence",
    claim="An intervention improves generalisation only insofar as it raises σ above σ_critical.",
    null="where σ stays below σ_critical the intervention changes nothing",
    alternative="the whole effect goes through σ",
    statistic="share mediated by σ; repaired: Welch's t where σ cannot grow, one-sided",
    alpha=FAMILY_ALPHA,
    planned_n=500,
    planned_power=power_of_t(_EFFECT, 500, alpha=FAMILY_ALPHA, alternative="greater"),
    simulation=(
        f"n learners under surface reward {_TREATED} against n under {_SURFACE}, "
        f"{TIMES[-1]:g} epochs; repaired: with ρ = 0, and items solved by depth and attention."
    ),
    falsified_if="an intervention works with σ below σ_critical",
    tests=_tests,
)
