"""Whether a benchmark measures what it says: V_A = CI · FD · DG · R_A, every factor from data.

The paper's values were targets or constants, one of them out of reach (E-40 to E-44). The bounds of
every factor are stated here, and V_A has none but theirs: [0, 1].

Source: equation 42 of the paper; H (44) to (46), equation 43.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float

from .._check import require_in, require_number
from .agents import Agent
from .asking import Outcome
from .measurement import Benchmark, measure
from .questions import Question
from .scripted import ScriptedAgent


class Validity(NamedTuple):
    """The four factors of a benchmark's validity."""

    construct: float
    """CI, of `construct_index`."""
    formats: float
    """FD, of `format_diversity`."""
    difficulty: float
    """DG, of `difficulty_gradient`."""
    reliability: float
    """R_A, of `session_reliability`."""

    @property
    def product(self) -> float:
        """V_A, in [0, 1]. It compares benchmarks; the paper's threshold for it has no basis."""
        return self.construct * self.formats * self.difficulty * self.reliability


def construct_index(
    scores: Float[ArrayLike, " agents"],
    faculty: Float[ArrayLike, " agents"],
    confounds: Float[ArrayLike, "agents confounds"],
) -> float:
    """CI: the share of the scores' variance that goes with the faculty and with no confound.

    It is the square of the semipartial correlation of scores and faculty, the confounds taken out
    of the faculty, corrected for chance: (n r² − 1) / (n − 1) with n the agents less the confounds
    less one, and 0 if that is negative, or the correlation is. Bounds: 0 to 1; 1 if the scores are
    the faculty on a straight line; near 0 for noise, for constant scores, and for a measure of a
    confound. The paper's ratios of correlations give noise 0.6 and more three times in four (E-42).

    **Raises** `ValueError` for unequal lengths, fewer than four agents beyond the confounds, or a
    faculty that the confounds determine.
    """
    scores, faculty = np.asarray(scores, float), np.asarray(faculty, float)
    columns = np.asarray(confounds, float).reshape(scores.size, -1) if scores.size else None
    if columns is None or scores.shape != faculty.shape or scores.ndim != 1:
        raise ValueError(
            "scores, faculty and the rows of confounds must be as many; got "
            f"{scores.shape}, {faculty.shape} and {np.shape(confounds)}."
        )
    for name, values in (("scores", scores), ("faculty", faculty), ("confounds", columns)):
        require_number(name, values)
    n = scores.size - columns.shape[1] - 1
    if n < 3:
        raise ValueError(f"{scores.size} agents are too few for {columns.shape[1]} confounds.")
    design = np.column_stack([np.ones(scores.size), columns])
    own = faculty - design @ np.linalg.lstsq(design, faculty)[0]
    if np.linalg.norm(own) <= 1e-9 * max(np.linalg.norm(faculty), 1.0):
        raise ValueError("faculty must vary beside the confounds; these determine it.")
    centred = scores - scores.mean()
    spread = np.linalg.norm(centred)
    if spread <= 1e-12 * max(np.linalg.norm(scores), 1.0):
        return 0.0
    r = float(own @ centred / (np.linalg.norm(own) * spread))
    return max((n * r * r - 1.0) / (n - 1.0), 0.0) if r > 0.0 else 0.0


def format_diversity(questions: Iterable[Question]) -> float:
    """FD: one less the largest share of questions with one form, cell and type of item.

    Bounds: 0, if all are of one kind, to 1 − 1/kinds, if all kinds are equally many. The paper
    reported values that its questions do not have (E-42).

    **Raises** `ValueError` without questions.

    Source: H (45).
    """
    kinds = Counter((one.form, one.key.cell, one.key.item_type) for one in questions)
    if not kinds:
        raise ValueError("questions must not be empty.")
    return 1.0 - max(kinds.values()) / sum(kinds.values())


def difficulty_gradient(
    right: Bool[ArrayLike, "agents items"], *, by: Sequence[str] | None = None
) -> float:
    """DG: four times the variance, over items, of the share of agents that fail.

    Bounds: 0, if all items are equally hard, to 1, if half of them are failed by all and the other
    half by none (Popoviciu). What chance adds is taken off: with m agents, the mean over items of
    share · (1 − share) / (m − 1). The paper's form could not exceed 0.25, but "was" 0.51 (E-42).

    **Arguments:** `right`, whether the agent answered the item rightly; `by`, a name for each item:
    items with one name are then one, as hard as they are in the mean.

    **Raises** `ValueError` for fewer than two agents or items.

    Source: H (46), with what an item requires taken from data.
    """
    right = np.asarray(right, bool)
    if right.ndim != 2 or min(right.shape) < 2:
        raise ValueError(f"right must have two agents and two items or more; got {right.shape}.")
    failed = 1.0 - right.mean(axis=0)
    chance = failed * (1.0 - failed) / (right.shape[0] - 1)
    if by is not None:
        if len(by) != right.shape[1]:
            raise ValueError(f"by must name {right.shape[1]} items; got {len(by)} names.")
        names, index, counts = np.unique(list(by), return_inverse=True, return_counts=True)
        if names.size < 2:
            raise ValueError("by must have two names or more.")
        failed = np.bincount(index, failed) / counts
        chance = np.bincount(index, chance) / counts**2
    return float(np.clip(4.0 * (failed.var() - chance.mean()), 0.0, 1.0))


