"""The tables of ERDES and VideoMAE V2: their figures against a second transcription, their recipes, their phantoms."""

import csv
import subprocess
import sys
from dataclasses import replace

import pytest
from clinvit.cli import main
from clinvit.datasets.phantoms.ocular import PLACES
from clinvit.datasets.tables import read_manifest
from clinvit.finetune.volumes.networks import VolumeClassifier
from clinvit.pretrain import masked
from clinvit.tasks.erdes import measure, tables, video_tables
from clinvit.tasks.erdes.labels import LABELS
from clinvit.tasks.erdes.video_tables import DUAL_MASKING
from clinvit.tasks.reproduce.small import small

ALL = tables.TABLES | video_tables.TABLES
ROWS = [pytest.param(table, row, id=f"{table.name}:{row.name}") for table in ALL.values() for row in table.rows]
# Clips of class 1 and class 0 that the figures of the papers fit, twice counted ones included.
CASES = {
    "erdes/non_rd_vs_rd": [(100, 977)],
    "erdes/normal_vs_rd": [(100, 845), (101, 845), (101, 844), (100, 846)],
    "erdes/pvd_vs_rd": [(102, 129)],
    "erdes/macula": [(40, 62)],
    "erdes/normal_vs_pvd": [(130, 848)],
    "erdes/pooling": [(130, 848)],
}


def printed(table, name: str) -> tuple:
    row = next(row for row in ALL[table].rows if row.name == name)
    return tuple(row.paper[metric.key].value for metric in ALL[table].metrics)


# Typed a second time, from the text: the first, the last and a few rows between.
@pytest.mark.parametrize(
    "table, row, figures",
    [
        ("erdes/normal_vs_rd", "vit3d", ".643 .971 .730 .684 .937"),
        ("erdes/normal_vs_rd", "vnet", ".831 .997 .976 .898 .980"),
        ("erdes/normal_vs_rd", "unet3d", ".950 .996 .969 .959 .991"),
        ("erdes/pvd_vs_rd", "unetplusplus", ".921 .860 .839 .878 .887"),
        ("erdes/non_rd_vs_rd", "resnet3d", ".939 .978 .817 .874 .974"),
        ("erdes/macula", "swinunetr", ".699 .806 .699 .699 .764"),
        ("erdes/macula", "unet3d", ".899 .870 .818 .857 .882"),
        ("erdes/normal_vs_pvd", "senet154", ".569 .968 .732 .640 .915"),
        ("erdes/pooling", "unetr-top70", ".484 .965 .684 .567 .901"),
        ("erdes/pooling", "unetr-top50", ".553 .950 .631 .590 .897"),
        ("erdes/pooling", "senet154-top30", ".584 .965 .723 .646 .915"),
        ("erdes/pooling", "unet3d-top30", ".807 .977 .846 .826 .955"),
        ("video/k710", "vit-g-k710", ".838 .964"),
        ("video/k400", "vit-g-k400", ".872 .974"),
        ("video/k400", "vit-g-k400-after-k710", ".884 .980"),
        ("video/k600", "vit-g-k600-after-k710", ".888 .982"),
        ("video/ssv2", "vit-g-ssv2", ".770 .959"),
        ("video/ucf101", "vit-g-ucf101", ".996 1.000"),
        ("video/hmdb51", "vit-g-hmdb51", ".881 .985"),
    ],
)
def test_figures_are_those_of_the_paper(table, row, figures):
    assert printed(table, row) == tuple(map(float, figures.split()))


@pytest.mark.parametrize(
    "table, row, top1", [("video/k400", "vit-b-k400-further", 0.871), ("video/k600", "vit-s-k600", 0.831)]
)
def test_distilled_models_have_no_top5_in_the_paper(table, row, top1):
    found = next(each for each in ALL[table].rows if each.name == row).paper
    assert found["top1"].value == top1 and "top5" not in found


