"""The public API: what `clinvit.load` and `clinvit.vit` give equals what the command gives."""

import subprocess
import sys
from dataclasses import replace

import clinvit
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View
from clinvit.mil.model import MilCard, save_mil
from PIL import Image
from torch import nn

ARCH = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
CARD = ModelCard(
    ("Square", "Bar"), {}, False, "full", "vit", "mean", ARCH, (0.5,), (0.25,), View("squash", None), 40,
    thresholds={"Bar": {"value": 0.5, "how": "0.5", "split": ""}},
)  # fmt: skip


@pytest.fixture
def images(tmp_path):
    folder, generator = tmp_path / "images", np.random.default_rng(0)
    folder.mkdir()
    for number in range(5):
        Image.fromarray(generator.integers(0, 255, (40, 40), np.uint8)).save(folder / f"{number}.png")
    (folder / "2.png").write_bytes(b"broken")
    return folder


def saved(folder, card=CARD):
    torch.manual_seed(0)
    return save_model(folder, build_model(card), card)


def test_a_model_predicts_as_the_command_does(images, tmp_path):
    folder = saved(tmp_path / "run/model")
    assert main(["predict", "thorax", str(images), "--model", str(folder), "--out", str(tmp_path / "p.csv")]) == 0
    told = pd.read_csv(tmp_path / "p.csv", dtype={"id": str})
    for where in (folder, str(tmp_path / "run")):
        model = clinvit.load(where)
        assert model.labels == ("Square", "Bar")
        table = model.predict(images)
        assert table["id"].tolist() == told["id"].tolist() and table["status"].tolist() == told["status"].tolist()
        np.testing.assert_allclose(table["p_Bar"], told["p_Bar"], atol=1e-6)
        np.testing.assert_array_equal(table["pred_Bar"], told["pred_Bar"])
        assert table["path"].iloc[0] == str(images / "0.png") and "2.png" in table["reason"].iloc[2]
    one = model.predict([images / "4.png", str(images / "0.png")])
    np.testing.assert_allclose(one["p_Bar"], told["p_Bar"].iloc[[4, 0]], atol=1e-6)


@pytest.mark.parametrize(
    "card, width",
    [
        (CARD, 32),
        (replace(CARD, mode="linear", pool="class"), 32),
        (replace(CARD, network="resnet18", arch=replace(ARCH, image_size=(64, 64))), 512),
        (replace(CARD, mode="knn", reference_cases=4, neighbours=2), 32),
    ],
)
def test_features_are_what_the_last_layer_sees(card, width, images, tmp_path):
    model = clinvit.load(saved(tmp_path / "model", card))
    found = model.features(images, batch=2)
    assert found.values.shape == (5, width) and found.values.dtype == np.float32
    assert np.isnan(found.values[2]).all() and "2.png" in found.reasons[2] and found.files[2].name == "2.png"
    network = model.network
    if card.mode == "knn":
        np.testing.assert_allclose(np.linalg.norm(found.values[3]), 1, atol=1e-5)
        return
    last = (
        network.network.get_classifier() if card.network == "resnet18" else nn.Sequential(network.fc_norm, network.head)
    )
    scores = last(torch.from_numpy(found.values[3:])).sigmoid().detach()
    np.testing.assert_allclose(scores, model.predict(images)[["p_Square", "p_Bar"]][3:], atol=1e-5)


@pytest.fixture
def colour(tmp_path):
    """A colour image as an array and as a file."""
    pixels = np.random.default_rng(1).integers(0, 255, (48, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "colour.png")
    return pixels, tmp_path / "colour.png"


def test_images_in_memory_are_predicted_as_their_files_are(images, colour, tmp_path):
    model, (pixels, file) = clinvit.load(saved(tmp_path / "model")), colour
    one, two = (np.array(Image.open(images / name)) for name in ("0.png", "1.png"))
    deep = one.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "deep.png")
    expected = model.predict([images / "0.png", images / "1.png", file, tmp_path / "deep.png"])["p_Bar"]
    given = [Image.fromarray(one), torch.from_numpy(two)[None], pixels, deep]
    table = model.predict(given)
    np.testing.assert_array_equal(table["p_Bar"], expected)
    assert table["id"].tolist() == [f"array-{number}" for number in range(4)] and (table["status"] == "ok").all()
    floats = [one / 255, two.astype(np.float32) / 255, torch.from_numpy(pixels / 255).permute(2, 0, 1)]
    np.testing.assert_allclose(model.predict(floats, batch=2)["p_Bar"], expected[:3], atol=1e-3)
    assert model.predict(two)["p_Bar"].tolist() == [expected[1]]
    both = model.predict(torch.stack([torch.from_numpy(each)[None] for each in (one, two)]))
    np.testing.assert_allclose(both["p_Bar"], expected[:2], atol=1e-6)
    np.testing.assert_array_equal(model.features(pixels).values, model.features(file).values)


@pytest.mark.parametrize(
    "image, words",
    [
        (np.zeros((5, 40, 40), np.uint8), "give several as a list"),
        (np.full((40, 40), 2.0), "floats are in 0..1"),
        (np.full((40, 40), np.nan), "floats are in 0..1"),
        (np.zeros((40, 40), np.int64), "of the type int64"),
        (np.zeros((4, 40), np.uint8), "too small"),
        (Image.new("F", (40, 40)), "mode 'F'"),
    ],
    ids=["stack", "beyond 1", "NaN", "int64", "small", "PIL floats"],
)
def test_an_image_that_cannot_be_read_is_a_row(image, words, tmp_path):
    table = clinvit.load(saved(tmp_path / "model")).predict([np.zeros((40, 40), np.uint8), image])
    assert table["status"].tolist() == ["ok", "failed"] and np.isnan(table["p_Bar"].iloc[1])
    assert words in table["reason"].iloc[1] and table["reason"].iloc[1].startswith("array-1: ")


