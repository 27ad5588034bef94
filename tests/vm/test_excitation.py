"""The excitation floor: proved in `excite`, here tried to break, and broken where it is not ours.

`published` restates the formula as it is printed, without our bound on the number of modes.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sigma_jax.vm.collapse import CollapseThresholds, Modes, symmetric_modes
from sigma_jax.vm.excitation import covariance_floor, excite, excited_count

MARGIN = 5e-2
DIMS = (2, 3, 5, 6)
seeds = st.integers(0, 2**31)


@jax.jit
def excited(x, covariance, jacobian, rank, gain, noise):
    modes = symmetric_modes(jacobian)
    return excite(x, covariance, modes, rank, gain, noise, strength=0.5)


floors = jax.jit(jax.vmap(covariance_floor, in_axes=(None, 0)))


def spread_of(covariance):
    values = np.linalg.eigvalsh(np.asarray(covariance, float))
    return values.std() / values.mean()


def published(spread, mean, dim, m, margin=MARGIN):
    a = np.clip(spread, 0.0, margin)
    return (margin + a) * mean * dim / (np.sqrt(m * (dim - m)) - margin * m)


def random_orthogonal(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def projector_on(basis, m):
    return basis[:, :m] @ basis[:, :m].T


def anti_aligned(basis, m, spread, mean):
    """The Σ on which b P does worst: μ(I − cS), S = P − (m/d)I, of this spread."""
    dim = len(basis)
    shape = projector_on(basis, m) - m / dim * np.eye(dim)
    matrix = mean * (np.eye(dim) - spread * dim / np.sqrt(m * (dim - m)) * shape)
    return 0.5 * (matrix + matrix.T)


def random_covariance(rng, basis, m, spread, mean, worst):
    if worst:
        return anti_aligned(basis, m, spread, mean)
    values, other = rng.normal(size=len(basis)), random_orthogonal(rng, len(basis))
    values = (values - values.mean()) / max(values.std(), 1e-12)
    matrix = mean * (other * (1 + spread * values)) @ other.T
    return 0.5 * (matrix + matrix.T)


def jacobian_with(rng, basis, null_modes):
    rates = np.where(np.arange(len(basis)) < null_modes, 0.0, rng.uniform(0.5, 2.0, len(basis)))
    skew = rng.normal(size=basis.shape)
    return (basis * rates) @ basis.T + skew - skew.T


# The theorem -------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(
    seeds,
    st.sampled_from(DIMS),
    st.floats(0.0, 0.98 * MARGIN),
    st.floats(-6, 6),
    st.booleans(),
    st.booleans(),
)
def test_excitation_lifts_the_spread_above_its_margin(seed, dim, spread, exponent, worst, known):
    """Any Σ with spread below ε, any m from the near-null modes or from the rank."""
    rng = np.random.default_rng(seed)
    m, basis = int(rng.integers(1, dim)), random_orthogonal(rng, dim)
    covariance = random_covariance(rng, basis, m, spread, 10.0**exponent, worst)
    x, noise = rng.normal(size=(2, dim))
    null_modes, rank = (m, -1) if known else (min(m, 1), dim - m)
    jacobian = jacobian_with(rng, basis, null_modes)
    if not known and m > 1:  # the m slowest modes are still those of `basis`
        rates = np.linspace(0.0, 2.0, dim)
        jacobian = (basis * rates) @ basis.T
    gain = rng.uniform()
    new_x, new = excited(
        *map(jnp.asarray, (x, covariance, jacobian)), jnp.int32(rank), gain, jnp.asarray(noise)
    )
    projector = projector_on(basis, m)
    assert spread_of(new) > MARGIN
    floor = published(spread_of(covariance), np.trace(covariance) / dim, dim, m)
    scale = np.abs(covariance).max()
    np.testing.assert_allclose(
        new, covariance + floor * projector, atol=1e-6 * floor + 1e-12 * scale
    )
    np.testing.assert_array_equal(new, np.asarray(new).T)
    assert np.linalg.eigvalsh(new).min() > 0
    np.testing.assert_allclose(new_x, x + 0.5 * gain * projector @ noise, atol=1e-9)


@pytest.mark.parametrize("dim", DIMS)
def test_floor_is_sharp(dim):
    """On the worst Σ one part in a thousand less does not reach the margin."""
    rng = np.random.default_rng(dim)
    for m in range(1, dim):
        basis = random_orthogonal(rng, dim)
        covariance = anti_aligned(basis, m, 0.03, 2.0)
        floor = float(floors(jnp.asarray(covariance), jnp.array([m]))[0])
        projector = projector_on(basis, m)
        assert MARGIN < spread_of(covariance + floor * projector) < MARGIN * (1 + 1e-6)
        assert spread_of(covariance + 0.999 * floor * projector) < MARGIN


@given(st.integers(2, 3000), st.floats(1e-3, 0.5))
def test_every_dimension_is_covered_with_a_modest_floor(dim, margin):
    """Whatever the modes and the rank, √(m(d−m)) ≥ 2εm or m = 1 with the root above ε."""
    m = np.arange(1, dim)
    m = m[m <= max(1, int(dim / (1 + 4 * margin**2) + 1e-9))]
    reach = np.sqrt(m * (dim - m)) - margin * m
    assert (reach > 0).all()
    assert (2 * margin * dim / reach <= 2 * dim / m * (1 + 1e-6)).all()


@pytest.mark.parametrize("dim", [2, 100, 101, 102, 128, 401, 405, 1000])
def test_count_is_the_published_one_up_to_the_bound(dim):
    """With all modes at rest m = d − 1, but at most d/(1 + 4ε²): a difference from d = 102 on."""
    rates = jnp.zeros(dim)
    modes = Modes(rates, jnp.zeros((dim, 0)))  # the count looks at the rates alone
    expected = min(dim - 1, int(dim / 1.01))
    assert int(excited_count(modes, jnp.int32(0))) == max(1, expected)
    assert (expected < dim - 1) == (dim > 101)


def test_count_takes_the_larger_of_the_two():
    modes = symmetric_modes(jnp.diag(jnp.array([0.0, 0.009, 0.011, 1.0, -1.0])))
    for rank, expected in ((-1, 2), (5, 2), (3, 2), (2, 3), (1, 4), (0, 4)):
        assert int(excited_count(modes, jnp.int32(rank))) == expected
    assert int(excited_count(symmetric_modes(jnp.eye(4)), jnp.int32(4))) == 1
    assert int(excited_count(symmetric_modes(jnp.zeros((1, 1))), jnp.int32(0))) == 1


# Where the printed formula fails ----------------------------------------------------------------


def test_printed_floor_divides_by_zero_at_401_and_is_negative_beyond():
    """No b serves there: the spread's limit √((d−m)/m) is not above the margin."""
    assert published(0.0, 1.0, 400, 399) > 800
    with np.errstate(divide="ignore"):
        assert abs(published(0.0, 1.0, 401, 400)) > 1e12
    assert published(0.0, 1.0, 402, 401) < 0
    values = np.r_[np.full(404, 1 + 1e9), 1.0]  # the eigenvalues of I + 10⁹ P
    assert values.std() / values.mean() < MARGIN


