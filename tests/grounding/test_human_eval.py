"""HumanEval: the published problems and their own solutions, replies cut to code, and pass@k."""

import gzip
import hashlib
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.grounding import (
    Ending,
    Limits,
    Problem,
    completion_of,
    judge,
    judge_all,
    load_human_eval,
    pass_at_k,
)

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "humaneval"

PROBLEM = Problem(
    task_id="Test/0",
    prompt='from typing import List\n\n\ndef double(xs: List[int]):\n    """Twice."""\n',
    entry_point="double",
    canonical_solution="    return [2 * x for x in xs]\n",
    test="def check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n",
)


@pytest.fixture(scope="module")
def problems():
    if not (PUBLISHED / "HumanEval.jsonl.gz").is_file():
        pytest.skip("the published file is not there")
    return load_human_eval(PUBLISHED)


# --- the problems ------------------------------------------------------------------------------


def test_the_published_problems(problems):
    assert [problem.task_id for problem in problems] == [f"HumanEval/{n}" for n in range(164)]
    assert all(f"def {problem.entry_point}(" in problem.prompt for problem in problems)
    assert all("def check(candidate" in problem.test for problem in problems)


def test_solutions_pass_and_others_do_not(problems):
    some = problems[::8]
    outcomes = judge_all([(problem, problem.canonical_solution) for problem in some])
    assert [outcome.detail for outcome in outcomes if not outcome.passed] == []
    wrong = judge_all([(problem, "    return 'wrong'\n") for problem in some[:3]])
    assert [outcome.ending for outcome in wrong] == [Ending.FAILED] * 3


def test_the_file_is_fetched_once_and_kept_as_it_is_published(tmp_path, monkeypatch):
    """Of a file written here in the published format, with its own checksum in place."""
    lines = [{**PROBLEM._asdict(), "task_id": f"Test/{n}"} for n in range(2)]
    plain = "".join(json.dumps(line) + "\n" for line in lines).encode()
    packed = gzip.compress(plain)
    checksum = hashlib.sha256(plain).hexdigest()
    monkeypatch.setattr("sigma_jax.grounding.human_eval._CHECKSUM", checksum)
    asked = []
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda url, **_: asked.append(url) or Answer(packed)
    )
    expected = tuple(Problem(**line) for line in lines)
    assert load_human_eval(tmp_path) == load_human_eval(tmp_path) == expected
    assert [url.rsplit("/", 1)[1] for url in asked] == ["HumanEval.jsonl.gz"]
    assert (tmp_path / "HumanEval.jsonl.gz").read_bytes() == packed


class Answer:
    """What `urlopen` gives."""

    def __init__(self, contents: bytes):
        self.read = lambda: contents

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (gzip.compress(b"{}"), "is not the published file"),
        (gzip.compress(b"{}")[:-3], "is not a whole gzip file"),
        (gzip.compress(b"{}")[:10] + b"\xff" * 9, "is not a whole gzip file"),
        (b"<html>", "is not a whole gzip file"),
    ],
)
def test_another_file_is_refused_and_not_kept(contents, message, tmp_path, monkeypatch):
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: Answer(contents))
    with pytest.raises(ValueError, match=message):
        load_human_eval(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "HumanEval.jsonl.gz").write_bytes(contents)
    with pytest.raises(ValueError, match=message):
        load_human_eval(tmp_path)


# --- replies -----------------------------------------------------------------------------------

BODY = "    return [2 * x for x in xs]\n"
WHOLE = PROBLEM.prompt + BODY
HELPER = "def helper(x):\n    return 2 * x\n\n\n"


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (BODY, BODY),
        (f"\n{BODY}", f"\n{BODY}"),
        (f"{BODY}\n\ndef other():\n    pass\n", f"{BODY}\n\n"),
        (f"{BODY}\n@wraps\ndef other():\n    pass\n", f"{BODY}\n"),
        (f"{BODY}\nasync def other():\n    pass\n", f"{BODY}\n"),
        (f"{BODY}class Other:\n    pass\n", BODY),
        (f"{BODY}\nif __name__ == '__main__':\n    double([])\n", f"{BODY}\n"),
        (f"{BODY}print(double([1]))\n", BODY),
        (f"{BODY}# Tests\n", BODY),
        (f"{BODY}```\nThat doubles them.", BODY),
        (f"    # inside\n    if xs:\n    {BODY}    return xs\ndefault = 1\n",) * 2,
        (f"```python\n{WHOLE}```", WHOLE),
        (
            f"Here it is:\n\n```py\n{WHOLE}\nprint(double([1]))\n```\nand\n```\nno\n```",
            f"{WHOLE}\n",
        ),
        (f"Sure!\n```\n{BODY}```\n", BODY),
        (f"```python\n{WHOLE}", WHOLE),
        (WHOLE, WHOLE),
        (f"{HELPER}{WHOLE}# So:\nassert double([]) == []\n", f"{HELPER}{WHOLE}# So:\n"),
        (f"{WHOLE}```\nThat doubles them.", WHOLE),
        ("", ""),
        ("I cannot.", "I cannot."),
    ],
)
def test_replies_are_cut_to_code(reply, code):
    assert completion_of(reply) == code


