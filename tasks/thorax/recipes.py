"""Recipes of the thorax task: the paper's, and small ones for small machines.

The paper: Xiao et al., "Delving into Masked Autoencoders for Multi-Label Thorax Disease Classification", WACV 2023;
facts and hyper-parameters from its public code (PRETRAIN.md, FINETUNE.md).
"""

from dataclasses import replace

from ...backbone.sizes import Model
from ...datasets.settings import Data
from ...datasets.transforms.augment import Augment
from ...datasets.transforms.multi_crop import MultiCrop
from ...engine.recipe import Optim, Run
from ...finetune.recipe import Finetune, View
from ...pretrain.jepa_recipe import Jepa, Predictor
from ...pretrain.recipe import Decoder, Dino, Ibot, Pretrain
from ...pretrain.report_recipe import Reports
from .labels import CHEXPERT, COVIDX


def pretrain_vit_s() -> Pretrain:
    """Pre-train ViT-S/16 as the paper does: 90 % masked, mild crops, plain pixel targets, 800 epochs.

    Command: clinvit pretrain thorax --recipe vit_s --data manifest.csv --out runs/vit-s
    Data: ChestX-ray14 official train + CheXpert frontal train, 266,339 images. Cost: 8 GPUs x 256 in the paper.
    Score to expect after `finetune --recipe vit_s`: macro AUROC 0.823 on the ChestX-ray14 test list (paper's README).
    Not run by us at this scale.
    """
    return Pretrain(
        mask_ratio=0.90,
        target="pixels",
        model=Model("small", class_token=True),
        decoder=Decoder(512, 2, 16),
        data=Data(cache_px=1024, mean=(0.5056,), std=(0.252,)),
        augment=Augment(size=224, crop_scale=(0.5, 1.0), flip=0.5),
        optim=Optim(epochs=800, warmup_epochs=40, batch_size=2048, base_lr=1.5e-4, weight_decay=0.05),
    )


def pretrain_vit_b() -> Pretrain:
    """Pre-train ViT-B/16 as the paper does, with MIMIC-CXR added to the data ("0.5M").

    Command: clinvit pretrain thorax --recipe vit_b --data manifest.csv --out runs/vit-b
    Score to expect after `finetune --recipe vit_b`: macro AUROC 0.830 on the ChestX-ray14 test list (paper's README).
    Not run by us at this scale.
    """
    small = pretrain_vit_s()
    return Pretrain(
        mask_ratio=0.90,
        target="pixels",
        model=Model("base", class_token=True),
        decoder=Decoder(512, 8, 16),
        data=small.data,
        augment=small.augment,
        optim=small.optim,
    )


def finetune_vit_s() -> Finetune:
    """Fine-tune ViT-S/16 as the paper does: layer decay 0.55, drop path 0.2, RandAugment m6, 75 epochs.

    Command: clinvit finetune thorax --recipe vit_s --data manifest.csv --encoder runs/vit-s/encoder --out runs/ft-s
    Cost: 8 GPUs x 128 in the paper. Score to expect: macro AUROC 0.823 (paper's README, its best of several test
    evaluations; ours chooses the epoch on validation). Not run by us at this scale.
    """
    return Finetune(
        pool="mean",
        eval_every=10,
        model=Model("small", class_token=True, drop_path=0.2),
        data=Data(cache_px=1024, mean=(0.5056,), std=(0.252,)),
        augment=Augment(size=224, crop_scale=(0.08, 1.0), flip=0.5, randaug="m6-n2-mstd0.5-inc1", fill=(129,)),
        view=View("crop", 256),
        optim=Optim(
            epochs=75, warmup_epochs=5, batch_size=1024, base_lr=2.5e-4, min_lr=1e-5, weight_decay=0.05,
            betas=(0.9, 0.999), layer_decay=0.55,
        ),
    )  # fmt: skip


def finetune_vit_b() -> Finetune:
    """Fine-tune ViT-B/16 with the ViT-S settings: the paper's repository gives no command for ViT-B.

    Command: clinvit finetune thorax --recipe vit_b --data manifest.csv --encoder runs/vit-b/encoder --out runs/ft-b
    Score to expect: macro AUROC 0.830 (paper's README). Not run by us at this scale.
    """
    small = finetune_vit_s()
    return Finetune(
        pool="mean",
        eval_every=10,
        model=Model("base", class_token=True, drop_path=0.2),
        data=small.data,
        augment=small.augment,
        view=small.view,
        optim=small.optim,
    )


