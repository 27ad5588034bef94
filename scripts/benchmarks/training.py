"""Coupled learners: many seeds in one call against PyTorch's seed by seed, and what σ costs."""

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import numpy as np

from sigma_jax import schema, training

from .timing import interleaved, peer_module, row

_STEPS = 25
_SIZES = {
    "small": (training.TransformerSizes(1, 1, 4, 64, 128, 0.1), 12, 32),
    "paper": (training.TransformerSizes(2, 2, 4, 128, 512, 0.1), None, 64),
}
"""By name: the learner, the longest target, and pairs a step."""
_SEEDS = {"small": (1, 8, 32), "paper": (1, 8)}
"""Trained in one call; the paper's learner takes a hundred times the flops a step."""
_MEMORY = {"small": (1, 8, 32), "paper": (1, 4, 8)}
"""Seeds whose memory is measured."""


def rows() -> Iterator[dict]:
    """Steps × seeds a second, the cost of coupling by part, and memory."""
    for name in _SIZES:
        yield from throughput(name)
    yield from overhead()
    for name, counts in _MEMORY.items():
        for seeds in counts:
            yield memory(name, seeds)


def _task(longest: int | None) -> tuple[training.Task, training.TaskRows]:
    task = training.make_task("scan_add_jump", training.TaskSizes(longest=longest))
    return task, training.encode_task(task)


def throughput(name: str) -> Iterator[dict]:
    """Plain training of 1, 8 and 32 seeds in one call, and of one after the other in PyTorch."""
    sizes, longest, batch = _SIZES[name]
    task, encoded = _task(longest)
    pairs = encoded.pools.task
    peer = peer_module("training_peer").Trainer(pairs, task.vocabulary.size, sizes, batch, 1e-3)
    for seeds in _SEEDS[name]:
        steps = _STEPS if name == "small" else 5
        ours = _plain(task, pairs, sizes, batch, seeds, steps)
        seconds = interleaved(ours, functools.partial(peer.train, steps), rounds=5)
        yield row(
            f"{name} learner, {seeds} seeds in one call",
            "PyTorch, seed by seed",
            steps * seeds / seconds[0],
            steps / seconds[1],
            "steps × seeds/s",
        )


def _plain(task, pairs, sizes, batch: int, seeds: int, steps: int) -> Callable:
    state = training.start_learners(task.vocabulary.size, range(seeds), sizes)
    return lambda: training.train_learners(
        state,
        pairs,
        steps=steps,
        batch=batch,
        learning_rate=1e-3,
        length_groups=4,
        seeds_at_once=1,
    )


def overhead() -> Iterator[dict]:
    """A block of the small learner with everything on, against the same block without; by part."""
    sizes, longest, batch = _SIZES["small"]
    task, encoded = _task(longest)
    recipe = training.BlockRecipe(steps=_STEPS, batch=batch)
    probes = training.make_signal_probes(
        task.grammar, task.vocabulary, task.task, allowed=task.may_be_shown
    )
    learners = training.start_learners(task.vocabulary.size, [0], sizes)
    state = training.start_coupled(learners)
    couplings = training.stack_couplings([training.CONDITIONS["full"]])
    record = training.no_record(1, 1)
    model = jax.tree.map(lambda leaf: leaf[0], learners.model)
    belief = jax.tree.map(lambda leaf: leaf[0], state.belief)
    gradient = jax.tree.map(lambda leaf: leaf[0], learners.model)
    structure = jax.jit(training.structure_alignment)
    consistency = jax.jit(training.paraphrase_consistency)
    alignment = jax.jit(lambda a, b, c: training.gradient_alignment(a, b, c))
    small = training.Seq2SeqPairs(
        *(np.asarray(each)[: recipe.signal_pairs] for each in encoded.pools.task)
    )
    gradients = jax.jit(lambda m: [jax.grad(training.sequence_loss)(m, *small) for _ in range(3)])
    noise, sigma = training.CoherenceNoise(), schema.sigma_model()
    filtered = jax.jit(
        lambda b: training.forecast(
            sigma, training.correct(b, b.variance, noise), b.variance, b.variance, noise
        )
    )
    seconds = interleaved(
        lambda: training.train_coupled(
            state, encoded.pools, probes, couplings, record, recipe=recipe
        ),
        lambda: training.train_learners(
            learners, encoded.pools.task, steps=_STEPS, batch=batch, learning_rate=1e-3
        ),
        lambda: (gradients(model), alignment(gradient, gradient, gradient)),
        lambda: structure(model, probes),
        lambda: consistency(model, probes),
        lambda: filtered(belief),
        rounds=15,
    )
    alone = seconds[1]
    names = (
        "a block with everything",
        "a block of plain training",
        "gradients and their alignment",
        "structure",
        "paraphrases",
        "equations and filter",
    )
    for name, each in zip(names, seconds, strict=True):
        yield row(
            f"{name}, {_STEPS} steps", "a block of plain training", 1 / each, 1 / alone, "1/s"
        )


def memory(name: str, seeds: int) -> dict:
    """How much more memory a process needs at most for training so many seeds at once."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Queue(), (name, seeds)
    process = context.Process(target=_measure, args=(*theirs, ours))
    process.start()
    used, held = ours.get()
    process.join()
    return row(f"{name} learner, {seeds} seeds, memory", "parameters, Adam", used, held, "MB")


def _measure(name: str, seeds: int, answers) -> None:
    sizes, longest, batch = _SIZES[name]
    task, encoded = _task(longest)
    state = training.start_learners(task.vocabulary.size, range(seeds), sizes)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves((state.model, state.optimiser)))
    before = _kilobytes("VmRSS")
    jax.block_until_ready(_plain(task, encoded.pools.task, sizes, batch, seeds, 2)())
    answers.put(((_kilobytes("VmHWM") - before) / 1024, held / 2**20))


def _kilobytes(field: str) -> int:
    """Of this process, by Linux; `resource` would count the parent's before the start as well."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])
