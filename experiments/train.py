"""Learners coupled to the Σ-Model, in conditions and ablations: `python -m experiments.train`."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare
from experiments.train_kernel import STOPPED, StopRequest

if TYPE_CHECKING:
    from experiments.train_results import Results
    from sigma_jax.training import CoupledRun, Record, SignalProbes, Task, TaskRows

WITHDRAWN = "full, withdrawn"
"""The full condition until `withdraw_at`, then plain training."""
_POSITIVE = ("seeds", "steps", "evaluate_every", "probes", "recipe.steps")


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
@one_line_errors
def main(config: DictConfig) -> None:
    """Train and report; exit with 1 if a check fails, with 143 if stopped before the end."""
    prepare()
    output = Path(HydraConfig.get().runtime.output_dir)
    if config.estimate_only:
        print(estimate_cost(config))
        return
    passed = run_experiment(config, output, StopRequest())
    if passed is None:
        print(f"stopped; go on with directory={config.directory or output}")
        sys.exit(STOPPED)
    if not passed:
        sys.exit(1)


def run_experiment(
    config: DictConfig, output: Path, stop: StopRequest | None = None
) -> bool | None:
    """Train all conditions and write `output`; True if the checks passed, None if stopped."""
    from experiments import train_report

    started = time.perf_counter()
    results = train_conditions(config, output, stop)
    if results is None:
        return None
    checks = train_report.make_checks(results)
    train_report.write_report(config, results, checks, output)
    print(train_report.closing_text(config, results, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in checks)


def train_conditions(
    config: DictConfig, output: Path, stop: StopRequest | None = None
) -> "Results | None":
    """All conditions' learners at their end, or None if stopped on the way."""
    from experiments.train_results import join_results
    from sigma_jax import training

    own, yoked = chosen_conditions(config)
    check_config(config)
    task = make_task(config)
    leaks = training.find_leaks(task)
    if leaks.total:
        raise ValueError(f"the task {task.name} leaks, so nothing was trained: {leaks}.")
    rows, probes = training.encode_task(task), make_probes(config, task)
    parts = []
    for seeds in seed_groups(config):
        first = train_group(config, task, rows, probes, seeds, own, None, output, stop)
        if first is None:
            return None
        runs = [(own, first)]
        if yoked:
            record = yoked_records(first, own, yoked, len(seeds))
            second = train_group(config, task, rows, probes, seeds, yoked, record, output, stop)
            if second is None:
                return None
            runs.append((yoked, second))
        parts.append((seeds, runs))
    return join_results(config, task, leaks, parts)


def chosen_conditions(config: DictConfig) -> tuple[list[str], list[str]]:
    """The conditions with a coherence of their own, and those that are yoked to `full`."""
    from sigma_jax import training

    known = [*training.CONDITIONS, WITHDRAWN]
    names = known if config.conditions is None else [str(name) for name in config.conditions]
    unknown = [name for name in names if name not in known]
    if unknown or not names or len(set(names)) != len(names):
        raise ValueError(
            f"conditions must be different ones of {', '.join(known)}; got {list(names)}."
        )
    yoked = [name for name in names if name in training.YOKED]
    own = [name for name in names if name not in training.YOKED]
    if yoked and "full" not in own:
        raise ValueError(f"{yoked[0]} is yoked to full: add full to the conditions.")
    return own, yoked


