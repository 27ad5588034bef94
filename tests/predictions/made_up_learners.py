"""Accuracies of learners that nobody trained, with effects that are known."""

import numpy as np

from sigma_jax.predictions import (
    TRAINED_DESIGNS,
    CoupledOutcomes,
    ModalityOutcomes,
    Registration,
    ShortcutOutcomes,
    TrainedStudy,
    Verdict,
)

STUDY = TrainedStudy(seeds=8, steps=800, checkpoints=32, null_studies=400)
CONDITIONS = ("baseline", "σ without batches", "schema loss", "full", "batches without σ")
WITH_BATCHES = ("schema loss", "full", "batches without σ")


def judged(name: str, outcomes, study: TrainedStudy = STUDY) -> Verdict:
    """The verdict of a prediction on made-up outcomes."""
    test = _tests()[name]
    return test.judge(outcomes, study)


def registration(name: str) -> Registration:
    """What a prediction registers for trained learners."""
    return _tests()[name].registration


def _tests() -> dict:
    tests = [test for design in TRAINED_DESIGNS.values() for test in design.tests]
    return {test.registration.name: test for test in tests}


def coupled(
    *,
    gain: float = 0.0,
    gain_of_sigma: float = 0.0,
    sigma_of_batches: float = 0.0,
    kink: float = 0.0,
    kink_when_yoked: float = 0.0,
    entry: float = 400.0,
    engineered: float = 0.0,
    other: float = 0.0,
    noise: float = 0.01,
    seed: int = 0,
) -> CoupledOutcomes:
    """Learners whose test accuracy is a line of σ̃ and batches, bent at the entry in `full`.

    `gain` of batches at equal σ̃; `gain_of_sigma` per unit of σ̃; `sigma_of_batches` in σ̃;
    `kink` and `kink_when_yoked`, changes of slope per 1,000 steps; `engineered` and `other`, what
    the full condition gains at the end.
    """
    rng = np.random.default_rng(seed)
    steps = np.arange(25.0, 801.0, 25.0)
    seeds, curve = STUDY.seeds, (STUDY.seeds, steps.size)
    coherence, test, familiar = {}, {}, {}
    for name in CONDITIONS:
        batches = float(name in WITH_BATCHES)
        level = 0.3 + 0.05 * rng.standard_normal((seeds, 1)) + sigma_of_batches * batches
        coherence[name] = level + noise * rng.standard_normal(curve)
        bend = {"full": kink, "batches without σ": kink_when_yoked}.get(name, 0.0)
        after = np.maximum(steps - entry, 0.0) / 1_000.0
        test[name] = (
            0.2 + gain * batches + gain_of_sigma * level + bend * after
            + noise * rng.standard_normal(curve)
        )  # fmt: skip
        familiar[name] = 0.8 + 0.05 * rng.standard_normal(curve)

    def ends(gained: float) -> dict:
        return {
            name: 0.1 + gained * (name == "full") + noise * rng.standard_normal(seeds)
            for name in CONDITIONS
        }

    return CoupledOutcomes(
        steps=steps,
        familiar=familiar,
        test=test,
        engineered=ends(engineered),
        other=ends(other),
        coherence=coherence,
        entry={name: np.full(seeds, entry) for name in CONDITIONS},
    )


def shortcut(*, fall: float, noise: float = 0.02, seed: int = 0) -> ShortcutOutcomes:
    """Learners whose accuracy in conflict falls by `fall` of the familiar one per unit of s."""
    rng = np.random.default_rng(seed)
    strengths = np.array([0.0, 0.5, 0.9])[:, None]
    familiar = np.full((3, STUDY.seeds), 0.8)
    conflict = familiar * (0.9 - fall * strengths)
    return ShortcutOutcomes(
        familiar, conflict + noise * rng.standard_normal(conflict.shape), familiar
    )


def modalities(
    *, by_product: float = 0.0, by_similarity: float = 0.0, noise: float = 0.02, seed: int = 0
) -> ModalityOutcomes:
    """Learners whose transfer grows by so much per unit of ωσ and of ω."""
    rng = np.random.default_rng(seed)
    similarity = np.array([0.0, 0.25, 0.75])[:, None]
    sigma = np.array([0.3, 0.9])[:, None, None] + np.zeros((2, 3, STUDY.seeds))
    transfer = 0.1 + by_product * similarity * sigma + by_similarity * similarity
    known = np.full(sigma.shape, 0.9)
    return ModalityOutcomes(
        known, known * sigma, transfer + noise * rng.standard_normal(sigma.shape)
    )
