"""Which providers may stand in for each other: `python -m experiments.drift_equivalence`.

The drifts of a kernel's variants at the same states, compared in the state and by what they say.
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from tqdm import tqdm

from experiments.drift_variants import (
    FULL,
    NARROW,
    TWIN,
    Variant,
    load,
    require_server,
    serving,
    variants,
)
from experiments.launch import one_line_errors, prepare

if TYPE_CHECKING:
    from sigma_jax.bridge import Provider, Reader, StateABI
    from sigma_jax.grounding import Prompt
    from sigma_jax.kernel import Ouro
    from sigma_jax.training import Dialogue

SERVED = {FULL: "server f32", NARROW: "server bf16"}
"""The names of the servers, by the kernels that they have."""
_ROWS = 200
_THOUGHT = 16
"""Tokens that a thought may have once it is text in a prompt."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="drift_equivalence")
@one_line_errors
def main(config: DictConfig) -> None:
    """Measure and compare; exit with 1 if a check fails."""
    prepare()
    if not run_comparison(config, Path(HydraConfig.get().runtime.output_dir)):
        sys.exit(1)


@dataclass(frozen=True)
class Material:
    """What all variants are measured on."""

    prompts: "tuple[Prompt, ...]"
    taught: np.ndarray
    """Which of them are of the kind that the kernel was trained on: `[prompts]`, bool."""
    calibration: list[tuple[str, str]]
    """SCAN's commands and answers, none of them a prompt; the last of them are held out."""
    learnt: "list[Dialogue]"
    """Those that are not held out and not too long."""
    reader: "Reader"
    x: np.ndarray
    """The state of every prompt's last token after the reader's first loop: `[prompts, d]`."""
    context: int
    """Tokens that a prompt and its reply may have together."""


@dataclass(frozen=True)
class Said:
    """What a provider replied to prompts, and the drifts of that: `[prompts, d]`."""

    drifts: np.ndarray
    replies: list[str]


@dataclass(frozen=True)
class Text:
    """By what it says: all prompts with the thought, and the taught ones without it."""

    heard: Said
    plain: Said


@dataclass(frozen=True)
class Alignment:
    """How a twin's states were brought into the terms of the reference's."""

    explained: float
    """The share of the variance of the reference's states on held-out commands."""
    without: np.ndarray | None
    """The twin's latent drifts if it is not done; None where its hidden states are wider."""


@dataclass(frozen=True)
class Measured:
    """Every drift, and what came of measuring a second time."""

    latent: dict[str, np.ndarray]
    text: dict[str, Text]
    alignment: Alignment | None
    latent_again: float
    """The largest difference between two latent drifts of the same kernel."""
    text_again: float
    """The same of the reference's replies, asked of a new provider and read by a new reader."""


def run_comparison(config: DictConfig, output: Path) -> bool:
    """Measure, compare, check, write `output`; True if all checks passed."""
    started = time.perf_counter()
    _check(config)
    reference = Variant(FULL, *load(config.kernel))
    deepest = reference.model.config.total_ut_steps
    if not all(0 < loops < deepest for loops in config.depths):
        raise ValueError(f"depths must be from 1 to {deepest - 1}; got {list(config.depths)}.")
    material = make_material(config, reference)
    measured = measure(config, reference, material)
    from experiments import drift_equivalence_report

    passed = drift_equivalence_report.write_report(config, material, measured, output)
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return passed


