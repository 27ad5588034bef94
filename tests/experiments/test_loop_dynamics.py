"""The program that looks at the loops as nodes, as a user runs it: outputs, checks, bad input."""

import json
import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import loop_dynamics_report
from experiments.fit_abi import Material, harvest, load_kernel
from experiments.loop_dynamics import make_places, run_dynamics
from sigma_jax.bridge import StateABI, loop_nodes, optimal_abi, save_abi
from sigma_jax.kernel import kernel_mini_directory, load_tokenizer, save_model
from tests.experiments.small_configuration import composed
from tests.kernel.restatement import random_model

SMALL = [
    "sequences=40",
    "calibration=130",
    "counted=30",
    "positions=6",
    "longest=24",
    "loops=12",
    "rates=[0.05]",
    "shoves=[0.5]",
    "rollouts=1",
    "required=0.0",
]

configure = partial(composed, "loop_dynamics", SMALL)


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    """A directory with a kernel of random weights, small enough to compile soon."""
    directory = tmp_path_factory.mktemp("kernel")
    shape = {"vocab_size": 374, "hidden_size": 72, "num_attention_heads": 4, "kv_heads": 2}
    save_model(random_model(3, loops=3, **shape), directory)
    for file in kernel_mini_directory().glob("tokenizer*"):
        shutil.copy(file, directory)
    return directory


@pytest.fixture(scope="module")
def finished(kernel, tmp_path_factory):
    """Where it wrote, whether it passed, and what was given to the report."""
    output, kept = tmp_path_factory.mktemp("loops"), []
    with pytest.MonkeyPatch.context() as patch:
        write = loop_dynamics_report.write_report
        patch.setattr(
            loop_dynamics_report, "write_report", lambda *all: (kept.append(all), write(*all))
        )
        passed = run_dynamics(configure(f"kernel={kernel}"), output)
    return output, passed, kept[0]


