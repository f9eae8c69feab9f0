"""ViTs of every kind that the backbone builds do all that a plain one does: MAE, LoRA, probes, maps, scales, DINO."""

from dataclasses import replace

import pytest
import torch
from clinvit.backbone.sizes import Architecture, Rotary
from clinvit.backbone.vit import ViT
from clinvit.engine.optim import layer_of
from clinvit.explain.relevance import _caught, relevance_maps
from clinvit.finetune.adaptation import add_lora, merge_lora
from clinvit.finetune.classifier import Classifier, NearestNeighbours
from clinvit.finetune.multiscale import multiscale_tokens
from clinvit.pretrain.mae import MaskedAutoencoder
from clinvit.pretrain.masking import draw_masks
from clinvit.pretrain.recipe import Decoder

PLAIN = Architecture(width=48, depth=2, heads=3, image_size=(32, 32), patch_size=8, channels=1)
KINDS = {
    "dinov3": replace(PLAIN, positions="none", rotary=Rotary("centred", 100.0, halves=True), registers=4,
                      layer_scale=True, key_bias=False, norm_eps=1e-5),
    "eva02": replace(PLAIN, positions="learned", rotary=Rotary("axial", grid=(16, 16)), gated_mlp=True,
                     activation="silu", mlp_norm=True, attention_norm=True, key_bias=False),
    "rope-vit": replace(PLAIN, positions="none", rotary=Rotary("mixed", 10.0)),
    "uni2": replace(PLAIN, positions="learned", gated_mlp=True, activation="silu", registers=8, layer_scale=True),
    "geglu, registers alone": replace(PLAIN, gated_mlp=True, class_token=False, registers=2),
    "clip": replace(PLAIN, positions="learned", input_norm=True, activation="quick_gelu", qkv_bias=False),
    "aim": replace(PLAIN, positions="learned", norm="rms", patch_norm=True, query_key_norm=True, class_token=False),
    "norm after": replace(PLAIN, positions="learned", norm_after=True),
    "vjepa2": replace(PLAIN, positions="none", rotary=Rotary("clip"), class_token=False, frames=4, tubelet=2),
    "dinov3 of clips": replace(PLAIN, positions="sine1d", rotary=Rotary("centred", 100.0, halves=True), frames=4,
                               tubelet=2),
}  # fmt: skip
kinds = pytest.mark.parametrize("kind", KINDS)
of_images = pytest.mark.parametrize("kind", [kind for kind, arch in KINDS.items() if arch.frames == 1])


def vit_of(arch: Architecture, **options) -> ViT:
    torch.manual_seed(0)
    vit = ViT(arch, **options)
    for parameter in vit.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return vit


def inputs(arch: Architecture, batch: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, 1, *([arch.frames] if arch.frames > 1 else []), *arch.image_size)


@kinds
@pytest.mark.parametrize("recompute", [False, True])
def test_masked_autoencoder_trains_every_weight(kind, recompute):
    arch = KINDS[kind]
    mae = MaskedAutoencoder(vit_of(arch, checkpoint_blocks=recompute), Decoder(32, 1, 2))
    masks = draw_masks(arch.grid, 2, torch.Generator().manual_seed(0), mask="random", mask_ratio=0.5)
    loss = mae(inputs(arch), masks).loss
    loss.backward()
    assert loss.isfinite()
    for name, parameter in mae.encoder.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["dinov3", "eva02", "vjepa2"])
def test_biases_of_keys_that_are_none_stay_so(kind):
    arch = replace(KINDS[kind], key_bias=False)
    vit, x = vit_of(arch).eval(), inputs(arch)
    before = vit(x).patches
    bias = vit.blocks[0].attn.qkv.bias
    bias.data[48:96] += 3.0
    assert torch.equal(vit(x).patches, before)
    vit(x).patches.square().sum().backward()
    assert bias.grad[48:96].abs().sum() == 0 < bias.grad[:48].abs().sum()


@kinds
def test_lora_is_merged_into_the_same_network(kind):
    pytest.importorskip("peft")
    arch = KINDS[kind]
    vit, x = vit_of(arch).eval(), inputs(arch)
    with torch.no_grad():
        plain = vit(x).patches
        add_lora(vit, 2, 2)
        torch.testing.assert_close(vit(x).patches, plain)
        for name, parameter in vit.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
        changed = vit(x).patches
        assert not torch.allclose(changed, plain, atol=1e-3)
        torch.testing.assert_close(merge_lora(vit)(x).patches, changed, atol=1e-5, rtol=1e-4)
    assert set(vit.state_dict()) == set(ViT(arch).state_dict())


