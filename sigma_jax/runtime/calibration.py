"""Calibration: what replies with and without an identity look like, and the limits from that."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Key
from scipy import stats
from threadpoolctl import threadpool_limits

from .._check import require_in
from ..vm import read_archive, write_archive
from .calibration_replies import LEAST_REPLIES as LEAST_REPLIES
from .calibration_replies import checked_replies, checked_violations, fit_replies
from .monitor import CHANNELS, MonitorParameters
from .text_channels import (
    TextChannels,
    content_map,
    style_map,
)
from .thresholds import NullModel, simulated_limits, violation_limit

_FORMAT = "sigma_jax/calibration/1"

LEAST_POWER = 1.0
"""Below this d' a channel's contrast is not used."""

ENOUGH_REPLIES = 20
"""With as many of either kind, false alarms were about as many as asked for in simulations."""

_AGAIN = 400  # calibrations that might as well have been made
_PERSISTENCE, _STATE_SHARE = 0.5, 0.5
_FEW_VIOLATIONS = 0.02  # the least share of replies that is thought to violate a constraint
_SURE = 0.9  # the probability that a constraint is violated less often than its sum is tuned to
_MORE_VIOLATIONS = 0.25  # of the replies that keep it now: what its sum is tuned to notice


@dataclass(frozen=True)
class Provenance:
    """Where a calibration comes from."""

    identity: str
    encoder: str
    identity_replies: int
    default_replies: int
    false_alarm: float
    """The share of conversations of `horizon` turns that may alarm at all."""
    horizon: int
    replicas: int
    key: tuple[int, ...]
    """The words of the key that the limits were simulated with."""
    simulated_rate: float
    """The share of simulated conversations that alarmed."""


class Calibration(eqx.Module):
    """Channels, a monitor's parameters with its limits, and what they rest on."""

    channels: TextChannels
    parameters: MonitorParameters
    power: Float[Array, "2"]
    """d' per channel, of replies that were held out."""
    provenance: Provenance = eqx.field(static=True)

    @property
    def warning(self) -> str | None:
        """What this calibration cannot see, in a sentence or two; None if there is nothing."""
        found = [
            f"{name} does not tell replies with the identity from replies without it "
            f"(d' = {float(power):.2f}, at least {LEAST_POWER:g} is needed): there only departures "
            "in any direction are watched."
            for name, power in zip(CHANNELS, np.asarray(self.power), strict=True)
            if power < LEAST_POWER
        ]
        counts = self.provenance.identity_replies, self.provenance.default_replies
        if min(counts) < ENOUGH_REPLIES:
            found.append(
                f"There are only {counts[0]} replies with the identity and {counts[1]} without: "
                f"with fewer than {ENOUGH_REPLIES} of a kind, false alarms may be up to twice as "
                "many as were asked for."
            )
        return " ".join(found) or None

    def observe(
        self, style: Float[ArrayLike, "*batch s"], content: Float[ArrayLike, "*batch c"]
    ) -> Float[Array, "*batch d"]:
        """What the monitor sees of replies with these features (`TextChannels.observe`)."""
        return self.channels.observe(style, content)


