"""Fisher information against closed forms; sensitivities forwards and backwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax import schema, solvers, statistics

X = np.linspace(0.0, 2.0, 24)
TIMES = (0.0, 20.0)


def decay(p):
    return p["a"] * jnp.exp(-p["b"] * X)


def decay_of_product(p):
    return p["a"] * p["c"] * jnp.exp(-p["b"] * X)


def test_the_information_of_a_decay_is_its_closed_form():
    a, b, noise = 2.0, 0.7, 0.1 + 0.05 * X
    information = statistics.fisher_information(decay, {"a": a, "b": b}, noise)
    curve = a * np.exp(-b * X)
    jacobian = np.stack([curve, -b * X * curve], axis=1) / noise[:, None]
    exact = jacobian.T @ jacobian
    assert information.names == ("a", "b")
    np.testing.assert_allclose(information.matrix, exact, rtol=1e-10)
    np.testing.assert_allclose(information.eigenvalues, np.linalg.eigvalsh(exact)[::-1], rtol=1e-9)
    rebuilt = information.eigenvectors * information.eigenvalues @ information.eigenvectors.T
    np.testing.assert_allclose(rebuilt, exact, rtol=1e-9)
    error = np.sqrt(np.diag(np.linalg.inv(exact)))
    np.testing.assert_allclose(list(information.standard_error.values()), error, rtol=1e-9)
    assert information.condition_number == pytest.approx(np.linalg.cond(exact), rel=1e-6)
    assert information.unseen == ()


def test_the_bound_is_what_fits_attain():
    """Standard errors of a fit with little noise are the Cramér–Rao bound."""
    noise = 1e-3 * np.random.default_rng(0).standard_normal(X.size)
    truth = {"a": 2.0, "b": 0.7}
    fit = statistics.fit_curve(decay, np.asarray(decay(truth)) + noise, {"a": 1.0, "b": 1.0})
    bound = statistics.fisher_information(decay, fit.estimate, float(fit.residual_sd))
    for name in truth:
        relative = float(fit.standard_error[name] / fit.estimate[name])
        assert bound.standard_error[name] == pytest.approx(relative, rel=1e-6)


def test_a_product_of_two_is_named_as_unseen():
    information = statistics.fisher_information(
        decay_of_product, {"a": 2.0, "b": 0.7, "c": 5.0}, 0.1
    )
    assert information.unseen == ("a · c^-1.00",)
    assert information.condition_number == np.inf
    assert information.eigenvalues[-1] == 0.0
    assert information.standard_error["a"] == information.standard_error["c"] == np.inf
    alone = statistics.fisher_information(decay, {"a": 10.0, "b": 0.7}, 0.1)
    assert information.standard_error["b"] == pytest.approx(alone.standard_error["b"], rel=1e-9)


def test_parameters_that_do_nothing_and_products_stand_apart():
    def predict(p):
        return decay_of_product(p) + p["d"] * p["e"] * X

    point = {"a": 1.0, "b": 0.7, "c": 1.0, "d": 1.0, "e": 3.0, "f": 2.0}
    information = statistics.fisher_information(predict, point, 0.1)
    unseen = {
        frozenset(direction.replace("^-1.00", "").split(" · ")) for direction in information.unseen
    }
    assert unseen == {frozenset("ac"), frozenset("de"), frozenset("f")}


def test_a_weakly_seen_direction_depends_on_the_noise():
    close = {"a": 1.0, "b": 1.0, "c": 1.001, "d": 1.0}

    def two_decays(p):
        return p["a"] * jnp.exp(-p["b"] * X) + p["d"] * jnp.exp(-p["c"] * X)

    noisy = statistics.fisher_information(two_decays, close, 0.01)
    exact = statistics.fisher_information(two_decays, close, 1e-12)
    assert len(noisy.unseen) == 2
    assert exact.unseen == ()
    assert noisy.combination(0) == exact.combination(0)


@pytest.mark.parametrize(
    ("parameters", "noise", "match"),
    [
        ({"a": -1.0, "b": 1.0}, 0.1, "parameters must lie"),
        ({"a": 1.0, "b": 1.0}, -0.1, "noise_sd must lie"),
    ],
)
def test_bad_input_is_named(parameters, noise, match):
    with pytest.raises(ValueError, match=match):
        statistics.fisher_information(decay, parameters, noise)


def test_derivatives_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        statistics.fisher_information(lambda p: jnp.sqrt(p["a"] - 1.0) * X, {"a": 1.0}, 0.1)


# Local sensitivity ------------------------------------------------------------------------------


@jax.jit
def final_coherence(p):
    model = schema.sigma_model(
        rates=schema.Rates(rho=p["rho"], epsilon_sigma=p["epsilon_sigma"]),
        environment=schema.regime("targeted"),
    )
    y0 = schema.initial_state(sigma=p["sigma_0"], alpha=0.8)
    end = solvers.simulate(model, y0, TIMES, method=solvers.FixedStep(80), throw=False)
    return end.ys.sigma[-1, 0, 0, 0]


def closed_form(p):
    return schema.logistic_coherence(
        TIMES[-1], p["sigma_0"], 0.64 * p["rho"], 0.5 * p["epsilon_sigma"], 0.5
    )


POINT = {"rho": 0.6, "epsilon_sigma": 0.6, "sigma_0": 0.1}


def test_forward_and_adjoint_sensitivities_agree_through_the_solver():
    forward = statistics.local_sensitivity(final_coherence, POINT)
    adjoint = statistics.local_sensitivity(final_coherence, POINT, mode="adjoint")
    exact = statistics.local_sensitivity(closed_form, POINT)
    for name in POINT:
        np.testing.assert_allclose(forward[name], adjoint[name], rtol=1e-8)
        np.testing.assert_allclose(forward[name], exact[name], rtol=1e-6)


def test_sensitivities_of_several_outcomes_have_their_shape():
    found = statistics.local_sensitivity(decay, {"a": 2.0, "b": 0.7}, mode="adjoint")
    np.testing.assert_allclose(found["a"], 2.0 * np.exp(-0.7 * X), rtol=1e-12)
    assert found["b"].shape == X.shape


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="unknown mode 'sideways'; choose forward or adjoint"):
        statistics.local_sensitivity(decay, {"a": 1.0, "b": 1.0}, mode="sideways")
