"""The tables of the thorax paper: Xiao et al., WACV 2023 (arXiv 2210.12843), metrics from its repository's README.

The README prints two tables. The paper's ablations (mask ratio, crops, layer decay, RandAugment, drop path) are not
printed there and not known to us but for the final setting, which is the table's 82.3.
"""

from functools import partial

from ...stages.reproduce.sites import Merge, Merging, Sites
from ...stages.reproduce.table import Finetune, Metric, Pretrain, Printed, Row, Table, TestList
from . import phantoms
from .recipes import (
    ablated_finetuning,
    ablated_pretraining,
    finetune_chexpert,
    finetune_covidx,
    finetune_densenet121,
    finetune_resnet50,
    finetune_vit_b,
    finetune_vit_s,
    pretrain_vit_b,
    pretrain_vit_s,
    scaled_probe,
)

PAPER = "Xiao et al., Delving into Masked Autoencoders for Multi-Label Thorax Disease Classification, WACV 2023"
README = f"{PAPER}; metrics of the repository's README (lambert-x/medical_mae)."
ABLATION = f"{PAPER}. The ablation's own metrics are not known to us; the final setting's is the README's."
CHESTXRAY14 = (
    "ChestX-ray14 with its official test list. The paper pre-trains on its training list and frontal CheXpert, 266,340 "
    "images (ViT-B: and MIMIC-CXR): one manifest of them with --pretrain-data; without it, on the training "
    "split of --data."
)
TEST = TestList(25_596, "7519b7296cb0f58e5d2f4818372950411b04f1f243580c4132d001746535d931")
CHOSEN_ON_TEST = (
    "The paper's code looks at the test images every 10 epochs and prints the best; here the epoch is chosen on "
    "validation, so a metric a little below the paper's is to be expected."
)
CUT_FROM_TRAINING = (
    "The data set has no validation list: an eighth of its training patients chooses the epoch here and is not trained "
    "on; the paper trains on all."
)
PRETRAINING_STATISTICS = (
    "In pre-training the paper's code normalises CheXpert and MIMIC-CXR by ImageNet's mean and std, ChestX-ray14 by "
    "its own (0.5056, 0.252). Here one pair holds for all: 0.5056 and 0.252."
)
AS_BUILT = (
    "Images have one channel here, where the paper's code repeats it three times; test images are shrunk from a copy "
    "of 1,024 px on the shorter side at most, which is the size that the data set comes in.",
)
README_WEIGHTS = (
    "The README of lambert-x/medical_mae links, for every row, the weights that it starts from and the fine-tuned "
    "model: --weights ROW=FILE takes either, the first to fine-tune, the second to be evaluated as it is."
)
MEAN_AUROC = Metric(
    "macro_auroc", "mean AUROC", 3, "mean over the labels; interval by the bootstrap of patients (percentiles).", True
)
ACCURACY = Metric(
    "top1", "accuracy", 3,
    "share of images whose most probable class is the true one; Wilson's interval or the bootstrap by patient.", True,
)  # fmt: skip

MAE_S = Pretrain("thorax-mae-vit-s", pretrain_vit_s)
MAE_B = Pretrain("thorax-mae-vit-b", pretrain_vit_b)
XRAYS_S = (MAE_S, Finetune("thorax-ft-vit-s", finetune_vit_s))
XRAYS_B = (MAE_B, Finetune("thorax-ft-vit-b", finetune_vit_b))


def paper_row(name: str, words: str, steps, paper: float | None, key: str = "macro_auroc", note: str = "") -> Row:
    """Return a row of one metric."""
    return Row(name, words, steps, {key: Printed(paper)}, note=note)


def _given(name: str, words: str, recipe, encoder: str, paper: float, note: str = "") -> Row:
    """Return a row that starts from somebody else's weights."""
    return paper_row(name, words, (Finetune(f"thorax-ft-{name}", recipe, encoder),), paper, note=note)


AS_DENSENET = "The repository gives no fine-tuning command for ResNet-50: the settings are those of DenseNet-121."
AS_VIT = "The repository's fine-tuning command is that of X-ray weights: its settings are taken for ImageNet's too."

