"""What a fine-tuning does otherwise where it draws: what of the recipe applies, its truth, data sets and thresholds."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...core.errors import DataError, UserError
from ...core.pixels import normalised
from ...datasets.loading.loaders import Cases, eval_loader
from ...datasets.loading.source import Source
from ...datasets.manifest.regions import regions_of
from ...datasets.manifest.tables import Manifest
from ..model import ModelCard, best_device
from ..recipe import Finetune
from .cases import DrawnEvalView, DrawnTrainView, WithRegions
from .training import Drawing, best_thresholds, pixel_counts

# What mixes, hides or moves pixels without their truth, or is for labels; with its value that leaves it out.
OF_LABELS: dict[str, Any] = {
    "mixup": 0.0, "cutmix": 0.0, "erase": 0.0, "label_smoothing": 0.0, "patch_drop": 0.0, "head_drop": 0.0,
}  # fmt: skip
MIDDLE = 0.5  # threshold of a pixel where no validation case says which is best


def check_dense(recipe: Finetune, manifest: Manifest) -> None:
    """Refuse what cannot draw.

    Raises:
        UserError: Says what, and what to do.
    """
    what = f"--target {recipe.target}"
    if recipe.model.frames > 1:
        raise UserError(f"{what} is for images, not for clips: nothing draws over time. Leave it out.")
    if recipe.network != "vit":
        raise UserError(f"{what} draws on the tokens of a ViT of ours, not of {recipe.network!r}: set --network vit.")
    if manifest.kinds:
        names = ", ".join(each.name for each in manifest.kinds)
        raise UserError(f"{what} is for findings, not for {names}: name labels, --data.labels '[...]'.")
    if recipe.mode in ("attentive", "knn"):
        raise UserError(f"mode {recipe.mode!r} pools the tokens, {what} draws on each: take full, linear or lora.")
    for name, off in (("loss", "bce"), ("scales", (1,)), ("idle", 0.0), ("contexts", ()), ("head_norm", "none")):
        if getattr(recipe, name) != off:
            raise UserError(f"{name} {getattr(recipe, name)} does not go with {what}: leave it out.")
    if recipe.select not in ("best", "last"):
        raise UserError(f"--select {recipe.select} is for labels: best (Dice on validation) or last with {what}.")
    if recipe.view.segments > 1 or recipe.view.crops > 1:
        raise UserError(f"view.segments and view.crops do not go with {what}: the whole image is drawn at once.")


def drawing_recipe(recipe: Finetune) -> tuple[Finetune, list[str]]:
    """Return the recipe without what moves pixels away from their truth, and what was changed, in words."""
    changes = {name: off for name, off in OF_LABELS.items() if getattr(recipe, name) != off}
    said = [f"{name} {getattr(recipe, name):g}" for name in changes]
    augment, view = recipe.augment, recipe.view
    if augment.randaug is not None:
        augment, said = replace(augment, randaug=None), [*said, f"augment.randaug {augment.randaug}"]
    if view.mode == "crop":
        view, said = replace(view, mode="pad", resize_px=None), [*said, "view.mode crop (pad shows the whole image)"]
    if view.flip:  # of which the scores could be averaged, but the maps are of one view
        view, said = replace(view, flip=False), [*said, "view.flip true"]
    return replace(recipe, augment=augment, view=view, **changes), said


def drawing_card(recipe: Finetune, card: ModelCard) -> ModelCard:
    """Return the card of a model that draws; its thresholds are chosen after training."""
    return replace(card, dense={"target": recipe.target} | asdict(recipe.dense))


class Truth:
    """Where the findings of a training are.

    Args:
        recipe: Its target is boxes or masks.
        manifest: With the labels that are learned.

    Raises:
        DataError: There are none, or none in the training cases.
    """

    def __init__(self, recipe: Finetune, manifest: Manifest):
        self.recipe, self.manifest = recipe, manifest
        self.regions = regions_of(manifest, recipe.target)
        splits = manifest.table["split"]
        drawn = self.regions.present()
        of_training = drawn[splits.isin(recipe.data.splits).to_numpy()]
        for label, count in zip(manifest.labels, of_training.sum(axis=0)):
            if not count:
                rest = [name for name, more in zip(manifest.labels, of_training.sum(axis=0)) if more]
                remedy = f"--data.labels '[{', '.join(rest)}]'" if rest else "draw some, or learn labels"
                raise DataError(
                    f"{manifest.path}: no {recipe.target} of {label!r} in the training cases: nothing to learn. Leave "
                    f"it out: {remedy}."
                )
        if recipe.select == "best" and not drawn[(splits == "val").to_numpy()].any():
            raise DataError(
                f"{manifest.path}: no {recipe.target} in the split val, so no best epoch can be chosen. Give some "
                "drawn patients the split val, or take the last epoch with --select last."
            )

    @property
    def known(self) -> np.ndarray:
        """Return (N,) of which cases it is known where one finding or more is, or is not."""
        return self.regions.known.any(axis=1)

    def inputs(self) -> dict[str, str]:
        """Return what else decides the result of the run."""
        return {"truth": self.regions.fingerprint()}

    def words(self) -> list[str]:
        """Return what is learned, line by line."""
        splits, drawn = self.manifest.table["split"], self.regions.present()
        counts = [
            f"{split} {int(rows.sum()):,} findings of {int(rows.any(axis=1).sum()):,} cases"
            for split in ("train", "val", "test")
            if (rows := drawn[(splits == split).to_numpy()]).any()
        ]
        return [f"{self.recipe.target}: {'; '.join(counts)}", *(f"note: {note}" for note in self.regions.notes)]

    def train_set(self, source: Source, targets: np.ndarray, max_bad: float) -> Cases:
        """Return the training set."""
        pairs: Any = WithRegions(source.pixels, self.regions)
        return Cases(pairs, source.rows, DrawnTrainView(self.recipe.augment), targets, max_bad)

    def val_set(self, source: Source, rows: np.ndarray, card: ModelCard, targets: np.ndarray) -> Cases:
        """Return the validation set."""
        pairs: Any = WithRegions(source.pixels, self.regions)
        return Cases(pairs, rows, DrawnEvalView(card.views()), targets, max_bad=1.0)

    def training(self, model, card: ModelCard, train: Cases, val: Cases, ids: Sequence[str], folder: Path) -> Drawing:
        """Return the training."""
        return Drawing(model, self.recipe, card, train, val, ids, folder)

    @torch.inference_mode()
    def with_thresholds(self, card: ModelCard, model, val: Cases) -> ModelCard:
        """Return the card with the threshold of each label's pixels that gives the best Dice on validation."""
        found: list[float | None] = [None] * len(card.labels)
        if len(val):
            device = best_device()
            model.to(device).eval()
            parts = []
            for batch in eval_loader(val, 64, 0):
                pixels = normalised(batch["image"].to(device), card.mean, card.std)
                parts.append(pixel_counts(model(pixels), batch["truth"].to(device)))
            found = best_thresholds(torch.stack(parts).sum(dim=0).cpu().numpy())
            model.cpu()
        thresholds = {
            label: {"value": MIDDLE if value is None else value, "split": "" if value is None else "val"}
            for label, value in zip(card.labels, found, strict=True)
        }
        return replace(card, dense=card.dense | {"thresholds": thresholds})