def finetune_densenet121() -> Finetune:
    """Fine-tune DenseNet-121 as the paper does: as ViT-S, but without layer decay and drop path.

    Command: clinvit finetune thorax --recipe densenet121 --data manifest.csv --encoder CHECKPOINT --out runs/densenet
    CHECKPOINT is one of DenseNet-121 (ImageNet, MoCo v2 or masked autoencoding); from scratch without. Scores to
    expect: macro AUROC 0.822 from ImageNet, 0.812 from X-rays by masked autoencoding (paper's README). Not run by us at
    this scale.
    """
    small = finetune_vit_s()
    return replace(
        small,
        network="densenet121",
        model=replace(small.model, drop_path=0.0),
        optim=replace(small.optim, layer_decay=1.0),
    )


def finetune_resnet50() -> Finetune:
    """Fine-tune ResNet-50 with the settings of DenseNet-121: the paper's repository gives no command for it.

    Command: clinvit finetune thorax --recipe resnet50 --data manifest.csv --encoder CHECKPOINT --out runs/resnet50
    Scores to expect: macro AUROC 0.809 (MoCo v2), 0.810 (BYOL), 0.815 (SwAV), all from ImageNet (paper's README). Not
    run by us at this scale.
    """
    return replace(finetune_densenet121(), network="resnet50")


def ablated_pretraining(mask_ratio: float = 0.90, least_crop: float = 0.5) -> Pretrain:
    """Pre-train `vit_s` with another mask ratio, or with another least share of the image's area in a crop."""
    paper = pretrain_vit_s()
    return replace(paper, mask_ratio=mask_ratio, augment=replace(paper.augment, crop_scale=(least_crop, 1.0)))


def ablated_finetuning(layer_decay: float = 0.55, magnitude: int | None = 6, drop_path: float = 0.2) -> Finetune:
    """Fine-tune `vit_s` with another layer decay, RandAugment magnitude (None for none) or drop path."""
    paper = finetune_vit_s()
    randaug = None if magnitude is None else f"m{magnitude}-n2-mstd0.5-inc1"
    return replace(
        paper,
        model=replace(paper.model, drop_path=drop_path),
        augment=replace(paper.augment, randaug=randaug),
        optim=replace(paper.optim, layer_decay=layer_decay),
    )


def scaled_probe(*scales: int) -> Finetune:
    """Train a linear layer on the frozen `vit_s`, which sees the image at these scales (Scaling on Scales, S2)."""
    paper = finetune_vit_s()
    return replace(
        paper,
        mode="linear",
        scales=scales,
        model=replace(paper.model, drop_path=0.0),
        augment=replace(paper.augment, randaug=None),
        optim=replace(paper.optim, layer_decay=1.0, weight_decay=0.0),
    )


def finetune_chexpert(paper: Finetune) -> Finetune:
    """Fine-tune on the five labels of CheXpert as on ChestX-ray14; the paper's settings are not published."""
    return replace(paper, data=replace(paper.data, labels=CHEXPERT))


def finetune_covidx(paper: Finetune) -> Finetune:
    """Fine-tune on the three classes of COVIDx as on ChestX-ray14; the paper's settings are not published."""
    return replace(paper, loss="ce", select="accuracy", data=replace(paper.data, labels=COVIDX))


def pretrain_tiny() -> Pretrain:
    """Pre-train on 2 CPU cores with about a thousand images: 128 px, ten minutes, many epochs.

    Command: clinvit pretrain thorax --recipe tiny --data manifest.csv --out runs/tiny
    Chosen on patient-grouped folds inside the training split of 600 real images: 320 epochs gave a fine-tuned AUROC
    for Pneumonia of 0.864 there, 80 epochs 0.837; patches of 8 px cost four times as much and gave no more.
    """
    return Pretrain(
        mask_ratio=0.75,
        decode_ratio=0.75,
        target="patch",
        model=Model("mini", image_size=128, patch_size=16, class_token=False),
        decoder=Decoder(96, 1, 3),
        data=Data(cache_px=160),
        augment=Augment(size=128, crop_scale=(0.4, 1.0), flip=0.5),
        optim=Optim(
            epochs=320, warmup_epochs=26, batch_size=64, base_lr=8e-3, min_lr=2e-5, weight_decay=0.05, clip_norm=1.0,
        ),
    )  # fmt: skip


