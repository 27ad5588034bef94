"""The stochastic Σ-Model: 500 learners in each of nine environments, against NumPy and SciPy."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from benchmarks import profile
from benchmarks.timing import interleaved, row
from sigma_jax import schema, solvers

RUNS, STEPS, H, AMPLITUDE = 500, 2_000, 0.2, 0.1
"""Learners in an environment, steps of a path, epochs of a step, noise of each component."""
SURFACE = np.repeat([0.2, 0.5, 0.8], 3 * RUNS)
PRESSURE = np.tile(np.repeat([0.35, 0.5, 0.65], RUNS), 3)
"""R^surface and Ω_SL of each of the 4,500 runs."""
PATHS = SURFACE.size
TIMES = np.array([0.0, STEPS * H])
START = (0.05, 0.10, 0.5, 0.1, 0.5, 0.5, 0.5)


def rows() -> Iterator[dict]:
    """Every comparison, as {case, peer, ratio, ours, theirs, unit}."""
    for case, scheme, draw in (
        ("Gaussian noise", solvers.EulerMaruyama(), gaussian),
        ("two-point noise", solvers.WeakEuler(), two_point),
    ):
        run = ensemble(scheme)
        _require_agreement(np.asarray(run()), numpy_paths(STEPS, draw))
        ours, theirs = interleaved(run, partial(numpy_paths, STEPS, draw))
        done = PATHS * STEPS
        yield row(
            f"{case}, 500 × 9 × 2000",
            "NumPy, 4500 at once",
            done / ours,
            done / theirs,
            "path-steps/s",
        )
        if draw is gaussian:
            # A few steps of a few runs stand for the whole: the cost is that of a call.
            few = PATHS * STEPS * _seconds_of_scipy(runs=3, steps=40)
            yield row(
                f"{case}, 500 × 9 × 2000",
                "SciPy, 120 steps extrapolated",
                done / ours,
                done / few,
                "path-steps/s",
            )
    yield from profile.rows()


# Ours ------------------------------------------------------------------------------------------

MODEL = schema.sigma_model()
STOCHASTIC = schema.stochastic_model(MODEL, schema.Noise())


def drift(t, y, environment):
    """The model in one run's environment."""
    model = eqx.tree_at(
        lambda m: (m.environment.r_surface, m.environment.omega_sl), MODEL, environment
    )
    return model(t, y)


def ensemble(scheme: solvers.EulerMaruyama) -> Callable[[], jax.Array]:
    """A compiled function that returns the final states `[7, paths]`."""
    sde = eqx.tree_at(lambda sde: sde.drift, STOCHASTIC, drift)
    y0 = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (PATHS, *leaf.shape)), schema.initial_state()
    )
    keys = jax.random.split(jax.random.key(0), PATHS)
    environments = (jnp.asarray(SURFACE), jnp.asarray(PRESSURE))

    @jax.jit
    def run(y0, keys, environments):
        paths = solvers.simulate_sde_ensemble(
            sde, y0, TIMES, keys=keys, args=environments, steps=STEPS, scheme=scheme
        )
        return jnp.stack([leaf[:, -1].reshape(PATHS) for leaf in jax.tree.leaves(paths.ys)])

    return partial(run, y0, keys, environments)


# Peers -----------------------------------------------------------------------------------------

Draw = Callable[[np.random.Generator, np.ndarray], None]


def gaussian(rng: np.random.Generator, out: np.ndarray) -> None:
    """Brownian increments times the noise's amplitude."""
    rng.standard_normal(out=out)
    out *= AMPLITUDE * np.sqrt(H)


