"""The stage `curate`: of an archive, the cases that are worth pre-training on, and of all others why they are not."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from ..core.alone import folder_alone
from ..core.documents import read_json
from ..core.errors import DataError, UserError, masked
from ..core.files import write_json, write_text
from ..core.secret import key_name, secret_key
from ..datasets.images.flat import FLAT
from ..datasets.manifest.cells import for_spreadsheets, write_csv
from ..datasets.manifest.columns import fact
from ..datasets.manifest.contents import holds_of
from ..datasets.manifest.tables import SPLITS, Manifest, read_manifest, write_manifest
from ..datasets.quality.balance import UNKNOWN, balanced, case_entries, column_of, words
from ..datasets.quality.copies import copies
from ..datasets.quality.duplicates import duplicates
from ..datasets.quality.looks import SMALL_PX, Looks
from ..eval.report.curation_page import curation_page
from ..eval.statistics.groups import groups, texts, why_no_groups
from .case_features import feature_maker, features_of
from .data import MANIFEST
from .leaks import every_look
from .task import Task

if TYPE_CHECKING:
    from ..finetune.features import FeatureMaker

DROPPED, CURATION, PAGE = "dropped.csv", "curation.json", "curation.html"
COMPOSED = ("view", "sex", "site", "scanner", "age")  # facts whose groups are counted before and after
VIEW = "view"
RULES = ("view", "broken", "blank", "copy", "unlike the target", "balance")  # what reasons begin with


@dataclass(frozen=True)
class Wanted:
    """What an archive is curated by, beside readable files that differ.

    Attributes:
        views: Views that stay, as the column `view` writes them; empty for all. Cases of unknown view stay.
        balance: Columns to balance over; `findings` for all labels. Empty: no balance.
        per_entry: Of each of their entries, how many cases stay on average.
        encoder: File, folder or name of an encoder whose features say what is like the target set.
        target: Manifest of that set, or its folder.
        clusters: Of the archive's features; None for one for ten images, 10,000 at most.
        cache_px: Shorter side at which files are compared, pixels.
    """

    views: Sequence[str] = ()
    balance: Sequence[str] = ()
    per_entry: int | None = None
    encoder: str | Path | None = None
    target: Manifest | None = None
    clusters: int | None = None
    cache_px: int = 256

    def validate(self) -> None:
        """Raise where two of them do not go together."""
        if bool(self.balance) != (self.per_entry is not None):
            raise UserError("--balance COLUMNS and --per-entry COUNT go together: over what, and down to how many.")
        if (self.encoder is None) != (self.target is None):
            raise UserError("--encoder and --target go together: images like the target's, as the encoder sees them.")
        if self.clusters is not None and self.target is None:
            raise UserError("--clusters belongs to --target: leave it out.")
        if self.cache_px < SMALL_PX:
            raise UserError(f"--cache-px {self.cache_px}: files are compared at {SMALL_PX} pixels or more.")
        if self.target is not None and not len(self.target):
            raise DataError(f"{self.target.path}: the target list is empty: there is nothing to be like.")


class Curated(NamedTuple):
    """What was kept.

    Attributes:
        manifest: Read back from the file that was written.
        dropped: How many cases were dropped, by the first word of their reason, in the order of the rules.
        entries: Of the balance, as of `quality.balance`; empty without.
        notes: What else there is to say, a sentence each.
    """

    manifest: Manifest
    dropped: dict[str, int]
    entries: pd.DataFrame
    notes: list[str]


@dataclass
class _Archive:
    """The cases of a manifest, and of those that were dropped why."""

    manifest: Manifest
    reasons: list[str]
    notes: list[str] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    entries: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["entry", "count", "p", "kept"]))

    def left(self) -> np.ndarray:
        """Return the rows that are left."""
        return np.flatnonzero([not reason for reason in self.reasons])

    def rest(self, rows: np.ndarray) -> Manifest:
        """Return a manifest of some rows."""
        return replace(self.manifest, table=self.manifest.table.iloc[rows].reset_index(drop=True))

    def id_of(self, row: int) -> str:
        return self.manifest.table["id"].iloc[row]

    def counts(self) -> dict[str, int]:
        """Return how many cases were dropped by each rule, in the order of the rules."""
        found = Counter(reason.partition(":")[0] for reason in self.reasons if reason)
        return {rule: found[rule] for rule in RULES if found[rule]}

    def refuse_nothing_left(self, hint: str = "") -> None:
        """Raise where no case is left; the message says why, and what to do about it by the hint."""
        if not len(self.left()):
            counts = ", ".join(f"{count:,} by {kind}" for kind, count in self.counts().items())
            raise DataError(
                f"{self.manifest.path}: no case would be left of {len(self.reasons):,}: {counts}, first "
                f"{self.id_of(0)} ({self.reasons[0]}). Nothing was written.{hint}"
            )


def curate_stage(manifest: Manifest, task: Task, out: Path, wanted: Wanted) -> Curated:
    """Write `manifest.csv`, `dropped.csv`, `curation.json` and `curation.html` into a folder.

    In this order cases are dropped: other views, files that cannot be read, blank ones, copies, those unlike the target
    set, those that the balance draws out. Of copies the one in the later split stays, so that what is trained on holds
    no copy of what is tested on.

    Args:
        manifest: The archive.
        task: Whose cases they are; says how files are read.
        out: Folder to write.
        wanted: By what to curate.

    Raises:
        DataError: One case alone, an empty target set, no such column, or no case is left; then nothing is written.
        UserError: Options that do not go together, or `out` holds another manifest.
    """
    wanted.validate()
    if len(manifest) < 2:
        raise DataError(f"{manifest.path}: one case alone: there is nothing to compare it with, and nothing to curate.")
    if wanted.target is not None and not task.cached:
        raise UserError("--target: whole slides have no features of their own; curate them by --views and --balance.")
    archive = _Archive(manifest, [""] * len(manifest))
    _refuse_out(manifest, out)
    if wanted.balance:
        case_entries(manifest, wanted.balance)  # a wrong column is refused before any file is read
    maker = None if wanted.encoder is None else feature_maker(wanted.encoder)
    with folder_alone(out):
        _drop_views(archive, wanted.views)
        _drop_files(archive, task, wanted.cache_px)
        if wanted.target is not None and maker is not None:
            _drop_unlike(archive, maker, wanted.target, wanted.clusters)
        if wanted.per_entry is not None:
            _drop_balanced(archive, wanted.balance, wanted.per_entry)
        return _write(archive, out, wanted, task.unit)


def _refuse_out(manifest: Manifest, out: Path) -> None:
    if (out / MANIFEST).exists() and not (out / CURATION).exists():
        raise UserError(f"{out}: holds a manifest that `curate` has not written: name another folder with --out.")
    if (out / MANIFEST).resolve() == manifest.path.resolve():
        raise UserError(f"{out}: the archive's own folder, whose manifest would be lost: name another with --out.")


def _drop_views(archive: _Archive, views: Sequence[str]) -> None:
    table = archive.manifest.table
    column = next((name for name in table if fact(name) == VIEW), None)
    if not views:
        names = sorted(set(words(table[column])) - {UNKNOWN}) if column else []
        if len(names) > 1:
            listed = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            archive.notes.append(f"there are {len(names)} views ({listed}) and all stay; --views names those to keep.")
        return
    cells = words(table[column_of(archive.manifest, VIEW)])
    known = {view.strip().casefold() for view in views}
    for row, cell in enumerate(cells):
        if cell != UNKNOWN and cell.casefold() not in known:
            archive.reasons[row] = f"view: {cell}, not {' or '.join(views)}"
    if unknown := int((cells == UNKNOWN).sum()):
        archive.notes.append(f"cases of unknown view stay: {unknown:,}.")
    archive.refuse_nothing_left()


def _drop_files(archive: _Archive, task: Task, cache_px: int) -> None:
    """Drop what cannot be read, what shows nothing, and copies."""
    rows, looks = archive.left(), Looks()
    files = archive.manifest.files()
    for row, look in zip(rows, every_look(archive.rest(rows), task, cache_px), strict=True):
        if isinstance(look, DataError):
            archive.reasons[row] = f"broken: {masked(str(look), str(files[row]), archive.id_of(row))}"
        elif look.flat:
            archive.reasons[row] = f"blank: {FLAT}"
        else:
            looks.add(int(row), look)
    archive.refuse_nothing_left(f" The files were read as {task.unit}s: `clinvit curate TASK ...` names another task.")
    table = archive.manifest.table
    order = np.lexsort((table["id"], -table["split"].map(SPLITS.index)))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    for row, copy in copies(duplicates(looks, table["patient"]), rank).items():
        how = "the same image as" if copy.equal else f"nearly the same image (correlation {copy.likeness:.2f}) as"
        archive.reasons[row] = f"copy: {how} {archive.id_of(copy.of)}"


def _drop_unlike(archive: _Archive, maker: "FeatureMaker", target: Manifest, clusters: int | None) -> None:
    """Drop what is unlike the images of a target set."""
    from ..datasets.quality.target_filter import centroids, like_targets, unit, usual_clusters

    rows = archive.left()
    rows = rows[np.argsort(archive.manifest.table["id"].to_numpy(str)[rows])]  # k-means depends on the order
    features, reasons = features_of(maker, archive.rest(rows))
    for row, reason in zip(rows, reasons, strict=True):
        archive.reasons[row] = f"broken: {reason}" if reason else ""
    good = np.array([not reason for reason in reasons])
    wished, failed = features_of(maker, target)
    if all(failed):
        raise DataError(f"{target.path}: no image of the target list can be read, first: {failed[0]}")
    if any(failed):
        archive.notes.append(f"{sum(map(bool, failed)):,} of {len(target):,} images of the target list were not read.")
    archive.refuse_nothing_left()
    features, rows = unit(features[good]), rows[good]
    means = centroids(features, usual_clusters(len(features)) if clusters is None else clusters)
    like = like_targets(features, unit(wished[[not reason for reason in failed]]), means)
    for row in rows[~like]:
        archive.reasons[row] = "unlike the target: no image of the target list falls into its cluster"
    archive.facts["target"] = {
        "cases": len(target),
        "data": target.fingerprint(),
        "clusters": len(means),
    } | maker.facts()
    archive.refuse_nothing_left()


def _drop_balanced(archive: _Archive, columns: Sequence[str], most: int) -> None:
    """Drop what the balance over what is left draws out."""
    rows, key = archive.left(), secret_key()
    rest = archive.rest(rows)
    found = balanced(case_entries(rest, columns), rest.table["patient"], most, key)
    for row, chance in zip(rows[~found.kept], found.chance[~found.kept]):
        archive.reasons[row] = f"balance: its patient was drawn out (kept with probability {chance:.3g})"
    archive.entries, archive.facts["key"] = found.entries, key_name(key)
    archive.refuse_nothing_left()


def _write(archive: _Archive, out: Path, wanted: Wanted, unit: str) -> Curated:
    from ..engine.run_folder import versions

    source, kept = archive.manifest, archive.rest(archive.left())
    beside = source.path.with_suffix(".json")
    facts = read_json(beside, DataError) if beside.is_file() else {}
    home = source.path.parent.resolve()
    roots = [_from(out, home), *(str((home / root).resolve()) for root in facts.get("roots", []))]
    table = kept.table.copy()
    for column in table.columns.intersection(["path", "annotation"]):
        table[column] = [_moved(cell, home, out) for cell in table[column]]
    dropped = pd.DataFrame({"id": source.table["id"], "reason": archive.reasons})
    write_csv(out / DROPPED, for_spreadsheets(dropped[dropped["reason"] != ""]))
    counts = archive.counts()
    said = {
        "cases": len(source), "kept": len(kept), "dropped": counts, "data": source.fingerprint(),
        "views": list(wanted.views), "balance": list(wanted.balance), "per_entry": wanted.per_entry,
        "entries": archive.entries.to_dict("records"), **archive.facts, "notes": archive.notes,
        "versions": versions(), "composition": _composition(archive),
    }  # fmt: skip
    write_json(out / CURATION, said)
    write_text(out / PAGE, curation_page(said, unit))
    write_manifest(
        out / MANIFEST, table.drop(columns=[column for each in source.kinds for column in each.truth]), source.labels,
        source.meaning, [root for root in roots if root != "."], holds=holds_of(source.path), targets=source.kinds,
    )  # fmt: skip
    names = [each if isinstance(each, str) else each.name for each in source.asked]
    return Curated(read_manifest(out / MANIFEST, names), counts, archive.entries, archive.notes)


def _composition(archive: _Archive) -> list[dict]:
    """Return how many cases there are of each finding and group, before and after."""
    source, left = archive.manifest, archive.left()
    found = []

    def add(column: str, value: str, rows: np.ndarray) -> None:
        found.append({"column": column, "value": value, "before": int(rows.sum()), "after": int(rows[left].sum())})

    for label in source.labels:
        add(label, "", (source.table[label] == 1).to_numpy())
    for column in source.table:
        cells = texts(source.table[column])
        if fact(column) in COMPOSED and column not in source.labels and not why_no_groups(cells):
            for group in groups(column, cells):
                add(column, group.name, group.rows)
    return found


def _moved(cell: str, home: Path, out: Path) -> str:
    """Return a path that was relative to one folder relative to another; absolute ones stay."""
    if not cell or Path(cell).is_absolute():
        return cell
    while cell.startswith("../"):
        cell, home = cell[3:], home.parent
    base = _from(out, home)
    return cell if base == "." else f"{base}/{cell}"


def _from(out: Path, folder: Path) -> str:
    return Path(os.path.relpath(folder, out.resolve())).as_posix()
