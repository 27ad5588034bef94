"""CSF-Pack archives against a second implementation written from the layout table alone."""

import hashlib
import json
import os
import random
import struct
import tracemalloc
import zlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.vm.archive import Archive, ArchiveError, read_archive, write_archive

FILES = {
    "meta.json": b'{"step": 3}',
    "arrays/x.npy": bytes(range(256)) * 4,
    "arrays/deep/σ.bin": b"",
    "log.txt": b"step 1 ok\nstep 2 ok\n" * 40,
}
DICTIONARY = b"step 1 ok\nstep 2 ok\nstep 3 diverged\n" * 8
CODECS = ["store", "zlib", "zstd"]


# The layout, restated ---------------------------------------------------------------------------


def seal(manifest, blobs, flags=0, magic=b"CSF\0", version=(0, 8)):
    """An archive with a valid footer around any manifest (an object, or bytes) and any blobs."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    body = magic + bytes(version) + struct.pack(">HI", flags, len(text)) + text + blobs
    return body + hashlib.sha256(body).digest() + struct.pack(">Q", len(body) + 40)


def theirs(files, codec, dictionary=None, created_at=1.75e9):
    """(manifest, blobs) as another program writes them."""
    shared = dictionary and zstandard.ZstdCompressionDict(dictionary)
    shrink = {
        "store": bytes,
        "zlib": lambda data: zlib.compress(data, 9),
        "zstd": zstandard.ZstdCompressor(level=3, dict_data=shared or None).compress,
    }[codec]
    entries, blobs = [], b""
    for path, data in files.items():
        stored = shrink(data)
        entry = {"path": path, "size": len(data), "csize": len(stored)}
        entry |= {"sha256": hashlib.sha256(data).hexdigest(), "offset": len(blobs)}
        entries.append(entry | {"compressed": codec != "store", "codec": codec})
        blobs += stored
    manifest = {"format": "csf-pack", "version": "0.8", "created_at": created_at}
    manifest |= {"compressed": codec != "store", "codec": codec}
    manifest |= {"file_count": len(entries), "files": entries}
    if dictionary:
        place = {"offset": len(blobs), "size": len(dictionary), "codec": "zstd"}
        manifest["shared_dict"] = place
        blobs += dictionary
    return manifest, blobs


def read_as_they_do(data):
    """(manifest, members), trusting the file."""
    assert data[:6] == b"CSF\0\x00\x08"
    flags, length = struct.unpack(">HI", data[6:12])
    assert data[-40:-8] == hashlib.sha256(data[:-40]).digest()
    assert struct.unpack(">Q", data[-8:])[0] == len(data)
    manifest, blobs = json.loads(data[12 : 12 + length]), data[12 + length : -40]
    assert flags == int(manifest["compressed"])
    shared = None
    if place := manifest.get("shared_dict"):
        raw = blobs[place["offset"] : place["offset"] + place["size"]]
        shared = zstandard.ZstdCompressionDict(raw)
    expand = {
        "store": bytes,
        "zlib": zlib.decompress,
        "zstd": zstandard.ZstdDecompressor(dict_data=shared).decompress,
    }
    members = {}
    for entry in manifest["files"]:
        stored = blobs[entry["offset"] : entry["offset"] + entry["csize"]]
        members[entry["path"]] = expand[entry["codec"]](stored)
        assert hashlib.sha256(members[entry["path"]]).hexdigest() == entry["sha256"]
    return manifest, members


def contents(archive):
    return {name: archive.read(name) for name in archive.names}


def written(tmp_path, files=FILES, **options):
    path = tmp_path / "a.csf"
    write_archive(path, files, **options)
    return path.read_bytes()


# Ours and theirs --------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_ours_reads_theirs(codec):
    assert contents(read_archive(seal(*theirs(FILES, codec)))) == FILES


@pytest.mark.parametrize("codec", CODECS)
def test_theirs_reads_ours(codec, tmp_path):
    manifest, members = read_as_they_do(written(tmp_path, codec=codec, created_at=5.0))
    assert members == FILES
    assert manifest["codec"] == codec
    assert [entry["compressed"] for entry in manifest["files"]] == [codec != "store"] * len(FILES)


def test_shared_dictionary_both_ways(tmp_path):
    trained = zstandard.train_dictionary(1024, [b"step %d ok\n" % i * 9 for i in range(300)])
    for dictionary in (DICTIONARY, trained.as_bytes()):
        data = written(tmp_path, shared_dictionary=dictionary)
        assert read_as_they_do(data)[1] == FILES
        assert contents(read_archive(data)) == FILES
        assert contents(read_archive(seal(*theirs(FILES, "zstd", dictionary)))) == FILES
    one = {"log.txt": FILES["log.txt"]}
    sizes = [
        read_as_they_do(written(tmp_path, one, **options))[0]["files"][0]["csize"]
        for options in ({}, {"shared_dictionary": DICTIONARY})
    ]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("codec", ["store", "zlib"])
def test_bytes_are_the_layouts_own(codec, tmp_path):
    """Nothing but the spacing of the JSON is ours to choose."""
    manifest, blobs = theirs(FILES, codec)
    text = json.dumps(manifest, separators=(",", ":")).encode()
    expected = seal(text, blobs, flags=int(codec != "store"))
    assert written(tmp_path, codec=codec, created_at=1.75e9) == expected


def test_zstd_is_of_level_19_and_names_its_dictionary(tmp_path):
    noise = bytes(byte & 15 for byte in random.Random(0).randbytes(2**16))
    data = noise + b"x" + noise[: 2**15]
    of_level = {}
    for level in (18, 19):
        parameters = zstandard.ZstdCompressionParameters.from_level(level, enable_ldm=True)
        compressor = zstandard.ZstdCompressor(compression_params=parameters)
        of_level[level] = compressor.compress(data)
    assert of_level[18] != of_level[19]
    assert of_level[19] in written(tmp_path, {"a": data})
    trained = zstandard.train_dictionary(1024, [b"step %d ok\n" % i * 9 for i in range(300)])
    whole = written(tmp_path, {"a": data}, shared_dictionary=trained.as_bytes())
    frame = zstandard.get_frame_parameters(whole[whole.index(zstandard.FRAME_HEADER) :])
    assert frame.dict_id == trained.dict_id() != 0


@pytest.mark.parametrize("codec", CODECS)
def test_same_input_gives_the_same_bytes(codec, tmp_path):
    first = written(tmp_path, codec=codec, created_at=2.0)
    assert written(tmp_path, codec=codec, created_at=2.0) == first
    assert written(tmp_path, codec=codec) != first


def test_members_from_before_there_was_a_codec():
    """Zlib if compressed, else stored; both in one archive, in any order, with gaps between."""
    packed = zlib.compress(b"packed", 9)
    entries = [
        {"path": "b", "size": 6, "csize": len(packed), "offset": 9, "compressed": True},
        {"path": "a", "size": 5, "csize": 5, "offset": 1, "compressed": False, "codec": None},
        {"path": "none", "size": 0, "csize": 0, "offset": 3},
    ]
    for entry, data in zip(entries, (b"packed", b"plain", b""), strict=True):
        entry["sha256"] = hashlib.sha256(data).hexdigest()
        entry["colour"] = {"unknown": [1.5, None]}
    manifest = {"format": "csf-pack", "version": "0.8", "file_count": 3, "files": entries}
    manifest |= {"created_at": "2026-01-01", "annotations": {}, "shared_dict": None}
    archive = read_archive(seal(manifest, b"\xffplain\xff\xff\xff" + packed + b"\xff", flags=1))
    assert contents(archive) == {"b": b"packed", "a": b"plain", "none": b""}
    assert archive.names == ("b", "a", "none")


def test_zstd_frames_without_a_declared_size():
    manifest, _ = theirs({"a": FILES["log.txt"]}, "store")
    stored = zstandard.ZstdCompressor(write_content_size=False).compress(FILES["log.txt"])
    manifest["files"][0] |= {"codec": "zstd", "csize": len(stored)}
    assert contents(read_archive(seal(manifest, stored))) == {"a": FILES["log.txt"]}


def test_notes_are_kept(tmp_path):
    path = tmp_path / "a.csf"
    notes = {"descriptions": {"log.txt": "what happened"}, "metadata": {"log.txt": {"n": 3}}}
    write_archive(path, FILES, **notes)
    found = {entry["path"]: entry for entry in read_archive(path).manifest["files"]}
    assert found["log.txt"]["description"] == "what happened"
    assert found["log.txt"]["metadata"] == {"n": 3}
    assert "metadata" not in found["meta.json"]


NAMES = st.lists(
    st.text("abcé. σ:-", min_size=1, max_size=6).filter(lambda part: part.strip(". ")),
    min_size=1,
    max_size=3,
).map("/".join)
SETS = st.dictionaries(NAMES.map("m/é".__add__), st.binary(max_size=300), max_size=5).filter(
    lambda files: not any(b.startswith(f"{a}/") for a in files for b in files)
)


@given(files=SETS, codec=st.sampled_from(CODECS))
def test_round_trip(files, codec, tmp_path_factory):
    path = tmp_path_factory.mktemp("round")
    write_archive(path / "a.csf", files, codec=codec)
    archive = read_archive(path / "a.csf")
    assert contents(archive) == files
    assert archive.names == tuple(files)
    assert read_as_they_do((path / "a.csf").read_bytes())[1] == files
    archive.extract(path / "out")
    assert tree(path / "out") == files


def tree(root):
    found = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


# Damage -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_every_flipped_bit_is_caught(codec, tmp_path):
    whole = written(tmp_path, {"a": b"one", "b/c": b"two" * 9}, codec=codec)
    for position in range(len(whole)):
        for bit in range(8):
            edited = bytearray(whole)
            edited[position] ^= 1 << bit
            with pytest.raises(ArchiveError):
                Archive(bytes(edited))


def test_every_other_byte_is_caught(tmp_path):
    whole = written(tmp_path, {"a": b"one"}, codec="store")
    for position in range(len(whole)):
        for change in range(1, 256, 6):
            edited = bytearray(whole)
            edited[position] ^= change
            with pytest.raises(ArchiveError):
                Archive(bytes(edited))


def test_every_truncation_and_addition_is_caught(tmp_path):
    whole = written(tmp_path)
    for length in range(len(whole)):
        with pytest.raises(ArchiveError):
            Archive(whole[:length])
    for more in (b"\0", whole, whole[-40:]):
        with pytest.raises(ArchiveError):
            Archive(whole + more)
        with pytest.raises(ArchiveError):
            Archive(more + whole[:-1])


def test_the_header_comes_before_the_digest_before_the_manifest():
    manifest, blobs = theirs(FILES, "store")
    for data, words in (
        (b"", "not a CSF archive"),
        (b"PK\3\4" * 50, "not a CSF archive"),
        (seal(manifest, blobs, magic=b"CSF\1"), "not a CSF archive"),
        (b"CSF\0" + bytes(40), "truncated"),
        (seal(manifest, blobs, version=(0, 9)), "version 0.9"),
        (seal(manifest, blobs)[:-1] + b"\xff", "truncated or edited"),
        (seal(b"{", b"")[:12] + b"[" + seal(b"{", b"")[13:], "edited"),
        (seal(b"{", b""), "not UTF-8 JSON"),
        (seal(manifest, blobs)[:-20] + bytes(20), "truncated or edited"),
    ):
        with pytest.raises(ArchiveError, match=words):
            Archive(data)


def test_the_file_is_named(tmp_path):
    path = tmp_path / "broken.csf"
    path.write_bytes(b"CSF\0")
    with pytest.raises(ArchiveError, match=r"broken\.csf: truncated"):
        read_archive(path)
    write_archive(path, FILES)
    with pytest.raises(ArchiveError, match=r"broken\.csf: no member 'y'"):
        read_archive(path).read("y")
    with pytest.raises(FileNotFoundError):
        read_archive(tmp_path / "missing.csf")


# Hostile archives, all with a valid digest ------------------------------------------------------


def edited(change):
    manifest, blobs = theirs(FILES, "store", DICTIONARY)
    change(manifest, manifest["files"])
    return seal(manifest, blobs)


def setting(key, value, index=1):
    return lambda manifest, files: files[index].update({key: value})


def top(key, value):
    return lambda manifest, files: manifest.update({key: value})


HOSTILE = {
    "format": (top("format", "zip"), "format must be 'csf-pack'"),
    "version": (top("version", 0.8), "version must be '0.8'"),
    "count": (top("file_count", 3), "3 files declared, 4 listed"),
    "count type": (top("file_count", True), "file_count must be a whole number"),
    "files": (top("files", {"a": 1}), "files must be a list"),
    "files of": (top("files", [1, 2, 3, 4]), "files must be a list"),
    "negative offset": (setting("offset", -1), "offset must be a whole number"),
    "negative size": (setting("size", -1), "size must be a whole number"),
    "float": (setting("csize", 1024.0), "csize must be a whole number"),
    "text": (setting("size", "1024"), "size must be a whole number"),
    "bool": (setting("offset", True), "offset must be a whole number"),
    "null": (setting("csize", None), "csize must be a whole number"),
    "huge": (setting("offset", 2**64), "offset must be a whole number"),
    "beyond": (setting("offset", 10**6), "ends at byte 1001024"),
    "overlap": (setting("offset", 0), "overlap"),
    "store": (setting("size", 1025), "declares 1025 bytes and stores 1024"),
    "codec": (setting("codec", "omni"), "codec 'omni'; known are zstd, zlib, store"),
    "codec type": (setting("codec", ["zstd"]), "codec"),
    "same twice": (setting("path", "log.txt"), "there twice"),
    "a file and a directory": (setting("path", "log.txt/x"), "there twice, or above"),
    "dictionary": (top("shared_dict", []), "shared_dict must be for zstd"),
    "dictionary codec": (
        top("shared_dict", {"offset": 0, "size": 1, "codec": "zlib"}),
        "shared_dict must be for zstd",
    ),
    "dictionary place": (
        top("shared_dict", {"offset": 0, "size": 10**7, "codec": "zstd"}),
        "shared_dict ends at byte",
    ),
    "dictionary over a member": (
        top("shared_dict", {"offset": 0, "size": 5, "codec": "zstd"}),
        "overlap",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_manifests_are_refused(case):
    change, words = HOSTILE[case]
    with pytest.raises(ArchiveError, match=words):
        Archive(edited(change))


@pytest.mark.parametrize(
    "text",
    [
        b"\xff{}",
        b"\xef\xbb\xbf{}",
        b"[]",
        b"",
        b"null",
        b'{"format": NaN}',
        b'{"format": Infinity}',
        b"[" * 200_000,
        b'{"file_count": ' + b"9" * 10_000 + b"}",
        b"{'format': 'csf-pack'}",
    ],
)
def test_what_is_not_a_json_object_is_refused(text):
    with pytest.raises(ArchiveError, match="the manifest"):
        Archive(seal(text, b""))


def test_manifest_longer_than_the_file_is_refused():
    body = b"CSF\0\x00\x08" + struct.pack(">HI", 0, 2**32 - 1) + b"{}"
    data = body + hashlib.sha256(body).digest() + struct.pack(">Q", len(body) + 40)
    with pytest.raises(ArchiveError, match="manifest of 4294967295 bytes"):
        Archive(data)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("sha256", "0" * 64, "does not have its sha256"),
        ("sha256", None, "does not have its sha256"),
        ("size", 1023, "expands to more, not to the 1023 bytes"),
        ("size", 1025, "expands to 1024 bytes, not to the 1025"),
        ("size", 2**53 - 1, "expands to 1024 bytes"),
        ("csize", 20, "arrays/x.npy"),
        ("csize", 0, "arrays/x.npy"),
    ],
)
@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_members_that_are_not_as_declared_are_refused(codec, key, value, words):
    manifest, blobs = theirs(FILES, codec)
    manifest["files"][1][key] = value
    archive = Archive(seal(manifest, blobs))
    assert archive.read("log.txt") == FILES["log.txt"]
    with pytest.raises(ArchiveError, match=words):
        archive.read("arrays/x.npy")


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_a_member_cut_anywhere_is_refused(codec):
    """Zlib's last four bytes too, which only repeat what the digest says."""
    manifest, blobs = theirs({"a": b"data" * 9}, codec)
    for length in range(len(blobs)):
        manifest["files"][0]["csize"] = length
        with pytest.raises(ArchiveError, match="member 'a'"):
            Archive(seal(manifest, blobs)).read("a")


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
def test_bytes_after_the_compressed_ones_are_refused(codec):
    manifest, blobs = theirs({"a": b"data" * 9}, codec)
    manifest["files"][0]["csize"] += 4
    with pytest.raises(ArchiveError, match="is not z"):
        Archive(seal(manifest, blobs + b"junk")).read("a")


