"""Where under a folder the tiles and features of a slide are: ours, CLAM's or TRIDENT's."""

from pathlib import Path

from .shared_work import slide_file

# Below a folder that was named, `{}` is the slide; the first is ours.
TILE_PLACES = ("{}.h5", "{}_patches.h5", "patches/{}.h5", "patches/{}_patches.h5")
FEATURE_PLACES = ("{}.h5", "{}.pt", "h5_files/{}.h5", "pt_files/{}.pt")


def tiles_file(folder: Path, slide: str) -> Path:
    """Return the file of a slide's tiles: the first that is there, else where ours would be."""
    return _placed(folder, slide, TILE_PLACES)


def features_file(folder: Path, slide: str) -> Path:
    """Return the file of a slide's features: the first that is there, else where ours would be."""
    return _placed(folder, slide, FEATURE_PLACES)


def _placed(folder: Path, slide: str, places: tuple[str, ...]) -> Path:
    own = slide_file(folder, slide)
    found = (Path(folder) / place.format(slide) for place in places)
    return next((path for path in found if path.is_file()), own)
