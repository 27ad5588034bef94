"""Branches and special points against closed forms, the Σ-Model's own, and another program."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax import schema, stability
from sigma_jax.schema import initial_state, sigma_model

EXACT = 1e-8
SATURATION, RELIEF = 0.9, 3.0


def logistic(t, sigma, r0):
    """Eq. 28 with time in units of 1/(ε_σ Ω)."""
    return sigma * (r0 * (1.0 - 0.5 * sigma) - 1.0)


def hysteretic(t, sigma, r0):
    """The hysteretic extension, in the same units."""
    return sigma * (r0 * (1.0 - SATURATION * sigma) - 1.0 / (1.0 + RELIEF * sigma))


def brusselator(t, y, b):
    """a = 1: a Hopf point at b = 1 + a² = 2, with ω = a = 1."""
    return {
        "x": 1.0 + y["x"] ** 2 * y["y"] - (b + 1.0) * y["x"],
        "y": b * y["x"] - y["x"] ** 2 * y["y"],
    }


def depth(t, x, k):
    """Eq. 14 at fixed coherence in units of f T η_max, a = 4, b = 3."""
    return jnp.exp(-4.0 * jnp.exp(-3.0 * x)) - k * x


def kinds(branch):
    return [point.kind for point in branch.special]


@pytest.fixture(scope="module")
def trivial():
    return stability.continue_branch(logistic, jnp.zeros(1), (0.5, 2.0), start=0.5)


def test_core_equation_exchanges_stability_at_r0_one(trivial):
    """A transcritical point at R₀ = 1: zero is stable below it and unstable above."""
    (point,) = trivial.special
    assert point.kind == "transcritical"
    assert point.parameter == pytest.approx(1.0, abs=EXACT)
    np.testing.assert_array_equal(trivial.stable, trivial.parameter < 1.0)
    assert trivial.stopped == "left the parameter range"
    assert float(trivial.parameter[-1]) == pytest.approx(2.0, abs=1e-12)


def test_switching_onto_the_crossing_branch(trivial):
    """The other branch is (1 − 1/R₀)/k, on both sides; stability is the opposite."""
    sigma, r0 = stability.crossing_branch(logistic, trivial.special[0], distance=0.05)
    assert float(sigma[0]) == pytest.approx((1 - 1 / r0) / 0.5, abs=EXACT)
    branch = stability.continue_branch(logistic, sigma, (0.5, 2.0), start=r0, direction=-1)
    np.testing.assert_allclose(branch.y[:, 0], (1 - 1 / branch.parameter) / 0.5, atol=EXACT)
    np.testing.assert_array_equal(branch.stable, branch.parameter > 1.0)
    assert kinds(branch) == ["transcritical"]
    assert branch.special[0].parameter == pytest.approx(1.0, abs=EXACT)
    below = stability.crossing_branch(logistic, trivial.special[0], distance=-0.05)
    assert below[1] < 1.0
    assert float(below[0][0]) < 0.0


def test_hysteretic_branch_passes_its_saddle_node():
    """From σ₊ at R₀ = 2 round the fold at R₀ = .710 to σ₋, which ends on zero at R₀ = 1."""
    start = schema.hysteretic_equilibria(2.0, SATURATION, RELIEF)[1]
    branch = stability.continue_branch(
        hysteretic, start[None], (0.5, 2.0), start=2.0, direction=-1, lower=0.0, upper=1.0
    )
    assert kinds(branch) == ["saddle-node", "transcritical"]
    fold, end = branch.special
    expected = float(schema.saddle_node(SATURATION, RELIEF))
    assert expected == pytest.approx(0.710, abs=5e-4)
    assert fold.parameter == pytest.approx(expected, abs=EXACT)
    assert float(fold.y[0]) == pytest.approx(
        (RELIEF - SATURATION) / (2 * SATURATION * RELIEF), abs=EXACT
    )
    assert end.parameter == pytest.approx(1.0, abs=EXACT)
    assert branch.stopped == "left the box"
    # Every point lies on the closed form, above the fold and below it; the last is on zero.
    sigma, r0 = branch.y[:-1, 0], branch.parameter[:-1]
    minus, plus = schema.hysteretic_equilibria(r0, SATURATION, RELIEF)
    expected, apart = np.where(sigma > fold.y[0], plus, minus), np.abs(r0 - fold.parameter) > 1e-6
    np.testing.assert_allclose(sigma[apart], expected[apart], atol=EXACT)
    np.testing.assert_array_equal(branch.stable[:-1], sigma > fold.y[0])
    assert float(branch.y[-1, 0]) == pytest.approx(0.0, abs=1e-5)
    assert np.ptp(sigma[np.abs(r0 - 0.8) < 0.05]) > 0.4  # it is there twice


def test_depth_has_a_fold_at_each_end_of_its_bistable_window():
    """E-15, a = 4: three roots iff k/b is in (.1705, .2919), where a u e^{−u} = 1."""
    branch = stability.continue_branch(
        depth, jnp.array([0.02]), (0.3, 1.1), start=1.1, direction=-1
    )
    assert kinds(branch) == ["saddle-node", "saddle-node"]
    for point in branch.special:
        u = 3.0 * float(point.y[0])
        assert 4.0 * u * np.exp(-u) == pytest.approx(1.0, abs=1e-7)
    window = [point.parameter / 3.0 for point in branch.special]
    np.testing.assert_allclose(window, [0.1705, 0.2919], atol=5e-5)
    unstable = branch.y[~branch.stable, 0]
    low, high = (float(point.y[0]) for point in branch.special)
    assert unstable.size > 5
    assert ((unstable > low) & (unstable < high)).all()


@pytest.mark.parametrize("direction", [1, -1])
def test_brusselator_has_its_hopf_point(direction):
    start = 0.5 if direction == 1 else 4.0
    y0 = {"x": jnp.array(1.0), "y": jnp.array(start)}
    branch = stability.continue_branch(
        brusselator, y0, (0.5, 4.0), start=start, direction=direction
    )
    (point,) = branch.special
    assert point.kind == "Hopf"
    assert point.parameter == pytest.approx(2.0, abs=EXACT)
    assert point.frequency == pytest.approx(1.0, abs=EXACT)
    np.testing.assert_allclose(point.eigenvalues, [1j, -1j], atol=EXACT)
    assert float(point.y["y"]) == pytest.approx(2.0, abs=EXACT)
    np.testing.assert_array_equal(branch.stable, branch.parameter < 2.0)


@settings(max_examples=5)
@given(st.floats(0.3, 3.0), st.floats(-0.5, 0.5))
def test_hopf_point_of_stuart_landau(omega, place):
    """ż = (p − p₀ + iω)z − |z|²z: a Hopf point at p₀ with frequency ω, whatever they are."""
    field = StuartLandau(jnp.asarray(omega), jnp.asarray(place))
    branch = stability.continue_branch(field, jnp.zeros(2), (-1.0, 1.0), start=-1.0)
    (point,) = branch.special
    assert (point.kind, len(branch.special)) == ("Hopf", 1)
    assert point.parameter == pytest.approx(place, abs=EXACT)
    assert point.frequency == pytest.approx(omega, rel=EXACT)


class StuartLandau(eqx.Module):
    omega: jax.Array
    place: jax.Array

    def __call__(self, t, y, p):
        turn = jnp.stack([-y[1], y[0]])
        return (p - self.place - y @ y) * y + self.omega * turn


def test_neutral_saddle_is_not_a_hopf_point():
    """Eigenvalues p and −1 add up to zero at p = 1, without a pair ±iω."""

    def saddle(t, y, p):
        return jnp.stack([p * y[0], -y[1] + y[0] ** 2])

    branch = stability.continue_branch(saddle, jnp.zeros(2), (0.5, 4.0), start=0.5)
    sums = branch.eigenvalues.sum(axis=1).real
    assert sums[0] < 0 < sums[-1]
    assert branch.special == ()


def test_undamped_oscillator_has_no_special_points():
    """A centre's pair is neutral all along: round-off of its real part is no crossing."""

    def oscillator(t, y, p):
        return jnp.stack([y[1], -p * y[0]])

    branch = stability.continue_branch(oscillator, jnp.zeros(2), (0.5, 4.0), start=0.5)
    assert branch.special == ()


