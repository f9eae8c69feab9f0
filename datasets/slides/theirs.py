"""What CLAM, TRIDENT and STAMP write beside their tiles and features.

CLAM (`create_patches_fp.py`, `extract_features_fp.py`): `coords` in level-0 px; of patches `patch_size`, `patch_level`,
`downsample`, `level_dim`; of features nothing. Padded tiles stick out of the slide.
TRIDENT (`coords_to_h5`, `extract_patch_features`, `extract_slide_features`): `patch_size`, `patch_size_level0` (missing
in old files), `level0_magnification`, `target_magnification`, `overlap`, `level0_width`; features of slides are (D,).
STAMP (2.x): `feats`, and `coords` in microns; attributes of the file: `unit`, `tile_size_um` (before 2.1 `tile_size`),
`tile_size_px`, `extractor`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DataError
from .tiles import TileGrid

FEATURES = ("features", "feats")
_SAME_MPP = 0.05


def by_our_names(attrs: dict[str, Any]) -> dict[str, Any]:
    """Return attributes, those of STAMP under the names that ours have too."""
    if in_microns(attrs):
        size = attrs.get("tile_size_um", attrs.get("tile_size"))
        named = {"tile_um": size, "tile_px": attrs.get("tile_size_px"), "encoder": attrs.get("extractor")}
        attrs = {key: value for key, value in named.items() if value is not None} | attrs
    return attrs


def in_microns(attrs: Mapping[str, Any]) -> bool:
    """Return whether coordinates are microns, as STAMP's are."""
    return "tile_size_um" in attrs or (attrs.get("unit") == "um" and "tile_size" in attrs)


def side_px(attrs: Mapping[str, Any]) -> int | None:
    """Return side of a tile in level-0 px by TRIDENT's attributes, else by CLAM's; None if they do not say."""
    if "patch_size_level0" in attrs:
        return int(attrs["patch_size_level0"])
    if "patch_size" not in attrs:
        return None
    if attrs.get("target_magnification") and "level0_magnification" in attrs:
        return int(attrs["patch_size"]) * int(attrs["level0_magnification"]) // int(attrs["target_magnification"])
    if "downsample" not in attrs and attrs.get("patch_level") != 0:
        return None
    downsample = float(np.ravel(attrs.get("downsample", 1))[0])
    return round(attrs["patch_size"] * downsample * attrs.get("custom_downsample", 1))


def placed_grid(
    path: Path, coords: np.ndarray, tissue: np.ndarray, attrs: Mapping[str, Any], mpp: float | None,
    size_px: tuple[int, int] | None, tile_level0_px: int | None,
) -> TileGrid:  # fmt: skip
    """Return the tiles of a file on their slide; the arguments of `hdf5.read_tiles`.

    Args:
        path: The file, for messages.
        coords: (N, 2) as stored.
        tissue: (N,) shares.
        attrs: Of the file.
        mpp: Of the slide.
        size_px: Of the slide.
        tile_level0_px: As asked.

    Raises:
        DataError: Without scale or size of slide or tiles, or contradicting what is given.
    """
    mpp = _scale(path, attrs, mpp)
    if in_microns(attrs):
        coords = np.rint(coords / mpp).astype(np.int64)
        side = round(float(attrs["tile_um"]) / mpp)
    else:
        side = _side(path, attrs, coords, tile_level0_px)
    width, height = _size(path, attrs, size_px)
    patch = attrs.get("patch_size", side)
    overlap_um = attrs.get("overlap", np.nan) / patch * side * mpp
    return TileGrid(
        coords=coords,
        tissue=tissue.astype(np.float32),
        tile_px=int(attrs.get("tile_px", patch)),
        tile_um=float(attrs.get("tile_um", side * mpp)),
        overlap_um=float(attrs.get("overlap_um", overlap_um)),
        tile_level0_px=side,
        mpp=mpp,
        width_px=width,
        height_px=height,
    )


def _side(path: Path, attrs: Mapping[str, Any], coords: np.ndarray, asked: int | None) -> int:
    said = side_px(attrs)
    if said is not None and asked is not None and said != asked:
        raise DataError(f"{path}: says that its tiles have {said} level-0 px, not {asked}. Leave tile_level0_px out.")
    if said is None and asked is None:
        steps = np.diff(np.unique(coords, axis=0), axis=0)
        apart = f"; they lie {steps[steps > 0].min()} px apart" if (steps > 0).any() else ""
        raise DataError(
            f"{path}: does not say how large its tiles are{apart}. Give their side in level-0 px "
            "(--tile-level0-px of predict, --tile_level0_px of extract)."
        )
    return int(said if asked is None else asked)


def _size(path: Path, attrs: Mapping[str, Any], size_px: tuple[int, int] | None) -> tuple[int, int]:
    """Return width and height of level 0, by the file or by the slide."""
    if "level0_width" in attrs:
        return int(attrs["level0_width"]), int(attrs["level0_height"])
    if "level_dim" in attrs:
        downsample = np.ravel(attrs.get("downsample", 1))
        said = np.ravel(attrs["level_dim"]) * downsample
        # The size of a coarser level is rounded: of level 0 it is known to one of its px.
        if size_px is not None and (np.abs(said - size_px) <= np.maximum(downsample, 1)).all():
            return size_px
        return round(said[0]), round(said[1])
    if size_px is None:
        raise DataError(f"{path}: does not say how large its slide is. Name the slide too.")
    return size_px


def _scale(path: Path, attrs: Mapping[str, Any], mpp: float | None) -> float:
    """Return microns per level-0 px, by the file or by the caller."""
    stored = attrs.get("mpp")
    if stored is None and mpp is None:
        raise DataError(
            f"{path}: tiles of another tool, which do not say how many microns a pixel measures. Name the mpp of the "
            "slide."
        )
    if stored is not None and mpp is not None and abs(stored / mpp - 1) > _SAME_MPP:
        raise DataError(f"{path}: its tiles were cut at {stored:.4g} microns per pixel; the slide has {mpp:.4g} now.")
    return float(mpp if stored is None else stored)
