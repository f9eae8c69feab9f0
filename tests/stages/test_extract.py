"""`clinvit extract` of images by ViTs and networks of timm: in the order of the manifest, failures named."""

import json

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import timm
import torch
from clinvit.api import Encoder, Network, load
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main


@pytest.fixture
def resnet(tmp_path):
    torch.manual_seed(4)
    network = timm.create_model("resnet10t", num_classes=0)
    path = tmp_path / "resnet10t.safetensors"
    safetensors.torch.save_file({name: t.contiguous() for name, t in network.state_dict().items()}, path)
    return path


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(3)
    arch = Architecture(64, 2, 2, image_size=(32, 32), patch_size=8)
    return save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,), method="mae"))


@pytest.mark.parametrize("kind, width", [("resnet", 512), ("encoder", 64)])
def test_features_are_those_of_python_in_the_order_of_the_manifest(cohort, tmp_path, request, capsys, kind, width):
    source, data = request.getfixturevalue(kind), cohort(patients=5)
    broken = data.parent / "images" / "001_1.png"
    broken.write_bytes(b"broken")
    out = tmp_path / "features"
    assert main(["extract", "images", "--data", str(data), "--encoder", str(source), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "10 requested = 9 ok + 1 failed" in said.out and "001_1" in said.err and "images/" not in said.err
    values, table = np.load(out / "features.npy"), pd.read_csv(out / "features.csv", keep_default_na=False)
    assert values.shape == (10, width) and values.dtype == np.float32
    manifest = pd.read_csv(data)
    assert table["id"].tolist() == manifest["id"].tolist()
    assert np.isnan(values).all(axis=1).tolist() == (table["status"] == "failed").tolist()
    facts = json.loads((out / "features.json").read_text())
    assert facts["values"] == width and len(facts["sha256"]) == 64
    loaded = load(source)
    assert isinstance(loaded, Network if kind == "resnet" else Encoder)
    wanted = loaded.features([data.parent / path for path in manifest["path"]])
    np.testing.assert_allclose(values, wanted.values, rtol=1e-5, atol=1e-6)
    assert ("resnet10t" if kind == "resnet" else "ViT") in repr(loaded)


def test_what_is_missing_or_not_of_the_encoder_is_said(cohort, tmp_path, capsys, resnet):
    base = ["extract", "images", "--data", str(cohort(patients=5)), "--out", str(tmp_path / "features")]
    assert main(base) == 2
    assert "--encoder is missing" in capsys.readouterr().err
    assert main([*base, "--encoder", str(resnet), "--pool", "class"]) == 2
    assert "does not classify by a class token: set --pool mean" in capsys.readouterr().err
    assert main([*base, "--encoder", "uni2-h"]) == 2
    assert "weights fetch uni2-h" in capsys.readouterr().err
    assert main([*base, "--encoder", str(resnet), "--tiles", "x"]) == 2
    assert "--tiles is for slides" in capsys.readouterr().err
    assert not (tmp_path / "features").exists()
