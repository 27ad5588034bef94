"""State and covariance advanced together: orders, diffrax's own Euler, Gaussian closed forms."""

import functools

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from sigma_jax.solvers import (
    BeliefTerm,
    EulerMaruyama,
    FixedStep,
    ItoRiccati,
    Milstein,
    Observation,
    WeakEuler,
    belief_step,
    dilation,
    simulate,
)

A = np.array([[-1.0, 0.7], [-0.4, -0.6]])
G = np.array([0.5, 0.3])
START = np.array([1.0, -0.5])
PRIOR = np.array([[0.6, 0.1], [0.1, 0.4]])
KEY = jax.random.key(0)


def linear(t, x, args):
    return A @ x


def bent(t, x, args):
    return jnp.sin(2.0 * x[::-1]) - x + 0.3 * jnp.cos(t)


def even(t, x, args):
    return jnp.asarray(G)


def rising(t, x, args):
    """Noise of each component that depends on that component alone."""
    return 0.7 * jnp.sqrt(0.1 + x**2)


def swirled(t, x, args):
    """The matrix `args` added to the drift, so that one compiled solver serves many."""
    return bent(t, x, args) + args @ x


TREE = diffrax.VirtualBrownianTree(0.0, 1.0, 2.0**-14, (2,), KEY)
SEEN = Observation(jnp.array([[1.0, 0.5]]), 0.7)
CALM = np.zeros((2, 2))
STEPS_OF_TREE = 64


@eqx.filter_jit
def solved(term, solver, args, start=(START, PRIOR)):
    start = jax.tree.map(jnp.asarray, start)
    h = 1.0 / STEPS_OF_TREE
    x, sigma = diffrax.diffeqsolve(term, solver, 0.0, 1.0, h, start, args, max_steps=80).ys
    return x[-1], sigma[-1]


# One equation, several ways ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def looped():
    """The end of a plain loop over Milstein steps, on the increments of the tree."""

    @jax.jit
    def step(t, x, sigma):
        jacobian = jax.jacrev(lambda x: bent(t, x, None))(x)
        h = 1.0 / STEPS_OF_TREE
        dw = TREE.evaluate(t, t + h)
        information = SEEN.information()
        belief = (x, sigma)
        return belief_step(bent, rising, jacobian, information, t, belief, None, h, dw, Milstein())

    x, sigma = jnp.asarray(START), jnp.asarray(PRIOR)
    for t in np.arange(STEPS_OF_TREE) / STEPS_OF_TREE:
        x, sigma = step(t, x, sigma)
    return np.asarray(x), np.asarray(sigma)


def test_diffrax_takes_the_steps_of_a_plain_loop(looped):
    found = solved(BeliefTerm(swirled, rising, TREE, SEEN), ItoRiccati(Milstein()), CALM)
    for own, expected in zip(found, looped, strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-10)


def test_simulate_takes_the_steps_of_a_plain_loop(looped):
    term = BeliefTerm(swirled, rising, TREE, SEEN)
    method = FixedStep(STEPS_OF_TREE // 2, ItoRiccati(Milstein()))
    found = simulate(term, (START, PRIOR), np.array([0.0, 0.5, 1.0]), args=CALM, method=method)
    for own, expected in zip(found.ys, looped, strict=True):
        np.testing.assert_allclose(own[-1], expected, atol=1e-10)


def test_euler_of_diffrax_is_the_same_where_nothing_is_lifted():
    term = BeliefTerm(swirled, even, TREE)
    ours, theirs = (solved(term, solver, CALM) for solver in (ItoRiccati(), diffrax.Euler()))
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-12)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-12)
    # And not where it is: a rotation by three radians a step, which Euler does not survive.
    turn = 200.0 * np.array([[0.0, 1.0], [-1.0, 0.0]])
    ours, theirs = (solved(term, solver, turn) for solver in (ItoRiccati(), diffrax.Euler()))
    assert np.linalg.eigvalsh(ours[1])[0] >= 0.5 / STEPS_OF_TREE * G.min() ** 2
    assert not np.allclose(ours[1], theirs[1], rtol=1e-3)


def test_jacobian_may_be_given():
    given = BeliefTerm(linear, even, TREE, jacobian=lambda t, x, args: 2.0 * jnp.asarray(A))
    found = BeliefTerm(linear, even, TREE).linearise(0.0, jnp.asarray(START), None)
    np.testing.assert_allclose(found, A, atol=1e-14)
    np.testing.assert_array_equal(given.linearise(0.0, jnp.asarray(START), None), 2.0 * A)
    # It is the one that is used.
    (_, slope), spread = given.vf(0.0, (jnp.asarray(START), jnp.asarray(PRIOR)), None)
    expected = 2 * A @ PRIOR + 2 * PRIOR @ A.T + np.diag(G**2) - PRIOR @ PRIOR
    np.testing.assert_allclose(slope, expected, atol=1e-14)
    np.testing.assert_allclose(spread, 1.5 * G, atol=1e-14)


