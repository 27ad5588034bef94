"""The search along profiles: where each crosses its threshold, and what it is in between."""

import equinox as eqx
import numpy as np
from jaxtyping import Bool, Float

# An end is found when the root of the deviance is this close to the threshold's, or its bracket
# this narrow (in logarithms).
_END_TOLERANCE, _NARROWEST = 1e-6, 1e-10
_MOST_ROUNDS = 60
# A deviance below minus this is a better fit than the best.
_BETTER = 1e-3


class ProfileEnds(eqx.Module):
    """The ends of profiles, in logarithms; lanes are all lower sides, then all upper ones."""

    side: Float[np.ndarray, " lanes"]
    value: Float[np.ndarray, " lanes"]
    theta: Float[np.ndarray, "lanes parameters"]
    """The fit at the end."""
    open: Bool[np.ndarray, " lanes"]
    """True where the search's limit came before the threshold."""
    success: bool


class ProfileSearch:
    """The profiles of the chosen parameters: lanes are their lower sides, then their upper ones.

    `fit(theta, held)` refits every lane; `unit` turns a sum of squares into a deviance.
    """

    def __init__(self, fit, estimate, rss, gram, unit, chosen):
        self.fit, self.estimate, self.rss, self.gram = fit, estimate, rss, gram
        self.held = np.concatenate([chosen, chosen])
        self.unit = unit[self.held]
        self.side = np.repeat([-1.0, 1.0], chosen.size)

    def at(self, value, theta, held, unit):
        """Refit with `held` at `value`, from `theta`: (fits, deviances, whether all is well)."""
        theta = theta.copy()
        theta[np.arange(held.size), held] = value
        done = self.fit(theta, held)
        deviance = (done.rss - self.rss) / unit
        good = done.converged & (deviance > -_BETTER)
        return done, np.maximum(deviance, 0.0), good

    def ends(self, limits, threshold, first_step) -> ProfileEnds:
        """Where each profile crosses the threshold, or the limit if it does not.

        The signed root of the deviance is nearly straight, so its crossing is bracketed by
        doubled steps and then found by the Illinois variant of regula falsi.
        """
        lanes, goal = self.held.size, np.sqrt(threshold)
        limit = np.where(self.side < 0, limits[0][self.held], limits[1][self.held])
        inside = self.estimate[self.held].copy()
        theta = np.tile(self.estimate, (lanes, 1))
        tangent = _tangents(np.repeat(self.gram[None], lanes, axis=0), self.held)
        short, past = np.full(lanes, goal), np.full(lanes, np.nan)
        outside, step = limit.copy(), self.side * first_step[self.held]
        last, open_end = np.zeros(lanes), inside == limit
        done, well = open_end.copy(), np.ones(lanes, bool)
        value = inside.copy()
        for _ in range(_MOST_ROUNDS):
            if done.all():
                break
            bracketed = np.isfinite(past)
            onward = self.side * np.minimum(self.side * (inside + step), self.side * limit)
            between = inside + (outside - inside) * short / (short + past)
            trial = np.where(done, value, np.where(bracketed, between, onward))
            ahead = theta + tangent * (trial - inside)[:, None]
            fits, deviance, good = self.at(trial, ahead, self.held, self.unit)
            gap = goal - np.sqrt(deviance)
            move, value = ~done, trial
            well = np.where(move, good, well)
            crossed, stays = move & (gap < 0), move & (gap >= 0)
            past = np.where(crossed, -gap, np.where(stays & (last < 0), past / 2, past))
            short = np.where(stays, gap, np.where(crossed & (last > 0), short / 2, short))
            outside, inside = np.where(crossed, trial, outside), np.where(stays, trial, inside)
            tangent = np.where(stays[:, None], _tangents(fits.gram, self.held), tangent)
            theta = np.where(stays[:, None], fits.theta, theta)
            last = np.where(bracketed & crossed, 1.0, np.where(bracketed & stays, -1.0, 0.0))
            step = np.where(stays, 2.0 * step, step)
            open_end |= stays & (trial == limit)
            narrow = np.isfinite(past) & (np.abs(outside - inside) < _NARROWEST)
            done |= (np.abs(gap) < _END_TOLERANCE) | narrow | open_end
        return ProfileEnds(self.side, value, theta, open_end, bool((done & well).all()))

    def follow(self, ends: ProfileEnds, points: int):
        """Each profile at `points` values between its ends: (values, deviance, all is well)."""
        half = self.held.size // 2
        centre = self.estimate[self.held[:half]]
        low, high = ends.value[:half], ends.value[half:]
        values = np.linspace(low, high, points, axis=1)
        below = values < centre[:, None]
        reach = np.where(below, (low - centre)[:, None], (high - centre)[:, None])
        share = np.divide(
            values - centre[:, None], reach, out=np.zeros_like(values), where=reach != 0
        )
        far = np.where(below[..., None], ends.theta[:half, None], ends.theta[half:, None])
        theta = self.estimate + share[..., None] * (far - self.estimate)
        deviance, well = np.empty_like(values), True
        # Two points of every profile fill one batch.
        for first in range(0, points, 2):
            pair = [first, min(first + 1, points - 1)]
            _, found, good = self.at(
                values[:, pair].T.ravel(),
                np.concatenate([theta[:, k] for k in pair]),
                self.held,
                self.unit,
            )
            deviance[:, pair] = found.reshape(2, half).T
            well &= bool(good.all())
        return values, deviance, well


def _tangents(gram, held):
    """How the fit moves, to first order, when each lane's held parameter moves by one."""
    lanes = np.arange(held.size)
    scale = np.sqrt(np.diagonal(gram, axis1=1, axis2=2))
    scale = np.where(scale > 1e-11 * scale.max(axis=1, keepdims=True), scale, np.inf)
    normal = gram / (scale[:, :, None] * scale[:, None, :])
    pull = normal[lanes, :, held].copy()
    normal[lanes, held, :] = normal[lanes, :, held] = 0.0
    normal += 1e-9 * np.eye(scale.shape[1])
    pull[lanes, held] = 0.0
    move = -np.linalg.solve(normal, pull[..., None])[..., 0]
    with np.errstate(invalid="ignore"):
        move *= np.where(np.isfinite(scale), scale[lanes, held][:, None] / scale, 0.0)
    move = np.where(np.isfinite(move), move, 0.0)
    move[lanes, held] = 1.0
    return move