def test_pitchfork_on_both_of_its_branches():
    def pitchfork(t, x, p):
        return p * x - x**3

    straight = stability.continue_branch(pitchfork, jnp.zeros(1), (-1.0, 1.0), start=-1.0)
    bent = stability.continue_branch(pitchfork, jnp.ones(1), (-1.0, 1.0), start=1.0, direction=-1)
    for branch in (straight, bent):
        assert kinds(branch) == ["pitchfork"]
        assert branch.special[0].parameter == pytest.approx(0.0, abs=EXACT)
    np.testing.assert_allclose(bent.y[:, 0] ** 2, bent.parameter, atol=EXACT)
    assert float(bent.y[-1, 0]) == pytest.approx(-1.0, abs=EXACT)
    assert bent.stable[0]
    assert bent.stable[-1]


def test_closed_branch_is_followed_once_round():
    def isola(t, x, p):
        return 1.0 - x**2 - p**2

    branch = stability.continue_branch(isola, jnp.ones(1), (-2.0, 2.0), start=0.0)
    assert branch.stopped == "closed"
    np.testing.assert_allclose(branch.y[:, 0] ** 2 + branch.parameter**2, 1.0, atol=EXACT)
    assert sorted(point.parameter for point in branch.special) == pytest.approx([-1.0, 1.0])
    first, last = (jnp.append(branch.y[i], branch.parameter[i]) for i in (0, -1))
    np.testing.assert_allclose(first, last, atol=1e-7)


