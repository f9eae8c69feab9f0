"""`clinvit contract` and `clinvit monitor`: the first line is the verdict, the file is sealed, nobody is named."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from clinvit.backbone.sizes import Architecture
from clinvit.cli import main
from clinvit.core.files import file_sha256
from clinvit.finetune.model import ModelCard, build_model, save_model
from clinvit.finetune.recipe import View
from scipy.special import expit

LABELS = ("Mass", "Edema")
STORED = {label: {"value": 0.3, "how": "youden", "split": "val"} for label in LABELS}


def table(path, count, seed, split="new", labels=LABELS, moved=0.0, failing=0.03, known=1.0, **columns):
    """Predictions of patients of their own; scores are right where nothing is moved."""
    rng = np.random.default_rng(seed)
    failed = rng.uniform(size=count) < failing
    own = pd.DataFrame({"id": [f"SECRETID{seed}x{i}" for i in range(count)]})
    own["patient"] = [f"SECRETPATIENT{seed}x{i}" for i in range(count)]
    own["split"], own["status"], own["reason"] = (
        split,
        np.where(failed, "failed", "ok"),
        np.where(failed, "cut off", ""),
    )
    for label in labels:
        truth = rng.binomial(1, 0.3, count)
        odds = 2.5 * (rng.normal(size=count) + 2.5 * (truth - 0.5)) - 0.85 + moved
        own[f"y_{label}"] = np.where(rng.uniform(size=count) < known, truth.astype(str), "")
        own[f"p_{label}"] = np.where(failed, "", np.char.mod("%.6f", expit(odds)))
    path.parent.mkdir(parents=True, exist_ok=True)
    own.assign(**columns).to_csv(path, index=False)
    return path


def make_model(folder, labels=LABELS, seed=0, **fields):
    arch = Architecture(32, 1, 2, image_size=(32, 32), patch_size=8)
    fields = {"thresholds": dict.fromkeys(labels, STORED["Mass"])} | fields
    card = ModelCard(
        labels, {}, fields.pop("exclusive", False), "full", "vit", "mean", arch, (0.5,), (0.25,),
        View("squash", None), 40, **fields,
    )  # fmt: skip
    torch.manual_seed(seed)
    save_model(folder / "model", build_model(card), card)
    return folder


@pytest.fixture(scope="module")
def deployed(tmp_path_factory):
    """A run folder with a model, its predictions, and its contract."""
    run = make_model(tmp_path_factory.mktemp("deployed") / "ft")
    predictions = table(run / "predictions.csv", 900, 0, "val")
    assert main(["contract", str(run / "model"), "--predictions", str(predictions)]) == 0
    return run


def watched(contract, out, capsys, *tables):
    """What `monitor.json` holds, and the lines that were printed."""
    capsys.readouterr()
    assert main(["monitor", str(contract), *map(str, tables), "--out", str(out)]) == 0
    return json.loads((out / "monitor.json").read_text()), capsys.readouterr().out.splitlines()


def refused(capsys, *words):
    capsys.readouterr()
    assert main([*map(str, words)]) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    return said


def test_the_contract_is_one_file_that_names_nobody(deployed):
    text = (deployed / "contract.yaml").read_text()
    found = yaml.safe_load(text)
    assert found["model"] == file_sha256(deployed / "model/model.safetensors") and found["labels"] == list(LABELS)
    assert found["inputs"]["input"] == {"height": 32, "width": 32, "channels": 1} and found["thresholds"] == STORED
    assert found["reference"] | {"failed": 0} == {"split": "val", "cases": 900, "patients": 900, "failed": 0}
    assert {each["quantity"] if "quantity" in each else each["kind"] for each in found["quantities"]} == {
        "failure rate", "scores", "positive rate", "sensitivity", "specificity", "calibration",
    }  # fmt: skip
    assert sum(found["score_counts"]["Mass"]) == 900 - found["reference"]["failed"]
    assert found["alpha"] == 0.05 and found["rollback"]["when"]["sensitivity"] == "below"
    assert "SECRET" not in text


def test_quiet_months_are_in_bounds(deployed, tmp_path, capsys):
    months = [table(tmp_path / f"m{i}.csv", 500, i) for i in (1, 2)]
    found, lines = watched(deployed / "contract.yaml", tmp_path / "w", capsys, *months)
    assert lines[0] == "verdict: in bounds (11 of 11 quantities)" and found["since"] is None
    assert found["patients"] == 1000 and not found["roll_back"]
    assert all(each["evidence_log10"] < each["alarm_at_log10"] for each in found["quantities"])


def test_a_shift_is_said_first_and_stays_when_months_are_added(deployed, tmp_path, capsys):
    quiet = table(tmp_path / "m1.csv", 500, 1, date="2026-01-31")
    shifted = table(tmp_path / "m2.csv", 500, 2, moved=-2.5, date="2026-02-28")
    after = table(tmp_path / "m3.csv", 300, 3, date="2026-03-31")
    found, lines = watched(deployed / "contract.yaml", tmp_path / "w", capsys, quiet, shifted)
    assert lines[0].startswith("verdict: out of bounds since 2026-02-28, row ") and lines[0].endswith(": roll back")
    assert found["roll_back"] and found["since"]["table"] == "m2.csv" and 2 < found["since"]["row"] < 400
    by_name = {(each["quantity"], each["label"]): each for each in found["quantities"]}
    fallen = by_name["sensitivity", "Mass"]
    assert (fallen["verdict"], fallen["side"], fallen["action"]) == ("out of bounds", "below", "roll back")
    assert by_name["positive rate", "Mass"]["action"] == "a person looks for the cause"
    assert by_name["failure rate", ""]["verdict"] == "in bounds"
    assert fallen["by_table"][1]["value"] < 0.7 < fallen["by_table"][0]["value"]
    later, lines = watched(deployed / "contract.yaml", tmp_path / "w2", capsys, quiet, shifted, after)
    assert later["since"] == found["since"] and "m2.csv" in lines[0]


def test_run_folders_are_read_and_named_apart(deployed, tmp_path, capsys):
    for seed in (1, 2):
        table(tmp_path / f"month{seed}/predictions.csv", 60, seed)
    found, _ = watched(deployed / "contract.yaml", tmp_path / "w", capsys, tmp_path / "month1", tmp_path / "month2")
    assert found["tables"] == ["month1/predictions.csv", "month2/predictions.csv"]


def test_few_cases_are_too_few(deployed, tmp_path, capsys):
    found, lines = watched(deployed / "contract.yaml", tmp_path / "w", capsys, table(tmp_path / "m.csv", 8, 1, known=0))
    assert lines[0] == "verdict: too few cases (11 of 11 quantities)" and found["verdict"] == "too few cases"
    page = (tmp_path / "w/monitor.html").read_text()
    assert "no case with known truth yet" in page and "a change worth noticing is not ruled out" in page


def test_nobody_is_named_on_the_page(deployed, tmp_path, capsys):
    months = [table(tmp_path / "m1.csv", 300, 1), table(tmp_path / "m2.csv", 300, 2, moved=-3, failing=0.3)]
    _, lines = watched(deployed / "contract.yaml", tmp_path / "w", capsys, *months)
    for text in ((tmp_path / "w/monitor.html").read_text(), (tmp_path / "w/monitor.json").read_text(), *lines):
        assert "SECRET" not in text
    page = (tmp_path / "w/monitor.html").read_text()
    assert "<h1>Out of bounds</h1>" in page and page.count('class="alarm"') == page.count('class="evidence"') == 11


def test_patients_of_earlier_months_and_cases_of_the_training_are_left_out_and_counted(deployed, tmp_path, capsys):
    first, second = table(tmp_path / "m1.csv", 200, 1), table(tmp_path / "m2.csv", 100, 2)
    again = pd.read_csv(second, dtype=str, keep_default_na=False)
    again["patient"] = [f" secretpatient1x{i}" if i < 40 else name for i, name in enumerate(again["patient"])]
    again.loc[90:, "split"] = "val"
    again.to_csv(second, index=False)
    found, lines = watched(deployed / "contract.yaml", tmp_path / "w", capsys, first, second)
    assert found["patients"] == 200 + 50
    said = " ".join(lines)
    assert (
        "40 cases are left out: their patients" in said and "10 cases of the splits train and val are left out" in said
    )


def test_truth_counts_when_it_became_known(deployed, tmp_path, capsys):
    """Of cases in any order, the alarm is at the one whose truth came last before it."""
    whole = pd.read_csv(table(tmp_path / "m.csv", 400, 1, moved=-4), dtype=str, keep_default_na=False)
    days = pd.date_range("2026-01-01", periods=400).strftime("%Y-%m-%d")
    whole.assign(date="2026-01-01", truth_date=days[::-1]).to_csv(tmp_path / "m.csv", index=False)
    found, _ = watched(deployed / "contract.yaml", tmp_path / "w", capsys, tmp_path / "m.csv")
    since = {each["quantity"]: each["since"] for each in found["quantities"] if each["label"] == "Mass"}
    assert since["scores"]["row"] < 200 and since["scores"]["date"] == "2026-01-01"
    assert since["sensitivity"]["row"] > 200 and since["sensitivity"]["date"] == days[401 - since["sensitivity"]["row"]]


def test_dates_order_the_rows_and_tables_out_of_order_are_refused(deployed, tmp_path, capsys):
    path, contract = table(tmp_path / "m1.csv", 300, 1, moved=-3), deployed / "contract.yaml"
    rows = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows["date"] = pd.date_range("2026-01-01", periods=300).strftime("%Y-%m-%d")
    rows.to_csv(path, index=False)
    straight, _ = watched(contract, tmp_path / "w", capsys, path)
    rows[::-1].to_csv(path, index=False)
    turned, _ = watched(contract, tmp_path / "w", capsys, path)
    assert turned["since"]["date"] == straight["since"]["date"]
    assert turned["since"]["row"] == 303 - straight["since"]["row"]
    late = table(tmp_path / "m2.csv", 50, 2, date="2027-01-01")
    said = refused(capsys, "monitor", contract, late, path, "--out", tmp_path / "w2")
    assert "m1.csv: begins on 2026-01-01, before" in said and not (tmp_path / "w2").exists()
    none = table(tmp_path / "m3.csv", 50, 3)
    assert "m3.csv: no column 'date'" in refused(capsys, "monitor", contract, late, none)
    wrong = table(tmp_path / "m4.csv", 50, 4, date="31st of March")
    assert "m4.csv: row 2: date is '31st of March'" in refused(capsys, "monitor", contract, wrong)


@pytest.mark.parametrize("where", ["sha256", "calibration", "thresholds"])
def test_predictions_of_another_model_are_refused(deployed, tmp_path, capsys, where):
    path = table(tmp_path / "m.csv", 50, 1)
    facts = {"sha256": file_sha256(deployed / "model/model.safetensors"), "thresholds": STORED, "calibration": {}}
    path.with_suffix(".model.json").write_text(json.dumps(facts))
    _, lines = watched(deployed / "contract.yaml", tmp_path / "w", capsys, path)
    assert "Nothing beside" not in " ".join(lines)
    other = {"sha256": "0" * 64, "calibration": {"Mass": {"method": "platt"}}, "thresholds": {}}
    path.with_suffix(".model.json").write_text(json.dumps(facts | {where: other[where]}))
    said = refused(capsys, "monitor", deployed / "contract.yaml", path)
    assert str(path) in said and ("another model" if where == "sha256" else f"another {where}") in said
    with_truth = table(deployed.parent / "other" / "m.csv", 50, 1)
    _, lines = watched(deployed / "contract.yaml", tmp_path / "w", capsys, with_truth)
    assert "Nothing beside m.csv says which model made it" in " ".join(lines)


def test_a_model_gets_no_contract_by_another_ones_predictions(deployed, tmp_path, capsys):
    other = make_model(tmp_path / "other", seed=1)
    said = refused(capsys, "contract", other, "--predictions", deployed, "--out", tmp_path / "c.yaml")
    assert "predicted by another model" in said and not (tmp_path / "c.yaml").exists()
    (other / "model/model.safetensors").write_bytes((deployed / "model/model.safetensors").read_bytes())
    assert "damaged or replaced" in refused(capsys, "contract", other, "--predictions", deployed)


def test_wrong_tables_are_refused_in_one_line(deployed, tmp_path, capsys):
    contract, good = deployed / "contract.yaml", table(tmp_path / "good.csv", 20, 9)
    other = table(tmp_path / "other.csv", 20, 1, labels=("Mass", "Oedema"))
    said = refused(capsys, "monitor", contract, other)
    assert "other.csv" in said and "labels: Mass, Edema" in said
    fewer = table(tmp_path / "fewer.csv", 20, 1, labels=("Mass",))
    assert "no scores for 'Edema'" in refused(capsys, "monitor", contract, fewer)
    empty = tmp_path / "empty.csv"
    empty.write_text(good.read_text().splitlines()[0] + "\n")
    assert "empty.csv: the table has no rows" in refused(capsys, "monitor", contract, good, empty)
    assert "this id stands in" in refused(capsys, "monitor", contract, good, good)
    val = table(tmp_path / "val.csv", 20, 2, split="val")
    assert "all cases are of the splits train and val" in refused(capsys, "monitor", contract, val)
    assert "no such file" in refused(capsys, "monitor", tmp_path / "none.yaml", good)
    run, new = deployed / "model", ["--out", tmp_path / "c.yaml"]
    assert "no scored case of the split 'val'" in refused(capsys, "contract", run, "--predictions", good, *new)
    for option in ("--alpha", "--notice"):
        words = ["contract", run, "--predictions", deployed / "predictions.csv", option, "1.5", *new]
        assert f"{option[2:]} 1.5" in refused(capsys, *words)


@pytest.mark.parametrize(
    "old, new", [("alpha: 0.05", "alpha: 0.01"), ("value: 0.3", "value: 0.31"), ("kind: scores", "kind: sensitivity")]
)
def test_a_contract_changed_by_hand_is_refused(deployed, tmp_path, capsys, old, new):
    text, path = (deployed / "contract.yaml").read_text(), tmp_path / "c.yaml"
    month = table(tmp_path / "m.csv", 30, 1)
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert "c.yaml: changed after it was written" in refused(capsys, "monitor", path, month)
    path.write_text(text.rpartition("sha256:")[0])
    assert "changed after it was written" in refused(capsys, "monitor", path, month)
    path.write_text("finding: Mass\n")
    assert "not a contract" in refused(capsys, "monitor", path, month)
    path.write_text("# a comment changes nothing\n" + text)
    watched(path, tmp_path / "w", capsys, month)


def test_exclusive_classes_are_predicted_by_the_largest_score_or_the_decision(tmp_path, capsys):
    labels = ("Covid", "Normal", "<b>Other</b>")
    run = make_model(tmp_path / "ft", labels, exclusive=True, thresholds={})

    def classes(path, count, seed, split="new", decided=None):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 3, count)
        scores = np.eye(3)[truth] * 0.5 + rng.dirichlet([1, 1, 1], count) / 2
        own = pd.DataFrame({"id": [f"c{seed}x{i}" for i in range(count)]})
        own["patient"], own["split"], own["status"], own["reason"] = own["id"], split, "ok", ""
        for i, label in enumerate(labels):
            own[f"y_{label}"], own[f"p_{label}"] = (truth == i).astype(int), scores[:, i].round(6)
        if decided is not None:
            own["decision"] = decided
        own.to_csv(path, index=False)
        return path

    reference = classes(run / "predictions.csv", 600, 0, "val")
    assert main(["contract", str(run), "--predictions", str(reference)]) == 0
    found, _ = watched(run / "contract.yaml", tmp_path / "w", capsys, classes(tmp_path / "m.csv", 400, 1))
    rates = {each["label"]: each for each in found["quantities"] if each["quantity"] == "sensitivity"}
    assert all(each["value"] == 1 and each["verdict"] == "in bounds" for each in rates.values())
    assert "<b>Other" not in (tmp_path / "w/monitor.html").read_text()
    one = classes(tmp_path / "m2.csv", 400, 2, decided="Normal")
    found, lines = watched(run / "contract.yaml", tmp_path / "w", capsys, one)
    assert lines[0].startswith("verdict: out of bounds") and "sensitivity of Covid" in lines[0] + lines[1] + lines[2]
