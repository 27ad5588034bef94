"""The five-phase arc, end to end: `python -m experiments.arc`.

Simulates three regimes under each model, sweeps R₀ up and down, fits the published pilot, follows
the phases of simulated and measured trajectories, and writes a report with its own checks.
"""

import json
import sys
import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare


@hydra.main(version_base="1.3", config_path="../conf", config_name="arc")
@one_line_errors
def main(config: DictConfig) -> None:
    """Run the arc (or, with `sweep=NAME`, a sweep) and exit with 1 if a check fails."""
    prepare()
    output = Path(HydraConfig.get().runtime.output_dir)
    if config.get("sweep") is not None:
        from experiments.sweep import run_sweep

        run_sweep(config, output)
        return
    if not run_arc(config, output):
        sys.exit(1)


def run_arc(config: DictConfig, output: Path) -> bool:
    """Compute every result, write `output`, print the checks; True if they all passed."""
    from experiments import arc_report, arc_results

    started = time.perf_counter()
    stages = {
        "pilot": arc_results.read_pilot,
        "arcs": arc_results.simulate_arcs,
        "backends": arc_results.compare_backends,
        "hysteresis": arc_results.sweep_up_and_down,
        "portraits": arc_results.phase_portraits,
        "fits": arc_results.fit_measured_curves,
        "noise": arc_results.phase_entries_from_noise,
    }
    results: dict = {}
    with tqdm(total=len(stages) + 1, desc="arc", delay=2.0, leave=False) as bar:
        for name, stage in stages.items():
            bar.set_postfix_str(name, refresh=False)
            results[name] = stage(config, results)
            bar.update()
        bar.set_postfix_str("report", refresh=False)
        checks = arc_results.make_checks(config, results)
        arc_report.write_report(config, results, checks, output)
        bar.update()
    print(arc_report.closing_text(results, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in checks)


def write_summary(path: Path, summary: dict) -> None:
    """Write a summary as JSON, whole or not at all."""
    from sigma_jax.report import write_text

    write_text(path, json.dumps(summary, indent=2, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