@pytest.mark.parametrize("name", CASES)
def test_every_row_fits_counts_of_clips(name):
    """Five figures of one confusion matrix, cut off or rounded to three decimals: a slip of a digit fits no counts."""
    for row in ALL[name].rows:
        figures = [row.paper[metric.key].value for metric in ALL[name].metrics]
        assert any(fits(figures, *cases) for cases in CASES[name]), (row.name, figures)


def fits(figures: list[float], positives: int, negatives: int) -> bool:
    sensitivity, specificity, precision, f1, accuracy = figures
    near = lambda exact, shown: -0.5e-3 - 1e-9 <= exact - shown < 1e-3 + 1e-5
    for hit in [n for n in range(positives + 1) if near(n / positives, sensitivity)]:
        for spared in [n for n in range(negatives + 1) if near(n / negatives, specificity)]:
            alarms, right = negatives - spared, hit + spared
            exact = (hit / max(1, hit + alarms), 2 * hit / (positives + hit + alarms), right / (positives + negatives))
            if all(map(near, exact, (precision, f1, accuracy))):
                return True
    return False


def test_the_tables_have_the_rows_of_the_papers():
    sizes = {name: len(table.rows) for name, table in ALL.items()}
    assert sizes == {
        "erdes/normal_vs_rd": 8, "erdes/non_rd_vs_rd": 8, "erdes/pvd_vs_rd": 8, "erdes/macula": 8,
        "erdes/normal_vs_pvd": 8, "erdes/pooling": 8 + 5 + 7 + 7, "video/dual-masking": 5, "video/k710": 3,
        "video/k400": 6, "video/k600": 5, "video/ssv2": 1, "video/ucf101": 1, "video/hmdb51": 1,
    }  # fmt: skip


@pytest.mark.parametrize("table, row", ROWS)
def test_a_row_is_of_this_table(table, row):
    assert set(row.paper) <= {metric.key for metric in table.metrics} and row.steps
    for step in row.steps:
        step.recipe()


def test_steps_of_one_key_have_one_recipe():
    known = {}
    for table in ALL.values():
        for row in table.rows:
            for step in row.steps:
                recipe = known.setdefault(step.key, (step.recipe(), row.labels))
                assert recipe == (step.recipe(), row.labels), step.key


@pytest.mark.parametrize("name", [name for name in ALL if name.startswith("erdes/")])
def test_erdes_is_scored_at_one_half_and_chosen_by_accuracy_on_validation(name):
    table = ALL[name]
    assert table.rule == "0.5" and any("0.5" in note for note in table.notes)
    for row in table.rows:
        (step,) = row.steps
        recipe = step.recipe()
        assert row.labels[0] in LABELS and recipe.select == "accuracy" and step.encoder == "none"
        constant = name == "erdes/macula" or recipe.network in ("senet154", "vnet")
        assert recipe.optim.schedule == ("constant" if constant else "plateau"), row.name
        assert recipe.optim.base_lr * recipe.optim.batch_size / 256 == pytest.approx(1.5e-5)


def test_pooling_rows_keep_the_share_of_their_name():
    rows = {row.name: row.steps[0].recipe() for row in ALL["erdes/pooling"].rows}
    assert {recipe.pool for name, recipe in rows.items() if "top" not in name} == {"mean"}
    for name, recipe in rows.items():
        if "-top" in name:
            assert (recipe.pool, f"{recipe.pool_ratio * 100:.0f}") == ("topk", name.rpartition("-top")[2])


@pytest.mark.parametrize("network", tables.NETWORKS)
def test_small_baselines_can_be_built(network):
    recipe = small(tables.baseline_of_table(network, "pvd_vs_rd", None if network == "vit3d" else 0.3))
    assert recipe.network == network
    VolumeClassifier(
        network, 1, frames=recipe.model.frames, size_px=recipe.model.image_size, pool=recipe.pool,
        pool_ratio=recipe.pool_ratio or 1.0,
    )  # fmt: skip


def test_notes_say_where_the_paper_counted_clips_twice():
    for name, count in {"erdes/macula": "102", "erdes/pvd_vs_rd": "231", "erdes/normal_vs_pvd": "978"}.items():
        assert any(count in note and "three processes" in note for note in ALL[name].notes), name
    assert any("INTACT" in note for note in ALL["erdes/macula"].notes)


