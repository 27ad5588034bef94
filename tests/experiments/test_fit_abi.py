"""The program that fits the state ABI, as a user runs it: outputs, resumption, bad input."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.fit_abi import run_fits
from sigma_jax.bridge import load_abi
from tests.experiments.small_configuration import composed

SMALL = [
    "sequences=24",
    "held_out=12",
    "longest=48",
    "dims=[64]",
    "steps=2",
    "batch=16",
    "checkpoint_every=1",
    "answers=2",
    "required=0.9",
]


configure = partial(composed, "fit_abi", SMALL)


def assert_same_bits(found, wanted):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, bool]:
    output = tmp_path_factory.mktemp("abi")
    return output, run_fits(configure(), output)


@pytest.mark.slow
def test_it_writes_the_maps_a_summary_and_a_page(finished):
    output, passed = finished
    summary = json.loads((output / "summary.json").read_text())
    assert passed
    assert summary["all_checks_passed"]
    found = summary["dimensions"]["64"]
    assert 0.9 < found["start"]["explained"] <= 1.0
    assert found["fitted"]["agreement"] >= 0.9
    assert summary["samples"]["learnt"] > summary["samples"]["held_out"] > 64
    assert set(summary["exact_answers"]) == {"kernel", "behind_abi"}
    abi = load_abi(output / "abi_64.eqx")
    assert (abi.hidden_size, abi.dim) == (96, 64)
    assert "data:image" in (output / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_stopped_and_gone_on_with_gives_the_same_bits(finished, tmp_path):
    kept = f"directory={tmp_path / 'kept'}"
    run_fits(configure(kept, "steps=1"), tmp_path / "first")
    run_fits(configure(kept), tmp_path / "second")
    first, second, whole = (
        load_abi(place / "abi_64.eqx")
        for place in (tmp_path / "first", tmp_path / "second", finished[0])
    )
    assert_same_bits(second, whole)
    assert (np.asarray(first.encoder.weight) != np.asarray(whole.encoder.weight)).any()
    with pytest.raises(ValueError, match="holds another run: seed differ"):
        run_fits(configure(kept, "seed=1"), tmp_path / "third")


@pytest.mark.slow
def test_lines_of_a_file_are_prompts(tmp_path):
    lines = tmp_path / "prompts.txt"
    verbs = ("walk", "run", "jump", "look")
    lines.write_text("\n".join(f"{a} twice and {b} left\n" for a in verbs for b in verbs))
    run_fits(configure(f"prompts={lines}", "held_out=6"), tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["exact_answers"] is None
    assert summary["samples"]["learnt"] > summary["samples"]["held_out"] > 0


@pytest.mark.parametrize(
    ("override", "error", "named"),
    [
        ("dims=[63]", ValueError, r"dim must lie in \[64, 256\]; got 63"),
        ("dims=[]", ValueError, "dims must name at least one dimension"),
        ("steps=0", ValueError, "steps must be a whole number of at least 1; got 0"),
        ("longest=1", ValueError, "of SCAN 0 sequences are left to learn from"),
        ("prompts=nowhere.txt", FileNotFoundError, "nowhere.txt"),
        ("kernel=./nowhere", OSError, "nowhere"),
    ],
)
def test_bad_input_is_named(tmp_path, override, error, named):
    with pytest.raises(error, match=named):
        run_fits(configure(override), tmp_path)
    assert not any(tmp_path.iterdir())
