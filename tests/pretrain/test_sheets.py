"""The sheet of reconstructions: seen patches stay as they are, a perfect prediction gives the original back."""

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.pretrain.mae import MaskedAutoencoder, Reconstruction
from clinvit.pretrain.masking import Masks, random_masking
from clinvit.pretrain.recipe import Decoder
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
