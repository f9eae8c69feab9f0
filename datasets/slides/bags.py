"""Bags of instance features in a folder of HDF5 files made from slides, and padded batches."""

import hashlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...core.errors import DataError
from ...core.platform import usable_cores
from ..loading.isolation import isolated
from .places import features_file


class Bags(Protocol):
    """What both kinds of bags offer: rows are numbered as the cases they were made for."""

    width: int

    def __len__(self) -> int: ...

    def count(self, row: int) -> int:
        """Return instances of a bag."""

    def bag(self, row: int, instances: np.ndarray | None = None) -> np.ndarray:
        """Return (n, D) features of these instances (ascending), or of all."""

    def reasons(self) -> list[str]:
        """Return why each bag cannot be used; empty where it can."""


class BagFolder:
    """`<folder>/<id>.h5` or `.pt` for every id, read when asked for; small bags stay in memory.

    They are kept in half precision; those with values beyond it (65,504) stay in single precision, which is said once.

    A file that is missing, empty or broken is a reason, not an error. `attributes` are those, of the files' encoder
    and tiles, that all readable files state alike.

    Args:
        ids: Ids of the cases.
        folder: Where the files are.
        cache_gib: Memory for bags that were read, GiB.

    Raises:
        DataError: No file is readable, or two have features of another width or encoder.
    """

    def __init__(self, ids: Sequence[str], folder: str | Path, cache_gib: float = 4.0):
        self.ids, self.folder = list(ids), Path(folder)
        self._left = int(cache_gib * 2**30)
        self._kept: dict[int, np.ndarray] = {}
        self._counts = np.zeros(len(self.ids), dtype=np.int64)
        self._reasons = [""] * len(self.ids)
        self._said_wide = False
        self.width = 0
        self.attributes: dict[str, Any] = {}
        first, heads = None, self._heads()
        for row in range(len(self.ids)):
            try:
                first = self._look(row, heads.get(row), first)
            except _Unlike as error:
                raise DataError(str(error)) from None
            except DataError as error:
                self._reasons[row] = str(error)
        if first is None:
            raise DataError(
                f"{self.folder}: none of the {len(self.ids)} cases has readable features. The first: "
                f"{self._reasons[0] if self.ids else 'there is no case'} `clinvit extract` makes features."
            )

    def __len__(self) -> int:
        return len(self.ids)

    def path(self, row: int) -> Path:
        """Return the file of a row."""
        return features_file(self.folder, self.ids[row])

    def count(self, row: int) -> int:
        """Return instances of a bag; 0 where there is none."""
        return int(self._counts[row])

    def reasons(self) -> list[str]:
        """Return why each bag cannot be used; empty where it can."""
        return self._reasons

    def bag(self, row: int, instances: np.ndarray | None = None) -> np.ndarray:
        """Return (n, D) features of these instances (ascending), or of all.

        float16; float32 where a value of the bag is beyond half precision.

        Raises:
            DataError: The file cannot be read, or has a value that is not finite.
        """
        if row not in self._kept:
            size = 2 * self.count(row) * self.width
            if size > self._left:
                return self._read(row, instances)
            self._kept[row] = self._read(row)
            self._left -= self._kept[row].nbytes
        return self._kept[row] if instances is None else self._kept[row][instances]

    def fits(self) -> bool:
        """Return whether all bags stay in memory once they were read."""
        waiting = [row for row in range(len(self)) if row not in self._kept]
        return 2 * int(self._counts[waiting].sum()) * self.width <= self._left

    def fingerprint(self) -> str:
        """Return SHA-256 over ids, instances and sizes of the files, and what they say of themselves."""
        sizes = [self.path(row).stat().st_size if self._counts[row] else 0 for row in range(len(self))]
        facts = [*zip(self.ids, self._counts.tolist(), sizes), sorted(self.attributes.items())]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def _heads(self) -> dict[int, tuple[int, int, dict] | DataError]:
        """Return the heads of the files that are there, by row.

        Read by processes, since HDF5 may hang over a broken one.
        """
        from .hdf5 import features_head, is_tensor

        paths = {row: path for row in range(len(self)) if (path := self.path(row)).is_file()}
        tensors = {row: path for row, path in paths.items() if is_tensor(path)}
        heads = _heads(features_head, {row: path for row, path in paths.items() if row not in tensors})
        if tensors:
            from .tensors import tensor_head

            heads |= _heads(tensor_head, tensors)
        return heads

    def _look(self, row: int, head: tuple[int, int, dict] | DataError | None, first: int | None) -> int:
        """Compare the head of a file with that of the first readable one; gives that one's row."""
        if head is None:
            raise DataError(f"{self.path(row)}: no such file: this case has no features.")
        if isinstance(head, DataError):
            raise head
        count, width, attributes = head[0], head[1], described(head[2])
        if not count:
            raise DataError(f"{self.path(row)}: no features in it: an empty bag.")
        if first is None:
            self.width, self.attributes = width, attributes
        elif width != self.width:
            raise _Unlike(
                f"{self.path(row)}: features of width {width}, but those of {self.path(first)} have {self.width}: made "
                "by another encoder. Extract all of them with one."
            )
        if differs := differing(self.attributes, attributes):
            name = differs[0]
            raise _Unlike(
                f"{self.path(row)}: {name} is {attributes[name]!r}, but {self.attributes[name]!r} in "
                f"{self.path(row if first is None else first)}. Extract all features with one encoder and tile size."
            )
        self.attributes = {name: self.attributes[name] for name in self.attributes if name in attributes}
        self._counts[row] = count
        return row if first is None else first

    def _read(self, row: int, instances: np.ndarray | None = None) -> np.ndarray:
        from .hdf5 import all_finite, open_features

        with open_features(self.path(row)) as file:
            features = torch.from_numpy(file.read(instances))
        half = features.half().numpy()  # NumPy takes 7 times as long
        if all_finite(half):
            return half
        if not self._said_wide:
            self._said_wide = True
            print(
                f"note: {self.path(row)}: features beyond 65,504, which half precision cannot hold: such bags are kept "
                "in single precision, twice the memory.",
                file=sys.stderr,
            )
        return features.float().numpy()


