"""The 3-D baseline networks: the paper's counts, sizes and pooling, and the parts that differ from today's MONAI."""

import math
from fractions import Fraction

import pytest
import torch
from clinvit.finetune.volumes.networks import NETWORKS, REGISTRY, VolumeClassifier
from clinvit.finetune.volumes.pooling import Head, mean_of_strongest, steps_kept
from clinvit.finetune.volumes.swin import PatchMerging, SwinEncoder
from clinvit.finetune.volumes.unet3d import unet3d_encoder
from clinvit.finetune.volumes.unetpp import unetplusplus_encoder
from clinvit.finetune.volumes.unetr import UNETREncoder
from clinvit.finetune.volumes.vit3d import ViT3D
from clinvit.finetune.volumes.vnet import vnet_encoder
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

pytest.importorskip("monai")
KINDS = [(name, pool) for name in NETWORKS for pool in ("mean", "topk") if (name, pool) != ("vit3d", "topk")]


def small(name: str, labels: int = 1, **fields) -> VolumeClassifier:
    """The network for the least clip that it takes."""
    torch.manual_seed(0)
    frames, size_px = REGISTRY[name].least
    return VolumeClassifier(name, labels, **({"frames": frames, "size_px": size_px} | fields))


def clip(name: str, clips: int = 1) -> torch.Tensor:
    frames, size_px = REGISTRY[name].least
    return torch.rand(clips, 1, frames, size_px, size_px, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "name, pool, count",
    [
        ("vit3d", "mean", 31_844_353),
        ("vnet", "mean", 24_066_289),
        ("resnet3d", "mean", 70_770_369),
        ("resnet3d", "topk", 70_901_441),
        ("unetplusplus", "mean", 3_603_553),
        ("unet3d", "mean", 25_017_763),
    ],
)
def test_the_paper_counts_its_networks(name, pool, count):
    with torch.device("meta"):
        model = VolumeClassifier(name, 1, pool=pool)
    assert sum(p.numel() for p in model.parameters()) == count
    assert model.no_weight_decay() == set()


@pytest.mark.parametrize(
    "name, pool", [pytest.param(*kind, marks=pytest.mark.slow if "senet154" in kind else ()) for kind in KINDS]
)
def test_the_least_clip_trains_every_parameter(name, pool):
    model = small(name, labels=3, pool=pool, pool_ratio=0.5 if pool == "topk" else 1.0)
    logits = model(clip(name))
    assert logits.shape == (1, 3)
    logits.square().sum().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize("name", NETWORKS)
def test_a_smaller_clip_is_refused(name):
    frames, size_px = REGISTRY[name].least
    for too_small in ({"frames": frames - 1}, {"size_px": size_px - 1}):
        with pytest.raises(ValueError, match=f"{name} needs at least {frames} frames of {size_px} x {size_px} px"):
            small(name, **too_small)


@pytest.mark.parametrize("frames, size_px, channels", [(16, 64, 1), (20, 72, 2)])
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - {"senet154"}))
def test_other_sizes(name, frames, size_px, channels):
    model = VolumeClassifier(name, 2, channels=channels, frames=frames, size_px=size_px).eval()
    with torch.no_grad():
        assert model(torch.rand(1, channels, frames, size_px, size_px)).shape == (1, 2)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_papers_clip_trains_every_parameter(name):
    """Shapes alone are computed: the numbers are held against MONAI's at small sizes."""
    model = VolumeClassifier(name, 1).to("meta")
    features = []
    if name in ("unetr", "swinunetr", "vnet", "unetplusplus", "unet3d"):
        model.enc.register_forward_hook(lambda module, given, made: features.append(tuple(made.shape[1:])))
    elif name in ("senet154", "resnet3d"):
        model.model.layer4.register_forward_hook(lambda module, given, made: features.append(tuple(made.shape[1:])))
    model(torch.rand(1, 1, 96, 128, 128, device="meta")).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    expected = {
        "vit3d": [],
        "unetr": [(240, 12, 16, 16)],
        "senet154": [(2048, 3, 4, 4)],
        "swinunetr": [(384, 3, 4, 4)],
        "vnet": [(256, 6, 8, 8)],
        "resnet3d": [(512, 6, 8, 8)],
        "unetplusplus": [(256, 6, 8, 8)],
        "unet3d": [(768, 6, 8, 8)],
    }
    assert features == expected[name]


