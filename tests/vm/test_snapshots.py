"""Snapshots: bit for bit, in the published members, and nothing else accepted."""

import dataclasses
import hashlib
import io
import json
import math
import os
import pickle
import struct
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sigma_jax.vm.archive import ArchiveError, read_archive
from sigma_jax.vm.snapshots import Snapshot, load_snapshot, npy_array, npy_bytes, save_snapshot

TRACE = {
    "steps": [{"step": 0, "x_norm": 0.1 + 0.2, "surprise": False}, {"step": 1, "x_norm": 5e-324}],
    "swaps": [{"step": 1, "from": "v0", "to": "v1", "accepted": True, "reason": None}],
    "collapses": [{"step": 1, "outcome": "attractor"}],
}


def snapshot(**changes):
    x = np.linspace(-1.0, 1.0, 6).reshape(2, 3)
    covariance = np.broadcast_to(np.eye(3), (2, 3, 3))
    fields: dict[str, Any] = dict(active_id="v1", base_seed=123, dt=0.05, step=7, trace=TRACE)
    return Snapshot(**(fields | {"x": x, "covariance": covariance} | changes))


def bits(array):
    return array.dtype, array.shape, array.tobytes()


def assert_same(first, second):
    for field in dataclasses.fields(Snapshot):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, np.ndarray):
            a, b = bits(a), bits(b)
        assert a == b, field.name


# The layout, restated ---------------------------------------------------------------------------


def their_members(**changes):
    """The four members as another program writes them."""
    x, sigma = np.full((1, 4), 0.25, np.float32), np.eye(4, dtype=np.float32)[None]
    meta = {"format": "sigma0-kernel-snapshot/1", "active_id": "v0", "base_seed": 9, "dt": 0.05}
    meta |= {"step": 12, "x_shape": [1, 4], "sigma_shape": [1, 4, 4]}
    trace = {"base_seed": 9, "dt": 0.05, "steps": [{"step": 0}], "swaps": [], "collapses": []}
    members = {"meta.json": meta, "x.npy": x, "sigma.npy": sigma, "trace.json": trace}
    return {name: encoded(value) for name, value in (members | changes).items()}


def encoded(value):
    if isinstance(value, dict):
        return json.dumps(value).encode()
    if isinstance(value, np.ndarray):
        return numpy_file(value)
    return value


def numpy_file(array, version=1, pickled=False):
    """NumPy's format by hand: magic, version, header length, a dictionary literal, the numbers."""
    column_major = not array.flags.c_contiguous
    header = f"{{'descr': {array.dtype.str!r}, 'fortran_order': {column_major}, "
    header += f"'shape': {array.shape}, }}\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    data = pickle.dumps(array) if pickled else array.tobytes("A")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode("latin1") + data


def packed(members):
    """A stored archive without any codec, as the oldest programs wrote it."""
    entries, blobs = [], b""
    for path, data in members.items():
        entry = {"path": path, "size": len(data), "csize": len(data), "offset": len(blobs)}
        digest = hashlib.sha256(data).hexdigest()
        entries.append(entry | {"sha256": digest, "compressed": False})
        blobs += data
    manifest = {"format": "csf-pack", "version": "0.8", "created_at": 1.5, "compressed": False}
    text = json.dumps(manifest | {"file_count": len(entries), "files": entries}).encode()
    body = b"CSF\0\0\x08" + struct.pack(">HI", 0, len(text)) + text + blobs
    return body + hashlib.sha256(body).digest() + struct.pack(">Q", len(body) + 40)


# Round trips ------------------------------------------------------------------------------------

BATCHES = st.sampled_from([(), (1,), (3,), (2, 3), (0,)])


@given(data=st.data(), batch=BATCHES, d=st.integers(1, 4), dtype=st.sampled_from("fd"))
def test_round_trip_is_bit_exact(data, batch, d, dtype, tmp_path_factory):
    """Subnormals and −0 included."""
    width = 32 if dtype == "f" else 64
    numbers = st.floats(width=width, allow_nan=False, allow_infinity=False)
    x = data.draw(arrays.arrays(dtype, (*batch, d), elements=numbers))
    covariance = data.draw(arrays.arrays(dtype, (*batch, d, d), elements=numbers))
    dt = data.draw(st.floats(1e-300, 1e300))
    seed = data.draw(st.integers(-(2**63), 2**64))
    saved = snapshot(x=x, covariance=covariance, dt=dt, base_seed=seed)
    path = tmp_path_factory.mktemp("snapshot") / "run.csf"
    save_snapshot(path, saved)
    assert_same(load_snapshot(path), saved)
    assert_same(load_snapshot(path.read_bytes()), saved)


