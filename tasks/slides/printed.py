"""Tables of DSMIL's paper that are printed and not measured by `clinvit reproduce`."""

from ...stages.reproduce.table import Metric, Table, printed_row

DSMIL = "Li, Li and Eliceiri, CVPR 2021 (DSMIL), table {}, as public repositories transcribe it"
METRICS = (
    Metric("accuracy", "Accuracy", 4, "at the threshold that the code chooses (Youden)"),
    Metric("auroc", "AUROC", 4, "of slides"),
)
FOLDS = (Metric("accuracy", "Accuracy", 3, "mean over ten folds"),)
TCGA = "TCGA lung is not laid out here, and the paper's features are SimCLR's, which is not built."
TWO_SCALES = "Features of two magnifications by SimCLR: not built."
SIMCLR = "Features by SimCLR on a ResNet-18: not built. With DINO's features DSMIL is a row of slides/main."
PLAIN = "Its ResNet-18 and tiles are not laid out as a row; `clinvit extract slides --recipe timm` makes such features."
END_TO_END = "The features are trained through the pooling: not built, features are frozen here."
BAGS = "Measured by `clinvit bags` (tasks/slides/README.md), on folds of one's own: the paper's are not published."


def _table(name: str, title: str, number: int, data: str, metrics: tuple[Metric, ...], rows: tuple) -> Table:
    printed = tuple(printed_row(row, words, metrics, values, note) for row, words, values, note in rows)
    return Table(
        f"slides/{name}", title, DSMIL.format(number), "slides", data, "camelyon16", metrics, printed, unit="slide"
    )


_TABLES = (
    _table(
        "tcga-lung", "TCGA lung: adenocarcinoma against squamous cell carcinoma", 2, "TCGA LUAD and LUSC", METRICS,
        (
            ("dsmil", "DSMIL", (0.9190, 0.9633), TCGA),
            ("dsmil-lc", "DSMIL-LC (two magnifications)", (0.9286, 0.9583), TWO_SCALES),
        ),
    ),
    _table(
        "features", "Camelyon16: accuracy by features", 3, "Camelyon16, as for slides/main", METRICS[:1],
        (
            ("contrastive", "DSMIL, contrastive features", (0.8682,), SIMCLR),
            ("imagenet", "DSMIL, ImageNet features", (0.6202,), PLAIN),
            ("end-to-end", "Max pooling, trained end to end", (0.7099,), END_TO_END),
        ),
    ),
    _table(
        "classical", "Classical sets of bags: accuracy", 5, "MUSK1, MUSK2, FOX, TIGER, ELEPHANT", FOLDS,
        (
            ("musk1", "MUSK1, DSMIL", (0.932,), BAGS),
            ("musk2", "MUSK2, DSMIL", (0.930,), BAGS),
            ("fox", "FOX, DSMIL", (0.729,), BAGS),
            ("tiger", "TIGER, DSMIL", (0.869,), BAGS),
            ("tiger-dp-minn", "TIGER, DP-MINN", (0.897,), "Another group's aggregator: not built."),
            ("elephant", "ELEPHANT, DSMIL", (0.925,), BAGS),
        ),
    ),
)  # fmt: skip
TABLES = {table.name: table for table in _TABLES}
