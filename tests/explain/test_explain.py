"""Maps of where a model looked: the formulas against plain autograd, the geometry against the view itself, and a model
whose place of interest is known.
"""

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.core.errors import UserError
from clinvit.datasets.loading.cache import Files
from clinvit.explain.maps import explain_files, seen_px
from clinvit.explain.relevance import attention_rollout, gradient_attention, relevance_maps
from clinvit.finetune.classifier import Classifier, NearestNeighbours, TimmClassifier
from clinvit.finetune.model import ModelCard
from clinvit.finetune.recipe import View
from PIL import Image

ARCH = Architecture(width=24, depth=3, heads=3, image_size=(32, 32), patch_size=8, channels=1)


def classifier(pool="mean", labels=3, frozen=False) -> Classifier:
    torch.manual_seed(0)
    model = Classifier(ViT(ARCH, final_norm=frozen or pool == "class"), labels, pool, frozen)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return model.eval()


def card(**changes) -> ModelCard:
    facts = {
        "labels": ("a", "b", "c"), "meaning": {}, "exclusive": False, "mode": "full", "network": "vit", "pool": "mean",
        "arch": ARCH, "mean": (0.5,), "std": (0.25,), "view": View("squash", None), "cache_px": 1024,
    }  # fmt: skip
    return ModelCard(**facts | changes)


def plain_attention(model, x):
    """Logits and the attention matrices of all layers, with a graph, written out without fused attention."""
    tokens, matrices = model.encoder.embed(x), []
    for block in model.encoder.blocks:
        query, key, value = block.attn.qkv(block.norm1(tokens)).unflatten(2, (3, 3, -1)).permute(2, 0, 3, 1, 4)
        matrices.append((query @ key.mT * query.shape[-1] ** -0.5).softmax(dim=-1))
        tokens = tokens + block.attn.proj((matrices[-1] @ value).transpose(1, 2).flatten(2))
        tokens = tokens + block.mlp(block.norm2(tokens))
    tokens = model.encoder.norm(tokens)
    pooled = tokens[:, 0] if model.pool == "class" else tokens[:, 1:].mean(dim=1)
    return model.head(model.fc_norm(pooled)), matrices


