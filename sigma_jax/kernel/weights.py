"""A model's weights, read from and written to the published format."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array

from .checkpoint_files import (
    StoredTensor,
    check_tensors,
    find_directory,
    read_headers,
    read_tensors,
    replacing,
    write_tensors,
)
from .configuration import read_config
from .model import Ouro, unstack_layers

_ABOUT = ("config.json",)
_WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_ALIGNMENT = 64
_LEAVES = {"weight": "weight", "embedding": "weight", "scale": "weight", "bias": "bias"}


class _Place(NamedTuple):
    """Where a tensor of a checkpoint belongs, and its shape there."""

    path: tuple[Any, ...]
    shape: tuple[int, ...]


def load_model(
    source: str | Path,
    *,
    loops: int | None = None,
    dtype: DTypeLike | None = None,
    revision: str | None = None,
    progress: bool = False,
) -> Ouro:
    """Load a model from a directory of the published format, or from the Hugging Face hub.

    Names and shapes of the tensors must be exactly the model's; that is checked before memory is
    taken. The head of a model with tied embeddings may be absent; model and head then are two
    copies, free to part in training.

    **Arguments:** `source`, a directory with `config.json` and safetensors, one file or sharded,
    or, where there is no such directory, a hub's `owner/name`, then of `revision`; `loops`, T in
    place of the config's; `dtype`, float32 or bfloat16, by default bfloat16 where all tensors are
    stored so and float32 otherwise; `progress`, whether to show a bar.

    **Raises** `FileNotFoundError` for a directory or file that is not there and a hub that cannot
    be reached; `ValueError` naming file and tensor for what does not fit: another model type,
    tensors that are missing, not expected, of another shape, not of floating point or not finite,
    a file cut short, an index that names an absent file.
    """
    config = read_config(find_directory(source, _ABOUT, revision=revision), loops=loops)
    directory = find_directory(source, (*_ABOUT, *_WEIGHTS), revision=revision)
    stored = read_headers(directory)
    chosen = _chosen_dtype(dtype, stored)
    abstract = nnx.eval_shape(lambda: Ouro(config, rngs=nnx.Rngs(0), dtype=chosen))
    graph, state = nnx.split(abstract)
    places = _places(state)
    wanted = {name: place.shape for name, place in places.items()}
    if config.tie_word_embeddings and _HEAD not in stored:
        del wanted[_HEAD]
    check_tensors(directory, stored, wanted)

    def empty(name: str) -> np.ndarray:
        return _aligned(places[name].shape, chosen)

    arrays = {}
    for name, tensor in read_tensors(stored, empty, progress=progress):
        arrays[places[name].path] = jax.device_put(tensor)
    if config.tie_word_embeddings:
        _tie(arrays, places, directory)
    filled = [(path, leaf.replace(arrays[path])) for path, leaf in nnx.to_flat_state(state)]
    return nnx.merge(graph, nnx.from_flat_state(filled))


def save_model(
    model: Ouro,
    directory: str | Path,
    *,
    shard_size: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write `config.json` and the weights in the published format; they read back bit for bit.

    All is written beside `directory` and moved into it at the end. Files of others that are in it
    (a tokenizer, a model card) stay. A head that equals the embeddings of a tied model is left
    out; one that has parted from them is written, and the config then says so.

    **Arguments:** `shard_size`, at most how many bytes go into a file (one file unless given): as
    much memory is needed beside the model; `overwrite`, whether to replace the model that is
    there.

    **Raises** `ValueError` if there is one and not `overwrite`, if `shard_size` is below one, and
    for a model with adapters or quantised layers; `OSError` if it cannot be written.
    """
    if shard_size is not None and shard_size < 1:
        raise ValueError(f"shard_size must be at least one byte; got {shard_size}.")
    state = nnx.state(unstack_layers(model))
    places = _places(state)
    flat = {path: variable[...] for path, variable in nnx.to_flat_state(state)}
    fields = model.config.to_dict() | {"torch_dtype": str(model.dtype)}
    if model.config.tie_word_embeddings:
        head, embedding = flat[places[_HEAD].path], flat[places[_EMBEDDING].path]
        tied = bool(jnp.array_equal(head, embedding))
        fields["tie_word_embeddings"] = tied
        if tied:
            del places[_HEAD]

    def stored(name: str) -> np.ndarray:
        return np.asarray(flat[places[name].path])

    sizes = {name: flat[place.path].nbytes for name, place in places.items()}
    with replacing(Path(directory), (*_ABOUT, *_WEIGHTS), overwrite=overwrite) as stage:
        text = json.dumps(fields, indent=2) + "\n"
        (stage / "config.json").write_text(text, encoding="utf-8")
        write_tensors(stage, sizes, stored, shard_size=shard_size)


def module_name(path: tuple[Any, ...]) -> str:
    """The published name of the module at `path` of a model with its layers apart."""
    inside = ".".join(str(part) for part in path)
    return inside if path[0] == "lm_head" else f"model.{inside}"


def _places(state: nnx.State) -> dict[str, _Place]:
    places = {}
    for path, variable in nnx.to_flat_state(state):
        *module, leaf = path
        if str(leaf) not in _LEAVES:
            raise ValueError(
                f"{'.'.join(map(str, path))} has no place in a plain checkpoint: merge adapters "
                "first, and save a model before it is quantised."
            )
        name = f"{module_name(tuple(module))}.{_LEAVES[str(leaf)]}"
        places[name] = _Place(path, tuple(variable.shape))
    return places


def _chosen_dtype(dtype: DTypeLike | None, stored: dict[str, StoredTensor]) -> np.dtype:
    if dtype is None:
        all_narrow = all(tensor.dtype == "BF16" for tensor in stored.values())
        return jnp.dtype(jnp.bfloat16 if all_narrow else jnp.float32)
    if jnp.dtype(dtype) not in (jnp.float32, jnp.bfloat16):
        raise ValueError(f"dtype must be float32 or bfloat16; got {jnp.dtype(dtype)}.")
    return jnp.dtype(dtype)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that JAX takes over on a CPU as it is; where others begin, it copies them."""
    size = math.prod(shape) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size].view(dtype).reshape(shape)


def _tie(arrays: dict[tuple, Array], places: dict[str, _Place], directory: Path) -> None:
    head, embedding = places[_HEAD].path, arrays[places[_EMBEDDING].path]
    if head not in arrays:
        arrays[head] = jnp.array(embedding)
    elif not jnp.array_equal(arrays[head], embedding):
        raise ValueError(
            f"{directory}: the config says tie_word_embeddings, and {_HEAD} is not {_EMBEDDING}."
        )
