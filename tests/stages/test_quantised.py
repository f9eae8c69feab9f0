"""Smaller graphs: what is in int8, what it loses finding by finding, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from clinvit.backbone.sizes import Architecture
from clinvit.cli import main
from clinvit.compress.quantise import write_log_attention, write_weights_only
from clinvit.compress.ranges import log_sqrt2
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.finetune.model import ModelCard, build_model, load_model, save_model
from clinvit.finetune.recipe import View
from clinvit.stages.onnx_runtime import onnx_session
from clinvit.stages.quantised import Scheme, write_quantised

ARCH = Architecture(64, 2, 2, image_size=(32, 32), patch_size=8)
CARD = ModelCard(("Square", "Bar"), {}, False, "full", "vit", "mean", ARCH, (0.5,), (0.25,), View("squash", None), 40)


def saved(folder):
    torch.manual_seed(0)
    network = build_model(CARD)
    with torch.no_grad():
        network.head.weight.normal_(std=0.3)
        for block in network.encoder.blocks:
            block.norm1.weight[::7] = 3
    return save_model(folder, network, CARD)


@pytest.fixture
def exported(cohort, tmp_path, capsys):
    """The model, its manifest, its export by `--scheme static --margin 0.5`, and what that said."""
    pytest.importorskip("onnxruntime")
    model, data, out = saved(tmp_path / "model"), cohort(patients=160), tmp_path / "out"
    words = ["export", model, "--to", "onnx", "--out", out, "--int8", "--scheme", "static", "--margin", 0.5]
    assert main([str(word) for word in [*words, "--data", data]]) == 0
    return model, data, out, capsys.readouterr().out


@pytest.mark.slow
def test_static_int8_with_a_margin(exported, tmp_path):
    model, data, out, said = exported
    assert "8 of 8 matmuls in int8, 0 stay float32" in said and "Square: AUROC loss" in said
    assert "4 norms with one scale for all channels" in said and "int8 minus float32" in said
    facts = json.loads((out / "int8.json").read_text())
    assert len(facts["layers"]) == 8 and all(each["int8"] for each in facts["layers"].values())
    assert [each["label"] for each in facts["findings"]] == ["Square", "Bar"] and facts["calibration_images"] == 32
    exact, rough = (read_predictions(out / f"predictions-{name}.csv").scores() for name in ("float32", "int8"))
    assert 0 < np.abs(exact - rough).mean() < 0.01
    assert _kernels(out / "model.int8.onnx", tmp_path) == 8, "the runtime makes integer matmuls of all"
    assert not (out / ".folded.onnx").exists()
    # The graph is one of the folder: it predicts like the whole.
    table = tmp_path / "p.csv"
    words = ["predict", "images", data, "--model", out / "model.int8.onnx", "--runtime", "onnx", "--out", table]
    assert main([str(word) for word in words]) == 0
    val = (predictions := read_predictions(table)).rows("val")
    np.testing.assert_allclose(val.scores(), rough, atol=1e-6)
    assert (
        len(predictions) == 320
        and json.loads((tmp_path / "p.model.json").read_text())["precision"] == "model.int8.onnx"
    )

    network, card = load_model(model)
    said, _ = write_quantised(network.cpu(), card, out, data, Scheme("static", margin=1e-7, sensitivity="relevance"))
    layers = json.loads((out / "int8.json").read_text())["layers"]
    assert list(layers) != list(facts["layers"]) and sum(
        each["sensitivity"] for each in layers.values()
    ) == pytest.approx(1)
    kept = [name for name, each in layers.items() if not each["int8"]]
    assert kept == list(layers)[: len(kept)] and kept, "the most sensitive ones stay in float32"
    assert any("float32" in line for line in said)
    assert (out / "model.int8.onnx").exists() == (len(kept) < 8)

    with pytest.raises(Exception, match="cannot be judged"):
        write_quantised(network, card, out, _few(data, tmp_path), Scheme("static", margin=0.1))
    assert not (out / "model.int8.onnx").exists(), "no graph is left that was not judged"

    x = torch.randn(3, 1, 32, 32)
    with torch.inference_mode():
        wanted = network(x).sigmoid().numpy()
    for bits, most in ((8, 0.02), (4, 0.3)):
        path = tmp_path / f"w{bits}.onnx"
        write_weights_only(out / "model.onnx", path, bits)
        difference = np.abs(onnx_session(path)(x.numpy())[0] - wanted).max()
        assert 0 < difference < most and path.stat().st_size < (out / "model.onnx").stat().st_size * (0.25 + bits / 16)
    softly = shutil.copyfile(out / "model.onnx", tmp_path / "log.onnx")
    assert write_log_attention(softly) == 2
    assert 0 < np.abs(onnx_session(softly)(x.numpy())[0] - wanted).max() < 0.2


def _few(data, tmp_path):
    """A manifest with three patients in val."""
    lines = data.read_text().splitlines()
    few = data.with_name("few.csv")
    kept = [line for place, line in enumerate(lines) if ",val," not in line or place < 40]
    few.write_text("\n".join(kept) + "\n")
    return few


def _kernels(path, folder):
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]
    return sum(kind in ("MatMulIntegerToFloat", "QLinearMatMul", "MatMulInteger") for kind in kinds)


@pytest.mark.parametrize("bits", [4, 8])
def test_attention_weights_are_rounded_as_the_formula_says(bits, tmp_path):
    onnx, helper = pytest.importorskip("onnx"), pytest.importorskip("onnx.helper")
    pytest.importorskip("onnxruntime")
    value = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 50]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], "g", value[:1], value[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "g.onnx")
    x = 12 * np.random.default_rng(0).normal(size=(200, 50)).astype(np.float32)
    (plain,) = onnx_session(tmp_path / "g.onnx")(x)
    assert write_log_attention(tmp_path / "g.onnx", bits) == 1
    (found,) = onnx_session(tmp_path / "g.onnx")(x)
    wanted = log_sqrt2(plain, bits=bits)
    same = np.isclose(found, wanted, rtol=1e-5, atol=0)
    assert same.mean() > 0.999 and ((found == 0) == (wanted == 0)).mean() > 0.999, "but for ties of float32"
    assert 0 < (found == 0).mean() < 1 or bits == 8


@pytest.mark.parametrize(
    "options, words",
    [
        (["--int8", "--scheme", "static"], "--scheme static needs --data"),
        (["--int8", "--margin", "0.01", "--data", "m.csv"], "belong to --scheme static"),
        (["--int8", "--scheme", "static", "--margin", "2", "--data", "m.csv"], "an AUROC loss between 0 and 1"),
        (["--scheme", "weights4"], "belong to --int8"),
    ],
)
def test_options_that_do_not_go_together(options, words, tmp_path, capsys):
    model = saved(tmp_path / "model")
    code = main(["export", str(model), "--to", "onnx", "--out", str(tmp_path / "out"), *options])
    error = capsys.readouterr().err
    assert code == 2 and words in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
