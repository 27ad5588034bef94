"""Hashed vectors, and kept ones: in memory, and in a file that is shared, killed and damaged."""

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigma_jax.runtime import CachedEncoder, HashedEncoder, extract_symbols

REPOSITORY = Path(__file__).parents[2]
TEXTS = [
    "The database is called Heron.",
    "What is the database called?",
    "Soup with leeks",
    "",
    "!",
]


class Counting:
    """Its vectors say which text they are of; it counts how often it is asked."""

    def __init__(self, name="counting", dimension=4):
        self.name, self.dimension, self.asked = name, dimension, []

    def encode(self, texts):
        self.asked += texts
        return np.array([[len(text), *map(ord, f"{text:>3}"[:3])] for text in texts], np.float32)


# Hashed -----------------------------------------------------------------------------------------


def test_shared_words_are_near_and_others_are_not():
    heron, question, soup, *_ = HashedEncoder().encode(TEXTS)
    assert heron @ question > 0.6
    assert abs(heron @ soup) < 0.2
    assert abs(question @ soup) < 0.2


def test_misspelt_words_are_nearer_than_synonyms():
    boat, boats, ship = HashedEncoder().encode(["sailboat", "sailbaot", "vessel"])
    assert boat @ boats > boat @ ship + 0.05


def test_unrelated_words_have_cosines_like_chance():
    """Of random signs in 384 places a cosine is about normal with variance 1/384."""
    words = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}{i * 7919:x}" for i in range(200)]
    vectors = HashedEncoder().encode(words).astype(float)
    cosines = (vectors @ vectors.T)[np.triu_indices(200, 1)]
    assert abs(cosines.mean()) < 0.02
    assert 0.5 < cosines.var() * 384 < 3  # they do share some letters


@given(st.lists(st.text(max_size=60), max_size=4), st.sampled_from([1, 7, 384]))
def test_a_vector_has_length_one_and_depends_on_its_text_alone(texts, dimension):
    encoder = HashedEncoder(dimension)
    vectors = encoder.encode(texts)
    assert vectors.shape == (len(texts), dimension)
    assert vectors.dtype == np.float32
    lengths = np.linalg.norm(vectors.astype(float), axis=1)
    assert all(length == 0 or abs(length - 1) < 1e-6 for length in lengths)
    for text, vector in zip(texts, vectors, strict=True):
        np.testing.assert_array_equal(encoder.encode([text])[0], vector)


def test_only_a_text_without_words_is_zero():
    lengths = np.linalg.norm(HashedEncoder().encode([*TEXTS, "the", "\ud800", "数据"]), axis=1)
    np.testing.assert_allclose(lengths, [1, 1, 1, 0, 0, 1, 0, 1], atol=1e-6)