def pretrain_dinov2_s() -> Dino:
    """Pre-train ViT-S/16 on X-rays by DINO with DINOv2's additions, near CheXFound's settings (iBOT weighs 3).

    Command: clinvit pretrain thorax --recipe dinov2_s --data manifest.csv --out runs/dinov2
    CheXFound trains ViT-L on crops of 512 and 144 px. For such a stage after this one: --model.image_size 512
    --crops.local_px 144 --registers 0 --optim.epochs 10 --encoder runs/dinov2/checkpoints/last.ckpt. Not run by us at
    this scale.
    """
    return Dino(
        momentum=0.992,
        teacher_temp=0.07,
        warmup_teacher_temp_epochs=30,
        centring="sinkhorn_knopp",
        koleo=0.1,
        registers=4,
        ibot=Ibot(weight=3.0),
        crops=MultiCrop(solarise=0.0),
        model=Model("small", positions="learned", drop_path=0.1),
        data=Data(cache_px=512, mean=(0.5056,), std=(0.252,)),
        optim=Optim(
            epochs=100, warmup_epochs=10, batch_size=256, base_lr=2e-4, min_lr=1e-6, weight_decay=0.04,
            weight_decay_end=0.2, betas=(0.9, 0.999), clip_tensor_norm=3.0,
        ),
    )  # fmt: skip


def pretrain_jepa_tiny() -> Jepa:
    """Pre-train as `tiny` does, but by latent prediction: features of masked blocks instead of pixels.

    Command: clinvit pretrain thorax --recipe jepa_tiny --data manifest.csv --out runs/jepa-tiny
    """
    tiny = pretrain_tiny()
    return Jepa(
        momentum=0.99,
        model=tiny.model,
        predictor=Predictor(96, 2, 3),
        data=tiny.data,
        augment=replace(tiny.augment, crop_scale=(0.3, 1.0)),
        optim=replace(tiny.optim, base_lr=4e-3, weight_decay=0.04, betas=(0.9, 0.999)),
    )


def pretrain_reports_tiny() -> Reports:
    """Pre-train as `tiny` does, but on images and their reports, whose sentences a frozen text encoder reads.

    Command: clinvit pretrain thorax --recipe reports_tiny --data manifest.csv --text-encoder bert --out runs/reports
    """
    tiny = pretrain_tiny()
    return Reports(
        skip_equal=True,
        embedding=128,
        model=tiny.model,
        data=tiny.data,
        augment=replace(tiny.augment, crop_scale=(0.6, 1.0), flip=0.0),
        optim=replace(tiny.optim, epochs=60, warmup_epochs=3, base_lr=2e-3, betas=(0.9, 0.98)),
    )


def pretrain_reports_s() -> Reports:
    """Pre-train ViT-S/16 on X-rays and their reports, from an encoder of masked pre-training (`--encoder`).

    Command: clinvit pretrain thorax --recipe reports_s --data manifest.csv --reports reports/ --text-encoder bert
    --encoder runs/vit-s/encoder --out runs/reports
    Not run by us at this scale.
    """
    small = pretrain_vit_s()
    return Reports(
        skip_equal=True,
        model=replace(small.model, drop_path=0.1),
        data=replace(small.data, cache_px=512),
        augment=replace(small.augment, crop_scale=(0.6, 1.0), flip=0.0),
        optim=Optim(epochs=30, warmup_epochs=1, batch_size=256, base_lr=2e-4, betas=(0.9, 0.98), layer_decay=0.75),
    )


def finetune_tiny() -> Finetune:
    """Fine-tune from `pretrain_tiny`; the last epoch is kept, so no score on validation chooses anything.

    Command: clinvit finetune thorax --recipe tiny --data manifest.csv --encoder runs/tiny/encoder --out runs/ft-tiny
    From scratch add `--optim.layer_decay 1`.
    """
    return Finetune(
        select="last",
        eval_every=10,
        patch_drop=0.5,
        model=Model("mini", image_size=128, patch_size=16, class_token=False, drop_path=0.1),
        data=Data(cache_px=160),
        augment=Augment(size=128, crop_scale=(0.5, 1.0), flip=0.5, rotate_deg=5, brightness_contrast=0.1),
        view=View("squash", None, flip=True),
        optim=Optim(
            epochs=60, warmup_epochs=6, batch_size=16, base_lr=1.6e-2, min_lr=1e-5, weight_decay=0.05,
            betas=(0.9, 0.999), layer_decay=0.85, clip_norm=1.0,
        ),
    )  # fmt: skip


