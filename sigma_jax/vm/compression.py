"""How the members of an archive are compressed, and expanded no further than they declare."""

import zlib
from typing import Literal

import zstandard

Codec = Literal["zstd", "zlib", "store"]
_CHUNK = 2**20


def shrunk(data: bytes, codec: Codec, dictionary: bytes | None) -> bytes:
    """`data` compressed: zstd level 19 with long-distance matching, zlib level 9, or as it is.

    **Raises** `zstandard.ZstdError` for a dictionary that is not zstd's.
    """
    if codec == "store":
        return data
    if codec == "zlib":
        return zlib.compress(data, 9)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        19, enable_ldm=True, write_dict_id=True
    )
    shared = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary)
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=shared)
    return compressor.compress(data)


def expanded(
    stored: memoryview, codec: str, size: int, dictionary: zstandard.ZstdCompressionDict | None
) -> bytes:
    """What `stored` expands to, cut after `size` + 1 bytes: the last one gives a lie away.

    **Raises** `zlib.error` or `zstandard.ZstdError` for what is not compressed data.
    """
    if codec == "store":
        return bytes(stored)
    if codec == "zlib":
        stream = zlib.decompressobj()
        data = stream.decompress(stored, size + 1)
        if len(data) <= size and (stream.unused_data or not stream.eof):
            raise zlib.error("it ends early, or is followed by something else")
        return data
    # Not `decompress`, which believes the size that the frame itself declares.
    chunks, left = [], size + 1
    decompressor = zstandard.ZstdDecompressor(dict_data=dictionary)
    with decompressor.stream_reader(stored) as reader:
        while left and (chunk := reader.read(min(left, _CHUNK))):
            chunks.append(chunk)
            left -= len(chunk)
    return b"".join(chunks)
