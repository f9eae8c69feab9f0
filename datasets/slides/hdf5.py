"""Tiles and features of a slide in HDF5, as CLAM and TRIDENT lay them out: theirs are read, ours are usable there.

Both keep `coords` (N, 2; x and y in level-0 px) and `features` (N, D). CLAM reads `patch_size` px at `patch_level`;
TRIDENT reads `patch_size` px at `target_magnification` of a slide of `level0_magnification`. Their `patch_size` is one
attribute with two meanings, so ours is the side in level-0 px, at level 0 and the slide's own magnification: both then
cut out exactly our squares, which encoders resize anyway. What we need beyond that has names of our own.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ...core.errors import DataError
from ...core.files import refuse_irregular, require_space, written_aside
from ..loading.contained import refuse_inflated, refuse_pointers
from ..loading.limits import FEATURES_GB
from .theirs import FEATURES, by_our_names, in_microns, placed_grid, side_px
from .tiles import QUALITY, TileGrid

if TYPE_CHECKING:
    from .tensors import TensorFile

# Rows wanted that lie nearer than this are read in one go, and at most so many at a time.
_GAP_ROWS, _SPAN_ROWS = 16, 4096
# Names, attributes, `tissue`.
_OVERHEAD_BYTES = 1 << 20
_ADVICE = "Write it again, or take it out of the list."


@contextmanager
def _written(path: str | os.PathLike, size_bytes: int) -> Iterator[h5py.File]:
    """Return a new file for arrays of about this size, written aside."""
    require_space(Path(path), size_bytes + size_bytes // 2 + _OVERHEAD_BYTES)
    with written_aside(path) as aside, h5py.File(aside, "w") as file:
        yield file


def write_tiles(path: str | os.PathLike, grid: TileGrid) -> None:
    """Write a tile grid: `coords` with the attributes of CLAM, TRIDENT and our own, `tissue` and quality."""
    with _written(path, grid.coords.nbytes) as file:
        _write_grid(file, Path(path), grid)


def read_tiles(
    path: str | os.PathLike,
    mpp: float | None = None,
    size_px: tuple[int, int] | None = None,
    tile_level0_px: int | None = None,
) -> TileGrid:
    """Read a tile grid of ours, of CLAM, TRIDENT or STAMP.

    Args:
        path: The file.
        mpp: Microns per level-0 px of the slide, for files of others, which do not say.
        size_px: Width and height of the slide, for files that do not say.
        tile_level0_px: Side of a tile, for files that do not say.

    Returns:
        The tiles; `tissue` and `overlap_um` are NaN where the file does not say.

    Raises:
        DataError: Missing, truncated, of another layout, without tiles, without scale or size, or contradicting what
            is given.
    """
    path = Path(path)
    with _reading(path), _opened(path) as file:
        coords = _coords(path, file)
        if coords is None:
            raise DataError(f"{path}: no `coords`: where its tiles lie, it does not say. {_ADVICE}")
        attrs = _attributes(file, "coords")
        tissue = _tissue(path, file, len(coords))
        quality = {name: _column(path, file, name, len(coords)) for name in QUALITY if name in file}
    with _reading(path):
        return replace(placed_grid(path, coords, tissue, attrs, mpp, size_px, tile_level0_px), quality=quality)


def states_slide(path: str | os.PathLike) -> bool:
    """Return whether a file of tiles says scale and size of its slide itself, as ours do.

    Raises:
        DataError: Missing or truncated.
    """
    path = Path(path)
    with _reading(path), _opened(path) as file:
        return "coords" in file and {"mpp", "level0_width"} <= _attributes(file, "coords").keys()


def write_features(
    path: str | os.PathLike, features: np.ndarray, grid: TileGrid, encoder: Mapping[str, str | int | float]
) -> None:
    """Write the features of a slide with its tiles.

    Args:
        path: The file; `<folder>/<id>.h5`.
        features: (N, D) float16 or float32, in the order of `grid.coords`.
        grid: The tiles.
        encoder: What made the features; attributes of `features`.

    Raises:
        DataError: Another number of features than tiles, none, or some that are NaN or infinite.
    """
    path = Path(path)
    if features.ndim != 2 or features.dtype not in (np.float16, np.float32) or not features.size:
        raise DataError(
            f"{path}: features of the shape {features.shape} ({features.dtype}); (tiles, values) of float16 or float32 "
            "are written, at least one of each."
        )
    if len(features) != len(grid.coords):
        raise DataError(f"{path}: {len(features)} features for {len(grid.coords)} tiles.")
    _refuse_unfinite(path, features)
    with _written(path, features.nbytes + grid.coords.nbytes) as file:
        # In one piece, which is read about twice as fast as chunks.
        dataset = file.create_dataset("features", data=features)
        dataset.attrs.update({"name": path.stem, "savetodir": str(path.parent), **encoder})
        _write_grid(file, path, grid)


def write_scores(path: str | os.PathLike, scores: np.ndarray, grid: TileGrid) -> None:
    """Write what a model says of every tile: `scores` (N,) in 0..1, with the tiles as in `write_tiles`."""
    assert scores.shape == (len(grid.coords),), (scores.shape, len(grid.coords))
    with _written(path, scores.nbytes + grid.coords.nbytes) as file:
        file.create_dataset("scores", data=scores.astype(np.float32))
        _write_grid(file, Path(path), grid)


def write_slide_vector(
    path: str | os.PathLike, vector: np.ndarray, attention: np.ndarray, tiles: Path, encoder: Mapping[str, str]
) -> None:
    """Write one vector of a slide as TRIDENT does: `features` (D,) and the `coords` of the tiles that it was made of.

    Beside them stands `attention` (N,), how much each tile had of it.

    Args:
        path: The file; `<folder>/<id>.h5`.
        vector: (D,) float32.
        attention: (N,) float32.
        tiles: The file of the tiles' features, whose `coords` are copied with what they say of themselves.
        encoder: What made the vector; attributes of `features`.

    Raises:
        DataError: The tiles cannot be read.
    """
    with _written(path, vector.nbytes + 20 * attention.size) as file:
        file.create_dataset("features", data=vector).attrs.update(dict(encoder))
        file.create_dataset("attention", data=attention)
        if not is_tensor(tiles):
            with _reading(tiles), _opened(tiles) as source:
                if _coords(tiles, source) is not None:
                    source.copy("coords", file)
                    file["coords"].attrs.update(dict(source.attrs.items()))


def read_attention(path: str | os.PathLike) -> np.ndarray | None:
    """Return the (N,) weights that `write_slide_vector` wrote; None where the file has none.

    Raises:
        DataError: Missing or damaged.
    """
    path = Path(path)
    with _reading(path), _opened(path) as file:
        return file["attention"][:] if "attention" in file else None


def read_scores(path: str | os.PathLike) -> tuple[np.ndarray, TileGrid]:
    """Read what `write_scores` wrote.

    Raises:
        DataError: Missing, truncated, or another file.
    """
    grid = read_tiles(path)
    with _reading(Path(path)), _opened(Path(path)) as file:
        if "scores" not in file or file["scores"].shape != (len(grid.coords),):
            raise DataError(f"{path}: no `scores`, one per tile. {_ADVICE}")
        return file["scores"][:].astype(np.float64), grid


class FeatureFile:
    """Features of a slide in an HDF5 file, read row by row; a context manager.

    It may be handed to worker processes: each opens the file for itself.

    Attributes:
        path: The file.
        count: Number of tiles.
        dim: Values per tile.
        coords: (count, 2) as stored (of CLAM and TRIDENT level-0 px, of STAMP microns); None where the file has none.
        tile_level0_px: Side of a tile in level-0 px; None if the file does not say.
        attributes: What the file says of coordinates and features, as plain Python values.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file, self._process = None, None
        try:
            with _reading(path):
                self._look(path, self._opened())
        except BaseException:
            self.close()
            raise

    def _look(self, path: Path, file: h5py.File) -> None:
        features = _features(path, file)
        self.count, self.dim = (1, 1, *features.shape)[-2:]
        # One vector per slide (a slide encoder's) comes with the coordinates of the tiles that it was made of.
        self.coords = None if features.ndim == 1 else _coords(path, file)
        if self.coords is not None and self.count != len(self.coords):
            raise DataError(f"{path}: {self.count} features but {len(self.coords)} coordinates. {_ADVICE}")
        attrs = _attributes(file, "coords")
        self.tile_level0_px = side_px(attrs)
        self.attributes = {**attrs, **_attributes(file, features.name.strip("/"))}

    def __enter__(self) -> "FeatureFile":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __reduce__(self):
        return FeatureFile, (self.path,)

    def _opened(self) -> h5py.File:
        if self._file is None or self._process != os.getpid():
            self._file, self._process = _opened(self.path), os.getpid()
        return self._file

    def read(self, indices: np.ndarray | None = None) -> np.ndarray:
        """Read rows.

        Args:
            indices: (n,) int64 rows in any order, repeats allowed; None for all.

        Returns:
            (n, dim) float16 or float32, as stored (float64 becomes float32).

        Raises:
            DataError: They cannot be read, or are NaN or infinite.
            IndexError: There is no such row.
        """
        wanted = np.asarray([] if indices is None else indices, np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= self.count):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {self.count}")
        with _reading(self.path), np.errstate(over="ignore"):
            dataset = _features(self.path, self._opened())
            kind = np.float16 if dataset.dtype == np.float16 else np.float32
            return self._all(dataset, kind) if indices is None else self._rows(dataset, kind, wanted)

    def _all(self, dataset: h5py.Dataset, kind: type) -> np.ndarray:
        out = np.empty((self.count, self.dim), kind)
        dataset.read_direct({1: out[0], 2: out, 3: out[None]}[dataset.ndim])
        _refuse_unfinite(self.path, out)
        return out

    def _rows(self, dataset: h5py.Dataset, kind: type, wanted: np.ndarray) -> np.ndarray:
        if dataset.ndim == 1:
            return self._all(dataset, kind)[wanted]
        rows, places = np.unique(wanted, return_inverse=True)
        out = np.empty((len(rows), self.dim), kind)
        for start, stop in _spans(rows):
            first, last = rows[start], rows[stop - 1] + 1
            span = dataset[0, first:last] if dataset.ndim == 3 else dataset[first:last]
            out[start:stop] = span[rows[start:stop] - first]
        _refuse_unfinite(self.path, out, rows)
        return out if np.array_equal(rows, wanted) else out[places]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
        self._file = None