MAIN = Table(
    name="thorax/main",
    title="Mean AUROC on ChestX-ray14 by network and pre-training",
    source=README,
    task="thorax",
    data=CHESTXRAY14,
    layout="chestxray14",
    metrics=(MEAN_AUROC,),
    rows=(
        _given("densenet121-imagenet", "DenseNet-121, ImageNet, supervised", finetune_densenet121,
               "timm:densenet121.tv_in1k", 0.822,
               "These are torchvision's weights (densenet121-a639ec97.pth), as in the paper, whose published script "
               "cannot load them: how the row was made is not published."),
        _given("resnet50-moco", "ResNet-50, ImageNet, MoCo v2", finetune_resnet50,
               "ResNet-50 pre-trained on ImageNet by MoCo v2", 0.809, AS_DENSENET),
        _given("resnet50-byol", "ResNet-50, ImageNet, BYOL", finetune_resnet50,
               "ResNet-50 pre-trained on ImageNet by BYOL", 0.810, AS_DENSENET),
        _given("resnet50-swav", "ResNet-50, ImageNet, SwAV", finetune_resnet50,
               "ResNet-50 pre-trained on ImageNet by SwAV", 0.815, AS_DENSENET),
        _given("densenet121-xrays-moco", "DenseNet-121, X-rays (0.3M), MoCo v2", finetune_densenet121,
               "DenseNet-121 pre-trained on X-rays by MoCo v2", 0.806),
        _given("densenet121-xrays-mae", "DenseNet-121, X-rays (0.3M), MAE", finetune_densenet121,
               "DenseNet-121 pre-trained on X-rays by masked autoencoding, of the paper's repository", 0.812),
        _given("vit-s-imagenet", "ViT-S/16, ImageNet, supervised (DeiT)", finetune_vit_s,
               "timm:deit_small_patch16_224.fb_in1k", 0.796,
               f"These are DeiT's own weights (deit_small_patch16_224-cd65a155.pth), as in the paper. {AS_VIT}"),
        _given("vit-s-imagenet-mae", "ViT-S/16, ImageNet, MAE", finetune_vit_s,
               "ViT-S/16 pre-trained on ImageNet by MAE", 0.786, AS_VIT),
        paper_row("vit-s-xrays-mae", "ViT-S/16, X-rays (0.3M), MAE", XRAYS_S, 0.823),
        paper_row("vit-b-xrays-mae", "ViT-B/16, X-rays (0.5M), MAE", XRAYS_B, 0.830,
             note="The repository gives no fine-tuning command for ViT-B: the settings are those of ViT-S."),
    ),
    phantoms=phantoms.chestxray14,
    test=TEST,
    notes=(README_WEIGHTS, CHOSEN_ON_TEST, PRETRAINING_STATISTICS, *AS_BUILT),
)  # fmt: skip


def _target(name: str, title: str, data: str, changed, metric: Metric, paper: tuple[float, float], **more) -> Table:
    """Return the table of ViT-S and ViT-B, pre-trained on X-rays and fine-tuned on another data set."""
    small = (MAE_S, Finetune(f"thorax-ft-vit-s-{name}", lambda: changed(finetune_vit_s())))
    base = (MAE_B, Finetune(f"thorax-ft-vit-b-{name}", lambda: changed(finetune_vit_b())))
    return Table(
        name=f"thorax/{name}",
        title=title,
        source=README,
        task="thorax",
        data=data,
        layout=name,
        metrics=(metric,),
        rows=(
            paper_row("vit-s-xrays-mae", "ViT-S/16, X-rays (0.3M), MAE", small, paper[0], metric.key),
            paper_row("vit-b-xrays-mae", "ViT-B/16, X-rays (0.5M), MAE", base, paper[1], metric.key),
        ),
        **more,
    )