@pytest.mark.parametrize("codec", ["zstd", "zlib", "store"])
def test_published_members(codec, tmp_path):
    extra = {"sigma_jax/key.npy": npy_bytes(np.arange(2, dtype=np.uint32)), "notes": b""}
    save_snapshot(tmp_path / "run.csf", snapshot(extra=extra), codec=codec)
    archive = read_archive(tmp_path / "run.csf")
    assert archive.names == ("meta.json", "x.npy", "sigma.npy", "trace.json", *extra)
    assert archive.manifest["codec"] == codec
    meta = json.loads(archive.read("meta.json"))
    assert meta == {
        "format": "sigma0-kernel-snapshot/1",
        "active_id": "v1",
        "base_seed": 123,
        "dt": 0.05,
        "step": 7,
        "x_shape": [2, 3],
        "sigma_shape": [2, 3, 3],
    }
    assert json.loads(archive.read("trace.json")) == {"base_seed": 123, "dt": 0.05, **TRACE}
    for name, expected in (("x.npy", snapshot().x), ("sigma.npy", snapshot().covariance)):
        found = np.load(io.BytesIO(archive.read(name)), allow_pickle=False)
        assert bits(found) == bits(expected)
    assert load_snapshot(tmp_path / "run.csf").extra == extra


def test_ours_reads_theirs():
    found = load_snapshot(packed(their_members(**{"README.md": b"theirs"})))
    assert (found.active_id, found.base_seed, found.dt, found.step) == ("v0", 9, 0.05, 12)
    assert bits(found.x) == bits(np.full((1, 4), 0.25, np.float32))
    assert bits(found.covariance) == bits(np.eye(4, dtype=np.float32)[None])
    assert found.trace == {"steps": [{"step": 0}], "swaps": [], "collapses": []}
    assert found.extra == {"README.md": b"theirs"}


def test_what_they_may_leave_out_or_add():
    """A trace without events, further keys, a whole-numbered dt."""
    meta = json.loads(their_members()["meta.json"]) | {"dt": 1, "host": "elsewhere"}
    trace = {"base_seed": 4, "dt": 1, "interventions": []}
    found = load_snapshot(packed(their_members(**{"meta.json": meta, "trace.json": trace})))
    assert found.dt == 1.0
    assert isinstance(found.dt, float)
    assert found.trace == {"steps": [], "swaps": [], "collapses": []}


def test_jax_arrays_go_in_and_out(tmp_path):
    x, covariance = (
        jnp.ones((5, 2), jnp.float32),
        jnp.tile(jnp.eye(2, dtype=jnp.float32), (5, 1, 1)),
    )
    saved = snapshot(x=x, covariance=covariance, step=jnp.int32(3), dt=jnp.float32(0.05))
    save_snapshot(tmp_path / "run.csf", saved)
    found = load_snapshot(tmp_path / "run.csf")
    assert (found.step, found.dt) == (3, float(np.float32(0.05)))
    doubled = jax.jit(lambda s: 2 * s)(found.covariance)
    assert bits(np.asarray(doubled)) == bits(2 * np.asarray(covariance))


def test_a_snapshot_does_not_change_under_the_caller():
    x = np.zeros((1, 2))
    kept = snapshot(x=x, covariance=np.eye(2)[None])
    x += 1.0
    assert not kept.x.any()


# NumPy files ------------------------------------------------------------------------------------


@given(data=st.data(), version=st.sampled_from([1, 2]), column_major=st.booleans())
def test_numpy_files_of_any_number_type(data, version, column_major):
    dtype = data.draw(st.sampled_from(["<f4", ">f8", "<f8", "|b1", "<u4", ">i8", "|i1", "<f2"]))
    shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    array = data.draw(arrays.arrays(dtype, shape))
    laid_out = np.asarray(array, order="F" if column_major else "C")
    found = npy_array("a", numpy_file(laid_out, version))
    assert bits(found) == bits(array.astype(array.dtype.newbyteorder("=")))
    assert bits(npy_array("a", npy_bytes(laid_out))) == bits(found)


