"""Self-ViT-MIL on Camelyon16 beside the aggregators of DSMIL's table 1: slides, and where the tumour is.

Gul et al., SPIE Medical Imaging 2022 (arXiv 2210.09021; its own text was not at hand, its two metrics are those of a
summary of it); Li, Li and Eliceiri, CVPR 2021, table 1, as public repositories transcribe it.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

from ...datasets.slides.settings import Stain
from ...mil.extract_recipe import Extract as Features
from ...pretrain.recipe import Dino
from ...stages.reproduce.table import Extract, Measure, Metric, Mil, Pretrain, Printed, Row, Step, Table, TestList, Tile
from . import printed
from .measure import localisation_metrics
from .recipes import FINETUNE, extract_self_vit_mil, pretrain_self_vit_mil, tile_self_vit_mil

DSMIL = "Li, Li and Eliceiri, CVPR 2021 (DSMIL), table 1"
SELF_VIT_MIL = "Gul et al. 2022 (Self-ViT-MIL), summary page of arXiv 2210.09021"

RATES = (0.25, 0.5, 1, 2, 4, 8)  # those of eval.froc, which a list of tables need not import
FROC = Metric("froc", "FROC", 4, "mean sensitivity for lesions at 1/4, 1/2, 1, 2, 4 and 8 false positives a slide")
METRICS = (
    Metric("accuracy", "Accuracy", 4, "at the threshold that validation chose (Youden)"),
    Metric("auroc", "AUROC", 4, "of slides"),
    FROC,
)
LOCALISATION = (
    FROC,
    *(
        Metric(
            f"sensitivity_at_{rate:g}", f"Sens. at {rate:g} FP", 3, f"of lesions, at {rate:g} false positives a slide"
        )
        for rate in RATES
    ),
    Metric("tile_auroc", "Tile AUROC", 3, "of all tiles of the test slides whose truth is known"),
    Metric("dice", "Dice", 3, "of tiles, at the threshold with the largest Dice on validation"),
)

OTHER_FEATURES = "DINO features here, SimCLR's in the paper."
# Row: recipe, words, the paper's accuracy, AUROC and FROC, its source, note.
AGGREGATORS: dict[str, tuple[str, str, tuple[float | None, float | None, float | None], str, str]] = {
    "self-vit-mil": ("self_vit_mil", "Self-ViT-MIL", (0.9147, 0.9426, None), SELF_VIT_MIL, ""),
    "max": ("max", "Max pooling", (0.8295, 0.8641, 0.3313), DSMIL, OTHER_FEATURES),
    "abmil": ("abmil", "ABMIL (gated attention)", (0.8450, 0.8653, 0.4056), DSMIL, OTHER_FEATURES),
    "dsmil": ("dsmil", "DSMIL", (0.8682, 0.8944, 0.4296), DSMIL, OTHER_FEATURES),
}
NOT_BUILT = (
    (
        "dsmil-lc",
        "DSMIL-LC (two magnifications)",
        (0.8992, 0.9165, 0.4371),
        "Features of two magnifications: not built.",
    ),
    (
        "supervised",
        "Fully supervised",
        (0.9147, 0.9362, 0.5254),
        "A classifier trained on outlined tiles: not run here.",
    ),
)

# The paper estimates it of each tile and drops those where that fails; here no tile is dropped, a slide would fail.
PER_SLIDE = Stain("macenko")
SLIDES = (8, 8, 8)  # of phantoms: normal and with tumour for training, and for the test
NOTES = (
    "How the paper's DINO was trained (length, machines, start) is not known to us: the settings are the defaults of "
    "its script, from scratch, with the ViT-B/16 that its feature script loads. All aggregators are trained as "
    "Self-ViT-MIL's: 200 epochs of Adam at 2e-4.",
    "DSMIL's table has features of SimCLR on a ResNet-18, which are not built here: max pooling, ABMIL and DSMIL have "
    "the DINO features of Self-ViT-MIL. Compare these rows with each other rather than with the paper's.",
    "Both papers' codes choose the epoch and the threshold on the test slides; here both come from validation slides "
    "cut out of the training slides, so metrics a little lower are to be expected.",
    "Stain (Macenko) is estimated per slide. The paper's code does it per tile and drops the tiles where that fails; "
    "how many is not known.",
    "129 test slides; test_049 (a duplicate) is left out. Some papers leave out two more.",
)


def pretrain() -> Dino:
    """Pre-train by the paper's DINO, with the stain estimated per slide."""
    return replace(pretrain_self_vit_mil(), stain=PER_SLIDE)


def extract() -> Features:
    """Extract the paper's features, with the stain estimated per slide."""
    return replace(extract_self_vit_mil(), stain=PER_SLIDE)


def phantoms(out: Path) -> Path:
    """Write invented slides in the tree of Camelyon16; return the manifest.

    Args:
        out: Folder to write; what is whole there is not written again.
    """
    from ...phantoms.slides import write_camelyon16
    from ...stages.data import MANIFEST
    from ...stages.prepare import prepare_phantoms
    from .layouts import LAYOUTS

    normal, tumour, test = SLIDES
    write = partial(write_camelyon16, normal=normal, tumour=tumour, test=test, size_px=(1472, 1536))
    return prepare_phantoms(write, LAYOUTS, out / "camelyon16", out / MANIFEST)


def _steps(name: str) -> tuple[Step, ...]:
    """Return the steps of a row; all rows share tiles, DINO and features."""
    recipe = FINETUNE[AGGREGATORS[name][0]]
    return (
        Tile("tiles", tile_self_vit_mil),
        Pretrain("dino", pretrain),
        Extract("features", extract),
        Mil(f"mil-{name}", recipe),
        Measure(f"localisation-{name}", recipe, localisation_metrics, data=True),
    )


def _row(name: str, metrics: tuple[Metric, ...]) -> Row:
    _, words, values, source, note = AGGREGATORS[name]
    printed = dict(zip((metric.key for metric in METRICS), values, strict=True))
    paper = {metric.key: Printed(printed.get(metric.key), source) for metric in metrics}
    return Row(name, words, _steps(name), paper, note=note)


def _not_run(name: str, words: str, metrics: tuple[float, float, float], note: str) -> Row:
    paper = {metric.key: Printed(value, DSMIL) for metric, value in zip(METRICS, metrics, strict=True)}
    return Row(name, words, (), paper, note=note)


def _table(name: str, title: str, metrics: tuple[Metric, ...], rows: tuple[Row, ...]) -> Table:
    return Table(
        f"slides/{name}",
        title,
        f"{SELF_VIT_MIL}; {DSMIL}",
        task="slides",
        data="Camelyon16: 270 training and 129 test slides, about 700 GB (`clinvit prepare slides CAMELYON16`)",
        layout="camelyon16",
        metrics=metrics,
        rows=rows,
        phantoms=phantoms,
        test=TestList(129, "64980fb4067c3e73dbc60431df5795615c4ccd72ae01c81b921d993eff56984b"),
        unit="slide",
        notes=NOTES,
    )


_TABLES = (
    _table(
        "main",
        "Camelyon16: metastases by slide",
        METRICS,
        (*(_row(name, METRICS) for name in AGGREGATORS), *(_not_run(*row) for row in NOT_BUILT)),
    ),
    _table(
        "localisation",
        "Camelyon16: where the metastases are",
        LOCALISATION,
        tuple(_row(name, LOCALISATION) for name in AGGREGATORS),
    ),
)
TABLES = {table.name: table for table in _TABLES} | printed.TABLES