@pytest.mark.parametrize("name, pool", [("unetplusplus", "topk"), ("resnet3d", "mean"), ("swinunetr", "mean")])
def test_state_dict_round_trip(name, pool):
    model, other = small(name, pool=pool).eval(), small(name, pool=pool)
    for p in other.parameters():
        nn.init.zeros_(p)
    other.load_state_dict(model.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(other.eval()(clip(name)), model(clip(name)))


@pytest.mark.parametrize(
    "name, pool, keys",
    [
        ("vit3d", "mean", ["enc.blocks.3.attn.out_proj.bias", "enc.cls_token", "classification_head.weight"]),
        ("unetr", "topk", ["enc.vit.blocks.9.attn.qkv.weight", "enc.encoder2.blocks.1.1.conv2.conv.weight"]),
        ("senet154", "mean", ["model.layer0.bn3.bias", "model.layer1.0.project.adn.N.bias", "model.last_linear.bias"]),
        ("senet154", "topk", ["enc.layer4.2.se_layer.fc.2.weight", "cls.fc1.bias"]),
        ("swinunetr", "mean", ["enc.swinViT.layers1.0.blocks.1.attn.relative_position_index", "cls.fc2.weight"]),
        ("swinunetr", "topk", ["enc.swinViT.patch_embed.proj.bias", "enc.swinViT.layers4.0.downsample.norm.bias"]),
        ("vnet", "mean", ["enc.in_tr.conv_block.conv.weight", "enc.down_tr32.ops.0.conv_block.adn.N.bias"]),
        ("resnet3d", "mean", ["model.layer2.0.downsample.0.bias", "model.fc.weight"]),
        ("resnet3d", "topk", ["enc.bn1.weight", "enc.layer4.3.conv2.weight", "cls.fc1.weight"]),
        ("unetplusplus", "mean", ["enc.conv_0_0.conv_0.conv.weight", "enc.conv_4_0.convs.conv_1.adn.N.weight"]),
        ("unet3d", "mean", ["enc.encoder.4.basic_module.SingleConv2.groupnorm.weight", "cls.fc1.weight"]),
    ],
)
def test_names_are_the_published_ones(name, pool, keys):
    # MONAI's Swin transformer takes numbers out of a tensor while it is made, which meta tensors have not.
    with torch.device("cpu" if name == "swinunetr" else "meta"):
        assert set(keys) <= set(small(name, pool=pool).state_dict())


def test_wrong_words_are_refused():
    with pytest.raises(ValueError, match=r"unknown network 'unet3'.*did you mean 'unet3d'"):
        VolumeClassifier("unet3", 1)
    with pytest.raises(ValueError, match="unknown pool 'max'; known: mean, topk"):
        VolumeClassifier("unet3d", 1, pool="max")
    with pytest.raises(ValueError, match="vit3d classifies by its class token and has no pooling option"):
        VolumeClassifier("vit3d", 1, pool="topk", pool_ratio=0.5)
    for pool, ratio in (("topk", 0.0), ("topk", 1.1), ("mean", 0.5)):
        with pytest.raises(ValueError, match="pool_ratio"):
            VolumeClassifier("unet3d", 1, pool=pool, pool_ratio=ratio)


@pytest.mark.parametrize(
    "steps, ratio, kept",
    [
        *[(3, 0.3, 1), (3, 0.5, 2), (3, 0.7, 3)],
        *[(6, 0.3, 2), (6, 0.5, 3), (6, 0.7, 5)],
        *[(12, 0.3, 4), (12, 0.5, 6), (12, 0.7, 9)],
        (1, 0.3, 1),
        (100, 0.07, 7),
    ],
)
def test_steps_kept(steps, ratio, kept):
    assert steps_kept(steps, ratio) == kept


@given(st.integers(1, 300), st.integers(1, 100))
def test_steps_kept_is_the_exact_share_rounded_up(steps, percent):
    assert steps_kept(steps, percent / 100) == math.ceil(Fraction(steps * percent, 100))


def test_the_strongest_steps_are_kept():
    # Two channels over four steps; the norms are 5, 1, 13 and 2: a large sum (step 0) or mean is not a large norm.
    steps = torch.tensor([[[3.0, 1.0, -12.0, 2.0], [4.0, 0.0, 5.0, 0.0]]])
    assert torch.equal(mean_of_strongest(steps, 0.25), torch.tensor([[-12.0, 5.0]]))
    assert torch.equal(mean_of_strongest(steps, 0.5), torch.tensor([[-4.5, 4.5]]))
    both = mean_of_strongest(torch.cat([steps, steps.flip(2)]), 0.5)
    torch.testing.assert_close(both[0], both[1])


def test_all_steps_are_the_mean():
    torch.manual_seed(0)
    mean, topk = Head(8, 3), Head(8, 3, ratio=1.0)
    topk.load_state_dict(mean.state_dict())
    x = torch.randn(2, 8, 5, 3, 4)
    torch.testing.assert_close(topk(x), mean(x))
    pooled = x.mean(dim=(2, 3, 4))
    torch.testing.assert_close(mean(x), mean.fc2(mean.fc1(pooled).relu()))


def test_patch_merging_repeats_two_sub_grids():
    """As MONAI 0.9 did: 010 and 001 stand twice, 110 and 011 are missing."""
    merging = PatchMerging(1, nn.Identity, 3)
    offset = torch.arange(2)
    code = 100 * offset[:, None, None] + 10 * offset[:, None] + offset
    merging.reduction = nn.Identity()
    joined = merging(code[None, ..., None].float())
    assert joined.flatten().tolist() == [0, 100, 10, 1, 101, 10, 1, 111]


def test_swin_merges_so_and_normalises_its_output():
    encoder = SwinEncoder(1)
    merges = [layer[0].downsample for layer in (encoder.swinViT.layers1, encoder.swinViT.layers4)]
    assert all(type(merge) is PatchMerging for merge in merges)
    features = encoder(torch.rand(1, 1, 32, 64, 64))
    assert features.shape == (1, 384, 1, 2, 2)
    torch.testing.assert_close(features.mean(1), torch.zeros(1, 1, 2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.var(1, correction=0), torch.ones(1, 1, 2, 2), atol=1e-2, rtol=0)


def test_unetr_joins_raw_states_in_the_papers_order():
    from monai.networks.nets import ViT

    torch.manual_seed(0)
    size = (32, 48, 48)
    encoder, peer = UNETREncoder(1, size).eval(), ViT(1, size, 16, num_layers=12, num_heads=12).eval()
    with torch.no_grad():
        encoder.vit.blocks[9].mlp.linear2.bias.fill_(7.0)  # a final norm would take this away
    missing = peer.load_state_dict(encoder.vit.state_dict(), strict=False).missing_keys
    missing = {".".join(key.split(".")[:2]) for key in missing if "norm_cross_attn" not in key}
    assert missing == {"blocks.10", "blocks.11", "norm.weight", "norm.bias"}
    x = torch.rand(1, 1, *size)
    with torch.no_grad():
        states = [state.transpose(1, 2).reshape(1, 768, 2, 3, 3) for state in peer(x)[1]]
        maps = [
            encoder.encoder1(x)[:, :, ::8, ::8, ::8],
            encoder.encoder2(states[3])[:, :, ::4, ::4, ::4],
            encoder.encoder3(states[6])[:, :, ::2, ::2, ::2],
            encoder.encoder4(states[9]),
        ]
        assert [one.shape[1] for one in maps] == [16, 32, 64, 128]
        torch.testing.assert_close(encoder(x), torch.cat(maps, 1), atol=1e-4, rtol=1e-4)


def test_vit3d_equals_monai():
    from monai.networks.nets import ViT

    torch.manual_seed(0)
    size = (17, 23, 23)
    encoder = ViT3D(1, size).eval()
    assert not encoder.cls_token.any()
    nn.init.normal_(encoder.cls_token)
    peer = ViT(1, size, 7, num_layers=4, num_heads=4, classification=True, num_classes=1, post_activation="none").eval()
    missing, left = peer.load_state_dict(encoder.state_dict(), strict=False)
    assert left == [] and {key.split(".")[-2] for key in missing} == {"norm_cross_attn", "classification_head"}
    peer.classification_head = nn.Identity()
    x = torch.rand(2, 1, *size)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x), peer(x)[0], atol=1e-5, rtol=1e-4)
        x[:, :, 14:] = 0  # beyond the last whole cube
        torch.testing.assert_close(encoder(x), peer(x)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["unetplusplus", "vnet"])