# segments x crops, epochs, batch, peak rate, layer decay, drop path, weight decay: scripts/finetune of the public code.
@pytest.mark.parametrize(
    "table, row, expected",
    [
        ("video/k710", "vit-g-k710", (5, 3, 35, 96, 1e-3 * 96 / 256, 0.9, 0.3, 0.1)),
        ("video/k400", "vit-g-k400", (5, 3, 30, 192, 1e-3 * 192 / 256, 0.9, 0.2, 0.1)),
        ("video/k400", "vit-g-k400-after-k710", (5, 3, 3, 96, 1e-5 * 96 / 256, 0.9, 0.25, 0.1)),
        ("video/k600", "vit-g-k600-after-k710", (5, 3, 3, 96, 1e-5 * 96 / 256, 0.9, 0.25, 0.1)),
        ("video/ssv2", "vit-g-ssv2", (2, 3, 20, 96, 3e-4 * 96 / 256, 0.9, 0.25, 0.05)),
        ("video/ucf101", "vit-g-ucf101", (5, 3, 50, 24, 1e-3 * 24 / 256, 0.9, 0.35, 0.05)),
        ("video/hmdb51", "vit-g-hmdb51", (5, 3, 15, 24, 5e-4 * 24 / 256, 0.9, 0.35, 0.05)),
    ],
)
def test_giant_rows_have_the_settings_of_their_script(table, row, expected):
    (step,) = next(each for each in ALL[table].rows if each.name == row).steps
    recipe, optim = step.recipe(), step.recipe().optim
    found = (
        recipe.view.segments, recipe.view.crops, optim.epochs, optim.batch_size, optim.base_lr * optim.batch_size / 256,
        optim.layer_decay, recipe.model.drop_path, optim.weight_decay,
    )  # fmt: skip
    assert found == pytest.approx(expected)
    assert optim.clip_norm == (5.0 if row == "vit-g-k710" else None)
    assert recipe.data.clip.stride == (2 if row == "vit-g-hmdb51" else 4)


def test_further_fine_tuned_models_are_seen_in_seven_segments():
    for name in ("video/k400", "video/k600"):
        for row in ALL[name].rows:
            segments = row.steps[0].recipe().view.segments
            assert segments == (7 if row.name.endswith("-further") else 5), row.name


def test_decoder_masks_differ_in_nothing_else():
    seen = set()
    for row in DUAL_MASKING.rows:
        cost, pre, fine = row.steps
        recipe = pre.recipe()
        assert cost.recipe() == recipe and fine.recipe().data.clip.sampling == "sparse" and recipe.data.clip.stride == 2
        seen.add((recipe.decoder_mask, recipe.decode_ratio, recipe.rebuild_visible))
        plain = replace(recipe, decoder_mask="random", decode_ratio=1.0, rebuild_visible=True)
        assert plain == DUAL_MASKING.rows[0].steps[1].recipe()
    assert len(seen) == 5 and ("running_cell", 0.25, True) in seen


@pytest.fixture
def step_recipe():
    """The running cells' recipe, made small."""
    return small(next(row for row in DUAL_MASKING.rows if row.name == "running-cell-50").steps[0].recipe())


def test_a_step_is_measured(step_recipe, monkeypatch):
    monkeypatch.setattr(measure, "WARM_UP", 1)
    figures = measure.measure_steps(step_recipe, clips=2, steps=3)
    seconds, memory = figures["step_seconds"], figures["peak_memory_gib"]
    assert 0 < seconds.low <= seconds.value <= seconds.high < 60 and "2 clips a step" in seconds.reason
    assert 0 <= memory.value < 50


def test_the_measured_step_trains(step_recipe, monkeypatch):
    model = masked.build_mae(step_recipe)
    monkeypatch.setattr(masked, "build_mae", lambda recipe: model)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    before = {name: value.detach().clone() for name, value in trained.items()}
    measure.training_step(step_recipe, 2, "cpu")()
    moved = [name for name, value in trained.items() if (value != before[name]).any()]
    assert len(moved) > len(trained) / 2