@pytest.mark.parametrize(("dim", "margin"), [(13, 0.3), (5, 0.5), (405, 0.05)])
def test_ours_reaches_where_the_printed_floor_does_not(dim, margin):
    """Jacobian zero, Σ isotropic, d − 1 ≥ d/(1 + ε²): fewer modes, and less than 3μ on them."""
    with np.errstate(divide="ignore"):
        assert not 0 < published(0.0, 1.0, dim, dim - 1, margin) < 1e12
    thresholds = CollapseThresholds(spread=margin)
    modes = Modes(jnp.zeros(dim), jnp.eye(dim))
    new_x, new = excite(
        jnp.zeros(dim),
        2.0 * jnp.eye(dim),
        modes,
        jnp.int32(0),
        1.0,
        jnp.ones(dim),
        strength=0.5,
        thresholds=thresholds,
    )
    values = np.diag(new)  # the modes are the axes
    np.testing.assert_array_equal(new, np.diag(values))
    assert values.std() / values.mean() > margin
    assert 2.0 <= values.min() <= values.max() < 2.0 * (1 + 3.0)
    kicked = int(dim / (1 + 4 * margin**2))
    assert float(new_x @ new_x) == pytest.approx(0.25 * kicked)


@pytest.mark.parametrize("dim", DIMS)
def test_printed_floor_can_lower_a_spread_above_the_margin(dim):
    """With the spread clipped to ε the proof does not hold, and neither does the claim."""
    rng = np.random.default_rng(dim)
    for m in range(1, dim):
        basis = random_orthogonal(rng, dim)
        covariance = anti_aligned(basis, m, 1.6 * MARGIN, 1.0)
        floor = published(spread_of(covariance), 1.0, dim, m)
        assert spread_of(covariance + floor * projector_on(basis, m)) < MARGIN
        given_back = floors(jnp.asarray(covariance), jnp.array([m]))
        np.testing.assert_array_equal(given_back, 0.0)


