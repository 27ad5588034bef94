"""Sobol indices against closed forms: Ishigami's function, and the Σ-Model's coherence."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax import schema, solvers, statistics

ISHIGAMI_BOUNDS = {f"x{i}": (-np.pi, np.pi) for i in (1, 2, 3)}


def ishigami(x):
    return jnp.sin(x["x1"]) + 7.0 * jnp.sin(x["x2"]) ** 2 + 0.1 * x["x3"] ** 4 * jnp.sin(x["x1"])


def test_ishigami_has_its_closed_form():
    found = statistics.sobol_indices(ishigami, ISHIGAMI_BOUNDS, samples=4096)
    both = 0.1**2 * np.pi**8 * (1 / 18 - 1 / 50)
    alone = 0.5 * (1 + 0.1 * np.pi**4 / 5) ** 2
    variance = 7.0**2 / 8 + alone + both
    first = {"x1": alone / variance, "x2": 49 / 8 / variance, "x3": 0.0}
    total = {"x1": (alone + both) / variance, "x2": 49 / 8 / variance, "x3": both / variance}
    for name in ISHIGAMI_BOUNDS:
        assert found.first[name] == pytest.approx(first[name], abs=0.02)
        assert found.total[name] == pytest.approx(total[name], abs=0.02)
        assert abs(found.first[name] - first[name]) < 2 * found.first_margin[name]
        assert abs(found.total[name] - total[name]) < 2 * found.total_margin[name]
    assert found.evaluations == 4096 * 5
    assert found.mean == pytest.approx(3.5, abs=0.05)
    assert found.variance == pytest.approx(variance, rel=0.02)


def test_the_same_seed_gives_the_same_indices():
    one, same, other = (
        statistics.sobol_indices(ishigami, ISHIGAMI_BOUNDS, samples=64, seed=seed)
        for seed in (1, 1, 2)
    )
    assert one.first == same.first
    assert one.total_margin == same.total_margin
    assert one.first != other.first


BOUNDS = {
    "rho": (0.4, 0.8),
    "epsilon_sigma": (0.4, 0.8),
    "sigma_0": (0.02, 0.3),
    "kappa_p": (0.01, 0.1),
}


def final_coherence(batch):
    """σ after 20 epochs of structure-targeted training; attention starts settled."""

    def one(p):
        model = schema.sigma_model(
            rates=schema.Rates(
                rho=p["rho"], epsilon_sigma=p["epsilon_sigma"], kappa_p=p["kappa_p"]
            ),
            environment=schema.regime("targeted"),
        )
        y0 = schema.initial_state(sigma=p["sigma_0"], alpha=0.8)
        end = solvers.simulate(model, y0, (0.0, 20.0), method=solvers.FixedStep(20), throw=False)
        return end.ys.sigma[-1, 0, 0, 0]

    return jax.vmap(one)(batch)


def exact_indices():
    """First and total indices of the closed form by Gauss–Legendre quadrature over the box."""
    nodes, weights = np.polynomial.legendre.leggauss(24)
    axes = [low + (high - low) * (nodes + 1) / 2 for low, high in list(BOUNDS.values())[:3]]
    rho, epsilon, sigma_0 = np.meshgrid(*axes, indexing="ij")
    y = np.asarray(schema.logistic_coherence(20.0, sigma_0, 0.64 * rho, 0.5 * epsilon, 0.5))
    w = weights / 2

    def mean(values, axis):
        return np.moveaxis(values, axis, -1) @ w

    def variance(values):
        for_mean = for_square = values
        for_square = values**2
        while for_mean.ndim:
            for_mean, for_square = for_mean @ w, for_square @ w
        return for_square - for_mean**2

    total = variance(y)
    first = [variance(mean(mean(y, b), a)) / total for a, b in ((1, 2), (0, 2), (0, 1))]
    rest = [1 - variance(mean(y, axis)) / total for axis in range(3)]
    return dict(zip(BOUNDS, first, strict=False)), dict(zip(BOUNDS, rest, strict=False))


def test_final_coherence_of_the_sigma_model():
    found = statistics.sobol_indices(final_coherence, BOUNDS, samples=1024)
    first, total = exact_indices()
    for name in first:
        assert found.first[name] == pytest.approx(first[name], abs=0.03)
        assert found.total[name] == pytest.approx(total[name], abs=0.03)
    # Planning follows coherence and does not act on it.
    assert found.total["kappa_p"] == pytest.approx(0.0, abs=1e-12)
    assert (
        found.first["rho"] + found.first["epsilon_sigma"]
        < found.total["rho"] + found.total["epsilon_sigma"]
    )


@pytest.mark.parametrize(
    ("evaluate", "bounds", "samples", "match"),
    [
        (ishigami, ISHIGAMI_BOUNDS, 100, "samples must be a power of two; got 100"),
        (ishigami, {}, 64, "at least one input"),
        (
            ishigami,
            ISHIGAMI_BOUNDS | {"x2": (1.0, 1.0)},
            64,
            r"bounds\['x2'\] must lie in \(1, inf\)",
        ),
        (lambda x: jnp.log(x["x1"]), {"x1": (-1.0, 1.0)}, 64, "no finite value at {'x1': -"),
        (lambda x: 0.0 * x["x1"], {"x1": (0.0, 1.0)}, 64, "everywhere"),
        (lambda x: jnp.sum(x["x1"]), {"x1": (0.0, 1.0)}, 64, "must return 192 outcomes"),
    ],
)
def test_bad_input_is_named(evaluate, bounds, samples, match):
    with pytest.raises(ValueError, match=match):
        statistics.sobol_indices(evaluate, bounds, samples=samples)


def test_without_salib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "SALib.sample.sobol", None)
    with pytest.raises(ValueError, match=r"pip install sigma_jax\[inference\]"):
        statistics.sobol_indices(ishigami, ISHIGAMI_BOUNDS, samples=64)
