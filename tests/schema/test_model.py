"""The equations: golden numbers, exact solutions, an independent restatement, and symmetries."""

import functools

import diffrax
import equinox as eqx
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from scipy.integrate import solve_ivp

from sigma_jax import schema, solvers

TIMES = np.arange(0.0, 400.25, 0.25)
AT = (10, 20, 40, 80, 160, 400)
# σ at those epochs, from an independent integration (SciPy, rtol 1e-9) of the default regime.
GOLDEN = {
    ("consistent", "baseline"): (0.0503, 0.0264, 0.0077, 0.0007, 0.0, 0.0),
    ("consistent", "targeted"): (0.1234, 0.2050, 0.3610, 0.4343, 0.4375, 0.4375),
    ("consistent", "withdrawn"): (0.1234, 0.2050, 0.3610, 0.0231, 0.0002, 0.0),
    ("hysteretic", "baseline"): (0.0865, 0.0711, 0.0393, 0.0057, 0.0, 0.0),
    ("hysteretic", "targeted"): (0.2278, 0.6291, 0.8679, 0.8708, 0.8708, 0.8708),
    ("hysteretic", "withdrawn"): (0.2278, 0.6291, 0.8679, 0.6427, 0.6311, 0.6310),
}
FIELDS = ("delta", "sigma", "alpha", "self_model", "planning", "inhibition", "flexibility")


def regime_runs(variant, method):
    """One variant in all three regimes, which differ in surface reward before and after t = 40."""

    @jax.jit
    @jax.vmap
    def run(before, after):
        surface = schema.Switch((40.0,), (before, after))
        model = schema.sigma_model(variant, environment=schema.Environment(r_surface=surface))
        return solvers.simulate(
            model, schema.initial_state(), TIMES, method=method, jump_times=(40.0,)
        ).ys

    levels = jnp.array([schema.SURFACE_REWARD[name] for name in schema.REGIMES])
    return run(levels[:, 0], levels[:, 1])


@functools.cache
def golden_run(variant, regime, backend="adaptive"):
    """The seven variables over `TIMES`, `[7, times]`."""
    ys = _backend_runs(variant, backend)
    index = schema.REGIMES.index(regime)
    return np.stack([np.asarray(getattr(ys, name))[index].reshape(-1) for name in FIELDS])


@functools.cache
def _backend_runs(variant, backend):
    adaptive = solvers.Adaptive(rtol=1e-9, atol=1e-11)
    return regime_runs(variant, adaptive if backend == "adaptive" else solvers.FixedStep(2))


def crossing(values, level):
    after = np.argmax(values > level)
    share = (level - values[after - 1]) / (values[after] - values[after - 1])
    return TIMES[after - 1] + share * (TIMES[after] - TIMES[after - 1])


# Golden numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("variant", "regime"), GOLDEN)
def test_golden_coherence(variant, regime):
    sigma = golden_run(variant, regime)[1]
    np.testing.assert_allclose(
        sigma[np.searchsorted(TIMES, AT)], GOLDEN[variant, regime], rtol=0, atol=1e-3
    )


@pytest.mark.parametrize(("variant", "time"), [("consistent", 13.7), ("hysteretic", 6.4)])
def test_golden_crossing_of_sigma_critical(variant, time):
    assert crossing(golden_run(variant, "targeted")[1], 0.15) == pytest.approx(time, abs=0.1)


@pytest.mark.parametrize("regime", schema.REGIMES)
def test_golden_depth(regime):
    delta = golden_run("consistent", regime)[0]
    assert delta[TIMES == 10.0][0] == pytest.approx(0.815, abs=3e-3)
    assert crossing(delta, 0.55) == pytest.approx(6.8, abs=0.1)
    assert 0.979 - 1e-3 <= delta[-1] <= 0.988 + 1e-3


def test_golden_self_model_and_attention():
    targeted = golden_run("consistent", "targeted")
    assert targeted[3, -1] == pytest.approx(0.4375 / 1.5, abs=1e-4)
    assert targeted[2, -1] == pytest.approx(0.8, abs=1e-6)
    assert golden_run("consistent", "baseline")[2, -1] == pytest.approx(0.5, abs=1e-6)