def open_features(path: str | os.PathLike) -> "FeatureFile | TensorFile":
    """Open the features of a slide: HDF5 of ours, CLAM, TRIDENT or STAMP, or a tensor of CLAM's (`.pt`).

    Raises:
        DataError: Missing, truncated, of another layout, empty, or with other numbers of features and coordinates.
    """
    path = Path(path)
    if is_tensor(path):
        from .tensors import TensorFile

        return TensorFile(path)
    return FeatureFile(path)


def is_tensor(path: Path) -> bool:
    """Return whether a file of features is one tensor, by its name: it says of no tile where it lies."""
    return path.suffix.lower() == ".pt"


def features_head(path: Path) -> tuple[int, int, dict]:
    """Return tiles, width and attributes of a file of features, with the errors of `open_features`."""
    with open_features(path) as file:
        return file.count, file.dim, file.attributes


def all_finite(values: np.ndarray) -> bool:
    """Return whether no value of float16 or float32 is NaN or infinite."""
    if values.dtype == np.float16 and values.size:
        # NumPy looks at half floats one by one. By their bits, those that are not finite are the largest of each sign.
        return bool(values.view(np.int16).max() < 0x7C00 and values.view(np.uint16).max() < 0xFC00)
    return bool(np.isfinite(values).all())


