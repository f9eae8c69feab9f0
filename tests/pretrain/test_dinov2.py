"""DINOv2's additions to DINO: their formulas in NumPy, their masks, and runs with all of them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from clinvit.backbone.encoder import read_encoder_card
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.transforms.multi_crop import MultiCrop
from clinvit.engine.training import Training
from clinvit.pretrain.dino import DinoNetwork
from clinvit.pretrain.dino_training import DinoPretraining
from clinvit.pretrain.dinov2 import (
    block_mask,
    draw_patch_masks,
    koleo_loss,
    masked_patches,
    masked_token_loss,
    sinkhorn_knopp,
)
from clinvit.pretrain.recipe import Dino, Head, Ibot
from clinvit.pretrain.run import pretrain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def stated_sinkhorn(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Return the stated steps in float64: prototypes share alike, then samples, three times over."""
    shares = np.exp(logits / temperature).T  # (K, M)
    prototypes, samples = shares.shape
    shares /= shares.sum()
    for _ in range(3):
        shares /= shares.sum(axis=1, keepdims=True) * prototypes
        shares /= shares.sum(axis=0, keepdims=True) * samples
    return (shares * samples).T


def test_sinkhorn_knopp_equals_its_steps_and_uses_all_prototypes():
    torch.manual_seed(0)
    logits = torch.randn(64, 8) * 0.1
    logits[:, 0] += 0.3  # the prototype that all prefer
    targets = sinkhorn_knopp(logits, 0.07)
    np.testing.assert_allclose(targets.numpy(), stated_sinkhorn(logits.double().numpy(), 0.07), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(64))
    assert (logits / 0.07).softmax(dim=1).mean(dim=0)[0] > 0.6 and targets.mean(dim=0).max() < 0.2
    assert torch.isfinite(sinkhorn_knopp(logits * 100, 0.01)).all()  # nothing overflows
    # Two processes with the same samples are one with all of them twice.
    shared = sinkhorn_knopp(logits, 0.07, lambda x: 2 * x)
    torch.testing.assert_close(shared, sinkhorn_knopp(torch.cat([logits, logits]), 0.07)[:64])


def test_loss_of_masked_tokens_equals_its_formula():
    torch.manual_seed(0)
    masked = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
    student, targets = torch.randn(4, 5), torch.rand(4, 5).softmax(dim=1)
    said = np.log(np.exp(student.double().numpy() / 0.1) / np.exp(student.double().numpy() / 0.1).sum(1, keepdims=True))
    each = -(targets.double().numpy() * said).sum(1)
    expected = (each[:3].mean() + 0 + each[3]) / 3
    assert masked_token_loss(student, targets, masked, 0.1).item() == pytest.approx(expected, rel=1e-6)
    none = masked_token_loss(student[:0], targets[:0], torch.zeros_like(masked), 0.1)
    assert none.item() == 0


