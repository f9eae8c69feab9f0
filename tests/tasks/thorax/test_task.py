"""The thorax task through the command, on phantoms: what is written, and that the model learned more than chance."""

import csv
import json

import numpy as np
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.finetune.model import load_card
from clinvit.phantoms.radiographs import write_chestxray14

SMALL = (
    "--model.size micro --model.image_size 64 --augment.size 64 --model.patch_size 16 --data.cache_px 80 "
    "--optim.batch_size 16"
).split()


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """All stages, once."""
    work = tmp_path_factory.mktemp("thorax")
    common = {"Cardiomegaly": 0.4, "Effusion": 0.4, "Edema": 0.3}
    write_chestxray14(work / "raw", patients=110, seed=1, size=128, prevalence=common)
    data = work / "manifest.csv"
    assert run("check", "thorax", work / "raw") == 2, "eleven findings are 0 in all cases"
    assert run("check", "thorax", work / "raw", "--labels", ",".join(common)) == 0
    assert run("prepare", "thorax", work / "raw", "--out", data, "--cache-px", 80) == 0
    assert run("check", "thorax", data, "--labels", ",".join(common)) == 0
    labels = ["--data.labels", json.dumps(list(common))]
    pre = ["--recipe", "demo", "--data", data, *SMALL, "--optim.epochs", 10, "--optim.warmup_epochs", 2]
    assert run("pretrain", "thorax", "--out", work / "mae", *pre) == 0
    fine = ["--recipe", "demo", "--data", data, *SMALL, *labels, "--optim.epochs", 25, "--patch_drop", 0]
    assert run("finetune", "thorax", "--encoder", work / "mae/encoder", "--out", work / "ft", *fine) == 0
    fine += ["--optim.layer_decay", 1, "--optim.epochs", 5, "--optim.warmup_epochs", 1]
    assert run("finetune", "thorax", "--out", work / "scratch", *fine) == 0
    assert run("predict", "thorax", "--model", work / "ft/model", "--out", work / "new.csv", data) == 0
    pair = [f"mae={work / 'ft'}", f"scratch={work / 'scratch'}"]
    assert run("evaluate", *pair, "--data", data, "--out", work / "report", "--resamples", 200) == 0
    assert run("compare", *pair, "--out", work / "compare", "--resamples", 200) == 0
    return work


@pytest.mark.slow
def test_every_file_is_there(work):
    expected = [
        "manifest.csv", "manifest.json", "pixel-cache/80px-v3/pixels.u8",
        "mae/recipe.yaml", "mae/environment.json", "mae/log.csv", "mae/reconstructions.png",
        "mae/checkpoints/last.ckpt", "mae/encoder/encoder.safetensors", "mae/encoder/encoder.json",
        "ft/recipe.yaml", "ft/log.csv", "ft/model/model.safetensors", "ft/model/model.json", "ft/model/trained_on.txt",
        "ft/predictions.csv",
        "report/report.html", "report/report.json", "report/metrics.csv", "compare/report.html",
    ]  # fmt: skip
    assert [name for name in expected if not (work / name).is_file()] == []
    assert list((work / "mae/tensorboard").glob("events*"))
    leftovers = [path for path in work.rglob(".*") if path.name != ".lock"]
    assert leftovers == [], "nothing half-written stays"


@pytest.mark.slow
def test_it_learned_more_than_chance(work):
    report = json.loads((work / "report/report.json").read_text())
    with (work / "report/metrics.csv").open(encoding="utf-8") as file:
        macro = [row for row in csv.DictReader(file) if row["metric"] == "macro_auroc" and row["model"] == "mae"]
    assert float(macro[0]["value"]) > 0.62 and float(macro[0]["low"]) > 0.5
    assert len(report["comparisons"]) == 1 and "AUROC" in report["headline"][0]
    with (work / "mae/log.csv").open(encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.93 * losses[0]


@pytest.mark.slow
def test_the_model_says_what_it_is(work):
    card = load_card(work / "ft/model")
    assert card.labels == ("Cardiomegaly", "Effusion", "Edema")
    assert all(text.startswith("1 = ") for text in card.meaning.values())
    assert {t["split"] for t in card.thresholds.values()} == {"val"}
    assert card.encoder["method"] == "mae" and card.encoder["data"]["splits"] == ["train"]
    assert load_card(work / "scratch/model").encoder == {}


@pytest.mark.slow
def test_predictions_of_files_equal_those_of_the_run(work):
    manifest, ours = read_manifest(work / "manifest.csv"), read_predictions(work / "ft/predictions.csv")
    files = read_predictions(work / "new.csv")
    assert len(files) == len(manifest) and not len(files.failed())
    both = ours.table.merge(files.table, on="id", suffixes=("_run", "_file"))
    assert len(both) == len(ours) > 0
    for label in ours.labels:
        np.testing.assert_allclose(both[f"p_{label}_run"], both[f"p_{label}_file"], atol=2e-4)


@pytest.mark.slow
def test_the_same_command_again_changes_nothing(work):
    before = (work / "ft/model/model.safetensors").read_bytes()
    text = (work / "ft/recipe.yaml").read_text()
    (work / "same.yaml").write_text(text)
    again = ["--data", work / "manifest.csv", "--config", work / "same.yaml", "--recipe", "demo"]
    assert run("finetune", "thorax", "--encoder", work / "mae/encoder", "--out", work / "ft", *again) == 0
    assert (work / "ft/model/model.safetensors").read_bytes() == before


def test_recipes_are_the_papers():
    from clinvit.tasks.thorax.recipes import FINETUNE, PRETRAIN

    small, base, fine = PRETRAIN["vit_s"](), PRETRAIN["vit_b"](), FINETUNE["vit_s"]()
    assert (small.mask_ratio, small.augment.crop_scale, small.target) == (0.90, (0.5, 1.0), "pixels")
    assert (small.decoder.depth, base.decoder.depth, base.model.size) == (2, 8, "base")
    assert small.optim.base_lr * small.optim.batch_size / 256 == pytest.approx(1.2e-3)
    assert fine.optim.base_lr * fine.optim.batch_size / 256 == pytest.approx(1e-3)
    assert (fine.optim.layer_decay, fine.model.drop_path, fine.augment.randaug) == (0.55, 0.2, "m6-n2-mstd0.5-inc1")
    for recipes in (PRETRAIN, FINETUNE):
        for make in recipes.values():
            assert make() == make()
            assert "Command: clinvit" in make.__doc__ or make.__name__.endswith("demo")