def test_one_dimension_has_no_spread():
    x, covariance = jnp.array([1.0]), jnp.array([[0.3]])
    modes = symmetric_modes(jnp.zeros((1, 1)))
    new_x, new = excite(x, covariance, modes, jnp.int32(0), 0.5, -jnp.ones(1), strength=0.2)
    np.testing.assert_allclose(new_x, [0.9])
    np.testing.assert_array_equal(new, covariance)


# Behaviour ---------------------------------------------------------------------------------------


def test_float32_keeps_the_strict_inequality():
    """The slack is above what single precision loses, on the sharp case too."""
    rng = np.random.default_rng(0)
    for dim in (2, 6, 64):
        for m in {1, dim // 2, dim - 1}:
            basis = random_orthogonal(rng, dim)
            covariance = jnp.asarray(anti_aligned(basis, m, 0.04, 3.0), jnp.float32)
            rates = np.arange(dim) >= m
            new_x, new = excited(
                jnp.zeros(dim, jnp.float32),
                covariance,
                jnp.asarray((basis * rates) @ basis.T, jnp.float32),
                jnp.int32(-1),
                jnp.float32(1.0),
                jnp.ones(dim, jnp.float32),
            )
            assert new.dtype == new_x.dtype == jnp.float32
            assert spread_of(new) > MARGIN


def test_kick_does_not_depend_on_the_choice_of_eigenvectors():
    """Other signs, and another basis among equal rates, give the same kick and the same Σ."""
    rng = np.random.default_rng(1)
    modes = symmetric_modes(jnp.diag(jnp.array([0.0, 0.0, 0.0, 1.0, 2.0])))
    turn = np.eye(5)
    turn[:3, :3] = random_orthogonal(rng, 3)
    turn[3:, 3:] *= -1
    turned = Modes(modes.rates, modes.vectors @ jnp.asarray(turn))
    noise = jnp.asarray(rng.normal(size=5))
    arguments = jnp.int32(-1), 1.0, noise
    one = excite(jnp.zeros(5), jnp.eye(5), modes, *arguments, strength=1.0)
    two = excite(jnp.zeros(5), jnp.eye(5), turned, *arguments, strength=1.0)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)
    np.testing.assert_allclose(one[0], np.r_[noise[:3], 0.0, 0.0], atol=1e-14)


def test_derivative_is_the_identity():
    """Also at an isotropic Σ and equal rates, where eigenvectors and spread have none."""
    shared = jnp.zeros((3, 3)), jnp.int32(0), 0.7, jnp.ones(3)
    by_x = jax.jacobian(lambda x: excited(x, jnp.eye(3), *shared)[0])(jnp.ones(3))
    by_covariance = jax.jacobian(lambda c: excited(jnp.ones(3), c, *shared)[1])(jnp.eye(3))
    np.testing.assert_array_equal(by_x, np.eye(3))
    np.testing.assert_array_equal(by_covariance.reshape(9, 9), np.eye(9))


def test_bad_shapes_are_named():
    modes = symmetric_modes(jnp.eye(2))
    good = [jnp.ones(2), jnp.eye(2), modes, jnp.int32(0), 1.0, jnp.ones(2)]
    for place, name, value in (
        (0, "x", jnp.ones(3)),
        (1, "covariance", jnp.eye(3)),
        (5, "noise", jnp.ones(1)),
        (0, "x", jnp.full(2, jnp.nan)),
        (1, "covariance", jnp.full((2, 2), jnp.nan)),
    ):
        arguments = [*good]
        arguments[place] = value
        with pytest.raises(ValueError, match=f"{name} must"):
            excite(*arguments, strength=1.0)
