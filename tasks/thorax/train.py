"""Train on chest X-rays, from pixels to a report, in one file that can be read at once: copy it, change what you like.

    python -m clinvit.tasks.thorax.train manifest.csv --out runs/thorax --epochs 60

Data, model, loss, training, report stand in this order. Repeating the command continues. `clinvit finetune thorax` does
the same from a cache of decoded files, and faster.
"""

from pathlib import Path

import numpy as np
from clinvit.backbone.sizes import Model
from clinvit.datasets import read_manifest, read_radiograph
from clinvit.datasets.manifest.tables import Manifest
from clinvit.datasets.settings import Data
from clinvit.datasets.transforms.augment import Augment
from clinvit.engine.recipe import Optim, Run
from clinvit.eval import Evaluation, evaluate
from clinvit.finetune import Finetune, View, finetune
from clinvit.pretrain import Decoder, Pretrain, pretrain
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.utils.data import Dataset


class Radiographs(Dataset):
    """The X-rays of a manifest: (H, W) uint8, and a vector of 0, 1 and NaN (unknown)."""

    def __init__(self, manifest: Manifest, shorter_px: int):
        self.files, self.targets, self.shorter_px = manifest.files(), manifest.targets(), shorter_px
        self.ids, self.patients = manifest.table["id"].tolist(), manifest.table["patient"].tolist()
        self.studies = manifest.table["study"].tolist() if "study" in manifest.table else None

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        levels = read_radiograph(self.files[index], shorter_px=self.shorter_px)
        return np.rint(levels * 255).astype(np.uint8), self.targets[index]


def loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the binary cross-entropy of (B, L) logits over the labels that are known."""
    known = ~target.isnan()
    return binary_cross_entropy_with_logits(logits[known], target[known])


def main(
    data: Path,
    out: Path = Path("runs/thorax"),
    size: str = "mini",
    image_size: int = 128,
    mask_ratio: float = 0.75,
    pretrain_epochs: int = 320,
    epochs: int = 60,
    batch_size: int = 64,
    unit: str | None = None,
    seed: int = 0,
) -> None:
    """Pre-train on the training images, fine-tune from that encoder, evaluate on the test split.

    Args:
        data: The manifest (`clinvit prepare thorax` makes one).
        out: Folder of the runs and the report.
        size: Of the ViT: `mini`, `tiny`, `small`, `base`, ... (`clinvit.backbone.sizes`).
        image_size: Side of the input, pixels; patches have 16.
        mask_ratio: Share of the patches that pre-training masks.
        pretrain_epochs: Length of pre-training.
        epochs: Length of fine-tuning.
        batch_size: Images per step of pre-training; fine-tuning takes a quarter.
        unit: `study` or `patient`, to score these by the largest score of their images; none scores images.
        seed: Of everything random.
    """
    manifest = read_manifest(data)
    train, val, test = (Radiographs(manifest.rows(split), image_size * 5 // 4) for split in ("train", "val", "test"))
    model = Model(size, image_size=image_size, patch_size=16, class_token=False)
    run = Run(seed=seed)

    pretraining = Pretrain(
        mask_ratio=mask_ratio, target="patch", model=model, decoder=Decoder(96, 1, 3),
        augment=Augment(size=image_size, crop_scale=(0.4, 1.0), flip=0.5),
        optim=Optim(pretrain_epochs, pretrain_epochs / 10, batch_size=batch_size, base_lr=8e-3, clip_norm=1.0), run=run,
    )  # fmt: skip
    encoder = pretrain(pretraining, data=train, out=out / "pretrain")

    finetuning = Finetune(
        model=model, select="last", view=View("squash", None, flip=True), data=Data(labels=manifest.labels),
        augment=Augment(size=image_size, crop_scale=(0.5, 1.0), flip=0.5, rotate_deg=5),
        optim=Optim(
            epochs, epochs / 10, batch_size=max(1, batch_size // 4), base_lr=1.6e-2, betas=(0.9, 0.999),
            layer_decay=0.85, clip_norm=1.0,
        ),
        run=run,
    )  # fmt: skip
    place = out / "model"
    finetune(finetuning, data=train, val=val, test=test, out=place, encoder=encoder, loss=loss, unit=unit)
    print(evaluate({"model": out / "model"}, out / "report", data=manifest, evaluation=Evaluation(unit=unit)))


if __name__ == "__main__":
    auto_cli(main)