def forged(descr="<f8", shape="(2,)", data=bytes(16)):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + data


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a NumPy array file"),
        (b"\x93NUMPY\1\0\xff\xff{", "not a NumPy array file"),
        (b"\x93NUMPY\3\0" + forged()[8:], "not a NumPy array file"),
        (b"\x93NUMPY\1\0\4\0(((\n", "not a NumPy array file"),
        (forged(shape="[2]"), "not a NumPy array file"),
        (forged(shape="(2.0,)"), "not a NumPy array file"),
        (forged(descr="nonsense"), "not a NumPy array file"),
        (forged(shape="(" * 500), "not a NumPy array file"),
        (forged(descr="|O", data=pickle.dumps([1, 2])), "a must hold numbers; its type is object"),
        (forged(descr="<U2"), "a must hold numbers"),
        (forged(descr="<M8[s]"), "a must hold numbers"),
        (forged(descr="<c16", shape="(1,)"), "a must hold numbers"),
        (forged(shape="(3,)"), r"a of shape \(3,\) takes 24 bytes; there are 16"),
        (forged(shape="(1,)"), r"a of shape \(1,\) takes 8 bytes; there are 16"),
        (forged(shape="(-1, -2)"), r"a of shape \(-1, -2\)"),
        (forged(shape="(10**12,)"), "not a NumPy array file"),
        (forged(shape="(1000000000000,)"), "takes 8000000000000 bytes"),
        (forged(shape=f"(0, {10**30})", data=b""), "a has shape"),
        (forged(shape=f"({'1, ' * 99})", data=bytes(8)), "a has shape"),
    ],
)
def test_other_numpy_files_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        npy_array("a", data)


@pytest.mark.parametrize(
    "header",
    [
        "{[]: 1}",
        "{'a': 1, 2: 3}",
        "  x\n y",
        "-" * 9000 + "1",
        "+".join("1" * 4900),
        "[" * 150,
        "\0",
    ],
)
def test_headers_that_break_numpys_reader_are_refused(header):
    """Each makes it raise something else: type, syntax, memory, recursion and token errors."""
    text = header.encode() + b"\n"
    with pytest.raises(ValueError, match="a is not a NumPy array file"):
        npy_array("a", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text)


def test_objects_are_not_written():
    with pytest.raises(ValueError, match="pickle"):
        npy_bytes(np.array([{}]))


class Exploding:
    """Unpickling it would make a directory."""

    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def test_a_pickle_in_an_archive_is_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = np.array([Exploding()] * 4, dtype=object).reshape(1, 4)
    forgery = numpy_file(objects, pickled=True)
    with pytest.raises(ArchiveError, match=r"x\.npy must hold numbers; its type is object"):
        load_snapshot(packed(their_members(**{"x.npy": forgery})))
    assert os.listdir(tmp_path) == []


@given(st.data())
def test_fuzzed_numpy_files(data):
    """An array that is as long as it says, or ValueError."""
    whole = bytearray(numpy_file(np.arange(6.0).reshape(2, 3)))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = npy_array("a", bytes(whole))
    except ValueError:
        return
    assert found.dtype.kind in "biuf"
    assert math.prod(found.shape) == found.size


# What is refused --------------------------------------------------------------------------------


def meta(**changes):
    return {"meta.json": json.loads(their_members()["meta.json"]) | changes}


