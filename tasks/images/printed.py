"""Tables of methods for smaller, merged and multi-scale networks, printed: none of their rows is measured here."""

from ...stages.reproduce.table import Metric, Table, printed_row

IMAGENET = "their benchmark, ImageNet, is no medical data, and no layout is built for it"
TOP1 = Metric("top1", "Top-1", 3, "on ImageNet-1k", percent=True)

GMACS = Metric("gmacs", "GMACs", 1, "10^9 multiply-adds of one image")
NO_IDLE = f"Idle FFN units are not built here, and {IMAGENET}."
REPAVIT = Table(
    name="images/repavit",
    title="RePaViT: idle units of the FFN, merged after training",
    source="RePaViT (ICML 2025), README of its public code (Ackesnal/RePaViT)",
    task="images",
    data="ImageNet-1k",
    layout="folder",
    metrics=(GMACS, TOP1),
    rows=tuple(
        printed_row(name, words, (GMACS, TOP1), values, NO_IDLE)
        for name, words, values in (
            ("deit-s", "DeiT-S", (4.3, 0.798)),
            ("deit-s-merged", "DeiT-S, 75 % idle, merged", (3.2, 0.789)),
            ("deit-b", "DeiT-B", (17.6, 0.818)),
            ("deit-b-merged", "DeiT-B, 75 % idle, merged", (9.9, 0.813)),
            ("vit-l", "ViT-L", (59.7, 0.803)),
            ("vit-l-merged", "ViT-L, 75 % idle, merged", (34.9, 0.820)),
            ("swin-b", "Swin-B", (15.2, 0.835)),
            ("swin-b-merged", "Swin-B, 75 % idle, merged", (9.0, 0.826)),
        )
    ),
)

BITS = (
    Metric("top1_w4a4", "Top-1, W4A4", 4, "weights and activations of 4 bits", percent=True),
    Metric("top1_w6a6", "Top-1, W6A6", 4, "weights and activations of 6 bits", percent=True),
    Metric("top1_fp32", "Top-1, fp32", 4, "not quantised", percent=True),
)
NO_BITS = f"Re-parameterised scales and fewer than 8 bits are not built here, and {IMAGENET}."
REPQ = Table(
    name="images/repq-vit",
    title="RepQ-ViT: quantisation after training, by re-parameterised scales",
    source="RepQ-ViT (ICCV 2023), README of its public code (zkkli/RepQ-ViT); LRP-QViT builds on it, without code",
    task="images",
    data="ImageNet-1k",
    layout="folder",
    metrics=BITS,
    rows=tuple(
        printed_row(name, words, BITS, values, NO_BITS)
        for name, words, values in (
            ("vit-s", "ViT-S", (0.6505, 0.8043, 0.8139)),
            ("vit-b", "ViT-B", (0.6848, 0.8362, 0.8454)),
            ("deit-s", "DeiT-S", (0.6903, 0.7890, 0.7985)),
            ("deit-b", "DeiT-B", (0.7561, 0.8127, 0.8180)),
            ("swin-s", "Swin-S", (0.7945, 0.8279, 0.8323)),
        )
    ),
)

MEANS = (
    Metric("start", "Not fine-tuned", 3, "mean accuracy over 8 tasks, zero-shot", percent=True),
    Metric("individual", "Fine-tuned alone", 3, "mean accuracy over 8 tasks, a model each", percent=True),
    Metric("merged", "Merged", 3, "mean accuracy over 8 tasks, one model", percent=True),
)
NO_MERGE = "CLIP's 8 tasks are not set up here (`clinvit merge` has the method); merged values are not known to us."
OPCM = Table(
    name="images/opcm",
    title="OPCM: fine-tuned CLIP models merged one after another",
    source="OPCM (NeurIPS 2025); means of the results in its public code (tanganke/opcm)",
    task="images",
    data="the 8 tasks of fusion_bench",
    layout="folder",
    metrics=MEANS,
    rows=tuple(
        printed_row(name, words, MEANS, values, NO_MERGE)
        for name, words, values in (
            ("vit-b-32", "CLIP ViT-B/32", (0.481, 0.904, None)),
            ("vit-b-16", "CLIP ViT-B/16", (0.554, 0.924, None)),
            ("vit-l-14", "CLIP ViT-L/14", (0.649, 0.943, None)),
        )
    ),
)

S2 = Table(
    name="images/s2",
    title="Scaling on Scales (S2): one frozen encoder at several scales",
    source="S2 (Shi et al., ECCV 2024)",
    task="images",
    data="ImageNet-1k",
    layout="folder",
    metrics=(TOP1,),
    rows=(
        printed_row(
            "vit-b", "ViT-B, two and three scales", (TOP1,), (None,),
            f"Features of several scales are built (--scales of probes and of `clinvit extract`), and thorax/scales "
            f"measures them on radiographs, but {IMAGENET}, and the paper's values are not known to us.",
        ),
    ),
)  # fmt: skip
TABLES = {table.name: table for table in (REPAVIT, REPQ, OPCM, S2)}
