"""Slides as OME-Zarr 0.4 and 0.5 (ngff.openmicroscopy.org): the levels of the first multiscale image of a Zarr.

A folder or a zip file. One that bioformats2raw wrote holds several images; the first, `0`, is the slide.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError
from .scale import Scale
from .zarr_array import ZarrArray
from .zarr_store import V3, Store

VERSIONS = ("0.4", "0.5")
_UM = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
_CACHE_BYTES = 2**26  # of decoded chunks, as of other readers
_MOST_LEVELS = 32
_SAME_SHAPE = 0.02  # by which the shrinkage of width and height of a level may differ, beside rounding
_RGB = ("FF0000", "00FF00", "0000FF")
_ADVICE = "Convert it, for instance to a pyramidal TIFF."


class OmeZarr:
    """The levels of an OME-Zarr of 8 bits per channel, grey or RGB; a `Source`.

    Of chunks that were never written the pixels are the array's fill value, as Zarr says.

    Raises:
        DataError: No image, of another version, a stack of planes or times, of other channels, damaged, or too large.
    """

    def __init__(self, path: Path):
        self._path, self._store = path, Store(path)
        try:
            self._open()
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            self.close()
            if isinstance(error, DataError):
                raise
            reason = f"{type(error).__name__} {error}"[:100]
            raise DataError(f"{path}: its metadata are not those of OME-Zarr 0.4 or 0.5 ({reason}).") from None
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        group, found = self._image()
        image = found["multiscales"][0]
        version = str(image.get("version") or found.get("version"))
        if version not in VERSIONS:
            raise DataError(f"{self._path}: OME-Zarr {version}; {' and '.join(VERSIONS)} are read. {_ADVICE}")
        axes = [axis["name"] for axis in image["axes"]]
        if len(set(axes)) < len(axes) or not {"x", "y"} <= set(axes) <= set("tczyx"):
            names = ", ".join(map(str, axes))
            raise DataError(f"{self._path}: axes {names[:80]}; a slide has y and x, and may have t, c and z.")
        self._axes = axes
        datasets = image["datasets"]
        if not 0 < len(datasets) <= _MOST_LEVELS:
            raise DataError(f"{self._path}: refused: {len(datasets)} levels (1 to {_MOST_LEVELS}).")
        self._levels = [ZarrArray(self._store, f"{group}{each['path']}".lstrip("/")) for each in datasets]
        self._refuse_axes(found)
        self.sizes = tuple((self._length(level, "x"), self._length(level, "y")) for level in self._levels)
        self.downsamples = self._downsamples()
        self.scale = self._scale(image, datasets[0])
        most = max(math.prod(level.chunks) for level in self._levels)
        self._chunk = lru_cache(max(1, _CACHE_BYTES // most))(self._decoded)

    def _image(self) -> tuple[str, dict]:
        """Return the group of the slide with `/` at its end, and its OME attributes."""
        top = self._attributes("")
        if "multiscales" in top:
            return "", top
        if "bioformats2raw.layout" in top:
            first = self._attributes("0/")
            if "multiscales" in first:
                return "0/", first
        what = "a plate of wells" if "plate" in top or "well" in top else "no multiscale image at its top"
        raise DataError(f"{self._path}: a Zarr, but {what}. Name the folder of the image within, if there is one.")

    def _attributes(self, group: str) -> dict:
        if (document := self._store.json(f"{group}{V3}")) is not None:
            attributes = document.get("attributes", {})
            return attributes.get("ome", attributes)
        return self._store.json(f"{group}.zattrs") or {}

    def _refuse_axes(self, found: dict) -> None:
        """Raise DataError for levels of other axes, for stacks, and for channels that are no colours."""
        for level in self._levels:
            if len(level.shape) != len(self._axes):
                raise DataError(f"{level.where} has {len(level.shape)} axes, the image {len(self._axes)}.")
            for axis, what in (("t", "times"), ("z", "planes")):
                if (count := self._length(level, axis)) > 1:
                    why = f"a stack of {count} {what}; which is the slide, it does not say"
                    raise DataError(f"{self._path}: {why}. {_ADVICE}")
            if self._length(level, "c") not in (1, 3):
                raise DataError(f"{self._path}: {self._length(level, 'c')} channels; grey or RGB are read. {_ADVICE}")
        channels = (found.get("omero") or {}).get("channels") or []
        colours = tuple(str(channel.get("color", "")).upper() for channel in channels)
        if len(colours) == 3 and all(colours) and colours != _RGB:
            raise DataError(
                f"{self._path}: its channels are shown as {', '.join(colours)}: not red, green and blue of a stained "
                f"slide, but dyes of fluorescence. {_ADVICE}"
            )

    def _downsamples(self) -> tuple[float, ...]:
        """Return level-0 px per px of each level; of sizes that fall, all of the same shape."""
        (width, height), found = self.sizes[0], [1.0]
        for level, (w, h) in zip(self._levels[1:], self.sizes[1:]):
            across, down = width / w, height / h
            if across < 1 or abs(across / down - 1) > _SAME_SHAPE + 1 / min(w, h):
                raise DataError(f"{level.where} is {w} x {h} px, no smaller image of {width} x {height} px.")
            found.append(across)
        return tuple(found)

    def _scale(self, image: dict, dataset: dict) -> Scale:
        """Return the size of a level-0 pixel where the axes have a unit of length."""
        sides: dict[str, float | None] = {}
        for axis in ("x", "y"):
            place = self._axes.index(axis)
            um: Any = _UM.get(image["axes"][place].get("unit", ""))
            for holder in (dataset, image):
                for step in holder.get("coordinateTransformations") or []:
                    if step["type"] == "scale" and um is not None:
                        um *= float(step["scale"][place])
            sides[axis] = um if um and math.isfinite(um) and um > 0 else None
        return Scale(sides["x"], sides["y"])

    def _length(self, level: ZarrArray, axis: str) -> int:
        return level.shape[self._axes.index(axis)] if axis in self._axes else 1

    def region(self, x: int, y: int, level: int, width: int, height: int) -> np.ndarray:
        """Return (height, width, 3) uint8 of a level."""
        array = self._levels[level]
        left, top = round(x / self.downsamples[level]), round(y / self.downsamples[level])
        w, h = (array.chunks[self._axes.index(axis)] for axis in "xy")
        channels = self._length(array, "c")
        of_c = array.chunks[self._axes.index("c")] if "c" in self._axes else 1
        out = np.empty((height, width, channels), np.uint8)
        for row in range(top // h, -(-(top + height) // h)):
            for column in range(left // w, -(-(left + width) // w)):
                down, along = row * h - top, column * w - left  # of the chunk in the region
                for first in range(0, channels, of_c):
                    chunk = self._chunk(level, row, column, first // of_c)
                    seen = chunk[max(-down, 0) : height - down, max(-along, 0) : width - along, : channels - first]
                    above, before = max(down, 0), max(along, 0)
                    out[above : above + seen.shape[0], before : before + seen.shape[1], first : first + of_c] = seen
        return np.repeat(out, 3, axis=2) if channels == 1 else out

    def _decoded(self, level: int, row: int, column: int, channel: int) -> np.ndarray:
        """Return (h, w, c) of a chunk."""
        places = {"y": row, "x": column, "c": channel}
        chunk = self._levels[level].chunk(tuple(places.get(axis, 0) for axis in self._axes))
        # Of axes that are one long, chunks may be longer; what is beyond is filling.
        chunk = chunk[tuple(slice(None) if axis in places else 0 for axis in self._axes)]
        left = [axis for axis in self._axes if axis in places]
        if "c" not in left:
            chunk, left = chunk[..., None], [*left, "c"]
        return chunk.transpose([left.index(axis) for axis in "yxc"])

    def close(self) -> None:
        """Let go of the file, and of what was decoded."""
        if hasattr(self, "_chunk"):
            self._chunk.cache_clear()
        self._store.close()