def test_end_of_a_branch_that_leads_nowhere_is_said():
    """σ = √p ends at p = 0, where its derivative is not finite."""
    branch = stability.continue_branch(
        lambda t, x, p: jnp.sqrt(p) - x, jnp.ones(1), (-1.0, 1.0), start=1.0, direction=-1
    )
    assert branch.stopped == "step too small"
    assert float(branch.parameter[-1]) == pytest.approx(0.0, abs=1e-4)


def test_single_precision():
    branch = stability.continue_branch(logistic, jnp.zeros(1, jnp.float32), (0.5, 2.0), start=0.5)
    assert branch.parameter.dtype == jnp.float32
    assert branch.special[0].parameter == pytest.approx(1.0, abs=1e-5)


def test_most_points_allowed_is_said():
    branch = stability.continue_branch(logistic, jnp.zeros(1), (0.5, 2.0), start=0.5, max_points=5)
    assert (branch.stopped, branch.parameter.size) == ("max_points reached", 5)


def test_corner_of_a_clipped_drift_is_passed():
    """x = clip(p, 0.2, 0.6): two corners, no special points."""
    branch = stability.continue_branch(
        lambda t, x, p: jnp.clip(p, 0.2, 0.6) - x, jnp.full(1, 0.2), (0.0, 1.0), start=0.0
    )
    assert branch.stopped == "left the parameter range"
    np.testing.assert_allclose(branch.y[:, 0], np.clip(branch.parameter, 0.2, 0.6), atol=EXACT)
    assert branch.special == ()


# The whole Σ-Model ------------------------------------------------------------------------------


def whole_model(variant):
    """The seven-variable vector field over R₀: at the default regime P_A = R₀."""
    model = sigma_model(variant)
    return lambda t, y, r0: eqx.tree_at(lambda m: m.environment.p_a, model, r0)(t, y)


