"""All equilibria in a box: closed forms, the whole Σ-Model, and what must not break the search."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax import schema, stability
from sigma_jax.schema import Environment, Rates, initial_state, sigma_model

KEY = jax.random.key(0)
SATURATION, RELIEF = 0.9, 3.0


def bounds(low=0.0, high=1.0):
    """The corners of the Σ-Model's box, for one agent, domain and modality."""
    state = initial_state()
    return jax.tree.map(lambda x: x * 0 + low, state), jax.tree.map(lambda x: x * 0 + high, state)


def find_all(variant, surface):
    model = sigma_model(variant, environment=Environment(r_surface=surface))
    model = jax.tree.map(jnp.asarray, model)  # models of one structure share compiled code
    return model, stability.find_equilibria(model, *bounds(), key=KEY)


def coherences(equilibria):
    return np.array([float(e.y.sigma.squeeze()) for e in equilibria])


def depth_drift(t, x, decay_ratio):
    return jnp.exp(-4.0 * jnp.exp(-3.0 * x)) - decay_ratio * x


def test_whole_consistent_model_below_threshold_has_one_stable_equilibrium():
    """R₀ = 0.8: everything but coherence settles, coherence is lost."""
    model, found = find_all("consistent", 0.8)
    assert [e.kind for e in found] == ["stable node"]
    y, conditions = found[0].y, model.environment(0.0, None)
    np.testing.assert_allclose(y.sigma, 0.0, atol=1e-12)
    np.testing.assert_allclose(
        y.alpha.squeeze(), schema.attention_equilibrium(model.rates, conditions), rtol=1e-12
    )
    for rate in jax.tree.leaves(model(0.0, y)):
        np.testing.assert_allclose(rate, 0.0, atol=1e-13)


def test_whole_consistent_model_above_threshold_exchanges_stability():
    """R₀ = 1.28: zero is a saddle, (1 − 1/R₀)/k = 0.4375 is stable."""
    model, found = find_all("consistent", 0.2)
    expected = [0.0, schema.core_equilibrium(1.28, model.rates.saturation)]
    np.testing.assert_allclose(coherences(found), expected, atol=1e-12)
    assert [e.stability for e in found] == ["unstable", "stable"]
    self_model = schema.self_model_equilibrium(model.rates, model.environment(0.0, None), 0.4375)
    np.testing.assert_allclose(found[1].y.self_model.squeeze(), self_model, rtol=1e-12)


def test_whole_hysteretic_model_is_bistable_below_threshold():
    """R₀ = 0.8: 0 and σ₊ = .631 are stable; σ₋ = .147 between them is a saddle."""
    _, found = find_all("hysteretic", 0.8)
    between = schema.hysteretic_equilibria(0.8, SATURATION, RELIEF)
    np.testing.assert_allclose(coherences(found), [0.0, *between], atol=1e-12)
    np.testing.assert_allclose(coherences(found)[1:], [0.147, 0.631], atol=5e-4)
    assert [e.kind for e in found] == ["stable node", "saddle", "stable node"]
    assert [e.stable for e in found] == [True, False, True]
    assert sum(e.found_by for e in found) <= 256
    assert min(e.found_by for e in found) >= 5
    # A cascade: the eigenvalues are the Jacobian's diagonal.
    diagonal = np.sort(np.diag(found[1].jacobian))[::-1]
    np.testing.assert_allclose(found[1].eigenvalues.real, diagonal, rtol=1e-10)


def test_paper_model_has_no_equilibrium_inside_its_box():
    """As printed depth passes its frontier (E-13): nothing settles at δ ≤ Δ."""
    assert find_all("paper", 0.8)[1] == []


@pytest.mark.parametrize(("a_b_k", "roots"), [((4, 3, 0.87), 3), ((4, 3, 1.1), 1)])
def test_depth_equation_has_one_or_three_roots(a_b_k, roots):
    """E-15: bistability of depth, against the roots by bracketing, and the printed figures."""
    a, b, k = a_b_k
    found = stability.find_equilibria(
        depth_drift, jnp.zeros(1), jnp.ones(1), args=jnp.asarray(k), key=KEY
    )
    expected = schema.depth_equilibria(Rates(gompertz_a=a, gompertz_b=b), k)
    assert len(expected) == roots
    np.testing.assert_allclose([e.y[0] for e in found], expected, atol=1e-12)
    if roots == 3:
        np.testing.assert_allclose(expected, [0.030, 0.645, 0.797], atol=5e-4)
        assert [e.stable for e in found] == [True, False, True]


def test_kinds_of_the_classical_plane():
    """A node, a focus and a saddle are told apart, and a centre is left undecided."""
    matrices = {
        "stable node": [[-1.0, 0.0], [0.0, -2.0]],
        "unstable node": [[1.0, 0.5], [0.0, 2.0]],
        "saddle": [[1.0, 0.0], [0.0, -2.0]],
        "stable focus": [[-0.1, 1.0], [-1.0, -0.1]],
        "unstable focus": [[0.1, 1.0], [-1.0, 0.1]],
        "not hyperbolic": [[0.0, 1.0], [-1.0, 0.0]],
    }
    box = jnp.full(2, -1.0), jnp.ones(2)
    for kind, matrix in matrices.items():
        found = stability.find_equilibria(linear, *box, args=jnp.array(matrix), key=KEY, starts=8)
        assert [e.kind for e in found] == [kind]
        assert found[0].found_by == 8


