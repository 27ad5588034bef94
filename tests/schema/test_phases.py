"""The phase arc: the machine by hand, phases of simulated learners, events, and noise."""

import functools

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from sigma_jax import schema, solvers

THRESHOLDS = schema.Thresholds()


# The machine ------------------------------------------------------------------------------------


def margins(forward=None, reverse=None, samples=12):
    """Margins from {transition: one sign a sample}; what is not given never triggers."""
    arrays = []
    for given_signs in (forward, reverse):
        array = -np.ones((samples, 5))
        for transition, signs in (given_signs or {}).items():
            array[:, transition] = [1.0 if sign == "+" else -1.0 for sign in signs]
        arrays.append(jnp.asarray(array))
    return schema.Margins(*arrays)


def follow(*args, **options):
    return "".join(str(phase) for phase in np.asarray(schema.follow_phases(*args, **options)))


def test_nothing_happens_without_a_trigger():
    assert follow(margins()) == "0" * 12


def test_one_move_a_sample_and_not_beyond_the_ends():
    always = {i: "+" * 12 for i in range(5)}
    assert follow(margins(forward=always)) == "123455555555"
    assert follow(margins(reverse=always), reverse_dwell=1, start=5) == "432100000000"


def test_a_forward_move_waits_for_its_dwell():
    once = margins(forward={0: "-++-+++-++++"})
    assert follow(once, dwell=1) == "011111111111"
    assert follow(once, dwell=2) == "001111111111"
    assert follow(once, dwell=3) == "000000111111"
    assert follow(once, dwell=4) == "000000000001"
    assert follow(once, dwell=5) == "000000000000"


def test_a_reverse_move_waits_for_its_own():
    back = margins(reverse={1: "+++-++++----"})
    assert follow(back, start=2, reverse_dwell=3) == "221111111111"
    assert follow(back, start=2, reverse_dwell=4) == "222222211111"
    assert follow(back, start=2) == "2" * 12
    assert follow(margins(reverse={1: "+" * 12}), start=2) == "222222222111"


def test_counters_restart_after_a_move():
    """Both triggers hold throughout: each move needs its dwell afresh."""
    both = margins(forward={0: "+" * 12, 1: "+" * 12})
    assert follow(both, dwell=3) == "001112222222"
    fall = margins(reverse={1: "+" * 12, 0: "+" * 12})
    assert follow(fall, start=2, reverse_dwell=4) == "222111100000"


def test_forward_wins_over_reverse_and_the_counter_of_the_other_restarts():
    both = margins(forward={1: "---+--------"}, reverse={0: "++++++++++++"})
    assert follow(both, start=1, reverse_dwell=4) == "111222222222"


def test_agents_have_phases_of_their_own():
    fast, slow = margins(forward={0: "+" * 12}), margins(forward={0: "-----+++++++"})
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), fast, slow)
    phases = np.asarray(schema.follow_phases(together))
    assert phases.shape == (12, 2)
    np.testing.assert_array_equal(phases[:, 0], 1)
    np.testing.assert_array_equal(phases[:, 1], [0] * 5 + [1] * 7)


@given(
    st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5), st.booleans()
)
def test_the_machine_agrees_with_a_restatement(seed, dwell, reverse_dwell, start, sticky):
    rng = np.random.default_rng(seed)
    forward, reverse = rng.standard_normal((2, 40, 5)) + (0.5 if sticky else 0.0)
    phase, risen, fallen, expected = start, 0, 0, []
    for up, down in zip(forward, reverse, strict=True):
        risen = risen + 1 if phase < 5 and up[phase] > 0 else 0
        fallen = fallen + 1 if phase > 0 and down[phase - 1] > 0 else 0
        if risen >= dwell:
            phase, risen, fallen = phase + 1, 0, 0
        elif fallen >= reverse_dwell:
            phase, risen, fallen = phase - 1, 0, 0
        expected.append(phase)
    found = np.asarray(
        schema.follow_phases(
            schema.Margins(jnp.asarray(forward), jnp.asarray(reverse)),
            dwell=dwell,
            reverse_dwell=reverse_dwell,
            start=start,
        )
    )
    np.testing.assert_array_equal(found, expected)
    assert found.min() >= 0
    assert found.max() <= 5
    assert np.abs(np.diff([start, *found])).max() <= 1


