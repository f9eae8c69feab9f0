"""Several sites: published random effects, coverage in simulation, small sites left out by name, and the column."""

import numpy as np
import pandas as pd
import pytest
from clinvit.core.errors import UserError
from clinvit.datasets.manifest.tables import Predictions, predictions_table
from clinvit.eval import Evaluation
from clinvit.eval.statistics.delong import delong
from clinvit.eval.statistics.meta_analysis import pooled, without_each
from clinvit.eval.statistics.operating_points import OperatingPoint
from clinvit.eval.statistics.sites import site_column, site_metrics

# Trials of the BCG vaccine (Colditz et al. 1994, JAMA 271:698): ill and well with the vaccine, ill and well without.
BCG = np.array(
    [
        (4, 119, 11, 128), (6, 300, 29, 274), (3, 228, 11, 209), (62, 13536, 248, 12619), (33, 5036, 47, 5761),
        (180, 1361, 372, 1079), (8, 2537, 10, 619), (505, 87886, 499, 87892), (29, 7470, 45, 7232),
        (17, 1699, 65, 1600), (186, 50448, 141, 27197), (5, 2493, 3, 2338), (27, 16886, 29, 17825),
    ],
    dtype=float,
).T  # fmt: skip
RISKS = np.log(BCG[0] / (BCG[0] + BCG[1])) - np.log(BCG[2] / (BCG[2] + BCG[3]))
VARIANCES = 1 / BCG[0] - 1 / (BCG[0] + BCG[1]) + 1 / BCG[2] - 1 / (BCG[2] + BCG[3])


def test_random_effects_are_those_published_for_the_bcg_trials():
    """Viechtbauer 2010 (J. Stat. Softw. 36:3): -0.7145 (0.1798), tau squared 0.3132, I squared 92.22 %, Q 152.233."""
    found = pooled(RISKS, VARIANCES, knapp_hartung=False)
    assert (round(found.mean, 4), round(found.error, 4), round(found.tau2, 4)) == (-0.7145, 0.1798, 0.3132)
    assert (round(100 * found.i2, 2), round(found.q, 3)) == (92.22, 152.233)
    knapp_hartung = pooled(RISKS, VARIANCES)
    assert round(knapp_hartung.error, 4) == 0.1808
    # DerSimonian and Laird, as statsmodels' combine_effects gives it.
    other = pooled(RISKS, VARIANCES, "dl", knapp_hartung=False)
    assert other.tau2 == pytest.approx(0.3087602628623761, abs=1e-12)
    assert other.mean == pytest.approx(-0.7141172220732273, abs=1e-12)
    assert other.error == pytest.approx(0.1787420895354031, abs=1e-12)


def test_each_site_is_left_out_once():
    found = without_each(RISKS, VARIANCES)
    assert [each.sites for each in found] == [12] * 13
    assert found[3].mean == pooled(np.delete(RISKS, 3), np.delete(VARIANCES, 3)).mean


@pytest.mark.parametrize(("sites", "tau"), [(4, 0.3), (8, 0.5)])
def test_the_interval_of_the_mean_and_that_of_a_further_site_cover(sites, tau):
    random, runs = np.random.default_rng(0), 1500
    mean, new = 0, 0
    for _ in range(runs):
        variances = random.uniform(0.02, 0.1, sites)
        values = random.normal(1.0, np.sqrt(tau**2 + variances))
        found = pooled(values, variances)
        mean += found.low <= 1.0 <= found.high
        new += found.new_low <= random.normal(1.0, tau) <= found.new_high
    assert 0.93 <= mean / runs <= 0.985
    assert new / runs >= 0.93


def table(sizes, seed=0):
    random, n = np.random.default_rng(seed), sum(sizes.values())
    truth = (random.random(n) < 0.4).astype(float)
    score = 1 / (1 + np.exp(-random.normal(size=n) - 2 * truth + 1))
    cases = pd.DataFrame({"id": [f"c{i}" for i in range(n)], "patient": [f"p{i}" for i in range(n)], "split": "test"})
    own = predictions_table(cases, ["Mass"], truth[:, None], score[:, None], [""] * n)
    return Predictions("p.csv", own, ("Mass",)), pd.DataFrame(
        {"Hospital": np.repeat(list(sizes), list(sizes.values()))}, index=cases["id"]
    )


def test_a_small_site_is_left_out_by_name_and_the_others_are_pooled():
    predictions, columns = table({"North": 120, "South": 90, "East": 12, "West": 100, "": 5})
    found = site_metrics(predictions, columns, "Hospital", [OperatingPoint(0.5, "fixed")], Evaluation())
    assert [each.metric for each in found] == ["auroc", "sensitivity", "specificity", "calibration_in_the_large"]
    for each in found:
        assert [site.site for site in each.sites] == ["East", "North", "South", "West"]
    auroc = found[0]
    assert auroc.left_out == ["East"] and auroc.pooled.sites == 3 and set(auroc.without) == {"North", "South", "West"}
    assert auroc.pooled.new_low < auroc.pooled.low < auroc.pooled.mean < auroc.pooled.high < auroc.pooled.new_high < 1
    rows = (columns["Hospital"] == "North").to_numpy()
    own = delong(predictions.truth()[rows, 0], predictions.scores()[rows])
    assert auroc.sites[1].estimate.value == pytest.approx(own.auroc[0])
    assert np.isnan(auroc.sites[0].estimate.low) and auroc.sites[0].estimate.reason


def test_the_column_of_the_sites_is_found_by_its_name_or_asked_for():
    columns = table({"North": 3, "South": 3})[1].assign(age=["1", "2"] * 3, one="x")
    assert site_column(columns, None) == "Hospital"
    assert site_column(columns.drop(columns="Hospital"), None) is None
    assert site_column(columns, "age") == "age"
    for wrong in ("Hospitl", "one"):
        with pytest.raises(UserError, match="sites: the"):
            site_column(columns, wrong)
