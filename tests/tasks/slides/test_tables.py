"""The tables of slides: their metrics against a second transcription, their recipes, two rows on phantoms."""

import csv

import pytest
from clinvit.cli import main
from clinvit.eval.localisation import froc
from clinvit.tasks.slides import tables
from clinvit.tasks.slides.labels import COUNTS
from clinvit.tasks.slides.tables import TABLES

pytest.importorskip("h5py")
pytest.importorskip("openslide")
MAIN, WHERE = TABLES["slides/main"], TABLES["slides/localisation"]
ROWS = [pytest.param(table, row, id=f"{table.name}:{row.name}") for table in TABLES.values() for row in table.rows]


def test_metrics_are_those_of_the_papers():
    found = {row.name: [row.paper[metric.key].value for metric in MAIN.metrics] for row in MAIN.rows}
    assert [metric.key for metric in MAIN.metrics] == ["accuracy", "auroc", "froc"]
    assert found == {
        "self-vit-mil": [0.9147, 0.9426, None],
        "max": [0.8295, 0.8641, 0.3313],
        "abmil": [0.8450, 0.8653, 0.4056],
        "dsmil": [0.8682, 0.8944, 0.4296],
        "dsmil-lc": [0.8992, 0.9165, 0.4371],
        "supervised": [0.9147, 0.9362, 0.5254],
    }
    for row in MAIN.rows:
        right = row.paper["accuracy"].value * COUNTS["test"]
        assert abs(right - round(right)) < 0.01, f"{row.name}: no whole number of 129 slides"


def test_rates_are_those_of_the_froc():
    assert tables.RATES == froc.RATES


def test_only_froc_is_known_of_localisation():
    for row in WHERE.rows:
        known = {key for key, printed in row.paper.items() if printed.value is not None}
        assert known == (set() if row.name == "self-vit-mil" else {"froc"})
        assert set(row.paper) == {metric.key for metric in WHERE.metrics}


@pytest.mark.parametrize("table, row", ROWS)
def test_a_row_runs_or_says_why_not(table, row):
    if not row.steps:
        assert row.note
        return
    assert [step.kind for step in row.steps] == ["tile", "pretrain", "extract", "mil", "measure"]
    tile, dino, extract, mil, _ = (step.recipe() for step in row.steps)
    assert tile.tissue.method == "grey" and (tile.tile_um, tile.tile_px) == (112.0, 224)
    assert dino.stain == extract.stain and dino.model.size == "base" and extract.features == "class4_mean"
    assert (mil.optim.epochs, mil.optim.batch_size, mil.optim.base_lr / 256) == (200, 1, 2e-4)


def test_rows_differ_in_their_aggregator_and_share_the_rest():
    rows = [row for row in MAIN.rows if row.steps]
    aggregators = {row.name: row.steps[3].recipe().aggregator for row in rows}
    assert aggregators == {
        "self-vit-mil": "self_vit_mil", "max": "max", "abmil": "gated_attention", "dsmil": "dsmil"
    }  # fmt: skip
    for place in range(3):
        assert len({(row.steps[place].key, row.steps[place].recipe()) for row in rows}) == 1
    assert [row.steps for row in rows] == [row.steps for row in WHERE.rows], "both tables measure the same runs"


@pytest.mark.thorough
def test_a_row_of_both_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "SLIDES", (5, 5, 4))
    smallest = ["--optim.epochs", "1", "--optim.warmup_epochs", "0", "--tiles_per_slide", "16"]
    found = {}
    for name in ("slides/main", "slides/localisation"):
        asked = ["reproduce", name, "--rows", "max", "--phantoms", "--out", str(tmp_path), "--resamples", "100"]
        assert main([*asked, *smallest]) == 0
        with (tmp_path / "phantoms" / name / "table.csv").open(encoding="utf-8") as file:
            found |= {(name, line["metric"]): line for line in csv.DictReader(file) if line["row"] == "max"}
    for metric in MAIN.metrics:
        assert 0 <= float(found["slides/main", metric.key]["measured"]) <= 1
    for metric in WHERE.metrics:
        assert 0 <= float(found["slides/localisation", metric.key]["measured"]) <= 1
    assert found["slides/main", "froc"]["measured"] == found["slides/localisation", "froc"]["measured"]
    (maps,) = tmp_path.rglob("localisation-max/explanations")  # one: the tables share phantoms and steps
    assert {path.stem for path in maps.glob("test_*.html")} == {f"test_{n:03d}" for n in range(1, 5)}
