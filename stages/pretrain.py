"""The stage `pretrain`: a manifest to an encoder folder."""

from pathlib import Path

from ..datasets.manifest.tables import Manifest
from .data import CACHE_GB, cache_place, look_at_shards, open_manifest


def pretrain_stage(
    recipe, data: Path | Manifest, out: Path, cache=None, tiles: Path | None = None,
    cache_gb: float = CACHE_GB, encoder: Path | None = None, hooks=None, reports: Path | None = None,
    text_encoder: Path | None = None,
) -> Path:  # fmt: skip
    """Pre-train, on slides with the tiles in a folder of tile coordinates; return the encoder folder."""
    from ..backbone.public import encoder_place

    encoder = None if encoder is None else encoder_place(encoder)
    # What may be refused comes before what takes seconds to import.
    manifest = open_manifest(data, labels=None if recipe.reads_labels else ())
    place = cache_place(manifest, out, cache, cache_gb)
    look_at_shards(place, recipe)
    from ..pretrain.run import pretrain
    from .reports import refuse_reports, with_reports

    own = {} if hooks is None else {"hooks": hooks}
    if recipe.reads_reports:
        recipe, manifest, own["reports"] = with_reports(recipe, manifest, out, reports, text_encoder)
    else:
        refuse_reports(reports, text_encoder)
    return pretrain(recipe, manifest, out, place, tiles, encoder, **own)
