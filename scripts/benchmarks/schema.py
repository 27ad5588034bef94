"""The seven-variable Σ-Model to t = 400: ours against SciPy, NumPy and a hand-written scan."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.integrate import solve_ivp

from benchmarks.timing import interleaved
from sigma_jax import schema, solvers

HORIZON, RTOL, ATOL = 400.0, 1e-6, 1e-8
# Eight rate constants that vary from trajectory to trajectory, and their centres.
VARIED = ("rho", "epsilon_sigma", "gamma", "zeta_alpha", "nu_m", "xi_m", "lambda_c", "eta_max")
COMPONENTS = (
    "delta",
    "sigma",
    "alpha",
    "self_model",
    "planning",
    "inhibition",
    "flexibility",
)
MODEL = schema.sigma_model(environment=schema.regime("targeted"))
TIMES = np.array([0.0, HORIZON])


def rows() -> Iterator[dict]:
    """Every comparison, as {case, peer, ratio, ours, theirs, unit}."""
    yield from _against_scipy()
    yield from _against_numpy()
    yield from _against_scan()
    yield from _gradients()
    yield _memory()


# Ours ------------------------------------------------------------------------------------------


def parameters(size: int) -> np.ndarray:
    """`[size, 8]` rate constants within ±20 % of the default regime's."""
    centre = np.array([getattr(MODEL.rates, name) for name in VARIED])
    return centre * np.random.default_rng(0).uniform(0.8, 1.2, (size, len(VARIED)))


def field(t, y, varied):
    """The model with its eight rates replaced."""
    model = eqx.tree_at(lambda m: [getattr(m.rates, name) for name in VARIED], MODEL, [*varied])
    return model(t, y)


def starts(size: int) -> schema.State:
    """The default start, `size` times."""
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (size, *leaf.shape)), schema.initial_state()
    )


def finals(ys: schema.State, size: int) -> jax.Array:
    """`[size, 7]` final values."""
    return jnp.stack([getattr(ys, c)[:, -1].reshape(size) for c in COMPONENTS], axis=-1)


def ensemble(method: solvers.Method, size: int, batch_size: int) -> Callable:
    """A compiled function from `[size, 8]` rates to `[size, 7]` final values."""

    if size == 1:
        return jax.jit(lambda rates: _one(rates[0], method)[None])

    @jax.jit
    def run(rates):
        solution = solvers.simulate_ensemble(
            field, starts(size), TIMES, args=tuple(rates.T), method=method, batch_size=batch_size
        )
        return finals(solution.ys, size)

    return run


def _one(rates: jax.Array, method: solvers.Method) -> jax.Array:
    """The seven final values of one trajectory."""
    y0 = schema.initial_state()
    ys = solvers.simulate(field, y0, TIMES, args=tuple(rates), method=method, throw=False).ys
    return jnp.stack([getattr(ys, c)[-1].reshape(()) for c in COMPONENTS])


ADAPTIVE = solvers.Adaptive(rtol=RTOL, atol=ATOL)


# Peers -----------------------------------------------------------------------------------------


def scalar_field(t: float, y, rates) -> tuple:
    """The same equations in plain floats, for SciPy."""
    rho, epsilon, gamma, zeta, nu, xi, decay, eta = rates
    delta, sigma, alpha, self_model, planning, inhibition, flexibility = y
    step_p = min(max(0.5 + 0.5 * (delta - 0.65) / 0.02, 0.0), 1.0)
    step_i = min(max(0.5 + 0.5 * (sigma - 0.15) / 0.02, 0.0), 1.0)
    late = 0.5 - 0.3 * (delta - 0.65) / 0.35
    target_p = 0.9 + (late - 0.9) * step_p * step_p * (3.0 - 2.0 * step_p)
    target_i = 0.9 - 0.5 * step_i * step_i * (3.0 - 2.0 * step_i)
    efficiency = eta * math.exp(-3.0 * math.exp(-4.0 * delta))
    return (
        efficiency * (1.0 - delta) - decay * (1.0 - 0.5 * sigma) * delta * 0.7,
        sigma * (rho * 0.8 * alpha * (1.0 - 0.5 * sigma) - epsilon * 0.5),
        gamma * 0.8 * (1.0 - alpha) - zeta * alpha * 0.2,
        nu * (sigma - self_model) - xi * 0.5 * self_model,
        0.05 * (target_p - planning),
        0.05 * (target_i - inhibition),
        0.05 * (0.3 - flexibility),
    )


