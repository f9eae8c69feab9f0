"""Structured pruning: scores by the formula, pruned equals masked, what cannot be pruned is named."""

from dataclasses import replace

import pytest
import torch
from clinvit.backbone.encoder import open_vit, save_encoder
from clinvit.backbone.sizes import Architecture, Rotary
from clinvit.compress.idle import merge_idle
from clinvit.compress.pruning import choose_kept, head_scores, hidden_scores, module_scores, prune, ranked
from clinvit.core.errors import UserError
from clinvit.explain.relevance import relevance_maps
from clinvit.finetune.classifier import Classifier

from .test_idle import ARCH, IDLE, card_of, pixels, shaken

KINDS = {
    "plain": ARCH,
    "no biases, gated": replace(ARCH, qkv_bias=False, gated_mlp=True, activation="silu"),
    "rotary, no bias of keys": replace(ARCH, rotary=Rotary("axial"), positions="none", key_bias=False),
    "pruned before": replace(ARCH, block_heads=(2, 4), block_hidden=(60, 128)),
    "merged idle units": replace(ARCH, block_hidden=(40, 30), mlp_shortcut=True),
    "clips": Architecture(32, 2, 4, image_size=(32, 32), patch_size=8, frames=4, tubelet=2, positions="sine1d"),
}


def test_scores_of_a_hand_made_module_are_the_formula():
    one, two = module_scores([torch.tensor([[3.0, -1.0]]), torch.tensor([[2.0], [0.0], [-2.0]])])
    # Squares 9, 1, 4, 0, 4: 9/9, 1/18, both of the equal ones 4/17, 0/18.
    torch.testing.assert_close(one, torch.tensor([[1.0, 1 / 18]], dtype=torch.float64))
    torch.testing.assert_close(two, torch.tensor([[4 / 17], [0.0], [4 / 17]], dtype=torch.float64))


def test_scores_do_not_change_with_the_scale_of_a_module():
    vit = shaken(ARCH)
    before = hidden_scores(vit), head_scores(vit)
    with torch.no_grad():
        for block in vit.blocks:
            block.mlp.fc1.weight *= 4
            block.mlp.fc2.weight *= 4
    torch.testing.assert_close(hidden_scores(vit), before[0])
    torch.testing.assert_close(head_scores(vit), before[1])


def test_what_has_the_least_score_over_all_blocks_leaves_but_never_a_whole_block():
    kept = ranked([torch.tensor([5.0, 1.0, 2.0]), torch.tensor([0.1, 0.3])], 0.6)
    assert [ids.tolist() for ids in kept] == [[0, 2], [1]]
    assert [ids.tolist() for ids in ranked([torch.tensor([5.0, 1.0])], 0.0)] == [[0, 1]]


@pytest.mark.parametrize(("heads", "hidden"), [(0.5, 0.5), (0.25, 0.0), (0.0, 0.9), (0.9, 0.99)])
@pytest.mark.parametrize("kind", KINDS)
def test_the_pruned_network_equals_the_masked_one(kind, heads, hidden):
    vit = shaken(KINDS[kind])
    kept = choose_kept(vit, heads, hidden)
    small, card = prune(vit, card_of(vit.arch), heads, hidden)
    channels = vit.arch.width // vit.arch.heads
    with torch.no_grad():
        for block, own, units in zip(vit.blocks, kept.heads, kept.hidden, strict=True):
            gone = torch.ones(block.attn.num_heads, channels, dtype=torch.bool)
            gone[own] = False
            block.attn.proj.weight[:, gone.flatten()] = 0  # what the head gives counts for nothing
            block.mlp.fc2.weight[:, ~torch.isin(torch.arange(block.mlp.fc2.in_features), units)] = 0
        x = pixels(vit.arch)
        torch.testing.assert_close(small(x).sequence(), vit(x).sequence(), atol=1e-6, rtol=1e-5)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in vit.parameters())
    left = [small.arch.heads_of(block) for block in range(2)]
    assert left == [len(own) for own in kept.heads] and min(left) >= 1
    assert bool(card.arch.block_heads) == (heads > 0 or bool(vit.arch.block_heads))


def test_a_pruned_network_is_stored_and_read_again_and_its_weights_are_counted(tmp_path):
    small, card = prune(*merge_idle(shaken(IDLE), card_of(IDLE)), 0.5, 0.5)
    save_encoder(tmp_path, small, card)
    vit, read = open_vit(tmp_path)
    assert read.arch == card.arch
    torch.testing.assert_close(vit(pixels(ARCH)).patches, small(pixels(ARCH)).patches)
    matrices = sum(p.numel() for name, p in vit.blocks.named_parameters() if p.ndim == 2)
    assert vit.arch.weights == matrices + vit.arch.width * 16


@pytest.mark.parametrize("method", ["gradient", "attention"])
def test_a_network_with_other_heads_in_each_block_is_explained(method):
    arch = replace(ARCH, block_heads=(1, 3), block_hidden=(24, 40), mlp_shortcut=True)
    model = Classifier(shaken(arch), 2).eval()
    torch.nn.init.normal_(model.head.weight)
    maps = relevance_maps(model, pixels(arch), torch.tensor([[0, 1]] * 3), method)
    assert maps.shape == (3, 2, 4, 4) and bool(maps.isfinite().all()) and float(maps.std()) > 0


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        (IDLE, "merge its idle units first"),
        (replace(ARCH, mlp_norm=True), "hidden units are normed together"),
        (replace(ARCH, attention_norm=True), "heads are normed together"),
        (replace(ARCH, rotary=Rotary("mixed"), positions="none"), "heads have positions of their own"),
    ],
)
def test_what_cannot_be_pruned_is_named(arch, words):
    with pytest.raises(UserError, match=words):
        choose_kept(shaken(arch), 0.5, 0.5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"block_heads": (2,)}, "block_heads are 2 whole numbers"),
        ({"block_heads": (2, 5)}, "block_heads"),
        ({"block_hidden": (0, 4)}, "block_hidden"),
        ({"block_active": (3, 2.5)}, "block_active"),
        ({"block_active": (3, 200)}, "block_active"),
        ({"block_active": (3, 4), "gated_mlp": True}, "without gates"),
        ({"mlp_batch_norm": True}, "for idle units"),
        ({"mlp_input_norm": False}, "merged idle units"),
    ],
)
def test_sizes_that_no_block_can_have_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        replace(ARCH, **fields)
