"""Directories of weights: found here or on a hub, checked from their headers, read, written whole.

Nothing here knows a model. A checkpoint is `<stem>.safetensors`, or the shards that
`<stem>.safetensors.index.json` lists.
"""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from tqdm import tqdm

from .json_files import read_json

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}
_SHOWN = 3
_BLOCK = 2**22
"""Bytes that are read at a time."""


class StoredTensor(NamedTuple):
    """What a file's header says of one tensor."""

    file: Path
    shape: tuple[int, ...]
    dtype: str
    """As safetensors names it: F32, BF16, …"""
    offset: int
    """Where in the file it begins."""

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return int(np.prod(self.shape, dtype=np.int64)) * _DTYPES[self.dtype].itemsize


def find_directory(
    source: str | Path, patterns: Sequence[str], *, revision: str | None = None
) -> Path:
    """The directory `source`, or a copy of what matches `patterns` of the hub's `owner/name`.

    **Arguments:** `revision`, a branch, tag or commit of the hub's.

    **Raises** `FileNotFoundError` if there is no such directory, and nothing of that name can be
    had from the hub.
    """
    path = Path(source)
    if path.is_dir():
        return path
    if isinstance(source, Path) or _HUB_ID.fullmatch(source) is None:
        raise FileNotFoundError(f"there is no directory {source}.")
    import huggingface_hub  # a network client: only what is not here needs it

    try:
        found = huggingface_hub.snapshot_download(
            source, revision=revision, allow_patterns=list(patterns)
        )
    except Exception as error:  # whatever the connection fails with
        cause = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(
            f"there is no directory {source}, and the Hugging Face hub did not give it: {cause}"
        ) from error
    return Path(found)


def read_headers(directory: Path, *, stem: str = "model") -> dict[str, StoredTensor]:
    """What the headers of a checkpoint say of each tensor. No tensor is read.

    **Raises** `FileNotFoundError` if it is not there; `ValueError` for a file that is damaged or
    cut short, an index that names an absent file or does not agree with the files, and tensors
    that are not of floating point.
    """
    single = directory / f"{stem}.safetensors"
    index = directory / f"{stem}.safetensors.index.json"
    if single.is_file():
        return _file_headers(single)
    if not index.is_file():
        raise FileNotFoundError(f"{directory} holds neither {single.name} nor {index.name}.")
    listed = _listed(index)
    found: dict[str, StoredTensor] = {}
    for name in sorted(set(listed.values())):
        if not (directory / name).is_file():
            raise ValueError(f"{index} names the file {name}, which is not there.")
        inside = _file_headers(directory / name)
        promised = {tensor for tensor, file in listed.items() if file == name}
        where = f"{directory / name} does not hold what {index.name} says"
        _raise_differences(where, inside.keys(), promised)
        found |= inside
    return found


def _listed(index: Path) -> dict[str, str]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise ValueError(f"{index} has no weight_map.")
    for name in listed.values():
        # A file beside the index, and nowhere else.
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{index} names {name!r}, which is not the name of a file.")
    return listed


