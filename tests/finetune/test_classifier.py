"""Classifiers against the thorax paper's, the frozen ones, and losses with unknown labels."""

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.eval.statistics.metrics import macro_auroc
from clinvit.finetune.classifier import Classifier, NearestNeighbours, TimmClassifier
from clinvit.finetune.losses import masked_bce, masked_cross_entropy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F


def vit(final_norm=True, **fields) -> ViT:
    defaults = {"width": 48, "depth": 2, "heads": 3, "image_size": (32, 32), "patch_size": 8, "channels": 3}
    return ViT(Architecture(**(defaults | fields)), final_norm=final_norm)


@pytest.mark.parametrize("pool, name", [("class", "vit_classifier_cls"), ("mean", "vit_classifier_mean")])
def test_equals_the_thorax_paper(golden, pool, name):
    ref = golden(name)
    model = Classifier(vit(final_norm=pool == "class"), 14, pool).eval()
    own = ("fc_norm.", "head.")
    state = {key if key.startswith(own) else f"encoder.{key}": value for key, value in ref.state.items()}
    model.load_state_dict(state, strict=True)
    with torch.no_grad():
        logits = model(ref.inputs["images"])
    torch.testing.assert_close(logits, ref.outputs["logits"], atol=1e-5, rtol=1e-5)


def test_the_paper_counts_its_classifier():
    with torch.device("meta"):
        small = Architecture(384, 12, 6, channels=3)
        model = Classifier(ViT(small, final_norm=False), 14, "mean")
    assert sum(p.numel() for p in model.parameters()) == 21_671_054


def test_a_linear_probe_moves_the_head_only():
    model = Classifier(vit(), 5, "mean", frozen=True)
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {"head.weight", "head.bias"}
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    assert all(p.grad is None for p in model.encoder.parameters())


def test_attention_pool_and_wrong_words():
    assert Classifier(vit(False), 5, "attention")(torch.randn(2, 3, 32, 32)).shape == (2, 5)
    with pytest.raises(ValueError, match="unknown pool"):
        Classifier(vit(), 5, "max")
    with pytest.raises(ValueError, match="class token"):
        Classifier(vit(class_token=False), 5, "class")
    with pytest.raises(ValueError, match="timm knows no network"):
        TimmClassifier("resnet19", 5, 1)
    assert TimmClassifier("resnet18", 3, 1)(torch.randn(1, 1, 64, 64)).shape == (1, 3)


def test_nearest_neighbours_use_known_labels_only():
    torch.manual_seed(0)
    images = torch.randn(6, 3, 32, 32)
    model = NearestNeighbours(vit(), 2, "mean", 6, k=1).eval()
    targets = torch.tensor([[1, 0], [0, 1], [1, np.nan], [0, 0], [1, 1], [np.nan, 0]])
    model.remember(model.features(images), targets)
    p = model(images).sigmoid()
    expected = targets.nan_to_num(0.5)
    torch.testing.assert_close(p, expected, atol=1e-5, rtol=0)


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_unknown_labels_do_not_count(cases, labels, seed):
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(cases, labels, generator=draw, requires_grad=True)
    targets = torch.randint(0, 2, (cases, labels), generator=draw).float()
    unknown = torch.rand(cases, labels, generator=draw) < 0.4
    masked = torch.where(unknown, torch.nan, targets)
    loss = masked_bce(logits, masked)
    loss.backward()
    assert torch.equal(logits.grad[unknown], torch.zeros_like(logits.grad[unknown]))
    if not unknown.all():
        expected = F.binary_cross_entropy_with_logits(logits[~unknown], targets[~unknown])
        torch.testing.assert_close(loss, expected)
    else:
        assert loss == 0


def test_cross_entropy_leaves_unknown_cases_out():
    logits, target = torch.randn(4, 3), torch.eye(3)[[0, 2, 1, 1]]
    torch.testing.assert_close(masked_cross_entropy(logits, target), F.cross_entropy(logits, target))
    target[3] = torch.nan
    torch.testing.assert_close(masked_cross_entropy(logits, target), F.cross_entropy(logits[:3], target[:3]))


def test_macro_auroc_skips_what_is_undefined():
    scores = np.array([[0.1, 0.5, 0.2], [0.9, 0.5, 0.1], [0.8, 0.2, 0.3]])
    target = np.array([[0, 1, np.nan], [1, 1, 0], [1, 1, 0]])
    assert macro_auroc(target, scores) == 1.0
    assert np.isnan(macro_auroc(target[:, 1:], scores[:, 1:]))


def test_overfits_one_batch():
    torch.manual_seed(0)
    model = Classifier(vit(False, channels=1), 3, "mean")
    images, target = torch.randn(8, 1, 32, 32), torch.randint(0, 2, (8, 3)).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(120):
        optimizer.zero_grad()
        masked_bce(model(images), target).backward()
        optimizer.step()
    assert ((model(images) > 0) == target.bool()).all()
