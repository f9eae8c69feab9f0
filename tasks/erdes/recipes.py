"""Recipes of the ocular-ultrasound task: small ones, ViTs by VideoMAE V2, and the eight baselines of the ERDES paper.

ERDES: Ozkut et al. 2025, arXiv 2508.04735; settings from its public configuration files. VideoMAE V2: Wang et al.,
CVPR 2023. A label is chosen with `--data.labels '[non_rd_vs_rd]'`; without, one model learns all five tasks.
"""

from dataclasses import replace
from functools import partial

from ...backbone.sizes import Model
from ...datasets.settings import Clip, Data
from ...datasets.transforms.augment import Augment
from ...engine.recipe import Optim, Run
from ...finetune.recipe import Finetune, View
from ...pretrain.jepa_recipe import Jepa, Predictor
from ...pretrain.recipe import Decoder, Pretrain

# Ultrasound is dark: mean and std of the grey levels of B-scans, in 0..1.
ULTRASOUND = Data(cache_px=256, mean=(0.2,), std=(0.2,))


def pretrain_vit_s() -> Pretrain:
    """Pre-train ViT-S/16 by VideoMAE V2 on grey clips, 16 frames of 224 px: tubes 90 %, running cells 50 %.

    Command: clinvit pretrain erdes --recipe vit_s --data manifest.csv --out runs/mae
    Data: all clips of ERDES's training split (no label is used). Not run by us at this scale; the paper has no
    pre-trained model to compare with.
    """
    return Pretrain(
        mask="tube",
        mask_ratio=0.9,
        decoder_mask="running_cell",
        decode_ratio=0.5,
        target="channel",
        model=Model("small", frames=16, tubelet=2, class_token=False, positions="sine1d"),
        decoder=Decoder(192, 4, 3, embed_bias=False),
        data=replace(ULTRASOUND, clip=Clip("strided", stride=4, repeats=4)),
        augment=Augment(size=224, crop_scale=(0.5, 1.0), flip=0.5),
        optim=Optim(epochs=800, warmup_epochs=40, batch_size=64, base_lr=1e-3, min_lr=1e-5, weight_decay=0.05),
    )


def finetune_vit_s() -> Finetune:
    """Fine-tune ViT-S/16 from that encoder, settings near VideoMAE V2's; 16 frames, evenly over the whole clip.

    Command: clinvit finetune erdes --recipe vit_s --data manifest.csv --encoder runs/mae/encoder --out runs/rd
        --data.labels '[non_rd_vs_rd]'
    To be compared with the paper's 3D ResNet: sensitivity 0.939, specificity 0.978 (its table 1). Not run by us at this
    scale.
    """
    return Finetune(
        pool="mean",
        model=Model("small", frames=16, tubelet=2, class_token=False, positions="sine1d", drop_path=0.1),
        data=replace(ULTRASOUND, clip=Clip("uniform", repeats=2)),
        augment=Augment(size=224, crop_scale=(0.5, 1.0), flip=0.5, rotate_deg=10, brightness_contrast=0.2),
        view=View("squash", None, flip=True),
        optim=Optim(
            epochs=50, warmup_epochs=5, batch_size=32, base_lr=1e-3, min_lr=1e-6, weight_decay=0.05,
            betas=(0.9, 0.999), layer_decay=0.75,
        ),
    )  # fmt: skip


def pretrain_tiny() -> Pretrain:
    """Pre-train a small ViT on 2 CPU cores with hundreds of clips: 16 frames of 96 px, ten minutes.

    Command: clinvit pretrain erdes --recipe tiny --data manifest.csv --out runs/tiny
    """
    big = pretrain_vit_s()
    return replace(
        big,
        model=replace(big.model, size="mini", image_size=96),
        decoder=Decoder(96, 1, 3, embed_bias=False),
        data=replace(big.data, cache_px=112, clip=Clip("strided", stride=2, repeats=2)),
        augment=replace(big.augment, size=96, crop_scale=(0.4, 1.0)),
        optim=replace(big.optim, epochs=200, warmup_epochs=20, batch_size=32, base_lr=4e-3, clip_norm=1.0),
    )