def make_material(config: DictConfig, reference: Variant) -> Material:
    """The prompts, the maps that the calibration determines, and the states of the prompts."""
    from sigma_jax import bridge, grammars, grounding, training

    prompts = grounding.load_prompts(config.prompts) if config.prompts else grounding.golden_set()
    asked = {prompt.prompt for prompt in prompts}
    pairs = [pair for pair in grammars.simple_scan_split().train if pair[0] not in asked]
    if config.calibration > len(pairs):
        raise ValueError(f"calibration must be at most {len(pairs)}; got {config.calibration}.")
    rows = np.random.default_rng(config.seed).choice(len(pairs), config.calibration, replace=False)
    chosen = [pairs[row] for row in rows]
    learnt = training.dialogues(reference.tokenizer, chosen[: -config.held_out])
    learnt = [d for d in learnt if len(d.prompt) + len(d.answer) <= config.longest]
    if not learnt:
        raise ValueError(f"longest must leave some commands; none has {config.longest} tokens.")
    texts = sorted(([*d.prompt, *d.answer] for d in learnt), key=len)
    states = [bridge.exit_states(reference.model, group) for group in _groups(texts)]
    abi = bridge.optimal_abi(np.concatenate(states).astype(np.float32), config.dim)
    reader = bridge.Reader(reference.model, reference.tokenizer, abi)
    ids = [reader.prompt_ids(prompt.prompt) for prompt in prompts]
    needed = max(map(len, ids)) + _THOUGHT + config.max_tokens
    return Material(
        prompts=prompts,
        taught=np.array([prompt.category == config.taught for prompt in prompts]),
        calibration=chosen,
        learnt=learnt,
        reader=reader,
        x=_encoded(abi, last_states(reference.model, ids, loops=1)),
        context=1 << (needed - 1).bit_length(),
    )


def last_states(
    model: "Ouro", sequences: Sequence[Sequence[int]], *, loops: int | None = None
) -> np.ndarray:
    """The hidden state of the last token of every sequence after so many loops, or after all."""
    from sigma_jax import bridge
    from sigma_jax.kernel import FixedDepth

    policy = FixedDepth(max_loops=loops)
    found = []
    for group in _groups(sequences):
        ends = np.cumsum([len(ids) for ids in group]) - 1
        found.append(bridge.exit_states(model, group, policy)[ends].astype(np.float32))
    return np.concatenate(found)


def measure(config: DictConfig, reference: Variant, material: Material) -> Measured:
    """The drifts of all variants: in the state, by what they say, and behind servers."""
    latent, text, alignment, latent_again = {}, {}, None, 0.0
    kernels = variants(config, reference.model, reference.tokenizer, material.learnt)
    for variant in tqdm(kernels, desc="kernels", delay=2.0):
        abi = material.reader.abi
        if variant.name == TWIN:
            abi, alignment = align(config, variant, reference, material)
        first, second = (latent_drifts(variant, abi, material) for _ in range(2))
        latent[variant.name] = first
        latent_again = max(latent_again, float(np.abs(first - second).max()))
        text[variant.name] = ask(config, _in_process(variant, material), material)
    text |= ask_servers(config, reference, material)
    again = ask(config, _in_process(reference, material), _read_anew(reference, material))
    pairs = zip(_parts(again), _parts(text[FULL]), strict=True)
    text_again = max(float(np.abs(new.drifts - old.drifts).max(initial=0.0)) for new, old in pairs)
    return Measured(latent, text, alignment, latent_again, text_again)


def latent_drifts(variant: Variant, abi: "StateABI", material: Material) -> np.ndarray:
    """φ of the state that the kernel itself comes to, less the state that all start from."""
    from sigma_jax import bridge

    reader = bridge.Reader(variant.model, variant.tokenizer, abi)
    ids = [reader.prompt_ids(prompt.prompt) for prompt in material.prompts]
    return _encoded(abi, last_states(variant.model, ids, loops=variant.loops)) - material.x


