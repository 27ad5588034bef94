"""The program that compares drifts, as a user runs it: outputs, servers, sentences, bad input."""

import json
import threading
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from experiments.drift_equivalence import run_comparison
from experiments.drift_equivalence_report import TEXT, Table, sentence
from experiments.drift_variants import serving
from sigma_jax.bridge import DriftMatrix, drift_matrix
from sigma_jax.grounding import golden_set
from sigma_jax.kernel import load_model, load_tokenizer
from sigma_jax.report import drift_matrix_figure
from tests.experiments.small_configuration import composed
from tests.serve.conftest import save_tiny

SMALL = [
    "calibration=230",
    "held_out=30",
    "depths=[2]",
    "quantizations=[]",
    "adapter.steps=2",
    "adapter.rows=4",
    "max_tokens=8",
    "slots=2",
    "resamples=50",
]
KERNELS = ["f32", "bf16", "LoRA", "depth 2", "other seed"]
SERVERS = ["server f32", "server bf16"]


configure = partial(composed, "drift_equivalence", SMALL)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory) -> Path:
    """Three SCAN commands and one question, all short, so that little is compiled."""
    chosen = sorted(golden_set(), key=lambda prompt: len(prompt.prompt))
    scan = [prompt for prompt in chosen if prompt.category == "scan"][:3]
    other = next(prompt for prompt in chosen if prompt.category != "scan")
    lines = [
        {**vars(prompt), "sources": [source._asdict() for source in prompt.sources]}
        for prompt in [*scan, other]
    ]
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def server_threads() -> set[threading.Thread]:
    """Those of this process; other test files may have left some before."""
    return {thread for thread in threading.enumerate() if thread.name in ("serving", "engine")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory, prompts) -> tuple[Path, bool]:
    output, before = tmp_path_factory.mktemp("drift"), server_threads()
    passed = run_comparison(configure(f"prompts={prompts}"), output)
    assert server_threads() <= before
    return output, passed


@pytest.mark.slow
def test_it_writes_matrices_drifts_replies_and_a_page(finished):
    output, passed = finished
    summary = json.loads((output / "summary.json").read_text())
    assert passed
    assert summary["all_checks_passed"]
    assert len(summary["checks"]) == 6
    assert summary["prompts"] == {"all": 4, "taught": 3}
    found = [(each["measure"], each["prompts"]) for each in summary["matrices"]]
    assert found == [
        ("in the state", "all 4 prompts"),
        ("in the state", "the 3 SCAN prompts"),
        ("by what they say", "all 4 prompts"),
        ("by what they say", "the 3 SCAN prompts"),
        ("by what they say", "the 3 SCAN prompts, without the thought"),
    ]
    assert summary["matrices"][0]["variants"] == KERNELS
    assert summary["matrices"][2]["variants"] == KERNELS + SERVERS
    replies = json.loads((output / "replies.json").read_text(encoding="utf-8"))
    assert replies["heard"]["server f32"] == replies["heard"]["f32"]
    assert [len(replies["plain"][name]) for name in KERNELS] == [3] * 5
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image") == 2


@pytest.mark.slow
def test_every_number_can_be_derived_again_from_the_drifts(finished):
    output, _ = finished
    summary = json.loads((output / "summary.json").read_text())
    with np.load(output / "drifts.npz") as kept:
        taught = kept["taught"]
        parts = {
            ("in the state", "all 4 prompts"): ("latent", slice(None)),
            ("by what they say", "the 3 SCAN prompts"): ("text", taught),
        }
        for table in summary["matrices"]:
            if (key := (table["measure"], table["prompts"])) not in parts:
                continue
            kind, rows = parts[key]
            drifts = np.stack([kept[f"{kind}/{name}"][rows] for name in table["variants"]])
            again = drift_matrix(drifts, resamples=50, seed=summary["configuration"]["seed"])
            for name in ("pooled", "low", "high"):
                wanted = [[float(v) for v in row] for row in table[name]]
                np.testing.assert_array_equal(getattr(again, name), wanted)
        f32, shallow = kept["latent/f32"], kept["latent/depth 2"]
        assert (kept["latent/not aligned"] != kept["latent/other seed"]).any()
    by_hand = np.sqrt(np.square(f32 - shallow).sum() / np.square(f32).sum())
    found = summary["matrices"][0]["pooled"][0][KERNELS.index("depth 2")]
    assert found == pytest.approx(by_hand, rel=1e-5)
    assert summary["other_seed"]["explained_on_held_out_commands"] < 1.0


