"""Prediction of whole slides: from slide files to tiles, features, a score with its heat map, and a row for each."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from ...core.errors import DataError, UserError
from ...core.files import file_sha256, write_json, write_text
from ...core.platform import hide_from_others
from ...datasets.manifest.tables import Manifest, unit_ids
from ...datasets.slides.bags import BagFolder
from ...datasets.slides.places import features_file
from ...datasets.slides.settings import Quality, Stain, Tiling, Tissue
from ...datasets.slides.shared_work import SharedWork, slide_file
from ...eval.localisation.tiles import TileSlide, choose_dice_threshold
from ...eval.units import LEARNED
from ...finetune.feature_limit import Limit
from ...finetune.out_of_distribution import stored_limit
from ...finetune.pipeline import predicted
from ...mil.extract import extract
from ...mil.extract_recipe import Extract
from ...mil.model import MilCard, load_mil
from ...mil.predict import BagPrediction, BagPredictor, failed_bag, predict_mil
from ...mil.slide_encoder import load_tile_encoder
from ...mil.units import predict_units
from ..audit import Audit
from ..dicom.case import ResultCase
from ..dicom.results import Results, write_all
from ..facts import beside, model_facts
from ..predict import without_names, write_table
from ..requested import marked, requested_cases
from ..seen import seen_facts
from ..units import (
    IMAGES,
    Asked,
    image_card,
    images_table,
    scored_members,
    unit_card,
    unit_facts,
    units_table,
    with_unit_facts,
)
from .localise import annotation_of, tile_truth_of
from .maps import Maps, Shown, write_maps
from .tile import tile_slides

TILES = "tiles"
KEY = "names.key.json"  # beside features that are named by hashes


@dataclass(frozen=True)
class Request:
    """What is asked of a prediction.

    Attributes:
        model: Model folder.
        inputs: Slides, folders, globs, or one manifest CSV.
        out: The predictions table to write.
        features: Folder of features, where they are or where they will be put.
        encoder: What makes features of slides that have none (see `load_tile_encoder`); None: they must be there.
        maps: Folder for heat maps; None for none.
        splits: Of a manifest: which cases; None for all.
        identifiers: Name DICOM slides by their file names and patient numbers, not by hashes.
        also: What else is written of each map.
        audit: Log to which is added who asked for what (`stages.audit`); None for none.
        dicom: Results of DICOM slides as DICOM objects; None for none.
        units: Units larger than a slide that the rows are to be; None for what the model's card says.
    """

    model: Path
    inputs: Sequence[str]
    out: Path
    features: Path
    encoder: str | None = None
    maps: Path | None = None
    splits: Sequence[str] | None = None
    identifiers: bool = False
    also: Maps = field(default_factory=Maps)
    audit: Path | None = None
    dicom: Results | None = None
    units: Asked = IMAGES


def predict_slides(request: Request) -> pd.DataFrame:
    """Predict; gives (and writes) one row per requested slide or unit, and heat maps if a folder for them is named.

    A slide without tissue, scale or features is `failed` with its reason.

    Raises:
        DataError: The features are of another width, encoder or tile size than the model's.
        UserError: Slides need features and how to make them is not known, or the encoder is not the model's.
    """
    model, card = load_mil(request.model, units=True)
    units = request.units.units(card)
    if request.dicom is not None:
        request = replace(request, dicom=request.dicom.of_values(card))
        assert request.dicom is not None
        request.dicom.refuse()
        if units is not None:
            request.dicom.refuse_maps(units.unit)
    cases, truth = requested_cases(request.inputs, card.asked, "slide")
    if (cases["id"] == cases["path"]).all():
        # Slides of one name in several folders: their ids, which name files too, start where the folders part.
        base = os.path.commonpath([Path(path).absolute().parent for path in cases["path"]])
        cases["id"] = [Path(os.path.relpath(path, base)).as_posix() for path in cases["path"]]
        cases["patient"] = cases["number"].mask(cases["number"] == "", cases["id"])
    sha256 = file_sha256(request.model / card.weights_file)
    asked = cases if request.splits is None else cases[cases["split"].isin(request.splits)]
    audit = Audit(request.audit, sha256, asked)
    # Features are stored by id: where they are made once more, and beside another table, the same slides have the same.
    keys = [beside(request.out, "key"), request.features / KEY]
    cases = without_names(cases, keys[0], request.identifiers, keys)
    _keep_key(*keys)
    if request.splits is not None:
        kept = cases["split"].isin(request.splits).to_numpy()
        cases, truth = cases[kept].reset_index(drop=True), truth[kept]
    if not len(cases):
        raise UserError(f"{request.inputs[0]}: no case in the splits {', '.join(request.splits)}.")
    manifest = _manifest(request, cases, truth, card)
    if request.encoder is not None:
        _make_features(request, manifest, card)
    together = None if units is None else unit_ids(request.out, cases, units.unit)  # refused before anything is made
    of_slides = card if units is None else image_card(card)
    learned = together if units is not None and units.rule == LEARNED else None
    limit = stored_limit(request.model, card, card.width)
    predictor = BagPredictor(
        of_slides, lambda cases: _predictions(model, of_slides, cases["id"].tolist(), request.features, learned, limit)
    )
    slides = table = marked(predicted(cases, truth, predictor), cases)
    more = {"seen": seen_facts(request.model, cases), "sha256": sha256}
    if units is not None:
        table = units_table(slides, cases, units, card)
        write_table(images_table(request.out, card), slides, of_slides)
        more |= unit_facts(card, units)
    write_table(request.out, table, card)
    write_json(beside(request.out, "model"), model_facts(request.model, card) | more)
    audit.written(request.out, table)
    if request.maps is not None:
        shown = card.summaries(slides[list(card.columns)].to_numpy(np.float64))
        found = [replace(each, probabilities=scores) for each, scores in zip(predictor.found, shown)]
        for place, label in enumerate(card.labels):
            folder = request.maps if len(card.labels) == 1 else request.maps / label
            _write_maps(request, manifest, of_slides, found, place, folder)
    if request.dicom is not None and units is not None:
        members = scored_members(cases, slides, units, request.out)
        own = unit_card(card, units)
        write_all(request.dicom, own, sha256, cases, table, with_unit_facts(units, members), members)
    elif request.dicom is not None:
        shown_maps = _maps_of(request, manifest, card, predictor.found) if request.dicom.shows else None
        write_all(request.dicom, card, sha256, cases, table, shown_maps)
    return table


def _maps_of(
    request: Request, manifest: Manifest, card: MilCard, found: Sequence[BagPrediction]
) -> Callable[[ResultCase], ResultCase]:
    """Return what adds to a case of results the scores of its tiles."""
    from ..dicom.heat import with_slide_maps

    ids = manifest.table["id"].tolist()
    scales = dict(zip(ids, manifest.microns_per_px(), strict=True))
    scores = {ids[each.row]: each.instances for each in found if not each.reason}

    def shown(case: ResultCase) -> ResultCase:
        features = features_file(request.features, case.id)
        place = features, scales[case.id], request.also.tile_level0_px
        return with_slide_maps(case, scores[case.id], card.labels, *place)

    return shown


def _keep_key(key: Path, kept: Path) -> None:
    """Store the secret of the ids beside the features that are named by them."""
    if key.is_file() and not kept.is_file():
        write_text(kept, key.read_text(encoding="utf-8"))
        hide_from_others(kept)


def _manifest(request: Request, cases: pd.DataFrame, truth: np.ndarray, card: MilCard) -> Manifest:
    """The requested slides as a manifest; relative paths (annotations) are relative to where they stood."""
    listed = len(request.inputs) == 1 and request.inputs[0].lower().endswith(".csv")
    labels = () if card.targets else card.labels
    table = cases.assign(**{label: truth[:, i] for i, label in enumerate(labels)})
    table["path"] = [str(Path(path).absolute()) for path in table["path"]]
    return Manifest(Path(request.inputs[0]) if listed else Path("slides.csv"), table, labels)


def _make_features(request: Request, manifest: Manifest, card: MilCard) -> None:
    """Tile and encode what has no features yet, in the very way that the model's features were made."""
    made = card.pipeline
    if not made.get("tiling"):
        raise UserError(
            f"{request.model}: its features were made by other tools, so how is not known here: extract them the same "
            "way and name them with --features, without --encoder."
        )
    parts = {"tissue": Tissue(**made["tiling"]["tissue"]), "quality": Quality(**made["tiling"].get("quality", {}))}
    tiling = Tiling(**made["tiling"] | parts)
    how = Extract(**made["extract"] | {"stain": Stain(**made["extract"]["stain"])})
    known = card.features.get("encoder_sha256")
    if known and known != load_tile_encoder(request.encoder, how.features).fingerprint():
        raise UserError(
            f"{request.encoder}: not the encoder that the model was trained with "
            f"({card.features.get('encoder')}); name that one."
        )
    missing = [not features_file(request.features, slide).is_file() for slide in manifest.table["id"]]
    waiting = Manifest(manifest.path, manifest.table[missing].reset_index(drop=True), manifest.labels)
    if len(waiting):
        tile_slides(tiling, waiting, request.features / TILES)
        extract(how, waiting, request.features / TILES, request.features, request.encoder)


