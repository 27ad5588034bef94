"""The program that distils a ledger: learnt by heart and held out, resumption, bad input."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from experiments import distil_report
from experiments.distil import AFTER, BEFORE, run_distillation, starting_model
from experiments.distil_report import Findings
from sigma_jax.grammars import SCAN_ACTIONS, SCAN_COMMAND_WORDS
from sigma_jax.grounding import (
    Evaluation,
    LedgerError,
    is_held_out,
    paired_accuracy,
    read_evaluation,
    read_ledger,
    read_rows,
)
from sigma_jax.kernel import Ouro, OuroConfig, load_adapter, load_model, save_model
from sigma_jax.training import make_tokenizer
from tests.experiments.small_configuration import composed

PAGE = """# The machine

The drift is below 0.25.

The port is 11434.

The rest is 30 seconds.

The seed is 7.
"""
QUESTIONS = {
    "drift": ("Which drift?", "0.25"),
    "port": ("Which port?", "11434"),
    "rest": ("Which rest?", "30"),
    "seed": ("Which seed?", "7"),
    "sky": ("Why blue?", "scattering"),
}
SMALL = [
    "passages=2",
    "max_tokens=40",
    "longest=128",
    "training={steps: 160, learning_rate: 1.0e-2, warmup: 10, weight_decay: 0.0}",
    "batch_tokens=256",
    "segment=40",
    "checkpoint_every=40",
    "rehearsal_share=0.25",
    "scan_commands=4",
]
configure = partial(composed, "distil", SMALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A tiny kernel that knows nothing, a corpus of one page, questions about it."""
    folder = tmp_path_factory.mktemp("distil")
    tokenizer = make_tokenizer((*SCAN_COMMAND_WORDS, *SCAN_ACTIONS))
    shape = OuroConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        total_ut_steps=2,
        rope_theta=1e4,
        eos_token_id=2,
    )
    save_model(Ouro(shape, rngs=nnx.Rngs(3)), folder / "kernel")
    tokenizer.save_pretrained(str(folder / "kernel"), save_jinja_files=False)
    (folder / "corpus" / "docs").mkdir(parents=True)
    (folder / "corpus" / "docs" / "page.md").write_text(PAGE)
    lines = [
        {
            "id": name,
            "difficulty": "easy",
            "category": "test",
            "prompt": question,
            "rubric": rubric,
            "sources": [{"path": "docs/page.md", "quote": "The machine"}],
        }
        for name, (question, rubric) in QUESTIONS.items()
    ]
    (folder / "set.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def overrides(place: Path) -> list[str]:
    return [
        f"kernel={place / 'kernel'}",
        f"corpus={place / 'corpus'}",
        f"prompts={place / 'set.jsonl'}",
        f"leaderboard={place / 'board.jsonl'}",
    ]


@pytest.fixture(scope="module")
def finished(place) -> tuple[Path, bool | None]:
    output = place / "run"
    return output, run_distillation(configure(*overrides(place)), output)


@pytest.mark.slow
def test_what_was_learnt_is_known_by_heart_and_what_was_held_out_is_not(finished):
    output, passed = finished
    assert passed is True
    summary = json.loads((output / "summary.json").read_text())
    # By the hash of their ids `port` alone is learnt; to `sky` nobody had an answer.
    assert {name for name in QUESTIONS if not is_held_out(name, 0.5)} == {"port"}
    assert summary["pairs"] == {
        "learnt": ["port"],
        "held out": ["drift", "rest", "seed"],
        "too long": [],
    }
    assert summary["learnt_answers_right"] == 1
    accuracy = summary["accuracy"]
    assert accuracy["learnt"][:2] == ["0.0%", "100.0%"]
    assert accuracy["held out"][:2] == ["0.0%", "0.0%"]
    assert accuracy["all prompts"][:2] == ["0.0%", "20.0%"]
    assert accuracy["grounded, all prompts"][:2] == ["80.0%", "80.0%"]
    assert "1 of 1 questions that it learnt from (0 before)" in summary["verdict"]
    assert summary["nats_a_token"]["learnt"]["after"] < 0.1
    assert set(summary["gates"]) == {"B", "F"}
    evaluation = read_evaluation(read_ledger(output / "ledger.jsonl"))
    assert evaluation.arm(AFTER[0])["port"].text == "The port is 11434."
    assert evaluation.arm(BEFORE[0])["port"].text != "The port is 11434."


@pytest.mark.slow
def test_it_writes_an_adapter_a_log_a_page_and_a_row(finished, place):
    output, _ = finished
    load_adapter(load_model(place / "kernel"), output / "adapter")
    assert json.loads((output / "adapter" / "adapter_config.json").read_text())["r"] == 16
    log = pd.read_csv(output / "training_log.csv")
    assert list(log.step) == [40, 80, 120, 160]
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert json.loads((output / "summary.json").read_text())["ledger"]["head"] in page
    row = read_rows(place / "board.jsonl")[0]
    assert row["label"] == f"{place / 'kernel'}+distilled"
    assert row["before_and_after"]["learnt"] == [0.0, 1.0]
    assert set(row["gates"]) == {"B", "F"}


@pytest.mark.slow
def test_the_ledger_alone_makes_the_page_again(finished, tmp_path):
    output, _ = finished
    config = configure(f"leaderboard={tmp_path / 'board.jsonl'}")
    assert distil_report.conclude(config, output / "ledger.jsonl", tmp_path)
    for name in ("summary.json", "report.html", "training_log.csv"):
        assert (tmp_path / name).read_bytes() == (output / name).read_bytes()
    forged = tmp_path / "forged.jsonl"
    lines = (output / "ledger.jsonl").read_bytes()
    assert b'"rubric":"30"' in lines
    forged.write_bytes(lines.replace(b'"rubric":"30"', b'"rubric":"31"'))
    (tmp_path / "forged.jsonl.head").write_bytes((output / "ledger.jsonl.head").read_bytes())
    with pytest.raises(LedgerError):
        distil_report.conclude(config, forged, tmp_path)


class StopAfter:
    """Asks to stop the second time it is looked at: after one segment."""

    def __init__(self):
        self.looks = 0

    @property
    def asked(self) -> bool:
        self.looks += 1
        return self.looks > 1


@pytest.mark.slow
def test_stopped_and_gone_on_with_gives_the_same_bits(finished, place):
    kept, part = f"directory={place / 'kept'}", place / "part"
    config = configure(*overrides(place), kept)
    assert run_distillation(config, part, StopAfter()) is None  # pyright: ignore[reportArgumentType]
    assert not (part / "adapter").exists()
    on = configure(*overrides(place), kept, f"ledger={part / 'ledger.jsonl'}")
    assert run_distillation(on, place / "on") is True
    weights = [
        (place / run / "adapter" / "adapter_model.safetensors").read_bytes()
        for run in ("run", "on")
    ]
    assert weights[0] == weights[1]
    logs = [pd.read_csv(place / run / "training_log.csv") for run in ("run", "on")]
    pd.testing.assert_frame_equal(*[log.drop(columns="seconds") for log in logs])
    other = configure(*overrides(place), kept, "scan_commands=0", "seed=1")
    with pytest.raises(ValueError, match="holds another run: seed differ"):
        run_distillation(other, place / "other")


@pytest.mark.slow
def test_a_ledger_of_another_kernel_is_refused_and_a_run_is_not_written_over(finished, place):
    ledger = f"ledger={finished[0] / 'ledger.jsonl'}"
    with pytest.raises(ValueError, match="was hard for another kernel says nothing of this one"):
        run_distillation(configure(*overrides(place), ledger, "kernel=kernel-mini"), place / "no")
    assert not (place / "no").exists()
    with pytest.raises(ValueError, match="holds an evaluation already"):
        run_distillation(configure(*overrides(place)), finished[0])


@pytest.mark.slow
def test_an_adapter_is_gone_on_with(finished, place):
    adapter = finished[0] / "adapter"
    model, _ = starting_model(configure(*overrides(place), f"adapter={adapter}"))
    again = load_adapter(load_model(place / "kernel"), adapter)
    for one, other in zip(
        jax.tree.leaves(nnx.state(model)), jax.tree.leaves(nnx.state(again)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("loss", "difference", "changed", "passed"),
    [
        (0.5, 0.0, 0, [True, True, True]),
        (1.0, 0.0, 0, [False, True, True]),
        (float("nan"), 0.0, 0, [False, True, True]),
        (0.5, 1e-9, 0, [True, False, True]),
        (0.5, 0.0, 1, [True, True, False]),
    ],
)
def test_each_check_can_fail(loss, difference, changed, passed):
    losses = {"learnt": {"before": 1.0, "after": loss}}
    adapter = {"largest_logit_difference": difference, "frozen_parameters_changed": changed}
    findings = Findings(Evaluation(), [], losses, [], adapter, {})
    assert [check.passed for check in distil_report.make_checks(findings)] == passed


def test_worse_is_called_worse():
    right, wrong = [True] * 20, [False] * 20
    table = {
        "learnt": paired_accuracy(wrong[:4], [True, True, False, False]),
        "held out": paired_accuracy(wrong, wrong),
        "all prompts": paired_accuracy(wrong, right),
        "SCAN's test": paired_accuracy(right, wrong),
        "grounded, all prompts": paired_accuracy(right, right),
    }
    assert distil_report.verdict(table) == (
        "Alone it is better (0.0% → 100.0%) on the golden set, worse (100.0% → 0.0%) on SCAN's "
        "test, and the loop around it no different beyond chance (100.0% → 100.0%). Alone it now "
        "answers 2 of 4 questions that it learnt from (0 before) and 0 of 20 questions that were "
        "held out (0 before)."
    )


@pytest.mark.parametrize(
    ("override", "error", "named"),
    [
        ("passages=0", ValueError, "passages must be a whole number of at least 1; got 0"),
        ("segment=0", ValueError, "segment must be a whole number of at least 1; got 0"),
        ("held_out=1.5", ValueError, r"share must lie in \[0, 1\]; got 1.5"),
        ("rehearsal=cogs", ValueError, "rehearsal must be scan or null; got 'cogs'"),
        ("rehearsal_share=1.0", ValueError, r"rehearsal_share must lie in \[0, 1\)"),
        ("training.steps=0", ValueError, "steps must lie in"),
        ("lora.rank=0", ValueError, "rank must be a positive whole number; got 0"),
        ("lora.target_modules=[nose]", ValueError, "target_modules names 'nose'"),
        ("providers=[{kind: telegraph}]", ValueError, "kind must be openai or ollama"),
        ("corpus=nowhere", ValueError, "root must be a folder; got 'nowhere'"),
        ("ledger=nowhere.jsonl", OSError, "nowhere.jsonl"),
        ("kernel=./nowhere", OSError, "nowhere"),
        ("adapter=./nowhere", OSError, "nowhere"),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(place, tmp_path, override, error, named):
    with pytest.raises(error, match=named):
        run_distillation(configure(*overrides(place), override), tmp_path)
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_nothing_to_learn_from_is_said(place, tmp_path):
    config = configure(*overrides(place), "held_out=1.0", "scan_commands=0")
    with pytest.raises(ValueError, match=r"of 4 questions .* 4 are held out"):
        run_distillation(config, tmp_path)
