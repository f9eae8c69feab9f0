"""The settings of VideoMAE V2's scripts, by recipe."""

from functools import partial

from clinvit.tasks.clips import videomae_v2

from .official_entries import (
    AUGMENT_OFF,
    BF16,
    CASES,
    FULL,
    MACHINE,
    NO_BATCH_NORM,
    NO_STAIN,
    OPTIM_OFF,
    SCRATCH,
    Departs,
    Entry,
    Free,
    Official,
    Settings,
    off,
)

SOURCE = "github.com/OpenGVLab/VideoMAEv2@29eab1e"
RUN_PRE, RUN, SETS = "run_mae_pretraining.py", "run_class_finetuning.py", "dataset/datasets.py"
PRE_SETS, MODEL = "dataset/pretrain_datasets.py", "models/modeling_pretrain.py"
TUNE_MODEL = "models/modeling_finetune.py"
DECODED = Departs(256, "the file's own pixels", SETS, 290, "frames are shrunk to 256 px, antialiased, when decoded")
AS_FILED = off(
    "the official clips are taken as they are", data__clip__black_out=False, data__clip__fps=None,
    data__clip__roi="none", data__clip__roi_margin=0.05,
)  # fmt: skip
SHARED: dict[str, Entry] = {
    **MACHINE, **CASES, **OPTIM_OFF, **AUGMENT_OFF, **NO_BATCH_NORM, **AS_FILED,
    "model.image_size": Official(224, RUN, 65),
    "model.tubelet": Official(2, RUN, 63),
    "model.channels": Official(3, TUNE_MODEL, 328),
    "model.class_token": Official(False, TUNE_MODEL, 369),
    "model.positions": Official("sine1d", TUNE_MODEL, 369),
    "data.cache_px": DECODED,
    "data.mean": Official((0.485, 0.456, 0.406), SETS, 223),
    "data.std": Official((0.229, 0.224, 0.225), SETS, 224),
    "augment.size": Official(224, RUN, 65),
    "optim.schedule": Official("cosine", "utils.py", 452),
    "optim.decay_biases": Official(False, "optim_factory.py", 67),
}  # fmt: skip

# size: script, line of the widths in modeling_pretrain.py, then option: (value, line of the script).
PRETRAINING = {
    "base": ("vit_b_hybrid_pt.sh", 391, 16, 384, 6, 4.0, {
        "gpus": (32, 13), "samples": (4, 38), "frames": (16, 39), "stride": (4, 40), "lr": (1e-3, 42),
        "opt": ("adamw", 43), "betas": ((0.9, 0.95), 44), "warmup": (20, 45), "epochs": (200, 47)}),
    "large": ("vit_l_hybrid_pt.sh", 414, 16, 512, 8, 4.0, {
        "gpus": (48, 13), "samples": (4, 40), "frames": (16, 38), "stride": (4, 39), "lr": (1e-3, 43),
        "opt": ("adamw", 42), "betas": ((0.9, 0.95), 44), "warmup": (30, 45), "epochs": (300, 47)}),
    "huge": ("vit_h_hybrid_pt.sh", 437, 16, 512, 8, 4.0, {
        "gpus": (64, 13), "samples": (4, 41), "frames": (16, 39), "stride": (4, 40), "lr": (1e-3, 44),
        "opt": ("adamw", 43), "betas": ((0.9, 0.95), 45), "warmup": (30, 46), "epochs": (300, 48),
        "checkpoint": (True, 38)}),
    "giant": ("vit_g_hybrid_pt.sh", 460, 14, 512, 8, 48 / 11, {
        "gpus": (64, 13), "samples": (4, 41), "frames": (16, 39), "stride": (4, 40), "lr": (6e-4, 44),
        "opt": ("adamw", 43), "betas": ((0.9, 0.95), 46), "warmup": (30, 47), "epochs": (300, 49), "clip": (0.02, 45),
        "checkpoint": (True, 38)}),
}  # fmt: skip
BATCH = (32, 37)  # clips on a GPU, in all four scripts


