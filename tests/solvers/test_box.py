"""`Boxed`: states stay inside, projections are counted, gradients and the inner solver survive."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

from sigma_jax.solvers import ARS232, ETDRK4, Boxed, BoxReport, Tsit5


def grow(t, y, args):
    """y' = args: leaves any box, at a rate known in advance."""
    return args + 0.0 * y


def swing(t, y, args):
    """A harmonic oscillator of unit amplitude: leaves [-1/2, 1/2] and comes back."""
    return jnp.stack([y[1], -y[0]])


def zero_rate(t, y, args):
    return jnp.zeros_like(y)


NEWTON = optimistix.Newton(rtol=1e-10, atol=1e-10)
SOLVERS = {
    "Tsit5": Tsit5(),
    "diffrax Tsit5": diffrax.Tsit5(),
    "ETDRK4": ETDRK4(zero_rate),
    "ARS232": ARS232(root_finder=NEWTON),
}


def solve(solver, field, y0, dt0=0.25, t1=2.0, args=None, saveat=None, **options):
    terms = diffrax.ODETerm(field)
    if isinstance(solver, diffrax.AbstractImplicitSolver):
        terms = diffrax.MultiTerm(terms, diffrax.ODETerm(lambda t, y, args: 0.0 * y))
    if saveat is None:
        saveat = diffrax.SaveAt(t1=True, solver_state=True)
    return diffrax.diffeqsolve(
        terms, solver, 0.0, t1, dt0, jnp.asarray(y0), args, saveat=saveat, **options
    )


@pytest.mark.parametrize("name", SOLVERS)
def test_projects_and_reports(name):
    """From 0 at rate 1 the box [0, 1] is reached at t = 1; four more steps of 1/4 are projected."""
    solution = solve(Boxed(SOLVERS[name], 0.0, 1.0), grow, 0.0, args=1.0)
    report = solution.solver_state.report
    assert isinstance(report, BoxReport)
    assert solution.ys[0] == 1.0
    assert report.count == 4
    np.testing.assert_allclose(report.excess, 0.25, atol=1e-12)


@pytest.mark.parametrize("name", SOLVERS)
def test_is_transparent_inside_the_box(name):
    saveat = diffrax.SaveAt(ts=jnp.linspace(0.0, 2.0, 7), solver_state=True)
    boxed = solve(Boxed(SOLVERS[name], -5.0, np.inf), swing, [1.0, 0.0], saveat=saveat)
    plain = solve(SOLVERS[name], swing, [1.0, 0.0], saveat=saveat)
    np.testing.assert_allclose(boxed.ys, plain.ys, rtol=0, atol=1e-14)
    assert boxed.solver_state.report.count == 0
    assert boxed.solver_state.report.excess == 0


def test_saved_values_never_leave_and_open_sides_stay_open():
    """Steps of 1/4 overshoot between grid points; saved and dense values are clipped as well."""
    lower, upper = jnp.array([-0.5, -jnp.inf]), jnp.array([0.5, jnp.inf])
    times = jnp.linspace(0.0, 7.0, 200)
    saveat = diffrax.SaveAt(ts=times, dense=True)
    solution = solve(
        Boxed(Tsit5(), lower, upper), swing, [0.0, 1.0], t1=7.0, saveat=saveat, max_steps=64
    )
    for values in (solution.ys, jax.vmap(solution.evaluate)(times)):
        assert np.abs(values[:, 0]).max() == 0.5
        assert np.abs(values[:, 1]).max() > 0.9
    # Increments of the interpolation are those of its values.
    np.testing.assert_allclose(
        solution.evaluate(0.1, 0.3), solution.evaluate(0.3) - solution.evaluate(0.1), atol=1e-15
    )


def wave(t, y, args):
    """From 0.9 above 1, and inside again before t = 2."""
    return 3.0 * jnp.cos(3.0 * t) - y


@pytest.mark.parametrize("name", ["Tsit5", "diffrax Tsit5", "ETDRK4"])
def test_the_inner_solver_forgets_its_derivative_after_a_projection(name):
    solver, term = SOLVERS[name], diffrax.ODETerm(wave)

    def by_hand(y, forget):
        state = solver.init(term, jnp.array(0.0), jnp.array(0.25), y, None)
        for i in range(8):
            t0, t1 = jnp.array(i / 4), jnp.array((i + 1) / 4)
            y, _, _, state, _ = solver.step(term, t0, t1, y, None, state, forget and i > 0)
            y = jnp.minimum(y, 1.0)
        return y

    solution = solve(Boxed(solver, -jnp.inf, 1.0), wave, 0.9)
    assert solution.solver_state.report.count > 0
    assert solution.ys[0] < 0.9
    np.testing.assert_allclose(solution.ys[0], by_hand(jnp.array(0.9), True), atol=1e-14)
    assert abs(by_hand(jnp.array(0.9), False) - solution.ys[0]) > 1e-6  # the check can fail


