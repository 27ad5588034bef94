"""The paper's errata, executed: each test states a claim and shows what holds instead.

The page docs/errata.md lists all of them; those about training and benchmarks are not here.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from scipy import stats

from sigma_jax import schema
from sigma_jax.schema import Environment, Rates, initial_state, sigma_model
from sigma_jax.solvers import Boxed, FixedStep, Tsit5, simulate

# The order of the components in a flattened state of one agent, domain and modality.
DELTA, SIGMA, ALPHA, SELF_MODEL, PLANNING, INHIBITION, FLEXIBILITY = range(7)
FAST, SLOW = [DELTA, SIGMA, ALPHA], [SELF_MODEL, PLANNING, INHIBITION, FLEXIBILITY]
# The numbers with which the paper's proofs work, and its orders of magnitude for the rates.
PROOF_RATES = Rates(eta_max=1.0, lambda_c=0.01, gompertz_a=4.0, gompertz_b=3.0)
PAPER_MAGNITUDES = Rates(
    rho=0.1, gamma=0.1, nu_m=0.01, xi_m=0.01, kappa_p=0.01, kappa_i=0.01, kappa_f=0.01
)


def scalar(value) -> float:
    return float(jnp.squeeze(value))


def coherence_slope(equation, sigma, growth, suppression, saturation=0.5):
    """σ̇ by one version of the σ equation, ρPα = growth and ε_σΩ = suppression."""
    rates = Rates(rho=growth, epsilon_sigma=suppression, saturation=saturation)
    x = eqx.tree_at(lambda s: s.sigma, initial_state(alpha=1.0), jnp.full((1, 1, 1), sigma))
    return equation(x, Environment(p_a=1.0, omega_sl=1.0)(0.0, x), rates)[0, 0, 0]


@eqx.filter_jit
def slope_of(model, state):
    return model(0.0, state)


@eqx.filter_jit
def flat_jacobian(model, state):
    flat, unflatten = ravel_pytree(state)
    return jax.jacfwd(lambda v: ravel_pytree(model(0.0, unflatten(v)))[0])(flat)


def traced(model):
    """The model with arrays for numbers, so that models of one structure share compiled code."""
    return jax.tree.map(jnp.asarray, model)


def jacobian(model, **state) -> np.ndarray:
    """The whole vector field's Jacobian by automatic differentiation, 7 × 7."""
    return np.asarray(flat_jacobian(traced(model), initial_state(**state)))


class OnlyCoherence(eqx.Module):
    """The vector field of σ alone, at constant attention and under constant conditions."""

    model: schema.SigmaModel
    rest: schema.State

    def __call__(self, t, sigma, args):
        x = eqx.tree_at(lambda s: s.sigma, self.rest, sigma)
        return self.model.coherence(x, self.model.environment(t, x), self.model.rates)


def coherence_at(end: float, model, start, solver=Tsit5(), throw=True):
    """Simulate σ alone until `end`, in 200 steps."""
    field = OnlyCoherence(traced(model), start)
    times, method = jnp.array([0.0, end]), FixedStep(200, solver)
    return simulate(field, start.sigma, times, method=method, throw=throw)


def published_curve(condition: str, step):
    """The pilot's hand-written coherence as a function of the training step, without its noise."""
    return {
        "baseline": 0.10 + 3e-4 * step,
        "additive": 0.05 + 2.5e-4 * step,
        "multiplicative": 0.05 + 0.85 * np.exp(-4.0 * np.exp(-0.003 * step)),
    }[condition]


@pytest.fixture(scope="module")
def pilot():
    return schema.load_pilot()


@pytest.fixture(scope="module")
def regimes():
    """Both models in the three regimes over 400 epochs: {model: (times, states, R₀(t))}."""
    times, method = np.arange(0.0, 401.0), FixedStep(4)
    surfaces = jnp.array([schema.SURFACE_REWARD[name] for name in schema.REGIMES])

    def one(variant, before_after):
        surface = schema.Switch((40.0,), tuple(before_after))
        model = sigma_model(variant, environment=Environment(r_surface=surface))
        ys = simulate(model, initial_state(), times, method=method, throw=False).ys
        r0 = schema.reproduction_number(model.rates, model.environment(0.0, None), ys.alpha)
        return ys, r0

    def both(variant):
        ys, r0 = jax.jit(jax.vmap(lambda s: one(variant, s)))(surfaces)
        return jax.tree.map(np.asarray, (ys, r0[:, :, 0, 0, 0]))

    return {variant: both(variant) for variant in ("consistent", "hysteretic")}


def final_coherence(regimes, variant: str, name: str) -> float:
    return regimes[variant][0].sigma[schema.REGIMES.index(name), -1, 0, 0, 0]


# Coherence --------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", schema.CONDITIONS)
def test_e01_published_coherence_is_a_curve_of_the_step(pilot, condition):
    """Said to be integrated; it is a curve written by hand plus noise of one and the same size."""
    curves = pilot[condition]
    rest = curves.sigma_proxy - published_curve(condition, curves.step)
    assert rest.std() == pytest.approx(0.012, rel=0.1)
    assert abs(rest.mean(axis=0)).max() < 4 * 0.012 / np.sqrt(15)


def test_e02_four_coherence_equations_have_different_roots():
    """One equation, says the text; its four versions have different roots, one has a trap."""
    growth, suppression, k = 0.06, 0.05, 0.5
    shared = growth / (growth + suppression)
    roots = {
        schema.CoreCoherence(): (1 - suppression / growth) / k,
        schema.MultimodalCoherence(): shared,
        schema.AppendixCoherence(): shared,
        schema.ExistenceProofCoherence(): growth / (k * growth + suppression),
    }
    for equation, root in roots.items():
        slope = coherence_slope(equation, root, growth, suppression, k)
        assert scalar(slope) == pytest.approx(0.0, abs=1e-15), equation
        at_zero = scalar(coherence_slope(equation, 0.0, growth, suppression, k))
        assert at_zero == (0.0 if isinstance(equation, schema.CoreCoherence) else growth)
    distinct = {round(root, 6) for root in roots.values()}
    assert len(distinct) == 3


