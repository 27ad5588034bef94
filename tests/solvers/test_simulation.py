"""`simulate`, `simulate_ensemble`, `advance_until`: right values, same bits, honest failures."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax import solvers

METHODS = {"adaptive": solvers.Adaptive(), "fixed": solvers.FixedStep(8)}
TIMES = np.linspace(0.0, 4.0, 9)


def pendulum(t, y, args):
    """A damped pendulum with a pytree state and pytree parameters."""
    force = jnp.sin(args["drive"] * t)
    return {"angle": y["speed"], "speed": force - jnp.sin(y["angle"]) - 0.1 * y["speed"]}


def decay(t, y, args):
    return -args * y


def forced(t, y, args):
    """One nonlinear equation, in a pytree."""
    return {"level": jnp.cos(args["drive"] * t) * y["level"] - y["level"] ** 2}


def explode(t, y, args):
    """y' = a y²: from 1, infinite at t = 1/a."""
    return args * y**2


def saw(t, y, args):
    """Slope 1 until t = 1, slope −2 until t = 2.5, then slope 0.5; continuous in between."""
    return jnp.where(t < 1.0, 1.0, jnp.where(t < 2.5, -2.0, 0.5)) + 0.0 * y


def ramp(t, y, args):
    return args + 0.0 * y


START = {"angle": jnp.array(1.0), "speed": jnp.array(0.0)}
DRIVE = {"drive": jnp.array(0.7)}