def test_rejected_steps_are_not_counted():
    controller = diffrax.PIDController(rtol=1e-6, atol=1e-8)

    def burst(t, y, args):
        return 5.0 * jnp.exp(-(((t - 1.0) / 0.2) ** 2)) - 0.1 * y

    solution = solve(Boxed(Tsit5(), 0.0, 1.0), burst, 0.5, dt0=1.0, stepsize_controller=controller)
    state = solve(
        Boxed(Tsit5(), 0.0, 1.0), burst, 0.5, dt0=1.0, stepsize_controller=controller,
        saveat=diffrax.SaveAt(steps=True, solver_state=True), max_steps=256,
    )  # fmt: skip
    on_the_face = int(jnp.sum(state.ys[: int(state.stats["num_accepted_steps"])] == 1.0))
    assert solution.stats["num_rejected_steps"] > 0
    assert 0 < solution.solver_state.report.count == on_the_face


def test_round_off_is_projected_but_not_counted():
    just_above = 1.0 + 2 * np.finfo(float).eps
    solution = solve(Boxed(Tsit5(), 0.0, 1.0), grow, just_above, args=0.0)
    assert solution.ys[0] == 1.0
    assert solution.solver_state.report.count == 0
    far_above = solve(Boxed(Tsit5(), 0.0, 1.0), grow, 1.0 + 1e-12, args=0.0)
    assert far_above.solver_state.report.count == 1
    assert far_above.solver_state.report.excess > 0


def test_not_a_number_stays_not_a_number():
    solution = solve(Boxed(Tsit5(), 0.0, 1.0), grow, 0.5, args=jnp.nan, throw=False)
    assert np.isnan(solution.ys[0])


def moved_and_unmoved(p, solver, **options):
    """Derivatives: y0' = p stays inside, so t1 = 1/2; y1' = 10 p is projected, so zero."""
    rates = p * jnp.array([1.0, 10.0])
    boxed = Boxed(solver, 0.0, 1.0)
    return solve(boxed, grow, [0.0, 0.0], t1=0.5, args=rates, max_steps=4, **options).ys[0]


@pytest.mark.parametrize("name", SOLVERS)
def test_forward_mode(name):
    def final(p):
        return moved_and_unmoved(p, SOLVERS[name], adjoint=diffrax.ForwardMode())

    np.testing.assert_allclose(jax.jacfwd(final)(1.0), [0.5, 0.0], atol=1e-10)


def test_reverse_mode():
    gradient = jax.jit(jax.jacrev(lambda p: moved_and_unmoved(p, Tsit5())))(1.0)
    np.testing.assert_allclose(gradient, [0.5, 0.0], atol=1e-10)


def test_no_half_gradient_on_a_face():
    """A state that rests on its bound is inside: its derivative with respect to itself is one."""

    def final(y0):
        boxed, mode = Boxed(Tsit5(), 0.0, 1.0), diffrax.ForwardMode()
        return solve(boxed, grow, y0, t1=0.5, args=0.0, adjoint=mode).ys[0]

    assert jax.jacfwd(final)(1.0) == 1.0


def test_batches_are_counted_one_by_one():
    rates = jnp.array([0.0, 0.6, 1.0, -1.0])
    solution = jax.vmap(lambda p: solve(Boxed(Tsit5(), 0.0, 1.0), grow, 0.0, args=p))(rates)
    np.testing.assert_array_equal(solution.solver_state.report.count, [0, 2, 4, 8])


def test_bounds_may_follow_the_structure_of_the_state():
    y0 = {"share": jnp.array(0.9), "amounts": jnp.array([0.0, 2.0])}
    upper = {"share": 1.0, "amounts": jnp.array([1.0, jnp.inf])}
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: jax.tree.map(jnp.ones_like, y)),
        Boxed(Tsit5(), 0.0, upper), 0.0, 2.0, 0.5, y0,
    )  # fmt: skip
    np.testing.assert_allclose(solution.ys["share"], [1.0])
    np.testing.assert_allclose(solution.ys["amounts"], [[1.0, 4.0]])


def test_implicit_solver_takes_the_controllers_tolerances():
    controller = diffrax.PIDController(rtol=1e-3, atol=1e-5)
    solution = solve(Boxed(ARS232(), 0.0, 1.0), grow, 0.0, args=1.0, stepsize_controller=controller)
    assert solution.ys[0] == 1.0


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (1.0, 0.0, "must not exceed"),
        (0.0, np.nan, "must not exceed"),
        (np.zeros(2), np.array([1.0, -1.0]), "must not exceed"),
        ({"a": 0.0}, {"b": 1.0}, "same tree structure"),
    ],
)
def test_says_what_is_wrong_with_bounds(lower, upper, message):
    with pytest.raises(ValueError, match=message):
        Boxed(Tsit5(), lower, upper)


def test_says_that_a_solver_is_needed():
    with pytest.raises(ValueError, match="`solver` must be a diffrax solver"):
        Boxed(0.0, 0.0, 1.0)
