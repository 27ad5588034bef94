"""ARS(2,3,2), standard row and printed row: order, stability, error estimate, stiffness."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

from sigma_jax.solvers import ARS232, ARS232Printed, Tsit5

GAMMA = 1 - 1 / np.sqrt(2)
NEWTON = optimistix.Newton(rtol=1e-12, atol=1e-12)
BOTH = [ARS232, ARS232Printed]


def split(explicit, implicit):
    return diffrax.MultiTerm(diffrax.ODETerm(explicit), diffrax.ODETerm(implicit))


def nothing(t, y, args):
    return 0.0 * y


def one_step(solver, explicit, implicit, h, y0=1.0):
    terms, y0 = split(explicit, implicit), jnp.asarray(y0)
    state = solver.init(terms, 0.0, h, y0, None)
    return solver.step(terms, jnp.array(0.0), jnp.array(h), y0, None, state, False)


# Prey and predators: each part is explicit in its own way, so the coupling conditions matter too.
LOTKA = split(
    lambda t, y, args: jnp.array([-1.0, 1.0]) * y[0] * y[1],
    lambda t, y, args: jnp.array([1.0, -1.0]) * y,
)


def lotka_errors(solver_class, counts):
    def final(solver, n, terms):
        return diffrax.diffeqsolve(
            terms, solver, 0.0, 8.0, jnp.array(8.0 / n), jnp.array([1.0, 0.5])
        ).ys[-1]

    whole = diffrax.ODETerm(lambda t, y, args: jnp.array([1.0, -1.0]) * y * (1 - y[::-1]))
    exact = final(diffrax.Dopri8(), 4000, whole)
    solver = solver_class(root_finder=NEWTON)
    return np.array([np.abs(final(solver, n, LOTKA) - exact).max() for n in counts])


def test_both_rows_are_of_second_order_and_the_printed_one_is_worse():
    errors = {solver: lotka_errors(solver, (50, 100, 200, 400)) for solver in BOTH}
    for solver in BOTH:
        rates = np.log2(errors[solver][:-1] / errors[solver][1:])
        assert np.all(rates > 1.75), solver
        assert np.all(rates < 2.75), solver
    ratio = errors[ARS232Printed] / errors[ARS232]
    # Measured 20 to 22 on this problem; erratum E-24 says 7 to 60.
    assert np.all(ratio > 7)
    assert np.all(ratio < 60)


@pytest.mark.parametrize(("solver", "cubic"), [(ARS232, 1 / 6), (ARS232Printed, GAMMA**3)])
def test_explicit_stability_polynomial(solver, cubic):
    def growth(z):
        return one_step(solver(root_finder=NEWTON), lambda t, y, a: z * y, nothing, 1.0)[0]

    z = np.linspace(-2.0, 2.0, 9)
    measured = np.polynomial.polynomial.polyfit(z, jax.vmap(growth)(jnp.array(z)), 4)
    np.testing.assert_allclose(measured, [1, 1, 0.5, cubic, 0], atol=1e-12)


def test_stability_interval_is_the_standard_rows():
    """Real-axis limits 2.513 and 2.256 (E-24), as bounds on |growth|."""

    def growth(solver, z):
        step = one_step(solver(root_finder=NEWTON), lambda t, y, a: z * y, nothing, 1.0)
        return abs(float(step[0]))

    for solver, limit in [(ARS232, 2.513), (ARS232Printed, 2.256)]:
        assert growth(solver, -limit + 2e-3) < 1 < growth(solver, -limit - 2e-3)


@pytest.mark.parametrize("solver", BOTH)
@pytest.mark.parametrize("z", [-0.5, -20.0, -1e8])
def test_implicit_part_is_l_stable(solver, z):
    # At z = -1e8 the residual of the stage equation cannot fall below 1e-8 by round-off, so
    # convergence is judged by the iterates alone.
    newton = optimistix.Newton(rtol=1e-10, atol=1e-10, cauchy_termination=False)
    y1, y_error, _, _, _ = one_step(solver(root_finder=newton), nothing, lambda t, y, a: z * y, 1.0)
    expected = (1 + (1 - 2 * GAMMA) * z) / (1 - GAMMA * z) ** 2
    np.testing.assert_allclose(y1, expected, atol=1e-7)
    # The first-order solution has growth 1 + z / (1 - gamma z), so the estimate stays bounded.
    np.testing.assert_allclose(y_error, expected - 1 - z / (1 - GAMMA * z), atol=1e-6)


@pytest.mark.parametrize("solver", BOTH)
def test_error_estimate_is_of_first_order(solver):
    def estimate(h):
        step = one_step(
            solver(root_finder=NEWTON), lambda t, y, a: y * y, lambda t, y, a: -jnp.sin(y), h
        )
        return abs(float(step[1]))

    estimates = np.array([estimate(0.1 / 2**i) for i in range(4)])
    np.testing.assert_allclose(np.log2(estimates[:-1] / estimates[1:]), 2.0, atol=0.15)


@pytest.mark.parametrize("solver", BOTH)
def test_values_between_steps_are_of_second_order(solver):
    def worst(n):
        solution = diffrax.diffeqsolve(
            split(lambda t, y, a: jnp.cos(t) * y, lambda t, y, a: -0.5 * y),
            solver(root_finder=NEWTON), 0.0, 3.0, 3.0 / n, jnp.array(1.0),
            saveat=diffrax.SaveAt(ts=jnp.linspace(0.0, 3.0, 101)),
        )  # fmt: skip
        return np.abs(solution.ys - np.exp(np.sin(solution.ts) - 0.5 * solution.ts)).max()

    assert 1.75 < np.log2(worst(40) / worst(80)) < 2.75


STIFF_RATE = 1000.0
STIFF_STEP = 0.05


def drift(t, y, args):
    return -jnp.sin(t) + 0.0 * y


def relaxation(t, y, args):
    return -STIFF_RATE * (y - jnp.cos(t))


def test_succeeds_on_a_stiff_relaxation_where_an_explicit_solver_explodes():
    """y' = -sin t - 1000 (y - cos t) has the solution cos t after a transient."""
    y0 = jnp.array(0.0)
    imex = diffrax.diffeqsolve(
        split(drift, relaxation), ARS232(root_finder=NEWTON), 0.0, 5.0, STIFF_STEP, y0
    )
    np.testing.assert_allclose(imex.ys[-1], np.cos(5.0), atol=1e-3)
    explicit = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, a: drift(t, y, a) + relaxation(t, y, a)),
        Tsit5(), 0.0, 5.0, STIFF_STEP, y0, throw=False,
    )  # fmt: skip
    assert not abs(explicit.ys[-1]) < 1e6  # huge, infinite or NaN