def test_e03_printed_equilibrium_is_not_one_of_equation_28():
    """Eq. 23 is called the equilibrium of Eq. 28; it is the affine equation's."""
    alpha = np.array([0.1, 0.3, 0.6, 0.9])
    growth, suppression = 0.1 * 0.8 * alpha, 0.1 * 0.5
    printed = growth / (growth + suppression)
    np.testing.assert_allclose(printed, [0.138, 0.324, 0.490, 0.590], atol=5e-4)
    true = schema.core_equilibrium(growth / suppression, 0.5)
    np.testing.assert_allclose(true, [0, 0, 0, 0.611], atol=5e-4)
    for g, sigma in zip(growth, printed, strict=True):
        core, affine = schema.CoreCoherence(), schema.AppendixCoherence()
        assert abs(scalar(coherence_slope(core, sigma, g, suppression))) > 3e-4
        assert abs(scalar(coherence_slope(affine, sigma, g, suppression))) < 1e-15


@given(r0=st.floats(1.02, 5.0), k=st.floats(0.2, 1.0), share=st.floats(1e-4, 0.99))
def test_e04_coherence_never_exceeds_the_printed_threshold(r0, k, share):
    """σ > σ_critical is to start phase 2; σ_critical is the attractor, never passed from below."""
    critical = float(schema.printed_sigma_critical(r0, k))
    assert critical == pytest.approx(float(schema.core_equilibrium(r0, k)))
    t = np.linspace(0.0, 40.0 / (r0 - 1.0), 200)
    sigma = schema.logistic_coherence(t, share * critical, r0, 1.0, k)
    assert np.max(sigma) <= critical * (1 + 1e-12)
    assert sigma[-1] == pytest.approx(critical, rel=1e-6)


def test_e04_printed_threshold_fires_when_conditions_worsen(regimes):
    """σ > σ_critical is always true in the trap, false in growth, true after R₀ has fallen."""
    ys, r0 = regimes["consistent"]
    baseline = schema.REGIMES.index("baseline")
    trapped = ys.sigma[baseline, :, 0, 0, 0]
    assert np.all(trapped > schema.printed_sigma_critical(r0[baseline], 0.5))
    assert trapped[-1] < 1e-6
    withdrawn = schema.REGIMES.index("withdrawn")
    critical = schema.printed_sigma_critical(r0[withdrawn], 0.5)
    fires = ys.sigma[withdrawn, :, 0, 0, 0] > critical
    # R₀ starts at 0.8 and needs some epochs to pass one: until then the condition is vacuous.
    assert not fires[10:41].any()
    assert fires[45:].all()
    assert np.all(critical[45:] < 0.361)  # what coherence had reached at the withdrawal


@given(r0=st.one_of(st.floats(0.3, 0.97), st.floats(1.03, 3.0)), k=st.floats(0.2, 1.0))
def test_e05_a_single_attractor_from_every_start(r0, k):
    """Bistability is assumed; every start above zero reaches the same σ, for every R₀."""
    t = 60.0 / abs(r0 - 1.0)
    ends = [float(schema.logistic_coherence(t, s, r0, 1.0, k)) for s in (1e-4, 0.3, 1.0)]
    assert ends == pytest.approx([float(schema.core_equilibrium(r0, k))] * 3, abs=1e-12)


def test_e05_slow_sweeps_show_no_hysteresis():
    """R₀ raised and lowered: Eq. 28 retraces its way; only the extension keeps two branches."""
    r0 = np.array([0.6, 0.75, 0.9, 1.1, 1.25])
    gap = {}
    for variant in ("consistent", "hysteretic"):
        up, down = schema.quasi_static_sweep(sigma_model(variant), r0, hold=1000.0, steps=500)
        gap[variant] = np.abs(up - down)
    assert gap["consistent"].max() < 2e-3
    fold = float(schema.saddle_node(0.9, 3.0))
    assert fold == pytest.approx(0.710, abs=5e-4)
    between = (r0 > fold) & (r0 < 1)
    assert gap["hysteretic"][between].min() > 0.4
    assert gap["hysteretic"][~between].max() < 2e-3


def test_e05_withdrawal_tells_the_models_apart(regimes):
    """What was learnt is to persist below R₀ = 1; Eq. 28 forgets it, the extension keeps it."""
    assert final_coherence(regimes, "consistent", "targeted") == pytest.approx(0.4375, abs=1e-4)
    assert final_coherence(regimes, "consistent", "withdrawn") < 1e-6
    _, upper = schema.hysteretic_equilibria(0.8, 0.9, 3.0)
    kept = final_coherence(regimes, "hysteretic", "withdrawn")
    assert kept == pytest.approx(float(upper), abs=1e-4)
    assert kept == pytest.approx(0.631, abs=1e-3)
    assert final_coherence(regimes, "hysteretic", "baseline") < 1e-6


def test_e06_the_unit_box_is_not_invariant():
    """Coherence is to stay in [0, 1]; above R₀ = 1/(1 − γ_σ) the field points out of it."""
    for k in (0.2, 0.5, 0.8):
        limit = 1.0 / (1.0 - k)
        for r0 in (0.99 * limit, 1.01 * limit):
            slope = scalar(coherence_slope(schema.CoreCoherence(), 1.0, 0.3 * r0, 0.3, k))
            assert (slope > 0) == (r0 > limit)


