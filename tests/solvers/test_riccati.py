"""The Riccati step against SciPy's solutions, closed forms, and what its proof promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from sigma_jax.solvers import Observation, require_covariance, riccati_field, riccati_step
from sigma_jax.solvers.riccati import matmul

DIM = 4
KINDS = pytest.mark.parametrize("kind", ["number", "matrix"])
step = jax.jit(riccati_step)


def systems(kind: str, count: int, seed: int = 0):
    """Random (A, q, S, C, R); A is now stable, now not. `kind` is that of the information S."""
    rng = np.random.default_rng([seed, kind == "matrix"])
    a = rng.standard_normal((count, DIM, DIM)) / np.sqrt(DIM)
    a -= rng.uniform(0.0, 1.5, (count, 1, 1)) * np.eye(DIM)
    q = rng.uniform(0.2, 2.0, (count, DIM))
    if kind == "number":
        rates = rng.uniform(0.2, 2.0, count)
        return a, q, 1 / rates, np.eye(DIM) + 0 * a, rates[:, None, None] * np.eye(DIM)
    c, root = rng.standard_normal((count, 3, DIM)), rng.standard_normal((count, 3, 3))
    r = root @ root.swapaxes(1, 2) + 0.3 * np.eye(3)
    return a, q, c.swapaxes(1, 2) @ np.linalg.inv(r) @ c, c, r


def full(s):
    """The information as a matrix."""
    return s * np.eye(DIM) if np.ndim(s) == 0 else s


def field(sigma, a, q, s):
    return a @ sigma + sigma @ a.T + np.diag(q) - sigma @ full(s) @ sigma


def promised_step(sigma, a, q, s):
    """The largest h = 2⁻ⁿ that keeps this stationary covariance and at which Euler is stable.

    From 1/16 down: with longer steps a second, wider covariance can be stationary as well, which
    the lift holds up, and the way from the identity may end there.
    """
    rates = np.linalg.eigvals(a - sigma @ full(s))
    pairs = rates[:, None] + rates
    for h in 0.5 ** np.arange(4, 30):
        kept = np.linalg.eigvalsh(sigma - 0.5 * h * np.diag(q))[0] > 0
        if kept and np.abs(1 + h * pairs).max() < 1:
            return h
    raise AssertionError("no step is small enough")


@KINDS
def test_fixed_point_solves_the_algebraic_riccati_equation(kind):
    """Reached from the identity, at the largest steps for which the docstring promises it."""
    a, q, s, c, r = systems(kind, 150)
    # SciPy's equation is that of control: the filter's for Aᵀ and Cᵀ.
    exact = np.array(
        [
            scipy.linalg.solve_continuous_are(a.T, c.T, np.diag(q), r)
            for a, q, c, r in zip(a, q, c, r, strict=True)
        ]
    )
    h = np.array([promised_step(*one) for one in zip(exact, a, q, s, strict=True)])
    assert np.median(h) == 0.0625

    @jax.jit
    def limit(a, q, s, h):
        def body(_, sigma):
            return jax.vmap(riccati_step)(sigma, a, q, s, h)

        return jax.lax.fori_loop(0, 6000, body, jnp.broadcast_to(jnp.eye(DIM), a.shape))

    found = limit(*map(jnp.asarray, (a, q, s, h)))
    np.testing.assert_allclose(found, exact, rtol=1e-10, atol=1e-10 * np.abs(exact).max())


def test_beyond_the_promised_step_a_stationary_covariance_moves():
    """By (1 − θ) Δ exactly, θ by Gershgorin, as soon as Σ exceeds h Q / 10 no more."""
    a, q = np.array([[-3.0, 2.0], [0.0, -3.0]]), np.array([1.0, 0.1])
    sigma = scipy.linalg.solve_continuous_are(a.T, np.eye(2), np.diag(q), np.eye(2))
    # The generalised eigenvalues of (Σ, Q/10) are the steps at which Σ − h Q / 10 is singular.
    limit = scipy.linalg.eigvalsh(sigma, np.diag(q) / 10)[0]
    for h, beyond in ((0.5 * limit, False), (0.99 * limit, False), (1.01 * limit, True)):
        weighted = sigma @ np.eye(2)
        gain = 1 / (1 + h * np.linalg.norm(weighted))
        b = a - gain * weighted
        delta = h**2 * b @ sigma @ b.T + h * (1 - gain) ** 2 * weighted @ sigma
        share = min(1, (0.9 * h * q / np.abs(delta).sum(axis=1)).min()) if beyond else 1.0
        moved = step(sigma, a, q, 1.0, h) - sigma
        np.testing.assert_allclose(moved, (1 - share) * delta, atol=1e-14)
    assert np.abs(moved).max() > 1e-3


@pytest.mark.parametrize("dim", [31, 40])
def test_a_wide_step_is_the_same_step(dim):
    """From 32 on the product is bounded before it is known: nothing may come of that."""
    rng = np.random.default_rng(dim)
    q = rng.uniform(0.5, 1.0, dim)
    a = rng.standard_normal((dim, dim)) / np.sqrt(dim) - np.eye(dim)
    root = rng.standard_normal((dim, dim)) / np.sqrt(dim)
    sigma = np.eye(dim) + 0.3 * root @ root.T
    shares = []
    for h in (0.001, 0.02, 0.1, 0.5, 2.0):
        gain = 1 / (1 + h * np.linalg.norm(sigma))
        b = a - gain * sigma
        delta = h**2 * b @ sigma @ b.T + h * (1 - gain) ** 2 * sigma @ sigma
        euler = sigma + h * (a @ sigma + sigma @ a.T + np.diag(q) - sigma @ sigma)
        share = min(1, (0.9 * h * q / np.abs(delta).sum(axis=1)).min())
        if np.linalg.eigvalsh(euler - 0.1 * h * np.diag(q))[0] > 0:
            share = 1.0
        stepped = step(sigma, a, q, 1.0, h)
        np.testing.assert_allclose(stepped, euler + (1 - share) * delta, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(stepped, stepped.T, atol=1e-14)
        shares.append(share)
    assert shares[0] == 1.0
    assert shares[-1] < 1.0


def with_error_constant(a, q, s, start, until):
    """Σ(until), and δ with (Euler's Σ) = Σ + h δ + O(h²): δ′ = F δ + δ Fᵀ − ½ Σ̈, F = A − Σ S."""

    def rates(_, y):
        sigma, delta = y.reshape(2, DIM, DIM)
        slope = field(sigma, a, q, s)
        f = a - sigma @ full(s)
        bend = f @ slope + slope @ f.T
        return np.stack([slope, f @ delta + delta @ f.T - 0.5 * bend]).ravel()

    y = np.stack([start, np.zeros((DIM, DIM))]).ravel()
    found = scipy.integrate.solve_ivp(rates, (0, until), y, method="DOP853", rtol=1e-12, atol=1e-13)
    return found.y[:, -1].reshape(2, DIM, DIM)


@jax.jit
def run(a, q, s, start, until, steps):
    def body(_, sigma):
        return riccati_step(sigma, a, q, s, until / steps)

    return jax.lax.fori_loop(0, steps, body, start)


@KINDS
def test_order_one_with_the_constant_of_eulers_method(kind):
    for a, q, s in zip(*systems(kind, 5, seed=1)[:3], strict=True):
        start = 0.5 * np.eye(DIM) + 0.3
        exact, constant = with_error_constant(a, q, s, start, 1.0)
        left = [
            np.abs(run(a, q, s, start, 1.0, n) - exact - constant / n).max() for n in (400, 800)
        ]
        assert left[0] < 0.05 * np.abs(constant).max() / 400
        assert left[0] / left[1] == pytest.approx(4.0, rel=0.1)  # what is left is O(h²)


def test_order_one_where_the_lift_is_needed():
    """No noise on two components: θ = 0, and the step is the filter's update itself."""
    a, q, s, *_ = (part[0] for part in systems("number", 1, seed=2))
    q = q * np.array([1, 0, 1, 0])
    start = np.eye(DIM)
    exact, _ = with_error_constant(a, q, s, start, 1.0)
    errors = [np.abs(run(a, q, s, start, 1.0, n) - exact).max() for n in (100, 200, 400, 800)]
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(rates, 1.0, atol=0.1)


@pytest.mark.parametrize("a", [-0.7, 0.4])
def test_one_component_follows_the_hyperbolic_tangent(a):
    """σ′ = 2aσ + q − sσ²: σ = (a + β tanh(βt + c))/s with β² = a² + qs."""
    q, s, start, until = 0.8, 1.7, 0.1, 2.0
    beta = np.sqrt(a**2 + q * s)
    phase = np.arctanh((s * start - a) / beta)
    exact = (a + beta * np.tanh(beta * until + phase)) / s
    once, twice = (
        float(run(np.full((1, 1), a), np.array([q]), s, np.array([[start]]), until, n)[0, 0])
        for n in (2000, 4000)
    )
    assert once == pytest.approx(exact, abs=1e-3)
    assert 2 * twice - once == pytest.approx(exact, abs=1e-6)  # Richardson: order 1 to the letter


def test_field_is_the_equation():
    for kind in ("number", "matrix"):
        a, q, s, *_ = (part[0] for part in systems(kind, 1, seed=3))
        sigma = np.eye(DIM) + 0.2
        np.testing.assert_allclose(riccati_field(sigma, a, q, s), field(sigma, a, q, s), atol=1e-13)


# Positive definite ------------------------------------------------------------------------------


@st.composite
def any_step(draw):
    """Covariances, Jacobians, information and steps of any size, to a thousandfold and more."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rotation = np.linalg.qr(rng.standard_normal((DIM, DIM)))[0]
    narrow = draw(st.integers(-4, 3))
    spread = 10.0 ** rng.uniform(narrow, 3, DIM)  # up to 1e3, the ceiling of the reference
    a = rng.standard_normal((DIM, DIM)) * 10.0 ** draw(st.integers(-2, 4))
    q = 10.0 ** rng.uniform(-3, 1, DIM)
    c = rng.standard_normal((draw(st.integers(1, DIM)), DIM)) * 10.0 ** draw(st.integers(-2, 2))
    s = c.T @ c if draw(st.booleans()) else np.float64(10.0 ** draw(st.integers(-3, 3)))
    h = draw(st.sampled_from([1e-4, 0.01, 0.05, 0.3, 1.0]))
    return (rotation * spread) @ rotation.T, a, q, s, h


def rounding(sigma, a, s, h, eps):
    """Of the largest terms that meet in a step: those of Joseph's form."""
    size = np.linalg.norm(sigma, 2)
    weighted = np.linalg.norm(sigma @ full(s), 2)
    flow = 1 + h * np.linalg.norm(a, 2) + h * weighted / (1 + h * weighted)
    return 4 * DIM * eps * size * flow**2


@settings(max_examples=200)
@given(any_step())
def test_at_least_a_tenth_of_the_noise_is_left_whatever_the_step(given_step):
    sigma, a, q, s, h = given_step
    for dtype in (np.float64, np.float32):
        sigma, a, q = (np.asarray(part, dtype) for part in (sigma, a, q))
        new = step(sigma, a, q, np.asarray(s, dtype), dtype(h))
        assert new.dtype == dtype
        slack = rounding(sigma, a, s, h, np.finfo(dtype).eps)
        new = np.asarray(new, float)
        assert np.abs(new - new.T).max() <= slack
        above = np.linalg.eigvalsh(0.5 * (new + new.T) - 0.1 * h * np.diag(q.astype(float)))
        assert above[0] >= -slack


def test_symmetry_is_kept_where_observations_are_precise():
    """A = 0, q = 1, s = 18²: Σ = I/18 is stationary, and Euler's factor there is 1 − 2 · 0.9."""
    dim, h = 32, 0.05
    q, s, sigma = np.ones(dim), 18.0**2 * np.eye(dim), np.eye(dim) / 18.0
    skew = 1e-9 * np.triu(np.ones((dim, dim)), 1)
    found = run(np.zeros((dim, dim)), q, s, sigma + skew - skew.T, 400 * h, 400)
    np.testing.assert_allclose(found, sigma, atol=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-14), (np.float32, 1e-5)])
