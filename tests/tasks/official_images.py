"""The settings of the official codes of thorax X-rays and of images, by recipe."""

from clinvit.tasks.images import recipes as images
from clinvit.tasks.thorax import recipes as thorax

from .official_entries import (
    AUGMENT_OFF,
    BF16,
    CASES,
    CNN,
    FULL,
    IMAGE,
    LEARNED,
    MACHINE,
    NO_BATCH_NORM,
    NO_FRAMES,
    NO_STAIN,
    ONE_CHANNEL,
    ONE_VIEW,
    OPTIM_OFF,
    SCRATCH,
    Departs,
    Entry,
    Official,
    Settings,
)

THORAX = "github.com/lambert-x/medical_mae@953a460"
MAE = "github.com/facebookresearch/mae@efb2a80"

PRE, TUNE, XRAYS, MODELS = "PRETRAIN.md", "FINETUNE.md", "main_pretrain_multi_datasets_xray.py", "models_mae.py"
XRAY_TUNE, SETS, VIT = "main_finetune_chestxray.py", "util/datasets.py", "models_vit.py"
MAE_PRETRAIN: dict[str, Entry] = {
    **MACHINE, **NO_FRAMES, **CASES, **OPTIM_OFF, **AUGMENT_OFF, **NO_STAIN, **NO_BATCH_NORM, **IMAGE, **SCRATCH,
}  # fmt: skip


def _xray_pretraining(make, first: int, size: str, depth: int, model: int) -> Settings:
    """Return a pre-training on X-rays.

    Args:
        make: Our recipe.
        first: Line of PRETRAIN.md with the command's first option that matters (`--nproc_per_node`).
        size: Of the ViT.
        depth: Of the decoder, blocks.
        model: Line of models_mae.py with the encoder's widths; the decoder's follow.
    """
    return Settings(make, THORAX, MAE_PRETRAIN | {
        "mask": Official("random", PRE, first + 12),
        "mask_ratio": Official(0.90, PRE, first + 6),
        "decoder_mask": Official("random", MODELS, 239),
        "decode_ratio": Official(1.0, MODELS, (239, 275)),
        "reconstruct_visible": Official(True, MODELS, 275),
        "target": Official("pixels", XRAYS, 60),
        "model.size": Official(size, MODELS, model),
        "model.image_size": Official(224, PRE, first + 11),
        "model.patch_size": Official(16, MODELS, model),
        "model.channels": Departs(1, 3, MODELS, 29, ONE_CHANNEL),
        "model.class_token": Official(True, MODELS, 40),
        "model.positions": Official("sine2d", MODELS, 127),
        "model.drop_path": Official(0.0, MODELS, 45),
        "model.checkpoint_blocks": Official(False, MODELS, 45),
        "decoder.width": Official(512, MODELS, model + 1),
        "decoder.depth": Official(depth, MODELS, model + 1),
        "decoder.heads": Official(16, MODELS, model + 1),
        "decoder.mlp_ratio": Official(4.0, MODELS, model + 2),
        "decoder.embed_bias": Official(True, MODELS, 52),
        "data.cache_px": Departs(1024, "the file's own pixels", "util/dataloader_med.py", 214,
                                 "the files have 1,024 px; larger ones are kept at this size"),
        "data.mean": Departs((0.5056,), "that of ImageNet for CheXpert and MIMIC-CXR", XRAYS, (147, 148, 149),
                             "one pair of statistics for all X-rays, that of ChestX-ray14"),
        "data.std": Departs((0.252,), "that of ImageNet for CheXpert and MIMIC-CXR", XRAYS, (151, 152, 153),
                            "one pair of statistics for all X-rays, that of ChestX-ray14"),
        "augment.size": Official(224, PRE, first + 11),
        "augment.crop_scale": Official((0.5, 1.0), PRE, first + 13),
        "augment.crop_ratio": Official((3 / 4, 4 / 3), XRAYS, 170),
        "augment.flip": Official(0.5, XRAYS, 172),
        "augment.interpolation": Official("bicubic", XRAYS, 171),
        "optim.epochs": Official(800, PRE, first + 7),
        "optim.warmup_epochs": Official(40, PRE, first + 8),
        "optim.schedule": Official("cosine", "util/lr_sched.py", (12, 18)),
        "optim.batch_size": Official(8 * 256, PRE, (first, first + 4)),
        "optim.base_lr": Official(1.5e-4, PRE, first + 9),
        "optim.min_lr": Official(0.0, XRAYS, 72),
        "optim.weight_decay": Official(0.05, PRE, first + 9),
        "optim.betas": Official((0.9, 0.95), XRAYS, 273),
        "optim.accumulate": Official(1, XRAYS, 47),
        "optim.optimizer": Official("adamw", XRAYS, 273),
        "optim.decay_biases": Official(False, XRAYS, 272),
        "optim.drop_last": Official(True, XRAYS, 232),
        "run.seed": Official(0, XRAYS, 88),
        "run.precision": Departs("auto", "16-mixed", "engine_pretrain.py", 51, BF16),
    })  # fmt: skip