CHEXPERT = _target(
    "chexpert",
    "Mean AUROC of five labels of CheXpert",
    "CheXpert-v1.0-small; its official valid set is the test set. --pretrain-data as for thorax/main.",
    finetune_chexpert, MEAN_AUROC, (0.892, 0.893), phantoms=phantoms.chexpert,
    options={"uncertain": "paper", "blanks": "zeros"},
    notes=(
        "The paper's settings on CheXpert are not published: those of ChestX-ray14 are taken.",
        "The test set has about 200 images: intervals are wide.",
        CUT_FROM_TRAINING,
        CHOSEN_ON_TEST,
    ),
)  # fmt: skip

COVIDX = _target(
    "covidx",
    "Accuracy of three classes of COVIDx V9A",
    "COVIDx V9A (train_COVIDx9A.txt, test_COVIDx9A.txt). --pretrain-data as for thorax/main.",
    finetune_covidx, ACCURACY, (0.952, 0.953), phantoms=phantoms.covidx, test=TestList(400),
    notes=(
        "The paper's settings on COVIDx are not published: those of ChestX-ray14 are taken, with the cross-entropy of "
        "three classes. The paper's network has a fourth output that no image has.",
        CUT_FROM_TRAINING,
        CHOSEN_ON_TEST,
    ),
)  # fmt: skip


def _ablation(name: str, title: str, rows: tuple[Row, ...], values: str) -> Table:
    return Table(
        name=f"thorax/ablation-{name}",
        title=title,
        source=ABLATION,
        task="thorax",
        data=CHESTXRAY14,
        layout="chestxray14",
        metrics=(MEAN_AUROC,),
        rows=rows,
        phantoms=phantoms.chestxray14,
        test=TEST,
        notes=(f"The values tried ({values}) are ours; the paper's list is not known to us.", CHOSEN_ON_TEST),
    )


def _pretrained_with(name: str, words: str, **changes) -> Row:
    """Return the row of ViT-S with another pre-training, fine-tuned as the final one."""
    steps = (
        Pretrain(f"thorax-mae-vit-s-{name}", partial(ablated_pretraining, **changes)),
        Finetune(f"thorax-ft-vit-s-{name}", finetune_vit_s),
    )
    return paper_row(name, words, steps, None)


def _finetuned_with(name: str, words: str, **changes) -> Row:
    """Return the row of the final pre-training, fine-tuned otherwise."""
    return paper_row(
        name, words, (MAE_S, Finetune(f"thorax-ft-vit-s-{name}", partial(ablated_finetuning, **changes))), None
    )


def _final(name: str, words: str) -> Row:
    return paper_row(name, f"{words} (the paper's final setting)", XRAYS_S, 0.823)


ABLATIONS = (
    _ablation(
        "mask", "Share of patches masked in pre-training, ViT-S/16 on ChestX-ray14",
        (
            *(_pretrained_with(f"mask-{n}", f"{n} % masked", mask_ratio=n / 100) for n in (60, 75, 85)),
            _final("mask-90", "90 % masked"),
            _pretrained_with("mask-95", "95 % masked", mask_ratio=0.95),
        ),
        "60 to 95 %",
    ),
    _ablation(
        "crop", "Least share of the area that a crop keeps in pre-training, ViT-S/16 on ChestX-ray14",
        (
            *(_pretrained_with(f"crop-{n}", f"{n} to 100 %", least_crop=n / 100) for n in (8, 20, 35)),
            _final("crop-50", "50 to 100 %"),
            _pretrained_with("crop-75", "75 to 100 %", least_crop=0.75),
        ),
        "from 8 % (supervised training) over 20 % (MAE on ImageNet) to 75 %",
    ),
    _ablation(
        "layer-decay", "Layer-wise decay of the learning rate in fine-tuning, ViT-S/16 on ChestX-ray14",
        (
            _finetuned_with("layer-decay-45", "0.45", layer_decay=0.45),
            _final("layer-decay-55", "0.55"),
            *(_finetuned_with(f"layer-decay-{d * 100:.0f}", f"{d:.2f}", layer_decay=d) for d in (0.65, 0.75)),
            _finetuned_with("layer-decay-none", "none (1.00)", layer_decay=1.0),
        ),
        "0.45 to 1",
    ),
    _ablation(
        "randaug", "Magnitude of RandAugment in fine-tuning, ViT-S/16 on ChestX-ray14",
        (
            _finetuned_with("randaug-none", "no RandAugment", magnitude=None),
            _finetuned_with("randaug-3", "magnitude 3", magnitude=3),
            _final("randaug-6", "magnitude 6"),
            *(_finetuned_with(f"randaug-{m}", f"magnitude {m}", magnitude=m) for m in (8, 10)),
        ),
        "none to 10",
    ),
    _ablation(
        "drop-path", "Drop path (stochastic depth) in fine-tuning, ViT-S/16 on ChestX-ray14",
        (
            *(_finetuned_with(f"drop-path-{d * 100:.0f}", f"{d:.1f}", drop_path=d) for d in (0.0, 0.1)),
            _final("drop-path-20", "0.2"),
            *(_finetuned_with(f"drop-path-{d * 100:.0f}", f"{d:.1f}", drop_path=d) for d in (0.3, 0.4)),
        ),
        "0 to 0.4",
    ),
)  # fmt: skip