def test_what_is_no_input_is_one_line(images, tmp_path):
    model = clinvit.load(saved(tmp_path / "model"))
    with pytest.raises(UserError, match="are mixed"):
        model.predict([images / "0.png", np.zeros((40, 40), np.uint8)])
    with pytest.raises(UserError, match="a float is no input"):
        model.predict(0.5)
    assert len(model.predict(np.array([str(images / "0.png"), str(images / "1.png")]))) == 2
    clips = replace(CARD, arch=replace(ARCH, frames=4, tubelet=2, positions="sine3d"))
    with pytest.raises(UserError, match="model of clips"):
        clinvit.load(saved(tmp_path / "clips", clips)).predict(np.zeros((40, 40), np.uint8))


def test_a_split_of_a_manifest(images, tmp_path):
    lines = [f"{n},images/{n}.png,p{n},{'test' if n > 2 else 'train'},{n % 2}" for n in range(5)]
    (tmp_path / "manifest.csv").write_text("\n".join(["id,path,patient,split,Bar", *lines]))
    model = clinvit.load(saved(tmp_path / "model"))
    table = model.predict(tmp_path / "manifest.csv", split="test")
    assert table["id"].tolist() == ["3", "4"] and table["y_Bar"].tolist() == [1, 0]
    assert table["y_Square"].isna().all()
    with pytest.raises(UserError, match="no case in the split 'val'; these are train, test"):
        model.predict(tmp_path / "manifest.csv", split="val")


def test_objects_show_what_they_are(tmp_path):
    model = clinvit.load(saved(tmp_path / "model"))
    for words in ("Classifier(", "ViT, width 32", "32 x 32 px, 1 channel(s)", "Square, Bar", "thresholds: Bar 0.5"):
        assert words in repr(model)
    assert dir(model) == ["card", "explain", "facts", "features", "labels", "network", "predict"]


def test_where_a_model_looks(images, tmp_path):
    model = clinvit.load(saved(tmp_path / "model"))
    found = model.explain(images, labels=["Bar"])
    assert [each.position for each in found] == list(range(5)) and "2.png" in found[2].reason
    assert found[0].maps.shape == (1, 4, 4) and found[0].maps.max() > 0
    assert (found[0].width_px, found[0].height_px, found[0].extent_px) == (40, 40, (0, 0, 40, 40))
    np.testing.assert_array_equal(model.explain(images / "0.png")[0].maps[1], found[0].maps[0])
    with pytest.raises(UserError, match="no label 'Ring'"):
        model.explain(images, labels=["Ring"])


def test_an_encoder_gives_features_and_no_scores(images, tmp_path):
    torch.manual_seed(0)
    vit = ViT(ARCH).eval()
    folder = save_encoder(tmp_path / "mae/encoder", vit, EncoderCard(ARCH, (0.5,), (0.25,)))
    encoder = clinvit.load(tmp_path / "mae")
    found = encoder.features(images / "0.png", pool="class")
    assert found.values.shape == (1, 32) and not hasattr(encoder, "predict")
    again = clinvit.load(folder).features(images / "0.png", pool="class")
    np.testing.assert_array_equal(found.values, again.values)
    with pytest.raises(UserError, match="pool 'max'"):
        encoder.features(images, pool="max")


def test_a_slide_model_predicts_feature_files(tmp_path):
    card = MilCard(("tumor",), {}, False, "mean", 8, None, "bag", 8, thresholds={"tumor": {"value": 0.5}})
    torch.manual_seed(0)
    folder = save_mil(tmp_path / "model", card.network(), card)
    generator = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    for name, width in (("a", 8), ("b", 8), ("c", 5)):
        with h5py.File(tmp_path / f"features/{name}.h5", "w") as file:
            file["features"] = generator.normal(size=(6, width)).astype(np.float32)
            file["coords"] = np.zeros((6, 2), np.int64)
    table = clinvit.load(folder).predict(tmp_path / "features")
    assert table["status"].tolist() == ["ok", "ok", "failed"] and table["id"].tolist() == ["a", "b", "c"]
    assert table["pred_tumor"].iloc[0] == (table["p_tumor"].iloc[0] >= 0.5)


def test_a_vit_by_its_size_with_weights(tmp_path):
    vit = clinvit.vit("tiny", image_size=(32, 32), patch_size=8, channels=1)
    assert vit(torch.zeros(1, 1, 32, 32)).patches.shape == (1, 16, 192)
    save_encoder(tmp_path / "e", vit, EncoderCard(vit.arch, (0.5,), (0.25,)))
    again = clinvit.vit("tiny", image_size=(32, 32), patch_size=8, channels=1, weights=tmp_path / "e")
    x = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(again(x).cls, vit(x).cls)
    with pytest.raises(ValueError, match="unknown model size 'huge-size'"):
        clinvit.vit("huge-size")


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir()])
def test_what_is_no_model_is_one_line(make, tmp_path):
    make(tmp_path / "x")
    with pytest.raises(UserError, match=r"no such|not a model folder"):
        clinvit.load(tmp_path / "x")


def test_importing_clinvit_imports_no_torch():
    code = "import clinvit, sys; assert 'torch' not in sys.modules; assert clinvit.__version__"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        clinvit.lode  # noqa: B018
