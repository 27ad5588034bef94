"""Snapshots of a run, {x, Σ, trace}, in a CSF-Pack archive from which it goes on bit for bit."""

import io
import math
import operator
import reprlib
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
from jaxtyping import Float

from .._check import require_in
from .archive import Archive, ArchiveError, read_archive, write_archive
from .compression import Codec
from .manifests import json_bytes, json_object

FORMAT = "sigma0-kernel-snapshot/1"
_PUBLISHED = ("meta.json", "x.npy", "sigma.npy", "trace.json")
_META = ("active_id", "base_seed", "dt", "step", "x_shape", "sigma_shape")
_TRACE = ("steps", "swaps", "collapses")


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Where a run stands: enough to go on with it, given the node that `active_id` names.

    **Arguments:** `active_id`, the node in use (its weights are not in here); `base_seed`, whose
    noise the run follows; `dt`, the length of a step, > 0; `step`, how many are done; `x` and
    `covariance`, float32 or float64, finite, of any batch shape; `trace`, the lists `steps`,
    `swaps` and `collapses` of what JSON can say; `extra`, further members of the archive by name,
    which programs that do not know them pass over.

    **Raises** `ValueError`, naming the argument, for anything else.
    """

    active_id: str
    base_seed: int
    dt: float
    step: int
    x: Float[np.ndarray, "*batch d"]
    covariance: Float[np.ndarray, "*batch d d"]
    trace: Mapping[str, list[Any]] = field(default_factory=lambda: {key: [] for key in _TRACE})
    extra: Mapping[str, bytes] = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.active_id, str):
            raise ValueError(f"active_id must be text; got {reprlib.repr(self.active_id)}.")
        settled = {
            "base_seed": _whole("base_seed", self.base_seed),
            "dt": _step_length(self.dt),
            "step": _whole("step", self.step),
            "x": _state("x", self.x),
            "covariance": _state("covariance", self.covariance),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)
        require_in("step", self.step, 0)
        if self.x.ndim < 1 or self.covariance.shape != (*self.x.shape, self.x.shape[-1]):
            shapes = f"{self.x.shape} and {self.covariance.shape}"
            raise ValueError(f"x and covariance must be [..., d] and [..., d, d]; got {shapes}.")
        if self.x.dtype != self.covariance.dtype:
            both = f"{self.x.dtype} and {self.covariance.dtype}"
            raise ValueError(f"x and covariance must be of one precision; got {both}.")
        shown = reprlib.repr(self.trace)
        lists = isinstance(self.trace, Mapping) and set(self.trace) == set(_TRACE)
        if not lists or not all(isinstance(value, list) for value in self.trace.values()):
            raise ValueError(f"trace must hold the lists {', '.join(_TRACE)}; got {shown}.")
        if taken := [name for name in _PUBLISHED if name in self.extra]:
            raise ValueError(f"extra must not hold {taken}, which the snapshot itself writes.")


def save_snapshot(path: str | Path, snapshot: Snapshot, *, codec: Codec = "zstd") -> None:
    """Write `snapshot` to `path`, which holds the old file or all of the new one.

    **Raises** `ValueError` naming what JSON cannot say in `trace` (NaN included), or as
    `write_archive` does.
    """
    meta = {
        "format": FORMAT,
        "active_id": snapshot.active_id,
        "base_seed": snapshot.base_seed,
        "dt": snapshot.dt,
        "step": snapshot.step,
        "x_shape": snapshot.x.shape,
        "sigma_shape": snapshot.covariance.shape,
    }
    trace = {"base_seed": snapshot.base_seed, "dt": snapshot.dt, **snapshot.trace}
    members = {
        "meta.json": json_bytes("the snapshot", meta),
        "x.npy": npy_bytes(snapshot.x),
        "sigma.npy": npy_bytes(snapshot.covariance),
        "trace.json": json_bytes("trace", trace),
    }
    write_archive(path, members | dict(snapshot.extra), codec=codec)


def load_snapshot(source: str | Path | bytes) -> Snapshot:
    """Read a snapshot, ours or another program's: a file, or the bytes of one.

    **Raises** `ArchiveError`, naming the file and what is wrong with it: whatever `read_archive`
    refuses, a member missing, another format, an array that is pickled or not as long as it says,
    shapes in `meta.json` that are not the arrays', or a value that `Snapshot` refuses.
    `OSError` if the file cannot be read.
    """
    archive = read_archive(source)
    try:
        return _snapshot(archive)
    except ArchiveError:
        raise
    except ValueError as error:
        raise ArchiveError(f"{archive.source}: {error}") from error


def npy_bytes(array: np.ndarray) -> bytes:
    """`array` in NumPy's own format, for `Snapshot.extra`; never a pickle.

    **Raises** `ValueError` for an array of objects.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def npy_array(name: str, data: bytes) -> np.ndarray:
    """The array of numbers in `data`, bit for bit, in this machine's byte order.

    **Raises** `ValueError`, naming `name`, unless `data` is a NumPy file of booleans, integers
    or floats and exactly as long as its shape asks for.
    """
    stream = io.BytesIO(data)
    formats = np.lib.format
    readers = {(1, 0): formats.read_array_header_1_0, (2, 0): formats.read_array_header_2_0}
    try:
        shape, column_major, dtype = readers[formats.read_magic(stream)](stream)
    except _BAD_HEADER as error:
        raise ValueError(f"{name} is not a NumPy array file ({error}).") from error
    if dtype.kind not in "biuf":  # an array of objects is a pickle, and that can run anything
        raise ValueError(f"{name} must hold numbers; its type is {dtype}.")
    # Compared first: NumPy would set aside what the shape asks for, however much that is.
    asked, there = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if min(shape, default=0) < 0 or asked != there:
        raise ValueError(f"{name} of shape {shape} takes {asked} bytes; there are {there}.")
    order = "F" if column_major else "C"
    try:
        array = np.ndarray(shape, dtype, buffer=data, offset=stream.tell(), order=order)
    except ValueError as error:  # nothing times 10**30 is as long as it says
        raise ValueError(f"{name} has shape {shape}: {error}.") from error
    return np.asarray(array, dtype.newbyteorder("="), order="C")


