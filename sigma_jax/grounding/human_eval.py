"""HumanEval: 164 functions to be written from their docstrings, judged by running their tests.

Chen et al., "Evaluating Large Language Models Trained on Code" (arXiv 2107.03374).
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .._published import fetch
from .program_runs import Limits, Outcome, require_whole
from .sandbox import run_untrusted

_HOME = "https://raw.githubusercontent.com/openai/human-eval/master/data/HumanEval.jsonl.gz"
_CHECKSUM = "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2"

_FENCED = re.compile(r"^```[^\n]*\n(.*?)(?:^```|\Z)", re.MULTILINE | re.DOTALL)
_DEFINITION = re.compile(r"(?:async\s+)?(?:def|class)\b|import\b|from\b|@|#")
_AFTER_BODY = re.compile(r"^(?:(?:async\s+)?(?:def|class)\b|(?:if|print)\b|[@#]|```)", re.MULTILINE)
_AFTER_DEFINITIONS = re.compile(r"^(?:(?:if|print|assert)\b|```)", re.MULTILINE)


class Problem(NamedTuple):
    """A function to write."""

    task_id: str
    """`HumanEval/0` to `HumanEval/163`."""
    prompt: str
    """Imports, the function's signature and its docstring."""
    entry_point: str
    """The function's name."""
    canonical_solution: str
    """A body that passes."""
    test: str
    """Defines `check(candidate)`, which asserts."""


def load_human_eval(directory: str | Path | None = None) -> tuple[Problem, ...]:
    """The 164 problems, fetched from their public home once and then from `directory`.

    **Arguments:** `directory`, where the file `HumanEval.jsonl.gz` is or will be kept, by default a
    folder of the user's cache. A file that is there already needs no network.

    **Raises** `ValueError` for a file with other contents; `OSError` if it is not there and cannot
    be fetched.

    Source: Chen et al. (arXiv 2107.03374), MIT licence.
    """
    text = fetch(_HOME, _CHECKSUM, directory, instead="run_untrusted judges any other program")
    return tuple(Problem(**json.loads(line)) for line in text.decode().splitlines())


def completion_of(text: str) -> str:
    """The code of a model's reply to a problem's prompt, to be put behind that prompt.

    A reply that goes on with the function's body ends where something else begins at the margin: a
    definition, a comment, `if` or `print`. A reply that repeats the function keeps its definitions
    and imports, and ends at `if`, `print` or `assert` at the margin. Prose with code between
    Markdown fences is cut to the first such code before that.

    Source: the stop sequences of Chen et al. (arXiv 2107.03374), section 2.1.
    """
    code, begins = text, text.lstrip("\n")
    if not begins.startswith((" ", "\t")) and not _DEFINITION.match(begins):
        fenced = _FENCED.search(text)
        code = fenced[1] if fenced else text
    ends = _AFTER_DEFINITIONS if _DEFINITION.match(code.lstrip("\n")) else _AFTER_BODY
    end = ends.search(code)
    return code[: end.start()] if end else code


def judge(problem: Problem, completion: str, *, limits: Limits = Limits()) -> Outcome:
    """Run a problem's tests on a completion, locked as `run_untrusted` locks it.

    **Arguments:** `completion`, code to be put behind `problem.prompt`; `limits`, what it may use.

    **Raises** `OSError` where programs cannot be locked.
    """
    program = f"{problem.prompt}{completion}\n\n{problem.test}\n\ncheck({problem.entry_point})\n"
    return run_untrusted(program, limits=limits)


def judge_all(
    answers: Sequence[tuple[Problem, str]],
    *,
    limits: Limits = Limits(),
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Judge completions, several at a time.

    **Arguments:** `answers`, problems with a completion each; `limits` of each run; `workers`, how
    many run at a time; `progress`, called with how many are done and how many there are.

    **Raises** `ValueError` for fewer than one worker; `OSError` where programs cannot be locked.
    """
    require_whole("workers", workers, 1)
    outcomes = []
    pool = ThreadPoolExecutor(workers)
    try:
        for outcome in pool.map(lambda answer: judge(*answer, limits=limits), answers):
            outcomes.append(outcome)
            if progress is not None:
                progress(len(outcomes), len(answers))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupt does not wait for those not yet begun
    return outcomes


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that one of `k` completions passes, estimated without bias from `n`.

    `c` of the `n` passed. The estimate is 1 − C(n − c, k) / C(n, k), the share of the choices of
    `k` that hold one that passed. It is computed in whole numbers, so nothing cancels.

    **Raises** `ValueError` unless 0 ≤ c ≤ n and 1 ≤ k ≤ n are whole numbers.

    Source: Chen et al. (arXiv 2107.03374), equation 1.
    """
    require_whole("n", n, 1)
    require_whole("c", c, 0, n)
    require_whole("k", k, 1, n)
    choices = math.comb(n, k)
    return (choices - math.comb(n - c, k)) / choices