@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
def test_a_machine_advanced_sample_by_sample_is_the_one_that_follows(
    seed, dwell, reverse_dwell, start
):
    """Online and in one go, for two agents at once."""
    rng = np.random.default_rng(seed)
    both = schema.Margins(*jnp.asarray(rng.standard_normal((2, 30, 2, 5)) + 0.3))
    options = {"dwell": dwell, "reverse_dwell": reverse_dwell}
    progress, phases = schema.start_phases((2,), phase=start), []
    for at in range(30):
        sample = jax.tree.map(lambda leaf, at=at: leaf[at], both)
        progress = _advance(progress, sample, **options)
        phases.append(progress.phase)
    followed = schema.follow_phases(both, start=start, **options)
    np.testing.assert_array_equal(phases, followed)


_advance = jax.jit(schema.advance_phase, static_argnames=("dwell", "reverse_dwell"))


def test_what_a_machine_has_counted_goes_with_it():
    progress = schema.start_phases()
    triggered = schema.Margins(jnp.ones(5), -jnp.ones(5))
    counted = schema.advance_phase(progress, triggered, dwell=2)
    assert (int(counted.phase), int(counted.risen), int(counted.fallen)) == (0, 1, 0)
    moved = schema.advance_phase(counted, triggered, dwell=2)
    assert (int(moved.phase), int(moved.risen), int(moved.fallen)) == (1, 0, 0)
    lost = schema.Margins(-jnp.ones(5), jnp.ones(5))
    interrupted = schema.advance_phase(counted, lost, dwell=2)
    assert (int(interrupted.phase), int(interrupted.risen)) == (0, 0)
    falling = schema.advance_phase(moved, lost, reverse_dwell=2)
    assert (int(falling.phase), int(falling.fallen)) == (1, 1)


def test_machines_start_in_any_shape_and_phase():
    progress = schema.start_phases((3, 2), phase=4)
    np.testing.assert_array_equal(progress.phase, np.full((3, 2), 4))
    np.testing.assert_array_equal(progress.risen, np.zeros((3, 2)))
    for phase in (-1, 6):
        with pytest.raises(ValueError, match=f"start must be a phase from 0 to 5; got {phase}"):
            schema.start_phases(phase=phase)


def test_transitions_are_listed_with_their_times():
    found = schema.transitions(np.arange(5.0), np.array([0, 1, 1, 2, 1]))
    assert found == [(1.0, 0, 1), (3.0, 1, 2), (4.0, 2, 1)]
    assert schema.transitions(np.arange(2.0), np.array([1, 1])) == [(0.0, 0, 1)]


# The triggers -----------------------------------------------------------------------------------


def test_triggers_by_hand():
    found = schema.domain_margins(
        jnp.array([0.62, 0.30]), jnp.array([0.10, 0.40]), THRESHOLDS, discovery=0.2, expansion=-0.1
    )
    # Deepest domain: past its onset by .52. Coherent and begun: the second, min(.20, .25).
    # Deep and coherent: the first by min(.07, −.05), the second by min(−.25, .25).
    np.testing.assert_allclose(found.forward, [0.52, 0.20, -0.05, 0.2, -0.1], atol=1e-12)
    # Out of reach of loss: −(.62 − .05), −(.40 − .05), −max(min(.12, .05), min(−.20, .35)).
    np.testing.assert_allclose(found.reverse, [-0.57, -0.35, -0.05, -0.2, 0.1], atol=1e-12)


def test_depth_and_coherence_must_meet_in_one_domain():
    apart = schema.domain_margins(jnp.array([0.9, 0.05]), jnp.array([0.1, 0.9]), THRESHOLDS)
    assert apart.forward[0] > 0
    assert apart.forward[1] < 0
    together = schema.domain_margins(jnp.array([0.9, 0.05]), jnp.array([0.9, 0.1]), THRESHOLDS)
    assert np.all(together.forward[:3] > 0)
    assert np.all(np.isneginf(together.forward[3:]))


def margins_of(delta, sigma, *, frontier=1.0, breadth=None, similarity=1.0):
    delta, sigma = np.asarray(delta), np.asarray(sigma)
    state = schema.initial_state(
        1, delta.size, delta=delta[:, None], sigma=sigma[:, None], breadth=breadth
    )
    environment = schema.Environment(frontier=frontier, domain_similarity=similarity)
    return schema.state_margins(0.0, state, environment, THRESHOLDS)