def _scaled(*scales: int) -> Row:
    name = "scales-" + "-".join(map(str, scales))
    words = f"linear probe at {' and '.join(f'{224 * scale}' for scale in scales)} px"
    return Row(name, words, (MAE_S, Finetune(f"thorax-probe-vit-s-{name}", partial(scaled_probe, *scales))),
               {MEAN_AUROC.key: Printed(None)})  # fmt: skip


SCALES = Table(
    name="thorax/scales",
    title="Scaling on Scales: one frozen ViT-S/16 that sees a radiograph at one or two scales",
    source="S2 (Shi et al., ECCV 2024): its benchmarks are of natural images, its claim is tried on radiographs here",
    task="thorax",
    data=CHESTXRAY14,
    layout="chestxray14",
    metrics=(MEAN_AUROC,),
    rows=(_scaled(1), _scaled(1, 2)),
    phantoms=phantoms.chestxray14,
    test=TEST,
    notes=(
        "The encoder is that of thorax/main, pre-trained at 224 px; at the second scale it sees four crops of "
        "the image at 448 px, whose features are pooled and joined to those of the first.",
        "The settings are those of fine-tuning without layer decay, drop path, weight decay and RandAugment.",
    ),
)

SITES = (MAE_S, Sites("thorax-ft-vit-s-sites", finetune_vit_s))


def _merged(method: str, words: str) -> Row:
    step = Merge(f"thorax-merged-{method}", partial(Merging, method))
    return Row(method, words, (*SITES, step), {MEAN_AUROC.key: Printed(None)})


MERGED = Table(
    name="thorax/merged",
    title="Three sites fine-tune one encoder; their models are merged without their data",
    source="OPCM (NeurIPS 2025): its benchmarks are CLIP's (images/opcm), its claim is tried on radiographs here",
    task="thorax",
    data=CHESTXRAY14,
    layout="chestxray14",
    metrics=(
        MEAN_AUROC,
        Metric(
            "alone", "Each site's own model", 3, "mean of the three models' mean AUROC on the same test images", True
        ),
        Metric("distance", "Distance", 6, "of the merged encoder from the start, over the mean of the three", False),
    ),
    rows=(
        _merged("orthogonal", "merged by OPCM"),
        _merged("average", "plain average"),
        _merged("task-arithmetic", "task arithmetic"),
        _merged("ties", "TIES"),
        paper_row("pooled", "one model of all patients (row vit-s-xrays-mae of thorax/main)", XRAYS_S, None),
    ),
    phantoms=phantoms.chestxray14,
    test=TEST,
    notes=(
        "The sites are thirds of the training patients, dealt out at random: alike, as hospitals are not.",
        "By OPCM the distance is 1 whatever was merged; more or less than 1e-5 besides would be a fault.",
    ),
)

TABLES = {table.name: table for table in (MAIN, CHEXPERT, COVIDX, *ABLATIONS, SCALES, MERGED)}
