"""What `experiments.converse` does for one seed, in a process of its own or in this one."""

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from experiments.launch import prepare

if TYPE_CHECKING:
    import numpy as np

    from sigma_jax.runtime import Arm, ArmRun, Calibration, Scenario, Watched


@dataclass(frozen=True)
class SeedRuns:
    """The conversations of one seed."""

    seed: int
    runs: "tuple[ArmRun, ...]"
    watched: "tuple[Watched, ...]"
    power: tuple[float, float]
    """d' of the calibration's channels."""


@dataclass(frozen=True)
class LostIdentity:
    """A conversation whose model loses its identity, in the monitor's units."""

    title: str
    sums: "np.ndarray"
    """The contrastive sums [t, 2] over their limits."""
    departures: "np.ndarray"
    """T² [t, 2] over its limits."""
    phases: tuple[str, ...]


@dataclass(frozen=True)
class Machinery:
    """What is found when the first seed's conversations are led again."""

    other_digests: int
    """Arms whose prompts or replies are not the same bytes the second time."""
    replay_difference: float
    """The largest between the statistics of the loop and those of a replay of its replies."""
    tokens_difference: int
    """Between the tokens counted outside of the runtime and by itself."""


def run_seeds(
    config: dict[str, Any], seeds: Sequence[int], arms: Sequence[str]
) -> Iterator[SeedRuns]:
    """The conversations of all seeds, as they are finished."""
    if config["workers"] == 1 or len(seeds) == 1:
        for seed in seeds:
            yield run_seed(config, seed, tuple(arms))
        return
    with ProcessPoolExecutor(
        config["workers"], mp_context=get_context("spawn"), initializer=prepare
    ) as pool:
        for done in as_completed(pool.submit(run_seed, config, s, tuple(arms)) for s in seeds):
            yield done.result()


def run_seed(config: dict[str, Any], seed: int, names: Sequence[str]) -> SeedRuns:
    """Calibrate to the seed's model, lead the scenario by every arm, and watch the cases."""
    from sigma_jax import runtime

    scenario = scenario_of(config)
    encoder = runtime.CachedEncoder(runtime.HashedEncoder(), most=100_000)
    with model_of(config, scenario, seed) as model:
        calibration = calibration_of(config, scenario, model, seed, encoder)
        about = {"calibration": calibration, "encoder": encoder, **lengths(config)}
        runs = tuple(runtime.run_arm(arm, scenario, model, **about) for arm in chosen_arms(names))
    watched: tuple[Watched, ...] = ()
    if config["model"] == "simulated" and config["detection"]["conversations"]:
        for case in runtime.CASES:
            watched += runtime.watch_conversations(
                case,
                simulated(config, scenario, seed),
                scenario.identity,
                calibration,
                encoder=encoder,
                **config["detection"],
            )
    power = float(calibration.power[0]), float(calibration.power[1])
    return SeedRuns(seed, runs, watched, power)


def lead_again(config: dict[str, Any], first: SeedRuns) -> Machinery:
    """Lead conversations of a seed a second time, and replay one from its replies alone."""
    import numpy as np

    from sigma_jax import runtime

    scenario = scenario_of(config)
    identity = scenario.identity
    encoder = runtime.CachedEncoder(runtime.HashedEncoder(), most=100_000)
    known = {run.arm: run for run in first.runs}
    other = 0
    watching = runtime.RuntimeArm(
        "observe only",
        "",
        runtime.RuntimeSettings(policy=runtime.ControlPolicy(observe_only=True)),
    )
    with model_of(config, scenario, first.seed) as model:
        calibration = calibration_of(config, scenario, model, first.seed, encoder)
        about = {"calibration": calibration, "encoder": encoder, **lengths(config)}
        for arm in chosen_arms([name for name in ("static prompt", "runtime") if name in known]):
            again = runtime.run_arm(arm, scenario, model, **about)
            # A live model need not say the same twice.
            other += config["model"] == "simulated" and again.digest != known[arm.name].digest
        observed = runtime.run_arm(watching, scenario, model, **about)
    texts = [turn.text for turn in scenario.turns[: len(observed.replies)]]
    y, commanded, violated = runtime.observations(
        identity, calibration, encoder, texts, observed.replies
    )
    present = np.array([[bool(reply.strip()) for reply in observed.replies]])
    replayed = runtime.replay(
        calibration.parameters, y[None], present, commanded[None], violated[None]
    )
    differences = [
        np.abs(np.asarray(getattr(replayed, name)[0]) - [m[name] for m in observed.measurements])
        for name in ("contrast", "departure", "constraints")
    ]
    counted = sum(
        sum(run.sent_tokens) - sum(m["sent_tokens"] for m in run.measurements)
        for run in (*first.runs, observed)
        if run.measurements
    )
    return Machinery(other, float(max(d.max() for d in differences)), abs(counted))