def test_whole_hysteretic_model_over_r0():
    """The whole state follows σ's fold and keeps to the closed forms of σ and M̂."""
    model, field = sigma_model("hysteretic"), whole_model("hysteretic")
    state = initial_state(
        delta=0.98, sigma=0.63105, alpha=0.5, self_model=0.4207, planning=0.2122, inhibition=0.4,
        flexibility=0.3,
    )  # fmt: skip
    options = dict(start=0.8, direction=-1, lower=0.0, upper=1.0)
    branch = stability.continue_branch(field, state, (0.5, 1.2), **options)
    assert kinds(branch) == ["saddle-node", "transcritical"]
    fold = float(schema.saddle_node(SATURATION, RELIEF))
    assert branch.special[0].parameter == pytest.approx(fold, abs=EXACT)
    assert branch.special[1].parameter == pytest.approx(1.0, abs=EXACT)
    sigma = branch.y.sigma[:, 0, 0, 0]
    assert branch.y.sigma.shape == (sigma.size, 1, 1, 1)
    r0_of_sigma = 1 / ((1 + RELIEF * sigma) * (1 - SATURATION * sigma))
    np.testing.assert_allclose(branch.parameter, r0_of_sigma, atol=1e-7)
    conditions = model.environment(0.0, None)
    mirrored = schema.self_model_equilibrium(model.rates, conditions, sigma)
    np.testing.assert_allclose(branch.y.self_model[:, 0, 0, 0], mirrored, atol=EXACT)
    coherent = sigma > branch.special[0].y.sigma.squeeze()
    np.testing.assert_array_equal(branch.stable[:-1], coherent[:-1])  # the last is on the crossing


def test_the_whole_consistent_model_has_no_fold():
    """E-05: the trivial state is crossed once, at R₀ = 1."""
    model, field = sigma_model(), whole_model("consistent")
    zero = jax.tree.map(jnp.zeros_like, initial_state())
    one = jax.tree.map(jnp.ones_like, zero)
    (found,) = stability.find_equilibria(model, zero, one, key=jax.random.key(0), starts=32)
    options = dict(start=0.8, lower=0.0, upper=1.0, step=0.005, largest_step=0.005)
    branch = stability.continue_branch(field, found.y, (0.5, 1.5), **options)
    assert kinds(branch) == ["transcritical"]
    assert branch.special[0].parameter == pytest.approx(1.0, abs=EXACT)
    assert branch.parameter.size > 130


# Another program --------------------------------------------------------------------------------


@pytest.mark.slow
def test_jaxcont_finds_the_same_fold():
    """JaxCont's pseudo-arclength continuation; it locates the fold to about 10⁻⁶."""
    jaxcont = pytest.importorskip("jaxcont")
    start = schema.hysteretic_equilibria(0.9, SATURATION, RELIEF)[1][None]
    ours = stability.continue_branch(hysteretic, start, (0.6, 0.9), start=0.9, direction=-1)
    theirs = jaxcont.continuation(
        jaxcont.bif_problem(lambda u, p, args: hysteretic(0.0, u, p), start, 0.9),
        p_span=(0.9, 0.6),
        settings=jaxcont.ContinuationPar(ds=0.02, ds_max=0.05, newton_tol=1e-10, max_steps=60),
        events=[jaxcont.Fold()],
    )
    (hit,) = theirs.events
    assert hit.p == pytest.approx(ours.special[0].parameter, abs=3e-6)
    np.testing.assert_allclose(hit.u, ours.special[0].y, atol=3e-3)


# Bad input --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(y0=jnp.array([0.3])), "y0 must be an equilibrium at the parameter value 0.5"),
        (dict(start=3.0), "start must lie in"),
        (dict(start=1.0), "y0 must not be a branch point"),
        (dict(direction=0), "direction must be 1 or -1"),
        (dict(parameter_range=(2.0, 0.5)), "parameter_range must be"),
        (dict(lower=0.1, upper=1.0), "y0 must lie in the box"),
        (dict(step=0.1), "step must lie in"),
    ],
)
def test_bad_input_is_said_in_words(change, message):
    arguments = dict(y0=jnp.zeros(1), parameter_range=(0.5, 2.0), start=0.5) | change
    with pytest.raises(ValueError, match=message):
        stability.continue_branch(logistic, **arguments)


def test_component_without_dynamics_cannot_be_continued():
    def with_constant(t, y, p):
        return jnp.stack([p - y[0], 0.0 * y[1]])

    with pytest.raises(ValueError, match="every component must have dynamics"):
        stability.continue_branch(with_constant, jnp.zeros(2), (-1.0, 1.0), start=0.0)


def test_only_branch_points_are_crossed():
    branch = stability.continue_branch(
        brusselator, {"x": jnp.array(1.0), "y": jnp.array(1.0)}, (0.5, 4.0), start=1.0
    )
    with pytest.raises(ValueError, match="a Hopf has no crossing"):
        stability.crossing_branch(brusselator, branch.special[0])
