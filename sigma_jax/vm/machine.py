"""The state machine: which nodes, under what control, watched how; and the state it advances."""

from collections.abc import Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key

from .._check import concrete, require_in, require_number
from ..solvers import EulerMaruyama, Observation, require_covariance
from ..stability import surprise_threshold
from .costs import StageCost
from .intervention import InterventionPolicy
from .nodes import Node, require_node
from .policies import Controller


class SurpriseMonitor(eqx.Module):
    """Compares every step with what the active node had predicted, by its normalised innovation.

    A sensor sees y = C x + v of the state after the step, v of variance `noise`. The prediction
    is the machine's own: mean C (x + f dt), covariance C diag(g D)² Cᵀ dt + noise I, as the state
    before the step is known. On a run that behaves as its node says, the normalised innovation
    squared is χ² with as many degrees of freedom as there are observations, whatever the node is.

    **Arguments:** `noise`, a variance; `threshold` of the normalised innovation squared, by
    default m + 3 √(2m) for m observations.

    **Raises** `ValueError` for a noise or threshold that is not positive.
    """

    noise: float | Float[Array, ""] = 0.01
    threshold: float | Float[Array, ""] | None = None

    def __check_init__(self):
        require_in("monitor.noise", self.noise, 0.0, open_low=True)
        if self.threshold is not None:
            require_in("monitor.threshold", self.threshold, 0.0, open_low=True)

    def flag(self, squared: Float[Array, "..."], observations: int) -> Bool[Array, "..."]:
        """Whether a normalised innovation squared is beyond the threshold."""
        threshold = self.threshold
        return squared > (surprise_threshold(observations) if threshold is None else threshold)


class StateMachine(eqx.Module):
    """Everything but the state: nodes by name, controller, cost, observation, monitor, policy.

    **Arguments:**

    - `nodes`: a mapping from names to nodes of the same dimensions; one is active at a time.
    - `controller`, `cost`: see `Controller`, `StageCost`.
    - `observation`: C and R of the Riccati equation.
    - `scheme`: how the state is stepped: `EulerMaruyama()`, `Milstein()`, `WeakEuler()`.
    - `monitor`: watches for surprises; None for none.
    - `policy`: what may be done about a collapse or a surprise; None looks for neither.
    - `swap_tolerance`: a swap whose relative drift is not below it is refused.
    - `bound`: a state beyond this norm counts as diverged.

    **Raises** `ValueError` for no node, or nodes or an observation whose dimensions do not agree.
    """

    nodes: dict[str, Node]
    controller: Controller = Controller()
    cost: StageCost = StageCost()
    observation: Observation = Observation()
    scheme: EulerMaruyama = EulerMaruyama()
    monitor: SurpriseMonitor | None = SurpriseMonitor()
    policy: InterventionPolicy | None = InterventionPolicy()
    swap_tolerance: float = 0.25
    bound: float = 1e6

    def __check_init__(self):
        require_in("swap_tolerance", self.swap_tolerance, 0.0)
        require_in("bound", self.bound, 0.0, open_low=True)
        if not isinstance(self.nodes, Mapping) or not self.nodes:
            raise ValueError("nodes must be a mapping from names to nodes, with one at least.")
        sizes = {name: (node.dim, node.control_dim) for name, node in self.nodes.items()}
        if len(set(sizes.values())) > 1:
            shown = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise ValueError(f"all nodes need the same (dim, control_dim); got {shown}.")
        matrix = self.observation.matrix
        if matrix is not None and np.shape(matrix)[1] != self.dim:
            raise ValueError(
                f"observation.matrix has {np.shape(matrix)[1]} columns, but the nodes have "
                f"dim = {self.dim}."
            )
        noise = np.shape(self.observation.covariance)
        if matrix is None and noise not in ((), (self.dim, self.dim)):
            raise ValueError(
                f"observation.covariance must be a number or [{self.dim}, {self.dim}]; "
                f"got shape {noise}."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The nodes' names in the order of their indices."""
        return tuple(sorted(self.nodes))

    @property
    def dim(self) -> int:
        """d, the length of the state."""
        return next(iter(self.nodes.values())).dim

    @property
    def control_dim(self) -> int:
        """m, the length of the control."""
        return next(iter(self.nodes.values())).control_dim

    def index(self, name: str) -> int:
        """The index of a node; raises `ValueError` for a name that there is not."""
        if name not in self.nodes:
            raise ValueError(f"there is no node {name!r}; choose from {', '.join(self.names)}.")
        return self.names.index(name)


class State(eqx.Module):
    """What the machine advances: one trajectory, or many along a leading axis of every field.

    `step` is the machine's clock, and common to all of them.
    """

    x: Float[Array, "*batch d"]
    covariance: Float[Array, "*batch d d"]
    active: Int[Array, "*batch"]
    """Index of the active node, in the order of `StateMachine.names`."""
    spent: Int[Array, "*batch"]
    """Interventions so far."""
    surprised: Bool[Array, "*batch"]
    """Whether the last step came as a surprise."""
    diverged: Int[Array, "*batch"]
    """The step at which a trajectory diverged and was stopped, or −1."""
    key: Key[Array, "*batch"]
    """Replays the trajectory's noise, whatever batch it is in."""
    step: Int[Array, ""]


def initial_state(
    machine: StateMachine,
    x: ArrayLike,
    covariance: ArrayLike,
    *,
    key: Key[Array, ""],
    active: str | None = None,
) -> State:
    """The state at step 0. Trajectory i of a batch gets the key `fold_in(key, i)`.

    **Arguments:** `x`, `[d]` or `[batch, d]`; `covariance`, `[d, d]` or `[batch, d, d]`, one for
    all if x has a batch and it has none; `active`, the name of the first active node, by default
    the first by name. The dtype is that of `x`.

    **Raises** `ValueError` for shapes that do not fit, a state that is not finite, a covariance
    that is not symmetric positive definite, an unknown node, or a node whose functions return
    another shape or values that are not finite.
    """
    require_number("x", x)
    require_covariance("covariance", covariance)
    x = jnp.asarray(x, jnp.result_type(float) if not hasattr(x, "dtype") else None)
    if x.ndim not in (1, 2) or x.shape[-1] != machine.dim:
        raise ValueError(f"x must be [{machine.dim}] or [batch, {machine.dim}]; got {x.shape}.")
    values = concrete(x)
    if values is not None and not np.isfinite(values).all():
        raise ValueError("x must be finite.")
    covariance = jnp.asarray(covariance, x.dtype)
    batch = x.shape[:-1]
    shapes = {(machine.dim, machine.dim), (*batch, machine.dim, machine.dim)}
    if covariance.shape not in shapes:
        raise ValueError(f"covariance must be {sorted(shapes)}; got {covariance.shape}.")
    for name, node in machine.nodes.items():
        require_node(name, node, x.dtype)
    index = machine.index(active) if active is not None else 0
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch[0])) if batch else key
    return State(
        x=x,
        covariance=jnp.broadcast_to(covariance, (*batch, machine.dim, machine.dim)),
        active=jnp.full(batch, index, jnp.int32),
        spent=jnp.zeros(batch, jnp.int32),
        surprised=jnp.zeros(batch, bool),
        diverged=jnp.full(batch, -1, jnp.int32),
        key=keys,
        step=jnp.zeros((), jnp.int32),
    )
