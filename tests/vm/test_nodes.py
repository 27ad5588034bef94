"""Nodes and policies: Jacobians, providers, swap distance, the limit, the LQR optimum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.vm import (
    Controller,
    LinearNode,
    LinearPolicy,
    NeuralNode,
    Node,
    ProviderNode,
    StageCost,
    StateMachine,
    initial_state,
    lqr_policy,
    neural_policy,
    relative_drift,
    rollout,
)
from sigma_jax.vm.nodes import require_node

KEY = jax.random.key(0)
X = np.array([0.3, -1.2, 0.8])
U = np.array([0.5, -0.4])
MATRIX = np.array([[-1.0, 0.5, 0.0], [0.2, -0.7, 1.0], [0.0, -0.3, -2.0]])
CONTROL = np.array([[1.0, 0.0], [0.0, 0.5], [2.0, -1.0]])


# Nodes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    [
        NeuralNode(3, 2, key=KEY, width=16),
        NeuralNode(3, 2, key=KEY, width=5, decay=1.5),
        LinearNode(MATRIX, CONTROL, centre=[1.0, 0.0, -1.0]),
    ],
)
def test_closed_jacobian_is_the_derivative(node):
    for scale in (0.0, 1.0, 30.0):
        x, u = scale * jnp.asarray(X), scale * jnp.asarray(U)
        exact = jax.jacfwd(node.drift)(x, u)
        np.testing.assert_allclose(node.jacobian(x, u), exact, rtol=1e-12, atol=1e-13)


def test_node_without_control():
    for node in (NeuralNode(3, 0, key=KEY, width=4), LinearNode(MATRIX)):
        assert (node.dim, node.control_dim) == (3, 0)
        none = jnp.zeros(0)
        exact = jax.jacfwd(node.drift)(jnp.asarray(X), none)
        np.testing.assert_allclose(node.jacobian(jnp.asarray(X), none), exact, atol=1e-13)


def test_neural_node_is_what_it_says():
    """W₂ SiLU(W₁ x + V u + b) + c − λ x, with biases that are not zero."""
    node = NeuralNode(3, 2, key=KEY, width=6, decay=0.4)
    node = eqx.tree_at(
        lambda n: (n.hidden_bias, n.output_bias), node, (jnp.arange(6.0), jnp.arange(3.0))
    )
    z = np.asarray(node.state_weights) @ X + np.asarray(node.control_weights) @ U + np.arange(6)
    expected = np.asarray(node.output_weights) @ (z / (1 + np.exp(-z))) + np.arange(3) - 0.4 * X
    np.testing.assert_allclose(node.drift(jnp.asarray(X), jnp.asarray(U)), expected, rtol=1e-12)
    x = np.random.default_rng(0).normal(0, 100, (200, 3))
    assert (np.asarray(jax.vmap(node.diffusion)(jnp.asarray(x))) >= 0).all()
    # Every parameter but the diffusion's moves the drift, and has a gradient.
    slopes = eqx.filter_grad(lambda n: jnp.sum(n.drift(jnp.asarray(X), jnp.asarray(U)) ** 2))(node)
    for name in ("state_weights", "control_weights", "hidden_bias", "output_weights", "decay"):
        assert np.abs(getattr(slopes, name)).max() > 0


def test_weights_are_drawn_from_the_key():
    first, again, other = (NeuralNode(3, 2, key=jax.random.key(i)) for i in (0, 0, 1))
    np.testing.assert_array_equal(first.state_weights, again.state_weights)
    assert not np.array_equal(first.state_weights, other.state_weights)
    # The streams of the four parts are apart.
    assert not np.allclose(first.state_weights[:3].ravel()[:6], first.output_weights.ravel()[:6])
    for weights, inputs in ((first.state_weights, 5), (first.output_weights, 64)):
        assert np.abs(weights).max() <= 1 / np.sqrt(inputs)
        assert np.std(weights) == pytest.approx(1 / np.sqrt(3 * inputs), rel=0.2)


def test_linear_node_is_what_it_says():
    node = LinearNode(MATRIX, CONTROL, noise=[0.1, 0.0, 2.0], centre=0.5)
    x, u = jnp.asarray(X), jnp.asarray(U)
    np.testing.assert_allclose(node.drift(x, u), MATRIX @ (X - 0.5) + CONTROL @ U, atol=1e-14)
    np.testing.assert_array_equal(node.diffusion(x), [0.1, 0.0, 2.0])
    np.testing.assert_array_equal(LinearNode(MATRIX, noise=0.3).diffusion(x), [0.3] * 3)
    assert (node.dim, node.control_dim) == (3, 2)
    assert LinearNode(MATRIX.astype(np.float32)).noise.dtype == jnp.float32


@pytest.mark.parametrize("kind", [list, np.array])
def test_matrix_may_be_a_list_or_of_whole_numbers_as_noise_and_centre_may(kind):
    node = LinearNode(kind([[-1, 0], [0, -2]]), noise=[1, 2], centre=1)
    np.testing.assert_array_equal(node.matrix, np.diag([-1.0, -2.0]))
    assert node.matrix.dtype == node.noise.dtype == jnp.float64


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NeuralNode(0, 1, key=KEY), r"dim must lie in \[1, inf\); got 0"),
        (lambda: NeuralNode(2, -1, key=KEY), "control_dim must lie in"),
        (lambda: NeuralNode(2, 1, key=KEY, width=0), "width must lie in"),
        (lambda: LinearNode(np.ones((2, 3))), r"matrix must be square.*\(2, 3\)"),
        (lambda: LinearNode(np.ones(3)), "matrix must be square"),
        (lambda: LinearNode(MATRIX * np.nan), "matrix must not contain NaN"),
        (lambda: LinearNode("A"), "matrix is the text"),
        (lambda: LinearNode(MATRIX, np.ones((2, 3))), r"control_matrix must be \[3, m\].*\(2, 3\)"),
        (lambda: LinearNode(MATRIX, np.ones(3)), "control_matrix must be"),
        (lambda: LinearNode(MATRIX, np.nan * CONTROL), "control_matrix must not contain NaN"),
        (lambda: LinearNode(MATRIX, noise=-0.1), "noise must lie in"),
        (lambda: LinearNode(MATRIX, noise=[0.1, 0.2]), r"noise must be a number or \[3\].*\(2,\)"),
        (lambda: LinearNode(MATRIX, centre=np.zeros(4)), "centre must be a number or"),
        (lambda: LinearNode(MATRIX, centre=np.nan), "centre must not contain NaN"),
        (lambda: ProviderNode(still, 0), "dim must lie in"),
        (lambda: ProviderNode(still, 3, -1), "control_dim must lie in"),
        (lambda: ProviderNode(still, 3, noise=-1.0), "noise must lie in"),
        (lambda: ProviderNode(still, 3, difference=0.0), "difference must lie in"),
    ],
)
def test_bad_nodes_are_said_in_words(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# Providers --------------------------------------------------------------------------------------


def still(x, u):
    return x


def bends(x, u):
    """A reasoning step with curvature; its Jacobian is diag(cos) with ones beside it."""
    assert isinstance(x, np.ndarray)
    assert isinstance(u, np.ndarray)
    return np.sin(x) + np.roll(x, 1) + u.sum()


def slope(x, u):
    return np.diag(np.cos(x)) + np.roll(np.eye(3), 1, axis=0)


def test_provider_is_called_on_the_host():
    node = ProviderNode(bends, 3, 2, noise=0.2)
    expected = bends(X, U) - X
    np.testing.assert_allclose(jax.jit(node.drift)(X, U), expected, atol=1e-14)
    many = np.stack([X, 2 * X, -X])
    found = jax.jit(jax.vmap(node.drift, (0, None)))(many, U)
    np.testing.assert_allclose(found, [bends(x, U) - x for x in many], atol=1e-14)
    np.testing.assert_array_equal(node.diffusion(jnp.asarray(X)), [0.2] * 3)
    single = node.drift(jnp.asarray(X, jnp.float32), jnp.asarray(U, jnp.float32))
    assert single.dtype == jnp.float32
    with pytest.raises(ValueError, match=r"[Cc]allbacks do not support JVP"):
        jax.grad(lambda x: jnp.sum(node.drift(x, U)))(X)


@pytest.mark.parametrize("difference", [1e-3, 1e-5])
def test_forward_differences_are_off_by_half_the_curvature(difference):
    """sin″ is −sin: each diagonal entry is off by −½ sin x · h, and nothing else is off."""
    calls = []

    def counted(x, u):
        calls.append(x)
        return bends(x, u)

    node = ProviderNode(counted, 3, 2, difference=difference)
    found = jax.jit(node.jacobian)(X, U)
    error = np.asarray(found) - (slope(X, U) - np.eye(3))
    expected = np.diag(-0.5 * difference * np.sin(X))
    np.testing.assert_allclose(error, expected, atol=1e-10 + difference**2)
    assert len(calls) == 4  # the centre, and each component
    exact = ProviderNode(bends, 3, 2, state_jacobian=slope)
    np.testing.assert_allclose(exact.jacobian(X, U), slope(X, U) - np.eye(3), atol=1e-14)


class Moods:
    """How the provider below answers: well for so many calls, and then in some bad way."""

    left = 0
    then = "well"


def moody(x, u):
    Moods.left -= 1
    mood = "well" if Moods.left >= 0 else Moods.then
    if mood == "raises":
        raise RuntimeError("the quota is spent")
    if mood == "short":
        return x[:-1]
    return np.full_like(x, np.nan) if mood == "nan" else 0.9 * x


def halved(x, u):
    return 0.5 * np.eye(x.size)


def asked(then, left=0):
    Moods.then, Moods.left = then, left
    return StateMachine(nodes={"asked": ProviderNode(moody, 3, state_jacobian=halved)})


START = {"x": X, "covariance": np.eye(3), "key": KEY}


def failing_rollout(then):
    """The provider answers well for the check of the first state and a few steps."""
    machine = asked(then, 6)
    state = initial_state(machine, **START)
    jax.block_until_ready(rollout(machine, state, steps=20, trace=False).state.x)


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("short", r"the provider moody must return shape \(3,\); got \(2,\)"),
        ("nan", "the provider moody returned a value not finite"),
        ("raises", "the provider moody raised RuntimeError: the quota is spent"),
    ],
)
def test_faults_of_a_provider_are_said(then, message):
    """When it is called, when a first state is made, and in the midst of a rollout."""
    with pytest.raises(Exception, match=message):
        asked(then).nodes["asked"].drift(jnp.asarray(X), jnp.zeros(0))
    with pytest.raises(Exception, match=message):
        initial_state(asked(then), **START)
    with pytest.raises(Exception, match=message):
        failing_rollout(then)


@pytest.mark.parametrize(
    "call", [lambda: initial_state(asked("raises"), **START), lambda: failing_rollout("raises")]
)
def test_faults_of_a_provider_are_value_errors(call):
    with pytest.raises(ValueError, match=r"^the provider moody raised RuntimeError: the quota is"):
        call()


def test_fault_in_the_differences_names_the_provider():
    Moods.then, Moods.left = "raises", 0
    with pytest.raises(Exception, match="the provider moody raised"):
        ProviderNode(moody, 3).jacobian(jnp.asarray(X), jnp.zeros(0))


# What `initial_state` asks of a node, and the distance between two --------------------------------


def test_first_state_may_be_made_in_compiled_code():
    machine = StateMachine(nodes={"a": LinearNode(MATRIX)})
    made = jax.jit(lambda x: initial_state(machine, x, np.eye(3), key=KEY))(jnp.asarray(X))
    np.testing.assert_array_equal(made.x, X)


class Odd(Node):
    """A node whose parts can be replaced by something wrong."""

    dim: int = 3
    control_dim: int = 0
    wrong: str = ""
    value: float = 0.0

    def drift(self, x, u):
        return self.altered("drift", -x)

    def diffusion(self, x):
        return self.altered("diffusion", jnp.ones_like(x))

    def jacobian(self, x, u):
        return self.altered("jacobian", -jnp.eye(3, dtype=x.dtype))

    def altered(self, name, right):
        if name != self.wrong:
            return right
        return right[:-1] if self.value == 0.0 else jnp.full_like(right, self.value)


@pytest.mark.parametrize(
    ("wrong", "value", "message"),
    [
        ("drift", 0.0, r"node 'odd': its drift must be \(3,\); got \(2,\)"),
        ("diffusion", 0.0, r"node 'odd': its diffusion must be \(3,\); got \(2,\)"),
        ("jacobian", 0.0, r"node 'odd': its jacobian must be \(3, 3\); got \(2, 3\)"),
        ("drift", np.nan, "node 'odd': its drift at the zero state is not finite"),
        ("diffusion", np.inf, "node 'odd': its diffusion at the zero state is not finite"),
        ("jacobian", np.nan, "node 'odd': its jacobian at the zero state is not finite"),
        ("diffusion", -1.0, "node 'odd': its diffusion at the zero state is negative"),
    ],
)
def test_node_that_cannot_be_used_is_refused(wrong, value, message):
    with pytest.raises(ValueError, match=message):
        require_node("odd", Odd(wrong=wrong, value=value), jnp.float64)


def test_node_that_is_fine_passes():
    require_node("odd", Odd(), jnp.float32)
    exact = -np.eye(3)
    default = Node.jacobian(Odd(), jnp.asarray(X), jnp.zeros(0))  # what a node need not write
    np.testing.assert_array_equal(default, exact)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.floats(1e-3, 1e3))
def test_relative_drift_is_a_ratio_of_norms(seed, probes, scale):
    old, new = np.random.default_rng(seed).standard_normal((2, probes, 3))
    expected = np.sqrt(np.sum((old - new) ** 2) / np.sum(old**2))
    assert float(relative_drift(old, new)) == pytest.approx(expected, rel=1e-12)
    assert float(relative_drift(scale * old, scale * new)) == pytest.approx(expected, rel=1e-12)
    assert float(relative_drift(old, old)) == 0.0


def test_relative_drift_from_rest():
    none, some = jnp.zeros(3), jnp.array([0.0, 1e-30, 0.0])
    assert float(relative_drift(none, some)) == np.inf
    assert float(relative_drift(none, none)) == 0.0
    assert float(relative_drift(some, none)) == 1.0
    assert np.isnan(relative_drift(some, jnp.nan * some))  # which is below no tolerance


# Policies ---------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.floats(-3, 6), st.floats(0.01, 100.0), st.booleans())
def test_control_never_exceeds_its_limit(seed, decade, limit, tempered):
    rng = np.random.default_rng(seed)
    policy = LinearPolicy(10.0**decade * rng.standard_normal((2, 3)), offset=10.0**decade)
    control = Controller(policy, limit=limit, tempered=tempered)
    assert (np.abs(control(X, rng.uniform(0, 10) * np.eye(3), 2)) <= limit).all()


def test_control_is_tempered_and_then_clipped():
    """u = clip(π s, ±5), s = 1/(1 + e^{tr Σ/d}): at Σ → 0, π = 8 gives 4, and π = 100 gives 5."""
    policy = LinearPolicy(np.zeros((2, 3)), offset=np.array([8.0, 100.0]))
    narrow, wide = 1e-12 * np.eye(3), np.diag([1.0, 2.0, 6.0])
    np.testing.assert_allclose(Controller(policy)(X, narrow, 2), [4.0, 5.0], atol=1e-9)
    s = 1 / (1 + np.exp(3.0))
    np.testing.assert_allclose(Controller(policy)(X, wide, 2), [8 * s, 100 * s], rtol=1e-12)
    np.testing.assert_array_equal(Controller(policy, tempered=False)(X, wide, 2), [5.0, 5.0])
    signed = LinearPolicy(np.zeros((2, 3)), offset=np.array([-1e6, 1e6]))
    np.testing.assert_array_equal(Controller(signed, limit=0.25)(X, wide, 2), [-0.25, 0.25])
    np.testing.assert_array_equal(Controller()(jnp.asarray(X), wide, 4), np.zeros(4))


def test_linear_and_neural_policies():
    gain, target = np.arange(6.0).reshape(2, 3), np.array([1.0, 0.0, -1.0])
    policy = LinearPolicy(gain, target, np.array([0.5, -0.5]))
    np.testing.assert_allclose(policy(X), -gain @ (X - target) + [0.5, -0.5], atol=1e-14)
    network = neural_policy(3, 2, key=KEY, width=7)
    first, second = network.layers
    z = np.asarray(first.weight) @ X + np.asarray(first.bias)
    expected = np.asarray(second.weight) @ (z / (1 + np.exp(-z))) + np.asarray(second.bias)
    np.testing.assert_allclose(network(jnp.asarray(X)), expected, rtol=1e-12)


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, "5"])
def test_bad_limits_are_said_in_words(limit):
    with pytest.raises(ValueError, match="limit"):
        Controller(limit=limit)


# The linear quadratic regulator -------------------------------------------------------------------

H = 0.1
LIGHT = np.array([[0.1, 1.0, 0.0], [-1.0, 0.1, 0.3], [0.0, 0.0, -0.5]])  # an unstable spiral
COST = StageCost(target=0.0, control_weight=0.4)


def cost_of_gain(gain, start):
    """Σ h L over an endless run of x₊ = (I + hA) x + hB u, u = −K x, from x xᵀ = start."""
    flow = np.eye(3) + H * (LIGHT - CONTROL @ gain)
    if np.abs(np.linalg.eigvals(flow)).max() >= 1:
        return np.inf
    occupied = scipy.linalg.solve_discrete_lyapunov(flow, start)
    return H * np.trace((np.eye(3) + 0.4 * gain.T @ gain) @ occupied)


def test_lqr_is_the_optimum_of_a_search():
    """BFGS over all gains, from one that is stable and not optimal."""
    found = lqr_policy(LinearNode(LIGHT, CONTROL), COST, H)
    start = 0.5 * scipy.linalg.lstsq(CONTROL, np.eye(3))[0]
    assert np.isfinite(cost_of_gain(start, np.eye(3)))
    best = scipy.optimize.minimize(
        lambda gain: cost_of_gain(gain.reshape(2, 3), np.eye(3)), start.ravel(), tol=1e-9
    )
    np.testing.assert_allclose(found.gain, best.x.reshape(2, 3), atol=1e-4)
    # The optimum is the same wherever the run starts.
    for x in np.random.default_rng(0).standard_normal((20, 3)):
        optimal = cost_of_gain(np.asarray(found.gain), np.outer(x, x))
        for push in np.random.default_rng(1).standard_normal((10, 2, 3)):
            assert cost_of_gain(np.asarray(found.gain) + 0.05 * push, np.outer(x, x)) > optimal


def test_lqr_holds_a_target_where_the_node_does_not_rest():
    """u* = B⁻¹ (−A (x* − c)): the drift at the target is zero, and runs without noise end there."""
    target, centre = np.array([1.0, 0.5, -0.5]), np.array([0.2, 0.0, 0.1])
    node = LinearNode(LIGHT, np.eye(3), centre=centre, noise=0.0)
    policy = lqr_policy(node, StageCost(target, 0.4), H)
    np.testing.assert_allclose(node.drift(target, policy(target)), np.zeros(3), atol=1e-12)
    x = jnp.zeros(3)
    for _ in range(400):
        x = x + H * node.drift(x, policy(x))
    np.testing.assert_allclose(x, target, atol=1e-9)
    assert policy.gain.dtype == node.matrix.dtype


def test_long_runs_cost_what_the_regulator_promises():
    """In the machine itself: mean stage cost tr((I + c KᵀK) P), P stationary under dilated noise.

    And with a gain a fifth larger or smaller, on the same noise, it is higher.
    """
    node = LinearNode(LIGHT, CONTROL, noise=0.3)
    best = lqr_policy(node, COST, H)

    def machine_of(gain):
        controller = Controller(LinearPolicy(gain), limit=1e3, tempered=False)
        return StateMachine(
            nodes={"a": node}, controller=controller, cost=COST, monitor=None, policy=None
        )

    state = initial_state(machine_of(best.gain), jnp.zeros((64, 3)), jnp.eye(3), key=KEY)

    @jax.jit
    def run(gain):
        machine = machine_of(gain)
        done = rollout(machine, state, steps=3000, dt=H)
        return done.trace.cost[:, 200:], done.trace.dilation[:, -1], done.state.diverged

    gains = {scale: scale * best.gain for scale in (0.8, 1.0, 1.2)}
    costs, dilations, diverged = zip(*(run(gain) for gain in gains.values()), strict=True)
    assert (np.asarray(diverged) == -1).all()
    means = {scale: np.asarray(cost).mean(axis=1) for scale, cost in zip(gains, costs, strict=True)}
    gain, dilated = np.asarray(best.gain), float(dilations[1][0])
    assert dilated > 1.05
    flow = np.eye(3) + H * (LIGHT - CONTROL @ gain)
    spread = scipy.linalg.solve_discrete_lyapunov(flow, H * (dilated * 0.3) ** 2 * np.eye(3))
    promised = np.trace((np.eye(3) + 0.4 * gain.T @ gain) @ spread)
    error = means[1.0].std() / np.sqrt(64)
    assert error < 0.01 * promised
    assert abs(means[1.0].mean() - promised) < 4 * error
    for scale in (0.8, 1.2):
        worse = means[scale] - means[1.0]
        assert worse.mean() > 4 * worse.std() / np.sqrt(64)


@pytest.mark.parametrize(
    ("node", "cost", "message"),
    [
        (LinearNode(LIGHT), COST, "node has no control"),
        (LinearNode(np.diag([1.0, -1.0]), np.array([[0.0], [1.0]])), COST, "cannot be stabilised"),
        (LinearNode(np.diag([0.0, -1.0]), np.array([[0.0], [1.0]])), COST, "cannot be stabilised"),
        (
            LinearNode(-np.eye(2), np.array([[0.0], [1.0]])),
            StageCost(target=1.0),
            "no control holds the node at the target: a drift of 1 is left",
        ),
    ],
)
def test_what_cannot_be_regulated_is_said_in_words(node, cost, message):
    with pytest.raises(ValueError, match=message):
        lqr_policy(node, cost, H)


@pytest.mark.parametrize("dt", [0.0, -0.1, np.nan])
def test_bad_step_is_said_in_words(dt):
    with pytest.raises(ValueError, match="dt must"):
        lqr_policy(LinearNode(LIGHT, CONTROL), COST, dt)
