"""The monitor against a Kalman filter, textbook charts in NumPy, and closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from sigma_jax.runtime import (
    Observation,
    Phase,
    monitor_node,
    monitor_step,
    replay,
    start_monitor,
    uncalibrated,
)
from sigma_jax.stability import KalmanMonitor
from tests.runtime.simulated_replies import correlated, known_parameters


def drawn(seed, turns, size=38, batch=1):
    return correlated(np.random.default_rng(seed), (batch, turns, size))


step = jax.jit(monitor_step)


def observed(y, *, present=True, commanded=0.0, violations=None, constraints=3):
    if violations is None:
        violations = np.zeros(constraints, bool)
    return Observation(
        jnp.asarray(y), jnp.asarray(present), jnp.asarray(commanded), jnp.asarray(violations)
    )


# The filter -------------------------------------------------------------------------------------


def test_the_filter_is_the_kalman_monitor_of_the_same_node():
    """An independent filter with full matrices, of the monitor as a node of the state machine."""
    parameters = known_parameters(
        robustness=jnp.inf,
        persistence=jnp.array([0.3, 0.7]),
        process_noise=jnp.array([0.2, 0.4]),
        observation_noise=jnp.array([0.9, 0.5]),
        anchor=jnp.linspace(-1.0, 1.0, 38),
    )
    node = monitor_node(parameters)
    noise = jnp.repeat(parameters.observation_noise, jnp.array([14, 24]), total_repeat_length=38)
    peer = KalmanMonitor(
        drift=node.drift,
        jacobian=node.jacobian,
        diffusion=node.diffusion,
        dt=1.0,
        observation_matrix=jnp.eye(38),
        observation_noise=jnp.diag(noise),
        gain_floor=0.0,
    )
    state = start_monitor(parameters)
    variance = jnp.repeat(state.variance, jnp.array([14, 24]), total_repeat_length=38)
    other = peer.start(state.x, jnp.diag(variance))
    update = eqx.filter_jit(KalmanMonitor.update)
    for y in 2.0 * drawn(0, 25)[0]:
        state, measurement = step(parameters, state, observed(y))
        other, nis, _, _ = update(peer, other, jnp.zeros(0), jnp.asarray(y))
        np.testing.assert_allclose(state.x, other.mean, atol=1e-8)
        np.testing.assert_allclose(measurement.nis.sum(), nis, rtol=1e-8)
    covariance = np.diag(np.repeat(state.variance, [14, 24]))
    np.testing.assert_allclose(covariance, other.covariance, atol=1e-8)


def test_the_variance_settles_where_the_riccati_equation_says():
    parameters = known_parameters(robustness=jnp.inf)
    state = start_monitor(parameters)
    np.testing.assert_allclose(state.variance, 0.375 / (1 - 0.25), rtol=1e-12)
    for y in drawn(1, 60)[0]:
        state, _ = step(parameters, state, observed(y))
    # p = (a²p + q) r/(a²p + q + r): a quadratic in p.
    a, q, r = 0.25, 0.375, 0.5
    settled = max(np.roots([a, q + r - a * r, -q * r]))
    np.testing.assert_allclose(state.variance, settled, rtol=1e-10)


def test_nis_of_matching_replies_is_chi_squared():
    parameters = known_parameters(robustness=jnp.inf)
    nis = np.asarray(replay(parameters, drawn(2, 60, batch=100)).nis)
    for channel, size in enumerate((14, 24)):
        for level in (0.05, 0.5, 0.95):
            beyond = int((nis[:, :, channel] > stats.chi2.isf(level, size)).sum())
            # Innovations of the right filter are white, so turns are independent trials.
            assert stats.binomtest(beyond, nis[:, :, channel].size, level).pvalue > 1e-3


def test_one_outlier_moves_the_state_no_further_than_its_clipped_length():
    parameters = known_parameters(style_size=0)
    state = start_monitor(parameters)
    moved = [
        float(jnp.linalg.norm(step(parameters, state, observed(y))[0].x))
        for y in (1e2 * np.ones(38), 1e6 * np.ones(38))
    ]
    gain, spread = 0.5, 1.0
    np.testing.assert_allclose(moved, gain * 1.5 * np.sqrt(38 * spread), rtol=1e-12)


def test_a_missing_reply_never_moves_x_towards_y():
    parameters = known_parameters()
    state = start_monitor(parameters)
    for y in 3.0 + drawn(3, 5)[0]:
        state, _ = step(parameters, state, observed(y))
    for y, present in ((np.full(38, 50.0), False), (np.full(38, np.nan), True)):
        after, m = step(
            parameters, state, observed(y, present=present, violations=np.ones(3, bool))
        )
        np.testing.assert_allclose(after.x, 0.5 * state.x, rtol=1e-12)
        for name in ("average", "contrast", "constraints", "dispersion", "previous", "observed"):
            np.testing.assert_array_equal(getattr(after, name), getattr(state, name))
        assert bool(m.missing)
        assert float(m.nis.sum()) == 0.0
        assert (np.asarray(after.variance) > np.asarray(state.variance)).all()


# The charts -------------------------------------------------------------------------------------


def test_charts_are_those_of_a_textbook_loop():
    parameters = known_parameters(contrast_limit=jnp.full(2, 1e6))
    turns = 40
    y = 1.5 * drawn(4, turns)[0] + np.linspace(0, 2, turns)[:, None] * (np.arange(38) % 14 == 0)
    violations = np.random.default_rng(5).random((turns, 3)) < 0.3
    m = replay(parameters, y[None], violations=violations[None])
    default = np.asarray(parameters.default)
    parts = slice(0, 14), slice(14, None)
    x, p = np.zeros(38), np.full(2, 0.5)
    average, contrast, constraints = np.zeros(38), np.zeros(2), np.zeros(3)
    for turn in range(turns):
        for channel, part in enumerate(parts):
            size = len(y[turn, part])
            before = 0.25 * p[channel] + 0.375
            innovation = y[turn, part] - 0.5 * x[part]
            nis = innovation @ innovation / (before + 0.5)
            w = min(1.0, 1.5 * np.sqrt(size) / np.sqrt(nis))
            gain = w * before / (before + 0.5)
            x[part] = 0.5 * x[part] + gain * innovation
            p[channel] = (1 - gain) ** 2 * before + gain**2 * 0.5
            average[part] *= 0.8
            average[part] += 0.2 * w * innovation / np.sqrt(before + 0.5)
            squared = average[part] @ average[part] * 1.8 / 0.2
            np.testing.assert_allclose(m.departure[0, turn, channel], squared, rtol=1e-10)
            np.testing.assert_allclose(m.nis[0, turn, channel], nis, rtol=1e-10)
            to_identity = 0.5 * np.sum(y[turn, part] ** 2)
            to_default = 0.5 * np.sum((y[turn, part] - default[part]) ** 2)
            scale = 0.5 * np.sum(default[part] ** 2)
            step = np.clip((to_identity - to_default) / scale, -1.5, 1.5)
            contrast[channel] = max(0.0, contrast[channel] + step - 0.25)
        odds = np.where(violations[turn], np.log(0.25 / 0.02), np.log(0.75 / 0.98))
        constraints = np.clip(constraints + odds, 0.0, 8.0)
        np.testing.assert_allclose(m.contrast[0, turn], contrast, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(m.constraints[0, turn], constraints, rtol=1e-9, atol=1e-12)
    assert contrast.max() > 0.5
    np.testing.assert_array_equal(m.constraint_alarm, np.asarray(m.constraints) > 4.0)


def test_the_drift_index_and_the_stability_are_their_formulas():
    m = replay(known_parameters(), 2.0 * drawn(6, 30))
    worst = (np.asarray(m.departure) / [14, 24]).max(axis=-1)
    np.testing.assert_allclose(m.drift_index, 1 - np.exp(-worst / 2), rtol=1e-10)
    sums = np.concatenate([np.asarray(m.contrast) / 2.0, np.asarray(m.constraints) / 4.0], axis=-1)
    np.testing.assert_allclose(m.stability, np.clip(1 - sums.max(axis=-1), 0, 1), atol=1e-12)


def test_the_dispersion_is_about_one_and_falls_when_replies_repeat():
    parameters = known_parameters()
    y = drawn(7, 160, batch=30)
    y[:, 80:] *= 0.2
    m = replay(parameters, y)
    assert abs(float(m.dispersion[:, 60:80].mean()) - 1.0) < 0.02
    assert float(m.dispersion[:, -1].max()) < 0.35
    crystallised = np.asarray(m.phase) == Phase.CRYSTALLISED
    assert not crystallised[:, :80].any()
    assert crystallised.any(axis=1).all()


# What it is for ---------------------------------------------------------------------------------


def test_a_switch_to_the_default_is_found_and_called_recovery():
    parameters = known_parameters()
    y = drawn(8, 60, batch=200)
    y[:, 30:] += np.asarray(parameters.default)
    m = replay(parameters, y)
    alarmed = np.asarray(m.contrast_alarm).any(axis=-1)
    assert alarmed[:, 30:40].any(axis=1).mean() >= 0.95
    assert alarmed[:, :30].any(axis=1).mean() <= 0.05
    first = alarmed[:, 30:].argmax(axis=1) + 30
    phases = np.asarray(m.phase)[np.arange(200), first]
    assert (phases == Phase.RECOVERY).mean() > 0.95


def test_a_departure_elsewhere_is_called_fragmenting():
    parameters = known_parameters()
    y = drawn(9, 60, batch=50)
    y[:, 30:, 5] += 8.0
    m = replay(parameters, y)
    assert np.asarray(m.departure_alarm)[:, 30:, 0].any(axis=1).mean() > 0.95
    assert (np.asarray(m.phase)[:, 30:] == Phase.FRAGMENTING).any(axis=1).mean() > 0.9
    assert not np.asarray(m.departure_alarm)[:, :, 1].any(axis=1).mean() > 0.1


def test_obedience_does_not_alarm_and_the_same_change_unasked_does():
    parameters = known_parameters()
    y = drawn(10, 90, batch=200)
    y[:, 30:60] += np.asarray(parameters.default)
    commanded = np.zeros((200, 90))
    commanded[:, 30:60] = 1.0
    asked, unasked = (
        np.asarray(replay(parameters, y, commanded=weight).alarm).any(axis=1).mean()
        for weight in (commanded, 0 * commanded)
    )
    calm = np.asarray(replay(parameters, drawn(10, 90, batch=200)).alarm).any(axis=1).mean()
    assert asked <= 0.05
    assert asked <= calm + 0.02
    assert unasked > 0.95


def test_after_a_return_the_conversation_is_stable_again():
    parameters = known_parameters()
    y = drawn(11, 100, batch=50)
    y[:, 20:40] += np.asarray(parameters.default)
    phases = np.asarray(replay(parameters, y).phase)
    assert (phases[:, 25:40] == Phase.RECOVERY).any(axis=1).mean() > 0.95
    assert (phases[:, 70:] == Phase.STABLE).any(axis=1).all()


def test_phases_are_held_and_do_not_flap():
    """Left after three calm turns at the earliest, and not entered again for ten."""
    y = drawn(12, 120, batch=50)
    y[:, np.arange(120) % 20 < 4] += np.asarray(known_parameters().default)
    phases = np.asarray(replay(known_parameters(), y).phase)
    severe = phases >= Phase.RECOVERY
    for row in severe:
        lengths = np.diff(np.flatnonzero(np.diff(row.astype(int))))
        assert (lengths[0::2] >= 3).all()
        assert (lengths[1::2] >= 10).all()
    spells = (np.diff(severe.astype(int), axis=1) == 1).sum(axis=1)
    assert not severe[:, 0].any()
    assert spells.mean() > 3


def test_without_a_calibration_only_constraints_act():
    parameters = uncalibrated(2)
    violations = np.zeros((1, 40, 2), bool)
    violations[0, 10:20, 1] = True
    m = replay(parameters, np.zeros((1, 40, 0)), violations=violations)
    assert (np.asarray(m.phase) == Phase.FORMING).all()
    alarms = np.asarray(m.constraint_alarm)[0]
    assert not alarms[:, 0].any()
    assert not alarms[:11, 1].any()  # never at the first violation
    assert alarms[14, 1]
    for leaf in jax.tree.leaves(m):
        assert np.isfinite(np.asarray(leaf)).all()
    quiet = np.random.default_rng(0).random((2000, 200, 2)) < 0.02
    rate = np.asarray(replay(parameters, np.zeros((2000, 200, 0)), violations=quiet).alarm)
    assert stats.binomtest(int(rate.any(axis=1).sum()), 2000, 0.05, "greater").pvalue > 1e-3


# As a function ----------------------------------------------------------------------------------


def test_the_gradient_is_that_of_finite_differences():
    parameters = known_parameters(contrast_limit=jnp.full(2, 50.0))
    y = jnp.asarray(1.2 * drawn(13, 15)[0])

    def functional(values):
        persistence, default, shift = values
        moved = eqx.tree_at(
            lambda p: (p.persistence, p.default), parameters, (persistence, default)
        )

        def turn(state, each):
            state, m = monitor_step(moved, state, observed(each + shift))
            return state, m.drift_index + m.nis.sum() / 38 + m.step.sum() + m.dispersion

        state, totals = jax.lax.scan(turn, start_monitor(moved), y)
        return jnp.sum(totals) + jnp.sum(state.x**2)

    values = parameters.persistence, parameters.default, jnp.full(38, 0.1)
    gradient = jax.jit(jax.grad(functional))(values)
    value = jax.jit(functional)
    draw = np.random.default_rng(14)
    for _ in range(3):
        way = jax.tree.map(lambda leaf: jnp.asarray(draw.normal(size=leaf.shape)), values)
        ahead, behind = (
            value(jax.tree.map(lambda leaf, w, sign=sign: leaf + sign * 1e-6 * w, values, way))
            for sign in (1.0, -1.0)
        )
        expected = (ahead - behind) / 2e-6
        found = sum(jnp.sum(g * w) for g, w in zip(gradient, way, strict=True))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_gradients_are_finite_where_the_innovation_is_zero():
    parameters = known_parameters()

    def nis(y):
        _, m = monitor_step(parameters, start_monitor(parameters), observed(y))
        return m.nis.sum() + m.drift_index + m.contrast.sum()

    assert np.isfinite(np.asarray(jax.jit(jax.grad(nis))(jnp.zeros(38)))).all()


def test_stepping_compiles_once():
    count = 0

    def counted(parameters, state, observation):
        nonlocal count
        count += 1
        return monitor_step(parameters, state, observation)

    once, parameters = jax.jit(counted), known_parameters()
    state = start_monitor(parameters)
    for y in drawn(15, 6)[0]:
        state, _ = once(parameters, state, observed(y))
    assert count == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"persistence": jnp.ones(2)}, "persistence must lie in"),
        ({"observation_noise": jnp.zeros(2)}, "observation_noise must lie in"),
        ({"memory": 0.0}, "memory must lie in"),
        ({"default": jnp.zeros(3)}, "anchor and default must be"),
        ({"kept": jnp.zeros(2)}, "violated, kept and constraint_limit"),
    ],
)
def test_bad_parameters_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        known_parameters(**options)