def session_reliability(sessions: Float[ArrayLike, " sessions"]) -> float:
    """R_A = 1 / (1 + CV²) over repeated sessions, the variance with k − 1.

    Bounds: 1, if all sessions agree, which an agent without chance always does on the same
    questions, down to 1 / (1 + k) for k sessions of scores from 0 up; 0 if their mean is not
    positive. It says nothing of scores that may be negative.

    **Raises** `ValueError` for fewer than two sessions.

    Source: equation 43. The tracks' 1 − CV² can be negative (E-43).
    """
    sessions = np.asarray(sessions, float)
    require_number("sessions", sessions)
    if sessions.ndim != 1 or sessions.size < 2:
        raise ValueError(f"sessions must be two or more numbers; got shape {sessions.shape}.")
    mean = float(sessions.mean())
    if mean <= 0.0:
        return 0.0
    return 1.0 / (1.0 + float(np.var(sessions / mean, ddof=1)))


def scripted_grid(
    axes: Mapping[str, Sequence[float]], *, seeds: Sequence[int] = (0,)
) -> tuple[ScriptedAgent, ...]:
    """Scripted agents with every combination of the faculties' values, each with every seed.

    **Arguments:** `axes`, values by the name of a faculty, such as `{"sigma": (0.2, 0.8)}`.

    **Raises** `ValueError` for a name that is no faculty, or a value out of its range.
    """
    combinations: list[dict[str, Any]] = [{}]
    for name, values in axes.items():
        if name == "seed" or name not in ScriptedAgent.__dataclass_fields__:
            raise ValueError(f"axes must name faculties of ScriptedAgent; got {name!r}.")
        combinations = [{**one, name: float(value)} for one in combinations for value in values]
    return tuple(ScriptedAgent(**one, seed=seed) for one in combinations for seed in seeds)


def benchmark_validity(
    benchmark: Benchmark,
    agents: Sequence[ScriptedAgent],
    *,
    confounds: Sequence[str],
    repeated: Callable[[int], Agent] | None = None,
    sessions: int = 5,
    seed: int = 0,
    size: int = 40,
) -> Validity:
    """Measure scripted agents and take all four factors from what they answer.

    CI is of their scores against the benchmark's faculty, beside `confounds`; FD is of all
    questions, DG of those with a right answer, as hard as their cell and type of item; R_A is of
    `sessions` with other questions each, of the middle one of the agents that could be measured
    unless `repeated` gives another. It says nothing where scores may be negative.

    **Arguments:** `agents`, a grid over the faculty and the confounds, such as of `scripted_grid`;
    `repeated`, from a session's number to the agent.

    **Raises** `ValueError` for a confound that is no faculty, fewer than two sessions, or if fewer
    than half of the agents or of the sessions can be measured.
    """
    require_in("sessions", sessions, 2)
    for name in confounds:
        if name not in ScriptedAgent.__dataclass_fields__:
            raise ValueError(f"confounds must name faculties of ScriptedAgent; got {name!r}.")
    measured = []
    for agent in agents:
        measurement = measure(benchmark, agent, seed=seed, size=size)
        if measurement.score.estimate is not None:
            measured.append((agent, measurement.score.estimate, measurement.outcomes))
    if not measured or 2 * len(measured) < len(agents):
        raise ValueError(f"only {len(measured)} of {len(agents)} agents could be measured.")
    chosen = sorted(measured, key=lambda one: one[1])[len(measured) // 2][0]
    session = (lambda _: chosen) if repeated is None else repeated
    estimates = [
        measure(benchmark, session(number), seed=seed + 1 + number, size=size).score.estimate
        for number in range(sessions)
    ]
    valid = [estimate for estimate in estimates if estimate is not None]
    if 2 * len(valid) < sessions:
        raise ValueError(f"only {len(valid)} of {sessions} sessions could be measured.")
    scored, names = _right_answers([outcomes for _, _, outcomes in measured])
    faculties = np.array(
        [
            [getattr(agent, name) for name in (benchmark.faculty, *confounds)]
            for agent, *_ in measured
        ]
    )
    return Validity(
        construct=construct_index(
            np.array([estimate for _, estimate, _ in measured]), faculties[:, 0], faculties[:, 1:]
        ),
        formats=format_diversity(outcome.question for outcome in measured[0][2]),
        difficulty=difficulty_gradient(scored, by=names),
        reliability=session_reliability(np.array(valid)),
    )


def _right_answers(
    runs: Sequence[Sequence[Outcome]],
) -> tuple[Bool[np.ndarray, "agents items"], list[str]]:
    """Who was right where, of the questions that have a right answer, and their cells and types."""
    kinds = [
        [f"{one.question.key.cell} {one.question.key.item_type}" for one in run] for run in runs
    ]
    # Later rounds may differ between agents, in number too; only what all were asked alike counts.
    places = [
        place
        for place, alike in enumerate(zip(*kinds, strict=False))
        if len(set(alike)) == 1 and runs[0][place].question.key.right
    ]
    right = np.array([[run[place].right for place in places] for run in runs])
    return right, [kinds[0][place] for place in places]
