"""A method of pre-training in one file: a recipe and a `Method`; run, card, estimate and small version need no more."""

from dataclasses import dataclass, field

import numpy as np
import torch
from clinvit.backbone.encoder import open_vit
from clinvit.backbone.sizes import Model
from clinvit.backbone.vit import ViT
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.settings import Data
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.views import TrainView
from clinvit.engine.estimate import estimate
from clinvit.engine.recipe import Optim, Run
from clinvit.pretrain.method import Method
from clinvit.pretrain.recipe import PretrainRecipe
from clinvit.pretrain.run import pretrain
from clinvit.pretrain.workload import workload
from clinvit.stages.reproduce.small import SCALE, small
from torch import nn


@dataclass(frozen=True)
class Brightness(PretrainRecipe):
    """The mean of each image, predicted from the mean of its tokens."""

    model: Model = field(default_factory=lambda: Model("micro", image_size=32, patch_size=8))
    data: Data = field(default_factory=lambda: Data(cache_px=40))
    augment: Augment = field(default_factory=lambda: Augment(32))
    optim: Optim = field(default_factory=lambda: Optim(epochs=6, warmup_epochs=1, batch_size=16, base_lr=0.02))
    run: Run = field(default_factory=lambda: Run(precision="32-true", workers=0))


class Mean(nn.Module):
    def __init__(self, encoder: ViT):
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.arch.width, 1)

    def forward(self, x):
        return self.head(self.encoder(x).patches.mean(dim=1))[:, 0]


class BrightnessPretraining(Method):
    name, image = "brightness", "means.png"

    @classmethod
    def build(cls, recipe):
        torch.manual_seed(recipe.run.seed)
        return Mean(ViT(recipe.model.architecture()))

    @classmethod
    def view(cls, recipe):
        return TrainView(recipe.augment, recipe.data.clip, recipe.model.frames)

    def loss(self, batch):
        x = self.pixels(batch)
        return (self.model(x) - x.mean(dim=(1, 2, 3))).square().mean()

    @torch.no_grad()
    def sheet(self):
        return np.uint8(self.pixels({"image": self.without_augmentation(self.evenly(4))}).flatten(1).numpy() > 0)


Brightness.method = BrightnessPretraining


def test_a_method_of_ones_own_pretrains(cohort, tmp_path):
    folder = pretrain(Brightness(), read_manifest(cohort(), ()), tmp_path / "run", tmp_path / "cache")
    vit, card = open_vit(folder)
    assert card.method == "brightness" and card.data["cases"] == 48 and vit.arch.width == 128
    losses = [float(line.split(",")[1]) for line in (tmp_path / "run/log.csv").read_text().splitlines()[1:]]
    assert losses[-1] < 0.5 * losses[0]
    assert (tmp_path / "run/means.png").is_file()


def test_its_cost_and_its_small_version_are_known_too():
    recipe = Brightness()
    assert "6 epochs of 3 steps of 16 cases" in estimate(workload(recipe, 48), "brightness")
    made = small(Brightness(model=Model("base")))
    assert (made.model.size, made.model.image_size, made.data.cache_px) == ("mini", SCALE.image_px, 55)
