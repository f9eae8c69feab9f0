"""Hand-made predictions tables through `clinvit evaluate` and `clinvit compare`: right metrics or one clear line."""

import json
import resource
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main

HEAD = "id,patient,split,status,reason,y_mass,p_mass"
ROWS = ["a,1,test,ok,,0,0.1", "b,2,test,ok,,1,0.8", "c,3,test,ok,,0,0.3", "d,4,test,ok,,1,0.3"]


def table(folder: Path, rows: list[str], head: str = HEAD, name: str = "p.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


def report(folder: Path, *tables: Path) -> dict:
    """The JSON of `evaluate`, or of `compare` where there are two tables."""
    named = [f"m{i}={path}" for i, path in enumerate(tables)]
    verb = "evaluate" if len(tables) == 1 else "compare"
    assert main([verb, *named, "--out", str(folder / "out"), "--resamples", "100"]) == 0
    assert (folder / "out" / "report.html").is_file()
    assert (folder / "out" / "report.tex").is_file()
    return json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))


def metrics(folder: Path, rows: list[str]) -> dict:
    return report(folder, table(folder, rows))["models"][0]["labels"][0]["metrics"]


def test_ties(tmp_path):
    found = metrics(tmp_path, ROWS)
    # Pairs: b above both, d above a and level with c.
    assert found["auroc"]["value"] == pytest.approx(3.5 / 4)
    assert found["average_precision"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["brier"]["value"] == pytest.approx((0.01 + 0.04 + 0.09 + 0.49) / 4)


def test_all_scores_equal(tmp_path):
    found = metrics(tmp_path, [row.rpartition(",")[0] + ",0.5" for row in ROWS])
    assert (found["auroc"]["value"], found["average_precision"]["value"]) == (0.5, 0.5)
    assert found["auroc"]["method"] == "score (Newcombe)"
    assert found["auroc"]["low"] < 0.2 < 0.8 < found["auroc"]["high"]


def test_one_class(tmp_path):
    found = metrics(tmp_path, [row for row in ROWS if ",ok,,0," in row])
    assert (found["auroc"]["value"], found["auroc"]["reason"]) == (None, "no positive case")
    assert found["brier"]["value"] == pytest.approx((0.01 + 0.09) / 2)


def test_all_unknown(tmp_path):
    found = metrics(tmp_path, [row.replace("ok,,0", "ok,,").replace("ok,,1", "ok,,") for row in ROWS])
    assert {name: metric["value"] for name, metric in found.items()} == dict.fromkeys(found)
    assert found["auroc"]["reason"] == "no case with known truth"
    assert all(metric["reason"] for metric in found.values())


def test_one_positive_patient_is_named_beside_the_interval(tmp_path):
    rows = [f"c{i},p{i},test,ok,,{int(i == 0)},{0.2 + i / 100:.2f}" for i in range(60)]
    words = report(tmp_path, table(tmp_path, rows))["headline"][0]
    assert "; a class has cases of 1 patient only, fewer than 10)" in words


def test_one_patient(tmp_path):
    rows = [",".join([row.split(",")[0], "1", *row.split(",")[2:]]) for row in ROWS]
    found = metrics(tmp_path, rows)
    assert found["auroc"]["value"] == pytest.approx(3.5 / 4)
    assert (found["auroc"]["low"], found["auroc"]["high"]) == (None, None)
    assert "one patient only" in found["auroc"]["reason"]


def test_all_failed(tmp_path):
    found = report(tmp_path, table(tmp_path, [row[:9] + "failed,unreadable,0," for row in ROWS]))
    assert len(found["models"][0]["failed"]) == 4
    assert "no scored case" in found["headline"][0]


def test_compare_with_itself_and_with_a_constant(tmp_path):
    rows = [f"c{i},{i},test,ok,,{i % 2},{0.2 + 0.5 * (i % 2) + 0.01 * (i % 7):.3f}" for i in range(40)]
    rows += [f"v{i},{100 + i},val,ok,,{i % 2},{0.2 + 0.5 * (i % 2)}" for i in range(10)]
    one = table(tmp_path, rows)
    flat = table(tmp_path, [row.rpartition(",")[0] + ",0.5" for row in rows], name="q.csv")
    same = report(tmp_path, one, table(tmp_path, rows, name="r.csv"))["comparisons"][0]
    assert (same["macro_difference"]["auroc"]["value"], same["macro_difference"]["auroc"]["p"]) == (0, 1)
    assert same["labels"][0]["decisions"]["mcnemar_p"] == 1
    gap = report(tmp_path, one, flat)["comparisons"][0]
    assert gap["labels"][0]["auroc"]["value"] == 0.5
    assert gap["labels"][0]["decisions"]["mcnemar_p"] is None
    assert gap["labels"][0]["sensitivity"]["reason"] == "a model has no threshold"
    listed = pd.read_csv(tmp_path / "out" / "disagreements.csv")
    assert list(listed.columns)[:6] == ["model_first", "model_second", "id", "patient", "label", "truth"]
    assert len(listed) == 40


def test_compare_of_tables_with_one_class_or_without_truth(tmp_path):
    for change in ("ok,,0", "ok,,"):
        rows = [row.replace("ok,,1", change).replace("ok,,0", change) for row in ROWS]
        found = report(tmp_path, table(tmp_path, rows), table(tmp_path, rows, name="q.csv"))
        label = found["comparisons"][0]["labels"][0]
        assert label["auroc"]["value"] is label["delong"]["p"] is label["delong"]["p_holm"] is None
        assert "cannot be compared" in found["headline"][1]


def test_status_in_capitals_or_between_blanks_is_the_same_status(tmp_path):
    rows = [*ROWS[:-1], ROWS[-1].replace(",ok,", ", OK ,"), "e,5,test,FAILED,truncated,1,"]
    found = report(tmp_path, table(tmp_path, rows))
    assert found["models"][0]["requested"] == 5 and found["models"][0]["failed"][0]["id"] == "e"


REFUSED = {
    "duplicate id": (HEAD, [*ROWS, ROWS[0]], "row 6: id 'a' stands twice"),
    "score above 1": (HEAD, [*ROWS, "e,5,test,ok,,0,1.2"], "row 6: score '1.2' for 'mass'"),
    "score below 0": (HEAD, [*ROWS, "e,5,test,ok,,0,-0.1"], "row 6: score '-0.1'"),
    "percent": (HEAD, ["a,1,test,ok,,0,12.5", "b,2,test,ok,,1,99"], "If these are percent, divide them by 100."),
    "logits": (HEAD, ["a,1,test,ok,,0,-3.1", "b,2,test,ok,,1,2.2"], "If these are logits, give their sigmoid"),
    "no score": (HEAD, [*ROWS, "e,5,test,ok,,0,"], "row 6: score "),
    "NaN score": (HEAD, [*ROWS, "e,5,test,ok,,0,NaN"], "row 6: score "),
    "infinite score": (HEAD, [*ROWS, "e,5,test,ok,,0,inf"], "row 6: score 'inf'"),
    "score is a word": (HEAD, [*ROWS, "e,5,test,ok,,0,high"], "row 6: p_mass is 'high', not a number"),
    "truth of 2": (HEAD, [*ROWS, "e,5,test,ok,,2,0.5"], "row 6: y_mass is 2"),
    "wrong status": (HEAD, [*ROWS, "e,5,test,done,,0,0.5"], "row 6: status 'done'; it is `ok` or `failed`"),
    "failed with score": (HEAD, [*ROWS, "e,5,test,failed,x,0,0.5"], "row 6: a failed case carries a score"),
    "no patient column": (HEAD.replace("patient,", ""), ["a,test,ok,,0,0.1"], "no column 'patient'"),
    "no truth column": (HEAD.replace("y_mass,", ""), ["a,1,test,ok,,0.1"], "no column 'y_mass'"),
    "no score column": (HEAD.replace(",p_mass", ""), ["a,1,test,ok,,0"], "no score columns"),
    "header only": (HEAD, [], "the table has no rows"),
    "other split": (HEAD, [row.replace("test", "val") for row in ROWS], "no case in split 'test'; it has 'val'"),
}


@pytest.mark.parametrize("wrong", REFUSED)
@pytest.mark.parametrize("verb", ["evaluate", "compare"])
def test_one_clear_line(tmp_path, capsys, wrong, verb):
    head, rows, said = REFUSED[wrong]
    tables = [f"bad={table(tmp_path, rows, head)}"]
    tables += [f"good={table(tmp_path, ROWS, name='good.csv')}"] if verb == "compare" else []
    assert main([verb, *tables, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
    assert "p.csv" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resamples", "0"], "0 resamples are too few"),
        (["--resamples", "-3"], "-3 resamples are too few"),
        (["--threshold", "cost=0:1"], "threshold rule 'cost=0:1'"),
    ],
)
def test_wrong_options(tmp_path, capsys, options, said):
    assert main(["evaluate", str(table(tmp_path, ROWS)), "--out", str(tmp_path / "out"), *options]) == 2
    assert said in capsys.readouterr().err


def test_an_empty_file(tmp_path, capsys):
    (tmp_path / "p.csv").write_text("")
    assert main(["evaluate", str(tmp_path / "p.csv"), "--out", str(tmp_path / "out")]) == 2
    assert "not a readable CSV table" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rows", [pytest.param(100_000, marks=pytest.mark.slow), pytest.param(1_000_000, marks=pytest.mark.thorough)]
)
def test_a_million_rows(tmp_path, rows):
    """The defaults, 2,000 resamples of so many patients; the limits are generous: machines are shared."""
    generator = np.random.default_rng(0)
    truth = (generator.random(rows) < 0.1).astype(int)
    score = 1 / (1 + np.exp(-generator.normal(size=rows) - 1.2 * truth + 2))
    cells = {"id": np.arange(rows), "patient": np.arange(rows), "status": "ok", "reason": "", "y_mass": truth}
    split = np.where(np.arange(rows) % 100 == 0, "val", "test")
    pd.DataFrame(cells | {"split": split, "p_mass": score.round(6)}).to_csv(tmp_path / "p.csv", index=False)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert main(["evaluate", str(tmp_path / "p.csv"), "--out", str(tmp_path / "out")]) == 0
    assert time.perf_counter() - start < 400
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4_000_000  # KiB
    found = json.loads((tmp_path / "out" / "report.json").read_text())["models"][0]["labels"][0]["metrics"]
    assert found["auroc"]["low"] < found["auroc_delong"]["value"] < found["auroc"]["high"]
    width = found["auroc_delong"]["high"] - found["auroc_delong"]["low"]
    assert found["auroc"]["high"] - found["auroc"]["low"] == pytest.approx(width, rel=0.1)
