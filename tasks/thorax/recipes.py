"""Recipes of the thorax task: the paper's, and small ones for small machines.

The paper: Xiao et al., "Delving into Masked Autoencoders for Multi-Label Thorax Disease Classification", WACV 2023;
facts and hyper-parameters from its public code (PRETRAIN.md, FINETUNE.md).
"""

from ...backbone.sizes import Model
from ...datasets.augment import Augment
from ...datasets.recipe import Data
from ...engine.recipe import Optim, Run
from ...finetune.recipe import Finetune, View
from ...pretrain.recipe import Decoder, Pretrain


def pretrain_vit_s() -> Pretrain:
    """ViT-S/16 as the paper pre-trains it: 90 % hidden, mild crops, plain pixel targets, 800 epochs.

    Command: clinvit pretrain thorax --recipe vit_s --data manifest.csv --out runs/vit-s
    Data: ChestX-ray14 official train + CheXpert frontal train, 266,339 pictures. Cost: 8 GPUs x 256 in the paper.
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
    """ViT-B/16 as the paper pre-trains it, with MIMIC-CXR added to the data ("0.5M").

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
    """ViT-S/16 as the paper fine-tunes it: layer decay 0.55, drop path 0.2, RandAugment m6, 75 epochs.

    Command: clinvit finetune thorax --recipe vit_s --data manifest.csv --encoder runs/vit-s/encoder --out runs/ft-s
    Cost: 8 GPUs x 128 in the paper. Score to expect: macro AUROC 0.823 (paper's README, its best of several test
    evaluations; ours chooses the epoch on validation). Not run by us at this scale.
    """
    return Finetune(
        pool="mean",
        eval_every=10,
        model=Model("small", class_token=True, drop_path=0.2),
        data=Data(cache_px=1024, mean=(0.5056,), std=(0.252,)),
        augment=Augment(size=224, crop_scale=(0.08, 1.0), flip=0.5, randaug="m6-n2-mstd0.5-inc1"),
        view=View("crop", 256),
        optim=Optim(
            epochs=75, warmup_epochs=5, batch_size=1024, base_lr=2.5e-4, min_lr=1e-5, weight_decay=0.05,
            betas=(0.9, 0.999), layer_decay=0.55,
        ),
    )  # fmt: skip


def finetune_vit_b() -> Finetune:
    """ViT-B/16 with the ViT-S settings: the paper's repository gives no command for ViT-B.

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


def pretrain_tiny() -> Pretrain:
    """Small and quick: 96-px pictures, for a laptop with 2 cores.

    Command: clinvit pretrain thorax --recipe tiny --data manifest.csv --out runs/tiny
    """
    return Pretrain(
        mask_ratio=0.75,
        target="patch",
        model=Model("mini", image_size=96, patch_size=8),
        decoder=Decoder(96, 1, 3),
        data=Data(cache_px=128),
        augment=Augment(size=96, crop_scale=(0.5, 1.0), flip=0.5),
        optim=Optim(epochs=100, warmup_epochs=10, batch_size=64, base_lr=2e-3, weight_decay=0.05),
        run=Run(checkpoint_minutes=0.5),
    )


def finetune_tiny() -> Finetune:
    """Fine-tuning beside `pretrain_tiny`, for a laptop with 2 cores; the last epoch is kept, no score chooses.

    Command: clinvit finetune thorax --recipe tiny --data manifest.csv --encoder runs/tiny/encoder --out runs/ft-tiny
    """
    return Finetune(
        select="last",
        eval_every=10,
        model=Model("mini", image_size=96, patch_size=8, drop_path=0.1),
        data=Data(cache_px=128),
        augment=Augment(size=96, crop_scale=(0.5, 1.0), flip=0.5, rotate_deg=7),
        view=View("squash", None),
        optim=Optim(
            epochs=40, warmup_epochs=4, batch_size=32, base_lr=2e-3, weight_decay=0.05, betas=(0.9, 0.999),
            layer_decay=0.75,
        ),
        run=Run(checkpoint_minutes=0.5),
    )  # fmt: skip


PRETRAIN = {"tiny": pretrain_tiny, "vit_s": pretrain_vit_s, "vit_b": pretrain_vit_b}
FINETUNE = {"tiny": finetune_tiny, "vit_s": finetune_vit_s, "vit_b": finetune_vit_b}
