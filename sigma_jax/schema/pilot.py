"""The published pilot: what 45 training runs measured, and the phases those curves go through."""

import csv
import importlib.resources
from pathlib import Path

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float, Int

CONDITIONS = ("baseline", "additive", "multiplicative")
"""The pilot's three conditions."""

STEPS_PER_EPOCH = 16_000 / 64
"""16,000 training strings in batches of 64; the pilot's 2,000 steps are eight epochs."""

_COLUMNS = ("condition", "run", "step", "acc_id", "acc_ood", "sigma_proxy", "phase")
_RUNS, _CHECKPOINTS = 15, 40


class PilotCurves(eqx.Module):
    """One condition of the pilot, 15 runs at 40 checkpoints; measured, not simulated."""

    condition: str
    step: Int[np.ndarray, " checkpoints"]
    """Training step of each checkpoint."""
    acc_id: Float[np.ndarray, "runs checkpoints"]
    """In-distribution token accuracy, as a share of one."""
    acc_ood: Float[np.ndarray, "runs checkpoints"]
    """Out-of-distribution token accuracy, as a share of one."""
    sigma_proxy: Float[np.ndarray, "runs checkpoints"]
    """The published σ̃: a hand-written curve of the step plus noise, not a measurement."""
    phase: Int[np.ndarray, "runs checkpoints"]
    """The phase that the published code assigned, from that curve."""

    @property
    def epoch(self) -> Float[np.ndarray, " checkpoints"]:
        """Time of each checkpoint in epochs, the model's unit."""
        return self.step / STEPS_PER_EPOCH

    @property
    def trained(self) -> Bool[np.ndarray, " checkpoints"]:
        """Checkpoints after step 0, where the network is still random."""
        return self.step > 0

    @property
    def sigma_hat(self) -> Float[np.ndarray, "runs checkpoints"]:
        """σ̂ = Acc_OOD/Acc_ID (Eq. 7); NaN where Acc_ID = 0. It may exceed one, and does."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.acc_id > 0, self.acc_ood / self.acc_id, np.nan)

    @property
    def onset(self) -> Float[np.ndarray, " runs"] | None:
        """When each run's extra compositional batches began, in epochs; None if they never did.

        The middle of the interval between checkpoints in which the published phase reached 2,
        which is what switched the batches on.
        """
        started = self.phase >= 2
        if not started.any(axis=1).all():
            return None
        first = started.argmax(axis=1)
        return (self.epoch[first] + self.epoch[first - 1]) / 2


def load_pilot(path: str | Path | None = None) -> dict[str, PilotCurves]:
    """Read the pilot's curves, by condition, from the packaged file or from `path`.

    Source: basyirin-dev/sigma-model, `results/canonical`, MIT: Basyirin Amsyar Basri (2026),
    doi:10.5281/zenodo.20714248. See `data/README.md` in this package.

    **Raises** `FileNotFoundError` or `ValueError`, naming the file and what is wrong with it, if
    it is missing, truncated or not that table.
    """
    if path is None:
        packaged = importlib.resources.files("sigma_jax.schema") / "data/sigma_pilot_curves.csv"
        with importlib.resources.as_file(packaged) as file:
            return load_pilot(file)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the pilot's curves are not at {path}: no such file.")
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a table of text ({error}).") from error
    missing = [column for column in _COLUMNS if not rows or column not in rows[0]]
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}.")
    return {condition: _condition(rows, condition, path) for condition in CONDITIONS}


def _condition(rows: list[dict], condition: str, path: Path) -> PilotCurves:
    chosen = [row for row in rows if row["condition"] == condition]
    expected = _RUNS * _CHECKPOINTS
    if len(chosen) != expected:
        raise ValueError(
            f"{path} has {len(chosen)} rows for condition {condition!r}, not {expected}: "
            "it is truncated, or not the published table."
        )
    try:
        chosen.sort(key=lambda row: (int(row["run"]), int(row["step"])))
        columns = {
            name: np.array([float(row[name]) for row in chosen]).reshape(_RUNS, _CHECKPOINTS)
            for name in _COLUMNS[2:]
        }
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{path}, condition {condition!r}: a cell is not a number ({error})."
        ) from error
    steps = columns["step"].astype(int)
    if (steps != steps[0]).any():
        raise ValueError(f"{path}, condition {condition!r}: runs have different checkpoints.")
    return PilotCurves(
        condition=condition,
        step=steps[0],
        acc_id=columns["acc_id"] / 100.0,
        acc_ood=columns["acc_ood"] / 100.0,
        sigma_proxy=columns["sigma_proxy"],
        phase=columns["phase"].astype(int),
    )
