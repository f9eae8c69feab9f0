"""Sources of weights against the peers that write them: the same input gives the same features."""

import json
from dataclasses import replace

import pytest
import safetensors.torch
import timm
import torch
from clinvit.backbone.encoder import EncoderCard, load_encoder, open_reported, open_vit, read_encoder_card, save_encoder
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.backbone.weights import open_checkpoint, recognise
from clinvit.backbone.weights.hub import fetch_vit
from clinvit.core.errors import UserError
from torch import nn

FC_NORM = ("fc_norm.weight", "fc_norm.bias")
SIZES = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
IMAGE = {"image_size": 32, "patch_size": 8, **SIZES}
CLIP = {**IMAGE, "num_frames": 8, "tubelet_size": 2, "intermediate_size": 512}


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def randomised(network: nn.Module) -> nn.Module:
    """Every tensor random, so that none can be forgotten unnoticed."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "position" not in name and "pos_embed" not in name:
                parameter.normal_(std=0.2)
    return network.eval()


def same(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("kind", ["ViTMAEModel", "ViTMAEForPreTraining"])
@torch.no_grad()
def test_hugging_face_mae(transformers, tmp_path, kind):
    config = transformers.ViTMAEConfig(**IMAGE, intermediate_size=512, mask_ratio=0.0, decoder_hidden_size=32,
        decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=64)  # fmt: skip
    theirs = randomised(getattr(transformers, kind)(config))
    theirs.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}')
    vit, card, report = open_reported(tmp_path)
    assert card.mean == (0.5,) * 3 and card.std == (0.2,) * 3 and card.arch.image_size == (32, 32)
    assert all(name.startswith("decoder.") for name in report.left_over)
    assert bool(report.left_over) == (kind == "ViTMAEForPreTraining")
    x, noise = torch.randn(2, 3, 32, 32), torch.arange(16.0).expand(2, -1)
    encoder = theirs if kind == "ViTMAEModel" else theirs.vit
    same(vit(x).sequence(), encoder(x, noise=noise).last_hidden_state)


@pytest.mark.parametrize("kind", ["VideoMAEModel", "VideoMAEForPreTraining", "VideoMAEForVideoClassification"])
@torch.no_grad()
def test_hugging_face_videomae(transformers, tmp_path, kind):
    with_norm = kind == "VideoMAEModel"
    theirs = randomised(
        getattr(transformers, kind)(transformers.VideoMAEConfig(**CLIP, use_mean_pooling=not with_norm))
    )
    theirs.save_pretrained(tmp_path)
    vit, card, report = open_reported(tmp_path)
    assert report.source == "videomae" and (card.arch.frames, card.arch.tubelet) == (8, 2)
    clips = torch.randn(2, 3, 8, 32, 32)
    encoder = theirs if with_norm else theirs.videomae
    same(vit(clips).patches, encoder(clips.transpose(1, 2)).last_hidden_state)
    expected = {"VideoMAEModel": set(), "VideoMAEForVideoClassification": {"fc_norm", "head"}}
    assert {n.split(".")[0] for n in report.left_over} == expected.get(
        kind, {"decoder", "encoder_to_decoder", "mask_token"}
    )
    assert ("no final norm" in str(report)) != with_norm


@pytest.mark.parametrize("registers", [0, 4])
@torch.no_grad()
def test_hugging_face_dinov2(transformers, tmp_path, registers):
    name = "Dinov2WithRegisters" if registers else "Dinov2"
    config = getattr(transformers, f"{name}Config")(**IMAGE)
    theirs = randomised(getattr(transformers, f"{name}Model")(config))
    theirs.save_pretrained(tmp_path)
    vit, card, report = open_reported(tmp_path)
    assert report.source == card.method == "dinov2" and report.left_over == ("mask_token",)
    assert card.arch.layer_scale and card.arch.registers == registers
    x = torch.randn(2, 3, 32, 32)
    expected = theirs(x).last_hidden_state
    tokens = vit(x)
    same(tokens.cls, expected[:, 0])
    same(tokens.patches, expected[:, 1 + registers :])


def small_dinov2(registers: int) -> nn.Module:
    name = f"vit_small_patch14_{'reg4_' if registers else ''}dinov2"
    return randomised(timm.create_model(name, depth=2, embed_dim=128, num_heads=4, img_size=56))


def official(state: dict, registers: int) -> dict:
    """timm's names of DINOv2 as the official files have them."""
    state = {**state, "mask_token": torch.zeros(1, 128)}
    if registers:
        state["register_tokens"] = state.pop("reg_token")
        # Theirs has a position for the class token, timm's is without and adds it to the token.
        position = torch.full((1, 1, 128), 0.3)
        state["cls_token"] = state["cls_token"] - position
        state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    return state


