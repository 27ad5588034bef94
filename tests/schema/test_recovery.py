"""Rates recovered from synthetic curves, with honest intervals; which of them cannot be."""

import equinox as eqx
import jax
import numpy as np
import pytest

from sigma_jax import schema, solvers, statistics

RATES = {
    "rho": 0.6,
    "epsilon_sigma": 0.6,
    "gamma": 0.3,
    "nu_m": 0.05,
    "kappa_p": 0.05,
    "kappa_i": 0.05,
    "kappa_f": 0.05,
}
START = {f"{name}_0": 0.5 for name in ("alpha", "planning", "inhibition", "flexibility")} | {
    "sigma_0": 0.1,
    "self_model_0": 0.1,
    "delta_0": 0.05,
}
TRUTH = RATES | START
NOISE = 0.02
EPOCHS = np.arange(2.0, 81.0, 2.0)


def curve_model(observed=schema.COMPONENTS, regime="withdrawn", epochs=EPOCHS):
    """Structure-targeted until epoch 40, then withdrawn, so that every rate shows."""
    # As arrays, so that regimes share compiled code.
    levels = tuple(jax.numpy.asarray(level) for level in schema.SURFACE_REWARD[regime])
    environment = schema.Environment(r_surface=schema.Switch((40.0,), levels))
    return schema.CurveModel(epochs, observed=observed, environment=environment, jump_times=(40.0,))


def test_a_curve_is_the_simulation():
    model = curve_model(("sigma", "planning"))
    predicted = np.asarray(model({"rho": 0.7, "sigma_0": 0.2, "omega_sl": 0.4}))
    whole = solvers.simulate(
        schema.sigma_model(
            rates=schema.Rates(rho=0.7), environment=schema.regime("withdrawn", omega_sl=0.4)
        ),
        schema.initial_state(sigma=0.2),
        np.array([0.0, *EPOCHS]),
        method=solvers.FixedStep(16),
        jump_times=(40.0,),
    ).ys
    np.testing.assert_allclose(predicted[:40], whole.sigma[1:, 0, 0, 0], atol=1e-4)
    np.testing.assert_allclose(predicted[40:], whole.planning[1:, 0], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"epochs": [2.0, 1.0]}, "epochs must increase and be positive"),
        ({"epochs": [0.0, 1.0]}, "epochs must increase and be positive"),
        ({"observed": ("sigma", "mood")}, "observed must name some of delta, sigma"),
        ({"variant": "mood"}, "unknown variant 'mood'"),
    ],
)
def test_bad_curves_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        schema.CurveModel(**({"epochs": [1.0]} | change))


def test_unknown_parameters_are_named():
    with pytest.raises(ValueError, match=r"unknown parameter 'mood'; choose from .*rho"):
        curve_model()({"mood": 1.0})


# What the data can say --------------------------------------------------------------------------


def test_every_rate_is_identified_when_everything_is_observed():
    information = statistics.fisher_information(curve_model(), TRUTH, NOISE)
    assert information.unseen == ()
    assert max(information.standard_error.values()) < 0.15


ALL = TRUTH | {"p_a": 0.8, "omega_sl": 0.5, "zeta_alpha": 0.3}


def parameters_of(direction):
    return frozenset(part.split("^")[0] for part in direction.split(" · "))


def lost(observed, regime):
    """The directions that have no effect at all, each as the set of its parameters."""
    information = statistics.fisher_information(curve_model(observed, regime), ALL, NOISE)
    count = int((information.eigenvalues == 0.0).sum())
    directions = [parameters_of(direction) for direction in information.unseen[:count]]
    for name, error in information.standard_error.items():
        assert np.isfinite(error) != any(name in direction for direction in directions)
    return set(directions)


