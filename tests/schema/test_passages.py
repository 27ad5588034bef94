"""First passages of the stochastic Σ-Model: into phases, and out of the coherent state."""

import jax
import numpy as np
import pytest

from sigma_jax import schema

TIMES = np.linspace(0.0, 60.0, 61)
TARGETED = schema.sigma_model(environment=schema.regime("targeted"))
START = schema.initial_state()


def first_times(noise: schema.Noise, paths: int = 256, model=TARGETED) -> np.ndarray:
    return np.asarray(
        schema.passage_times(
            model,
            noise,
            START,
            TIMES,
            schema.PhasesReached(model.environment),
            key=jax.random.key(0),
            paths=paths,
            steps=8,
        )
    )


def silent(**amplitudes) -> schema.Noise:
    zero = dict.fromkeys(
        ("delta", "sigma", "alpha", "self_model", "planning", "inhibition", "flexibility"), 0.0
    )
    return schema.Noise(**(zero | amplitudes))


def test_without_noise_phases_start_where_the_events_are():
    moves = schema.phase_transitions(TARGETED, START, 0.0, 60.0)
    times = first_times(silent(), paths=2)
    for move in moves:
        late = times[0, move.after - 1] - float(move.time)
        # Seen at the next of the times; the machine moves one phase at each of them.
        assert 0.0 <= late <= 2.0, move
    assert np.isinf(times[:, 3:]).all()  # one domain: phases 4 and 5 are out of reach


def test_noise_spreads_the_entry_into_phase_2():
    still, noisy = first_times(silent(), paths=2), first_times(silent(sigma=0.3))
    entry = noisy[:, 1]
    assert entry.min() < still[0, 1] < np.median(entry[np.isfinite(entry)]) + 10
    assert np.ptp(entry[np.isfinite(entry)]) > 5
    assert np.all(noisy[:, 0] <= entry)  # phases are entered in order


def test_phases_are_never_entered_in_the_trap_without_noise():
    baseline = schema.sigma_model(environment=schema.regime("baseline"))
    times = first_times(silent(), paths=2, model=baseline)
    assert np.isfinite(times[:, 0]).all()
    assert np.isinf(times[:, 1:]).all()


@pytest.fixture(scope="module")
def escapes() -> dict[float, np.ndarray]:
    """When coherence falls below the threshold σ₋ = .147, by amplitude, from σ₊ = .631."""
    model = schema.sigma_model("hysteretic", environment=schema.regime("baseline"))
    coherent = schema.initial_state(delta=0.98, sigma=0.631, alpha=0.5, self_model=0.4)
    return {
        amplitude: np.asarray(
            schema.passage_times(
                model,
                silent(sigma=amplitude),
                coherent,
                np.linspace(0.0, 400.0, 101),
                lambda ts, states: states.sigma[:, 0, 0] < 0.147,
                key=jax.random.key(1),
                paths=512,
                steps=16,
            )
        )[:, 0]
        for amplitude in (0.05, 0.2, 0.4)
    }


def test_noise_drives_learners_out_of_the_coherent_state(escapes):
    """Noise-induced transitions: none at a small amplitude, most at a large one."""
    shares = [np.mean(np.isfinite(times)) for times in escapes.values()]
    assert shares[0] == 0.0
    assert 0.01 < shares[1] < shares[2]
    assert shares[2] > 0.9


def test_escapes_have_no_memory_once_they_are_under_way(escapes):
    """A rare escape is exponential: its hazard, deaths over exposure, does not change in time."""
    times = escapes[0.2]
    hazards = []
    for start, end in ((40.0, 220.0), (220.0, 400.0)):
        at_risk = times > start
        left = at_risk & (times <= end)
        exposure = np.sum(np.clip(times[at_risk], None, end) - start)
        hazards.append((left.sum(), exposure))
    (first, exposed), (second, exposed_later) = hazards
    ratio = (first / exposed) / (second / exposed_later)
    margin = 3.0 * np.sqrt(1.0 / first + 1.0 / second)
    assert abs(np.log(ratio)) < margin


@pytest.mark.slow
def test_a_hundred_thousand_paths_need_little_memory():
    times = first_times(silent(sigma=0.3), paths=100_000)
    assert times.shape == (100_000, 5)
    few = first_times(silent(sigma=0.3))[:, 1]
    # The share that has entered phase 2 by the end, in both samples.
    share, expected = np.isfinite(few).mean(), np.isfinite(times[:, 1]).mean()
    assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / few.size) + 1e-9
