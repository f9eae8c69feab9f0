"""Idle units of an encoder, learned from its own features without labels: loss, likeness, merge, resume, refusals."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.api import load
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.encoder import open_vit, save_encoder
from clinvit.backbone.idle import activation_changes, idle_of, put_active_first
from clinvit.backbone.mlp import IdleMlp
from clinvit.backbone.vit import Tokens, ViT
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.engine.recipe import Optim
from clinvit.engine.training import Training
from clinvit.pretrain.idle_recipe import Idle
from clinvit.pretrain.idle_training import cosines, token_loss
from clinvit.pretrain.recipe import Start
from clinvit.pretrain.run import pretrain


@pytest.fixture
def recipe(small_recipes):
    pre = small_recipes[0]
    optim = Optim(epochs=10, warmup_epochs=1, batch_size=16, base_lr=0.02)
    return Idle(model=replace(pre.model, positions="learned"), data=pre.data, augment=pre.augment, run=pre.run,
                optim=optim)  # fmt: skip


@pytest.fixture
def full(recipe, tmp_path):
    """The folder of an encoder whose every tensor counts."""
    return shaken(recipe, tmp_path / "full")


def shaken(recipe, folder):
    torch.manual_seed(0)
    vit = ViT(recipe.model.architecture())
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return save_encoder(folder, vit, EncoderCard(vit.arch, (0.5,), (0.25,), method="mae"))


def test_the_loss_is_the_square_of_the_error_over_that_of_what_is_wanted():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in ((3, 4), (3, 5, 4)) * 4]
    tensors = [torch.from_numpy(array) for array in arrays]
    found, wanted = [Tokens(*tensors[:2]), Tokens(*tensors[2:4])], [Tokens(*tensors[4:6]), Tokens(*tensors[6:])]
    each = [((a - b) ** 2).mean() / (b**2).mean() for a, b in zip(arrays[:4], arrays[4:])]
    assert float(token_loss(found, wanted)) == pytest.approx(np.mean(each), rel=1e-6)
    bare = [[Tokens(None, tokens.patches) for tokens in both] for both in (found, wanted)]
    assert float(token_loss(*bare)) == pytest.approx(np.mean(each[1::2]), rel=1e-6)


def test_an_encoder_learns_its_own_features_without_labels_and_merges_exactly(cohort, recipe, full, tmp_path, capsys):
    data = cohort(patients=20)
    table = pd.read_csv(data)
    table[["id", "path", "patient", "split"]].to_csv(data, index=False)
    folder = pretrain(recipe, read_manifest(data, labels=()), tmp_path / "run", tmp_path / "cache", encoder=full)
    said = capsys.readouterr().out
    assert "become linear" in said and "cosine to the full encoder's" in said
    vit, card = open_vit(folder)
    assert card.method == "idle" and card.data["parent"]["method"] == "mae"
    assert card.arch.block_active == idle_of(recipe.model.architecture(), 0.75).block_active
    assert main(["export", str(folder), "--merge", "--out", str(tmp_path / "merged")]) == 0
    merged, _ = open_vit(tmp_path / "merged")
    assert not any(isinstance(part, IdleMlp) for part in merged.modules())
    x = torch.randn(8, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(merged(x).patches, vit(x).patches, atol=1e-5, rtol=1e-5)
    files = [data.parent / path for path in table["path"]]
    own, same = (load(place).features(files).values for place in (full, tmp_path / "merged"))
    untrained = ViT(card.arch).eval()
    untrained.load_state_dict(open_vit(full)[0].state_dict())
    put_active_first(untrained, activation_changes(untrained, [x]))
    save_encoder(tmp_path / "untrained", untrained, replace(card, data={}))
    other = load(tmp_path / "untrained").features(files).values
    learned, before = (likeness(own, values) for values in (same, other))
    assert learned > 0.9 and 1 - learned < 0.5 * (1 - before), (learned, before)


def likeness(one, two):
    """Mean cosine of rows."""
    return float(np.mean((one * two).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)))


def test_a_run_that_goes_on_equals_one_that_was_not_interrupted(cohort, recipe, full, tmp_path, monkeypatch):
    recipe = replace(recipe, optim=replace(recipe.optim, epochs=3))
    manifest, step = read_manifest(cohort(patients=20)), Training.training_step
    whole = pretrain(recipe, manifest, tmp_path / "whole", tmp_path / "cache", encoder=full)

    def dying(self, data, index):
        if self.current_epoch == 2:
            raise KeyError("power")
        return step(self, data, index)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "training_step", dying)
        with pytest.raises(KeyError):
            pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache", encoder=full)
    cut = pretrain(recipe, manifest, tmp_path / "cut", tmp_path / "cache", encoder=full)
    one, two = (open_vit(folder)[0].state_dict() for folder in (whole, cut))
    assert all(torch.equal(value, two[name]) for name, value in one.items())
    with pytest.raises(UserError, match="trains idle units"):
        open_vit(tmp_path / "cut" / "checkpoints" / "last.ckpt")


def test_tiles_of_slides_need_no_labels(slide_cohort, recipe, tmp_path):
    manifest, tiles = slide_cohort
    recipe = replace(
        recipe, model=replace(recipe.model, channels=3), tiles_per_slide=8, optim=replace(recipe.optim, epochs=2),
        run=replace(recipe.run, max_bad=0.2),
    )  # fmt: skip
    full = shaken(recipe, tmp_path / "full")
    folder = pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache", tiles, full)
    vit, card = open_vit(folder)
    assert card.data["tiles"] == 144 and card.arch.channels == 3 and isinstance(vit.blocks[0].mlp, IdleMlp)
    log = pd.read_csv(tmp_path / "run" / "log.csv")
    assert log["cosine"].notna().all() and (tmp_path / "run" / "features.png").is_file()


def test_what_makes_no_sense_is_refused(cohort, recipe, full, tmp_path):
    manifest = read_manifest(cohort(patients=5))
    with pytest.raises(UserError, match="--encoder is missing"):
        pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache")
    vit, card = open_vit(full)
    idle = replace(card, arch=idle_of(card.arch, 0.5))
    other = ViT(idle.arch)
    other.load_state_dict(vit.state_dict())
    place = save_encoder(tmp_path / "idle", other, idle)
    with pytest.raises(UserError, match="idle units already"):
        pretrain(recipe, manifest, tmp_path / "run", tmp_path / "cache", encoder=place)
    with pytest.raises(UserError, match="cannot learn to do without"):
        replace(recipe, start=Start(freeze_blocks=1))
    with pytest.raises(UserError, match="ema_decay"):
        replace(recipe, optim=replace(recipe.optim, ema_decay=0.9))


def test_cosines_are_of_class_token_and_mean_patch():
    one = Tokens(torch.tensor([[3.0, 0.0]]), torch.tensor([[[0.0, 8.0], [0.0, 0.0]]]))
    two = Tokens(torch.tensor([[3.0, 0.0]]), torch.zeros(1, 2, 2))
    assert float(cosines(one, two)) == pytest.approx(9 / 5 / 3)
