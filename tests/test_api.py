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
    network = model._network
    if card.mode == "knn":
        np.testing.assert_allclose(np.linalg.norm(found.values[3]), 1, atol=1e-5)
        return
    last = (
        network.network.get_classifier() if card.network == "resnet18" else nn.Sequential(network.fc_norm, network.head)
    )
    scores = last(torch.from_numpy(found.values[3:])).sigmoid().detach()
    np.testing.assert_allclose(scores, model.predict(images)[["p_Square", "p_Bar"]][3:], atol=1e-5)


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
