"""The peer of the state-VM benchmark: the reference's step as a plain eager PyTorch program.

A batch of trajectories, each a state `x` of `d` numbers and its covariance `Σ`, float32. A step is

    D = 1 + tr Σ / d                          dilation
    u = clip(π(x) · sigmoid(−(D − 1)), ±5)    the policy's control
    x ← x + f(x, u) dt + g(x) · D · √dt ξ     Euler–Maruyama
    Σ ← Σ + (A Σ + Σ Aᵀ + diag g² − Σ Σ / r) dt,  A = ∂f/∂x by automatic differentiation,

after which the eigenvalues of `Σ` are clamped to a floor and a ceiling. It is what one would write
in PyTorch without looking for another algorithm, but not slower than it need be: batched, without
gradients where none are used, products formed once, one forward pass for `f` and `A` together.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

HIDDEN = 64
DT = 0.05
CONTROL_LIMIT = 5.0
CONTROL_WEIGHT = 0.1
MEASUREMENT_VARIANCE = 1.0
"""`r`: the covariance is updated as if every coordinate were observed with noise of variance r."""
EIGENVALUE_FLOOR, EIGENVALUE_CEILING = 1e-4, 1e3

Jacobian = Literal["autograd", "closed"]
Row = dict[str, Tensor]


@dataclass(frozen=True)
class Net:
    """One hidden layer with SiLU, on the last axis."""

    inner: Tensor  # [64, inputs]
    inner_bias: Tensor  # [64]
    outer: Tensor  # [outputs, 64]
    outer_bias: Tensor  # [outputs]

    def __call__(self, inputs: Tensor) -> Tensor:
        hidden = functional.silu(functional.linear(inputs, self.inner, self.inner_bias))
        return functional.linear(hidden, self.outer, self.outer_bias)


@dataclass
class Peer:
    """A batch of trajectories: `x` is `[b, d]`, `sigma` is `[b, d, d]`; both may be set.

    A step's row holds the norms that cost next to nothing, as tensors `[b]`. The reference's own
    row also has a surprise and a rank by singular values, and goes to the host at every step; it is
    left out here, which makes the peer up to twice as fast.
    """

    drift: Net  # of [x, u]
    diffusion: Net  # of x, before the softplus
    policy: Net  # of x
    x: Tensor
    sigma: Tensor
    seed: int
    noise: bool
    jacobian: Jacobian
    steps_done: int = 0
    generator: torch.Generator = field(default_factory=torch.Generator)

    @torch.no_grad()
    def step(self) -> Row:
        """Advance every trajectory by `DT`; the row describes the state that it started from."""
        x, sigma = self.x, self.sigma
        trace = sigma.diagonal(dim1=-2, dim2=-1).sum(-1)
        dilation = 1 + trace / x.shape[-1]
        control = self.policy(x) * torch.sigmoid(1 - dilation)[:, None]
        control = control.clamp(-CONTROL_LIMIT, CONTROL_LIMIT)
        velocity, slope = LINEARISATIONS[self.jacobian](self.drift, x, control)
        diffusion = functional.softplus(self.diffusion(x))

        shift = DT * velocity
        if self.noise:
            # The reference's own rule, though runs with neighbouring seeds share noise by it.
            self.generator.manual_seed(self.seed + self.steps_done)
            normal = torch.randn(x.shape, generator=self.generator)
            shift = shift + math.sqrt(DT) * dilation[:, None] * diffusion * normal
        self.x = x + shift
        self.sigma = _covariance_step(sigma, slope, diffusion)
        self.steps_done += 1

        state_square, control_square = x.square().sum(-1), control.square().sum(-1)
        return {
            "state_norm": state_square.sqrt(),
            "trace": trace,
            "control_norm": control_square.sqrt(),
            "dilation": dilation,
            "velocity_norm": velocity.norm(dim=-1),
            "cost": state_square + CONTROL_WEIGHT * control_square,
        }

    def run(self, steps: int, threads: int) -> list[Row]:
        """Take that many steps, one Python call each; the rows of all of them."""
        torch.set_num_threads(threads)
        return [self.step() for _ in range(steps)]


def make_peer(
    dim: int,
    batch: int,
    control_dim: int,
    seed: int,
    weights: Mapping[str, np.ndarray],
    *,
    noise: bool = True,
    jacobian: Jacobian = "autograd",
) -> Peer:
    """A batch that starts at standard normal states with Σ = I, target at the origin.

    `weights` gives each of the nets `drift`, `diffusion` and `policy` as `NAME_inner`
    `[64, inputs]`, `NAME_inner_bias`, `NAME_outer` `[outputs, 64]` and `NAME_outer_bias`.
    """
    generator = torch.Generator().manual_seed(seed)
    return Peer(
        drift=_net("drift", dim + control_dim, dim, weights),
        diffusion=_net("diffusion", dim, dim, weights),
        policy=_net("policy", dim, control_dim, weights),
        x=torch.randn(batch, dim, generator=generator),
        sigma=torch.eye(dim).repeat(batch, 1, 1),
        seed=seed,
        noise=noise,
        jacobian=jacobian,
    )


# The parts of a step ---------------------------------------------------------------------------


def _covariance_step(sigma: Tensor, slope: Tensor, diffusion: Tensor) -> Tensor:
    """Explicit Euler on the Riccati equation, then the eigenvalues clamped."""
    product = slope @ sigma
    rate = product + product.mT - sigma @ sigma / MEASUREMENT_VARIANCE
    rate.diagonal(dim1=-2, dim2=-1).add_(diffusion.square())
    values, vectors = torch.linalg.eigh(sigma + DT * rate)
    values = values.clamp(EIGENVALUE_FLOOR, EIGENVALUE_CEILING)
    return (vectors * values[:, None, :]) @ vectors.mT


# f and A = ∂f/∂x, two ways --------------------------------------------------------------------


def _by_autograd(drift: Net, x: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
    """One forward pass, and one backward pass vectorised over the `d` rows of `A`.

    About as fast as `torch.func` over the larger batches, and faster over the small ones.
    """
    batch, dim = x.shape
    with torch.enable_grad():
        point = x.detach().requires_grad_()
        values = drift(torch.cat((point, control), -1))
    rows = torch.eye(dim)[:, None].expand(dim, batch, dim)
    (slope,) = torch.autograd.grad(values, point, rows, is_grads_batched=True)
    return values.detach(), slope.transpose(0, 1)


def _by_hand(drift: Net, x: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
    """The chain rule written out: `A = W₂ diag(silu′(h)) W₁`, W₁ without the control's columns."""
    hidden = functional.linear(torch.cat((x, control), -1), drift.inner, drift.inner_bias)
    gate = torch.sigmoid(hidden)
    values = functional.linear(hidden * gate, drift.outer, drift.outer_bias)
    silu_slope = gate * (1 + hidden * (1 - gate))
    return values, (drift.outer * silu_slope[:, None]) @ drift.inner[:, : x.shape[-1]]


LINEARISATIONS: dict[Jacobian, Callable[[Net, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "autograd": _by_autograd,
    "closed": _by_hand,
}


# Weights ---------------------------------------------------------------------------------------


def _net(name: str, inputs: int, outputs: int, weights: Mapping[str, np.ndarray]) -> Net:
    shapes = {
        "inner": (HIDDEN, inputs),
        "inner_bias": (HIDDEN,),
        "outer": (outputs, HIDDEN),
        "outer_bias": (outputs,),
    }
    parts = {part: torch.tensor(weights[f"{name}_{part}"], dtype=torch.float32) for part in shapes}
    for part, shape in shapes.items():
        if parts[part].shape != shape:
            raise ValueError(f"{name}_{part} must be {shape}, is {tuple(parts[part].shape)}")
    return Net(**parts)
