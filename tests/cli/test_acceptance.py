"""`clinvit acceptance`: a target, its lock, and the verdict in words, on a page and in JSON."""

import json
import os
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main

TARGET = "threshold: 0.5\nminimum:\n  sensitivity: 0.8\n  specificity: 0.7\n"


def table(path, right=(0.95, 0.9), positive=200, negative=300, failed=0, stored=None, each=1, sex=None):
    """Cases whose labels are right with these rates exactly, rounded."""
    n = positive + negative
    truth = np.repeat([1, 0], [positive, negative])
    good = np.concatenate([np.arange(k) < round(k * share) for k, share in zip((positive, negative), right)])
    score = np.where(good == (truth == 1), 0.9, 0.1)
    ids = [f"c{i}" for i in range(n)]
    columns = {"id": ids, "patient": [f"p{i // each}" for i in range(n)], "split": "test", "status": "ok", "reason": ""}
    own = pd.DataFrame(columns | {"y_Mass": truth, "p_Mass": score.astype(str)})
    own.loc[own.index[:failed], ["status", "p_Mass", "reason"]] = ["failed", "", "cut off"]
    own.to_csv(path, index=False)
    if stored is not None:
        path.with_suffix(".model.json").write_text(json.dumps({"thresholds": {"Mass": {"value": stored}}}))
    if sex is not None:
        manifest = own[["id", "patient", "split"]].assign(path="x.png", sex=sex, Mass=truth)
        manifest.to_csv(path.with_name("manifest.csv"), index=False)
    return path


def verdict(tmp_path, capsys, text, *options, **cases):
    (tmp_path / "t.yaml").write_text(text)
    predictions = table(tmp_path / "p.csv", **cases)
    code = main(["acceptance", str(tmp_path / "t.yaml"), str(predictions), "--out", str(tmp_path / "o"), *options])
    words = capsys.readouterr()
    if code:
        return code, words.err
    return json.loads((tmp_path / "o/acceptance.json").read_text()), words.out


def test_met(tmp_path, capsys):
    found, words = verdict(tmp_path, capsys, TARGET)
    assert found["verdict"] == "met" and "verdict: met" in words
    assert "Met: sensitivity of at least 0.8 and specificity of at least 0.7 for Mass, with 95 % confidence." in words
    own = found["checks"][0]
    assert (own["hits"], own["cases"], own["needed"]) == (190, 200, 0) and 0.8 < own["low"] < own["value"] == 0.95


def test_not_met_although_the_other_is(tmp_path, capsys):
    found, words = verdict(tmp_path, capsys, TARGET, right=(0.95, 0.4))
    assert found["verdict"] == "not met"
    assert "Specificity: 0.400 (120 of 300 negative cases), and at most 0.4" in words and "Sensitivity:" not in words


def test_not_enough_cases(tmp_path, capsys):
    found, words = verdict(tmp_path, capsys, TARGET, right=(0.9, 0.9), positive=20)
    assert found["verdict"] == "not enough cases"
    needed = found["checks"][0]["needed"]
    assert f"about {needed:,} further positive cases like these (about {16 * needed:,} of any kind)" in words
    more, _ = verdict(tmp_path, capsys, TARGET, right=(0.9, 0.9), positive=20 + needed)
    assert more["verdict"] == "met"


def test_a_rate_below_what_is_asked_for(tmp_path, capsys):
    found, words = verdict(tmp_path, capsys, TARGET, right=(0.75, 0.9), positive=20)
    assert found["checks"][0]["needed"] is None and "at this rate no number of cases would show 0.8" in words


def test_a_margin(tmp_path, capsys):
    cases = {"right": (0.82, 0.9), "positive": 300}
    assert verdict(tmp_path, capsys, TARGET, **cases)[0]["verdict"] == "not enough cases"
    found, words = verdict(tmp_path, capsys, f"{TARGET}margin: 0.05\n", **cases)
    assert found["verdict"] == "met" and "less a margin of 0.05" in words