def deep(key):
    """Five hundred lists in one another."""
    text = their_members(**meta(**{key: "?"}))["meta.json"]
    return text.replace(b'"?"', b"[" * 500 + b"]" * 500)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (meta(format="sigma0-kernel-snapshot/2"), "format must be 'sigma0-kernel-snapshot/1'"),
        (meta(format=None), "format must be"),
        (meta(x_shape=[4]), r"x_shape is \[4\], and the array's \[1, 4\]"),
        (meta(x_shape="1,4"), "x_shape is '1,4'"),
        (meta(sigma_shape=[4, 4]), "sigma_shape is"),
        (meta(active_id=3), "active_id must be text"),
        (meta(base_seed=0.5), "base_seed must be a whole number"),
        (meta(base_seed="9"), "base_seed must be a whole number"),
        (meta(base_seed=True), "base_seed must be a whole number"),
        (meta(step=-1), "step must lie in"),
        (meta(step=None), "step must be a whole number"),
        (meta(dt=0), "dt must lie in"),
        (meta(dt="0.05"), "dt must be one number"),
        (meta(dt=True), "dt must be a number"),
        (meta(dt=None), "dt must be one number"),
        (meta(dt=[0.1]), "dt must be one number"),
        ({"meta.json": deep("dt")}, "dt must be one number"),
        ({"meta.json": deep("step")}, "step must be a whole number"),
        ({"meta.json": deep("x_shape")}, "x_shape is"),
        ({"meta.json": deep("format")}, "format must be"),
        ({"meta.json": b"[]"}, r"meta\.json must be a JSON object"),
        ({"meta.json": b'{"dt": NaN}'}, r"meta\.json is not UTF-8 JSON"),
        ({"meta.json": b'{"format": "sigma0-kernel-snapshot/1"}'}, "lacks"),
        ({"trace.json": b"\xff"}, r"trace\.json is not UTF-8 JSON"),
        ({"trace.json": {"steps": {}}}, "trace must hold the lists"),
        ({"x.npy": np.full((1, 4), np.nan, np.float32)}, "x must be finite"),
        ({"sigma.npy": np.full((1, 4, 4), np.inf, np.float32)}, "covariance must be finite"),
        ({"sigma.npy": np.ones((1, 4, 4))}, "one precision; got float32 and float64"),
        ({"x.npy": np.ones((1, 4), np.int32)}, "x must be float32 or float64"),
        ({"x.npy": b"\x93NUMPY"}, r"x\.npy is not a NumPy array file"),
        ({"x.npy": np.ones((4,), np.float32), **meta(x_shape=[4])}, r"must be \[\.\.\., d\]"),
    ],
)
def test_bad_snapshots_are_refused(changes, words, tmp_path):
    path = tmp_path / "bad.csf"
    path.write_bytes(packed(their_members(**changes)))
    with pytest.raises(ArchiveError, match=rf"bad\.csf: .*{words}"):
        load_snapshot(path)


@pytest.mark.parametrize("name", ["meta.json", "x.npy", "sigma.npy", "trace.json"])
def test_a_missing_member_is_named(name):
    members = their_members()
    del members[name]
    with pytest.raises(ArchiveError, match=rf"not a snapshot: \['{name}'\] missing"):
        load_snapshot(packed(members))


def test_every_changed_byte_is_caught(tmp_path):
    save_snapshot(tmp_path / "run.csf", snapshot())
    whole = (tmp_path / "run.csf").read_bytes()
    for position in range(len(whole)):
        edited = bytearray(whole)
        edited[position] ^= 1 << position % 8
        with pytest.raises(ArchiveError):
            load_snapshot(bytes(edited))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": np.ones(3)}, r"must be \[\.\.\., d\] and \[\.\.\., d, d\]; got \(3,\)"),
        ({"x": np.float64(1.0), "covariance": np.ones(1)}, r"must be \[\.\.\., d\]"),
        ({"covariance": np.ones((2, 3))}, r"must be \[\.\.\., d\]"),
        ({"x": np.full((2, 3), np.nan)}, "x must be finite"),
        ({"x": np.ones((2, 3), np.float16)}, "x must be float32 or float64"),
        ({"x": "here"}, "x must be float32 or float64"),
        ({"dt": float("inf")}, "dt must lie in"),
        ({"dt": np.ones(3)}, "dt must be one number"),
        ({"dt": float("nan")}, "dt must not contain NaN"),
        ({"step": 1.0}, "step must be a whole number"),
        ({"trace": {"steps": []}}, "trace must hold the lists steps, swaps, collapses"),
        ({"trace": None}, "trace must hold the lists"),
        ({"extra": {"x.npy": b""}}, r"extra must not hold \['x.npy'\]"),
    ],
)
def test_bad_arguments_are_named(changes, words):
    with pytest.raises(ValueError, match=words):
        snapshot(**changes)


@pytest.mark.parametrize("value", [float("nan"), np.float32(1.0), {1, 2}])
def test_a_trace_that_json_cannot_say_is_refused(value, tmp_path):
    trace = {**TRACE, "steps": [{"nis": value}]}
    with pytest.raises(ValueError, match="trace must be what JSON can say"):
        save_snapshot(tmp_path / "run.csf", snapshot(trace=trace))
    assert os.listdir(tmp_path) == []


def test_an_interrupted_save_leaves_the_old_snapshot(tmp_path, monkeypatch):
    path = tmp_path / "run.csf"
    save_snapshot(path, snapshot())

    def fail(*arguments):
        raise OSError("power cut")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        save_snapshot(path, snapshot(step=8))
    assert_same(load_snapshot(path), snapshot())
    assert os.listdir(tmp_path) == ["run.csf"]