def linear(t, y, matrix):
    return matrix @ y


def test_degenerate_equilibrium_is_found_and_called_so():
    """At R₀ = 1 zero is a double root: neither stable nor unstable by linearisation."""
    (found,) = stability.find_equilibria(
        lambda t, x, a: x * ((1 - 0.5 * x) - 1.0), jnp.zeros(1), jnp.ones(1), key=KEY
    )
    assert abs(float(found.y[0])) < 1e-5
    assert found.stability == "not hyperbolic"
    assert not found.stable


def test_flat_parts_stop_a_start_but_not_the_search():
    """A drift clipped to ±0.1: zero gradient nearly everywhere, three roots in the middle."""

    def clipped(t, x, args):
        return jnp.clip(40.0 * x * (x - 0.1) * (0.1 + x), -0.1, 0.1)

    found = stability.find_equilibria(clipped, jnp.full(1, -1.0), jnp.ones(1), key=KEY, starts=512)
    np.testing.assert_allclose([e.y[0] for e in found], [-0.1, 0.0, 0.1], atol=1e-12)


def test_held_component_has_no_eigenvalue():
    """A component without dynamics is a constant: its bounds are equal."""

    def with_constant(t, y, args):
        return {"x": y["c"] - y["x"], "c": jnp.zeros_like(y["c"])}

    low, high = {"x": jnp.zeros(1), "c": jnp.array(0.3)}, {"x": jnp.ones(1), "c": jnp.array(0.3)}
    (found,) = stability.find_equilibria(with_constant, low, high, key=KEY, starts=16)
    np.testing.assert_allclose(found.y["x"], [0.3], atol=1e-12)
    np.testing.assert_allclose(found.eigenvalues, [-1.0], rtol=1e-12)
    assert found.jacobian.shape == (2, 2)
    free = low | {"c": jnp.array(0.0)}, high | {"c": jnp.array(1.0)}
    line = stability.find_equilibria(with_constant, *free, key=KEY, starts=16)
    assert len(line) > 1
    assert {e.stability for e in line} == {"not hyperbolic"}


def test_units_do_not_matter():
    """Components of very different size and speed: scaled by 10⁶ and 10⁻⁶."""

    def scaled(t, y, args):
        x, v = y[0] * 1e-6, y[1] * 1e6
        return jnp.stack([1e6 * x * (0.5 - x), 1e-9 * (x - v)])

    found = stability.find_equilibria(
        scaled, jnp.zeros(2), jnp.array([1e6, 1e-6]), key=KEY, starts=64
    )
    np.testing.assert_allclose([e.y for e in found], [[0.0, 0.0], [5e5, 5e-7]], rtol=1e-9)


def test_single_precision():
    low, high = jnp.zeros(1, jnp.float32), jnp.ones(1, jnp.float32)
    found = stability.find_equilibria(lambda t, x, a: x * (0.25 - x), low, high, key=KEY, starts=32)
    assert found[0].y.dtype == jnp.float32
    np.testing.assert_allclose([e.y[0] for e in found], [0.0, 0.25], atol=1e-6)


@settings(max_examples=8)
@given(st.lists(st.floats(-2.0, 2.0), min_size=4, max_size=4))
def test_eigenvalues_do_not_depend_on_the_coordinates(entries):
    """x = Mz changes the Jacobian to M⁻¹JM and leaves its eigenvalues alone."""
    change = np.array(entries).reshape(2, 2) + 5.0 * np.eye(2)
    equilibrium = jnp.array([1.0, 1.7])
    z = jnp.linalg.solve(change, equilibrium)
    matrix = stability.jacobian(transformed, z, args=jnp.asarray(change))
    direct = stability.jacobian(transformed, equilibrium, args=jnp.eye(2))
    np.testing.assert_allclose(
        np.sort_complex(np.linalg.eigvals(matrix)),
        np.sort_complex(np.linalg.eigvals(direct)),
        rtol=1e-9,
        atol=1e-12,
    )


def transformed(t, z, change):
    """The Brusselator with a = 1, b = 1.7 in the coordinates z, y = change · z."""
    x, y = change @ z
    return jnp.linalg.solve(change, jnp.stack([1.0 + x**2 * y - 2.7 * x, 1.7 * x - x**2 * y]))


def test_bad_input_is_said_in_words():
    zero, one = jnp.zeros(1), jnp.ones(1)
    with pytest.raises(ValueError, match="upper must be finite and not below lower"):
        stability.find_equilibria(lambda t, x, a: x, one, zero, key=KEY)
    with pytest.raises(ValueError, match="starts must be at least 1"):
        stability.find_equilibria(lambda t, x, a: x, zero, one, key=KEY, starts=0)
    with pytest.raises(ValueError, match="lower must be finite"):
        stability.find_equilibria(lambda t, x, a: x, -jnp.inf * one, one, key=KEY)
    with pytest.raises(ValueError, match="a derivative for each of the 1 components"):
        stability.find_equilibria(lambda t, x, a: jnp.zeros(2), zero, one, key=KEY)
    with pytest.raises(ValueError, match="must not contain NaN"):
        stability.jacobian(lambda t, x, a: x, jnp.array([jnp.nan]))