def _predictions(
    model, card: MilCard, slides: Sequence[str], features: Path, units: pd.Series | None, limit: Limit | None
) -> Iterator[BagPrediction]:
    """Predict slides by the files of their features, of units all together; the reason of one without is why."""
    with_features = [features_file(features, slide).is_file() for slide in slides]
    if not any(with_features):
        yield from (failed_bag(row, card, _why(features, slide)) for row, slide in enumerate(slides))
        return
    bags = BagFolder(slides, features, cache_gib=0)
    if units is None:
        predictions = predict_mil(model, card, bags, limit=limit)
    else:
        predictions = predict_units(model, card, bags, units, limit=limit)
    for found in predictions:
        without = found.reason and not with_features[found.row]
        yield replace(found, reason=_why(features, slides[found.row])) if without else found


def _why(features: Path, slide: str) -> str:
    path = slide_file(features, slide)
    state = SharedWork(features, {slide: path}).state(slide)
    if state and state["reason"]:
        return state["reason"]
    return f"{path}: no features. `clinvit extract` makes them, or name an --encoder."


def _write_maps(
    request: Request, manifest: Manifest, card: MilCard, found: Sequence[BagPrediction], place: int,
    folder: Path,
) -> None:  # fmt: skip
    label = card.labels[place]
    scores = {
        manifest.table["id"].iloc[each.row]: each.instances[:, place].astype(np.float64).clip(0, 1)
        for each in found
        if not each.reason
    }
    probability = {manifest.table["id"].iloc[each.row]: each.probabilities[place] for each in found}
    cut = (card.thresholds.get(label) or {}).get("value")
    words = card.kinds[place].summary_words() if card.kinds else ""
    shown = {
        row["id"]: Shown(
            scores[row["id"]],
            f"{words}: {probability[row['id']]:.4g}" if words else _verdict(label, probability[row["id"]], cut),
            {0.0: f"no {label}", 1.0: label}.get(row.get(label, ""), ""),
            annotation_of(row, manifest),
        )
        for row in manifest.table.to_dict("records")
        if row["id"] in scores
    }
    facts = {
        "model": card.aggregator,
        "label": f"{label} ({card.meaning.get(label, '1 = present')})",
        "features": str(card.features.get("encoder", f"{card.width} wide")),
    }
    if words:
        facts["map"] = f"how much a tile adds to the {words}, 1 the most: no probability"
    threshold = math.nan if words else _region_threshold(request, manifest, label, scores)
    table = write_maps(request.also, manifest, request.features, shown, request.model, folder, facts, threshold, label)
    without = table.loc[table["status"] == "failed", "reason"]
    print(f"{folder}: heat maps of {len(table) - len(without)} of {len(table)} slides")
    for reason in without:
        print(f"no heat map: {reason}")


def _region_threshold(request: Request, manifest: Manifest, label: str, scores: dict[str, np.ndarray]) -> float:
    """The tile score with the largest Dice on the validation slides that have outlines; NaN without any."""
    from ...datasets.slides.tile_reading import slide_tiles

    tiles = []
    val = manifest.rows("val")
    for row, mpp in zip(val.table.to_dict("records"), val.microns_per_px()):
        if row["id"] not in scores:
            continue
        try:
            tiles_of = features_file(request.features, row["id"])
            grid = slide_tiles(tiles_of, val.path.parent / row["path"], mpp, request.also.tile_level0_px)
            truth = tile_truth_of(row, val, label, grid)
        except DataError:
            # The slide's own row of the status table will say what is wrong with it.
            continue
        if truth is not None:
            tiles.append(TileSlide(row["id"], row["patient"], scores[row["id"]], truth))
    return choose_dice_threshold(tiles).threshold


def _verdict(label: str, probability: float, threshold: float | None) -> str:
    if threshold is None:
        return f"{label} {probability:.2f} (no threshold chosen)"
    answer = "positive" if probability >= threshold else "negative"
    return f"{label} {probability:.2f} (threshold {threshold:.2f}): {answer}"
