"""The replies that a calibration rests on: checked, and fitted channel by channel."""

from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Bool, Float

from .._check import require_number
from .recalibrations import Recalibrations, recalibrations
from .text_channels import FitMap, FittedChannel, fit_channel

LEAST_REPLIES = 5


class ChannelReplies(NamedTuple):
    """One channel's features of the replies with and without the identity."""

    identity: Float[np.ndarray, "n f"]
    default: Float[np.ndarray, "m f"]

    def units(self, *, standardised: bool) -> Float[np.ndarray, " f"]:
        """What to multiply the features by: 0 for one that has the same value in all replies."""
        replies = np.concatenate(self)
        # Not the deviation: that of equal numbers may be round-off.
        varies = np.ptp(replies, axis=0) > 0
        spread = replies.std(axis=0) if standardised else np.ones(replies.shape[1])
        return np.where(varies, 1.0 / np.where(varies, spread, 1.0), 0.0)


def checked_replies(
    name: str, identity: ArrayLike, default: ArrayLike | None, count: int | None = None
) -> ChannelReplies:
    """The channel `name` of the replies.

    **Arguments:** `count`, of replies with the identity, if another channel has said it.

    **Raises** `ValueError` for fewer than `LEAST_REPLIES` of a kind, numbers that are not finite,
    shapes that do not match, or features that never vary.
    """
    own = _features(f"identity_{name}", identity)
    if count is not None and len(own) != count:
        raise ValueError(
            "identity_style and identity_content must be of the same replies; got "
            f"{count} and {len(own)}."
        )
    other = own[:0] if default is None else _features(f"default_{name}", default)
    if other.shape[1] != own.shape[1]:
        raise ValueError(
            f"default_{name} must have the {own.shape[1]} features of identity_{name}; got "
            f"{other.shape[1]}."
        )
    if not np.ptp(np.concatenate([own, other]), axis=0).any():
        raise ValueError(f"{name} must vary between the replies; all have the same features.")
    return ChannelReplies(own, other)


def checked_violations(value: ArrayLike | None, replies: int) -> Bool[np.ndarray, "n k"]:
    """Which constraints each reply violated; none of none if it is not given.

    **Raises** `ValueError` for anything but booleans `[replies, k]`.
    """
    if value is None:
        return np.zeros((replies, 0), bool)
    array = np.asarray(value)
    if array.ndim != 2 or len(array) != replies or array.dtype != bool:
        raise ValueError(
            f"identity_violations must be booleans [{replies}, k]; got {array.dtype} of shape "
            f"{array.shape}."
        )
    return array


def fit_replies(
    replies: ChannelReplies,
    fit_map: FitMap,
    standardised: bool,
    count: int,
    random: np.random.Generator,
) -> tuple[FittedChannel, Recalibrations]:
    """The channel in the features' own units, and what `count` others would have found."""
    units = replies.units(standardised=standardised)
    used = units > 0
    identity, default = (group[:, used] * units[used] for group in replies)
    channel = fit_channel(identity, default, fit_map)
    again = recalibrations(identity, default, channel, fit_map, count, random)
    whitening = np.zeros((len(channel.map), len(units)))
    whitening[:, used] = channel.map * units[used]
    return channel._replace(mean=replies.identity.mean(axis=0), map=whitening), again


def _features(name: str, value: ArrayLike) -> Float[np.ndarray, "n f"]:
    require_number(name, value)
    array = np.asarray(value, float)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(f"{name} must be [replies, features]; got shape {array.shape}.")
    if len(array) < LEAST_REPLIES:
        raise ValueError(f"{name} must have at least {LEAST_REPLIES} replies; got {len(array)}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite.")
    return array