@pytest.mark.slow
def test_one_kernel_alone_gives_the_same_bits(finished, prompts, tmp_path):
    bare = ["twin=null", "servers=false", "adapter.steps=0", "depths=[]"]
    assert run_comparison(configure(f"prompts={prompts}", *bare), tmp_path)
    with np.load(tmp_path / "drifts.npz") as alone, np.load(finished[0] / "drifts.npz") as whole:
        assert sorted(alone.files) == sorted(
            ["x", "taught", *(f"{k}/{n}" for k in ("latent", "text", "plain") for n in KERNELS[:2])]
        )
        for name in alone.files:
            np.testing.assert_array_equal(alone[name], whole[name])


@pytest.mark.slow
def test_a_server_is_closed_whatever_happens(tmp_path):
    directory = save_tiny(tmp_path / "model")
    model, tokenizer = load_model(directory), load_tokenizer(directory)
    served: list[str] = []
    before = server_threads()

    def fail() -> None:
        with serving(model, tokenizer, context=64, slots=1) as where:
            served.append(where)
            assert httpx.get(f"{where}/health").json()["status"] == "ok"
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served[0]}/health")
    assert server_threads() <= before


def table_of(pooled, low, high) -> Table:
    parts = [np.asarray(part, float) for part in (pooled, low, high)]
    matrix = DriftMatrix(*parts, parts[0][..., None])
    return Table(TEXT, "all 9 prompts", ["a", "b", "c", "d"], matrix)


def test_the_sentence_says_which_swaps_are_safe():
    """a, b: safe; c with a: safe one way; c with b: on both sides; d: far from all."""
    pooled = [[0, 0.1, 0.2, 9], [0.1, 0, 0.25, 9], [0.4, 0.25, 0, 9], [1, 1, 1, 0]]
    low = [[0, 0.1, 0.1, 8], [0.1, 0, 0.1, 8], [0.3, 0.1, 0, 8], [0.9, 0.9, 0.9, 0]]
    high = [[0, 0.2, 0.24, 10], [0.2, 0, 0.3, 10], [0.5, 0.3, 0, 10], [2, 2, np.inf, 0]]
    assert sentence(table_of(pooled, low, high), 0.25) == (
        "Compared by what they say, on all 9 prompts, swaps at 0.25 are safe in both directions "
        "among a, b; not decided, or not the same in both directions: c with a, b; not safe "
        "in the other 3 of 6 pairs."
    )
    none = np.ones((4, 4)) - np.eye(4)
    assert sentence(table_of(none, none, none), 0.25) == (
        "Compared by what they say, on all 9 prompts, swaps at 0.25 are not safe in any of the 6 "
        "pairs."
    )
    chain = np.ones((4, 4)) - np.eye(4)
    for one, other in ((0, 1), (1, 2), (2, 3)):
        chain[one, other] = chain[other, one] = 0.0
    assert "among a, b; safe as well: c with b, d; not safe in the other 3" in sentence(
        table_of(chain, chain, chain), 0.25
    )


def test_the_figure_says_every_number_and_frames_what_is_safe():
    drifts = np.array([[0.0, 0.12, np.inf], [0.1, 0.0, 0.3], [0.5, 0.6, 0.0]])
    figure = drift_matrix_figure(
        ["a", "b", "c"], {"one": (drifts, drifts + 0.14), "two": (drifts, drifts)}, tolerance=0.25
    )
    first, second = figure.axes[:2]
    assert [text.get_text() for text in first.texts] == [
        *("0", "0.12", "∞", "0.10", "0", "0.30", "0.50", "0.60", "0")
    ]
    corners = [[tuple(p.get_xy()) for p in axes.patches] for axes in (first, second)]  # pyright: ignore
    assert corners == [[(-0.46, 0.54)], [(0.54, -0.46), (-0.46, 0.54)]]


@pytest.mark.parametrize(
    ("override", "error", "named"),
    [
        ("dim=63", ValueError, r"dim must lie in \[64, 256\]; got 63"),
        ("depths=[4]", ValueError, r"depths must be from 1 to 3; got \[4\]"),
        ("calibration=30", ValueError, "held_out must be fewer than calibration, 30; got 30"),
        ("calibration=99999", ValueError, "calibration must be at most"),
        ("longest=2", ValueError, "longest must leave some commands"),
        ("max_tokens=0", ValueError, "max_tokens must be a whole number of at least 1; got 0"),
        ("prompts=nowhere.jsonl", FileNotFoundError, "nowhere.jsonl"),
        ("kernel=./nowhere", OSError, "nowhere"),
    ],
)
def test_bad_input_is_named(tmp_path, override, error, named):
    with pytest.raises(error, match=named):
        run_comparison(configure(override), tmp_path)
    assert not any(tmp_path.iterdir())
