"""Training from Python: files or Datasets of one's own, own network, loss, transform and callbacks."""

import inspect
from dataclasses import replace
from typing import ClassVar

import clinvit
import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.own import as_pixels, own_manifest
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.finetune import finetune
from clinvit.finetune.losses import masked_bce
from clinvit.mil.recipe import Mil
from clinvit.pretrain import pretrain
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import nn

from .engine.test_resume import equal_files


class Cohort(torch.utils.data.Dataset):
    """The images of a manifest's split as somebody's own Dataset."""

    def __init__(self, path, split: str, kind: str = "array"):
        manifest = read_manifest(path).rows(split)
        self.files, self.truth, self.table = manifest.files(), manifest.targets(), manifest.table
        self.kind = kind

    def __len__(self):
        return len(self.files)

    def __getitem__(self, row):
        image = Image.open(self.files[row])
        if self.kind == "mapping":
            names = self.table.iloc[row]
            return {"image": image, "target": self.truth[row], "id": names["id"], "patient": names["patient"]}
        pixels = np.asarray(image)
        return {"array": pixels, "tensor": torch.tensor(pixels)[None] / 255}[self.kind], self.truth[row]


class Tiny(nn.Module):
    def __init__(self, labels: int = 2):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 5, 2), nn.ReLU(), nn.Flatten(),
            nn.LazyLinear(labels),
        )  # fmt: skip
        self.layers(torch.zeros(2, 1, 32, 32))

    def forward(self, x):
        return self.layers(x)


def test_the_rooms_name_their_public_parts_and_stay_rooms():
    assert inspect.ismodule(clinvit.pretrain) and inspect.ismodule(clinvit.finetune)
    for room in (clinvit.pretrain, clinvit.finetune):
        for name in room.__all__:
            assert getattr(room, name).__doc__, name
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            room.nothing  # noqa: B018


def test_from_a_manifest_to_an_encoder_to_a_classifier(cohort, small_recipes, tmp_path):
    """Thresholds and calibration are part of it, as of the command; an encoder goes in as an object."""
    data, (pre, fine) = cohort(), small_recipes
    encoder = pretrain(pre, data=data, out=tmp_path / "mae")
    assert encoder.card.method == "mae" and encoder.path == tmp_path / "mae/encoder"
    model = finetune(fine, data=str(data.parent), out=tmp_path / "ft", encoder=encoder, calibrate="platt")
    assert model.labels == ("Square", "Bar") and model.card.thresholds["Square"]["split"] == "val"
    assert model.card.calibration["Bar"]["method"] == "platt" and model.card.encoder["method"] == "mae"
    again = pretrain(pre, data=data, out=tmp_path / "more", encoder=encoder)
    assert again.card.data["started_from"] == str(encoder.path)
    assert not equal_files(*(tmp_path / name / "encoder/encoder.safetensors" for name in ("mae", "more")))
    with pytest.raises(UserError, match="holds another run: encoder was"):
        pretrain(pre, data=data, out=tmp_path / "more")


def test_a_dataset_trains_as_its_files_do(cohort, small_recipes, tmp_path):
    """The same weights and scores, whatever the items are."""
    data, fine = cohort(), small_recipes[1]
    fine = replace(fine, optim=replace(fine.optim, epochs=3), data=replace(fine.data, labels=("Square", "Bar")))
    finetune(fine, data=data, out=tmp_path / "files")
    for kind in ("array", "tensor", "mapping"):
        train, val, test = (Cohort(data, split, kind) for split in ("train", "val", "test"))
        finetune(fine, data=train, val=val, test=test, out=tmp_path / kind)
        tables = [pd.read_csv(tmp_path / name / "predictions.csv") for name in ("files", kind)]
        assert np.array_equal(*(np.sort(table["p_Bar"]) for table in tables)), kind
    assert tables[0].sort_values("id")["id"].tolist() == tables[1].sort_values("id")["id"].tolist()
    with pytest.raises(UserError, match="holds another run: data was"):
        finetune(fine, data=val, val=train, out=tmp_path / "array")


