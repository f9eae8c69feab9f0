"""One array of a Zarr (version 2 or 3), read chunk by chunk; nothing larger is decoded than it says.

Of the codecs those that images are stored with: none, zlib, gzip, zstd, blosc and lz4, checksums, and shards of version
3. What a compressed chunk claims of its size is never believed: it is decoded into the bytes of the chunk's shape.
Zarr specification 2 and 3.1 (zarr-specs.readthedocs.io).
"""

import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.errors import DataError
from ...core.extras import require
from .zarr_store import V3, Store

LARGEST_BYTES = 2**28  # of a decoded chunk
_MOST_AXES = 6
_MISSING = 2**64 - 1  # offset and length of a chunk that a shard does not hold
_CHECKSUM_BYTES = 4
_BLOSC_HEAD = struct.Struct("<4B3I")  # versions, flags, type size; bytes decoded, of a block, and of all of it
_SHARED = {"zlib", "gzip", "zstd", "blosc", "lz4"}


class ZarrArray:
    """An array of uint8.

    Attributes:
        shape: (n, ...) of the array.
        chunks: Of what is decoded at once.

    Args:
        store: Its Zarr.
        name: Its path within.

    Raises:
        DataError: No array, or of another type, codec or size than is read here.
    """

    def __init__(self, store: Store, name: str):
        self._store, self._name = store, name
        self.where = f"{store.path}: the array {name!r}"
        document, old = store.json(f"{name}/{V3}"), None
        if document is None:
            old = store.json(f"{name}/.zarray")
        if document is None and old is None:
            raise DataError(f"{self.where} that its metadata name is not there. Copy it again, whole.")
        try:
            self._version_3(document) if document is not None else self._version_2(old)
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            if isinstance(error, DataError):
                raise
            reason = f"{type(error).__name__} {error}"[:100]
            raise DataError(f"{self.where}: its metadata are not those of Zarr 2 or 3 ({reason}).") from None
        self._refuse_sizes()

    def _version_2(self, document: dict) -> None:
        self._type(document["dtype"], ("|u1", "<u1", ">u1"))
        if document.get("filters") or document.get("order", "C") not in ("C", "F"):
            raise DataError(f"{self.where}: filters are not read here. Write it without.")
        self.shape, self.chunks = tuple(document["shape"]), tuple(document["chunks"])
        self._order, self._fill = document.get("order", "C"), document.get("fill_value")
        compressor = document.get("compressor")
        self._codecs = [] if compressor is None else [self._known(compressor["id"])]
        self._separator, self._prefix = document.get("dimension_separator", "."), ""
        self._shard: tuple[int, ...] = self.chunks
        self._index_codecs: list[str] = []
        self._at_end = True
        self._sharded = False

    def _version_3(self, document: dict) -> None:
        if document["node_type"] != "array":
            raise DataError(f"{self.where} is a {document['node_type']!r}.")
        self._type(document["data_type"], ("uint8",))
        grid = document["chunk_grid"]
        if grid["name"] != "regular":
            raise DataError(f"{self.where}: chunks of the kind {grid['name']!r} are not read here.")
        self.shape, self._shard = tuple(document["shape"]), tuple(grid["configuration"]["chunk_shape"])
        self._order, self._fill = "C", document.get("fill_value")
        keys = document.get("chunk_key_encoding", {"name": "default"})
        default = keys["name"] == "default"
        self._separator = keys.get("configuration", {}).get("separator", "/" if default else ".")
        self._prefix = "c" if default else ""
        codecs = document["codecs"]
        self._sharded = codecs[0]["name"] == "sharding_indexed"
        self.chunks, self._index_codecs, self._at_end = self._shard, [], True
        if self._sharded:
            inner = codecs[0]["configuration"]
            if len(codecs) > 1:
                raise DataError(f"{self.where}: shards that are compressed themselves are not read here.")
            self.chunks, codecs = tuple(inner["chunk_shape"]), inner["codecs"]
            self._index_codecs = self._names(inner["index_codecs"])
            self._at_end = inner.get("index_location", "end") == "end"
            if set(self._index_codecs) - {"crc32c"}:
                raise DataError(f"{self.where}: an index of shards that is compressed is not read here.")
        self._codecs = self._names(codecs)

    def _names(self, codecs: list[dict]) -> list[str]:
        """Return the codecs behind `bytes`, which one-byte values need not be turned for."""
        return [self._known(codec["name"]) for codec in codecs if codec["name"] != "bytes"]

    def _known(self, name: str) -> str:
        if name not in _SHARED | {"crc32c"}:
            raise DataError(
                f"{self.where}: the codec {name!r} is not read here; {', '.join(sorted(_SHARED))} are. Convert it."
            )
        return name

    def _type(self, found: Any, wanted: Sequence[str]) -> None:
        if found not in wanted:
            raise DataError(
                f"{self.where}: pixels of the type {found!r}; how bright the brightest is meant to be, the file does "
                "not say. Save it with 8 bits per channel, grey or RGB."
            )

    def _refuse_sizes(self) -> None:
        for sizes in (self.shape, self.chunks, self._shard):
            whole = all(type(size) is int and 0 < size < 2**31 for size in sizes)
            if not whole or not 2 <= len(sizes) <= _MOST_AXES or len(sizes) != len(self.shape):
                raise DataError(f"{self.where}: refused: sizes {str(sizes)[:80]} are none of an image.")
        if (size := math.prod(self.chunks)) > LARGEST_BYTES:
            raise DataError(
                f"{self.where}: refused: a chunk of {' x '.join(map(str, self.chunks))} is {size:.3g} bytes in memory "
                f"(at most {LARGEST_BYTES:.3g}). Write it in smaller chunks."
            )
        if any(outer % inner for outer, inner in zip(self._shard, self.chunks)):
            raise DataError(f"{self.where}: refused: its shards are no whole number of chunks.")
        per_shard = math.prod(outer // inner for outer, inner in zip(self._shard, self.chunks))
        if 16 * per_shard > LARGEST_BYTES:
            raise DataError(f"{self.where}: refused: {per_shard:.3g} chunks in a shard.")
        fill = 0 if self._fill is None else self._fill
        if type(fill) is not int or not 0 <= fill <= 255:
            raise DataError(f"{self.where}: fill_value {self._fill!r} is no uint8.")
        self._fill = fill

    def chunk(self, index: tuple[int, ...]) -> np.ndarray:
        """Return a chunk in its full shape, uint8; one that was never written holds the array's fill value.

        Raises:
            DataError: It cannot be decoded.
        """
        data = self._stored(index)
        if data is None:
            return np.full(self.chunks, self._fill, np.uint8)
        size = math.prod(self.chunks)
        most = size + _CHECKSUM_BYTES * self._codecs.count("crc32c")
        for codec in reversed(self._codecs):
            data = self._decoded(codec, data, most)
        if len(data) != size:
            raise self._broken(index, f"{len(data)} bytes instead of {size}")
        return np.frombuffer(data, np.uint8).reshape(self.chunks, order=self._order)

    def _stored(self, index: tuple[int, ...]) -> bytes | None:
        per_axis = [outer // inner for outer, inner in zip(self._shard, self.chunks)]
        place = [at // per for at, per in zip(index, per_axis)]
        parts = [self._prefix] * bool(self._prefix) + [str(each) for each in place]
        name = f"{self._name}/{self._separator.join(parts)}"
        size = self._store.size(name)
        if size is None:
            return None
        if not self._sharded:
            if size > 2 * math.prod(self.chunks) + 2**20:
                raise self._broken(index, "a file larger than the chunk can be")
            return self._store.read(name, 0, size)
        count = math.prod(per_axis)
        length = 16 * count + _CHECKSUM_BYTES * len(self._index_codecs)
        if size < length:
            raise self._broken(index, "its shard is cut off")
        table = self._store.read(name, size - length if self._at_end else 0, length)
        table = self._decoded("crc32c", table, 16 * count) if self._index_codecs else table
        number = int(np.ravel_multi_index([at % per for at, per in zip(index, per_axis)], per_axis))
        offset, stored = struct.unpack_from("<QQ", table, 16 * number)
        if (offset, stored) == (_MISSING, _MISSING):
            return None
        if offset + stored > size or stored > 2 * math.prod(self.chunks) + 2**20:
            raise self._broken(index, "its shard points beyond its end")
        return self._store.read(name, offset, stored)

    def _decoded(self, codec: str, data: bytes, size: int) -> bytes:
        """Return data without one codec; of `size` bytes at most."""
        try:
            if codec == "crc32c":
                return self._checked(data)
            if codec in ("zlib", "gzip"):
                engine = zlib.decompressobj(wbits=47)  # either header
                found = engine.decompress(data, size + 1)
                if not engine.eof:
                    raise ValueError("cut off, or more than the chunk holds")
                return found
            imagecodecs = require("imagecodecs", "codecs", self._store.path)
            if codec == "zstd":
                return bytes(imagecodecs.zstd_decode(data, out=size))
            if codec == "blosc":
                _refuse_cut_off(data)
                return bytes(imagecodecs.blosc_decode(data, out=size))
            return bytes(imagecodecs.lz4_decode(data, header=True, out=size))
        except (ValueError, RuntimeError, zlib.error) as error:
            raise DataError(
                f"{self.where}: a chunk cannot be decoded by {codec} ({error}). It is damaged: copy it again."
            ) from None

    def _checked(self, data: bytes) -> bytes:
        """Return data without its checksum (CRC-32C, as of iSCSI)."""
        body, stated = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
        if len(stated) < _CHECKSUM_BYTES or struct.pack("<I", _crc32c(body)) != stated:
            raise ValueError("another checksum than stored")
        return body

    def _broken(self, index: tuple[int, ...], why: str) -> DataError:
        return DataError(f"{self.where}: the chunk {index} cannot be read ({why}). Copy it again.")


def _refuse_cut_off(data: bytes) -> None:
    """Raise ValueError unless data are as many bytes as their header says: Blosc reads on beyond their end."""
    if len(data) < _BLOSC_HEAD.size or _BLOSC_HEAD.unpack_from(data)[-1] != len(data):
        raise ValueError("cut off")


def _crc32c_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _crc32c_table()


def _crc32c(data: bytes) -> int:
    """Return the Castagnoli checksum of a few bytes: of the index of a shard, not of pixels."""
    value = 0xFFFFFFFF
    for byte in data:
        value = _TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF
