"""Losses of images and texts: equal to open-clip-torch's; equal texts; several processes."""

import pytest
import torch
import torch.multiprocessing as mp
from clinvit.pretrain.report_losses import found, info_nce, sigmoid_loss
from clinvit.tests.pretrain.halves import half, pair
from clinvit.tests.stages.pacs.servers import free_port
from torch.nn import functional as F


def test_losses_equal_open_clip():
    losses = pytest.importorskip("open_clip.loss")
    images, texts = pair()
    scale, bias = torch.tensor(12.5), torch.tensor(-3.0)
    theirs = losses.ClipLoss()(images, texts, scale)
    assert torch.allclose(info_nce(images, texts, scale), theirs, atol=1e-6)
    theirs = losses.SigLipLoss()(images, texts, scale, bias)
    assert torch.allclose(sigmoid_loss(images, texts, scale, bias), theirs, atol=1e-6)


def test_other_rows_of_an_equal_text_are_no_negatives():
    images, texts = pair(4)
    texts[1] = texts[0]
    equal = torch.eye(4, dtype=torch.bool)
    equal[0, 1] = equal[1, 0] = True
    scale, bias = torch.tensor(5.0), torch.tensor(-1.0)
    assert info_nce(images, texts, scale, equal) < info_nce(images, texts, scale)
    assert sigmoid_loss(images, texts, scale, bias, equal) < sigmoid_loss(images, texts, scale, bias)
    alone = torch.eye(4, dtype=torch.bool)
    assert torch.equal(info_nce(images, texts, scale, alone), info_nce(images, texts, scale))
    # An image moved away from the equal text of another case costs nothing.
    by_hand = F.cross_entropy(scale * images[:1] @ texts[[0, 2, 3]].T, torch.tensor([0]))
    logits = (scale * images @ texts.T).masked_fill(equal & ~alone, -torch.inf)
    assert torch.allclose(F.cross_entropy(logits[:1], torch.tensor([0])), by_hand)


def test_found_counts_images_whose_text_or_an_equal_one_is_nearest():
    images = torch.eye(3)
    texts = torch.eye(3)[[0, 2, 2]]
    equal = torch.tensor([[True, False, False], [False, True, True], [False, True, True]])
    assert found(images, texts, equal) == pytest.approx(2 / 3)


@pytest.mark.slow
def test_two_processes_of_unequal_shares_equal_one(tmp_path):
    mp.spawn(half, (free_port(), str(tmp_path / "two.pt")), nprocs=2)
    loss, of_weight, of_scale = torch.load(tmp_path / "two.pt")
    weight = torch.full((8, 8), 0.1).add_(torch.eye(8)).requires_grad_()
    scale = torch.tensor(4.0, requires_grad=True)
    images, texts = pair()
    whole = info_nce(F.normalize(images @ weight, dim=1), texts, scale)
    whole.backward()
    assert torch.allclose(loss, whole.detach(), atol=1e-6)
    assert torch.allclose(of_weight, weight.grad, atol=1e-6) and torch.allclose(of_scale, scale.grad, atol=1e-6)
