"""Recipes of the slides task: Self-ViT-MIL as published, the aggregators it is compared with, and small ones.

Gul et al., "Histopathological Image Classification based on Self-Supervised Vision Transformer and Weak Labels", SPIE
Medical Imaging 2022 (arXiv 2210.09021); settings from its public code. Metrics of the other aggregators on Camelyon16:
Li, Li and Eliceiri, CVPR 2021 (DSMIL), table 1, with features of their own.
"""

from dataclasses import replace
from functools import partial

from ...backbone.sizes import Model
from ...datasets.settings import Data
from ...datasets.slides.settings import Stain, Tiling, Tissue
from ...datasets.transforms.augment import Augment
from ...datasets.transforms.multi_crop import MultiCrop
from ...engine.recipe import Optim, Run
from ...mil.extract_recipe import Extract
from ...mil.recipe import Mil
from ...pretrain.idle_recipe import Idle
from ...pretrain.recipe import Dino, Head, Ibot, Pretrain

# Self-ViT-MIL's own statistics of stain-normalised tiles, in 0..1.
TILES = Data(mean=(0.6223, 0.4763, 0.6009), std=(0.2012, 0.2190, 0.1722))


def tile_standard() -> Tiling:
    """Cut tiles of 112 microns in 224 px (0.5 microns per pixel, nominally 20x); tissue by saturation, no pen ink.

    Command: clinvit tile slides --data manifest.csv --out tiles
    """
    return Tiling()


def tile_self_vit_mil() -> Tiling:
    """Cut the same tiles with the paper's tissue: more than 75 % of a tile darker than Otsu's threshold of an overview.

    Command: clinvit tile slides --recipe self_vit_mil --data manifest.csv --out tiles
    """
    return Tiling(tissue=Tissue(method="grey"))


def tile_demo() -> Tiling:
    """Cut tiles of 64 microns in 64 px, for the small slides of the demo."""
    return Tiling(tile_um=64.0, tile_px=64, min_tissue=0.5)


def pretrain_self_vit_mil() -> Dino:
    """Pre-train ViT-B/16 by DINO on Macenko-normalised tiles, 1,024 of each slide an epoch, for the paper's features.

    Command: clinvit pretrain slides --recipe self_vit_mil --data manifest.csv --tiles tiles --out runs/dino
    Data: the 270 training slides of Camelyon16, without labels: 276,480 tiles an epoch. Not run by us at this scale.
    The official script shows local crops in a black frame of 224 px (a defect that costs the speed of small crops);
    here they are 96 px, as in DINO.
    """
    return Dino(
        tiles_per_slide=1024,
        stain=Stain("macenko", "tile"),
        model=Model("base", channels=3, positions="learned", drop_path=0.1),
    )


def pretrain_dino_s() -> Dino:
    """Pre-train ViT-S/16 by DINO, stain estimated per slide: a quarter of the cost of `self_vit_mil`.

    Command: clinvit pretrain slides --recipe dino_s --data manifest.csv --tiles tiles --out runs/dino
    Not run by us at this scale.
    """
    return Dino(tiles_per_slide=1024, stain=Stain("macenko"))


def pretrain_dinov2_s() -> Dino:
    """Pre-train ViT-S/16 as `dino_s` with DINOv2's additions: iBOT, KoLeo, Sinkhorn-Knopp, four registers.

    Command: clinvit pretrain slides --recipe dinov2_s --data manifest.csv --tiles tiles --out runs/dinov2
    Weights and masks are DINOv2's; tiles have no upright, so crops are turned. Not run by us at this scale.
    """
    like = pretrain_dino_s()
    return replace(
        like,
        momentum=0.992,
        teacher_temp=0.07,
        warmup_teacher_temp_epochs=30,
        centring="sinkhorn_knopp",
        koleo=0.1,
        registers=4,
        ibot=Ibot(weight=1.0),
        crops=MultiCrop(turns=True),
        optim=replace(like.optim, weight_decay_end=0.2),
    )


def pretrain_dinov2_s_high() -> Dino:
    """Go on from `dinov2_s` for a tenth of its epochs at 448 px, DINOv2's stage of high resolution.

    Command: clinvit pretrain slides --recipe dinov2_s_high --data manifest.csv --tiles tiles-448
        --encoder runs/dinov2/checkpoints/last.ckpt --out runs/dinov2-high
    The run's checkpoint holds the heads too, which an encoder folder does not. Not run by us at this scale.
    """
    low = pretrain_dinov2_s()
    return replace(
        low,
        warmup_teacher_temp=0.07,
        warmup_teacher_temp_epochs=0,
        registers=0,
        head=replace(low.head, freeze_epochs=0),
        crops=replace(low.crops, local_px=192),
        model=replace(low.model, image_size=448),
        optim=replace(low.optim, epochs=10, warmup_epochs=1, base_lr=1e-4, weight_decay=0.2),
    )


