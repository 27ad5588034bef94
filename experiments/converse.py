"""One scripted conversation, led in many ways: `python -m experiments.converse`."""

import sys
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare
from experiments.train import plain


@hydra.main(version_base="1.3", config_path="../conf", config_name="converse")
@one_line_errors
def main(config: DictConfig) -> None:
    """Lead the conversations and report; exit with 1 if the machinery is not exact."""
    prepare()
    if not run_converse(config, Path(HydraConfig.get().runtime.output_dir)):
        sys.exit(1)


def run_converse(config: DictConfig, output: Path) -> bool:
    """Lead every conversation, write `output`; True if the checks of the machinery passed."""
    from experiments import converse_report, converse_results, converse_runs

    started = time.perf_counter()
    given: Any = plain(config)
    seeds, arms = _checked(given)
    done = []
    with tqdm(total=len(seeds), desc="seeds", delay=2.0) as bar:
        for each in converse_runs.run_seeds(given, seeds, arms):
            done.append(each)
            bar.update()
    done.sort(key=lambda each: each.seed)
    machinery = converse_runs.lead_again(given, done[0])
    lost = converse_runs.lose_identity(given, seeds[0]) if given["model"] == "simulated" else []
    results = converse_results.make_results(converse_runs.scenario_of(given), done, machinery)
    converse_report.write_report(config, results, lost, output)
    print(converse_report.closing_text(results))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in results.checks)


def _checked(given: dict[str, Any]) -> tuple[list[int], list[str]]:
    """The seeds and the arms' names."""
    from experiments import converse_runs
    from sigma_jax.runtime import ARMS

    for name in ("seeds", "workers"):
        if given[name] < 1:
            raise ValueError(f"{name} must be at least 1; got {given[name]}.")
    names = [arm.name for arm in ARMS] if given["arms"] is None else list(given["arms"])
    chosen = [arm.name for arm in converse_runs.chosen_arms(names)]
    if "runtime" not in chosen:
        raise ValueError(
            f"arms must hold runtime, which the others are compared with; got {names}."
        )
    with converse_runs.model_of(given, converse_runs.scenario_of(given), given["first_seed"]):
        pass  # what is wrong with the model is said before anything starts
    return list(range(given["first_seed"], given["first_seed"] + given["seeds"])), chosen


if __name__ == "__main__":
    main()
