"""Fitting the state ABI between a kernel and the state machine: `python -m experiments.fit_abi`."""

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
    from transformers import PreTrainedTokenizerBase

    from sigma_jax.bridge import Fidelity, StateABI
    from sigma_jax.kernel import Ouro
    from sigma_jax.training import Dialogue


@hydra.main(version_base="1.3", config_path="../conf", config_name="fit_abi")
@one_line_errors
def main(config: DictConfig) -> None:
    """Fit and test; exit with 1 if a check fails."""
    prepare()
    if not run_fits(config, Path(HydraConfig.get().runtime.output_dir)):
        sys.exit(1)


@dataclass(frozen=True)
class Fit:
    """One dimension's maps, and how well they do on what was held out."""

    abi: "StateABI"
    start: "Fidelity"
    """Of the start that the data determine."""
    fitted: "Fidelity"


@dataclass(frozen=True)
class Material:
    """Token sequences, and dialogues to answer (none unless they are SCAN's)."""

    learnt: list[list[int]]
    held_out: list[list[int]]
    dialogues: "list[Dialogue]"


def run_fits(config: DictConfig, output: Path) -> bool:
    """Fit every dimension, test, write `output`; True if all checks passed."""
    from experiments import fit_abi_report
    from sigma_jax import bridge

    started = time.perf_counter()
    _check(config)
    model, tokenizer = load_kernel(config.kernel)
    material = make_material(config, tokenizer)
    hidden, held_out = harvest(config, model, material)
    fits = [fit(config, model, hidden, held_out, dim, output) for dim in sorted(config.dims)]
    exact = task_scores(fits[0].abi, model, material.dialogues)
    for result in fits:
        bridge.save_abi(output / f"abi_{result.abi.dim}.eqx", result.abi)
    checks = fit_abi_report.make_checks(config, fits, exact)
    fit_abi_report.write_report(config, fits, exact, (len(hidden), len(held_out)), checks, output)
    print(fit_abi_report.closing_text(fits, exact, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in checks)


def load_kernel(name: str) -> "tuple[Ouro, PreTrainedTokenizerBase]":
    """The model and the tokenizer beside it."""
    from sigma_jax import kernel

    source = kernel.kernel_mini_directory() if name == "kernel-mini" else name
    return kernel.load_model(source), kernel.load_tokenizer(source)


def make_material(config: DictConfig, tokenizer: "PreTrainedTokenizerBase") -> Material:
    """The lines of a file, or SCAN's dialogues; a part to learn from and a part held out."""
    rng = np.random.default_rng(config.seed)
    if config.prompts is None:
        from sigma_jax import grammars, training

        def drawn(pairs: Any, count: int) -> "list[Dialogue]":
            rows = rng.choice(len(pairs), min(count, len(pairs)), replace=False)
            return training.dialogues(tokenizer, [pairs[row] for row in rows])  # pyright: ignore[reportArgumentType]

        split = grammars.simple_scan_split()
        learnt, held_out = drawn(split.train, config.sequences), drawn(split.test, config.held_out)
        both = [[[*d.prompt, *d.answer] for d in part] for part in (learnt, held_out)]
        dialogues = held_out[: config.answers]
    else:
        lines = Path(config.prompts).read_text(encoding="utf-8").splitlines()
        ids = [tokenizer.encode(line) for line in lines if line.strip()]
        ids = [ids[row] for row in rng.permutation(len(ids))]
        cut = min(config.held_out, len(ids) // 2)
        both, dialogues = [ids[cut : cut + config.sequences], ids[:cut]], []
    learnt, held_out = ([ids for ids in part if 0 < len(ids) <= config.longest] for part in both)
    if not learnt or not held_out:
        raise ValueError(
            f"of {config.prompts or 'SCAN'} {len(learnt)} sequences are left to learn from and "
            f"{len(held_out)} to test on: more prompts are needed, or a larger `longest`."
        )
    return Material(learnt, held_out, dialogues)


def harvest(config: DictConfig, model: "Ouro", material: Material) -> tuple[np.ndarray, np.ndarray]:
    """The states at which the tokens leave the loops, [samples, hidden_size]: learnt, held out."""
    from sigma_jax import bridge
    from sigma_jax.kernel import QExit

    policy = QExit(threshold=config.exit_threshold)
    parts = []
    for sequences in (material.learnt, material.held_out):
        ordered = sorted(sequences, key=len)
        groups = [ordered[first : first + 100] for first in range(0, len(ordered), 100)]
        states = [
            bridge.exit_states(model, group, policy)
            for group in tqdm(groups, desc="harvest", delay=2.0)
        ]
        parts.append(np.concatenate(states).astype(np.float32))
    return parts[0], parts[1]


def fit(
    config: DictConfig,
    model: "Ouro",
    hidden: np.ndarray,
    held_out: np.ndarray,
    dim: int,
    output: Path,
) -> Fit:
    """The maps of one dimension, gone on with from the last checkpoint."""
    import jax

    from sigma_jax import bridge, training

    start = bridge.optimal_abi(hidden, dim)
    state = bridge.start_abi_training(start)
    directory = Path(config.directory or output) / "checkpoints" / str(dim)
    run = _identity(config, dim)
    state = training.load_training(directory, state, run) or state
    done = int(state.step)
    with tqdm(total=config.steps, initial=done, desc=f"dimension {dim}", delay=2.0) as bar:
        while done < config.steps:
            steps = min(config.checkpoint_every, config.steps - done)
            state, losses = bridge.train_abi(
                state,
                model,
                hidden,
                steps=steps,
                key=jax.random.key(config.seed),
                batch=config.batch,
                learning_rate=config.learning_rate,
                divergence_weight=config.divergence_weight,
            )
            if not np.isfinite(np.asarray(losses)).all():
                raise ValueError(
                    f"at dimension {dim} the loss is no longer finite; lower `learning_rate`."
                )
            done = int(state.step)
            training.save_training(directory, state, run)
            bar.update(steps)
    before, after = (bridge.fidelity(abi, model, held_out) for abi in (start, state.abi))
    return Fit(state.abi, before, after)


def _identity(config: DictConfig, dim: int) -> dict:
    """All that the bits of a fit depend on, but for how long it goes on."""
    given: dict[str, Any] = OmegaConf.to_container(config, resolve=True)  # pyright: ignore[reportAssignmentType]
    free = ("directory", "dims", "steps", "checkpoint_every", "answers", "required")
    return {name: value for name, value in given.items() if name not in free} | {"dim": dim}


def task_scores(
    abi: "StateABI", model: "Ouro", dialogues: "list[Dialogue]"
) -> tuple[float, float] | None:
    """The share of exact answers of the kernel, and with its head behind the ABI."""
    from sigma_jax import bridge, training

    if not dialogues:
        return None
    heard = bridge.heard_through(abi, model)
    both = [training.greedy_answers(m, dialogues, rows=len(dialogues)) for m in (model, heard)]
    return float(both[0].exact.mean()), float(both[1].exact.mean())


def _check(config: DictConfig) -> None:
    for name in ("sequences", "held_out", "longest", "steps", "checkpoint_every", "answers"):
        value = config[name]
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
    if not config.dims:
        raise ValueError("dims must name at least one dimension; got none.")


if __name__ == "__main__":
    main()
