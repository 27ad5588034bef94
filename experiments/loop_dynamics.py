"""What a kernel's loops do as nodes of the state machine: `python -m experiments.loop_dynamics`."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.fit_abi import Material, harvest, load_kernel, make_material
from experiments.launch import one_line_errors, prepare

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from sigma_jax.bridge import StateABI
    from sigma_jax.kernel import Ouro

ROOT = Path(__file__).parents[1]
_LEAST_LINE = 8
"""Tokens that a line of another kind of text must have."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="loop_dynamics")
@one_line_errors
def main(config: DictConfig) -> None:
    """Look at the loops; exit with 1 if a check fails."""
    prepare()
    if not run_dynamics(config, Path(HydraConfig.get().runtime.output_dir)):
        sys.exit(1)


@dataclass(frozen=True)
class Places:
    """Token sequences, each looked at in its last token."""

    calibration: list[list[int]]
    """For canaries: first those that they are fitted to, then those that thresholds count on."""
    positions: list[list[int]]
    strangers: list[list[int]]
    """Text of another kind, of lengths that the positions have."""


def run_dynamics(config: DictConfig, output: Path) -> bool:
    """Measure, check, write `output`; True if all checks passed."""
    from experiments import loop_dynamics_report, loop_dynamics_results

    started = time.perf_counter()
    _check(config)
    model, tokenizer = load_kernel(config.kernel)
    if model.config.total_ut_steps < 2:
        raise ValueError(f"kernel {config.kernel} has a single loop; at least 2 are needed.")
    learnt, places = make_places(config, tokenizer)
    abi = _abi(config, model, Material(learnt, places.positions, []))
    results = loop_dynamics_results.measure(config, model, abi, places)
    checks = loop_dynamics_report.make_checks(config, results)
    loop_dynamics_report.write_report(config, results, checks, output)
    print(loop_dynamics_report.closing_text(config, results, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in checks)


def make_places(
    config: DictConfig, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[list[int]], Places]:
    """Sequences to fit the ABI to, and places that it has not seen.

    Of a dialogue the prompt and a random part of the answer are kept, so that what is predicted is
    a token of the answer, or its end; of other text a random part from its beginning.
    """
    count = config.calibration + config.counted + config.positions
    everything = {"held_out": sys.maxsize, "answers": sys.maxsize}
    material = make_material(OmegaConf.create(dict(config) | everything), tokenizer)
    whole = [(ids[:1], ids[1:]) for ids in material.held_out]
    if material.dialogues:
        whole = [
            (dialogue.prompt, dialogue.answer[:-1])
            for dialogue in material.dialogues
            if len(dialogue.prompt) + len(dialogue.answer) <= config.longest
        ]
    rng = np.random.default_rng(config.seed)
    cut = [[*first, *rest[: rng.integers(len(rest) + 1)]] for first, rest in whole]
    if len(cut) < count:
        raise ValueError(
            f"of {config.prompts or 'SCAN'} {len(cut)} held-out sequences are left, but "
            f"calibration, counted and positions ask for {count}: ask for fewer, or give more "
            "prompts or a larger `longest`."
        )
    cut = cut[:count]
    positions = cut[: config.positions]
    source = Path(ROOT / "README.md" if config.strangers is None else config.strangers)
    lines = [tokenizer.encode(line) for line in source.read_text(encoding="utf-8").splitlines()]
    lines = [ids for ids in lines if len(ids) >= _LEAST_LINE]
    if not lines:
        raise ValueError(f"strangers: {source} has no line of at least {_LEAST_LINE} tokens.")
    lengths = rng.permutation([len(ids) for ids in positions])
    strangers = [ids[:length] for ids, length in zip(lines, lengths, strict=False)]
    return material.learnt, Places(cut[config.positions :], positions, strangers)


def _abi(config: DictConfig, model: "Ouro", material: Material) -> "StateABI":
    """The maps of a file, or those that the exit states determine."""
    from sigma_jax import bridge

    if config.abi is not None:
        return bridge.load_abi(config.abi)
    return bridge.optimal_abi(harvest(config, model, material)[0], config.dim)


def _check(config: DictConfig) -> None:
    whole = ("sequences", "calibration", "counted", "positions", "longest", "loops", "rollouts")
    for name in whole:
        value = config[name]
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
    for name in ("rates", "shoves"):
        if not config[name]:
            raise ValueError(f"{name} must name at least one number; got none.")


if __name__ == "__main__":
    main()
