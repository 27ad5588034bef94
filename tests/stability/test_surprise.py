"""The Kalman monitor against χ², a plain Kalman filter, and data that its model describes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sigma_jax.stability import (
    KalmanMonitor,
    MonitorState,
    chi_squared_threshold,
    nominal_rate,
    normalised_innovation,
    refuse_echoes,
    surprise_threshold,
)

STEPS = 100_000
DILATION = 1.3
A = jnp.array([[-0.5, 1.0, 0.0], [-1.0, -0.3, 0.2], [0.0, 0.1, -0.8]])
B = jnp.array([[1.0], [0.0], [0.5]])
G = jnp.array([0.3, 0.2, 0.4])
C = jnp.array([[1.0, 0.0, 0.0], [0.0, 0.5, 1.0]])
R = jnp.array([[0.01, 0.002], [0.002, 0.02]])
PRIOR = jnp.diag(jnp.array([0.2, 0.1, 0.3]))
CONTROL = jnp.array([0.7])


def linear_drift(x, u):
    return A @ x + B @ u


def linear_jacobian(x, u):
    return A


def steady_diffusion(x):
    return G


def monitor(**options) -> KalmanMonitor:
    # An array, so that `simulated` is compiled once for all floors.
    options = {"gain_floor": jnp.zeros(()), **options}
    return KalmanMonitor(linear_drift, linear_jacobian, steady_diffusion, 0.05, C, R, **options)


MONITOR = monitor()
score = jax.jit(normalised_innovation)


@eqx.filter_jit
def simulated(monitor, key, steps, jump, jump_at):
    """The last state, and NIS, surprise and flag of each step of a run of the monitor's own model.

    `jump` is added to the state at step `jump_at` (none if −1).
    """
    dt, root = monitor.dt, jnp.linalg.cholesky(R)
    first, key = jax.random.split(key)
    x = jnp.sqrt(PRIOR) @ jax.random.normal(first, (3,))

    def step(carry, index):
        x, state = carry
        w, v = jnp.split(jax.random.normal(jax.random.fold_in(key, index), (5,)), [3])
        x = x + linear_drift(x, CONTROL) * dt + DILATION * G * jnp.sqrt(dt) * w
        x = x + jnp.where(index == jump_at, jump, jnp.zeros(3))
        state, nis, surprise, flag = monitor.update(
            state, CONTROL, C @ x + root @ v, dilation=DILATION
        )
        return (x, state), (nis, surprise, flag)

    carry = (x, monitor.start(jnp.zeros(3), PRIOR))
    (_, state), found = jax.lax.scan(step, carry, jnp.arange(steps))
    return state, *found


@pytest.fixture(scope="module")
def consistent_run():
    state, nis, surprise, flag = simulated(MONITOR, jax.random.key(0), STEPS, jnp.zeros(3), -1)
    return state, np.asarray(nis), np.asarray(surprise), np.asarray(flag)


def within_chance(count: int, rate: float) -> bool:
    """Whether a count of STEPS independent steps lies in the central 99.9 % at that rate."""
    low, high = stats.binom.interval(0.999, STEPS, rate)
    return low <= count <= high


def test_consistent_data_flags_at_the_nominal_rate(consistent_run):
    _, nis, _, flag = consistent_run
    threshold = surprise_threshold(2)
    np.testing.assert_array_equal(flag, nis > threshold)
    assert within_chance(flag.sum(), nominal_rate(2, threshold))
    for rate in (0.1, 0.01, 0.001):
        assert within_chance((nis > chi_squared_threshold(2, rate)).sum(), rate)
    # The whole distribution, not only its tail.
    assert stats.kstest(nis, stats.chi2(2).cdf).pvalue > 1e-3


def test_nis_of_consistent_data_is_white(consistent_run):
    _, nis, _, _ = consistent_run
    centred = nis - nis.mean()
    lags = np.arange(1, 21)
    correlation = np.array([centred[lag:] @ centred[:-lag] for lag in lags]) / (centred @ centred)
    statistic = STEPS * (STEPS + 2) * np.sum(correlation**2 / (STEPS - lags))
    assert stats.chi2.sf(statistic, lags.size) > 1e-3  # Ljung & Box


def test_gain_floor_leaves_the_rate_nominal(consistent_run):
    """A hundred times the default: innovations are correlated, each is still χ².

    The interval is widened for the correlation, measured over blocks of 100 steps.
    """
    state, nis, _, flag = simulated(
        monitor(gain_floor=jnp.array(0.1)), jax.random.key(1), STEPS, jnp.zeros(3), -1
    )
    rate = nominal_rate(2, surprise_threshold(2))
    blocks = np.asarray(flag).reshape(-1, 100).mean(axis=1)
    assert abs(blocks.mean() - rate) < 3.29 * blocks.std() / np.sqrt(blocks.size)
    assert np.asarray(nis).mean() == pytest.approx(2.0, abs=0.05)
    # It does bind: the error is larger than the optimal gain's, and the covariance says so.
    assert jnp.trace(state.covariance) > 1.03 * jnp.trace(consistent_run[0].covariance)


def test_floor_on_the_covariance_itself_would_hide_surprises(consistent_run):
    """Why the floor is on the gain: a wider S lowers the NIS of the very same data."""
    state, *_ = consistent_run
    _, predicted = MONITOR.predict(state, CONTROL, dilation=DILATION)
    honest = np.asarray(C @ predicted @ C.T + R)
    floored = np.asarray(C @ (predicted + 0.1 * jnp.eye(3)) @ C.T + R)
    rng = np.random.default_rng(0)
    nu = rng.multivariate_normal(np.zeros(2), honest, 100_000)
    flags = np.einsum("np,pq,nq->n", nu, np.linalg.inv(floored), nu) > surprise_threshold(2)
    assert flags.mean() < 0.2 * nominal_rate(2, surprise_threshold(2))


def test_jump_of_six_sigma_is_flagged_in_the_very_step(consistent_run):
    state, *_ = consistent_run  # its covariance has long settled
    _, predicted = MONITOR.predict(state, CONTROL, dilation=DILATION)
    spread = jnp.sqrt(jnp.diagonal(C @ predicted @ C.T + R))
    # A jump of the state that moves each observation by six of its standard deviations.
    jump = jnp.linalg.pinv(C) @ (6.0 * spread)
    keys = jax.random.split(jax.random.key(3), 100)

    @jax.jit
    def flags(jump):
        return jax.vmap(lambda key: simulated(MONITOR, key, 400, jump, 300)[3])(keys)

    jumped, none = np.asarray(flags(jump)), np.asarray(flags(0.0 * jump))
    assert jumped[:, 300].all()
    assert jumped[:, :300].mean() < 0.03
    np.testing.assert_array_equal(jumped[:, :300], none[:, :300])
    assert none[:, 300].sum() < 10


def test_monitor_is_a_kalman_filter():
    """Ten steps against the textbook loop in NumPy, with an optimal gain."""
    rng = np.random.default_rng(0)
    state = MONITOR.start(jnp.zeros(3), PRIOR)
    mean, covariance = np.zeros(3), np.asarray(PRIOR)
    f = np.eye(3) + np.asarray(A) * 0.05
    c, r = np.asarray(C), np.asarray(R)
    update = eqx.filter_jit(lambda state, y: MONITOR.update(state, CONTROL, y, dilation=DILATION))
    for _ in range(10):
        y = rng.standard_normal(2)
        state, nis, surprise, flag = update(state, jnp.asarray(y))
        mean = f @ mean + np.asarray(B @ CONTROL) * 0.05
        covariance = f @ covariance @ f.T + np.diag((DILATION * np.asarray(G)) ** 2 * 0.05)
        s = c @ covariance @ c.T + r
        nu = y - c @ mean
        gain = covariance @ c.T @ np.linalg.inv(s)
        mean, covariance = mean + gain @ nu, covariance - gain @ s @ gain.T
        assert nis == pytest.approx(nu @ np.linalg.solve(s, nu), rel=1e-10)
        assert surprise == pytest.approx(-stats.multivariate_normal(cov=s).logpdf(nu), rel=1e-10)
        assert flag == (nis > 8.0)
        np.testing.assert_allclose(state.mean, mean, atol=1e-12)
        np.testing.assert_allclose(state.covariance, covariance, atol=1e-12)
    np.testing.assert_array_equal(state.covariance, state.covariance.T)
    assert state.updates == 10
    assert state.echoes == 0


@given(
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 9), min_size=3, max_size=3),
)
def test_diagonal_and_full_covariance_agree(innovation, variances):
    nu, s = np.array(innovation), np.array(variances)
    short, full = score(nu, s), score(nu, np.diag(s))
    np.testing.assert_allclose(short, full, rtol=1e-12)
    expected = -stats.multivariate_normal(cov=np.diag(s)).logpdf(nu)
    np.testing.assert_allclose(short, [np.sum(nu**2 / s), expected], rtol=1e-12, atol=1e-12)


def test_thresholds_and_rates():
    assert surprise_threshold(2) == 8.0
    assert surprise_threshold(8, k=1.0) == 12.0
    assert nominal_rate(2, 8.0) == pytest.approx(np.exp(-4.0))  # χ² of two: exponential
    assert chi_squared_threshold(2, np.exp(-4.0)) == pytest.approx(8.0)
    assert chi_squared_threshold(1, 0.05) == pytest.approx(1.959964**2, rel=1e-6)
    custom = monitor(threshold=chi_squared_threshold(2, 0.5))
    y = jnp.array([0.5, 0.5])
    state = custom.start(jnp.zeros(3), PRIOR)
    _, nis, _, flag = custom.update(state, CONTROL, y)
    assert flag == (nis > 2 * np.log(2))


def test_unusable_covariance_is_infinitely_surprising_in_compiled_code():
    for nu, s in (
        (jnp.ones(2), jnp.array([1.0, -1.0])),
        (jnp.ones(2), jnp.array([[1.0, 2.0], [2.0, 1.0]])),
        (jnp.array([jnp.nan, 0.0]), jnp.eye(2)),
        (jnp.ones(2), jnp.full((2, 2), jnp.nan)),
    ):
        assert np.isposinf(score(nu, s)).all()
        slope = jax.grad(lambda nu, s=s: score(nu, s)[1])(nu)
        np.testing.assert_array_equal(slope, np.zeros(2))


def test_surprise_has_the_gradient_of_the_log_density():
    nu, s = jnp.array([0.3, -1.0]), jnp.array([[2.0, 0.5], [0.5, 1.0]])
    by_nu, by_s = jax.jit(jax.grad(lambda nu, s: score(nu, s)[1], argnums=(0, 1)))(nu, s)
    inverse = np.linalg.inv(s)
    np.testing.assert_allclose(by_nu, inverse @ nu, rtol=1e-12)
    whitened = inverse @ nu
    symmetric = 0.5 * (by_s + by_s.T)
    np.testing.assert_allclose(symmetric, 0.5 * (inverse - np.outer(whitened, whitened)), rtol=1e-9)


def test_observation_that_is_not_finite_flags_and_is_not_learnt_from():
    state = MONITOR.start(jnp.ones(3), PRIOR)
    update = eqx.filter_jit(lambda y: MONITOR.update(state, CONTROL, y))
    new, nis, surprise, flag = update(jnp.array([jnp.nan, 0.0]))
    assert flag
    assert np.isposinf([nis, surprise]).all()
    mean, covariance = MONITOR.predict(state, CONTROL)
    np.testing.assert_allclose(new.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(new.covariance, covariance, rtol=1e-12)


def test_self_observation_never_fires_and_is_refused(consistent_run):
    honest, *_ = consistent_run
    assert honest.echoes == 0
    refuse_echoes(honest)
    update = eqx.filter_jit(lambda state, y: MONITOR.update(state, CONTROL, y))
    predict = eqx.filter_jit(lambda state: C @ MONITOR.predict(state, CONTROL)[0])
    state = MONITOR.start(jnp.ones(3), PRIOR)
    for _ in range(5):
        state, nis, _, flag = update(state, predict(state))
        assert nis < 1e-20
        assert not flag
    assert state.echoes == 5
    with pytest.raises(ValueError, match="monitor's own prediction"):
        refuse_echoes(state)
    batch = jax.tree.map(lambda good, bad: jnp.stack([good, bad]), honest, state)
    with pytest.raises(ValueError, match="monitor's own prediction"):
        refuse_echoes(batch)
    with pytest.raises(ValueError, match="outside jit"):
        jax.jit(refuse_echoes)(state)


def test_covariance_stays_positive_with_precise_observations_in_single_precision():
    """R eight orders below the prior, 2,000 steps: Joseph's form keeps P definite."""

    def step(state, key):
        y = jax.random.normal(key, (1,), jnp.float32)
        return precise.update(state, jnp.zeros(1, jnp.float32), y)[0], None

    one = jnp.ones((1, 2), jnp.float32)
    precise = KalmanMonitor(
        lambda x, u: -x,
        lambda x, u: -jnp.eye(2, dtype=jnp.float32),
        lambda x: 0.01 * jnp.ones(2, jnp.float32),
        0.05,
        one,
        1e-6 * jnp.ones((1, 1), jnp.float32),
    )
    start = precise.start(jnp.zeros(2, jnp.float32), 100.0 * jnp.eye(2, dtype=jnp.float32))
    keys = jax.random.split(jax.random.key(0), 2000)
    state, _ = jax.jit(lambda: jax.lax.scan(step, start, keys))()
    assert state.covariance.dtype == jnp.float32
    assert np.linalg.eigvalsh(np.asarray(state.covariance, float))[0] > 0.0


