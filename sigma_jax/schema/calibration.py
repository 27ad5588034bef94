"""Rate constants from measured coherence curves, by gradient through the solver."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..solvers import FixedStep, simulate
from ..statistics import CurveFit, LackOfFit, fit_curve, lack_of_fit
from .derived import reproduction_number
from .environment import Environment
from .equilibria import attention_equilibrium
from .pilot import PilotCurves
from .rates import Rates
from .regimes import STRUCTURE_TARGETED, SURFACE_REWARDED, regime
from .signals import Switch
from .state import initial_state
from .variants import sigma_model

EXPLANATIONS = ("constant", "onset", "hysteretic onset")
"""The explanations that `fit_pilot` knows."""

# Attention settles within a checkpoint: the measured curves bound its rate only from below.
_FAST_ATTENTION = 20.0
_METHOD = FixedStep(steps=4)
START = {"epsilon_sigma": 4.0, "rho": 6.0, "sigma_0": 0.4}
"""Where fits of the pilot start, per epoch."""


class PilotFit(eqx.Module):
    """One explanation fitted to one condition's measured σ̂."""

    condition: str
    explanation: str
    curve: CurveFit
    lack: LackOfFit
    r0: tuple[float, float, float]
    """R₀ once attention has settled at the end: estimate and 95 % interval."""
    observations: int
    left_out: int
    """Measurements of trained networks without a value (Acc_ID = 0)."""
    epoch: Float[np.ndarray, " times"]
    sigma: Float[np.ndarray, " times"]
    """The fitted σ(t), averaged over the runs' onsets, for drawing."""


def fit_pilot(curves: PilotCurves, explanation: str = "onset") -> PilotFit:
    """Fit ρ, ε_σ (per epoch) and σ(0) to σ̂(t) = Acc_OOD/Acc_ID of a condition's runs together.

    | explanation | model | environment |
    |---|---|---|
    | `constant` | Eq. 28 | surface-rewarded throughout |
    | `onset` | Eq. 28 | structure-targeted from each run's first compositional batch on |
    | `hysteretic onset` | the hysteretic extension | the same |

    P_A, C_A and Ω are the reference regimes'. Attention relaxes within a checkpoint (γ = ζ_α =
    20 per epoch): a free γ runs away upwards, as the curves only bound it from below. Standard
    errors treat runs as clusters. Measurements of untrained networks (step 0) are left out.

    **Raises** `ValueError` for an unknown explanation, or an onset asked of a condition that
    never had one.
    """
    predict, observed, runs, checkpoints = pilot_problem(curves, explanation)
    curve = fit_curve(predict, observed, START, groups=runs)
    return PilotFit(
        condition=curves.condition,
        explanation=explanation,
        curve=curve,
        lack=lack_of_fit(observed, curve.fitted, checkpoints, len(START)),
        r0=_settled_r0(curve, predict.hysteretic, targeted=explanation != "constant"),
        observations=len(runs),
        left_out=int(curves.trained.sum()) * len(curves.sigma_hat) - len(runs),
        epoch=np.asarray(predict.times),
        sigma=np.asarray(predict.coherence(curve.estimate)).mean(axis=0),
    )


def pilot_problem(
    curves: PilotCurves, explanation: str
) -> tuple["PilotPrediction", np.ndarray, np.ndarray, np.ndarray]:
    """What `fit_pilot` fits: the prediction, σ̂, and the run and checkpoint of each observation."""
    if explanation not in EXPLANATIONS:
        raise ValueError(
            f"unknown explanation {explanation!r}; choose one of {', '.join(EXPLANATIONS)}."
        )
    if explanation != "constant" and curves.onset is None:
        raise ValueError(f"condition {curves.condition!r} has no onset; fit `constant`.")
    measured = curves.sigma_hat[:, curves.trained]
    known = np.isfinite(measured)
    runs, checkpoints = np.nonzero(known)
    # Onsets lie in the middle between checkpoints: a grid of half intervals has them all.
    halves = np.linspace(0.0, curves.epoch[-1], 2 * (curves.epoch.size - 1) + 1)
    onset = np.full(len(measured), np.inf) if explanation == "constant" else curves.onset
    predict = PilotPrediction(
        hysteretic=explanation == "hysteretic onset",
        onset=jnp.asarray(onset),
        times=jnp.asarray(halves),
        run=jnp.asarray(runs),
        time_index=jnp.asarray(2 * (checkpoints + 1)),
    )
    return predict, measured[known], runs, checkpoints


class PilotPrediction(eqx.Module):
    """σ of every observation, for given parameters. Data, so that fits share compiled code."""

    hysteretic: bool = eqx.field(static=True)
    onset: Float[Array, " runs"]
    times: Float[Array, " times"]
    run: Int[Array, " observations"]
    time_index: Int[Array, " observations"]

    def __call__(self, parameters: dict) -> Float[Array, " observations"]:
        return self.coherence(parameters)[self.run, self.time_index]

    @eqx.filter_jit
    def coherence(self, parameters: dict) -> Float[Array, "runs times"]:
        """σ(t) in every run."""
        return jax.vmap(lambda onset: self._one_run(parameters, onset))(self.onset)

    def _one_run(self, parameters: dict, onset: Float[Array, ""]) -> Float[Array, " times"]:
        surface = Switch((onset,), (SURFACE_REWARDED, STRUCTURE_TARGETED))
        model = sigma_model(
            "hysteretic" if self.hysteretic else "consistent",
            rates=_rates(parameters, self.hysteretic),
            environment=Environment(r_surface=surface),
        )
        alpha = attention_equilibrium(model.rates, regime("baseline")(0.0, None))
        y0 = initial_state(sigma=parameters["sigma_0"], alpha=alpha)
        solution = simulate(model, y0, self.times, method=_METHOD, throw=False)
        return solution.ys.sigma[:, 0, 0, 0]


def _rates(parameters: dict, hysteretic: bool) -> Rates:
    attention = parameters.get("gamma", _FAST_ATTENTION)
    return Rates(
        rho=parameters["rho"],
        epsilon_sigma=parameters["epsilon_sigma"],
        gamma=attention,
        zeta_alpha=attention,
        saturation=0.9 if hysteretic else 0.5,
    )


def _settled_r0(curve: CurveFit, hysteretic: bool, targeted: bool) -> tuple[float, float, float]:
    """R₀ ∝ ρ/ε_σ: its log-variance follows from theirs and their correlation."""
    final = regime("targeted" if targeted else "baseline")(0.0, None)
    rates = _rates(curve.estimate, hysteretic)
    r0 = float(reproduction_number(rates, final, attention_equilibrium(rates, final)))
    names = sorted(curve.estimate)
    first, second = names.index("rho"), names.index("epsilon_sigma")
    relative = [float(curve.standard_error[name] / curve.estimate[name]) for name in names]
    a, b = relative[first], relative[second]
    variance = a**2 + b**2 - 2 * a * b * float(curve.correlation[first, second])
    spread = np.exp(1.96 * np.sqrt(max(variance, 0.0)))
    return r0, float(r0 / spread), float(r0 * spread)