def _pretraining(size: str) -> Settings:
    name, widths, patch, width, heads, ratio, options = PRETRAINING[size]
    script = f"scripts/pretrain/{name}"

    def stated(option: str) -> Official:
        value, line = options[option]
        return Official(value, script, line)

    gpus, gpus_line = options["gpus"]
    batch = gpus * BATCH[0]
    crops = "crops lie anywhere and have any size, where the code has 13 places and 4 sizes"
    return Settings(partial(videomae_v2.pretrain, size), SOURCE, SHARED | NO_STAIN | SCRATCH | {
        "mask": Official("tube", script, 31),
        "mask_ratio": Official(0.9, script, 32),
        "decoder_mask": Official("running_cell", script, 33),
        "decode_ratio": Official(0.5, script, 34),
        "reconstruct_visible": Official(True, "engine_for_pretraining.py", (98, 104)),
        "target": Official("channel", "engine_for_pretraining.py", (84, 87)),
        "model.size": Official(size, script, 35),
        "model.image_size": Official(224, RUN_PRE, 78),
        "model.tubelet": Official(2, RUN_PRE, 48),
        "model.class_token": Official(False, MODEL, 343),
        "model.positions": Official("sine1d", MODEL, (72, 319)),
        "data.mean": Official((0.485, 0.456, 0.406), PRE_SETS, 25),
        "data.std": Official((0.229, 0.224, 0.225), PRE_SETS, 26),
        "augment.size": Official(224, RUN_PRE, 78),
        "model.patch_size": Official(patch, MODEL, widths - 1),
        "model.frames": stated("frames"),
        "model.drop_path": Official(0.0, RUN_PRE, 85),
        "model.checkpoint_blocks": stated("checkpoint") if "checkpoint" in options else Official(False, RUN_PRE, 50),
        "decoder.width": Official(width, MODEL, widths + 5),
        "decoder.depth": Official(4, script, 36),
        "decoder.heads": Official(heads, MODEL, widths + 6),
        "decoder.mlp_ratio": Official(ratio, MODEL, widths + 7),
        "decoder.embed_bias": Official(False, MODEL, 315),
        "data.clip.sampling": Official("strided", PRE_SETS, (290, 317)),
        "data.clip.stride": stated("stride"),
        "data.clip.repeats": stated("samples"),
        "augment.crop_scale": Departs((0.66**2, 1.0), "sides of 1, 0.875, 0.75, 0.66", PRE_SETS, 31, crops),
        "augment.crop_ratio": Departs((3 / 4, 4 / 3), "neighbours of those sides", "dataset/transforms.py", 398, crops),
        "augment.flip": Official(0.0, PRE_SETS, (32, 37)),
        "augment.interpolation": Official("bilinear", "dataset/transforms.py", 408),
        "optim.epochs": stated("epochs"),
        "optim.warmup_epochs": stated("warmup"),
        "optim.batch_size": Official(batch, script, (gpus_line, BATCH[1])),
        "optim.base_lr": stated("lr"),
        "optim.min_lr": Official(1e-5 * batch / 256, RUN_PRE, (156, 357)),
        "optim.weight_decay": Official(0.05, RUN_PRE, 130),
        "optim.betas": stated("betas"),
        "optim.clip_norm": stated("clip") if "clip" in options else Official(None, RUN_PRE, 118),
        "optim.accumulate": Official(1, RUN_PRE, 302),
        "optim.optimizer": stated("opt"),
        "optim.no_decay": Official(("mask_token",), MODEL, 338),
        "optim.drop_last": Official(True, RUN_PRE, 327),
        "run.seed": Official(0, RUN_PRE, 219),
        "run.precision": Departs("auto", "16-mixed", "engine_for_pretraining.py", 107, BF16),
    })  # fmt: skip


