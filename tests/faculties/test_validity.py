"""V_A from data: bounds that are reached, noise that is refused, and what scripted agents give."""

from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from sigma_jax.faculties import (
    H_AFB,
    H_PTB,
    Benchmark,
    Key,
    Outcome,
    ScriptedAgent,
    Validity,
    benchmark_validity,
    construct_index,
    difficulty_gradient,
    format_diversity,
    option_question,
    percent_question,
    scripted_grid,
    session_reliability,
)

RNG = np.random.default_rng(0)


def test_construct_index_is_one_for_the_faculty_and_zero_for_a_confound():
    sigma, depth = (axis.ravel() for axis in np.meshgrid(np.arange(5.0), np.arange(4.0)))
    assert construct_index(3.0 * sigma - 1.0, sigma, depth) == pytest.approx(1.0)
    assert construct_index(depth, sigma, depth) == 0.0
    assert construct_index(-sigma, sigma, depth) == 0.0
    assert construct_index(np.ones(20), sigma, depth) == 0.0
    # Equal variances of independent columns: half of the scores' variance goes with each.
    half = sigma / sigma.std() + depth / depth.std()
    assert construct_index(half, sigma, depth) == pytest.approx(0.5, abs=0.03)


def test_construct_index_of_correlated_agents_takes_only_what_is_the_facultys_own():
    """Against a regression: the gain of R² by the faculty, corrected for chance."""
    depth = RNG.standard_normal(200)
    sigma = 0.9 * depth + 0.4 * RNG.standard_normal(200)
    scores = sigma + depth + RNG.standard_normal(200)

    def r_squared(*columns: np.ndarray) -> float:
        design = np.column_stack([np.ones(200), *columns])
        residual = scores - design @ np.linalg.lstsq(design, scores)[0]
        return 1.0 - residual.var() / scores.var()

    gain = r_squared(depth, sigma) - r_squared(depth)
    assert construct_index(scores, sigma, depth) == pytest.approx((198 * gain - 1) / 197)
    assert construct_index(scores, sigma, np.empty((200, 0))) > 0.5 > 4 * gain


def test_construct_index_of_noise_is_near_zero():
    """The paper's ratio of correlations passes noise (CI > 0.6) three times in four (E-42)."""
    sigma, depth = (axis.ravel() for axis in np.meshgrid(np.arange(3.0), np.arange(3.0)))
    found = [construct_index(RNG.standard_normal(9), sigma, depth) for _ in range(400)]
    assert np.mean(np.array(found) > 0.6) < 0.01
    assert np.mean(found) < 0.1


def test_construct_index_refuses_what_it_cannot_tell_apart():
    sigma = np.arange(8.0)
    with pytest.raises(ValueError, match="determine"):
        construct_index(sigma, sigma, 2.0 * sigma + 1.0)
    with pytest.raises(ValueError, match="as many"):
        construct_index(sigma, sigma[:-1], sigma)
    with pytest.raises(ValueError, match="too few"):
        construct_index(sigma[:4], sigma[:4], np.array([1.0, 0.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="scores"):
        construct_index(np.full(8, np.nan), sigma, RNG.standard_normal(8))


def test_format_diversity():
    kinds = [option_question("?", ["a", "b"], Key(cell, "a")) for cell in "wxyz"]
    assert format_diversity(kinds[:1] * 9) == 0.0
    assert format_diversity(kinds * 5) == pytest.approx(0.75)
    assert format_diversity([*kinds, percent_question("?", Key("w"))]) == pytest.approx(0.8)
    assert format_diversity([kinds[0], kinds[0], kinds[1]]) == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="empty"):
        format_diversity([])


def test_difficulty_gradient_reaches_its_bounds():
    assert difficulty_gradient(np.tile([True, False], (10, 4))) == 1.0
    assert difficulty_gradient(np.ones((10, 8), bool)) == 0.0
    right = np.tile([[True, True, False, True, False, False]], (10, 1))
    assert difficulty_gradient(right, by=list("aaabbb")) == pytest.approx(4 * ((1 / 6) ** 2))
    with pytest.raises(ValueError, match="two agents"):
        difficulty_gradient(np.ones((1, 5), bool))
    with pytest.raises(ValueError, match="by"):
        difficulty_gradient(right, by=["a"])
    with pytest.raises(ValueError, match="two names"):
        difficulty_gradient(right, by=["a"] * 6)


@pytest.mark.parametrize("agents", [3, 10, 50])
def test_difficulty_gradient_does_not_take_chance_for_difficulty(agents: int):
    """Equally hard items have none; and of uneven ones the mean over draws is the true value."""
    even = [difficulty_gradient(RNG.random((agents, 400)) < 0.5) for _ in range(20)]
    assert np.mean(even) < 0.05
    hard = np.linspace(0.0, 1.0, 400)
    uneven = [difficulty_gradient(RNG.random((agents, 400)) > hard) for _ in range(20)]
    assert np.mean(uneven) == pytest.approx(4.0 * hard.var(), abs=0.02)
    by = [f"{number // 40}" for number in range(400)]
    grouped = [difficulty_gradient(RNG.random((agents, 400)) > hard, by=by) for _ in range(20)]
    assert np.mean(grouped) == pytest.approx(4.0 * hard.reshape(10, 40).mean(1).var(), abs=0.02)


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=9))
def test_session_reliability_is_in_its_bounds(sessions: list[float]):
    found = session_reliability(np.array(sessions))
    if sum(sessions) == 0.0:
        assert found == 0.0
    else:
        assert 1.0 / (1.0 + len(sessions)) - 1e-12 <= found <= 1.0