@pytest.fixture(scope="module", params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.fixture(scope="module")
def pendulum_runs():
    return {
        name: solvers.simulate(pendulum, START, TIMES, args=DRIVE, method=method)
        for name, method in METHODS.items()
    }


# One trajectory ---------------------------------------------------------------------------------


def test_adaptive_and_fixed_steps_agree_with_scipy(pendulum_runs):
    from scipy.integrate import solve_ivp

    def rhs(t, y):
        return [y[1], np.sin(0.7 * t) - np.sin(y[0]) - 0.1 * y[1]]

    exact = solve_ivp(rhs, (0, 4), [1.0, 0.0], t_eval=TIMES, rtol=1e-11, atol=1e-12).y
    for solution in pendulum_runs.values():
        np.testing.assert_allclose(solution.ys["angle"], exact[0], atol=2e-5)
        np.testing.assert_allclose(solution.ys["speed"], exact[1], atol=2e-5)


def test_the_solution_starts_at_the_start_and_says_what_it_did(pendulum_runs):
    for name, solution in pendulum_runs.items():
        assert solution.ys["angle"].shape == TIMES.shape
        assert solution.ys["angle"][0] == 1.0
        np.testing.assert_array_equal(solution.ts, TIMES)
        assert bool(solution.success)
        assert solution.box is None
        assert int(solution.steps) == 64 if name == "fixed" else 5 < int(solution.steps) < 100


def test_tighter_tolerances_give_smaller_errors():
    def error(rtol):
        method = solvers.Adaptive(rtol=jnp.array(rtol), atol=jnp.array(rtol))
        run = solvers.simulate(decay, 1.0, (0.0, 2.0), args=jnp.array(1.0), method=method)
        return abs(float(run.ys[-1]) - np.exp(-2.0))

    assert error(1e-9) < 1e-8 < error(1e-3) < 1e-2


def test_fixed_tsit5_has_order_five():
    def error(steps):
        run = solvers.simulate(decay, 1.0, (0.0, 2.0), args=1.0, method=solvers.FixedStep(steps))
        return abs(float(run.ys[-1]) - np.exp(-2.0))

    order = np.log2(error(32) / error(64))
    np.testing.assert_allclose(order, 5.0, atol=0.4)


def test_a_run_cut_at_a_restart_and_continued_gives_the_same_bits(method):
    def run(y, times):
        return solvers.simulate(forced, y, times, args=DRIVE, method=method, segment=4)

    whole = run({"level": jnp.array(0.3)}, TIMES)
    first = run({"level": jnp.array(0.3)}, TIMES[:5])
    second = run({"level": first.ys["level"][-1]}, TIMES[4:])
    joined = np.concatenate([first.ys["level"], second.ys["level"][1:]])
    np.testing.assert_array_equal(joined, whole.ys["level"])
    assert int(whole.steps) == int(first.steps) + int(second.steps)


@pytest.mark.parametrize("name", METHODS)
def test_a_jump_on_the_grid_costs_no_accuracy(name):
    times = np.array([0.0, 1.0, 2.0, 2.5, 4.0])
    run = solvers.simulate(saw, 0.0, times, method=METHODS[name], jump_times=(1.0, 2.5))
    np.testing.assert_allclose(run.ys, [0.0, 1.0, -1.0, -2.0, -1.25], atol=1e-12)


def test_adaptive_steps_onto_a_jump_between_saved_times():
    run = solvers.simulate(diffrax.ODETerm(saw), 0.0, (0.0, 4.0), jump_times=(1.0, 2.5))
    np.testing.assert_allclose(run.ys[-1], -1.25, atol=1e-12)


def test_fixed_steps_refuse_a_jump_between_saved_times():
    with pytest.raises(ValueError, match="jump time"):
        solvers.simulate(saw, 0.0, (0.0, 2.0, 4.0), method=solvers.FixedStep(2), jump_times=(1.0,))


def test_fixed_steps_ignore_jumps_outside_the_run():
    run = solvers.simulate(
        ramp, 0.0, (0.0, 1.0), args=1.0, method=solvers.FixedStep(2), jump_times=(-3.0, 7.0)
    )
    np.testing.assert_allclose(run.ys[-1], 1.0, atol=1e-14)


@pytest.mark.parametrize(
    ("times", "options", "match"),
    [
        ((0.0,), {}, "at least two"),
        (1.0, {}, "at least two"),
        ((0.0, 2.0, 1.0), {}, "increase"),
        ((0.0, 1.0, 1.0), {}, "increase"),
        ((0.0, np.nan), {}, "finite"),
        ((0.0, np.inf), {}, "finite"),
        ((0.0, 1.0, 2.0, 3.0), {"segment": 2}, "segment must divide the 3 intervals"),
        ((0.0, 1.0), {"segment": 0}, "segment"),
    ],
)
def test_bad_times_and_segments_are_refused(times, options, match):
    with pytest.raises(ValueError, match=match):
        solvers.simulate(decay, 1.0, times, args=1.0, **options)
    with pytest.raises(ValueError, match=match):
        solvers.simulate_ensemble(decay, jnp.ones(2), times, args=jnp.ones(2), **options)


@pytest.mark.parametrize("steps", [0, -1, 2.0, "3"])
def test_fixed_step_needs_a_positive_integer(steps):
    with pytest.raises(ValueError, match="positive integer"):
        solvers.FixedStep(steps)


def test_adaptive_needs_positive_tolerances():
    with pytest.raises(ValueError, match="rtol and atol must be positive"):
        solvers.Adaptive(rtol=0.0)


def test_failures_raise_unless_told_otherwise():
    method = solvers.FixedStep(8)
    run = solvers.simulate(explode, 1.0, (0.0, 2.0, 4.0), args=5.0, method=method, throw=False)
    assert not bool(run.success)
    with pytest.raises(eqx.EquinoxRuntimeError, match="the simulation failed"):
        solvers.simulate(explode, 1.0, (0.0, 2.0, 4.0), args=5.0, method=method)


def test_running_out_of_steps_raises_although_the_last_state_is_finite():
    method = solvers.Adaptive(max_steps=4)
    with pytest.raises(eqx.EquinoxRuntimeError, match="the simulation failed"):
        solvers.simulate(decay, 1.0, (0.0, 100.0), args=1.0, method=method)


def test_gradients_by_saved_time_and_parameter_with_fixed_steps():
    """y = e^{-ax}: dy/da = −x y and dy/dx = −a y."""

    def last(rate, end):
        times = jnp.stack([jnp.zeros(()), end])
        return solvers.simulate(decay, 1.0, times, args=rate, method=solvers.FixedStep(20)).ys[-1]

    by_rate, by_end = jax.jit(jax.grad(last, argnums=(0, 1)))(jnp.array(0.5), jnp.array(2.0))
    np.testing.assert_allclose(by_rate, -2.0 * np.exp(-1.0), rtol=1e-6)
    np.testing.assert_allclose(by_end, -0.5 * np.exp(-1.0), rtol=1e-6)


def test_boxed_reports_count_and_excess(method):
    """From 0 at rate 1 the box [0, 1] is reached at t = 1 of 2."""
    method = eqx.tree_at(lambda m: m.solver, method, solvers.Boxed(solvers.Tsit5()))
    times = np.linspace(0.0, 2.0, 3)
    out = solvers.simulate(ramp, 0.0, times, args=jnp.array(1.0), method=method)
    assert float(out.ys[-1]) == 1.0
    if isinstance(method, solvers.FixedStep):
        assert int(out.box.count) == 8
        np.testing.assert_allclose(out.box.excess, 0.125, atol=1e-12)
    else:
        assert int(out.box.count) >= 1
        assert float(out.box.excess) > 0.01
    inside = solvers.simulate(ramp, 0.0, times, args=jnp.array(0.25), method=method)
    assert int(inside.box.count) == 0
    assert float(inside.box.excess) == 0.0
    np.testing.assert_allclose(inside.ys[-1], 0.5, atol=1e-12)


def test_boxed_reports_add_up_over_segments():
    method = solvers.FixedStep(4, solvers.Boxed(solvers.Tsit5()))
    times = np.linspace(0.0, 2.0, 5)
    runs = [
        solvers.simulate(ramp, 0.0, times, args=1.0, method=method, segment=segment)
        for segment in (None, 1, 2)
    ]
    assert [int(run.box.count) for run in runs] == [8, 8, 8]
    np.testing.assert_allclose([float(run.box.excess) for run in runs], 0.125, atol=1e-12)


# Many trajectories ------------------------------------------------------------------------------

ANGLES = np.array([0.1, 0.5, 1.0, 1.5, 3.0])
MANY = {"angle": ANGLES, "speed": np.linspace(-1.0, 1.0, 5)}
DRIVES = {"drive": np.linspace(0.2, 1.8, 5)}


def assert_equals_loop(field, y0, args, method, batch_size, atol):
    many = solvers.simulate_ensemble(
        field, y0, TIMES, args=args, method=method, batch_size=batch_size
    )
    size = len(args["drive"])
    assert many.ts.shape == (size, TIMES.size)
    assert many.success.shape == many.steps.shape == (size,)
    assert np.all(many.success)
    for i in range(size):
        one_y, one_args = jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf[i]), (y0, args))
        one = solvers.simulate(field, one_y, TIMES, args=one_args, method=method)
        for component in y0:
            assert many.ys[component].shape == (size, TIMES.size)
            np.testing.assert_allclose(many.ys[component][i], one.ys[component], atol=atol)


