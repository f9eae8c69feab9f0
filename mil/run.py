"""Training an aggregator on the features of a manifest's slides, to a model folder and predictions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import safetensors.torch
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from ..datasets.loading.left_out import say_left_out, write_left_out
from ..datasets.loading.loaders import eval_loader, readable_rows, reading_workers
from ..datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON, read_hashes, save_hashes, write_hashes
from ..datasets.manifest.tables import Manifest, unit_ids, write_predictions
from ..datasets.slides.bags import BagCases, BagFolder
from ..engine.launcher import alone
from ..engine.recipe import plain
from ..engine.run_folder import rank, run_folder, versions, world_size
from ..engine.trainer import fit
from ..engine.training import Training
from ..finetune.feature_limit import RECORD, Limit
from ..finetune.new_card import check_labels
from ..finetune.objectives import objective
from ..finetune.out_of_distribution import write_limit
from ..finetune.pipeline import manifest_cases, predicted
from ..finetune.run import seen_by_split
from ..finetune.starting_targets import answers, check_targets, completed, say_targets
from ..finetune.training import BEST, SELECT, FineTuning, watched
from .aggregator import Aggregator
from .balance import draw_weights, weighted_criterion
from .extract import read_pipeline
from .limit import bag_limit
from .model import MilCard, load_mil, save_mil
from .predict import BagPredictor, bag_probabilities, predict_mil
from .recipe import Mil, build_aggregator, settings
from .units import UnitBags, predict_units, units_of


class MilTraining(FineTuning):
    """Fine-tuning on bags: the best epoch is judged and kept as there."""

    # Of bags, where the base has those of images.
    model: Any
    recipe: Any
    card: Any
    train_set: Any
    val_set: Any

    def __init__(
        self, model: Aggregator, recipe: Mil, card: MilCard, train: BagCases, val: BagCases, ids: list[str],
        folder: Path, workers: int,
    ):  # fmt: skip
        Training.__init__(self, model, recipe.optim, recipe.run, ids=ids, mean=(0.0,), std=(1.0,), depth=0)
        self.recipe, self.card, self.train_set, self.val_set, self.folder = recipe, card, train, val, folder
        self.criterion = objective(card).loss
        self.workers, self.best_score, self.best_epoch = workers, -float("inf"), -1
        self.watched, self.last_of_ties = watched(recipe.select, card), recipe.select == "composite"
        if recipe.balance == "loss":
            self.criterion = weighted_criterion(train.targets[train.rows], card.labels, card.exclusive)

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of a batch of bags."""
        out = self.model(batch["features"], batch["mask"])
        return self.model.loss(out, batch["target"], batch["mask"], self.criterion)

    def val_dataloader(self):
        """Return every validation bag."""
        # One whole bag at a time: bags differ too much in size to be padded.
        return eval_loader(self.val_set, 1, self.workers)

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        """Score a bag."""
        model: Any = self.final_model.eval()
        out, target = model(batch["features"]), batch["target"]
        self.scored.append((bag_probabilities(out, None, self.card), target))
        if self.recipe.select == "composite":
            self.losses.append(model.loss(out, target, None, self.criterion).item())

    def on_validation_epoch_start(self) -> None:
        """Begin to collect scores and losses."""
        super().on_validation_epoch_start()
        self.losses: list[float] = []

    def metrics(self, scores: Tensor, target: Tensor) -> dict[str, float]:
        """Return what is logged of validation, and what the epoch may be chosen by."""
        found = super().metrics(scores, target)
        if self.recipe.select == "composite":
            truth, own = target.cpu().numpy(), scores.double().cpu().numpy()
            found["composite"] = composite(truth, own, float(np.mean(self.losses)))
        return found


def composite(truth: np.ndarray, scores: np.ndarray, loss: float) -> float:
    """Return (sum of AUROCs + accuracy + 1 - loss) / 4, by which Self-ViT-MIL's code chooses the epoch.

    A bag is right where all its labels are, each at the threshold of the largest sensitivity + specificity (of equal
    ones the highest).

    Args:
        truth: (N, L) of 0 and 1; bags with an unknown label are left out.
        scores: (N, L) probabilities.
        loss: Mean training loss of the bags.
    """
    known = ~np.isnan(truth).any(axis=1)
    truth, scores = truth[known], scores[known]
    if not len(truth) or (truth == truth[0]).all(axis=0).any():
        return -float("inf")  # an AUROC is undefined
    aurocs, right = 0.0, np.ones(len(truth), dtype=bool)
    for own, score in zip(truth.T, scores.T, strict=True):
        false, true, thresholds = roc_curve(own, score)
        aurocs += roc_auc_score(own, score)
        right &= (score >= thresholds[np.argmin(false - true)]) == own.astype(bool)
    return (aurocs + right.mean() + 1 - loss) / 4


