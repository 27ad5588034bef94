"""`Tsit5` against diffrax's own, which is the oracle, and against the clock of the compiler."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optimistix
import pytest

from sigma_jax.solvers import Tsit5

IDENTITY = 1e-12
TIMES = jnp.linspace(0.0, 4.0, 9)
ADAPTIVE = diffrax.PIDController(rtol=1e-7, atol=1e-9)
STEPS = {
    "constant": diffrax.ConstantStepSize(),
    "adaptive, jump": diffrax.ClipStepSizeController(ADAPTIVE, jump_ts=jnp.array([1.3])),
}


def pendulum(t, y, args):
    """A forced pendulum beside a vector, so that leaves differ in shape."""
    return {
        "angle": y["speed"],
        "speed": -args * jnp.sin(y["angle"]) + 0.2 * jnp.cos(t),
        "trail": y["angle"] - 0.3 * y["trail"],
    }


def kicked(t, y, args):
    """The pendulum with a force that jumps at the time that one of the controllers knows of."""
    field = pendulum(t, y, args)
    return field | {"speed": field["speed"] + jnp.where(t < 1.3, 1.0, -0.5)}


def decay(t, y, args):
    return -y


START = {"angle": jnp.array(1.0), "speed": jnp.array(0.2), "trail": jnp.array([0.1, 0.5])}


def solve(solver, y0=START, args=1.5, t0=0.0, t1=4.0, dt0=0.05, field=pendulum, **options):
    # Arrays, not Python floats: those would be compiled in, and every step size compiled anew.
    t0, t1, dt0 = (jnp.asarray(t) for t in (t0, t1, dt0))
    options = {"max_steps": 512} | options
    return diffrax.diffeqsolve(diffrax.ODETerm(field), solver, t0, t1, dt0, y0, args, **options)


def assert_close(ours, theirs, atol=IDENTITY):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), ours, theirs)


@pytest.mark.parametrize("steps", STEPS)
def test_agrees_with_diffrax_at_saved_times(steps):
    options = {
        "stepsize_controller": STEPS[steps],
        "saveat": diffrax.SaveAt(ts=TIMES, t1=True),
        "field": kicked if "jump" in steps else pendulum,
    }
    ours, theirs = solve(Tsit5(), **options), solve(diffrax.Tsit5(), **options)
    assert_close(ours.ys, theirs.ys)
    assert ours.stats["num_steps"] == theirs.stats["num_steps"]


def test_agrees_in_dense_output_and_backwards_in_time():
    options = {"t0": 4.0, "t1": 0.0, "dt0": -0.05, "saveat": diffrax.SaveAt(dense=True)}
    ours, theirs = solve(Tsit5(), **options), solve(diffrax.Tsit5(), **options)
    assert_close(ours.evaluate(1.234), theirs.evaluate(1.234))


def test_agrees_under_vmap():
    """At saved times too, where every trajectory takes steps of its own."""
    angles = jnp.linspace(-1.0, 2.0, 5)
    options = {
        "stepsize_controller": ADAPTIVE,
        "saveat": diffrax.SaveAt(ts=TIMES, t1=True),
    }

    @eqx.filter_jit
    def many(solver):
        def one(angle):
            solution = solve(solver, START | {"angle": angle}, **options)
            return solution.ys, solution.stats["num_steps"]

        return jax.vmap(one)(angles)

    (ours, our_steps), (theirs, their_steps) = many(Tsit5()), many(diffrax.Tsit5())
    assert_close(ours, theirs)
    np.testing.assert_array_equal(our_steps, their_steps)
    assert np.ptp(our_steps) > 0


def final_angle(args, solver, **options):
    return solve(solver, args=args, max_steps=128, **options).ys["angle"][0]


def test_gradients_agree_with_differences():
    at = jnp.asarray(1.5)
    final = jax.jit(lambda a: final_angle(a, Tsit5()))
    reverse = jax.jit(jax.grad(final))(at)
    forward = jax.jit(jax.jacfwd(lambda a: final_angle(a, Tsit5(), adjoint=diffrax.ForwardMode())))(
        at
    )
    difference = (final(at + 1e-5) - final(at - 1e-5)) / 2e-5
    np.testing.assert_allclose(reverse, difference, rtol=1e-8)
    np.testing.assert_allclose(forward, reverse, rtol=1e-12)


def test_gradients_agree_with_diffrax_in_adaptive_steps_across_a_jump():
    """Adaptive steps depend on the argument, so differences would be noisy."""
    options = {
        "stepsize_controller": STEPS["adaptive, jump"],
        "field": kicked,
        "adjoint": diffrax.ForwardMode(),
    }
    ours, theirs = (
        jax.jit(jax.jacfwd(lambda a, solver=solver: final_angle(a, solver, **options)))(
            jnp.asarray(1.5)
        )
        for solver in (Tsit5(), diffrax.Tsit5())
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-10)


def test_agrees_on_events():
    event = diffrax.Event(
        lambda t, y, args, **kwargs: y["angle"], optimistix.Newton(rtol=1e-11, atol=1e-11)
    )
    options = {"event": event, "stepsize_controller": ADAPTIVE}
    ours, theirs = solve(Tsit5(), **options), solve(diffrax.Tsit5(), **options)
    assert ours.result == diffrax.RESULTS.event_occurred
    assert 0 < ours.ts[0] < 4
    assert_close((ours.ts, ours.ys), (theirs.ts, theirs.ys))


def test_a_jump_recomputes_the_stored_derivative():
    term, solver = diffrax.ODETerm(decay), Tsit5()
    t0, t1, y0 = jnp.array(0.0), jnp.array(0.1), jnp.array(2.0)
    right = solver.init(term, t0, t1, y0, None)
    wrong = jnp.array(100.0)

    def y1(state, made_jump):
        return solver.step(term, t0, t1, y0, None, state, made_jump)[0]

    np.testing.assert_allclose(y1(right, False), 2 * np.exp(-0.1), rtol=1e-8)
    assert abs(y1(wrong, False) - y1(right, False)) > 0.5
    for jump in (True, jnp.array(True)):
        assert y1(wrong, jump) == y1(right, False)


def test_evaluates_the_field_six_times_a_step():
    """First same as last; under vmap too, where a batched `cond` would evaluate both sides."""
    evaluations = []

    def field(t, y, args):
        jax.debug.callback(lambda: evaluations.append(1))
        return -y

    solve(Tsit5(), jnp.array(1.0), field=field, t1=1.0, dt0=0.1).ys.block_until_ready()
    jax.effects_barrier()
    assert len(evaluations) == 1 + 6 * 10


def test_saving_the_end_alone_stacks_no_stages():
    def compiled(saveat):
        final = jax.jit(lambda a: solve(Tsit5(), args=a, saveat=saveat).ys)
        return final.lower(1.5).compile().as_text()

    assert "concatenate(" not in compiled(diffrax.SaveAt(t1=True))
    assert "concatenate(" in compiled(diffrax.SaveAt(ts=TIMES))  # the check can fail


def test_is_of_fifth_order():
    exact = np.exp(-1.0)
    errors = []
    for n in (4, 8, 16, 32):
        y1 = solve(Tsit5(), jnp.array(1.0), t1=1.0, dt0=1 / n, field=decay).ys[0]
        errors.append(abs(float(y1) - exact))
    rates = np.log2(np.array(errors[:-1]) / errors[1:])
    assert np.all(rates > 4.75)
    assert np.all(rates < 5.75)


def test_keeps_single_precision():
    y0 = jnp.array(1.0, jnp.float32)
    start, end, step = (jnp.array(x, jnp.float32) for x in (0.0, 1.0, 0.1))
    final = solve(Tsit5(), y0, t0=start, t1=end, dt0=step, field=decay).ys
    assert final.dtype == jnp.float32
    np.testing.assert_allclose(final, np.exp(-1.0), rtol=1e-6)
