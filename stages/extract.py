"""The stage `extract` of images and clips: features of all cases of a manifest, by any frozen encoder."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..backbone.public import encoder_place
from ..core.errors import masked
from ..core.files import own_folder, write_json, write_text, written_aside
from ..datasets.manifest.tables import Manifest
from ..finetune.features import FeatureMaker
from ..finetune.features_recipe import Features
from ..finetune.pipeline import apart, manifest_cases, shown

FEATURES, CASES, FACTS = "features.npy", "features.csv", "features.json"


def extract_features(recipe: Features, manifest: Manifest, encoder: str | Path, out: Path) -> pd.DataFrame:
    """Write `features.npy` (N, D) float32, `features.csv` (its N rows) and `features.json` (what made them) into `out`.

    A case that failed is a row of NaN, with its reason in the table.

    Args:
        recipe: How.
        manifest: N cases; labels and splits change nothing.
        encoder: A file, folder or name (`finetune.starts.find_start`, `backbone.public`).
        out: The folder to write; what is there is written anew.

    Returns:
        The table: `id, patient, split, status, reason`.

    Raises:
        UserError: The encoder is none.
    """
    maker = FeatureMaker(encoder_place(encoder), recipe)
    print(f"encoder {encoder}: {maker.name}; {maker.width} values per case")
    if maker.assumed_statistics:
        print(f"note: mean {maker.card.mean} and std {maker.card.std} are usual for it; nothing states the file's")
    if maker.note:
        print(f"note: {maker.note} (--clip.roi)")
    cases, _ = manifest_cases(manifest, ())
    own_folder(out)
    reasons = [""] * len(cases)
    (out / CASES).unlink(missing_ok=True)  # features of one run do not stand beside the table of another
    with written_aside(out / FEATURES) as aside, torch.inference_mode(), aside.open("wb") as file:
        np.lib.format.write_array_header_2_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": (len(cases), maker.width)}
        )
        found = maker.predictor(recipe.batch_size, recipe.workers).scores(cases)
        for some in shown(found, len(cases), maker.card.unit):
            file.write(np.ascontiguousarray(some.scores, "<f4").tobytes())
            for position, text in zip(some.positions, some.reasons, strict=True):
                reasons[position] = masked(text, cases["path"].iloc[position], cases["shown"].iloc[position])
    values = np.load(out / FEATURES, mmap_mode="r")
    failures, warnings = apart(np.asarray(values[:, :1], np.float64), reasons)
    table = cases[["id", "patient", "split"]].assign(
        status=["failed" if reason else "ok" for reason in failures], reason=failures, warning=warnings
    )
    write_text(out / CASES, table.to_csv(index=False))
    write_json(out / FACTS, maker.facts())
    return table
