"""The sheet of reconstructions: seen patches stay as they are, a perfect prediction gives the original back."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.pretrain.mae import MaskedAutoencoder, Reconstruction
from clinvit.pretrain.masking import Masks, random_masking
from clinvit.pretrain.method import ShowImage
from clinvit.pretrain.recipe import Decoder
from clinvit.pretrain.run import pretrain
from clinvit.pretrain.sheets import COLUMNS, GAP, SIDE, TITLE, reconstruction_sheet


@pytest.mark.parametrize("target", ["pixels", "patch", "channel"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_perfect_prediction_is_the_original(target, channels, monkeypatch):
    torch.manual_seed(0)
    arch = Architecture(32, 1, 2, image_size=(32, 48), patch_size=8, channels=channels)
    mae = MaskedAutoencoder(ViT(arch), Decoder(16, 1, 2), target).eval()
    x = torch.randn(2, channels, 32, 48)
    visible, hidden = random_masking(torch.rand(2, 24), 0.75)
    truth = mae.targets(x, hidden)
    monkeypatch.setattr(MaskedAutoencoder, "forward", lambda *_: Reconstruction(torch.zeros(()), truth, truth))
    sheet = reconstruction_sheet(mae, x, Masks(visible, hidden))
    width = 48 * (SIDE // 32)
    assert sheet.shape == (TITLE + 2 * (SIDE + GAP) - GAP, len(COLUMNS) * (width + GAP) - GAP)
    original, seen, reconstructed = (sheet[TITLE:, c * (width + GAP) :][:, :width].astype(int) for c in range(3))
    assert np.abs(original - reconstructed).max() <= 1
    assert (np.abs(original - seen) > 3).mean() > 0.4


def test_the_image_is_drawn_in_every_tenth_of_the_epochs_and_once_at_the_end(
    cohort, small_recipes, tmp_path, monkeypatch
):
    drawn, draw = [], ShowImage.draw

    def noted(self, training):
        drawn.append(training.trainer.current_epoch)
        draw(self, training)

    monkeypatch.setattr(ShowImage, "draw", noted)
    recipe = replace(small_recipes[0], optim=replace(small_recipes[0].optim, epochs=3, warmup_epochs=0))
    pretrain(recipe, read_manifest(cohort(patients=20), ()), tmp_path / "run", tmp_path / "cache")
    assert drawn == [0, 1, 3]
    assert (tmp_path / "run/reconstructions.png").is_file()


def test_a_clip_shows_two_of_its_frames():
    torch.manual_seed(0)
    arch = Architecture(
        32, 1, 2, image_size=(32, 32), patch_size=8, frames=8, tubelet=2, class_token=False, positions="sine1d"
    )
    mae = MaskedAutoencoder(ViT(arch), Decoder(16, 1, 2), "channel").eval()
    x = torch.randn(3, 1, 8, 4, 4).repeat_interleave(8, 3).repeat_interleave(8, 4)
    sheet = reconstruction_sheet(mae, x, Masks(*random_masking(torch.rand(3, 64), 0.9)))
    assert sheet.shape == (TITLE + 6 * (SIDE + GAP) - GAP, 3 * (SIDE + GAP) - GAP)
    frame = x[1, 0, 6]
    shown = sheet[TITLE + 3 * (SIDE + GAP) :, :SIDE][:SIDE:7, ::7].astype(int)
    expected = ((frame - x[1].min()) / (x[1].max() - x[1].min()) * 255).round().int().numpy()
    assert np.corrcoef(shown.ravel(), expected.ravel())[0, 1] > 0.95
