"""The encoder trained to link a patient's images: what learns, what stays as it was, how pairs are shown."""

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.core.pixels import normalised
from clinvit.finetune.classifier import pooled
from clinvit.finetune.model import ModelCard
from clinvit.finetune.recipe import View
from clinvit.finetune.reidentify import info_nce
from clinvit.finetune.reidentify_encoder import EncoderFit, Tuning, trained_parameters, varied

ARCH = Architecture(32, 2, 2, image_size=(32, 32), patch_size=8)
CARD = ModelCard((), {}, False, "linear", "vit", "mean", ARCH, (0.45,), (0.2,), View("squash", None), 32)


def images(patients: int, each: int, seed: int = 0):
    """Images in which a patient is a faint fine pattern beneath a strong coarse one that is new in every image."""
    rng = np.random.default_rng(seed)
    own = rng.normal(0, 14, (patients, 4, 4)).repeat(8, axis=1).repeat(8, axis=2)
    pixels = 110 + own.repeat(each, axis=0) + rng.normal(0, 30, (patients * each, 1, 1)) * np.linspace(-1, 1, 32)
    pixels += rng.normal(0, 10, pixels.shape)
    return pixels.clip(0, 255).astype(np.uint8)[:, None], [f"p{i // each}" for i in range(patients * each)]


def fit_of(tuning: Tuning, pixels, patients):
    torch.manual_seed(0)
    vit = ViT(ARCH).eval().requires_grad_(False)
    values = lambda x: pooled(vit(x), "mean")
    with torch.inference_mode():
        features = values(normalised(torch.from_numpy(pixels), CARD.mean, CARD.std)).numpy()
    return vit, EncoderFit(vit, values, CARD, pixels, features, patients, tuning), features


@pytest.mark.slow
def test_the_loss_of_pairs_falls(monkeypatch):
    pixels, patients = images(24, 2)
    seen = []
    loss = lambda *given: seen.append(info_nce(*given)) or seen[-1]
    monkeypatch.setattr("clinvit.finetune.reidentify_encoder.info_nce", loss)
    _, fit, _ = fit_of(Tuning("full", epochs=30, rate=3e-4), pixels, patients)
    fit(np.arange(48), np.arange(48), 0)
    assert np.mean([each.item() for each in seen[-5:]]) < np.mean([each.item() for each in seen[:5]]) - 0.3


@pytest.mark.parametrize(
    ("tuning", "named"), [(Tuning("last_blocks", 1, 1), r"blocks\.1\.|norm\."), (Tuning("full", epochs=1), "")]
)
def test_what_learns_learns_and_is_as_before_afterwards(tuning, named):
    pixels, patients = images(12, 2)
    vit, fit, _ = fit_of(tuning, pixels, patients)
    before = {name: value.clone() for name, value in vit.state_dict().items()}
    changed, train = set(), fit._train

    def watched(*arguments):
        train(*arguments)
        changed.update(name for name, value in vit.state_dict().items() if not torch.equal(value, before[name]))

    fit._train = watched
    rows = np.arange(24)
    vectors = fit(rows[:20], rows[20:], 0)
    assert vectors.shape[0] == 4 and np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert changed and all(name.startswith(("blocks.1.", "norm.")) for name in changed) == (
        tuning.mode == "last_blocks"
    )
    assert all(torch.equal(value, before[name]) for name, value in vit.state_dict().items())
    assert not any(each.requires_grad for each in vit.parameters())
    assert np.array_equal(vectors, fit(rows[:20], rows[20:], 0)), "the same again"


def test_pairs_are_flipped_together_and_varied_apart():
    x = torch.arange(32.0).expand(6, 1, 32, 32)
    flip = torch.tensor([True, False] * 3)
    one, two = (varied(x, flip, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    slope = lambda images: images[:, 0, 16, 24] - images[:, 0, 16, 8]
    assert ((slope(one) < 0) == flip).all() and ((slope(two) < 0) == flip).all() and not torch.allclose(one, two)
    clip = varied(x[:, :, None].expand(6, 1, 4, 32, 32), flip, torch.Generator().manual_seed(0))
    assert clip.shape == (6, 1, 4, 32, 32) and torch.allclose(clip[:, :, 0], clip[:, :, 3]), "frames move together"


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"mode": "half"}, "head, last_blocks or full"), ({"blocks": 0}, "1 or more"), ({"rate": 0}, "above 0"),
     ({"rate": float("nan")}, "above 0")],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        Tuning(**settings)


def test_more_blocks_than_there_are_and_networks_without_any_are_refused():
    with pytest.raises(UserError, match="the encoder has 2"):
        trained_parameters(ViT(ARCH), Tuning("last_blocks", 3))
    with pytest.raises(UserError, match="take full"):
        trained_parameters(torch.nn.Conv2d(1, 1, 1), Tuning("last_blocks"))
