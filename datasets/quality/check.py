"""Look at a data set and the machine before anything runs: what there is, and what will go wrong."""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ...core.errors import DataError
from ...core.platform import usable_cores
from ..images.colour import Read, colour_note
from ..images.flat import FLAT
from ..loading.isolation import isolated
from ..manifest.patients import alike_patients
from ..manifest.tables import SPLITS, Manifest, Target
from .looks import LookAt, Looks

# A shortest side of 1 and a longest of about 1.2: what a cached radiograph takes, per square pixel of its side.
CACHE_FACTOR = 1.25
FEW_MORE = 0.5  # of the files that are asked for: where so few more are left, all are read


@dataclass
class Findings:
    """What was found: facts, warnings (it will run), errors (it will not, or not as meant), and the files' looks."""

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    looks: Looks = field(default_factory=Looks)


def check_manifest(
    manifest: Manifest,
    read: Callable[[Path], Read | np.ndarray] | None,
    *,
    files: int | None = 200,
    cache_px: int = 256,
) -> Findings:
    """Check a manifest's splits, labels and files.

    Args:
        manifest: Already validated row by row.
        read: Reads one file in grey, (H, W) or (T, H, W), or raises DataError; None looks at no file.
        files: How many files to read, spread evenly over the table, or all where half as many more are left at most; 0
            reads all, None looks for none.
        cache_px: Shorter side of the cache to estimate, pixels.
    """
    findings = Findings()
    _splits(manifest, findings)
    _labels(manifest, findings)
    if files is not None and read is not None:
        frames = _files(manifest, read, files, findings)
        _space(manifest, cache_px, frames, findings)
    return findings


def cohort(manifest: Manifest) -> pd.DataFrame:
    """Count cases, patients, and per label positives/known, by split."""
    rows = {}
    for split in SPLITS:
        part = manifest.rows(split)
        values = part.targets()
        rows[split] = {"cases": len(part), "patients": part.table["patient"].nunique()} | {
            label: f"{int(np.nansum(column))}/{int((~np.isnan(column)).sum())}"
            for label, column in zip(manifest.labels, values.T)
        }
        rows[split] |= {each.name: f"{_known(part, each)} known" for each in manifest.kinds}
    return pd.DataFrame(rows)


def _splits(manifest: Manifest, findings: Findings) -> None:
    counts = manifest.table["split"].value_counts()
    findings.facts.append(
        f"{len(manifest)} cases of {manifest.table['patient'].nunique()} patients, no patient in two splits"
    )
    findings.warnings.extend(manifest.notes)
    if alike := alike_patients(manifest.table):
        findings.warnings.append(alike)
    if not counts.get("train"):
        findings.errors.append("the split train is empty: nothing to learn from.")
    if not counts.get("val"):
        findings.warnings.append("the split val is empty: no best epoch and no threshold can be chosen.")
    if not counts.get("test"):
        findings.warnings.append(
            "the split test is empty: evaluate with --split val, and choose nothing on it (--select last)."
        )


def _labels(manifest: Manifest, findings: Findings) -> None:
    if not manifest.labels and not manifest.kinds:
        findings.warnings.append("no label column: good for pre-training only.")
    train = manifest.rows("train")
    for each in manifest.kinds:
        try:
            found = each.fitted(train.truth([each]))
        except DataError as error:
            findings.errors.append(str(error))
            continue
        findings.facts.append(f"target {each.name}: {found.words()}")
        findings.warnings += [
            f"target {each.name!r} is unknown in all cases of {split}: it cannot be evaluated there."
            for split in SPLITS
            if len(manifest.rows(split)) and not _known(manifest.rows(split), each)
        ]
    for split in SPLITS:
        part = manifest.rows(split)
        for label, column in zip(manifest.labels, part.targets().T):
            known = column[~np.isnan(column)]
            if len(part) and len(np.unique(known)) < 2:
                what = f"is {known[0]:.0f} in all {len(known)} known cases" if len(known) else "is unknown in all cases"
                if split == "train":
                    findings.errors.append(
                        f"label {label!r} {what} of train: nothing to learn. Leave it out with --data.labels."
                    )
                else:
                    findings.warnings.append(f"label {label!r} {what} of {split}: its AUROC there is undefined.")


def _known(part: Manifest, target: Target) -> int:
    """Count cases whose target is known."""
    return int((~np.isnan(part.truth([target])).any(axis=1)).sum())


def _files(manifest: Manifest, read: Callable, count: int, findings: Findings) -> float:
    """Read files; gives their mean number of frames, 1 for images."""
    paths = manifest.files()
    missing = [path for path in paths if not path.exists()]
    if missing:
        findings.errors.append(f"{len(missing)} of {len(paths)} files are missing, first: {missing[0]}")
    all_of_them = not count or len(paths) <= count * (1 + FEW_MORE)
    chosen = range(len(paths)) if all_of_them else np.unique(np.linspace(0, len(paths) - 1, count).astype(int))
    bad, shapes, flat, lost_colour = [], [], [], 0
    there = [row for row in chosen if paths[row].exists()]
    looks = isolated(LookAt(read), [paths[row] for row in there], usable_cores())
    for row, look in tqdm(zip(there, looks), "reading files", len(there), unit="file", disable=None):
        if isinstance(look, DataError):
            bad.append(str(look))
        else:
            height, width, frames = look.size
            shapes.append((frames, height, width))
            lost_colour += look.lost_colour
            flat += [manifest.table["id"].iloc[row]] * look.flat
            findings.looks.add(row, look)
    findings.errors += bad[:20]
    if len(bad) > 20:
        findings.errors.append(f"... and {len(bad) - 20} more unreadable files.")
    if bad:
        share = math.ceil(100 * len(bad) / len(there)) / 100
        findings.warnings.append(
            f"{len(bad):,} of {len(there):,} files cannot be read: mend them, or training leaves them out, counted and "
            f"named, with --run.max_bad {share:g} (at most so large a share)"
        )
    if len(chosen) < len(paths):
        findings.facts.append(
            f"{len(paths) - len(chosen):,} of {len(paths):,} files were not read; --files 0 reads all of them"
        )
    if flat:
        findings.warnings.append(f"{len(flat):,} of {len(shapes):,} files, first {flat[0]}: each {FLAT}.")
    if not shapes:
        return 1
    frames, heights, widths = zip(*shapes)
    length = f", {min(frames)}..{max(frames)} frames" if max(frames) > 1 else ""
    findings.facts.append(
        f"{len(shapes)} of {len(paths)} files read well: {min(heights)}..{max(heights)} px high, "
        f"{min(widths)}..{max(widths)} px wide{length}"
    )
    if note := colour_note(lost_colour, len(shapes)):
        findings.facts.append(note)
    return float(np.mean(frames))


def _space(manifest: Manifest, cache_px: int, frames: float, findings: Findings) -> None:
    need = len(manifest) * frames * cache_px**2 * CACHE_FACTOR / 1e9
    folder = manifest.path.parent if os.access(manifest.path.parent, os.W_OK) else Path.cwd()
    free = shutil.disk_usage(folder).free / 1e9
    findings.facts.append(f"a cache at {cache_px} px takes about {need:.2g} GB; {free:.0f} GB are free")
    if need > free:
        findings.errors.append(
            f"a cache at {cache_px} px takes about {need:.0f} GB, but {free:.0f} GB are free (data.cache_px)."
        )
