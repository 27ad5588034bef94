"""What `experiments.train_kernel` writes: the model with its card, a log, a page with figures."""

from pathlib import Path
from typing import TYPE_CHECKING

import jax
import pandas as pd
from flax import nnx
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf

import sigma_jax
from experiments.arc import write_summary
from experiments.train_kernel import STAGES, Result
from sigma_jax import report
from sigma_jax.kernel import Ouro, save_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_DIALOGUES = ["loops a token", "exact match", "mean loops"]
_TEXT = ["loops a token", "bits a byte", "mean loops"]


def make_checks(config: DictConfig, results: list[Result]) -> list[report.Check]:
    """Exact match at full depth is what was asked for; text has no bar to clear but that of chance.

    A byte of which nothing is known takes 8 bits.
    """
    full = [result for result in results if result.depth.endswith(f"of {loops_of(config)}")][-1]
    if full.exact is not None:
        missing = max(0.0, config.evaluate.required - full.exact)
        return [report.Check("share of exact answers missing at full depth", missing, 0.0, 0.0)]
    assert full.bits is not None
    return [report.Check("bits a byte above 8 at full depth", max(0.0, full.bits - 8.0), 0.0, 0.0)]


def loops_of(config: DictConfig) -> int:
    """How many loops the configured model has."""
    return config.model.total_ut_steps


def closing_text(results: list[Result], checks: list[report.Check]) -> str:
    """The table of the test for a terminal, then the checks."""
    rows = [_columns(results), *_rows(results)]
    lines = ["  ".join(f"{cell:<13}" for cell in row).rstrip() for row in rows]
    return "\n".join([*lines, "", report.checks_table(checks)])


def _columns(results: list[Result]) -> list[str]:
    return _TEXT if results[0].exact is None else _DIALOGUES


def _rows(results: list[Result]) -> list[list[str]]:
    rows = []
    for result in results:
        score = f"{result.bits:.3f}" if result.exact is None else f"{result.exact:.2%}"
        rows.append([result.depth, score, f"{result.mean_depth:.2f}"])
    return rows


def write_model(
    config: DictConfig,
    model: Ouro,
    tokenizer: "PreTrainedTokenizerFast",
    results: list[Result],
    log: list[dict],
    directory: Path,
) -> None:
    """Write a model directory: weights, tokenizer, log and card."""
    save_model(model, directory, overwrite=True)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(str(directory), save_jinja_files=False)
    table = pd.DataFrame(log)
    report.write_whole(
        directory / "training_log.csv",
        lambda path: table.to_csv(path, index=False, float_format="%.6g"),
    )
    report.write_text(directory / "README.md", model_card(config, model, results, log))


def model_card(config: DictConfig, model: Ouro, results: list[Result], log: list[dict]) -> str:
    """What the model is, how it was made, what it reaches and what it cannot do; as Markdown."""
    shape = model.config
    lines = [
        "---",
        "license: mit",
        "library_name: sigma_jax",
        "---",
        "",
        f"# A small Ouro, trained on {_MATERIAL[config.data]}",
        "",
        f"{_parameters(model):,} parameters in float32: {shape.num_hidden_layers} layers of width "
        f"{shape.hidden_size}, run {shape.total_ut_steps} times over every token, with a learned "
        f"exit gate; {shape.vocab_size} tokens, context {shape.max_position_embeddings}.",
        "",
        _USE[config.data],
        "",
        "## Test",
        "",
        _TESTED[config.data],
        "",
        *_markdown_table(_columns(results), _rows(results)),
        "",
        "## Training",
        "",
        _story(config, log) + f" A line for every {config.segment} steps is in `training_log.csv`.",
        "",
        "The objectives are those of Zhu et al., *Scaling Latent Reasoning via Looped Language "
        "Models* (arXiv 2510.25741). SCAN is by Lake and Baroni, *Generalization without "
        "Systematicity* (arXiv 1711.00350).",
        "",
    ]
    return "\n".join(lines)