def check_config(config: DictConfig) -> None:
    """Raise ValueError for counts that are out of range or do not fit each other."""
    for name in _POSITIVE:
        value = OmegaConf.select(config, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
    if config.steps % config.evaluate_every or config.evaluate_every % config.recipe.steps:
        raise ValueError(
            f"steps, {config.steps}, must be a multiple of evaluate_every, "
            f"{config.evaluate_every}, and that of recipe.steps, {config.recipe.steps}."
        )
    own, _ = chosen_conditions(config)
    if WITHDRAWN in own and (
        config.withdraw_at % config.evaluate_every or not 0 < config.withdraw_at < config.steps
    ):
        raise ValueError(
            f"withdraw_at must be a multiple of evaluate_every, {config.evaluate_every}, between 0 "
            f"and {config.steps}; got {config.withdraw_at}."
        )


def make_task(config: DictConfig) -> "Task":
    """The configured task."""
    from sigma_jax import training

    return training.make_task(
        config.task, training.TaskSizes(**plain(config.sizes)), seed=config.task_seed
    )


def make_probes(config: DictConfig, task: "Task") -> "SignalProbes":
    """Sentences to measure signals on, none of which the test has."""
    from sigma_jax import training

    return training.make_signal_probes(
        task.grammar,
        task.vocabulary,
        (*task.task, *task.compositional),
        probes=config.probes,
        triples=config.triples,
        allowed=task.may_be_shown,
        seed=config.task_seed,
    )


def seed_groups(config: DictConfig) -> list[list[int]]:
    """The seeds, in groups that are trained side by side."""
    size = config.seeds if config.seeds_at_once is None else config.seeds_at_once
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"seeds_at_once must be a whole number of at least 1; got {size!r}.")
    seeds = range(config.first_seed, config.first_seed + config.seeds)
    return [list(seeds[at : at + size]) for at in range(0, len(seeds), size)]


def train_group(
    config: DictConfig,
    task: "Task",
    rows: "TaskRows",
    probes: "SignalProbes",
    seeds: list[int],
    conditions: list[str],
    record: "Record | None",
    output: Path,
    stop: StopRequest | None,
) -> "CoupledRun | None":
    """Some seeds in some conditions, from the last checkpoint on; None if stopped."""
    from sigma_jax import training
    from sigma_jax.schema import Thresholds

    recipe, noise = make_recipe(config), training.CoherenceNoise(**plain(config.noise))
    run = start_group(config, task, seeds, conditions)
    checkpoints = config.steps // config.evaluate_every
    blocks = config.evaluate_every // config.recipe.steps
    directory = _checkpoints(config, output, seeds, yoked=record is not None)
    identity = _identity(config, seeds, conditions)
    run = training.load_training(directory, run, identity) or run
    count = len(seeds) * len(conditions)
    record = training.no_record(count, checkpoints * blocks) if record is None else record
    with tqdm(total=config.steps, initial=run.step, desc=f"{count} learners", delay=2.0) as bar:
        while run.checkpoints_done < checkpoints:
            if stop is not None and stop.asked:
                return None
            run = training.advance_run(
                run,
                rows,
                probes,
                couplings_now(config, conditions, len(seeds), run.step),
                record,
                recipe=recipe,
                noise=noise,
                thresholds=Thresholds(**plain(config.thresholds)),
                at_once=config.learners_at_once,
            )
            training.save_training(directory, run, identity)
            bar.update(config.evaluate_every)
    return run


def start_group(
    config: DictConfig, task: "Task", seeds: list[int], conditions: list[str]
) -> "CoupledRun":
    """Untrained learners: the seeds in each of the conditions."""
    from sigma_jax import training

    return training.start_run(
        task.vocabulary.size,
        seeds,
        len(conditions),
        config.steps // config.evaluate_every,
        config.evaluate_every // config.recipe.steps,
        sizes=learner_sizes(config),
        noise=training.CoherenceNoise(**plain(config.noise)),
    )


def load_group(
    config: DictConfig,
    task: "Task",
    seeds: list[int],
    conditions: list[str],
    output: Path,
    *,
    yoked: bool,
) -> "CoupledRun":
    """The learners of a finished run's directory.

    **Raises** `ValueError` if there are none, if they are of another configuration, or unfinished.
    """
    from sigma_jax import training

    directory = _checkpoints(config, output, seeds, yoked=yoked)
    like = start_group(config, task, seeds, conditions)
    run = training.load_training(directory, like, _identity(config, seeds, conditions))
    if run is None or run.step < config.steps:
        raise ValueError(f"{directory} has no learners that are trained to the end.")
    return run


