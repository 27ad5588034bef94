"""The stochastic Σ-Model: what noise does to the mean, to the phases and to a stable state."""

import itertools
import subprocess
import sys

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from scipy.integrate import cumulative_trapezoid

from sigma_jax import schema, solvers

QUIET = dict.fromkeys(
    ("delta", "alpha", "self_model", "planning", "inhibition", "flexibility"), 0.0
)
TARGETED = schema.sigma_model(environment=schema.regime("targeted"))
HYSTERETIC = schema.sigma_model("hysteretic", environment=schema.regime("baseline"))


def keys(size, seed=0):
    return jax.random.split(jax.random.key(seed), size)


def many(y0, size):
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), y0)


def coherence(model, noise, y0, times, size, steps, **options):
    """σ of one domain at the saved times, `[paths, times]`."""
    sde = schema.stochastic_model(model, noise)
    paths = solvers.simulate_sde_ensemble(
        sde, many(y0, size), times, keys=keys(size), steps=steps, **options
    )
    return np.asarray(paths.ys.sigma).reshape(size, -1)


# The mean leaves the skeleton -------------------------------------------------------------------


def test_noise_moves_the_mean_of_a_nonlinear_equation():
    """E-38: E[x](800) of dx = x(r − kx)dt + s x dW falls with s, and is nil for s² > 2r."""
    r, k, size = 0.02, 0.04, 20_000
    sde = solvers.SDE(lambda t, x, s: x * (r - k * x), lambda t, x, s: s * x, 0.0)
    published = {0.0: 0.500, 0.1: 0.376, 0.2: 0.072, 0.25: 0.012}
    for s, expected in published.items():
        x = solvers.simulate_sde_ensemble(
            sde,
            jnp.full(size, 0.1),
            np.array([0.0, 800.0]),
            keys=keys(size, 1),
            steps=3200,
            args=jnp.full(size, s),
        ).ys[:, -1]
        error = np.std(x) / np.sqrt(size)
        assert abs(np.mean(x) - expected) < 4.0 * error + 1e-3
        if 0.0 < s <= 0.1:  # the stationary mean, where 800 epochs are enough to reach it
            assert abs(np.mean(x) - (r - s**2 / 2) / k) < 4.0 * error


def test_noise_lowers_coherence_and_then_destroys_it():
    """The same for σ: extinction for s² > 2(ρPα − ε_σΩ), here s > .41."""
    y0 = schema.initial_state(alpha=0.8)
    rates, environment = TARGETED.rates, TARGETED.environment
    growth = rates.rho * environment.p_a * 0.8 - rates.epsilon_sigma * environment.omega_sl
    r0 = schema.reproduction_number(rates, environment(0.0, None), 0.8)
    skeleton = float(schema.core_equilibrium(r0, rates.saturation))
    means, medians = [], []
    for s in (0.0, 0.1, 0.2, 0.3, 0.5):
        noise = schema.Noise(sigma=jnp.asarray(s), **QUIET)
        end = coherence(TARGETED, noise, y0, np.array([0.0, 800.0]), 2_000, 4_000)[:, -1]
        means.append(end.mean())
        medians.append(np.median(end))
    np.testing.assert_allclose(means[0], skeleton, rtol=1e-6)
    assert np.all(np.diff(means) < 0.0)
    assert skeleton - means[2] > 10.0 * 0.13 / np.sqrt(2_000)
    assert medians[3] > 0.2  # .3² < 2 · .084
    assert 0.3**2 < 2.0 * growth < 0.5**2
    assert medians[4] < 1e-6


def test_the_stationary_density_is_that_of_fokker_and_planck():
    """p ∝ x^(2r/s² − 2) (1 − x)^(−2r/s² − 2) exp(2(r − k)/(s²(1 − x))) for the logistic drift."""
    r, k, s, size = 0.6, 1.0, 0.5, 4_000

    class Logistic(eqx.Module):
        def __call__(self, x, e, rates):
            return x.sigma * (r - k * x.sigma)

    model = eqx.tree_at(lambda m: m.coherence, TARGETED, Logistic())
    noise = schema.Noise(sigma=s, **QUIET)
    start = schema.initial_state(sigma=0.5)
    found = coherence(model, noise, start, np.array([0.0, 60.0]), size, 3_000)[:, -1]
    x = np.linspace(1e-6, 1.0 - 1e-3, 200_001)
    log_density = (
        (2 * r / s**2 - 2) * np.log(x)
        - (2 * r / s**2 + 2) * np.log1p(-x)
        + 2 * (r - k) / (s**2 * (1 - x))
    )
    distribution = cumulative_trapezoid(np.exp(log_density - log_density.max()), x, initial=0.0)
    distribution /= distribution[-1]
    test = scipy.stats.kstest(found, lambda value: np.interp(value, x, distribution))
    assert test.pvalue > 0.01
    moved = scipy.stats.kstest(found + 0.01, lambda value: np.interp(value, x, distribution))
    assert moved.pvalue < 0.01  # the test would see a shift by one hundredth


