"""Clips through both stages: motion is learned, views are averaged, image weights inflate, baselines train."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clinvit.backbone.encoder import read_encoder_card
from clinvit.core.errors import UserError
from clinvit.datasets.loading.cache import Files
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.datasets.settings import Clip
from clinvit.datasets.video.frame_folder import FolderFrames
from clinvit.explain.importance import frame_importance
from clinvit.finetune.model import build_model, load_model
from clinvit.finetune.new_card import make_card
from clinvit.finetune.pipeline import manifest_cases, predicted
from clinvit.finetune.predict import model_predictor
from clinvit.finetune.recipe import View
from clinvit.finetune.run import finetune
from clinvit.finetune.training import accuracy, log_loss
from clinvit.pretrain.run import pretrain
from sklearn.metrics import roc_auc_score


def auroc(run) -> float:
    table = read_predictions(run / "predictions.csv").table
    return roc_auc_score(table["y_Right"], table["p_Right"])


@pytest.mark.thorough
def test_motion_is_learned_from_pretraining_on(clip_cohort, small_clip_recipes, tmp_path):
    manifest, (pre, fine) = read_manifest(clip_cohort(60)), small_clip_recipes
    pretrain(pre, manifest, tmp_path / "mae", tmp_path / "cache")
    optim = replace(fine.optim, epochs=40, warmup_epochs=3)
    fine = replace(fine, select="last", optim=optim, view=View("squash", None, segments=3))
    finetune(fine, manifest, tmp_path / "ft", tmp_path / "cache", tmp_path / "mae/encoder")
    assert auroc(tmp_path / "ft") > 0.8

    # From the files, view by view, comes the same as from the cache.
    model, card = load_model(tmp_path / "ft/model")
    assert len(card.views()) == 3
    held_out = manifest.rows("val", "test")
    again = predicted(*manifest_cases(held_out, card.labels), model_predictor(model, card, batch=7), False)
    expected = read_predictions(tmp_path / "ft/predictions.csv").table.set_index("id")["p_Right"]
    np.testing.assert_allclose(again["p_Right"], expected.loc[held_out.table["id"]], atol=1e-4)
    assert (again["status"] == "ok").all()
    found = frame_importance(model, card, held_out.files()[0])
    assert found.change.shape == (1, 8) and found.frames.shape == (8, 32, 32) and np.isfinite(found.change).all()
    assert (np.diff(found.times_s) >= 0).all()


def test_files_without_a_cache_give_the_same_model(clip_cohort, small_clip_recipes, tmp_path):
    manifest, (_, fine) = read_manifest(clip_cohort()), small_clip_recipes
    fine = replace(fine, optim=replace(fine.optim, epochs=2))
    finetune(fine, manifest, tmp_path / "a", tmp_path / "cache")
    finetune(replace(fine, data=replace(fine.data, cache=False)), manifest, tmp_path / "b", tmp_path / "none")
    one, two = (load_model(tmp_path / name / "model")[0].state_dict() for name in "ab")
    assert all(torch.equal(one[name], two[name]) for name in one) and not (tmp_path / "none").exists()


def test_an_encoder_of_images_inflates_to_clips(cohort, clip_cohort, small_recipes, small_clip_recipes, tmp_path):
    images = replace(small_recipes[0], model=replace(small_recipes[0].model, class_token=False))
    pretrain(images, read_manifest(cohort()), tmp_path / "mae", tmp_path / "cache")
    fine = replace(small_clip_recipes[1], optim=replace(small_clip_recipes[1].optim, epochs=2))
    finetune(fine, read_manifest(clip_cohort()), tmp_path / "ft", tmp_path / "cache", tmp_path / "mae/encoder")
    card = load_model(tmp_path / "ft/model")[1]
    assert (card.arch.frames, card.arch.tubelet, card.arch.grid) == (8, 2, (4, 4, 4))
    assert read_encoder_card(tmp_path / "mae/encoder").arch.tubelet == 1


def test_an_encoder_of_clips_refuses_images(cohort, clip_cohort, small_recipes, small_clip_recipes, tmp_path):
    pretrain(small_clip_recipes[0], read_manifest(clip_cohort()), tmp_path / "mae", tmp_path / "cache")
    with pytest.raises(UserError, match="1 frames are not a multiple of the tubelet 2"):
        finetune(
            small_recipes[1], read_manifest(cohort()), tmp_path / "ft", tmp_path / "cache", tmp_path / "mae/encoder"
        )


def test_a_baseline_trains_as_the_paper_says(clip_cohort, small_clip_recipes, tmp_path):
    manifest, (_, fine) = read_manifest(clip_cohort()), small_clip_recipes
    fine = replace(
        fine, network="unetplusplus", pool="topk", pool_ratio=0.5, select="accuracy",
        model=replace(fine.model, frames=32), data=replace(fine.data, clip=Clip("volume")),
        augment=replace(fine.augment, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)),
        optim=replace(fine.optim, epochs=1, warmup_epochs=0, schedule="plateau", layer_decay=1.0),
    )  # fmt: skip
    finetune(fine, manifest, tmp_path / "cnn", tmp_path / "cache")
    model, card = load_model(tmp_path / "cnn/model")
    assert (card.network, card.pool, card.pool_ratio) == ("unetplusplus", "topk", 0.5)
    again = predicted(*manifest_cases(manifest.rows("test"), card.labels), model_predictor(model, card), False)
    expected = read_predictions(tmp_path / "cnn/predictions.csv").rows("test").scores()
    np.testing.assert_allclose(again[[f"p_{label}" for label in card.labels]], expected, atol=1e-5)
    with pytest.raises(UserError, match="unet3d"):
        finetune(replace(fine, network="unet3"), manifest, tmp_path / "x", tmp_path / "cache")


@pytest.mark.parametrize("sampling", ["uniform", "volume"])
def test_views_that_would_all_be_the_same_are_refused(clip_cohort, small_clip_recipes, sampling):
    manifest, (_, fine) = read_manifest(clip_cohort()), small_clip_recipes
    several = replace(fine, view=View("squash", None, segments=2))
    assert make_card(several, manifest, None).view.segments == 2
    several = replace(several, data=replace(fine.data, clip=Clip(sampling)))
    with pytest.raises(UserError, match=f"view.segments 2: with data.clip.sampling {sampling} every view is the same"):
        make_card(several, manifest, None)


def test_importance_decodes_the_frames_that_are_seen(clip_cohort, small_clip_recipes, monkeypatch):
    manifest, (_, fine) = read_manifest(clip_cohort()), small_clip_recipes
    fine = replace(fine, data=replace(fine.data, clip=Clip("uniform")))
    card = make_card(fine, manifest, None)
    torch.manual_seed(0)
    model = build_model(card).eval()
    torch.nn.init.normal_(model.head.weight)
    clip = next(file for file in manifest.files() if len(list(file.iterdir())) == 13)
    decoded = []
    images = FolderFrames.images

    def look(self, ids, size):
        decoded.extend(ids)
        return images(self, ids, size)

    monkeypatch.setattr(FolderFrames, "images", look)
    found = frame_importance(model, card, clip)
    assert decoded == card.views().frames_of(13).tolist() and len(set(decoded)) == 8
    monkeypatch.setattr(Files, "__getitem__", lambda self, row: self.reader.read(self.files[row]))
    whole = frame_importance(model, card, clip)
    assert len(decoded) == 8 + 13
    for one, two in zip(found, whole, strict=True):
        np.testing.assert_array_equal(one, two)
    assert np.abs(found.change).max() > 1e-3


def test_metrics_of_validation():
    scores = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    target = torch.tensor([[1.0, 0.0], [1.0, 0.0], [torch.nan, 1.0]])
    assert accuracy(scores, target, exclusive=True) == 0.5
    assert accuracy(scores, target, exclusive=False) == pytest.approx(3 / 5)
    assert log_loss(scores, target, exclusive=True) == pytest.approx(-np.log([0.9, 0.4]).mean(), rel=1e-5)
    known = -np.log([0.9, 0.9, 0.4, 0.4, 0.5]).mean()
    assert log_loss(scores, target, exclusive=False) == pytest.approx(known, rel=1e-5)
