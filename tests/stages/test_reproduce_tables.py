"""The papers' tables as data: every recipe can be built, parsed and made small without losing what its row is about."""

import math
from dataclasses import asdict, replace
from fnmatch import fnmatch

import pytest
from clinvit.cli import main
from clinvit.core.errors import UserError
from clinvit.engine.recipe import flat, parse_recipe, to_yaml
from clinvit.eval.statistics.intervals import Estimate
from clinvit.stages.reproduce import verdict as words
from clinvit.stages.reproduce.catalogue import chosen_rows, find_table
from clinvit.stages.reproduce.metrics import Measured, ids_fingerprint
from clinvit.stages.reproduce.small import small
from clinvit.stages.reproduce.table import Metric, Printed, TestList
from clinvit.stages.reproduce.verdict import verdict
from clinvit.tasks import all_tasks

TABLES = {name: table for task in all_tasks() for name, table in task.tables().items()}
STEPS = {step.key: step for table in TABLES.values() for row in table.rows for step in row.steps}
RECIPES = {str(step.recipe()): key for key, step in reversed(STEPS.items())}.values()  # equal ones once
# What `small` may change; everything else is what a row may be about.
SHRINKS = (
    "model.size", "model.image_size", "model.patch_size", "model.frames", "model.checkpoint_blocks", "decoder.width",
    "decoder.depth", "decoder.heads", "decoder.mlp_ratio", "data.cache*", "augment.size", "view.resize_px",
    "eval_every", "optim.epochs", "optim.warmup_epochs", "optim.batch_size", "optim.base_lr", "optim.accumulate",
    "run.*", "tiles_per_slide", "momentum", "centre_momentum", "head.*", "crops.local_*", "tile_um", "tile_px",
    "overlap_um", "min_tissue", "batch_size",
)  # fmt: skip


def test_names_are_unique_and_rows_complete():
    for name, table in TABLES.items():
        assert name == table.name and table.rows and table.metrics and table.source
        rows, keys = [row.name for row in table.rows], {metric.key for metric in table.metrics}
        assert len(set(rows)) == len(rows), name
        for row in table.rows:
            assert set(row.paper) <= keys, (name, row.name)
            assert row.steps or row.note, f"{name} {row.name}: say why it is not built"
            for printed in row.paper.values():
                assert printed.value is None or printed.value > 0


def test_rows_that_share_a_key_share_recipe_labels_and_start():
    seen = {}
    for table in TABLES.values():
        for row in table.rows:
            for step in row.steps:
                labels = row.labels if step.kind in ("finetune", "mil") else None
                own = (type(step), step.recipe(), getattr(step, "encoder", ""), labels, table.rule)
                assert seen.setdefault(step.key, own)[:4] == own[:4], (table.name, row.name, step.key)


