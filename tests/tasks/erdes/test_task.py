"""The ocular-ultrasound task end to end through the command, on a small phantom ERDES."""

import csv
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.datasets.manifest.seen import case_hash, read_hashes
from clinvit.datasets.manifest.tables import Predictions, read_manifest, read_predictions
from clinvit.finetune.model import load_card
from clinvit.phantoms.ocular import write_erdes
from clinvit.tasks.erdes.cascade import OUTCOMES, cascade
from PIL import Image

SMALL = ["--data.cache_px", 72, "--optim.batch_size", 16, "--run.checkpoint_minutes", 0]
DETACHED, MACULA = "non_rd_vs_rd", "macula_detached_vs_intact"


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """All stages, once."""
    work = tmp_path_factory.mktemp("erdes")
    write_erdes(work / "raw", clips=200, seed=1, size_px=96, seconds=(0.8, 1.2))
    data = work / "manifest.csv"
    assert run("prepare", "erdes", work / "raw", "--out", data, "--cache-px", 72) == 0
    assert run("check", "erdes", data, "--files", 20) == 0
    pre = ["--recipe", "demo", "--data", data, *SMALL, "--optim.epochs", 8, "--optim.warmup_epochs", 1]
    assert run("pretrain", "erdes", "--out", work / "mae", *pre) == 0
    for name, label, epochs in (("rd", DETACHED, 40), ("macula", MACULA, 8)):
        options = ["--data.labels", f"[{label}]", "--optim.epochs", epochs]
        fine = ["--recipe", "demo", "--data", data, *SMALL, "--encoder", work / "mae/encoder", *options]
        assert run("finetune", "erdes", "--out", work / name, *fine) == 0
    cnn = ["--model.image_size", 32, "--augment.size", 32, "--optim.epochs", 1]
    cnn += ["--data", data, "--data.labels", f"[{DETACHED}]"]
    assert run("finetune", "erdes", "--recipe", "demo_cnn", "--out", work / "cnn", *cnn) == 0
    (work / "raw/broken.mp4").write_bytes(b"")
    models = ["--model", work / "rd/model", "--macula", work / "macula/model"]
    assert run("predict", "erdes", *models, data, "--out", work / "cascade.csv") == 0
    assert run("evaluate", work / "rd", work / "cnn", "--data", data, "--out", work / "report", "--resamples", 200) == 0
    pages = ["--data", data, "--out", work / "cascade-report", "--resamples", 200]
    assert run("evaluate", work / "cascade.csv", *pages) == 0
    return work


@pytest.mark.slow
def test_every_file_is_there(work):
    expected = [
        "manifest.csv", "manifest.json", "pixel-cache/clips-72px-v3/pixels.u8", "mae/log.csv",
        "mae/reconstructions.png", "mae/encoder/encoder.safetensors", "rd/model/model.json", "rd/model/trained_on.txt",
        "rd/predictions.csv", "cnn/model/model.safetensors", "cascade.csv", "cascade-detachment.csv",
        "report/report.html", "cascade-report/report.html", "cascade-report/report.json",
    ]  # fmt: skip
    assert [name for name in expected if not (work / name).is_file()] == []


