"""Features of replies with and without an identity, drawn from normal truths, for the tests."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from sigma_jax.runtime import MonitorParameters

PERSISTENCE, STATE_SHARE = 0.5, 0.5


class Truth(NamedTuple):
    """Per channel: the mean, a factor of the covariance, and where the default is from the mean."""

    means: tuple
    factors: tuple
    apart: tuple


def truth(seed, sizes=(6, 20), distances=(3.0, 3.0)):
    """Correlated features; the contents' variances fall off like 1/k."""
    draw = np.random.default_rng([seed, 1])  # not the stream that replies are drawn from
    style = draw.normal(size=(sizes[0],) * 2) / np.sqrt(sizes[0]) + 0.5 * np.eye(sizes[0])
    turned = np.linalg.qr(draw.normal(size=(sizes[1],) * 2))[0]
    factors = style, turned / np.sqrt(np.arange(1, sizes[1] + 1))
    directions = [draw.normal(size=size) for size in sizes]
    directions[1][20:] = 0.0
    apart = tuple(
        factor @ (direction / np.linalg.norm(direction) * distance)
        for factor, direction, distance in zip(factors, directions, distances, strict=True)
    )
    return Truth(tuple(draw.normal(size=size) for size in sizes), factors, apart)


def replies(draw, model, count, *, default=False):
    """Independent replies, as in a calibration: style `[n, s]` and content `[n, c]`."""
    return [
        mean + draw.normal(size=(count, len(mean))) @ factor.T + (apart if default else 0.0)
        for mean, factor, apart in zip(*model, strict=True)
    ]


def conversation(draw, model, turns, *, default_from=None):
    """The turns of a conversation, each correlated with the one before it."""
    found = []
    for mean, factor, apart in zip(*model, strict=True):
        white = correlated(draw, (1, turns, len(mean)))[0]
        lost = np.arange(turns) >= (turns if default_from is None else default_from)
        found.append(mean + white @ factor.T + lost[:, None] * apart)
    return found


def correlated(draw, shape):
    """`[b, t, d]` of variance 1: half a state that returns, half noise."""
    batch, turns, size = shape
    x = np.sqrt(STATE_SHARE) * draw.normal(size=(batch, size))
    kick = np.sqrt(STATE_SHARE * (1 - PERSISTENCE**2))
    seen = np.empty(shape)
    for turn in range(turns):
        x = PERSISTENCE * x + kick * draw.normal(size=(batch, size))
        seen[:, turn] = x + np.sqrt(1 - STATE_SHARE) * draw.normal(size=(batch, size))
    return seen


def known_parameters(sizes=(14, 24), distances=(3.0, 3.0), constraints=3, dtype=float, **options):
    """Parameters that are exactly true of `correlated` replies."""
    default = np.zeros(sum(sizes))
    default[0], default[sizes[0]] = distances
    two = jnp.ones(2, dtype)
    given = {
        "anchor": jnp.zeros(sum(sizes), dtype),
        "default": jnp.asarray(default, dtype),
        "persistence": PERSISTENCE * two,
        "process_noise": STATE_SHARE * (1 - PERSISTENCE**2) * two,
        "observation_noise": (1 - STATE_SHARE) * two,
        "contrast_limit": 2.0 * two,
        "departure_limit": jnp.asarray([45.0, 60.0], dtype),
        "constraint_limit": jnp.full(constraints, 4.0, dtype),
        "violated": jnp.full(constraints, np.log(0.25 / 0.02), dtype),
        "kept": jnp.full(constraints, np.log(0.75 / 0.98), dtype),
        "style_size": sizes[0],
    }
    return MonitorParameters(**given | options)