@pytest.mark.parametrize(("size", "batch_size"), [(5, 2), (5, 1024), (1, 3)])
def test_an_ensemble_of_fixed_steps_equals_a_loop(size, batch_size):
    y0, args = jax.tree.map(lambda leaf: leaf[:size], (MANY, DRIVES))
    assert_equals_loop(pendulum, y0, args, METHODS["fixed"], batch_size, 1e-13)


def test_an_ensemble_of_adaptive_steps_equals_a_loop():
    assert_equals_loop(forced, {"level": ANGLES}, DRIVES, METHODS["adaptive"], 2, 5e-6)


def test_an_ensemble_in_segments_is_cut_like_a_single_run():
    method = METHODS["fixed"]
    whole = solvers.simulate_ensemble(pendulum, MANY, TIMES, args=DRIVES, method=method, segment=4)
    first = solvers.simulate_ensemble(
        pendulum, MANY, TIMES[:5], args=DRIVES, method=method, segment=4
    )
    np.testing.assert_array_equal(whole.ys["angle"][:, :5], first.ys["angle"])


def test_an_ensemble_of_boxed_runs_reports_each():
    method = solvers.FixedStep(4, solvers.Boxed(solvers.Tsit5()))
    out = solvers.simulate_ensemble(
        ramp, np.zeros(3), (0.0, 2.0), args=np.array([0.25, 1.0, 2.0]), method=method
    )
    np.testing.assert_array_equal(out.box.count, [0, 2, 3])
    np.testing.assert_allclose(out.box.excess, [0.0, 0.5, 1.0], atol=1e-12)


@pytest.mark.parametrize(
    ("name", "times"), [("adaptive", (0.0, 1.0)), ("fixed", (0.0, 1.0)), ("fixed", (0.0, 0.5, 1.0))]
)
def test_one_failure_in_an_ensemble_leaves_the_others_alone(name, times):
    """The second trajectory is infinite at t = 0.2, the others at t = 10 and t = 5."""
    method = solvers.Adaptive(max_steps=64) if name == "adaptive" else solvers.FixedStep(50)
    rates = np.array([0.1, 5.0, 0.2])
    out = solvers.simulate_ensemble(explode, np.ones(3), times, args=rates, method=method)
    np.testing.assert_array_equal(out.success, [True, False, True])
    np.testing.assert_allclose(out.ys[[0, 2], -1], 1.0 / (1.0 - rates[[0, 2]]), rtol=1e-5)
    # Where all fail, the last accepted state may well be finite: it is not the state at the end.
    out = solvers.simulate_ensemble(explode, np.ones(3), times, args=np.full(3, 5.0), method=method)
    np.testing.assert_array_equal(out.success, [False, False, False])