@pytest.mark.slow
def test_it_says_what_it_found_in_a_summary_and_a_page(finished):
    output, passed, _ = finished
    summary = json.loads((output / "summary.json").read_text())
    assert passed
    assert summary["all_checks_passed"]
    assert summary["positions"] == 6
    assert set(summary["faithfulness"]) == {"loop_2", "loop_3", "whole_way", "same_token"}
    assert 0.0 < summary["faithfulness"]["loop_3"]["median"] < 0.5
    last = summary["spectra"]["loop 3 after 12 more"]
    assert 0.0 < last["spectral_radius"]["low"] <= last["spectral_radius"]["high"]
    assert len(summary["going_on"]["median_steps"]) == 2 + 12
    assert set(summary["stand_ins"]) == {"loop_2_for_loop_3"}
    flagged = summary["canaries"][0]["flagged"]
    assert list(flagged) == ["as they are", "shoved by 50%", "other text"]
    assert np.shape(flagged["as they are"]["counted"]) == (2,)
    page = (output / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image") == 3
    assert "At the exit, loop 3 contracts" in page


@pytest.mark.slow
def test_what_is_measured_is_what_was_asked(finished):
    """Against definitions, from the states and Jacobians that were kept."""
    _, _, (config, results, checks, _) = finished
    looks, ways = results.looks, results.ways
    assert looks.jacobians.shape == (6, 4, 64, 64)
    # Neighbouring loops go on from one state to the next.
    for loop in (0, 1):
        step = np.linalg.norm(ways.states[:, loop + 1] - ways.states[:, loop], axis=1)
        size = np.linalg.norm(ways.states[:, loop], axis=1)
        np.testing.assert_allclose(looks.steps[:, loop], step / size, rtol=1e-5)
    for place, spectrum in enumerate(results.spectra.values()):
        batch = looks.jacobians[:, place]
        for row, jacobian in enumerate(batch):
            powers = np.linalg.matrix_power(jacobian, 2**9)
            radius = np.linalg.norm(powers) ** (2.0**-9)
            assert spectrum.radii[row] == pytest.approx(radius, rel=0.02)
            assert spectrum.norms[row] == pytest.approx(np.linalg.svd(jacobian)[1][0])
    text = loop_dynamics_report.closing_text(config, results, checks)
    assert "The nodes alone end at the kernel's own token in" in text


@pytest.mark.slow
def test_neighbours_are_compared_where_the_second_begins(finished):
    _, _, (config, results, _, _) = finished
    model, tokenizer = load_kernel(config.kernel)
    learnt, places = make_places(config, tokenizer)
    hidden, _ = harvest(config, model, Material(learnt, places.positions, []))
    loops = loop_nodes(model, optimal_abi(hidden, 64), places.positions[1])
    x = jnp.asarray(results.ways.states[1, 1])
    old, new = (np.asarray(node.drift(x, jnp.zeros(0))) for node in loops.nodes.values())
    expected = np.linalg.norm(old - new) / np.linalg.norm(old)
    assert results.looks.stand_ins[1] == pytest.approx([expected], rel=1e-3)


@pytest.mark.slow
def test_a_gate_that_eigenvalues_contradict_fails(finished):
    _, _, (_, results, checks, _) = finished
    assert all(check.passed for check in checks)
    name, first = next(iter(results.spectra.items()))
    wrong = replace(
        first,
        eigenvalues=1.5 * first.eigenvalues / first.radii[:, None],
        norms=1.5 * np.ones(6),
        norm_gate=np.ones(6, bool),
        lyapunov_gate=np.ones(6, bool),
    )
    tokens = results.tokens | {"nodes": results.tokens["kernel"] + 1}
    broken = replace(
        results,
        spectra=results.spectra | {name: wrong},
        tokens=tokens,
        rollout_error=1e-3,
        gradient_error=float("nan"),
    )
    failed = loop_dynamics_report.make_checks(configure("required=0.5"), broken)
    assert [check.value for check in failed[:2]] == [6, 6]
    assert not any(check.passed for check in failed)


def test_places_are_cut_before_the_token_that_matters():
    tokenizer = load_tokenizer(kernel_mini_directory())
    config = configure("positions=40", "calibration=2", "counted=2", "longest=160")
    learnt, places = make_places(config, tokenizer)
    assert (len(learnt), len(places.calibration), len(places.positions)) == (40, 4, 40)
    begins = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    ends = tokenizer.convert_tokens_to_ids("<|im_end|>")
    answered = []
    for ids in places.positions:
        at = [i for i in range(len(ids)) if ids[i : i + len(begins)] == begins]
        assert len(at) == 1
        answer = ids[at[0] + len(begins) :]
        assert ends not in answer
        answered.append(len(answer))
    assert min(answered) == 0 or len(set(answered)) > 5
    assert 0 < len(places.strangers) <= 40
    assert max(map(len, places.strangers)) <= max(map(len, places.positions))
    again = make_places(config, tokenizer)
    assert again == (learnt, places)
    assert make_places(configure("seed=1", *["positions=40"]), tokenizer)[1] != places


def test_lines_of_a_file_are_cut_anywhere(tmp_path):
    tokenizer = load_tokenizer(kernel_mini_directory())
    lines = [f"walk {how} {often}" for how in ("left", "right") for often in "abcdefghij"]
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    few = ["positions=4", "calibration=3", "counted=3"]
    learnt, places = make_places(configure(f"prompts={tmp_path / 'prompts.txt'}", *few), tokenizer)
    whole = [tokenizer.encode(line) for line in lines]
    assert all(ids in whole for ids in learnt)
    for ids in [*places.positions, *places.calibration]:
        assert len(ids) >= 1
        begun = [line for line in whole if line[: len(ids)] == ids]
        assert any(line not in learnt for line in begun)


@pytest.mark.parametrize(
    ("override", "error", "named"),
    [
        ("positions=0", ValueError, "positions must be a whole number of at least 1; got 0"),
        ("shoves=[]", ValueError, "shoves must name at least one number"),
        ("dim=63", ValueError, r"dim must lie in \[64, 256\]; got 63"),
        ("longest=1", ValueError, "of SCAN 0 sequences are left"),
        ("calibration=4200", ValueError, "held-out sequences are left, but .* ask for 4236"),
        ("strangers=nowhere.txt", FileNotFoundError, "nowhere.txt"),
        ("abi=nowhere.eqx", FileNotFoundError, "nowhere.eqx"),
        ("kernel=./nowhere", OSError, "nowhere"),
    ],
)
def test_bad_input_is_named(tmp_path, override, error, named):
    with pytest.raises(error, match=named):
        run_dynamics(configure(override), tmp_path)
    assert not any(tmp_path.iterdir())


def test_an_abi_of_another_kernel_is_refused(tmp_path):
    save_abi(tmp_path / "other.eqx", StateABI(72, 64, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="hidden states of 72 numbers"):
        run_dynamics(configure(f"abi={tmp_path / 'other.eqx'}"), tmp_path)
