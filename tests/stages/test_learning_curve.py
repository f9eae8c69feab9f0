"""A learning curve on small images: really trained, interrupted once; nested subsets; what it refuses."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from clinvit.backbone.encoder import EncoderCard, save_encoder
from clinvit.backbone.sizes import Model
from clinvit.backbone.vit import ViT
from clinvit.cli import main
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import Regression, read_manifest
from clinvit.finetune.recipe import Finetune
from clinvit.stages import learning_curve
from clinvit.stages.learning_curve import Asked, absent_notes, learning_curve_stage, subsets_of
from clinvit.tests.reliability.work import RUN, TINY

SHARES = (Fraction(1, 2), Fraction(1))
FILES = ("learning_curve.json", "learning_curve.csv", "learning_curve.html", "subsets.csv")


@pytest.fixture
def manifest(tmp_path):
    """Sixty-four training patients of two images, half of them with Common, four with Rare."""
    rows = [
        (f"{p}_{i}", "x.png", f"p{p}", "train" if p < 64 else ("val", "test")[p % 2], p % 2, int(p % 16 == 1))
        for p in range(80)
        for i in range(2)
    ]
    table = pd.DataFrame(rows, columns=["id", "path", "patient", "split", "Common", "Rare"])
    table.loc[:1, ["Common", "Rare"]] = np.nan  # the first patient's labels are not known
    table.to_csv(tmp_path / "manifest.csv", index=False)
    return read_manifest(tmp_path / "manifest.csv")


def test_subsets_are_nested_by_patient_and_leave_validation_and_test_whole(manifest):
    found = subsets_of(Finetune(), manifest, Asked(), 0)
    before: set[str] = set()
    for subset, count in zip(found, (1, 3, 7, 15, 31, 63)):
        table = subset.manifest.table
        own = set(table.loc[table["split"] == "train", "patient"])
        assert len(own) == subset.patients == count and subset.cases == 2 * count
        assert before < own and "p0" not in own
        assert set(table.loc[table["split"] != "train", "id"]) == set(manifest.rows("val", "test").table["id"])
        before = own
    assert found[0].absent == ("Common", "Rare") and found[-1].absent == ()
    others = subsets_of(Finetune(), manifest, Asked(), 1)
    assert set(others[3].manifest.table["id"]) != set(found[3].manifest.table["id"])


def test_a_finding_absent_in_a_subset_is_named_and_not_learned_there(manifest):
    found = subsets_of(Finetune(), manifest, Asked(), 0)
    without = [subset for subset in found if "Rare" in subset.absent]
    assert without and all("Rare" not in subset.learned for subset in without)
    notes = absent_notes(found)
    assert notes[0].startswith("Common: no positive or no negative case in the subset 1/32 (seed 0); no score")
    assert notes[-1] == "not trained, for want of cases of every class: 1/32 (seed 0)"
    exclusive = subsets_of(Finetune(loss="ce"), manifest, Asked(), 0)
    assert [subset.learned == () for subset in exclusive] == [bool(subset.absent) for subset in found]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(shares=(Fraction(1, 128), Fraction(1))), "of 63 labelled training patients the shares are 0, 63"),
        (Asked(shares=(Fraction(40, 100), Fraction(41, 100), Fraction(1))), "are 25, 25, 63"),
        (Asked(shares=(Fraction(1),)), "--shares 1: name two or more"),
        (Asked(shares=(Fraction(1, 2), Fraction(3, 4))), "the last 1"),
        (Asked(seeds=0), "--seeds 0: 1 or more"),
    ],
)
def test_shares_that_mean_nothing_are_refused(manifest, tmp_path, asked, message):
    with pytest.raises((UserError, DataError), match=message):
        learning_curve_stage(Finetune(), manifest, tmp_path / "out", asked, encoder=None)
    assert not (tmp_path / "out").exists()


def test_no_test_split_is_refused(manifest, tmp_path):
    without = replace(manifest, table=manifest.rows("train", "val").table)
    with pytest.raises(DataError, match=r"no labelled case in the split test, .*--split val"):
        learning_curve_stage(Finetune(), without, tmp_path / "out", Asked(), encoder=None)


def test_numbers_and_grades_are_refused(manifest, tmp_path):
    with pytest.raises(DataError, match=r"age is no finding but regression; .* --data\.labels"):
        aged = replace(manifest, kinds=(Regression("age"),))
        learning_curve_stage(Finetune(), aged, tmp_path / "out", Asked(), encoder=None)


def test_a_folder_of_another_run_is_refused(manifest, tmp_path):
    (tmp_path / "recipe.yaml").write_text("seed: 0")
    with pytest.raises(UserError, match="no learning curve"):
        learning_curve_stage(Finetune(), manifest, tmp_path, Asked(), encoder=None)


def test_interrupted_and_continued_equals_never_interrupted(cohort, tmp_path, monkeypatch, capsys):
    data = cohort(patients=100)
    arch = Model("micro", image_size=32, patch_size=8).architecture()
    save_encoder(tmp_path / "encoder", ViT(arch), EncoderCard(arch, (0.5,), (0.25,)))
    command = [
        "learning-curve", "thorax", "--data", data, "--encoder", tmp_path / "encoder", "--shares", "1/2,1",
        "--seeds", 2, "--more", 50, "--resamples", 100, *TINY, *RUN,
        "--optim.warmup_epochs", 0, "--optim.epochs", 1, "--run.threads", 1,
    ]  # fmt: skip
    assert main([str(word) for word in [*command, "--out", tmp_path / "whole"]]) == 0
    said = capsys.readouterr().out
    assert "Pretrained: another 50 labelled images are worth" in said and "[8/8] 1 of the labels" in said

    train, calls = learning_curve.finetune_stage, []

    def stopped(*arguments, **inputs):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(arguments)
        return train(*arguments, **inputs)

    again = [str(word) for word in [*command, "--out", tmp_path / "again"]]
    monkeypatch.setattr(learning_curve, "finetune_stage", stopped)
    assert main(again) == 130 and not (tmp_path / "again/learning_curve.json").exists()
    monkeypatch.setattr(learning_curve, "finetune_stage", train)
    assert main(again) == 0
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name

    found = json.loads((tmp_path / "whole/learning_curve.json").read_text())
    assert found["models"] == ["pretrained", "scratch"] and found["cases"] == 40
    curve = found["curves"][0]
    assert curve["metric"] == "macro AUROC" and curve["findings"] == ["Square", "Bar"]
    assert [point["runs"] for point in curve["points"]] == [2, 2] and curve["worth"]["low"] is not None
    assert len(found["gains"]) == 2 * len(found["curves"]) / 2
    runs = pd.read_csv(tmp_path / "whole/learning_curve.csv", dtype={"share": str})
    macro = runs[runs["metric"] == "macro AUROC"]
    assert len(macro) == 8 and len(runs) == 24
    own = macro[(macro["model"] == "pretrained") & (macro["share"] == "1")]
    assert own["value"].mean() == pytest.approx(curve["points"][1]["value"], abs=1e-6)
