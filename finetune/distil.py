"""Distillation: a student learns from labels and from what teachers said of stored views of every case.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; the stored views and answers are those of MobileCLIP
(Vasu et al. 2024): each view is made again from its seed, so that no teacher runs while the student learns.
"""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.errors import DataError, UserError
from ..datasets.loading.loaders import Cases, View
from ..datasets.loading.source import Source
from ..datasets.manifest.seen import PRETRAINED_ON, TRAINED_ON
from ..datasets.transforms.views import TrainView
from .distil_recipe import Distil
from .losses import masked_bce, masked_cross_entropy
from .model import ModelCard
from .teacher_answers import Answers, Shape, answers_folder, case_key, make_answers
from .teachers import Teacher, hashes_of, outputs
from .training import FineTuning

AT_ONCE = 32  # views that a teacher sees at once: always those of one case, so that no answer depends on the others


class Distillation:
    """Teachers of one student, and what they said of its training cases.

    Args:
        recipe: Of the student.
        teachers: See `open_teachers`.
        place: Folder of the answers: that of the cache of pixels.
    """

    def __init__(self, recipe: Distil, teachers: Sequence[Teacher], place: Path):
        self.recipe, self.teachers, self.place = recipe, list(teachers), place

    def labels(self) -> list[str]:
        """Return the labels that any of the teachers knows."""
        return list(dict.fromkeys(label for teacher in self.teachers for label in teacher.card.labels))

    def inputs(self) -> dict[str, str]:
        """Return what else decides the result of the run."""
        return {"teachers": " ".join(teacher.sha256() for teacher in self.teachers)}

    def facts(self, targets: np.ndarray) -> dict[str, Any]:
        """Return what the student's card says of its teachers.

        Args:
            targets: (N, L) of the training cases, NaN where unknown.
        """
        known = [any(teacher.columns[place] >= 0 for teacher in self.teachers) for place in range(targets.shape[1])]
        unknown = int(np.isnan(targets[:, known]).sum())
        return {
            "teachers": [
                {"network": teacher.card.network_words(), "mode": teacher.card.mode, "sha256": teacher.sha256()}
                for teacher in self.teachers
            ],
            "labels_from_teachers_alone": unknown,
        }

    def seen_labels(self) -> frozenset[str] | None:
        """Return hashes of the cases whose labels the teachers have seen; None where one of them does not say."""
        return hashes_of(self.teachers, TRAINED_ON)

    def seen_before(self) -> frozenset[str] | None:
        """Return hashes of what the teachers' encoders have seen; None where one of them does not say."""
        return hashes_of(self.teachers, PRETRAINED_ON)

    def dataset(self, source: Source, drawn: View, targets: np.ndarray, max_bad: float) -> "TaughtCases":
        """Return the training set: every step a stored view of a case, with what the teachers said of it."""
        recipe = self.recipe
        repeats = recipe.data.clip.repeats if recipe.model.frames > 1 else 1
        widths = tuple(teacher.width for teacher in self.teachers)
        shape = Shape(recipe.views * repeats, len(self.teachers), targets.shape[1], widths)
        files = source.manifest.files()
        keys = {int(row): case_key(source.ids[row], files[row]) for row in source.rows}
        folder = answers_folder(self.place, self._decided_by(shape))
        looks = Cases(source.pixels, source.rows, _TeacherViews(recipe, self.teachers))
        position = {int(row): place for place, row in enumerate(source.rows)}

        def answer(row: int) -> np.ndarray:
            batch = looks.__getitems__([(position[row], case_seed(recipe.run.seed, source.ids[row]))])
            return _answers(self.teachers, batch, shape)

        answers, reasons = make_answers(folder, shape, keys, len(source.ids), answer)
        if len(reasons) > max_bad * len(keys):
            raise DataError(
                f"{source.manifest.path}: {len(reasons)} of {len(keys)} training files cannot be read, more than the "
                f"allowed share {max_bad:g} (run.max_bad). The first: {next(iter(reasons.values()))}"
            )
        for reason in reasons.values():
            print(f"warning: left out of training, for it cannot be read: {reason}", file=sys.stderr, flush=True)
        rows = source.rows[answers.places[source.rows] >= 0]
        return TaughtCases(source, rows, _Numbered(drawn), targets, answers, recipe, max_bad, reasons)

    def training(self, model: nn.Module, card: ModelCard, train: Cases, val: Cases, ids, folder: Path) -> "Distilling":
        """Return the training of a student."""
        training = Distilling(model, self.recipe, card, train, val, ids, folder)
        assert isinstance(train, TaughtCases), "`dataset` made it"
        training.unread |= train.unanswered
        return training

    def teach(self, model: nn.Module, card: ModelCard) -> None:
        """Give a student what projects its features to those of its teachers; `leave` takes it away.

        Raises:
            UserError: It has no features.
        """
        if not self.recipe.beta:
            return
        if not any(teacher.width for teacher in self.teachers):
            raise UserError("the teachers give no features: set --beta 0 to learn their scores alone.")
        x = torch.zeros(2, card.arch.channels, *([card.arch.frames] * (card.arch.frames > 1)), *card.arch.image_size)
        training = model.training
        with torch.no_grad():
            features, _ = outputs(model.eval(), x)
        model.train(training)
        if features is None:
            raise UserError(f"network {card.network!r} gives no features: set --beta 0 to learn the scores alone.")
        widths = [teacher.width for teacher in self.teachers]
        model.projections = nn.ModuleList(nn.Linear(features.shape[1], width) for width in widths if width)

    def leave(self, model: nn.Module) -> None:
        """Take away what `teach` gave: the student is a model like any other."""
        if hasattr(model, "projections"):
            del model.projections

    def _decided_by(self, shape: Shape) -> dict[str, Any]:
        recipe = self.recipe
        return {
            "teachers": [teacher.sha256() for teacher in self.teachers],
            "columns": [teacher.columns for teacher in self.teachers],
            "scales": [teacher.card.scales for teacher in self.teachers],
            "shape": asdict(shape),
            "seed": recipe.run.seed,
            "augment": asdict(recipe.augment),
            "cache_px": recipe.data.cache_px,
            "clip": asdict(recipe.data.clip),
            "frames": recipe.model.frames,
            "channels": recipe.model.channels,
        }


