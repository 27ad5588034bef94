"""The predictions and their verdicts: `python -m experiments.predictions`.

Runs every registered test on simulated learners, the repaired test beside it where the registered
one cannot work, and both on data without the effect; writes one page with a table and a figure
for each prediction.
"""

import sys
import time
import zlib
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare


@hydra.main(version_base="1.3", config_path="../conf", config_name="predictions")
@one_line_errors
def main(config: DictConfig) -> None:
    """Run the selected predictions; exit with 1 if a repaired test cries wolf on null data."""
    prepare()
    output = Path(HydraConfig.get().runtime.output_dir)
    if not run_predictions(config, output):
        sys.exit(1)


def run_predictions(config: DictConfig, output: Path) -> bool:
    """Run them, write `output`, print the table; True if every check passed."""
    import jax

    from experiments import predictions_report
    from sigma_jax import predictions

    started = time.perf_counter()
    chosen = _chosen(config.select, predictions.PREDICTIONS)
    study = predictions.Study(n=config.n, null_studies=config.null_studies)
    root = jax.random.key(config.seed)
    verdicts = {}
    with tqdm(chosen.items(), desc="predictions", delay=2.0, leave=False) as bar:
        for name, prediction in bar:
            bar.set_postfix_str(name, refresh=False)
            # A stream of its own: a prediction gives the same verdict alone and among others.
            key = jax.random.fold_in(root, zlib.crc32(name.encode()))
            verdicts[name] = prediction.run(key, study)
    checks = predictions_report.make_checks(verdicts)
    wording = predictions_report.simulated_wording(config)
    predictions_report.write_report(config, chosen, verdicts, checks, output, wording)
    print(predictions_report.closing_text(verdicts, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in checks)


def _chosen(select, known: dict) -> dict:
    names = list(known) if select is None else [str(name) for name in select]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"select names no prediction: {', '.join(unknown) or 'an empty list'}; choose from "
            f"{', '.join(known)}."
        )
    return {name: known[name] for name in names}


if __name__ == "__main__":
    main()