# The noise --------------------------------------------------------------------------------------


def test_noise_vanishes_on_the_faces_and_falls_with_the_batch():
    noise = schema.Noise(sigma=0.4, delta=0.2, planning=0.3, batch_size=256.0)
    state = schema.initial_state(
        domains=3, sigma=[[0.0], [0.5], [1.0]], delta=[[0.0], [1.0], [2.0]], frontier=2.0
    )
    g = noise(0.0, state, 2.0)
    np.testing.assert_allclose(g.sigma[0, :, 0], [0.0, 0.4 / 2 / 4, 0.0], atol=1e-12)
    np.testing.assert_allclose(g.delta[0, :, 0], [0.0, 0.2 / 2 / 2, 0.0], atol=1e-12)
    np.testing.assert_allclose(g.planning, [0.3 / 2 / 4], atol=1e-12)
    assert g.breadth is None


def test_a_batch_size_that_follows_the_state():
    """It grows with coherence, each domain's its own; the executive takes the agent's mean."""
    noise = schema.Noise(batch_size=lambda t, state: 64.0 * (1.0 + 3.0 * state.sigma))
    state = schema.initial_state(agents=2, domains=2, sigma=[[[0.0], [1.0]], [[0.5], [0.5]]])
    g = noise(0.0, state)
    factor = 1.0 / np.sqrt([[1.0, 4.0], [2.5, 2.5]])
    np.testing.assert_allclose(g.alpha[..., 0], 0.1 * 0.25 * factor, atol=1e-12)
    np.testing.assert_allclose(g.inhibition, 0.1 * 0.25 / np.sqrt([2.5, 2.5]), atol=1e-12)
    assert g.inhibition.shape == (2,)

    spreads = []
    for batch_size in (64.0, lambda t, state: 64.0 * (1.0 + 20.0 * state.sigma)):
        noisy = schema.Noise(sigma=0.2, batch_size=batch_size, **QUIET)
        start = schema.initial_state(sigma=0.4, alpha=0.8)
        spreads.append(
            coherence(TARGETED, noisy, start, np.array([0.0, 200.0]), 500, 800)[:, -1].std()
        )
    # Near σ* = .4375 the batch is 9.75 times as large, so the spread about a third.
    assert 0.25 < spreads[1] / spreads[0] < 0.40


@given(
    st.integers(0, 1_000),
    st.floats(0.0, 3.0),
    st.sampled_from(["consistent", "hysteretic", "bounded_transfer"]),
)
def test_the_state_never_leaves_its_box(seed, amplitude, variant):
    """Coarse steps and loud noise in two agents, domains and modalities, with breadth."""
    # Every value is an argument, so that one compiled program serves all examples of a variant.
    model = schema.sigma_model(variant, environment=schema.Environment(frontier=2.0))
    noise = schema.Noise(*[jnp.asarray(amplitude)] * 7)
    y0 = schema.initial_state(2, 2, 2, delta=1.9, sigma=0.9, breadth=0.1, frontier=2.0)
    paths = solvers.simulate_sde(
        schema.stochastic_model(model, noise, breadth=True),
        y0,
        np.linspace(0.0, 20.0, 11),
        key=jax.random.key(seed),
        steps=4,
    )
    for name, leaf in vars(paths.ys).items():
        top = {"delta": 2.0, "breadth": np.inf}.get(name, 1.0)
        assert np.all((np.asarray(leaf) >= 0.0) & (np.asarray(leaf) <= top)), name


def test_without_noise_it_is_the_model():
    still = schema.Noise(*[0.0] * 7)
    times = np.array([0.0, 10.0, 40.0])
    sde = schema.stochastic_model(TARGETED, still)
    noisy = solvers.simulate_sde(
        sde, schema.initial_state(), times, key=jax.random.key(0), steps=4_000
    )
    exact = solvers.simulate(TARGETED, schema.initial_state(), times)
    for name, leaf in vars(noisy.ys).items():
        if leaf is not None:
            np.testing.assert_allclose(leaf, getattr(exact.ys, name), rtol=0, atol=2e-3)
    assert int(noisy.box.count) == 0


def test_bad_noise_is_named():
    with pytest.raises(ValueError, match=r"noise.alpha must lie in \[0, inf\)"):
        schema.Noise(alpha=-0.1)
    with pytest.raises(ValueError, match=r"noise.batch_size must lie in \(0, inf\)"):
        schema.Noise(batch_size=0.0)