def test_failed_cases_count_as_wrong(tmp_path, capsys):
    found, words = verdict(tmp_path, capsys, TARGET, failed=60)
    assert found["verdict"] == "not met" and found["checks"][0]["value"] == 0.65 and found["checks"][0]["failed"] == 60
    assert "60 of 500 requested cases failed; they count as wrong." in words


def test_cases_of_one_patient_count_as_fewer(tmp_path, capsys):
    single, _ = verdict(tmp_path, capsys, TARGET)
    fives, _ = verdict(tmp_path, capsys, TARGET, each=5)
    assert fives["checks"][0]["low"] < single["checks"][0]["low"] and fives["checks"][0]["patients"] == 40


def test_a_predictive_value_at_a_prevalence(tmp_path, capsys):
    text = "threshold: 0.5\nprevalence: 0.02\nminimum: {ppv: 0.1, sensitivity: 0.8, specificity: 0.8}\n"
    found, words = verdict(tmp_path, capsys, text)
    (ppv, *_) = found["checks"]
    assert ppv["value"] == pytest.approx(0.95 * 0.02 / (0.95 * 0.02 + 0.1 * 0.98)) and ppv["low"] < ppv["value"]
    assert found["verdict"] == "met" and "at a prevalence of 2 %" in words
    page = (tmp_path / "o/acceptance.html").read_text()
    assert "Of 1,000 patients of whom 20 have Mass, 19 would be found and 1 missed" in page
    high, words = verdict(tmp_path, capsys, text.replace("ppv: 0.1", "ppv: 0.155"))
    assert high["verdict"] == "not enough cases" and high["checks"][0]["needed"] > 500
    code, words = verdict(tmp_path, capsys, "minimum: {ppv: 0.1}\nthreshold: 0.5\n")
    assert code == 2 and "state the prevalence" in words


def test_subgroups_must_hold_too(tmp_path, capsys):
    sex = np.where(np.arange(500) % 50 == 0, "M", "F")
    text, data = f"{TARGET}subgroups:\n  sex: all\n", ["--data", str(tmp_path)]
    found, words = verdict(tmp_path, capsys, text, *data, sex=sex)
    assert found["verdict"] == "not enough cases" and "Sensitivity (sex = M): " in words
    assert [check["group"] for check in found["checks"]] == ["", "", "sex = F", "sex = F", "sex = M", "sex = M"]
    named, _ = verdict(tmp_path, capsys, f"{TARGET}subgroups: {{sex: [F]}}\n", *data, sex=sex)
    assert named["verdict"] == "met"
    assert "give the manifest" in verdict(tmp_path, capsys, text, sex=sex)[1]
    wrong = verdict(tmp_path, capsys, f"{TARGET}subgroups: {{sex: [X]}}\n", *data, sex=sex)
    assert wrong[0] == 2 and "no group 'X' in the column 'sex': it has F, M" in wrong[1]


def test_the_threshold_of_the_model(tmp_path, capsys):
    text = TARGET.replace("threshold: 0.5\n", "")
    assert "no threshold for 'Mass' stands with the model" in verdict(tmp_path, capsys, text)[1]
    found, _ = verdict(tmp_path, capsys, text, stored=0.4)
    assert found["threshold"] == {"value": 0.4, "source": "stored with the model"}


def lock(path, capsys):
    code = main(["acceptance", "lock", str(path)])
    words = capsys.readouterr()
    return code, words.err if code else words.out


def test_a_lock(tmp_path, capsys):
    path = tmp_path / "t.yaml"
    _, words = verdict(tmp_path, capsys, TARGET)
    assert "warning: The target was not locked" in words
    code, words = lock(path, capsys)
    assert code == 0 and "SHA-256 " in words
    before = (tmp_path / "t.lock.json").read_text()
    assert lock(path, capsys) == (0, words) and (tmp_path / "t.lock.json").read_text() == before
    found, said = verdict(tmp_path, capsys, f"# why\n{TARGET}")  # a comment changes nothing; the table is new
    assert found["locked"] == json.loads(before)["date"] and "warning" not in said
    assert found["target_sha256"] in words and found["target_sha256"] in (tmp_path / "o/acceptance.html").read_text()