def finetune_tiny() -> Finetune:
    """Fine-tune from `tiny`; no epoch is chosen by score.

    Command: clinvit finetune erdes --recipe tiny --data manifest.csv --encoder runs/tiny/encoder --out runs/tiny-rd
    """
    big = finetune_vit_s()
    return replace(
        big,
        select="last",
        eval_every=10,
        patch_drop=0.5,
        model=replace(big.model, size="mini", image_size=96),
        data=replace(big.data, cache_px=112, clip=Clip("uniform")),
        augment=replace(big.augment, size=96),
        optim=replace(big.optim, epochs=40, warmup_epochs=4, batch_size=16, base_lr=1.6e-2, layer_decay=0.85),
    )


def pretrain_jepa_s() -> Jepa:
    """Pre-train ViT-S/16 by latent prediction (V-JEPA 2) on grey clips, 16 frames of 224 px at 15 frames a second.

    Command: clinvit pretrain erdes --recipe jepa_s --data manifest.csv --out runs/jepa
    Its paper's masks, loss and optimiser; a smaller predictor for the smaller encoder, and a moving average that is
    quicker for fewer steps. Not run by us at this scale.
    """
    like = pretrain_vit_s()
    return Jepa(
        momentum=0.998,
        model=replace(like.model, positions="sine3d"),
        predictor=Predictor(192, 6, 6),
        data=replace(ULTRASOUND, clip=Clip("strided", stride=1, repeats=2, fps=15)),
        augment=Augment(size=224, crop_scale=(0.3, 1.0), crop_ratio=(0.75, 1.35), flip=0.5),
        optim=Optim(
            epochs=400, warmup_epochs=40, batch_size=64, base_lr=5e-4, min_lr=1e-6, weight_decay=0.04,
            betas=(0.9, 0.999),
        ),
    )  # fmt: skip


def pretrain_jepa_tiny() -> Jepa:
    """Pre-train a small ViT by latent prediction on 2 CPU cores with hundreds of clips: 16 frames of 96 px.

    Command: clinvit pretrain erdes --recipe jepa_tiny --data manifest.csv --out runs/jepa-tiny
    """
    big, tiny = pretrain_jepa_s(), pretrain_tiny()
    return replace(
        big,
        momentum=0.99,
        model=replace(tiny.model, positions="sine3d"),
        predictor=Predictor(96, 2, 3),
        data=tiny.data,
        augment=replace(big.augment, size=96),
        optim=replace(big.optim, epochs=200, warmup_epochs=20, batch_size=32, base_lr=4e-3, clip_norm=1.0),
    )


def pretrain_demo() -> Pretrain:
    """Pre-train coarsely and quickly, for the demo: 8 frames of 64 px in 32 tokens."""
    tiny = pretrain_tiny()
    return replace(
        tiny,
        mask_ratio=0.75,
        model=replace(tiny.model, size="micro", image_size=64, frames=8, tubelet=4),
        decoder=Decoder(64, 1, 2, embed_bias=False),
        data=replace(tiny.data, cache_px=80),
        augment=replace(tiny.augment, size=64),
        optim=replace(tiny.optim, epochs=120, warmup_epochs=12),
        run=Run(checkpoint_minutes=0.25),
    )


def finetune_demo() -> Finetune:
    """Fine-tune for the demo, coarsely and in many steps: a small ViT needs them on a few hundred invented clips."""
    tiny, like = finetune_tiny(), pretrain_demo()
    return replace(
        tiny,
        eval_every=20,
        patch_drop=0.0,
        model=replace(like.model, drop_path=0.0),
        data=replace(like.data, clip=Clip("uniform")),
        augment=Augment(size=64, crop_scale=(0.75, 1.0), crop_ratio=(0.9, 1.1), flip=0.5),
        optim=replace(tiny.optim, epochs=120, warmup_epochs=6, batch_size=32, base_lr=2.4e-2, layer_decay=0.9),
        run=Run(checkpoint_minutes=0.25),
    )


def finetune_demo_cnn() -> Finetune:
    """Fine-tune the UNet++ encoder on 16 frames of 48 px, for the demo."""
    paper = baseline("unetplusplus")
    return replace(
        paper,
        select="last",
        eval_every=6,
        model=replace(paper.model, image_size=48, frames=16),
        augment=replace(paper.augment, size=48),
        optim=replace(paper.optim, epochs=6, batch_size=8, base_lr=1.6e-2, schedule="cosine", clip_norm=1.0),
        run=Run(checkpoint_minutes=0.25),
    )


