"""The intervention policy: bits left alone, budgets, receipts, and forced collapses rescued."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.vm.collapse import CollapseThresholds, cheap_signs, collapse_signs, quiet_signs
from sigma_jax.vm.intervention import (
    REASONS,
    Action,
    InterventionPolicy,
    Reason,
    Trigger,
    describe,
    intervene,
    quiet_receipt,
)

MARGIN = 5e-2
STEPS = 12
DT = 0.05
BUDGET = 2


def signs_of(policy, x, covariance, jacobian):
    """With the target at zero and no control."""
    cheap = cheap_signs(covariance, 2 * x, jnp.zeros(1, x.dtype), policy.thresholds)
    return collapse_signs(cheap, jacobian, policy.thresholds)


@eqx.filter_jit
def once(policy, x, covariance, jacobian, noise, spent, surprised=False):
    signs = signs_of(policy, x, covariance, jacobian)
    return intervene(policy, x, covariance, jacobian, signs, noise, spent, surprised=surprised)


@eqx.filter_jit
def batched(policy, *arrays):
    return jax.vmap(lambda *a: once(policy, *a))(*arrays)


def reference_run(policy, x, covariance, jacobian, noise):
    """The loop that the operators are meant for: x follows A, Σ its Riccati equation, noise off.

    `policy` None leaves the operators out. Gives the final state and, a step each, whether the
    four signs held before and after the decision, and the receipts.
    """
    looked_at = InterventionPolicy() if policy is None else policy

    def step(carry, kick):
        x, covariance, spent = carry
        before = signs_of(looked_at, x, covariance, jacobian)
        receipt = quiet_receipt(x)
        if policy is not None:
            x, covariance, spent, receipt = intervene(
                policy, x, covariance, jacobian, before, kick, spent
            )
        after = signs_of(looked_at, x, covariance, jacobian)
        x = x + DT * jacobian @ x
        slope = jacobian @ covariance + covariance @ jacobian.T - covariance @ covariance
        carry = x, covariance + DT * slope, spent
        return carry, (before.triggered, after.triggered, receipt)

    return jax.lax.scan(step, (x, covariance, jnp.int32(0)), noise)


@eqx.filter_jit
def runs(policy, *arrays):
    return jax.vmap(lambda *a: reference_run(policy, *a))(*arrays)


def forced_collapses(seed, dim, count):
    """Low-rank Jacobians (not symmetric), states near the target, nearly isotropic Σ."""
    rng = np.random.default_rng(seed)
    rank = rng.integers(0, (dim + 1) // 2, count)
    kept = np.arange(dim) < rank[:, None]
    left, right = rng.normal(size=(2, count, dim, dim))
    left, right = np.linalg.qr(left)[0], np.linalg.qr(right)[0]
    gains = np.where(kept, rng.uniform(0.3, 1.0, (count, dim)), 0.0)
    jacobian = -(left * gains[:, None, :]) @ right.transpose(0, 2, 1)
    x = rng.normal(size=(count, dim))
    x *= rng.uniform(0, 0.9 * 5e-3, count)[:, None] / np.linalg.norm(x, axis=1)[:, None]
    values = rng.normal(size=(count, dim))
    values -= values.mean(axis=1, keepdims=True)
    values /= np.maximum(values.std(axis=1, keepdims=True), 1e-12)
    values = 1 + rng.uniform(0, 0.9 * MARGIN, (count, 1)) * values
    values *= 10.0 ** rng.uniform(-3, 0.3, (count, 1))
    basis = np.linalg.qr(rng.normal(size=(count, dim, dim)))[0]
    covariance = (basis * values[:, None, :]) @ basis.transpose(0, 2, 1)
    covariance = 0.5 * (covariance + covariance.transpose(0, 2, 1))
    noise = rng.normal(size=(count, STEPS, dim))
    return tuple(map(jnp.asarray, (x, covariance, jacobian, noise)))


COLLAPSED = jnp.array([-0.0, 1e-3, 5e-324]), 0.3 * jnp.eye(3), jnp.zeros((3, 3))


def bounded(budget, strength=0.1):
    """A policy that excites; with arrays in it, so that all budgets share one compilation."""
    return InterventionPolicy(
        mode="intervene", budget=jnp.int32(budget), strength=jnp.float64(strength)
    )


def same_bits(a, b):
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


# Rescue ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [2, 5])
def test_every_forced_collapse_is_rescued(dim):
    """Hundreds of runs: whenever a collapse is acted on it is gone in the same step, and there is
    one in each; without operators it is there for that step, and in more steps in all."""
    batch = forced_collapses(dim, dim, 200)
    policy = bounded(STEPS)
    (_, covariance, spent), (before, after, receipts) = runs(policy, *batch)
    assert before[:, 0].all()
    assert not after.any()
    assert (spent >= 1).all()
    np.testing.assert_array_equal(spent, before.sum(axis=1))
    np.testing.assert_array_equal(receipts.action == Action.EXCITE, before)
    assert np.isfinite(covariance).all()
    assert (np.linalg.eigvalsh(covariance) > 0).all()
    _, (untouched, still, _) = runs(None, *batch)
    assert untouched[:, 0].all()
    assert still[:, 0].all()
    assert untouched.sum() > before.sum()


def test_budget_bounds_the_interventions():
    """Σ̇ = −Σ² makes Σ isotropic again; with the budget spent the collapse stays, blocked."""
    x, covariance, _, noise = forced_collapses(7, 5, 200)
    policy = bounded(BUDGET, strength=0.0)
    flat = jnp.broadcast_to(3.0 * jnp.eye(5), covariance.shape)
    still = jnp.zeros((200, 5, 5))
    (_, _, spent), (before, after, receipts) = runs(policy, x, flat, still, noise)
    np.testing.assert_array_equal(spent, BUDGET)
    acted, blocked = receipts.action == Action.EXCITE, receipts.action == Action.BLOCKED
    np.testing.assert_array_equal(acted.sum(axis=1), BUDGET)
    np.testing.assert_array_equal(after, before & blocked)
    assert blocked.any(axis=1).all()
    assert (receipts.reason[blocked] == Reason.BUDGET_SPENT).all()
    np.testing.assert_array_equal(receipts.norm_before[blocked], receipts.norm_after[blocked])


def test_one_dimension_is_not_covered_and_says_so():
    policy = bounded(1)
    x, covariance = jnp.array([1e-3]), jnp.array([[0.3]])
    new_x, new, spent, receipt = once(
        policy, x, covariance, 0 * covariance, jnp.ones(1), jnp.int32(0)
    )
    assert same_bits(new, covariance)
    gain = 1 - 2e-3 / 1e-2
    np.testing.assert_allclose(new_x, x + 0.1 * gain)
    assert int(spent) == 1
    assert int(receipt.reason) == Reason.EXCITED_WITHOUT_SPREAD
    quiet = bounded(1, strength=0.0)
    new_x, new, *_ = once(quiet, x, covariance, 0 * covariance, jnp.ones(1), jnp.int32(0))
    assert signs_of(quiet, new_x, new, 0 * covariance).triggered  # no kick, so no rescue


# What is left alone ------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 3])
def test_observing_changes_no_bit_of_a_run(dim):
    """Observe, a budget of zero, and no operators give one and the same run."""
    batch = forced_collapses(dim, dim, 20)
    if dim == 1:
        batch = (batch[0], batch[1], 0 * batch[2], batch[3])
    without, (before, _, _) = runs(None, *batch)
    assert before.any()
    looking, penniless = InterventionPolicy(), InterventionPolicy(mode="intervene")
    cases = [(looking, Action.OBSERVE), (penniless, Action.BLOCKED)]
    for policy, action in cases if dim > 1 else cases[:1]:
        final, (seen, _, receipts) = runs(policy, *batch)
        for a, b in zip(jax.tree.leaves(final), jax.tree.leaves(without), strict=True):
            assert same_bits(a, b)
        np.testing.assert_array_equal(seen, before)
        np.testing.assert_array_equal(receipts.action, np.where(before, action, 0))
        np.testing.assert_array_equal(receipts.norm_before, receipts.norm_after)


@pytest.mark.parametrize("budget", [None, 0, 3])
def test_bits_survive_signed_zeros_and_subnormals(budget):
    """−0 + 0 is +0: nothing may be added. Blocked, observed (None), or not triggered at all."""
    policy = InterventionPolicy() if budget is None else bounded(budget)
    x, covariance, jacobian = COLLAPSED
    healthy = jnp.diag(jnp.array([-0.0, 1.0, 2.0]))
    for sigma, spent in ((covariance, jnp.int32(3)), (healthy, jnp.int32(0))):
        new_x, new, new_spent, receipt = once(policy, x, sigma, jacobian, jnp.ones(3), spent)
        assert same_bits(new_x, x)
        assert same_bits(new, sigma)
        assert int(new_spent) == int(spent)
        expected = Action.OBSERVE if budget is None else Action.BLOCKED
        assert int(receipt.action) == (expected if sigma is covariance else Action.NOTHING)


def test_observing_compiles_no_eigenvectors():
    signs = signs_of(InterventionPolicy(), *COLLAPSED)

    def text(policy):
        x, covariance, jacobian = COLLAPSED
        return str(
            jax.make_jaxpr(lambda *a: intervene(policy, *a, signs, jnp.ones(3), jnp.int32(0))[:3])(
                x, covariance, jacobian
            )
        )

    assert "eigh" not in text(InterventionPolicy())
    assert "eigh" in text(InterventionPolicy(mode="intervene"))


def test_what_is_not_finite_is_withheld():
    """Noise that overflows: blocked, nothing spent, the state as it was."""
    policy = bounded(2)
    x, covariance, jacobian = COLLAPSED
    noise = jnp.full(3, jnp.inf)
    new_x, new, spent, receipt = once(policy, x, covariance, jacobian, noise, jnp.int32(0))
    assert same_bits(new_x, x)
    assert same_bits(new, covariance)
    assert int(spent) == 0
    assert int(receipt.action) == Action.BLOCKED
    assert int(receipt.reason) == Reason.NOT_FINITE


# Who answers to what -----------------------------------------------------------------------------


def test_projection_and_its_two_outcomes():
    policy = InterventionPolicy(mode="intervene", budget=2, on_collapse="project_to_attractor")
    x = jnp.array([1e-3, 2e-3, -1e-3])
    near = jnp.diag(jnp.array([-1.0, 0.0, 0.0]))
    new_x, new, spent, receipt = once(policy, x, 0.3 * jnp.eye(3), near, jnp.ones(3), jnp.int32(1))
    np.testing.assert_allclose(new_x, [0.0, 2e-3, -1e-3], atol=1e-18)
    assert same_bits(new, 0.3 * jnp.eye(3))
    assert int(spent) == 2
    assert int(receipt.action) == Action.PROJECT_TO_ATTRACTOR
    assert int(receipt.reason) == Reason.PROJECTED
    assert float(receipt.norm_before) == pytest.approx(np.sqrt(6) * 1e-3)
    assert float(receipt.norm_after) == pytest.approx(np.sqrt(5) * 1e-3)
    # Rank 2 of 5, but its symmetric part has no eigenvalue near zero.
    thresholds = CollapseThresholds(null=1e-6)
    policy = InterventionPolicy(
        mode="intervene", budget=2, on_collapse="project_to_attractor", thresholds=thresholds
    )
    uneven = jnp.diag(jnp.array([1.0, 1.0, 1e-3, 1e-3, 1e-3]))
    x = jnp.full(5, 1e-3)
    new_x, _, _, receipt = once(policy, x, jnp.eye(5), uneven, jnp.ones(5), jnp.int32(0))
    np.testing.assert_array_equal(new_x, 0.0)
    assert int(receipt.reason) == Reason.NULL
    assert float(receipt.norm_after) == 0.0


def test_surprise_has_an_answer_of_its_own():
    """Full strength for a surprise, proximity for a collapse; a collapse goes first."""
    x, covariance, jacobian = jnp.zeros(3), jnp.eye(3), jnp.diag(jnp.array([0.0, 1.0, 1.0]))
    surprise_only = InterventionPolicy(
        mode="intervene", budget=9, on_collapse="observe", on_surprise="excite"
    )
    new_x, _, spent, receipt = once(
        surprise_only, x, covariance, jacobian, jnp.ones(3), jnp.int32(0), True
    )
    np.testing.assert_allclose(new_x, [0.1, 0.0, 0.0], atol=1e-15)
    assert int(spent) == 1
    assert int(receipt.trigger) == Trigger.SURPRISE
    # The rank is not known where the cheap signs do not hold: near-null modes alone count.
    cheap = cheap_signs(covariance, jnp.ones(3), jnp.zeros(1))
    state, kick = (x, covariance, jacobian), jnp.ones(3)
    quiet = quiet_signs(cheap)
    new_x, *_ = intervene(surprise_only, *state, quiet, kick, jnp.int32(0), surprised=True)
    np.testing.assert_allclose(new_x, [0.1, 0.0, 0.0], atol=1e-15)
    *_, receipt = once(surprise_only, x, covariance, 0 * jacobian, jnp.ones(3), jnp.int32(0), True)
    assert int(receipt.trigger) == Trigger.COLLAPSE
    assert int(receipt.action) == Action.OBSERVE
    *_, receipt = once(
        InterventionPolicy(), x, covariance, jacobian, jnp.ones(3), jnp.int32(0), True
    )
    assert (int(receipt.trigger), int(receipt.action)) == (Trigger.SURPRISE, Action.OBSERVE)


def test_batched_is_one_by_one():
    x, covariance, jacobian, noise = forced_collapses(11, 3, 8)
    covariance = covariance.at[::2].set(jnp.diag(jnp.array([1.0, 2.0, 3.0])))
    policy = InterventionPolicy(mode="intervene", budget=1)
    spent = jnp.arange(8, dtype=jnp.int32) // 6
    together = batched(policy, x, covariance, jacobian, noise[:, 0], spent)
    for i in range(8):
        alone = once(policy, x[i], covariance[i], jacobian[i], noise[i, 0], spent[i])
        for a, b in zip(jax.tree.leaves(together), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-9, atol=1e-15)
    assert set(np.asarray(together[3].action).tolist()) == {0, Action.EXCITE, Action.BLOCKED}


def test_float32_stays_float32():
    policy = bounded(1)
    single = [jnp.asarray(part, jnp.float32) for part in COLLAPSED]
    new_x, new, spent, receipt = once(policy, *single, jnp.ones(3, jnp.float32), jnp.int32(0))
    assert new_x.dtype == new.dtype == receipt.norm_after.dtype == jnp.float32
    assert spent.dtype == receipt.action.dtype == jnp.int32
    assert not signs_of(policy, new_x, new, single[2]).triggered


def test_gradient_through_a_loop_is_that_of_the_loop_without():
    """Where nothing fires the derivative is that of the run without operators; where an excitation
    fires, at an isotropic Σ and equal rates, it is finite."""
    batch = forced_collapses(5, 3, 1)
    x, _, jacobian, noise = (part[0] for part in batch)

    def loss(policy, x, covariance, jacobian):
        (x, covariance, _), _ = reference_run(policy, x, covariance, jacobian, noise)
        return jnp.sum(x**2) + jnp.sum(covariance**2)

    gradient = eqx.filter_jit(jax.grad(loss, argnums=(1, 2, 3)))
    policy, still = InterventionPolicy(mode="intervene", budget=9), 0 * jacobian
    for state in (x, 0 * x):
        for part in gradient(policy, state, 0.3 * jnp.eye(3), still):
            assert np.isfinite(part).all()
    healthy = x, jnp.diag(jnp.array([1.0, 2.0, 3.0])), still
    for a, b in zip(gradient(policy, *healthy), gradient(None, *healthy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


# Receipts and bad input --------------------------------------------------------------------------


def test_receipts_in_words():
    _, (_, _, receipts) = runs(bounded(1), *forced_collapses(7, 5, 200))
    rows = describe(receipts, ("trajectory", "step"))
    assert len(rows) == int((receipts.action != 0).sum())
    assert rows[0]["trajectory"] == 0
    assert rows[0]["step"] == 0
    assert rows[0]["action"] == "excite"
    assert rows[0]["trigger"] == "collapse"
    assert rows[0]["reason"] == REASONS[Reason.EXCITED]
    assert rows[0]["norm_before"] == float(receipts.norm_before[0, 0])
    assert rows[0]["norm_after"] == float(receipts.norm_after[0, 0])
    one = jax.tree.map(lambda leaf: leaf[0, 0], receipts)
    assert describe(one, ()) == [{k: rows[0][k] for k in list(rows[0])[2:]}]
    assert describe(quiet_receipt(jnp.ones(3)), ()) == []
    assert set(REASONS) == set(Reason)
    with pytest.raises(ValueError, match="axes must name 2 axes"):
        describe(receipts)


def test_quiet_receipt_is_the_receipt_of_nothing():
    x = jnp.array([3.0, 4.0])
    covariance = jnp.diag(jnp.array([1.0, 2.0]))
    *_, receipt = once(
        InterventionPolicy(mode="intervene"), x, covariance, -covariance, jnp.ones(2), 0
    )
    quiet = quiet_receipt(x)
    for a, b in zip(jax.tree.leaves(receipt), jax.tree.leaves(quiet), strict=True):
        assert same_bits(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "off"}, "policy.mode must be one of observe, intervene; got 'off'"),
        ({"on_collapse": "kick"}, "policy.on_collapse must be one of"),
        ({"on_surprise": ""}, "policy.on_surprise must be one of"),
        ({"mode": "intervene", "budget": -1}, "policy.budget must lie in"),
        ({"mode": "intervene", "budget": 1.5}, "policy.budget must be a whole number"),
        ({"budget": 1}, "a policy that observes spends none"),
        ({"strength": -0.1}, "policy.strength must lie in"),
        ({"strength": float("nan")}, "policy.strength must not contain NaN"),
    ],
)
def test_bad_policies_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        InterventionPolicy(**settings)


def test_bad_shapes_are_named():
    x, covariance, jacobian = COLLAPSED
    policy = InterventionPolicy(mode="intervene", budget=1)
    good = [x, covariance, jacobian, signs_of(policy, *COLLAPSED), x, jnp.int32(0)]
    for place, name, value in (
        (0, "x", jnp.ones(2)),
        (0, "x", jnp.full(3, jnp.nan)),
        (1, "covariance", jnp.eye(2)),
        (2, "jacobian", jnp.ones((3, 2))),
        (2, "jacobian", jnp.full((3, 3), jnp.nan)),
        (4, "noise", jnp.ones((3, 1))),
    ):
        arguments = [*good]
        arguments[place] = value
        with pytest.raises(ValueError, match=f"{name} must"):
            intervene(policy, *arguments)
