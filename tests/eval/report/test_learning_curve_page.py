"""The words, page, JSON and CSV of a learning curve, from invented scores of known quality."""

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from clinvit.eval.report.learning_curve_page import curve_csv, curve_json, curve_page, sentences
from clinvit.eval.statistics.learning_runs import Run, learning_runs
from clinvit.stages.learning_curve import Asked

SHARES = tuple(Fraction(1, 2**k) for k in (4, 3, 2, 1, 0))
LABELS = ("Mass", "<i>Edema", "Hernia")


def invented(models=("pretrained", "scratch"), seeds=3, absent=()):
    """Scores that get better with labels, of the first model more so; Hernia in 4 of 200 patients."""
    rng, cases = np.random.default_rng(0), 200
    truth = (rng.random((cases, 3)) < 0.4).astype(float)
    truth[:, 2] = np.arange(cases) < 4
    runs = []
    for model in models:
        for seed in range(seeds):
            for share in SHARES:
                signal = 0.25 * np.log2(1600 * float(share)) - 1.2 + (0.5 if model == models[0] else 0)
                scores = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) + signal * truth)))
                gone = ("Hernia", *absent) if share == SHARES[0] and seed == 0 else ()
                runs.append(Run(model, share, seed, int(1600 * share), int(800 * share), gone, scores))
    return learning_runs(runs, LABELS, truth, [f"p{n}" for n in range(cases)], 200, 0)


ASKED = Asked(shares=SHARES, more=1000, resamples=200)


def test_the_first_sentence_says_what_labels_are_worth():
    said = sentences(invented(), ASKED)
    assert said[0].startswith("Pretrained: another 1,000 labelled images are worth +0.0")
    assert "macro AUROC, on top of 0." in said[0] and said[0].endswith("with 1,600 images.") and " to +" in said[0]
    assert said[1].startswith("Scratch: another 1,000") and "pretrained is ahead of scratch" in said[2]
    assert "off at the largest size" in said[3]
    alone = sentences(invented(("model",)), ASKED)
    assert alone[0].startswith("Another 1,000 labelled images") and not any("ahead" in each for each in alone)


def test_far_beyond_what_was_trained_on_is_called_a_guess():
    far = Asked(shares=SHARES, more=5000)
    assert "5,000 further images are 3.1 times as many" in " ".join(sentences(invented(), far))
    assert "guess" not in " ".join(sentences(invented(), ASKED))


def test_rare_and_absent_findings_are_named_and_not_in_the_mean():
    found = invented(absent=("Mass",))
    assert found.targets[0].findings == ("<i>Edema",) and found.rare == {"Hernia": 4}
    said = " ".join(sentences(found, ASKED))
    assert "fewer than 10 patients in the smaller class" in said and "Hernia (4)" in said
    assert "for want of a positive or a negative case in some subsets: Mass, Hernia." in said
    table = curve_csv(found)
    empty = table[table["value"].isna()]
    assert set(empty["metric"]) == {"AUROC of Mass", "AUROC of Hernia"} and set(empty["share"]) == {"1/16"}
    mass = next(target for target in found.targets if target.name == "Mass")
    assert mass.curves["pretrained"].measured.counts().tolist() == [2, 3, 3, 3, 3]


def test_the_gain_is_the_difference_of_the_points():
    found = invented().targets[0]
    first, second = (curve.points() for curve in found.curves.values())
    for k, gain in enumerate(found.gains.values()):
        assert gain.value == pytest.approx(first[k].value - second[k].value)
        assert gain.low < gain.value < gain.high


def test_two_models_share_the_resamples_of_patients_and_of_seeds():
    runs = list(invented(("pretrained",)).runs)
    truth = np.column_stack([np.arange(200) % 2, np.arange(200) % 3 == 0, np.arange(200) < 40]).astype(float)
    both = [*runs, *(replace(run, model="scratch") for run in runs)]
    found = learning_runs(both, LABELS, truth, [f"p{n}" for n in range(200)], 100, 0)
    for gain in found.targets[0].gains.values():
        assert gain.value == 0 and gain.reason == "no interval: nothing varies between the resamples"


def test_page_json_and_csv_hold_the_same():
    found = invented()
    page, plain = curve_page(found, ASKED, ["a note"]), curve_json(found, ASKED, ["a note"])
    assert "&lt;i&gt;Edema" in page and "<i>Edema" not in page and "a note." in page
    assert all(sentence.replace("<", "&lt;").replace(">", "&gt;") in page for sentence in plain["sentences"])
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert [curve["metric"] for curve in plain["curves"][:2]] == ["macro AUROC"] * 2
    assert page.count('aria-label="Macro AUROC of pretrained and scratch') == 1 and "No finding" not in page
