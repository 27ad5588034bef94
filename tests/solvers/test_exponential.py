"""`ETDRK4`: its functions against exact arithmetic, its order, its limits and a stiff problem."""

import decimal

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.solvers import ETDRK4, Tsit5
from sigma_jax.solvers.exponential import phi_functions

ARGUMENTS = [-1e8, -700.0, -40.0, -3.7, -0.51, -0.5, -0.49, -1e-3, -1e-9, 0.0, 1e-5, 0.4999, 2.0]


def power(z, k):
    return z**k if k else decimal.Decimal(1)  # decimal refuses zero to the power of zero


def exact_phi(z, order, derivative=False):
    """phi_order(z) or its derivative in 120 digits: the closed form, or the series near zero."""
    with decimal.localcontext() as context:
        context.prec = 120
        z = decimal.Decimal(z)
        if abs(z) < 1:
            factorials = [decimal.Decimal(1)]
            for k in range(1, 90):
                factorials.append(factorials[-1] * k)
            terms = range(80)
            if derivative:
                return float(sum(k * power(z, k - 1) / factorials[k + order] for k in terms if k))
            return float(sum(power(z, k) / factorials[k + order] for k in terms))
        value, slope, factorial = z.exp(), z.exp(), decimal.Decimal(1)
        for j in range(order):
            slope = slope / z - (value - 1 / factorial) / z**2
            value = (value - 1 / factorial) / z
            factorial *= j + 1
        return float(slope if derivative else value)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_phi_functions_and_derivatives_in_exact_arithmetic(order):
    z = jnp.array(ARGUMENTS)
    values = phi_functions(z)[order - 1]
    slopes = jax.vmap(jax.grad(lambda z: phi_functions(z)[order - 1]))(z)
    np.testing.assert_allclose(values, [exact_phi(x, order) for x in ARGUMENTS], rtol=1e-12)
    np.testing.assert_allclose(
        slopes, [exact_phi(x, order, derivative=True) for x in ARGUMENTS], rtol=1e-12
    )


def field(t, y, args):
    """A stiff or slow relaxation of `fast` onto a function of `slow`, rate in `args`."""
    return {
        "slow": jnp.cos(t) * y["slow"] - 0.2 * jnp.sum(y["fast"]),
        "fast": -args * y["fast"] + args * jnp.sin(y["slow"]) + y["slow"] ** 2,
    }


def rate(t, y, args):
    return {"slow": 0.0, "fast": args}


def varying_rate(t, y, args):
    """Neither the true rate nor constant: order four must survive it."""
    return {"slow": 1.0 + y["slow"] ** 2, "fast": args * (1.0 + 0.5 * jnp.sin(3.0 * t))}


START = {"slow": jnp.array(1.0), "fast": jnp.array([0.3, -0.2])}


def solve(solver, dt0, args=2.0, t0=0.0, t1=2.0, y0=START, **options):
    # Arrays, not Python floats: those would be compiled in, and every value compiled anew.
    t0, t1, dt0 = (None if t is None else jnp.asarray(t) for t in (t0, t1, dt0))
    args = jnp.asarray(args)
    return diffrax.diffeqsolve(diffrax.ODETerm(field), solver, t0, t1, dt0, y0, args, **options)


def distance(a, b):
    differences = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), a, b)
    return float(max(jax.tree.leaves(differences)))


REFERENCE = {
    "stepsize_controller": diffrax.PIDController(rtol=1e-12, atol=1e-13),
    "saveat": diffrax.SaveAt(ts=jnp.linspace(0.0, 2.0, 41)),
}


@pytest.mark.parametrize("relaxation_rate", [rate, varying_rate])
def test_is_of_fourth_order_and_third_between_steps(relaxation_rate):
    reference = solve(diffrax.Dopri8(), None, **REFERENCE)
    ends, between = [], []
    for n in (7, 14, 28):
        solution = solve(ETDRK4(relaxation_rate), 2.0 / n, saveat=diffrax.SaveAt(ts=reference.ts))
        last = jax.tree.map(lambda y: y[-1], (solution.ys, reference.ys))
        ends.append(distance(*last))
        between.append(distance(solution.ys, reference.ys))
    for errors, order in ((ends, 4), (between, 3)):
        rates = np.log2(np.array(errors[:-1]) / errors[1:])
        assert np.all(rates > order - 0.25)
    assert np.all(rates < 4.75)


def test_is_of_fourth_order_backwards_in_time():
    """The rate must be asked for at the true time, and growth backwards is still exact."""
    there = solve(diffrax.Dopri8(), None, **REFERENCE).ys
    errors = []
    for n in (20, 40):
        end = jax.tree.map(lambda y: y[-1], there)
        back = solve(ETDRK4(varying_rate), -2.0 / n, t0=2.0, t1=0.0, y0=end).ys
        errors.append(distance(jax.tree.map(lambda y: y[-1], back), START))
    assert 3.75 < np.log2(errors[0] / errors[1]) < 4.75