class _Unlike(DataError):
    """Bags that do not belong together."""


def _heads(read: Callable[[Path], Any], paths: dict[int, Path]) -> dict[int, Any]:
    workers = min(usable_cores(), 1 + len(paths) // 100)
    return dict(zip(paths, isolated(read, paths.values(), workers, ahead=16)))


def described(attributes: dict) -> dict:
    """Return of a file's attributes those that must agree between bags.

    Encoder and tile size, not what differs by slide.
    """
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in attributes.items()
        if name.startswith("encoder") or name in ("tile_um", "tile_px")
    }


def differing(one: dict, other: dict) -> list[str]:
    """Return names that both describe, differently."""
    return sorted(name for name in one.keys() & other.keys() if one[name] != other[name])


def draw_instances(count: int, most: int | None, dropout: float, seed: int) -> np.ndarray | None:
    """Choose which instances a training step sees: a random share, at most `most`, at least one; ascending.

    None is all.

    Args:
        count: Instances of the bag.
        most: Most instances; None for no limit.
        dropout: Share that is left out.
        seed: Of the draw.
    """
    keep = max(1, min(most or count, round(count * (1 - dropout))))
    if keep == count:
        return None
    return np.sort(np.random.default_rng(seed).choice(count, keep, replace=False, shuffle=False))


def pad_bags(bags: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return (B, N, D) features, zero at padding, and (B, N) mask that is True at instances, of bags (n, D).

    The features of a lone bag are its own memory.
    """
    longest = max(map(len, bags))
    if len(bags) == 1:
        return torch.from_numpy(bags[0])[None], torch.ones(1, longest, dtype=torch.bool)
    kinds = {torch.from_numpy(bag).dtype for bag in bags}
    features = torch.zeros(
        len(bags), longest, bags[0].shape[1], dtype=kinds.pop() if len(kinds) == 1 else torch.float32
    )
    for slot, bag in zip(features, bags):
        slot[: len(bag)] = torch.from_numpy(bag)
    return features, torch.arange(longest) < torch.tensor([[len(bag)] for bag in bags])


class BagCases(Dataset):
    """Padded batches of bags, for the loaders of `loading`.

    Args:
        source: Bags by row.
        rows: Which rows belong to the data set.
        targets: (len(source), L) float32.
        max_instances, dropout: Of a training draw; None and 0 give whole bags.
        max_bad: Share of the bags that may fail when they are read; they are left out of their batch.
        chances: (len(rows),) by which each bag is drawn anew, whatever was asked for; None for each in its turn. The
            draw comes from the sample's seed, so that a run that goes on sees the same bags.
    """

    def __init__(
        self, source: Bags, rows: np.ndarray, targets: np.ndarray, max_instances: int | None = None,
        dropout: float = 0.0, max_bad: float = 0.0, chances: np.ndarray | None = None,
    ):  # fmt: skip
        self.source, self.rows, self.targets = source, np.asarray(rows), targets
        self.max_instances, self.dropout, self.max_bad = max_instances, dropout, max_bad
        self.bad: set[int] = set()
        self._drawn = None if chances is None else np.cumsum(chances)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, samples: list[tuple[int, int]]) -> dict[str, Any]:
        """Return `features` (B, N, D), `mask` (B, N), `target` (B, L) and `row` (B,) of (position, seed) samples.

        Where bags cannot be read, `unread` holds pairs of row and reason.
        """
        bags, rows, unread = [], [], []
        for position, seed in samples:
            if self._drawn is not None:
                position = np.searchsorted(self._drawn, np.random.default_rng([seed, 1]).random() * self._drawn[-1])
            row = int(self.rows[position])
            chosen = draw_instances(self.source.count(row), self.max_instances, self.dropout, seed)
            try:
                bags.append(self.source.bag(row, chosen))
                rows.append(row)
            except DataError as error:
                self.bad.add(row)
                unread.append((row, str(error)))
                if len(self.bad) > self.max_bad * len(self.rows):
                    raise
        if not bags:
            raise DataError(f"none of the {len(samples)} bags of a batch can be read.")
        features, mask = pad_bags(bags)
        batch = {
            "features": features,
            "mask": mask,
            "target": torch.from_numpy(self.targets[rows]),
            "row": torch.tensor(rows),
        }
        return batch | ({"unread": unread} if unread else {})