def test_e06_the_published_example_saturates_only_by_clipping():
    """Its σ crystallises at 1; the equation goes on to 1.232, and a projection says so."""
    rates = Rates(rho=2.5, epsilon_sigma=0.08, saturation=0.8)
    environment = Environment(p_a=0.85, omega_sl=0.3)
    model = sigma_model(rates=rates, environment=environment)
    y0 = initial_state(alpha=0.8)
    free = coherence_at(20.0, model, y0)
    boxed = coherence_at(20.0, model, y0, Boxed(Tsit5()))
    r0 = float(schema.reproduction_number(rates, environment(0.0, y0), 0.8))
    assert r0 == pytest.approx(70.8, abs=0.05)
    assert scalar(free.ys[-1]) == pytest.approx(1.232, abs=5e-4)
    assert scalar(boxed.ys[-1]) == 1.0
    assert boxed.box.count > 100
    assert boxed.box.excess > 0.01


def test_e07_transversality_holds_at_the_bifurcation_not_as_printed():
    """∂F/∂R₀ ≠ 0 is printed; at σ = 0 it is zero, the mixed derivative is what does not vanish."""

    def field(sigma, r0):
        return coherence_slope(schema.CoreCoherence(), sigma, 0.3 * r0, 0.3, 0.5)

    slope = jax.jit(jax.grad(field, (0, 1)))(0.0, 1.0)
    curvature = jax.jit(jax.hessian(field, (0, 1)))(0.0, 1.0)
    assert float(slope[1]) == 0.0
    assert float(curvature[0][1]) == pytest.approx(0.3)
    assert float(curvature[0][0]) == pytest.approx(-2 * 0.5 * 0.3)


def test_e08_the_thresholds_in_use_do_not_come_from_the_formula():
    """σ_critical has five values; .15 in use needs R₀ = 1.081 (or 1.136), .25 and .625 need 2."""
    used = schema.Thresholds().sigma_critical
    for r0, k, value in [(1.081, 0.5, used), (1.136, 0.8, used), (2, 2, 0.25), (2, 0.8, 0.625)]:
        assert float(schema.printed_sigma_critical(r0, k)) == pytest.approx(value, abs=5e-4)
    # In the reference regimes the formula gives −0.5 and 0.4375.
    assert abs(float(schema.printed_sigma_critical(0.8, 0.5)) - used) > 0.2
    assert abs(float(schema.printed_sigma_critical(1.28, 0.5)) - used) > 0.2
    with pytest.raises(ValueError, match="decay_protection"):
        Rates(decay_protection=2.0)


def test_e09_the_two_reproduction_numbers_disagree():
    """R₀ of coherence is below one in the trap; the one named so for mastery is far above."""
    rates, conditions = Rates(), schema.regime("baseline")(0.0, None)
    coherence = float(schema.reproduction_number(rates, conditions, 0.5))
    assert coherence == pytest.approx(0.8)
    mastery = [rates.eta_max / float(schema.effective_decay(s, rates)) for s in (0.0, 0.4375)]
    assert mastery[0] == pytest.approx(35.0)
    assert mastery[1] > 1.2 * mastery[0]  # it contains the σ* that it is then used to define


def test_e10_zero_coherence_is_absorbing():
    """σ ≈ 0 is called the start of learning; exactly zero never leaves."""
    model = sigma_model(environment=schema.regime("targeted"))
    seedless, seeded = (
        coherence_at(200.0, model, initial_state(sigma=s, alpha=0.8)) for s in (0.0, 0.1)
    )
    assert scalar(seedless.ys[-1]) == 0.0
    assert scalar(seeded.ys[-1]) > 0.4


def test_e10_time_to_coherence_is_logarithmic_in_the_seed():
    """Results depend on σ(0), which is unspecified: a seed 100 times smaller costs ln(100)/r."""
    growth, suppression, k = 0.384, 0.3, 0.5
    capacity, rate = float(schema.core_equilibrium(growth / suppression, k)), growth - suppression
    t = np.linspace(0.0, 250.0, 25_001)

    def half_time(seed):
        sigma = schema.logistic_coherence(t, seed, growth, suppression, k)
        return t[np.argmax(sigma > capacity / 2)]

    times = np.array([half_time(seed) for seed in (1e-2, 1e-4, 1e-6)])
    np.testing.assert_allclose(times[1:] - times[:-1], np.log(100) / rate, rtol=0.01)


# Depth ------------------------------------------------------------------------------------------


def test_e13_depth_passes_the_frontier_as_printed(regimes):
    """Growth is said to vanish at the frontier; as printed it is largest there."""
    x = initial_state(delta=1.0, sigma=1.0)
    e = Environment(r_a=0.0)(0.0, x)
    assert scalar(schema.PrintedDepth()(x, e, PROOF_RATES)) == pytest.approx(0.814, abs=5e-4)
    assert scalar(schema.BoundedDepth()(x, e, PROOF_RATES)) == pytest.approx(-0.005)
    solution = simulate(sigma_model("paper"), initial_state(), [0.0, 50.0], method=FixedStep(50))
    assert scalar(solution.ys.delta[-1]) > 5.0
    assert 0.9 < regimes["consistent"][0].delta.max() < 1.0


def test_e14_inflection_is_at_ln_a_over_b():
    """The inflection is said to lie at ≈ 0.37; that is its value over η_max, not its place."""
    location, value = schema.depth_inflection(PROOF_RATES)
    assert float(location) == pytest.approx(np.log(4) / 3)
    assert float(value) == pytest.approx(np.exp(-1))

    def efficiency(x):
        return schema.learning_efficiency(x, PROOF_RATES)

    curvature = jax.grad(jax.grad(efficiency))
    assert float(curvature(location)) == pytest.approx(0.0, abs=1e-12)
    assert float(curvature(0.37)) > 0.1