def align(
    config: DictConfig, twin: Variant, reference: Variant, material: Material
) -> "tuple[StateABI, Alignment]":
    """The twin's φ, from the last tokens of commands that both have read, and how good it is."""
    from sigma_jax import bridge, training

    hidden, other = (
        last_states(kernel.model, [d.prompt for d in training.dialogues(kernel.tokenizer, pairs)])
        for pairs in [material.calibration]
        for kernel in (twin, reference)
    )
    abi = material.reader.abi
    wanted, cut = _encoded(abi, other), -config.held_out
    aligned = bridge.aligned_abi(hidden[:cut], wanted[:cut])
    found = _encoded(aligned, hidden[cut:])
    spread = wanted[cut:] - wanted[cut:].mean(axis=0)
    explained = 1.0 - np.square(found - wanted[cut:]).sum() / np.square(spread).sum()
    fits = hidden.shape[1] == other.shape[1]
    without = latent_drifts(twin, abi, material) if fits else None
    return aligned, Alignment(float(explained), without)


def ask(config: DictConfig, provider: "Provider", material: Material) -> Text:
    """A provider's drifts by what it says, as `bridge.reasoning_node` takes them."""
    from sigma_jax import bridge

    def said(rows: np.ndarray, wording: Callable[[str, str], str]) -> Said:
        drifts, replies = np.zeros((len(rows), config.dim), np.float32), []
        for place, row in enumerate(rows):
            step = bridge.ReasoningStep(
                provider,
                material.reader,
                question=material.prompts[row].prompt,
                max_tokens=config.max_tokens,
                wording=wording,
            )
            x = material.x[row]
            drifts[place] = step(x, np.zeros(0)) - x
            replies.append(step.reply(x))
        return Said(drifts, replies)

    rows = np.arange(len(material.prompts))
    try:
        return Text(
            said(rows, bridge.question_and_thought),
            said(rows[material.taught], bridge.question_alone),
        )
    except bridge.ProviderError as error:
        raise ValueError(str(error)) from error


def ask_servers(config: DictConfig, reference: Variant, material: Material) -> dict[str, Text]:
    """The same of two servers on loopback, asked in OpenAI's way and in Ollama's."""
    if not config.servers:
        return {}
    from sigma_jax import bridge

    tokenizer = reference.tokenizer
    narrow = load(config.kernel, "bfloat16")[0]
    shape = {"context": material.context, "slots": config.slots}
    with (
        serving(reference.model, tokenizer, **shape) as first,
        serving(narrow, tokenizer, **shape) as second,
        bridge.OpenAIEndpoint(SERVED[FULL], first, "ouro:latest") as openai,
        bridge.OllamaEndpoint(SERVED[NARROW], second, "ouro:latest") as ollama,
    ):
        return {each.name: ask(config, each, material) for each in (openai, ollama)}


def _in_process(variant: Variant, material: Material) -> "Provider":
    from sigma_jax import bridge
    from sigma_jax.kernel import Depth, FixedDepth

    return bridge.KernelProvider(
        variant.model,
        variant.tokenizer,
        name=variant.name,
        depth=Depth(FixedDepth(max_loops=variant.loops)),
        context=material.context,
    )


def _read_anew(reference: Variant, material: Material) -> Material:
    from sigma_jax import bridge

    reader = bridge.Reader(reference.model, reference.tokenizer, material.reader.abi)
    return replace(material, reader=reader)


def _parts(text: Text) -> tuple[Said, Said]:
    return text.heard, text.plain


def _encoded(abi: "StateABI", hidden: np.ndarray) -> np.ndarray:
    import jax.numpy as jnp

    return np.asarray(abi.encode(jnp.asarray(hidden)))


def _groups(sequences: Sequence[Sequence[int]]) -> list[Sequence[Sequence[int]]]:
    return [sequences[first : first + _ROWS] for first in range(0, len(sequences), _ROWS)]


def _check(config: DictConfig) -> None:
    for name in ("calibration", "held_out", "longest", "resamples", "max_tokens", "slots"):
        value = config[name]
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}.")
    if config.held_out >= config.calibration:
        raise ValueError(
            f"held_out must be fewer than calibration, {config.calibration}; got {config.held_out}."
        )
    if config.servers:
        require_server()


if __name__ == "__main__":
    main()
