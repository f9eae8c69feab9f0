"""Settings of thresholds are used or refused, and the report says which were used and where they come from."""

import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.eval import Evaluation, evaluate
from clinvit.eval.statistics.rules import read_rules


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], None),
        (["0.31"], "0.31"),
        (["cost=10:1@0.02"], "cost=10:1@0.02"),
        (["Effusion=0.31,Nodule=0.4"], {"Effusion": "0.31", "Nodule": "0.4"}),
        (["Effusion=0.31", " Nodule = 0.4 "], {"Effusion": "0.31", "Nodule": "0.4"}),
        (["Mass, left=.3,youden"], {"Mass, left": ".3", "": "youden"}),
        (["a=b=1e-3", "Mass=sensitivity=0.9"], {"a=b": "1e-3", "Mass": "sensitivity=0.9"}),
    ],
)
def test_rules_are_read(texts, expected):
    assert read_rules(texts) == expected


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["0.3", "0.4"], "two rules for all findings, 0.3 and 0.4"),
        (["Mass=0.3,Mass=0.4"], "two rules for 'Mass'"),
        (["31"], "within 0..1"),
        (["-0.1"], "within 0..1"),
        (["Mass=31"], "within 0..1"),
        (["Mass=best"], "threshold rule 'best'"),
        (["sensitivity=2"], "threshold rule 'sensitivity=2'"),
        (["Mass"], "threshold rule 'Mass'"),
        ([""], "threshold rule ''"),
    ],
)
def test_what_is_no_rule_is_refused(texts, said):
    with pytest.raises(UserError, match=said):
        read_rules(texts)


def cases(path, splits=("val", "test"), labels=("Mass", "Edema"), stored=None, rule="youden"):
    n = 200
    generator = np.random.default_rng(0)
    truth = (generator.random((n, 2)) < 0.4).astype(int)
    scores = 1 / (1 + np.exp(-1.5 * truth - generator.normal(size=truth.shape) + 1))
    split = np.array(splits)[np.arange(n) % len(splits)]
    columns = {"id": np.arange(n), "patient": [f"p{i}" for i in range(n)], "split": split, "status": "ok", "reason": ""}
    columns |= {f"y_{label}": truth[:, i] for i, label in enumerate(labels)}
    columns |= {f"p_{label}": scores[:, i].round(5) for i, label in enumerate(labels)}
    path.parent.mkdir(exist_ok=True)
    pd.DataFrame(columns).to_csv(path, index=False)
    if stored:
        facts = {"thresholds": {label: {"value": value, "how": rule} for label, value in stored.items()}}
        path.with_suffix(".model.json").write_text(json.dumps(facts))
    return path


def used(table, out, *options):
    assert main(["evaluate", str(table), "--out", str(out), "--resamples", "20", *options]) == 0
    content = json.loads((out / "report.json").read_text())
    thresholds = {row["label"]: row["threshold"] for row in content["models"][0]["labels"]}
    return content["settings"], thresholds, " ".join((out / "report.html").read_text().split())


STORED = {"Mass": 0.26647, "Edema": 0.5}


def test_a_rule_is_refused_where_nothing_can_be_chosen_on(tmp_path, capsys):
    table = cases(tmp_path / "p.csv", ["test"], stored=STORED)
    for rule in ("sensitivity=0.95", "youden", "Mass=specificity=0.9", "cost=2:1"):
        assert main(["evaluate", str(table), "--out", str(tmp_path / "r"), "--threshold", rule]) == 2
        words = capsys.readouterr().err
        assert "has no scored val row" in words and "stored with the model" in words and not (tmp_path / "r").exists()


def test_stored_thresholds_hold_where_no_rule_is_named(tmp_path):
    settings, own, page = used(cases(tmp_path / "p.csv", ["test"], stored=STORED), tmp_path / "r")
    assert settings["threshold_asked"] is None and settings["threshold_rule"] == "stored with the model"
    assert own["Mass"]["value"] == 0.26647 and own["Mass"]["source"] == "stored with the model"
    assert "Thresholds: stored with the model." in page


def test_a_rule_wins_over_stored_thresholds(tmp_path):
    table = cases(tmp_path / "p.csv", stored=STORED)
    settings, own, _ = used(table, tmp_path / "r", "--threshold", "sensitivity=0.95")
    assert settings["threshold_asked"] == settings["threshold_rule"] == "sensitivity=0.95"
    for threshold in own.values():
        assert threshold["chosen_on"] == "val" and threshold["value"] not in STORED.values()
        assert threshold["source"] == "chosen on val of the same table"


def test_the_rule_of_the_model_is_kept_where_none_is_named(tmp_path):
    table = cases(tmp_path / "p.csv", stored=STORED, rule="sensitivity=0.95")
    settings, own, _ = used(table, tmp_path / "r")
    assert settings["threshold_rule"] == "sensitivity=0.95"
    assert own == used(table, tmp_path / "s", "--threshold", "sensitivity=0.95")[1]
    assert used(table, tmp_path / "t", "--threshold", "youden")[1] != own


@pytest.mark.parametrize("splits", [["test"], ["val", "test"]])
def test_a_cut_off_of_the_protocol(splits, tmp_path):
    table = cases(tmp_path / "p.csv", splits, stored=STORED)
    settings, own, page = used(table, tmp_path / "r", "--threshold", "0.31")
    assert settings["threshold_rule"] == "0.31" and "Thresholds: 0.31, from the protocol." in page
    assert {(t["value"], t["source"], t["chosen_on"]) for t in own.values()} == {(0.31, "from the protocol", "")}
    scores = pd.read_csv(table).query("split == 'test'")
    content = json.loads((tmp_path / "r/report.json").read_text())
    counts = content["models"][0]["labels"][0]["counts"]
    assert counts["tp"] == ((scores["p_Mass"] >= 0.31) & (scores["y_Mass"] == 1)).sum()


def test_a_cut_off_for_one_finding(tmp_path):
    table = cases(tmp_path / "p.csv", ["test"], stored=STORED)
    settings, own, page = used(table, tmp_path / "r", "--threshold", "Mass=0.31")
    assert settings["threshold_asked"] == {"Mass": "0.31"}
    assert settings["threshold_rule"] == "0.31, stored with the model"
    assert (own["Mass"]["value"], own["Edema"]["value"]) == (0.31, 0.5)
    assert "Thresholds of Mass: 0.31, from the protocol. Thresholds of Edema: stored with the model." in page
    again = evaluate({"m": table}, tmp_path / "s", evaluation=Evaluation(rule={"Mass": 0.31, "": 0.2}, resamples=20))
    rows = again.metrics.query("metric == 'threshold'").set_index("label")["value"]
    assert rows.to_dict() == {"Mass": 0.31, "Edema": 0.2}


def test_an_unknown_finding_is_refused(tmp_path, capsys):
    table = cases(tmp_path / "p.csv")
    assert main(["evaluate", str(table), "--out", str(tmp_path / "r"), "--threshold", "Mas=0.31"]) == 2
    assert "given for 'Mas', which no table has (did you mean 'Mass'?)" in capsys.readouterr().err


def test_failed_val_rows_are_no_val_rows(tmp_path):
    table = cases(tmp_path / "p.csv", stored=STORED)
    rows = pd.read_csv(table, dtype=str)
    rows.loc[rows["split"] == "val", ["status", "p_Mass", "p_Edema"]] = ["failed", "", ""]
    rows.to_csv(table, index=False)
    assert used(table, tmp_path / "r")[1]["Mass"]["value"] == 0.26647