@pytest.mark.parametrize("registers", [0, 4])
@pytest.mark.parametrize("layout", ["timm", "official", "trained in parts"])
@torch.no_grad()
def test_dinov2_file(tmp_path, layout, registers):
    theirs, path = small_dinov2(registers), tmp_path / "x.pth"
    state = theirs.state_dict()
    if layout != "timm":
        state = official(state, registers)
    if layout == "trained in parts":
        state = {name.replace("blocks.", "blocks.0.", 1): value for name, value in state.items()}
        state = {f"backbone.{name}": value for name, value in state.items()}
        state = {"teacher": {**state, "dino_head.mlp.0.weight": torch.zeros(4, 4)}, "iteration": 5}
    torch.save(state, path)
    vit, card, report = open_reported(path)
    assert (report.source, card.arch.registers) == ("timm" if layout == "timm" else "dinov2", registers)
    assert card.arch.layer_scale and card.arch.image_size == (56, 56) and card.arch.patch_size == 14
    x = torch.randn(2, 3, 56, 56)
    expected = theirs.forward_features(x)
    same(vit(x).cls, expected[:, 0])
    same(vit(x).patches, expected[:, 1 + registers :])
    visible = torch.tensor([[3, 0], [9, 14]])
    assert vit(x, visible).patches.shape == (2, 2, 128)
    # The folder made of it is the same ViT, registers and all.
    again, _ = open_vit(save_encoder(tmp_path / "encoder", vit, card))
    assert torch.equal(again(x).sequence(), vit(x).sequence())


@pytest.mark.parametrize(
    "extra", ["blocks.0.attn.gate.weight", "blocks.1.attn.qkv.weight", "patch_embed.norm.bias", "rope.freqs"]
)
def test_what_a_vit_of_ours_would_leave_out_is_refused(tmp_path, extra):
    theirs = timm.models.VisionTransformer(32, 8, 3, embed_dim=128, depth=1, num_heads=4)
    torch.save(theirs.state_dict() | {extra: torch.zeros(1, 1, 128)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"no place|lacks"):
        open_vit(tmp_path / "x.pth")


def test_the_class_token_without_position(tmp_path):
    """DeiT III and others of timm add positions to the patches only."""
    theirs = randomised(
        timm.models.VisionTransformer(32, 8, 3, embed_dim=128, depth=2, num_heads=4, no_embed_class=True)
    )
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "x.safetensors")
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        same(open_vit(tmp_path / "x.safetensors")[0](x).sequence(), theirs.forward_features(x))


@pytest.mark.parametrize("classes, source", [(1000, "mae"), (14, "thorax-mae")])
def test_fine_tuned_mae_by_its_classes(tmp_path, classes, source):
    theirs = timm.models.VisionTransformer(
        32, 8, 3, embed_dim=128, depth=1, num_heads=4, num_classes=classes, global_pool="avg"
    )
    torch.save({"model": theirs.state_dict()}, tmp_path / "x.pth")
    _, card, report = open_reported(tmp_path / "x.pth")
    assert report.source == card.method == source and {"head.weight", "fc_norm.weight"} <= set(report.left_over)
    assert card.mean == ((0.485, 0.456, 0.406) if source == "mae" else (0.5056,) * 3)


