"""The stage `pool`: one vector of every slide from the features of its tiles, as one table and as TRIDENT's files."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ...core.errors import DataError
from ...core.files import own_folder, write_json, write_text, written_aside
from ...datasets.manifest.tables import Manifest
from ...datasets.slides.bags import BagFolder
from ...datasets.slides.hdf5 import write_slide_vector
from ...datasets.slides.shared_work import slide_file
from ...engine.cores import share_cores
from ...mil.slide_vectors import MEAN, SlideEncoder, load_slide_encoder
from ..extract import CASES, FACTS, FEATURES


def pool_slides(manifest: Manifest, features: Path, out: Path, by: str = MEAN) -> pd.DataFrame:
    """Write `features.npy` (N, D) float32, `features.csv`, `features.json`, and `<id>.h5` of every slide into `out`.

    The first three are laid out as `extract` writes those of images: `retrieve` and others read both.

    Args:
        manifest: N slides; labels and splits change nothing.
        features: Folder of tile features.
        out: The folder to write; what is there is written anew.
        by: `mean`, a model folder of slides, or a file of weights (`mil.slide_vectors`).

    Returns:
        The table: `id, patient, split, status, reason, tiles`; a slide that failed has NaN in the array.

    Raises:
        UserError: `by` is none of these.
        DataError: No slide has features, or they are not those that the model was trained on.
    """
    encoder = load_slide_encoder(by)
    bags = BagFolder(manifest.table["id"].tolist(), features, cache_gib=0)
    if encoder.card is not None:
        encoder.card.check(bags, features)
    own_folder(out)
    (out / CASES).unlink(missing_ok=True)  # vectors of one run do not stand beside the table of another
    about = {"encoder": f"{bags.attributes.get('encoder', 'unknown')}, pooled by {encoder.name}",
             "encoder_pooling": encoder.name, "encoder_pooling_sha256": encoder.sha256}  # fmt: skip
    vectors, reasons = [], []
    for row, slide in enumerate(bags.ids):
        found = _pooled(encoder, bags, row, slide_file(out, slide), about)
        vectors.append(None if isinstance(found, DataError) else found)
        reasons.append(str(found) if isinstance(found, DataError) else "")
    width = next((len(vector) for vector in vectors if vector is not None), 0)
    table = np.stack([np.full(width, np.nan, np.float32) if vector is None else vector for vector in vectors])
    with written_aside(out / FEATURES) as aside:
        np.save(aside, table.astype("<f4"))
    cases = manifest.table[["id", "patient", "split"]].assign(
        status=["failed" if reason else "ok" for reason in reasons], reason=reasons,
        tiles=[bags.count(row) for row in range(len(bags))],
    )  # fmt: skip
    write_text(out / CASES, cases.to_csv(index=False))
    write_json(out / FACTS, {**about, "sha256": encoder.sha256, "values": width, "tile_features": bags.attributes})
    return cases


def _pooled(encoder: SlideEncoder, bags: BagFolder, row: int, out: Path, about: dict) -> np.ndarray | DataError:
    """Write the vector of a slide and return it, or why there is none."""
    if reason := bags.reasons()[row]:
        return DataError(reason)
    share_cores()
    try:
        found = encoder.pooled(torch.from_numpy(bags.bag(row)))
        write_slide_vector(out, found.vector.numpy(), found.attention.numpy(), bags.path(row), about)
    except DataError as error:
        return error
    return found.vector.numpy()
