"""The pixels of a manifest's cases from shards, row by row as from a `PixelCache`."""

import sys
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ....core.errors import DataError, RunError, UserError
from ...images.colour import colour_note
from ...manifest.tables import Manifest
from ..readers import Reader
from ..regions import refuse_cropped
from .index import Index, case_keys, read_index
from .local import LocalShards
from .storage import Storage

_WHOLE = "shards hold whole frames: name a folder instead of shards, or set it none"
WINDOW = 4  # shards whose cases are mixed, at most


class ShardPixels:
    """uint8 pixels of N cases. Worker processes fetch what they need themselves, and share what was fetched.

    Args:
        index: What lies where.
        keys: The N cases.
        files: Their files, for messages.
        local: The shards that are here.

    Attributes:
        apart: See `Files`.
        window: How many shards' cases are mixed in an epoch; 0 where all fit here, and any order is as good.

    Raises:
        UserError: A case is in no shard, or too few shards fit here.
    """

    apart = ""

    def __init__(self, index: Index, keys: list[str], files: list[Path], local: LocalShards):
        self.local, self.shards = local, index.shards
        self._lost_colour, self._packed = index.lost_colour, len(index.places)
        # Shard, offset, checksum, up to four sides.
        self.places = np.zeros((len(keys), 7), np.int64)
        self.places[:, 0] = -1
        unread = set(index.unread)
        self._reasons = {
            row: f"{files[row]}: could not be read when the shards were made; `clinvit check` says why."
            for row, key in enumerate(keys)
            if key in unread
        }
        missing = 0
        for row, (place, key) in enumerate(zip(self.places, keys)):
            if key in index.places:
                found = index.places[key]
                place[: len(found)] = found
            else:
                missing += row not in self._reasons
        if missing:
            raise UserError(
                f"{local.storage.url}: {missing} of {len(keys)} cases of the manifest are in no shard. Pack them with "
                "the same manifest: `clinvit prepare ... --shards`."
            )
        self.window = self._choose_window()
        self._open: OrderedDict[int, np.ndarray] = OrderedDict()
        self._seen = np.zeros(len(keys), bool)

    def __len__(self) -> int:
        return len(self.places)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": OrderedDict(), "_seen": np.zeros(0, bool)}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._seen = np.zeros(len(self), bool)

    def __getitem__(self, row: int) -> np.ndarray:
        """Return uint8 view of the pixels of case `row`.

        Raises:
            DataError: Its file could not be read when the shards were made.
            RunError: Its shard cannot be had.
        """
        if row in self._reasons:
            raise DataError(self._reasons[row])
        pixels, expected = self._pixels(row)
        if not self._seen[row]:
            if zlib.crc32(pixels.data) != expected:
                # Whole when it came, so damaged on this disk.
                shard = int(self.places[row, 0])
                print(f"warning: {self.local.folder}: a shard has changed; it is fetched again.", file=sys.stderr)
                self._open.pop(shard)
                self.local.drop(self.shards[shard][0])
                pixels, _ = self._pixels(row)
                if zlib.crc32(pixels.data) != expected:
                    raise RunError(f"{self.local.folder}: what is written here reads otherwise. Test that disk.")
            self._seen[row] = True
        return pixels

    @property
    def shard_of(self) -> np.ndarray:
        """Return (N,) number of each case's shard; -1 for what could not be read."""
        return self.places[:, 0]

    def reasons(self) -> list[str]:
        """Return N texts: why a case could not be read, empty where it could."""
        return [self._reasons.get(row, "") for row in range(len(self))]

    def colour_note(self) -> str:
        """Say how many files were in colour and were packed as grey; empty if none was."""
        return colour_note(self._lost_colour, self._packed)

    def fetch(self, shard: int) -> Path:
        """Return the file of a shard, by its number."""
        return self.local.get(*self.shards[shard])

    def _pixels(self, row: int) -> tuple[np.ndarray, int]:
        """Return the pixels of a row as they are here, and the checksum that they should have."""
        shard, offset, expected, *sides = self.places[row].tolist()
        if shard not in self._open:
            if self.window and len(self._open) > 2 * self.window:
                self._open.popitem(last=False)
            self._open[shard] = self._mapped(shard)
        self._open.move_to_end(shard)
        shape = [side for side in sides if side]
        return self._open[shard][offset : offset + int(np.prod(shape))].reshape(shape), expected

    def _mapped(self, shard: int) -> np.ndarray:
        while True:
            try:
                return np.memmap(self.fetch(shard), np.uint8, "r").view(np.ndarray)
            except FileNotFoundError:  # another process has made room since
                continue

    def _choose_window(self) -> int:
        sizes = [self.shards[shard][1] for shard in np.unique(self.shard_of[self.shard_of >= 0])]
        if sum(sizes) <= self.local.bound:
            return 0
        # Room for the window in use, the next one, and the one before, which some process may not have done with.
        window = min(WINDOW, self.local.bound // (3 * max(sizes)))
        if not window:
            raise UserError(
                f"--cache-gb {self.local.bound / 1e9:g}: at least three shards must fit, {3 * max(sizes) / 1e9:.2g} GB."
            )
        return window


@dataclass(frozen=True)
class Shards:
    """Where a run finds its pixels, instead of a folder with a cache.

    Attributes:
        url: Of the shards.
        folder: Where some of them are kept on this machine.
        bound_gb: How much of it.
    """

    url: str
    folder: Path
    bound_gb: float

    def __str__(self) -> str:
        return f"shards of {self.url}; at most {self.bound_gb:g} GB of them are kept in {self.folder} (--cache-gb)"

    def pixels(self, manifest: Manifest, reader: Reader) -> ShardPixels:
        """Return the pixels of all cases of a manifest, as a reader gave them when they were packed."""
        refuse_cropped(reader, _WHOLE)
        storage = Storage(self.url)
        index, _ = read_index(storage, reader.name)
        local = LocalShards(storage, reader.name, self.folder, round(self.bound_gb * 1e9))
        return ShardPixels(index, case_keys(manifest), manifest.files(), local)

    def inputs(self, reader: Reader) -> dict[str, str | float]:
        """Return what of them decides the order of a run."""
        refuse_cropped(reader, _WHOLE)
        return {"shards": read_index(Storage(self.url), reader.name)[1], "cache_gb": self.bound_gb}