def two_point(rng: np.random.Generator, out: np.ndarray) -> None:
    """±√h times the noise's amplitude, a random bit each."""
    drawn = np.frombuffer(rng.bytes(-(-out.size // 8)), np.uint8)
    out[...] = np.unpackbits(drawn, count=out.size).reshape(out.shape)
    out -= 0.5
    out *= 2.0 * AMPLITUDE * np.sqrt(H)


def numpy_paths(steps: int, draw: Draw) -> np.ndarray:
    """Euler–Maruyama over all runs at once: final states `[7, paths]`.

    Written for speed: no array is allocated in the loop, products of constants are taken out of
    it, and the generator is NumPy's fastest.
    """
    rng = np.random.Generator(np.random.SFC64(0))
    y = np.repeat(np.array(START)[:, None], PATHS, axis=1)
    slope, noise, rest = np.empty_like(y), np.empty_like(y), np.empty_like(y)
    buffers = np.empty(PATHS), np.empty(PATHS)
    rates = 0.3 * SURFACE + 0.24, 0.6 * PRESSURE, 0.05 * PRESSURE + 0.05
    for _ in range(steps):
        draw(rng, noise)
        np.subtract(1.0, y, out=rest)
        array_field(y, rest, rates, slope, *buffers)
        rest *= y
        rest *= noise
        slope *= H
        y += slope
        y += rest
        np.clip(y, 0.0, 1.0, out=y)
    return y


def array_field(y, rest, rates, out, a, b) -> None:
    """The seven equations on `[7, paths]` into `out`; `rest` is 1 − y, `a` and `b` are buffers."""
    depth, sigma, alpha, self_model, planning, inhibition, flexibility = y
    erosion, suppression, distortion = rates
    np.multiply(depth, -4.0, out=a)
    np.exp(a, out=a)
    a *= -3.0
    np.exp(a, out=a)
    a *= 0.35
    a *= rest[0]
    np.multiply(sigma, -0.0035, out=b)
    b += 0.007
    b *= depth
    np.subtract(a, b, out=out[0])

    np.multiply(sigma, -0.24, out=a)
    a += 0.48
    a *= alpha
    a -= suppression
    np.multiply(a, sigma, out=out[1])

    np.multiply(alpha, erosion, out=a)
    np.subtract(0.24, a, out=out[2])

    np.multiply(sigma, 0.05, out=a)
    np.multiply(self_model, distortion, out=b)
    np.subtract(a, b, out=out[3])

    np.subtract(depth, 0.65, out=a)
    smooth_step(a, b, out[4])
    a *= -0.3 / 0.35
    a -= 0.4
    out[4] *= a
    relax(out[4], planning)
    np.subtract(sigma, 0.15, out=a)
    smooth_step(a, b, out[5])
    out[5] *= -0.5
    relax(out[5], inhibition)
    np.subtract(0.3, flexibility, out=out[6])
    out[6] *= 0.05


def smooth_step(distance, buffer, out) -> None:
    """0 below and 1 above a threshold, cubic within ±0.02 of it."""
    np.multiply(distance, 25.0, out=buffer)
    buffer += 0.5
    np.clip(buffer, 0.0, 1.0, out=buffer)
    np.multiply(buffer, -2.0, out=out)
    out += 3.0
    out *= buffer
    out *= buffer


def relax(out, value) -> None:
    """From a target less 0.9 to the rate at which `value` approaches it."""
    out += 0.9
    out -= value
    out *= 0.05


def _seconds_of_scipy(runs: int, steps: int) -> float:
    """Seconds a step of a path: `solve_ivp` from kick to kick, one run after another."""
    rng = np.random.default_rng(0)
    kicks = AMPLITUDE * np.sqrt(H) * rng.standard_normal((runs, steps, 7))
    chosen = np.linspace(0, PATHS - 1, runs).astype(int)

    def field(t, y, surface, pressure):
        rates = 0.3 * surface + 0.24, 0.6 * pressure, 0.05 * pressure + 0.05
        column, out = y[:, None], np.empty((7, 1))
        array_field(column, 1.0 - column, rates, out, np.empty(1), np.empty(1))
        return out[:, 0]

    started = time.perf_counter()
    for run, kicks_of_run in zip(chosen, kicks, strict=True):
        y = np.array(START)
        for kick in kicks_of_run:
            end = solve_ivp(field, (0.0, H), y, args=(SURFACE[run], PRESSURE[run])).y[:, -1]
            y = np.clip(end + end * (1.0 - end) * kick, 0.0, 1.0)
    return (time.perf_counter() - started) / (runs * steps)


# Comparisons -----------------------------------------------------------------------------------


def _require_agreement(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Both programs follow one equation: means in each environment within five standard errors."""
    groups = np.stack([ours, theirs]).reshape(2, 7, 9, RUNS)
    error = np.sqrt(groups.var(axis=-1).sum(axis=0) / RUNS)
    difference = np.abs(groups[0].mean(axis=-1) - groups[1].mean(axis=-1))
    if not (difference <= 5.0 * error + 1e-12).all():
        raise AssertionError("the two programs do not simulate the same equation")
