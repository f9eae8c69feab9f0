"""`check` looks for images in two splits and for what an encoder has seen, and says it once, with a remedy."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.pretrain.run import pretrain
from PIL import Image


@pytest.fixture
def textured(tmp_path):
    """A manifest of 20 patients with an image each; gives its path and how to save a copy of one as another."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    rows = []
    for patient in range(20):
        coarse = rng.integers(30, 220, (24, 24)).astype(np.uint8)
        Image.fromarray(coarse).resize((120, 96), Image.Resampling.BICUBIC).save(tmp_path / f"data/{patient}.png")
        split = ("train", "train", "train", "val", "test")[patient % 5]
        rows.append((patient, f"{patient}.png", f"p{patient}", split, int(patient % 3 == 0)))
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Mass"])
    table.to_csv(tmp_path / "data/manifest.csv", index=False)
    return tmp_path / "data"


def check(capsys, *arguments) -> str:
    capsys.readouterr()
    assert main(["check", "thorax", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_images_in_two_splits(textured, capsys):
    said = check(capsys, textured)
    assert "no image of all 20 files is in two splits" in said and "show the same image" not in said
    shutil.copy(textured / "0.png", textured / "4.png")  # train and test, Mass 1 and 0
    with Image.open(textured / "1.png") as image:
        image.resize((90, 72)).convert("RGB").save(textured / "9.png", "JPEG", quality=60)  # train and test
    shutil.copy(textured / "2.png", textured / "5.png")  # both train
    said = check(capsys, textured)
    (across,) = [line for line in said.splitlines() if "in two splits (" in line]
    assert (
        across.startswith("warning 2 pairs of cases of different patients") and "(1 equal, the others nearly)" in across
    )
    assert "2 of test are in an earlier split too" in across and "0 (train) = 4 (test), 1 (train) = 9 (test)" in across
    assert "--resplit" in across
    assert "1 pair of cases of different patients show the same image within a split, first: 2 (train) = 5" in said
    assert "2 pairs of cases show the same image with different labels, first 0 and 4 (Mass)" in said


@pytest.mark.parametrize("cached", [False, True])
def test_all_files_are_compared_and_written(textured, capsys, monkeypatch, cached):
    shutil.copy(textured / "1.png", textured / "19.png")
    assert "no image of the 3 of 20 files read" in check(capsys, textured, "--files", 3)
    if cached:
        table = textured / "manifest.csv"
        assert (
            main(["prepare", "thorax", str(table), "--out", str(textured / "m/manifest.csv"), "--cache-px", "64"]) == 0
        )
        textured = textured / "m"
        from clinvit.datasets.loading import readers

        monkeypatch.setattr(readers.ImageReader, "read", None)  # the cache has all of them
    said = check(capsys, textured, "--duplicates", textured / "pairs.csv", "--files", 3, "--cache-px", 64)
    assert "among all 20 files: 1 of test are" in said and " lists all." in said
    pairs = pd.read_csv(textured / "pairs.csv", dtype=str)
    assert pairs[["id_a", "split_a", "id_b", "split_b", "equal"]].to_numpy().tolist() == [
        ["1", "train", "19", "test", "True"]
    ]


@pytest.mark.parametrize("splits", [("train",), ("train", "val")])
def test_what_an_encoder_has_seen(cohort, small_recipes, tmp_path, capsys, splits):
    data, pre = cohort(), small_recipes[0]
    pre = replace(pre, data=replace(pre.data, splits=splits), optim=replace(pre.optim, epochs=1, warmup_epochs=0))
    encoder = pretrain(pre, read_manifest(data, ()), tmp_path / "pre", tmp_path / "cache")
    said = check(capsys, data, "--encoder", encoder)
    assert "ok      the encoder has seen 48 of the 48 train cases\n" in said
    assert "ok      the encoder has seen 0 of the 16 test cases\n" in said
    if splits == ("train",):
        assert "ok      the encoder has seen 0 of the 16 val cases\n" in said
    else:
        (warning,) = [line for line in said.splitlines() if "has seen 16 of the 16 val cases" in line]
        assert warning.startswith("warning") and "without labels" in warning and "--data.splits '[train]'" in warning
    # The patients of other images are known too; a foreign encoder says that it does not know.
    table = pd.read_csv(data, dtype=str, keep_default_na=False)
    table.assign(id="new" + table["id"]).to_csv(data, index=False)
    said = check(capsys, data, "--encoder", encoder)
    assert "the encoder has seen 0 of the 48 train cases" in said
    assert ("and other images of the patients of 16 more" in said) == (splits != ("train",))
    (encoder / "trained_on.txt").unlink()
    assert main(["check", "thorax", str(data), "--encoder", str(encoder)]) == 2
    assert "no list of the cases that this encoder has seen" in capsys.readouterr().err