@given(st.text(alphabet="`\n dефifclass:#pytho", max_size=60))
def test_a_cut_reply_is_a_piece_of_it_and_stays_as_it_is(reply):
    code = completion_of(reply)
    assert code in reply
    assert "\n```" not in code
    assert completion_of(code) == code


# --- judging -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "ending"),
    [
        (BODY, Ending.PASSED),
        (BODY.rstrip(), Ending.PASSED),
        (f"Here:\n```python\n{WHOLE}```\n", Ending.PASSED),
        ("    return xs\n", Ending.FAILED),
        ("", Ending.FAILED),
        ("    return xs +\n", Ending.RAISED),
        ("I cannot.", Ending.RAISED),
        ("    import sys\n    sys.exit(0)\n", Ending.NO_VERDICT),
        ("    import os\n    os._exit(0)\n", Ending.NO_VERDICT),
        ("    import os\n    os.fork()\n", Ending.FORBIDDEN),
        ("    open('x', 'w')\n", Ending.FORBIDDEN),
        ("    return [0] * 10**10\n", Ending.OUT_OF_MEMORY),
        ("    import time\n    time.sleep(60)\n", Ending.TIMED_OUT),
    ],
)
def test_replies_are_judged_by_the_problem_s_tests(reply, ending):
    outcome = judge(PROBLEM, completion_of(reply), limits=Limits(wall_seconds=3.0))
    assert outcome.ending is ending


def test_judging_many_keeps_their_order_and_says_how_far_it_is():
    completions = [BODY, "    return xs\n", BODY, "    return []\n", "    return 1 / 0\n"]
    said = []
    outcomes = judge_all(
        [(PROBLEM, completion) for completion in completions],
        workers=3,
        progress=lambda done, total: said.append((done, total)),
    )
    assert [outcome.ending.value for outcome in outcomes] == [
        "passed",
        "failed",
        "passed",
        "failed",
        "raised",
    ]
    assert said == [(n, 5) for n in range(1, 6)]
    assert judge_all([]) == []


def test_a_failing_progress_stops_the_rest():
    def stop(done, total):
        raise InterruptedError(f"{done} of {total}")

    slow = "    import time\n    time.sleep(0.3)\n"
    with pytest.raises(InterruptedError, match="1 of 500"):
        judge_all([(PROBLEM, slow)] * 500, progress=stop)


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="workers must be a whole number of at least 1; got 0"):
        judge_all([], workers=0)


# --- pass@k ------------------------------------------------------------------------------------


@given(st.data())
def test_pass_at_k_is_the_share_of_choices_that_hold_a_pass(data):
    n = data.draw(st.integers(1, 9))
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    passed = [index < c for index in range(n)]
    choices = [any(choice) for choice in itertools.combinations(passed, k)]
    assert pass_at_k(n, c, k) == pytest.approx(sum(choices) / len(choices), rel=1e-15, abs=0)


@given(st.data())
def test_pass_at_k_is_the_product_of_the_paper(data):
    n = data.draw(st.integers(1, 400))
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    product = 1.0
    for i in range(n - c + 1, n + 1):
        product *= max(0.0, 1 - k / i)
    assert pass_at_k(n, c, k) == pytest.approx(1 - product, rel=1e-9, abs=1e-12)


def test_pass_at_k_of_many():
    assert pass_at_k(10**6, 1, 1) == 1e-6
    assert pass_at_k(10**6, 0, 1000) == 0.0
    assert pass_at_k(10**6, 10**6, 1) == 1.0
    assert 0.0 < pass_at_k(10**5, 3, 10) < 1.0


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ((0, 0, 1), "n must be a whole number of at least 1; got 0"),
        ((5, 6, 1), "c must be a whole number from 0 to 5; got 6"),
        ((5, -1, 1), "c must be a whole number from 0 to 5; got -1"),
        ((5, 1, 6), "k must be a whole number from 1 to 5; got 6"),
        ((5, 1, 0), "k must be a whole number from 1 to 5; got 0"),
        ((5, 1, 1.0), "k must be a whole number from 1 to 5; got 1.0"),
        ((5, True, 1), "c must be a whole number from 0 to 5; got True"),
    ],
)
def test_pass_at_k_of_what_cannot_be(numbers, message):
    with pytest.raises(ValueError, match=message):
        pass_at_k(*numbers)
