"""Predictions judged on trained learners: `python -m experiments.trained_predictions`.

Trains the learners that the selected predictions need, each design once, and judges every
prediction as it was registered; writes one page with a table and a figure for each.
"""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare

if TYPE_CHECKING:
    from sigma_jax.predictions import TrainedDesign, TrainedStudy

_NOT_OF_A_STUDY = ("select", "learner")


@hydra.main(version_base="1.3", config_path="../conf", config_name="trained_predictions")
@one_line_errors
def main(config: DictConfig) -> None:
    """Train and judge the selected predictions; exit with 1 if a test cries wolf on null data."""
    prepare()
    output = Path(HydraConfig.get().runtime.output_dir)
    if not judge_predictions(config, output):
        sys.exit(1)


def judge_predictions(config: DictConfig, output: Path) -> bool:
    """Train, judge, write `output`, print the table; True if every check passed."""
    import sigma_jax
    from experiments import predictions_report
    from sigma_jax.predictions import TRAINED_DESIGNS

    started = time.perf_counter()
    study = make_study(config)
    designs = chosen_designs(config.select, TRAINED_DESIGNS)
    registrations, verdicts, seconds = {}, {}, {}
    with tqdm(designs.items(), desc="designs", delay=2.0, leave=False) as bar:
        for design, names in bar:
            bar.set_postfix_str(design.name, refresh=True)
            before = time.perf_counter()
            outcomes = design.train(study)
            for test in design.tests:
                name = test.registration.name
                if name in names:
                    registrations[name] = test.registration
                    verdicts[name] = (test.judge(outcomes, study),)
            seconds[design.name] = time.perf_counter() - before
    wording = predictions_report.Wording(
        "The Σ-Model's predictions on trained learners",
        "Small encoder–decoder Transformers were trained on SCAN's shorter commands, every seed in "
        "every condition, and asked held-out commands: exact match, decoded token by token. "
        "Accuracies are measured; nothing is simulated. What a test asks for and what refutes it "
        "was fixed before the run. False positives are counted at the level .05 on the same data "
        "with the effect taken out, whatever level the verdict uses.",
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.trained_predictions; "
        f"{study.seeds} seeds a condition, {study.steps} steps, {study.null_studies} null studies "
        "a test.",
    )
    checks = predictions_report.make_checks(verdicts)
    predictions_report.write_report(config, registrations, verdicts, checks, output, wording)
    print(predictions_report.closing_text(verdicts, checks))
    spent = ", ".join(f"{name} {each:.0f} s" for name, each in seconds.items())
    print(f"{time.perf_counter() - started:.0f} s ({spent}); report: {output / 'report.html'}")
    return all(check.passed for check in checks)


def make_study(config: DictConfig) -> "TrainedStudy":
    """The configured study."""
    from sigma_jax.predictions import TrainedStudy
    from sigma_jax.training import TransformerSizes

    given: dict = OmegaConf.to_container(config, resolve=True)  # pyright: ignore[reportAssignmentType]
    numbers = {name: value for name, value in given.items() if name not in _NOT_OF_A_STUDY}
    return TrainedStudy(**numbers, learner=TransformerSizes(**given["learner"]))


def chosen_designs(
    select, known: "dict[str, TrainedDesign]"
) -> "dict[TrainedDesign, tuple[str, ...]]":
    """The designs that the selected predictions need, each with the selected ones it judges."""
    names = [name for design in known.values() for name in design.names]
    wanted = names if select is None else [str(name) for name in select]
    unknown = [name for name in wanted if name not in names]
    if unknown or not wanted:
        raise ValueError(
            f"select names no prediction that is judged on trained learners: "
            f"{', '.join(unknown) or 'an empty list'}; choose from {', '.join(names)}."
        )
    chosen = {
        design: tuple(name for name in design.names if name in wanted) for design in known.values()
    }
    return {design: judged for design, judged in chosen.items() if judged}


if __name__ == "__main__":
    main()