def _xray_finetuning(make, first: int, network: str, drop_path: int, more: dict[str, Entry]) -> Settings:
    """Return a fine-tuning on ChestX-ray14, whose command in FINETUNE.md has its batch in line `first`."""
    return Settings(make, THORAX, {
        **MACHINE, **NO_FRAMES, **CASES, **OPTIM_OFF, **AUGMENT_OFF, **FULL, **ONE_VIEW, **IMAGE,
        "network": Official(network, TUNE, drop_path - 2),
        "loss": Official("bce", XRAY_TUNE, 381),
        "label_smoothing": Official(0.0, XRAY_TUNE, (260, 381)),
        "head_drop": Official(0.0, TUNE, drop_path),
        "select": Departs("best", "the best of the test set", XRAY_TUNE, (431, 433),
                          "the epoch is chosen on validation"),
        "eval_every": Official(10, TUNE, drop_path + 7),
        "erase": Official(0.0, TUNE, drop_path),
        "mixup": Official(0.0, TUNE, drop_path),
        "cutmix": Official(0.0, TUNE, drop_path),
        "model.image_size": Official(224, XRAY_TUNE, 61),
        "model.channels": Departs(1, 3, "util/dataloader_med.py", 214, ONE_CHANNEL),
        "model.checkpoint_blocks": Official(False, VIT, 44),
        "data.cache_px": Departs(1024, "the file's own pixels", "util/dataloader_med.py", 214,
                                 "the files have 1,024 px; larger ones are kept at this size"),
        "data.mean": Official((0.5056,), SETS, 121),
        "data.std": Official((0.252,), SETS, 122),
        "augment.size": Official(224, XRAY_TUNE, 61),
        "augment.crop_scale": Official((0.08, 1.0), SETS, 137),  # timm's default
        "augment.crop_ratio": Official((3 / 4, 4 / 3), SETS, 137),  # timm's default
        "augment.flip": Official(0.5, SETS, 137),  # timm's default
        "augment.randaug": Official("m6-n2-mstd0.5-inc1", TUNE, drop_path + 10),
        "augment.fill": Official((round(255 * 0.5056),), SETS, 146),  # timm takes the mean
        "augment.interpolation": Official("bicubic", SETS, 142),
        "view.mode": Official("crop", SETS, 161),
        "view.resize_px": Official(256, SETS, (154, 157)),
        "optim.epochs": Official(75, TUNE, drop_path - 4),
        "optim.warmup_epochs": Official(5, TUNE, drop_path - 1),
        "optim.schedule": Official("cosine", "util/lr_sched.py", (12, 18)),
        "optim.batch_size": Official(8 * 128, TUNE, (first - 4, first)),
        "optim.base_lr": Official(2.5e-4, TUNE, drop_path - 3),
        "optim.min_lr": Official(1e-5, TUNE, drop_path + 8),
        "optim.weight_decay": Official(0.05, TUNE, drop_path - 3),
        "optim.betas": Official((0.9, 0.999), XRAY_TUNE, 371),  # PyTorch's default
        "optim.accumulate": Official(1, XRAY_TUNE, 54),
        "optim.optimizer": Official("adamw", XRAY_TUNE, 371),
        "optim.drop_last": Official(True, XRAY_TUNE, 248),
        "run.seed": Official(0, XRAY_TUNE, 138),
        "run.precision": Departs("auto", "16-mixed", "engine_finetune.py", 61, BF16),
        **more,
    })  # fmt: skip