def bad_monitor(**options):
    base = {
        "drift": linear_drift,
        "jacobian": linear_jacobian,
        "diffusion": steady_diffusion,
        "dt": 0.05,
        "observation_matrix": C,
        "observation_noise": R,
    }
    return KalmanMonitor(**{**base, **options})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bad_monitor(dt=0.0), "dt must lie in"),
        (lambda: bad_monitor(gain_floor=-1.0), "gain_floor must lie in"),
        (lambda: bad_monitor(threshold=-1.0), "threshold must lie in"),
        (lambda: bad_monitor(observation_noise=jnp.eye(3)), "observation_noise"),
        (lambda: bad_monitor(observation_noise=-R), "observation_noise must be symmetric positive"),
        (lambda: bad_monitor(observation_noise=jnp.zeros((2, 2))), "positive definite"),
        (
            lambda: bad_monitor(observation_matrix=C * jnp.nan),
            "observation_matrix must not contain",
        ),
        (lambda: MONITOR.start(jnp.zeros(2), PRIOR), r"mean must be \[3\]"),
        (lambda: MONITOR.start(jnp.zeros(3), -PRIOR), "covariance must be symmetric positive semi"),
        (lambda: MONITOR.start(jnp.full(3, jnp.nan), PRIOR), "mean must not contain NaN"),
        (
            lambda: MONITOR.update(MONITOR.start(jnp.zeros(3), PRIOR), CONTROL, jnp.zeros(3)),
            r"observation must be \[2\]",
        ),
        (lambda: normalised_innovation(np.ones(2), np.eye(3)), "innovation must be"),
        (lambda: normalised_innovation(np.ones((2, 2)), np.eye(2)), "innovation must be"),
        (lambda: normalised_innovation(np.array([np.nan]), np.eye(1)), "innovation must not"),
        (lambda: normalised_innovation(np.ones(2), -np.ones(2)), "positive definite"),
        (lambda: normalised_innovation(np.ones(2), -np.eye(2)), "positive definite"),
        (lambda: surprise_threshold(0), "dim must be an int"),
        (lambda: surprise_threshold(2, k=-1.0), "k must lie in"),
        (lambda: chi_squared_threshold(2, 0.0), "rate must lie in"),
        (lambda: chi_squared_threshold(2, 1.5), "rate must lie in"),
        (lambda: nominal_rate(1.5, 2.0), "dim must be an int"),
        (lambda: nominal_rate(1, -2.0), "threshold must lie in"),
    ],
)
def test_bad_input_is_said_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_state_is_plain_data():
    state = MONITOR.start(jnp.zeros(3), PRIOR)
    assert isinstance(state, MonitorState)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