def lose_identity(config: dict[str, Any], seed: int) -> list[LostIdentity]:
    """The scenario with a model that loses its identity, only observed and corrected."""
    import numpy as np

    from sigma_jax import runtime
    from sigma_jax.runtime import AbruptLoss

    scenario = scenario_of(config)
    encoder = runtime.CachedEncoder(runtime.HashedEncoder(), most=100_000)
    model = simulated(config, scenario, seed)
    calibration = calibration_of(config, scenario, model, seed, encoder)
    limits = calibration.parameters
    lost = dataclasses.replace(model, mode=AbruptLoss(config["lost_at"]))
    found = []
    for title, observe_only in (("only observed", True), ("corrected", False)):
        settings = runtime.RuntimeSettings(policy=runtime.ControlPolicy(observe_only=observe_only))
        arm = runtime.RuntimeArm(title, "", settings)
        about = {"calibration": calibration, "encoder": encoder, **lengths(config)}
        run = runtime.run_arm(arm, scenario, lost, **about)
        sums, departures = (
            np.array([each[name] for each in run.measurements]) / np.asarray(limit)
            for name, limit in (
                ("contrast", limits.contrast_limit),
                ("departure", limits.departure_limit),
            )
        )
        found.append(LostIdentity(title, sums, departures, run.phases))
    return found


def scenario_of(config: dict[str, Any]) -> "Scenario":
    """The configured scenario."""
    from sigma_jax import runtime

    return runtime.load_scenario(config["scenario"])


def chosen_arms(names: Sequence[str]) -> "list[Arm]":
    """The arms of these names, in the order of the tables.

    **Raises** `ValueError` for a name that is none, or no names.
    """
    from sigma_jax.runtime import ARMS

    known = [arm.name for arm in ARMS]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(f"arms must be some of {', '.join(known)}; got {list(names)}.")
    return [arm for arm in ARMS if arm.name in names]


def simulated(config: dict[str, Any], scenario: "Scenario", seed: int) -> Any:
    """The simulated model of a seed."""
    from sigma_jax import runtime

    return runtime.SimulatedModel(scenario, seed=seed, context_tokens=config["context_tokens"])


@contextmanager
def model_of(config: dict[str, Any], scenario: "Scenario", seed: int) -> "Iterator[Any]":
    """The configured model with a seed; closed at the end.

    **Raises** `ValueError` for a model of another kind, or one behind HTTP without an address.
    """
    from sigma_jax import bridge, runtime

    if config["model"] == "simulated":
        yield simulated(config, scenario, seed)
        return
    if config["model"] != "openai":
        raise ValueError(f"model must be simulated or openai; got {config['model']!r}.")
    for name in ("url", "model_name"):
        if not config[name]:
            raise ValueError(f"model=openai needs {name}=…; got {config[name]!r}.")
    with bridge.ChatEndpoint(
        "model",
        config["url"],
        config["model_name"],
        key_variable=config["key_variable"],
        timeout=config["seconds"],
    ) as endpoint:
        yield runtime.EndpointModel(endpoint, seed=seed, temperature=config["temperature"])


def calibration_of(
    config: dict[str, Any], scenario: "Scenario", model: Any, seed: int, encoder: Any
) -> "Calibration":
    """The monitor's calibration to a model by the scenario's prompts."""
    import jax

    from sigma_jax import runtime

    return runtime.calibrate_identity(
        model,
        scenario.identity,
        key=jax.random.key(seed),
        prompts=scenario.calibration_prompts,
        encoder=encoder,
        max_tokens=config["max_tokens"],
        replicas=config["replicas"],
    )


def lengths(config: dict[str, Any]) -> dict[str, Any]:
    """How long the conversation and a reply may be."""
    return {"turns": config["turns"], "max_tokens": config["max_tokens"]}