@pytest.mark.parametrize("pool, frozen", [("mean", False), ("class", False), ("mean", True)])
def test_relevance_is_that_of_the_paper(pool, frozen):
    model, x = classifier(pool, frozen=frozen), torch.randn(2, 1, 32, 32)
    logits, matrices = plain_attention(model, x.requires_grad_())
    torch.testing.assert_close(logits, model(x))
    places = torch.tensor([[0, 2], [1, 1]])
    found = gradient_attention(model, x, places)
    for k in range(2):
        slopes = torch.autograd.grad(logits.gather(1, places[:, [k]]).sum(), matrices, retain_graph=True)
        relevance = torch.eye(17).expand(2, -1, -1)
        for matrix, slope in zip(matrices, slopes):
            relevance = relevance + (matrix * slope).clamp(min=0).mean(dim=1) @ relevance
        relevance = relevance - torch.eye(17)
        expected = relevance[:, 0, 1:] if pool == "class" else relevance[:, 1:, 1:].mean(dim=1)
        torch.testing.assert_close(found[:, k].flatten(1), expected, atol=1e-6, rtol=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_rollout_is_that_of_the_paper(pool):
    model, x = classifier(pool), torch.randn(2, 1, 32, 32)
    rolled = torch.eye(17).expand(2, -1, -1)
    for matrix in plain_attention(model, x)[1]:
        rolled = (matrix.mean(dim=1) + torch.eye(17)) / 2 @ rolled
    expected = rolled[:, 0, 1:] if pool == "class" else rolled[:, 1:, 1:].mean(dim=1)
    torch.testing.assert_close(attention_rollout(model, x).flatten(1), expected.detach())
    maps = relevance_maps(model, x, torch.tensor([[0, 1], [0, 1]]), "attention")
    assert maps.shape == (2, 2, 4, 4) and torch.equal(maps[:, 0], maps[:, 1]), "the same for every label"


def test_a_label_without_weight_is_nowhere_and_others_differ():
    model, x = classifier("attention"), torch.randn(1, 1, 32, 48)  # another size than trained
    model.head.weight.data[1] = 0
    maps = relevance_maps(model, x, torch.tensor([[0, 1, 2]]), "gradient")
    assert maps.shape == (1, 3, 4, 6) and (maps >= 0).all()
    assert not maps[0, 1].any() and maps[0, 0].any() and not torch.allclose(maps[0, 0], maps[0, 2])


def test_nearest_neighbours_are_explained_too():
    torch.manual_seed(0)
    model = NearestNeighbours(ViT(ARCH), 2, "mean", 6, k=6).eval()
    model.remember(model.features(torch.randn(6, 1, 32, 32)), torch.randint(0, 2, (6, 2)).float())
    assert relevance_maps(model, torch.randn(2, 1, 32, 32), torch.zeros(2, 1, dtype=torch.long), "gradient").any()


def test_grad_cam_of_a_linear_head_over_the_mean_is_its_class_activation_map():
    torch.manual_seed(0)
    model, x = TimmClassifier("resnet18", 3, 1).eval(), torch.randn(2, 1, 64, 64)
    maps = relevance_maps(model, x, torch.tensor([[2], [0]]), "gradient")
    features = model.network.forward_features(x)
    for case, label in enumerate((2, 0)):
        weights = model.network.fc.weight[label][:, None, None]
        expected = (weights * features[case]).sum(dim=0).clamp(min=0) / features[0, 0].numel()
        torch.testing.assert_close(maps[case, 0], expected.detach(), atol=1e-6, rtol=1e-4)


def test_what_a_network_does_not_allow_is_refused():
    x, places = torch.randn(1, 1, 64, 64), torch.zeros(1, 1, dtype=torch.long)
    with pytest.raises(UserError, match="is for ViT models"):
        relevance_maps(TimmClassifier("resnet18", 1, 1), x, places, "attention")
    with pytest.raises(UserError, match="one of gradient, attention"):
        relevance_maps(classifier(), x, places, "grad-cam")
    with pytest.raises(UserError, match="gives no feature map"):
        relevance_maps(TimmClassifier("crossvit_9_240", 1, 1), torch.randn(1, 1, 240, 240), places, "gradient")


@pytest.mark.parametrize("view", [View("squash", None), View("crop", 40), View("crop", 32), View("pad", None)])
@pytest.mark.parametrize("width, height", [(64, 64), (100, 70), (57, 131), (300, 260)])
def test_what_is_seen_is_what_the_view_shows(tmp_path, view, width, height):
    """Of a ramp the view shows the places themselves: its edges are extrapolated from its pixels."""
    own = card(view=view, cache_px=128)
    expected = []
    for axis, side in ((1, width), (0, height)):
        ramp = np.linspace(40, 215, side)
        image = np.broadcast_to(ramp if axis else ramp[:, None], (height, width))
        Image.fromarray(np.rint(image).astype(np.uint8)).save(tmp_path / "ramp.png")
        pixels = own.views()(Files([tmp_path / "ramp.png"], own.reader())[0])[0, 0].astype(float)
        line = np.median(np.where(pixels > 20, pixels, np.nan), axis=1 - axis) if view.mode != "pad" else None
        if line is None:
            inside = pixels[16] if axis else pixels[:, 16]
            at = np.flatnonzero(inside > 20)
        else:
            inside, at = line, np.arange(32)
        at = at[3:-3]  # edges are rounded off by the resampling
        slope, offset = np.polyfit(at + 0.5, (inside[at] - 40) / 175 * (side - 1) + 0.5, 1)
        expected += [offset, offset + 32 * slope]
    left, right, top, bottom = expected
    np.testing.assert_allclose(seen_px(own, width, height), [left, top, right, bottom], atol=0.02 * max(width, height))


@pytest.mark.parametrize("view", [View("squash", None, flip=True), View("crop", 80, crops=3)])
def test_maps_land_on_the_bright_square(tmp_path, view):
    """A network that is made to look at the brightest patch: its map must point there, in px of the file."""
    model = looks_at_brightness()
    squares = [(70, 30), (102, 60), (55, 12)]
    for number, (x, y) in enumerate(squares):
        pixels = np.full((110, 190), 30, np.uint8)
        pixels[y : y + 36, x : x + 36] = 220
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    files = [tmp_path / f"{name}.png" for name in (0, 1, "broken", 2)]
    targets = np.zeros((4, 1), np.int64)
    for method in ("gradient", "attention"):
        found = list(
            explain_files(
                model, card(view=view, arch=model.encoder.arch, labels=("bright",)), files, targets, method, batch=3
            )
        )
        assert [each.position for each in found] == [0, 1, 2, 3]
        assert found[2].maps is None and "broken.png" in found[2].reason
        for each, (x, y) in zip([found[0], found[1], found[3]], squares):
            assert (each.width_px, each.height_px, each.maps.shape) == (190, 110, (1, 8, 8))
            row, column = np.unravel_index(each.maps[0].argmax(), (8, 8))
            left, top, right, bottom = each.extent_px
            assert x <= left + (column + 0.5) / 8 * (right - left) <= x + 36
            assert y <= top + (row + 0.5) / 8 * (bottom - top) <= y + 36


def looks_at_brightness() -> Classifier:
    """One layer whose single head attends to bright patches and hands their brightness on."""
    arch = Architecture(
        width=4, depth=1, heads=1, image_size=(64, 64), patch_size=8, channels=1, class_token=False, positions="learned"
    )
    model = Classifier(ViT(arch, final_norm=False), 1, "mean").eval()
    for parameter in model.parameters():
        parameter.data.zero_()
    vit, block = model.encoder, model.encoder.blocks[0]
    vit.patch_embed.proj.weight.data[0] = 1 / 64  # channel 0 is brightness, channel 1 its opposite
    vit.patch_embed.proj.weight.data[1] = -1 / 64
    vit.patch_embed.proj.bias.data[2] = 1.0
    block.norm1.weight.data.fill_(1)
    block.attn.qkv.bias.data[0] = 1.0  # every query asks
    block.attn.qkv.weight.data[4, 0] = 6.0  # for the key of brightness
    block.attn.qkv.weight.data[8, 0] = 1.0
    block.attn.proj.weight.data[0, 0] = 1.0
    model.fc_norm.weight.data.fill_(1)
    model.head.weight.data[0, 0] = 1.0
    return model