XRAY_VIT: dict[str, Entry] = NO_BATCH_NORM | {
    "pool": Official("mean", XRAY_TUNE, 123),
    "model.patch_size": Official(16, VIT, 59),
    "model.class_token": Official(True, VIT, 48),
    "model.positions": LEARNED,
    "model.size": Official("small", TUNE, 51),
    "model.drop_path": Official(0.2, TUNE, 53),
    "optim.layer_decay": Official(0.55, TUNE, 50),
    "optim.decay_biases": Official(False, "util/lr_decay.py", 32),
}

THORAX_SETTINGS = {
    "thorax/pretrain vit_s": _xray_pretraining(thorax.pretrain_vit_s, 47, "small", 2, 306),
    "thorax/pretrain vit_b": _xray_pretraining(thorax.pretrain_vit_b, 68, "base", 8, 330),
    "thorax/finetune vit_s": _xray_finetuning(thorax.finetune_vit_s, 47, "vit", 53, XRAY_VIT),
    "thorax/finetune densenet121": _xray_finetuning(thorax.finetune_densenet121, 15, "densenet121", 22, CNN | {
        "pool": Official("mean", XRAY_TUNE, 277),
        "optim.layer_decay": Official(1.0, XRAY_TUNE, 368),
        "optim.decay_biases": Official(False, XRAY_TUNE, 368),
        "run.sync_batchnorm": Departs(True, False, XRAY_TUNE, 358,
                                      "a batch norm sees the whole batch, on however many GPUs it is computed"),
    }),
}  # fmt: skip

MAIN, MAIN_TUNE = "main_pretrain.py", "main_finetune.py"
IMAGENET = {
    "data.mean": Official((0.485, 0.456, 0.406), MAIN, 127),
    "data.std": Official((0.229, 0.224, 0.225), MAIN, 127),
    "data.cache_px": Departs(256, "the file's own pixels", SETS, 24, "what a disk holds"),
    "model.channels": Official(3, MODELS, 25),
    "model.image_size": Official(224, MAIN, 50),
    "model.class_token": Official(True, MODELS, 36),
    "model.patch_size": Official(16, MODELS, 225),
    "model.size": Official("base", MODELS, 225),
    "augment.size": Official(224, MAIN, 50),
    "optim.accumulate": Official(1, MAIN, 43),
    "optim.schedule": Official("cosine", "util/lr_sched.py", (12, 15)),
    "optim.optimizer": Official("adamw", MAIN, 180),
    "run.seed": Official(0, MAIN, 84),
}
NEUTRAL = "the neutral task has findings that occur together; classes that exclude each other are asked for"

