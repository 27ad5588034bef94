"""Training runs: the same bits however they are cut, killed or resumed; what each stage moves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sigma_jax.kernel import (
    Depth,
    FixedDepth,
    LoRAConfig,
    Ouro,
    OuroConfig,
    QExit,
    add_adapter,
    merge_adapter,
)
from sigma_jax.training import (
    Answers,
    Dialogue,
    DialogueBatches,
    Recipe,
    greedy_answers,
    load_training,
    save_training,
    start_training,
    train,
    trained_model,
)

CONFIG = OuroConfig(
    vocab_size=12,
    hidden_size=16,
    intermediate_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=32,
    total_ut_steps=2,
    rope_theta=1e4,
)
STOP = 2
# A language of one rule: the answer is the question, said once more.
DIALOGUES = [
    Dialogue([1, *said, 1], [*said, STOP])
    for said in ([3], [4], [5], [3, 4], [4, 5], [5, 3], [4, 3], [5, 4], [3, 5])
]
JOINT = Recipe("joint", steps=150, learning_rate=1e-2, warmup=5)
GATE = Recipe("gate", steps=10, learning_rate=1e-2)
ADAPTER = Recipe("adapter", steps=20, learning_rate=1e-2, weight_decay=0.0)
RUN = {"seed": 1}


def model() -> Ouro:
    return Ouro(CONFIG, rngs=nnx.Rngs(0))


def batches() -> DialogueBatches:
    return DialogueBatches(DIALOGUES, tokens=64, seed=1)


def leaves(tree) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same_bits(one, other):
    for a, b in zip(leaves(one), leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def uncut():
    """The state after 6 steps in one call, and what they measured."""
    return train(model(), start_training(model(), JOINT), batches(), JOINT, steps=6)


def test_the_cut_does_not_matter(uncut):
    state = start_training(model(), JOINT)
    measured = []
    for steps in (1, 3, 2):
        state, metrics = train(model(), state, batches(), JOINT, steps=steps)
        measured += [metrics.loss] * steps
    assert_same_bits(state, uncut[0])
    assert metrics.step == uncut[1].step == 6
    assert np.mean(measured) == pytest.approx(uncut[1].loss, rel=1e-6)


def test_parameters_stay_float32(uncut):
    assert {leaf.dtype for leaf in leaves(uncut[0].trained)} == {np.dtype(np.float32)}


def test_a_checkpoint_brings_back_every_bit(uncut, tmp_path):
    assert load_training(tmp_path / "none", uncut[0], RUN) is None
    assert load_training(tmp_path, uncut[0], RUN) is None
    for state in (start_training(model(), JOINT), uncut[0]):
        save_training(tmp_path, state, RUN)
    loaded = load_training(tmp_path, start_training(model(), JOINT), RUN)
    assert loaded is not None
    assert_same_bits(loaded, uncut[0])
    with pytest.raises(ValueError, match="holds another run: seed differ"):
        load_training(tmp_path, uncut[0], {"seed": 2})


PROGRAM = """
import sys
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
sys.path.insert(0, sys.argv[2])
from test_kernel_training import JOINT, RUN, batches, model
from sigma_jax.training import load_training, save_training, start_training, train
state = start_training(model(), JOINT)
state = load_training(sys.argv[1], state, RUN) or state
print("from", int(state.step), flush=True)
while int(state.step) < 1000:
    state, _ = train(model(), state, batches(), JOINT, steps=2)
    save_training(sys.argv[1], state, RUN)
    print("at", int(state.step), flush=True)
