"""Adapters read from and written to PEFT's format: a JSON config and safetensors."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from .adapters import LoRAConfig, adapted, add_adapter
from .checkpoint_files import (
    check_tensors,
    find_directory,
    read_headers,
    read_tensors,
    replacing,
    write_tensors,
)
from .json_files import read_json
from .model import Ouro, unstack_layers
from .weights import module_name

_CONFIG, _STEM = "adapter_config.json", "adapter_model"
_FILES = (_CONFIG, f"{_STEM}.safetensors")
_PREFIX = "base_model.model."
_READ = ("peft_type", "r", "lora_alpha", "target_modules", "use_rslora")
# What changes nothing about what the adapter computes: where it came from, how it was started,
# what is only done in training, and settings of variants that are switched on elsewhere.
_HARMLESS = (
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "inference_mode",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
)
_HARMLESS_VALUES = {"bias": ("none",), "init_lora_weights": (True, False, "gaussian")}


def load_adapter(model: Ouro, source: str | Path, *, revision: str | None = None) -> Ouro:
    """The same model with the adapters of a PEFT directory, from disk or the Hugging Face hub.

    **Arguments:** `model`, without adapters and with its layers apart; `source` and `revision`, as
    for `load_model`. Dropout is not applied.

    **Raises** `FileNotFoundError` for files that are not there; `ValueError` for a kind of adapter
    that is not supported, naming the field, and for tensors that do not fit the model.
    """
    directory = find_directory(source, _FILES, revision=revision)
    config = _read_config(directory / _CONFIG)
    with_adapters = add_adapter(model, config, rngs=nnx.Rngs(0))
    modules = {_tensor_name(path): module for path, module in adapted(with_adapters)}
    wanted = {}
    for name, module in modules.items():
        wanted[f"{name}.lora_A.weight"] = module.lora_a.shape[::-1]
        wanted[f"{name}.lora_B.weight"] = module.lora_b.shape[::-1]
    stored = read_headers(directory, stem=_STEM)
    check_tensors(directory, stored, wanted)
    for name, tensor in read_tensors(stored, lambda name: np.empty(wanted[name], np.float32)):
        module, which, _ = name.rsplit(".", 2)
        parameter = nnx.LoRAParam(jnp.asarray(np.ascontiguousarray(tensor.T)))
        setattr(modules[module], which.lower(), parameter)
    return with_adapters


def save_adapter(model: Ouro, directory: str | Path, *, overwrite: bool = False) -> None:
    """Write the adapters of a model, alone, in PEFT's format; they read back bit for bit.

    All is written beside what `directory` holds and moved into place at the end.

    **Arguments:** `overwrite`, whether to replace an adapter that is there.

    **Raises** `ValueError` if the model has no adapter, or if there is one and not `overwrite`.
    """
    found = dict(adapted(unstack_layers(model)))
    if not found:
        raise ValueError("the model has no adapter to save.")
    tensors: dict[str, np.ndarray] = {}
    for path, module in found.items():
        for which, parameter in (("A", module.lora_a), ("B", module.lora_b)):
            name = f"{_tensor_name(path)}.lora_{which}.weight"
            tensors[name] = np.ascontiguousarray(np.asarray(parameter[...]).T)
    config = next(iter(found.values())).config
    with replacing(Path(directory), _FILES, overwrite=overwrite) as stage:
        text = json.dumps(_fields(config), indent=2) + "\n"
        (stage / _CONFIG).write_text(text, encoding="utf-8")
        sizes = {name: tensor.nbytes for name, tensor in tensors.items()}
        write_tensors(stage, sizes, tensors.__getitem__, stem=_STEM)


def _tensor_name(path: tuple) -> str:
    return _PREFIX + module_name(path)


def _fields(config: LoRAConfig) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": config.rank,
        "lora_alpha": config.alpha,
        "target_modules": list(config.target_modules),
        "use_rslora": config.use_rslora,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "base_model_name_or_path": None,
    }


def _read_config(path: Path) -> LoRAConfig:
    fields = read_json(path)
    if fields.get("peft_type") != "LORA":
        raise ValueError(f"{path} is of type {fields.get('peft_type')!r}; only LORA is supported.")
    missing = [name for name in _READ[1:4] if name not in fields]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}.")
    for name, value in fields.items():
        allowed = _HARMLESS_VALUES.get(name, ())
        if value and name not in (*_READ, *_HARMLESS) and value not in allowed:
            raise ValueError(f"{path} asks for {name} = {value!r}, which is not supported.")
    targets = fields["target_modules"]
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        raise ValueError(f"{path}: target_modules must be a list of names; got {targets!r}.")
    try:
        return LoRAConfig(
            rank=fields["r"],
            alpha=fields["lora_alpha"],
            target_modules=tuple(targets),
            use_rslora=bool(fields.get("use_rslora")),
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None
