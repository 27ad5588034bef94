"""Itô equations: orders of convergence, other people's solvers on the same path, the box."""

import diffrax
import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from sigma_jax import solvers

IDENTITY = 1e-12

GROWTH, SPREAD = 1.0, 0.5
GBM = solvers.SDE(lambda t, y, args: GROWTH * y, lambda t, y, args: SPREAD * y)
BROWNIAN = solvers.SDE(lambda t, y, args: jnp.zeros_like(y), lambda t, y, args: jnp.ones_like(y))
UNIT = np.array([0.0, 1.0])


def keys(size, seed=0):
    return jax.random.split(jax.random.key(seed), size)


def increments(key, times, steps, components, refine=1):
    """The Brownian increments of a path: a motion without drift, seen at every step."""
    grid = np.linspace(times[0], times[-1], steps * (len(times) - 1) + 1)
    path = solvers.simulate_sde(
        BROWNIAN, jnp.zeros(components), grid, key=key, steps=1, refine=refine
    )
    return np.diff(np.asarray(path.ys), axis=0)


# Orders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "order"), [(solvers.EulerMaruyama(), 0.5), (solvers.Milstein(), 1.0)]
)
def test_strong_order(scheme, order):
    """Geometric Brownian motion against its solution on the same Brownian path."""
    finest = 512

    @eqx.filter_jit
    def errors(keys, steps):
        def error(key):
            options = dict(key=key, steps=steps, refine=finest // steps)
            y = solvers.simulate_sde(GBM, jnp.ones(1), UNIT, scheme=scheme, **options).ys[-1]
            w = solvers.simulate_sde(BROWNIAN, jnp.zeros(1), UNIT, **options).ys[-1]
            return jnp.abs(y - jnp.exp((GROWTH - SPREAD**2 / 2) + SPREAD * w))[0]

        return jnp.mean(jax.vmap(error)(keys))

    steps = np.array([32, 64, 128, 256])
    measured = [float(errors(keys(2_000), int(n))) for n in steps]
    rate = -np.polyfit(np.log(steps), np.log(measured), 1)[0]
    assert order - 0.15 < rate < order + 0.15


@pytest.mark.parametrize("scheme", [solvers.EulerMaruyama(), solvers.WeakEuler()])
@pytest.mark.parametrize("power", [1, 2])
def test_weak_order(scheme, power):
    """E[x] and E[x²] of geometric Brownian motion, with so many paths that the bias stands out."""
    sde = solvers.SDE(lambda t, y, args: y, lambda t, y, args: 0.25 * y)
    paths, steps = 2**18, np.array([8, 16, 32])
    exact = np.exp(power + power * (power - 1) / 2 * 0.25**2)

    def mean(n):
        y = solvers.simulate_sde_ensemble(
            sde, jnp.ones(paths), UNIT, keys=keys(paths), steps=int(n), scheme=scheme
        ).ys[:, -1]
        moments = np.asarray(y) ** power
        return moments.mean(), moments.std() / np.sqrt(paths)

    means, standard_errors = np.transpose([mean(n) for n in steps])
    # What the scheme's mean is exactly, from the recursion that its moments obey.
    h = 1.0 / steps
    recursion = (1.0 + h if power == 1 else (1.0 + h) ** 2 + 0.25**2 * h) ** steps
    assert np.all(np.abs(means - recursion) < 5.0 * standard_errors)
    rate = -np.polyfit(np.log(steps), np.log(exact - means), 1)[0]
    assert 0.85 < rate < 1.15


# The same path ----------------------------------------------------------------------------------


class Steps(diffrax.AbstractBrownianPath):
    """A Brownian path of known increments on an even grid, for diffrax."""

    values: jax.Array
    h: float
    levy_area = diffrax.BrownianIncrement

    @property
    def t0(self):
        return 0.0

    @property
    def t1(self):
        return self.h * (self.values.shape[0] - 1)

    def evaluate(self, t0, t1=None, left=True, use_levy=False):
        i, j = (jnp.round(t / self.h).astype(int) for t in (t0, t1))
        w = self.values[j] - self.values[i]
        return diffrax.BrownianIncrement(dt=t1 - t0, W=w) if use_levy else w


LOGISTIC = solvers.SDE(
    lambda t, y, args: y * (1.0 + 0.1 * jnp.sin(t) - y), lambda t, y, args: args * y * (1.0 - y)
)


@pytest.mark.parametrize(
    ("scheme", "peer"),
    [
        (solvers.EulerMaruyama(), diffrax.Euler()),
        (solvers.Milstein(), diffrax.ItoMilstein()),
    ],
)
def test_agrees_with_diffrax_on_the_same_increments(scheme, peer):
    key, y0, amplitude = jax.random.key(1), jnp.array([0.2, 0.5, 0.9]), jnp.array(0.4)
    ours = solvers.simulate_sde(
        LOGISTIC, y0, np.array([0.0, 2.0]), key=key, steps=100, args=amplitude, scheme=scheme
    )
    dw = increments(key, (0.0, 2.0), 100, 3)
    path = Steps(jnp.concatenate([jnp.zeros((1, 3)), jnp.cumsum(dw, axis=0)]), 0.02)
    theirs = diffrax.diffeqsolve(
        LOGISTIC.terms(path), peer, 0.0, 2.0, 0.02, y0, args=amplitude, max_steps=200
    )
    np.testing.assert_allclose(ours.ys[-1], theirs.ys[-1], rtol=0, atol=IDENTITY)


def test_diffrax_solves_the_same_equation_adaptively():
    """`terms` with diffrax's own Brownian tree: close to the solution on the tree's path."""
    tree = diffrax.VirtualBrownianTree(
        0.0, 1.0, 1e-4, (1,), jax.random.key(0), diffrax.SpaceTimeLevyArea
    )
    term = GBM.terms(tree)
    end = diffrax.diffeqsolve(
        term, diffrax.ItoMilstein(), 0.0, 1.0, 1e-3, jnp.ones(1), max_steps=2_000
    )
    exact = jnp.exp((GROWTH - SPREAD**2 / 2) + SPREAD * tree.evaluate(0.0, 1.0))
    np.testing.assert_allclose(end.ys[-1], exact, rtol=5e-3)


def test_refined_paths_follow_the_same_motion():
    key, times = jax.random.key(3), np.array([0.0, 0.5, 2.0])
    ends = [
        np.asarray(
            solvers.simulate_sde(BROWNIAN, jnp.zeros(3), times, key=key, steps=n, refine=r).ys
        )
        for n, r in ((420, 1), (210, 2), (60, 7), (20, 21), (1, 420))
    ]
    for other in ends[1:]:
        np.testing.assert_allclose(other, ends[0], rtol=0, atol=IDENTITY)
    signs = [
        np.asarray(
            solvers.simulate_sde(
                BROWNIAN,
                jnp.zeros(3),
                times,
                key=key,
                steps=n,
                refine=r,
                scheme=solvers.WeakEuler(),
            ).ys
        )
        for n, r in ((96, 1), (48, 2), (7 * 32, 1), (32, 7))
    ]
    np.testing.assert_allclose(signs[1], signs[0], rtol=0, atol=IDENTITY)
    np.testing.assert_allclose(signs[3], signs[2], rtol=0, atol=IDENTITY)


@pytest.mark.parametrize("scheme", [solvers.EulerMaruyama(), solvers.WeakEuler()])
def test_a_path_depends_on_its_key_alone(scheme):
    """Bit for bit: alone, under a user's own vmap, and in batches of any size."""
    size, times = 137, np.linspace(0.0, 1.0, 4)
    sde = solvers.SDE(LOGISTIC.drift, LOGISTIC.diffusion, 0.0, 1.0)
    each = keys(size)
    y0 = jnp.linspace(0.1, 0.9, 3 * size).reshape(size, 3)
    amplitudes = jnp.linspace(0.1, 0.8, size)

    def alone(y0, key, amplitude):
        options = dict(key=key, steps=21, args=amplitude, scheme=scheme)
        return solvers.simulate_sde(sde, y0, times, **options).ys

    vmapped = np.asarray(jax.vmap(alone)(y0, each, amplitudes))
    for batch_size in (1, 50, 512):
        together = solvers.simulate_sde_ensemble(
            sde,
            y0,
            times,
            keys=each,
            steps=21,
            args=amplitudes,
            scheme=scheme,
            batch_size=batch_size,
        )
        np.testing.assert_array_equal(together.ys, vmapped)
        assert together.ts.shape == (size, 4)
    for i in (0, 60, 136):
        np.testing.assert_array_equal(alone(y0[i], each[i], amplitudes[i]), vmapped[i])
        np.testing.assert_array_equal(
            jax.random.key_data(together.key[i]), jax.random.key_data(each[i])
        )


# Derivatives ------------------------------------------------------------------------------------


def test_the_gradient_of_a_functional_of_the_path():
    times = np.linspace(0.0, 3.0, 7)
    sde = solvers.SDE(
        lambda t, y, args: args[0] * y * (1.0 - y),
        lambda t, y, args: args[1] * y * (1.0 - y),
        0.0,
        1.0,
    )

    @jax.jit
    def functional(parameters):
        start = jnp.full((64, 2), 0.2)
        args = jax.tree.map(lambda p: jnp.broadcast_to(p, (64,)), tuple(parameters))
        ys = solvers.simulate_sde_ensemble(sde, start, times, keys=keys(64), steps=20, args=args).ys
        return jnp.mean(ys[:, 2] * ys[:, -1])

    at, h = jnp.array([0.7, 0.5]), 1e-5
    numerical = [
        (functional(at.at[i].add(h)) - functional(at.at[i].add(-h))) / (2 * h) for i in range(2)
    ]
    np.testing.assert_allclose(jax.grad(functional)(at), numerical, rtol=1e-6)
    np.testing.assert_allclose(jax.jacfwd(functional)(at), numerical, rtol=1e-6)


def test_the_gradient_does_not_stop_at_a_face():
    """In a point that lies on a face of the box the derivative is that of the motion inside."""
    sde = solvers.SDE(lambda t, y, args: -y, lambda t, y, args: jnp.zeros_like(y), 0.0, 1.0)
    times = np.array([0.0, 0.25])

    @jax.grad
    def derivative(y):
        return solvers.simulate_sde(sde, y, times, key=jax.random.key(0), steps=1).ys[-1, 0]

    np.testing.assert_allclose(derivative(jnp.ones(1)), [0.75], atol=IDENTITY)


# The box ----------------------------------------------------------------------------------------


def test_projections_are_those_of_a_plain_loop_and_all_are_counted():
    """Noise that does not vanish at the faces, so that paths leave again and again."""
    lower, upper = jnp.array([0.0, -jnp.inf, 0.3]), jnp.array([1.0, 0.5, 0.4])
    sde = solvers.SDE(
        lambda t, y, args: 0.1 * (t - y), lambda t, y, args: 0.3 * jnp.ones_like(y), lower, upper
    )
    key, times, steps = jax.random.key(2), np.array([0.0, 1.0, 3.0]), 50
    paths = solvers.simulate_sde(sde, jnp.array([0.5, 0.0, 0.35]), times, key=key, steps=steps)
    unit_times = solvers.simulate_sde(BROWNIAN, jnp.zeros(3), np.arange(101.0), key=key, steps=1)
    z = np.diff(np.asarray(unit_times.ys), axis=0)
    y, expected, count, excess = np.array([0.5, 0.0, 0.35]), [], 0, 0.0
    for n in range(100):
        h = 0.02 if n < 50 else 0.04
        t = n * h if n < 50 else 1.0 + (n - 50) * h
        y = y + h * 0.1 * (t - y) + 0.3 * np.sqrt(h) * z[n]
        inside = np.clip(y, lower, upper)
        count += bool((inside != y).any())
        excess = max(excess, np.abs(y - inside).max())
        y = inside
        expected.append(y)
    np.testing.assert_allclose(paths.ys[1:], np.array(expected)[[49, 99]], rtol=0, atol=IDENTITY)
    assert int(paths.box.count) == count > 10
    np.testing.assert_allclose(paths.box.excess, excess, rtol=0, atol=IDENTITY)


def test_a_pytree_has_its_bounds_leaf_by_leaf():
    """The lower bound of one leaf may lie above the upper bound of another; None is no leaf."""
    sde = solvers.SDE(
        lambda t, y, args: jax.tree.map(jnp.zeros_like, y),
        lambda t, y, args: jax.tree.map(lambda leaf: 20.0 * jnp.ones_like(leaf), y),
        {"a": 0.0, "b": 5.0, "c": None, "d": -jnp.inf},
        {"a": 1.0, "b": 6.0, "c": None, "d": jnp.inf},
    )
    y0 = {"a": jnp.array(0.5), "b": jnp.full((2, 3), 5.5), "c": None, "d": jnp.array([0.0])}
    times = np.linspace(0.0, 1.0, 21)
    paths = solvers.simulate_sde(sde, y0, times, key=jax.random.key(0), steps=2)
    assert paths.ys["b"].shape == (21, 2, 3)
    for name, low, high in (("a", 0.0, 1.0), ("b", 5.0, 6.0)):
        assert paths.ys[name].min() == low
        assert paths.ys[name].max() == high
    assert np.abs(paths.ys["d"]).max() > 2.0
    assert 0 < int(paths.box.count) <= 40


def test_a_motion_that_stays_inside_is_not_reported():
    sde = solvers.SDE(LOGISTIC.drift, LOGISTIC.diffusion, 0.0, 2.0)
    paths = solvers.simulate_sde_ensemble(
        sde,
        jnp.full((100, 3), 0.5),
        np.array([0.0, 5.0]),
        keys=keys(100),
        steps=500,
        args=jnp.full(100, 0.3),
    )
    np.testing.assert_array_equal(paths.box.count, 0)
    np.testing.assert_array_equal(paths.box.excess, 0.0)


@given(
    st.integers(0, 100),
    st.floats(0.0, 5.0),
    st.sampled_from([solvers.EulerMaruyama(), solvers.WeakEuler(), solvers.Milstein()]),
)
def test_no_saved_state_is_ever_outside(seed, amplitude, scheme):
    sde = solvers.SDE(LOGISTIC.drift, LOGISTIC.diffusion, 0.0, 1.0)
    paths = solvers.simulate_sde(
        sde,
        jnp.array([0.0, 0.3, 1.0]),
        np.linspace(0.0, 4.0, 9),
        key=jax.random.key(seed),
        steps=3,
        args=jnp.array(amplitude),
        scheme=scheme,
    )
    assert np.all((np.asarray(paths.ys) >= 0.0) & (np.asarray(paths.ys) <= 1.0))
    assert np.isfinite(paths.box.excess)


# Ensembles --------------------------------------------------------------------------------------


def test_a_summary_is_what_leaves_a_batch():
    times = np.linspace(0.0, 1.0, 5)
    options = dict(keys=keys(30), steps=4, batch_size=8)
    whole = solvers.simulate_sde_ensemble(GBM, jnp.ones((30, 2)), times, **options)
    largest = solvers.simulate_sde_ensemble(
        GBM, jnp.ones((30, 2)), times, summary=lambda p: (p.ts[-1], jnp.max(p.ys)), **options
    )
    np.testing.assert_array_equal(largest[0], np.ones(30))
    np.testing.assert_array_equal(largest[1], np.max(whole.ys, axis=(1, 2)))


def test_drift_and_hitting_times_of_brownian_motion():
    """Mean passage a/μ, late by the overshoot of a walk seen only at its steps (Siegmund 1985)."""
    drift, level, paths = 1.0, 1.0, 40_000
    sde = solvers.SDE(
        lambda t, y, args: jnp.full_like(y, drift), lambda t, y, args: jnp.ones_like(y)
    )

    def mean_passage(h):
        times = np.arange(0.0, 15.0 + h / 2, h)

        def passage(p):
            return p.ts[jnp.argmax(p.ys >= level)]

        hit = solvers.simulate_sde_ensemble(
            sde, jnp.zeros(paths), times, keys=keys(paths, 3), steps=1, summary=passage
        )
        hit = np.asarray(hit)
        assert np.all(hit > 0.0)
        return hit.mean(), hit.std() / np.sqrt(paths)

    biases = []
    for h in (0.25, 0.0625):
        mean, standard_error = mean_passage(h)
        late = (0.5826 * np.sqrt(h) + drift * h / 4.0) / drift
        assert abs(mean - level / drift - late) < 4.0 * standard_error
        biases.append(mean - level / drift)
    assert biases[1] < 0.6 * biases[0]


def test_a_path_that_is_not_finite_says_so():
    sde = solvers.SDE(lambda t, y, args: args * y**2, lambda t, y, args: jnp.zeros_like(y))
    paths = solvers.simulate_sde_ensemble(
        sde, jnp.ones((2, 1)), UNIT, keys=keys(2), steps=50, args=jnp.array([0.1, 100.0])
    )
    np.testing.assert_array_equal(paths.success, [True, False])


# Bad input --------------------------------------------------------------------------------------


def one(**changes):
    options = dict(key=jax.random.key(0), steps=2) | changes
    sde = options.pop("sde", GBM)
    y0, times = options.pop("y0", jnp.ones(1)), options.pop("times", UNIT)
    return solvers.simulate_sde(sde, y0, times, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: one(steps=0), "steps must be a positive integer; got 0"),
        (lambda: one(steps=2.5), "steps must be a positive integer; got 2.5"),
        (lambda: one(refine=0), "refine must be a positive integer; got 0"),
        (lambda: one(times=np.array([1.0])), "at least two; got shape"),
        (lambda: one(times=np.array([0.0, 1.0, 1.0])), "must be finite and increase"),
        (lambda: one(times=np.array([0.0, np.inf])), "must be finite and increase"),
        (lambda: one(key=jax.random.key(0, impl="rbg")), "must be a Threefry key"),
        (lambda: one(key=jax.random.PRNGKey(0)), "must be one of `jax.random.key`"),
        (
            lambda: one(sde=solvers.SDE(GBM.drift, GBM.diffusion, 0.0, 0.5)),
            "y0 must lie in the box, here from 0.0 to 0.5",
        ),
        (
            lambda: one(y0=jnp.array([np.nan]), sde=solvers.SDE(GBM.drift, GBM.diffusion, 0.0)),
            "y0 must lie in the box",
        ),
        (lambda: solvers.SDE(GBM.drift, GBM.diffusion, 1.0, 1.0), "needs lower < upper; got 1"),
        (
            lambda: solvers.SDE(GBM.drift, GBM.diffusion, (0.0, 2.0), (1.0, 1.0)),
            "needs lower < upper; got 2",
        ),
        (
            lambda: solvers.simulate_sde_ensemble(GBM, jnp.ones(3), UNIT, keys=keys(2), steps=1),
            "same leading axis",
        ),
        (
            lambda: solvers.simulate_sde_ensemble(
                GBM, jnp.ones(3), UNIT, keys=keys(3), steps=1, batch_size=0
            ),
            "batch_size must be at least 1",
        ),
    ],
)
def test_bad_input_says_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()
