"""Weights in: every source's layout, the leftover report, and files that must be refused."""

import argparse
import os

import pytest
import safetensors.torch
import timm
import torch
from clinvit.backbone.encoder import EncoderCard, load_encoder, read_encoder_card, save_encoder
from clinvit.backbone.positions import position_table, resize_positions
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.backbone.weights import fold_channels, infer_architecture, inflate, load_into, read_checkpoint
from clinvit.core.errors import UserError
from clinvit.finetune.classifier import Classifier


def arch(**fields) -> Architecture:
    defaults = {"width": 48, "depth": 2, "heads": 3, "image_size": (32, 32), "patch_size": 8, "channels": 3}
    return Architecture(**(defaults | fields))


def save(path, content):
    torch.save(content, path)
    return path


def test_official_mae_file_with_its_namespace(golden, tmp_path):
    ref = golden("mae_image_norm0")
    content = {
        "model": ref.state,
        "args": argparse.Namespace(model="mae_vit"),
        "epoch": 3,
        "scaler": {"scale": 1.0},
    }
    path = save(tmp_path / "mae.pth", content)
    vit = ViT(arch()).eval()
    report = load_encoder(vit, path)
    assert report.source == "mae"
    assert all(name.startswith(("decoder_", "mask_token")) for name in report.left_over)
    noise = ref.inputs["noise"].argsort(1)[:, :4]
    with torch.no_grad():
        latent = vit(ref.inputs["images"], noise).sequence()
    torch.testing.assert_close(latent, ref.outputs["latent"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wrapper", ["model", "state_dict", None])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_wrappers_and_prefixes_come_off(golden, tmp_path, wrapper, prefix):
    state = {prefix + name: value for name, value in golden("mae_image_norm0").state.items()}
    path = save(tmp_path / "x.pth", {wrapper: state} if wrapper else state)
    assert load_encoder(ViT(arch()), path).source == "mae"


def test_timm_file(tmp_path):
    theirs = timm.models.VisionTransformer(32, 8, 3, num_classes=5, embed_dim=48, depth=2, num_heads=3)
    path = tmp_path / "timm.safetensors"
    safetensors.torch.save_file(theirs.state_dict(), path)
    report = load_encoder(ViT(arch(positions="learned")), path)
    assert report.source == "timm" and set(report.left_over) == {"head.weight", "head.bias"}
    assert "head.* (2)" in str(report)


def dino_file(state: dict, wrapping: str) -> dict:
    """The golden network as DINO's (and Self-ViT-MIL's) files hold it."""
    other = {name: torch.full_like(value, 9.0) for name, value in state.items()}
    student = {f"module.{name}": value for name, value in (state if wrapping == "student" else other).items()}
    rest = {
        "optimizer": {"state": {}}, "epoch": 3, "args": argparse.Namespace(arch="vit_small"),
        "dino_loss": {"center": torch.zeros(1, 64)}, "fp16_scaler": {"scale": 2.0},
    }  # fmt: skip
    if wrapping == "student":
        return {"student": student} | rest
    prefix = "module." if wrapping == "wrapped teacher" else ""
    return {"student": student, "teacher": {prefix + name: value for name, value in state.items()}} | rest


@pytest.mark.parametrize("wrapping", ["teacher", "wrapped teacher", "student"])
def test_official_dino_file(golden, tmp_path, wrapping):
    """The teacher is what counts; its positions are resampled as DINO does it."""
    ref = golden("dino_vit")
    path = save(tmp_path / "checkpoint.pth", dino_file(ref.state, wrapping))
    state = read_checkpoint(path)
    vit = ViT(infer_architecture(state, heads=3)).eval()
    report = load_encoder(vit, path)
    assert report.source == "dino" and vit.arch.resize_offset == 0.1 and vit.arch.positions == "learned"
    assert report.loaded == len(vit.state_dict()) and all(name.startswith("head.") for name in report.left_over)
    with torch.no_grad():
        for images, cls in (("images", "cls"), ("local_crops", "cls_local")):
            torch.testing.assert_close(vit(ref.inputs[images]).cls, ref.outputs[cls], atol=1e-5, rtol=1e-5)


def test_dino_backbone_alone(golden, tmp_path):
    """The flat files have timm's names and no others: the source cannot be told, the weights are the same."""
    ref = golden("dino_vit")
    flat = {n.removeprefix("backbone."): v for n, v in ref.state.items() if n.startswith("backbone.")}
    vit = ViT(arch(positions="learned")).eval()
    report = load_encoder(vit, save(tmp_path / "dino_pretrain.pth", flat))
    assert report.source == "timm" and not report.left_over
    with torch.no_grad():
        torch.testing.assert_close(vit(ref.inputs["images"]).cls, ref.outputs["cls"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["videomae_v2_classifier_mean", "videomae_v2_classifier_first"])
def test_videomae_file_comes_into_the_same_vit(golden, name):
    ref = golden(name)
    mean = ref.meta["use_mean_pooling"]
    clip = arch(frames=8, tubelet=2, class_token=False, positions="sine1d")
    vit = ViT(clip, final_norm=not mean).eval()
    report = load_into(vit, ref.state)
    assert report.source == "videomae"
    with torch.no_grad():
        tokens = vit(next(iter(ref.inputs.values()))).patches
    pooled = tokens.mean(1) if mean else tokens[:, 0]
    if mean:
        weight, bias = ref.state["fc_norm.weight"], ref.state["fc_norm.bias"]
        pooled = torch.nn.functional.layer_norm(pooled, (48,), weight, bias, 1e-6)
    logits = pooled @ ref.state["head.weight"].T + ref.state["head.bias"]
    torch.testing.assert_close(
        logits, next(v for v in ref.outputs.values() if v.shape == logits.shape), atol=1e-5, rtol=1e-5
    )


def test_positions_are_resampled_and_channels_folded(golden):
    state = golden("mae_image_norm0").state
    vit = ViT(arch(channels=1, image_size=(48, 64))).eval()
    report = load_into(vit, state)
    assert any("resampled from 1x4x4 to 1x6x8" in text for text in report.adapted)
    assert any("folded to 1 channel" in text for text in report.adapted)
    # One channel on the folded weights equals three equal channels on the original ones.
    three, one = ViT(arch()).eval(), ViT(arch(channels=1)).eval()
    load_into(three, state)
    load_into(one, state)
    grey = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        expected = three(grey.expand(-1, 3, -1, -1)).sequence()
        torch.testing.assert_close(one(grey).sequence(), expected, atol=1e-5, rtol=1e-5)
    weight = state["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(fold_channels(fold_channels(weight, 3), 1), weight)
    torch.testing.assert_close(inflate(weight, 2).sum(2), weight)


def test_architecture_is_read_from_shapes(golden):
    state = golden("mae_image_norm0").state
    with pytest.raises(UserError, match="how many attention heads"):
        infer_architecture(state)
    found = infer_architecture(state, heads=3)
    assert (found.width, found.depth, found.image_size, found.patch_size, found.channels) == (
        48,
        2,
        (32, 32),
        8,
        3,
    )


def test_encoder_folder_round_trip(tmp_path):
    vit = ViT(arch(channels=1, image_size=(32, 48)))
    card = EncoderCard(vit.arch, (0.5,), (0.25,), method="mae", recipe={"a": 1}, data={"cases": 7})
    save_encoder(tmp_path / "encoder", vit, card)
    assert read_encoder_card(tmp_path / "encoder") == card
    again = ViT(vit.arch)
    load_encoder(again, tmp_path / "encoder")
    for a, b in zip(vit.parameters(), again.parameters()):
        assert torch.equal(a, b)


class Malicious:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("where", [lambda bad: bad, lambda bad: {"model": {}, "args": bad}])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, where):
    marker = tmp_path / "owned"
    path = save(tmp_path / "bad.pth", where(Malicious(marker)))
    with pytest.raises(UserError, match="asks to run"):
        read_checkpoint(path)
    assert not marker.exists()


def _truncated(path, tmp_path):
    save(path, {"model": {"a": torch.zeros(1000)}})
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda path, _: None, "no such file"),
        (lambda path, _: path.write_text("hello"), "not a readable"),
        (lambda path, _: path.write_bytes(b""), "not a readable"),
        (_truncated, "not a readable"),
        (lambda path, _: torch.save({"epoch": 3}, path), "holds no weights"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_checkpoint_says_so(tmp_path, make, words, suffix):
    path = tmp_path / f"x{suffix}"
    make(path, tmp_path)
    if suffix == ".safetensors" and words == "holds no weights":
        safetensors.torch.save_file({}, path)
    with pytest.raises(UserError, match=words):
        read_checkpoint(path)


def test_wrong_width_and_depth_say_so(golden):
    state = golden("mae_image_norm0").state
    with pytest.raises(UserError, match="Choose the model size"):
        load_into(ViT(arch(width=96)), state)
    with pytest.raises(UserError, match=r"lacks 12 of .*blocks\.\* \(12\)"):
        load_into(ViT(arch(depth=3)), state)
    with pytest.raises(UserError, match="has 2 blocks, the model 1"):
        load_into(ViT(arch(depth=1)), state)


def test_equals_hugging_face_on_clips(hugging_face_video):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=8, num_channels=3, num_frames=8, tubelet_size=2, hidden_size=48, num_hidden_layers=2,
        num_attention_heads=3, intermediate_size=192, layer_norm_eps=1e-6, num_labels=5,
    )  # fmt: skip
    theirs = transformers.VideoMAEForVideoClassification(config).eval()
    for name, parameter in theirs.named_parameters():
        if name.endswith("bias") or "classifier" in name:
            torch.nn.init.normal_(parameter)
    clip = {"frames": 8, "tubelet": 2, "class_token": False, "positions": "sine1d"}
    ours = Classifier(ViT(arch(**clip), final_norm=False), 5).eval()
    state = {name.removeprefix("encoder."): value for name, value in hugging_face_video(theirs.state_dict()).items()}
    report = load_into(ours.encoder, state)
    assert set(report.left_over) == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
    for part in ("fc_norm", "head"):
        getattr(ours, part).load_state_dict({name: state[f"{part}.{name}"] for name in ("weight", "bias")})
    clips = torch.randn(2, 3, 8, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(clips), theirs(clips.transpose(1, 2)).logits, atol=1e-5, rtol=1e-5)


def test_another_length_and_size_resample_the_table_of_flat_positions(golden):
    """VideoMAE's files hold no positions, and a flat index means another place on another grid."""
    clip = {"tubelet": 2, "class_token": False, "positions": "sine1d", "channels": 3}
    vit = ViT(Architecture(48, 2, 3, image_size=(48, 32), patch_size=8, frames=12, **clip), final_norm=False)
    report = load_into(vit, golden("videomae_v2_classifier_mean").state, grid=(4, 4, 4))
    assert any("from 4x4x4 to 6x6x4" in text for text in report.adapted)
    expected = resize_positions(position_table("sine1d", (4, 4, 4), 48), (4, 4, 4), (6, 6, 4))
    torch.testing.assert_close(vit.pos_embed[0], expected)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"model": state, "args": argparse.Namespace(model="pretrain_videomae"), "epoch": 1},
        lambda state: {"module": {f"_orig_mod.{name}": value for name, value in state.items()}},
        lambda state: {"module": {f"module.{name}": value for name, value in state.items()}},
        lambda state: state,
    ],
    ids=["own", "deepspeed, compiled", "deepspeed, wrapped", "bare"],
)
def test_official_videomae_pretraining_files(golden, tmp_path, wrap):
    ref = golden("videomae_v2_pretrain")
    path = save(tmp_path / "checkpoint.pth", wrap(ref.state))
    clip = {"frames": 8, "tubelet": 2, "class_token": False, "positions": "sine1d"}
    vit = ViT(arch(**clip)).eval()
    report = load_into(vit, read_checkpoint(path), grid=(4, 4, 4))
    assert report.source == "videomae" and report.loaded == len(vit.state_dict())
    assert all(name.startswith(("decoder.", "encoder_to_decoder.", "mask_token")) for name in report.left_over)
    visible = (~ref.inputs["encoder_mask"]).nonzero()[:, 1].view(2, -1)
    with torch.no_grad():
        latent = vit(ref.inputs["video"], visible).patches
    torch.testing.assert_close(latent, ref.outputs["encoder"], atol=1e-5, rtol=1e-5)


def test_official_videomae_finetuned_file_with_a_backbone_prefix(golden, tmp_path):
    ref = golden("videomae_v2_classifier_mean")
    path = save(tmp_path / "distilled.pth", {"module": {f"backbone.{name}": v for name, v in ref.state.items()}})
    vit = ViT(arch(frames=8, tubelet=2, class_token=False, positions="sine1d"), final_norm=False)
    report = load_into(vit, read_checkpoint(path), grid=(4, 4, 4))
    assert set(report.left_over) == {"fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"}