def test_another_process_gives_the_same_bits_and_symbols():
    program = (
        "import hashlib; from sigma_jax.runtime.encoders import HashedEncoder; "
        "from sigma_jax.runtime.symbols import extract_symbols; "
        f"print(hashlib.sha256(HashedEncoder().encode({TEXTS!r}).tobytes()).hexdigest()); "
        f"print(extract_symbols({TEXTS[0]!r}))"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    here = hashlib.sha256(HashedEncoder().encode(TEXTS).tobytes()).hexdigest()
    assert outcome.stdout.splitlines() == [here, str(extract_symbols(TEXTS[0]))]


def test_dimensions_are_in_the_name():
    assert HashedEncoder(8).name != HashedEncoder(16).name
    with pytest.raises(ValueError, match="dimension must lie in"):
        HashedEncoder(0)


# Kept -------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "file"])
def path(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "new folder" / "vectors.sqlite"


def test_no_text_is_encoded_twice(path):
    inner = Counting()
    encoder = CachedEncoder(inner, path)
    expected = Counting().encode(["a", "b", "a", "\ud800"])
    for _ in range(2):
        found = encoder.encode(["a", "b", "a", "\ud800"])
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    assert inner.asked == ["a", "b", "\ud800"]
    assert encoder.encode([]).shape == (0, 4)
    assert (encoder.name, encoder.dimension) == ("counting", 4)


def test_the_last_ones_are_kept(path):
    inner = Counting()
    encoder = CachedEncoder(inner, path, most=3)
    np.testing.assert_array_equal(encoder.encode(list("abcd")), Counting().encode(list("abcd")))
    inner.asked.clear()
    encoder.encode(list("bcd"))
    assert inner.asked == []
    encoder.encode(list("ab"))
    assert inner.asked[0] == "a"


def test_a_file_gives_the_same_bits_again(tmp_path):
    path = tmp_path / "vectors.sqlite"
    first = CachedEncoder(HashedEncoder(), path).encode(TEXTS)
    inner = HashedEncoder()
    inner.encode = None  # it would be asked for nothing
    np.testing.assert_array_equal(CachedEncoder(inner, path).encode(TEXTS), first)


def test_another_encoder_takes_nothing_from_the_file(tmp_path):
    path = tmp_path / "vectors.sqlite"
    one, two, wide = Counting("one"), Counting("two"), HashedEncoder(16)
    for encoder in (one, two, wide):
        CachedEncoder(encoder, path).encode(["a"])
    assert one.asked == two.asked == ["a"]
    np.testing.assert_array_equal(CachedEncoder(wide, path).encode(["a"]), wide.encode(["a"]))


@pytest.mark.parametrize("given_vectors", [np.zeros((1, 3)), np.zeros(4), np.full((1, 4), np.nan)])
def test_bad_vectors_are_named_and_not_kept(given_vectors, path):
    inner = Counting()
    good, inner.encode = inner.encode, lambda texts: given_vectors
    encoder = CachedEncoder(inner, path)
    with pytest.raises(ValueError, match=r"encoder 'counting' must give finite vectors of shape"):
        encoder.encode(["a"])
    inner.encode = good
    np.testing.assert_array_equal(encoder.encode(["a"]), good(["a"]))


def test_fewer_than_one_is_refused():
    with pytest.raises(ValueError, match="most must lie in"):
        CachedEncoder(Counting(), most=0)


def test_a_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 50)
    with pytest.raises(ValueError, match=r"path must be a file of vectors; .*vectors\.sqlite is"):
        CachedEncoder(Counting(), path).encode(["a"])
    path.unlink()
    path.mkdir()
    with pytest.raises(OSError, match=r"cannot use the vectors in .*vectors\.sqlite"):
        CachedEncoder(Counting(), path).encode(["a"])


def test_every_flipped_byte_of_a_vector_is_noticed(tmp_path):
    path = tmp_path / "vectors.sqlite"
    CachedEncoder(Counting(), path).encode(["abc"])
    whole = path.read_bytes()
    stored = Counting().encode(["abc"])[0].tobytes()
    place = whole.index(stored)
    for offset in range(-4, len(stored)):
        damaged = bytearray(whole)
        damaged[place + offset] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"vectors\.sqlite holds a damaged one"):
            CachedEncoder(Counting(), path).encode(["abc"])


def test_a_truncated_file_is_named(tmp_path):
    path = tmp_path / "vectors.sqlite"
    CachedEncoder(HashedEncoder(), path).encode(TEXTS)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"path must be a file of vectors; .*vectors\.sqlite"):
        CachedEncoder(HashedEncoder(), path).encode(TEXTS)


WRITER = """
import sys
from sigma_jax.runtime import CachedEncoder
from sigma_jax.runtime import HashedEncoder
encoder, name, count = CachedEncoder(HashedEncoder(8), sys.argv[1]), sys.argv[2], int(sys.argv[3])
for number in range(count):
    encoder.encode([f"{name} {number}", f"shared {number}"])
    print(number, flush=True)
"""


def writer(path, name, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_and_threads_share_a_file_and_a_kill_leaves_it_whole(tmp_path):
    path = tmp_path / "vectors.sqlite"
    other = writer(path, "one", 10)
    killed = writer(path, "killed", 1_000_000)
    for _ in range(5):
        assert killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    encoder = CachedEncoder(HashedEncoder(8), path)
    threads = [
        threading.Thread(target=encoder.encode, args=([f"thread {i}", f"shared {i}"],))
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.communicate()
    assert other.returncode == 0
    killed.communicate()
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (count,) = connection.execute("SELECT count(*) FROM vectors").fetchone()
    connection.close()
    assert count >= 10 + 10 + 5 + 4
    texts = [*(f"one {i}" for i in range(10)), *(f"killed {i}" for i in range(5)), "thread 3"]
    kept = HashedEncoder(8)
    expected, kept.encode = kept.encode(texts), None
    np.testing.assert_array_equal(CachedEncoder(kept, path).encode(texts), expected)