# Phases -----------------------------------------------------------------------------------------

LOOKS = np.arange(0.0, 61.0)


def test_phase_passages_are_those_of_the_saved_paths():
    """Reduced inside a batch or followed afterwards on whole paths: the same passages."""
    size, y0 = 50, schema.initial_state(agents=2, sigma=[[[0.1]], [[0.02]]])
    noise = schema.Noise(sigma=0.3)
    found = np.asarray(
        schema.phase_passage(
            TARGETED, noise, y0, LOOKS, keys=keys(size), steps=5, dwell=2, batch_size=16
        )
    )
    assert found.shape == (size, 2, 5)
    paths = solvers.simulate_sde_ensemble(
        schema.stochastic_model(TARGETED, noise), many(y0, size), LOOKS, keys=keys(size), steps=5
    )

    @jax.jit
    def follow(ts, states):
        margins = schema.trajectory_margins(ts, states, TARGETED.environment, schema.Thresholds())
        return schema.follow_phases(margins, dwell=2)

    for i in (0, 17, 49):
        states = jax.tree.map(lambda leaf, i=i: leaf[i], paths.ys)
        phases = np.asarray(follow(paths.ts[i], states))
        for agent in range(2):
            for phase in range(1, 6):
                seen = LOOKS[phases[:, agent] >= phase]
                expected = seen[0] if seen.size else np.inf
                assert found[i, agent, phase - 1] == expected
    # Depth starts phase 1 for all; with one domain, phases 4 and 5 are out of reach.
    assert np.isfinite(found[..., 0]).all()
    assert np.isinf(found[..., 3:]).all()
    order = found[..., :3]
    assert np.all((order[..., 1:] > order[..., :-1]) | np.isinf(order[..., 1:]))
    # The second agent starts with a fifth of the coherence.
    assert np.median(found[:, 0, 1]) < np.median(found[:, 1, 1])


def test_proxy_noise_alone_fires_by_the_law_of_first_passage():
    """E-37: the skeleton is exact, only looks are noisy: the distribution is known exactly."""
    size, nu = 4_000, 0.03
    y0 = schema.initial_state(delta=0.3, alpha=0.8)
    still = schema.Noise(*[0.0] * 7)
    options = dict(keys=keys(size), steps=8)
    exact = np.asarray(schema.phase_passage(TARGETED, still, y0, LOOKS, **options))[:, 0, 1]
    noisy = np.asarray(schema.phase_passage(TARGETED, still, y0, LOOKS, proxy_noise=nu, **options))[
        :, 0, 1
    ]
    assert np.ptp(exact) == 0.0
    assert np.median(noisy) < exact[0]  # the extreme of many errors comes first

    skeleton = solvers.simulate_sde(
        schema.stochastic_model(TARGETED, still), y0, LOOKS, key=jax.random.key(0), steps=8
    )
    margin = skeleton.ys.sigma[1:, 0, 0, 0] - schema.Thresholds().sigma_critical
    law = np.asarray(schema.first_passage(margin, nu))
    counts = np.array([(noisy == t).sum() for t in LOOKS[1:]])
    assert counts.sum() == size
    likely = law * size > 10.0
    observed = np.append(counts[likely], counts[~likely].sum())
    expected = np.append(law[likely], law[~likely].sum()) * size
    assert scipy.stats.chisquare(observed, expected * size / expected.sum()).pvalue > 0.01