def classical_runge_kutta(t, y, h, args):
    def move(y, k, h):
        return jax.tree.map(lambda y, k: y + h * k, y, k)

    k_1 = field(t, y, args)
    k_2 = field(t + h / 2, move(y, k_1, h / 2), args)
    k_3 = field(t + h / 2, move(y, k_2, h / 2), args)
    k_4 = field(t + h, move(y, k_3, h), args)
    return jax.tree.map(
        lambda y, a, b, c, d: y + h / 6 * (a + 2 * b + 2 * c + d), y, k_1, k_2, k_3, k_4
    )


def one_step(solver, h, args=2.0, y0=START, term=diffrax.ODETerm(field)):
    t0, t1 = jnp.array(0.0), jnp.array(h)
    return solver.step(term, t0, t1, y0, args, solver.init(term, t0, t1, y0, args), False)


def test_without_relaxation_it_is_the_classical_method():
    y1 = one_step(ETDRK4(lambda t, y, args: jax.tree.map(jnp.zeros_like, y)), 0.3)[0]
    assert distance(y1, classical_runge_kutta(0.0, START, 0.3, 2.0)) < 1e-15


def test_error_estimate_is_of_third_order():
    zero = jax.tree.map(jnp.zeros_like, START)
    estimates = [distance(one_step(ETDRK4(rate), 0.2 / 2**i)[1], zero) for i in range(3)]
    rates = np.log2(np.array(estimates[:-1]) / estimates[1:])
    np.testing.assert_allclose(rates, 4.0, atol=0.3)


def test_linear_relaxation_is_exact_and_rest_stays_at_rest():
    term = diffrax.ODETerm(lambda t, y, args: -args * (y - 0.7))
    solver = ETDRK4(lambda t, y, args: args)
    for stiffness in (0.1, 30.0, 1e6):
        y1 = one_step(solver, 0.5, jnp.array(stiffness), jnp.array(2.0), term)[0]
        np.testing.assert_allclose(y1, 0.7 + 1.3 * np.exp(-0.5 * stiffness), rtol=1e-9)
        assert one_step(solver, 0.5, jnp.array(stiffness), jnp.array(0.7), term)[0] == 0.7


def test_succeeds_on_a_stiff_relaxation_where_an_explicit_solver_explodes():
    """Rate 1000, steps of 0.05: a product of 50, twenty times what an explicit method bears."""
    saveat = diffrax.SaveAt(ts=jnp.linspace(0.0, 1.9, 41))
    exact = solve(diffrax.Dopri8(), None, 1000.0, **REFERENCE | {"saveat": saveat})  # small steps
    exponential = solve(ETDRK4(rate), 0.05, 1000.0, saveat=saveat)
    # Between steps too. What is left is `slow` seeing the transient of `fast`, of length 0.001,
    # only through the stages of the first step: h / 6 times the change of its derivative.
    assert distance(exponential.ys, exact.ys) < 1e-2
    explicit = solve(Tsit5(), 0.05, 1000.0, throw=False)
    assert not abs(explicit.ys["fast"][-1, 0]) < 1e6  # huge, infinite or NaN


def test_adapts_its_steps():
    reference = solve(diffrax.Dopri8(), None, **REFERENCE)
    for rtol in jnp.array([1e-4, 1e-7]):
        controller = diffrax.PIDController(rtol=rtol, atol=1e-2 * rtol)
        solution = solve(
            ETDRK4(rate), None, stepsize_controller=controller, saveat=REFERENCE["saveat"]
        )
        assert distance(solution.ys, reference.ys) < 10 * rtol


def test_gradients_agree_with_differences():
    def final(args, **options):
        return solve(ETDRK4(rate), 0.1, args, t1=0.5, max_steps=8, **options).ys["fast"][0, 1]

    @jax.jit
    def forward(args):
        """The value and its derivative."""
        one = jnp.ones_like(args)
        return jax.jvp(lambda a: final(a, adjoint=diffrax.ForwardMode()), (args,), (one,))

    reverse = jax.jit(jax.grad(final))
    for stiffness in (2.0, 1000.0):
        step = 1e-4 * stiffness
        difference = forward(stiffness + step)[0] - forward(stiffness - step)[0]
        derivative = forward(stiffness)[1]
        np.testing.assert_allclose(derivative, difference / (2 * step), rtol=1e-6)
        np.testing.assert_allclose(reverse(stiffness), derivative, rtol=1e-9)


def test_says_what_is_wrong_with_a_rate():
    with pytest.raises(ValueError, match="`relaxation_rate` must be a function"):
        ETDRK4(3.0)
    with pytest.raises(ValueError, match="tree structure of y"):
        solve(ETDRK4(lambda t, y, args: 1.0), 0.1)