def test_e14_published_shape_makes_efficiency_constant():
    """With the published b = .003, a rate per training step, η does not depend on depth."""
    rates = Rates(eta_max=1.0, gompertz_a=4.0, gompertz_b=0.003)
    low, high = (float(schema.learning_efficiency(x, rates)) for x in (0.0, 1.0))
    assert (low, high) == pytest.approx((0.0183, 0.0185), abs=5e-5)


def test_e15_the_state_of_zero_depth_is_no_equilibrium():
    """δ = 0 is listed as an equilibrium; depth grows there at f T η_max e^(−a)."""
    x = initial_state(delta=0.0, sigma=0.0)
    slope = scalar(schema.PrintedDepth()(x, Environment()(0.0, x), PROOF_RATES))
    assert slope == pytest.approx(np.exp(-4))


@pytest.mark.parametrize(
    ("a", "b", "ratio", "upper", "roots"),
    [
        (4, 3, 0.87, 1.0, [0.030, 0.645, 0.797]),
        (5, 5, 0.80, 2.0, [0.011, 0.202, 1.237]),
        (4, 3, 0.50, 60.0, [1.979]),
        (4, 3, 0.01, 60.0, []),
    ],
)
def test_e15_depth_has_one_or_three_equilibria(a, b, ratio, upper, roots):
    """A unique equilibrium inside the box is claimed; there are one or three, some outside."""
    found = schema.depth_equilibria(Rates(gompertz_a=a, gompertz_b=b), ratio, upper=upper)
    np.testing.assert_allclose(found, roots, atol=1e-3)


def test_e15_three_depth_equilibria_need_a_ratio_in_a_window():
    """For a = 4 there are three exactly for k/b in (.1705, .2919); for a < e never."""
    ratios = np.array([0.170, 0.171, 0.2, 0.25, 0.2915, 0.2925])
    count = [len(schema.depth_equilibria(Rates(gompertz_a=4, gompertz_b=1), k, 10)) for k in ratios]
    assert count == [1, 3, 3, 3, 3, 1]
    shallow = Rates(gompertz_a=2.7, gompertz_b=1)
    assert {len(schema.depth_equilibria(shallow, k, 20)) for k in np.linspace(0.1, 0.5, 41)} == {1}


def test_e15_depth_at_the_frontier_can_be_unstable():
    """Stability is argued from monotony; ∂δ̇/∂δ at the frontier is positive."""
    environment = Environment(f_learn=0.5, t_a=0.5, r_a=0.0)
    model = sigma_model("paper", rates=PROOF_RATES, environment=environment)
    assert jacobian(model, delta=1.0, sigma=0.5)[DELTA, DELTA] > 0.1


def test_e16_delta_star_does_not_solve_what_it_is_derived_from():
    """.5438 is said to solve η = λ_c; that has the solution −1.527, and δ = 0 is already beyond."""
    rates = Rates(eta_max=1.0, lambda_c=0.01, gompertz_a=1.0, gompertz_b=1.0)
    assert float(schema.printed_delta_star(rates)) == pytest.approx(0.5438, abs=5e-5)
    solution = np.log(1.0 / np.log(1.0 / 0.01))
    assert solution == pytest.approx(-1.527, abs=5e-4)
    assert float(schema.learning_efficiency(solution, rates)) == pytest.approx(0.01)
    assert float(schema.learning_efficiency(-solution, rates)) > 0.5  # the sign the proof has
    assert float(schema.learning_efficiency(0.0, rates)) > 0.01


def test_e16_the_operating_threshold_needs_another_theta():
    """(θ_I + τη)/(1 + τλ_c) = .65 with τ = .11 needs θ_I = .54; the proof began with .8."""

    def operating(theta, tau):
        return (theta + tau * 1.0) / (1.0 + tau * 0.01)

    assert operating(0.54, 0.11) == pytest.approx(0.65, abs=1e-3)
    assert operating(0.8, 0.11) == pytest.approx(0.909, abs=1e-3)
    assert operating(0.8, -0.151) == pytest.approx(0.65, abs=1e-3)


def test_e17_multiplicative_coherence_is_a_gompertz_curve_of_the_step(pilot):
    """η is a function of depth; the published σ reuses it as a function of the training step."""
    curves = pilot["multiplicative"]
    mean = curves.sigma_proxy.mean(axis=0)
    assert np.corrcoef(mean, published_curve("multiplicative", curves.step))[0, 1] > 0.9999


def test_e18_activation_ignores_coherence_and_feeds_nothing_back():
    """Intersections are to need quality and sustain themselves; depth alone activates them."""
    x = initial_state(domains=2, delta=0.85, sigma=0.0)
    depth, sigma = schema.marginal_depth(x.delta), schema.marginal_coherence(x.sigma)
    assert schema.active_intersections(depth, 0.8)[0, 0, 1]
    assert schema.discovery_rate(schema.mastery_quality(sigma, depth))[0, 0, 1] == 0.0
    # Ψ scales with φ, and no derivative does.
    near, far = (sigma_model(environment=Environment(domain_similarity=s)) for s in (1.0, 0.0))
    alive = initial_state(domains=2, delta=0.85, sigma=0.6)
    one, other = (jax.tree.leaves(slope_of(traced(m), alive)) for m in (near, far))
    for near_slope, far_slope in zip(one, other, strict=True):
        np.testing.assert_array_equal(near_slope, far_slope)
    # The earlier paper wants θ_I below the depth of mastery.
    assert schema.Thresholds().theta_delta < 0.8


