"""Norm and head that a fine-tuning takes from a fine-tuned checkpoint."""

import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.finetune.classifier import Classifier
from clinvit.finetune.start_head import StartHead, take_over
from clinvit.tasks.clips.kinetics import K710_TO_K400, K710_TO_K600

ARCH = Architecture(32, 1, 2, image_size=(16, 16), patch_size=8)
ROWS = StartHead(10, (7, 0, 3))


def classifier(labels: int, pool: str = "mean", frozen: bool = False) -> Classifier:
    return Classifier(ViT(ARCH, final_norm=frozen), labels, pool, frozen)


@pytest.fixture
def checkpoint(tmp_path):
    """A file of ten classes, and its tensors."""
    state = {
        "fc_norm.weight": torch.rand(32), "fc_norm.bias": torch.rand(32),
        "head.weight": torch.rand(10, 32), "head.bias": torch.rand(10),
    }  # fmt: skip
    torch.save({"module": state}, tmp_path / "k.pth")
    return tmp_path / "k.pth", state


def test_norm_and_head_are_kept(checkpoint):
    path, state = checkpoint
    model = classifier(3)
    assert take_over(model, path, ROWS) == "the norm after the pooling and the head, 3 of its 10 classes"
    torch.testing.assert_close(model.fc_norm.weight, state["fc_norm.weight"])
    torch.testing.assert_close(model.fc_norm.bias, state["fc_norm.bias"])
    torch.testing.assert_close(model.head.weight, state["head.weight"][[7, 0, 3]])
    torch.testing.assert_close(model.head.bias, state["head.bias"][[7, 0, 3]])


def test_the_head_of_other_labels_is_left(checkpoint):
    path, state = checkpoint
    model = classifier(10)
    before = model.head.weight.clone()
    assert take_over(model, path, None) == "the norm after the pooling"
    assert torch.equal(model.head.weight, before) and torch.equal(model.fc_norm.weight, state["fc_norm.weight"])
    with pytest.raises(UserError, match="serves 3 labels; there are 10"):
        take_over(model, path, ROWS)


@pytest.mark.parametrize("model", [classifier(3, frozen=True), classifier(3, "mean")], ids=["probe", "pretrained"])
def test_nothing_is_taken_where_nothing_fits(model, checkpoint, tmp_path):
    torch.save({"pos": torch.zeros(1)}, tmp_path / "bare.pth")
    path = checkpoint[0] if model.frozen else tmp_path / "bare.pth"
    assert take_over(model, path, None) == ""
    assert take_over(model, tmp_path, None) == "", "a folder holds neither"


@pytest.mark.parametrize("head, classes", [(K710_TO_K400, 400), (K710_TO_K600, 600)])
def test_classes_of_kinetics_are_rows_of_the_joint_head(head, classes):
    assert len(set(head.rows)) == len(head.rows) == classes
    assert head.classes == 710 and min(head.rows) >= 0 and max(head.rows) < 710
