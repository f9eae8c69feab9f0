"""VideoMAE V2's own recipes, for general video in lists of `path label` (Kinetics, Something-Something).

Wang et al., "VideoMAE V2: Scaling Video Masked Autoencoders with Dual Masking", CVPR 2023; settings from the scripts of
its public code. Departures: crops are random in position and size where the code has 13 fixed places and 4
sizes; weights are AdamW's in bf16 without DeepSpeed. None of these was run by us at its scale.
"""

from functools import partial
from typing import NamedTuple

from ...backbone.sizes import IMAGENET_STATISTICS, Model
from ...datasets.settings import Clip, Data
from ...datasets.transforms.augment import Augment
from ...engine.recipe import Optim
from ...finetune.recipe import Finetune, View
from ...pretrain.recipe import Decoder, Pretrain

MEAN, STD = IMAGENET_STATISTICS
# size: decoder width, heads, MLP ratio; batch; base rate; epochs; gradient norm; recompute blocks; patch.
PRETRAINING = {
    "base": (384, 6, 4.0, 1024, 1e-3, 200, None, False, 16),
    "large": (512, 8, 4.0, 1536, 1e-3, 300, None, False, 16),
    "huge": (512, 8, 4.0, 2048, 1e-3, 300, None, True, 16),
    "giant": (512, 8, 48 / 11, 2048, 6e-4, 300, 0.02, True, 14),
}


class Tuning(NamedTuple):
    """How one size is fine-tuned on one set (scripts/finetune of the public code)."""

    sampling: str
    batch: int
    base_lr: float
    layer_decay: float
    drop_path: float
    head_drop: float
    weight_decay: float
    epochs: int
    segments: int = 5
    mirror: bool = True
    warmup_epochs: int = 5
    stride: int = 4
    clip_norm: float | None = None


# Sets named `after_k710` start from the model that was fine-tuned on Kinetics-710, as do UCF101 and HMDB51.
FINETUNING = {
    ("k400", "base"): Tuning("dense", 512, 7e-4, 0.75, 0.1, 0.0, 0.05, 90),
    ("k400", "large"): Tuning("dense", 192, 2e-3, 0.75, 0.2, 0.0, 0.05, 35),
    ("k400", "huge"): Tuning("dense", 128, 1e-3, 0.8, 0.2, 0.5, 0.05, 40),
    ("k400", "giant"): Tuning("dense", 192, 1e-3, 0.9, 0.2, 0.0, 0.1, 30),
    ("k710", "base"): Tuning("dense", 512, 7e-4, 0.75, 0.1, 0.0, 0.05, 90),
    ("k710", "huge"): Tuning("dense", 128, 1e-3, 0.8, 0.2, 0.5, 0.05, 40),
    ("k710", "giant"): Tuning("dense", 96, 1e-3, 0.9, 0.3, 0.0, 0.1, 35, clip_norm=5.0),
    ("k400_after_k710", "giant"): Tuning("dense", 96, 1e-5, 0.9, 0.25, 0.0, 0.1, 3, warmup_epochs=1),
    ("k600_after_k710", "giant"): Tuning("dense", 96, 1e-5, 0.9, 0.25, 0.0, 0.1, 3, warmup_epochs=1),
    ("ucf101", "giant"): Tuning("dense", 24, 1e-3, 0.9, 0.35, 0.5, 0.05, 50),
    ("hmdb51", "giant"): Tuning("dense", 24, 5e-4, 0.9, 0.35, 0.5, 0.05, 15, stride=2),
    ("ssv2", "base"): Tuning("sparse", 256, 2e-3, 0.65, 0.1, 0.0, 0.05, 25, 2, False),
    ("ssv2", "large"): Tuning("sparse", 192, 5e-4, 0.75, 0.2, 0.0, 0.05, 20, 2, False),
    ("ssv2", "huge"): Tuning("sparse", 128, 5e-4, 0.8, 0.2, 0.0, 0.05, 20, 2, False),
    ("ssv2", "giant"): Tuning("sparse", 96, 3e-4, 0.9, 0.25, 0.0, 0.05, 20, 2, False),
}


