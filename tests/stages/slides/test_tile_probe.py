"""A linear probe on tiles: two encoders' features, learned from the outlines of few slides."""

import shutil

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest, write_manifest
from clinvit.datasets.slides.hdf5 import open_features, read_tiles, write_features
from clinvit.datasets.slides.outlines import Outline, write_outlines
from clinvit.datasets.slides.tiles import TileGrid
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


def test_the_encoder_that_sees_tumour_is_ahead_at_every_size(slides, capsys):
    folder, manifest = slides
    steps = tile_probe((folder / "good", folder / "poor"), manifest, "tumour", sizes=(1, 4, 50))
    assert [step.cases for step in steps] == [1, 4]
    assert "left out: 50 outlined slides, for there are 6" in capsys.readouterr().out
    for step in steps:
        assert step.first.value > 0.85 and 0.5 < step.second.value < 0.7 and step.gain.low > 0.15
        assert step.gain.value == pytest.approx(step.first.value - step.second.value)


def test_the_same_features_do_not_differ_and_the_same_seed_gives_the_same(slides):
    folder, manifest = slides
    same = (folder / "poor", folder / "poor")
    step, again = (tile_probe(same, manifest, "tumour", sizes=(2,), seed=3)[0] for _ in range(2))
    assert step.gain.value == step.gain.low == step.gain.high == 0 and step == again


def test_other_tiles_and_too_few_slides_are_refused(slides, tmp_path):
    folder, manifest = slides
    with open_features(folder / "good/s13.h5") as file:
        values = file.read()
    grid = read_tiles(folder / "good/s13.h5")
    shutil.copytree(folder / "good", tmp_path / "fewer")
    write_features(tmp_path / "fewer/s13.h5", values[:90], grid.only(np.arange(len(values)) < 90), {"encoder": "good"})
    with pytest.raises(UserError, match="the tiles of s13 are not those of"):
        tile_probe((folder / "good", tmp_path / "fewer"), manifest, "tumour")
    with pytest.raises(UserError, match=r"0 training slides .* and 0 without"):
        tile_probe((tmp_path / "none", tmp_path / "none"), manifest, "tumour")