def test_pretraining_on_a_dataset_without_targets(cohort, small_recipes, tmp_path):
    data, pre = cohort(), small_recipes[0]
    whole = pretrain(pre, data=data, out=tmp_path / "files")
    own = pretrain(pre, data=Cohort(data, "train"), out=tmp_path / "own")
    assert equal_files(*(tmp_path / name / "encoder/encoder.safetensors" for name in ("files", "own")))
    assert own.card.data["cases"] == whole.card.data["cases"] == 48


class Seen(Callback):
    epochs: ClassVar[list] = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs.append(trainer.current_epoch)


def test_own_network_loss_transform_and_callbacks(cohort, small_recipes, tmp_path, monkeypatch):
    monkeypatch.setattr(Seen, "epochs", [])
    data, fine, drawn, asked = cohort(), small_recipes[1], [], []

    def mirrored(image):
        assert image.dtype == np.uint8 and image.ndim == 2
        drawn.append((np.random.rand(), torch.rand(1).item()))  # noqa: NPY002 - as others draw
        return Image.fromarray(image[::-1])

    def loss(logits, target):
        asked.append(target.isnan().any())
        return 2 * masked_bce(logits, target)

    torch.manual_seed(0)
    parts = {"network": Tiny(), "loss": loss, "transform": mirrored, "callbacks": [Seen()]}
    model = finetune(fine, data=data, out=tmp_path / "run", **parts)
    assert Seen.epochs == list(range(12)) and len(asked) == 36 and any(asked)
    assert len(set(drawn)) == len(drawn) == 12 * 48
    table = pd.read_csv(tmp_path / "run/predictions.csv")
    files = read_manifest(data).rows("test").files()
    scores = model.predict([str(file) for file in files])
    assert np.allclose(scores["p_Square"], table[table["split"] == "test"]["p_Square"], atol=1e-6)
    with pytest.raises(UserError, match=r"somebody's own.*network=\.\.\."):
        clinvit.load(tmp_path / "run")
    again = clinvit.api.load(tmp_path / "run", network=Tiny())
    assert np.array_equal(again.predict([str(files[0])])["p_Bar"], scores["p_Bar"][:1])
    with pytest.raises(UserError, match=r"own_loss was '.*loss', now None"):
        finetune(fine, data=data, out=tmp_path / "run", **(parts | {"loss": None}))
    with pytest.raises(UserError, match=r"makes \(2, 3\) .* \(2, 2\) logits are needed"):
        finetune(fine, data=data, out=tmp_path / "other", network=Tiny(3))
    with pytest.raises(UserError, match="a network of your own has its weights already"):
        finetune(fine, data=data, out=tmp_path / "other", network=Tiny(), encoder=tmp_path)
    with pytest.raises(UserError, match=r"the loss gives the shape \(16, 2\)"):
        finetune(fine, data=data, out=tmp_path / "other", loss=lambda logits, target: logits)
    assert not (tmp_path / "other/recipe.yaml").exists()
    with pytest.raises(UserError, match="not for bags"):
        finetune(Mil(), data=data, out=tmp_path / "other", loss=loss, features=tmp_path)
    with pytest.raises(UserError, match="val and test belong to a Dataset"):
        finetune(fine, data=data, out=tmp_path / "other", val=Cohort(data, "val"))


def test_a_network_of_timm_by_its_name(cohort, small_recipes, tmp_path):
    fine = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))
    model = finetune(fine, data=cohort(), out=tmp_path / "run", network="test_resnet")
    assert model.card.network == "test_resnet" and clinvit.load(tmp_path / "run").labels == model.labels


