"""Training of the kernel in two stages: `python -m experiments.train_kernel`.

On SCAN, which makes kernel-mini, or on the bytes of a file.
"""

import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sigma_jax.kernel import Ouro
    from sigma_jax.training import (
        Batch,
        Batches,
        Dialogue,
        Metrics,
        Recipe,
        TrainingState,
    )

STAGES = ("joint", "gate")
STOPPED = 143
"""Exit status after SIGTERM, as a shell gives it."""
_TEXT_TEST_BATCHES = 16
_MARKS = ("bos", "eos", "pad")


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_kernel")
@one_line_errors
def main(config: DictConfig) -> None:
    """Train and test; exit with 1 if a check fails, with 143 if stopped before the end."""
    prepare()
    output = Path(HydraConfig.get().runtime.output_dir)
    stop = StopRequest()
    passed = run_training(config, output, stop)
    if passed is None:
        print(f"stopped; go on with directory={config.directory or output}")
        sys.exit(STOPPED)
    if not passed:
        sys.exit(1)


class StopRequest:
    """Whether SIGTERM has asked the program to stop; training looks after every segment."""

    def __init__(self):
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True


@dataclass(frozen=True)
class Material:
    """What is learnt from, and what is tested on."""

    batches: "Batches"
    dialogues: "list[Dialogue]"
    """Of SCAN's test; none for text."""
    held_out: "list[Batch]"
    """Of text; none for SCAN."""