@pytest.mark.slow
def test_it_learned_more_than_chance(work):
    with (work / "report/metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "auroc" and row["model"] == "rd"]
    assert float(rows[0]["value"]) > 0.6, rows[0]
    with (work / "mae/log.csv").open(encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.97 * losses[0]


@pytest.mark.slow
def test_models_say_what_they_are(work):
    card = load_card(work / "macula/model")
    assert card.labels == (MACULA,) and "INTACT" in card.meaning[MACULA]
    assert card.arch.frames == 8 and card.clip.sampling == "uniform"
    assert card.thresholds[MACULA]["split"] == "val"
    cnn = load_card(work / "cnn/model")
    assert (cnn.network, cnn.clip.sampling, cnn.arch.image_size) == ("unetplusplus", "volume", (32, 32))
    manifest = read_manifest(work / "manifest.csv")
    train = manifest.rows("train").table
    known = train.loc[train[MACULA].notna(), "id"]
    assert read_hashes(work / "macula/model/trained_on.txt") == frozenset(map(case_hash, known))


@pytest.mark.slow
def test_the_cascade_keeps_seen_clips_out_of_the_test_split(work):
    table, manifest = read_predictions(work / "cascade.csv"), read_manifest(work / "manifest.csv")
    assert table.labels == OUTCOMES and len(table) == len(manifest)
    assert set(table.rows("test").table["id"]) == set(manifest.rows("test").table["id"])
    assert not set(table.rows("test").table["id"].map(case_hash)) & read_hashes(work / "rd/model/trained_on.txt")
    np.testing.assert_allclose(table.scores().sum(axis=1), 1, atol=1e-5)
    report = json.loads((work / "cascade-report/report.json").read_text())
    assert "accuracy" in " ".join(report["headline"]).lower()


@pytest.mark.slow
def test_a_clip_that_fails_is_never_a_healthy_eye(work, capsys):
    out = work / "broken.csv"
    one = next((work / "raw/Non_Retinal_Detachment/Normal").glob("*.mp4"))
    models = ["--model", work / "rd/model", "--macula", work / "macula/model"]
    assert run("predict", "erdes", *models, one, work / "raw/broken.mp4", work / "gone.mp4", "--out", out) == 0
    assert "3 requested = 1 ok + 2 failed" in capsys.readouterr().out
    table = pd.read_csv(out)
    failed = table[table["status"] == "failed"]
    assert len(failed) == 2 and failed.filter(like="p_").isna().all(axis=None) and failed["decision"].isna().all()
    assert "empty" in failed["reason"].iloc[0] and "no such file" in failed["reason"].iloc[1]


@pytest.mark.slow
def test_importance_of_frames_is_drawn(work):
    one = next((work / "raw/Retinal_Detachment/Macula_Detached/TD").glob("*.mp4"))
    options = ["--model", work / "rd/model", "--explain", work / "importance", "--out", work / "one.csv"]
    assert run("predict", "erdes", one, *options) == 0
    (image,) = (work / "importance").glob("*.png")
    assert Image.open(image).size == (1200, 600)


def table_of(label: str, rows: list[tuple]) -> Predictions:
    table = pd.DataFrame(rows, columns=["id", "status", "reason", f"y_{label}", f"p_{label}"])
    table[["patient", "split"]] = [[case, "test"] for case in table["id"]]
    return Predictions(None, table, (label,))


def test_the_rule_of_the_cascade():
    nan = np.nan
    first = [
        ("a", "ok", "", 0, 0.2), ("b", "ok", "", 1, 0.6), ("c", "ok", "", 1, 0.3), ("d", "failed", "empty", 1, nan),
        ("e", "ok", "", 1, 0.9), ("only", "ok", "", 0, 0.1),
    ]  # fmt: skip
    second = [
        ("e", "failed", "cut off", 0, nan), ("d", "ok", "", 0, 0.5), ("c", "ok", "", 1, 0.9), ("b", "ok", "", 0, 0.4),
        ("a", "ok", "", nan, 0.7),
    ]  # fmt: skip
    first, second = table_of(DETACHED, first), table_of(MACULA, second)
    table = cascade(first, second, (0.3, 0.5), (DETACHED, MACULA)).set_index("id")
    assert list(table.index) == ["a", "b", "c", "d", "e"]
    assert table["decision"].tolist() == [OUTCOMES[0], OUTCOMES[2], OUTCOMES[1], "", ""]
    assert table["reason"].tolist() == ["", "", "", "empty", "cut off"]
    assert table.loc["b", [f"p_{name}" for name in OUTCOMES]].tolist() == pytest.approx([0.4, 0.24, 0.36])
    assert table.loc["b", [f"y_{name}" for name in OUTCOMES]].tolist() == [0, 0, 1]
    assert table.loc[["d", "e"]].filter(like="p_").isna().all(axis=None)


def test_a_model_without_the_label_or_threshold_says_so(tmp_path, capsys):
    assert run("predict", "thorax", "--model", tmp_path, "--macula", tmp_path, "x.png") == 2
    assert "--macula is for erdes, not for thorax" in capsys.readouterr().err


def test_recipes_are_the_papers():
    from clinvit.tasks.erdes.recipes import BATCHES, FINETUNE, PRETRAIN

    for network, batch in BATCHES.items():
        recipe = FINETUNE[network]()
        assert recipe.optim.base_lr * recipe.optim.batch_size / 256 == pytest.approx(1.5e-5)
        assert (recipe.optim.batch_size, recipe.optim.epochs, recipe.select) == (batch, 50, "accuracy")
        assert (recipe.model.frames, recipe.model.image_size, recipe.data.clip.sampling) == (96, 128, "volume")
    globe, row = FINETUNE["unet3d_globe_top30"](), FINETUNE["unet3d"]()
    assert (globe.pool, globe.pool_ratio, globe.data.clip.roi) == ("topk", 0.3, "boxes")
    whole = replace(globe.data, clip=replace(globe.data.clip, roi="none"))
    assert replace(globe, pool=row.pool, pool_ratio=row.pool_ratio, data=whole) == row
    from clinvit.tasks.clips import videomae_v2

    base, giant = videomae_v2.PRETRAIN["v2_base"](), videomae_v2.PRETRAIN["v2_giant"]()
    assert (base.mask, base.mask_ratio, base.decoder_mask, base.decode_ratio) == ("tube", 0.9, "running_cell", 0.5)
    assert base.optim.base_lr * base.optim.batch_size / 256 == pytest.approx(4e-3)
    assert giant.optim.base_lr * giant.optim.batch_size / 256 == pytest.approx(4.8e-3)
    assert giant.model.architecture().grid == (8, 16, 16) and giant.decoder.mlp_ratio * 512 == pytest.approx(
        2234.18, 1e-4
    )
    for recipes in (PRETRAIN, FINETUNE):
        for make in recipes.values():
            assert make() == make() and make.__doc__.splitlines()[0].endswith(".")