def test_a_transform_is_for_images(clip_cohort, small_clip_recipes, tmp_path):
    for stage, recipe in zip((pretrain, finetune), small_clip_recipes):
        with pytest.raises(UserError, match="transform is for images"):
            stage(recipe, data=clip_cohort(folder=stage.__name__), out=tmp_path / "run", transform=lambda image: image)


@pytest.mark.parametrize(
    "image, channels, shape",
    [
        (np.zeros((5, 4), np.uint8), 1, (5, 4)),
        (np.zeros((5, 4, 1), np.float32), 1, (5, 4)),
        (np.zeros((1, 5, 4), np.float64), 3, (5, 4)),
        (np.zeros((3, 5, 4), np.uint8), 3, (5, 4, 3)),
        (np.zeros((5, 4, 3), np.uint8), 3, (5, 4, 3)),
        (torch.zeros(3, 5, 3), 3, (5, 3, 3)),
        (torch.zeros(5, 4, dtype=torch.uint8), 1, (5, 4)),
        (Image.new("L", (4, 5)), 1, (5, 4)),
        (Image.new("RGBA", (4, 5)), 3, (5, 4, 3)),
    ],
)
def test_shapes_of_items(image, channels, shape):
    assert as_pixels(image, channels, frames=1).shape == shape


def test_clips_have_an_axis_of_time():
    assert as_pixels(torch.zeros(1, 8, 5, 4), 1, frames=8).shape == (8, 5, 4)
    assert as_pixels(np.zeros((8, 5, 4, 3), np.uint8), 3, frames=8).shape == (8, 5, 4, 3)


@pytest.mark.parametrize(
    "image, words",
    [
        (np.zeros((5, 4, 3), np.uint8), "three channels and the model one"),
        (np.full((5, 4), 1.5), r"float64 from 1\.5 to 1\.5.*not normalised"),
        (np.full((5, 4), np.nan), "float64 from nan"),
        (np.zeros((5, 4), np.uint16), "uint16"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
    ],
)
def test_items_that_are_refused(image, words):
    with pytest.raises(UserError, match=words):
        as_pixels(image, 1, frames=1)


class Listed(torch.utils.data.Dataset):
    def __init__(self, given, **attributes):
        self.given = given
        vars(self).update(attributes)

    def __len__(self):
        return len(self.given)

    def __getitem__(self, row):
        return np.zeros((4, 4), np.uint8), self.given[row]


def test_targets_are_vectors_or_numbers_of_classes():
    parts = {"train": Listed([2, 0]), "val": Listed([1])}
    manifest = own_manifest(parts, None)
    assert manifest.labels == ("class_0", "class_1", "class_2")
    assert manifest.targets().tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert manifest.table["split"].tolist() == ["train", "train", "val"] and manifest.table["id"].is_unique
    assert own_manifest({"train": Listed([1, 0], classes=["none", "tumour"])}, None).targets().tolist() == [
        [0, 1],
        [1, 0],
    ]  # fmt: skip
    assert own_manifest({"train": Listed([1, 0, np.nan])}, ["Tumour"]).labels == ("Tumour",)
    assert not own_manifest({"train": Listed([None])}, ()).labels


def test_wrong_targets_ids_and_patients_are_refused():
    for targets, words in (([[0, 0.5]], "other than 0, 1"), ([[0, 1], [1]], "a target is"), (["a"], "a target is")):
        with pytest.raises(DataError, match=words):
            own_manifest({"train": Listed(targets)}, None)
    with pytest.raises(DataError, match="for the labels A, B, C"):
        own_manifest({"train": Listed([[0, 1]])}, ["A", "B", "C"])
    with pytest.raises(DataError, match="'x' stands twice"):
        own_manifest({"train": Listed([0, 1], ids=["x", "x"], targets=[0, 1])}, None)
    with pytest.raises(DataError, match="p1"):
        parts = {split: Listed([0], patients=["p1"], targets=[0]) for split in ("train", "test")}
        own_manifest(parts, None)
