"""Where the data of a stage are: the manifest, and the cache of decoded files."""

from collections.abc import Sequence
from pathlib import Path

from ..core.errors import DataError
from ..datasets.manifest.tables import Manifest, read_manifest

CACHE = "pixel-cache"
CACHE_GB = 50.0
MANIFEST = "manifest.csv"


def open_manifest(data: Path | Manifest, labels: Sequence[str] | None = None) -> Manifest:
    """Return the manifest itself, or the one in a folder."""
    if isinstance(data, Manifest):
        return data if labels is None else data.with_labels(labels)
    data = Path(data)
    if data.is_dir():
        if not (data / MANIFEST).is_file():
            raise DataError(f"{data}: no {MANIFEST} in this folder. `clinvit prepare` makes one from a data set.")
        data = data / MANIFEST
    return read_manifest(data, labels)


def cache_place(manifest: Manifest, out: Path, asked: Path | str | None, cache_gb: float = CACHE_GB):
    """Return where decoded images and clips are: as asked, else beside the manifest (`prepare`), else beside `out`.

    Args:
        manifest: The cases.
        out: The run folder.
        asked: A folder, the URL of shards, or None.
        cache_gb: How much of the shards is kept on this machine, in the folder that None means.

    Returns:
        A folder, or `Shards`.
    """
    beside = manifest.path.parent / CACHE
    folder = beside if beside.is_dir() else Path(out).resolve().parent / CACHE
    if not isinstance(asked, str):
        return asked or folder
    from ..datasets.loading.shards.pixels import Shards

    return Shards(asked, folder / "shards", cache_gb)


def look_at_shards(place: object, recipe) -> None:
    """Read the index of shards before anything that takes seconds to import; of a folder there is nothing to look at.

    Raises:
        UserError: It is not one of ours, damaged, or of another recipe.
    """
    from ..datasets.loading.readers import make_reader
    from ..datasets.loading.shards.pixels import Shards

    if isinstance(place, Shards) and len(getattr(recipe, "scales", (1,))) == 1:
        data, model = recipe.data, recipe.model
        size = {"frames": model.frames, "size_px": model.image_size, "channels": model.channels}
        place.inputs(make_reader(data.clip, cache_px=data.cache_px, **size))