def calibrate(
    identity_style: Float[ArrayLike, "n s"],
    identity_content: Float[ArrayLike, "n c"],
    default_style: Float[ArrayLike, "m s"] | None = None,
    default_content: Float[ArrayLike, "m c"] | None = None,
    *,
    key: Key[Array, ""],
    identity_violations: Bool[ArrayLike, "n k"] | None = None,
    false_alarm: float = 0.05,
    horizon: int = 200,
    replicas: int = 10_000,
    components: int = 24,
    identity: str = "",
    encoder: str = "",
) -> Calibration:
    """Fit the channels and set the limits, so that few conversations alarm without cause.

    At most `false_alarm` of conversations of `horizon` turns alarm on any chart, over calibrations
    of so few replies and conversations together (`simulated_limits`). That rests on replies that
    are about normal in the features, and turns of which a quarter of the deviation is carried over
    to the next.

    **Arguments:** features of replies of one model to the same prompts, with the identity and
    without it; none without it: no contrast. `identity_violations`, which of k constraints each
    reply with the identity violated; none: no constraints. `replicas`, simulated conversations;
    `components` of the content; `identity` and `encoder`, names to keep with the result.

    **Raises** `ValueError` for fewer than five replies of a kind, numbers that are not finite,
    shapes that do not match, or too few replicas for `false_alarm`.
    """
    style = checked_replies("style", identity_style, default_style)
    content = checked_replies("content", identity_content, default_content, len(style.identity))
    if len(style.default) != len(content.default):
        raise ValueError(
            "default_style and default_content must be of the same replies; got "
            f"{len(style.default)} and {len(content.default)}."
        )
    require_in("false_alarm", false_alarm, 1e-6, 0.5)
    require_in("horizon", horizon, 1)
    require_in("components", components, 1)
    if not replicas * false_alarm >= 5:
        raise ValueError(
            f"replicas must be at least {5 / false_alarm:.0f} for a false_alarm of "
            f"{false_alarm:g}; got {replicas}."
        )
    counts = len(style.identity), len(style.default)
    violations = checked_violations(identity_violations, counts[0])
    words = tuple(int(word) for word in np.ravel(jax.random.key_data(key)))
    random = np.random.default_rng(words)
    # One axis fewer than degrees of freedom when a reply is left out.
    axes = min(components, sum(counts) - 2 - bool(counts[1]))
    fits = (style, style_map, True), (content, content_map(axes), False)
    # Many small factorisations: threads would only wait for one another.
    with threadpool_limits(1, user_api="blas"):
        fitted, again = zip(*[fit_replies(*fit, _AGAIN, random) for fit in fits], strict=True)
    power = np.array([channel.power for channel in fitted])
    null = NullModel(again, violations.sum(axis=0), float(len(violations)))
    parameters, rate = _limited(
        _parameters([channel.default for channel in fitted], power, violations),
        null,
        false_alarm=false_alarm,
        horizon=horizon,
        replicas=replicas,
        key=key,
    )
    return Calibration(
        channels=TextChannels(
            *[jnp.asarray(part) for channel in fitted for part in (channel.mean, channel.map)]
        ),
        parameters=parameters,
        power=jnp.asarray(power),
        provenance=Provenance(
            identity, encoder, *counts, float(false_alarm), int(horizon), int(replicas), words, rate
        ),
    )


def uncalibrated(
    constraints: int, *, false_alarm: float = 0.05, horizon: int = 200
) -> MonitorParameters:
    """Parameters for a conversation of which no calibration reply is known.

    y is empty, `[0]`; the phase stays FORMING, and only the constraints' sums act. Their limits
    are for a model that violates each constraint in 2 % of its replies.

    **Raises** `ValueError` for a negative number of constraints, or a rate or horizon out of range.
    """
    require_in("constraints", constraints, 0)
    require_in("false_alarm", false_alarm, 1e-6, 0.5)
    require_in("horizon", horizon, 1)
    parameters = _parameters([np.zeros(0)] * 2, np.zeros(2), np.zeros((0, constraints), bool))
    far = jnp.full(2, jnp.inf, parameters.dtype)
    limits = jnp.zeros(0, parameters.dtype)
    if constraints:
        # So that independent constraints together have the rate.
        each = 1 - (1 - false_alarm) ** (1 / constraints)
        steps = float(parameters.violated[0]), float(parameters.kept[0])
        limit = violation_limit(steps, _FEW_VIOLATIONS, false_alarm=each, horizon=horizon)
        limits = jnp.full(constraints, limit, parameters.dtype)
    never = jnp.asarray(np.iinfo(np.int32).max, jnp.int32)
    return eqx.tree_at(
        lambda p: (p.contrast_limit, p.departure_limit, p.constraint_limit, p.forming_turns),
        parameters,
        (far, far, limits, never),
    )


