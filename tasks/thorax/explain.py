"""Where a model of pictures looked, case by case: maps for the evaluation, and pictures of them for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ...datasets.picture_maps import PictureMaps, case_file, write_maps
from ...errors import DataError, UserError
from ...files import file_sha256, written_aside
from ..stages import requested_cases

EXPLANATIONS = "explanations"  # beside a predictions table, where `evaluate` looks for them
MAPS, PICTURES = "maps", "pictures"
MOST_LABELS = 32  # explained in every case; of models with more, those with the highest scores
HIGHEST = 3  # labels shown of a case that has no finding by the model
PICTURE_PX = 512  # shorter side of a picture that is shown


def explain(
    model: Path,
    inputs: Sequence[str],
    table: pd.DataFrame,
    out: Path,
    method: str = "gradient",
    batch: int = 8,
    workers: int = 0,
) -> int:
    """Write `out/maps/<id>.h5` for every scored case and `out/pictures/<label>/<id>.png` for the labels that the model
    calls positive by its threshold (of a case without any, the three highest).

    Args:
        model: Model folder.
        inputs: As they were predicted.
        table: The predictions table of them, row by row.
        out: The folder; what is there is written again.
        method: See `finetune.relevance.relevance_maps`.
        batch: Files per batch; each label takes a backward pass over it.
        workers: Reading processes.

    Returns:
        How many cases were explained. Failed cases have their row in the table and are left out.

    Raises:
        UserError: A model of clips, an unknown method or one that the network does not allow.
    """
    from ...finetune.explain import explain_files
    from ...finetune.model import load_model

    network, card = load_model(model)
    if card.arch.frames > 1:
        raise UserError(f"{model}: a model of clips; --explain is for models of pictures (see --importance).")
    if len(card.scales) > 1:
        raise UserError(f"{model}: sees pictures at scales {list(card.scales)}; --explain is for models of one scale.")
    cases, _ = requested_cases(inputs, card.labels, card.suffixes())
    assert cases["id"].tolist() == table["id"].tolist(), "the table is of other cases"
    scored = np.flatnonzero(table["status"] == "ok")
    scores = table[[f"p_{label}" for label in card.labels]].to_numpy(np.float64)[scored]
    files = [Path(path) for path in cases["path"].iloc[scored]]
    ids, targets, weights = (
        table["id"].iloc[scored].tolist(),
        _explained(scores),
        file_sha256(model / "model.safetensors"),
    )
    shown = _shown(scores, card.labels, card.thresholds)
    done = 0
    for found in explain_files(network, card, files, targets, method, batch, workers):
        case = ids[found.position]
        if found.reason:
            tqdm.write(f"not explained: {found.reason}")
            continue
        places = targets[found.position]
        maps = PictureMaps(
            id=case, labels=tuple(card.labels[place] for place in places), maps=found.maps, extent_px=found.extent_px,
            width_px=found.width_px, height_px=found.height_px, method=method, model=weights,
        )  # fmt: skip
        try:
            write_maps(case_file(out / MAPS, case, ".h5"), maps)
            _write_pictures(out / PICTURES, files[found.position], maps, shown[found.position])
        except DataError as error:
            tqdm.write(f"not explained: {error}")
            continue
        done += 1
    return done


def _explained(scores: np.ndarray) -> np.ndarray:
    """(N, K) places of the labels to explain of (N, L) scores: all, or of many the highest."""
    if scores.shape[1] <= MOST_LABELS:
        return np.tile(np.arange(scores.shape[1]), (len(scores), 1))
    return np.argsort(-scores, axis=1, kind="stable")[:, :HIGHEST]


def _shown(scores: np.ndarray, labels: Sequence[str], thresholds: Mapping[str, dict]) -> list[dict[str, float]]:
    """Of each case the labels to draw, with their scores."""
    cut = [thresholds.get(label, {}).get("value") for label in labels]
    cut = np.array([np.inf if value is None else value for value in cut])
    chosen = []
    for row in scores:
        places = np.flatnonzero(row >= cut)
        if not len(places):
            places = np.argsort(-row, kind="stable")[:HIGHEST]
        chosen.append({labels[place]: float(row[place]) for place in places})
    return chosen


def _write_pictures(out: Path, file: Path, found: PictureMaps, shown: Mapping[str, float]) -> None:
    from ...datasets.radiographs import read_radiograph
    from ...eval.picture_map import PictureMap
    from ...eval.picture_overlay import overlay_png

    pixels = read_radiograph(file, shorter_px=PICTURE_PX)
    for label, values in zip(found.labels, found.maps, strict=True):
        if label in shown:
            grid = PictureMap(values, found.extent_px, found.width_px, found.height_px)
            picture = overlay_png(pixels, grid, case=found.id, label=label, score=shown[label])
            with written_aside(case_file(case_file(out, label, ""), found.id, ".png")) as aside:
                aside.write_bytes(picture)
