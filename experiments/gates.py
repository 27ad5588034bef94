"""The acceptance gates of a kernel: `python -m experiments.gates`."""

import hashlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from experiments.launch import one_line_errors, prepare

if TYPE_CHECKING:
    from sigma_jax.bridge import KernelProvider, Provider, Reply, Request, Router
    from sigma_jax.grounding import Answerer, Corpus, Ledger, Prompt, Retriever

ROOT = Path(__file__).parents[1]
_LEAST = {
    "passages": 1,
    "max_tokens": 1,
    "human_eval.problems": 0,
    "human_eval.samples": 1,
    "human_eval.max_tokens": 1,
}


@hydra.main(version_base="1.3", config_path="../conf", config_name="gates")
@one_line_errors
def main(config: DictConfig) -> None:
    """Evaluate; exit with 1 if a required gate fails."""
    prepare()
    if not run_gates(config, Path(HydraConfig.get().runtime.output_dir)):
        sys.exit(1)


def run_gates(config: DictConfig, output: Path) -> bool:
    """Measure into a ledger, derive everything else from it; True if the required gates passed."""
    from experiments import gates_report
    from sigma_jax import grounding

    started = time.perf_counter()
    check_config(config, _LEAST)
    path = output / "ledger.jsonl"
    if path.exists():
        raise ValueError(f"{path} holds an evaluation already: choose another hydra.run.dir.")
    root, prompts = corpus_root(config), load_prompts(config)
    corpus = grounding.read_corpus(root)
    with providers(config) as (kernel, router):
        retriever = grounding.Retriever(corpus.passages, contexts=corpus.contexts)
        # Opened behind all that bad input can break, so that a ledger is of an evaluation.
        with grounding.Ledger(path) as ledger:
            about = describe(config, corpus.digest, prompts, "python -m experiments.gates")
            ledger.append("evaluation", about)
            counts = Counter(prompt.difficulty for prompt in prompts)
            lost = [found.id for found in grounding.unresolved(prompts, root)]
            grounding.record_item(ledger, grounding.SetCheck(dict(counts), lost))
            answerer = make_answerer(config, corpus, retriever, router, ledger)
            texts = measure_answers(config, ledger, prompts, kernel, answerer, grounding.GATE_ARMS)
            measure_replay(config, ledger, answerer, texts)
            measure_programs(config, ledger, kernel)
            measure_machine(config, ledger, prompts, output)
    passed = gates_report.conclude(config, path, output)
    print(f"{time.perf_counter() - started:.0f} s; report: {output / 'report.html'}")
    return passed


def load_prompts(config: DictConfig) -> "tuple[Prompt, ...]":
    """The golden set, this project's or the given file's."""
    from sigma_jax import grounding

    return (
        grounding.golden_set() if config.prompts is None else grounding.load_prompts(config.prompts)
    )


def corpus_root(config: DictConfig) -> Path:
    """The folder that is searched."""
    return ROOT if config.corpus is None else Path(config.corpus)


def describe(
    config: DictConfig, digest: str, prompts: "tuple[Prompt, ...]", command: str
) -> dict[str, Any]:
    """What is evaluated and how, as the ledger's record of it. `digest` is the corpus's."""
    import sigma_jax
    from experiments.gates_machine import kernel_source

    weights = sorted(Path(kernel_source(config.kernel)).glob("*.safetensors"))
    found = hashlib.sha256()
    for path in weights:
        found.update(path.read_bytes())
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "label": config.label or config.kernel,
        "version": sigma_jax.__version__,
        "command": command,
        "kernel": config.kernel,
        "adapter": config.adapter,
        "weights": found.hexdigest() if weights else None,
        "corpus": digest,
        "prompts": hashlib.sha256(repr(prompts).encode()).hexdigest(),
        "configuration": OmegaConf.to_container(config, resolve=True),
    }


@contextmanager
def providers(config: DictConfig) -> Iterator[tuple["KernelProvider", Any]]:
    """The kernel, and a function from the words' weights to the router around it."""
    from contextlib import ExitStack

    from experiments.gates_machine import kernel_source, load_kernel
    from sigma_jax import bridge, grounding
    from sigma_jax.kernel import load_tokenizer

    model = load_kernel(config.kernel, config.adapter)
    kernel = bridge.KernelProvider(model, load_tokenizer(kernel_source(config.kernel)))
    kinds = {"openai": bridge.OpenAIEndpoint, "ollama": bridge.OllamaEndpoint}
    board = Path(config.leaderboard)
    rates = grounding.win_rates(grounding.read_rows(board)) if board.is_file() else {}
    with ExitStack() as stack:
        asked: list[Provider] = []
        for entry in config.providers:
            given: Any = OmegaConf.to_container(entry)
            endpoint = kinds[given.pop("kind")](**given)
            asked.append(stack.enter_context(closing(endpoint)))

        def router(word_weight: Any) -> "Router":
            offline = bridge.OfflineProvider(word_weight)
            names = {provider.name for provider in (*asked, kernel, offline)}
            scores = {name: rate for name, rate in rates.items() if name in names}
            return bridge.Router([*asked, kernel], offline=offline, scores=scores)

        yield kernel, router


def make_answerer(
    config: DictConfig,
    corpus: "Corpus",
    retriever: "Retriever",
    router: Callable[[Any], "Router"],
    ledger: "Ledger",
) -> "Answerer":
    """The loop over a question, around the router that `providers` gives."""
    from sigma_jax import grounding

    return grounding.Answerer(
        corpus,
        retriever,
        router(retriever.word_weight),
        ledger,
        passages=config.passages,
        max_tokens=config.max_tokens,
    )