def test_a_lock_after_the_predictions_shows_nothing(tmp_path, capsys):
    verdict(tmp_path, capsys, TARGET)
    lock(tmp_path / "t.yaml", capsys)
    os.utime(tmp_path / "p.csv", (0, 0))
    command = ["acceptance", str(tmp_path / "t.yaml"), str(tmp_path / "p.csv"), "--out", str(tmp_path / "o")]
    assert main(command) == 0
    assert "before the target was locked" in capsys.readouterr().out


def test_a_changed_target_is_refused(tmp_path, capsys):
    (tmp_path / "t.yaml").write_text(TARGET)
    lock(tmp_path / "t.yaml", capsys)
    code, words = verdict(tmp_path, capsys, TARGET.replace("0.8", "0.7"))
    assert code == 2 and "changed after it was locked on" in words and "minimum was {'sensitivity': 0.8" in words
    assert lock(tmp_path / "t.yaml", capsys)[0] == 2 and not (tmp_path / "o").exists()


def test_a_changed_lock_is_refused(tmp_path, capsys):
    (tmp_path / "t.yaml").write_text(TARGET)
    lock(tmp_path / "t.yaml", capsys)
    stored = json.loads((tmp_path / "t.lock.json").read_text())
    (tmp_path / "t.lock.json").write_text(json.dumps(stored | {"date": "2020-01-01T00:00:00+00:00"}))
    code, words = verdict(tmp_path, capsys, TARGET)
    assert code == 2 and "changed after it was written" in words


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("minimum: {sensitivty: 0.9}", "no metric 'sensitivty' (did you mean 'sensitivity'?)"),
        ("minimum: {sensitivity: 90}", "minimum of sensitivity 90: a share between 0 and 1"),
        ("minimum: {sensitivity: 90 %}", "minimum of sensitivity is '90 %': write a share"),
        ("minimum: {sensitivity: 0.9}\nmargn: 0.1", "unknown key 'margn' (did you mean 'margin'?)"),
        ("minimum: {sensitivity: 0.9}\nmargin: 0.95", "margin 0.95 leaves nothing"),
        ("minimum: {}", "name at least one"),
        ("margin: 0.1", "`minimum:` needs at least one metric"),
        ("- 1", "holds `minimum:`"),
        ("minimum: {sensitivity: 0.9", "not readable YAML"),
        ("minimum: {sensitivity: 0.9}\nthreshold: 3", "within 0..1"),
        ("minimum: {sensitivity: 0.9}\nconfidence: 95", "confidence 95: a share"),
        ("minimum: {sensitivity: 0.9}\nfinding: Edema\nthreshold: 0.5", "no finding 'Edema'"),
        ("minimum: {sensitivity: 0.9}\nsplit: external\nthreshold: 0.5", "no case in the split 'external'"),
        ("minimum: {sensitivity: 0.9}\nthreshold: youden", "gives no threshold: no scored case in val"),
    ],
)
def test_a_wrong_target_is_refused(text, said, tmp_path, capsys):
    code, words = verdict(tmp_path, capsys, text)
    assert code == 2 and said in words and words.count("\n") == 1 and not (tmp_path / "o").exists()


def test_two_words_are_needed(capsys):
    assert main(["acceptance", "t.yaml"]) == 2
    assert "write `clinvit acceptance lock TARGET.yaml`" in capsys.readouterr().err


def test_the_page_is_whole_and_asks_for_nothing(tmp_path, capsys):
    verdict(tmp_path, capsys, TARGET)
    page = (tmp_path / "o/acceptance.html").read_text()
    parser = HTMLParser()
    parser.feed(page)
    parser.close()
    assert "<h1>Met</h1>" in page and "Not for clinical use" in page
    assert not any(word in page for word in ("http://", "https://", "<script", "<link"))