def test_dilation_is_one_plus_the_mean_variance():
    assert dilation(jnp.asarray(PRIOR)) == pytest.approx(1.5)


@pytest.mark.parametrize("h", [0.1, 1.0])
def test_covariance_stays_definite_for_every_step(h):
    """An A whose Euler step is unstable a hundred times over; the state itself is at rest."""
    jacobian = jnp.array([[0.0, 200.0], [-200.0, 0.0]])

    @jax.jit
    def step(x, sigma):
        return belief_step(
            lambda t, x, args: jacobian @ x,
            even,
            jacobian,
            jnp.ones(()),
            0.0,
            (x, sigma),
            None,
            h,
            jnp.zeros(2),
        )

    x, sigma = jnp.zeros(2), 1e3 * jnp.eye(2)
    for _ in range(10):
        x, sigma = step(x, sigma)
        assert np.isfinite(sigma).all()
        assert np.linalg.eigvalsh(sigma)[0] >= 0.5 * h * G.min() ** 2


def test_gradient_through_the_solver_against_finite_differences():
    """Of a Milstein step in x and of the covariance, from parameters and prior to the end."""

    @jax.jit
    def end(swirl, prior):
        term = BeliefTerm(swirled, rising, TREE, SEEN)
        x, sigma = solved(term, ItoRiccati(Milstein()), swirl, (START, prior))
        return jnp.sum(x**2) + jnp.trace(sigma)

    point = jnp.array([[0.1, -0.2], [0.3, 0.0]]), jnp.asarray(PRIOR)
    slopes = jax.jit(jax.grad(end, argnums=(0, 1)))(*point)
    small = 1e-5
    for place, push in enumerate(np.array([[[1.0, 0.5], [-0.4, 0.2]], [[1.0, 0.5], [0.5, -0.3]]])):
        shift = [small * push * (place == other) for other in (0, 1)]
        high = end(*(own + by for own, by in zip(point, shift, strict=True)))
        low = end(*(own - by for own, by in zip(point, shift, strict=True)))
        assert jnp.sum(slopes[place] * push) == pytest.approx(
            float(high - low) / (2 * small), rel=1e-6
        )


# Orders -----------------------------------------------------------------------------------------

FINEST = 512
STEPS = (8, 16, 32, 64)
PATHS = 4096


@functools.cache
def ends(diffusion, scheme, steps):
    """State and covariance at time 1 of many paths, by `steps` steps of one Brownian motion."""
    return tuple(np.asarray(part) for part in _ends(diffusion, scheme, jnp.asarray(steps)))


@eqx.filter_jit
def _ends(diffusion, scheme, steps):
    every, h = FINEST // steps, 1.0 / steps

    def one(t, x, sigma, dw):
        jacobian = jax.jacfwd(lambda x: bent(t, x, None))(x)
        belief = (x, sigma)
        return belief_step(bent, diffusion, jacobian, jnp.ones(()), t, belief, None, h, dw, scheme)

    def fine(carry, number):
        belief, dw = carry
        dw = dw + jax.random.normal(jax.random.fold_in(KEY, number), dw.shape) / np.sqrt(FINEST)

        def take():
            t = (number + 1) / FINEST - h
            return jax.vmap(one, (None, 0, 0, 0))(t, *belief, dw), jnp.zeros_like(dw)

        return jax.lax.cond((number + 1) % every == 0, take, lambda: (belief, dw)), None

    start = (jnp.broadcast_to(START, (PATHS, 2)), jnp.broadcast_to(PRIOR, (PATHS, 2, 2)))
    carry = start, jnp.zeros((PATHS, 2))
    return jax.lax.scan(fine, carry, jnp.arange(FINEST))[0][0]


def rate(errors) -> float:
    """Order of convergence to a reference that is itself an error of the finest step away."""
    h = 1.0 / np.array(STEPS) - 1.0 / FINEST
    return float(np.polyfit(np.log(h), np.log(errors), 1)[0])


@pytest.mark.parametrize(
    ("diffusion", "scheme", "order"),
    [
        (even, EulerMaruyama(), 1.0),  # the dilation moves, but has no noise of its own
        (rising, EulerMaruyama(), 0.5),
        (rising, Milstein(), 1.0),
    ],
)
def test_strong_order(diffusion, scheme, order):
    """Of the state and of the covariance, which depends on the state's path."""
    reference = ends(diffusion, Milstein() if diffusion is rising else scheme, FINEST)
    for part in (0, 1):
        errors = [
            np.abs(ends(diffusion, scheme, steps)[part] - reference[part]).mean() for steps in STEPS
        ]
        assert rate(errors) == pytest.approx(order, abs=0.15)


