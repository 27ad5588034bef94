"""What a monitor knows before a conversation: a linear model of it, and limits."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._check import require_in
from ..vm import LinearNode


class MonitorParameters(eqx.Module):
    """All that a monitor knows before a conversation, in whitened coordinates y = W (φ − m).

    Per channel: a reply is y = x + v, v of variance `observation_noise`; the state x returns to the
    anchor, x⁺ = x* + a (x − x*) + w, w of variance `process_noise`, the same in every coordinate
    of a channel.

    **Raises** `ValueError` for shapes that do not match or values out of range.
    """

    anchor: Float[Array, " d"]
    """x*, where replies with the identity are."""
    default: Float[Array, " d"]
    """μ₀, where replies of the same model without the identity are."""
    persistence: Float[Array, "2"]
    """a, in [0, 1)."""
    process_noise: Float[Array, "2"]
    observation_noise: Float[Array, "2"]
    contrast_limit: Float[Array, "2"]
    """Of the contrastive sums; infinite where there is no contrast to see."""
    departure_limit: Float[Array, "2"]
    """Of T²."""
    constraint_limit: Float[Array, " k"]
    violated: Float[Array, " k"]
    """ln(p₁/p₀), the step of a constraint's sum at a violation."""
    kept: Float[Array, " k"]
    """ln((1 − p₁)/(1 − p₀)), its step otherwise."""
    slack: float | Float[Array, ""] = 0.25
    """What the contrastive sums lose every turn; their steps are within ±`clip`."""
    clip: float | Float[Array, ""] = 1.5
    memory: float | Float[Array, ""] = 0.2
    """λ of the moving average of innovations, in (0, 1]."""
    robustness: float | Float[Array, ""] = 1.5
    """c: an innovation longer than c √d standard deviations counts as one of that length."""
    commanded_inflation: float | Float[Array, ""] = 24.0
    """The observation noise is 1 + this times as large where a style is commanded."""
    dispersion_memory: float | Float[Array, ""] = 0.05
    """Weight of the newest turn in the dispersion: about 20 turns count."""
    crystallised_below: float | Float[Array, ""] = 0.35
    forming_turns: int | Int[Array, ""] = 3
    """No phase is read off fewer observations."""
    style_size: int = eqx.field(static=True, default=14)
    """How many of the d coordinates are the style's; they come first."""

    def __check_init__(self):
        size, constraints = np.shape(self.anchor), np.shape(self.violated)
        if len(size) != 1 or np.shape(self.default) != size or not 0 <= self.style_size <= size[0]:
            raise ValueError(
                "anchor and default must be [d], and style_size in [0, d]; got shapes "
                f"{size} and {np.shape(self.default)}, and {self.style_size}."
            )
        for name in ("constraint_limit", "kept"):
            if np.shape(getattr(self, name)) != constraints or len(constraints) != 1:
                raise ValueError(
                    f"violated, kept and constraint_limit must be [k]; got {constraints} and, of "
                    f"{name}, {np.shape(getattr(self, name))}."
                )
        for name in ("process_noise", "observation_noise", "contrast_limit", "departure_limit"):
            require_in(name, getattr(self, name), 0.0, open_low=True)
        require_in("persistence", self.persistence, 0.0, 1.0 - 1e-6)
        require_in("memory", self.memory, 0.0, 1.0, open_low=True)
        require_in("robustness", self.robustness, 0.0, open_low=True)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many coordinates the style and the content have."""
        return self.style_size, self.anchor.shape[0] - self.style_size

    @property
    def dtype(self):
        """The type of the state."""
        return self.anchor.dtype


def stationary_variance(parameters: MonitorParameters) -> Float[Array, "2"]:
    """q/(1 − a²): the variance of the state's own motion about the anchor."""
    return parameters.process_noise / (1.0 - parameters.persistence**2)


def monitor_node(parameters: MonitorParameters) -> LinearNode:
    """The model of a conversation as a node of the state machine, with a turn as unit of time.

    Its drift is (a − 1)(x − x*), its noise √q. A step of 1 by Euler–Maruyama is exact.
    """
    p = parameters
    rate = spread_over(p, p.persistence - 1.0)
    noise = jnp.sqrt(spread_over(p, p.process_noise))
    return LinearNode(jnp.diag(rate), noise=noise, centre=p.anchor)


def spread_over(p: MonitorParameters, channels: Float[Array, "2"]) -> Float[Array, " d"]:
    """What each coordinate's channel has."""
    return jnp.repeat(channels, np.array(p.sizes), total_repeat_length=sum(p.sizes))