def test_memory_is_of_this_process_alone():
    """A small process says how little it holds, whatever this one held when it started it."""
    code = (
        "from clinvit.tasks.erdes.measure import peak_resident as peak\n"
        "before = peak(); held = bytearray(64 * 2**20); held[::4096] = b'1' * len(held[::4096]); print(before, peak())"
    )
    mine = bytearray(2**30)
    mine[::4096] = b"1" * len(mine[::4096])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert 10 * 2**20 < before < 2**30 and after >= before + 32 * 2**20


@pytest.mark.slow
def test_masking_the_decoder_costs_less_in_a_process_of_its_own(step_recipe, tmp_path):
    from clinvit.tasks.reproduce.work import Work

    model = replace(step_recipe.model, image_size=96, frames=16)
    big = replace(step_recipe, model=model, augment=replace(step_recipe.augment, size=96))
    found = [
        measure.training_cost(Work(recipe, tmp_path, tmp_path, {}))["peak_memory_gib"].value
        for recipe in (replace(big, decode_ratio=1.0), replace(big, decode_ratio=0.25))
    ]
    assert found[1] < found[0]


@pytest.mark.slow
def test_phantoms_of_video_have_six_classes_in_every_split(tmp_path):
    manifest = read_manifest(video_tables.phantoms(tmp_path))
    assert len(manifest.labels) == len(PLACES) == 6
    for split in ("train", "val", "test"):
        assert (manifest.rows(split).targets().sum(axis=0) >= 3).all(), split
    written = (tmp_path / "manifest.csv").stat().st_mtime_ns
    assert video_tables.phantoms(tmp_path) == tmp_path / "manifest.csv"
    assert (tmp_path / "manifest.csv").stat().st_mtime_ns == written, "what is whole is not written again"


@pytest.mark.slow
def test_phantoms_of_eyes_have_both_classes_of_every_task_in_every_split(tmp_path):
    manifest = read_manifest(tables.phantoms(tmp_path))
    assert set(manifest.labels) == set(LABELS)
    for split in ("train", "val", "test"):
        targets = manifest.rows(split).targets()
        assert ((targets == 1).any(axis=0) & (targets == 0).any(axis=0)).all(), split


SMALLEST = ["--optim.epochs", "2", "--optim.warmup_epochs", "0", "--optim.batch_size", "16"]


def reproduced(out, table: str, rows: str, *options: str) -> dict:
    """Measured cells by (row, metric), after one command."""
    asked = ["reproduce", table, "--rows", rows, "--phantoms", "--out", str(out), "--resamples", "100", *options]
    assert main(asked) == 0
    with (out / "phantoms" / table / "table.csv").open(encoding="utf-8") as file:
        return {(line["row"], line["metric"]): line for line in csv.DictReader(file)}


@pytest.mark.slow
def test_two_rows_of_the_macula(tmp_path):
    found = reproduced(tmp_path, "erdes/macula", "vit3d,unetplusplus", *SMALLEST)
    assert 0 <= float(found["unetplusplus", "accuracy"]["measured"]) <= 1
    assert found["unet3d", "accuracy"]["measured"] == ""


@pytest.mark.slow
def test_a_decoder_mask_from_cost_to_accuracy_and_a_fine_tuned_row(tmp_path):
    found = reproduced(tmp_path, "video/dual-masking", "running-cell-75", *SMALLEST)
    assert float(found["running-cell-75", "step_seconds"]["measured"]) > 0
    assert 0 <= float(found["running-cell-75", "top1"]["measured"]) <= 1
    found = reproduced(tmp_path, "video/k400", "vit-s-k400-further", *SMALLEST)
    top1, top5 = (float(found["vit-s-k400-further", key]["measured"]) for key in ("top1", "top5"))
    assert 0 <= top1 <= top5 <= 1