def run_training(config: DictConfig, output: Path, stop: StopRequest | None = None) -> bool | None:
    """Train, test and write `output`; True if all checks passed, None if stopped on the way."""
    started = time.perf_counter()
    _check(config)
    recipes = make_recipes(config)
    tokenizer = make_tokenizer(config)
    model = make_model(config, tokenizer)
    material = make_material(config, tokenizer)
    log: list[dict] = []
    for recipe in recipes:
        run = _identity(config, recipe.stage)
        trained = run_stage(config, recipe, model, material.batches, run, output, log, stop)
        if trained is None:
            return None
        model = trained
    from experiments import train_kernel_report

    results = evaluate(config, model, material)
    checks = train_kernel_report.make_checks(config, results)
    passed = all(check.passed for check in checks)
    places = [output / "model", *([Path(config.export)] if config.export and passed else [])]
    for place in places:
        train_kernel_report.write_model(config, model, tokenizer, results, log, place)
    train_kernel_report.write_report(config, model, results, log, checks, output)
    print(train_kernel_report.closing_text(results, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return passed


def make_recipes(config: DictConfig) -> "list[Recipe]":
    """One for each stage."""
    from sigma_jax import training

    return [training.Recipe(stage=stage, **config[stage]) for stage in STAGES]


def make_tokenizer(config: DictConfig) -> "PreTrainedTokenizerFast":
    """The words of SCAN, or only bytes."""
    from sigma_jax import grammars, training

    if config.data == "text":
        return training.make_tokenizer()
    return training.make_tokenizer((*grammars.SCAN_COMMAND_WORDS, *grammars.SCAN_ACTIONS))


def make_material(config: DictConfig, tokenizer: "PreTrainedTokenizerFast") -> Material:
    """The batches and the test of `config.data`."""
    from sigma_jax import grammars, training

    if config.data == "text":
        return _text_material(config, tokenizer)
    train, test = grammars.simple_scan_split()
    if config.evaluate.dialogues is not None:
        test = test[:: max(1, len(test) // config.evaluate.dialogues)]
    train, test = (training.dialogues(tokenizer, part) for part in (train, test))
    batches = training.DialogueBatches(train, tokens=config.batch_tokens, seed=config.seed)
    return Material(batches, test, [])


def _text_material(config: DictConfig, tokenizer: "PreTrainedTokenizerFast") -> Material:
    from sigma_jax import training

    path = Path(config.path or "")
    if not path.is_file():
        raise FileNotFoundError(f"data=text needs path=FILE; there is no file {config.path!r}.")
    ids = training.byte_ids(tokenizer, path.read_bytes())
    cut = len(ids) * 9 // 10
    rows = max(1, config.batch_tokens // config.length)
    learnt, held_out = (
        training.TextBatches(ids[span], rows=rows, length=config.length, seed=config.seed)
        for span in (slice(cut), slice(cut, None))
    )
    return Material(learnt, [], [held_out.batch(number) for number in range(_TEXT_TEST_BATCHES)])


def make_model(config: DictConfig, tokenizer: "PreTrainedTokenizerFast") -> "Ouro":
    """A model of random weights, of the configured shape and the tokenizer's vocabulary."""
    from flax import nnx

    from sigma_jax.kernel import Ouro, OuroConfig

    chosen: dict[str, Any] = OmegaConf.to_container(config.model, resolve=True)  # pyright: ignore[reportAssignmentType]
    shape = OuroConfig(
        vocab_size=len(tokenizer),
        **{f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in _MARKS},
        **chosen,
    )
    return Ouro(shape, rngs=nnx.Rngs(config.seed))


def run_stage(
    config: DictConfig,
    recipe: "Recipe",
    model: "Ouro",
    batches: "Batches",
    run: dict,
    output: Path,
    log: list[dict],
    stop: StopRequest | None,
) -> "Ouro | None":
    """The model after the stage, gone on with from its last checkpoint; None if stopped.

    `run` is all that the bits depend on; of `config` are taken `directory`, `segment` and
    `checkpoint_every`. The lines of the stage are added to `log`.
    """
    from sigma_jax import training

    stage = recipe.stage
    directory = Path(config.directory or output)
    checkpoints, log_path = directory / "checkpoints" / stage, directory / f"log_{stage}.csv"
    state = training.start_training(model, recipe)
    found = training.load_training(checkpoints, state, run)
    lines: list[dict] = []
    if found is not None:
        state = found
        lines = _read_log(log_path, int(state.step))
    done, kept = int(state.step), int(state.step)
    with tqdm(total=recipe.steps, initial=done, desc=f"stage {stage}", delay=2.0) as bar:
        while done < recipe.steps and not (stop and stop.asked):
            steps = min(config.segment, recipe.steps - done)
            started = time.perf_counter()
            state, metrics = training.train(model, state, batches, recipe, steps=steps)
            done = metrics.step
            lines.append(_log_line(stage, metrics, time.perf_counter() - started))
            bar.set_postfix_str(f"loss {metrics.loss:.4g}", refresh=False)
            bar.update(steps)
            if done - kept >= config.checkpoint_every:
                _keep(checkpoints, log_path, state, run, lines)
                kept = done
    if done > kept:
        _keep(checkpoints, log_path, state, run, lines)
    log += lines
    return training.trained_model(model, state, recipe) if done == recipe.steps else None


def _identity(config: DictConfig, stage: str) -> dict:
    """All that the bits of a stage depend on. The second stands on what the first has made."""
    given: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore[reportAssignmentType]
    names = ("data", "path", "seed", "batch_tokens", "length", "model")
    return {name: given[name] for name in (*names, *STAGES[: STAGES.index(stage) + 1])}


def _keep(
    checkpoints: Path, log_path: Path, state: "TrainingState", run: dict, lines: list[dict]
) -> None:
    """The log first: what a checkpoint stands on is then always in it."""
    import pandas as pd

    from sigma_jax import report, training

    table = pd.DataFrame(lines)
    report.write_whole(log_path, lambda path: table.to_csv(path, index=False))
    training.save_training(checkpoints, state, run)


def _read_log(path: Path, step: int) -> list[dict]:
    import pandas as pd

    table = pd.read_csv(path)
    return table.loc[table.step <= step].to_dict(orient="records")


def _log_line(stage: str, metrics: "Metrics", seconds: float) -> dict:
    losses = {f"loss_loop_{i + 1}": float(x) for i, x in enumerate(metrics.loop_losses)}
    return {
        "stage": stage,
        "step": metrics.step,
        "loss": metrics.loss,
        **losses,
        "exit_step": metrics.exit_step,
        "entropy": metrics.entropy,
        "gradient_norm": metrics.gradient_norm,
        "learning_rate": metrics.learning_rate,
        "tokens": metrics.tokens,
        "seconds": round(seconds, 3),
    }


@dataclass(frozen=True)
class Result:
    """What the model makes of the test at one depth."""

    depth: str
    mean_depth: float
    exact: float | None
    """Share of the answers that are exact; None for text."""
    bits: float | None
    """Bits a byte; None for dialogues."""


def evaluate(config: DictConfig, model: "Ouro", material: Material) -> list[Result]:
    """The test at every depth, deepest last, and with Q-exit where there are answers to decode."""
    loops = model.config.total_ut_steps
    if config.data == "text":
        return _evaluate_text(config, model, material.held_out)
    from sigma_jax.kernel import Depth, FixedDepth, QExit
    from sigma_jax.training import greedy_answers

    policies = {f"{n} of {loops}": FixedDepth(max_loops=n) for n in range(1, loops + 1)}
    policies |= {f"q = {q:g}": QExit(threshold=q) for q in config.evaluate.thresholds}
    results = []
    for name, policy in tqdm(policies.items(), desc="test", delay=2.0):
        answers = greedy_answers(model, material.dialogues, Depth(policy))
        mean_depth = float(np.nanmean(answers.depths))
        results.append(Result(name, mean_depth, float(answers.exact.mean()), None))
    return results


def _evaluate_text(config: DictConfig, model: "Ouro", test: "list[Batch]") -> list[Result]:
    import jax

    from sigma_jax import training

    recipe = make_recipes(config)[0]
    objective = jax.jit(lambda model, batch: training.evaluate_objective(model, batch, recipe))
    measured = [objective(model, batch) for batch in test]
    nats = np.mean([np.asarray(m.loop_losses) for m in measured], axis=0)
    return [
        Result(f"{n + 1} of {len(nats)}", n + 1.0, None, float(loss / np.log(2.0)))
        for n, loss in enumerate(nats)
    ]


def _check(config: DictConfig) -> None:
    if config.data not in ("scan", "text"):
        raise ValueError(f"data must be scan or text; got {config.data!r}.")
    for name in ("segment", "checkpoint_every", "batch_tokens", "length"):
        value = config[name]
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")


if __name__ == "__main__":
    main()