_MATERIAL = {"scan": "SCAN", "text": "text"}
_USE = {
    "scan": "It translates SCAN commands into actions (`jump around left twice` into `I_TURN_LEFT "
    "I_JUMP …`), asked in its chat format, the command as the user's one message. It knows "
    "nothing else: it cannot converse, and to any other text it answers with actions or noise.",
    "text": "It continues the text that it was trained on, byte by byte.",
}
_TESTED = {
    "scan": "Greedy answers to the test commands of SCAN's published simple split, drawn at random "
    "from the same grammar as the training commands; exact means every action and the end. *n* of "
    "*T*: every token, prompts too, had *n* loops. *q*: each token stopped where the CDF of its "
    "exit distribution reached *q*, the loops behind were not computed, and later tokens saw its "
    "last keys and values; prompts had all loops. No split that asks for systematic "
    "generalisation was tried.",
    "text": "Bits a byte on windows of the last tenth of the text, which was held out.",
}


def _parameters(model: Ouro) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model)))


def _story(config: DictConfig, log: list[dict]) -> str:
    table = pd.DataFrame(log)
    parts = []
    for stage, about in zip(STAGES, ("everything", "the exit gate alone"), strict=True):
        rows = table[table.stage == stage]
        parts.append(
            f"{rows.step.max():,} steps for {about} ({rows.tokens.sum():,} tokens, "
            f"{rows.seconds.sum() / 60:.0f} min)"
        )
    return f"On a {jax.default_backend().upper()}: {' and '.join(parts)}. Seed {config.seed}."


def _markdown_table(columns: list[str], rows: list[list[str]]) -> list[str]:
    body = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(row)} |" for row in body]


def write_report(
    config: DictConfig,
    model: Ouro,
    results: list[Result],
    log: list[dict],
    checks: list[report.Check],
    output: Path,
) -> None:
    """Write the log, the summary and the page, each whole or not at all; the page comes last."""
    table = pd.DataFrame(log)
    report.write_whole(output / "training_log.csv", lambda path: table.to_csv(path, index=False))
    summary = {
        "version": sigma_jax.__version__,
        "configuration": OmegaConf.to_container(config, resolve=True),
        "parameters": _parameters(model),
        "test": {result.depth: vars(result) for result in results},
        "checks": {check.name: check.passed for check in checks},
        "all_checks_passed": all(check.passed for check in checks),
    }
    write_summary(output / "summary.json", summary)
    page = report.render_page(
        f"Training of the kernel on {_MATERIAL[config.data]}",
        f"An Ouro of {_parameters(model):,} parameters. {_story(config, log)}",
        _sections(table, results, checks),
        f"sigma_jax {sigma_jax.__version__}; command: python -m experiments.train_kernel; seed "
        f"{config.seed}.",
    )
    report.write_text(output / "report.html", page)


def _sections(
    table: pd.DataFrame, results: list[Result], checks: list[report.Check]
) -> list[report.Section]:
    check_rows = [
        [c.name, f"{c.value:.4g}", f"{c.tolerance:.3g}", "ok" if c.passed else "FAILED"]
        for c in checks
    ]
    return [
        report.Section(
            "Test", "The test at each depth.", table=(_columns(results), _rows(results))
        ),
        report.Section(
            "Checks",
            "Values must not exceed their tolerance.",
            table=(["check", "value", "tolerance", ""], check_rows),
        ),
        report.Section(
            "Learning",
            "Each loop's cross-entropy on the tokens that are trained on, and what the gate makes "
            "of them. A point is the mean over a line of the log. The vertical line is where the "
            "second stage begins, which leaves the cross-entropies alone.",
            _training_figure(table),
        ),
    ]


def _training_figure(table: pd.DataFrame) -> Figure:
    first = int(table.step[table.stage == STAGES[0]].max())
    steps = table.step + first * (table.stage == STAGES[1])
    loops = [name for name in table.columns if name.startswith("loss_loop_")]
    return report.training_figure(
        steps.to_numpy(float),
        table[loops].to_numpy(),
        table.exit_step.to_numpy(),
        table.entropy.to_numpy(),
        second_stage=first,
    )
