"""Certificates of a matrix against its exponential, its spectrum and closed forms."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from sigma_jax.stability import Certificate, Dichotomy, certify, envelope
from sigma_jax.stability.certificates import CROUZEIX_PALENCIA

TIMES = np.array([0.0, 0.03, 0.3, 1.0, 3.0, 10.0, 100.0])
ROUND_OFF = 1e-10  # of the exponential computed by SciPy, relative
NORMAL_GATES = ("numerical_range_gate", "lyapunov_gate", "small_gain_gate", "pseudospectral_gate")

BATCH = 256  # one shape for each dimension, so that each is compiled once
KREISS_POINTS = {2: 16, 3: 8}  # compiled in where a Kreiss constant is tested
DEFAULTS = {"margin": 0.0, "perturbation": 1e-2, "gap": 1e-2}


@eqx.filter_jit
def certify_batch(matrices, margin, perturbation, gap, kreiss_points):
    options = dict(margin=margin, perturbation=perturbation, gap=gap, kreiss_points=kreiss_points)
    return eqx.filter_vmap(lambda matrix: certify(matrix, **options))(matrices)


def certify_many(matrices, **options) -> Certificate:
    """`certify` of each matrix, batch by batch; the last batch is filled up."""
    matrices = np.asarray(matrices)
    options = {
        name: jnp.asarray(value, matrices.dtype) for name, value in (DEFAULTS | options).items()
    }
    points = KREISS_POINTS.get(matrices.shape[-1], 0)
    rows = np.minimum(np.arange(-(-len(matrices) // BATCH) * BATCH), len(matrices) - 1)
    found = [
        certify_batch(jnp.asarray(matrices[part]), **options, kreiss_points=points)
        for part in rows.reshape(-1, BATCH)
    ]
    whole = jax.tree.map(lambda *parts: np.concatenate(parts)[: len(matrices)], *found)
    return jax.tree.map(jnp.asarray, whole)


def certify_one(matrix, **options) -> Certificate:
    """The same of one matrix, by what is compiled for its dimension."""
    return jax.tree.map(
        lambda leaf: leaf[0], certify_many(np.asarray(matrix, float)[None], **options)
    )


envelopes = jax.jit(jax.vmap(lambda found: envelope(found, jnp.asarray(TIMES))))


def zoo(rng: np.random.Generator, size: int) -> dict[str, np.ndarray]:
    """One matrix of each kind: stable, unstable, defective, and very far from normal."""
    g, v = rng.standard_normal((2, size, size))
    half = max(1, size // 2)
    rotation = np.linalg.qr(g)[0]
    abscissa = np.linalg.eigvals(v).real.max()
    rates = 10 ** rng.uniform(-3, 2, size)
    return {
        "gaussian": g / np.sqrt(size) - rng.uniform(0, 2) * np.eye(size),
        "unstable": g * 10 ** rng.uniform(-2, 2),
        "nearly unstable": v - (abscissa + 10 ** rng.uniform(-6, 0)) * np.eye(size),
        "triangular": np.triu(g * 10 ** rng.uniform(0, 2), 1) - np.diag(rng.uniform(0.05, 3, size)),
        "defective": np.eye(size, k=1) * 10 ** rng.uniform(-1, 1.5)
        - rng.uniform(0.01, 1) * np.eye(size),
        "graded": np.linalg.solve(v, -rates[:, None] * v),
        "normal": -(rotation * rates) @ rotation.T,
        "rotation": g - g.T - np.diag(10 ** rng.uniform(-4, 0, size)),
        "low rank": g[:, :half] @ v[:half] / size - 0.1 * np.eye(size),
        "cascade": np.diag(rng.uniform(1, 50, size - 1), -1) - np.eye(size),
    }


def exponentials(matrices: np.ndarray) -> np.ndarray:
    """e^A of many small matrices: Taylor's series of A/2ⁿ, squared n times, in long double.

    SciPy's, which takes them one by one, would be most of the time of these tests. The digits that
    long double has more than double are for the squarings.
    """
    if matrices.shape[-1] > 12:
        return scipy.linalg.expm(matrices)
    matrices = matrices.astype(np.longdouble)
    identity = np.eye(matrices.shape[-1], dtype=np.longdouble)
    size = np.abs(matrices).sum(axis=-1).max(axis=-1)
    squarings = np.ceil(np.log2(np.maximum(size, 0.5))).astype(int) + 1
    scaled = matrices / np.exp2(squarings.astype(np.longdouble))[..., None, None]
    result = np.broadcast_to(identity, matrices.shape)
    for order in range(18, 0, -1):  # 0.5¹⁹/19! is below 1e-22
        result = identity + scaled @ result / order
    for done in range(squarings.max()):
        again = squarings > done
        result[again] = result[again] @ result[again]
    return result


def true_norms(matrices, times=TIMES) -> np.ndarray:
    """‖e^{tA}‖₂, `[matrices, times]`; infinite where it overflows."""
    with np.errstate(all="ignore"):
        found = exponentials(times[:, None, None] * np.asarray(matrices)[:, None]).astype(float)
        finite = np.isfinite(found).all(axis=(-2, -1))
        norms = np.linalg.norm(np.where(finite[..., None, None], found, 0.0), 2, axis=(-2, -1))
    return np.where(finite, norms, np.inf)


def violations(matrices, found, times=TIMES, bounds=None) -> int:
    """How many (matrix, time) pairs have an exponential above its envelope; none may be NaN."""
    bounds = np.asarray(envelopes(found) if bounds is None else bounds)
    assert not np.isnan(bounds).any()
    bounded = bounds < 1e250  # beyond it the exponential itself overflows
    return int(np.sum(bounded & (true_norms(matrices, times) > bounds * (1 + ROUND_OFF))))


def drawn(seed: int, size: int, count: int) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng([seed, size])
    pairs = [pair for _ in range(count) for pair in zoo(rng, size).items()]
    return [name for name, _ in pairs], np.array([matrix for _, matrix in pairs])


def test_exponentials_agree_with_scipys():
    """One of each kind, at each time at which it does not overflow."""
    _, matrices = drawn(6, 7, 1)
    for matrix, norms in zip(matrices, true_norms(matrices), strict=True):
        tame = norms < 1e250
        theirs = scipy.linalg.expm(TIMES[tame, None, None] * matrix)
        np.testing.assert_allclose(norms[tame], np.linalg.norm(theirs, 2, (1, 2)), rtol=1e-8)


@pytest.mark.parametrize(("size", "count"), [(2, 25), (3, 200), (7, 50), (12, 25)])
def test_envelope_is_never_below_the_exponential(size, count):
    names, matrices = drawn(0, size, count)
    found = certify_many(matrices)
    assert violations(matrices, found) == 0
    gate, abscissa = np.asarray(found.lyapunov_gate), np.linalg.eigvals(matrices).real.max(-1)
    assert (abscissa[gate] < 1e-8).all()
    # And it proves something: nearly all that is stable, but for transients beyond precision.
    tame = np.isin(names, ["gaussian", "nearly unstable", "normal", "rotation", "low rank"])
    assert gate[tame & (abscissa < -1e-5)].all()
    assert (gate == (abscissa < 0)).mean() > (0.8 if size < 12 else 0.7)


@pytest.mark.slow
def test_envelope_holds_at_64_dimensions():
    names, matrices = drawn(2, 64, 1)
    found = eqx.filter_jit(eqx.filter_vmap(lambda a: certify(a, kreiss_points=0)))(
        jnp.asarray(matrices)
    )
    assert violations(matrices, found) == 0
    gates = dict(zip(names, np.asarray(found.lyapunov_gate), strict=True))
    assert gates["nearly unstable"]
    assert gates["normal"]
    assert gates["rotation"]


def test_envelope_holds_in_single_precision():
    """The bounds allow for the round-off of the precision they are computed in."""
    _, matrices = drawn(3, 3, 25)
    single = matrices.astype(np.float32)
    found = certify_many(single)
    assert found.numerical_abscissa.dtype == jnp.float32
    bounds = np.asarray(eqx.filter_vmap(envelope, in_axes=(0, None))(found, TIMES), float)
    bounds[bounds > 1e38] = np.inf
    # A time is rounded to single precision too, within the allowance.
    assert violations(single.astype(float), found, bounds=bounds) == 0
    assert np.asarray(found.lyapunov_gate).mean() > 0.3


def test_a_bound_one_part_in_a_thousand_lower_would_be_caught():
    """The comparison has teeth: normal matrices attain their envelope, others come close."""
    names, matrices = drawn(0, 7, 25)
    found = certify_many(matrices)
    bounds = np.asarray(envelopes(found))
    assert violations(matrices, found, bounds=bounds * (1 - 1e-3)) > 100
    # The largest value of the envelope over that of the exponential.
    keep = np.asarray(found.lyapunov_gate) & np.isin(names, ["gaussian", "low rank", "cascade"])
    peaks = true_norms(matrices[keep]).max(axis=1)
    assert np.median(bounds[keep].max(axis=1) / peaks) < 10


def test_tiny_and_huge_matrices_keep_their_allowances():
    _, matrices = drawn(4, 3, 5)
    for scale in (1e-30, 1e30):
        single = (matrices * scale).astype(np.float32)
        found = certify_many(single)
        omega = np.linalg.eigvalsh(0.5 * (single + single.transpose(0, 2, 1)).astype(float))[:, -1]
        assert (np.asarray(found.numerical_abscissa, float) >= omega).all()
        np.testing.assert_allclose(
            found.numerical_abscissa, omega, atol=1e-4 * np.abs(single).max(), rtol=1e-4
        )


def test_minus_two_is_certified_by_every_gate():
    found = certify_one(-2.0 * np.eye(3), perturbation=0.5)
    assert all(bool(getattr(found, gate)) for gate in NORMAL_GATES)
    assert found.numerical_abscissa == -2.0
    assert found.small_gain_bound == pytest.approx(-2.0)
    assert found.pseudospectral_bound == pytest.approx(-1.5)
    assert found.lyapunov_condition == pytest.approx(1.0)
    assert found.lyapunov_rate == pytest.approx(2.0)
    assert found.kreiss_constant == 1.0
    assert found.crouzeix_palencia_gate
    assert found.null_dimension == 0
    assert found.dichotomy.outcome == Dichotomy.COLLAPSE
    assert found.dichotomy.slow_dimension == 0
    np.testing.assert_allclose(envelope(found, [0.0, 1.0, 3.0]), np.exp([0, -2, -6]), rtol=1e-12)


def test_identity_is_refused_by_every_gate():
    found = certify_one(np.eye(3))
    assert not any(bool(getattr(found, gate)) for gate in NORMAL_GATES)
    assert not found.crouzeix_palencia_gate
    assert found.dichotomy.outcome == Dichotomy.DIVERGE
    assert found.dichotomy.slow_dimension == 3
    assert envelope(found, 2.0) == pytest.approx(np.exp(2.0))


def test_non_normal_matrix_is_accepted_by_lyapunov_and_refused_by_small_gain():
    """λ² + λ + 9 = 0, so Re λ = −½; sym A = diag(−1, 0), so its bound is −1 + 3."""
    found = certify_one([[-1.0, 3.0], [-3.0, 0.0]])
    assert found.lyapunov_gate
    assert not found.small_gain_gate
    assert found.small_gain_bound == pytest.approx(2.0)
    assert found.spectral_abscissa == pytest.approx(-0.5)
    assert found.numerical_abscissa == 0.0
    assert not found.numerical_range_gate
    assert found.crouzeix_palencia_gate
    assert found.null_dimension == 1
    assert found.kreiss_constant == 1.0


def test_two_null_modes_are_counted_and_marginal():
    matrix = np.diag([0.0, 0.0, *[-0.9] * 5])
    found = certify_one(matrix)
    assert found.null_dimension == 2
    assert found.dichotomy.slow_dimension == 2
    assert Dichotomy.OUTCOMES[found.dichotomy.outcome] == "marginal"
    assert found.dichotomy.slow_abscissa == 0.0
    assert found.dichotomy.active_abscissa == -0.9
    np.testing.assert_allclose(
        found.dichotomy.slow_projector, np.diag([1, 1, 0, 0, 0, 0, 0]), atol=1e-14
    )
    assert found.small_gain_bound == pytest.approx(-0.9)  # of the active modes alone
    assert not found.lyapunov_gate
    assert found.numerical_abscissa == 0.0
    nothing = certify_one(np.zeros((2, 2)))
    assert nothing.small_gain_bound == np.inf
    assert not nothing.small_gain_gate


def test_lyapunov_solution_in_two_dimensions():
    """Aᵀ P + P A = −I for [[−1, c], [0, −2]]: P = [[½, c/6], [c/6, ¼ + c²/12]]."""
    c = 4.0
    found = certify_one([[-1.0, c], [0.0, -2.0]])
    p = np.array([[0.5, c / 6], [c / 6, 0.25 + c**2 / 12]])
    low, high = np.linalg.eigvalsh(p)
    assert found.lyapunov_condition == pytest.approx(high / low, rel=1e-10)
    assert found.lyapunov_rate == pytest.approx(1 / (2 * high), rel=1e-10)
    assert found.lyapunov_residual < 1e-12


def test_margin_asks_for_more():
    """Re λ = −1, ω = −1 + c/2: each gate is lost exactly where its quantity passes −margin."""
    matrix = np.array([[-1.0, 1.0], [0.0, -1.0]])
    inside, beyond = certify_one(matrix, margin=0.99), certify_one(matrix, margin=1.01)
    assert inside.lyapunov_gate
    assert not beyond.lyapunov_gate
    assert beyond.lyapunov_condition == np.inf
    assert certify_one(matrix, margin=0.49, perturbation=0.0).numerical_range_gate
    assert not certify_one(matrix, margin=0.51, perturbation=0.0).numerical_range_gate
    assert certify_one(matrix, margin=0.1, perturbation=0.39).pseudospectral_gate
    assert not certify_one(matrix, margin=0.1, perturbation=0.41).pseudospectral_gate
    # A gate that is lost takes no bound away that other shifts prove.
    assert envelope(beyond, 30.0) < 1e-6


def test_no_perturbation_of_that_size_passes_the_pseudospectral_bound():
    """The worst of 50 directions of each matrix, all of the norm that is allowed."""
    size, rng = 0.3, np.random.default_rng(7)
    matrices = rng.uniform(-5, 5, (BATCH, 3, 3)) * 10 ** rng.uniform(-2, 0, (BATCH, 1, 1))
    # Some that attain it: symmetric ones, moved along the eigenvector of ω.
    matrices[::4] = 0.5 * (matrices[::4] + matrices[::4].swapaxes(1, 2))
    _, vectors = np.linalg.eigh(0.5 * (matrices + matrices.swapaxes(1, 2)))
    top = vectors[:, :, -1:]
    directions = rng.standard_normal((50, BATCH, 3, 3))
    directions[0] = top @ top.swapaxes(1, 2)
    norms = np.linalg.norm(directions, 2, axis=(-2, -1))
    moved = matrices + size * directions / norms[..., None, None]
    worst = np.linalg.eigvals(moved).real.max(axis=(0, 2))
    bound = np.asarray(certify_many(matrices, perturbation=size).pseudospectral_bound)
    # Eigenvalues of a defective matrix are computed to about the cube root of round-off.
    assert (worst <= bound + 1e-4).all()
    np.testing.assert_allclose(worst[::4], bound[::4], atol=1e-12)


def test_small_gain_bounds_the_spectrum_where_no_mode_is_null():
    """[[a, s], [−s, b]] on a grid without null modes: normal matrices, and strong couplings."""
    rates, skews = np.linspace(-3, 3, 8), np.array([0.0, 0.1, 1.0, 20.0])
    a, b, s = (part.ravel() for part in np.meshgrid(rates, rates, skews))
    found = certify_many(np.stack([np.stack([a, s], -1), np.stack([-s, b], -1)], axis=1))
    np.testing.assert_array_equal(found.null_dimension, 0 * a)
    assert (found.spectral_abscissa <= found.numerical_abscissa + 1e-7).all()
    assert (found.numerical_abscissa <= found.small_gain_bound).all()
    np.testing.assert_allclose(found.small_gain_bound, np.maximum(a, b) + s, atol=1e-12)


def test_kreiss_constant_of_one_jordan_block():
    """[[−1, c], [0, −1]] at real z = x: 1/σ_min in closed form, largest over x by a dense search.

    The largest resolvent of this block at given Re z is at Im z = 0.
    """
    c = 50.0
    x = np.geomspace(1e-4, 1e3, 200_000)
    a = x + 1.0
    # Singular values of [[a, −c], [0, a]]: their product is a² and the sum of squares 2a² + c².
    largest = (np.sqrt(c**2 + 4 * a**2) + c) / 2
    exact = np.max(x * largest / a**2)
    found = certify_one([[-1.0, c], [0.0, -1.0]]).kreiss_constant
    assert exact * 0.99 < found <= exact * (1 + 1e-9)
    # It bounds the largest exponential from below.
    assert found < true_norms([[[-1.0, c], [0.0, -1.0]]], np.linspace(0, 5, 200)).max()


def test_kreiss_constant_stays_below_the_transient_and_is_one_for_contractions():
    _, matrices = drawn(5, 3, 10)
    found = certify_many(matrices)
    kreiss = np.asarray(found.kreiss_constant)
    stable = np.asarray(found.lyapunov_gate)
    times = np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 60)])
    # The transient's peak falls between two of the times.
    assert (kreiss[stable] <= true_norms(matrices[stable], times).max(axis=1) * 1.05).all()
    assert (kreiss[np.asarray(found.crouzeix_palencia_gate)] == 1.0).all()
    assert (kreiss[stable] > 1.5).any()


def test_crouzeix_palencia_bounds_a_time_step():
    """‖f(A)‖ ≤ (1 + √2) sup |f| over Re z ≤ 0, for f(z) = (1 + z/2)/(1 − z/2), where |f| ≤ 1."""
    rng = np.random.default_rng(0)
    g = rng.standard_normal((BATCH, 7, 7)) * 10 ** rng.uniform(-1, 2, (BATCH, 1, 1))
    largest = np.linalg.eigvalsh(0.5 * (g + g.swapaxes(1, 2)))[:, -1]
    matrices = g - (largest + 0.01)[:, None, None] * np.eye(7)
    assert certify_many(matrices).crouzeix_palencia_gate.all()
    steps = np.linalg.solve(np.eye(7) - matrices / 2, np.eye(7) + matrices / 2)
    assert np.linalg.norm(steps, 2, axis=(1, 2)).max() <= CROUZEIX_PALENCIA
    assert pytest.approx(1 + np.sqrt(2)) == CROUZEIX_PALENCIA


@pytest.mark.parametrize(
    ("slow", "outcome"),
    [
        ([-0.05, -0.02], Dichotomy.COLLAPSE),
        ([-0.05, 0.0], Dichotomy.MARGINAL),
        ([-0.05, 0.3], Dichotomy.DIVERGE),
    ],
)
def test_dichotomy_of_an_oblique_splitting(slow, outcome):
    """A = V diag(λ) V⁻¹: the projector is V diag(1, 1, 0, …, 0) V⁻¹ whatever the order."""
    rng = np.random.default_rng(1)
    v = rng.standard_normal((7, 7))
    matrix = v @ np.diag([*slow, -0.5, -2.0, -1.0, -0.7, -3.0]) @ np.linalg.inv(v)
    found = certify_one(matrix, gap=0.1).dichotomy
    assert found.outcome == outcome
    assert found.slow_dimension == 2
    assert found.residual < 1e-10
    expected = v @ np.diag([1.0, 1, 0, 0, 0, 0, 0]) @ np.linalg.inv(v)
    np.testing.assert_allclose(found.slow_projector, expected, atol=1e-10)
    assert found.slow_abscissa == pytest.approx(max(slow), abs=1e-10)
    assert found.active_abscissa == pytest.approx(-0.5)


def test_dichotomy_splits_a_pair_that_turns():
    """Eigenvalues −0.01 ± 2i, −1 ± 5i and −2 (three times), coupled one way."""
    matrix = -2.0 * np.eye(7)
    matrix[:4, :4] = [[-0.01, 2, 1, 0], [-2, -0.01, 0, 3], [0, 0, -1, 5], [0, 0, -5, -1]]
    matrix[3, 4:] = 1.0
    found = certify_one(matrix, gap=0.1).dichotomy
    assert found.slow_dimension == 2
    assert found.outcome == Dichotomy.COLLAPSE
    p = np.asarray(found.slow_projector)
    np.testing.assert_allclose(p @ p, p, atol=1e-12)
    np.testing.assert_allclose(matrix @ p, p @ matrix, atol=1e-12)


def test_eigenvalue_on_the_gap_is_undecided():
    found = certify_one(np.diag([-0.5, -2.0]), gap=0.5).dichotomy
    assert found.outcome == Dichotomy.UNDECIDED
    assert found.slow_dimension == -1
    assert found.residual == np.inf
    np.testing.assert_array_equal(found.slow_projector, np.zeros((2, 2)))


def test_matrix_that_is_not_finite_passes_no_gate_in_compiled_code():
    for bad in (np.nan, np.inf):
        found = certify_many([[[bad, 0.0], [1.0, 2.0]], -np.eye(2)])
        first, second = (jax.tree.map(lambda leaf, i=i: leaf[i], found) for i in (0, 1))
        gates = [getattr(first, gate) for gate in (*NORMAL_GATES, "crouzeix_palencia_gate")]
        assert not any(gates)
        assert all(not np.isnan(leaf).any() for leaf in jax.tree.leaves(first))
        for name in (
            "numerical_abscissa",
            "lyapunov_condition",
            "small_gain_bound",
            "kreiss_constant",
        ):
            assert getattr(first, name) == np.inf
        assert first.dichotomy.outcome == Dichotomy.UNDECIDED
        assert np.isinf(envelope(first, [0.0, 1.0])).all()
        # Its neighbour in the batch is none the worse.
        assert all(bool(getattr(second, gate)) for gate in NORMAL_GATES)


def test_envelope_over_times_of_any_shape_and_at_the_ends():
    found = certify_one([[-1.0, 5.0], [0.0, -1.0]])
    grid = envelope(found, np.array([[0.0, 1.0], [2.0, 1e6]]))
    assert grid.shape == (2, 2)
    assert grid[0, 0] == pytest.approx(1.0)
    assert 0.0 < grid[1, 1] < 1e-300
    assert jax.jit(envelope)(found, -1.0) == np.inf
    assert jax.jit(envelope)(found, jnp.nan) == np.inf


def test_no_gradient_flows_and_none_is_nan():
    """Eigenvalues of −I all meet: their derivatives would be NaN."""
    slope = jax.grad(lambda a: envelope(certify(a, kreiss_points=0), 1.0))(-jnp.eye(2))
    np.testing.assert_array_equal(slope, np.zeros((2, 2)))


def test_one_dimension_is_certified_to_the_letter():
    """e^{−3t}: every bound is attained, and nothing is left to be slow."""
    found = certify([[-3]], kreiss_points=4)  # whole numbers are taken as real ones
    assert isinstance(found, Certificate)
    assert found.numerical_abscissa.dtype == jnp.float64
    np.testing.assert_allclose(envelope(found, TIMES), np.exp(-3.0 * TIMES), rtol=1e-12)
    assert all(bool(getattr(found, gate)) for gate in NORMAL_GATES)
    assert found.kreiss_constant == 1.0
    assert found.dichotomy.slow_dimension == 0


@pytest.mark.parametrize(
    ("matrix", "options", "message"),
    [
        (np.ones((2, 3)), {}, r"jacobian must be a square matrix \[d, d\].*\(2, 3\)"),
        (np.ones(3), {}, "jacobian must be a square"),
        (np.ones((0, 0)), {}, "jacobian must be a square"),
        (np.ones((2, 2, 2)), {}, "jacobian must be a square"),
        (np.full((2, 2), np.nan), {}, "jacobian must not contain NaN"),
        (np.array([[np.inf]]), {}, "jacobian must be finite"),
        (np.eye(2) * 1j, {}, "jacobian must be a number"),
        (np.eye(2), {"margin": -1.0}, "margin must lie in"),
        (np.eye(2), {"margin": np.nan}, "margin must not contain NaN"),
        (np.eye(2), {"perturbation": -0.1}, "perturbation must lie in"),
        (np.eye(2), {"gap": -0.1}, "gap must lie in"),
        (np.eye(2), {"kreiss_points": -1}, "kreiss_points must be an int"),
        (np.eye(2), {"kreiss_points": 2.5}, "kreiss_points must be an int"),
    ],
)
def test_bad_input_is_said_in_words(matrix, options, message):
    with pytest.raises(ValueError, match=message):
        certify(matrix, **options)


def test_bad_times_are_said_in_words():
    found = certify_one(-np.eye(2))
    with pytest.raises(ValueError, match="t must lie in"):
        envelope(found, -1.0)
    with pytest.raises(ValueError, match="t must not contain NaN"):
        envelope(found, np.nan)