def pretrain(size: str) -> Pretrain:
    """Pre-train by VideoMAE V2: tubes 90 %, running cells 50 %, 4 samples of each clip; for Kinetics, stride 4.

    Command: clinvit pretrain erdes --recipe v2_base --data manifest.csv --out runs/v2 (SSv2: --data.clip.stride 2)
    Cost in the paper: 32 to 64 GPUs with 32 clips each. `base_lr` counts the clips of a step, not their samples.
    """
    width, heads, mlp_ratio, batch, rate, epochs, clip_norm, recompute, patch = PRETRAINING[size]
    return Pretrain(
        mask="tube",
        mask_ratio=0.9,
        decoder_mask="running_cell",
        decode_ratio=0.5,
        target="channel",
        model=_model(size, patch, checkpoint_blocks=recompute),
        decoder=Decoder(width, 4, heads, mlp_ratio, embed_bias=False),
        data=_data("strided", repeats=4),
        augment=Augment(size=224, crop_scale=(0.66**2, 1.0), flip=0.0, interpolation="bilinear"),
        optim=Optim(
            epochs=epochs, warmup_epochs=epochs // 10, batch_size=batch, base_lr=rate, min_lr=1e-5 * batch / 256,
            clip_norm=clip_norm, no_decay=("mask_token",),
        ),
    )  # fmt: skip


def finetune(dataset: str, size: str) -> Finetune:
    """Fine-tune by VideoMAE V2 on Kinetics, Something-Something V2, UCF101 or HMDB51: classes exclude each other.

    Command: clinvit finetune erdes --recipe v2_base_k400 --data manifest.csv --encoder vit_b.pth --out runs/k400
    Scores to expect (ViT-g, the paper's model zoo): K400 top-1 87.2, SSv2 77.0; ViT-B is not stated there.
    """
    tuning = FINETUNING[dataset, size]
    return Finetune(
        pool="mean",
        loss="ce",
        label_smoothing=0.1,
        head_drop=tuning.head_drop,
        mixup=0.8,
        cutmix=1.0,
        select="accuracy",
        model=_model(size, 14 if size == "giant" else 16, drop_path=tuning.drop_path),
        data=_data(tuning.sampling, repeats=2, stride=tuning.stride),
        augment=Augment(
            size=224, crop_scale=(0.08, 1.0), flip=0.5 if tuning.mirror else 0.0, randaug="m7-n4-mstd0.5-inc1",
            randaug_first=True, interpolation="bilinear",
        ),
        erase=0.25,
        view=View("crop", 224, segments=tuning.segments, crops=3),
        optim=Optim(
            epochs=tuning.epochs, warmup_epochs=tuning.warmup_epochs, batch_size=tuning.batch, base_lr=tuning.base_lr,
            min_lr=1e-6 * tuning.batch / 256, weight_decay=tuning.weight_decay, betas=(0.9, 0.999),
            layer_decay=tuning.layer_decay, clip_norm=tuning.clip_norm,
        ),
    )  # fmt: skip


def _model(size: str, patch: int, **fields) -> Model:
    return Model(
        size, patch_size=patch, frames=16, tubelet=2, channels=3, class_token=False, positions="sine1d", **fields
    )


def _data(sampling: str, repeats: int, stride: int = 4) -> Data:
    # Hundreds of thousands of colour clips are more than a disk holds: decoded each time.
    return Data(cache=False, cache_px=256, clip=Clip(sampling, stride, repeats), mean=MEAN, std=STD)


def _named(text: str, make, *names: str):
    """Return the function that makes one recipe, with a line of help of its own."""
    recipe = partial(make, *names)
    recipe.__doc__ = f"{text}\n{make.__doc__}"
    return recipe


PRETRAIN = {f"v2_{size}": _named(f"VideoMAE V2 on general video, ViT-{size}.", pretrain, size) for size in PRETRAINING}
FINETUNE = {
    f"v2_{size}_{dataset}": _named(f"VideoMAE V2 on {dataset}, ViT-{size}.", finetune, dataset, size)
    for dataset, size in FINETUNING
}