def test_phase_four_needs_two_mastered_domains_and_a_productive_pair():
    def fourth(*args, **options):
        return float(margins_of(*args, **options).forward[0, 3])

    # The second-best domain masters by min(.1, .2); Ψ = √(.9·.9·.8·.5) beats .1.
    assert fourth([0.9, 0.8], [0.9, 0.5]) == pytest.approx(0.1)
    assert fourth([0.9, 0.6], [0.9, 0.5]) == pytest.approx(-0.1)
    assert fourth([0.9, 0.8], [0.9, 0.2]) == pytest.approx(-0.1)
    # Dissimilar domains: Ψ = 0.1 √(.81·.4) is what falls short.
    weak = np.array([[1.0, 0.1], [0.1, 1.0]])
    expected = 0.1 * np.sqrt(0.81 * 0.4) - 0.1
    assert fourth([0.9, 0.8], [0.9, 0.5], similarity=weak) == pytest.approx(expected)
    assert fourth([0.9], [0.9]) == -np.inf


def test_phase_five_needs_a_moving_frontier_and_something_new_in_reach():
    moving = schema.FrontierGrowth(1.0, 0.01)
    known, new = [0.9, 0.8, 0.01], [0.9, 0.5, 0.1]

    def fifth(*args, **options):
        return float(margins_of(*args, **options).forward[0, 4])

    assert fifth(known, new, frontier=moving) == pytest.approx(0.01 - 1e-3)
    assert fifth(known, new) < 0
    assert fifth([0.9, 0.8], [0.9, 0.5], frontier=moving) < 0
    alone = np.eye(3)
    alone[0, 1] = alone[1, 0] = 1.0
    assert fifth(known, new, frontier=moving, similarity=alone) < 0
    # Known broadly is known: nothing new is left; and what is not new needs no mastery.
    assert fifth(known, new, frontier=moving, breadth=0.9) < 0
    assert fifth(known, new, frontier=moving, breadth=0.1) > 0
    # Without phase 4 there is no phase 5.
    assert fifth([0.9, 0.2, 0.01], [0.9, 0.5, 0.1], frontier=moving) < 0


# Simulated learners -----------------------------------------------------------------------------

TIMES = np.linspace(0.0, 160.0, 641)


def switched(variant, before, after):
    """The surface reward changes at t = 40; all numbers are arrays, so that runs share code."""
    surface = schema.Switch((jnp.array(40.0),), (jnp.array(before), jnp.array(after)))
    return schema.sigma_model(variant, environment=schema.Environment(r_surface=surface))


@jax.jit
def _phases_of(model, y0):
    run = solvers.simulate(model, y0, TIMES, method=solvers.FixedStep(1))
    found = schema.trajectory_margins(run.ts, run.ys, model.environment, THRESHOLDS)
    return schema.follow_phases(found, reverse_dwell=40), run.ys


def phases_of(model, y0):
    """Phases four times an epoch, `[times, agents]`, and the states; compiled once for a shape."""
    phases, ys = _phases_of(jax.tree.map(jnp.asarray, model), y0)
    return np.asarray(phases), ys


@pytest.mark.parametrize(
    ("domains", "rate", "last"), [(1, 0.002, 3), (2, 0.002, 4), (3, 0.0, 4), (3, 0.002, 5)]
)
def test_how_far_a_targeted_learner_gets(domains, rate, last):
    """Two domains are taught; a third, if there is one, is in reach but unknown."""
    taught = np.array([1.0, 1.0, 0.0])[:domains, None]
    environment = schema.regime(
        "targeted", f_learn=taught, frontier=schema.FrontierGrowth(1.0, rate)
    )
    phases, _ = phases_of(
        schema.sigma_model("hysteretic", environment=environment), schema.initial_state(1, domains)
    )
    assert phases.shape == (641, 1)
    assert phases[-1, 0] == last
    assert np.all(np.diff(phases[:, 0]) >= 0)
    assert set(phases[:, 0]) == set(range(last + 1))


def test_the_trap_is_phase_one():
    """Depth without coherence: a surface-rewarded learner stays where it began to go deep."""
    model = switched("consistent", *schema.SURFACE_REWARD["baseline"])
    phases, ys = phases_of(model, schema.initial_state())
    assert phases[-1, 0] == phases.max() == 1
    assert float(ys.delta[-1, 0, 0, 0]) > 0.9


# Events -----------------------------------------------------------------------------------------


@functools.cache
def events(regime, end=160.0):
    model = switched("consistent", *schema.SURFACE_REWARD[regime])
    found = schema.phase_transitions(
        model,
        schema.initial_state(),
        0.0,
        end,
        method=solvers.Adaptive(rtol=1e-8, atol=1e-10),
    )
    return [(float(e.time), e.before, e.after) for e in found], found


