"""Learning curves along unlabelled images, size of the input and of the network: really trained, on small images."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Model
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.seen import TRAINED_ON, read_hashes
from clinvit.finetune.recipe import Finetune
from clinvit.pretrain.recipe import Pretrain
from clinvit.stages import learning_axes
from clinvit.stages.learning_axes import learning_axis_stage
from clinvit.stages.learning_curve import Asked
from clinvit.tests.reliability.work import RUN, TINY

BRIEF = [*TINY, *RUN, "--optim.warmup_epochs", "0", "--optim.epochs", "1", "--run.threads", "1", "--resamples", "100"]
PRETRAIN = """
model: {size: micro, image_size: 32, patch_size: 8}
decoder: {width: 16, depth: 1, heads: 2}
data: {cache_px: 64}
augment: {size: 32}
optim: {epochs: 1, warmup_epochs: 0, batch_size: 8}
run: {checkpoint_minutes: 0, precision: 32-true, threads: 1}
"""


def asked(data, out, *words):
    return [str(word) for word in ["learning-curve", "thorax", "--data", data, "--out", out, *words, *BRIEF]]


def test_an_encoder_of_each_share_sees_its_share_alone_and_learns_from_all_labels(cohort, tmp_path, capsys):
    data, config, out = cohort(patients=60), tmp_path / "pretrain.yaml", tmp_path / "curve"
    config.write_text(PRETRAIN, encoding="utf-8")
    command = asked(
        data, out, "--along", "images", "--pretrain-recipe", "tiny", "--pretrain-config", config, "--shares", "1/2,1",
        "--seeds", 1, "--more", 30,
    )  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "nother 30 unlabelled images in pre-training are worth" in said and "[2/2] 1, seed 0, pretrained" in said
    seen = [read_hashes(out / f"encoders/{name}/seed_0/encoder" / TRAINED_ON) for name in ("1-2", "1")]
    assert seen[0] < seen[1]
    found = json.loads((out / "learning_curve.json").read_text())
    points = found["curves"][0]["points"]
    subsets = pd.read_csv(out / "subsets.csv", dtype=str)
    assert found["along"] == "images" and points[0]["cases"] < points[1]["cases"]
    assert set(subsets["from_share"]) == {"1/2", "1"}
    page = (out / "learning_curve.html").read_text(encoding="utf-8")
    assert "What more unlabelled images are worth" in page and "labelled images for training" not in page


@pytest.mark.thorough
def test_sizes_of_the_input_and_of_the_network(cohort, tmp_path, capsys):
    data = cohort(patients=60)
    arch = Model("micro", image_size=32, patch_size=8).architecture()
    save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    size = asked(
        data, tmp_path / "size", "--along", "size", "--values", "32,48", "--seeds", 1, "--encoder", tmp_path / "encoder"
    )
    assert main(size) == 0
    assert "nother 48 px of the image's side are worth" in capsys.readouterr().out
    card = json.loads((tmp_path / "size/pretrained/48/seed_0/model/model.json").read_text())
    assert card["arch"]["image_size"] == [48, 48]
    assert main(asked(data, tmp_path / "model", "--along", "model", "--values", "micro,mini", "--seeds", 1)) == 0
    found = json.loads((tmp_path / "model/learning_curve.json").read_text())
    sizes = [point["cases"] for point in found["curves"][0]["points"]]
    assert found["models"] == ["scratch"] and found["values"] == ["micro", "mini"] and sizes[1] > 2 * sizes[0] > 1e5
    assert found["more"] == sizes[1] and "weights of the network are worth" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("along", "changes", "encoder", "message"),
    [
        ("images", {}, None, "--along images: name the recipe"),
        ("model", {"values": ("micro", "mini")}, "encoder", "leave --encoder out"),
        ("size", {"values": ("32",)}, None, "name two or more, rising"),
        ("size", {"values": ("64", "32")}, None, "name two or more, rising"),
        ("size", {"values": ("32", "big")}, None, "--values big: the side of the input is a whole number"),
        ("size", {"values": ("32", "50")}, None, "--values 50"),
        ("model", {"values": ("micro", "enormous")}, None, "--values enormous"),
    ],
)
def test_what_means_nothing_is_refused(along, changes, encoder, message, cohort, tmp_path):
    request = replace(Asked(along=along, more=0 if changes else 5), **changes)
    recipe = replace(Finetune(), model=Model("micro", image_size=32, patch_size=8))
    with pytest.raises(UserError, match=message):
        learning_axis_stage(recipe, None, cohort(patients=60), tmp_path / "out", request, encoder=encoder)


def test_encoders_are_made_or_given_not_both(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr(learning_axes, "pretrain_stage", None)
    request = Asked(along="size", values=("32", "64"))
    with pytest.raises(UserError, match="leave one of both out"):
        learning_axis_stage(Finetune(), Pretrain(), cohort(patients=60), tmp_path / "out", request, encoder="e")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--along", "size"], "name --values, such as 64,96,128"),
        (["--values", "32,64"], "--values belongs to --along size or model"),
        (["--pretrain-recipe", "tiny"], "belong to --along images, size or model"),
        (["--along", "size", "--values", "32,64", "--pretrain-config", "x"], "name it by --pretrain-recipe"),
    ],
)
def test_options_of_another_axis_are_refused(words, message, cohort, tmp_path, capsys):
    assert main(asked(cohort(patients=60), tmp_path / "out", *words)) == 2
    assert message in capsys.readouterr().err
