"""Files and folders of weights as others leave them: pointers, shards, prefixes, metadata, what they do not say."""

import json

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from clinvit.backbone.encoder import EncoderCard, fingerprint, open_reported, open_vit, save_encoder
from clinvit.backbone.public import encoder_place
from clinvit.backbone.sizes import Architecture, Rotary
from clinvit.backbone.vit import ViT
from clinvit.backbone.weights import open_checkpoint, read_checkpoint
from clinvit.backbone.weights.reading import read_folder
from clinvit.backbone.weights.said import Said
from clinvit.cli import main
from clinvit.core.errors import UserError

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 343000000\n"


def network(**options):
    torch.manual_seed(0)
    return timm.models.VisionTransformer(
        **({"img_size": 32, "patch_size": 8, "embed_dim": 128, "depth": 2, "num_heads": 4, "num_classes": 0} | options)
    )


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "folder/pytorch_model.bin"])
def test_a_pointer_of_git_lfs_is_named(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(POINTER)
    (tmp_path / "folder").mkdir(exist_ok=True)
    (tmp_path / "folder/config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match="Git LFS pointer"):
        open_vit(path.parent if "folder" in name else path)


def test_numbers_of_numpy_in_metadata_are_no_code(tmp_path):
    metadata = {"best": np.float64(0.83), "epoch": np.int64(3), "ok": np.bool_(True), "curve": np.arange(5.0),
                "rates": [np.float32(1e-3)], "kind": np.dtype("float16")}  # fmt: skip
    torch.save({"model": network().state_dict(), **metadata}, tmp_path / "x.pth")
    assert "blocks.0.norm1.weight" in read_checkpoint(tmp_path / "x.pth")


class Arrays:
    """Asks for an array of another class or size than NumPy's own pickles do."""

    def __reduce__(self):
        return np._core.multiarray._reconstruct, (np.ndarray, (10**12,), b"d")


def test_an_array_that_asks_for_memory_gets_none(tmp_path):
    torch.save({"model": network().state_dict(), "x": Arrays()}, tmp_path / "x.pth")
    assert "pos_embed" in read_checkpoint(tmp_path / "x.pth")


class Objects:
    def __reduce__(self):
        return np.load, ("/etc/passwd", None, True)


def test_other_functions_of_numpy_are_code(tmp_path):
    torch.save({"model": network().state_dict(), "x": Objects()}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="asks to run"):
        read_checkpoint(tmp_path / "x.pth")


@pytest.mark.parametrize(
    "before",
    ["module.momentum_encoder.", "student_backbone.vit.", "visual.trunk.", "module.visual.trunk.", "net.enc.",
     "encoder.", "target_encoder.module."],
)  # fmt: skip
def test_prefixes_are_found(tmp_path, before):
    state = network().state_dict()
    torch.save({"state_dict": {before + name: value for name, value in state.items()} | {"logit_scale": torch.ones(1)}},
               tmp_path / "x.pth")  # fmt: skip
    found = read_checkpoint(tmp_path / "x.pth")
    assert set(found) == {*state, "logit_scale"}


@pytest.mark.parametrize("slow", ["module.momentum_encoder.", "teacher_backbone.vit.", "ema.module."])
def test_of_two_networks_the_slow_one_is_kept(tmp_path, slow):
    state, other = network().state_dict(), "module.base_encoder."
    both = {other + name: torch.full_like(value, 9.0) for name, value in state.items()}
    torch.save(both | {slow + name: value for name, value in state.items()}, tmp_path / "x.pth")
    assert torch.equal(read_checkpoint(tmp_path / "x.pth")["pos_embed"], state["pos_embed"])


def test_of_several_networks_the_user_says_which(tmp_path, capsys):
    state = network().state_dict()
    one, two = ({f"{side}.{name}": value + i for name, value in state.items()} for i, side in enumerate(("a", "b")))
    torch.save(one | two, tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"several ViTs, behind a\., b\.: say which with --prefix"):
        open_vit(tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"no ViT behind it; the checkpoint has these: a\., b\."):
        open_reported(tmp_path / "x.pth", Said(prefix="c"))
    vit, _, report = open_reported(tmp_path / "x.pth", Said(prefix="b"))
    assert torch.equal(vit.pos_embed, state["pos_embed"] + 1) and all(name[:2] == "a." for name in report.left_over)
    assert main(["weights", "inspect", str(tmp_path / "x.pth"), "--prefix", "a"]) == 0
    assert "width 128" in capsys.readouterr().out


def test_jepa_keeps_its_target_encoder(tmp_path):
    state = network(class_token=False, global_pool="avg", fc_norm=False).state_dict()
    other = {f"module.{name}": torch.full_like(value, 9.0) for name, value in state.items()}
    torch.save({"encoder": other, "target_encoder": {f"module.{n}": v for n, v in state.items()}, "epoch": 3},
               tmp_path / "x.pth")  # fmt: skip
    assert torch.equal(open_vit(tmp_path / "x.pth")[0].pos_embed, state["pos_embed"])


def test_names_of_open_clip(tmp_path):
    theirs = network(pre_norm=True, act_layer="quick_gelu").eval()
    state = theirs.state_dict()
    back = (("patch_embed.proj.", "conv1."), ("norm_pre.", "ln_pre."), ("blocks.", "transformer.resblocks."),
            (".norm1.", ".ln_1."), (".norm2.", ".ln_2."), (".attn.qkv.", ".attn.in_proj_"), (".proj.", ".out_proj."),
            (".mlp.fc1.", ".mlp.c_fc."), (".mlp.fc2.", ".mlp.c_proj."), ("norm.", "ln_post."))  # fmt: skip
    out = {
        "visual.positional_embedding": state.pop("pos_embed")[0],
        "visual.class_embedding": state.pop("cls_token")[0, 0],
    }
    for name, value in state.items():
        for ours, named in back:
            name = name.replace(ours, named) if ours != "norm." or name.startswith("norm.") else name
        out[f"visual.{name}"] = value
    torch.save(
        out | {"visual.proj": torch.zeros(128, 64), "token_embedding.weight": torch.zeros(4, 4)}, tmp_path / "x.pt"
    )
    vit, card, report = open_reported(tmp_path / "x.pt", Said(heads=4))
    assert report.source == "clip" and card.mean[0] == pytest.approx(0.4815, abs=1e-4)
    assert "quick_gelu" in str(report) and set(report.left_over) == {"proj", "token_embedding.weight"}
    assert vit.arch.input_norm and vit.arch.norm_eps == 1e-5


def hugging_face(tmp_path, kind="ViTModel", shard="50GB", as_bin=False):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=4, image_size=[32, 48],
                                    patch_size=8, intermediate_size=256)  # fmt: skip
    theirs = getattr(transformers, kind)(config).eval()
    theirs.save_pretrained(tmp_path, max_shard_size=shard)
    if as_bin:
        state = safetensors.torch.load_file(tmp_path / "model.safetensors")
        torch.save(state, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    return theirs


@pytest.mark.parametrize("shard, as_bin", [("50GB", False), ("300KB", False), ("50GB", True)])
@torch.no_grad()
def test_folders_of_one_file_shards_and_pickles(tmp_path, shard, as_bin):
    """Of a rectangular grid, which the configuration tells."""
    theirs = hugging_face(tmp_path, shard=shard, as_bin=as_bin)
    assert bool(list(tmp_path.glob("*-of-*"))) == (shard == "300KB")
    vit, card, report = open_reported(tmp_path)
    assert card.arch.image_size == (32, 48) and card.arch.norm_eps == 1e-12 and report.source == "vit"
    x = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(vit(x).sequence(), theirs(x).last_hidden_state, atol=1e-5, rtol=1e-5)
    first = fingerprint(tmp_path)
    files = sorted(tmp_path.glob("*.safetensors")) or [tmp_path / "pytorch_model.bin"]
    files[-1].write_bytes(files[-1].read_bytes() + b" ")
    assert fingerprint(tmp_path) != first


def test_shards_that_lie_elsewhere_or_nowhere(tmp_path):
    hugging_face(tmp_path, shard="300KB")
    index = tmp_path / "model.safetensors.index.json"
    found = json.loads(index.read_text())
    name = sorted(set(found["weight_map"].values()))[0]
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"its shard {name} is missing"):
        open_vit(tmp_path)
    found["weight_map"] = {"a": "../secret.safetensors"}
    index.write_text(json.dumps(found))
    with pytest.raises(UserError, match="names no shards beside it"):
        open_vit(tmp_path)


@pytest.mark.parametrize("to", ["timm", "huggingface"])
@torch.no_grad()
def test_a_rectangular_encoder_comes_back(tmp_path, to):
    arch = Architecture(128, 2, 4, image_size=(32, 48), patch_size=8, channels=3, norm_eps=1e-5)
    torch.manual_seed(0)
    vit = ViT(arch).eval()
    save_encoder(tmp_path / "encoder", vit, EncoderCard(arch, (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)))
    assert main(["export", str(tmp_path / "encoder"), "--to", to, "--out", str(tmp_path / "out")]) == 0
    back, card, report = open_reported(tmp_path / "out" / "model.safetensors" if to == "timm" else tmp_path / "out")
    assert card.arch.image_size == (32, 48) and card.mean == (0.5, 0.4, 0.3) and not card.assumed_statistics
    assert "does not say" not in str(report) and card.arch.norm_eps == 1e-5
    x = torch.randn(2, 3, 32, 48)
    torch.testing.assert_close(back(x).sequence(), vit(x).sequence(), atol=1e-5, rtol=1e-5)


def test_a_rectangular_file_alone_asks_for_its_size(tmp_path):
    theirs = network(img_size=(32, 40)).eval()
    torch.save(theirs.state_dict(), tmp_path / "x.pth")
    with pytest.raises(UserError, match="say which input it is for, --size"):
        open_vit(tmp_path / "x.pth")
    said = ["--size", "32x40", "--mean", "0.4", "--std", "0.1,0.2,0.3", "--out", str(tmp_path / "out")]
    assert main(["weights", "convert", str(tmp_path / "x.pth"), *said]) == 0
    vit, card = open_vit(tmp_path / "out")
    assert (card.mean, card.std, card.assumed_statistics) == ((0.4,) * 3, (0.1, 0.2, 0.3), False)
    x = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        torch.testing.assert_close(vit(x).sequence(), theirs.forward_features(x), atol=1e-5, rtol=1e-5)


def test_a_file_of_hugging_face_alone_has_a_position_for_its_class_token(tmp_path):
    """25 positions are those of 4 x 6 patches and the token, never of 5 x 5 patches."""
    hugging_face(tmp_path)
    with pytest.raises(UserError, match="say which input it is for, --size"):
        open_vit(tmp_path / "model.safetensors")
    vit, _, report = open_reported(tmp_path / "model.safetensors", Said(image_size=(32, 48), heads=4))
    assert vit.arch.grid[-2:] == (4, 6) and "zero position" not in str(report)


@pytest.mark.parametrize(
    "option, value, words",
    [("--size", "0x3", "height and width"), ("--size", "a", "height and width"), ("--mean", "x", "one number"),
     ("--mean", "1,2", "one number"), ("--std", "0", "above 0"), ("--heads", "0", "from 1 on"),
     ("--heads", "5", "multiple of heads"), ("--like", "vit_smal_patch16_224", "did you mean vit_small_patch16_224"),
     ("--like", "resnet18", "a ResNet, not a plain ViT")],
)  # fmt: skip
def test_what_is_said_wrongly(tmp_path, capsys, option, value, words):
    torch.save(network().state_dict(), tmp_path / "x.pth")
    assert main(["weights", "inspect", str(tmp_path / "x.pth"), option, value]) == 2
    assert words in capsys.readouterr().err


def test_inspect_prints_the_statistics_and_who_says_them(tmp_path, capsys):
    torch.save(network().state_dict(), tmp_path / "x.pth")
    assert main(["weights", "inspect", str(tmp_path / "x.pth")]) == 0
    said = capsys.readouterr().out
    assert "mean 0.485, 0.456, 0.406" in said and "the file states none" in said and "set --mean and --std" in said
    assert main(["weights", "inspect", str(tmp_path / "x.pth"), "--mean", "0.5", "--std", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5" in said and "states none" not in said


def test_what_is_said_of_an_encoder_folder_is_refused(tmp_path):
    vit = ViT(Architecture(128, 1, 4, image_size=(32, 32)))
    save_encoder(tmp_path, vit, EncoderCard(vit.arch, (0.5,), (0.5,)))
    with pytest.raises(UserError, match="an encoder folder, whose card says all"):
        open_reported(tmp_path, Said(heads=4))


def clips(**parts) -> dict:
    """The tensors of a ViT of clips without positions."""
    vit = ViT(Architecture(128, 2, 4, image_size=(32, 32), patch_size=8, frames=4, tubelet=2, channels=3,
                           class_token=False, positions="sine1d"))  # fmt: skip
    return {name: value for name, value in vit.state_dict().items() if name != "pos_embed"} | parts


def test_without_positions_only_query_and_value_biases_are_videomae(tmp_path):
    state = clips()
    torch.save(state, tmp_path / "jepa.pth")
    found = open_checkpoint(tmp_path / "jepa.pth")
    assert found.named.source.name == "vjepa2" and found.arch.positions == "none"
    assert found.arch.rotary == Rotary("clip") and any("V-JEPA 2" in text for text in found.named.adapted)
    for i in range(2):
        bias = state.pop(f"blocks.{i}.attn.qkv.bias")
        state |= {f"blocks.{i}.attn.q_bias": bias[:128], f"blocks.{i}.attn.v_bias": bias[256:]}
    torch.save(state, tmp_path / "videomae.pth")
    found = open_checkpoint(tmp_path / "videomae.pth")
    assert found.named.source.name == "videomae" and (found.arch.positions, found.arch.rotary) == ("sine1d", None)


def test_images_without_positions_are_not_guessed(tmp_path):
    """RoPE files were loaded as sine tables."""
    state = {name: value for name, value in network().state_dict().items() if name != "pos_embed"}
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(UserError, match="no positions, and is of no kind known to have none"):
        open_vit(tmp_path / "x.pth")


@pytest.mark.parametrize("classes, source, mean", [(5, "mae", 0.485), (14, "thorax-mae", 0.5056), (1000, "mae", 0.485)])
def test_only_fourteen_findings_are_the_thorax_paper(tmp_path, classes, source, mean):
    state = network(num_classes=classes, global_pool="avg").state_dict()
    torch.save(state, tmp_path / "x.pth")
    _, card, report = open_reported(tmp_path / "x.pth")
    assert card.method == source and card.mean[0] == mean and card.assumed_statistics
    assert ("14 classes taken for the findings" in str(report)) == (classes == 14)


@pytest.mark.parametrize(
    "name, words",
    [("beit_base_patch16_224", "relative position biases"), ("swin_tiny_patch4_window7_224", "windows and stages"),
     ("vitamin_small_224", "a convolutional network before its blocks"), ("resnet18", "convolutions"),
     ("convnext_atto", "stages of convolutions"), ("vit_base_patch16_xp_224", "attention and MLP side by side"),
     ("samvit_base_patch16", "relative positions and windows")],
)  # fmt: skip
def test_other_kinds_of_networks_are_named(tmp_path, name, words):
    """By names alone: no tensor of a real size is needed."""
    with torch.device("meta"):
        state = timm.create_model(name, num_classes=0).state_dict()
    torch.save({key: torch.zeros(1) for key in state}, tmp_path / "x.pth")
    with pytest.raises(UserError, match=words):
        open_vit(tmp_path / "x.pth")


def timm_folder(tmp_path, theirs, architecture, **config):
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": architecture, **config}))


@pytest.mark.parametrize("gated", [False, True])
@torch.no_grad()
def test_a_folder_of_timms_hub(tmp_path, gated):
    """As H-optimus, UNI2-h and Virchow2 are published: a name, and arguments; SwiGLU only in their users' code."""
    arguments = {"img_size": 32, "patch_size": 8, "init_values": 1e-5, "reg_tokens": 2, "no_embed_class": True}
    parts = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU} if gated else {}
    theirs = network(**arguments, **parts, num_heads=8).eval()
    torch.nn.init.normal_(theirs.blocks[0].ls2.gamma)
    settings = {"input_size": [3, 32, 32], "mean": [0.7, 0.57, 0.7], "std": [0.21, 0.23, 0.17]}
    given = {**arguments, "num_heads": 8, "mlp_ratio": 4.0, "global_pool": "token"}
    timm_folder(tmp_path, theirs, "vit_giant_patch14_224", model_args=given, pretrained_cfg=settings)
    vit, card, report = open_reported(tmp_path)
    assert (card.arch.heads, card.arch.registers, card.mean) == (8, 2, (0.7, 0.57, 0.7))
    assert not card.assumed_statistics and "does not say" not in str(report)
    assert (card.arch.gated_mlp, "gated: activation silu" in str(report)) == (gated, gated)
    x = torch.randn(1, 3, 32, 32)
    found = theirs.forward_features(x)
    torch.testing.assert_close(vit(x).patches, found[:, 3:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "config, words",
    [({"architecture": "vit_of_nobody"}, "timm knows no network"),
     ({"architecture": "resnet18"}, "a ResNet, not a plain ViT"),
     ({"architecture": "vit_small_patch16_224", "model_args": {"block_fn": "x"}}, "'block_fn' is not understood"),
     ({"architecture": "vit_small_patch16_224", "model_args": {"reg_tokens": 10**9}}, "1000000000 registers"),
     ({"architecture": "vit_small_patch16_224", "model_args": 3}, "no mapping")],
)  # fmt: skip
def test_a_bad_folder_of_timm(tmp_path, config, words):
    timm_folder(tmp_path, network(), **config)
    with pytest.raises(UserError, match=words):
        open_vit(tmp_path)


@pytest.mark.parametrize("wrapper", ["state_dict_ema", "model_ema", "ema", "net", "network", "weights", "params"])
def test_wrappers_of_other_trainers(tmp_path, wrapper):
    state = network().state_dict()
    torch.save({wrapper: state, "epoch": 3, "optimizer": {"state": {}}}, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").keys() == state.keys()


@pytest.mark.parametrize("name", ["x.pth", "x.bin", "x"])
def test_safetensors_are_read_whatever_their_name(tmp_path, name):
    state = network().state_dict()
    safetensors.torch.save_file(state, tmp_path / name)
    assert torch.equal(read_checkpoint(tmp_path / name)["pos_embed"], state["pos_embed"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: (value * 100).to(torch.int8), "quantised weights, without what they are scaled by"),
        (lambda value: value * float("nan"), "NaN or infinite"),
        (lambda value: (value + 1e6).half(), "NaN or infinite"),
    ],
)
@pytest.mark.parametrize("sharded", [False, True])
def test_weights_that_are_no_finite_numbers_are_refused(tmp_path, change, words, sharded):
    state = network().state_dict()
    state["blocks.1.mlp.fc1.weight"] = change(state["blocks.1.mlp.fc1.weight"])
    safetensors.torch.save_file(state, tmp_path / ("part.safetensors" if sharded else "model.safetensors"))
    index = {"weight_map": dict.fromkeys(state, "part.safetensors")}
    if sharded:
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=rf"blocks\.1\.mlp\.fc1\.weight.*{words}"):
        read_folder(tmp_path)


BARE = {
    "pytorch_model.bin": lambda state, path: torch.save(state, path),
    "epoch_300.pth": lambda state, path: torch.save({"model": state, "epoch": 300}, path),
    "weights.safetensors": safetensors.torch.save_file,
}


@pytest.mark.parametrize("name", BARE)
def test_a_folder_of_one_file_and_nothing_else_is_that_file(tmp_path, name):
    """As copied from a hub without config.json, or out of somebody's run folder."""
    folder = tmp_path / "copied"
    folder.mkdir()
    (folder / "README.md").write_text("weights")
    BARE[name](network().state_dict(), folder / name)
    vit, card, report = open_reported(folder)
    assert report.source == "timm" and card.arch.width == 128 and card.assumed_statistics
    assert encoder_place(folder) == folder / name and fingerprint(folder) == fingerprint(folder / name)
    alike = open_vit(folder / name)[0]
    assert all(torch.equal(a, b) for a, b in zip(vit.parameters(), alike.parameters(), strict=True))


def test_shards_without_a_configuration_are_read_by_content(tmp_path):
    hugging_face(tmp_path, shard="300KB")
    (tmp_path / "config.json").unlink()
    _, card, report = open_reported(tmp_path, Said(heads=4, image_size=(32, 48)))
    assert "names of Hugging Face" in str(report) and card.arch.width == 128 and card.assumed_statistics
    assert encoder_place(tmp_path) == tmp_path


def test_a_folder_of_several_files_asks_which(tmp_path):
    for name in ("best.pth", "last.pth"):
        torch.save(network().state_dict(), tmp_path / name)
    for open_it in (open_vit, encoder_place):
        with pytest.raises(UserError, match=r"holds 2 files of weights, best\.pth, last\.pth, \.\.\., and no config"):
            open_it(tmp_path)


def test_weights_of_ours_without_their_card_are_not_guessed(tmp_path):
    safetensors.torch.save_file(network().state_dict(), tmp_path / "encoder.safetensors")
    with pytest.raises(UserError, match=r"no encoder\.json in it: not an encoder folder"):
        open_vit(tmp_path)
