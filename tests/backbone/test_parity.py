"""Our ViT computes what the sources' own code computes, on random weights, at the native size and at another."""

from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from clinvit.backbone.encoder import open_reported, open_vit, save_encoder
from clinvit.backbone.vit import ViT
from clinvit.backbone.weights.hub import vit_of
from clinvit.backbone.weights.said import Said
from torch import Tensor, nn

TINY = {"embed_dim": 96, "depth": 2, "num_heads": 6, "num_classes": 0}
SWIGLU = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 5.33334}
# What public encoders of pathology ask of timm's plain ViT.
UNI2_H = {"img_size": 56, "patch_size": 14, "init_values": 1e-5, "reg_tokens": 8, "no_embed_class": True, **SWIGLU}
VIRCHOW_2 = {**UNI2_H, "reg_tokens": 4, "mlp_ratio": 5.3375, "global_pool": ""}
H_OPTIMUS = {"img_size": 56, "patch_size": 14, "init_values": 1e-5, "reg_tokens": 4, "no_embed_class": True}
H_OPTIMUS_1 = {**H_OPTIMUS, **SWIGLU}


def randomised(network: nn.Module) -> nn.Module:
    """Every tensor random, so that none can be forgotten unnoticed."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.normal_(std=0.08)
            if "norm" in name and name.endswith("weight"):
                parameter.add_(1)
    return network.eval()


def same(ours: Tensor, theirs: Tensor) -> None:
    largest = float(theirs.abs().max())
    assert largest > 0.1  # not nothing
    torch.testing.assert_close(ours, theirs, atol=1e-5 * max(1, largest), rtol=1e-5)


def made(name: str, **options) -> nn.Module:
    """timm's network of a name, small."""
    return randomised(timm.create_model(name, **({**TINY, "img_size": 64} | options)))


@torch.no_grad()
def compare(vit: ViT, network, height: int, width: int) -> None:
    """Compare all tokens, whole and of a few patches, at a size that is first given to timm's network."""
    network.set_input_size(img_size=(height, width))
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    theirs, ours, before = network.forward_features(x), vit(x), vit.arch.tokens_before
    same(ours.patches, theirs[:, before:])
    if ours.cls is not None:
        same(ours.cls, theirs[:, 0])


