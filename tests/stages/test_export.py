"""Weights out: what timm, transformers, onnxruntime and torch.export make of an export equals the model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
from clinvit.backbone.encoder import EncoderCard, open_vit, save_encoder
from clinvit.backbone.sizes import Architecture, Rotary
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.finetune.model import ModelCard, build_model, load_model, save_model
from clinvit.finetune.recipe import View
from clinvit.mil.model import MilCard, load_mil, save_mil
from clinvit.stages.onnx_runtime import onnx_session

ARCH = Architecture(32, 2, 2, image_size=(32, 48), patch_size=8)
SQUARE = replace(ARCH, image_size=(32, 32))
CLIP = Architecture(
    32, 2, 2, image_size=(32, 32), patch_size=8, frames=4, tubelet=2, class_token=False, positions="sine1d"
)
CARD = ModelCard(
    ("Mass", "Edema"), {"Mass": "1 = a mass"}, False, "full", "vit", "mean", SQUARE, (0.5,), (0.25,),
    View("squash", None), 32, thresholds={"Mass": {"value": 0.4, "how": "youden", "split": "val"}},
    recipe={"mode": "full"}, data={"train": 7},
)  # fmt: skip


def shaken(network, seed=0):
    """A network whose every tensor counts: biases, norms and running statistics too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point() and name.removeprefix("encoder.") != "pos_embed":
                noise = torch.randn(value.shape, generator=generator)
                value.copy_(noise.abs() + 0.5 if name.endswith(("running_var", "std")) else value + 0.2 * noise)
    return network.eval()


def saved_model(folder, card):
    network = build_model(card)
    if card.mode == "knn":
        network.known_targets.nan_to_num_(1.0)
    return save_model(folder, shaken(network), card)


def saved_encoder(folder, arch):
    torch.manual_seed(0)
    return save_encoder(folder, shaken(ViT(arch)), EncoderCard(arch, (0.5,), (0.25,), method="mae"))


def export(folder, to, out, *options):
    assert main(["export", str(folder), "--to", to, "--out", str(out), *map(str, options)]) == 0


def pixels(arch, batch=3):
    torch.manual_seed(1)
    return torch.randn(batch, arch.channels, *([arch.frames] if arch.frames > 1 else []), *arch.image_size)


@pytest.mark.parametrize(
    "arch",
    [
        ARCH,
        replace(ARCH, class_token=False),
        replace(ARCH, layer_scale=True, registers=3, channels=3),
        replace(ARCH, class_token=False, registers=2),
        replace(ARCH, gated_mlp=True, activation="silu", layer_scale=True, mlp_ratio=2.6667),
        replace(ARCH, activation="quick_gelu", norm_eps=1e-5, query_key_norm=True, mlp_norm=True, qkv_bias=False),
        replace(ARCH, activation="gelu_tanh", attention_norm=True),
    ],
)
def test_an_encoder_in_timm(arch, tmp_path):
    folder = saved_encoder(tmp_path / "encoder", arch)
    export(folder, "timm", tmp_path / "timm")
    said = json.loads((tmp_path / "timm/timm.json").read_text())
    file = tmp_path / "timm/model.safetensors"
    theirs = timm.create_model(said["name"], checkpoint_path=str(file), **said["arguments"]).eval()
    ours, _ = open_vit(folder)
    x = pixels(arch)
    with torch.inference_mode():
        wanted, found = ours(x), theirs.forward_features(x)
    torch.testing.assert_close(found[:, theirs.num_prefix_tokens :], wanted.patches, atol=1e-5, rtol=1e-5)
    if arch.class_token:
        torch.testing.assert_close(found[:, 0], wanted.cls, atol=1e-5, rtol=1e-5)


TURNED = replace(ARCH, positions="none", rotary=Rotary("centred", 100.0, halves=True))
TURNED_CLIP = replace(TURNED, rotary=Rotary("clip"), class_token=False, frames=4, tubelet=2)


