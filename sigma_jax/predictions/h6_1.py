"""H6.1: meta-learning raises in-distribution skill without coherence."""

from jaxtyping import Array, Key

from .generalisation_gap import forgetful_rates, gap_power, gap_verdicts, principled_practice
from .population import Population, simulate_population
from .registration import FAMILY_ALPHA, Prediction, Study, Verdict

_SPEED = 1.5
_PLANNED = 500


def _tests(key: Key[Array, ""], study: Study) -> tuple[Verdict, ...]:
    return gap_verdicts(
        key,
        study,
        lambda key, treated, path: _learners(key, study.n, treated, path),
        intervention=f"learning {_SPEED:g} times as efficiently",
        learner_must=(
            "A trained learner would have to show that meta-learning raises exact match on "
            "familiar items, leaves it on structural splits where it was, and does not raise σ̂."
        ),
    )


def _learners(key: Key[Array, ""], agents: int, treated: bool, path: bool) -> Population:
    """Structure-targeted learners; meta-learning multiplies the efficiency η of each.

    It stands in T_A, which enters the equations as a factor of η and nowhere else, so that every
    learner keeps an η_max of its own.
    """
    environment: dict[str, object] = {"r_surface": 0.2, "t_a": _SPEED if treated else 1.0}
    if path:
        environment["p_a"] = principled_practice()
    return simulate_population(key, agents, environment=environment, rates=forgetful_rates())


H6_1 = Prediction(
    name="H6.1",
    title="Meta-learning raises depth, not coherence",
    claim="Learning to learn raises skill in distribution and leaves structural skill behind.",
    null="the gap between familiar and structural items does not widen",
    alternative="the gap widens",
    statistic="paired t of the change of the gap, one-sided",
    alpha=FAMILY_ALPHA,
    planned_n=_PLANNED,
    planned_power=gap_power(_PLANNED),
    simulation=(
        f"n learners with learning efficiency as it is and times {_SPEED:g}, paired by common "
        "random numbers. Repaired: structure becomes available in proportion to depth."
    ),
    falsified_if="accuracy rises as much on structural as on familiar items",
    tests=_tests,
)