NAMES = [
    "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_giant_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb", "vit_huge_plus_patch16_dinov3",
    "vit_7b_patch16_dinov3", "eva02_tiny_patch14_224", "eva02_base_patch14_224", "eva02_base_patch16_clip_224",
    "eva02_enormous_patch14_clip_224", "eva_giant_patch14_224", "vit_base_patch16_siglip_224",
    "vit_so400m_patch14_siglip_gap_224", "vit_base_patch16_clip_224", "vit_base_patch32_clip_quickgelu_224",
    "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224", "vit_pe_core_base_patch16_224",
    "vit_pe_spatial_tiny_patch16_512", "vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_ape_224",
    "vit_base_patch16_rope_reg1_gap_256", "aimv2_large_patch14_224", "beit3_base_patch16_224",
    "vit_base_patch16_rpn_224", "vit_base_patch16_radio_v3", "vit_so150m_patch16_reg4_map_256", "test_vit3",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_timm_by_name(name):
    network = made(name, **({"img_size": 56} if "patch14" in name else {}))
    vit, _, _ = vit_of(network)
    patch = network.patch_embed.patch_size[0]
    compare(vit, network, *vit.arch.image_size)
    compare(vit, network, 3 * patch, 6 * patch)


def stored(network: nn.Module, path: Path) -> Path:
    safetensors.torch.save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
    return path


@pytest.mark.parametrize(
    "name, options, source",
    [
        ("vit_small_patch14_dinov2", {"img_size": 56}, "timm"),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 56}, "timm"),
        ("vit_small_patch16_dinov3", {"img_size": 224}, "dinov3"),
        ("vit_small_patch16_dinov3_qkvb", {"img_size": 224}, "dinov3"),
        ("eva02_tiny_patch14_224", {"img_size": 56}, "eva02"),
        ("eva02_base_patch14_224", {"img_size": 56}, "eva02"),
        ("eva_giant_patch14_224", {"img_size": 56}, "eva"),
        ("vit_base_patch16_clip_224", {}, "clip"),
        ("deit_tiny_distilled_patch16_224", {}, "timm"),
        ("vit_base_patch16_siglip_224", {}, "siglip"),
        ("vit_giant_patch14_224", {**UNI2_H}, "timm"),
        ("vit_giant_patch14_224", {**VIRCHOW_2}, "timm"),
        ("vit_giant_patch14_224", {**H_OPTIMUS}, "timm"),
        ("vit_giant_patch14_224", {**H_OPTIMUS_1}, "timm"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_flat_file_of_timm(tmp_path, name, options, source):
    """Of what the file does not say, the usual is taken, and said."""
    network = made(name, **options)
    path = stored(network, tmp_path / "x.safetensors")
    vit, card, report = open_reported(path, Said(heads=6))
    assert card.method == report.source == source and {n.split(".")[0] for n in report.left_over} <= {
        "fc_norm",
        "attn_pool",
    }
    if source != "timm":
        assert "the file does not say" in str(report)
    compare(vit, network, *vit.arch.image_size)
    compare(vit, network, 4 * vit.arch.patch_size, 6 * vit.arch.patch_size)
    # The folder made of it is the same ViT.
    again, _ = open_vit(save_encoder(tmp_path / "encoder", vit, card))
    x = torch.randn(1, 3, *vit.arch.image_size)
    with torch.no_grad():
        assert torch.equal(again(x).sequence(), vit(x).sequence())


@pytest.mark.parametrize(
    "name",
    ["vit_base_patch32_clip_quickgelu_224", "vit_base_patch16_siglip_224", "vit_pe_core_base_patch16_224",
     "vit_small_patch16_rope_mixed_224", "vit_base_patch16_rope_reg1_gap_256"],
)  # fmt: skip
def test_what_a_file_leaves_open_is_said_by_a_name(tmp_path, name):
    network = made(name)
    vit, _, report = open_reported(stored(network, tmp_path / "x.safetensors"), Said(like=name, heads=6))
    assert "the file does not say" not in str(report)
    compare(vit, network, 64, 64) if "rope" not in name else compare(vit, network, *vit.arch.image_size)


S = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "image_size": 64, "patch_size": 16}
M = {**S, "intermediate_size": 160}


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


HUGGING_FACE = {
    "vit": ("ViTModel", "ViTConfig", M, True),
    "deit": ("DeiTModel", "DeiTConfig", M, True),
    "dinov2": ("Dinov2Model", "Dinov2Config", {**S, "layerscale_value": 0.5}, False),
    "dinov2 gated": ("Dinov2Model", "Dinov2Config", {**S, "use_swiglu_ffn": True}, False),
    "dinov2 registers": ("Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", S, False),
    "dinov3": ("DINOv3ViTModel", "DINOv3ViTConfig", {**M, "num_register_tokens": 4}, False),
    "dinov3 gated": ("DINOv3ViTModel", "DINOv3ViTConfig",
                     {**M, "num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"}, False),
    "dinov3 without registers": ("DINOv3ViTModel", "DINOv3ViTConfig", M, False),
    "ijepa": ("IJepaModel", "IJepaConfig", M, True),
    "mae": ("ViTMAEModel", "ViTMAEConfig", {**M, "mask_ratio": 0.0}, True),
    "siglip": ("SiglipVisionModel", "SiglipVisionConfig", M, True),
    "clip": ("CLIPVisionModel", "CLIPVisionConfig", {**M, "hidden_act": "quick_gelu"}, True),
}  # fmt: skip


@pytest.mark.parametrize("kind", HUGGING_FACE)
@torch.no_grad()
def test_folder_of_hugging_face(transformers, tmp_path, kind):
    """RAD-DINO is such a folder of DINOv2."""
    model, config, settings, asks = HUGGING_FACE[kind]
    theirs = randomised(getattr(transformers, model)(getattr(transformers, config)(**settings)))
    theirs.save_pretrained(tmp_path)
    vit, card, report = open_reported(tmp_path)
    assert "does not say" not in str(report) and vit.arch.norm_eps == theirs.config.layer_norm_eps
    assert card.assumed_statistics
    before = vit.arch.tokens_before
    for size in ((64, 64), (32, 96)):
        if kind == "mae" and size != (64, 64):
            continue  # its own code resamples with the masks of the native size
        x = torch.randn(2, 3, *size)
        more = {"interpolate_pos_encoding": True} if asks and size != (64, 64) else {}
        if kind == "mae":
            more = {"noise": torch.arange(16.0).expand(2, -1)}
        expected, ours = theirs(x, **more).last_hidden_state, vit(x)
        expected = theirs.post_layernorm(expected) if kind == "clip" else expected
        same(ours.patches, expected[:, before:])
        if ours.cls is not None:
            same(ours.cls, expected[:, 0])


@torch.no_grad()
def test_tower_of_images_of_a_model_with_text(transformers, tmp_path):
    text = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32,
            "vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}  # fmt: skip
    for kind in ("Siglip", "CLIP"):
        config = getattr(transformers, f"{kind}Config")(vision_config=M, text_config=text)
        theirs = randomised(getattr(transformers, f"{kind}Model")(config))
        theirs.save_pretrained(tmp_path / kind)
        vit, _, report = open_reported(tmp_path / kind)
        x, tower = torch.randn(2, 3, 64, 64), theirs.vision_model
        same(vit(x).sequence(), tower(x).last_hidden_state if kind == "Siglip" else
             tower.post_layernorm(tower(x).last_hidden_state))  # fmt: skip
        assert {name.split(".")[0] for name in report.left_over} >= {"text_model", "logit_scale"}


@torch.no_grad()
def test_siglip_2_in_its_own_sizes(transformers, tmp_path):
    config = transformers.Siglip2VisionConfig(
        **{name: value for name, value in M.items() if name != "image_size"}, num_patches=16
    )
    theirs = randomised(transformers.Siglip2VisionModel(config))
    theirs.save_pretrained(tmp_path)
    vit, card, _ = open_reported(tmp_path)
    assert card.mean == (0.5,) * 3
    for rows, columns in ((4, 4), (2, 8)):
        x = torch.randn(1, 3, rows * 16, columns * 16)
        pixels = x.unfold(2, 16, 16).unfold(3, 16, 16).permute(0, 2, 3, 4, 5, 1).reshape(1, rows * columns, -1)
        shapes = torch.tensor([[rows, columns]])
        mask = torch.ones(1, rows * columns, dtype=torch.long)
        same(vit(x).patches, theirs(pixels, mask, shapes).last_hidden_state)


@torch.no_grad()
def test_v_jepa_2(transformers, tmp_path):
    settings = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 16,
                "pred_hidden_size": 24, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2}  # fmt: skip
    first = transformers.VJEPA2Config(**settings, crop_size=64, frames_per_clip=4)
    theirs = randomised(transformers.VJEPA2Model(first))
    theirs.save_pretrained(tmp_path)
    vit, card, report = open_reported(tmp_path)
    assert report.source == "vjepa2" and card.arch.grid == (2, 4, 4) and card.arch.positions == "none"
    assert all(name.startswith("predictor.") for name in report.left_over)
    for side, frames in ((64, 4), (96, 8)):
        # Its own code counts rows by the crop of its configuration.
        sized = transformers.VJEPA2Model(transformers.VJEPA2Config(**settings, crop_size=side, frames_per_clip=frames))
        sized.load_state_dict(theirs.state_dict())
        clips = torch.randn(2, 3, frames, side, side)
        same(vit(clips).patches, sized.eval()(clips.transpose(1, 2), skip_predictor=True).last_hidden_state)


@pytest.mark.parametrize("name", ["vit_small_patch16_dinov3", "eva02_tiny_patch14_224"])
@torch.no_grad()
def test_visible_patches_keep_their_places(name):
    """All patches in another order are the same patches, and the class token does not notice."""
    vit, _, _ = vit_of(made(name, img_size=56 if "14" in name else 64))
    x, ids = torch.randn(2, 3, *vit.arch.image_size), torch.stack([torch.randperm(16), torch.randperm(16)])
    whole, mixed = vit(x), vit(x, ids)
    same(mixed.cls, whole.cls)
    same(mixed.patches, whole.patches.gather(1, ids.unsqueeze(-1).expand(-1, -1, 96)))
