"""The stages finetune, predict and evaluate on studies, patients and cases."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import clinvit
import numpy as np
import pandas as pd
import pytest
import torch
from clinvit.backbone.card import EncoderCard
from clinvit.backbone.sizes import Architecture
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.loading.own import own_manifest
from clinvit.datasets.manifest.tables import read_predictions
from clinvit.finetune import finetune
from clinvit.finetune.model import load_card
from clinvit.mil.cards import load_any_card
from clinvit.stages.evaluate import stored_thresholds
from clinvit.tasks import thorax
from PIL import Image
from sklearn.metrics import roc_auc_score


def two_views(root: Path, patients: int = 60, seed: int = 0, size: int = 40) -> Path:
    """Write studies of two views, of which one shows the finding of the study, a square; return the manifest."""
    draw = np.random.default_rng(seed)
    root.mkdir()
    rows = []
    for study in range(2 * patients):
        truth, shown = draw.integers(0, 2, 2)
        patient = study // 2
        for view, name in enumerate(("frontal", "lateral")):
            pixels = draw.normal(110, 25, (size, size))
            pixels[8:20, 4:16] += 90 * (truth and view == shown)
            file = f"{study:03d}_{view}.png"
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / file)
            split = ("train", "train", "train", "val", "test")[patient % 5]
            rows.append((file[:-4], file, f"p{patient}", split, f"s{study % 2}", name, truth))
    columns = ["id", "path", "patient", "split", "study", "view", "Square"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "manifest.csv", index=False)
    return root / "manifest.csv"


def images_and_units(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    return read_predictions(folder / "predictions.images.csv").table, read_predictions(folder / "predictions.csv").table


@pytest.fixture
def studies(tmp_path, small_images):
    """Eight images of four studies of two patients as a manifest, the first image broken and the last study too."""
    folder = small_images(8, {0, 6, 7})
    rows = [(f"i{i}", f"{i}.png", f"p{i // 4}", "test", f"s{i // 2 % 2}", i % 2, 1) for i in range(8)]
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "study", "Square", "Bar"])
    table.to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def test_predict_puts_images_together_and_images_lie_beside(tmp_path, studies, random_model, capsys):
    chosen = {"Square": {"value": 0.5, "how": "youden", "split": "val", "reason": ""}}
    model, out = random_model(thresholds=chosen), tmp_path / "predictions.csv"
    options = ["predict", "images", str(studies), "--model", str(model), "--out", str(out), "--unit", "study"]
    assert main([*options, "--unit-rule", "Square=mean"]) == 0
    images, units = images_and_units(tmp_path)
    assert units["id"].tolist() == ["p0/s0", "p0/s1", "p1/s0", "p1/s1"]
    assert units["status"].tolist() == ["ok", "ok", "ok", "failed"]
    assert units["p_Square"][1] == pytest.approx(images["p_Square"][2:4].mean())
    assert units["p_Bar"][1] == images["p_Bar"][2:4].max()
    assert units["p_Bar"][0] == images["p_Bar"][1]
    assert units["warning"][0].startswith("1 of 2 images failed: i0: ")
    assert "pred_Square" not in units and "pred_Square" in images  # that of single images
    said = capsys.readouterr().out
    assert "4 requested = 3 ok + 1 failed" in said
    assert (
        "8 images are 4 studies, scored by Square mean, Bar max; 1 study scored without 1 that failed; 1 study" in said
    )
    assert "thresholds and calibration of the model are of single images: none hold for studies" in said
    facts = json.loads((tmp_path / "predictions.model.json").read_text())
    assert facts["aggregation"] == {"unit": "study", "rule": {"Square": "mean"}} and facts["thresholds"] == {}
    before = out.read_bytes()
    assert main([*options, "--unit-rule", "Square=mean", "--resume"]) == 0
    assert out.read_bytes() == before


def test_json_lines_of_units(tmp_path, studies, random_model):
    out = tmp_path / "predictions.jsonl"
    options = ["predict", "images", str(studies), "--model", str(random_model()), "--out", str(out)]
    assert main([*options, "--unit", "patient"]) == 0
    first, second = map(json.loads, out.read_text().splitlines())
    assert (first["id"], first["images"], second["failed_images"]) == ("p0", 4, 2)
    assert main([*options, "--unit", "patient", "--resume"]) == 0


def test_what_has_no_unit_is_refused_before_anything_is_scored(tmp_path, studies, random_model, capsys):
    table = pd.read_csv(studies).drop(columns="study")
    table.to_csv(studies, index=False)
    options = ["predict", "images", str(studies), "--model", str(random_model()), "--out", str(tmp_path / "p.csv")]
    assert main([*options, "--unit", "study"]) == 2
    assert "no column 'study'" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()
    assert main([*options, "--unit-rule", "mean"]) == 2
    assert "--unit-rule needs --unit" in capsys.readouterr().err
    assert main([*options, "--unit", "patient", "--dicom", "sr,seg"]) == 2
    assert "--dicom seg shows a single image: of patients there is a report alone" in capsys.readouterr().err


def test_python_predicts_units(studies, random_model):
    model = clinvit.load(random_model())
    table = model.predict(str(studies), unit="patient", unit_rule="noisy-or")
    images = model.predict(str(studies))
    one = images[images["patient"] == "p0"]["p_Bar"].dropna()
    assert table.set_index("id").loc["p0", "p_Bar"] == pytest.approx(1 - np.prod(1 - one))
    assert table["images"].tolist() == [4, 4]
    report = clinvit.eval.evaluate({"m": table}, studies.parent / "r", evaluation=clinvit.eval.Evaluation(resamples=20))
    assert len(report.metrics)


RUN = [
    "--model.image_size", "32", "--model.patch_size", "8", "--augment.size", "32", "--data.cache_px", "40",
    "--view.resize_px", "36", "--optim.warmup_epochs", "1", "--run.workers", "0",
]  # fmt: skip


def test_a_model_of_studies_has_its_thresholds_at_studies_and_predicts_and_evaluates_them(tmp_path, capsys):
    data, out = two_views(tmp_path / "data", 40), tmp_path / "ft"
    options = ["finetune", "images", "--data", str(data), "--out", str(out), "--optim.epochs", "2", *RUN]
    assert main([*options, "--unit", "study", "--unit-rule", "max"]) == 0
    images, units = images_and_units(out)
    assert len(images) == 2 * len(units)
    card = load_card(out / "model")
    assert card.aggregation == {"unit": "study", "rule": "max"}
    cut, val = card.thresholds["Square"]["value"], units[units["split"] == "val"]
    youden = [((val["p_Square"] >= t) == val["y_Square"].astype(bool)).groupby(val["y_Square"]).mean().sum()
              for t in (cut, *val["p_Square"])]  # fmt: skip
    assert youden[0] == max(youden)
    again = tmp_path / "again" / "predictions.csv"
    assert main(["predict", "images", str(data), "--model", str(out / "model"), "--out", str(again)]) == 0
    table = read_predictions(again).table
    test = table[table["split"] == "test"].set_index("id")
    assert test["p_Square"].equals(units[units["split"] == "test"].set_index("id")["p_Square"])
    assert (test["pred_Square"].astype(float) == (test["p_Square"] >= cut)).all()
    capsys.readouterr()
    assert main(["evaluate", str(again), "--data", str(data), "--out", str(tmp_path / "r"), "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    assert "on 16 studies of 8 patients" in said and f"At the threshold {cut:.3g}" in said
    assert "are not in the table" not in said
    only = pd.read_csv(again)
    only[only["split"] == "test"].to_csv(again, index=False)
    assert main(["evaluate", str(again), "--out", str(tmp_path / "r"), "--resamples", "20"]) == 0
    assert f"At the threshold {cut:.3g}" in capsys.readouterr().out  # that of the model, which is of studies
    assert main(["evaluate", str(again), "--unit", "patient", "--out", str(tmp_path / "r"), "--resamples", "20"]) == 0
    assert f"At the threshold {cut:.3g}" not in capsys.readouterr().out
    assert main(["export", str(out / "model"), "--to", "onnx", "--out", str(tmp_path / "onnx")]) == 0
    assert "thresholds and calibration are for a study, by the rule in" in capsys.readouterr().out
    assert main(options) == 0  # the finished run, asked for images now
    assert not (out / "predictions.images.csv").exists() and load_card(out / "model").aggregation == {}


@pytest.mark.thorough
def test_calibration_is_fitted_at_studies(tmp_path):
    data, out = two_views(tmp_path / "data", 40), tmp_path / "ft"
    options = ["finetune", "images", "--data", str(data), "--out", str(out), "--optim.epochs", "2", *RUN]
    assert main([*options, "--unit", "study", "--unit-rule", "mean", "--calibrate", "temperature"]) == 0
    card, (images, units) = load_card(out / "model"), images_and_units(out)
    assert card.calibration["Square"]["cases"] == 16  # validation studies, not their 32 images
    mean = images.groupby(images["id"].str[:3])["p_Square"].mean()
    slope = card.calibration["Square"]["slope"]
    logit = np.log(mean / (1 - mean)) * slope + card.calibration["Square"]["intercept"]
    assert units["p_Square"].to_numpy() == pytest.approx((1 / (1 + np.exp(-logit))).to_numpy(), abs=1e-6)


def auroc(table: pd.DataFrame) -> float:
    test = table[(table["split"] == "test") & (table["status"] == "ok")]
    return roc_auc_score(test["y_Square"], test["p_Square"])


def test_a_model_of_several_views_beats_single_images_where_one_view_shows_the_finding(tmp_path, capsys):
    data, out = two_views(tmp_path / "data", 50), tmp_path / "mv"
    encoder = drawn_encoder(tmp_path / "encoder")
    options = ["finetune", "images", "--data", str(data), "--encoder", str(encoder), "--out"]
    learned = ["--recipe", "multi_view", "--unit", "study", "--optim.epochs", "10"]
    assert main([*options, str(out), *learned]) == 0
    probe = ["--mode", "linear", "--optim.epochs", "6", "--optim.base_lr", "0.3", *RUN]
    assert main([*options, str(tmp_path / "single"), *probe]) == 0
    both = [auroc(read_predictions(tmp_path / name / "predictions.csv").table) for name in ("mv", "single")]
    assert both[0] > 0.95 > 0.85 > both[1] > 0.5
    card = load_any_card(out / "model")
    assert card.kind == "multi_view" and card.aggregation == {"unit": "study", "rule": "learned"}
    again = tmp_path / "again.csv"
    assert main(["predict", "images", str(data), "--model", str(out / "model"), "--out", str(again)]) == 0
    units = read_predictions(out / "predictions.csv").table.set_index("id")
    table = read_predictions(again).table.set_index("id").loc[units.index]
    assert table["p_Square"].to_numpy() == pytest.approx(units["p_Square"].to_numpy(), abs=1e-5)
    mixed = tmp_path / "data" / "mixed.csv"
    pd.read_csv(data).sample(frac=1, random_state=0).to_csv(mixed, index=False)
    (tmp_path / "data" / "000_0.png").write_bytes(b"broken")
    python = clinvit.load(out / "model").predict(str(mixed)).set_index("id")
    assert python.loc["p0/s0", "warning"].startswith("1 of 2 images failed: 000_0")
    rest = units.index
    assert python.loc[rest, "p_Square"].to_numpy() == pytest.approx(units["p_Square"].to_numpy(), abs=1e-5)
    capsys.readouterr()
    for more, said in (
        (["--explain", str(tmp_path / "e")], "for which --explain is not made"),
        (["--unit", "patient"], "the model scores studies, as it has learned"),
    ):
        inputs = ["predict", "images", str(data), "--model", str(out / "model"), "--out", str(again)]
        assert main([*inputs, *more]) == 2
        assert said in capsys.readouterr().err
    assert main(["export", str(out / "model"), "--to", "onnx", "--out", str(tmp_path / "x")]) == 2
    assert "its thresholds are for a study" in capsys.readouterr().err


def drawn_encoder(folder: Path) -> Path:
    """Write an encoder of random weights, whose features still say where an image is bright."""
    torch.manual_seed(0)
    arch = Architecture(64, 2, 2, image_size=(40, 40), patch_size=8)
    card = EncoderCard(arch, (0.45,), (0.2,))
    return card.save(folder, ViT(arch))


def test_a_recipe_of_several_views_needs_a_unit_and_an_encoder(tmp_path, capsys):
    data = two_views(tmp_path / "data", 10)
    options = ["finetune", "images", "--data", str(data), "--out", str(tmp_path / "o")]
    for more, said in (
        (["--recipe", "multi_view"], "name the --unit"),
        (["--recipe", "multi_view", "--unit", "study"], "--encoder is missing"),
        (["--recipe", "multi_view", "--unit", "study", "--unit-rule", "max"], "no other --unit-rule"),
        (["--unit", "study", "--unit-rule", "learned"], "take --recipe multi_view"),
        (["--unit", "case"], "no column 'case'"),
        (["--unit", "study", "--folds", "3"], "--folds is of single images"),
        (["--recipe", "multi_view", "--unit", "study", "--estimate"], "--estimate is not for bags"),
    ):
        assert main([*options, *more]) == 2
        assert said in capsys.readouterr().err
    assert main(["learning-curve", *options[1:], "--recipe", "multi_view"]) == 2
    assert "--recipe multi_view is for `clinvit finetune images --unit study` alone" in capsys.readouterr().err


def test_an_acceptance_test_is_of_the_rows_of_the_table(tmp_path, studies, random_model, capsys):
    model, run = random_model(), tmp_path / "run"
    out = run / "predictions.csv"
    predict = ["predict", "images", str(studies), "--model", str(model), "--out", str(out), "--unit", "study"]
    assert main(predict) == 0
    (tmp_path / "t.yaml").write_text("finding: Square\nthreshold: 0.5\nminimum: {sensitivity: 0.5}\n")
    options = ["--data", str(studies.parent), "--out", str(tmp_path / "o")]
    assert main(["acceptance", str(tmp_path / "t.yaml"), str(out), *options]) in (0, 1)
    words = capsys.readouterr()
    assert "are not in the table" not in words.out + words.err


def test_thresholds_of_units_are_none_for_a_table_of_the_images(tmp_path, random_model, studies):
    chosen = {"Square": {"value": 0.5, "how": "youden", "split": "val", "reason": ""}}
    model, run = random_model(thresholds=chosen, aggregation={"unit": "study", "rule": "max"}), tmp_path / "run"
    assert main(["predict", "images", str(studies), "--model", str(model), "--out", str(run / "predictions.csv")]) == 0
    assert stored_thresholds(run / "predictions.csv") == chosen
    shutil.copytree(model, run / "model")
    assert stored_thresholds(run / "predictions.images.csv") == {}
    (run / "predictions.model.json").unlink()
    assert stored_thresholds(run / "predictions.csv") == chosen


class TwoViews(torch.utils.data.Dataset):
    """Items of `two_views` as a data set of one's own."""

    def __init__(self, table: pd.DataFrame, root: Path):
        self.files = [root / path for path in table["path"]]
        self.targets = table[["Square"]].to_numpy(np.float32)
        self.ids, self.patients = table["id"].tolist(), table["patient"].tolist()
        self.studies = table["study"].tolist()

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return np.asarray(Image.open(self.files[index])), self.targets[index]


