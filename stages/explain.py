"""Where a model looked, case by case: maps for the evaluation, and images of them for people."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..core.errors import DataError
from ..core.files import file_sha256, written_aside
from ..datasets.images.image_maps import ImageMaps, case_file, write_maps

EXPLANATIONS = "explanations"  # beside a predictions table, where `evaluate` looks for them
MAPS, IMAGES = "maps", "images"
ATTENTION_MAPS, ATTENTION_IMAGES = "maps-attention", "images-attention"  # those of attention beside those of gradients
BOTH = "both"  # methods of a ViT: gradient and attention
MOST_LABELS = 32  # explained in every case; of models with more, those with the highest scores
HIGHEST = 3  # labels shown of a case that has no finding by the model
IMAGE_PX = 512  # shorter side of an image that is shown
LARGEST_BATCH = 8  # images whose gradients are held at once; each label takes a backward pass over them


def explain_cases(request, network, card, cases: pd.DataFrame, table: pd.DataFrame) -> int:
    """Write into `request.explain` where the model looked, of every case that was scored.

    Of images, `maps/<id>.h5` and `images/<label>/<id>.png` for the labels that the model predicts positive by its
    threshold (of a case without any, the three highest); by both methods, those of attention into `maps-attention/` and
    `images-attention/`. Of clips, `<id>-<label>.png`: which frames the score rests on. Of numbers, grades and times the
    value, the expected grade and the risk are explained: of every case all of them.

    Args:
        request: A `prediction.Request`. What is there is written again, unless it says `resume`.
        network: The model, in eval mode.
        card: Its card.
        cases: `id, path` of the cases.
        table: The predictions table of them, row by row.

    Returns:
        How many cases were explained.

    Raises:
        UserError: An unknown method or one that the network does not allow.
    """
    assert cases["id"].tolist() == table["id"].tolist(), "the table is of other cases"
    scored = np.flatnonzero(table["status"] == "ok")
    if card.arch.frames > 1:
        return _explain_clips(request, network, card, cases.iloc[scored])
    done = 0
    for method, maps, images in _methods(request.method):
        left = scored
        if request.resume:
            there = [case_file(request.explain / maps, case, ".h5").is_file() for case in cases["id"].iloc[scored]]
            left = scored[~np.array(there, dtype=bool)]
        folders = request.explain / maps, request.explain / images
        explained = _explain_images(request, network, card, cases.iloc[left], table.iloc[left], method, folders)
        done = max(done, explained)
    return done


def refuse_method(network, wanted: str | None) -> None:
    """Raise unless a model of images can be explained so, before anything is predicted.

    Raises:
        UserError: An unknown method or one that the network does not allow.
    """
    from ..explain.relevance import method_of

    for method, _, _ in _methods(wanted):
        method_of(network, method)


def _methods(wanted: str | None) -> list[tuple[str, str, str]]:
    """Return the methods wanted, each with its folders of maps and of images."""
    if wanted == BOTH:
        return [("gradient", MAPS, IMAGES), ("attention", ATTENTION_MAPS, ATTENTION_IMAGES)]
    return [(wanted or "gradient", MAPS, IMAGES)]


def _explain_clips(request, network, card, cases: pd.DataFrame) -> int:
    from ..datasets.loading.readers import with_boxes
    from ..eval.report.film_strip import frame_importance_plot
    from ..explain.importance import frame_importance

    reader = with_boxes(card.reader(), cases)
    for case, path in tqdm(list(zip(cases["id"], cases["path"])), "explaining", unit="clip", disable=None):
        files = [case_file(request.explain, f"{case}-{label}".replace(" ", "_"), ".png") for label in card.labels]
        if request.resume and all(file.is_file() for file in files):
            continue
        found = frame_importance(network, card, Path(path), reader)
        named = zip(card.labels, _what_changes(card), found.change, files, strict=True)
        for label, what, change, file in named:
            image = frame_importance_plot(found.times_s, change, found.frames, title=case, label=label, what=what)
            with written_aside(file) as aside:
                aside.write_bytes(image)
    return len(cases)


def _what_changes(card) -> list[str]:
    """Return what a blanked frame changes, by label."""
    return [each.summary_words() for each in card.kinds] or ["log-odds"] * len(card.labels)


def _explain_images(
    request, network, card, cases: pd.DataFrame, table: pd.DataFrame, method: str, folders: tuple[Path, Path]
) -> int:
    from ..explain.maps import explain_files
    from ..explain.relevance import method_of

    made, (maps_folder, images_folder) = method_of(network, method), folders
    scores = card.summaries(table[list(card.columns)].to_numpy(np.float64))
    files = [Path(path) for path in cases["path"]]
    ids, targets, weights = table["id"].tolist(), _explained(scores), file_sha256(request.model / card.weights_file)
    words = [each.summary_words() for each in card.kinds]
    if words:
        targets = np.tile(np.arange(scores.shape[1]), (len(scores), 1))
        shown = [dict(zip(card.labels, row)) for row in scores.tolist()]
    else:
        shown = _shown(scores, card.labels, card.thresholds)
    done = 0
    batch = min(request.batch, LARGEST_BATCH)
    for found in explain_files(network, card, files, targets, method, batch, request.workers):
        case = ids[found.position]
        if found.reason:
            tqdm.write(f"not explained: {found.reason}")
            continue
        places = targets[found.position]
        maps = ImageMaps(
            id=case, labels=tuple(card.labels[place] for place in places), maps=found.maps, extent_px=found.extent_px,
            width_px=found.width_px, height_px=found.height_px, method=made, model=weights,
            **_scale(card, found.maps, places),
        )  # fmt: skip
        try:
            write_maps(case_file(maps_folder, case, ".h5"), maps)
            _write_images(
                images_folder, files[found.position], maps, shown[found.position], dict(zip(card.labels, words))
            )
        except DataError as error:
            tqdm.write(f"not explained: {error}")
            continue
        done += 1
    return done


def _scale(card, maps: np.ndarray, places: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Return what the scale of (K, gh, gw) maps of some labels is, where they are probabilities."""
    if not card.dense:
        return {}
    thresholds = card.dense["thresholds"]
    return {
        "highest": tuple(maps.max(axis=(1, 2)).tolist()),
        "thresholds": tuple(thresholds[card.labels[place]]["value"] for place in places),
    }


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


def _write_images(
    out: Path, file: Path, found: ImageMaps, shown: Mapping[str, float], words: Mapping[str, str]
) -> None:
    """Write the maps of the labels shown; `words` say what the value of a target is."""
    from ..datasets.images.radiographs import read_radiograph
    from ..eval.localisation.image_map import ImageMap
    from ..eval.localisation.overlay import image_png

    pixels = read_radiograph(file, shorter_px=IMAGE_PX)
    for label, values in zip(found.labels, found.maps, strict=True):
        if label in shown:
            grid = ImageMap(values, found.extent_px, found.width_px, found.height_px)
            said = f"{words[label]}: {shown[label]:.4g}" if label in words else ""
            image = image_png(pixels, grid, case=found.id, label=label, score=shown[label], said=said)
            with written_aside(case_file(case_file(out, label, ""), found.id, ".png")) as aside:
                aside.write_bytes(image)