def _write_grid(file: h5py.File, path: Path, grid: TileGrid) -> None:
    """Write the tiles into an open file; `path` is its name to be."""
    coords = file.create_dataset("coords", data=grid.coords.astype(np.int64))
    magnification = max(1, round(10 / grid.mpp))
    size = np.array([grid.width_px, grid.height_px])
    shared = {"patch_size": grid.tile_level0_px, "name": path.stem}
    clam = {
        "patch_level": 0, "downsample": np.ones(2), "downsampled_level_dim": size, "level_dim": size,
        "save_path": str(path.parent),
    }  # fmt: skip
    trident = {
        "patch_size_level0": grid.tile_level0_px, "level0_magnification": magnification,
        "target_magnification": magnification, "overlap": _overlap_px(grid), "savetodir": str(path.parent),
        "level0_width": grid.width_px, "level0_height": grid.height_px,
    }  # fmt: skip
    own = {"tile_px": grid.tile_px, "tile_um": grid.tile_um, "overlap_um": grid.overlap_um, "mpp": grid.mpp}
    coords.attrs.update({**shared, **clam, **trident, **own})
    file.create_dataset("tissue", data=grid.tissue.astype(np.float32))
    for name, values in grid.quality.items():
        file.create_dataset(name, data=values.astype(np.float32))


def _overlap_px(grid: TileGrid) -> int:
    """Return TRIDENT's overlap; 0 where it is unknown, for TRIDENT knows no such thing."""
    return 0 if np.isnan(grid.overlap_um) else round(grid.overlap_um / grid.mpp)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 raises on a broken file, and what its values let fail, into a DataError."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)}); damaged or cut off. {_ADVICE}") from None


def _opened(path: Path) -> h5py.File:
    refuse_irregular(path, DataError)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not an HDF5 file, or cut off ({_reason(error)}). {_ADVICE}") from None
    refuse_pointers(path, file)
    refuse_inflated(path, file)
    return file


def _tissue(path: Path, file: h5py.File, count: int) -> np.ndarray:
    """Return (count,) shares of tissue, NaN where the file does not say."""
    if "tissue" not in file:
        return np.full(count, np.nan, np.float32)
    return _column(path, file, "tissue", count)