def test_ten_thousand_steps_stay_symmetric_and_definite(dtype, tolerance):
    """With the unstable A of some systems as well, what rounding leaves unsymmetric cannot grow."""
    for kind in ("number", "matrix"):
        a, q, s = (jnp.asarray(part, dtype) for part in systems(kind, 20, seed=4)[:3])

        @jax.jit
        def extremes(a, q, s):
            def body(sigma, _):
                new = jax.vmap(riccati_step, (0, 0, 0, 0, None))(sigma, a, q, s, dtype(0.05))
                skew = jnp.abs(new - new.swapaxes(1, 2)).max((1, 2)) / jnp.abs(new).max((1, 2))
                return new, (skew, jnp.min(new.diagonal(axis1=1, axis2=2) - 0.025 * q))

            start = jnp.broadcast_to(dtype(30.0) * jnp.eye(DIM, dtype=dtype), a.shape)
            return jax.lax.scan(body, start, length=10_000)

        last, (skew, least) = extremes(a, q, s)
        assert last.dtype == dtype
        assert skew.max() < tolerance
        assert least.min() > 0
        assert np.linalg.eigvalsh(np.asarray(last, float)).min() > 0


# Gradients --------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("h", [0.02, 0.8])
def test_gradient_against_finite_differences(kind, h):
    """Where nothing is lifted, and where much is."""
    a, q, s, *_ = (part[0] for part in systems(kind, 1, seed=5))
    q = q if h < 0.1 else 1e-3 * q
    root = np.eye(DIM) + 0.2 * np.arange(DIM * DIM).reshape(DIM, DIM) / DIM**2
    check_grads(
        lambda root, a, q, s, h: step(root @ root.T, a, q, s, h),
        (root, a, q, s, h),
        order=1,
        atol=1e-6,
        rtol=1e-6,
        eps=1e-5,
    )