class Parts(Protocol):
    """What a training on bags makes beside the aggregator."""

    def card(self, recipe: Mil, manifest: Manifest, bags: Any) -> Any:
        """Return the card of the model to come."""

    def seen(self) -> frozenset[str] | None:
        """Return hashes of what made the features has seen; None where that is not known."""

    def save(self, folder: Path, model: Aggregator, card: Any) -> None:
        """Write the model folder."""

    def load(self, folder: Path) -> tuple[Aggregator, Any]:
        """Read it again."""


@dataclass(frozen=True)
class SlideParts:
    """An aggregator of the features of slides.

    Attributes:
        features: Folder of these.
    """

    features: Path

    def card(self, recipe: Mil, manifest: Manifest, bags: Any) -> MilCard:
        """Return the card of the model to come."""
        return make_mil_card(recipe, manifest, bags)

    def seen(self) -> frozenset[str] | None:
        """Return hashes of what the features' encoder has seen."""
        return read_hashes(self.features / PRETRAINED_ON)

    def save(self, folder: Path, model: Aggregator, card: MilCard) -> None:
        """Write the aggregator."""
        save_mil(folder, model, card)

    def load(self, folder: Path) -> tuple[Aggregator, MilCard]:
        """Read it again."""
        return load_mil(folder)


def train_mil(recipe: Mil, manifest: Manifest, features: Path, out: Path, unit: str | None = None) -> Path:
    """Train an aggregator and write `out/model/` and `out/predictions.csv` (validation and test).

    Args:
        recipe: The resolved recipe.
        manifest: The cases.
        features: Folder with `<id>.h5` of every case; one without is failed, with its reason.
        out: The run folder. A run that was interrupted there goes on.
        unit: `patient`, `study` or `case`, whose slides are one bag; None for a bag per slide. The predictions have a
            row per slide all the same, with the score of its unit.

    Several processes share a batch; one that does not divide over them (the papers' single bag) is trained by the first
    alone.

    Returns:
        The model folder.

    Raises:
        DataError: No features, features that differ in width or encoder, or labels that cannot be learned.
    """
    if recipe.optim.batch_size % world_size() == 0:
        return _train_on_slides(recipe, manifest, features, out, unit)
    if rank() == 0:
        print(f"note: a batch of {recipe.optim.batch_size} does not divide over the processes: the first trains alone")
        with alone():
            _train_on_slides(recipe, manifest, features, out, unit)
    return out / "model"


def _train_on_slides(recipe: Mil, manifest: Manifest, features: Path, out: Path, unit: str | None) -> Path:
    manifest = checked_manifest(recipe, manifest)
    return train_on_bags(
        recipe, manifest, BagFolder(manifest.table["id"], features), out, SlideParts(Path(features)), unit
    )


def checked_manifest(recipe: Mil, manifest: Manifest) -> Manifest:
    """Return the manifest with the labels of a recipe.

    Raises:
        DataError: These cannot be learned.
    """
    if recipe.data.labels is not None:
        manifest = manifest.with_labels(recipe.data.labels)
    check_targets(recipe, manifest)
    check_labels(recipe, manifest)
    return manifest


def train_on_bags(recipe: Mil, manifest: Manifest, bags: Any, out: Path, parts: Parts, unit: str | None) -> Path:
    """Train an aggregator; arguments as of `train_mil`.

    Args:
        recipe: The resolved recipe.
        manifest: N cases, checked.
        bags: Of these.
        out: The run folder.
        parts: What is made beside the aggregator.
        unit: Whose bags are put together; None for none.
    """
    cases, of_cases = manifest, bags
    if unit is not None:
        manifest, bags = units_of(manifest, bags, unit, recipe.loss == "ce")
        check_labels(recipe, manifest)
    card, hashes = parts.card(recipe, manifest, bags), parts.seen()
    card = replace(card, data=card.data | {"seen_in_pretraining": seen_by_split(cases, hashes)})
    readable = np.array([not reason for reason in bags.reasons()])
    trained = manifest.table["split"].isin(recipe.data.splits).to_numpy() & ~np.isnan(manifest.truth()).all(axis=1)
    if (trained & readable).any():  # else the reasons are said
        recipe.optim.check_cases(int((trained & readable).sum()), "training slides with features")
    if rank() == 0:
        say_targets(card)
    torch.manual_seed(recipe.run.seed)
    model: Any = build_aggregator(recipe, bags.width, card.outputs)
    with run_folder(out, recipe, {"data": manifest.fingerprint(), "features": bags.fingerprint()}) as folder:
        train, val, bad = _sets(recipe, manifest, bags)
        if rank() == 0:
            say_left_out(bad, len(train.rows) + len(bad))
        if recipe.standardise:
            model.fit(bags.bag(row) for row in train.rows)
        model, unread = _train(model, recipe, card, train, val, manifest.table["id"].tolist(), folder, bags)
        if any(each.loss == "cox" for each in card.kinds):
            card = completed(card, _outputs(model, train))
        if rank() == 0:
            left = bad | unread if unit is None else _unread_cases(bags, [*train.rows, *bad])
            card = replace(card, data=card.data | write_left_out(folder, cases, left))
            used = [row for row in train.rows if row not in unread]
            ids = manifest.table["id"].iloc[used]
            if unit is not None:
                ids = cases.table["id"].iloc[[case for row in used for case in bags.readable(row)]]
            write_hashes(folder / "model" / TRAINED_ON, ids)
            save_hashes(folder / "model" / PRETRAINED_ON, hashes)
            parts.save(folder / "model", model, card)
            model, card = parts.load(folder / "model")
            limit = None
            if isinstance(parts, SlideParts):
                card, limit = _with_limit(folder / "model", card, bag_limit(manifest, bags, used))
            write_predictions(folder / "predictions.csv", _predictions(model, card, cases, of_cases, unit, limit))
    return out / "model"