"""


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_bits(uncut, tmp_path):
    """SIGKILL at any moment after the second checkpoint; what is there is whole."""
    directory = tmp_path / "run"
    command = [sys.executable, "-c", PROGRAM, str(directory), str(Path(__file__).parent)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line == "at 4\n":
                break
        time.sleep(0.05)  # into the next steps or the next checkpoint
        process.send_signal(signal.SIGKILL)
    state = load_training(directory, start_training(model(), JOINT), RUN)
    assert state is not None
    found = int(state.step)
    assert found >= 4
    wanted, _ = train(model(), start_training(model(), JOINT), batches(), JOINT, steps=found)
    assert_same_bits(state, wanted)
    # And on from there: resumed here, it gives what a run that was never killed gives.
    on, _ = train(model(), state, batches(), JOINT, steps=3)
    whole, _ = train(model(), start_training(model(), JOINT), batches(), JOINT, steps=found + 3)
    assert_same_bits(on, whole)


def test_what_a_kill_left_half_written_is_passed_over(uncut, tmp_path):
    save_training(tmp_path, uncut[0], RUN)
    (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
    (tmp_path / "8.orbax-checkpoint-tmp" / "state").write_bytes(b"half")
    loaded = load_training(tmp_path, uncut[0], RUN)
    assert loaded is not None
    assert int(loaded.step) == 6


@pytest.fixture(scope="module")
def taught():
    """The model after the first stage."""
    state, _ = train(model(), start_training(model(), JOINT), batches(), JOINT, steps=300)
    return trained_model(model(), state, JOINT)


def answers(model: Ouro, policy) -> Answers:
    return greedy_answers(model, DIALOGUES, Depth(policy), rows=16)


@pytest.mark.slow
def test_the_first_stage_teaches_every_loop(taught):
    assert answers(model(), FixedDepth(max_loops=2)).exact.mean() < 0.5
    for loops in (1, 2):
        assert answers(taught, FixedDepth(max_loops=loops)).exact.all()


@pytest.mark.slow
def test_the_second_stage_moves_the_gate_alone(taught):
    before = nnx.to_flat_state(nnx.state(taught))
    kept = {path: np.asarray(leaf[...]).copy() for path, leaf in before}
    state, _ = train(taught, start_training(taught, GATE), batches(), GATE, steps=10)
    after = nnx.to_flat_state(nnx.state(trained_model(taught, state, GATE)))
    moved = {path[0] for path, leaf in after if (np.asarray(leaf[...]) != kept[path]).any()}
    assert moved == {"early_exit_gate"}


def adapted() -> Ouro:
    config = LoRAConfig(rank=2, alpha=4.0, target_modules=("q_proj", "down_proj", "lm_head"))
    return add_adapter(model(), config, rngs=nnx.Rngs(1))


@pytest.mark.slow
def test_the_adapters_stage_moves_the_adapter_alone_and_is_the_joint_objective():
    start = adapted()
    state = start_training(start, ADAPTER)
    assert len(jax.tree.leaves(state.trained)) == 6
    first, metrics = train(start, state, batches(), ADAPTER, steps=1)
    # The adapter is still nothing: the loss is that of the model without it.
    _, joint = train(model(), start_training(model(), JOINT), batches(), JOINT, steps=1)
    assert metrics.loss == pytest.approx(joint.loss, rel=1e-6)
    state, last = train(start, first, batches(), ADAPTER, steps=19)
    assert last.loss < metrics.loss
    trained = trained_model(start, state, ADAPTER)
    for filtered, same in ((nnx.LoRAParam, False), (nnx.Not(nnx.LoRAParam), True)):
        both = (leaves(nnx.state(one, filtered)) for one in (start, trained))
        assert all(np.array_equal(old, new) is same for old, new in zip(*both, strict=True))
    ids = jnp.asarray([DIALOGUES[3].prompt], jnp.int32)
    merged = merge_adapter(trained)
    one, other = (np.asarray(m.logits(m(ids).hidden[-1])) for m in (trained, merged))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_without_an_adapter_there_is_nothing_to_train():
    with pytest.raises(ValueError, match="the model has no adapter to train"):
        start_training(model(), ADAPTER)


@pytest.mark.slow
@pytest.mark.parametrize("loops", [1, 2])
def test_greedy_answers_are_those_of_the_whole_sequence_read_again(loops):
    """Of a model that knows little, without a cache, reading everything again for every token."""
    little, _ = train(model(), start_training(model(), JOINT), batches(), JOINT, steps=40)
    little = trained_model(model(), little, JOINT)
    found = answers(little, FixedDepth(max_loops=loops))
    assert set(found.depths[~np.isnan(found.depths)]) == {loops}
    assert 0.0 < found.exact.mean() < 1.0
    for dialogue, exact in zip(DIALOGUES, found.exact, strict=True):
        ids = list(dialogue.prompt)
        for _ in dialogue.answer:
            # One width for all, so that one program does: causal, what follows does not matter.
            padded = jnp.asarray([ids + [0] * (8 - len(ids))], jnp.int32)
            logits = little.logits(READ(little, padded).hidden[loops - 1, 0, len(ids) - 1])
            ids.append(int(logits.argmax()))
        assert exact == (ids[len(dialogue.prompt) :] == dialogue.answer)


READ = jax.jit(lambda model, ids: model(ids))


@pytest.mark.slow
def test_depths_are_those_of_the_policy(taught):
    shallow = answers(taught, QExit(threshold=0.0)).depths
    deep = answers(taught, QExit(threshold=1.0)).depths
    lengths = np.array([len(d.answer) - 1 for d in DIALOGUES])
    # The first token comes with the prompt, which is read to the end whatever the threshold.
    np.testing.assert_allclose(shallow, (2.0 + (lengths - 1.0)) / lengths)
    np.testing.assert_allclose(deep, 2.0)


def test_a_loss_that_is_not_finite_ends_the_run():
    state = start_training(model(), JOINT)
    broken = jax.tree.map(lambda leaf: leaf.at[(0,) * leaf.ndim].set(jnp.inf), state.trained)
    with pytest.raises(ValueError, match="no longer finite between steps 0 and 1"):
        train(model(), state._replace(trained=broken), batches(), JOINT, steps=1)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"stage": "third"}, "stage must be one of joint, gate, adapter; got 'third'"),
        ({"steps": 0}, "steps must lie in"),
        ({"learning_rate": 0.0}, "learning_rate must lie in"),
        ({"learning_rate": "1e-3"}, "learning_rate is the text '1e-3'"),
        ({"warmup": 10}, r"warmup must lie in \[0, 9\]; got 10"),
        ({"entropy_weight": -0.1}, "entropy_weight must lie in"),
        ({"clip": 0.0}, "clip must lie in"),
        ({"final_share": 1.5}, "final_share must lie in"),
        ({"weight_decay": float("nan")}, "weight_decay must not contain NaN"),
    ],
)
def test_bad_recipes(numbers, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{"stage": "joint", "steps": 10, "learning_rate": 1e-3, **numbers})


def test_bad_calls(uncut):
    with pytest.raises(ValueError, match="steps must lie in"):
        train(model(), uncut[0], batches(), JOINT, steps=0)
    with pytest.raises(ValueError, match="must hold at least one dialogue"):
        greedy_answers(model(), [])
