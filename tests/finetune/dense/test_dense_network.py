"""The network that draws: windows, pyramid, edge band, loss, and weights of a plain ViT that stay valid."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.regions import UNKNOWN
from clinvit.finetune.dense.loss import OfMaps, edge_band
from clinvit.finetune.dense.network import SCALES, DenseNetwork, SimplePyramid
from clinvit.finetune.dense.windows import whole_blocks, windowed
from clinvit.finetune.recipe import Dense
from scipy import ndimage
from torch.nn import functional as F


def vit(px=48, patch=8, **fields) -> ViT:
    torch.manual_seed(0)
    arch = architecture("micro", image_size=(px, px), patch_size=patch, channels=1, **fields)
    return ViT(replace(arch, depth=8)).eval()


def network(encoder: ViT, labels=2, **settings) -> DenseNetwork:
    return DenseNetwork(encoder, labels, Dense(**({"channels": 16} | settings))).eval()


def test_attention_within_windows_that_cover_the_grid_is_plain_attention():
    encoder, x = vit(class_token=True), torch.randn(2, 1, 48, 48)
    plain, covering = network(encoder).features(x), network(encoder, window=6).features(x)
    torch.testing.assert_close(covering, plain, rtol=0, atol=1e-6)
    assert not torch.allclose(network(encoder, window=3).features(x), plain, atol=1e-3)


def test_a_window_sees_its_own_tokens_alone():
    block = vit(class_token=True).blocks[0]
    tokens = torch.randn(1, 1 + 7 * 5, block.norm1.normalized_shape[0])
    with torch.no_grad():
        before = windowed(block, tokens, (7, 5), 3, 1)
        changed = tokens.clone()
        changed[0, 1, 0] += 9  # one channel of the first patch, as a norm takes a shift of all away
        moved = (windowed(block, changed, (7, 5), 3, 1) - before).abs().amax(dim=2)[0, 1:].view(7, 5) > 1e-6
    # 7 rows are pieces of 2, 2 and 3; 5 columns of 2 and 3.
    expected = torch.zeros(7, 5, dtype=torch.bool)
    expected[:2, :2] = True
    assert torch.equal(moved, expected)


def test_windows_of_no_block_are_refused():
    shallow = ViT(replace(vit().arch, depth=4))
    with pytest.raises(UserError, match="of 4 blocks all see the whole image"):
        network(shallow, window=3)


def test_four_blocks_see_the_whole_image():
    assert whole_blocks(12) == {2, 5, 8, 11} and whole_blocks(24) == {5, 11, 17, 23}
    assert whole_blocks(2) == {0, 1} and max(whole_blocks(1)) == 0


def test_windows_are_refused_for_an_encoder_that_turns_queries():
    from clinvit.backbone.sizes import Rotary

    encoder = vit(positions="none", rotary=Rotary("axial"))
    with pytest.raises(UserError, match=r"dense.window 3.*rotary"):
        network(encoder, window=3)
    assert network(encoder).features(torch.randn(1, 1, 48, 48)).shape[-2:] == (6, 6)


@pytest.mark.parametrize("rows, columns", [(8, 6), (7, 5), (1, 1)])
def test_the_pyramid_has_five_levels(rows, columns):
    levels = SimplePyramid(24, 10)(torch.randn(2, 24, rows, columns))
    half = -(-rows // 2), -(-columns // 2)
    quarter = -(-half[0] // 2), -(-half[1] // 2)
    sizes = [(4 * rows, 4 * columns), (2 * rows, 2 * columns), (rows, columns), half, quarter]
    assert [tuple(level.shape) for level in levels] == [(2, 10, *size) for size in sizes] and len(levels) == len(SCALES)


def test_maps_are_as_fine_as_the_finest_level_and_begin_as_nearly_nothing():
    logits = network(vit(), labels=3)(torch.randn(2, 1, 48, 48))
    assert logits.shape == (2, 3, 24, 24) and 0.01 < logits.sigmoid().mean() < 0.3


def test_weights_of_a_plain_vit_are_those_of_the_encoder_and_frozen_ones_learn_nothing():
    encoder = vit(class_token=True)
    drawing = DenseNetwork(vit(class_token=True), 1, Dense(channels=8, window=2), frozen=True)
    drawing.encoder.load_state_dict(encoder.state_dict(), strict=True)
    x = torch.randn(1, 1, 48, 48)
    drawing.train()(x).sum().backward()
    assert all(p.grad is None for p in drawing.encoder.parameters())
    assert all(p.grad is not None for p in drawing.head.parameters())
    assert not any(block.training for block in drawing.encoder.blocks)


@pytest.mark.parametrize("width", [3, 7])
def test_the_band_along_edges_is_that_of_scipy(width):
    rng = np.random.default_rng(0)
    masks = ndimage.gaussian_filter(rng.normal(size=(2, 3, 40, 31)), (0, 0, 4, 4)) > 0.03
    cross = np.zeros((width, width), bool)
    cross[width // 2], cross[:, width // 2] = True, True
    found = edge_band(torch.from_numpy(masks).float(), width).numpy()
    for mask, band in zip(masks.reshape(-1, 40, 31), found.reshape(-1, 40, 31)):
        dilated = [ndimage.binary_dilation(each, cross) for each in (mask, ~mask)]
        np.testing.assert_array_equal(band, dilated[0] & dilated[1])


def test_the_loss_is_cross_entropy_with_edges_that_count_more_and_unknown_maps_that_do_not():
    torch.manual_seed(0)
    truth = torch.zeros(2, 2, 12, 12, dtype=torch.uint8)
    truth[0, 0, 3:8, 2:9] = 1
    truth[1, 1] = UNKNOWN
    outputs = torch.randn(2, 2, 12, 12)
    known = truth != UNKNOWN
    each = F.binary_cross_entropy_with_logits(outputs, (truth == 1).float(), reduction="none")
    band = edge_band((truth == 1).float(), 5)
    expected = each[known].mean() + 20 * (each * band)[known].sum() / known.sum()
    torch.testing.assert_close(OfMaps(5, 20.0).loss(outputs, truth), expected)
    changed = outputs.clone()
    changed[1, 1] = 7
    torch.testing.assert_close(OfMaps(5, 20.0).loss(changed, truth), expected)
    scores = OfMaps(5, 20.0).activate(outputs)
    torch.testing.assert_close(scores, outputs.sigmoid().amax(dim=(2, 3)))


def test_an_even_band_is_refused():
    with pytest.raises(UserError, match=r"dense.edge_px 6.*odd"):
        Dense(edge_px=6)