def test_e19_depth_is_not_fast():
    """Depth counts as fast; by decay it relaxes slower than the slow variables."""
    model = sigma_model("unbounded_frontier", environment=Environment(f_learn=0.0))
    j = jacobian(model, delta=0.9, sigma=0.4)
    assert -j[DELTA, DELTA] == pytest.approx(0.01 * (1 - 0.5 * 0.4) * (1 - 0.3))
    assert -j[DELTA, DELTA] < min(-j[i, i] for i in SLOW)
    # With growth that stops at the frontier it is fast there; Eq. 14 as printed even diverges.
    assert jacobian(sigma_model(), delta=0.98, sigma=0.4)[DELTA, DELTA] < -0.2
    assert jacobian(sigma_model("unbounded_frontier"), delta=0.98)[DELTA, DELTA] > 0


def test_e20_the_system_is_a_cascade():
    """Everything is said to interact with σ; the Jacobian shows α → σ → {δ, M̂, Ξ} alone."""
    j = jacobian(sigma_model(), delta=0.66, sigma=0.16)  # inside both smoothed targets
    edges = {(i, k) for i, k in np.argwhere(j != 0) if i != k}
    assert edges == {
        (DELTA, SIGMA), (SIGMA, ALPHA), (SELF_MODEL, SIGMA), (PLANNING, DELTA), (INHIBITION, SIGMA),
    }  # fmt: skip


def test_e20_a_moving_frontier_does_not_enter_the_depth_equation():
    """λ_f is said to be in the depth equation; a frontier's speed changes no derivative."""
    still, moving = (
        sigma_model(environment=Environment(frontier=schema.FrontierGrowth(rate=rate)))
        for rate in (0.0, 0.5)
    )
    x = initial_state()
    assert scalar(still(0.0, x).delta) == scalar(moving(0.0, x).delta)
    assert float(schema.obsolescence_rate(moving.environment.frontier, 0.0, x)) == 0.5


# Jacobian, timescales, numerics -----------------------------------------------------------------


def printed_fast_jacobian(rates, e, delta, sigma, alpha):
    protection, k = rates.decay_protection, rates.saturation
    growth, suppression = rates.rho * e.p_a, rates.epsilon_sigma * e.omega_sl
    return np.array(
        [
            [-rates.lambda_c * (1 - protection * sigma), rates.lambda_c * protection * delta, 0],
            [
                0,
                growth * alpha * (1 - 2 * k * sigma) - suppression,
                growth * sigma * (1 - k * sigma),
            ],
            [0, rates.gamma * e.c_a, -rates.gamma * (1 - alpha)],
        ]
    )


def test_e21_the_printed_fast_jacobian_is_wrong_in_four_entries():
    """Against automatic differentiation, the printed 3 × 3 matrix differs in four entries."""
    model, point = sigma_model("paper"), dict(delta=0.6, sigma=0.3, alpha=0.4)
    true = jacobian(model, **point)[:3, :3]
    printed = printed_fast_jacobian(model.rates, model.environment(0.0, None), **point)
    wrong = {tuple(map(int, index)) for index in np.argwhere(~np.isclose(true, printed))}
    assert wrong == {(DELTA, DELTA), (DELTA, SIGMA), (ALPHA, SIGMA), (ALPHA, ALPHA)}
    np.testing.assert_array_equal(true, np.triu(true))  # so the eigenvalues are the diagonal


def test_e21_the_printed_fast_jacobian_calls_stable_states_unstable():
    """Strictly negative real parts are claimed at coherent states; as printed most are not."""
    draw = np.random.default_rng(0)
    positive, regimes = 0, 0
    while regimes < 200:
        rho, gamma, zeta, p_a, c_a, surface, k = draw.uniform(0.05, 1.0, 7)
        alpha = gamma * c_a / (gamma * c_a + zeta * surface)
        suppression = draw.uniform(0.02, 0.98) * rho * p_a * alpha
        sigma = (1 - suppression / (rho * p_a * alpha)) / k
        if sigma > 1:
            continue
        regimes += 1
        rates = Rates(rho=rho, gamma=gamma, zeta_alpha=zeta, saturation=k, epsilon_sigma=1.0)
        e = Environment(omega_sl=suppression, p_a=p_a, c_a=c_a, r_surface=surface)(0.0, None)
        printed = printed_fast_jacobian(rates, e, 0.9, sigma, alpha)
        positive += np.linalg.eigvals(printed).real.max() > 0
        assert suppression - rho * p_a * alpha < 0  # the true σ eigenvalue there
    assert positive > 0.5 * regimes


@pytest.mark.parametrize("variant", ["consistent", "paper", "hysteretic"])
def test_e22_the_fast_variables_do_not_see_the_slow_ones(variant):
    """A slow manifold over (M̂, Ξ) is invoked; no fast derivative depends on any of them."""
    j = jacobian(sigma_model(variant), delta=0.66, sigma=0.16)
    assert not j[np.ix_(FAST, SLOW)].any()


def test_e22_normal_hyperbolicity_fails_at_the_threshold():
    """The manifold is to be normally hyperbolic; at R₀ = 1 the σ eigenvalue is zero."""
    slope = jax.grad(lambda s: coherence_slope(schema.CoreCoherence(), s, 0.3, 0.3))
    assert float(slope(0.0)) == 0.0


def test_e23_the_slow_variables_are_the_least_stiff():
    """The slow block is called stiff; at the paper's magnitudes attention is much faster."""
    model = sigma_model(rates=PAPER_MAGNITUDES, environment=schema.regime("targeted"))
    rate = model.relaxation_rate(0.0, initial_state())
    slow = max(scalar(getattr(rate, n)) for n in ("self_model", "planning", "inhibition"))
    fast = scalar(rate.alpha)
    assert slow == pytest.approx(0.015)
    assert fast > 5 * slow
    # An explicit solver stays stable for steps h with h · rate < 2.5.
    assert 2.5 / slow > 150 > 2.5 / fast