@pytest.mark.slow
def test_a_hundred_thousand_paths_in_little_memory():
    """In a process of its own: coarse steps, 101 looks, less than 2 GB at the peak."""
    program = """
import time
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
from sigma_jax import schema, solvers
model = schema.sigma_model(environment=schema.regime("targeted"))
keys = jax.random.split(jax.random.key(0), 100_000)
started = time.perf_counter()
passages = schema.phase_passage(
    model, schema.Noise(sigma=0.3), schema.initial_state(), np.linspace(0.0, 100.0, 101),
    keys=keys, steps=2, proxy_noise=0.01, scheme=solvers.WeakEuler(),
)
passages.block_until_ready()
lines = Path("/proc/self/status").read_text().splitlines()
peak = next(float(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM"))
print(time.perf_counter() - started, peak, float(jnp.mean(jnp.isfinite(passages[:, 0, 1]))))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    seconds, gigabytes, coherent = (float(x) for x in done.stdout.split())
    assert gigabytes < 2.0
    assert seconds < 120.0
    assert 0.9 < coherent <= 1.0


# Escape from the coherent state -----------------------------------------------------------------


def coherent_start():
    """σ₊ of the hysteretic model at R₀ = .8, with attention and depth at rest."""
    rates = HYSTERETIC.rates
    _, upper = schema.hysteretic_equilibria(0.8, rates.saturation, rates.shortcut_relief)
    return schema.initial_state(delta=0.98, sigma=float(upper), alpha=0.5, self_model=0.4)


def test_noise_drives_a_bistable_learner_out_of_coherence():
    """The louder, the more of them; without noise none, and none come back by themselves."""
    y0, times = coherent_start(), np.arange(0.0, 401.0)
    shares = []
    for s in (0.0, 0.15, 0.25, 0.35):
        noise = schema.Noise(sigma=jnp.asarray(s), **QUIET)
        escaped = schema.escape_times(
            HYSTERETIC, noise, y0, times, keys=keys(1_000), steps=2, below=0.05
        )
        shares.append(schema.Escapes.of(escaped, 400.0))
    assert shares[0].share == 0.0
    assert shares[0].mean == np.inf
    for quieter, louder in itertools.pairwise(shares):
        assert quieter.share_high < louder.share_low
        assert quieter.mean_low > louder.mean_high


def mean_passage_time(s, below, start):
    """The mean time of dσ = f dt + s σ(1 − σ) dW from `start` to `below`, by quadrature.

    With u = logit σ the noise is constant; T = ∫ e^(−φ) ∫_u^∞ (2/s²) e^φ, φ′ = 2 drift/s².
    """
    u = np.linspace(np.log(below / (1.0 - below)), 8.0, 200_001)
    x = 1.0 / (1.0 + np.exp(-u))
    k, kappa = HYSTERETIC.rates.saturation, HYSTERETIC.rates.shortcut_relief
    f = 0.24 * (1.0 - k * x) - 0.3 / (1.0 + kappa * x)  # divided by σ
    drift = f / (1.0 - x) - s**2 / 2.0 * (1.0 - 2.0 * x)
    phi = cumulative_trapezoid(2.0 * drift / s**2, u, initial=0.0)
    beyond = -cumulative_trapezoid(np.exp(phi)[::-1], u[::-1], initial=0.0)[::-1] * 2.0 / s**2
    inner = u <= np.log(start / (1.0 - start))
    return np.trapezoid(np.exp(-phi[inner]) * beyond[inner], u[inner])


def test_the_mean_escape_time_is_that_of_the_one_dimensional_theory():
    s, below, y0 = 0.25, 0.05, coherent_start()
    escaped = schema.escape_times(
        HYSTERETIC,
        schema.Noise(sigma=jnp.asarray(s), **QUIET),
        y0,
        np.arange(0.0, 1_001.0),
        keys=keys(4_000),
        steps=4,
        below=below,
    )
    found = schema.Escapes.of(escaped, 1_000.0)
    assert 0.9 < found.share < 1.0  # some are censored
    expected = mean_passage_time(s, below, float(y0.sigma.squeeze()))
    # Looking once an epoch, in steps of a quarter, and a start that is not the escape's own law.
    assert 0.97 * found.mean_low < expected < 1.03 * found.mean_high


def test_the_censored_mean_and_its_intervals():
    rng = np.random.default_rng(0)
    covered_mean = covered_share = 0
    for _ in range(300):
        times = rng.exponential(100.0, 60)
        found = schema.Escapes.of(np.where(times > 80.0, np.inf, times), 80.0)
        assert found == schema.Escapes.of(times, 80.0)
        covered_mean += found.mean_low < 100.0 < found.mean_high
        covered_share += found.share_low < 1.0 - np.exp(-0.8) < found.share_high
    assert covered_mean / 300 > 0.92
    assert covered_share / 300 > 0.92
    few = schema.Escapes.of([30.0, np.inf, 10.0, 80.0], 60.0)
    assert (few.share, few.mean, few.paths) == (0.5, (30.0 + 60.0 + 10.0 + 60.0) / 2, 4)


def test_bad_passage_arguments_are_named():
    y0, times = schema.initial_state(), np.array([0.0, 1.0])
    options = dict(keys=keys(2), steps=1)
    with pytest.raises(ValueError, match="proxy_noise must lie in"):
        schema.phase_passage(TARGETED, schema.Noise(), y0, times, proxy_noise=-1.0, **options)
    with pytest.raises(ValueError, match="dwell must be at least 1"):
        schema.phase_passage(TARGETED, schema.Noise(), y0, times, dwell=0, **options)
    with pytest.raises(ValueError, match=r"below must lie in \(0, 1\]"):
        schema.escape_times(TARGETED, schema.Noise(), y0, times, below=0.0, **options)
    for given_times, horizon, message in (
        ([], 1.0, "at least one escape time"),
        ([0.0], 1.0, r"times must lie in \(0"),
        ([1.0], 0.0, r"horizon must lie in \(0"),
    ):
        with pytest.raises(ValueError, match=message):
            schema.Escapes.of(given_times, horizon)