@pytest.mark.parametrize("codec", ["zlib", "zstd"])
@pytest.mark.parametrize("declared", [10, 0, 2**20])
def test_a_bomb_does_not_expand(codec, declared, tmp_path):
    """64 MiB behind a few kilobytes: never more in memory than what was declared."""
    manifest, blobs = theirs({"a": bytes(2**26)}, codec)
    assert len(blobs) < 2**17
    manifest["files"][0]["size"] = declared
    archive = Archive(seal(manifest, blobs))
    tracemalloc.start()
    with pytest.raises(ArchiveError, match="expands to more"):
        archive.extract(tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * declared + 2**20
    assert os.listdir(tmp_path) == []


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 3000), st.integers(), st.floats(),
    st.text(max_size=5), st.lists(st.integers(), max_size=2), st.just({}),
    st.sampled_from([*CODECS, *FILES, "../x", "csf-pack"]),
)  # fmt: skip
KEYS = ["path", "size", "csize", "sha256", "offset", "compressed", "codec"]
TOP_KEYS = ["format", "version", "file_count", "files", "shared_dict", "codec", "compressed"]
EDITS = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(KEYS), ODD), min_size=1, max_size=3)


def assert_refused_or_true(data):
    """Nothing but ArchiveError comes out, or members that have the digests they declare."""
    try:
        archive = Archive(data)
        found = contents(archive)
    except ArchiveError:
        return
    declared = {entry["path"]: entry for entry in archive.manifest["files"]}
    for name, member in found.items():
        assert len(member) == declared[name]["size"]
        assert hashlib.sha256(member).hexdigest() == declared[name]["sha256"]
        assert not name.startswith(("/", "../"))


