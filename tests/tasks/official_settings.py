"""The settings of the official codes, by recipe: eye clips and slides here, the others in the files beside."""

from functools import partial

from clinvit.tasks.erdes import recipes as erdes
from clinvit.tasks.slides import recipes as slides

from . import official_images, official_video
from .official_entries import (
    AUGMENT_OFF,
    BF16,
    CASES,
    CNN,
    FULL,
    IMAGE,
    MACHINE,
    NO_BATCH_NORM,
    NO_FRAMES,
    ONE_VIEW,
    OPTIM_OFF,
    SCRATCH,
    Departs,
    Entry,
    Free,
    Official,
    Settings,
    free,
    off,
)

ERDES = "github.com/OSUPCVLab/ERDES@cd1a216"
SELF_VIT_MIL = "github.com/gokberkgul/self-learning-transformer-mil@a3c3236"

# Our name: the official one, line of the batch in configs/experiment/non_rd_vs_rd, clips a step.
BASELINES = {
    "vit3d": ("vit", 31, 24),
    "unetr": ("unetr", 31, 96),
    "senet154": ("senet", 32, 48),
    "swinunetr": ("swinunetr", 31, 12),
    "vnet": ("vnet", 32, 96),
    "resnet3d": ("resnet3d", 31, 24),
    "unetplusplus": ("unetplusplus", 31, 48),
    "unet3d": ("unet3d", 31, 24),
}
WHOLE_CLIP = "the whole clip is padded and resampled; nothing is drawn"
CLIP_SET, RESIZE, MODULE = (
    "erdes/data/components/erdes_dataset.py", "erdes/data/components/utils.py", "erdes/models/model_module.py"
)  # fmt: skip


def _baseline(network: str, task: str = "non_rd_vs_rd", top_share: float | None = None) -> Settings:
    """Return a baseline of ERDES as the experiment of one task sets it."""
    name, line, batch = BASELINES[network]
    macula = task == "macula_detached_vs_intact"
    file = f"configs/experiment/{task}/{name}.yaml"
    model, data = f"configs/model/{name}.yaml", "configs/data/erdes.yaml"
    constant = macula or network in ("senet154", "vnet")
    pool: dict[str, Entry] = {"pool": Official("mean", model, 19)}
    if top_share is not None:
        top = f"configs/experiment/{task}_topk_{top_share * 100:.0f}_ceil/{name}.yaml"
        pool = {"pool": Official("topk", top, 27), "pool_ratio": Official(top_share, top, 28)}
    return Settings(partial(erdes.baseline_of_table, network, task, top_share), ERDES, {
        **MACHINE, **CASES, **OPTIM_OFF, **AUGMENT_OFF, **FULL, **ONE_VIEW, **CNN, **pool,
        **free("data.clip.stride augment.interpolation augment.crop_ratio model.tubelet", WHOLE_CLIP),
        **off("the official clips are taken as they are", data__clip__black_out=False, data__clip__fps=None,
              data__clip__roi="none", data__clip__roi_margin=0.05),
        "network": Official(network, model, 18),
        "loss": Official("bce", MODULE, 65),
        "label_smoothing": Official(0.0, MODULE, 65),
        "head_drop": Free("the networks bring their own dropout"),
        "select": Official("accuracy", "configs/callbacks/default.yaml", 11),
        "eval_every": Official(1, "configs/trainer/default.yaml", 15),
        "erase": Official(0.0, CLIP_SET, 52),
        "mixup": Official(0.0, CLIP_SET, 52),
        "cutmix": Official(0.0, CLIP_SET, 52),
        "model.image_size": Official(128, data, 6),
        "model.frames": Official(96, data, 6),
        "model.channels": Official(1, CLIP_SET, 49),
        "data.cache_px": Departs(256, "the file's own pixels", RESIZE, 63,
                                 "clips are kept at 256 px on the shorter side, twice what the networks see"),
        "data.clip.sampling": Official("volume", RESIZE, (62, 63)),
        "data.clip.repeats": Official(1, CLIP_SET, 52),
        "data.mean": Official((0.0,), CLIP_SET, 55),
        "data.std": Official((1.0,), CLIP_SET, 55),
        "augment.size": Official(128, data, 6),
        "augment.crop_scale": Official((1.0, 1.0), CLIP_SET, 52),
        "augment.flip": Official(0.0, CLIP_SET, 52),
        "view.mode": Official("squash", RESIZE, (62, 63)),
        "view.resize_px": Official(None, RESIZE, 63),
        "optim.epochs": Official(50, file, 22),
        "optim.warmup_epochs": Official(0, model, 10),
        "optim.schedule": Official("constant", file, 28) if constant else Official("plateau", model, (10, 13, 14)),
        "optim.batch_size": Official(batch, file, 32 if macula else line),
        "optim.base_lr": Official(1.5e-5 * 256 / batch, file, 27),
        "optim.min_lr": Official(0.0, model, 10),
        "optim.weight_decay": Official(0.0, model, 7),
        "optim.betas": Official((0.9, 0.999), model, 4),  # PyTorch's default
        "optim.clip_norm": Official(None, file, 23),
        "optim.accumulate": Official(1, "configs/trainer/default.yaml", 1),  # Lightning's default
        "optim.optimizer": Departs("adamw", "adam", model, 4, "without weight decay they are the same"),
        "optim.decay_biases": Free("there is no weight decay"),
        "optim.drop_last": Official(False, "erdes/data/erdes_datamodule.py", 60),
        "run.seed": Official(42, file, 18),
        "run.precision": Official("32-true", "configs/trainer/default.yaml", 12),
        "run.sync_batchnorm": Official(True, "configs/trainer/ddp.yaml", 9),
    })  # fmt: skip