def _file_headers(path: Path) -> dict[str, StoredTensor]:
    try:
        # It checks that the header is sound and covers the file, without a gap or an overlap.
        with safe_open(path, framework="np"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short: {error}") from None
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for name, fields in header.items():
        if fields["dtype"] not in _DTYPES:
            raise ValueError(
                f"{name} in {path} is of type {fields['dtype']}; weights must be of one of "
                f"{', '.join(_DTYPES)}."
            )
    return {
        name: StoredTensor(
            path, tuple(fields["shape"]), fields["dtype"], 8 + length + fields["data_offsets"][0]
        )
        for name, fields in header.items()
    }


def check_tensors(
    where: Path, found: Mapping[str, StoredTensor], wanted: Mapping[str, tuple[int, ...]]
) -> None:
    """Raise `ValueError` unless the names and shapes are exactly those that are wanted."""
    wrong = [
        f"{name} is {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape
    ]
    _raise_differences(f"{where} does not fit the model", found.keys(), wanted.keys(), wrong)


def _raise_differences(
    problem: str, found: Iterable[str], wanted: Iterable[str], wrong: Sequence[str] = ()
) -> None:
    present, expected = set(found), set(wanted)
    differences = {
        "missing": sorted(expected - present),
        "not expected": sorted(present - expected),
        "of another shape": wrong,
    }
    told = [f"{kind}: {_some(names)}" for kind, names in differences.items() if names]
    if told:
        raise ValueError(f"{problem}; {'; '.join(told)}.")


def _some(names: Sequence[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def read_tensors(
    tensors: Mapping[str, StoredTensor],
    empty: Callable[[str], np.ndarray],
    *,
    progress: bool = False,
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors one at a time, the largest first, each read into what `empty(name)` gives.

    That may be of another type and of any layout: a few rows at a time are read and copied, so
    hardly any memory is needed beside it. Files are not mapped: a mapped file's pages would count.

    **Raises** `ValueError` for a tensor that holds a NaN or an infinity, or has one in that type.
    """
    order = sorted(tensors, key=lambda name: -tensors[name].size)
    total = sum(tensor.size for tensor in tensors.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc="weights", disable=not progress) as bar:
        for name in order:
            target = empty(name)
            for start, block in _blocks(tensors[name]):
                target[start : start + len(block)] = block
                if not np.isfinite(target[start : start + len(block)]).all():
                    raise ValueError(
                        f"{name} in {tensors[name].file} holds a NaN, an infinity or, in "
                        f"{target.dtype}, a number out of range."
                    )
                bar.update(block.nbytes)
            yield name, target


def _blocks(tensor: StoredTensor) -> Iterator[tuple[int, np.ndarray]]:
    """A few rows at a time, and where they begin."""
    count, *rest = tensor.shape
    width = int(np.prod(rest, dtype=np.int64))
    kind = _DTYPES[tensor.dtype]
    rows = max(1, _BLOCK // (width * kind.itemsize))
    with tensor.file.open("rb") as file:
        file.seek(tensor.offset)
        for start in range(0, count, rows):
            read = np.fromfile(file, kind, min(rows, count - start) * width)
            yield start, read.reshape(-1, *rest)


def write_tensors(
    directory: Path,
    sizes: Mapping[str, int],
    tensor: Callable[[str], np.ndarray],
    *,
    stem: str = "model",
    shard_size: int | None = None,
) -> None:
    """Write tensors as one file, or as shards of at most `shard_size` bytes and their index.

    **Arguments:** `sizes`, bytes by name; `tensor`, gives the array of a name. A larger tensor has
    a shard to itself.
    """
    shards: list[list[str]] = [[]]
    room = limit = float("inf") if shard_size is None else shard_size
    for name in sorted(sizes):
        if shards[-1] and sizes[name] > room:
            shards.append([])
            room = limit
        shards[-1].append(name)
        room -= sizes[name]
    files = [f"{stem}-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        files = [f"{stem}.safetensors"]
    for names, file in zip(shards, files, strict=True):
        # Other readers of the format ask whose layout it is; ours is PyTorch's, [out, in].
        path = directory / file
        path.touch()
        mode = path.stat().st_mode
        save_file({name: tensor(name) for name in names}, path, {"format": "pt"})
        path.chmod(mode)  # what any new file gets, where safetensors shuts out all but the owner
    if len(shards) > 1:
        places = {n: file for names, file in zip(shards, files, strict=True) for n in names}
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places}
        path = directory / f"{stem}.safetensors.index.json"
        path.write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


@contextlib.contextmanager
def replacing(directory: Path, mine: Sequence[str], *, overwrite: bool) -> Iterator[Path]:
    """A new directory to write into, whose files are moved into `directory` if all went well.

    Other files that are there stay.

    **Arguments:** `mine`, patterns of the files that belong to what is written. If there are any,
    they are replaced, those that are not written again included, if `overwrite`.

    **Raises** `ValueError` if there are some and not `overwrite`, or if it is not a directory.
    """
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is not a directory.")
    old = [path for pattern in mine for path in directory.glob(pattern)]
    if old and not overwrite:
        raise ValueError(
            f"{directory} already holds {_some(sorted(path.name for path in old))}: name another "
            "directory, or say overwrite=True."
        )
    made = not directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        # Inside it, for it may be a file system of its own, into which nothing can be moved.
        with tempfile.TemporaryDirectory(dir=directory, prefix=".writing-") as stage:
            yield Path(stage)
            written = sorted(os.listdir(stage))
            for name in written:
                os.replace(Path(stage) / name, directory / name)
    except BaseException:
        if made:
            directory.rmdir()
        raise
    for path in old:
        if path.name not in written:
            path.unlink()