def pretrain_mae_s() -> Pretrain:
    """Pre-train ViT-S/16 by the masked autoencoder on tiles (75 % masked, normalised targets).

    Command: clinvit pretrain slides --recipe mae_s --data manifest.csv --tiles tiles --out runs/mae
    Not run by us at this scale; the paper does not try it.
    """
    return Pretrain(
        target="patch",
        tiles_per_slide=1024,
        stain=Stain("macenko"),
        model=Model("small", channels=3),
        data=TILES,
        augment=Augment(size=224, crop_scale=(0.5, 1.0), flip=0.5),
        optim=Optim(epochs=100, warmup_epochs=10, batch_size=1024),
    )


def pretrain_idle_s() -> Idle:
    """Make a ViT-S/16 quicker: three quarters of its hidden units idle, distilled to its own features without labels.

    Command: clinvit pretrain slides --recipe idle_s --data manifest.csv --tiles tiles --encoder runs/dino/encoder
        --out runs/idle, then clinvit export runs/idle/encoder --merge --out encoder-merged
    Merged, an encoder extracts about 1.6 times as fast on a CPU. Read the cosine that is printed at the end, and judge
    the features by the task before they take the place of the full encoder's. Not run by us at this scale.
    """
    return Idle(
        tiles_per_slide=1024,
        stain=Stain("macenko"),
        model=Model("small", channels=3, positions="learned"),
        data=TILES,
    )


def pretrain_idle_tiny() -> Idle:
    """Make the encoder of `tiny` quicker in the same way: minutes on a laptop.

    Command: clinvit pretrain slides --recipe idle_tiny --data manifest.csv --tiles tiles --encoder runs/dino/encoder
        --out runs/idle
    """
    return Idle(
        tiles_per_slide=128,
        stain=Stain("macenko"),
        model=Model("mini", image_size=64, patch_size=8, channels=3, positions="learned"),
        data=TILES,
        augment=Augment(size=64, crop_scale=(0.5, 1.0), flip=0.5),
    )


def pretrain_tiny() -> Dino:
    """Pre-train a small ViT on tiles of 64 px for a few epochs: minutes on a laptop, to try one's slides.

    Command: clinvit pretrain slides --data manifest.csv --tiles tiles --out runs/dino
    """
    return Dino(
        tiles_per_slide=128,
        stain=Stain("macenko"),
        head=Head(out_dim=1024, hidden=256, bottleneck=64),
        crops=MultiCrop(local_px=32, local_crops=4, turns=True),
        model=Model("mini", image_size=64, patch_size=8, channels=3, positions="learned", drop_path=0.1),
        data=TILES,
        optim=_dino_optim(20),
    )


def pretrain_demo() -> Dino:
    """Pre-train the demo's encoder: two minutes on 2 cores, with crops that keep the size and sharpness of nuclei.

    So short a run needs a quicker teacher and centre than the paper's; at 0.996 and 0.9 hardly anything moves.
    """
    return Dino(
        momentum=0.92,
        centre_momentum=0.5,
        tiles_per_slide=128,
        stain=Stain("macenko"),
        head=Head(out_dim=512, hidden=256, bottleneck=64),
        crops=MultiCrop(
            local_px=32, local_crops=2, turns=True, global_scale=(0.6, 1.0), local_scale=(0.25, 0.6), grey=0.0,
            solarise=0.0, brightness=0.2, contrast=0.2, saturation=0.1, hue=0.03, blur=(0.1, 0.1, 0.1),
        ),
        model=Model("micro", image_size=64, patch_size=8, channels=3, positions="learned"),
        data=TILES,
        optim=_dino_optim(3),
        run=Run(max_bad=0.2),
    )  # fmt: skip


def _dino_optim(epochs: int) -> Optim:
    return Optim(
        epochs=epochs, warmup_epochs=0.5, batch_size=64, base_lr=2e-3, min_lr=1e-5, weight_decay=0.04,
        weight_decay_end=0.4, betas=(0.9, 0.999), clip_tensor_norm=3.0,
    )  # fmt: skip


def extract_standard() -> Extract:
    """Extract class token and mean patch token of our encoder, Macenko per slide.

    Command: clinvit extract slides --data manifest.csv --tiles tiles --encoder runs/dino/encoder --out features
    """
    return Extract(features="class_mean", stain=Stain("macenko"))