# Restated ---------------------------------------------------------------------------------------


def restated(t, x, hysteretic, surface):
    """The seven equations for one domain at the default rates, in plain Python."""
    d, s, a, m, p, i, f = x
    omega, k = 0.5, 0.9 if hysteretic else 0.5
    pressure = 0.6 * omega / (1 + 3 * s) if hysteretic else 0.6 * omega

    def step(distance):
        u = min(max(0.5 + 0.5 * distance / 0.02, 0.0), 1.0)
        return u * u * (3 - 2 * u)

    plan = 0.9 + (0.5 - 0.3 * (d - 0.65) / 0.35 - 0.9) * step(d - 0.65)
    return [
        0.35 * np.exp(-3 * np.exp(-4 * d)) * (1 - d) - 0.01 * (1 - 0.5 * s) * d * (1 - 0.3),
        s * (0.6 * 0.8 * a * (1 - k * s) - pressure),
        0.3 * 0.8 * (1 - a) - 0.3 * a * surface,
        0.05 * (s - m) - 0.05 * omega * m,
        0.05 * (plan - p),
        0.05 * (0.9 - 0.5 * step(s - 0.15) - i),
        0.05 * (0.3 - f),
    ]


@functools.cache
def restated_run(variant, regime):
    y, parts = [0.05, 0.10, 0.5, 0.1, 0.5, 0.5, 0.5], []
    for surface, (start, end) in zip(
        schema.SURFACE_REWARD[regime], ((0, 40), (40, 400)), strict=True
    ):
        times = TIMES[(start <= TIMES) & (end >= TIMES)]
        part = solve_ivp(
            restated,
            (start, end),
            y,
            method="LSODA",
            t_eval=times,
            rtol=1e-10,
            atol=1e-12,
            args=(variant == "hysteretic", surface),
        ).y
        y = part[:, -1]
        parts.append(part if start == 0 else part[:, 1:])
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("backend", ["adaptive", "fixed"])
@pytest.mark.parametrize("variant", ["consistent", "hysteretic"])
@pytest.mark.parametrize("regime", ["targeted", "withdrawn"])
def test_both_backends_agree_with_a_restatement(variant, regime, backend):
    np.testing.assert_allclose(
        golden_run(variant, regime, backend), restated_run(variant, regime), rtol=0, atol=1e-5
    )


# The logistic -----------------------------------------------------------------------------------


def test_core_coherence_is_the_logistic():
    """At fixed attention, for R₀ = 0.5, 1 and 2 and four starts, σ = 0 among them."""
    times = np.linspace(0.0, 60.0, 31)
    rates = schema.Rates(gamma=0.0, zeta_alpha=0.0)
    starts = jnp.array([0.0, 1e-4, 0.1, 0.9])
    principled = jnp.array([0.25, 0.5, 1.0])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(None, 0))
    @functools.partial(jax.vmap, in_axes=(0, None))
    def run(sigma_0, p_a):
        environment = schema.Environment(p_a=p_a, omega_sl=0.25)
        model = schema.sigma_model(rates=rates, environment=environment)
        y0 = schema.initial_state(sigma=sigma_0, alpha=0.5)
        ys = solvers.simulate(model, y0, times, method=solvers.FixedStep(10)).ys
        return ys.sigma[:, 0, 0, 0]

    simulated = run(starts, principled)
    growth = 0.6 * principled * 0.5
    assert growth[1] == 0.6 * 0.25  # R₀ = 1 exactly
    exact = schema.logistic_coherence(
        times, starts[:, None], growth[:, None, None], 0.6 * 0.25, 0.5
    )
    np.testing.assert_allclose(simulated, exact, rtol=0, atol=1e-8)
    assert np.all(simulated[:, 0] == 0.0)
    # R₀ = 1: σ₀/(1 + kGσ₀t); R₀ = 2: σ → 1.
    np.testing.assert_allclose(exact[1, 2], 0.1 / (1 + 0.5 * 0.15 * 0.1 * times), rtol=1e-12)
    assert exact[2, 2, -1] == pytest.approx(0.99, abs=0.02)


