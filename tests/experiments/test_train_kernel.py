"""The program that trains the kernel, as a user runs it: outputs, stops, bad input."""

import json
import os
import re
import signal
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from experiments.launch import one_line_errors
from experiments.train_kernel import StopRequest, run_training
from sigma_jax.kernel import generate, load_model
from tests.experiments.small_configuration import composed

SMALL = [
    "batch_tokens=256",
    "segment=1",
    "checkpoint_every=1",
    "length=16",
    "model.hidden_size=8",
    "model.intermediate_size=8",
    "model.num_hidden_layers=1",
    "model.num_attention_heads=2",
    "model.num_key_value_heads=2",
    "model.total_ut_steps=2",
    "joint={steps: 2, learning_rate: 0.01, warmup: 1, entropy_weight: 0.1}",
    "gate={steps: 1, learning_rate: 0.01, warmup: 0}",
    "evaluate={thresholds: [0.5], dialogues: 8, required: 0.95}",
]


configure = partial(composed, "train_kernel", SMALL)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, bool | None]:
    """One run on SCAN, far too short."""
    output = tmp_path_factory.mktemp("scan")
    return output, run_training(configure(), output)


@pytest.mark.slow
def test_a_run_that_is_too_short_fails_its_check(finished):
    output, passed = finished
    summary = json.loads((output / "summary.json").read_text())
    assert passed is False
    assert not summary["all_checks_passed"]
    assert set(summary["test"]) == {"1 of 2", "2 of 2", "q = 0.5"}
    assert summary["test"]["2 of 2"]["exact"] < 0.5


@pytest.mark.slow
def test_the_model_is_whole_and_answers_in_its_chat_format(finished):
    from transformers import AutoTokenizer

    directory = finished[0] / "model"
    names = {path.name for path in directory.iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "training_log.csv",
    }
    model, tokenizer = load_model(directory), AutoTokenizer.from_pretrained(str(directory))
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.eos_token_id == tokenizer.eos_token_id == 2
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "jump twice"}], add_generation_prompt=True
    )["input_ids"]
    assert len(generate(model, [prompt], max_new_tokens=3).tokens[0]) <= 3


@pytest.mark.slow
def test_the_log_has_both_stages(finished):
    log = pd.read_csv(finished[0] / "training_log.csv")
    assert list(zip(log.stage, log.step, strict=True)) == [("joint", 1), ("joint", 2), ("gate", 1)]
    assert {"loss", "loss_loop_1", "loss_loop_2", "exit_step", "entropy"} <= set(log.columns)
    assert log.exit_step.between(1.0, 2.0).all()
    card = (finished[0] / "model" / "README.md").read_text()
    assert "2 steps for everything" in card
    assert f"{log.tokens[:2].sum():,} tokens" in card


@pytest.mark.slow
def test_the_page_has_its_figures_and_needs_nothing_else(finished):
    page = (finished[0] / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert not re.search(r'(src|href)="(?!data:)', page)


class StopAfter:
    """Asks to stop the second time it is looked at: after one segment."""

    def __init__(self):
        self.looks = 0

    @property
    def asked(self) -> bool:
        self.looks += 1
        return self.looks > 1


@pytest.mark.slow
def test_stopped_and_gone_on_with_gives_the_same_bits(tmp_path):
    text = tmp_path / "text.txt"
    text.write_bytes(bytes(range(256)) * 4)
    config = configure("data=text", f"path={text}")
    assert run_training(config, tmp_path / "whole") is True  # below 8 bits a byte
    part = tmp_path / "part"
    assert run_training(config, part, StopAfter()) is None  # pyright: ignore[reportArgumentType]
    assert not (part / "model").exists()
    assert run_training(config, part) is True
    weights = [tmp_path / run / "model" / "model.safetensors" for run in ("whole", "part")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    logs = [pd.read_csv(tmp_path / run / "training_log.csv") for run in ("whole", "part")]
    pd.testing.assert_frame_equal(*[log.drop(columns="seconds") for log in logs])
    with pytest.raises(ValueError, match="holds another run: seed differ"):
        run_training(configure("data=text", f"path={text}", "seed=1"), part)


def test_sigterm_is_a_request():
    before = signal.getsignal(signal.SIGTERM)
    try:
        stop = StopRequest()
        assert not stop.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data=audio", "data must be scan or text; got 'audio'"),
        ("data=text", "data=text needs path=FILE"),
        ("segment=0", "segment must be a whole number of at least 1; got 0"),
        ("batch_tokens=1.5", "batch_tokens must be a whole number"),
        ("batch_tokens=16", "tokens must be at least"),
        ("joint.learning_rate=0.0", "learning_rate must lie in"),
        ("joint.learning_rate='1e-3'", "learning_rate is the text"),
        ("gate.steps=0", "steps must lie in"),
        ("model.num_attention_heads=3", "must be a multiple of"),
        ("model.hidden_size=0", "hidden_size must be a positive whole number"),
    ],
)
def test_bad_input_is_one_line(override, named, tmp_path, capsys):
    config = configure(override)
    with pytest.raises(SystemExit) as stopped:
        one_line_errors(lambda c: run_training(c, tmp_path))(config)
    assert stopped.value.code == 2
    assert named in capsys.readouterr().err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
