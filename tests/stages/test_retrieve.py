"""`clinvit retrieve` of images: vectors as `extract` writes them, splits or ids, and one line for what is wrong."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.tests.datasets.video.made import folder, numbered
from PIL import Image

IDS = [f"c{number}" for number in range(40)]


@pytest.fixture
def archive(tmp_path):
    """Images of 20 patients with two each, and vectors in which one label is seen; the first one has failed."""
    rng = np.random.default_rng(0)
    rows, vectors = [], []
    for number, name in enumerate(IDS):
        patient, sick = number // 2, number // 2 % 2
        Image.fromarray(rng.integers(0, 255, (24, 24), np.uint8)).save(tmp_path / f"{name}.png")
        split = "test" if patient >= 12 else "train"
        rows.append((name, f"{name}.png", f"p{patient}", split, sick, "" if number % 5 == 0 else number % 3 == 0))
        vectors.append(rng.normal(0, 1, 8) + 4 * sick)
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Mass", "Edema"])
    table["Edema"] = table["Edema"].map({True: 1, False: 0, "": ""})
    table.to_csv(tmp_path / "manifest.csv", index=False)
    (tmp_path / "vectors").mkdir()
    values = np.array(vectors, np.float32)
    values[0] = np.nan
    np.save(tmp_path / "vectors" / "features.npy", values)
    table[["id", "patient", "split"]].to_csv(tmp_path / "vectors" / "features.csv", index=False)
    return tmp_path


def run(archive, capsys, *more):
    arguments = ["retrieve", "images", "--data", archive / "manifest.csv", "--vectors", archive / "vectors"]
    code = main([str(each) for each in [*arguments, "--out", archive / "out", *more]])
    words = capsys.readouterr()
    return code, words.out, words.err


def test_neighbours_are_of_other_patients_and_share_the_label(archive, capsys):
    code, words, errors = run(archive, capsys, "-k", 4, "--shown", 3)
    assert code == 0, errors
    found = pd.read_csv(archive / "out/neighbours.csv")
    assert len(found) == 16 * 4 and found["query"].nunique() == 16
    assert (found["query_Mass"] == found["neighbour_Mass"]).mean() > 0.9
    assert found["similarity"].between(-1, 1).all() and "c0" not in set(found["neighbour"])
    facts = json.loads((archive / "out/retrieval.json").read_text())
    own = facts["labels"]["Mass"]["precision"]
    assert own["value"] == pytest.approx((found["query_Mass"] == found["neighbour_Mass"]).mean())
    assert facts["left_out"] == {"cases whose vector failed": 1} and "1 cases whose vector failed" in words
    page = (archive / "out/retrieval.html").read_text()
    assert page.count("<h3>") == 3 and page.count("data:image/jpeg") == 15
    assert "agree on Mass; by chance" in page and "no finding known" in page


def test_queries_may_be_named_and_may_lie_in_the_library(archive, capsys):
    code, words, errors = run(archive, capsys, "--queries", "c3,c30", "--labels", "Mass", "-k", 3)
    assert code == 0, errors
    found = pd.read_csv(archive / "out/neighbours.csv")
    assert found["query"].tolist() == ["c3"] * 3 + ["c30"] * 3 and "c2" not in found["neighbour"].tolist()[:3]
    assert "neighbours of one another" in words and "query_Edema" not in found


def test_an_image_that_is_gone_is_a_card_without_one(archive, capsys):
    (archive / "c30.png").unlink()
    assert run(archive, capsys, "--queries", "c30")[0] == 0
    assert (archive / "out/retrieval.html").read_text().count("cannot be read") == 1


@pytest.mark.parametrize(
    ("damage", "more", "words"),
    [
        (lambda folder: (folder / "features.npy").unlink(), (), "no readable features.npy and features.csv"),
        (lambda folder: (folder / "features.npy").write_bytes(b"\x93NUMPY\x01\x00"), (), "no readable features.npy"),
        (lambda folder: np.save(folder / "features.npy", np.ones((3, 4))), (), "no table with a row for each"),
        (lambda folder: np.save(folder / "features.npy", np.array([{}])), (), "no readable features.npy"),
        (lambda folder: np.save(folder / "features.npy", np.full((40, 4), np.nan)), (), "has a vector"),
        (lambda folder: None, ("--queries", "c99"), "neither a split with cases nor the id of one"),
        (lambda folder: None, ("--library", "val"), "no image of 'val' has a vector"),
        (lambda folder: None, ("-k", "0"), "neighbours from 1"),
    ],
)
def test_what_is_wrong_is_one_line(archive, capsys, damage, more, words):
    damage(archive / "vectors")
    code, _, errors = run(archive, capsys, *more)
    assert code == 2 and words in errors and errors.count("\n") == 1


def test_alike_clips_are_found_and_shown_by_four_frames(tmp_path, capsys):
    rows = []
    for number in range(12):
        sick = number % 2
        folder(tmp_path / f"c{number}", numbered(8, 40, 48 - 16 * sick), "{}.png")
        rows.append((f"c{number}", f"c{number}", f"p{number}", "test" if number > 7 else "train", sick))
    pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Sick"]).to_csv(
        tmp_path / "manifest.csv", index=False
    )
    for frame in (tmp_path / "c11").iterdir():
        frame.write_bytes(b"broken")
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8, frames=4, tubelet=2, positions="sine1d")
    torch.manual_seed(0)
    encoder = save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    asked = ["--data", str(tmp_path / "manifest.csv"), "--encoder", str(encoder), "--out", str(tmp_path / "vectors")]
    assert main(["extract", "clips", *asked]) == 0
    places = ["--data", str(tmp_path / "manifest.csv"), "--vectors", str(tmp_path / "vectors")]
    assert main(["retrieve", "clips", *places, "--out", str(tmp_path / "out"), "-k", "3"]) == 0
    assert "3 queries, 8 clips of train" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "out/neighbours.csv")
    assert len(found) == 9 and (found["query_Sick"] == found["neighbour_Sick"]).all()
    assert (tmp_path / "out/retrieval.html").read_text().count("<img") == 3 * 4