@pytest.mark.parametrize("key", RECIPES)
def test_recipes_are_built_and_parsed(key, tmp_path):
    recipe = STEPS[key].recipe()
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe), encoding="utf-8")
    assert parse_recipe(type(recipe)(), tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("key", RECIPES)
def test_small_leaves_what_a_row_is_about(key):
    recipe = STEPS[key].recipe()
    before, after = flat(recipe), flat(small(recipe))
    changed = {name for name in before if before[name] != after[name]}
    assert {name for name in changed if not any(fnmatch(name, pattern) for pattern in SHRINKS)} == set()
    for name in ("optim.epochs", "optim.batch_size", "model.frames"):
        assert after.get(name, 0) <= before.get(name, 0)
    if "model.image_size" in before:
        model = small(recipe).model
        assert model.image_size % model.patch_size == 0


def test_rows_that_differ_still_differ_when_small():
    for name, table in TABLES.items():
        if not name.startswith("thorax/ablation"):
            continue
        rows = [tuple(str(asdict(small(step.recipe()))) for step in row.steps) for row in table.rows]
        assert len(set(rows)) == len(rows), name


def test_the_list_names_every_table_and_row(capsys):
    assert main(["reproduce", "--list"]) == 0
    text = capsys.readouterr().out
    for name, table in TABLES.items():
        assert f"{name}\n" in text
        assert all(f"    {row.name} " in text for row in table.rows)
        assert all(f"; not run: {row.note}\n" in f"{text}\n" for row in table.rows if not row.steps)


def test_a_table_with_rows_to_run_has_phantoms():
    for name, table in TABLES.items():
        needed = table.data and any(row.steps for row in table.rows)
        assert table.phantoms is not None or not needed, name


@pytest.mark.parametrize(
    ("table", "row", "metrics"),
    [
        ("thorax/literature", "wang-2017", {"macro_auroc": 0.745}),
        ("thorax/literature", "best-cnn-2022", {"macro_auroc": 0.826}),
        ("slides/tcga-lung", "dsmil-lc", {"accuracy": 0.9286, "auroc": 0.9583}),
        ("slides/features", "imagenet", {"accuracy": 0.6202}),
        ("slides/classical", "elephant", {"accuracy": 0.925}),
        ("clips/detection", "fineaction", {"map": 0.182}),
        ("clips/ssv1", "vit-g", {"top1": 0.687}),
        ("clips/videomae-v1", "k400-vit-b", {"top1": 0.815, "top5": 0.951}),
        ("clips/videomae-v1", "hmdb51-vit-b", {"top1": 0.626}),
        ("images/repavit", "swin-b-merged", {"gmacs": 9.0, "top1": 0.826}),
        ("images/repq-vit", "swin-s", {"top1_w4a4": 0.7945, "top1_w6a6": 0.8279, "top1_fp32": 0.8323}),
        ("images/opcm", "vit-l-14", {"start": 0.649, "individual": 0.943}),
        ("images/s2", "vit-b", {}),
        ("images/imagenet", "vit-b", {"top1": 0.83664, "top5": 0.9653, "linear_top1": 0.678}),
    ],
)
def test_what_is_not_built_is_printed_as_published(table, row, metrics):
    (found,) = (each for each in TABLES[table].rows if each.name == row)
    assert {key: printed.value for key, printed in found.paper.items()} == metrics
    assert not found.steps


@pytest.mark.parametrize(
    ("table", "row", "metrics"),
    [
        ("images/repavit", "deit-b-merged", {"gmacs": 9.9, "top1": 0.813}),
        ("images/repq-vit", "vit-b", {"top1_w4a4": 0.6848, "top1_w6a6": 0.8362, "top1_fp32": 0.8454}),
    ],
)
def test_what_is_measured_without_the_papers_data_keeps_its_printed_accuracy(table, row, metrics):
    (found,) = (each for each in TABLES[table].rows if each.name == row)
    assert {key: printed.value for key, printed in found.paper.items()} == metrics
    assert found.steps and not TABLES[table].data


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["thorax/mian"], "did you mean 'thorax/main'?"),
        (["nothing"], "no table 'nothing'"),
        ([], "name a table"),
        (["thorax/main", "--rows", "vit-s-xray-mae", "--phantoms"], "did you mean 'vit-s-xrays-mae'?"),
        (["thorax/main"], "--data is missing: ChestX-ray14"),
        (["thorax/main", "--weights", "vit-s-imagenet"], "write ROW=PATH"),
        (["thorax/main", "--weights", "vit-x=a.pth", "--phantoms"], "no row of thorax/main"),
        (["thorax/main", "--rows", "vit-s-xrays-mae", "--weights", "resnet50-moco=a"], "not among --rows"),
        (["thorax/main", "--phantoms", "--data", "x"], "--phantoms brings its own data"),
        (["slides/tcga-lung"], "slides/tcga-lung is printed by --list only, no row is built here. dsmil: TCGA lung"),
        (["images/imagenet", "--phantoms"], "images/imagenet is printed by --list only"),
        (["scaling/humanlike", "--phantoms"], "scaling/humanlike needs no data: leave --data"),
        (["images/repavit", "--phantoms"], "images/repavit needs no data: leave --data"),
        (["images/opcm"], "images/opcm is printed by --list only"),
        (["clips/ssv1", "--data", "x"], "clips/ssv1 is printed by --list only"),
    ],
)
def test_what_is_asked_wrongly_is_one_line(arguments, told, capsys, tmp_path):
    assert main(["reproduce", *arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_rows_come_in_the_tables_order():
    table = find_table("thorax/ablation-mask", all_tasks())[0]
    assert [row.name for row in chosen_rows(table, ["mask-90", "mask-60"])] == ["mask-60", "mask-90"]
    with pytest.raises(UserError, match="it has mask-60, mask-75"):
        chosen_rows(table, ["crop-20"])


AUROC = Metric("macro_auroc", "mean AUROC", 3, "", percent=True)
CUT_OFF = replace(AUROC, cut_off=True)
COUNTED = Metric("gmacs", "GMACs", 1, "", counted=True)


@pytest.mark.parametrize(
    "measured, paper, obstacle, metric, expected",
    [
        (None, 0.823, "", AUROC, words.NOT_RUN),
        (Estimate(math.nan, reason="no case"), 0.823, "", AUROC, words.UNDEFINED),
        (Estimate(0.82, 0.81, 0.83), 0.823, "", AUROC, words.INSIDE),
        (Estimate(0.82, 0.81, 0.83), 0.81, "", AUROC, words.INSIDE),
        (Estimate(0.82, 0.81, 0.83), 0.8097, "", AUROC, words.INSIDE),  # may be 0.8102: what is printed is rounded
        (Estimate(0.82, 0.81, 0.83), 0.809, "", AUROC, words.ABOVE),
        (Estimate(0.82, 0.8095, 0.83), 0.809, "", CUT_OFF, words.INSIDE),  # may be 0.8099
        (Estimate(0.82, 0.81, 0.8295), 0.83, "", CUT_OFF, words.BELOW),
        (Estimate(0.82, 0.81, 0.83), 0.831, "", AUROC, words.BELOW),
        (Estimate(0.82, 0.81, 0.83), None, "", AUROC, words.UNKNOWN),
        (Estimate(0.82), 0.82, "", AUROC, words.NO_INTERVAL),
        (Estimate(0.82, 0.81, 0.83), 0.82, words.INVENTED, AUROC, words.INVENTED),
        (Estimate(0.82, 0.81, 0.83), 0.82, words.ANOTHER_LIST, AUROC, words.ANOTHER_LIST),
        (Estimate(0.82, 0.81, 0.83), None, words.INVENTED, AUROC, words.INVENTED),
        (None, 0.82, words.INVENTED, AUROC, words.NOT_RUN),
        (Estimate(9.86), 9.9, "", COUNTED, words.EQUAL),
        (Estimate(9.84), 9.9, "", COUNTED, words.BELOW),
        (Estimate(9.96), 9.9, "", COUNTED, words.ABOVE),
    ],
)
def test_verdict(measured, paper, obstacle, metric, expected):
    assert verdict(measured, Printed(paper), metric, obstacle) == expected


def test_agreement_says_how_exact_it_is():
    wide = verdict(Estimate(0.8, 0.75, 0.85), Printed(0.823), AUROC, cases=200)
    assert wide == f"{words.INSIDE}, 10.0 points wide; about 5,000 cases would show a difference of one point"
    assert verdict(Estimate(0.82, 0.815, 0.825), Printed(0.823), AUROC, cases=9000).endswith("1.0 points wide")


def test_the_test_list_is_recognised_by_its_ids():
    ids = [f"c{i}" for i in range(30)]
    test = TestList(30, ids_fingerprint(reversed(ids)))
    same = Measured({}, 25, 25, 5, 30, ids_fingerprint(ids))
    assert words.obstacle(same, test, False, False) == ""
    assert words.obstacle(same, test, True, False) == words.ANOTHER_RECIPE
    assert words.obstacle(same, test, False, True) == words.INVENTED
    assert words.obstacle(same, None, False, False) == "", "no list is known"
    assert words.obstacle(replace(same, requested=29), test, False, False).startswith(words.ANOTHER_LIST)
    other = replace(same, ids=ids_fingerprint([*ids[1:], "x"]))
    assert words.obstacle(other, test, False, False).startswith(words.ANOTHER_LIST)


def test_a_metric_that_the_paper_has_not_is_unknown():
    assert verdict(Estimate(0.82, 0.81, 0.83), None, AUROC) == words.UNKNOWN