# Options that a script leaves out: the parser's default and its line in run_class_finetuning.py.
DEFAULTS = {
    "layer_decay": (0.75, 155), "drop_path": (0.1, 85), "head_drop": (0.0, 91), "warmup": (5, 173), "clip": (None, 127),
    "samples": (2, 192), "min_lr": (1e-6, 166), "stride": (4, 314), "weight_decay": (0.05, 139),
}  # fmt: skip
# data set, size: script, then option: (value, line of the script).
FINETUNING = {
    ("k400", "base"): ("vit_b_k400_ft.sh", {
        "gpus": (32, 14), "model": 32, "batch": (16, 37), "input": 38, "side": 39, "frames": 41, "stride": (4, 42),
        "opt": 44, "lr": (7e-4, 45), "betas": 46, "weight_decay": (0.05, 47), "layer_decay": (0.75, 48),
        "segments": (5, 49), "crops": 50, "epochs": (90, 51)}),
    ("k400", "large"): ("vit_l_k400_ft.sh", {
        "gpus": (32, 14), "model": 31, "batch": (6, 36), "input": 37, "side": 38, "frames": 40, "stride": (4, 41),
        "opt": 43, "lr": (2e-3, 44), "drop_path": (0.2, 45), "layer_decay": (0.75, 46), "betas": 47,
        "weight_decay": (0.05, 48), "epochs": (35, 49), "segments": (5, 50), "crops": 51}),
    ("k400", "huge"): ("vit_h_k400_ft.sh", {
        "gpus": (32, 14), "model": 32, "batch": (4, 39), "input": 40, "side": 41, "frames": 43, "stride": (4, 44),
        "samples": (2, 45), "opt": 47, "lr": (1e-3, 48), "drop_path": (0.2, 49), "head_drop": (0.5, 50),
        "layer_decay": (0.8, 51), "betas": 52, "weight_decay": (0.05, 53), "warmup": (5, 54), "epochs": (40, 55),
        "segments": (5, 56), "crops": 57}),
    ("k400", "giant"): ("vit_g_k400_ft.sh", {
        "gpus": (64, 14), "model": 32, "batch": (3, 39), "input": 40, "side": 41, "frames": 43, "stride": (4, 44),
        "samples": (2, 45), "opt": 47, "lr": (1e-3, 48), "drop_path": (0.2, 49), "layer_decay": (0.9, 50), "betas": 51,
        "weight_decay": (0.1, 52), "warmup": (5, 53), "epochs": (30, 54), "segments": (5, 55), "crops": 56}),
    ("k710", "base"): ("vit_b_k710_ft.sh", {
        "gpus": (32, 14), "model": 31, "batch": (16, 38), "input": 39, "side": 40, "frames": 42, "stride": (4, 43),
        "samples": (2, 44), "opt": 46, "lr": (7e-4, 47), "drop_path": (0.1, 48), "head_drop": (0.0, 49),
        "layer_decay": (0.75, 50), "betas": 51, "warmup": (5, 52), "epochs": (90, 53), "segments": (5, 54),
        "crops": 55}),
    ("k710", "huge"): ("vit_h_k710_ft.sh", {
        "gpus": (32, 14), "model": 31, "batch": (4, 38), "input": 39, "side": 40, "frames": 42, "stride": (4, 43),
        "samples": (2, 44), "opt": 46, "lr": (1e-3, 47), "min_lr": (1e-6, 49), "drop_path": (0.2, 50),
        "head_drop": (0.5, 51), "layer_decay": (0.8, 52), "betas": 53, "weight_decay": (0.05, 54), "warmup": (5, 55),
        "epochs": (40, 56), "segments": (5, 57), "crops": 58}),
    ("k710", "giant"): ("vit_g_k710_ft.sh", {
        "gpus": (32, 14), "model": 31, "batch": (3, 38), "input": 39, "side": 40, "frames": 42, "stride": (4, 43),
        "samples": (2, 44), "opt": 46, "lr": (1e-3, 47), "drop_path": (0.3, 48), "clip": (5.0, 49),
        "layer_decay": (0.9, 50), "betas": 51, "weight_decay": (0.1, 52), "warmup": (5, 53), "epochs": (35, 54),
        "segments": (5, 55), "crops": 56}),
    **{(f"{name}_after_k710", "giant"): (f"vit_g_k710_it_{name}_ft.sh", {
        "gpus": (32, 14), "model": 31, "batch": (3, 38), "input": 39, "side": 40, "frames": 42, "stride": (4, 43),
        "samples": (2, 44), "opt": 46, "lr": (1e-5, 47), "drop_path": (0.25, 48), "layer_decay": (0.9, 49), "betas": 50,
        "weight_decay": (0.1, 51), "warmup": (1, 52), "epochs": (3, 53), "segments": (5, 54), "crops": 55})
       for name in ("k400", "k600")},
    **{(name, "giant"): (f"vit_g_k710_it_{name}_ft.sh", {
        "gpus": (8, 17), "model": 34, "batch": (3, 41), "samples": (2, 42), "input": 43, "side": 44, "frames": 46,
        "stride": (stride, 47), "opt": 48, "lr": (rate, 49), "layer_decay": (0.9, 50), "betas": 52,
        "weight_decay": (0.05, 53), "epochs": (epochs, 54), "drop_path": (0.35, 55), "head_drop": (0.5, 56),
        "segments": (5, 57), "crops": 58})
       for name, stride, rate, epochs in (("ucf101", 4, 1e-3, 50), ("hmdb51", 2, 5e-4, 15))},
    ("ssv2", "base"): ("vit_b_ssv2_ft.sh", {
        "gpus": (16, 14), "model": 32, "batch": (16, 39), "samples": (2, 40), "input": 41, "side": 42, "frames": 44,
        "opt": 45, "lr": (2e-3, 46), "layer_decay": (0.65, 48), "betas": 49, "weight_decay": (0.05, 50),
        "epochs": (25, 51), "segments": (2, 53), "crops": 54}),
    ("ssv2", "large"): ("vit_l_ssv2_ft.sh", {
        "gpus": (32, 14), "model": 31, "batch": (6, 38), "samples": (2, 39), "input": 40, "side": 41, "frames": 43,
        "opt": 44, "lr": (5e-4, 45), "betas": 47, "weight_decay": (0.05, 48), "drop_path": (0.2, 49),
        "epochs": (20, 50), "segments": (2, 51), "crops": 52}),
    ("ssv2", "huge"): ("vit_h_ssv2_ft.sh", {
        "gpus": (32, 14), "model": 32, "batch": (4, 39), "samples": (2, 40), "input": 41, "side": 42, "frames": 44,
        "opt": 45, "lr": (5e-4, 46), "betas": 48, "weight_decay": (0.05, 49), "drop_path": (0.2, 50),
        "layer_decay": (0.8, 51), "epochs": (20, 52), "segments": (2, 53), "crops": 54}),
    ("ssv2", "giant"): ("vit_g_ssv2_ft.sh", {
        "gpus": (32, 14), "model": 31, "batch": (3, 40), "input": 41, "side": 42, "frames": 44, "stride": (4, 45),
        "samples": (2, 46), "opt": 48, "lr": (3e-4, 49), "drop_path": (0.25, 50), "layer_decay": (0.9, 51), "betas": 52,
        "weight_decay": (0.05, 53), "warmup": (5, 54), "epochs": (20, 55), "segments": (2, 56), "crops": 57}),
}  # fmt: skip
# vit_h_k600_ft.sh is left out: it starts one GPU with 4 clips, and no metric of ViT-H on K600 is published.
PATCH_LINES = {"base": 475, "large": 490, "huge": 505, "giant": 520}


