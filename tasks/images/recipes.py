"""Recipes of the neutral task for images: MAE's published settings, and small ones for small machines.

He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022; settings from its public code. Images have
three channels; `--model.channels 1` reads them grey. None of the large recipes was run by us at its scale.
"""

from dataclasses import replace

from ...backbone.sizes import IMAGENET_STATISTICS, Model
from ...datasets.settings import Data
from ...datasets.transforms.augment import Augment
from ...engine.recipe import Optim
from ...finetune.recipe import Finetune, View
from ...pretrain.recipe import Decoder, Pretrain

MEAN, STD = IMAGENET_STATISTICS
FILL = tuple(round(255 * mean) for mean in MEAN)  # what RandAugment lets in, as timm sets it


def pretrain_vit_b() -> Pretrain:
    """Pre-train ViT-B/16 as MAE does on ImageNet: 75 % masked, targets normalised per patch, 800 epochs.

    Command: clinvit pretrain images --recipe vit_b --data manifest.csv --out runs/mae
    """
    return Pretrain(
        mask_ratio=0.75,
        target="patch",
        model=Model("base", channels=3, class_token=True),
        decoder=Decoder(512, 8, 16),
        data=Data(cache_px=256, mean=MEAN, std=STD),
        augment=Augment(size=224, crop_scale=(0.2, 1.0), flip=0.5),
        optim=Optim(epochs=800, warmup_epochs=40, batch_size=4096, base_lr=1.5e-4, weight_decay=0.05),
    )


def pretrain_vit_s() -> Pretrain:
    """Pre-train ViT-S/16 with the same settings and a light decoder.

    Command: clinvit pretrain images --recipe vit_s --data manifest.csv --out runs/mae
    """
    base = pretrain_vit_b()
    return replace(base, model=replace(base.model, size="small"), decoder=Decoder(512, 2, 16))


def finetune_vit_b() -> Finetune:
    """Fine-tune ViT-B/16 as MAE does: layer decay 0.65, drop path 0.1, mixup, CutMix, 100 epochs.

    Command: clinvit finetune images --recipe vit_b --data manifest.csv --encoder runs/mae/encoder --out runs/ft
    For classes that exclude each other, as MAE on ImageNet: `--loss ce --label_smoothing 0.1 --select accuracy`.
    """
    return Finetune(
        pool="mean",
        mixup=0.8,
        cutmix=1.0,
        model=Model("base", channels=3, class_token=True, drop_path=0.1),
        data=Data(cache_px=256, mean=MEAN, std=STD),
        augment=Augment(size=224, crop_scale=(0.08, 1.0), flip=0.5, randaug="m9-mstd0.5-inc1", fill=FILL),
        erase=0.25,
        view=View("crop", 256),
        optim=Optim(
            epochs=100, warmup_epochs=5, batch_size=1024, base_lr=5e-4, min_lr=1e-6, weight_decay=0.05,
            betas=(0.9, 0.999), layer_decay=0.65,
        ),
    )  # fmt: skip


def finetune_vit_s() -> Finetune:
    """Fine-tune ViT-S/16 with the same settings.

    Command: clinvit finetune images --recipe vit_s --data manifest.csv --encoder runs/mae/encoder --out runs/ft
    """
    base = finetune_vit_b()
    return replace(base, model=replace(base.model, size="small"))


def pretrain_tiny() -> Pretrain:
    """Pre-train on 2 CPU cores with about a thousand images: 128 px, many epochs.

    Command: clinvit pretrain images --data manifest.csv --out runs/mae
    """
    return replace(
        pretrain_vit_b(),
        decode_ratio=0.75,
        model=Model("mini", image_size=128, patch_size=16, channels=3, class_token=False),
        decoder=Decoder(96, 1, 3),
        data=Data(cache_px=160, mean=MEAN, std=STD),
        augment=Augment(size=128, crop_scale=(0.4, 1.0), flip=0.5),
        optim=Optim(
            epochs=320, warmup_epochs=26, batch_size=64, base_lr=8e-3, min_lr=2e-5, weight_decay=0.05, clip_norm=1.0
        ),
    )


def finetune_tiny() -> Finetune:
    """Fine-tune from `pretrain_tiny`; the last epoch is kept, so no score on validation chooses anything.

    Command: clinvit finetune images --data manifest.csv --encoder runs/mae/encoder --out runs/ft
    From scratch add `--optim.layer_decay 1`.
    """
    return Finetune(
        select="last",
        eval_every=10,
        patch_drop=0.5,
        model=Model("mini", image_size=128, patch_size=16, channels=3, class_token=False, drop_path=0.1),
        data=Data(cache_px=160, mean=MEAN, std=STD),
        augment=Augment(size=128, crop_scale=(0.5, 1.0), flip=0.5, rotate_deg=5, brightness_contrast=0.1),
        view=View("squash", None, flip=True),
        optim=Optim(
            epochs=60, warmup_epochs=6, batch_size=16, base_lr=1.6e-2, min_lr=1e-5, weight_decay=0.05,
            betas=(0.9, 0.999), layer_decay=0.85, clip_norm=1.0,
        ),
    )  # fmt: skip


HUGE = Model("huge", image_size=476, patch_size=14, channels=3, class_token=True)
A100S, IMAGES_EACH = 4, 34


def pretrain_mae_h14_476() -> Pretrain:
    """Pre-train ViT-H/14 at 476 px as the human-like models were (Orhan 2023): 80 % masked, constant rate, no decay.

    Command: clinvit pretrain images --recipe mae_h14_476 --data manifest.csv --out runs/mae
    The paper trained for 48 hours on four A100 (34 images each), whatever the epochs: stop it by time, or set
    `--optim.epochs`. Not stated there, and MAE's here: target, crops, decoder, betas. Not run by us.
    """
    batch = A100S * IMAGES_EACH
    base = pretrain_vit_b()
    return replace(
        base,
        mask_ratio=0.8,
        model=HUGE,
        data=replace(base.data, cache_px=544),
        augment=replace(base.augment, size=476),
        optim=replace(
            base.optim, warmup_epochs=0, batch_size=batch, base_lr=1e-4 * 256 / batch, schedule="constant",
            weight_decay=0.0,
        ),
    )  # fmt: skip


def finetune_mae_h14_476() -> Finetune:
    """Fine-tune ViT-H/14 at 476 px as the human-like models were: rate 5e-5, 50 epochs, crops and flips alone.

    Command: clinvit finetune images --recipe mae_h14_476 --data manifest.csv --encoder runs/mae/encoder --out runs/ft
    The paper's head is a batch norm and a linear layer, here a linear layer; its batch is not known. Not run by us.
    """
    batch = A100S * IMAGES_EACH
    return Finetune(
        pool="mean",
        model=HUGE,
        data=Data(cache_px=544, mean=MEAN, std=STD),
        augment=Augment(size=476, crop_scale=(0.2, 1.0), flip=0.5),
        view=View("crop", 544),
        optim=Optim(
            epochs=50, warmup_epochs=0, batch_size=batch, base_lr=5e-5 * 256 / batch, schedule="constant",
            weight_decay=0.0, layer_decay=1.0, betas=(0.9, 0.95),
        ),
    )  # fmt: skip


PRETRAIN = {
    "tiny": pretrain_tiny,
    "vit_s": pretrain_vit_s,
    "vit_b": pretrain_vit_b,
    "mae_h14_476": pretrain_mae_h14_476,
}
FINETUNE = {
    "tiny": finetune_tiny,
    "vit_s": finetune_vit_s,
    "vit_b": finetune_vit_b,
    "mae_h14_476": finetune_mae_h14_476,
}