@given(edits=EDITS, codec=st.sampled_from(CODECS))
def test_fuzzed_entries(edits, codec):
    manifest, blobs = theirs(FILES, codec, DICTIONARY if codec == "zstd" else None)
    for index, key, value in edits:
        manifest["files"][index][key] = value
    assert_refused_or_true(seal(manifest, blobs))


@given(key=st.sampled_from(TOP_KEYS), value=ODD, gone=st.booleans())
def test_fuzzed_manifests(key, value, gone):
    manifest, blobs = theirs(FILES, "zstd", DICTIONARY)
    manifest[key] = value
    if gone:
        del manifest[key]
    assert_refused_or_true(seal(manifest, blobs))


def test_every_byte_changed_under_a_new_digest():
    """The digest is right again; what is behind it still has to be."""
    for codec in CODECS:
        whole = seal(*theirs({"a": b"one" * 9, "b": b"two"}, codec, DICTIONARY[:40]))
        for position in range(len(whole) - 40):
            for change in (1, 32, 128, 255):
                body = bytearray(whole[:-40])
                body[position] ^= change
                footer = hashlib.sha256(body).digest() + whole[-8:]
                assert_refused_or_true(bytes(body) + footer)


# Where members go -------------------------------------------------------------------------------

LEAVING = [
    "../dest-evil/x", "..", "a/../../x", "a/..", "/etc/passwd", "//host/share/x", "C:/x", "C:x",
    "c:", "a\\..\\..\\x", "\\x", "\\\\host\\x", ".", "./x", "a/./b", "", "a//b", "a/", "/", "a\0b",
    "a\nb", "\ud800", ".. /x", "... ", " ", "a/ /b",
]  # fmt: skip