def array_field(y, rates, np=np) -> tuple:
    """The same equations on `[7, size]` arrays, for NumPy (and, passed jnp, for the scan)."""
    rho, epsilon, gamma, zeta, nu, xi, decay, eta = rates
    delta, sigma, alpha, self_model, planning, inhibition, flexibility = y
    step_p = np.clip(0.5 + 0.5 * (delta - 0.65) / 0.02, 0.0, 1.0)
    step_i = np.clip(0.5 + 0.5 * (sigma - 0.15) / 0.02, 0.0, 1.0)
    late = 0.5 - 0.3 * (delta - 0.65) / 0.35
    target_p = 0.9 + (late - 0.9) * step_p * step_p * (3.0 - 2.0 * step_p)
    target_i = 0.9 - 0.5 * step_i * step_i * (3.0 - 2.0 * step_i)
    efficiency = eta * np.exp(-3.0 * np.exp(-4.0 * delta))
    return (
        efficiency * (1.0 - delta) - decay * (1.0 - 0.5 * sigma) * delta * 0.7,
        sigma * (rho * 0.8 * alpha * (1.0 - 0.5 * sigma) - epsilon * 0.5),
        gamma * 0.8 * (1.0 - alpha) - zeta * alpha * 0.2,
        nu * (sigma - self_model) - xi * 0.5 * self_model,
        0.05 * (target_p - planning),
        0.05 * (target_i - inhibition),
        0.05 * (0.3 - flexibility),
    )


START = (0.05, 0.10, 0.5, 0.1, 0.5, 0.5, 0.5)


def scipy_solve(rates: np.ndarray, method: str, rtol=RTOL, atol=ATOL) -> np.ndarray:
    """Final values of each row of rates, one `solve_ivp` after another."""
    return np.array(
        [
            solve_ivp(
                scalar_field,
                (0.0, HORIZON),
                START,
                method=method,
                rtol=rtol,
                atol=atol,
                args=(tuple(row),),
            ).y[:, -1]
            for row in rates.tolist()
        ]
    )


def numpy_rk4(rates: np.ndarray, steps: int) -> np.ndarray:
    """Vectorised classical Runge–Kutta over all rows of rates."""
    h = HORIZON / steps
    y = np.repeat(np.array(START)[:, None], len(rates), axis=1)
    columns = rates.T.copy()

    def slope(y):
        return np.stack(np.broadcast_arrays(*array_field(y, columns)))

    for _ in range(steps):
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y.T