# E-24, the IMEX tableau, is shown in tests/solvers/test_imex.py.


def test_e25_the_condition_number_is_not_what_the_bound_says():
    """It is to diverge as σ, α → 1 and be bounded below; it does neither."""
    model = sigma_model("unbounded_frontier")

    def condition(sigma, alpha):
        return np.linalg.cond(jacobian(model, delta=0.9, sigma=sigma, alpha=alpha))

    corner = [condition(s, a) for s, a in [(0.9999, 0.5), (0.5, 0.9999), (0.9999, 0.9999)]]
    assert max(corner) < 1.2 * condition(0.2, 0.2)
    critical = float(schema.critical_attention(model.rates, model.environment(0.0, None)))
    assert condition(0.0, critical) > 1e12  # σ = 0, R₀ = 1, where the printed bound is finite


# Self-model, executive control, modalities, society ---------------------------------------------


def test_e26_shortcuts_deflate_the_printed_self_model():
    """The term −ξΩM̂ is said to inflate M̂; it makes M̂*/σ 1, .625 and .333."""
    rates, sigma = Rates(nu_m=0.01, xi_m=0.02), 0.6
    for omega, share in [(0.0, 1.0), (0.3, 0.625), (1.0, 1 / 3)]:
        x = initial_state(sigma=sigma)
        e = Environment(omega_sl=omega)(0.0, x)
        printed = float(schema.self_model_equilibrium(rates, e, sigma))
        assert printed == pytest.approx(share * sigma)
        inflated = (0.01 * sigma + 0.02 * omega) / (0.01 + 0.02 * omega)
        for equation, value in [
            (schema.PrintedSelfModel(), printed),
            (schema.InflatingSelfModel(), inflated),
        ]:
            at = eqx.tree_at(lambda s: s.self_model, x, jnp.full((1, 1, 1), value))
            assert scalar(equation(at, e, rates)) == pytest.approx(0.0, abs=1e-15)
        assert float(schema.calibration_error(inflated, sigma)) >= 0.0
        assert float(schema.calibration_error(printed, sigma)) <= 0.0


def test_e27_the_coherent_state_does_not_know_itself(regimes):
    """At the coherent equilibrium M̂ is to equal σ*; with pressure it ends at two thirds of it."""
    ys, _ = regimes["consistent"]
    end = jax.tree.map(lambda leaf: leaf[schema.REGIMES.index("targeted"), -1], ys)
    assert scalar(end.self_model) == pytest.approx(scalar(end.sigma) / 1.5, rel=1e-3)


def test_e28_one_sum_for_three_components_cannot_reach_its_targets():
    """Eq. 33 prints one sum: differences between planning and flexibility then never change."""
    x = initial_state()
    e = Environment()(0.0, x)
    targets = schema.ExecutiveTargets()(x, e)
    assert scalar(targets[0]) != scalar(targets[2])
    planning, _, flexibility = schema.PrintedExecutive()(x, e, Rates())
    assert scalar(planning) == scalar(flexibility)
    planning, _, flexibility = schema.Executive()(x, e, Rates())
    assert scalar(planning) > 0 > scalar(flexibility)


def test_e28_printed_targets_jump():
    """P* falls from .9 to .5 at δ_rel = .65 and ends at .2; I* drops once σ is critical."""
    printed = schema.ExecutiveTargets(width=0.0)

    def targets(delta, sigma):
        x = initial_state(delta=delta, sigma=sigma)
        return [scalar(value) for value in printed(x, Environment()(0.0, x))]

    planning = [targets(delta, 0.0)[0] for delta in (0.6499, 0.6501, 1.0)]
    assert planning == pytest.approx([0.9, 0.5, 0.2], abs=1e-3)
    assert [targets(0.5, sigma)[1] for sigma in (0.1499, 0.1501)] == pytest.approx([0.9, 0.4])


def test_e29_printed_transfer_leaves_the_box_and_blows_up():
    """Eq. 41 is proved bounded; two modalities grow without limit in finite time."""
    rates = Rates(rho=0.1, epsilon_sigma=0.06, transfer_rate=0.1, saturation=1.0)
    environment = Environment(p_a=0.8, r_surface=0.0, modality_similarity=0.9)

    def start(sigma):
        return initial_state(modalities=2, sigma=sigma, alpha=1.0)

    def model(variant):
        return sigma_model(variant, rates=rates, environment=environment)

    assert model("paper_multimodal")(0.0, start(1.0)).sigma == pytest.approx(0.06)
    assert model("paper_multimodal")(0.0, start(0.0)).sigma == pytest.approx(0.08)
    runs = {
        variant: coherence_at(400.0, model(variant), start(0.1), throw=False)
        for variant in ("paper_multimodal", "bounded_transfer")
    }
    assert not runs["paper_multimodal"].success
    assert runs["bounded_transfer"].success
    sigma = runs["bounded_transfer"].ys
    assert np.min(sigma) >= 0.0
    assert np.max(sigma) <= 1.0
    assert not model("bounded_transfer")(0.0, start(0.0)).sigma.any()


def test_e30_the_weakest_modality_does_not_follow_the_equation():
    """σ(d) = min over modalities is to be the domain's σ; where two cross, its slope jumps."""
    x = initial_state(modalities=2, sigma=0.2, alpha=0.5)
    e = Environment(p_a=jnp.array([2.0, 0.1]))(0.0, x)
    slope = schema.CoreCoherence()(x, e, Rates())
    assert slope[0, 0, 0] > 0 > slope[0, 0, 1]
    before, after = (
        scalar(schema.marginal_coherence(x.sigma + h * slope)) - 0.2 for h in (-1e-3, 1e-3)
    )
    assert before < 0  # rising until the crossing
    assert after < 0  # falling from then on


