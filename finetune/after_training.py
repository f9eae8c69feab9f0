"""What a trained model is asked once: which features it knows, and the scores of validation and test."""

from collections.abc import Container

import numpy as np
import pandas as pd

from ..datasets.loading.cache import Files
from ..datasets.loading.own import OwnPixels
from ..datasets.loading.source import Source
from .model import ModelCard
from .out_of_distribution import MOST_CASES, Limit, fit_limit, last_layer, why_none, with_features
from .pipeline import Predictor, collected, manifest_cases, predicted, score_width
from .predict import CachedPredictor, PixelPredictor, cached_predictor, model_predictor, scores_of


def feature_limit(model, card: ModelCard, source: Source, unread: Container[int]) -> Limit | str:
    """Return beyond which features a case is unlike the training cases; or why nothing says so."""
    layer = last_layer(model)
    if layer is None:
        return "no features of one vector per case: a k-NN, a head that draws, a network of volumes, or one of your own"
    manifest = source.manifest
    rows = np.array([row for row in source.rows if row not in unread], dtype=int)
    if len(rows) > MOST_CASES:
        rows = np.sort(np.random.default_rng(0).choice(rows, MOST_CASES, replace=False))
    val = np.flatnonzero(manifest.table["split"] == "val")
    if few := why_none(len(rows), manifest.table["patient"].iloc[val].nunique()):
        return few
    values = with_features(scores_of(model, card), layer)
    known = [_values(model, card, source, part, values, layer.in_features) for part in (rows, val)]
    return fit_limit(known[0], known[1], manifest.table["patient"].iloc[val])


def _values(model, card: ModelCard, source: Source, rows: np.ndarray, values, features: int) -> np.ndarray:
    """Return the (n, D) features of some rows of the manifest, NaN where a case failed."""
    width = score_width(card) + features
    predictor: Predictor
    if isinstance(source.pixels, Files):
        predictor = PixelPredictor(card, values, next(model.parameters()).device, width=width)
    else:
        predictor = CachedPredictor(model, card, source.pixels, rows, values_of=values, width=width)
    cases, _ = manifest_cases(source.manifest, card.asked)
    return collected(predictor.scores(cases.iloc[rows]), len(rows), width)[0][:, score_width(card) :]


def own_predictions(model, card: ModelCard, source: Source, limit: Limit | None) -> pd.DataFrame:
    """Return the table of predictions of validation and test, from the cache where there is one."""
    manifest, pixels = source.manifest, source.pixels
    as_files = isinstance(pixels, Files)
    rows = np.flatnonzero(manifest.table["split"].isin(["val", "test"]))
    if as_files:
        predictor = model_predictor(model, card, limit=limit)
    else:
        predictor = cached_predictor(model, card, pixels, rows, limit)
    cases, truth = manifest_cases(manifest.rows("val", "test"), card.asked)
    if isinstance(pixels, OwnPixels):  # no files, whose names would have to stay in the manifest
        cases = cases.drop(columns="shown")
    return predicted(cases, truth, predictor, progress=as_files)
