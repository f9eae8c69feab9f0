"""The slides task end to end: the demo with small recipes, and a model of features that tell tumour at once."""

import json
import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_manifest, read_predictions, write_manifest
from clinvit.datasets.slides.hdf5 import read_tiles, write_features
from clinvit.datasets.slides.outlines import read_outlines, tumour_fraction
from clinvit.eval import Evaluation
from clinvit.phantoms.slides import write_camelyon16
from clinvit.tasks.slides import demo, harder

pytest.importorskip("h5py")
pytest.importorskip("openslide")
MODELS = ("self_vit_mil", "gated_attention")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """The demo's folder and the metrics it gives, with few small slides and short training."""
    out = tmp_path_factory.mktemp("demo")
    pre, fine = demo.pretrain_demo(), demo.mil_demo()
    pre = replace(
        pre, tiles_per_slide=16, optim=replace(pre.optim, epochs=1, warmup_epochs=0, batch_size=16),
        head=replace(pre.head, out_dim=64, hidden=32, bottleneck=16),
    )  # fmt: skip
    fine = replace(fine, optim=replace(fine.optim, epochs=3), run=replace(fine.run, max_bad=0.3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "write_camelyon16", small_slides)
        patch.setattr(demo, "pretrain_demo", lambda: pre)
        patch.setattr(demo, "mil_demo", lambda: fine)
        patch.setattr(demo, "mil_demo_attention", lambda: replace(fine, aggregator="gated_attention"))
        evaluate = partial(demo.reporting.evaluate_stage, evaluation=Evaluation(resamples=50))
        patch.setattr(demo.reporting, "evaluate_stage", evaluate)
        patch.setattr(harder, "SIDES_PX", (1088, 1152))
        metrics = demo.demo(out, slides=(5, 5, 4), harder=(4, 4, 2))
    return out, metrics


def small_slides(root, **options):
    write_camelyon16(root, **options | {"size_px": (1472, 1536)})


@pytest.mark.slow
def test_the_demo_leaves_every_file(shown):
    out, _ = shown
    expected = ["manifest.csv", "tiles/status.csv", "dino/encoder/encoder.json", "features/pipeline.json"]
    expected += ["report/report.html", "report/report.json", "report/metrics.csv"]
    tests = read_manifest(out / "manifest.csv").rows("test").table["id"]
    for name in MODELS:
        expected += [f"{name}/model/model.json", f"{name}/predictions.csv", f"{name}/explanations/status.csv"]
        expected += [
            f"{name}/explanations/{slide}.{suffix}" for slide in tests for suffix in ("html", "png", "geojson")
        ]
    assert len(tests) == 4 and [name for name in expected if not (out / name).is_file()] == []


@pytest.mark.slow
def test_the_demo_has_metrics_of_slides_tiles_and_lesions(shown):
    out, metrics = shown
    assert [model["model"] for model in metrics["models"]] == list(MODELS)
    for model in metrics["models"]:
        where = model["localisation"]
        assert where["froc"]["slides"] == 4 and where["froc"]["lesions"] >= 1
        assert 0 <= where["froc"]["score"]["value"] <= 1 and 0 <= where["metrics"]["tile_auroc"]["value"] <= 1
    report = (out / "report/report.html").read_text()
    assert [step["cases"] for step in metrics["efficiency"]["steps"]][:2] == [1, 2]
    assert metrics["efficiency"]["models"] == ["pre-trained", "random weights"]
    pages = [link for link in re.findall(r'href="([^"#]+)"', report) if "explanations/" in link]
    assert pages and all((out / "report" / page).is_file() for page in pages)


@pytest.mark.slow
def test_the_slide_without_scale_is_failed_everywhere(shown):
    out, _ = shown
    for folder in ("tiles", "features"):
        text = (out / folder / "status.csv").read_text()
        assert text.count(",failed,") == 1 and "normal_005,failed" in text and "no scale" in text


@pytest.mark.slow
def test_a_model_of_telling_features_finds_the_tumour(tmp_path):
    """One feature is the share of tumour: then slides, tiles and lesions must be found through all stages."""
    write_camelyon16(tmp_path / "raw", normal=7, tumour=6, test=5, size_px=(1472, 1536))
    data, features = tmp_path / "manifest.csv", tmp_path / "features"
    run("prepare", "slides", tmp_path / "raw", "--out", data)
    manifest = read_manifest(data)
    table = manifest.table.set_index("id", drop=False)
    table.loc[table["split"] == "val", "split"] = "train"
    table.loc[["normal_001", "normal_002", "tumor_001", "tumor_002"], "split"] = "val"
    write_manifest(data, table, manifest.labels)
    run("tile", "slides", "--recipe", "demo", "--data", data, "--out", tmp_path / "tiles")
    rng = np.random.default_rng(0)
    for row in table.to_dict("records"):
        path = tmp_path / f"tiles/{row['id']}.h5"
        if path.is_file():
            grid = read_tiles(path)
            values = rng.normal(0, 0.3, (len(grid.coords), 8)).astype(np.float32)
            if row["annotation"]:
                outlines = read_outlines(tmp_path / row["annotation"])
                values[:, 0] += 4 * tumour_fraction(grid.coords, grid.tile_level0_px, outlines)
            write_features(features / path.name, values, grid, {"encoder": "truth"})
    run("finetune", "slides", "--recipe", "demo", "--data", data, "--features", features, "--out", tmp_path / "mil",
        "--aggregator", "max", "--hidden", "null", "--attention", "null", "--optim.epochs", 30,
        "--optim.base_lr", 2.56, "--run.max_bad", 0.3)  # fmt: skip
    run("predict", "slides", data, "--model", tmp_path / "mil/model", "--features", features, "--split", "val",
        "--split", "test", "--explain", tmp_path / "mil/explanations",
        "--out", tmp_path / "mil/predictions.csv")  # fmt: skip
    run("evaluate", tmp_path / "mil", "--data", data, "--out", tmp_path / "report", "--resamples", 100)
    test = read_predictions(tmp_path / "mil/predictions.csv").rows("test")
    ill = test.truth()[:, 0] == 1
    assert test.scores()[ill].min() > test.scores()[~ill].max()
    (model,) = json.loads((tmp_path / "report/report.json").read_text())["models"]
    where = model["localisation"]
    assert where["metrics"]["tile_auroc"]["value"] > 0.9
    assert where["froc"]["lesions"] >= 2 and where["froc"]["score"]["value"] > 0.5


def run(*arguments) -> None:
    assert main([str(argument) for argument in arguments]) == 0
