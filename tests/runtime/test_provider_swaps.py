"""Swaps: fits against known drifts; itself accepted, another provider refused, with reasons."""

import jax.numpy as jnp
import numpy as np
import pytest

from sigma_jax.runtime import fit_node, swap_gate
from tests.runtime.simulated_replies import known_parameters

SIZES = (3, 4)


def run(seed, matrix, turns=150):
    """A first-order autoregression about 0, of variance about 1."""
    draw, size = np.random.default_rng(seed), len(matrix)
    y = np.zeros((turns, size))
    for turn in range(1, turns):
        y[turn] = matrix @ y[turn - 1] + 0.9 * draw.normal(size=size)
    return y


PRESENT = 0.3 * np.eye(7)


def gate(candidate, reruns=3, **options):
    parameters = known_parameters(SIZES, departure_limit=jnp.array([40.0, 45.0]))
    runs = [run(seed, PRESENT) for seed in range(1, 1 + reruns)]
    return swap_gate(parameters, run(0, PRESENT), runs, candidate, resamples=200, **options)


def test_the_fit_is_ridge_regression_and_finds_the_drift():
    matrix = PRESENT + 0.2 * np.eye(7, k=1)
    y = run(1, matrix, turns=20_000)
    node = fit_node(y, ridge=1e-9)
    np.testing.assert_allclose(node.matrix, matrix - np.eye(7), atol=0.04)
    np.testing.assert_allclose(node.noise, 0.9, atol=0.02)
    short = y[:40]
    node, before = fit_node(short, ridge=5.0), short[:-1] - short.mean(axis=0)
    # Ridge as least squares with extra rows √5 I.
    rows = np.concatenate([before, np.sqrt(5.0) * np.eye(7)])
    steps = np.concatenate([np.diff(short, axis=0), np.zeros((7, 7))])
    np.testing.assert_allclose(node.matrix, np.linalg.lstsq(rows, steps)[0].T, atol=1e-10)
    np.testing.assert_allclose(node.centre, short.mean(axis=0), rtol=1e-12)


def test_another_run_of_the_same_provider_is_accepted():
    accepted = [gate(run(seed, PRESENT)) for seed in range(20, 30)]
    assert sum(verdict.accepted for verdict in accepted) >= 7
    for verdict in accepted:
        assert verdict.accepted == (verdict.distance <= verdict.floor and not verdict.alarms)
        assert verdict.accepted == (not verdict.reason)
        assert verdict.low < verdict.high


def test_a_provider_that_moves_differently_is_refused_for_its_drift():
    verdict = gate(run(9, -0.6 * np.eye(7)))
    assert not verdict.accepted
    assert verdict.distance > verdict.floor
    assert verdict.low > verdict.floor
    assert "its drift differs by" in verdict.reason


def test_a_provider_without_the_identity_is_refused_for_the_alarms():
    verdict = gate(run(10, PRESENT) + np.asarray(known_parameters(SIZES).default))
    assert not verdict.accepted
    assert verdict.alarms > 100
    assert f"the monitor alarmed at {verdict.alarms} turns" in verdict.reason


def test_the_same_runs_and_seed_give_the_same_verdict():
    assert gate(run(11, PRESENT)) == gate(run(11, PRESENT))
    assert gate(run(11, PRESENT)).low != gate(run(11, PRESENT), seed=1).low


@pytest.mark.parametrize(
    ("candidate", "options", "words"),
    [
        (run(0, PRESENT), {"reruns": 0}, "reruns must hold at least one conversation"),
        (run(0, PRESENT)[:9], {}, r"candidate must be \[t, d\] of at least 10 turns"),
        (run(0, PRESENT)[:, :6], {}, r"every conversation must be \[t, 7\]; got widths"),
        (np.full((20, 7), np.inf), {}, "candidate must be finite"),
        (np.full((20, 7), np.nan), {}, "candidate must not contain NaN"),
        (run(0, PRESENT), {"ridge": -1.0}, "ridge must lie in"),
    ],
)
def test_bad_runs_are_named(candidate, options, words):
    with pytest.raises(ValueError, match=words):
        gate(candidate, **options)
