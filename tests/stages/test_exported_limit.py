"""What is out of distribution by a model is so by its graphs: flagged without torch, in int8 by a limit of its own."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import read_manifest
from clinvit.finetune.feature_limit import Limit, conformal
from clinvit.finetune.run import finetune
from clinvit.stages.export import export_stage
from clinvit.stages.exported import FACTS, read_exported
from clinvit.stages.exported_limit import FILE
from clinvit.stages.light_predict import predict_light
from clinvit.stages.predict import Request, predict_stage
from clinvit.stages.quantised import Scheme
from PIL import Image

pytest.importorskip("onnxruntime")


@pytest.fixture
def trained(cohort, small_recipes, tmp_path):
    path = cohort(patients=100)
    recipe = replace(small_recipes[1], optim=replace(small_recipes[1].optim, epochs=2))
    finetune(recipe, read_manifest(path), tmp_path / "run", tmp_path / "cache")
    (tmp_path / "others").mkdir()
    stripes = np.tile(np.repeat([0, 255], 4), (40, 5)).astype(np.uint8)
    Image.fromarray(stripes).save(tmp_path / "others" / "stripes.png")
    Image.fromarray(np.full((40, 40), 200, np.uint8)).save(tmp_path / "others" / "flat.png")
    (tmp_path / "others" / "broken.png").write_bytes(b"none")
    return tmp_path / "run/model", path, [str(tmp_path / "others")]


@pytest.mark.thorough
def test_graphs_flag_what_the_model_flags(trained, tmp_path):
    model, manifest, others = trained
    said = export_stage(model, "onnx", tmp_path / "graphs", int8=True, data=manifest)
    assert not any("flags no case" in line for line in said)
    facts = json.loads((tmp_path / "graphs" / FACTS).read_text())["out_of_distribution"]
    exact, rough = (facts["graphs"][name] for name in ("model.onnx", "model.int8.onnx"))
    assert facts["rate"] == exact["rate"] and exact["limit"] != rough["limit"]
    assert (rough["training_cases"], rough["validation_patients"]) == (120, 20)
    for inputs, name in ((others, "others"), ([str(manifest)], "own")):
        predict_stage(Request(model, inputs, tmp_path / f"torch-{name}.csv"))
        predict_light(tmp_path / "graphs", inputs, tmp_path / f"light-{name}.csv")
        wanted, found = (pd.read_csv(tmp_path / f"{kind}-{name}.csv") for kind in ("torch", "light"))
        assert wanted.get("warning", pd.Series()).equals(found.get("warning", pd.Series()))
        np.testing.assert_allclose(wanted["p_Square"], found["p_Square"], atol=1e-5)
    assert "out of distribution" in pd.read_csv(tmp_path / "light-others.csv").set_index("id").loc["stripes", "warning"]
    small = predict_light(tmp_path / "graphs/model.int8.onnx", others, tmp_path / "small.csv")
    assert small.columns["warning"][small.columns["id"].index("stripes")].startswith("out of distribution")
    assert not small.unwatched and "out_of_distribution" in json.loads((tmp_path / "small.model.json").read_text())
    # Of validation patients no more than was stated are beyond the limit of the rounded network.
    rows = pd.read_csv(tmp_path / "graphs/predictions-int8.csv")
    assert rows.get("warning", pd.Series("", rows.index)).fillna("").str.contains("out of dist").sum() == 0

    graphs = tmp_path / "graphs"
    whole = (graphs / FILE).read_bytes()
    for content, words in ((whole[:-8], "damaged or replaced"), (None, "no such file")):
        (graphs / FILE).unlink() if content is None else (graphs / FILE).write_bytes(content)
        with pytest.raises(UserError, match=words):
            read_exported(graphs)
    facts = json.loads((graphs / FACTS).read_text())
    del facts["out_of_distribution"]["graphs"]
    (graphs / FACTS).write_text(json.dumps(facts))
    assert "export again" in read_exported(graphs).unwatched


@pytest.mark.thorough
def test_a_limit_that_a_graph_has_not_is_said(trained, tmp_path):
    model, _, others = trained
    said = export_stage(model, "onnx", tmp_path / "graphs", int8=True)
    assert any("model.int8.onnx: flags no case as out of distribution: rounded weights" in line for line in said)
    found = predict_light(tmp_path / "graphs/model.int8.onnx", others, tmp_path / "p.csv")
    assert "give --data" in found.unwatched
    assert not any("out of distribution" in text for text in found.columns["warning"])


@pytest.mark.thorough
def test_a_static_graph_has_a_limit_of_its_own(trained, tmp_path):
    model, manifest, others = trained
    export_stage(model, "onnx", tmp_path / "static", int8=True, data=manifest, scheme=Scheme("static"))
    exact, own = (read_exported(tmp_path / "static" / f"model{form}.onnx").limit for form in ("", ".int8"))
    assert own is not None and own.limit == pytest.approx(exact.limit, rel=0.5)
    found = predict_light(tmp_path / "static/model.int8.onnx", others, tmp_path / "p.csv").columns
    assert found["warning"][found["id"].index("stripes")].startswith("out of distribution")


def test_a_limit_held_anew_against_validation_flags_no_more_than_its_rate():
    generator, flagged = np.random.default_rng(0), []
    base = Limit(np.zeros(4), np.eye(4), 1.0, 0.01, 200, 50)
    for _ in range(200):
        validation, new = (generator.gamma(3, size=n) for n in (150, 300))
        own = conformal(base, np.append(validation, np.nan), [*map(str, range(150)), "failed"])
        assert own.patients == 150 and own.rate == 0.01
        flagged.append((new > own.limit).mean())
    assert 0.004 < np.mean(flagged) <= 0.0115
    assert conformal(base, np.ones(30), ["one", "two"] * 15) == "2 validation patients, fewer than 19"