# What NumPy's reader lets through for a header that is not one.
_BAD_HEADER = (
    ValueError,
    KeyError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
)


def _whole(name: str, value: Any) -> int:
    try:
        whole = operator.index(value)
    except TypeError as error:
        raise ValueError(f"{name} must be a whole number; got {reprlib.repr(value)}.") from error
    if isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number; got {reprlib.repr(value)}.")
    return whole


def _step_length(value: Any) -> float:
    # A file can bring anything here, so what is no number goes no further.
    if not isinstance(value, SupportsFloat) or getattr(value, "ndim", 0):
        raise ValueError(f"dt must be one number; got {reprlib.repr(value)}.")
    require_in("dt", value, 0, np.finfo(float).max, open_low=True)
    return float(value)


def _state(name: str, value: Any) -> np.ndarray:
    array = np.array(value, order="C")  # a copy: what is saved does not change under the caller
    if array.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name} must be float32 or float64; got {array.dtype}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite: a run that diverged has nothing to go on from.")
    return array


def _snapshot(archive: Archive) -> Snapshot:
    if missing := [name for name in _PUBLISHED if name not in archive.names]:
        raise ValueError(f"not a snapshot: {missing} missing; there are {archive.names}.")
    meta = json_object("meta.json", archive.read("meta.json"))
    if meta.get("format") != FORMAT:
        raise ValueError(f"its format must be {FORMAT!r}; got {reprlib.repr(meta.get('format'))}.")
    if absent := [key for key in _META if key not in meta]:
        raise ValueError(f"meta.json lacks {absent}.")
    trace = json_object("trace.json", archive.read("trace.json"))
    x = npy_array("x.npy", archive.read("x.npy"))
    covariance = npy_array("sigma.npy", archive.read("sigma.npy"))
    for key, array in (("x_shape", x), ("sigma_shape", covariance)):
        if meta[key] != list(array.shape):
            given = reprlib.repr(meta[key])
            raise ValueError(f"{key} is {given}, and the array's {list(array.shape)}.")
    return Snapshot(
        active_id=meta["active_id"],
        base_seed=meta["base_seed"],
        dt=meta["dt"],
        step=meta["step"],
        x=x,
        covariance=covariance,
        trace={key: trace.get(key, []) for key in _TRACE},
        extra={name: archive.read(name) for name in archive.names if name not in _PUBLISHED},
    )
