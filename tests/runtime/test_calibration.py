"""Calibrations: false alarms and detection out of sample, bits on disk, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.runtime import (
    calibrate,
    load_calibration,
    replay,
    save_calibration,
    uncalibrated,
)
from tests.runtime.simulated_replies import conversation, replies, truth

SMALL = (6, 20)


def calibrated(seed, *, replicas=200, sizes=SMALL, distances=(3.5, 3.5), count=20, **options):
    """A truth, and a calibration by few of its replies."""
    draw, model = np.random.default_rng(seed), truth(seed, sizes, distances)
    given = [*replies(draw, model, count), *replies(draw, model, count, default=True)]
    options = {"components": 8, "key": jax.random.key(seed)} | options
    return draw, model, calibrate(*given, replicas=replicas, **options)


@pytest.fixture(scope="module")
def one():
    violations = np.random.default_rng(1).random((20, 2)) < [0.0, 0.4]
    return calibrated(0, identity_violations=violations, identity="Ada", encoder="hashed")


@pytest.mark.slow
def test_conversations_alarm_as_rarely_as_was_asked_and_losses_are_found():
    """Each calibration is new, and watches four new conversations and a loss at turn 100."""
    calibrations, each, turns = 100, 4, 200
    alarmed, found, power = [], [], []
    for seed in range(calibrations):
        draw, model, calibration = calibrated(seed, distances=(4.2, 4.2))
        runs = [conversation(draw, model, turns) for _ in range(each)]
        runs.append(conversation(draw, model, turns, default_from=100))
        y = calibration.observe(*(np.stack(part) for part in zip(*runs, strict=True)))
        alarm = np.asarray(replay(calibration.parameters, y).alarm)
        alarmed.append(alarm[:each].any(axis=1).mean())
        found.append(alarm[each, 100:110].any())
        power.append(np.asarray(calibration.power))
    assert 2.5 < np.mean(power) < 3.5
    # Conversations after one calibration are not independent: calibrations are.
    error = np.std(alarmed, ddof=1) / np.sqrt(calibrations)
    assert np.mean(alarmed) - 2.6 * error < 0.05
    assert np.mean(alarmed) < 0.1
    assert np.mean(found) >= 0.95


def test_without_contrast_a_warning_says_so_and_departures_are_watched():
    draw, model, calibration = calibrated(4, distances=(0.0, 6.0))
    assert "style does not tell" in calibration.warning
    assert "content" not in calibration.warning
    assert np.isinf(calibration.parameters.contrast_limit[0])
    y = calibration.observe(*conversation(draw, model, 50))
    gone = np.asarray(y) + 8.0 * (np.arange(y.shape[1]) == 2)
    m = replay(calibration.parameters, np.stack([y, gone]))
    assert not np.asarray(m.step)[:, :, 0].any()
    assert not np.asarray(m.alarm)[0].any()
    assert np.asarray(m.departure_alarm)[1, :, 0].any()


def test_with_contrast_there_is_no_warning(one):
    assert one[2].warning is None
    assert (np.asarray(one[2].power) > 1.5).all()


def test_no_default_replies_is_no_contrast_in_either_channel():
    draw, model = np.random.default_rng(5), truth(5, SMALL)
    calibration = calibrate(*replies(draw, model, 20), key=jax.random.key(0), replicas=200)
    assert np.isinf(calibration.parameters.contrast_limit).all()
    assert calibration.provenance.default_replies == 0
    assert "20 replies with the identity and 0 without" in calibration.warning
    y = calibration.observe(*conversation(draw, model, 100))
    m = replay(calibration.parameters, y[None])
    assert not np.asarray(m.step).any()
    assert np.asarray(m.departure).all()


def test_limits_widen_with_fewer_replies_more_turns_and_fewer_alarms():
    (few, _, long_, rare, plain) = (
        np.asarray(calibrated(6, replicas=1000, **options)[2].parameters.departure_limit)
        for options in (
            {"count": 8},
            {"count": 20},
            {"horizon": 800},
            {"false_alarm": 0.01},
            {"horizon": 200},
        )
    )
    assert (few > plain).all()
    assert (long_ > plain).all()
    assert (rare > plain).all()


def test_constraints_have_limits_by_how_often_they_were_violated(one):
    parameters = one[2].parameters
    assert parameters.violated.shape == (2,)
    # p₀ of 8.5/21 or so against 2 %: a violation says much less of the second one.
    assert parameters.violated[0] > 2 * parameters.violated[1]
    assert (np.asarray(parameters.constraint_limit) > np.asarray(parameters.violated)).all()


def test_the_same_replies_and_key_give_the_same_bits(one):
    violations = np.random.default_rng(1).random((20, 2)) < [0.0, 0.4]
    again = calibrated(0, identity_violations=violations, identity="Ada", encoder="hashed")[2]
    for first, second in zip(jax.tree.leaves(one[2]), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(first, second)
    assert one[2].provenance == again.provenance
    other = calibrated(0, key=jax.random.key(9))[2]
    assert (other.parameters.departure_limit != again.parameters.departure_limit).any()


def test_it_says_where_it_comes_from(one):
    said = one[2].provenance
    assert (said.identity, said.encoder) == ("Ada", "hashed")
    assert (said.identity_replies, said.default_replies) == (20, 20)
    assert (said.false_alarm, said.horizon, said.replicas) == (0.05, 200, 200)
    assert said.key == (0, 0)
    assert 0.0 < said.simulated_rate <= 0.05


def test_a_calibration_read_again_has_the_same_bits_and_measures_the_same(one, tmp_path):
    draw, model, calibration = one
    first, second = tmp_path / "a.csf", tmp_path / "b.csf"
    save_calibration(first, calibration)
    save_calibration(second, calibration)
    assert first.read_bytes() == second.read_bytes()
    loaded = load_calibration(first)
    assert jax.tree.structure(loaded) == jax.tree.structure(calibration)
    for old, new in zip(jax.tree.leaves(calibration), jax.tree.leaves(loaded), strict=True):
        assert old.dtype == new.dtype
        np.testing.assert_array_equal(old, new)
    y = calibration.observe(*conversation(draw, model, 30))[None]
    before, after = (replay(each.parameters, y) for each in (calibration, loaded))
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_damaged_file_is_refused(one, tmp_path):
    path = tmp_path / "a.csf"
    save_calibration(path, one[2])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="sha256"):
        load_calibration(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.csf"):
        load_calibration(path)


def features(count=20, seed=0):
    draw = np.random.default_rng(seed)
    return draw.normal(size=(count, 6)), draw.normal(size=(count, 20))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"identity_style": features(4)[0]}, "identity_style must have at least 5 replies; got 4"),
        ({"default_content": features(4)[1]}, "default_content must have at least 5 replies"),
        ({"identity_content": features(19)[1]}, "of the same replies; got 20 and 19"),
        ({"default_content": features(19)[1]}, "of the same replies; got 20 and 19"),
        ({"default_style": None}, "of the same replies; got 0 and 20"),
        ({"default_style": np.ones((20, 5))}, "must have the 6 features of identity_style; got 5"),
        ({"identity_style": np.full((20, 6), np.nan)}, "identity_style must not contain NaN"),
        ({"identity_content": np.full((20, 20), np.inf)}, "identity_content must be finite"),
        ({"identity_style": np.ones(20)}, r"must be \[replies, features\]; got shape \(20,\)"),
        ({"identity_style": np.ones((20, 6)), "default_style": np.ones((20, 6))}, "must vary"),
        ({"identity_violations": np.zeros((19, 2), bool)}, r"must be booleans \[20, k\]"),
        ({"identity_violations": np.zeros((20, 2))}, "must be booleans .* got float64"),
        ({"false_alarm": 0.0}, "false_alarm must lie in"),
        ({"horizon": 0}, "horizon must lie in"),
        ({"replicas": 50}, "replicas must be at least 100"),
    ],
)
def test_bad_replies_are_named(change, words):
    names = ("identity_style", "identity_content", "default_style", "default_content")
    given = dict(zip(names, (*features(), *features(seed=1)), strict=True))
    with pytest.raises(ValueError, match=words):
        calibrate(**given | {"key": jax.random.key(0)} | change)


def test_features_that_never_vary_are_left_out():
    draw, model = np.random.default_rng(7), truth(7, SMALL)
    given = [*replies(draw, model, 20), *replies(draw, model, 20, default=True)]
    given[0][:, 2] = given[2][:, 2] = 0.1
    calibration = calibrate(*given, key=jax.random.key(0), replicas=200, components=8)
    assert calibration.parameters.sizes == (5, 8)
    style = np.zeros((2, 6))
    style[1, 2] = 1e9
    y = calibration.observe(style, np.zeros((2, 20)))
    np.testing.assert_array_equal(y[0], y[1])


def test_a_negative_number_of_constraints_is_refused():
    with pytest.raises(ValueError, match="constraints must lie in"):
        uncalibrated(-1)
    assert uncalibrated(0).constraint_limit.shape == (0,)
    assert jnp.isinf(uncalibrated(1).departure_limit).all()