def run_checkpoint(tmp_path, vit: ViT, *, before: str = "model.encoder.", more: dict | None = None):
    """A run folder with the Lightning checkpoint of a training of `vit`."""
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    path = tmp_path / "run/checkpoints/last.ckpt"
    state = {before + name: value for name, value in vit.state_dict().items()} | (more or {})
    torch.save({"pytorch-lightning_version": "2.6", "epoch": 3, "state_dict": state, "optimizer_states": []}, path)
    arch = vit.arch
    recipe = {"model": {"image_size": arch.image_size[0], "frames": arch.frames}, "data": {"mean": [0.4], "std": [0.2]}}
    (tmp_path / "run/recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    return path


@pytest.mark.parametrize("kept", ["model.", "ema.module.", "teacher."])
def test_checkpoint_of_a_run_of_ours(tmp_path, kept):
    arch = Architecture(128, 2, 4, image_size=(32, 32), patch_size=8, frames=4, tubelet=2, class_token=False,
                        positions="sine1d")  # fmt: skip
    vit = ViT(arch).eval()
    more = {f"{kept}head.weight": torch.zeros(2, 2)}
    if kept != "model.":
        more |= {f"model.encoder.{name}": torch.full_like(value, 9.0) for name, value in vit.state_dict().items()}
    found, card, report = open_reported(run_checkpoint(tmp_path, vit, before=f"{kept}encoder.", more=more))
    assert report.source == "clinvit" and report.left_over == ("head.weight",)
    assert (card.arch.image_size, card.arch.frames, card.mean, card.std) == ((32, 32), 4, (0.4,), (0.2,))
    x = torch.randn(1, 1, 4, 32, 32)
    with torch.no_grad():
        assert torch.equal(found(x).patches, vit(x).patches)


def test_checkpoint_of_a_run_that_trained_no_vit(tmp_path):
    path = run_checkpoint(tmp_path, ViT(Architecture(128, 1, 4, image_size=(32, 32))))
    (tmp_path / "run/recipe.yaml").write_text(
        "network: resnet18\nmodel: {image_size: 32, frames: 1}\ndata: {mean: [0], std: [1]}"
    )
    with pytest.raises(UserError, match="trains resnet18"):
        open_vit(path)
    (tmp_path / "run/recipe.yaml").write_text("model: 3")
    with pytest.raises(UserError, match="not the recipe"):
        open_vit(path)


def test_old_encoder_cards_still_load(tmp_path):
    vit = ViT(Architecture(128, 1, 4, image_size=(32, 32), patch_size=8))
    folder = save_encoder(tmp_path, vit, EncoderCard(vit.arch, (0.5,), (0.25,)))
    card = json.loads((folder / "encoder.json").read_text())
    assert card["arch"].pop("layer_scale") is False and card["arch"].pop("registers") == 0
    (folder / "encoder.json").write_text(json.dumps(card))
    assert read_encoder_card(folder).arch == vit.arch


def test_registers_without_a_class_token():
    vit = ViT(Architecture(128, 1, 4, image_size=(32, 32), class_token=False, registers=4))
    tokens = vit(torch.randn(2, 1, 32, 32))
    assert tokens.cls is None and tokens.patches.shape == (2, 4, 128)


@pytest.mark.parametrize(
    "text, words",
    [("{", "not readable JSON"), ("[]", "no mapping"), ('{"model_type": "bert"}', "model_type 'bert'"),
     ('{"model_type": "vit_mae"}', "image_size")],
)  # fmt: skip
def test_a_bad_folder_of_hugging_face(tmp_path, text, words):
    (tmp_path / "config.json").write_text(text)
    safetensors.torch.save_file({"a": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=words):
        open_vit(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no such file"):
        open_vit(tmp_path)


def test_a_probe_of_features_without_a_norm_says_why(golden, tmp_path):
    """Fine-tuned with the mean of unnormed tokens, VideoMAE has no final norm."""
    torch.save({"module": golden("videomae_v2_classifier_mean").state}, tmp_path / "x.pth")
    found = open_checkpoint(tmp_path / "x.pth", heads=3)
    assert recognise(golden("videomae_v2_classifier_mean").state) == "videomae"
    assert any("16 frames of 224 px" in text for text in found.named.adapted)
    with pytest.raises(UserError, match="pools the mean of unnormed tokens"):
        load_encoder(ViT(found.arch), tmp_path / "x.pth")
    load_encoder(ViT(replace(found.arch, frames=8, image_size=(32, 32)), final_norm=False), tmp_path / "x.pth")


@pytest.mark.parametrize("name", ["timm:vit_small_patch16_224", "hf-hub:owner/name"])
def test_names_are_fetched_by_convert_alone(name):
    with pytest.raises(UserError, match=f"clinvit weights convert {name}"):
        open_vit(name)


def small_network(name: str, pretrained: bool, num_classes: int = 0, **_) -> nn.Module:
    """What timm would make of a few names, small and random."""
    assert pretrained
    torch.manual_seed(0)
    if name == "resnet18":
        return timm.models.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=0)
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 2, "num_classes": num_classes}
    special = {
        "vit_base_patch16_clip_224": {"pre_norm": True},
        "vit_base_patch16_224": {"act_layer": nn.ReLU},
        "vit_base_patch16_xp_224": {"block_fn": timm.models.vision_transformer.ParallelScalingBlock},
        "vit_wee_patch16_reg1_gap_256": {"attn_layer": "diff"},
        "vit_base_patch32_224": {"act_layer": nn.Mish},
        "hf-hub:owner/name": {"global_pool": "avg", "class_token": False},
    }
    network = randomised(timm.models.VisionTransformer(**sizes, **special.get(name, {})))
    network.pretrained_cfg = {"input_size": (3, 32, 32), "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    return network


@pytest.mark.parametrize(
    "name",
    ["timm:vit_small_patch16_224", "hf-hub:owner/name", "timm:vit_base_patch16_clip_224", "timm:vit_base_patch16_224"],
)
def test_a_vit_of_timm_by_its_name(monkeypatch, name):
    monkeypatch.setattr(timm, "create_model", small_network)
    vit, found, report = fetch_vit(name)
    assert (found.mean, found.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    # Two heads of 64: the network says so, its width does not.
    assert vit.arch.heads == 2 and vit.arch.image_size == (32, 32) and report.left_over in ((), FC_NORM)
    theirs, x = small_network(name.removeprefix("timm:"), True), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        same(vit(x).sequence(), theirs.forward_features(x))


@pytest.mark.parametrize(
    "name, words",
    [("resnet18", "a ResNet, not a plain ViT"), ("vit_base_patch16_xp_224", "attention and MLP side by side"),
     ("vit_wee_patch16_reg1_gap_256", "differential attention"), ("vit_base_patch32_224", "its activation is Mish"),
     ("vit_of_nobody", "timm knows no such network")],
)  # fmt: skip
def test_what_of_timm_cannot_be_converted(monkeypatch, name, words):
    monkeypatch.setattr(timm, "create_model", small_network)
    with pytest.raises(UserError, match=words):
        fetch_vit(f"timm:{name}")


def test_a_name_without_a_network(monkeypatch):
    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"could not be had \(no route to host\)") as caught:
        fetch_vit("hf-hub:owner/name")
    assert "\n" not in str(caught.value)