def test_session_reliability():
    assert session_reliability(np.array([0.4, 0.4, 0.4])) == 1.0
    assert session_reliability(np.array([0.9, 0.0, 0.0])) == pytest.approx(0.25)
    assert session_reliability(np.array([0.3, 0.5])) == pytest.approx(1.0 / (1.0 + 0.02 / 0.16))
    assert session_reliability(np.array([-0.5, 0.1])) == 0.0
    with pytest.raises(ValueError, match="two or more"):
        session_reliability(np.array([0.5]))


def test_scripted_grid():
    grid = scripted_grid({"sigma": (0.1, 0.9), "depth": (0.5, 1.0)}, seeds=(0, 1, 2))
    assert len(grid) == len(set(grid)) == 12
    assert {(agent.sigma, agent.depth) for agent in grid[:6]} == {(0.1, 0.5), (0.1, 1.0)}
    for name in ("seed", "wit"):
        with pytest.raises(ValueError, match=name):
            scripted_grid({name: (0, 1)})
    with pytest.raises(ValueError, match="sigma"):
        scripted_grid({"sigma": (2.0,)})


@pytest.mark.parametrize(
    ("benchmark", "axes", "confounds"),
    [
        (H_PTB, {"sigma": (0.1, 0.5, 0.9), "depth": (0.8, 1.0), "alpha": (0.4, 1.0)}, ("depth",)),
        (H_AFB, {"alpha": (0.1, 0.5, 0.9), "depth": (0.8, 1.0), "sigma": (0.4, 1.0)}, ("depth",)),
    ],
    ids=["h_ptb", "h_afb"],
)
def test_validity_is_from_what_agents_answer(
    benchmark: Benchmark, axes: dict[str, tuple[float, ...]], confounds: tuple[str, ...]
):
    grid = scripted_grid(axes)
    found = benchmark_validity(benchmark, grid, confounds=confounds, size=40)
    assert all(0.0 < factor < 1.0 for factor in found)
    assert found.construct > 0.9
    assert found.formats == pytest.approx({H_PTB: 0.8, H_AFB: 0.95}[benchmark])
    assert found.product == pytest.approx(np.prod(found))
    # The same answers held against what the benchmark is not about.
    turned = benchmark._replace(faculty="depth")
    other = benchmark_validity(turned, grid, confounds=(benchmark.faculty,), size=40)
    assert other.construct < 0.1
    assert other._replace(construct=found.construct) == found


def test_an_agent_that_is_another_one_every_time_is_not_reliable():
    grid = scripted_grid({"sigma": (0.2, 0.9), "depth": (0.8, 1.0)}, seeds=(0, 1))

    def moody(session: int) -> ScriptedAgent:
        return ScriptedAgent(sigma=(0.05, 0.95)[session % 2])

    steady = benchmark_validity(H_PTB, grid, confounds=(), size=24, sessions=4)
    changing = benchmark_validity(H_PTB, grid, confounds=(), size=24, sessions=4, repeated=moody)
    assert changing.reliability < 0.6 < 0.9 < steady.reliability
    assert changing[:3] == steady[:3]


def test_what_cannot_be_measured_has_no_validity():
    guessing = scripted_grid({"sigma": (0.2, 0.9)}, seeds=(0, 1, 2))
    guessing = [ScriptedAgent(depth=0.0, sigma=one.sigma, seed=one.seed) for one in guessing]
    with pytest.raises(ValueError, match="0 of 6 agents"):
        benchmark_validity(H_AFB, guessing, confounds=(), size=12)
    with pytest.raises(ValueError, match="confounds"):
        benchmark_validity(H_AFB, guessing, confounds=("wit",), size=12)
    with pytest.raises(ValueError, match="sessions"):
        benchmark_validity(H_AFB, guessing, confounds=(), size=12, sessions=1)

    def silent(session: int):
        return lambda question: ""

    able = scripted_grid({"alpha": (0.2, 0.5, 0.9)}, seeds=(0, 1))
    with pytest.raises(ValueError, match="0 of 3 sessions"):
        benchmark_validity(H_AFB, able, confounds=(), size=12, sessions=3, repeated=silent)


def test_later_rounds_that_differ_between_agents_are_left_out():
    """An agent that does well in the first round gets more questions in the second."""

    def first(seed: int, size: int):
        return H_PTB.questions(seed, size)

    def second(outcomes: Sequence[Outcome]):
        if len(outcomes) > len(first(0, 12)):
            return ()
        count = sum(outcome.right for outcome in outcomes)
        return tuple(option_question(f"{n}?", ["a", "b"], Key("second", "a")) for n in range(count))

    def score(outcomes: Sequence[Outcome]):
        return H_PTB.score([one for one in outcomes if one.question.key.cell != "second"])

    later = Benchmark("later", "sigma", "depth", first, score, second)
    grid = scripted_grid({"sigma": (0.1, 0.5, 0.9), "depth": (0.8, 1.0)})
    found = benchmark_validity(later, grid, confounds=("depth",), size=12)
    assert isinstance(found, Validity)
    assert 0.0 < found.product < 1.0