def test_e30_the_collective_field_is_tiny():
    """It multiplies four σ and three φ: with every factor at one half it is 1/128."""
    similarity = jnp.full((2, 2), 0.5)
    mu = schema.legibility(jnp.full((2, 2), 0.5), similarity)
    np.testing.assert_allclose(schema.collective_field(mu, similarity), 0.5**7)


# Measurement and noise --------------------------------------------------------------------------


def test_e32_measured_coherence_exceeds_one(pilot):
    """σ̂ is to lie in [0, 1]; at the last checkpoint it exceeds 1 in 20 of 30 coupled runs."""
    coupled = [pilot[name] for name in ("additive", "multiplicative")]
    assert [int((c.sigma_hat[:, -1] > 1).sum()) for c in coupled] == [11, 9]
    trained = [c.sigma_hat[:, c.trained] for c in coupled]
    assert all((sigma.max(axis=1) > 1).all() for sigma in trained)
    assert max(sigma.max() for sigma in trained) == pytest.approx(1.057, abs=5e-4)
    undefined = sum(int(np.isnan(c.sigma_hat).sum()) for c in pilot.values())
    assert undefined == 14  # all of them at step 0, where Acc_ID is 0


def test_e33_recalibration_would_have_fired_in_most_runs(pilot):
    """|σ̃ − σ̂| > .15 is to recalibrate; at the last checkpoint 27 of 45 runs exceed it."""
    beyond = {
        name: int((abs(c.sigma_proxy - c.sigma_hat)[:, -1] > 0.15).sum())
        for name, c in pilot.items()
    }
    assert beyond == {"baseline": 10, "additive": 15, "multiplicative": 2}


def test_e34_the_error_bound_misses_a_term():
    """The slope of σ̇ in σ is .182 in the paper's own example; its bound has .020."""
    growth, suppression = 0.02, 0.2
    slope = jax.grad(lambda s: coherence_slope(schema.CoreCoherence(), s, growth, suppression))
    assert abs(float(slope(0.1))) == pytest.approx(0.182)
    assert abs(float(slope(0.1))) > 9 * growth


@pytest.mark.parametrize(
    ("condition", "without_noise", "median", "published"),
    [("additive", 400, 314, 313), ("multiplicative", 209, 180, 183), ("baseline", 167, 98, None)],
)
def test_e37_noise_sets_the_published_entry_times(condition, without_noise, median, published):
    """Entry is called a crossing of the curve; first passage of the noise gives its median."""
    margin = jnp.asarray(published_curve(condition, np.arange(2000)) - 0.15)
    assert int(jnp.argmax(margin > 0)) == pytest.approx(without_noise, abs=1)
    passage = schema.first_passage(margin, 0.012)
    found = schema.passage_quantile(passage)
    assert found == median
    assert float(schema.premature_probability(passage, margin)) > 0.99
    if published is not None:
        assert abs(found - published) <= 3


def test_e37_the_printed_error_rate_is_a_union_bound():
    """Printed as an equality it is certain at both thresholds, where three quarters is true."""
    assert float(schema.printed_phase_error(0.15, 0.55, 0.05)) == pytest.approx(1.0)
    # There a reading is wrong if noise lifts either of the two signals over its threshold.
    readings = np.random.default_rng(0).normal(0.0, 0.05, (20_000, 2))
    assert (readings > 0).any(axis=1).mean() == pytest.approx(0.75, abs=0.01)
    far = float(schema.printed_phase_error(0.30, 0.70, 0.05))
    assert far == pytest.approx(0.0027, abs=5e-5)


@pytest.mark.parametrize(("noise", "mean"), [(0.0, 0.500), (0.1, 0.376), (0.25, 0.012)])
def test_e38_noise_changes_the_mean(noise, mean):
    """Noise is to leave E[σ] alone; multiplicative noise lowers it and can end coherence."""
    paths = 4000 if noise else 1
    x = initial_state(paths, sigma=0.5, alpha=1.0)
    e = Environment(p_a=1.0, omega_sl=1.0)(0.0, x)
    rates = Rates(rho=0.04, epsilon_sigma=0.02, saturation=1.0)

    @jax.jit
    def end(key):
        def epoch(x, key):
            rate = schema.CoreCoherence()(x, e, rates) / x.sigma
            kick = noise * jax.random.normal(key, x.sigma.shape)
            sigma = x.sigma * jnp.exp(rate - noise**2 / 2 + kick)
            return eqx.tree_at(lambda s: s.sigma, x, sigma), None

        return jax.lax.scan(epoch, x, jax.random.split(key, 800))[0].sigma

    assert float(end(jax.random.key(0)).mean()) == pytest.approx(mean, abs=0.012)


def test_e39_discovery_grows_with_the_root_of_quality():
    """Ψ ∝ σδ is printed; by its definition doubling one domain's σ multiplies Ψ by √2."""
    depth = jnp.array([0.8, 0.8])
    psi = [
        schema.discovery_rate(schema.mastery_quality(jnp.array([s, 0.5]), depth))[0, 1]
        for s in (0.4, 0.8)
    ]
    assert float(psi[1] / psi[0]) == pytest.approx(np.sqrt(2))


# The published pilot ----------------------------------------------------------------------------


