"""Train on ocular ultrasound, from clips to a report on a cascade of two models, in one file: copy it, change it.

    python -m clinvit.tasks.erdes.train manifest.csv --out runs/erdes --epochs 40

Pre-training, two models, their cascade and the report stand in this order. Repeating the command continues.
"""

from pathlib import Path

from clinvit.backbone.sizes import Model
from clinvit.datasets.settings import Clip, Data
from clinvit.datasets.transforms.augment import Augment
from clinvit.engine.recipe import Optim, Run
from clinvit.eval import Evaluation
from clinvit.finetune import Finetune, View, finetune
from clinvit.pretrain import Decoder, Pretrain, pretrain
from clinvit.stages.evaluate import evaluate_stage
from clinvit.tasks.erdes.cascade import cascade_of_runs
from jsonargparse import auto_cli

MEAN, STD = (0.2,), (0.2,)  # of the grey levels of B-scans, in 0..1: ultrasound is dark


def main(
    data: Path,
    out: Path = Path("runs/erdes"),
    size: str = "mini",
    image_size: int = 96,
    frames: int = 16,
    pretrain_epochs: int = 200,
    epochs: int = 40,
    batch_size: int = 32,
    detachment: str = "non_rd_vs_rd",
    macula: str = "macula_detached_vs_intact",
    unit: str | None = None,
    unit_rule: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> None:
    """Pre-train on the training clips, fine-tune for detachment and for the macula, evaluate the cascade.

    Args:
        data: The manifest (`clinvit prepare erdes` makes one).
        out: Folder of the runs and the report.
        size: Of the ViT: `micro`, `mini`, `tiny`, `small`, ... (`clinvit.backbone.sizes`).
        image_size: Side of the input, pixels; patches have 16.
        frames: Of a clip that the model sees, in tubelets of 2.
        pretrain_epochs: Length of pre-training.
        epochs: Length of each fine-tuning.
        batch_size: Clips per step of pre-training; fine-tuning takes half.
        detachment: Label of the first model.
        macula: Label of the second model.
        unit: What is judged: a clip, or `case` (an eye; the manifest's column `case`), `study` or `patient`, by all of
            its clips.
        unit_rule: How the scores of clips become those of their unit: `max`, `mean` or `noisy-or`.
        resamples: Of the bootstrap by patient.
        seed: Of everything random.
    """
    model = Model(size, image_size=image_size, frames=frames, tubelet=2, class_token=False, positions="sine1d")
    run, cache_px = Run(seed=seed), image_size * 7 // 6

    # Tubes mask 90 % of the clip; running cells decode half of it (VideoMAE V2).
    recipe = Pretrain(
        mask="tube", mask_ratio=0.9, decoder_mask="running_cell", decode_ratio=0.5, target="channel", model=model,
        decoder=Decoder(96, 1, 3, embed_bias=False), run=run,
        data=Data(cache_px=cache_px, clip=Clip("strided", stride=2, repeats=2), mean=MEAN, std=STD),
        augment=Augment(size=image_size, crop_scale=(0.4, 1.0), flip=0.5),
        optim=Optim(pretrain_epochs, pretrain_epochs / 10, batch_size=batch_size, base_lr=4e-3, clip_norm=1.0),
    )  # fmt: skip
    encoder = pretrain(recipe, data=data, out=out / "pretrain")

    for name, label in (("detachment", detachment), ("macula", macula)):
        recipe = Finetune(
            model=model, select="last", patch_drop=0.5, view=View("squash", None, flip=True), run=run,
            data=Data(cache_px=cache_px, clip=Clip("uniform"), mean=MEAN, std=STD, labels=(label,)),
            augment=Augment(size=image_size, crop_scale=(0.5, 1.0), flip=0.5, rotate_deg=10, brightness_contrast=0.2),
            optim=Optim(
                epochs, epochs / 10, batch_size=max(1, batch_size // 2), base_lr=1.6e-2, betas=(0.9, 0.999),
                layer_decay=0.85,
            ),
        )  # fmt: skip
        finetune(recipe, data=data, out=out / name, encoder=encoder, unit=unit, unit_rule=unit_rule)

    cascade_of_runs(out / "detachment", out / "macula", out / "cascade.csv")
    evaluation = Evaluation(resamples=resamples)
    print(evaluate_stage({"cascade": out / "cascade.csv"}, out / "report", data=data, evaluation=evaluation))


if __name__ == "__main__":
    auto_cli(main)