def test_gradient_without_any_information_is_finite():
    """Nothing observed, C = 0: the covariance spreads freely, and so does its gradient."""
    a, q, *_ = (part[0] for part in systems("matrix", 1, seed=6))
    s = Observation(np.zeros((1, DIM))).information()

    def wide(sigma, a, q):
        return jnp.trace(riccati_step(sigma, a, q, s, 0.01))

    slopes = jax.jit(jax.grad(wide, argnums=(0, 1, 2)))
    found = slopes(jnp.eye(DIM), jnp.asarray(a), jnp.asarray(q))
    by_sigma = np.eye(DIM) + 0.01 * (a + a.T)  # for symmetric changes
    np.testing.assert_allclose(0.5 * (found[0] + found[0].T), by_sigma, atol=1e-12)
    np.testing.assert_allclose(found[1], 0.02 * np.eye(DIM), atol=1e-12)
    np.testing.assert_allclose(found[2], np.full(DIM, 0.01), atol=1e-12)


# Products, observations, checks -----------------------------------------------------------------


@pytest.mark.parametrize("inner", [1, 2, 8, 9, 20])
def test_small_products_equal_the_librarys(inner):
    rng = np.random.default_rng(inner)
    a, b = rng.standard_normal((3, inner)), rng.standard_normal((inner, 5))
    np.testing.assert_allclose(matmul(jnp.asarray(a), jnp.asarray(b)), a @ b, rtol=0, atol=1e-13)
    single = matmul(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32))
    assert single.dtype == jnp.float32


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("full_noise", [False, True])
def test_information_is_the_precision_of_what_is_seen(rows, full_noise):
    rng = np.random.default_rng(0)
    c = np.eye(3) if rows is None else rng.standard_normal((rows, 3))
    size = c.shape[0]
    r = 0.3 * np.eye(size) + (0.1 if full_noise else 0.0)
    seen = Observation(
        None if rows is None else jnp.asarray(c), jnp.asarray(r) if full_noise else 0.3
    )
    found = seen.information()
    assert found.shape == (() if rows is None and not full_noise else (3, 3))
    np.testing.assert_allclose(
        found * np.eye(3) if found.ndim == 0 else found, c.T @ np.linalg.inv(r) @ c, atol=1e-12
    )
    x = rng.standard_normal(3)
    np.testing.assert_allclose(seen.observe(jnp.asarray(x)), c @ x, atol=1e-14)


