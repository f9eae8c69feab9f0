"""The stage `distil`: a manifest and one or more model folders to a smaller model that has learned from them."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..datasets.manifest.seen import seen_cases
from ..datasets.manifest.tables import Manifest
from .data import CACHE_GB, cache_place, open_manifest
from .finetune import after_training


def distil_stage(
    recipe,
    data: Path | Manifest,
    out: Path,
    teachers: Sequence[Path],
    *,
    encoder: Path | None = None,
    cache: Path | None = None,
    cache_gb: float = CACHE_GB,
    rule: str = "youden",
    calibrate: str | None = None,
) -> Path:
    """Distil, then calibrate and choose thresholds as after a fine-tuning; return the model folder.

    Args:
        recipe: A `finetune.distil_recipe.Distil`.
        data: Manifest or its folder. Labels of the recipe that only a teacher knows are unknown in every case; a
            manifest without labels gets all of the teachers'.
        out: Run folder.
        teachers: Model folders, or run folders with one.
        encoder: What the student starts from, as of `finetune_stage`.
        cache: Folder of decoded files and of what the teachers said; None as of `cache_place`.
        cache_gb: See `cache_place`.
        rule: Rule for the thresholds.
        calibrate: As of `finetune_stage`.

    Raises:
        UserError: A teacher is none, or cannot teach this student.
    """
    from ..backbone.public import encoder_place
    from ..engine.run_folder import rank
    from ..finetune.distil import Distillation
    from ..finetune.run import finetune
    from ..finetune.teachers import open_teachers
    from .calibration import check_calibration

    manifest = _with_taught_labels(open_manifest(data), teachers, recipe.data.labels)
    if calibrate is not None:
        check_calibration(calibrate, recipe, manifest)
    place = cache_place(manifest, out, cache, cache_gb)
    if not isinstance(place, Path):
        raise UserError("--cache: the teachers' answers lie in a folder beside the pixels: give one, no URL of shards.")
    model = recipe.model
    opened = open_teachers(teachers, manifest.labels, recipe.loss == "ce", model.channels, model.frames)
    teaching = Distillation(recipe, opened, place)
    if rank() == 0:
        for teacher in opened:
            print(f"teacher {teacher.folder}: {teacher.card.network_words()}, mode {teacher.card.mode}")
        _warn_of_seen(manifest, teaching.seen_labels())
    encoder = None if encoder is None else encoder_place(encoder)
    folder = finetune(recipe, manifest, out, place, encoder, teaching=teaching)
    if rank() == 0:
        after_training(folder, Path(out), rule, calibrate)
    return folder


def _with_taught_labels(manifest: Manifest, teachers: Sequence[Path], wanted: Sequence[str] | None) -> Manifest:
    """Return the manifest with the labels that are wanted, those that only teachers know unknown in every case."""
    from ..engine.run_folder import rank
    from ..finetune.teachers import labels_of

    known, meaning = labels_of(teachers)
    labels = list(wanted or manifest.labels or known)
    if taught := [label for label in labels if label not in manifest.labels and label in known]:
        if rank() == 0:
            print(f"note: {manifest.path} does not tell {', '.join(taught)}: learned from the teachers alone")
        table = manifest.table.assign(**dict.fromkeys(taught, np.nan))
        both = {label: meaning[label] for label in taught} | manifest.meaning
        manifest = replace(manifest, table=table, labels=(*manifest.labels, *taught), meaning=both)
    return manifest.with_labels(labels)


def _warn_of_seen(manifest: Manifest, seen: frozenset[str] | None) -> None:
    """Warn where teachers have learned from the labels of cases that the student is to be judged on."""
    if seen is None:
        print("note: a teacher does not say which cases it was trained on: the student's scores may be too good")
        return
    for split in ("val", "test"):
        cases = manifest.rows(split).table
        own, _ = seen_cases(cases, seen)
        if own.any():
            print(
                f"warning: a teacher was trained on {own.sum():,} of the {len(cases):,} {split} cases, with their "
                "labels: the student's scores on these say nothing of other patients.",
                file=sys.stderr,
            )
