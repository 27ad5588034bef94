"""Distillation of a ledger into a kernel's adapter: `python -m experiments.distil`.

The loop's last step: what others answered with checked evidence, the kernel learns to say alone.
"""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments import gates
from experiments.launch import one_line_errors, prepare
from experiments.train_kernel import STOPPED, StopRequest, run_stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from sigma_jax.grounding import Corpus, Ledger, Pair, Prompt, Retriever
    from sigma_jax.kernel import Ouro
    from sigma_jax.training import Dialogue, DialogueBatches, Recipe

    Parts = dict[str, list[tuple[Pair, Dialogue]]]

COMMAND = "python -m experiments.distil"
BEFORE, AFTER = ("alone", "grounded"), ("alone, distilled", "grounded, distilled")
"""The arms: the kernel without evidence and the whole loop around it, before and after."""
LEARNT, HELD_OUT, TOO_LONG = PARTS = ("learnt", "held out", "too long")
"""What becomes of a pair."""
_LEAST = {
    "passages": 1,
    "max_tokens": 1,
    "longest": 2,
    "batch_tokens": 2,
    "segment": 1,
    "checkpoint_every": 1,
    "scan_commands": 0,
}
_PAIR_WIDTHS, _SCAN_WIDTHS = 128, 64
"""Steps of the widths of batches, coarse because each width is a program to be compiled."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="distil")
@one_line_errors
def main(config: DictConfig) -> None:
    """Distil; exit with 1 if a check of the machinery fails, with 143 if stopped before the end."""
    prepare()
    output = Path(HydraConfig.get().runtime.output_dir)
    passed = run_distillation(config, output, StopRequest())
    if passed is None:
        kept = config.directory or output
        print(f"stopped; go on with directory={kept} ledger={output / 'ledger.jsonl'}")
        sys.exit(STOPPED)
    if not passed:
        sys.exit(1)


def run_distillation(
    config: DictConfig, output: Path, stop: StopRequest | None = None
) -> bool | None:
    """Ask, learn, ask again, and write `output`; True if the machinery is sound, None if stopped.

    All that is measured goes into the ledger, and what is written is derived from it.
    """
    from experiments import distil_report
    from sigma_jax import grounding

    started = time.perf_counter()
    recipe = make_recipe(config)
    path = output / "ledger.jsonl"
    if path.exists():
        raise ValueError(f"{path} holds an evaluation already: choose another hydra.run.dir.")
    prompts = gates.load_prompts(config)
    pairs = None if config.ledger is None else ledger_pairs(config)
    corpus = grounding.read_corpus(gates.corpus_root(config))
    retriever = grounding.Retriever(corpus.passages, contexts=corpus.contexts)
    model, tokenizer = starting_model(config)
    about = gates.describe(config, corpus.digest, prompts, COMMAND)
    with grounding.Ledger(path) as ledger:
        ledger.append("evaluation", about)
        asked = (prompts, corpus, retriever, ledger)
        measure(config, config.adapter, BEFORE, *asked)
        measure_scan(config, model, tokenizer, BEFORE[0], ledger)
        if pairs is None:
            ledger.flush()
            pairs = grounding.training_pairs(grounding.read_ledger(path), kernel="kernel")
        parts = sort_pairs(config, pairs, tokenizer, model.config.max_position_embeddings)
        record_pairs(parts, ledger)
        identity = _identity(config, about["weights"], parts)
        trained = learn(config, recipe, model, tokenizer, parts, identity, output, ledger, stop)
        if trained is None:
            return None
        adapter = write_adapter(config, model, trained, parts, output, ledger)
        measure(config, adapter, AFTER, *asked)
        measure_scan(config, trained, tokenizer, AFTER[0], ledger)
    passed = distil_report.conclude(config, path, output)
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    print(f"the full gates: {gates_command(config, adapter)}")
    return passed


def make_recipe(config: DictConfig) -> "Recipe":
    """How the adapter is trained, once the configuration has been found to be in order."""
    from sigma_jax import grounding, training

    gates.check_config(config, _LEAST)
    grounding.is_held_out("", config.held_out)
    if config.rehearsal not in (None, "scan"):
        raise ValueError(f"rehearsal must be scan or null; got {config.rehearsal!r}.")
    if config.rehearsal and not 0.0 <= config.rehearsal_share < 1.0:
        got = config.rehearsal_share
        raise ValueError(f"rehearsal_share must lie in [0, 1), or nothing is learnt; got {got!r}.")
    return training.Recipe(stage="adapter", **config.training)


def ledger_pairs(config: DictConfig) -> "tuple[Pair, ...]":
    """The pairs of the ledger that was given, which must be of the same kernel."""
    from sigma_jax import grounding

    records = list(grounding.read_ledger(config.ledger))
    about = grounding.read_evaluation(records).about
    for name in ("kernel", "adapter"):
        if about[name] != config[name]:
            raise ValueError(
                f"{config.ledger} is of the {name} {about[name]!r}, and this is {config[name]!r}: "
                "what was hard for another kernel says nothing of this one."
            )
    return grounding.training_pairs(records, kernel="kernel")


def starting_model(config: DictConfig) -> "tuple[Ouro, PreTrainedTokenizerFast]":
    """The kernel with its adapter, or with a new one that changes nothing yet."""
    from flax import nnx

    from experiments.gates_machine import kernel_source, load_kernel
    from sigma_jax import kernel

    model = load_kernel(config.kernel, config.adapter)
    if config.adapter is None:
        given: Any = OmegaConf.to_container(config.lora)
        model = kernel.add_adapter(model, kernel.LoRAConfig(**given), rngs=nnx.Rngs(config.seed))
    tokenizer = kernel.load_tokenizer(kernel_source(config.kernel))
    tokenizer.model_max_length = sys.maxsize  # what is too long is sorted out, not warned of
    return model, tokenizer


def measure(
    config: DictConfig,
    adapter: str | None,
    arms: tuple[str, str],
    prompts: "tuple[Prompt, ...]",
    corpus: "Corpus",
    retriever: "Retriever",
    ledger: "Ledger",
) -> None:
    """The golden set, answered by the kernel with this adapter, and by the loop around it."""
    asking = config.copy()
    asking.adapter = adapter
    with gates.providers(asking) as (kernel, router):
        answerer = gates.make_answerer(asking, corpus, retriever, router, ledger)
        gates.measure_answers(asking, ledger, prompts, kernel, answerer, arms)


def measure_scan(
    config: DictConfig,
    model: "Ouro",
    tokenizer: "PreTrainedTokenizerFast",
    arm: str,
    ledger: "Ledger",
) -> None:
    """Commands of SCAN's test, evenly, each answered exactly or not."""
    from sigma_jax import grammars, training

    if config.scan_commands == 0:
        return
    test = grammars.simple_scan_split().test
    chosen = test[:: max(1, len(test) // config.scan_commands)][: config.scan_commands]
    asked = training.dialogues(tokenizer, chosen)
    answers = training.greedy_answers(model, asked, rows=min(256, len(asked)))
    for pair, exact in zip(chosen, answers.exact, strict=True):
        ledger.append("scan", {"arm": arm, "command": pair.command, "exact": bool(exact)})


def sort_pairs(
    config: DictConfig,
    pairs: "tuple[Pair, ...]",
    tokenizer: "PreTrainedTokenizerFast",
    positions: int,
) -> "Parts":
    """The pairs by what becomes of them, as tokens too.

    **Raises** `ValueError` if there is nothing to learn from.
    """
    from sigma_jax import grounding, training

    limit = min(config.longest, config.batch_tokens, positions)
    found = training.dialogues(tokenizer, [(pair.question, pair.answer) for pair in pairs])
    parts: Parts = {name: [] for name in PARTS}
    for pair, dialogue in zip(pairs, found, strict=True):
        part = HELD_OUT if grounding.is_held_out(pair.id, config.held_out) else LEARNT
        fits = len(dialogue.prompt) + len(dialogue.answer) <= limit
        parts[part if fits else TOO_LONG].append((pair, dialogue))
    if not parts[LEARNT]:
        raise ValueError(
            f"there is nothing to learn from: of {len(pairs)} questions that others than the "
            f"kernel answered with checked evidence, {len(parts[HELD_OUT])} are held out and "
            f"{len(parts[TOO_LONG])} longer than {limit} tokens."
        )
    return parts


def record_pairs(parts: "Parts", ledger: "Ledger") -> None:
    """Every pair, and what becomes of it."""
    for part, members in parts.items():
        for pair, dialogue in members:
            tokens = len(dialogue.prompt) + len(dialogue.answer)
            ledger.append("pair", {**pair._asdict(), "part": part, "tokens": tokens})


def learn(
    config: DictConfig,
    recipe: "Recipe",
    model: "Ouro",
    tokenizer: "PreTrainedTokenizerFast",
    parts: "Parts",
    identity: dict[str, Any],
    output: Path,
    ledger: "Ledger",
    stop: StopRequest | None,
) -> "Ouro | None":
    """The kernel with its adapter trained, gone on with from its last checkpoint; None if stopped.

    The losses before and after, and the log between, go into the ledger.
    """
    from sigma_jax import grammars, training

    new = _batches(config, [dialogue for _, dialogue in parts[LEARNT]], _PAIR_WIDTHS)
    batches = new
    if config.rehearsal is not None:
        practised = training.dialogues(tokenizer, grammars.simple_scan_split().train)
        old = _batches(config, practised, _SCAN_WIDTHS)
        batches = training.MixedBatches(new, old, share=config.rehearsal_share)
    log: list[dict] = []
    trained = run_stage(config, recipe, model, batches, identity, output, log, stop)
    if trained is None:
        return None
    ledger.append("training", {"log": log})
    measured = {LEARNT: new}
    if parts[HELD_OUT]:
        dialogues = [dialogue for _, dialogue in parts[HELD_OUT]]
        measured[HELD_OUT] = _batches(config, dialogues, _PAIR_WIDTHS)
    for part, supply in measured.items():
        before, after = (mean_loss(one, supply, recipe) for one in (model, trained))
        ledger.append("loss", {"part": part, "before": before, "after": after})
    return trained


def _batches(config: DictConfig, dialogues: "list[Dialogue]", widths: int) -> "DialogueBatches":
    from sigma_jax import training

    return training.DialogueBatches(
        dialogues, tokens=config.batch_tokens, seed=config.seed, step=widths
    )


def mean_loss(model: "Ouro", batches: "DialogueBatches", recipe: "Recipe") -> float:
    """Nats a token of the answers at full depth, over one epoch."""
    import jax

    from sigma_jax import training

    objective = jax.jit(lambda model, batch: training.evaluate_objective(model, batch, recipe))
    epoch = [batches.batch(number) for number in range(batches.per_epoch)]
    losses = [float(objective(model, batch).loop_losses[-1]) for batch in epoch]
    return float(np.average(losses, weights=[batch.weights.sum() for batch in epoch]))


def write_adapter(
    config: DictConfig,
    model: "Ouro",
    trained: "Ouro",
    parts: "Parts",
    output: Path,
    ledger: "Ledger",
) -> str:
    """Save the adapter; what it is when read again, and whether all else is as it was."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from experiments.gates_machine import load_kernel
    from sigma_jax import kernel

    directory = str(output / "adapter")
    kernel.save_adapter(trained, directory)
    again = load_kernel(config.kernel, directory)
    _, (prompt, answer) = parts[LEARNT][0]
    ids = jnp.asarray([[*prompt, *answer]], jnp.int32)
    logits = jax.jit(lambda model: model.logits(model(ids).hidden[-1]).astype(jnp.float32))
    frozen = [jax.tree.leaves(nnx.state(one, nnx.Not(nnx.LoRAParam))) for one in (model, trained)]
    changed = sum(not np.array_equal(old, new) for old, new in zip(*frozen, strict=True))
    found = {
        "adapter": directory,
        "largest_logit_difference": float(jnp.abs(logits(trained) - logits(again)).max()),
        "frozen_parameters": len(frozen[0]),
        "frozen_parameters_changed": changed,
    }
    ledger.append("adapter", found)
    return directory


def _identity(config: DictConfig, weights: str | None, parts: "Parts") -> dict[str, Any]:
    """All that the bits of the adapter depend on."""
    given: Any = OmegaConf.to_container(config, resolve=True)
    names = ("kernel", "adapter", "seed", "lora", "training", "batch_tokens", "rehearsal")
    learnt = json.dumps([[pair.question, pair.answer] for pair, _ in parts[LEARNT]])
    return {
        **{name: given[name] for name in (*names, "rehearsal_share")},
        "weights": weights,
        "pairs": hashlib.sha256(learnt.encode()).hexdigest(),
    }


def gates_command(config: DictConfig, adapter: str) -> str:
    """What evaluates the distilled kernel by all gates, asked as it was here."""
    given = {"kernel": config.kernel, "adapter": adapter, "max_tokens": config.max_tokens}
    given |= {name: config[name] for name in ("corpus", "prompts") if config[name] is not None}
    return " ".join(["python -m experiments.gates", *(f"{k}={v}" for k, v in given.items())])


if __name__ == "__main__":
    main()
