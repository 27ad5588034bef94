"""The five faculty benchmarks on an agent: `python -m experiments.faculties`."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare
from experiments.train import plain

if TYPE_CHECKING:
    from sigma_jax.faculties import Agent, Benchmark, Measurement, ScriptedAgent, Validity

LONGEST = 64
"""Tokens of a learner's answer."""


@hydra.main(version_base="1.3", config_path="../conf", config_name="faculties")
@one_line_errors
def main(config: DictConfig) -> None:
    """Measure and report; exit with 1 if scripted agents' faculties are not recovered."""
    prepare()
    if not run_faculties(config, Path(HydraConfig.get().runtime.output_dir)):
        sys.exit(1)


@dataclass(frozen=True)
class Known:
    """What a benchmark makes of scripted agents, whose faculties are known."""

    agents: "tuple[ScriptedAgent, ...]"
    measured: "tuple[Measurement, ...]"
    validity: "Validity"


def run_faculties(config: DictConfig, output: Path) -> bool:
    """Measure the agent and the scripted ones, write `output`; True if the checks passed."""
    from experiments import faculties_report

    started = time.perf_counter()
    benchmarks = chosen_benchmarks(config)
    with make_agent(config) as (agent, offers_options):
        measured = {
            benchmark.name: measure_one(config, benchmark, agent, offers_options)
            for benchmark in benchmarks
        }
    known = {
        benchmark.name: recover(config, benchmark)
        for benchmark in tqdm(benchmarks, desc="validity", delay=2.0)
    }
    checks = faculties_report.make_checks(known)
    faculties_report.write_report(config, benchmarks, measured, known, checks, output)
    print(faculties_report.closing_text(benchmarks, measured, known, checks))
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return all(check.passed for check in checks)


def chosen_benchmarks(config: DictConfig) -> "list[Benchmark]":
    """The configured benchmarks, in the order of the paper."""
    from sigma_jax import faculties

    known = {
        benchmark.name: benchmark
        for benchmark in (
            faculties.H_PTB,
            faculties.H_AFB,
            faculties.H_MCB,
            faculties.H_DCB,
            faculties.H_STB,
        )
    }
    names = list(known) if config.benchmarks is None else [str(n) for n in config.benchmarks]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"benchmarks must be some of {', '.join(known)}; got {names}.")
    return [known[name] for name in known if name in names]


def measure_one(
    config: DictConfig, benchmark: "Benchmark", agent: "Agent", offers_options: bool
) -> "Measurement":
    """Ask the agent all questions of one benchmark, with a progress bar."""
    from sigma_jax import faculties

    with tqdm(desc=benchmark.name, unit=" questions", delay=2.0) as bar:

        def progress(done: int) -> None:
            bar.update(done - bar.n if done > bar.n else 1)

        return faculties.measure(
            benchmark,
            agent,
            seed=config.seed,
            size=config.size,
            options=offers_options,
            seconds=config.seconds,
            progress=progress,
        )


def recover(config: DictConfig, benchmark: "Benchmark") -> Known:
    """Scripted agents over the faculty and its confound, what they score, and V_A."""
    from sigma_jax import faculties

    given = config.validity
    if given.seeds < 1 or len(given.levels) < 2:
        raise ValueError(
            f"validity needs at least one of seeds and two levels; got {given.seeds} and "
            f"{list(given.levels)}."
        )
    levels = [float(level) for level in given.levels]
    confound, repeated = [0.6, 0.9], None
    if benchmark.faculty == "zeta":
        # An error has two signs, and needs room so that no prediction is cut at 0 or 1; its
        # reliability is that of an agent whose error is not about zero.
        levels, confound = [0.6 * (level - 0.5) for level in levels], [0.4, 0.75]
        repeated = _overconfident
    grid = faculties.scripted_grid(
        {benchmark.faculty: levels, benchmark.confound: confound}, seeds=range(given.seeds)
    )
    measured = tuple(
        faculties.measure(benchmark, agent, seed=config.seed, size=given.size) for agent in grid
    )
    validity = faculties.benchmark_validity(
        benchmark,
        grid,
        confounds=[benchmark.confound],
        repeated=repeated,
        sessions=given.sessions,
        seed=config.seed,
        size=given.size,
    )
    return Known(grid, measured, validity)


def _overconfident(session: int) -> "ScriptedAgent":
    from sigma_jax import faculties

    return faculties.ScriptedAgent(sigma=0.6, zeta=0.2, seed=session)


@contextmanager
def make_agent(config: DictConfig) -> "Iterator[tuple[Agent, bool]]":
    """The configured agent, and whether it is offered options; closed at the end."""
    from sigma_jax import bridge, faculties

    if config.agent == "scripted":
        given: Any = plain(config.scripted)
        yield faculties.ScriptedAgent(**given, seed=config.seed), True
    elif config.agent in ("openai", "ollama"):
        kinds = {"openai": bridge.OpenAIEndpoint, "ollama": bridge.OllamaEndpoint}
        for name in ("url", "model"):
            if not config[name]:
                raise ValueError(f"agent={config.agent} needs {name}=…; got {config[name]!r}.")
        with kinds[config.agent](
            "agent",
            config.url,
            config.model,
            key_variable=config.key_variable,
            # Its own deadline comes first, so that its error is heard.
            timeout=0.9 * config.seconds,
        ) as endpoint:
            yield faculties.provider_agent(endpoint, max_tokens=config.max_tokens), True
    elif config.agent == "learner":
        yield trained_learner(config), False
    else:
        yield kernel_of(config), True


def kernel_of(config: DictConfig) -> "Agent":
    """A kernel: it scores options by their likelihood, and says everything else in words."""
    from experiments.gates_machine import kernel_source
    from sigma_jax import bridge, faculties, kernel

    source = kernel_source(config.agent)
    model, tokenizer = kernel.load_model(source), kernel.load_tokenizer(source)
    scores = faculties.kernel_agent(model, tokenizer)
    provider = bridge.KernelProvider(model, tokenizer)
    words = faculties.provider_agent(provider, max_tokens=config.max_tokens)

    def agent(question):
        return scores(question) if question.options else words(question)

    return agent


def trained_learner(config: DictConfig) -> "Agent":
    """One seed of one condition of a finished run of experiments.train."""
    import jax

    from experiments import train
    from sigma_jax import faculties

    if config.run is None:
        raise ValueError("agent=learner needs run=DIRECTORY, of experiments.train.")
    path = Path(config.run) / ".hydra" / "config.yaml"
    if not path.is_file():
        raise ValueError(f"run: there is no {path}; is it a directory of experiments.train?")
    trained: Any = OmegaConf.load(path)
    own, yoked = train.chosen_conditions(trained)
    conditions = yoked if config.condition in yoked else own
    if config.condition not in conditions:
        raise ValueError(
            f"condition must be one of {', '.join(own + yoked)}; got {config.condition!r}."
        )
    groups = train.seed_groups(trained)
    if not 0 <= config.member < trained.seeds:
        raise ValueError(f"member must lie in [0, {trained.seeds - 1}]; got {config.member}.")
    size = len(groups[0])
    seeds, place = groups[config.member // size], config.member % size
    task = train.make_task(trained)
    run = train.load_group(
        trained, task, seeds, conditions, Path(config.run), yoked=bool(config.condition in yoked)
    )
    at = conditions.index(config.condition) * len(seeds) + place
    state = jax.tree.map(lambda leaf: leaf[at : at + 1], run.state.learners)
    return faculties.learner_agent(state, task.vocabulary, longest=LONGEST)


if __name__ == "__main__":
    main()
