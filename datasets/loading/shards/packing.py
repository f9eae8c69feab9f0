"""Cached pixels to shards: a case lies among others by chance, its split apart; what is there already stays there."""

import zlib
from collections.abc import Iterator

from ....core.counter import Counter
from ...manifest.tables import Manifest
from ..cache import PixelCache
from .index import NAME, Index, case_keys, digest
from .storage import Storage

SHARD_BYTES = 256 * 10**6


def pack(manifest: Manifest, cache: PixelCache, url: str, shard_bytes: int = SHARD_BYTES) -> Index:
    """Write the pixels of a manifest's cases as shards, and then the index, which alone makes them count.

    A shard is called by the checksum of its content: one that is there is not written again, so a repeated command
    goes on, and one that somebody reads does not change under him.

    Args:
        manifest: The cases.
        cache: Their pixels, row by row.
        url: Where to; `<reader>/` below it holds the shards.
        shard_bytes: Size of a shard; one case may have more.

    Raises:
        UserError, RunError: As `Storage`.
    """
    storage, folder, index = Storage(url), cache.reader.name, Index()
    keys, reasons = case_keys(manifest), cache.reasons()
    index.lost_colour = cache.lost_colour
    index.unread = [key for key, reason in zip(keys, reasons) if reason]
    good = [row for row in range(len(keys)) if not reasons[row]]
    with Counter(len(good), "packing shards", "case") as counter:
        for rows in _shares(manifest, cache, keys, good, shard_bytes):
            content = bytearray()
            for row in rows:
                pixels = cache[row]
                index.places[keys[row]] = [len(index.shards), len(content), zlib.crc32(pixels.data), *pixels.shape]
                content += pixels.data
            name = digest(content)
            if storage.size(f"{folder}/{name}") != len(content):
                storage.write(f"{folder}/{name}", bytes(content))
            index.shards.append((name, len(content)))
            counter.update(len(rows))
    storage.write(f"{folder}/{NAME}", index.to_bytes())
    return index


def _shares(
    manifest: Manifest, cache: PixelCache, keys: list[str], good: list[int], shard_bytes: int
) -> Iterator[list[int]]:
    """Return rows of each shard: one split after the other, and within it by key, which is as good as by chance."""
    splits, sizes = manifest.table["split"].tolist(), cache.sizes().tolist()
    rows: list[int] = []
    filled, split = 0, None
    for row in sorted(good, key=lambda row: (splits[row], keys[row])):
        size = sizes[row]
        if rows and (splits[row] != split or filled + size > shard_bytes):
            yield rows
            rows, filled = [], 0
        rows.append(row)
        filled, split = filled + size, splits[row]
    if rows:
        yield rows