@pytest.mark.parametrize("own", [False, True], ids=["manifest", "dataset"])
def test_python_trains_units_of_a_manifest_and_of_a_dataset(tmp_path, own):
    data = two_views(tmp_path / "data", patients=20)
    recipe = thorax.recipes.finetune_tiny()
    recipe = replace(
        recipe, model=replace(recipe.model, size="micro", image_size=32), data=replace(recipe.data, labels=("Square",)),
        optim=replace(recipe.optim, epochs=1, warmup_epochs=0, batch_size=16), run=replace(recipe.run, workers=0),
        augment=replace(recipe.augment, size=32),
    )  # fmt: skip
    given = {"data": data}
    if own:
        table = pd.read_csv(data)
        parts = [TwoViews(table[table["split"] == split], tmp_path / "data") for split in ("train", "val", "test")]
        given = dict(zip(("data", "val", "test"), parts))
    model = finetune(recipe, out=tmp_path / "run", unit="study", unit_rule="mean", **given)
    assert model.card.aggregation == {"unit": "study", "rule": "mean"}
    images, units = images_and_units(tmp_path / "run")
    assert len(images) == 2 * len(units) == 32
    assert units["p_Square"].iloc[0] == pytest.approx(images["p_Square"].iloc[:2].mean())
    with pytest.raises(UserError, match="--unit-rule needs --unit"):
        finetune(recipe, out=tmp_path / "other", unit_rule="mean", **given)


def test_studies_of_a_dataset_are_one_for_each_item(tmp_path):
    data = two_views(tmp_path / "data", patients=5)
    items = TwoViews(pd.read_csv(data), tmp_path / "data")
    assert own_manifest({"train": items}, ("Square",)).table["study"].tolist() == items.studies
    items.studies = items.studies[:3]
    with pytest.raises(DataError, match="3 studies of 20 items"):
        own_manifest({"train": items}, ("Square",))