def _with_limit(model: Path, card: MilCard, limit: Limit | str) -> tuple[MilCard, Limit | None]:
    """Store a limit in a model folder, or in its card why there is none; return the card, and the limit."""
    facts = limit.facts() if isinstance(limit, Limit) else {"none": limit}
    card = replace(card, data=card.data | {RECORD: facts})
    if isinstance(limit, Limit):
        write_limit(model, limit, model / card.weights_file)
    card.write(model)
    return card, limit if isinstance(limit, Limit) else None


def _unread_cases(bags: UnitBags, units: Sequence[int]) -> dict[int, str]:
    """Return the cases of units that could not be read, with reasons."""
    return {row: reason for unit in units for row in bags.rows[unit] if (reason := bags.reason(row))}


def make_mil_card(recipe: Mil, manifest: Manifest, bags: BagFolder) -> MilCard:
    """Return the card of the model to come."""
    hidden, attention, _ = settings(recipe)
    readable = np.array([not reason for reason in bags.reasons()])
    return MilCard(
        **answers(recipe, manifest),
        aggregator=recipe.aggregator,
        hidden=hidden,
        attention=attention or None,
        score=recipe.score,
        width=bags.width,
        standardise=recipe.standardise,
        features=bags.attributes,
        pipeline=read_pipeline(bags.folder),
        recipe=plain(recipe),
        data={
            "fingerprint": manifest.fingerprint(),
            "cases": manifest.table["split"].value_counts().to_dict(),
            "without_features": manifest.table["split"][~readable].value_counts().to_dict(),
        },
        versions=versions(),
    )


def _sets(recipe: Mil, manifest: Manifest, bags: Any) -> tuple[BagCases, BagCases, dict[int, str]]:
    """Return training and validation bags, and the training rows that are left out with reasons.

    Bags are those with features of which at least one label is known.
    """
    splits, targets = manifest.table["split"], manifest.truth().astype(np.float32)
    known = ~np.isnan(targets).all(axis=1)
    rows = {
        "train": np.flatnonzero(splits.isin(recipe.data.splits) & known),
        "val": np.flatnonzero((splits == "val") & known),
    }
    max_bad, where = recipe.run.max_bad, str(manifest.path)
    train, bad = readable_rows(bags, rows["train"], max_bad, where)
    val, _ = readable_rows(bags, rows["val"], 1.0, where)
    chances = draw_weights(targets[train]) if recipe.balance == "sampling" else None
    return (
        BagCases(bags, train, targets, recipe.max_instances, recipe.instance_dropout, max_bad, chances),
        BagCases(bags, val, targets, max_bad=1.0),
        bad,
    )


def _train(
    model, recipe: Mil, card: MilCard, train, val, ids: list[str], folder: Path, bags: Any
) -> tuple[Aggregator, dict[int, str]]:
    # Bags that stay in memory need no helpers, each of which would keep them again.
    workers = 0 if bags.fits() else reading_workers(recipe.run.workers)
    training = MilTraining(model, recipe, card, train, val, ids, folder, workers)
    # By itself it takes one device, whatever the machine has: a step is one bag.
    run = recipe.run if world_size() > 1 or recipe.run.devices != "auto" else replace(recipe.run, devices="1")
    fit(training, recipe.optim, run, folder, "training", recipe.eval_every if len(val) else None)
    model = training.final_model.cpu()
    if recipe.select in SELECT and training.best_epoch > 0:
        model.load_state_dict(safetensors.torch.load_file(folder / BEST))
    return model.eval(), training.unread


def _outputs(model: Aggregator, train: BagCases) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield outputs and truth of the training bags, each with all its instances."""
    for row in train.rows:
        yield model(torch.from_numpy(train.source.bag(row))[None]).logits, torch.from_numpy(train.targets[[row]])


def _predictions(
    model: Aggregator, card: MilCard, manifest: Manifest, bags: Any, unit: str | None, limit: Limit | None
):
    rows = np.flatnonzero(manifest.table["split"].isin(["val", "test"]))
    if unit is None:
        predictor = BagPredictor(card, lambda cases: predict_mil(model, card, bags, rows.tolist(), limit))
    else:
        units = unit_ids(manifest.path, manifest.table, unit)
        predictor = BagPredictor(card, lambda cases: predict_units(model, card, bags, units, rows.tolist(), limit))
    return predicted(*manifest_cases(manifest.rows("val", "test"), card.asked), predictor)
