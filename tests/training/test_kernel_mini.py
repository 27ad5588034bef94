"""The model that travels with the package does what its card says."""

import re

import numpy as np
import pandas as pd
import pytest

from sigma_jax.grammars import simple_scan_split
from sigma_jax.kernel import (
    Depth,
    FixedDepth,
    QExit,
    check_tokenizer,
    kernel_mini_directory,
    load_model,
    load_tokenizer,
    stop_ids,
)
from sigma_jax.training import dialogues, greedy_answers

SAMPLE = 64
"""Commands of the test, evenly from the grammar's order."""


@pytest.fixture(scope="module")
def kernel_mini():
    model, tokenizer = load_model(kernel_mini_directory()), load_tokenizer(kernel_mini_directory())
    test = simple_scan_split().test
    return model, dialogues(tokenizer, test[:: len(test) // SAMPLE])


def test_it_is_small_and_fits_its_tokenizer(kernel_mini):
    assert (kernel_mini_directory() / "model.safetensors").stat().st_size <= 8e6
    tokenizer = load_tokenizer(kernel_mini_directory())
    config = kernel_mini[0].config
    check_tokenizer(tokenizer, config)
    assert 2 in stop_ids(tokenizer, config)
    assert tokenizer.decode(tokenizer.encode("walk, naïvely 👣\n")) == "walk, naïvely 👣\n"


@pytest.mark.slow
def test_it_answers_commands_that_it_was_not_taught(kernel_mini):
    model, sample = kernel_mini
    full = greedy_answers(model, sample, Depth(FixedDepth()), rows=len(sample))
    assert full.exact.mean() > 0.95
    early = greedy_answers(model, sample, Depth(QExit(threshold=0.5)), rows=len(sample))
    assert early.exact.mean() > 0.5
    assert np.nanmean(early.depths) < np.nanmean(full.depths) == model.config.total_ut_steps


def test_its_log_and_its_card_are_of_one_run():
    log = pd.read_csv(kernel_mini_directory() / "training_log.csv")
    card = (kernel_mini_directory() / "README.md").read_text(encoding="utf-8")
    for stage, about in (("joint", "everything"), ("gate", "the exit gate alone")):
        assert f"{log[log.stage == stage].step.max():,} steps for {about}" in card
    joint = log[log.stage == "joint"]
    assert (np.diff(joint.step) > 0).all()
    assert joint.loss.iloc[-1] < joint.loss.iloc[0]
    (at_full_depth,) = re.findall(r"\| 4 of 4 \| ([\d.]+)% \|", card)
    assert float(at_full_depth) > 95.0