@functools.cache
def dense(regime):
    """δ, σ, α of the consistent model as functions of time, by SciPy: t → [3]."""

    def rhs(t, x, surface):
        d, s, a = x
        return [
            0.35 * np.exp(-3 * np.exp(-4 * d)) * (1 - d) - 0.01 * (1 - 0.5 * s) * d * 0.7,
            s * (0.6 * 0.8 * a * (1 - 0.5 * s) - 0.3),
            0.24 * (1 - a) - 0.3 * a * surface,
        ]

    before, after = schema.SURFACE_REWARD[regime]
    options = dict(method="DOP853", rtol=1e-11, atol=1e-13, dense_output=True)
    first = solve_ivp(rhs, (0, 40), [0.05, 0.1, 0.5], args=(before,), **options)
    second = solve_ivp(rhs, (40, 160), first.y[:, -1], args=(after,), **options)
    return lambda t: first.sol(t) if t < 40 else second.sol(t)


def test_forward_events_are_at_the_roots():
    """δ passes .10; σ passes .15, when δ has long passed .55: phases 2 and 3 come at once."""
    found, _ = events("targeted")
    solution = dense("targeted")
    onset = brentq(lambda t: solution(t)[0] - 0.10, 0.0, 10.0)
    crystal = brentq(lambda t: solution(t)[1] - 0.15, 5.0, 30.0)
    assert [move[1:] for move in found] == [(0, 1), (1, 2), (2, 3)]
    np.testing.assert_allclose([move[0] for move in found], [onset, crystal, crystal], atol=1e-5)


def test_events_carry_the_state():
    _, found = events("targeted")
    np.testing.assert_allclose(found[0].state.delta.item(), 0.10, atol=1e-7)
    np.testing.assert_allclose(found[1].state.sigma.item(), 0.15, atol=1e-7)


def test_the_trap_has_one_event():
    assert [move[1:] for move in events("baseline")[0]] == [(0, 1)]


def test_reverse_events_come_after_their_dwell():
    """Withdrawn: σ falls below .05; ten epochs later phase 3 is lost, ten more and phase 2 is."""
    found, _ = events("withdrawn")
    solution = dense("withdrawn")
    lost = brentq(lambda t: solution(t)[1] - 0.05, 41.0, 100.0)
    assert [move[1:] for move in found] == [(0, 1), (1, 2), (2, 3), (3, 2), (2, 1)]
    np.testing.assert_allclose([move[0] for move in found[3:]], [lost + 10, lost + 20], atol=1e-4)


def test_nothing_is_lost_before_its_dwell_is_over():
    solution = dense("withdrawn")
    lost = brentq(lambda t: solution(t)[1] - 0.05, 41.0, 100.0)
    assert [move[1:] for move in events("withdrawn", lost + 9.9)[0]][-1] == (2, 3)
    assert [move[1:] for move in events("withdrawn", lost + 10.1)[0]][-1] == (3, 2)


@pytest.mark.parametrize("regime", ["targeted", "withdrawn"])
def test_events_agree_with_dense_samples(regime):
    """A sample lags an event by less than its spacing, for each move so far."""
    model = switched("consistent", *schema.SURFACE_REWARD[regime])
    phases, _ = phases_of(model, schema.initial_state())
    sampled = schema.transitions(TIMES, phases[:, 0])
    found, _ = events(regime)
    assert [move[1:] for move in sampled] == [move[1:] for move in found]
    for count, (sample, event) in enumerate(zip(sampled, found, strict=True), start=1):
        assert -0.25 * count <= sample[0] - event[0] <= 0.25 * count


def test_too_many_transitions_are_an_error():
    model = switched("consistent", *schema.SURFACE_REWARD["targeted"])
    with pytest.raises(RuntimeError, match="more than 1 phase transitions"):
        schema.phase_transitions(
            model,
            schema.initial_state(),
            0.0,
            160.0,
            method=solvers.Adaptive(rtol=1e-8, atol=1e-10),
            most=1,
        )


# Noise ------------------------------------------------------------------------------------------

first_passage = jax.jit(schema.first_passage, static_argnames="dwell")


@pytest.mark.parametrize("dwell", [1, 2, 3])
def test_first_passage_agrees_with_monte_carlo(dwell):
    margin = np.linspace(-0.04, 0.01, 30)
    runs = 40_000
    rng = np.random.default_rng(dwell)
    above = margin + 0.02 * rng.standard_normal((runs, margin.size)) > 0
    window = np.stack([above[:, k : margin.size - dwell + 1 + k] for k in range(dwell)]).all(axis=0)
    first = np.where(window.any(axis=1), window.argmax(axis=1) + dwell - 1, margin.size)
    frequency = np.bincount(first, minlength=margin.size + 1)[:-1] / runs
    exact = np.asarray(first_passage(jnp.asarray(margin), 0.02, dwell=dwell))
    deviation = np.sqrt(np.maximum(exact * (1 - exact), 1e-6) / runs)
    assert np.all(np.abs(frequency - exact) < 5 * deviation)
    assert np.all(exact[: dwell - 1] == 0)
    assert exact.sum() > 0.5