def extract_demo() -> Extract:
    """Extract the demo's features: the paper's four class tokens and mean patch token, of a ViT with four blocks."""
    return Extract(features="class4_mean", stain=Stain("macenko"))


def extract_self_vit_mil() -> Extract:
    """Extract the paper's 5 x 768 values: last four class tokens and the mean patch token; Macenko per tile, fp32."""
    return Extract(features="class4_mean", stain=Stain("macenko", "tile"), precision="32-true")


def extract_timm() -> Extract:
    """Extract the features of a network of timm or a hub, without stain normalisation.

    Command: clinvit extract slides --recipe timm --data manifest.csv --tiles tiles --encoder timm:resnet50.a1_in1k
        --out features
    """
    return Extract(features="pooled")


def mil_self_vit_mil() -> Mil:
    """Train Self-ViT-MIL's aggregator: 200 epochs of Adam, one bag a step, half the loss on the highest tile.

    Command: clinvit finetune slides --recipe self_vit_mil --data manifest.csv --features features --out runs/mil
    Paper (Camelyon16, 129 test slides): accuracy 0.915, AUROC 0.943, with epoch and threshold chosen on the test
    slides; here both come from validation. Not run by us at this scale.
    """
    return Mil(select="composite")


def _named(name: str, words: str):
    make = partial(Mil, aggregator=name)
    make.__doc__ = f"{words}\n\nTrained as `self_vit_mil`."
    return make


def mil_tiny() -> Mil:
    """Train gated attention on standardised features, 20 epochs: minutes on a laptop, for up to hundreds of slides."""
    return _small("gated_attention", hidden=64, dropout=0.25)


def mil_demo() -> Mil:
    """Train the demo's Self-ViT-MIL: a higher rate and fewer epochs than the paper's, as there are 36 slides.

    Features are embedded to 64 values first, as gated attention does here: of 640 values the few slides are learned by
    heart. The last epoch is kept: on five validation slides the AUROC is often 1 after the first epoch, so that the
    best one has learned next to nothing.
    """
    return replace(_small("self_vit_mil", hidden=64, attention=64), select="last", run=Run(max_bad=0.2))


def mil_demo_attention() -> Mil:
    """Train the demo's gated attention: `tiny`, but the last epoch is kept, and a slide may be unreadable."""
    return replace(mil_tiny(), select="last", run=Run(max_bad=0.2))


def _small(aggregator: str, **settings) -> Mil:
    optim = Optim(
        epochs=20, warmup_epochs=0, batch_size=1, base_lr=1e-3 * 256, min_lr=5e-6, weight_decay=5e-3,
        betas=(0.5, 0.9), optimizer="adam",
    )  # fmt: skip
    return Mil(aggregator=aggregator, standardise=True, optim=optim, **settings)


TILE = {"standard": tile_standard, "self_vit_mil": tile_self_vit_mil, "demo": tile_demo}
EXTRACT = {
    "standard": extract_standard,
    "demo": extract_demo,
    "self_vit_mil": extract_self_vit_mil,
    "timm": extract_timm,
}
PRETRAIN = {
    "tiny": pretrain_tiny,
    "demo": pretrain_demo,
    "self_vit_mil": pretrain_self_vit_mil,
    "dino_s": pretrain_dino_s,
    "dinov2_s": pretrain_dinov2_s,
    "dinov2_s_high": pretrain_dinov2_s_high,
    "mae_s": pretrain_mae_s,
    "idle_s": pretrain_idle_s,
    "idle_tiny": pretrain_idle_tiny,
}
FINETUNE = {
    "tiny": mil_tiny,
    "demo": mil_demo,
    "demo_attention": mil_demo_attention,
    "self_vit_mil": mil_self_vit_mil,
    "dsmil": _named("dsmil", "Train DSMIL's newer dual stream (paper: accuracy 0.868, AUROC 0.894)."),
    "abmil": _named("gated_attention", "Train gated attention, Ilse et al. 2018 (in DSMIL's table: 0.845, 0.865)."),
    "transmil": _named("transmil", "Train TransMIL, Shao et al. 2021."),
    "clam_sb": _named("clam_sb", "Train CLAM with one branch, Lu et al. 2021."),
    "clam_mb": _named("clam_mb", "Train CLAM with a branch per class."),
    "max": _named("max", "Train the classifier of the highest tile (in DSMIL's table: 0.830, 0.864)."),
    "mean": _named("mean", "Train the classifier of the mean tile."),
}
