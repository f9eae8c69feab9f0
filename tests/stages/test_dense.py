"""Findings that are drawn, by the command: learned from masks and boxes, predicted as maps, evaluated."""

import json

import pandas as pd
import pytest
from clinvit.api import load
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.images.image_maps import case_file, read_maps
from clinvit.finetune.model import load_card, load_model
from clinvit.phantoms.masked import write_masked_radiographs
from clinvit.stages.export import export_stage

RECIPE = (
    "--recipe tiny --model.size micro --model.image_size 64 --augment.size 64 --model.patch_size 8 --data.cache_px 64 "
    "--augment.rotate_deg 0 --view.flip false --dense.channels 16 --optim.layer_decay 1 --optim.batch_size 16 "
    "--optim.base_lr 0.02 --optim.warmup_epochs 1 --run.precision 32-true"
).split()


def command(*words) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Ninety chests, most of them with a mass that lies anywhere in the lungs, with its mask and its box."""
    return write_masked_radiographs(tmp_path_factory.mktemp("phantoms"), patients=90, size=64, prevalence={"Mass": 0.6})


@pytest.fixture(scope="module")
def drawn(phantoms, tmp_path_factory):
    """A model that was trained on masks from the encoder of a short pre-training, and its maps of all cases."""
    out, cache = tmp_path_factory.mktemp("drawn"), ["--cache", phantoms.parent / "cache"]
    short = [*RECIPE[:10], *RECIPE[-2:]]
    command("pretrain", "thorax", *short, "--optim.epochs", 1, "--optim.warmup_epochs", 0, "--optim.batch_size", 16,
            "--data", phantoms, "--out", out / "mae", *cache)  # fmt: skip
    command("finetune", "thorax", *RECIPE, "--target", "masks", "--optim.epochs", 16, "--data", phantoms,
            "--encoder", out / "mae/encoder", "--out", out / "run", *cache)  # fmt: skip
    command("predict", "thorax", phantoms, "--model", out / "run/model", "--out", out / "predictions.csv")
    command("evaluate", f"drawn={out / 'predictions.csv'}", "--data", phantoms, "--out", out / "report",
            "--resamples", 200)  # fmt: skip
    return out


def test_what_is_drawn_is_nearer_than_chance_and_the_middle(drawn):
    report = json.loads((drawn / "report/report.json").read_text())
    pointing = report["boxes"]["drawn"]["labels"][-1]
    for base in ("uniform", "centre"):
        gain = pointing["minus_baselines"][base]["pointing_game"]
        assert gain["value"] > 0 and gain["low"] is None and gain["reason"]  # 10 patients: no interval covers
    found = report["dense"]["drawn"]["labels"][-1]["metrics"]
    assert found["dice"]["value"] > 0.2 and found["froc"]["value"] > 0.3 and found["iou"]["low"] > 0
    page = (drawn / "report/report.html").read_text()
    assert "Drawn findings" in page and "dense head" in page


def test_maps_are_probabilities_with_a_threshold_from_validation(drawn):
    card = load_card(drawn / "run/model")
    assert card.dense["target"] == "masks" and card.dense["thresholds"]["Mass"]["split"] == "val"
    found = read_maps(next((drawn / "explanations/maps").glob("*.h5")))
    assert found.method == "dense" and found.maps.shape == (1, 32, 32)
    assert found.thresholds == (card.dense["thresholds"]["Mass"]["value"],)
    network, _ = load_model(drawn / "run/model", dense=True)
    assert network.head.last.out_channels == 1
    table = pd.read_csv(drawn / "predictions.csv", dtype={"id": str}).set_index("id")
    for case in table.index[:10]:
        own = read_maps(case_file(drawn / "explanations/maps", case, ".h5"))
        assert own.highest[0] == pytest.approx(table.loc[case, "p_Mass"], abs=1e-3)
        assert own.probabilities("Mass").max() == pytest.approx(own.highest[0], rel=1e-3)


def test_other_verbs_say_that_it_draws(drawn, tmp_path):
    for use in (
        lambda: load(drawn / "run/model"),
        lambda: export_stage(drawn / "run/model", "onnx", tmp_path / "onnx"),
    ):
        with pytest.raises(UserError, match="draws where findings are"):
            use()


def test_a_repeated_command_goes_on_and_other_truth_is_refused(drawn, phantoms, capsys):
    words = ["finetune", "thorax", *RECIPE, "--target", "boxes", "--optim.epochs", 16, "--data", phantoms]
    assert main([str(w) for w in [*words, "--encoder", drawn / "mae/encoder", "--out", drawn / "run"]]) == 2
    assert "holds another run" in capsys.readouterr().err


def test_what_is_drawn_is_compared_with_the_maps_of_a_classifier(drawn, phantoms, tmp_path):
    command("finetune", "thorax", *RECIPE, "--patch_drop", 0, "--optim.epochs", 2, "--data", phantoms, "--out",
            tmp_path / "run", "--cache", phantoms.parent / "cache")  # fmt: skip
    command("predict", "thorax", phantoms, "--model", tmp_path / "run/model", "--out", tmp_path / "predictions.csv",
            "--explain", tmp_path / "explanations")  # fmt: skip
    command("evaluate", f"drawn={drawn / 'predictions.csv'}", f"vit={tmp_path / 'predictions.csv'}", "--data", phantoms,
            "--out", tmp_path / "report", "--resamples", 100)  # fmt: skip
    report = json.loads((tmp_path / "report/report.json").read_text())
    (against,) = report["dense"]["drawn"]["against_maps"]
    assert against["maps"] == "vit" and against["differences"]["pointing_game"]["value"] > 0
    assert "Beside the best map of each measure" in report["dense"]["drawn"]["verdict"]


def test_boxes_are_learned_and_what_is_for_labels_is_left_out(phantoms, tmp_path, capsys):
    command("finetune", "thorax", *RECIPE, "--target", "boxes", "--dense.edge_weight", 5, "--optim.epochs", 2, "--data",
            phantoms, "--out", tmp_path / "run", "--cache", phantoms.parent / "cache")  # fmt: skip
    said = capsys.readouterr().out
    assert "boxes: train" in said and "being for labels and not for maps: patch_drop 0.5" in said
    assert load_card(tmp_path / "run/model").dense["edge_weight"] == 5


def test_slides_and_clips_are_refused(capsys, tmp_path):
    assert main(["finetune", "slides", "--target", "masks", "--data", "d", "--features", "f", "--out", "o"]) == 2
    assert "--target is for images: a slide" in capsys.readouterr().err
