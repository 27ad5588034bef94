"""Low-rank adapters (LoRA): a small trainable change beside each of some frozen projections.

The adapters' parameters are of type `nnx.LoRAParam`, and nothing else is. That is the filter that
takes them alone: `nnx.Optimizer(model, transform, wrt=nnx.LoRAParam)` and
`nnx.grad(loss, argnums=nnx.DiffState(0, nnx.LoRAParam))`.

Source: Hu et al., "LoRA" (arXiv 2106.09685); files as PEFT writes them (`adapter_files.py`).
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from .._check import require_in
from .layers import Linear
from .model import Ouro
from .quantization import QuantizedLinear
from .weights import module_name

ATTENTION_AND_MLP = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclasses.dataclass(frozen=True)
class LoRAConfig:
    """Which projections are adapted, and how: W + scaling · (A B)ᵀ.

    **Arguments:** `rank`, of A [in, rank] and B [rank, out]; `alpha`, whose ratio to the rank is
    the scaling, or, with `use_rslora`, to its square root (arXiv 2312.03732); `target_modules`,
    published names of the adapted modules, or ends of such names after a dot.

    **Raises** `ValueError` for a rank below one, an alpha that is not positive, and no targets.
    """

    rank: int = 8
    alpha: float = 16.0
    target_modules: tuple[str, ...] = ATTENTION_AND_MLP
    use_rslora: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.rank, int) or isinstance(self.rank, bool) or self.rank < 1:
            raise ValueError(f"rank must be a positive whole number; got {self.rank!r}.")
        require_in("alpha", self.alpha, 0.0, open_low=True)
        if isinstance(self.target_modules, str) or not self.target_modules:
            raise ValueError(f"target_modules must be names; got {self.target_modules!r}.")
        object.__setattr__(self, "target_modules", tuple(self.target_modules))

    @property
    def scaling(self) -> float:
        """What A B is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.use_rslora else self.rank)

    def targets(self, name: str) -> bool:
        """Whether the module of that published name is adapted."""
        return any(name == end or name.endswith(f".{end}") for end in self.target_modules)


class AdaptedLinear(nnx.LoRA):
    """A projection and its adapter. A and B are float32, whatever the type of the model.

    B starts at zero, so a new adapter changes nothing.
    """

    def __init__(
        self,
        base: nnx.Module,
        inputs: int,
        outputs: int,
        config: LoRAConfig,
        *,
        dtype: DTypeLike,
        rngs: nnx.Rngs,
    ):
        super().__init__(inputs, config.rank, outputs, base_module=base, dtype=dtype, rngs=rngs)
        self.config = config

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        assert callable(self.base_module)
        down, up = self.lora_a[...].astype(x.dtype), self.lora_b[...].astype(x.dtype)
        return self.base_module(x) + (x @ down @ up) * jnp.asarray(self.config.scaling, x.dtype)

    @property
    def change(self) -> Float[Array, "*layers outputs inputs"]:
        """What is added to the weight: scaling · (A B)ᵀ, in float32."""
        scaling = jnp.float32(self.config.scaling)
        return scaling * jnp.swapaxes(self.lora_a[...] @ self.lora_b[...], -1, -2)


def add_adapter(model: Ouro, config: LoRAConfig, *, rngs: nnx.Rngs) -> Ouro:
    """The same model with new adapters, which shares its parameters. A has random numbers, B zeros.

    **Raises** `ValueError` for a model that has adapters or whose layers are stacked (stack them
    afterwards), and for a target that is none of its projections.
    """
    if not isinstance(model.layers, nnx.List):
        raise ValueError("adapters go to a model with its layers apart: unstack_layers first.")
    if any(True for _ in adapted(model)):
        raise ValueError("the model has adapters already: merge_adapter first.")
    copy = _shared(model)
    projections = {module_name(path): path for path, _ in _projections(copy)}
    chosen = {name: path for name, path in projections.items() if config.targets(name)}
    for end in config.target_modules:
        if not any(dataclasses.replace(config, target_modules=(end,)).targets(n) for n in chosen):
            ends = sorted({name.rsplit(".", 1)[-1] for name in projections})
            raise ValueError(f"target_modules names {end!r}; choose from {', '.join(ends)}.")
    for path in chosen.values():
        base = _at(copy, path)
        sizes = base.in_features, base.out_features
        _put(copy, path, AdaptedLinear(base, *sizes, config, dtype=copy.dtype, rngs=rngs))
    return copy


def merge_adapter(model: Ouro) -> Ouro:
    """A plain model whose projections have taken the adapters' changes in.

    Added in float32, then rounded to the type of the model.

    **Raises** `ValueError` if there is no adapter, or one beside a quantised projection.
    """
    copy = _shared(model)
    found = list(adapted(copy))
    if not found:
        raise ValueError("the model has no adapter to merge.")
    for path, adapter in found:
        base = adapter.base_module
        if not isinstance(base, Linear):
            raise ValueError(
                f"{module_name(path)} is quantised: merge before quantising, or keep the adapter."
            )
        weight = base.weight[...]
        base.weight = nnx.Param((weight.astype(jnp.float32) + adapter.change).astype(weight.dtype))
        _put(copy, path, base)
    return copy


def adapted(model: Ouro) -> Iterator[tuple[tuple, AdaptedLinear]]:
    """The adapters of a model, and where they are."""
    for path, module in nnx.iter_modules(model):
        if isinstance(module, AdaptedLinear):
            yield path, module


def _projections(model: Ouro) -> Iterator[tuple[tuple, Linear | QuantizedLinear]]:
    for path, module in nnx.iter_modules(model):
        if isinstance(module, Linear | QuantizedLinear):
            yield path, module


def _shared(model: Ouro) -> Ouro:
    """A copy whose modules can be replaced; the arrays are the same ones."""
    return nnx.merge(*nnx.split(model))


def _at(model: Ouro, path: tuple) -> Any:
    node: Any = model
    for part in path:
        node = node[part] if isinstance(part, int) else getattr(node, part)
    return node


def _put(model: Ouro, path: tuple, module: nnx.Module) -> None:
    setattr(_at(model, path[:-1]), path[-1], module)