def _checkpoints(config: DictConfig, output: Path, seeds: list[int], *, yoked: bool) -> Path:
    name = f"{'yoked' if yoked else 'own'}-{seeds[0]}"
    return Path(config.directory or output) / "checkpoints" / name


def couplings_now(config: DictConfig, conditions: list[str], seeds: int, step: int) -> Any:
    """Every learner's coupling from `step` on: what is withdrawn is plain after its time."""
    from sigma_jax import training

    def coupling(name: str) -> training.Coupling:
        if name != WITHDRAWN:
            return training.CONDITIONS[name]
        return training.CONDITIONS["full" if step < config.withdraw_at else "baseline"]

    return training.stack_couplings([coupling(name) for name in conditions for _ in range(seeds)])


def yoked_records(run: "CoupledRun", own: list[str], yoked: list[str], seeds: int) -> "Record":
    """What the yoked conditions' learners follow: made of the full condition's, seed by seed."""
    import jax
    import jax.numpy as jnp

    from sigma_jax import training

    at = own.index("full") * seeds
    full = jax.tree.map(lambda leaf: leaf[at : at + seeds], run.trace.record)
    records = [training.yoked_record(name, full, seed=len(name)) for name in yoked]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *records)


def learner_sizes(config: DictConfig) -> Any:
    """Of the learner's architecture: a Transformer's, or kernel-mini's configuration."""
    from sigma_jax import kernel, training

    if config.architecture == "transformer":
        return training.TransformerSizes(**plain(config.learner))
    if config.architecture == "looped":
        return kernel.read_config(kernel.kernel_mini_directory())
    raise ValueError(f"architecture must be transformer or looped; got {config.architecture!r}.")


def make_recipe(config: DictConfig) -> Any:
    """The configured recipe of a block."""
    from sigma_jax import training

    return training.BlockRecipe(**plain(config.recipe))


def estimate_cost(config: DictConfig) -> str:
    """Measure two blocks of as many seeds as the configuration trains at once, of one condition."""
    import jax

    from sigma_jax import training

    own, yoked = chosen_conditions(config)
    check_config(config)
    task = make_task(config)
    rows, probes = training.encode_task(task), make_probes(config, task)
    recipe = make_recipe(config)
    seeds = seed_groups(config)[0]
    learners = training.start_learners(task.vocabulary.size, seeds, learner_sizes(config))
    state = training.start_coupled(learners)
    couplings = training.stack_couplings([training.CONDITIONS["full"]] * len(seeds))
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        state, trace = training.train_coupled(
            state,
            rows.pools,
            probes,
            couplings,
            training.no_record(len(seeds), 1),
            recipe=recipe,
            at_once=config.learners_at_once,
        )
        jax.block_until_ready(trace)
        seconds.append(time.perf_counter() - started)
    each = min(seconds[1:]) / (recipe.steps * len(seeds))
    total = each * config.steps * config.seeds * len(own + yoked)
    devices = jax.devices()
    return (
        f"{len(seeds)} learners at once on {len(devices)} × {devices[0].device_kind}: "
        f"{each * 1e3:.2f} ms a step and learner, signals included, after {seconds[0]:.0f} s of "
        f"compiling. {len(own + yoked)} conditions × {config.seeds} seeds × {config.steps} steps: "
        f"{total / 3600:.2f} hours of training here, without the checkpoints' decoding."
    )


def plain(section: DictConfig) -> dict[str, Any]:
    """A configuration section as a dictionary."""
    return OmegaConf.to_container(section, resolve=True)  # pyright: ignore[reportReturnType]


def _identity(config: DictConfig, seeds: list[int], conditions: list[str]) -> dict:
    """All that the bits of a group of learners depend on."""
    given: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore[reportAssignmentType]
    free = ("directory", "conditions", "seeds", "first_seed", "seeds_at_once", "estimate_only")
    kept = {name: value for name, value in given.items() if name not in free}
    return kept | {"seeds": seeds, "conditions": conditions}


if __name__ == "__main__":
    main()
