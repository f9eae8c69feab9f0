"""Scales moved from a LayerNorm into the next matmul change no answer."""

import copy

import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.compress.quantise import calibrate
from clinvit.compress.ranges import Levels, best_channel_levels, best_levels, matmuls, seen_by_layers
from clinvit.compress.scales import fold_scales, norm_pairs
from clinvit.compress.sensitivity import in_int8
from clinvit.finetune.classifier import Classifier
from torch import nn

ARCH = Architecture(16, 2, 2, image_size=(16, 16), patch_size=4)


def outlying(arch=ARCH, dtype=torch.float64, **kinds):
    """A classifier in which some channels after the norms are thirty times larger than the others."""
    torch.manual_seed(0)
    network = Classifier(ViT(arch, final_norm=False), 3, **kinds).to(dtype).eval()
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.add_(0.2 * torch.randn_like(value))
            if name.endswith(("norm1.weight", "norm2.weight")):
                value[::5] *= 30
        network.head.weight.normal_()
    return network


@pytest.mark.parametrize("place", ["norm1", "norm2"])
def test_a_fold_is_exact_in_float64(place):
    network, x = outlying(), torch.randn(4, 1, 16, 16, dtype=torch.float64)
    with torch.inference_mode():
        wanted = network(x)
    block = network.encoder.blocks[0]
    name = "encoder.blocks.0." + {"norm1": "attn.qkv", "norm2": "mlp.fc1"}[place]
    following = dict(network.named_modules())[name]
    ((_, seen),) = seen_by_layers(network, x, [name])
    levels = best_channel_levels(seen)
    common = fold_scales(getattr(block, place), [following], levels)
    with torch.inference_mode():
        found = network(x)
    assert (found - wanted).abs().max() < 1e-12 * wanted.abs().max() * 10
    ((_, after),) = seen_by_layers(network, x, [name])
    spread = lambda values: values.std(axis=0).max() / values.std(axis=0).min()
    assert spread(after) < spread(seen) / 5 and common.scale == pytest.approx(levels.scale.mean())


def test_a_norm_that_several_matmuls_follow_is_folded_into_all():
    torch.manual_seed(0)
    norm, after = nn.LayerNorm(6).double(), [nn.Linear(6, 3).double(), nn.Linear(6, 2).double()]
    x, levels = torch.randn(9, 6, dtype=torch.float64), Levels(torch.rand(6).numpy() + 0.1, torch.arange(6).numpy())
    wanted = [each(norm(x)) for each in after]
    fold_scales(norm, after, levels)
    for found, one in zip([each(norm(x)) for each in after], wanted, strict=True):
        torch.testing.assert_close(found, one, atol=1e-12, rtol=0)


def test_pairs_are_found_by_what_flows():
    network = outlying()
    pairs = norm_pairs(network, torch.zeros(1, 1, 16, 16, dtype=torch.float64))
    assert pairs["encoder.blocks.1.norm2"] == ["encoder.blocks.1.mlp.fc1"]
    assert pairs["encoder.blocks.0.norm1"] == ["encoder.blocks.0.attn.qkv"]


class Leaking(nn.Module):
    """The norm's output goes another way too."""

    def __init__(self):
        super().__init__()
        self.norm, self.first, self.last = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, x):
        normed = self.norm(x)
        return self.last(self.first(normed) + normed)


def test_a_norm_that_goes_another_way_too_is_left_alone():
    torch.manual_seed(0)
    network = Leaking().eval()
    with torch.no_grad():
        network.norm.weight.copy_(torch.linspace(0.1, 30, 8))
    x = torch.randn(40, 8)
    made = calibrate(network, x)
    assert made.folded == 0 and list(made.levels) == ["first"]
    with torch.inference_mode():
        torch.testing.assert_close(made.network(x), network(x))


def test_one_scale_for_all_channels_loses_less():
    network, x = outlying(dtype=torch.float32), torch.randn(32, 1, 16, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = calibrate(network, x)
    assert made.folded == 4 and made.levels.keys() == matmuls(network).keys()
    plain = copy.deepcopy(network)
    unfolded = {name: best_levels(seen) for name, seen in seen_by_layers(plain, x, matmuls(plain))}
    with torch.inference_mode():
        exact = network(x)
        with in_int8(made.network, made.levels):
            folded = made.network(x)
        with in_int8(plain, unfolded):
            rough = plain(x)
    assert (folded - exact).square().mean() < 0.8 * (rough - exact).square().mean()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items()), "weights are put back"
