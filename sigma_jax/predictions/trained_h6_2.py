"""H6.2 on trained learners: does skill in engineered compositions come alone?"""

from .coupled_learners import OTHER, CoupledOutcomes
from .registration import FAMILY_ALPHA, Registration, Verdict
from .trained_gap import EFFECT, PLANNED_SEEDS, STATISTIC, GapOutcomes, judge_gap, planned_gap_power
from .trained_study import TrainedStudy, TrainedTest


def judge_engineering(outcomes: CoupledOutcomes, study: TrainedStudy) -> Verdict:
    """The full condition, whose batches have commands with "jump", against the baseline."""
    return judge_gap(
        GapOutcomes(
            familiar_without=outcomes.engineered["baseline"],
            familiar_with=outcomes.engineered["full"],
            structural_without=outcomes.other["baseline"],
            structural_with=outcomes.other["full"],
        ),
        study,
        name="H6.2",
        intervention='Giving batches 10 to 40 % of commands with "jump" in company',
        kinds=("engineered", "other"),
        note=f'Engineered: held-out commands with "jump" in company; other: with "{OTHER}".',
    )


ENGINEERING = TrainedTest(
    Registration(
        name="H6.2",
        title="Engineered distributions do not transfer coherence",
        claim="Training on engineered compositions gives skill in those and none in others.",
        null="accuracy on engineered ones does not rise, or the gap to others does not widen",
        alternative="accuracy on engineered compositions rises and the gap widens",
        statistic=STATISTIC,
        alpha=FAMILY_ALPHA,
        planned_n=PLANNED_SEEDS,
        planned_power=planned_gap_power(),
        simulation=(
            f"{PLANNED_SEEDS} seeds in the full condition, whose batches have 100 commands with "
            f'"jump" in company, and the same in the baseline. Nobody reads "{OTHER}". Power for '
            f"{EFFECT:g}."
        ),
        falsified_if="accuracy rises as much on other as on engineered compositions",
    ),
    judge_engineering,
)