class TaughtCases(Cases):
    """Cases of which each sample is one of the stored views, with the teachers' answers to it."""

    def __init__(
        self, source: Source, rows: np.ndarray, view: View, targets: np.ndarray, answers: Answers, recipe: Distil,
        max_bad: float, unanswered: dict[int, str],
    ):  # fmt: skip
        super().__init__(source.pixels, rows, view, targets, max_bad)
        self.unanswered = unanswered  # rows that could not be shown to the teachers, and why
        self.answers, self.views, self.seed = answers, recipe.views, recipe.run.seed
        self.seeds = {int(row): case_seed(recipe.run.seed, source.ids[row]) for row in self.rows}

    def __getitems__(self, samples: list[tuple[int, int]]) -> dict[str, Tensor]:
        """Return a batch as `Cases` does, with `teacher_logits` (B, K, L) and `teacher_features` (B, D)."""
        chosen = [(at, self.seeds[int(self.rows[at])] | draw % self.views) for at, draw in samples]
        batch = super().__getitems__(chosen)
        logits, features = self.answers.read(batch["row"].tolist(), batch.pop("view").tolist())
        batch["teacher_logits"], batch["teacher_features"] = torch.from_numpy(logits), torch.from_numpy(features)
        return batch


class Distilling(FineTuning):
    """Training of a student."""

    recipe: Distil

    def loss(self, batch: dict[str, Tensor]) -> Tensor:
        """Return the loss of the labels, of the teachers' scores and of their features (`Distil`)."""
        recipe, x = self.recipe, self.pixels(batch)
        visible = self.some_patches(len(x)) if recipe.patch_drop else None
        features, logits = outputs(self.model, x, visible)
        hard = self.criterion(logits, batch["target"])
        soft = taught_loss(logits, batch["teacher_logits"], recipe.temperature, self.card.exclusive)
        self.tally({"loss_labels": hard.detach(), "loss_teachers": soft.detach()})
        total = recipe.alpha * hard + (1 - recipe.alpha) * soft
        if recipe.beta:
            alike = feature_loss(features, batch["teacher_features"], self.model.projections)
            self.tally({"loss_features": alike.detach()})
            total = total + recipe.beta * alike
        return total