def save_calibration(path: str | Path, calibration: Calibration) -> None:
    """Write `calibration` to `path`, whole or not at all; the same one gives the same bytes.

    **Raises** `OSError` if it cannot be written.
    """
    about = {"format": _FORMAT, "style_size": calibration.parameters.style_size}
    about |= {"provenance": asdict(calibration.provenance)}
    members = {"calibration.json": json.dumps(about, sort_keys=True).encode()}
    for name, leaf in _leaves(calibration).items():
        buffer = io.BytesIO()
        np.save(buffer, np.asarray(leaf), allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    write_archive(path, members, created_at=0.0)


def load_calibration(path: str | Path) -> Calibration:
    """The calibration that `save_calibration` wrote, with the same bits.

    **Raises** `OSError` if it cannot be read; `ValueError` if it is damaged or none, and for one
    in float64 while JAX is set to float32.
    """
    archive = read_archive(path)
    try:
        about = json.loads(archive.read("calibration.json"))
        if not isinstance(about, dict) or about.get("format") != _FORMAT:
            raise ValueError(f"{path} is not a calibration of format {_FORMAT}.")
        known = dict(about["provenance"])
        provenance = Provenance(**{**known, "key": tuple(known["key"])})
        arrays = {
            name.removesuffix(".npy"): _loaded(name, archive.read(name))
            for name in archive.names
            if name.endswith(".npy")
        }
        channels = TextChannels(**_below("channels/", arrays))
        inside: dict[str, Any] = _below("parameters/", arrays)
        parameters = MonitorParameters(**inside, style_size=int(about["style_size"]))
        return Calibration(channels, parameters, arrays["power"], provenance)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a whole calibration ({error!r}).") from error


def _leaves(calibration: Calibration) -> dict[str, Any]:
    """The arrays and numbers by their places."""
    leaves: dict[str, Any] = {"power": calibration.power}
    for part, module in (
        ("channels", calibration.channels),
        ("parameters", calibration.parameters),
    ):
        for field in fields(module):
            if field.name != "style_size":
                leaves[f"{part}/{field.name}"] = getattr(module, field.name)
    return leaves


def _below(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Any]:
    return {
        name.removeprefix(prefix): value
        for name, value in arrays.items()
        if name.startswith(prefix)
    }


def _loaded(name: str, data: bytes) -> Array:
    array = np.load(io.BytesIO(data), allow_pickle=False)
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise ValueError(f"{name} is in {array.dtype}, and JAX is set to 32 bits.")
    return jnp.asarray(array)


def _parameters(
    defaults: Sequence[Float[np.ndarray, " p"]],
    power: Float[np.ndarray, "2"],
    violations: Bool[np.ndarray, "n k"],
) -> MonitorParameters:
    """Parameters with limits out of reach, infinite for contrasts that are not used."""
    used = power >= LEAST_POWER
    default = np.concatenate([place * on for place, on in zip(defaults, used, strict=True)])
    ones = jnp.ones(2)
    variance = 1.0 - _PERSISTENCE**2
    broken = violations.sum(axis=0)
    # The upper end of what the replies allow: a sum that is tuned to too low a rate drifts upwards.
    seen = stats.beta.ppf(_SURE, broken + 0.5, len(violations) - broken + 0.5)
    few = (
        np.maximum(_FEW_VIOLATIONS, seen)
        if len(violations)
        else np.full_like(seen, _FEW_VIOLATIONS)
    )
    many = few + (1 - few) * _MORE_VIOLATIONS
    parameters = MonitorParameters(
        anchor=jnp.zeros(len(default)),
        default=jnp.asarray(default),
        persistence=_PERSISTENCE * ones,
        process_noise=_STATE_SHARE * variance * ones,
        observation_noise=(1.0 - _STATE_SHARE) * ones,
        contrast_limit=jnp.where(jnp.asarray(used), 1.0, jnp.inf),
        departure_limit=ones,
        constraint_limit=jnp.ones(len(few)),
        violated=jnp.asarray(np.log(many / few)),
        kept=jnp.asarray(np.log((1 - many) / (1 - few))),
        style_size=len(defaults[0]),
    )
    # Numbers as arrays, so that a calibration read from disk computes the same bits.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.asarray(leaf).dtype), parameters)


def _limited(parameters: MonitorParameters, null: NullModel, **options):
    """The parameters with the simulated limits, and the simulated rate of false alarms."""
    limits = simulated_limits(parameters, null, **options)
    limited = eqx.tree_at(
        lambda p: (p.contrast_limit, p.departure_limit, p.constraint_limit),
        parameters,
        tuple(jnp.asarray(limit, parameters.dtype) for limit in limits[:3]),
    )
    return limited, float(limits.rate)