def test_coherence_alone_sees_products_and_nothing_of_what_follows_it():
    """ρP and ε_σΩ; and under one constant environment α up to a factor that ρ can take over."""
    upstream = {"rho", "p_a", "epsilon_sigma", "omega_sl", "gamma", "zeta_alpha"}
    upstream |= {"sigma_0", "alpha_0"}
    downstream = {frozenset([name]) for name in set(ALL) - upstream}
    products = {frozenset(["rho", "p_a"]), frozenset(["epsilon_sigma", "omega_sl"])}
    assert lost(("sigma",), "withdrawn") == downstream | products
    targeted = lost(("sigma",), "targeted")
    assert downstream | products < targeted
    (scaling,) = targeted - downstream - products
    assert {"alpha_0", "gamma", "zeta_alpha"} < scaling


def test_the_self_model_tells_shortcuts_from_their_effect():
    """It feels Ω, so that it tells Ω from ε_σ; nothing tells ρ from P."""
    left = lost(("sigma", "self_model"), "withdrawn")
    assert frozenset(["rho", "p_a"]) in left
    assert not any(name in direction for direction in left for name in ("omega_sl", "nu_m"))


def test_scaling_attention_is_taken_over_by_rho_in_one_environment():
    """The last direction above, followed to a finite distance: the same curve."""
    model = eqx.filter_jit(curve_model(("sigma",), "targeted"))
    factor, contrast, surface = 1.2, 0.8, 0.2
    scaled = ALL | {
        "alpha_0": 0.5 * factor,
        "rho": 0.6 / factor,
        "gamma": 0.3 * factor,
        "zeta_alpha": 0.3 - 0.3 * (factor - 1.0) * contrast / surface,
    }
    np.testing.assert_allclose(model(scaled), model(ALL), atol=1e-6)


def test_profiles_of_a_product_are_open_and_of_the_rest_closed():
    epochs = np.arange(10.0, 81.0, 10.0)
    model = curve_model(("sigma",), epochs=epochs)
    truth = {"rho": 0.6, "p_a": 0.8, "epsilon_sigma": 0.6, "sigma_0": 0.1}
    noise = 0.01 * np.random.default_rng(0).standard_normal(epochs.size)
    profile = statistics.profile_likelihood(
        model, np.asarray(model(truth)) + noise, truth, noise_sd=0.01, search=20.0, points=2
    )
    assert profile.bounded_above == {
        "rho": False,
        "p_a": False,
        "epsilon_sigma": True,
        "sigma_0": True,
    }
    for name in ("epsilon_sigma", "sigma_0"):
        assert profile.low[name] < truth[name] < profile.high[name]


# Coverage ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_profile_intervals_of_the_seven_rates_cover():
    coverage = statistics.profile_coverage(
        curve_model(),
        TRUTH,
        NOISE,
        key=jax.random.key(1),
        replicates=500,
        only=tuple(RATES),
    )
    assert coverage.failed == 0
    assert coverage.replicates == 500
    assert coverage.adjusted_p_value > 0.01, dict(zip(RATES, coverage.share, strict=True))


# The published curves ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pilot():
    return schema.load_pilot()


@pytest.mark.slow
def test_profiles_of_a_published_condition(pilot):
    fit = schema.fit_pilot(pilot["additive"], "onset").curve
    profile = schema.profile_pilot(pilot["additive"], "onset", points=2)
    assert profile.success
    for name, estimate in fit.estimate.items():
        assert profile.estimate[name] == pytest.approx(float(estimate), rel=1e-3)
        assert 0.0 < profile.low[name] < profile.estimate[name] < profile.high[name] < np.inf


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["multiplicative", "baseline"])
def test_the_rate_of_attention_is_not_identified_from_above(pilot, condition):
    """With an onset it runs away upwards; without one the curves say nothing of it at all."""
    has_onset = condition == "multiplicative"
    profile = schema.profile_pilot(
        pilot[condition], "onset" if has_onset else "constant", free_attention=True, points=2
    )
    assert profile.success
    assert profile.high["gamma"] == np.inf
    assert not profile.bounded_above["gamma"]
    assert profile.bounded_below["gamma"] == has_onset
    assert profile.at_bound["gamma"] == has_onset