# Clips per step, over all devices, of each baseline; and those trained at a constant rate.
BATCHES = {
    "vit3d": 24,
    "unetr": 96,
    "senet154": 48,
    "swinunetr": 12,
    "vnet": 96,
    "resnet3d": 24,
    "unetplusplus": 48,
    "unet3d": 24,
}
CONSTANT_RATE = ("senet154", "vnet")


def baseline(network: str) -> Finetune:
    """Train a baseline of the ERDES paper: 96 frames of 128 px, Adam 1.5e-5, 50 epochs, the epoch of best accuracy.

    Command, any row of the paper's tables 1 to 3, such as PVD against Normal by the strongest 30 % of the time steps:
        clinvit finetune erdes --recipe unet3d --data manifest.csv --out runs/unet3d --data.labels '[normal_vs_pvd]'
        --pool topk --pool_ratio 0.3
    For macula_detached_vs_intact the paper keeps the rate constant: --optim.schedule constant.
    Scores to expect: the facts of tables 1 to 3 (3D U-Net, Non-RD vs RD: sensitivity 0.920, specificity 0.988). Not
    run by us at this scale. Cost: one clip takes 2 to 6 GB and 8 to 92 s a step on one CPU thread: a GPU is needed.
    """
    batch = BATCHES[network]
    return Finetune(
        network=network,
        select="accuracy",
        model=Model(image_size=128, frames=96, tubelet=2, class_token=False, positions="sine1d"),
        data=Data(clip=Clip("volume"), mean=(0.0,), std=(1.0,)),
        augment=Augment(size=128, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0),
        view=View("squash", None),
        optim=Optim(
            epochs=50, warmup_epochs=0, batch_size=batch, base_lr=1.5e-5 * 256 / batch, weight_decay=0.0,
            betas=(0.9, 0.999), schedule="constant" if network in CONSTANT_RATE else "plateau", drop_last=False,
        ),
        run=Run(seed=42, precision="32-true"),
    )  # fmt: skip


def baseline_of_table(network: str, task: str, top_share: float | None = None) -> Finetune:
    """Train a baseline as in a row of the paper's tables.

    Args:
        network: One of `BATCHES`.
        task: The label it is trained on; for the macula the rate stays constant whatever the network.
        top_share: Share of the time steps that are averaged (table 3); None for the mean of all.
    """
    recipe = baseline(network)
    if top_share is not None:
        recipe = replace(recipe, pool="topk", pool_ratio=top_share)
    if task == "macula_detached_vs_intact":
        recipe = replace(recipe, optim=replace(recipe.optim, schedule="constant"))
    return recipe


def unet3d_globe_top30() -> Finetune:
    """Train the best row for PVD on one's own scans: clips cropped to the globe, the strongest 30 % of the time steps.

    Command: clinvit finetune erdes --recipe unet3d_globe_top30 --data manifest.csv --out runs/top30
        --data.labels '[normal_vs_pvd]'
    `roi.csv` beside the manifest holds a globe detector's boxes; `--data.clip.roi moving` does without one. ERDES's
    own clips have been cropped to the globe by their authors: with `--data.clip.roi none` this is the row of table 3
    (sensitivity 0.807, specificity 0.977, accuracy 0.955). Not run by us at this scale.
    """
    recipe = baseline_of_table("unet3d", "normal_vs_pvd", 0.3)
    return replace(recipe, data=replace(recipe.data, clip=replace(recipe.data.clip, roi="boxes")))


def _baseline(network: str):
    """Return the function that makes a baseline's recipe, with a line of help of its own."""
    make = partial(baseline, network)
    make.__doc__ = f"{network}, baseline of the ERDES paper.\n{baseline.__doc__}"
    return make


PRETRAIN = {
    "demo": pretrain_demo,
    "tiny": pretrain_tiny,
    "vit_s": pretrain_vit_s,
    "jepa_tiny": pretrain_jepa_tiny,
    "jepa_s": pretrain_jepa_s,
}
FINETUNE = {
    "demo": finetune_demo,
    "demo_cnn": finetune_demo_cnn,
    "tiny": finetune_tiny,
    "vit_s": finetune_vit_s,
    "unet3d_globe_top30": unet3d_globe_top30,
} | {network: _baseline(network) for network in BATCHES}
