"""Replays: the bits of stepping, whatever stands beside a row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.runtime import Observation, monitor_step, replay, start_monitor
from tests.runtime.simulated_replies import known_parameters

TURNS = 30


def recorded(rows, dtype, constraints=3):
    """Conversations with gaps, commands, losses and violations."""
    draw = np.random.default_rng(0)
    y = 1.3 * draw.normal(size=(rows, TURNS, 38))
    y[:, TURNS // 2 :, ::14] += 2.0
    present = draw.random((rows, TURNS)) > 0.1
    commanded = draw.random((rows, TURNS)) * (draw.random((rows, TURNS)) > 0.8)
    violations = draw.random((rows, TURNS, constraints)) < 0.1
    return tuple(
        jnp.asarray(part, kind)
        for part, kind in zip(
            (y, present, commanded, violations), (dtype, bool, dtype, bool), strict=True
        )
    )


def same_bits(first, second):
    return all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_replay_has_the_bits_of_stepping_turn_by_turn(dtype):
    parameters, arrays = known_parameters(dtype=dtype), recorded(40, dtype)
    whole, step = replay(parameters, *arrays), jax.jit(monitor_step)
    for row in (0, 17):
        state = start_monitor(parameters)
        for turn in range(TURNS):
            seen = Observation(*(array[row, turn] for array in arrays))
            state, measurement = step(parameters, state, seen)
            expected = jax.tree.map(lambda leaf, at=(row, turn): leaf[at], whole)
            assert same_bits(measurement, expected), (row, turn)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_a_row_does_not_depend_on_the_others(dtype):
    """Also where rows are taken in blocks of 256."""
    parameters, arrays = known_parameters(dtype=dtype), recorded(300, dtype)
    whole = replay(parameters, *arrays)
    for first, last in ((3, 4), (254, 259)):
        part = replay(parameters, *(array[first:last] for array in arrays))
        assert same_bits(part, jax.tree.map(lambda leaf, a=first, b=last: leaf[a:b], whole))


def test_what_is_not_said_is_present_uncommanded_and_kept():
    parameters, (y, *_) = known_parameters(), recorded(4, float)
    explicit = replay(
        parameters,
        y,
        np.ones((4, TURNS), bool),
        np.zeros((4, TURNS)),
        np.zeros((4, TURNS, 3), bool),
    )
    assert same_bits(replay(parameters, y), explicit)


def test_no_constraints_is_a_number_of_constraints():
    parameters = known_parameters(constraints=0)
    y = recorded(300, float)[0]
    m = replay(parameters, y)
    assert m.constraints.shape == (300, TURNS, 0)
    np.testing.assert_array_equal(m.nis, replay(known_parameters(), y).nis)


def test_turns_that_are_absent_change_no_alarm():
    parameters, (y, *_) = known_parameters(), recorded(8, float)
    longer = jnp.concatenate([y, jnp.full((8, 10, 38), jnp.nan)], axis=1)
    m = replay(parameters, longer)
    assert same_bits(replay(parameters, y), jax.tree.map(lambda leaf: leaf[:, :TURNS], m))
    assert np.asarray(m.missing)[:, TURNS:].all()
    held = np.broadcast_to(m.contrast[:, TURNS - 1 : TURNS], (8, 10, 2))
    np.testing.assert_array_equal(m.contrast[:, TURNS:], held)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"y": np.zeros((2, 5, 37))}, r"y must be \[b, t, 38\]; got shape \(2, 5, 37\)"),
        ({"present": np.ones((2, 4), bool)}, r"present must be \[2, 5\]; got shape \(2, 4\)"),
        ({"present": np.ones((2, 5))}, "present must be booleans; got float64"),
        ({"commanded": np.full((2, 5), 1.5)}, r"commanded must lie in \[0, 1\]"),
        ({"violations": np.zeros((2, 5, 1), bool)}, r"violations must be \[2, 5, 3\]"),
    ],
)
def test_bad_recordings_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        replay(known_parameters(), **({"y": np.zeros((2, 5, 38))} | arguments))
