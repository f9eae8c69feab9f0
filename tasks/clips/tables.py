"""VideoMAE V2's tables: what decoder masking costs, and top-1 and top-5 of the fine-tuned models, a table per data set.

Wang et al., CVPR 2023. The paper's own text and its ablations were not at hand: metrics are those of the model zoo of
its public code (docs/MODEL_ZOO.md).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ...core.files import write_text
from ...finetune.recipe import Finetune as FinetuneRecipe
from ...finetune.start_head import StartHead
from ...pretrain.recipe import Pretrain as PretrainRecipe
from ...stages.reproduce.step_cost import training_cost
from ...stages.reproduce.table import Finetune, Measure, Metric, Pretrain, Printed, Row, Table
from . import printed
from .kinetics import K710_TO_K400, K710_TO_K600
from .printed import TOP1, TOP5
from .videomae_v2 import finetune, pretrain

ZOO = "VideoMAE V2 (Wang et al., CVPR 2023), docs/MODEL_ZOO.md of its public code"
VIEWS = "probabilities averaged over {} x 3 views of 16 frames"
CLIPS = 18  # of phantoms in each of the six folders, which are the classes
SPLITS = ("train", "train", "val", "train", "train", "test")  # of a folder's clips, in turn
COSTS = (
    Metric("step_seconds", "Seconds a step", 3, "measured: median of ten optimiser steps, each in bf16 where it can"),
    Metric("peak_memory_gib", "Peak memory, GiB", 2, "measured in a process of its own, beyond what it took before"),
)
LISTS = "{} in VideoMAE V2's lists: train.csv, and the public val.csv renamed test.csv"
CHOSEN_ON_TEST = (
    "The public code picks the epoch by top-1 on the very list that it then reports (its `test` reads val.csv). Here "
    "that list is the test alone, and cases cut out of train.csv choose the epoch: a little less is to be expected."
)


def phantoms(out: Path) -> Path:
    """Write invented eye clips of six classes in lists of `path label`; return the manifest.

    Args:
        out: Folder to write; what is whole there is not written again.
    """
    from ...phantoms.ocular import PLACES, write_erdes
    from ...stages.data import MANIFEST
    from ...stages.prepare import prepare_phantoms
    from .layouts import LAYOUTS

    def write(root: Path) -> None:
        write_erdes(root, clips=dict.fromkeys(PLACES, CLIPS), size_px=72, seconds=(0.6, 0.9))
        lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for label, folder in enumerate(sorted({file.parent for file in root.rglob("*.mp4")})):
            for number, file in enumerate(sorted(folder.glob("*.mp4"))):
                lines[SPLITS[number % len(SPLITS)]].append(f"{file.relative_to(root).as_posix()} {label}\n")
        for split, rows in lines.items():
            write_text(root / f"{split}.csv", "".join(rows))

    return prepare_phantoms(write, LAYOUTS, out / "clips", out / MANIFEST, layout="list")


# name: (decoder mask, share reconstructed, whether what the encoder saw is reconstructed too), and what it is.
DECODER_MASKS: dict[str, tuple[str, float, bool, str]] = {
    "none": ("random", 1.0, True, "No decoder mask: all masked tokens are reconstructed (VideoMAE)"),
    "running-cell-50": ("running_cell", 0.5, True, "Running cells, 50 % masked (VideoMAE V2)"),
    "running-cell-75": ("running_cell", 0.25, True, "Running cells, 75 % masked"),
    "random-50": ("random", 0.5, True, "Random, 50 % of the masked tokens masked"),
    "running-cell-50-unseen": ("running_cell", 0.5, False, "Running cells, 50 % masked, without what the encoder saw"),
}


def masked_pretrain(mask: str, decode_ratio: float, reconstruct_visible: bool) -> PretrainRecipe:
    """Pre-train ViT-B on Something-Something V2 (stride 2) with another decoder mask, else as `v2_base`."""
    base = pretrain("base")
    return replace(
        base, decoder_mask=mask, decode_ratio=decode_ratio, reconstruct_visible=reconstruct_visible,
        data=replace(base.data, clip=replace(base.data.clip, stride=2)),
    )  # fmt: skip


def _masked_row(name: str) -> Row:
    mask, decode_ratio, reconstruct_visible, words = DECODER_MASKS[name]
    recipe = partial(masked_pretrain, mask, decode_ratio, reconstruct_visible)
    steps = (
        Measure(f"cost-{name}", recipe, training_cost),
        Pretrain(f"v2-base-ssv2-{name}", recipe),
        Finetune(f"v2-base-ssv2-{name}-finetuned", partial(finetune, "ssv2", "base")),
    )
    return Row(name, words, steps, {metric.key: Printed(None) for metric in (*COSTS, TOP1)})


DUAL_MASKING = Table(
    "clips/dual-masking",
    "Decoder masks: cost of a pre-training step, and accuracy",
    "VideoMAE V2 (Wang et al., CVPR 2023), ablation of the decoder mask; its metrics are not known to us",
    task="clips",
    data=LISTS.format("Something-Something V2") + "; the cost is measured without data",
    layout="list",
    metrics=(*COSTS, TOP1),
    rows=tuple(map(_masked_row, DECODER_MASKS)),
    phantoms=phantoms,
    unit="clip",
    notes=(
        "Cost: one step of ViT-B/16 on 16 frames of 224 px (2 clips on a CPU, 32 on a GPU), forward, backward and "
        "optimiser, on noise: reading clips is not counted.",
        "A random mask drops half of the masked tokens, running cells half of all, among them some that the encoder "
        "saw, which are reconstructed but do not count in the loss: the last row leaves these out.",
        CHOSEN_ON_TEST,
    ),
)


def _row(
    name: str,
    words: str,
    metrics: tuple[float, ...],
    recipe: Callable[[], FinetuneRecipe],
    start: str,
    note: str = "",
    head: StartHead | None = None,
    as_is: bool = False,
) -> Row:
    paper = {metric.key: Printed(value) for metric, value in zip((TOP1, TOP5), metrics)}
    return Row(
        name, words, (Finetune(f"video-{name}", recipe, encoder=start, head=head, as_is=as_is),), paper, note=note
    )


def _giant(dataset: str, words: str, top1: float, top5: float, start: str) -> Row:
    recipe = partial(finetune, dataset, "giant")
    segments = recipe().view.segments
    name, note, head = f"vit-g-{dataset.replace('_', '-')}", VIEWS.format(segments), HEADS.get(dataset)
    return _row(name, words, (top1, top5), recipe, start, note, head)


WEIGHTS = (
    "VideoMAE V2's weights are handed out on request (docs/MODEL_ZOO.md of its public code): --weights ROW=FILE. A "
    "file whose head has as many classes as the data is evaluated as it is; any other starts the fine-tuning. "
    "Of a head of Kinetics-710 the rows of Kinetics-400 or 600 are taken, by the public code's index maps: a start for "
    "the rows after Kinetics-710 and those trained further, the whole model for the distilled ones."
)
SECOND = "ViT-g, fine-tuned on Kinetics-710 first"
# By the start of the data set's row: which of Kinetics-710's classes its labels are.
HEADS = {"k400_after_k710": K710_TO_K400, "k600_after_k710": K710_TO_K600}
PRETRAINED = "VideoMAE V2's pre-trained ViT-g (vit_g_hybrid_pt_1200e.pth)"
AFTER_K710 = "VideoMAE V2's ViT-g after fine-tuning on Kinetics-710 (vit_g_hybrid_pt_1200e_k710_ft.pth)"
# size, data set: top-1 as distilled (5 x 3 views), and after further fine-tuning (7 x 3 views).
DISTILLED = {
    ("small", "k710"): (0.776, None),
    ("small", "k400"): (0.837, 0.840),
    ("small", "k600"): (0.831, 0.846),
    ("base", "k710"): (0.815, None),
    ("base", "k400"): (0.866, 0.871),
    ("base", "k600"): (0.859, 0.874),
}


def distilled(size: str, segments: int) -> FinetuneRecipe:
    """Evaluate a distilled ViT-S or ViT-B, as ViT-B on K400: how they were trained further is not published."""
    base = finetune("k400", "base")
    return replace(base, model=replace(base.model, size=size), view=replace(base.view, segments=segments))


def _distilled(dataset: str) -> tuple[Row, ...]:
    rows = []
    for size in ("small", "base"):
        for segments, suffix, value in zip((5, 7), ("", "-further"), DISTILLED[size, dataset]):
            if value is None:
                continue
            vit = f"ViT-{size[0].upper()}"
            start = f"VideoMAE V2's {vit} distilled from ViT-g, K710 logits"
            words = f"{vit}, distilled from ViT-g{', further fine-tuned' if suffix else ''}"
            note = f"{VIEWS.format(segments)}; how the distilled models were trained is not published"
            recipe = partial(distilled, size, segments)
            name, head = f"vit-{size[0]}-{dataset}{suffix}", HEADS.get(f"{dataset}_after_k710")
            rows.append(_row(name, words, (value,), recipe, start, note, head, as_is=not suffix))
    return tuple(rows)


FRAMES = (
    "Frames are shrunk to 256 px on the shorter side, antialiased, before views are cut out; the public code resizes "
    "the original frames by bilinear interpolation without antialiasing."
)


def _table(dataset: str, title: str, rows: tuple[Row, ...], *notes: str) -> Table:
    return Table(
        f"clips/{dataset}",
        f"{title}: top-1 and top-5",
        ZOO,
        task="clips",
        data=LISTS.format(title),
        layout="list",
        metrics=(TOP1, TOP5),
        rows=rows,
        phantoms=phantoms,
        unit="clip",
        notes=(*notes, WEIGHTS, CHOSEN_ON_TEST, FRAMES),
    )


ABSTRACT = "The paper's abstract prints top-1 {} in a larger test setting, of which we know no details: no row here."
FINETUNED = (
    _table(
        "k710",
        "Kinetics-710",
        (_giant("k710", "ViT-g", 0.838, 0.964, PRETRAINED), *_distilled("k710")),
    ),
    _table(
        "k400",
        "Kinetics-400",
        (
            _giant("k400", "ViT-g", 0.872, 0.974, PRETRAINED),
            _giant("k400_after_k710", SECOND, 0.884, 0.980, AFTER_K710),
            *_distilled("k400"),
        ),
        ABSTRACT.format("90.0"),
    ),
    _table(
        "k600",
        "Kinetics-600",
        (
            _giant("k600_after_k710", SECOND, 0.888, 0.982, AFTER_K710),
            *_distilled("k600"),
        ),
        ABSTRACT.format("89.9"),
    ),
    _table("ssv2", "Something-Something V2", (_giant("ssv2", "ViT-g", 0.770, 0.959, PRETRAINED),)),
    _table("ucf101", "UCF101", (_giant("ucf101", SECOND, 0.996, 1.0, AFTER_K710),)),
    _table("hmdb51", "HMDB51", (_giant("hmdb51", SECOND, 0.881, 0.985, AFTER_K710),)),
)

TABLES = {table.name: table for table in (DUAL_MASKING, *FINETUNED)} | printed.TABLES
