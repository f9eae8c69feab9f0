"""Tiles to detections, tile-level AUROC and Dice with intervals, the file, and the report's section."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import predictions_table, read_predictions, write_predictions
from clinvit.eval import Context, Evaluation, evaluate
from clinvit.eval.localisation.froc import RATES, SlideHits, corners
from clinvit.eval.localisation.tiles import (
    TileSlide,
    choose_dice_threshold,
    detections_from_tiles,
    dice,
    dice_metrics,
    localisation,
    tile_auroc,
    tile_truth,
)
from clinvit.eval.statistics.operating_points import OperatingPoint
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

TILE = 100


def grid(width=20, height=15):
    y, x = np.mgrid[:height, :width] * TILE
    return np.column_stack([x.ravel(), y.ravel()])


def cohort(slides=12, seed=0, normal=4):
    """Slides with a blob of tumour each (the first `normal` without), scores that see it."""
    rng = np.random.default_rng(seed)
    tiles, hits = [], []
    for i in range(slides):
        truth = np.zeros(300)
        if i >= normal:
            truth[rng.integers(0, 250) :][:30] = 1
        truth[rng.integers(0, 300, 5)] = np.nan
        scores = 1 / (1 + np.exp(-(rng.normal(size=300) + 2 * np.nan_to_num(truth) - 2)))
        tiles.append(TileSlide(f"s{i}", f"p{i // 2}", scores, truth))
        found = rng.random(0 if i < normal else 3) * (rng.random(0 if i < normal else 3) > 0.3)
        hits.append(SlideHits(f"s{i}", f"p{i // 2}", rng.random(5) * 0.7, found))
    return tiles, hits


def test_one_detection_for_each_peak_at_the_centre_of_its_tile():
    coords, scores = grid(), np.full(300, 0.01)
    scores[[5 * 20 + 4, 5 * 20 + 5, 6 * 20 + 4]] = 0.9, 0.7, 0.8  # one cluster
    scores[10 * 20 + 15] = 0.6
    found = detections_from_tiles(coords, scores, TILE, (2000, 1500), 200)
    assert found.tolist() == [[0.9, 450, 550], [0.6, 1550, 1050]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.floats(100, 500), st.floats(0, 1))
def test_detections_keep_apart_and_leave_no_high_tile_uncovered(seed, radius, least):
    rng = np.random.default_rng(seed)
    coords = rng.integers(0, 2000, (60, 2))
    scores = np.round(rng.random(60), 1)
    found = detections_from_tiles(coords, scores, TILE, (2001, 2001), radius, least)
    assert (np.diff(found[:, 0]) <= 0).all()
    assert (found[:, 1:] < 2001).all()
    places = found[:, 1:]
    apart = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1)) + np.eye(len(found)) * 1e9
    assert len(found) < 2 or apart.min() > radius - 2
    for (x, y), score in zip(np.minimum(coords + TILE / 2, 2000), scores):
        if score >= least:
            near = np.hypot(places[:, 0] - x, places[:, 1] - y) <= radius + 2
            assert found[near, 0].max() >= score


def test_no_tile_high_enough_is_no_detection():
    assert detections_from_tiles(grid(), np.zeros(300), TILE, (2000, 1500), 200).shape == (0, 3)


@pytest.mark.parametrize(
    "scores, words",
    [(np.zeros(3), "300 tiles, but 3 scores"), (np.full(300, np.nan), "0..1"), (np.full(300, 2), "0..1")],
)
def test_bad_scores_are_refused(scores, words):
    with pytest.raises(DataError, match=words):
        detections_from_tiles(grid(), scores, TILE, (2000, 1500), 200)


def test_border_tiles_have_no_truth():
    assert tile_truth(np.array([0, 0.2, 0.5, 1])) == pytest.approx([0, np.nan, 1, 1], nan_ok=True)


def test_tile_auroc_equals_scikit_learn_and_normal_slides_count_in_the_pooled_one_only():
    tiles, _ = cohort()
    found = tile_auroc(tiles, resamples=100)
    truth, scores = (np.concatenate([getattr(s, name) for s in tiles]) for name in ("truth", "scores"))
    known = ~np.isnan(truth)
    assert found["tile_auroc"].value == pytest.approx(roc_auc_score(truth[known], scores[known]))
    own = []
    for slide in tiles[4:]:
        known = ~np.isnan(slide.truth)
        own.append(roc_auc_score(slide.truth[known], slide.scores[known]))
    assert found["tile_auroc_mean"].value == pytest.approx(np.mean(own))
    for estimate in found.values():
        assert np.isnan(estimate.low) and "4 patients only" in estimate.reason


def test_dice_by_hand_and_undefined_without_tumour():
    scores, truth = np.array([0.9, 0.8, 0.3, 0.2, 0.95]), np.array([1, 0, 1, 0, np.nan])
    assert dice(scores, truth, 0.5).value == pytest.approx(2 * 1 / (2 + 2))
    empty = dice(scores, np.zeros(5), 0.5)
    assert np.isnan(empty.value)
    assert empty.reason == "no tumour tile"


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999))
def test_the_dice_threshold_is_the_best_of_all(seed):
    rng = np.random.default_rng(seed)
    slides = [TileSlide(f"{i}", f"{i}", np.round(rng.random(12), 1), rng.choice([0, 1, np.nan], 12)) for i in range(3)]
    point = choose_dice_threshold(slides)
    truth, scores = (np.concatenate([getattr(s, name) for s in slides]) for name in ("truth", "scores"))
    if not (truth == 1).any():
        assert np.isnan(point.threshold)
        assert "val" in point.reason
        return
    best = max(dice(scores, truth, threshold).value for threshold in np.arange(0, 1.06, 0.05))
    assert dice(scores, truth, point.threshold).value == pytest.approx(best)
    assert dice_metrics(slides, point, resamples=5)["dice"].value == pytest.approx(best)


def test_no_tumour_anywhere_is_undefined_with_reasons():
    tiles, hits = cohort(slides=4)
    found = localisation(tiles, hits, choose_dice_threshold(tiles), Evaluation(resamples=10))
    for estimate in (*found.metrics.values(), found.froc.score):
        assert np.isnan(estimate.value)
        assert estimate.reason
    assert all(np.isnan(slide.dice.value) and np.isnan(slide.auroc.value) for slide in found.slides)


def test_tiles_and_detections_of_other_slides_are_refused():
    tiles, hits = cohort()
    with pytest.raises(DataError, match="same slides"):
        localisation(tiles, hits[::-1], OperatingPoint(0.5, "given"), Evaluation(resamples=10))


def test_corners_draw_the_same_curve():
    tiles, hits = cohort()
    whole = localisation(tiles, hits, OperatingPoint(0.4, "dice", "val"), Evaluation(resamples=10)).froc
    few = corners(whole)
    rates = np.linspace(0, 6, 500)
    before, after = (np.interp(rates, f.fps_per_slide, f.sensitivity) for f in (whole, few))
    assert after == pytest.approx(before, abs=1e-12)
    assert len(few.sensitivity) < len(whole.sensitivity)


def test_corners_of_a_curve_without_lesions():
    tiles, hits = cohort(slides=4)
    found = localisation(tiles, hits, OperatingPoint(0.4, "given"), Evaluation(resamples=10))
    assert len(corners(found.froc).thresholds) == len(found.froc.thresholds)


def table(path, slides):
    rng = np.random.default_rng(1)
    cases = pd.DataFrame({"id": [s.id for s in slides], "patient": [s.patient for s in slides], "split": "test"})
    truth = np.array([[float((s.truth == 1).any())] for s in slides])
    write_predictions(path, predictions_table(cases, ["tumor"], truth, rng.random(truth.shape), [""] * len(slides)))
    return read_predictions(path)


def test_the_report_gets_a_section(tmp_path):
    tiles, hits = cohort()
    tables = {"<b>one": table(tmp_path / "a.csv", tiles), "two": table(tmp_path / "b.csv", tiles)}
    found = {
        "two": localisation(tiles, hits, OperatingPoint(0.4, "dice", "val"), Evaluation(resamples=20)),
        "<b>one": localisation(*cohort(seed=3), OperatingPoint(0.4, "dice", "test"), Evaluation(resamples=20)),
    }
    pages = {"s5": 'slides/"s5".html'}
    context = Context(unit="slide", localisation=found, slide_pages=pages)
    evaluate(tables, tmp_path / "out", evaluation=Evaluation(resamples=20), context=context)
    html = (tmp_path / "out" / "report.html").read_text()
    assert 'id="localisation"' in html
    assert "<b>one" not in html
    assert 'href="slides/&#34;s5&#34;.html"' in html
    assert "chosen on these slides: optimistic" in html
    assert "no tumour tile" in html
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    told = {model["model"]: model["localisation"] for model in report["models"]}
    assert told["two"]["froc"]["score"]["value"] == pytest.approx(found["two"].froc.score.value)
    assert told["two"]["rates"] == list(RATES)
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv").query("model == 'two'").set_index("metric")
    assert metrics.loc["localisation_dice", "value"] == pytest.approx(found["two"].metrics["dice"].value, rel=1e-5)
    assert metrics.loc["localisation_froc", "n"] == 12


def test_the_section_of_one_model_without_lesions_names_what_is_undefined(tmp_path):
    tiles, hits = cohort(slides=4)
    found = localisation(tiles, hits, choose_dice_threshold(tiles), Evaluation(resamples=10))
    context = Context(localisation={"m": found})
    tables = {"m": table(tmp_path / "a.csv", tiles)}
    evaluate(tables, tmp_path / "out", evaluation=Evaluation(resamples=10), context=context)
    html = (tmp_path / "out" / "report.html").read_text()
    assert "no lesion in the reference" in html
    assert "FROC curve. Points" not in html


def test_localisation_of_an_unknown_model_and_pages_without_it_are_refused(tmp_path):
    tiles, hits = cohort(slides=6)
    predictions = {"m": table(tmp_path / "a.csv", tiles)}
    found = localisation(tiles, hits, OperatingPoint(0.4, "given"), Evaluation(resamples=10))
    with pytest.raises(UserError, match="'other'"):
        evaluate(predictions, tmp_path / "out", context=Context(localisation={"other": found}))
    with pytest.raises(UserError, match="localisation too"):
        Context(slide_pages={"s1": "x.html"})