def test_the_logistic_can_be_differentiated_at_its_threshold():
    """Where G = S the slope in G is the limit of those beside it."""

    def sigma(growth):
        return schema.logistic_coherence(10.0, 0.1, growth, 0.3, 0.5)

    difference = (sigma(0.3 + 1e-5) - sigma(0.3 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(sigma)(0.3), difference, rtol=1e-6)
    np.testing.assert_allclose(jax.grad(sigma)(0.3 + 1e-7), difference, rtol=1e-5)


def test_the_logistic_neither_overflows_nor_dies():
    long = schema.logistic_coherence(1e5, 0.1, 0.48, 0.3, 0.5)
    np.testing.assert_allclose(long, (1 - 0.3 / 0.48) / 0.5, rtol=1e-12)
    assert schema.logistic_coherence(1e5, 0.1, 0.3, 0.48, 0.5) == 0.0
    assert schema.logistic_coherence(1e5, 0.0, 0.48, 0.3, 0.5) == 0.0


# Symmetries and the box -------------------------------------------------------------------------

SHAPE = (2, 3, 2)


def random_state(rng, shape=SHAPE, breadth=True):
    values = {name: rng.uniform(0.05, 0.95, shape) for name in FIELDS[:4]}
    values |= {name: rng.uniform(0.0, 1.0, shape[:1]) for name in FIELDS[4:]}
    return schema.initial_state(
        *shape, **values, breadth=rng.uniform(0.0, 1.0, shape[:2]) if breadth else None
    )


@functools.cache
def jitted_field(variant):
    """(rates, environment, state) → derivative, compiled once for all numbers."""

    @jax.jit
    def field(rates, environment, state):
        return schema.sigma_model(variant, rates=rates, environment=environment)(0.0, state)

    def call(rates, environment, state):
        return field(
            jax.tree.map(jnp.asarray, rates), jax.tree.map(jnp.asarray, environment), state
        )

    return call


def boxed(shape):
    """Arrays in [0, 1] with many entries on the faces."""
    inside = st.floats(0.0, 1.0, allow_subnormal=False)
    return hnp.arrays(float, shape, elements=st.sampled_from([0.0, 1.0]) | inside)


positive = st.floats(0.0, 3.0, allow_subnormal=False)


@st.composite
def situations(draw):
    """Any rates with saturation ≥ 1, any environment and any state of the box."""
    numbers = {name: draw(positive) for name in ("omega_sl", "p_a", "c_a", "r_surface", "f_learn")}
    frontier = draw(st.floats(0.1, 5.0))
    environment = schema.Environment(
        **numbers,
        t_a=draw(positive),
        r_a=draw(st.floats(0.0, 1.0)),
        frontier=frontier,
        exploration=draw(positive),
        modality_similarity=draw(st.floats(0.0, 1.0)),
    )
    names = ("eta_max", "lambda_c", "rho", "epsilon_sigma", "shortcut_relief", "transfer_rate")
    names += ("gamma", "zeta_alpha", "nu_m", "xi_m", "kappa_p", "kappa_i", "kappa_f", "lambda_b")
    rates = schema.Rates(
        **{name: draw(positive) for name in names},
        decay_protection=draw(st.floats(0.0, 1.0)),
        saturation=draw(st.floats(1.0, 4.0)),
    )
    x = {name: draw(boxed(SHAPE)) for name in FIELDS[:4]}
    x |= {name: draw(boxed(SHAPE[:1])) for name in FIELDS[4:]}
    x["delta"] = x["delta"] * frontier
    state = schema.initial_state(*SHAPE, **x, breadth=draw(boxed(SHAPE[:2])), frontier=frontier)
    return rates, environment, state


@pytest.mark.parametrize("variant", ["consistent", "hysteretic", "bounded_transfer"])
@given(situation=situations())
def test_the_flow_points_inwards_on_every_face_of_the_box(variant, situation):
    rates, environment, state = situation
    slope = jitted_field(variant)(rates, environment, state)
    for name in (*FIELDS, "breadth"):
        x, dx = np.asarray(getattr(state, name)), np.asarray(getattr(slope, name))
        assert np.isfinite(dx).all()
        assert np.all(dx[x == 0.0] >= 0.0), f"{name} leaves through 0"
        if name != "breadth":
            top = environment.frontier if name == "delta" else 1.0
            assert np.all(dx[x == top] <= 0.0), f"{name} leaves through its upper face"


@pytest.mark.parametrize(("variant", "relief"), [("consistent", 0.0), ("hysteretic", 3.0)])
@pytest.mark.parametrize("factor", [0.99, 1.01])
def test_the_upper_face_is_lost_where_the_docstring_says(variant, relief, factor):
    """With saturation k < 1, σ = 1 is left exactly if R₀ (1 − k)(1 + κ) > 1."""
    rates = schema.Rates(saturation=0.6, shortcut_relief=relief)
    r0 = factor / ((1 - 0.6) * (1 + relief))
    environment = schema.Environment(p_a=r0 * 0.6 * 0.5 / (0.6 * 1.0))
    state = schema.initial_state(sigma=1.0, alpha=1.0)
    slope = jitted_field(variant)(rates, environment, state).sigma.item()
    assert (slope > 0) == (factor > 1)


def test_without_any_coherence_none_appears():
    rng = np.random.default_rng(0)
    state = eqx.tree_at(lambda x: x.sigma, random_state(rng), jnp.zeros(SHAPE))
    rates = schema.Rates(transfer_rate=0.5)
    for variant in ("consistent", "hysteretic", "bounded_transfer"):
        slope = jitted_field(variant)(rates, schema.Environment(), state)
        assert np.all(slope.sigma == 0.0)
    for variant in ("paper_multimodal", "existence_proof", "appendix"):
        slope = jitted_field(variant)(rates, schema.Environment(), state)
        assert np.all(slope.sigma > 0.0), f"{variant} is affine: it has no trap"


def asymmetric(rng):
    """A model in which every domain and modality differs from every other."""
    phi, omega = (rng.uniform(0.1, 0.9, (n, n)) for n in SHAPE[1:])
    phi, omega = (phi + phi.T) / 2, (omega + omega.T) / 2
    return rng.uniform(0.1, 1.0, SHAPE), phi, omega


@jax.jit
def asymmetric_field(state, p_a, phi, omega):
    environment = schema.Environment(
        p_a=p_a,
        t_a=schema.AnalogicalTransfer(0.5, 1.0, phi),
        modality_similarity=omega,
        domain_similarity=phi,
    )
    rates = schema.Rates(transfer_rate=0.3)
    return schema.sigma_model("bounded_transfer", rates=rates, environment=environment)(0.0, state)


def permuted(state, agents, domains, modalities):
    def of(leaf):
        for axis, order in enumerate((agents, domains, modalities)[: leaf.ndim]):
            leaf = jnp.take(leaf, jnp.asarray(order), axis=axis)
        return leaf

    return jax.tree.map(of, state)


@given(
    st.permutations(range(SHAPE[0])),
    st.permutations(range(SHAPE[1])),
    st.permutations(range(SHAPE[2])),
    st.integers(0, 99),
)
def test_the_equations_do_not_know_the_order(agents, domains, modalities, seed):
    rng = np.random.default_rng(seed)
    state, (p_a, phi, omega) = random_state(rng), asymmetric(rng)
    expected = permuted(asymmetric_field(state, p_a, phi, omega), agents, domains, modalities)
    found = asymmetric_field(
        permuted(state, agents, domains, modalities),
        p_a[np.ix_(agents, domains, modalities)],
        phi[np.ix_(domains, domains)],
        omega[np.ix_(modalities, modalities)],
    )
    for name in (*FIELDS, "breadth"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-14)


def test_agents_do_not_influence_one_another_but_domains_and_modalities_do():
    rng = np.random.default_rng(1)
    state, surroundings = random_state(rng), asymmetric(rng)
    before = asymmetric_field(state, *surroundings)
    other = permuted(random_state(rng), [1, 0], [0, 1, 2], [0, 1])
    mixed = jax.tree.map(lambda mine, theirs: mine.at[1].set(theirs[1]), state, other)
    after = asymmetric_field(mixed, *surroundings)
    for name in (*FIELDS, "breadth"):
        np.testing.assert_array_equal(getattr(after, name)[0], getattr(before, name)[0])
        assert not np.array_equal(getattr(after, name)[1], getattr(before, name)[1])
    deeper = eqx.tree_at(lambda x: x.delta, state, state.delta.at[0, 2].add(0.04))
    moved = asymmetric_field(deeper, *surroundings).delta - before.delta
    assert np.all(moved[0, :2] > 0)  # analogical transfer into the other domains
    livelier = eqx.tree_at(lambda x: x.sigma, state, state.sigma.at[0, 0, 1].add(0.04))
    moved = asymmetric_field(livelier, *surroundings).sigma - before.sigma
    assert moved[0, 0, 0] > 0  # cross-modal transfer into the other modality
    assert np.all(moved[0, 1:] == 0)


# Variants ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", schema.VARIANTS)
def test_every_variant_runs_with_many_agents_domains_and_modalities(variant):
    y0 = random_state(np.random.default_rng(2))
    model = schema.sigma_model(variant, environment=schema.Environment(exploration=0.02))
    run = solvers.simulate(model, y0, (0.0, 1.0, 2.0), method=solvers.FixedStep(2))
    assert bool(run.success)
    for name in (*FIELDS, "breadth"):
        leaf = getattr(run.ys, name)
        assert leaf.shape == (3, *getattr(y0, name).shape)
        assert not np.array_equal(leaf[-1], leaf[0])


def test_a_model_without_breadth_does_not_follow_it():
    state = random_state(np.random.default_rng(3), breadth=False)
    assert state.breadth is None
    assert schema.sigma_model()(0.0, state).breadth is None


def by_hand(variant, **values):
    """The derivative of one variant at one state with numbers that are easy to work with."""
    rates = schema.Rates(
        eta_max=1.0,
        gompertz_a=0.0,
        lambda_c=0.1,
        rho=1.0,
        saturation=0.5,
        epsilon_sigma=1.0,
        transfer_rate=0.1,
        gamma=1.0,
        zeta_alpha=1.0,
        nu_m=1.0,
        xi_m=1.0,
        kappa_p=1.0,
        kappa_i=2.0,
        kappa_f=3.0,
        lambda_b=0.1,
    )
    environment = schema.Environment(
        omega_sl=0.4,
        p_a=1.0,
        c_a=1.0,
        r_surface=0.5,
        r_a=0.5,
        exploration=0.3,
        assistance=0.2,
        modality_similarity=0.5,
    )
    values = {"delta": 0.2, "sigma": 0.4, "alpha": 0.6, "self_model": 0.5, "breadth": 0.5} | values
    state = schema.initial_state(1, 1, 2, **values)
    return jitted_field(variant)(rates, environment, state)


@pytest.mark.parametrize(
    ("variant", "field", "expected"),
    [
        ("paper", "delta", 1.0 - 0.1 * 0.8 * 0.2 * 0.5),
        ("consistent", "delta", 0.8 - 0.1 * 0.8 * 0.2 * 0.5),
        ("consistent", "sigma", 0.4 * (0.6 * 0.8 - 0.4)),
        ("hysteretic", "sigma", 0.4 * (0.6 * 0.8 - 0.4 / 2.2)),
        ("existence_proof", "sigma", 0.6 * 0.8 - 0.4 * 0.4),
        ("appendix", "sigma", 0.6 * 0.6 - 0.4 * 0.4),
        ("paper_multimodal", "sigma", 0.6 * 0.6 - 0.4 * 0.4 + 0.1 * 0.5 * 0.4**2),
        ("bounded_transfer", "sigma", 0.4 * (0.6 * 0.8 - 0.4) + 0.1 * 0.5 * 0.4 * 0.6),
        ("consistent", "alpha", 0.4 - 0.3),
        ("consistent", "self_model", -0.1 - 0.4 * 0.5),
        ("inflating_self_model", "self_model", -0.1 + 0.4 * 0.5),
        ("consistent", "planning", 0.9 - 0.5),
        ("consistent", "inhibition", 2 * (0.4 - 0.5)),
        ("consistent", "flexibility", 3 * (0.3 - 0.5)),
        ("paper", "flexibility", 0.4 - 0.2 - 0.6),
        ("consistent", "breadth", 0.3 + 0.2 * 0.5 - 0.1 * 0.5),
    ],
)
def test_equations_by_hand(variant, field, expected):
    np.testing.assert_allclose(getattr(by_hand(variant), field), expected, rtol=1e-12)


def test_depth_stops_at_the_frontier_only_where_it_was_made_to():
    assert np.all(by_hand("consistent", delta=1.0).delta < 0)
    assert np.all(by_hand("paper", delta=1.0).delta > 0)
    assert np.all(by_hand("unbounded_frontier", delta=1.0).delta > 0)


@pytest.mark.parametrize(
    ("delta", "sigma", "expected"),
    [
        (0.5, 0.1, (0.9, 0.9, 0.3)),
        (0.65, 0.15, (0.5, 0.4, 0.3)),
        (1.0, 0.2, (0.2, 0.4, 0.3)),
        # The deepest domain decides; two mastered domains, or a productive pair, make flexible.
        (np.array([0.9, 0.2]), np.array([0.1, 0.9]), (0.5 - 0.3 * 0.25 / 0.35, 0.9, 0.3)),
        (np.array([0.9, 0.4]), np.array([0.1, 0.9]), (0.5 - 0.3 * 0.25 / 0.35, 0.9, 0.9)),
        (np.array([0.9, 0.4]), np.array([0.0, 0.9]), (0.5 - 0.3 * 0.25 / 0.35, 0.9, 0.3)),
    ],
)
def test_executive_targets_as_printed(delta, sigma, expected):
    domains = np.size(delta)
    state = schema.initial_state(
        1, domains, delta=np.reshape(delta, (-1, 1)), sigma=np.reshape(sigma, (-1, 1))
    )
    targets = schema.ExecutiveTargets(width=0.0)(state, schema.Environment()(0.0, state))
    np.testing.assert_allclose([float(target[0]) for target in targets], expected, rtol=1e-12)
    if domains == 1 and delta not in (0.65,):
        smooth = schema.ExecutiveTargets()(state, schema.Environment()(0.0, state))
        np.testing.assert_allclose([float(t[0]) for t in smooth], expected, rtol=1e-12)


def test_the_split_for_imex_solvers_adds_up_and_relaxation_rates_are_derivatives():
    model = schema.sigma_model(environment=schema.Environment(assistance=0.1))
    state = random_state(np.random.default_rng(4), (1, 1, 1))
    explicit, implicit = (term.vf(0.0, state, None) for term in model.imex_terms().terms)
    whole = model(0.0, state)
    for name in (*FIELDS, "breadth"):
        parts = getattr(explicit, name), getattr(implicit, name)
        np.testing.assert_array_equal(parts[0] + parts[1], getattr(whole, name))
        assert np.all(parts[0] == 0) or np.all(parts[1] == 0)
    assert np.all(implicit.sigma == 0)
    assert np.all(explicit.self_model == 0)
    slope = jax.jit(jax.jacfwd(lambda x: model(0.0, x)))(state)
    relaxation = model.relaxation_rate(0.0, state)
    for name in ("alpha", "self_model", "planning", "inhibition", "flexibility", "breadth"):
        own = getattr(getattr(slope, name), name).item()
        assert getattr(relaxation, name).item() == pytest.approx(-own, rel=1e-12)


def test_unknown_equations_may_be_brought_along():
    """Anything called with (state, conditions, rates) will do."""

    class Constant(eqx.Module):
        def __call__(self, x, e, r):
            return 0.01 + 0.0 * x.sigma

    model = eqx.tree_at(lambda m: m.coherence, schema.sigma_model(), Constant())
    run = solvers.simulate(model, schema.initial_state(), (0.0, 10.0), method=solvers.FixedStep(10))
    np.testing.assert_allclose(run.ys.sigma[-1], 0.2, rtol=1e-12)


# Gradients --------------------------------------------------------------------------------------

NAMES = ("rho", "epsilon_sigma", "gamma", "lambda_c", "nu_m")
VALUES = jnp.array([0.6, 0.55, 0.3, 0.02, 0.05])


def loss(method, values):
    rates = schema.Rates(**dict(zip(NAMES, values, strict=True)))
    model = schema.sigma_model(rates=rates, environment=schema.regime("targeted"))
    end = solvers.simulate(model, schema.initial_state(), (0.0, 10.0), method=method).ys
    return end.sigma[-1, 0, 0, 0] ** 2 + end.self_model[-1, 0, 0, 0] + end.delta[-1, 0, 0, 0]


@pytest.fixture(scope="module")
def differences():
    """Central differences of the loss, along every rate."""
    fine = jax.jit(jax.vmap(functools.partial(loss, solvers.FixedStep(200))))
    steps = 1e-4 * jnp.diag(VALUES)
    up, down = fine(VALUES + steps), fine(VALUES - steps)
    slopes = (up - down) / (2e-4 * VALUES)
    assert np.all(np.abs(slopes) > 1e-3)
    return slopes


@pytest.mark.parametrize(
    ("method", "differentiate"),
    [
        pytest.param(solvers.Adaptive(rtol=1e-8, atol=1e-10), jax.grad, marks=pytest.mark.slow),
        (
            solvers.Adaptive(rtol=1e-8, atol=1e-10, adjoint=diffrax.ForwardMode()),
            jax.jacfwd,
        ),
        (solvers.FixedStep(40), jax.grad),
        (solvers.FixedStep(40), jax.jacfwd),
    ],
    ids=["adaptive, reverse", "adaptive, forward", "fixed, reverse", "fixed, forward"],
)
def test_gradients_through_a_run(differences, method, differentiate):
    slopes = jax.jit(differentiate(functools.partial(loss, method)))(VALUES)
    np.testing.assert_allclose(slopes, differences, rtol=2e-5)


# The environment --------------------------------------------------------------------------------


def test_shortcut_pressure_may_be_a_function_of_the_state():
    """Ω/(1 + κσ) with the core equation is the hysteretic extension."""
    rates = schema.Rates(saturation=0.9)
    relieved = schema.Environment(
        omega_sl=lambda t, state: 0.5 / (1.0 + 3.0 * state.sigma), r_surface=0.2
    )
    times = np.linspace(0.0, 60.0, 13)
    core, extension = (
        solvers.simulate(model, schema.initial_state(), times, method=solvers.FixedStep(10)).ys
        for model in (
            schema.sigma_model(rates=rates, environment=relieved),
            schema.sigma_model("hysteretic", environment=schema.regime("targeted")),
        )
    )
    np.testing.assert_allclose(core.sigma, extension.sigma, rtol=1e-12)
    np.testing.assert_allclose(core.delta, extension.delta, rtol=1e-12)
    assert np.all(core.self_model[1:] > extension.self_model[1:])  # Ω acts there unrelieved


def test_relative_depth_falls_as_the_frontier_moves():
    """Without learning δ_rel falls at λ_c (1 − r) + λ_f."""
    frontier = schema.FrontierGrowth(start=2.0, rate=0.03)
    environment = schema.Environment(f_learn=0.0, frontier=frontier, r_a=0.3)
    model = schema.sigma_model(
        rates=schema.Rates(lambda_c=0.05, decay_protection=0.0), environment=environment
    )
    times = np.linspace(0.0, 20.0, 5)
    y0 = schema.initial_state(delta=1.5, frontier=2.0)
    run = solvers.simulate(model, y0, times, method=solvers.FixedStep(10))
    limit = 2.0 * np.exp(0.03 * times)
    expected = 0.75 * np.exp(-(0.05 * 0.7 + 0.03) * times)
    np.testing.assert_allclose(run.ys.delta[:, 0, 0, 0] / limit, expected, rtol=1e-8)


STATE = schema.initial_state(
    1, 3, 1, delta=np.array([0.2, 0.5, 0.0])[:, None], sigma=0.1, alpha=0.5
)


@pytest.mark.parametrize(
    ("signal", "time", "expected"),
    [
        (schema.Switch((10.0, 20.0), (1.0, 2.0, 3.0)), 9.999, 1.0),
        (schema.Switch((10.0, 20.0), (1.0, 2.0, 3.0)), 10.0, 2.0),
        (schema.Switch((10.0, 20.0), (1.0, 2.0, 3.0)), 25.0, 3.0),
        (schema.Ramp(10.0, 20.0, 1.0, 3.0), 0.0, 1.0),
        (schema.Ramp(10.0, 20.0, 1.0, 3.0), 12.5, 1.5),
        (schema.Ramp(10.0, 20.0, 1.0, 3.0), 30.0, 3.0),
        (schema.FrontierGrowth(2.0, 0.1), 0.0, 2.0),
        (schema.FrontierGrowth(2.0, 0.1), 5.0, 2.0 * np.exp(0.5)),
        (schema.FrontierGrowth(2.0, 0.1, ceiling=3.0), 50.0, 3.0),
        (schema.RetrievalPractice(0.8, 0.5, 4.0), 0.0, 0.8),
        (schema.RetrievalPractice(0.8, 0.5, 4.0), 3.0, 0.8 * np.exp(-1.5)),
        (schema.RetrievalPractice(0.8, 0.5, 4.0), 9.0, 0.8 * np.exp(-0.5)),
    ],
)
def test_schedules(signal, time, expected):
    np.testing.assert_allclose(signal(time, STATE), expected, rtol=1e-12)


def test_principled_practice_follows_depth():
    practice = schema.PrincipledPractice(
        p0=2.0, f_learn=0.5, fraction=0.4, exponent=2.0, frontier=0.5
    )
    value = practice(0.0, STATE)
    np.testing.assert_allclose(value[0, :, 0], [0.4 * 0.16, 0.4, 0.0], rtol=1e-12, atol=1e-300)
    slope = jax.grad(
        lambda delta: practice(0.0, eqx.tree_at(lambda x: x.delta, STATE, delta)).sum()
    )
    assert np.isfinite(slope(STATE.delta)).all()


def test_analogical_transfer_comes_from_the_other_domains():
    similarity = jnp.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]])
    transfer = schema.AnalogicalTransfer(2.0, 0.4, similarity, frontier=0.5)
    support = np.array([0.5 * 1.0, 0.5 * 0.4, 0.1 * 0.4 + 0.3 * 1.0])
    expected = 1.0 + 2.0 * support / (0.4 + support)
    np.testing.assert_allclose(transfer(0.0, STATE)[0, :, 0], expected, rtol=1e-12)
    alone = eqx.tree_at(lambda x: x.delta, STATE, jnp.zeros_like(STATE.delta))
    np.testing.assert_array_equal(transfer(0.0, alone), 1.0)


def test_signals_reach_the_conditions():
    environment = schema.Environment(
        omega_sl=lambda t, state: t * state.sigma, p_a=schema.Ramp(0.0, 2.0, 0.0, 1.0)
    )
    conditions = environment(1.0, STATE)
    np.testing.assert_allclose(conditions.omega_sl, 0.1 * np.ones((1, 3, 1)))
    assert conditions.p_a == 0.5
    assert conditions.c_a == 0.8


@pytest.mark.parametrize(
    ("name", "early", "late"), [(n, *v) for n, v in schema.SURFACE_REWARD.items()]
)
def test_regimes_differ_in_surface_reward_alone(name, early, late):
    environment = schema.regime(name, withdrawal=30.0, omega_sl=0.7)
    assert float(environment(29.0, None).r_surface) == early
    assert float(environment(31.0, None).r_surface) == late
    assert environment.omega_sl == 0.7
    assert environment.p_a == schema.Environment().p_a
