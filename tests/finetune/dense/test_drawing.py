"""Training of maps: images and truth move together, pixels are counted, thresholds chosen, the rest refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.boxes import Box, write_boxes
from clinvit.datasets.manifest.regions import UNKNOWN
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.datasets.settings import Clip
from clinvit.datasets.transforms.augment import Augment
from clinvit.datasets.transforms.views import EvalView
from clinvit.finetune.dense.cases import DrawnEvalView, DrawnTrainView, Pair
from clinvit.finetune.dense.run import Truth, check_dense, drawing_recipe
from clinvit.finetune.dense.training import STEPS, best_thresholds, dice_by_threshold, mean_dice, pixel_counts
from clinvit.finetune.recipe import Finetune, View
from clinvit.finetune.run import finetune


def lopsided(size=80) -> Pair:
    """An image that is bright exactly where the second of three findings is; the third is unknown."""
    mask = np.zeros((size, size - 10), bool)
    mask[10:30, 8:50] = True
    mask[30:60, 8:18] = True  # an L, which no mirroring or turning leaves as it is
    truth = np.zeros((3, *mask.shape), np.uint8)
    truth[1] = mask
    truth[2] = UNKNOWN
    return Pair(mask.astype(np.uint8) * 200, truth)


@pytest.mark.parametrize("seed", range(6))
def test_every_move_takes_image_and_truth_along(seed):
    augment = Augment(size=64, crop_scale=(0.5, 0.9), flip=0.5, rotate_deg=30)
    found = DrawnTrainView(augment)(lopsided(), seed)
    image, truth = found["image"][0, 0], found["truth"][0]
    assert not truth[0].any() and (truth[2] == UNKNOWN).all() and set(np.unique(truth[1])) == {0, 1}
    assert ((image > 100) != (truth[1] == 1)).mean() < 0.01


def test_a_seed_draws_the_same_crop_with_and_without_truth():
    augment = Augment(size=48, crop_scale=(0.4, 0.8), rotate_deg=10, brightness_contrast=0.2)
    view, pair = DrawnTrainView(augment), lopsided()
    np.testing.assert_array_equal(view(pair, 5)["image"][0, 0], view.in_space(pair.image, 5))


@pytest.mark.parametrize("mode, resize_px", [("squash", None), ("pad", None), ("crop", 56)])
def test_the_view_of_evaluation_takes_truth_along(mode, resize_px):
    view = EvalView(48, mode, resize_px, Clip(), 1)
    found = DrawnEvalView(view)(lopsided())
    assert ((found["image"][0, 0] > 100) != (found["truth"][0, 1] == 1)).mean() < 0.01
    np.testing.assert_array_equal(found["image"], view(lopsided().image))


def test_pixels_are_counted_and_the_threshold_with_the_best_dice_is_found():
    truth = torch.zeros(1, 2, 10, 10, dtype=torch.uint8)
    truth[0, 0, :5] = 1
    truth[0, 1] = UNKNOWN
    shares = torch.full((1, 2, 10, 10), 0.12)
    shares[0, 0, :5], shares[0, 0, 5] = 0.63, 0.52
    counts = pixel_counts(shares.logit(), truth).numpy()
    assert counts.sum() == 100 and counts.shape == (2, 2, STEPS) and not counts[1].any()
    dice = dice_by_threshold(counts)
    assert dice[0, 11] == 1 and dice[0, 0] == pytest.approx(2 * 50 / 150) and dice[0, 9] == pytest.approx(100 / 110)
    assert np.isnan(dice[1]).all() and mean_dice(counts) == 1
    assert best_thresholds(counts) == [0.6, None]  # of 0.55 and 0.6, both of which are best


def test_what_is_for_labels_is_left_out_of_the_recipe_and_said():
    recipe = Finetune(target="boxes", mixup=0.2, patch_drop=0.5, augment=Augment(randaug="m6-n2-mstd0.5-inc1"))
    found, said = drawing_recipe(recipe)
    assert (found.mixup, found.patch_drop, found.augment.randaug, found.view.mode) == (0, 0, None, "pad")
    assert "mixup 0.2" in said and "augment.randaug m6-n2-mstd0.5-inc1" in said and "view.mode crop" in said[-1]
    assert drawing_recipe(found) == (found, [])
    found, said = drawing_recipe(replace(found, view=View("squash", None, flip=True)))
    assert not found.view.flip and said == ["view.flip true"]


@pytest.fixture
def boxed(tmp_path):
    """Ten cases in all splits: of five a box, one of them labelled 0, one labelled and not drawn."""
    ids = [f"c{i}" for i in range(10)]
    table = pd.DataFrame({"id": ids, "path": [f"{i}.png" for i in ids], "patient": ids})
    table["split"] = ["train"] * 6 + ["val"] * 2 + ["test"] * 2
    table["Mass"] = [1, 0, 1, 0, 1, 0, 1, 0, 1, 0]
    table.to_csv(tmp_path / "manifest.csv", index=False)
    write_boxes(tmp_path / "boxes.csv", [Box(ids[i], "Mass", 10, 20, 30, 30, 100, 100) for i in (0, 2, 3, 6, 8)])
    return tmp_path / "manifest.csv"


def test_what_is_learned_is_counted(boxed):
    truth = Truth(Finetune(target="boxes"), read_manifest(boxed))
    assert truth.known.tolist() == [True] * 4 + [False] + [True] * 5
    said = "\n".join(truth.words())
    assert "train 3 findings of 3 cases; val 1 findings of 1 cases; test 1" in said
    assert "1 findings of 1 cases are labelled 1 and not drawn" in said and "1 findings are drawn though" in said


def test_nothing_to_learn_or_to_choose_by_is_refused(boxed):
    (boxed.parent / "boxes.csv").write_text((boxed.parent / "boxes.csv").read_text().replace("c6,", "c9,"))
    with pytest.raises(DataError, match=r"no boxes in the split val.*--select last"):
        Truth(Finetune(target="boxes"), read_manifest(boxed))
    Truth(Finetune(target="boxes", select="last"), read_manifest(boxed))
    write_boxes(boxed.parent / "boxes.csv", [Box("c8", "Mass", 10, 20, 30, 30, 100, 100)])
    with pytest.raises(DataError, match="no boxes of 'Mass' in the training cases"):
        Truth(Finetune(target="boxes", select="last"), read_manifest(boxed))
    (boxed.parent / "boxes.csv").unlink()
    with pytest.raises(DataError, match=r"BBox_List_2017.csv"):
        Truth(Finetune(target="boxes"), read_manifest(boxed))
    with pytest.raises(DataError, match="mask_Mass"):
        Truth(Finetune(target="masks"), read_manifest(boxed))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"network": "resnet18"}, "tokens of a ViT"),
        ({"mode": "knn"}, "mode 'knn' pools"),
        ({"loss": "ce"}, "loss ce does not go"),
        ({"scales": (1, 2)}, "scales"),
        ({"idle": 0.5}, "idle 0.5"),
        ({"select": "accuracy"}, "best \\(Dice"),
        ({"view": View("crop", 256, segments=1, crops=3)}, "view.crops"),
    ],
)
def test_what_cannot_draw_is_refused(boxed, changes, words):
    with pytest.raises(UserError, match=words):
        check_dense(replace(Finetune(target="boxes"), **changes), read_manifest(boxed))


def test_clips_are_refused(small_clip_recipes, boxed, tmp_path):
    with pytest.raises(UserError, match="for images, not for clips"):
        finetune(replace(small_clip_recipes[1], target="boxes"), read_manifest(boxed), tmp_path / "o", tmp_path / "c")


def test_an_unknown_target_is_refused():
    with pytest.raises(UserError, match="target is labels, boxes or masks, not 'outlines'"):
        Finetune(target="outlines")
