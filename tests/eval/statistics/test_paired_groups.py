"""Two models within groups of cases: the tests are DeLong's on the group's rows, and the worst group is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from clinvit.datasets.manifest.tables import Predictions
from clinvit.eval.evaluation import Evaluation
from clinvit.eval.report.within_section import within_section
from clinvit.eval.statistics.delong import delong_test, few_patients
from clinvit.eval.statistics.holm import holm
from clinvit.eval.statistics.metrics import auroc
from clinvit.eval.statistics.paired_groups import paired_groups


def tables(cases: int = 400):
    """Two models; the first is no better than chance at the bedside."""
    draw = np.random.default_rng(0)
    truth, bedside = draw.integers(0, 2, (2, cases))
    view = np.where(bedside, "AP", "PA").astype(object)
    view[:12] = "LL"
    scores = [truth * (1 - bedside), truth]
    made = []
    for score in scores:
        p = 1 / (1 + np.exp(-(1.5 * score + draw.normal(0, 1, cases))))
        table = pd.DataFrame({"id": [f"c{i}" for i in range(cases)], "patient": [f"p{i // 2}" for i in range(cases)]})
        table = table.assign(split="test", status="ok", reason="", y_Mass=truth.astype(float), p_Mass=p)
        made.append(Predictions(Path("p.csv"), table, ("Mass",)))
    made[1].table.loc[3, ["status", "p_Mass"]] = ["failed", np.nan]
    columns = pd.DataFrame({"view": view}, index=made[0].table["id"])
    return *made, columns


def test_within_groups_the_paired_test_is_that_of_their_cases():
    a, b, columns = tables()
    rows, (worst,) = paired_groups(a, b, columns, ["view"], Evaluation())
    assert [row.group for row in rows] == ["PA", "AP", "LL"] or [row.group for row in rows] == ["AP", "PA", "LL"]
    for row in rows:
        inside = (columns["view"].to_numpy() == row.group) & (b.table["status"] == "ok").to_numpy()
        truth, patient = a.truth()[inside, 0], a.table["patient"][inside]
        one, two = a.scores()[inside, 0], b.scores()[inside, 0]
        assert row.first == pytest.approx(auroc(truth[:, None], one[:, None])[0], abs=1e-12)
        test = few_patients(delong_test(truth, one, two, patient), row.patients)
        assert row.test.difference.value == pytest.approx(test.difference.value, abs=1e-12)
        assert row.test.p == pytest.approx(test.p, abs=1e-12, nan_ok=True) and row.cases == inside.sum()
    assert "no interval" in next(row for row in rows if row.group == "LL").test.difference.reason
    np.testing.assert_allclose([row.adjusted for row in rows], holm(np.array([row.test.p for row in rows])))
    assert worst.first_group == "AP" and worst.first < 0.65 < worst.second  # LL is too small to be the worst
    bedside = next(row for row in rows if row.group == "AP")
    assert bedside.adjusted < 0.001 and bedside.test.difference.value < 0


def test_the_section_holds_all_groups_and_the_worst():
    a, b, columns = tables()
    section = within_section("plain", {"context": paired_groups(a, b, columns, ["view"], Evaluation())})
    assert {row.metric for row in section.metrics} == {f"within_view={v}_auroc_difference" for v in ("ap", "pa", "ll")}
    assert section.plain["worst"][0]["first_group"] == "AP"
    assert section.plain["groups"][-1]["p_holm"] is None