def faint(t, x, args):
    return 0.25 * rising(t, x, args)


def test_weak_order():
    """Means of x, x² and Σ with noise that depends on x, faint enough for the bias to stand out."""

    def moments(steps):
        x, sigma = ends(faint, EulerMaruyama(), steps)
        return np.concatenate([x, x**2, sigma.diagonal(axis1=1, axis2=2)], axis=1)

    best = moments(FINEST)
    apart = np.array([moments(steps) - best for steps in STEPS])
    bias, noise = apart.mean(axis=1), apart.std(axis=1) / np.sqrt(PATHS)
    assert (np.abs(bias) > 30 * noise).all()
    for own in np.abs(bias).T:
        assert rate(own) == pytest.approx(1.0, abs=0.3)
        assert np.log2(own[-2] / own[-1]) == pytest.approx(np.log2(15 / 7), abs=0.15)


# A coupled closed form --------------------------------------------------------------------------


def riccati(sigma):
    return A @ sigma + sigma @ A.T + np.diag(G**2) - sigma @ sigma


def moments_in_time(until):
    """Mean and covariance of x, and Σ: m′ = A m, P′ = A P + P Aᵀ + D(Σ)² diag(g²)."""

    def rates(_, y):
        mean, spread, sigma = y[:2], y[2:6].reshape(2, 2), y[6:].reshape(2, 2)
        wide = (1 + np.trace(sigma) / 2) ** 2 * np.diag(G**2)
        slopes = A @ mean, A @ spread + spread @ A.T + wide, riccati(sigma)
        return np.concatenate([part.ravel() for part in slopes])

    y = np.concatenate([START, np.zeros(4), PRIOR.ravel()])
    y = scipy.integrate.solve_ivp(rates, (0, until), y, rtol=1e-11, atol=1e-12).y[:, -1]
    return y[:2], y[2:6].reshape(2, 2), y[6:].reshape(2, 2)


def moments_of_steps(until, steps, dilated=True):
    """The same of the scheme itself: of x₊ = (I + hA) x + D g ΔW and Euler's Σ."""
    h = until / steps
    mean, spread, sigma, flow = START, np.zeros((2, 2)), PRIOR, np.eye(2) + h * A
    for _ in range(steps):
        wide = (1 + dilated * np.trace(sigma) / 2) ** 2 * np.diag(G**2)
        mean, spread = flow @ mean, flow @ spread @ flow.T + h * wide
        sigma = sigma + h * riccati(sigma)
    return mean, spread, sigma


@pytest.mark.parametrize("scheme", [EulerMaruyama(), Milstein(), WeakEuler()])
def test_linear_node_is_gaussian_with_the_moments_of_its_equation(scheme):
    until, paths, steps = 1.0, 2**15, 64

    @jax.jit
    def run():
        if isinstance(scheme, WeakEuler):
            signs = jax.random.rademacher(KEY, (steps, paths, 2)).astype(float)
            dw = signs / np.sqrt(steps)
        else:
            dw = jax.random.normal(KEY, (steps, paths, 2)) / np.sqrt(steps)

        def step(belief, dw):
            def one(x, sigma, dw):
                return belief_step(
                    linear,
                    even,
                    jnp.asarray(A),
                    Observation().information(),
                    0.0,
                    (x, sigma),
                    None,
                    until / steps,
                    dw,
                    scheme,
                )

            return jax.vmap(one, (0, None, 0), (0, None))(*belief, dw), None

        start = jnp.broadcast_to(START, (paths, 2)), jnp.asarray(PRIOR)
        return jax.lax.scan(step, start, dw)[0]

    x, sigma = (np.asarray(part) for part in run())
    mean, spread, covariance = moments_of_steps(until, steps)
    np.testing.assert_allclose(sigma, covariance, atol=1e-12)
    deviations = np.sqrt(np.diag(spread))
    assert (np.abs(x.mean(axis=0) - mean) < 4 * deviations / np.sqrt(paths)).all()
    # The error of a sampled covariance of normal variables: √((c₁₁ c₂₂ + c₁₂²)/n).
    error = np.sqrt((np.outer(deviations, deviations) ** 2 + spread**2) / paths)
    assert (np.abs(np.cov(x.T) - spread) < 4 * error).all()
    # The scheme's moments approach the equation's in the first order of the step.
    exact = moments_in_time(until)
    wrong = [
        [
            np.abs(own - true).max()
            for own, true in zip(moments_of_steps(until, n), exact, strict=True)
        ]
        for n in (64, 128, 256)
    ]
    orders = np.log2(np.array(wrong[:-1]) / wrong[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.05)
    # And the dilation is in them: without it the spread would be much narrower.
    _, narrow, _ = moments_of_steps(until, steps, dilated=False)
    assert spread[0, 0] > 1.3 * narrow[0, 0]
