"""The worklist: called positive first, called negative last, whatever failed before what is in doubt."""

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import DataError
from clinvit.datasets.manifest.tables import Predictions, read_predictions, write_predictions
from clinvit.eval.statistics.triage import Cut, Promise
from clinvit.eval.worklist import Cuts, worklist, worklist_cuts

SCORES = np.linspace(0, 1, 101)


def cuts(upper=0.8, lower=0.2, reference=SCORES) -> Cuts:
    return Cuts(Cut(upper), Cut(lower), reference)


def table(*rows) -> Predictions:
    """Rows of study and scores of Mass and Edema; None for one that failed."""
    found = pd.DataFrame({"id": [f"i{n}" for n in range(len(rows))], "study": [study for study, *_ in rows]})
    found["patient"], found["split"] = found["id"], "new"
    found["status"] = ["failed" if scores[0] is None else "ok" for _, *scores in rows]
    found["reason"] = ["no pixels" if scores[0] is None else "" for _, *scores in rows]
    for at, name in enumerate(("Mass", "Edema")):
        found[f"p_{name}"] = [scores[at] for _, *scores in rows]
    return Predictions("p.csv", found.astype({"p_Mass": float, "p_Edema": float}), ("Mass", "Edema"))


def order(found) -> list[str]:
    return found["study"].tolist()


def test_positive_then_in_doubt_then_negative_and_a_failed_one_before_all_doubts():
    rows = table(("low", 0.1, 0.1), ("mid", 0.5, 0.1), ("bad", None, None), ("high", 0.9, 0.1), ("top", 0.1, 0.95))
    found = worklist(rows, {"Mass": cuts(), "Edema": cuts()})
    assert order(found) == ["top", "high", "bad", "mid", "low"] and found["place"].tolist() == [1, 2, 3, 4, 5]
    assert found["call"].tolist() == ["positive", "positive", "reader", "reader", "negative"]
    assert found["because"].tolist() == [
        "Edema from 0.8 on", "Mass from 0.8 on", "1 of its images could not be scored: no pixels",
        "Mass decides nothing: from 0.2 up to 0.8 the reader does", "all urgent labels below their lower thresholds",
    ]  # fmt: skip
    assert found["label"].tolist() == ["Edema", "Mass", "", "Mass", "Mass"]


def test_the_order_of_urgent_labels_comes_before_the_score_where_there_is_one():
    rows = table(("edema", 0.1, 0.99), ("mass", 0.81, 0.1), ("both", 0.82, 0.99))
    both = {"Mass": cuts(), "Edema": cuts()}
    assert order(worklist(rows, both, ranked=True)) == ["both", "mass", "edema"]
    assert order(worklist(rows, both)) == ["both", "edema", "mass"]
    assert order(worklist(rows, dict(reversed(both.items())), ranked=True)) == ["both", "edema", "mass"]


def test_labels_are_compared_by_how_many_validation_cases_score_lower():
    rows = table(("mass", 0.3, 0.0), ("edema", 0.0, 0.05))
    rare = cuts(upper=0.2, lower=0.01, reference=np.linspace(0, 0.06, 101))
    found = worklist(rows, {"Mass": cuts(), "Edema": rare})
    assert order(found) == ["edema", "mass"] and found["urgency"].tolist() == pytest.approx([84 / 101, 30 / 101], 0.02)


def test_a_study_with_a_failed_image_is_never_negative_and_positive_if_another_image_is():
    rows = table(("a", 0.1, 0.1), ("a", None, None), ("b", 0.9, 0.1), ("b", None, None), ("c", 0.1, 0.1))
    found = worklist(rows, {"Mass": cuts(), "Edema": cuts()}).set_index("study")
    assert found["call"].to_dict() == {"b": "positive", "a": "reader", "c": "negative"}
    assert found["images"].to_dict() == {"b": 2, "a": 2, "c": 1} and found.loc["a", "failed"] == 1


def test_without_a_lower_threshold_of_every_urgent_label_nothing_is_negative():
    rows = table(("a", 0.0, 0.0))
    none = cuts(lower=np.nan)
    assert worklist(rows, {"Mass": cuts(), "Edema": none})["call"].tolist() == ["reader"]
    assert worklist(rows, {"Mass": cuts()})["call"].tolist() == ["negative"]
    assert worklist(table(("a", 1.0, 1.0)), {"Mass": cuts(upper=np.nan)})["call"].tolist() == ["reader"]


def test_rows_without_a_study_are_their_own():
    rows = table(("", 0.9, 0.1), ("", 0.1, 0.1))
    assert order(worklist(rows, {"Mass": cuts()})) == ["i0", "i1"]
    rows = Predictions("p.csv", rows.table.drop(columns="study"), rows.labels)
    assert order(worklist(rows, {"Mass": cuts()})) == ["i0", "i1"]


def reference(tmp_path, name="ref.csv", split="val", cases=400, columns=("Mass",)):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, cases)
    found = pd.DataFrame({"id": [f"r{n}" for n in range(cases)], "patient": [f"q{n}" for n in range(cases)]})
    found["split"], found["status"], found["reason"] = split, "ok", ""
    for column in columns:
        found[f"y_{column}"] = truth
        found[f"p_{column}"] = (0.6 * truth + rng.uniform(0, 0.4, cases)).clip(0, 1)
    write_predictions(tmp_path / name, found)
    return tmp_path / name


def test_the_thresholds_are_those_of_the_report(tmp_path):
    path = reference(tmp_path)
    found = worklist_cuts(read_predictions(path), ["Mass"], Promise(0.9, 0.9))["Mass"]
    assert 0.3 < found.lower.threshold <= found.upper.threshold < 0.7 and len(found.reference) == 400
    with pytest.raises(DataError, match="no label 'Mas'"):
        worklist_cuts(read_predictions(path), ["Mas"], Promise(0.9, 0.9))
    with pytest.raises(DataError, match="no scored case of the split 'test'"):
        worklist_cuts(read_predictions(path), ["Mass"], Promise(0.9, 0.9), split="test")


def test_the_command_writes_the_list_and_says_what_has_no_threshold(tmp_path, capsys):
    path, new = reference(tmp_path), reference(tmp_path, "new.csv", "new", 30)
    few = reference(tmp_path, "few.csv", cases=12)
    out = tmp_path / "list.csv"
    words = ["triage", str(new), "--promise", "ppv=0.9,npv=0.9", "--out", str(out), "--reference"]
    assert main([*words, str(path), "--urgent", "Mass"]) == 0
    found, said = pd.read_csv(out), capsys.readouterr().out
    assert len(found) == 30 and list(found["call"]) == sorted(
        found["call"], key=["positive", "reader", "negative"].index
    )
    assert "30 studies: " in said and "whether both tables are of one model is not known" in said
    assert main([*words, str(few)]) == 0
    said = capsys.readouterr().out
    assert "30 left to the reader" in said and "Mass: no upper threshold" in said and "Mass: no lower threshold" in said
    for name, sha in (("ref", "a"), ("new", "b")):
        (tmp_path / f"{name}.model.json").write_text(f'{{"sha256": "{sha}", "calibration": {{}}}}')
    assert main([*words, str(path)]) == 2
    assert "predicted by another model" in capsys.readouterr().err
