"""Basins by simulation against the separatrix known in closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from sigma_jax import schema, stability
from sigma_jax.schema import Environment, initial_state, sigma_model
from sigma_jax.solvers import FixedStep, simulate_ensemble

SATURATION, RELIEF, R0 = 0.9, 3.0, 0.8
STARTS = {"sigma": jnp.linspace(0.0, 1.0, 401)[:, None]}


def drift(t, y, r0):
    """The hysteretic extension, time in units of 1/(ε_σ Ω)."""
    sigma = y["sigma"]
    pressure = 1.0 / (1.0 + RELIEF * sigma)
    return {"sigma": sigma * (r0 * (1.0 - SATURATION * sigma) - pressure)}


@jax.jit
def settle(starts, r0):
    count = starts["sigma"].shape[0]
    times, args = jnp.array([0.0, 400.0]), jnp.full((count, 1), r0)
    options = dict(method=FixedStep(800), batch_size=count)
    ys = simulate_ensemble(drift, starts, times, args=args, **options).ys
    return jax.tree.map(lambda leaf: leaf[:, -1], ys)


def at(r0):
    return lambda starts: settle(starts, jnp.asarray(r0))


@pytest.fixture(scope="module")
def bistable():
    return stability.basins(at(R0), STARTS)


@pytest.fixture(scope="module")
def followed():
    r0 = np.array([0.9, 0.8, 0.75, 0.72, 0.70, 0.68])
    return stability.basin_shares(settle, STARTS, r0)


def test_basin_boundary_is_the_separatrix(bistable):
    """At R₀ = .8 coherence survives from σ₋ = .147 up, and settles at σ₊ = .631."""
    minus, plus = schema.hysteretic_equilibria(R0, SATURATION, RELIEF)
    found = np.asarray(bistable.attractors["sigma"])[:, 0]
    np.testing.assert_allclose(np.sort(found), [0.0, plus], atol=1e-6)
    coherent = int(np.argmax(found))
    starts = np.asarray(STARTS["sigma"][:, 0])
    kept = np.asarray(bistable.labels) == coherent
    np.testing.assert_array_equal(kept, starts > float(minus))
    assert float(minus) == pytest.approx(0.147, abs=5e-4)
    assert bistable.unsettled == 0.0
    assert float(bistable.shares[coherent]) == pytest.approx(1 - float(minus), abs=1 / 400)


def test_intervals_are_wilsons(bistable):
    """The score interval in closed form."""
    n, z, p = 401, norm.ppf(0.975), np.asarray(bistable.shares)
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    np.testing.assert_allclose(bistable.low, centre - half, rtol=1e-9)
    np.testing.assert_allclose(bistable.high, centre + half, rtol=1e-9)


def test_what_has_not_settled_belongs_to_no_basin():
    """A short run leaves starts on their way; they are said to be, and the shares do not add up."""

    def brief(starts):
        return jax.tree.map(lambda y: y + 2.0 * drift(0.0, {"sigma": y}, R0)["sigma"], starts)

    result = stability.basins(brief, STARTS)
    assert result.unsettled > 0.9
    assert int((result.labels == -1).sum()) == round(result.unsettled * 401)
    assert float(result.shares.sum()) == pytest.approx(1 - result.unsettled)


def test_cycles_and_infinities_are_unsettled():
    def turn_or_blow_up(starts):
        x, y = starts[:, 0], starts[:, 1]
        turned = jnp.stack([-y, x], axis=1)
        return jnp.where((x > 0)[:, None], turned, jnp.where((y > 0)[:, None], jnp.inf, 0.5))

    result = stability.basins(
        lambda s: jnp.where(jnp.isfinite(s), turn_or_blow_up(s), s),
        jnp.array([[1.0, 0.0], [-1.0, 1.0]]),
    )
    assert result.unsettled == 1.0
    assert result.shares.size == 0
    np.testing.assert_array_equal(result.labels, [-1, -1])


def test_known_attractors_come_first_and_others_are_added(bistable):
    """Given zero and a place where nothing goes, the coherent state is added, not forced in."""
    known = {"sigma": jnp.array([[0.0], [0.9]])}
    result = stability.basins(at(R0), STARTS, attractors=known)
    plus = schema.hysteretic_equilibria(R0, SATURATION, RELIEF)[1]
    np.testing.assert_allclose(result.attractors["sigma"][:, 0], [0.0, 0.9, plus], atol=1e-6)
    assert float(result.shares[1]) == 0.0
    assert float(result.low[1]) == pytest.approx(0.0, abs=1e-12)
    assert float(result.high[1]) > 0.0
    np.testing.assert_allclose(np.sort(result.shares)[1:], np.sort(bistable.shares), atol=1e-12)


def test_share_of_coherence_falls_to_zero_at_the_saddle_node(followed):
    """Between R₀ = .72 and .70 the coherent state is lost: its basin does not shrink to nothing
    first but vanishes with it, at 4kκ/(κ + k)² = .710."""
    minus, plus = schema.hysteretic_equilibria(followed.parameter, SATURATION, RELIEF)
    fold = float(schema.saddle_node(SATURATION, RELIEF))
    places = np.asarray(followed.attractors["sigma"])[..., 0]
    assert places.shape == (6, 2)
    coherent = int(np.argmax(places[0]))
    exists = np.asarray(followed.parameter) > fold
    expected = np.where(exists, 1 - np.asarray(minus), 0.0)
    np.testing.assert_allclose(followed.shares[:, coherent], expected, atol=1 / 400)
    np.testing.assert_allclose(places[exists, coherent], plus[exists], atol=1e-4)
    assert np.isnan(places[~exists, coherent]).all()
    # One column is one attractor, however far it moves.
    np.testing.assert_allclose(places[:, 1 - coherent], 0.0, atol=1e-4)
    assert 0.0 < expected[exists].min() < 0.75
    assert set(np.unique(followed.labels[~exists])) <= {-1, 1 - coherent}


def test_attractor_that_returns_takes_up_its_column():
    r0 = np.array([0.8, 0.6, 0.8, 0.85])
    result = stability.basin_shares(settle, STARTS, r0)
    assert result.shares.shape == (4, 2)
    np.testing.assert_array_equal(result.shares[0], result.shares[2])
    np.testing.assert_array_equal(result.labels[0], result.labels[2])


def test_attractor_that_leaps_is_another_one():
    """With a short reach, σ₊ at .9 and at .72 are not taken for one."""
    result = stability.basin_shares(settle, STARTS, np.array([0.9, 0.72]), reach=0.02)
    assert result.shares.shape == (2, 3)


def test_basins_of_the_whole_model():
    """The seven-variable model at R₀ = .8: in α, δ and M̂ every start agrees, in σ it divides."""
    model = sigma_model("hysteretic", environment=Environment(r_surface=0.8))
    sigma = jnp.array([0.05, 0.13, 0.16, 0.5, 0.9])
    # α starts at its equilibrium: then σ₋ is the boundary whatever else the state is.
    starts = jax.vmap(lambda _: initial_state(alpha=0.5))(sigma)
    starts = eqx.tree_at(lambda s: s.sigma, starts, sigma[:, None, None, None])

    @jax.jit
    def run(states):
        ys = simulate_ensemble(model, states, jnp.array([0.0, 2000.0]), method=FixedStep(1000)).ys
        return jax.tree.map(lambda leaf: leaf[:, -1], ys)

    result = stability.basins(run, starts)
    found = np.asarray(result.attractors.sigma).squeeze()
    coherent = int(np.argmax(found))
    np.testing.assert_array_equal(np.asarray(result.labels) == coherent, sigma > 0.1467)
    assert float(result.shares[coherent]) == pytest.approx(0.6)
    assert found[coherent] == pytest.approx(0.63105, abs=1e-5)


def test_bad_input_is_said_in_words():
    with pytest.raises(ValueError, match="separation must lie in"):
        stability.basins(at(R0), STARTS, settled_within=0.1, separation=0.01)
    with pytest.raises(ValueError, match="starts needs the same leading axis"):
        stability.basins(at(R0), {"sigma": jnp.zeros((3, 1)), "other": jnp.zeros((2, 1))})
    with pytest.raises(ValueError, match="settle must return states like its starts"):
        stability.basins(lambda s: jnp.zeros((2, 3)), jnp.zeros((2, 1)))