def taught_loss(logits: Tensor, teachers: Tensor, temperature: float, exclusive: bool) -> Tensor:
    """Return T^2 x the cross-entropy to the mean of the teachers' probabilities, both at temperature T.

    Args:
        logits: (B, L) of the student.
        teachers: (B, K, L) of K teachers, NaN where one does not know a label.
        temperature: T.
        exclusive: Classes exclude each other (softmax), else each label has its own probability (sigmoid).
    """
    teachers, logits = teachers / temperature, logits.float() / temperature
    if exclusive:
        return temperature**2 * masked_cross_entropy(logits, teachers.softmax(dim=2).mean(dim=1))
    return temperature**2 * masked_bce(logits, teachers.sigmoid().nanmean(dim=1))


def feature_loss(features: Tensor, teachers: Tensor, projections: nn.ModuleList) -> Tensor:
    """Return the mean over the teachers of 1 - cosine of the student's projected features and theirs.

    Args:
        features: (B, D) of the student.
        teachers: (B, sum of widths) of unit length, side by side.
        projections: To the width of each teacher that has features.
    """
    parts = teachers.split([projection.out_features for projection in projections], dim=1)
    each = [1 - F.cosine_similarity(p(features).float(), part) for p, part in zip(projections, parts, strict=True)]
    return torch.stack([one.mean() for one in each]).mean()


def case_seed(seed: int, case: str) -> int:
    """Return the seed of a case's views, whose last byte is 0: that is the number of the view."""
    digest = hashlib.sha256(f"{seed}|{case}".encode(errors="surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") << 8


class _Numbered:
    """A view whose number is the last byte of its seed; picklable for worker processes."""

    def __init__(self, view: View):
        self.view = view

    def __call__(self, pixels, seed: int) -> dict[str, np.ndarray]:
        image = self.view(pixels, seed)
        assert isinstance(image, np.ndarray), "a view of one kind of image"
        return {"image": image, "view": np.arange(len(image)) + (seed & 255) * len(image)}


class _TeacherViews:
    """All stored views of a case as each teacher takes them: the same crops, at its own input size."""

    def __init__(self, recipe: Distil, teachers: Sequence[Teacher]):
        self.views = recipe.views
        self.each = [
            TrainView(replace(recipe.augment, size=teacher.side_px), recipe.data.clip, recipe.model.frames)
            for teacher in teachers
        ]

    def __call__(self, pixels, seed: int) -> dict[str, np.ndarray]:
        return {
            str(place): np.concatenate([view(pixels, seed | number) for number in range(self.views)])
            for place, view in enumerate(self.each)
        }


def _answers(teachers: Sequence[Teacher], batch: dict[str, Tensor], shape: Shape) -> np.ndarray:
    """Return (views,) records of what the teachers say of all views of one case."""
    records = np.empty(shape.views, shape.dtype)
    start = 0
    for place, teacher in enumerate(teachers):
        found = [teacher(part) for part in batch[str(place)].split(AT_ONCE)]
        records["logits"][:, place] = torch.cat([logits for logits, _ in found]).numpy()
        records["features"][:, start : start + teacher.width] = torch.cat([features for _, features in found]).numpy()
        start += teacher.width
    known = [any(teacher.columns[label] >= 0 for teacher in teachers) for label in range(shape.labels)]
    if not np.isfinite(records["features"].astype(np.float32)).all() or (
        np.isnan(records["logits"]).all(axis=1)[:, known].any() or np.isinf(records["logits"]).any()
    ):
        raise UserError("a teacher gives scores that are not numbers: leave it out, or try it with `clinvit predict`.")
    return records