@given(
    st.lists(st.floats(-0.2, 0.2), min_size=12, max_size=12),
    st.floats(0.001, 0.5),
    st.integers(1, 3),
)
def test_passage_probabilities_are_probabilities(margin, noise, dwell):
    passage = np.asarray(first_passage(jnp.array(margin), noise, dwell=dwell))
    assert passage.shape == (len(margin),)
    assert np.all(passage >= 0)
    assert passage.sum() <= 1 + 1e-12
    longer = np.asarray(first_passage(jnp.array(margin), noise, dwell=dwell + 1))
    assert np.all(np.cumsum(longer) <= np.cumsum(passage) + 1e-12)


def test_certain_passages():
    sure = first_passage(jnp.full(6, 1.0), 0.01, dwell=3)
    np.testing.assert_allclose(sure, [0, 0, 1, 0, 0, 0], atol=1e-12)
    never = first_passage(jnp.full(6, -1.0), 0.01)
    np.testing.assert_allclose(never, 0.0, atol=1e-12)
    even = first_passage(jnp.zeros(4), 0.01)
    np.testing.assert_allclose(even, [0.5, 0.25, 0.125, 0.0625], rtol=1e-12)
    assert schema.passage_quantile(even) == 0
    assert schema.passage_quantile(even, 0.8) == 2
    assert schema.passage_quantile(even, 0.95) is None
    assert schema.passage_quantile(never) is None


def test_noise_may_change_from_sample_to_sample():
    found = first_passage(jnp.array([-0.1, -0.1]), jnp.array([0.1, 0.2]))
    from scipy.stats import norm

    p, q = norm.cdf(-1.0), norm.cdf(-0.5)
    np.testing.assert_allclose(found, [p, (1 - p) * q], rtol=1e-12)


def test_premature_passages_are_those_before_the_margin_turns():
    margin = jnp.array([-0.1, -0.05, 0.05, 0.1])
    passage = first_passage(margin, 0.1)
    np.testing.assert_allclose(
        schema.premature_probability(passage, margin), passage[:2].sum(), rtol=1e-12
    )
    below = jnp.full(4, -0.05)
    passage = first_passage(below, 0.1)
    np.testing.assert_allclose(
        schema.premature_probability(passage, below), passage.sum(), rtol=1e-12
    )
    assert schema.premature_probability(passage, jnp.full(4, 0.1)) == 0.0


STEPS = np.arange(2000)


@pytest.mark.parametrize(
    ("curve", "without", "median"),
    [
        (0.05 + 2.5e-4 * STEPS, 401, 313),
        (0.05 + 0.85 * np.exp(-4 * np.exp(-0.003 * STEPS)), 209, 180),
        (0.10 + 3e-4 * STEPS, 167, 98),
    ],
    ids=["additive", "multiplicative", "baseline"],
)
def test_the_published_entries_are_first_passages(curve, without, median):
    margin = jnp.asarray(curve - 0.15)
    assert abs(int(np.argmax(margin > 0)) - without) <= 1
    passage = first_passage(margin, 0.012)
    assert schema.passage_quantile(passage) == pytest.approx(median, abs=5)
    assert float(schema.premature_probability(passage, margin)) > 0.9
    # Asked for ten samples in a row, noise no longer comes early; it comes late.
    patient = first_passage(margin, 0.012, dwell=10)
    assert schema.passage_quantile(patient) > without
    assert float(schema.premature_probability(patient, margin)) < 0.05


def test_printed_phase_error():
    # A margin of .15 at noise .05 is three standard deviations, on both sides: .27 %.
    np.testing.assert_allclose(schema.printed_phase_error(0.30, 0.70, 0.05), 0.0027, atol=5e-5)
    np.testing.assert_allclose(schema.printed_phase_error(0.0, 0.40, 0.05), 0.0027, atol=5e-5)
    # As printed it reaches one at both thresholds, where the truth is 3/4.
    np.testing.assert_allclose(schema.printed_phase_error(0.15, 0.55, 0.05), 1.0, rtol=1e-12)


def test_every_phase_has_a_name():
    assert len(schema.PHASES) == 6
    assert len(set(schema.PHASES)) == 6
