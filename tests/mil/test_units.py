"""Several slides of a patient as one bag: the tumour is in one of them, the label is the patient's."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.seen import read_hashes
from clinvit.datasets.manifest.tables import read_manifest, read_predictions
from clinvit.engine.recipe import Optim, Run
from clinvit.mil.model import load_mil
from clinvit.mil.predict import predict_mil
from clinvit.mil.recipe import Mil
from clinvit.mil.units import UnitBags, VectorBags, predict_units, rows_of
from clinvit.stages.finetune import finetune_stage
from clinvit.stages.units import Asked
from sklearn.metrics import roc_auc_score

h5py = pytest.importorskip("h5py")
WIDTH = 8
RECIPE = Mil(
    aggregator="gated_attention",
    optim=Optim(
        epochs=8, warmup_epochs=0, batch_size=2, base_lr=2.56, weight_decay=1e-4, betas=(0.9, 0.999), optimizer="adam"
    ),
    run=Run(precision="32-true", checkpoint_minutes=0),
)


@pytest.fixture
def patients(tmp_path):
    """Two slides of each of 45 patients; of a patient with a tumour one slide shows it. One file is broken."""
    draw = np.random.default_rng(0)
    (tmp_path / "features").mkdir()
    rows = []
    for patient in range(45):
        tumor, shown = patient // 3 % 2, draw.integers(2)
        for slide in range(2):
            features = draw.normal(0, 1, (int(draw.integers(6, 20)), WIDTH))
            if tumor and slide == shown:
                features[-3:, 0] += 5
            name = f"s{patient}_{slide}"
            with h5py.File(tmp_path / f"features/{name}.h5", "w") as file:
                file.create_dataset("features", data=features.astype(np.float32))
                file.create_dataset("coords", data=np.zeros((len(features), 2), np.int64))
            rows.append((name, f"{name}.tif", f"p{patient}", ("train", "val", "test")[patient % 3], tumor))
    (tmp_path / "features/s2_0.h5").write_bytes(b"broken")
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "tumor"])
    table.to_csv(tmp_path / "manifest.csv", index=False)
    return read_manifest(tmp_path / "manifest.csv"), tmp_path / "features"


def auroc(path) -> float:
    table = read_predictions(path).rows("test").scored()
    return roc_auc_score(table.truth()[:, 0], table.scores()[:, 0])


def test_slides_of_a_patient_are_one_bag_from_training_to_prediction(patients, tmp_path, capsys):
    manifest, features = patients
    out = tmp_path / "run"
    model = finetune_stage(RECIPE, manifest, out, features=features, units=Asked("patient", "learned"))
    units = read_predictions(out / "predictions.csv").table
    assert len(units) == 30 and (units["status"] == "ok").all()
    assert auroc(out / "predictions.csv") == 1
    slides = read_predictions(out / "predictions.slides.csv").scored().table
    assert len(slides) == 59 and (slides.groupby("patient")["p_tumor"].nunique() == 1).all()
    card = load_mil(model, units=True)[1]
    assert card.aggregation == {"unit": "patient", "rule": "learned"}
    assert len(read_hashes(model / "trained_on.txt")) == 30  # slides, by which they are found again
    assert set(card.thresholds) == {"tumor"}
    broken = units.set_index("id").loc["p2"]
    assert broken["slides"] == "2" and broken["failed_slides"] == "1"
    capsys.readouterr()
    again = tmp_path / "again.csv"
    inputs = ["predict", "slides", str(manifest.path), "--model", str(model), "--features", str(features)]
    assert main([*inputs, "--out", str(again)]) == 0
    assert "90 slides are 45 patients, scored by the attention that the model has learned" in capsys.readouterr().out
    table = read_predictions(again).table.set_index("id")
    assert table.loc[units["id"], "p_tumor"].to_numpy() == pytest.approx(units["p_tumor"].to_numpy(), abs=1e-6)
    assert main([*inputs, "--out", str(again), "--unit", "patient", "--unit-rule", "max"]) == 2
    assert "the model scores patients, as it has learned" in capsys.readouterr().err


def test_slides_of_a_patient_by_a_rule(patients, tmp_path):
    manifest, features = patients
    brief = replace(RECIPE, optim=replace(RECIPE.optim, epochs=1))
    model = finetune_stage(brief, manifest, tmp_path / "run", features=features, units=Asked("patient", "max"))
    slides = read_predictions(tmp_path / "run/predictions.slides.csv").table
    units = read_predictions(tmp_path / "run/predictions.csv").table.set_index("id")
    largest = slides.groupby("patient")["p_tumor"].max()
    assert units["p_tumor"].to_dict() == pytest.approx(largest.to_dict(), abs=1e-7)
    again = tmp_path / "again.csv"
    inputs = ["predict", "slides", str(manifest.path), "--model", str(model), "--features", str(features)]
    assert main([*inputs, "--out", str(again), "--split", "test"]) == 0
    table = read_predictions(again).table.set_index("id")
    assert table["p_tumor"].to_dict() == pytest.approx(units.loc[table.index, "p_tumor"].to_dict(), abs=1e-6)


def vectors(n=12, width=4, bad=()):
    found = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
    return VectorBags(found, ["broken" if row in bad else "" for row in range(n)], "x", {})


def trained(width=4):
    import torch
    from clinvit.mil.model import MilCard
    from clinvit.mil.recipe import build_aggregator

    torch.manual_seed(0)
    recipe = replace(RECIPE, hidden=8)
    card = MilCard(("tumor",), {}, False, "gated_attention", 8, 128, "bag", width)
    return build_aggregator(recipe, width, 1).eval(), card


def test_the_order_of_the_rows_does_not_matter_and_a_unit_of_one_is_its_image():
    model, card = trained()
    bags, units = vectors(), pd.Series([f"u{row // 3}" for row in range(12)])
    plain = {each.row: each.probabilities for each in predict_units(model, card, bags, units)}
    order = np.random.default_rng(1).permutation(12)
    mixed = VectorBags(bags.vectors[order], [""] * 12, "x", {})
    found = list(predict_units(model, card, mixed, units.iloc[order].reset_index(drop=True)))
    assert [each.row for each in found] == list(range(12))
    for each, row in zip(found, order, strict=True):
        assert each.probabilities == pytest.approx(plain[row], abs=1e-6)
    alone = predict_units(model, card, bags, pd.Series(map(str, range(12))))
    for one, other in zip(alone, predict_mil(model, card, bags), strict=True):
        assert one.probabilities == other.probabilities and (one.instances == other.instances).all()


def test_an_image_that_fails_is_left_out_of_its_unit_and_a_unit_of_which_all_fail_has_none():
    model, card = trained()
    units = pd.Series([f"u{row // 3}" for row in range(12)])
    found = list(predict_units(model, card, vectors(bad={1, 3, 4, 5}), units))
    assert [bool(each.reason) for each in found[:6]] == [False, True, False, True, True, True]
    two = UnitBags(vectors(), [[0, 2]])
    (own,) = predict_mil(model, card, two)
    assert found[0].probabilities == own.probabilities and len(found[0].instances) == 1
    with pytest.raises(DataError, match="broken"):
        UnitBags(vectors(bad={0, 1}), [[0, 1]]).bag(0)


def test_instances_that_are_drawn_come_from_all_bags_of_a_unit():
    bags = UnitBags(vectors(), rows_of(pd.Series(list("abcabcabcabc"))))
    assert [bags.count(unit) for unit in range(3)] == [4, 4, 4]
    assert (bags.bag(1, np.array([0, 3])) == vectors().vectors[[1, 10]]).all()
