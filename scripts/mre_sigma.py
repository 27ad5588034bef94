"""The smallest run that shows the Σ-Model: ten lines, a few seconds.

`python scripts/mre_sigma.py` simulates both models through targeting and its withdrawal.
"""

import sys

from experiments.launch import prepare

prepare()

import numpy as np  # noqa: E402  (JAX must be prepared before it is imported)

from sigma_jax import schema, solvers  # noqa: E402

TIMES = np.array([0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 400.0])
EXPECTED = {"consistent": 0.0, "hysteretic": 0.6310}  # σ(400), from an independent integration


def main() -> int:
    """Print one trajectory a model and three checks; 0 if they pass."""
    checks = {}
    print("σ(t) under structure targeting until t = 40, then surface reward (epochs)")
    print(f"{'model':<11}" + "".join(f"  t={time:<5g}" for time in TIMES))
    for variant, expected in EXPECTED.items():
        model = schema.sigma_model(variant, environment=schema.regime("withdrawn"))
        solution = solvers.simulate(
            model, schema.initial_state(), TIMES, method=solvers.FixedStep(100)
        )
        sigma = np.asarray(solution.ys.sigma)[:, 0, 0, 0]
        print(f"{variant:<11}" + "".join(f"  {value:.4f} " for value in sigma))
        checks[f"σ(400), {variant}"] = (float(sigma[-1]), expected)
    checks["saddle-node of the extension, R₀"] = (float(schema.saddle_node(0.9, 3.0)), 0.7101)
    passed = [abs(value - expected) <= 1e-3 for value, expected in checks.values()]
    for (name, (value, expected)), ok in zip(checks.items(), passed, strict=True):
        print(f"{name:<34}{value:>9.4f}  expected {expected:.4f}  {'ok' if ok else 'FAILED'}")
    print("ALL CHECKS PASSED" if all(passed) else "CHECKS FAILED")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