@pytest.mark.parametrize(
    ("matrix", "covariance", "message"),
    [
        (np.ones(3), 1.0, r"matrix must be \[p, d\].*\(3,\)"),
        (np.full((1, 2), np.nan), 1.0, "matrix must not contain NaN"),
        pytest.param(np.array([[np.inf, 1.0]]), 1.0, "matrix must be finite"),
        (np.array([["a", "b"]]), 1.0, "matrix must be a number"),
        (None, 0.0, "covariance must be positive; got 0"),
        (None, -1.0, "covariance must be positive; got -1"),
        (None, np.nan, "covariance must not contain NaN"),
        (None, "1.0", "covariance is the text"),
        (None, np.ones(2), r"covariance must be .*\(2,\)"),
        pytest.param(None, np.ones((3, 1, 1)) * np.eye(2), r"covariance must be"),
        (None, np.ones((2, 3)), r"covariance must be square.*\(2, 3\)"),
        (None, np.array([[1.0, 0.5], [0.0, 1.0]]), "differs from its transpose by 0.5"),
        (None, np.diag([1.0, -2.0]), "smallest eigenvalue is -2"),
        (np.ones((1, 2)), np.eye(2), r"covariance is \(2, 2\), but matrix has 1 rows"),
    ],
)
def test_bad_observations_are_said_in_words(matrix, covariance, message):
    with pytest.raises(ValueError, match=message):
        Observation(matrix, covariance)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("eye", "sigma is the text"),
        (1.0, r"sigma must be square, \[..., d, d\]; got shape \(\)"),
        (np.ones(4), "sigma must be square"),
        (np.ones((2, 3)), r"sigma must be square.*\(2, 3\)"),
        (np.full((2, 2), np.nan), "sigma must not contain NaN"),
        (np.diag([1.0, np.inf]), "sigma must be finite"),
        (np.eye(2) * 1j, "sigma must be a number"),
        (np.array([[1.0, 1e-9], [0.0, 1.0]]), "sigma must be symmetric.*1e-09"),
        (np.zeros((2, 2)), "sigma must be positive definite; its smallest eigenvalue is 0"),
        (np.ones((2, 2)), "sigma must be positive definite"),
        (np.stack([np.eye(2), -np.eye(2)]), "smallest eigenvalue is -1"),
        (np.array([[2, 1], [0, 2]]), "sigma must be symmetric"),
    ],
)
def test_bad_covariances_are_said_in_words(value, message):
    with pytest.raises(ValueError, match=message):
        require_covariance("sigma", value)


def test_covariances_that_are_fine_pass():
    require_covariance("sigma", np.array([[2, 1], [1, 2]]))
    rounded = np.eye(2, dtype=np.float32)
    rounded[0, 1] = 1e-6  # the rounding of single precision
    require_covariance("sigma", rounded)
    require_covariance("sigma", np.stack([np.eye(3), 1e-12 * np.eye(3)]))
    jax.jit(lambda value: require_covariance("sigma", value))(-jnp.eye(2))  # no values to see