def test_ensembles_refuse_ragged_leaves_and_empty_batches():
    with pytest.raises(ValueError, match="leading axis"):
        solvers.simulate_ensemble(decay, np.ones(3), (0.0, 1.0), args=np.ones(2))
    with pytest.raises(ValueError, match="leading axis"):
        solvers.simulate_ensemble(decay, np.ones(3), (0.0, 1.0), args=1.0)
    with pytest.raises(ValueError, match="batch_size"):
        solvers.simulate_ensemble(decay, np.ones(3), (0.0, 1.0), args=np.ones(3), batch_size=0)


# Until something happens ------------------------------------------------------------------------


def half(t, y, args):
    return y - 0.5


def quarter(t, y, args):
    return y - 0.25


def half_life(rate, rising, end=50.0):
    """Until y = e^{-at} is a half or a quarter."""
    return solvers.advance_until(
        decay,
        jnp.array(1.0),
        0.0,
        end,
        (quarter, half),
        rising=rising,
        args=rate,
        method=solvers.Adaptive(rtol=1e-9, atol=1e-11),
    )


@pytest.fixture(scope="module")
def differentiated():
    """(time, stop), dtime/drate of the first downward crossing."""

    def time(rate):
        stop = half_life(rate, (False, False))
        return stop.time, stop

    return jax.jit(jax.value_and_grad(time, has_aux=True))


def test_advance_until_finds_the_first_crossing(differentiated):
    (time, stop), _ = differentiated(jnp.array(0.4))
    np.testing.assert_allclose(time, np.log(2.0) / 0.4, rtol=1e-7)
    np.testing.assert_allclose(stop.y, 0.5, rtol=1e-7)
    assert int(stop.which) == 1


def test_the_gradient_of_the_crossing_time(differentiated):
    """t = ln 2/a, so dt/da = −ln 2/a²; and central differences of the located time say the same."""
    rate = jnp.array(0.4)
    _, slope = differentiated(rate)
    (up, _), _ = differentiated(rate + 1e-3)
    (down, _), _ = differentiated(rate - 1e-3)
    np.testing.assert_allclose(slope, -np.log(2.0) / 0.16, rtol=1e-6)
    np.testing.assert_allclose(slope, (up - down) / 2e-3, rtol=1e-4)


def test_advance_until_obeys_directions_and_reaches_the_end():
    """A half is asked for upwards, which never happens; a quarter either way, after t = 3."""
    located = jax.jit(lambda end: half_life(0.4, (None, True), end))
    stop = located(jnp.array(50.0))
    np.testing.assert_allclose(stop.time, np.log(4.0) / 0.4, rtol=1e-7)
    assert int(stop.which) == 0
    stop = located(jnp.array(3.0))
    assert int(stop.which) == -1
    assert float(stop.time) == 3.0
    np.testing.assert_allclose(stop.y, np.exp(-1.2), rtol=1e-7)


def test_a_condition_already_beyond_zero_waits_for_a_crossing():
    """sin(t) starts at 0.8; "above zero" holds at once; it rises through zero only at 2π − 0.9."""
    phase = np.arcsin(0.8)
    stop = solvers.advance_until(
        lambda t, y, args: jnp.cos(t + phase) + 0.0 * y,
        jnp.array(0.8),
        0.0,
        20.0,
        (lambda t, y, args: y,),
        rising=(True,),
    )
    np.testing.assert_allclose(stop.time, 2 * np.pi - phase, rtol=1e-4)


def test_advance_until_needs_a_direction_for_every_condition():
    with pytest.raises(ValueError, match="rising needs one entry a condition; got 1 for 2"):
        solvers.advance_until(decay, 1.0, 0.0, 1.0, (half, quarter), rising=(True,), args=1.0)


def test_advance_until_raises_if_the_solver_fails():
    with pytest.raises(eqx.EquinoxRuntimeError):
        solvers.advance_until(
            explode,
            jnp.array(1.0),
            0.0,
            4.0,
            (lambda t, y, args: y + 1.0,),
            rising=(True,),
            args=1.0,
            method=solvers.Adaptive(max_steps=64),
        )