@pytest.mark.parametrize("name", LEAVING)
def test_a_path_that_leaves_is_refused(name, tmp_path):
    manifest, blobs = theirs({"fine": b"1", name: b"2"}, "store")
    with pytest.raises(ArchiveError, match="is not a relative path below the destination"):
        Archive(seal(manifest, blobs)).extract(tmp_path / "dest")
    with pytest.raises(ValueError, match="is not a relative path below the destination"):
        write_archive(tmp_path / "a.csf", {"fine": b"1", name: b"2"})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [None, 3, ["a"], {}])
def test_a_path_that_is_no_text_is_refused(name):
    manifest, blobs = theirs({"a": b"1"}, "store")
    manifest["files"][0]["path"] = name
    with pytest.raises(ArchiveError, match="is not a relative path"):
        Archive(seal(manifest, blobs))


def test_a_long_hostile_name_does_not_fill_the_message():
    manifest, blobs = theirs({"a/" * 100_000: b"1"}, "store")
    with pytest.raises(ArchiveError) as caught:
        Archive(seal(manifest, blobs))
    assert len(str(caught.value)) < 400


def test_extraction_is_all_or_nothing(tmp_path, monkeypatch):
    manifest, blobs = theirs(FILES, "store")
    manifest["files"][-1]["sha256"] = "0" * 64
    with pytest.raises(ArchiveError, match="sha256"):
        Archive(seal(manifest, blobs)).extract(tmp_path / "new" / "dest")
    assert os.listdir(tmp_path) == []

    good = Archive(seal(*theirs(FILES, "store")))
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="power cut"):
        good.extract(tmp_path / "dest")
    assert os.listdir(tmp_path) == []
    monkeypatch.undo()
    (tmp_path / "dest").mkdir()
    good.extract(tmp_path / "dest")
    assert tree(tmp_path / "dest") == FILES
    assert os.listdir(tmp_path) == ["dest"]