def _finetuning(dataset: str, size: str) -> Settings:
    name, options = FINETUNING[dataset, size]
    script, sparse = f"scripts/finetune/{name}", dataset == "ssv2"

    def stated(option: str) -> Official:
        value, line = options[option] if option in options else DEFAULTS[option]
        return Official(value, script if option in options else RUN, line)

    gpus, batch = options["gpus"], options["gpus"][0] * options["batch"][0]
    least = stated("min_lr")
    return Settings(partial(videomae_v2.finetune, dataset, size), SOURCE, SHARED | FULL | {
        "network": Official("vit", script, options["model"]),
        "pool": Official("mean", TUNE_MODEL, 346),
        "loss": Official("ce", RUN, 773),
        "label_smoothing": Official(0.1, RUN, 204),
        "head_drop": stated("head_drop"),
        "select": Official("accuracy", RUN, 857),
        "eval_every": Official(1, RUN, 857),
        "erase": Official(0.25, RUN, 224),
        "mixup": Official(0.8, RUN, 247),
        "cutmix": Official(1.0, RUN, 252),
        "model.size": Official(size, script, options["model"]),
        "model.patch_size": Official(14 if size == "giant" else 16, TUNE_MODEL, PATCH_LINES[size]),
        "model.frames": Official(16, script, options["frames"]),
        "model.image_size": Official(224, script, options["input"]),
        "model.drop_path": stated("drop_path"),
        "model.checkpoint_blocks": Official(False, RUN, 68),
        "data.clip.sampling": Official("sparse", "dataset/build.py", (147, 152)) if sparse
        else Official("dense", SETS, (294, 313)),
        "data.clip.stride": Free("a segment gives one frame") if sparse else stated("stride"),
        "data.clip.repeats": stated("samples"),
        "augment.crop_scale": Official((0.08, 1.0), SETS, 229),
        "augment.crop_ratio": Departs((3 / 4, 4 / 3), (0.75, 1.3333), SETS, 230, "4/3, not cut off to four decimals"),
        "augment.flip": Official(0.0 if sparse else 0.5, SETS, 240),
        "augment.randaug": Official("m7-n4-mstd0.5-inc1", RUN, 196),
        "augment.randaug_first": Official(True, SETS, (216, 233)),
        "augment.fill": Official((128,), "dataset/rand_augment.py", 38),
        "augment.interpolation": Official("bilinear", "dataset/video_transforms.py", 559),
        "view.mode": Official("crop", SETS, (169, 176)),
        "view.resize_px": Official(224, script, options["side"]),
        "view.flip": Official(False, SETS, (165, 203)),
        "view.segments": stated("segments"),
        "view.crops": Official(3, script, options["crops"]),
        "optim.epochs": stated("epochs"),
        "optim.warmup_epochs": stated("warmup"),
        "optim.batch_size": Official(batch, script, (gpus[1], options["batch"][1])),
        "optim.base_lr": stated("lr"),
        "optim.min_lr": Official(least.value * batch / 256, least.file, least.line),  # scaled: run_class_finetuning 697
        "optim.weight_decay": stated("weight_decay"),
        "optim.betas": Official((0.9, 0.999), script, options["betas"]),
        "optim.layer_decay": stated("layer_decay"),
        "optim.clip_norm": stated("clip"),
        "optim.accumulate": Official(1, RUN, 53),
        "optim.optimizer": Official("adamw", script, options["opt"]),
        "optim.drop_last": Official(True, RUN, 473),
        "run.seed": Official(0, RUN, 346),
        "run.precision": Departs("auto", "fp16 by DeepSpeed", "engine_for_finetuning.py", 93, BF16),
    })  # fmt: skip


SETTINGS = {f"clips/pretrain v2_{size}": _pretraining(size) for size in PRETRAINING} | {
    f"clips/finetune v2_{size}_{dataset}": _finetuning(dataset, size) for dataset, size in FINETUNING
}