MACULA = "macula_detached_vs_intact"
ERDES_SETTINGS = (
    {f"erdes/{network}": _baseline(network) for network in BASELINES}
    | {f"erdes/{network} of the macula": _baseline(network, MACULA) for network in BASELINES}
    | {"erdes/unet3d, top 30 %": _baseline("unet3d", "normal_vs_pvd", 0.3)}
)

DINO, SAVE, TILES = "src/vit/train_dino.py", "src/vit/save_embeddings.py", "src/preprocessing/extract_patches.py"
MIL, DSMIL, HEAD = "src/dsmil/train.py", "src/dsmil/dsmil.py", "src/vit/vision_transformer.py"
TISSUE = free(
    "tissue.overview_mpp tissue.min_island_um2 tissue.max_hole_um2 tissue.remove_ink", "only for tissue by saturation"
)
UNJUDGED = {
    **off("no tile is left out for its quality", quality__measure=False),
    **off("no tile is left out for its quality", quality__min_sharpness=None, quality__max_fold=None),
    **off("no tile is left out for its quality", quality__max_pen=None, quality__max_bubble=None),
}
MACENKO = {"stain.method": Official("macenko", TILES, 132), "stain.scope": Official("tile", TILES, 132)}

SLIDE_SETTINGS = {
    # 20x is 0.5 microns per pixel where a slide states its pixels only, as Camelyon16's do (large_image: 0.01 mm / x).
    "slides/tile self_vit_mil": Settings(slides.tile_self_vit_mil, SELF_VIT_MIL, TISSUE | UNJUDGED | {
        "tile_um": Official(224 * 0.5, TILES, (20, 22)),
        "tile_px": Official(224, TILES, 22),
        "overlap_um": Official(0.0, TILES, 24),
        "min_tissue": Official(0.75, TILES, 26),
        "tissue.method": Official("grey", TILES, (79, 128)),
    }),
    "slides/pretrain self_vit_mil": Settings(slides.pretrain_self_vit_mil, SELF_VIT_MIL, {
        **MACHINE, **NO_FRAMES, **CASES, **OPTIM_OFF, **NO_BATCH_NORM, **IMAGE, **MACENKO, **SCRATCH,
        **free("data.cache_px monitor", "tiles have their own size; monitoring trains nothing"),
        **off("the official crops are not turned", crops__turns=False),
        "momentum": Official(0.996, DINO, 63),
        "student_temp": Official(0.1, DINO, 373),
        "teacher_temp": Official(0.04, DINO, 73),
        "warmup_teacher_temp": Official(0.04, DINO, 70),
        "warmup_teacher_temp_epochs": Official(0, DINO, 76),
        "centre_momentum": Official(0.9, DINO, 374),
        "tiles_per_slide": Official(1024, DINO, 151),
        "head.out_dim": Official(65536, DINO, 57),
        "head.hidden": Official(2048, HEAD, 424),
        "head.bottleneck": Official(256, HEAD, 424),
        "head.norm_last_layer": Official(True, DINO, 59),
        "head.freeze_epochs": Official(1, DINO, 95),
        **off("DINOv2 adds these", centring="centre", koleo=0.0, registers=0, ibot__weight=0.0),
        **free("ibot.images ibot.mask_ratio ibot.separate_head", "no patch is masked"),
        "crops.local_crops": Official(8, DINO, 114),
        "crops.local_px": Official(96, DINO, 460),
        "crops.global_scale": Official((0.4, 1.0), DINO, 110),
        "crops.local_scale": Official((0.05, 0.4), DINO, 117),
        "crops.flip": Official(0.5, DINO, 430),
        "crops.jitter": Official(0.8, DINO, 433),
        "crops.brightness": Official(0.4, DINO, 432),
        "crops.contrast": Official(0.4, DINO, 432),
        "crops.saturation": Official(0.2, DINO, 432),
        "crops.hue": Official(0.1, DINO, 432),
        "crops.grey": Official(0.2, DINO, 435),
        "crops.blur": Official((1.0, 0.1, 0.5), DINO, (446, 453, 462)),
        "crops.solarise": Official(0.2, DINO, 454),
        "model.size": Official("base", SAVE, 32),  # the script's own default is small
        "model.image_size": Official(224, DINO, 444),
        "model.patch_size": Official(16, DINO, 52),
        "model.channels": Official(3, HEAD, 302),
        "model.class_token": Official(True, HEAD, 310),
        "model.positions": Official("learned", HEAD, 311),
        "model.drop_path": Official(0.1, DINO, 107),
        "model.checkpoint_blocks": Official(False, HEAD, 302),
        "data.mean": Official((0.6223, 0.4763, 0.6009), DINO, 439),
        "data.std": Official((0.2012, 0.2190, 0.1722), DINO, 439),
        "optim.epochs": Official(100, DINO, 94),
        "optim.warmup_epochs": Official(10, DINO, 101),
        "optim.schedule": Official("cosine", "src/vit/utils.py", 176),
        "optim.batch_size": Official(64, DINO, 92),  # of one GPU; how many the paper had is not known
        "optim.base_lr": Official(5e-4, DINO, 98),
        "optim.min_lr": Official(1e-6, DINO, 103),
        "optim.weight_decay": Official(0.04, DINO, 84),
        "optim.weight_decay_end": Official(0.4, DINO, 86),
        "optim.betas": Official((0.9, 0.999), DINO, 235),  # PyTorch's default
        "optim.clip_tensor_norm": Official(3.0, DINO, 89),
        "optim.accumulate": Official(1, DINO, 345),
        "optim.optimizer": Official("adamw", DINO, 105),
        "optim.decay_biases": Official(False, "src/vit/utils.py", 621),
        "optim.drop_last": Official(True, DINO, 159),
        "run.seed": Official(0, DINO, 130),
        "run.precision": Departs("auto", "16-mixed", DINO, 80, BF16),
    }),
    "slides/extract self_vit_mil": Settings(slides.extract_self_vit_mil, SELF_VIT_MIL, MACENKO | {
        **free("batch_size workers tile_level0_px", "where and how it runs"),
        **off("the official features are of one scale, 32 bits each", scales=(1,), dtype="float32"),
        "features": Official("class4_mean", SAVE, (110, 111, 112)),
        "precision": Official("32-true", SAVE, (109, 110)),
    }),
    "slides/mil self_vit_mil": Settings(slides.mil_self_vit_mil, SELF_VIT_MIL, {
        **{key: value for key, value in MACHINE.items() if key.startswith("run.")}, **CASES, **OPTIM_OFF,
        **free("run.sync_batchnorm", "the aggregator has no batch norm"),
        **free("instance_loss instance_weight", "of CLAM alone"),
        **free("optim.drop_last", "a step has one bag"),
        **off("the official bags are whole and as they are", standardise=False, instance_dropout=0.0,
              max_instances=None, balance="none"),
        "aggregator": Official("self_vit_mil", MIL, (140, 141, 142)),
        "hidden": Official(0, DSMIL, 9),
        "attention": Official(128, DSMIL, 31),
        "dropout": Official(0.0, DSMIL, 29),
        "loss": Official("bce", MIL, 143),
        "score": Official("bag", MIL, 78),
        "select": Official("composite", MIL, (165, 176)),
        "eval_every": Official(1, MIL, 164),
        "optim.epochs": Official(200, MIL, 130),
        "optim.warmup_epochs": Official(0, MIL, 146),
        "optim.schedule": Official("cosine_epoch", MIL, (146, 175)),
        "optim.batch_size": Official(1, MIL, (41, 53)),
        "optim.base_lr": Official(2e-4 * 256, MIL, 129),
        "optim.min_lr": Official(5e-6, MIL, 146),
        "optim.weight_decay": Official(5e-3, MIL, 132),
        "optim.betas": Official((0.5, 0.9), MIL, 145),
        "optim.accumulate": Official(1, MIL, 53),
        "optim.optimizer": Official("adam", MIL, 145),
        "optim.decay_biases": Official(True, MIL, 145),
        "run.seed": Departs(0, None, MIL, 160, "a run of ours can be repeated; the official one sets no seed"),
        "run.precision": Official("32-true", MIL, 40),
    }),
}  # fmt: skip

SETTINGS = official_images.SETTINGS | official_video.SETTINGS | ERDES_SETTINGS | SLIDE_SETTINGS