def test_extraction_follows_no_link_and_overwrites_nothing(tmp_path):
    archive = Archive(seal(*theirs(FILES, "store")))
    outside, dest = tmp_path / "outside", tmp_path / "dest"
    outside.mkdir()
    dest.mkdir()
    (dest / "arrays").symlink_to(outside)
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(outside)
    file.write_bytes(b"mine")
    for taken in (dest, link, file):
        with pytest.raises(ValueError, match="destination must be new or an empty directory"):
            archive.extract(taken)
    assert tree(outside) == {}
    assert file.read_bytes() == b"mine"


# Writing ----------------------------------------------------------------------------------------


def fail(*arguments):
    raise OSError("power cut")


@pytest.mark.parametrize("stage", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_file(stage, tmp_path, monkeypatch):
    path = tmp_path / "a.csf"
    write_archive(path, {"a": b"old"})
    before = path.read_bytes()
    monkeypatch.setattr(os, stage, fail)
    with pytest.raises(OSError, match="power cut"):
        write_archive(path, {"a": b"new"})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.csf"]
    monkeypatch.undo()
    write_archive(path, {"a": b"new"})
    assert read_archive(path).read("a") == b"new"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codec": "lzma"}, "codec must be one of"),
        ({"codec": "zlib", "shared_dictionary": b"x"}, "shared_dictionary must be zstd's"),
        ({"shared_dictionary": b""}, "shared_dictionary must be zstd's"),
        ({"shared_dictionary": b"\x37\xa4\x30\xec" + bytes(9)}, "shared_dictionary is not"),
        ({"descriptions": {"b": "?"}}, r"description given for \['b'\]"),
        ({"metadata": {"a": {"t": float("nan")}}}, "metadata and created_at must be what JSON"),
        ({"metadata": {"a": {"t": b"1"}}}, "metadata and created_at must be what JSON"),
        ({"created_at": float("inf")}, "created_at must be what JSON"),
    ],
)
def test_bad_arguments_are_named(options, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        write_archive(tmp_path / "a.csf", {"a": b"1"}, **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("files", [{"a": "text"}, {"a": None}, {"a": b"1", "a/b": b"2"}])
def test_bad_files_are_named(files, tmp_path):
    with pytest.raises(
        ValueError, match=r"files must hold bytes; 'a'|'a' is there twice, or above"
    ):
        write_archive(tmp_path / "a.csf", files)
    assert os.listdir(tmp_path) == []