def finetune_tiny_stem() -> Finetune:
    """Fine-tune from `pretrain_tiny` with a stem of convolutions, milder crops: for `distil` with a CNN among teachers.

    Command: clinvit distil thorax --recipe tiny_stem --teacher runs/ft-tiny,runs/resnet18 --encoder runs/tiny/encoder
    --data manifest.csv --alpha 0 --views 32 --out runs/student
    Scores to expect on 750 X-rays, and what came of each part: `docs/evidence/pretraining.md`.
    """
    tiny = finetune_tiny()
    return replace(
        tiny,
        stem=True,
        augment=replace(tiny.augment, crop_scale=(0.7, 1.0), crop_ratio=(0.87, 1.15), interpolation="bilinear"),
        optim=replace(tiny.optim, batch_size=32, base_lr=1.2e-2),
    )


def finetune_resnet18() -> Finetune:
    """Train timm's ResNet-18 from scratch in the same pipeline, to compare with.

    Command: clinvit finetune thorax --recipe resnet18 --data manifest.csv --out runs/resnet18
    """
    tiny = finetune_tiny()
    return replace(
        tiny,
        network="resnet18",
        patch_drop=0.0,
        optim=replace(tiny.optim, epochs=20, warmup_epochs=2, batch_size=32, base_lr=8e-3, layer_decay=1.0),
    )


def pretrain_demo() -> Pretrain:
    """Pre-train a ViT of 0.8 million weights on small images, for the demo: minutes on 2 CPU cores.

    The epochs make it worth while: 32 gained 0.02 of macro AUROC over training from scratch, 77 gained 0.07
    (`docs/evidence/comparisons.md`). Always in fp32: of so small a model bf16 costs more than it saves, and two
    processors should learn the same.
    """
    tiny = pretrain_tiny()
    return replace(
        tiny,
        decode_ratio=0.5,
        model=Model("micro", image_size=96, patch_size=16, class_token=False),
        decoder=Decoder(64, 1, 2),
        data=Data(cache_px=96),
        augment=Augment(size=96, crop_scale=(0.4, 1.0), flip=0.5, interpolation="bilinear"),
        optim=replace(tiny.optim, epochs=60, warmup_epochs=6),
        run=Run(checkpoint_minutes=0.25, precision="32-true"),
    )


def finetune_demo() -> Finetune:
    """Fine-tune from `pretrain_demo`, on few labels."""
    tiny, pre = finetune_tiny(), pretrain_demo()
    return replace(
        tiny,
        model=replace(pre.model, drop_path=0.1),
        data=pre.data,
        augment=Augment(
            size=96, crop_scale=(0.5, 1.0), flip=0.5, rotate_deg=5, brightness_contrast=0.1, interpolation="bilinear"
        ),
        optim=replace(tiny.optim, epochs=100, warmup_epochs=10, layer_decay=0.75),
        run=pre.run,
    )


def finetune_demo_scratch() -> Finetune:
    """Train the network of `finetune_demo` from scratch, to compare with: no layer decay, all patches in every step.

    Its better one of several settings: half of the patches left out, which helps after pre-training, costs it more than
    twice as many epochs win back.

    Command: clinvit finetune thorax --recipe demo_scratch --data manifest.csv --out runs/scratch
    """
    fine = finetune_demo()
    return replace(fine, patch_drop=0.0, optim=replace(fine.optim, layer_decay=1.0))


PRETRAIN = {
    "demo": pretrain_demo,
    "tiny": pretrain_tiny,
    "vit_s": pretrain_vit_s,
    "vit_b": pretrain_vit_b,
    "dinov2_s": pretrain_dinov2_s,
    "jepa_tiny": pretrain_jepa_tiny,
    "reports_tiny": pretrain_reports_tiny,
    "reports_s": pretrain_reports_s,
}
FINETUNE = {
    "demo": finetune_demo,
    "demo_scratch": finetune_demo_scratch,
    "tiny": finetune_tiny,
    "vit_s": finetune_vit_s,
    "vit_b": finetune_vit_b,
    "densenet121": finetune_densenet121,
    "resnet50": finetune_resnet50,
    "tiny_stem": finetune_tiny_stem,
    "resnet18": finetune_resnet18,
}