def handwritten_scan(size: int, steps: int) -> Callable:
    """Tsit5 in fixed steps as one would write it for this system alone, on every device."""
    tableau = diffrax.Tsit5.tableau
    h = HORIZON / steps

    def slope(y, rates):
        return array_field(y, rates, np=jnp)

    def advance(y, k1, rates):
        stages, y_next = [k1], y
        for row in tableau.a_lower:
            y_next = tuple(
                value + h * sum(float(a) * k[i] for a, k in zip(row, stages, strict=True) if a)
                for i, value in enumerate(y)
            )
            stages.append(slope(y_next, rates))
        return y_next, stages[-1]

    def solve(rates):
        rates = tuple(rates.T)
        y = tuple(jnp.full(rates[0].shape, value) for value in START)

        def step(carry, _):
            y, k = carry
            return advance(y, k, rates), None

        y = jax.lax.scan(step, (y, slope(y, rates)), None, length=steps)[0][0]
        return jnp.stack(y, axis=-1)

    devices = jax.device_count()
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("b",))
    spec = jax.sharding.PartitionSpec("b")
    batches = max(1, size // (1024 * devices)) * devices

    @jax.jit
    def run(rates):
        split = rates.reshape(batches, size // batches, len(VARIED))
        done = jax.shard_map(
            lambda local: jax.lax.map(solve, local),
            mesh=mesh,
            in_specs=spec,
            out_specs=spec,
            check_vma=False,
        )(split)
        return done.reshape(size, len(COMPONENTS))

    return run


# Comparisons -----------------------------------------------------------------------------------


def _row(case: str, peer: str, ours: float, theirs: float, unit: str, ratio: float) -> dict:
    return {
        "case": case,
        "peer": peer,
        "ratio": ratio,
        "ours": ours,
        "theirs": theirs,
        "unit": unit,
    }


def _throughput(case: str, peer: str, ours: float, theirs: float) -> dict:
    return _row(case, peer, ours, theirs, "trajectories/s", ours / theirs)


def _against_scipy() -> Iterator[dict]:
    sample = 16
    for size in (1, 1_000, 100_000):
        rates = parameters(size)
        device_rates = jnp.asarray(rates)
        run = ensemble(ADAPTIVE, size, batch_size=1024)
        few = rates[:sample]
        for method in ("LSODA", "RK45"):
            ours, theirs = interleaved(
                partial(run, device_rates), partial(scipy_solve, few, method), rounds=5
            )
            yield _throughput(
                f"adaptive, batch {size}", f"SciPy {method}, looped", size / ours, len(few) / theirs
            )
    reference = scipy_solve(few, "DOP853", 1e-12, 1e-13)
    ours_error = float(np.abs(np.asarray(run(device_rates))[:sample] - reference).max())
    for method in ("LSODA", "RK45"):
        error = float(np.abs(scipy_solve(few, method) - reference).max())
        yield _row(
            "largest error at t = 400", f"SciPy {method}", ours_error, error, "", error / ours_error
        )


def _against_numpy() -> Iterator[dict]:
    sample = 64
    for size in (1_000, 100_000):
        rates = parameters(size)
        device_rates = jnp.asarray(rates)
        reference = scipy_solve(rates[:sample], "DOP853", 1e-12, 1e-13)
        run = ensemble(ADAPTIVE, size, batch_size=1024)
        ours_error = np.abs(np.asarray(run(device_rates))[:sample] - reference).max()
        steps = next(
            n
            for n in range(100, 4000, 20)
            if np.abs(numpy_rk4(rates[:sample], n) - reference).max() <= ours_error
        )
        ours, theirs = interleaved(
            partial(run, device_rates), partial(numpy_rk4, rates, steps), rounds=3
        )
        yield _throughput(
            f"adaptive, batch {size}", f"NumPy RK4, {steps} steps", size / ours, size / theirs
        )


def _against_scan() -> Iterator[dict]:
    steps = 128
    for size in (1_024, 102_400):
        rates = jnp.asarray(parameters(size))
        run = ensemble(solvers.FixedStep(steps), size, batch_size=1024)
        peer = handwritten_scan(size, steps)
        assert np.abs(run(rates) - peer(rates)).max() < 1e-10  # the same scheme and steps
        ours, theirs = interleaved(partial(run, rates), partial(peer, rates))
        yield _throughput(
            f"{steps} fixed steps, batch {size}", "hand-written scan", size / ours, size / theirs
        )


def _gradients() -> Iterator[dict]:
    for size in (1, 1_000):
        shared = jnp.asarray(parameters(1)[0])
        spread = parameters(size)[:, 0] / parameters(1)[0, 0]

        def loss(rates, method, size=size, spread=jnp.asarray(spread)):
            each = jnp.broadcast_to(rates, (size, len(VARIED))) * spread[:, None]
            if size == 1:
                return jnp.mean(_one(each[0], method) ** 2)
            solution = solvers.simulate_ensemble(
                field, starts(size), TIMES, args=tuple(each.T), method=method
            )
            return jnp.mean(finals(solution.ys, size) ** 2)

        forward_mode = solvers.Adaptive(rtol=RTOL, atol=ATOL, adjoint=diffrax.ForwardMode())
        fixed = solvers.FixedStep(96)
        for name, method, derivative in (
            ("adaptive, forward mode", forward_mode, jax.jacfwd),
            ("adaptive, reverse mode", ADAPTIVE, jax.grad),
            ("96 fixed steps, forward mode", fixed, jax.jacfwd),
            ("96 fixed steps, reverse mode", fixed, jax.grad),
        ):
            value = jax.jit(lambda r, m=method: loss(r, m))
            gradient = jax.jit(lambda r, m=method, d=derivative: d(loss)(r, m))
            ours, theirs = interleaved(partial(gradient, shared), partial(value, shared))
            yield _row(
                f"gradient in 8 rates, batch {size}",
                f"its solve; {name}",
                ours * 1e3,
                theirs * 1e3,
                "ms; ratio is cost",
                ours / theirs,
            )


def _memory() -> dict:
    """Peak resident memory of 10⁵ trajectories, beyond a process that has compiled something."""
    program = "from benchmarks import schema; schema.print_memory()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        env=_environment(),
    )
    before, after = (float(x) for x in done.stdout.split()[-2:])
    return _row(
        "memory, batch 100000",
        "the goal of 2000 MB",
        after - before,
        2000.0,
        "MB",
        (after - before) / 2000.0,
    )


def _environment() -> dict:
    here = Path(__file__).parents[1]
    return os.environ | {"PYTHONPATH": f"{here}:{here.parent}", "JAX_ENABLE_X64": "1"}


def print_memory() -> None:
    """Print the peak resident memory in MB before and after 10⁵ trajectories (Linux)."""
    jax.block_until_ready(jax.jit(lambda x: x * 2)(jnp.arange(4.0)))
    before = _peak_memory()
    size = 100_000
    jax.block_until_ready(ensemble(ADAPTIVE, size, 1024)(jnp.asarray(parameters(size))))
    print(before, _peak_memory())


def _peak_memory() -> float:
    """This process's own peak, in MB; `getrusage` would include its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))