def test_koleo_equals_its_formula_and_spreads():
    torch.manual_seed(0)
    features = torch.randn(7, 3, requires_grad=True)
    unit = features.detach().double().numpy()
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    apart = np.linalg.norm(unit[:, None] - unit[None], axis=2) + np.eye(7) * 9
    loss = koleo_loss(features)
    assert loss.item() == pytest.approx(-np.log(apart.min(axis=1)).mean(), abs=1e-5)
    optimizer = torch.optim.SGD([features], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        koleo_loss(features).backward()
        optimizer.step()
    assert koleo_loss(features).item() < loss.item() - 0.1


@pytest.mark.parametrize("grid", [(14, 14), (4, 4), (2, 7)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_block_mask_never_has_more_tokens_than_asked(grid, share):
    asked = int(grid[0] * grid[1] * share)
    found = [int(block_mask(grid, asked, generator(seed)).sum()) for seed in range(20)]
    assert max(found) <= asked and np.mean(found) >= 0.8 * asked


def test_masks_of_a_batch_are_of_a_share_of_its_images_and_spread_evenly():
    masks = draw_patch_masks((14, 14), 40, 0.5, (0.1, 0.5), generator())
    shares = masks.float().mean(dim=1)
    assert (shares > 0).sum() == 20 and shares.max() <= 0.5
    np.testing.assert_allclose(np.sort(shares[shares > 0]), np.linspace(0.11, 0.49, 20), atol=0.04)
    assert torch.equal(masks, draw_patch_masks((14, 14), 40, 0.5, (0.1, 0.5), generator()))


def test_a_masked_patch_is_not_seen_by_the_student_and_seen_by_the_teacher():
    torch.manual_seed(0)
    arch = Architecture(32, 2, 2, image_size=(32, 32), patch_size=8, registers=2, positions="learned")
    network = DinoNetwork(ViT(arch), Head(16, 16, 8), Ibot(weight=1.0)).eval()
    x, other = torch.randn(2, 1, 32, 32), torch.randn(2, 1, 32, 32)
    masked = torch.zeros(2, 16, dtype=torch.bool)
    masked[0, 5] = True
    other[:, :, :] = x
    other[0, :, 8:16, 8:16] = 3.0  # patch 5
    hidden, hidden_too = (network([image], masked, hide=True) for image in (x, other))
    torch.testing.assert_close(hidden.patches, hidden_too.patches)
    torch.testing.assert_close(hidden.cls, hidden_too.cls)
    seen, seen_too = (network([image], masked) for image in (x, other))
    assert (seen.patches - seen_too.patches).abs().max() > 1e-3
    assert not network.encoder.patch_embed._forward_hooks  # and it is over
    torch.testing.assert_close(network([x]).cls, seen.cls)
    with pytest.raises(RuntimeError), masked_patches(network.encoder, masked[:, :3], network.mask_token):
        network.encoder(x)
    assert not network.encoder.patch_embed._forward_hooks


@pytest.fixture
def recipe(small_recipes):
    """DINO with all additions on grey images in seconds."""
    pre = small_recipes[0]
    return Dino(
        model=replace(pre.model, positions="learned", drop_path=0.1), head=Head(64, 32, 16),
        crops=MultiCrop(local_crops=2, local_px=16), data=pre.data, run=pre.run,
        optim=replace(Dino().optim, epochs=3, warmup_epochs=1, batch_size=16, base_lr=0.005),
        centring="sinkhorn_knopp", koleo=0.1, registers=4, ibot=Ibot(weight=1.0, separate_head=True),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accumulate", "centring"),
    [
        (2, "sinkhorn_knopp"),
        (1, "centre"),
        pytest.param(1, "sinkhorn_knopp", marks=pytest.mark.thorough),
        pytest.param(2, "centre", marks=pytest.mark.thorough),
    ],
)
def test_resumed_equals_uninterrupted(cohort, recipe, tmp_path, monkeypatch, centring, accumulate):
    recipe = replace(recipe, centring=centring, optim=replace(recipe.optim, accumulate=accumulate))
    manifest, step = read_manifest(cohort()), Training.training_step
    pretrain(recipe, manifest, tmp_path / "whole", tmp_path / "cache")

    def dying(self, data, index):
        if (self.current_epoch, index) == (1, accumulate):
            raise KeyError("killed")
        return step(self, data, index)

    monkeypatch.setattr(Training, "training_step", dying)
    with pytest.raises(KeyError):
        pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    monkeypatch.setattr(Training, "training_step", step)
    pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache")
    one, two = (torch.load(tmp_path / run / "checkpoints/last.ckpt")["state_dict"] for run in ("whole", "cut"))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    moved = one["ibot_loss.center"].abs().max() > 0
    assert moved == (centring == "centre") and one["model.mask_token"].abs().max() > 0
    log = pd.read_csv(tmp_path / "whole/log.csv")
    assert log[["dino_loss", "ibot_loss", "koleo"]].notna().all(axis=None)
    total = log["dino_loss"] + log["ibot_loss"] + 0.1 * log["koleo"]
    np.testing.assert_allclose(log["loss"], total, rtol=1e-4)
    assert read_encoder_card(tmp_path / "whole/encoder").arch.registers == 4
    kept = safetensors.torch.load_file(tmp_path / "whole/encoder/encoder.safetensors")
    assert "reg_token" in kept and "mask_token" not in kept


def test_none_of_it_is_there_unless_asked_for(recipe):
    plain = replace(recipe, centring="centre", koleo=0.0, registers=0, ibot=Ibot())
    names = set(DinoPretraining.build(plain).state_dict())
    assert not any(name.startswith(("mask_token", "patch_head", "encoder.reg_token")) for name in names)
    more = set(DinoPretraining.build(recipe).state_dict()) - names
    assert {name.split(".")[0] for name in more} == {"mask_token", "patch_head", "encoder"}
    shared = replace(recipe, ibot=Ibot(weight=1.0))
    assert not any(name.startswith("patch_head") for name in DinoPretraining.build(shared).state_dict())


def test_a_stage_of_high_resolution_goes_on_from_the_whole_run(cohort, recipe, tmp_path, capsys):
    """Encoder, heads, registers and mask token of the checkpoint are gone on from, at twice the size."""
    manifest = read_manifest(cohort(size=72))
    recipe = replace(recipe, data=replace(recipe.data, cache_px=64))
    pretrain(recipe, manifest, tmp_path / "low", tmp_path / "cache")
    high = replace(
        recipe, registers=0, model=replace(recipe.model, image_size=64), crops=MultiCrop(2, 32),
        head=replace(recipe.head, freeze_epochs=0), optim=replace(recipe.optim, epochs=2),
    )  # fmt: skip
    last = tmp_path / "low/checkpoints/last.ckpt"
    folder = pretrain(high, manifest, tmp_path / "high", tmp_path / "cache", encoder=last)
    told = capsys.readouterr().out
    assert "head: the file's" in told and "positions resampled from 1x4x4 to 1x8x8" in told
    arch = read_encoder_card(folder).arch
    assert (arch.image_size, arch.registers) == ((64, 64), 4)
    with pytest.raises(UserError, match="registers 2: the encoder has 4; set registers 0"):
        pretrain(replace(high, registers=2), manifest, tmp_path / "other", tmp_path / "cache", encoder=last)
    plain = replace(high, ibot=Ibot())
    pretrain(plain, manifest, tmp_path / "plain", tmp_path / "cache", encoder=last)
    assert "head: the file's" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda r: replace(r, centring="sinkhorn"), "centring 'sinkhorn': one of centre, sinkhorn_knopp"),
        (lambda r: replace(r, koleo=-1.0), "koleo -1 is out of range"),
        (lambda r: replace(r, ibot=Ibot(mask_ratio=(0.5, 0.1))), "ibot.mask_ratio"),
    ],
)
def test_requests_that_make_no_sense_are_refused(recipe, change, words):
    with pytest.raises(UserError, match=words):
        change(recipe)
