"""Tables of methods for smaller, merged and multi-scale networks: printed, and measured where no data are needed."""

from functools import partial

from ...stages.reproduce.smaller import Shape, idle_cost, rounding_error
from ...stages.reproduce.table import Measure, Metric, Printed, Row, Table, printed_row

IMAGENET = "their benchmark, ImageNet, is no medical data, and no layout is built for it"
TOP1 = Metric("top1", "Top-1", 3, "on ImageNet-1k: not measured here", percent=True)
RANDOM = (
    "Weights are random: what is counted and timed does not depend on them, and the printed accuracy is not "
    f"comparable: {IMAGENET}."
)

NO_SWIN = "Swin, a ViT of windows, is not built here with these methods."

REPAVIT_METRICS = (
    Metric(
        "gmacs",
        "GMACs",
        1,
        "10^9 of linear layers, patch projection and norms, one image: fvcore's count",
        counted=True,
    ),
    Metric("gmacs_all", "GMACs with attention", 1, "of all matmuls, queries with keys and values too", counted=True),
    Metric("parameters", "Parameters, 10^6", 1, "after merging", counted=True),
    Metric("speed", "Times as fast", 2, "as the plain ViT: images a second of one thread, medians in turn"),
    Metric("moved", "Moved by merging", 7, "largest difference of a logit, as a share of the largest logit"),
    TOP1,
)


def _merged(name: str, words: str, shape: Shape, printed: tuple[float, float], note: str = "") -> Row:
    paper = {"gmacs": Printed(printed[0]), "top1": Printed(printed[1])}
    step = Measure(f"cost-vit-{shape.size}-idle-{100 * shape.idle:.0f}", partial(Shape, **_own(shape)), idle_cost)
    return Row(name, words, (step,), paper, note=note)


def _own(shape: Shape) -> dict:
    return {"size": shape.size, "idle": shape.idle, "rounds": shape.rounds}


SMALL_SHARE = "The paper's 3.2 are what half of the units gives; three quarters, as in its larger ViTs, give 2.5."
REPAVIT = Table(
    name="images/repavit",
    title="RePaViT: idle units of the FFN, merged after training",
    source="RePaViT (ICML 2025), README of its public code (Ackesnal/RePaViT)",
    task="images",
    data="",
    layout="folder",
    metrics=REPAVIT_METRICS,
    rows=(
        _merged("deit-s", "DeiT-S", Shape("small"), (4.3, 0.798)),
        _merged("deit-s-merged", "DeiT-S, 50 % idle, merged", Shape("small", 0.5), (3.2, 0.789), SMALL_SHARE),
        _merged("deit-b", "DeiT-B", Shape("base"), (17.6, 0.818)),
        _merged("deit-b-merged", "DeiT-B, 75 % idle, merged", Shape("base", 0.75, rounds=3), (9.9, 0.813)),
        _merged("vit-l", "ViT-L", Shape("large"), (59.7, 0.803)),
        _merged("vit-l-merged", "ViT-L, 75 % idle, merged", Shape("large", 0.75, rounds=1), (34.9, 0.820)),
        *(
            printed_row(name, words, REPAVIT_METRICS, (gmacs, None, None, None, None, top1), NO_SWIN)
            for name, words, gmacs, top1 in (
                ("swin-b", "Swin-B", 15.2, 0.835),
                ("swin-b-merged", "Swin-B, 75 % idle, merged", 9.0, 0.826),
            )
        ),
    ),
    notes=(
        RANDOM,
        "The first count is the paper's but for the plain DeiT-B, whose 17.6 hold the products of attention too: the "
        "paper seems to have counted in two ways.",
        "The paper's throughput is a GPU's (ViT-L 66.8 % more); ours is of one thread of a CPU.",
    ),
)

REPQ_METRICS = (
    Metric("folded", "Moved by re-parameterising", 7, "largest difference of a logit, as a share of the largest logit"),
    *(
        Metric(f"{kind}_w{bits}a{bits}", f"Error, W{bits}A{bits}, {words}", 3, "of the logits, as a share of theirs")
        for bits in (4, 6)
        for kind, words in (("plain", "plain"), ("repq", "re-parameterised"))
    ),
    Metric("top1_w4a4", "Top-1, W4A4", 4, "weights and activations of 4 bits: not measured here", percent=True),
    Metric("top1_w6a6", "Top-1, W6A6", 4, "weights and activations of 6 bits: not measured here", percent=True),
    Metric("top1_fp32", "Top-1, fp32", 4, "not rounded: not measured here", percent=True),
)
TOP1S = ("top1_w4a4", "top1_w6a6", "top1_fp32")


def _rounded(name: str, words: str, size: str, printed: tuple[float, float, float]) -> Row:
    paper = {key: Printed(value) for key, value in zip(TOP1S, printed, strict=True)}
    step = Measure(f"rounding-vit-{size}", partial(Shape, size, image_px=112), rounding_error)
    return Row(name, words, (step,), paper)


REPQ = Table(
    name="images/repq-vit",
    title="RepQ-ViT: quantisation after training, by re-parameterised scales",
    source="RepQ-ViT (ICCV 2023), README of its public code (zkkli/RepQ-ViT); LRP-QViT builds on it, without code",
    task="images",
    data="",
    layout="folder",
    metrics=REPQ_METRICS,
    rows=(
        _rounded("vit-s", "ViT-S", "small", (0.6505, 0.8043, 0.8139)),
        _rounded("vit-b", "ViT-B", "base", (0.6848, 0.8362, 0.8454)),
        _rounded("deit-s", "DeiT-S", "small", (0.6903, 0.7890, 0.7985)),
        _rounded("deit-b", "DeiT-B", "base", (0.7561, 0.8127, 0.8180)),
        printed_row("swin-s", "Swin-S", REPQ_METRICS, (None,) * 5 + (0.7945, 0.8279, 0.8323), NO_SWIN),
    ),
    notes=(
        "Weights are random, and the gains of all norms are drawn so that channels differ tens of times, as in trained "
        "ViTs. Ranges are chosen on 8 images of noise of 112 px, errors are the root mean square of 8 others.",
        f"The printed accuracies are not comparable: {IMAGENET}. `clinvit export --int8 --scheme static` does "
        "the same in 8 bits, and judges by AUROC.",
        "Attention weights stay as they are: the paper stores them as powers of the square root of 2. LRP-QViT's "
        "choice of layers by relevance is that of `--sensitivity relevance` there.",
    ),
)

MEANS = (
    Metric("start", "Not fine-tuned", 3, "mean accuracy over 8 tasks, zero-shot", percent=True),
    Metric("individual", "Fine-tuned alone", 3, "mean accuracy over 8 tasks, a model each", percent=True),
    Metric("merged", "Merged", 3, "mean accuracy over 8 tasks, one model", percent=True),
)
NO_MERGE = (
    "CLIP's 8 tasks are not set up here, and merged values are not known to us; thorax/merged measures the method on "
    "radiographs."
)
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
