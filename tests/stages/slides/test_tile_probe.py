"""A linear probe on tiles: two encoders' features, learned from the outlines of few slides."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import predictions_table, read_manifest, write_manifest, write_predictions
from clinvit.datasets.slides.hdf5 import write_features
from clinvit.datasets.slides.outlines import Outline, write_outlines
from clinvit.datasets.slides.tiles import TileGrid
from clinvit.eval import Evaluation
from clinvit.stages.evaluate import evaluate_stage
from clinvit.stages.slides.tile_probe import tile_probe

SIDE, TILE = 2000, 100


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """40 slides whose left half is tumour in every second one; one encoder sees it, one sees little of it."""
    folder, rng = tmp_path_factory.mktemp("probe"), np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(0, SIDE, TILE), np.arange(0, SIDE, TILE))
    coords = np.stack([x, y], axis=-1).reshape(-1, 2)
    grid = TileGrid(coords, np.ones(len(coords), np.float32), 64, 50.0, 0.0, TILE, 0.5, SIDE, SIDE)
    write_outlines(
        folder / "left.xml", [Outline(np.array([[0, 0], [1000, 0], [1000, SIDE], [0, SIDE]]), "_0", "", False)]
    )
    rows = []
    for number in range(40):
        name, tumour = f"s{number:02d}", number % 2
        inside = tumour * (coords[:, 0] < 1000)
        for encoder, signal in (("good", 2.0), ("poor", 0.3)):
            values = rng.normal(size=(len(coords), 8)).astype(np.float32)
            values[:, 0] += signal * inside
            write_features(folder / encoder / f"{name}.h5", values, grid, {"encoder": encoder})
        split = "train" if number < 12 else "test"
        rows.append([name, f"{name}.tif", name, split, tumour, "left.xml" if tumour else ""])
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumour", "annotation"])
    write_manifest(folder / "manifest.csv", table, ["tumour"])
    return folder, read_manifest(folder / "manifest.csv")


def test_the_encoder_that_sees_tumour_is_ahead_at_every_size(slides):
    folder, manifest = slides
    both = {"good": folder / "good", "poor": folder / "poor"}
    names, steps, judged = tile_probe(both, manifest, "tumour", sizes=(1, 4, 50))
    assert names == ("good", "poor") and judged == "mean of 14 test slides with tumour"
    assert [step.cases for step in steps] == [1, 4]  # there are six
    for step in steps:
        assert step.first.value > 0.85 and 0.5 < step.second.value < 0.7 and step.gain.low > 0.15
        assert step.gain.value == pytest.approx(step.first.value - step.second.value)


def test_the_same_features_do_not_differ_and_the_same_seed_gives_the_same(slides):
    folder, manifest = slides
    same = {"one": folder / "poor", "other": folder / "poor"}
    step, again = (tile_probe(same, manifest, "tumour", sizes=(2,), seed=3).steps[0] for _ in range(2))
    assert step.gain.value == step.gain.low == step.gain.high == 0 and step == again


def test_a_report_has_the_section(slides, tmp_path):
    folder, manifest = slides
    test = manifest.rows("test").table
    truth = test[["tumour"]].to_numpy(float)
    scores = np.random.default_rng(1).uniform(size=truth.shape)
    write_predictions(tmp_path / "mil.csv", predictions_table(test, ["tumour"], truth, scores, [""] * len(test)))
    probe = tile_probe({"good": folder / "good", "poor": folder / "poor"}, manifest, "tumour")
    report = evaluate_stage(
        {"mil": tmp_path / "mil.csv"}, tmp_path / "report", evaluation=Evaluation(resamples=50), probe=probe
    )
    found = report.to_dict()["efficiency"]
    assert found["models"] == ["good", "poor"] and found["metric"] == "tile AUROC"
    assert "good is ahead of poor" in found["verdict"]
    assert "Tile AUROC, mean of 14 test slides with tumour" in (tmp_path / "report/report.html").read_text("utf-8")


def test_two_folders_and_slides_of_both_kinds_are_needed(slides, tmp_path):
    folder, manifest = slides
    with pytest.raises(UserError, match="two against each other"):
        tile_probe({"good": folder / "good"}, manifest, "tumour")
    with pytest.raises(UserError, match=r"0 training slides .* and 0 without"):
        tile_probe({"good": tmp_path, "poor": tmp_path}, manifest, "tumour")