IMAGE_SETTINGS = {
    "images/pretrain vit_b": Settings(images.pretrain_vit_b, MAE, MAE_PRETRAIN | IMAGENET | {
        "mask": Official("random", MODELS, 123),
        "mask_ratio": Official(0.75, PRE, 12),
        "decoder_mask": Official("random", MODELS, 177),
        "decode_ratio": Official(1.0, MODELS, (177, 213)),
        "reconstruct_visible": Official(True, MODELS, 213),
        "target": Official("patch", PRE, 11),
        "model.positions": Official("sine2d", MODELS, 68),
        "model.drop_path": Official(0.0, MODELS, 40),
        "model.checkpoint_blocks": Official(False, MODELS, 40),
        "decoder.width": Official(512, MODELS, 226),
        "decoder.depth": Official(8, MODELS, 226),
        "decoder.heads": Official(16, MODELS, 226),
        "decoder.mlp_ratio": Official(4.0, MODELS, 227),
        "decoder.embed_bias": Official(True, MODELS, 47),
        "augment.crop_scale": Official((0.2, 1.0), MAIN, 124),
        "augment.crop_ratio": Official((3 / 4, 4 / 3), MAIN, 124),
        "augment.flip": Official(0.5, MAIN, 125),
        "augment.interpolation": Official("bicubic", MAIN, 124),
        "optim.epochs": Official(800, PRE, 13),
        "optim.warmup_epochs": Official(40, PRE, 14),
        "optim.batch_size": Official(4096, PRE, 18),
        "optim.base_lr": Official(1.5e-4, PRE, 15),
        "optim.min_lr": Official(0.0, MAIN, 68),
        "optim.weight_decay": Official(0.05, PRE, 15),
        "optim.betas": Official((0.9, 0.95), MAIN, 180),
        "optim.decay_biases": Official(False, MAIN, 179),
        "optim.drop_last": Official(True, MAIN, 152),
        "run.precision": Departs("auto", "16-mixed", "engine_pretrain.py", 47, BF16),
    }),
    "images/finetune vit_b": Settings(images.finetune_vit_b, MAE, {
        **MACHINE, **NO_FRAMES, **CASES, **OPTIM_OFF, **AUGMENT_OFF, **FULL, **ONE_VIEW, **NO_BATCH_NORM, **IMAGE,
        **IMAGENET,
        "network": Official("vit", TUNE, 69),
        "pool": Official("mean", MAIN_TUNE, 116),
        "loss": Departs("bce", "ce", MAIN_TUNE, 292, NEUTRAL),
        "label_smoothing": Departs(0.0, 0.1, MAIN_TUNE, 84, NEUTRAL),
        "head_drop": Official(0.0, MAIN_TUNE, (227, 231)),
        "select": Departs("best", "accuracy on the test set", MAIN_TUNE, 327, NEUTRAL),
        "eval_every": Official(1, MAIN_TUNE, 327),
        "erase": Official(0.25, TUNE, 73),
        "mixup": Official(0.8, TUNE, 73),
        "cutmix": Official(1.0, TUNE, 73),
        "model.positions": LEARNED,
        "model.drop_path": Official(0.1, TUNE, 73),
        "model.checkpoint_blocks": Official(False, VIT, 58),
        "augment.crop_scale": Official((0.08, 1.0), SETS, 37),  # timm's default
        "augment.crop_ratio": Official((3 / 4, 4 / 3), SETS, 37),  # timm's default
        "augment.flip": Official(0.5, SETS, 37),  # timm's default
        "augment.randaug": Official("m9-n2-mstd0.5-inc1", MAIN_TUNE, 82),  # two operations: timm's default
        "augment.fill": Official((124, 116, 104), SETS, 46),  # timm takes the mean
        "augment.interpolation": Official("bicubic", SETS, 42),
        "view.mode": Official("crop", SETS, 61),
        "view.resize_px": Official(256, SETS, (54, 57)),
        "optim.epochs": Official(100, TUNE, 71),
        "optim.warmup_epochs": Official(5, MAIN_TUNE, 76),
        "optim.batch_size": Official(1024, TUNE, 77),
        "optim.base_lr": Official(5e-4, TUNE, 72),
        "optim.min_lr": Official(1e-6, MAIN_TUNE, 73),
        "optim.weight_decay": Official(0.05, TUNE, 73),
        "optim.betas": Official((0.9, 0.999), MAIN_TUNE, 287),  # PyTorch's default
        "optim.layer_decay": Official(0.65, TUNE, 72),
        "optim.decay_biases": Official(False, "util/lr_decay.py", 32),
        "optim.drop_last": Official(True, MAIN_TUNE, 207),
        "run.precision": Departs("auto", "16-mixed", "engine_finetune.py", 55, BF16),
    }),
}  # fmt: skip

SETTINGS = THORAX_SETTINGS | IMAGE_SETTINGS