def _column(path: Path, file: h5py.File, name: str, count: int) -> np.ndarray:
    """Return (count,) numbers of a column, one per tile."""
    column = file[name]
    if not isinstance(column, h5py.Dataset) or column.shape != (count,) or column.dtype.kind != "f":
        raise DataError(f"{path}: {count} coordinates, but `{name}` is not as many numbers. {_ADVICE}")
    return column[:]


def _coords(path: Path, file: h5py.File) -> np.ndarray | None:
    """Return (N, 2) int64 level-0 px, or float64 where they are microns; None where there are none."""
    if "coords" not in file:
        return None
    coords = file["coords"]
    fits = isinstance(coords, h5py.Dataset) and coords.dtype.kind in "iuf"
    if not fits or coords.shape[-1:] != (2,) or not (coords.ndim == 2 or (coords.ndim == 3 and len(coords) == 1)):
        raise DataError(
            f"{path}: its `coords` are no numbers (tiles, 2) as CLAM, TRIDENT and STAMP write them. {_ADVICE}"
        )
    if not coords.shape[-2]:
        raise DataError(f"{path}: no tiles in it. {_ADVICE}")
    _refuse_large(path, coords)
    values = coords[:].reshape(-1, 2)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError(f"{path}: its `coords` are not all finite. {_ADVICE}")
    return values.astype(np.float64) if in_microns(_attributes(file, "coords")) else np.rint(values).astype(np.int64)


def _features(path: Path, file: h5py.File) -> h5py.Dataset:
    """Return `features` (of STAMP `feats`): (N, D), (1, N, D), or (D,) of a whole slide."""
    features = next((file[name] for name in FEATURES if name in file), None)
    fits = isinstance(features, h5py.Dataset) and features.dtype.kind == "f"
    if not fits or not (features.ndim in (1, 2) or (features.ndim == 3 and len(features) == 1)):
        raise DataError(f"{path}: no `features` (tiles, values) as CLAM, TRIDENT and STAMP write them. {_ADVICE}")
    if not features.shape[-1]:
        raise DataError(f"{path}: its features have no values (width 0). {_ADVICE}")
    if not features.size:
        raise DataError(f"{path}: no tiles in it. {_ADVICE}")
    _refuse_large(path, features)
    return features


def _refuse_large(path: Path, dataset: h5py.Dataset) -> None:
    """Raise DataError for an array that is larger than any slide's: HDF5 stores nothing of what was never written."""
    if FEATURES_GB.exceeded(dataset.size * max(8, dataset.dtype.itemsize) / 1e9):
        shape = " x ".join(map(str, dataset.shape))
        raise DataError(
            f"{path}: `{dataset.name.strip('/')}` of {shape} is too large ({FEATURES_GB.text()}). {_ADVICE}"
        )


def _attributes(file: h5py.File, name: str) -> dict[str, Any]:
    """Return the attributes of a file and of an array in it, as plain Python values and by our names."""
    held = {**file.attrs, **(file[name].attrs if name in file else {})}
    values = {key: value.decode() if isinstance(value, bytes) else value for key, value in held.items()}
    return by_our_names({key: _python(value) for key, value in values.items()})


def _python(value: Any) -> Any:
    """Return an attribute in Python's own values; a reference or an empty one, which have none, as text."""
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list):
        return [_python(each) for each in value]
    return value if isinstance(value, str | int | float | bytes) else str(value)


def _spans(rows: np.ndarray) -> list[tuple[int, int]]:
    """Return parts start:stop of sorted rows to be read in one go."""
    new = np.flatnonzero(np.diff(rows) > _GAP_ROWS) + 1
    runs = zip([0, *new.tolist()], [*new.tolist(), len(rows)]) if len(rows) else ()
    return [(at, min(at + _SPAN_ROWS, stop)) for start, stop in runs for at in range(start, stop, _SPAN_ROWS)]


def _refuse_unfinite(path: Path, features: np.ndarray, rows: np.ndarray | None = None) -> None:
    """Raise DataError if any of (n, D) features is NaN or infinite; `rows` are their numbers, default 0 to n."""
    if all_finite(features):
        return
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    first = bad[0] if rows is None else rows[bad[0]]
    raise DataError(
        f"{path}: features of {len(bad)} tiles are NaN or infinite (the first: row {first}). Extract them again, in 32 "
        "bits if their values are beyond 65,504."
    )


def _reason(error: Exception) -> str:
    """Return the first clause of HDF5's words."""
    return " ".join(str(error).split("(", 1)[-1].rstrip(")").split(",")[0].split())[:120] or type(error).__name__