@of_images
def test_maps_use_the_weights_that_attention_uses(kind):
    """What the heads give is the weights that explanations show times the values."""
    arch = KINDS[kind]
    model, x = Classifier(vit_of(arch, final_norm=False), 3, "mean").eval(), inputs(arch)
    with _caught(model.encoder) as layers:
        model.encoder(x)
    for layer in layers:
        weights, value = layer.weights()
        torch.testing.assert_close((weights @ value).transpose(1, 2).flatten(2), layer.heads, atol=1e-5, rtol=1e-5)
    for method in ("gradient", "attention"):
        maps = relevance_maps(model, x, torch.tensor([[0, 2], [1, 1]]), method)
        assert maps.shape == (2, 2, 4, 4) and maps.isfinite().all() and maps.sum() > 0
        assert not maps.requires_grad
    torch.testing.assert_close(model.encoder.last_attention(x), layers[-1].weights()[0], atol=1e-5, rtol=1e-5)


@of_images
def test_probes_scales_and_other_sizes(kind):
    arch = KINDS[kind]
    vit, x = vit_of(arch).eval(), torch.randn(2, 1, 64, 64)
    tokens = multiscale_tokens(vit, x, (1, 2))
    assert tokens.patches.shape == (2, 16, 96) and (tokens.cls is not None) == arch.class_token
    assert vit(torch.randn(2, 1, 48, 16)).patches.shape == (2, 12, 48)  # a crop of DINO's
    assert Classifier(vit, 2, "mean", frozen=True, scales=(1, 2))(x).shape == (2, 2)
    neighbours = NearestNeighbours(vit, 2, "mean", 4, scales=(1, 2))
    assert neighbours.features(x).norm(dim=1).allclose(torch.ones(2))


@kinds
def test_last_layers_and_patches_asked_for(kind):
    arch = KINDS[kind]
    vit, x = vit_of(arch).eval(), inputs(arch)
    whole = vit(x)
    torch.testing.assert_close(vit.last_layers(x, 2)[-1].patches, whole.patches)
    order = torch.stack([torch.randperm(whole.patches.shape[1]) for _ in range(2)])
    picked = whole.patches.gather(1, order.unsqueeze(-1).expand(-1, -1, 48))
    torch.testing.assert_close(vit(x, order).patches, picked, atol=1e-5, rtol=1e-4)


@kinds
def test_compiles_without_graph_breaks(kind):
    arch = KINDS[kind]
    explained = torch._dynamo.explain(ViT(arch))(inputs(arch), torch.arange(4).expand(2, -1))
    assert explained.graph_break_count == 0


@kinds
def test_half_precision_keeps_its_type(kind):
    arch = KINDS[kind]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = vit_of(arch).eval()(inputs(arch))
    assert tokens.patches.isfinite().all()


def test_the_first_layer_has_the_lowest_rate():
    assert {layer_of(name, 12) for name in ("rope.freqs", "norm_pre.weight", "patch_embed.norm.weight")} == {0}


@pytest.mark.parametrize(
    "fields, words",
    [({"rotary": Rotary("axial"), "norm_after": True}, "norm what they take in"),
     ({"positions": "none"}, "rotary ones"), ({"norm": "batch"}, "'batch' is none of"),
     ({"activation": "mish"}, "'mish' is none of"),
     ({"norm_eps": -1.0}, "small number"), ({"registers": -1}, "registers are 0 or more"),
     ({"rotary": "axial"}, "described by their kind"), ({"rotary": {"kind": "spiral"}}, "rotary positions are axial"),
     ({"rotary": {"kind": "axial", "base": 0}}, "above 0"), ({"rotary": {"kind": "axial", "grid": (1,)}}, "rows and"),
     ({"resize_mode": "nearest"}, "'nearest' is none of")],
)  # fmt: skip
def test_what_cannot_be_built_says_so(fields, words):
    with pytest.raises(ValueError, match=words):
        replace(PLAIN, **fields)


def test_heads_too_narrow_to_turn():
    with pytest.raises(ValueError, match="multiple of 4 channels"):
        ViT(replace(PLAIN, heads=8, rotary=Rotary("axial")))