def adaptive_final(rtol):
    return diffrax.diffeqsolve(
        split(lambda t, y, rate: jnp.sin(y[::-1]), lambda t, y, rate: -rate * y**3),
        ARS232(), 0.0, 1.0, None, jnp.array([1.0, 0.4]), 2.0,
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=1e-3 * rtol),
        max_steps=4096,
    ).ys[-1]  # fmt: skip


def test_adapts_its_steps_with_the_default_root_finder():
    exact = adaptive_final(1e-7)
    for rtol in (1e-4, 1e-5):
        assert np.abs(adaptive_final(rtol) - exact).max() < rtol


def test_gradients_agree_with_differences():
    def final(rate, **options):
        # Constant steps: adaptive ones change with the rate, and differences see that.
        return diffrax.diffeqsolve(
            split(lambda t, y, rate: jnp.sin(y[::-1]), lambda t, y, rate: -rate * y**3),
            ARS232(root_finder=NEWTON), 0.0, 1.0, 0.1, jnp.array([1.0, 0.4]), rate,
            max_steps=16, **options,
        ).ys[-1].sum()  # fmt: skip

    difference = (final(2.0 + 1e-5) - final(2.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.jit(jax.grad(final))(2.0), difference, rtol=1e-7)
    forward = jax.jvp(lambda r: final(r, adjoint=diffrax.ForwardMode()), (2.0,), (1.0,))[1]
    np.testing.assert_allclose(forward, difference, rtol=1e-7)
