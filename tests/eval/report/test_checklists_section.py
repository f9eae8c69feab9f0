"""Checklists: what the run knows is filled, a facts file fills more, and nothing is answered that nobody has said."""

import inspect
import json

import numpy as np
import pandas as pd
import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import predictions_table, write_predictions
from clinvit.eval.report import checklists_section
from clinvit.eval.report.checklist_items import AUTHORS, CHECKLISTS
from clinvit.eval.report.checklists_section import FOR_THE_AUTHORS, checked_facts

# What a run may know (`run_facts`); every other key of an item must be one that authors can answer.
OF_THE_RUN = set(
    "splits disjoint flow missing failures imbalance measures uncertainty output performance wrong counts meaning "
    "thresholds network training preparation versions recalibration initial subgroups fairness sites cohort readers "
    "abstention leaks maps audit".split()
)


def report(folder, *more):
    random, n = np.random.default_rng(0), 120
    truth = (random.random(n) < 0.4).astype(float)
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(n)], "patient": [f"p{i}" for i in range(n)]})
    cases["split"] = np.repeat(["val", "test"], n // 2)
    table = predictions_table(cases, ["Mass"], truth[:, None], random.random((n, 1)), ["gone"] + [""] * (n - 1))
    write_predictions(folder / "p.csv", table)
    assert main(["evaluate", str(folder / "p.csv"), "--out", str(folder / "out"), "--resamples", "20", *more]) == 0
    return json.loads((folder / "out" / "report.json").read_text())["checklists"]


def test_every_item_is_answered_by_the_run_or_by_the_authors():
    keys = {key for rows in CHECKLISTS.values() for _, _, keys in rows for key in keys.split()}
    assert keys <= OF_THE_RUN | AUTHORS.keys() and AUTHORS.keys() <= keys and not OF_THE_RUN & AUTHORS.keys()
    assert len({number.rstrip("abcdefg") for number, _, _ in CHECKLISTS["TRIPOD+AI"]}) == 27
    assert len(CHECKLISTS["TRIPOD+AI"]) == 52
    assert [number for number, _, _ in CHECKLISTS["CLAIM 2024"]] == [str(i) for i in range(1, 45)]
    stard = [number for number, _, _ in CHECKLISTS["STARD-AI"]]
    assert list(dict.fromkeys(number.rstrip("abcd") for number in stard)) == [str(i) for i in range(1, 41)]
    assert [
        number for number in stard if not number.isdigit()
    ] == "15a 15b 15c 15d 16a 16b 16c 17a 17b 26a 26b 40a 40b".split()


def test_all_that_a_run_may_know_is_made_somewhere():
    """A fact of no source could never be filled: neither by the run nor, as no key of `AUTHORS`, by a facts file."""
    source = inspect.getsource(checklists_section)
    assert not {key for key in OF_THE_RUN if f'"{key}"' not in source}


def test_the_page_says_what_its_numbers_were_held_against(tmp_path):
    report(tmp_path)
    html = " ".join((tmp_path / "out" / "report.html").read_text(encoding="utf-8").split())
    assert "Numbers and topics were compared with public transcriptions of the three lists, not with" in html


def test_what_the_run_knows_is_filled_and_the_rest_is_for_the_authors(tmp_path):
    found = report(tmp_path)
    claim = {item["number"]: item for item in found["lists"]["CLAIM 2024"]}
    assert (
        "val: 60 cases of 60 patients; test: 60 cases of 60 patients" in claim["19"]["answer"] and claim["19"]["whole"]
    )
    assert claim["40"]["answer"] == FOR_THE_AUTHORS and not claim["40"]["whole"]
    assert claim["33"]["answer"] == FOR_THE_AUTHORS  # no site is known: nothing is said of any
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert (
        html.index('id="provenance"') < html.index('id="checklists"')
        and html.count("<details><summary>CLAIM 2024") == 1
    )


def test_a_facts_file_fills_more(tmp_path):
    facts = tmp_path / "facts.yaml"
    facts.write_text("limitations: one <hospital>\nannotators: [two radiologists, one resident]\n", encoding="utf-8")
    found = report(tmp_path, "--facts", str(facts))
    claim = {item["number"]: item for item in found["lists"]["CLAIM 2024"]}
    assert claim["40"]["answer"] == "one <hospital>" and claim["40"]["whole"]
    assert claim["16"]["answer"] == "two radiologists; one resident"
    assert "limitations" not in found["for_the_authors"] and "funding" in found["for_the_authors"]
    html = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "one &lt;hospital&gt;" in html and "<hospital>" not in html


def test_what_stands_not_on_the_list_is_refused_with_the_nearest_name(tmp_path, capsys):
    with pytest.raises(UserError, match="did you mean 'limitations'"):
        checked_facts({"limitation": "none"}, "facts.yaml")
    with pytest.raises(UserError, match="neither a text"):
        checked_facts({"dates": {"from": 2019}}, "facts.yaml")
    assert checked_facts({"dates": None, "funding": 3}, "facts.yaml") == {"funding": "3"}
    assert main(["evaluate", str(tmp_path / "p.csv"), "--facts", str(tmp_path / "none.yaml")]) == 2