def test_encoders_equal_those_of_monais_segmenters(name):
    from monai.networks.nets import BasicUNetPlusPlus, VNet

    torch.manual_seed(0)
    if name == "vnet":
        encoder, peer, last = vnet_encoder(1), VNet(), "down_tr256"
    else:
        encoder, peer, last = unetplusplus_encoder(1), BasicUNetPlusPlus(), "conv_4_0"
    left = peer.load_state_dict(encoder.state_dict(), strict=False).unexpected_keys
    assert left == []
    seen = []
    getattr(peer.eval(), last).register_forward_hook(lambda module, given, made: seen.append(made.clone()))
    x = torch.rand(1, 1, 16, 32, 32)
    with torch.no_grad():
        peer(x)
        torch.testing.assert_close(encoder.eval()(x), seen[0])


def test_unet3d_levels():
    levels = [level.basic_module for level in unet3d_encoder(1).encoder]
    outputs = [(level.SingleConv1.conv.out_channels, level.SingleConv2.conv.out_channels) for level in levels]
    assert outputs == [(32, 64), (64, 128), (128, 256), (256, 512), (512, 768)]
    norms = [level.SingleConv1.groupnorm for level in levels]
    assert [(norm.num_groups, norm.num_channels) for norm in norms] == [(1, 1), (8, 64), (8, 128), (8, 256), (8, 512)]
    assert [type(part).__name__ for part in levels[1].SingleConv1] == ["GroupNorm", "Conv3d", "ReLU"]
