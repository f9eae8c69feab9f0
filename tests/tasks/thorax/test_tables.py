"""The tables of the thorax paper: their metrics typed a second time, and every recipe beside the paper's commands."""

from dataclasses import replace

import pytest
from clinvit.tasks.thorax.tables import TABLES

MAIN = TABLES["thorax/main"]
SCALES = TABLES["thorax/scales"]  # of another paper
MERGED = TABLES["thorax/merged"]
OF_PAPER = [table for table in TABLES.values() if table not in (SCALES, MERGED)]
ROWS = [pytest.param(table, row, id=f"{table.name}:{row.name}") for table in OF_PAPER for row in table.rows]
# The README's table: model, pre-training data, method, mean AUROC (%).
README = """
densenet121-imagenet   DenseNet-121 ImageNet supervised 82.2
resnet50-moco          ResNet-50    ImageNet MoCo       80.9
resnet50-byol          ResNet-50    ImageNet BYOL       81.0
resnet50-swav          ResNet-50    ImageNet SwAV       81.5
densenet121-xrays-moco DenseNet-121 X-rays   MoCo       80.6
densenet121-xrays-mae  DenseNet-121 X-rays   MAE        81.2
vit-s-imagenet         ViT-S/16     ImageNet supervised 79.6
vit-s-imagenet-mae     ViT-S/16     ImageNet MAE        78.6
vit-s-xrays-mae        ViT-S/16     X-rays   MAE        82.3
vit-b-xrays-mae        ViT-B/16     X-rays   MAE        83.0
"""


def metrics(name: str) -> dict[str, float | None]:
    (metric,) = TABLES[name].metrics
    return {row.name: row.paper[metric.key].value for row in TABLES[name].rows}


def test_main_is_the_readmes_table():
    lines = [line.split() for line in README.strip().splitlines()]
    assert [row.name for row in MAIN.rows] == [line[0] for line in lines]
    assert metrics("thorax/main") == {line[0]: pytest.approx(float(line[4]) / 100) for line in lines}
    for row, (_, model, data, method, _) in zip(MAIN.rows, lines, strict=True):
        assert row.words.startswith(f"{model}, {data}") and method in row.words


def test_other_sets_and_the_final_setting():
    assert metrics("thorax/chexpert") == {"vit-s-xrays-mae": 0.892, "vit-b-xrays-mae": 0.893}
    assert metrics("thorax/covidx") == {"vit-s-xrays-mae": 0.952, "vit-b-xrays-mae": 0.953}
    final = {"mask": "mask-90", "crop": "crop-50", "layer-decay": "layer-decay-55", "randaug": "randaug-6"}
    for name, row in {**final, "drop-path": "drop-path-20"}.items():
        known = {key: value for key, value in metrics(f"thorax/ablation-{name}").items() if value is not None}
        assert known == {row: 0.823}, name
        assert TABLES[f"thorax/ablation-{name}"].notes[0].endswith("the paper's list is not known to us.")


def test_rows_that_start_from_other_weights_say_where_they_are_had():
    assert any("lambert-x/medical_mae" in note for note in MAIN.notes)
    for row in MAIN.rows:
        (*_, tuned) = row.steps
        assert bool(row.needs()) == (tuned.encoder != "pretrain")
        if row.name.startswith(("resnet50", "vit-s-imagenet", "vit-b")):
            assert "repository" in row.note, f"{row.name}: its settings are not published"


# What each ablation changes, by row: the rest is the paper's command.
CHANGED = {
    "mask": {"mask-60": 0.6, "mask-75": 0.75, "mask-85": 0.85, "mask-90": 0.9, "mask-95": 0.95},
    "crop": {"crop-8": 0.08, "crop-20": 0.2, "crop-35": 0.35, "crop-50": 0.5, "crop-75": 0.75},
    "layer-decay": {f"layer-decay-{d}": int(d) / 100 for d in ("45", "55", "65", "75")} | {"layer-decay-none": 1.0},
    "randaug": {"randaug-none": None} | {f"randaug-{m}": f"m{m}-n2-mstd0.5-inc1" for m in (3, 6, 8, 10)},
    "drop-path": {f"drop-path-{d}": d / 100 for d in (0, 10, 20, 30, 40)},
}


def own(table, row, of: str, paper):
    """The ablated value of a row, else the paper's."""
    return CHANGED[of][row.name] if table.name == f"thorax/ablation-{of}" else paper


@pytest.mark.parametrize("table, row", ROWS)
def test_rows_have_the_papers_settings(table, row):
    *before, tuned = row.steps
    base = row.name.startswith("vit-b")
    for step in before:
        recipe = step.recipe()
        assert recipe.mask_ratio == own(table, row, "mask", 0.9) and recipe.target == "pixels"
        assert recipe.model.size == ("base" if base else "small") and recipe.model.patch_size == 16
        assert (recipe.decoder.width, recipe.decoder.depth, recipe.decoder.heads) == (512, 8 if base else 2, 16)
        assert recipe.augment.crop_scale == (own(table, row, "crop", 0.5), 1.0) and recipe.augment.flip == 0.5
        assert recipe.augment.size == recipe.model.image_size == 224 and recipe.augment.randaug is None
        optim = recipe.optim
        assert (optim.epochs, optim.warmup_epochs, optim.batch_size, optim.base_lr) == (800, 40, 2048, 1.5e-4)
        assert (optim.weight_decay, optim.betas, optim.min_lr, optim.clip_norm) == (0.05, (0.9, 0.95), 0.0, None)
    recipe, optim, cnn = tuned.recipe(), tuned.recipe().optim, "net" in row.name.partition("-imagenet")[0]
    assert recipe.network == (row.name.partition("-")[0] if cnn else "vit")
    assert recipe.augment.randaug == own(table, row, "randaug", "m6-n2-mstd0.5-inc1")
    assert (recipe.augment.crop_scale, recipe.augment.flip, recipe.erase) == ((0.08, 1.0), 0.5, 0.0)
    assert (recipe.view.mode, recipe.view.resize_px, recipe.mixup, recipe.cutmix) == ("crop", 256, 0.0, 0.0)
    assert (optim.epochs, optim.warmup_epochs, optim.batch_size, optim.base_lr) == (75, 5, 1024, 2.5e-4)
    assert (optim.weight_decay, optim.betas, optim.min_lr) == (0.05, (0.9, 0.999), 1e-5)
    assert optim.layer_decay == own(table, row, "layer-decay", 1.0 if cnn else 0.55)
    assert recipe.model.drop_path == own(table, row, "drop-path", 0.0 if cnn else 0.2)
    assert (recipe.data.mean, recipe.data.std) == ((0.5056,), (0.252,))
    if not cnn:
        assert recipe.pool == "mean" and recipe.model.class_token


@pytest.mark.parametrize("name", ["thorax/chexpert", "thorax/covidx"])
def test_other_sets_have_their_labels_and_loss(name):
    for row in TABLES[name].rows:
        recipe = row.steps[-1].recipe()
        if name == "thorax/chexpert":
            five = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Pleural Effusion")
            assert recipe.data.labels == five and recipe.loss == "bce"
        else:
            assert recipe.data.labels == ("normal", "pneumonia", "COVID-19") and recipe.loss == "ce"


def test_the_probes_at_several_scales_differ_in_those_alone():
    one, two = (row.steps[-1].recipe() for row in SCALES.rows)
    assert (one.mode, one.scales, two.scales) == ("linear", (1,), (1, 2)) and replace(two, scales=(1,)) == one
    assert [row.steps[0] for row in SCALES.rows] == [MAIN.rows[-2].steps[0]] * 2, "the encoder of the main table"