def measure_answers(
    config: DictConfig,
    ledger: "Ledger",
    prompts: "tuple[Prompt, ...]",
    kernel: "KernelProvider",
    answerer: "Answerer",
    arms: tuple[str, str],
) -> dict[str, str]:
    """Both arms over the golden set, the kernel alone and the loop around it.

    Returns what the loop said, by question.
    """
    from sigma_jax.bridge import Request
    from sigma_jax.grounding import ScoredAnswer, record_item

    alone, grounded = arms
    texts = {}
    for prompt in tqdm(prompts, desc="golden set", delay=2.0):
        about = (prompt.id, prompt.prompt, prompt.difficulty, prompt.category, prompt.rubric)
        request = Request(prompt.prompt, max_tokens=config.max_tokens, seed=config.seed)
        reply = asked(kernel, request, ledger)
        size = (reply.received_bytes, reply.sent_bytes + reply.received_bytes)
        said = (reply.text, False, kernel.name, *size, reply.seconds)
        record_item(ledger, ScoredAnswer(alone, *about, *said))
        began = time.perf_counter()
        answer = answerer.answer(prompt.prompt, seed=config.seed)
        spent = time.perf_counter() - began
        size = (answer.served_bytes, answer.exchanged_bytes)
        said = (answer.text, answer.trusted, answer.provider, *size, spent)
        record_item(ledger, ScoredAnswer(grounded, *about, *said))
        texts[prompt.prompt] = answer.text
    return texts


def measure_replay(
    config: DictConfig, ledger: "Ledger", answerer: "Answerer", texts: dict[str, str]
) -> None:
    """Some of the questions again: the same words must come."""
    from sigma_jax.grounding import Replay, record_item

    chosen = list(texts)[:: max(1, len(texts) // 10)]
    again = [answerer.answer(question, seed=config.seed).text for question in chosen]
    hashes = (_hash([texts[question] for question in chosen]), _hash(again))
    record_item(ledger, Replay("grounded answers", *hashes))


def asked(provider: "Provider", request: "Request", ledger: "Ledger") -> "Reply":
    """The reply, or an empty one where the provider fails, which the ledger then says."""
    from sigma_jax.bridge import ProviderError, Reply

    try:
        return provider.answer(request)
    except ProviderError as error:
        ledger.append("failed", {"question": request.question, "why": str(error)})
        return Reply("", provider.name, 0, 0, 0.0)


def _hash(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def measure_programs(config: DictConfig, ledger: "Ledger", kernel: "KernelProvider") -> None:
    """HumanEval, as far as asked for and there."""
    from sigma_jax.bridge import Request
    from sigma_jax.grounding import (
        JudgedProgram,
        completion_of,
        judge,
        load_human_eval,
        record_item,
    )

    chosen = config.human_eval
    if chosen.problems == 0:
        ledger.append("not run", {"why": "human_eval.problems is 0"})
        return
    try:
        problems = load_human_eval(chosen.directory)[: chosen.problems]
    except OSError as error:
        ledger.append("not run", {"why": str(error)})
        return
    for problem in tqdm(problems, desc="HumanEval", delay=2.0):
        for sample in range(chosen.samples):
            request = Request(
                problem.prompt, max_tokens=chosen.max_tokens, seed=config.seed + sample
            )
            text = asked(kernel, request, ledger).text
            ledger.append("program text", {"task": problem.task_id, "text": text})
            outcome = judge(problem, completion_of(text))
            record_item(
                ledger, JudgedProgram(problem.task_id, outcome.ending.value, outcome.seconds)
            )


def measure_machine(
    config: DictConfig, ledger: "Ledger", prompts: "tuple[Prompt, ...]", output: Path
) -> None:
    """Replays and swaps of the kernel's loop as a node of the state machine."""
    from experiments import gates_machine
    from sigma_jax import bridge
    from sigma_jax.grounding import record_item
    from sigma_jax.kernel import load_tokenizer

    tokenizer = load_tokenizer(gates_machine.kernel_source(config.kernel))
    model = gates_machine.load_kernel(config.kernel, config.adapter)
    ids = [tokenizer.encode(prompt.prompt) for prompt in prompts]
    hidden = bridge.exit_states(model, ids).astype(np.float32)
    abi = output / "abi.eqx"
    bridge.save_abi(abi, bridge.optimal_abi(hidden, config.dim))
    run = gates_machine.Run(
        config.kernel, config.adapter, str(abi.resolve()), tuple(ids[0]), config.seed
    )
    machine, state = gates_machine.build(run)
    for item in (
        *gates_machine.replays(run, machine, state, output),
        *gates_machine.proposed_swaps(machine, state),
    ):
        record_item(ledger, item)


def check_config(config: DictConfig, least: dict[str, int]) -> None:
    """Refuse whole numbers below those of `least`, and providers of no known kind."""
    for name, low in least.items():
        value = OmegaConf.select(config, name)
        if not isinstance(value, int) or value < low:
            raise ValueError(f"{name} must be a whole number of at least {low}; got {value!r}.")
    for entry in config.providers:
        if entry.get("kind") not in ("openai", "ollama"):
            raise ValueError(f"providers: kind must be openai or ollama; got {entry}.")


if __name__ == "__main__":
    main()