@pytest.mark.parametrize(
    "to, fields, words",
    [
        ("timm", {"positions": "none", "rotary": Rotary("centred")}, "timm takes no rotary positions"),
        ("timm", {"norm": "rms"}, "timm takes no RMSNorm"),
        ("timm", {"stem": True}, "timm takes no stem of convolutions"),
        ("timm", {"norm_eps": 1e-12}, "norms with eps 1e-12"),
        ("timm", {"gated_mlp": True}, "gated MLPs with gelu"),
        ("timm", {"input_norm": True}, "no bias before a norm"),
        ("huggingface", {"gated_mlp": True, "input_norm": True}, "have no gated MLPs, a norm before the first block"),
    ],
)
def test_what_others_do_not_take_is_named(to, fields, words, tmp_path, capsys):
    folder = saved_encoder(tmp_path / "encoder", replace(SQUARE, **fields))
    assert main(["export", str(folder), "--to", to, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("to", ["onnx", "torch"])
@pytest.mark.parametrize("arch", [TURNED, TURNED_CLIP, replace(SQUARE, stem=True)])
def test_turned_and_stemmed_encoders_as_graphs(arch, to, tmp_path, capsys):
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    export(saved_encoder(tmp_path / "encoder", arch), to, tmp_path / "out")
    assert "differs by" in capsys.readouterr().out


@pytest.mark.parametrize("fields", [{}, {"layer_scale": True, "registers": 3}])
def test_an_encoder_to_timm_and_back(fields, tmp_path):
    arch = Architecture(
        128, 2, 4, image_size=(32, 32), patch_size=8, channels=3, **fields
    )  # heads are told by the width
    folder = saved_encoder(tmp_path / "encoder", arch)
    export(folder, "timm", tmp_path / "timm")
    (ours, _), (back, _) = open_vit(folder), open_vit(tmp_path / "timm/model.safetensors")
    x = pixels(arch)
    with torch.inference_mode():
        torch.testing.assert_close(back(x).sequence(), ours(x).sequence(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "card",
    [
        CARD,
        replace(CARD, pool="class"),
        replace(CARD, mode="linear"),
        replace(CARD, mode="linear", pool="class"),
        replace(CARD, network="resnet18", arch=replace(SQUARE, image_size=(64, 64))),
    ],
    ids=["mean", "class", "linear mean", "linear class", "resnet18"],
)
def test_a_classifier_in_timm(card, tmp_path, capsys):
    folder = saved_model(tmp_path / "model", card)
    export(folder, "timm", tmp_path / "out")
    said = json.loads((tmp_path / "out/timm.json").read_text())
    file = tmp_path / "out/model.safetensors"
    call = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("timm.create_model"))
    theirs = eval(call, {"timm": timm}).eval()  # the very words that are printed
    assert str(file) in call and said["arguments"]["num_classes"] == 2
    x = pixels(card.arch)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(x), load_model(folder)[0](x), atol=1e-4, rtol=1e-4)
    facts = json.loads((tmp_path / "out/clinvit.json").read_text())
    assert facts["labels"] == ["Mass", "Edema"] and facts["mean"] == [0.5] and facts["thresholds"] == card.thresholds


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mae", "vit", "videomae", "videomae-classifier"])
def test_hugging_face_opens_it_and_back(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "out"
    if kind in ("mae", "videomae"):
        arch = SQUARE if kind == "mae" else CLIP
        folder = saved_encoder(tmp_path / "encoder", arch)
        export(folder, "huggingface", out)
        x, (ours, _) = pixels(arch), open_vit(folder)
        with torch.inference_mode():
            wanted = ours(x).sequence()
            if kind == "mae":
                noise = torch.arange(16.0).expand(3, -1)  # the order of the patches stays
                found = transformers.ViTMAEModel.from_pretrained(out).eval()(x, noise=noise).last_hidden_state
            else:
                found = transformers.VideoMAEModel.from_pretrained(out).eval()(x.transpose(1, 2)).last_hidden_state
            torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
            back, _ = open_vit(out)
            torch.testing.assert_close(back(x).sequence(), wanted, atol=1e-5, rtol=1e-5)
        return
    card = replace(CARD, pool="class") if kind == "vit" else replace(CARD, arch=CLIP)
    folder = saved_model(tmp_path / "model", card)
    export(folder, "huggingface", out)
    x = pixels(card.arch)
    name = "ViTForImageClassification" if kind == "vit" else "VideoMAEForVideoClassification"
    theirs = getattr(transformers, name).from_pretrained(out).eval()
    with torch.inference_mode():
        found = theirs(x if kind == "vit" else x.transpose(1, 2)).logits
        torch.testing.assert_close(found, load_model(folder)[0](x), atol=1e-4, rtol=1e-4)
    assert theirs.config.id2label == {0: "Mass", 1: "Edema"}


GRAPHS = {
    "mean": CARD,
    "class, mirrored, exclusive": replace(CARD, pool="class", exclusive=True, view=View("squash", None, flip=True)),
    "attention": replace(CARD, pool="attention"),
    "linear": replace(CARD, mode="linear"),
    "knn": replace(CARD, mode="knn", reference_cases=6, neighbours=3),
    "resnet18": replace(CARD, network="resnet18"),
    "clips": replace(CARD, arch=CLIP),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GRAPHS)
def test_onnx_of_any_batch_gives_the_probabilities(name, tmp_path):
    pytest.importorskip("onnxruntime")
    card = GRAPHS[name]
    folder = saved_model(tmp_path / "model", card)
    export(folder, "onnx", tmp_path / "out")
    run, (network, _) = onnx_session(tmp_path / "out/model.onnx"), load_model(folder)
    for batch in (1, 4):
        x = pixels(card.arch, batch)
        with torch.inference_mode():
            logits = network(x)
            wanted = logits.softmax(1) if card.exclusive else logits.sigmoid()
            if card.view.flip:
                wanted = (wanted + network(x.flip(-1)).softmax(1)) / 2
        np.testing.assert_allclose(run(x.numpy())[0], wanted, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("aggregator", ["mean", "gated_attention", "dsmil", "clam_sb"])
@pytest.mark.parametrize("to", ["onnx", "torch"])
def test_bags_of_any_size(aggregator, to, tmp_path):
    pytest.importorskip("onnxruntime")
    attention = 8 if aggregator in ("gated_attention", "dsmil", "clam_sb") else None
    card = MilCard(("tumor",), {}, False, aggregator, 16, attention, "bag", 8, standardise=True)
    folder = save_mil(tmp_path / "model", shaken(card.network()), card)
    export(folder, to, tmp_path / "out")
    network, _ = load_mil(folder)
    program = None if to == "onnx" else torch.export.load(tmp_path / "out/model.pt2").module()
    for tiles in (1, 3, 50):
        x = torch.randn(1, tiles, 8)
        with torch.inference_mode():
            wanted = network(x, None).logits.sigmoid()
            onnx = to == "onnx" and onnx_session(tmp_path / "out/model.onnx")
            found = onnx(x.numpy())[0] if onnx else program(x)[0].numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.slow
def test_int8_says_what_it_loses(cohort, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    wide = replace(SQUARE, width=128, heads=4)  # wide enough for the weights to be most of the file
    card = replace(CARD, labels=("Square", "Bar"), thresholds={}, arch=wide)
    folder = saved_model(tmp_path / "model", card)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    data = cohort(patients=40)
    export(folder, "onnx", tmp_path / "out", "--int8", "--data", data)
    said = capsys.readouterr().out
    assert "int8 minus float32: macro AUROC difference" in said
    exact, rough = (read_predictions(tmp_path / f"out/predictions-{name}.csv") for name in ("float32", "int8"))
    difference = np.abs(exact.scores() - rough.scores())
    assert 0 < difference.max() < 0.2 and len(exact) == len(rough) > 0
    assert (tmp_path / "out/int8-report/report.html").is_file()
    small, large = ((tmp_path / f"out/{name}.onnx").stat().st_size for name in ("model.int8", "model"))
    assert small < 0.45 * large
    assert {path: path.read_bytes() for path in folder.iterdir()} == before, "an export only reads"


def test_the_card_says_what_is_known(tmp_path):
    folder = saved_model(tmp_path / "run/model", CARD)
    export(folder, "card", tmp_path / "card")
    text = (tmp_path / "card/README.md").read_text()
    assert "| Mass | 1 = a mass | 0.4 | youden | val |" in text and "| Edema | present | none (not chosen) |" in text
    assert "Not evaluated here" in text and "train: 7" in text and "no medical device" in text
    label = {"label": "Mass", "positives": 3, "n": 9, "metrics": {"auroc": {"value": 0.8, "low": 0.6, "high": 0.9}}}
    report = {"headline": ["AUROC 0.80."], "split": "test", "models": [{"labels": [label]}]}
    (tmp_path / "run/report.json").write_text(json.dumps(report))
    export(folder, "card", tmp_path / "card")
    assert "| Mass | 0.800 | 0.600 to 0.900 | 3 / 9 |" in (tmp_path / "card/README.md").read_text()
    export(saved_encoder(tmp_path / "encoder", ARCH), "card", tmp_path / "other")
    assert "trained by mae" in (tmp_path / "other/README.md").read_text()


def bag_model(folder):
    card = MilCard(("tumor",), {}, False, "transmil", 16, None, "bag", 8)
    return save_mil(folder, card.network(), card)


def trained_positions(folder):
    network = build_model(replace(CARD, arch=CLIP))
    torch.nn.init.normal_(network.encoder.pos_embed)
    return save_model(folder, network, replace(CARD, arch=CLIP))


@pytest.mark.parametrize(
    "make, to, options, words",
    [
        (lambda f: saved_encoder(f, CLIP), "timm", [], "timm has no ViT of clips"),
        (lambda f: saved_model(f, replace(CARD, pool="attention")), "timm", [], "no such pooling"),
        (lambda f: saved_model(f, CARD), "huggingface", [], "by the class token"),
        (lambda f: saved_encoder(f, replace(CLIP, positions="sine3d")), "huggingface", [], "1-D sine positions"),
        (lambda f: saved_encoder(f, replace(ARCH, class_token=False)), "huggingface", [], "has a class token"),
        (trained_positions, "huggingface", [], "those of this model were trained"),
        (bag_model, "onnx", [], "TransMIL"),
        (bag_model, "timm", [], "networks of images"),
        (lambda f: saved_model(f, CARD), "timm", ["--int8"], "--int8 belongs to --to onnx"),
        (lambda f: f, "onnx", [], "not a model folder"),
    ],
)
def test_what_cannot_be_is_one_line(make, to, options, words, tmp_path, capsys):
    make(tmp_path / "folder")
    code = main(["export", str(tmp_path / "folder"), "--to", to, "--out", str(tmp_path / "out"), *options])
    errors = capsys.readouterr().err
    assert code == 2 and words in errors and errors.count("\n") == 1
    assert not any((tmp_path / "out").glob("model.*"))


def test_idle_units_are_merged_in_graphs_and_folders_and_are_refused_elsewhere(tmp_path, capsys):
    arch = replace(SQUARE, block_active=(32, 20))
    folder = saved_model(tmp_path / "model", replace(CARD, arch=arch))
    network, _ = load_model(folder)
    x = pixels(arch)
    with torch.no_grad():
        wanted = network.cpu()(x).sigmoid().numpy()
    export(folder, "onnx", tmp_path / "onnx")
    assert "idle units are merged" in capsys.readouterr().out
    np.testing.assert_allclose(onnx_session(tmp_path / "onnx/model.onnx")(x.numpy())[0], wanted, atol=1e-4)
    plain = saved_model(tmp_path / "plain", CARD)
    export(plain, "onnx", tmp_path / "plain-onnx")
    sizes = [(tmp_path / name / "model.onnx").stat().st_size for name in ("onnx", "plain-onnx")]
    assert sizes[0] < sizes[1]
    assert main(["export", str(folder), "--merge", "--out", str(tmp_path / "small")]) == 0
    small, card = load_model(tmp_path / "small")
    assert card.arch.mlp_shortcut and card.thresholds == CARD.thresholds
    with torch.no_grad():
        np.testing.assert_allclose(small.cpu()(x).sigmoid().numpy(), wanted, atol=1e-5)
    capsys.readouterr()
    for arguments, words in (
        ([folder, "--to", "timm"], "timm takes no idle hidden units as plain values: export to onnx or torch"),
        ([tmp_path / "small", "--to", "timm"], "timm takes no merged idle units as plain values"),
        ([plain, "--merge"], "no idle units to merge"),
        ([tmp_path / "small", "--merge"], "no idle units to merge"),
        ([plain], "--to is missing"),
    ):
        assert main(["export", *map(str, arguments), "--out", str(tmp_path / "refused")]) == 2
        assert words in capsys.readouterr().err
    assert main(["export", str(folder), "--merge", "--out", str(tmp_path / "small")]) == 2
    assert "there is something already" in capsys.readouterr().err