def test_e51_before_the_extra_batches_coupling_does_nothing(pilot):
    """The coupled loss is to matter from the start; until step 250 it cannot be told apart."""
    baseline, additive = (
        pilot[name].acc_ood[:, 1:6].mean(axis=1) for name in ("baseline", "additive")
    )
    assert pilot["additive"].onset.min() * schema.STEPS_PER_EPOCH > 250
    assert abs(baseline.mean() - additive.mean()) < 0.01
    assert stats.ttest_ind(baseline, additive, equal_var=False).pvalue > 0.4


def test_e52_the_proxy_is_decoupled_from_the_network(pilot):
    """σ̃ is to measure coherence; the baseline's ends above additive's with half its OOD."""
    proxy = {name: c.sigma_proxy.mean(axis=0) for name, c in pilot.items()}
    ood = {name: c.acc_ood[:, -1].mean() for name, c in pilot.items()}
    np.testing.assert_allclose(proxy["baseline"][[0, 20, -1]], [0.097, 0.402, 0.684], atol=5e-4)
    assert proxy["baseline"][-1] > proxy["additive"][-1] + 0.1
    assert ood["baseline"] < 0.5 * ood["additive"]
    for curves in pilot.values():
        assert stats.pearsonr(curves.sigma_proxy[:, -1], curves.acc_ood[:, -1]).pvalue > 0.1


def test_e53_the_baseline_stays_in_phase_0_by_fiat(pilot):
    """The baseline is said to remain in phase 0; by the rule it leaves, the rule was not run."""
    baseline = pilot["baseline"]
    assert not baseline.phase.any()
    assert (baseline.sigma_proxy[:, 5:] > schema.Thresholds().sigma_critical).all()


def test_e54_published_phases_skip_one_and_follow_a_clock(pilot):
    """A phase 1 of zero length is reported as a finding; no run can be in it, by construction."""
    for name, checkpoints in [
        ("additive", (102, 0, 243, 255)),
        ("multiplicative", (59, 0, 286, 255)),
    ]:
        curves = pilot[name]
        assert tuple(np.bincount(curves.phase.ravel(), minlength=4)) == checkpoints
        assert set(curves.step[(curves.phase >= 3).argmax(axis=1)]) == {1150}


def test_e58_the_product_test_shows_saturation(pilot):
    """Ψ is to grow faster than linearly; the reported fit's square term is −25, on one domain."""
    x, y = [], []
    for name in ("additive", "multiplicative"):
        curves = pilot[name]
        # By quarters of training: mean proxy, and how many checkpoints count as phase 2 or later.
        x.append(curves.sigma_proxy.reshape(15, 4, 10).mean(axis=-1).ravel())
        y.append((curves.phase.reshape(15, 4, 10) >= 2).sum(axis=-1).ravel())
    x, y = np.concatenate(x), np.concatenate(y)

    def r_squared(degree):
        fit = np.polynomial.polynomial.polyfit(x, y, degree)
        rest = y - np.polynomial.polynomial.polyval(x, fit)
        return fit, 1 - rest.var() / y.var()

    assert r_squared(1)[1] == pytest.approx(0.427, abs=5e-4)
    quadratic, explained = r_squared(2)
    assert explained == pytest.approx(0.762, abs=5e-4)
    assert quadratic[2] == pytest.approx(-24.99, abs=0.01)


def test_e59_the_kink_has_the_wrong_sign(pilot):
    """Learning is to speed up at the breakpoint; in 30 of 30 runs a hinge finds it slows down."""
    step = pilot["additive"].step.astype(float)

    def change_of_slope(accuracy):
        fits = []
        for knot in step[6:34]:
            design = np.stack([np.ones_like(step), step, np.maximum(step - knot, 0.0)], axis=1)
            coefficients, rest, *_ = np.linalg.lstsq(design, accuracy)
            fits.append((rest[0], coefficients[2]))
        return min(fits)[1]

    runs = np.concatenate([pilot[name].acc_ood for name in ("additive", "multiplicative")])
    assert change_of_slope(runs.mean(axis=0)) < -1e-3
    assert all(change_of_slope(run) < 0 for run in runs)


def test_e60_entry_is_not_insensitive_to_the_threshold():
    """±.1 in σ_critical is to shift entry by 38 steps; on the additive curve it is 400."""
    step = np.arange(2000)
    curve = published_curve("additive", step)
    entry = [int(step[curve >= threshold - 1e-12][0]) for threshold in (0.05, 0.15, 0.25)]
    assert np.diff(entry) == pytest.approx([400, 400], abs=1)


def test_e63_conditions_share_their_noise(pilot):
    """Runs are analysed as independent; σ̃ of baseline and additive share every draw of noise."""
    baseline, additive = pilot["baseline"], pilot["additive"]
    difference = baseline.sigma_proxy - additive.sigma_proxy
    np.testing.assert_allclose(difference, np.tile(0.05 + 5e-5 * baseline.step, (15, 1)), atol=1e-6)


def test_e64_identical_starts_are_measured_differently(pilot):
    """A run starts from one seed in all conditions; about half differ already at step 0."""
    baseline, additive = (pilot[name].acc_id[:, 0] for name in ("baseline", "additive"))
    same = int((baseline == additive).sum())
    assert 0 < same < 15
    assert (baseline[0], additive[0]) == pytest.approx((0.3457, 0.0648), abs=5e-5)


def test_e65_eight_epochs_are_too_short_for_the_claimed_rates():
    """At ρ ≈ .1 an epoch σ grows at most 2.2-fold in the pilot's 8 epochs, not from .05 to .89."""
    epochs = 2000 / schema.STEPS_PER_EPOCH
    assert epochs == 8
    most = float(schema.logistic_coherence(epochs, 0.05, 0.1, 0.0, 0.5))
    assert most < 0.05 * np.exp(0.1 * epochs) < 0.12
