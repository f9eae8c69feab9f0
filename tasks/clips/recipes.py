"""Recipes of the neutral task for clips: small ones by VideoMAE V2's method, in colour.

`--model.channels 1` reads clips grey. VideoMAE V2's published recipes are in
`videomae_v2.py`. None was run by us at full scale.
"""

from dataclasses import replace

from ...backbone.sizes import IMAGENET_STATISTICS, Model
from ...datasets.settings import Clip, Data
from ...datasets.transforms.augment import Augment
from ...engine.recipe import Optim
from ...finetune.recipe import Finetune, View
from ...pretrain.recipe import Decoder, Pretrain

MEAN, STD = IMAGENET_STATISTICS
VIT_S = Model("small", frames=16, tubelet=2, channels=3, class_token=False, positions="sine1d")


def _data(cache_px: int, clip: Clip) -> Data:
    return Data(cache_px=cache_px, clip=clip, mean=MEAN, std=STD)


def pretrain_vit_s() -> Pretrain:
    """Pre-train ViT-S/16 by VideoMAE V2, 16 frames of 224 px: tubes 90 %, running cells 50 %.

    Command: clinvit pretrain clips --recipe vit_s --data manifest.csv --out runs/mae
    """
    return Pretrain(
        mask="tube",
        mask_ratio=0.9,
        decoder_mask="running_cell",
        decode_ratio=0.5,
        target="channel",
        model=VIT_S,
        decoder=Decoder(192, 4, 3, embed_bias=False),
        data=_data(256, Clip("strided", stride=4, repeats=4)),
        augment=Augment(size=224, crop_scale=(0.5, 1.0), flip=0.5),
        optim=Optim(epochs=800, warmup_epochs=40, batch_size=64, base_lr=1e-3, min_lr=1e-5, weight_decay=0.05),
    )


def finetune_vit_s() -> Finetune:
    """Fine-tune ViT-S/16 from that encoder; 16 frames, evenly over the whole clip.

    Command: clinvit finetune clips --recipe vit_s --data manifest.csv --encoder runs/mae/encoder --out runs/ft
    For classes that exclude each other add `--loss ce`.
    """
    return Finetune(
        pool="mean",
        model=replace(VIT_S, drop_path=0.1),
        data=_data(256, Clip("uniform", repeats=2)),
        augment=Augment(size=224, crop_scale=(0.5, 1.0), flip=0.5, rotate_deg=10, brightness_contrast=0.2),
        view=View("squash", None, flip=True),
        optim=Optim(
            epochs=50, warmup_epochs=5, batch_size=32, base_lr=1e-3, min_lr=1e-6, weight_decay=0.05,
            betas=(0.9, 0.999), layer_decay=0.75,
        ),
    )  # fmt: skip


def pretrain_tiny() -> Pretrain:
    """Pre-train a small ViT on 2 CPU cores with hundreds of clips: 16 frames of 96 px.

    Command: clinvit pretrain clips --data manifest.csv --out runs/mae
    """
    big = pretrain_vit_s()
    return replace(
        big,
        model=replace(big.model, size="mini", image_size=96),
        decoder=Decoder(96, 1, 3, embed_bias=False),
        data=_data(112, Clip("strided", stride=2, repeats=2)),
        augment=replace(big.augment, size=96, crop_scale=(0.4, 1.0)),
        optim=replace(big.optim, epochs=200, warmup_epochs=20, batch_size=32, base_lr=4e-3, clip_norm=1.0),
    )


def finetune_tiny() -> Finetune:
    """Fine-tune from `pretrain_tiny`; no epoch is chosen by score.

    Command: clinvit finetune clips --data manifest.csv --encoder runs/mae/encoder --out runs/ft
    """
    big = finetune_vit_s()
    return replace(
        big,
        select="last",
        eval_every=10,
        patch_drop=0.5,
        model=replace(big.model, size="mini", image_size=96),
        data=_data(112, Clip("uniform")),
        augment=replace(big.augment, size=96),
        optim=replace(big.optim, epochs=40, warmup_epochs=4, batch_size=16, base_lr=1.6e-2, layer_decay=0.85),
    )


PRETRAIN = {"tiny": pretrain_tiny, "vit_s": pretrain_vit_s}
FINETUNE = {"tiny": finetune_tiny, "vit_s": finetune_vit_s}
