"""Rows of VideoMAE's papers and model zoos that are printed and not built here."""

from ...stages.reproduce.table import Metric, Row, Table, printed_row

V1 = "VideoMAE (Tong et al., NeurIPS 2022), MODEL_ZOO.md and README.md of its public code"
V2 = "VideoMAE V2 (Wang et al., CVPR 2023)"
TOP1 = Metric("top1", "Top-1", 3, "share of clips whose class has the highest probability", percent=True)
TOP5 = Metric("top5", "Top-5", 3, "share of clips whose class is among the five highest probabilities", percent=True)
MAP = Metric("map", "mAP", 3, "mean average precision of segments, averaged over overlaps", percent=True)
RECIPES_OF_V1 = "Its recipes are not built here, VideoMAE V2's are."
DETECTION = "Actions are found in time by ActionFormer on features of the encoder: detection is not built here."

# Name, data set and network, top-1, top-5 (MODEL_ZOO.md, but for what is said to stand in README.md).
ZOO = (
    ("k400-vit-s", "Kinetics-400, ViT-S, 1600 epochs, 16 x 5 x 3", 0.790, 0.938),
    ("k400-vit-b-800", "Kinetics-400, ViT-B, 800 epochs, 16 x 5 x 3, without repeated augmentation", 0.800, 0.944),
    ("k400-vit-b-800-repeated", "Kinetics-400, ViT-B, 800 epochs, 16 x 5 x 3", 0.810, 0.948),
    ("k400-vit-b", "Kinetics-400, ViT-B, 1600 epochs, 16 x 5 x 3", 0.815, 0.951),
    ("k400-vit-l", "Kinetics-400, ViT-L, 1600 epochs, 16 x 5 x 3", 0.852, 0.968),
    ("k400-vit-h", "Kinetics-400, ViT-H, 1600 epochs, 16 x 5 x 3", 0.866, 0.971),
    ("k400-vit-l-320", "Kinetics-400, ViT-L, 320 px, 32 x 4 x 3 (README)", 0.861, 0.973),
    ("k400-vit-h-320", "Kinetics-400, ViT-H, 320 px, 32 x 4 x 3 (README)", 0.874, 0.976),
    ("ssv2-vit-s", "Something-Something V2, ViT-S, 2400 epochs, 16 x 2 x 3", 0.668, 0.903),
    ("ssv2-vit-b-800", "Something-Something V2, ViT-B, 800 epochs, 16 x 2 x 3, without repeated augmentation", 0.696,
     0.920),
    ("ssv2-vit-b", "Something-Something V2, ViT-B, 2400 epochs, 16 x 2 x 3", 0.708, 0.924),
    ("ssv2-vit-l", "Something-Something V2, ViT-L, 16 x 2 x 3 (README)", 0.743, 0.946),
    ("ssv2-vit-l-32", "Something-Something V2, ViT-L, 32 x 1 x 3 (README)", 0.754, 0.952),
    ("ucf101-vit-b", "UCF101, ViT-B, 3200 epochs, 16 x 5 x 3", 0.913, 0.985),
    ("ucf101-vit-b-k400", "UCF101, ViT-B, pre-trained on Kinetics-400 (README)", 0.961, None),
    ("hmdb51-vit-b", "HMDB51, ViT-B (README)", 0.626, None),
    ("hmdb51-vit-b-k400", "HMDB51, ViT-B, pre-trained on Kinetics-400 (README)", 0.733, None),
)  # fmt: skip


def _table(name: str, title: str, source: str, data: str, metrics: tuple[Metric, ...], rows: tuple[Row, ...]) -> Table:
    return Table(f"clips/{name}", title, source, "clips", data, "list", metrics, rows, unit="clip")


_TABLES = (
    _table(
        "ssv1", "Something-Something V1: top-1", f"{V2}, abstract", "Something-Something V1", (TOP1,),
        (printed_row("vit-g", "ViT-g", (TOP1,), (0.687,), "Its settings and views are published nowhere we know."),),
    ),
    _table(
        "detection", "Actions in time: mean average precision", f"{V2}, docs/TAD.md of its public code",
        "THUMOS14 and FineAction", (MAP,),
        (
            printed_row("thumos14", "THUMOS14, ViT-g and ActionFormer", (MAP,), (0.696,), DETECTION),
            printed_row("fineaction", "FineAction, ViT-g and ActionFormer", (MAP,), (0.182,), DETECTION),
        ),
    ),
    _table(
        "videomae-v1", "VideoMAE's first version: top-1 and top-5", V1,
        "Kinetics-400, Something-Something V2, UCF101 and HMDB51", (TOP1, TOP5),
        tuple(printed_row(name, words, (TOP1, TOP5), values, RECIPES_OF_V1) for name, words, *values in ZOO),
    ),
)  # fmt: skip
TABLES = {table.name: table for table in _TABLES}
