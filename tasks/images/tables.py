"""The tables of general images: MAE on ImageNet, printed (He et al., CVPR 2022), and those of the files beside."""

from ...stages.reproduce.table import Metric, Table, printed_row
from . import printed
from .human_scaling import HUMANLIKE

METRICS = (
    Metric("top1", "Top-1", 5, "fine-tuned", percent=True),
    Metric("top5", "Top-5", 5, "fine-tuned", percent=True),
    Metric("linear_top1", "Top-1 of a linear probe", 3, "of the frozen encoder", percent=True),
)
NOTE = "ImageNet is no medical data: recipes vit_b train so on any images, but no layout or row is built for it."
IMAGENET = Table(
    name="images/imagenet",
    title="MAE on ImageNet-1k: top-1 and top-5",
    source="He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022; FINETUNE.md of its public code",
    task="images",
    data="ImageNet-1k",
    layout="folder",
    metrics=METRICS,
    rows=(
        printed_row("vit-b", "ViT-B", METRICS, (0.83664, 0.96530, 0.678), NOTE),
        printed_row("vit-l", "ViT-L", METRICS, (0.85952, 0.97570, 0.760), NOTE),
        printed_row("vit-h", "ViT-H", METRICS, (0.86928, 0.98088, 0.772), NOTE),
    ),
)
TABLES = {IMAGENET.name: IMAGENET, HUMANLIKE.name: HUMANLIKE} | printed.TABLES
