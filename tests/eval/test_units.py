"""Predictions of images as those of studies, patients and cases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError, UserError
from clinvit.datasets.manifest.tables import Predictions, Regression, read_manifest, read_predictions
from clinvit.eval import Evaluation
from clinvit.eval.statistics.results import results
from clinvit.eval.units import Units, by_unit, read_unit_rules, unit_manifest
from sklearn.metrics import roc_auc_score

LABELS = ("Mass", "Edema")


def table(n=60, seed=0, per=3, failed=0.1):
    """Return N images of N / per studies, two studies per patient, as a table of predictions."""
    draw = np.random.default_rng(seed)
    study = np.arange(n) // per
    truth = draw.integers(0, 2, (n, 2)).astype(float)
    scores = np.clip(draw.random((n, 2)) * 0.6 + 0.4 * truth, 0, 1)
    bad = draw.random(n) < failed
    scores[bad] = np.nan
    columns = {
        "id": [f"i{i:03d}" for i in range(n)], "patient": [f"p{s // 2}" for s in study],
        "split": np.where(study // 2 % 2, "test", "val"), "status": np.where(bad, "failed", "ok"),
        "reason": np.where(bad, "broken file", ""), "study": [f"s{s % 2}" for s in study],
    }  # fmt: skip
    named = {f"y_{label}": truth[:, i] for i, label in enumerate(LABELS)}
    return pd.DataFrame(columns | named | {f"p_{label}": scores[:, i] for i, label in enumerate(LABELS)})


def written(folder: Path, rows: pd.DataFrame):
    rows.to_csv(folder / "predictions.csv", index=False)
    return read_predictions(folder / "predictions.csv", targets=True)


def scores(found):
    return found.table.set_index("id").sort_index()[["p_Mass", "p_Edema", "y_Mass", "y_Edema"]]


@pytest.mark.parametrize("rule", ["max", "mean", "noisy-or"])
def test_each_rule_is_what_its_formula_says(tmp_path, rule):
    rows = table()
    found = by_unit(written(tmp_path, rows), Units("study", rule), False)
    formula = {"max": np.max, "mean": np.mean, "noisy-or": lambda p: 1 - np.prod(1 - p)}[rule]
    for unit, part in rows.groupby(rows["patient"] + "/" + rows["study"]):
        own = found.table.set_index("id").loc[unit]
        good = part["p_Mass"].dropna()
        assert own["y_Mass"] == part["y_Mass"].max()
        assert own["status"] == ("ok" if len(good) else "failed")
        assert own["p_Mass"] == pytest.approx(formula(good), abs=1e-15) if len(good) else np.isnan(own["p_Mass"])


@pytest.mark.parametrize("rule", ["max", "mean", "noisy-or"])
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_rows_does_not_matter(tmp_path, rule, seed):
    rows = table(seed=seed)
    one = scores(by_unit(written(tmp_path, rows), Units("study", rule), False))
    mixed = rows.sample(frac=1, random_state=seed)
    pd.testing.assert_frame_equal(one, scores(by_unit(written(tmp_path, mixed), Units("study", rule), False)))


@pytest.mark.parametrize("rule", ["max", "mean", "noisy-or"])
def test_one_image_per_unit_gives_the_scores_of_the_images(tmp_path, rule):
    rows = table(per=1)
    found = by_unit(written(tmp_path, rows), Units("study", rule), False)
    own = rows.assign(id=rows["patient"] + "/" + rows["study"])
    pd.testing.assert_frame_equal(scores(found), scores(replace(found, table=own)), check_exact=True)


def test_rules_by_finding(tmp_path):
    found = written(tmp_path, table(failed=0))
    both = by_unit(found, Units("patient", {"Mass": "mean", "": "noisy-or"}), False).table
    mean, noisy = (by_unit(found, Units("patient", rule), False).table for rule in ("mean", "noisy-or"))
    assert both["p_Mass"].equals(mean["p_Mass"])
    assert both["p_Edema"].equals(noisy["p_Edema"])
    assert read_unit_rules(["Mass=mean", "noisy-or"]) == {"Mass": "mean", "": "noisy-or"}
    with pytest.raises(UserError, match=r"no finding 'Mas' \(did you mean 'Mass'\?\)"):
        by_unit(found, Units("patient", {"Mas": "mean"}), False)
    with pytest.raises(UserError, match="'median'"):
        Units("patient", "median")
    with pytest.raises(UserError, match="two rules for Mass"):
        read_unit_rules(["Mass=mean", "Mass=max"])


def test_a_unit_is_scored_on_the_images_that_are_left_and_fails_where_none_is(tmp_path):
    rows = table(n=9, failed=0)
    rows.loc[[0, 3, 4, 5], ["p_Mass", "p_Edema"]] = np.nan
    rows.loc[[0, 3, 4, 5], ["status", "reason"]] = "failed", "cut off"
    found = by_unit(written(tmp_path, rows), Units("study"), False)
    first, second, third = found.table.to_dict("records")
    assert (first["status"], first["reason"], first["warning"]) == ("ok", "", "1 of 3 images failed: cut off")
    assert first["p_Mass"] == rows["p_Mass"][1:3].max()
    assert (second["status"], second["reason"]) == ("failed", "all 3 images failed: cut off")
    assert np.isnan(second["p_Mass"])
    assert second["y_Mass"] == rows["y_Mass"][3:6].max()  # its truth does not depend on its files
    assert (third["images"], third["failed_images"]) == (3, 0)
    said = "9 images are 3 studies, scored by max; 1 study scored without 1 that failed; 1 study of which every image"
    assert any(said in note for note in found.notes)


def test_truths_that_differ_are_said_and_a_finding_of_one_image_is_one_of_the_unit(tmp_path):
    rows = table(n=6, failed=0)
    rows[["y_Mass", "y_Edema"]] = [[0, 0], [1, 0], [0, 0], [0, 1], [0, 1], [np.nan, 1]]
    found = by_unit(written(tmp_path, rows), Units("study"), False)
    assert found.table["y_Mass"].iloc[0] == 1
    assert np.isnan(found.table["y_Mass"].iloc[1])  # no image shows it, and of one nobody knows
    assert any("in 1 study the truth differs between images (Mass in 1)" in note for note in found.notes)


def test_classes_of_a_unit_must_agree_and_are_averaged(tmp_path):
    rows = table(n=6, failed=0)
    rows["y_Edema"] = 1 - rows["y_Mass"]
    rows["y_Mass"] = [1, 1, 1, 0, 1, 0]
    rows["y_Edema"] = 1 - rows["y_Mass"]
    rows["p_Edema"] = 1 - rows["p_Mass"]
    found = by_unit(written(tmp_path, rows), Units("study"), True)
    assert found.truth()[0].tolist() == [1, 0]
    assert np.isnan(found.truth()[1]).all()
    assert found.scores().sum(axis=1) == pytest.approx(1)
    assert any("the class differs between the images of 1 study" in note for note in found.notes)
    with pytest.raises(UserError, match="exclusive classes of a unit are averaged"):
        by_unit(written(tmp_path, rows), Units("study", "max"), True)


def test_numbers_of_a_unit_must_agree_and_are_averaged(tmp_path):
    rows = table(n=6, failed=0)[["id", "patient", "split", "status", "reason", "study"]]
    rows = rows.assign(y_age=[50, 50, np.nan, 60, 61, 60], value_age=[40, 50, 60, 1, 2, 3])
    found = by_unit(written(tmp_path, rows), Units("study"), False)
    assert isinstance(found.targets[0], Regression)
    assert found.table["value_age"].tolist() == [50, 2]
    assert found.table["y_age"].iloc[0] == 50 and np.isnan(found.table["y_age"].iloc[1])
    assert any("age differs between the images of 1 study" in note for note in found.notes)


def test_images_without_a_study_are_one_each_and_equal_numbers_of_two_patients_are_two_studies(tmp_path):
    rows = table(n=6, failed=0)
    rows["patient"], rows["study"], rows["split"] = list("aabbcc"), ["1", "1", "1", "1", "", "nan"], "test"
    found = by_unit(written(tmp_path, rows), Units("study"), False)
    assert found.table["id"].tolist() == ["a/1", "b/1", "i004", "i005"]
    assert any("2 images without a study are one each" in note for note in found.notes)


def test_units_that_would_share_a_name_are_refused(tmp_path):
    rows = table(n=3, failed=0).assign(patient=["a", "a/b", "c"], study=["b/c", "c", ""], split="test")
    with pytest.raises(DataError, match="two studies would both be called 'a/b/c'"):
        by_unit(written(tmp_path, rows), Units("study"), False)


def test_a_table_of_units_stays_as_it_is(tmp_path):
    once = by_unit(written(tmp_path, table()), Units("study", "mean"), False)
    twice = by_unit(written(tmp_path, once.table), Units("study", "max"), False)
    pd.testing.assert_frame_equal(scores(once), scores(twice))
    assert twice.table["images"].astype(int).sum() == 60
    whole = by_unit(twice, Units("patient", "max"), False)
    assert whole.table["images"].sum() == 60 and len(whole.table) == 10


def test_without_a_column_of_the_unit_nothing_is_guessed(tmp_path):
    with pytest.raises(DataError, match=r"no column 'case'.*--unit patient"):
        by_unit(written(tmp_path, table()), Units("case"), False)


def manifest_of(folder: Path, rows: pd.DataFrame):
    named = rows[["id", "patient", "split", "study"]].assign(
        path=rows["id"] + ".png", view=np.where(np.arange(len(rows)) % 3 == 0, "frontal", "lateral"),
        sex=np.where(rows["patient"] < "p5", "M", "F"), Mass=rows["y_Mass"], Edema=rows["y_Edema"],
    )  # fmt: skip
    named.to_csv(folder / "manifest.csv", index=False)
    return read_manifest(folder / "manifest.csv")


def test_a_manifest_of_units(tmp_path):
    rows = table()
    found = unit_manifest(manifest_of(tmp_path, rows), Units("study"), False)
    assert len(found) == 20
    assert set(found.table["view"]) == {"frontal+lateral"}
    assert set(found.table["sex"]) == {"M", "F"}
    truth = rows.groupby(rows["patient"] + "/" + rows["study"])["y_Mass"].max()
    assert found.table.set_index("id")["Mass"].to_dict() == truth.to_dict()


def test_the_command_evaluates_units_with_the_manifest_and_chooses_thresholds_there(tmp_path, capsys):
    rows = table(n=120)
    manifest_of(tmp_path, rows)
    written(tmp_path, rows.drop(columns="study"))
    options = ["--data", str(tmp_path), "--out", str(tmp_path / "r"), "--resamples", "20", "--unit", "study"]
    assert main(["evaluate", str(tmp_path / "predictions.csv"), *options]) == 0
    out = capsys.readouterr().out
    assert "120 images are 40 studies, scored by max" in out
    assert "20 studies of 10 patients" in out, out
    page = (tmp_path / "r/report.html").read_text()
    assert "studys" not in page and "scored by max" in page
    assert main(["evaluate", str(tmp_path / "predictions.csv"), *options, "--unit-rule", "noisy-or"]) == 0
    assert "scored by noisy-or" in capsys.readouterr().out
    assert (
        main(["evaluate", str(tmp_path / "predictions.csv"), "--out", str(tmp_path / "r"), "--unit-rule", "max"]) == 2
    )
    assert "--unit-rule needs --unit" in capsys.readouterr().err


def cohort_of_studies(draw, patients=120):
    """Two studies of three images per patient; one image shows a study's finding, images of a patient are alike."""
    truth = np.repeat(draw.random(2 * patients) < 0.4, 3)
    shown = truth & (np.tile(np.arange(3), 2 * patients) == np.repeat(draw.integers(3, size=2 * patients), 3))
    logit = 2 * shown + draw.normal(size=6 * patients) + 0.7 * np.repeat(draw.normal(size=patients), 6)
    study, image = np.arange(6 * patients) // 3, np.arange(6 * patients)
    columns = {"id": image.astype(str), "patient": (study // 2).astype(str), "split": "test", "status": "ok"}
    named = {
        "reason": "",
        "study": study.astype(str),
        "y_Mass": truth.astype(float),
        "p_Mass": 1 / (1 + np.exp(-logit)),
    }
    return Predictions(Path("p.csv"), pd.DataFrame(columns | named), ("Mass",))


@pytest.mark.thorough
@pytest.mark.parametrize("rule", ["max", "noisy-or"])
def test_intervals_of_units_cover(rule):
    draw, units = np.random.default_rng(0), Units("study", rule)
    large = by_unit(cohort_of_studies(draw, 100_000), units, False)
    true = roc_auc_score(large.truth()[:, 0], large.scores()[:, 0])
    held, runs = 0, 150
    for _ in range(runs):
        table = by_unit(cohort_of_studies(draw), units, False)
        row = results({"m": table}, Evaluation(resamples=300)).models[0].labels[0]
        held += row.metrics["auroc"].low <= true <= row.metrics["auroc"].high
    assert held / runs > 0.935 - 3.5 * np.sqrt(0.935 * 0.065 / runs)
