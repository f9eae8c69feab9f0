"""The stage `prepare`: a data set as downloaded, in any known layout, becomes a manifest."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.alone import file_alone
from ..core.files import write_text
from ..datasets.manifest.boxes import BOXES, write_boxes
from ..datasets.manifest.inventory import warn
from ..datasets.manifest.layouts import Layout, to_manifest
from ..datasets.manifest.patients import alike_patients
from ..datasets.manifest.roots import refuse_outside, signature_of
from ..datasets.manifest.tables import Manifest, read_manifest, write_manifest
from ..datasets.manifest.units import unit_note

if TYPE_CHECKING:
    import pandas as pd

WHOLE = "whole"  # the file that is written last into an invented data set


class Prepared(NamedTuple):
    """A data set that was read.

    Attributes:
        manifest: Read back from the file that was written.
        notes: What was left out or decided, a sentence each.
        warnings: What may spoil a result.
        lists_only: There were only lists, no files.
    """

    manifest: Manifest
    notes: list[str]
    warnings: list[str]
    lists_only: bool


def prepare_stage(
    layouts: Mapping[str, Layout],
    root: Path,
    out: Path,
    *,
    layout: str | None = None,
    options: Mapping | None = None,
    resplit: int | None = None,
    data_roots: Sequence[Path] = (),
    holds: str = "",
) -> Prepared:
    """Write the manifest of a data set as downloaded, its paths relative to its own folder, and its boxes beside it.

    Args:
        layouts: The task's layouts, by name.
        root: Folder of the data set (or a CSV of one's own).
        out: The manifest to write.
        layout: Its name; None to recognise it.
        options: Options of the layout's reader.
        resplit: Seed of new patient-grouped splits; None keeps those of the data set.
        data_roots: Folders outside of `root` in which files may lie too.
        holds: What a case in a folder is for the task (`Task.holds`); models that are trained on the manifest keep it.

    Raises:
        UserError: Another process is writing `out`, or a file lies outside of `root` and the `data_roots`.
    """
    from ..datasets.manifest.splits import assign_splits

    options = dict(options or {})
    table, labels = to_manifest(layouts, root, layout, data_roots=data_roots, **options)
    if resplit is not None:
        table["split"] = assign_splits(table, labels, seed=resplit)
    folder = root if root.is_dir() else root.parent
    base = os.path.relpath(folder.resolve(), out.parent.resolve())
    paths = table["path"] if base == "." else base + "/" + table["path"]
    if "annotation" in table and base != ".":
        table["annotation"] = table["annotation"].mask(table["annotation"] != "", base + "/" + table["annotation"])
    if alike := alike_patients(table):
        warn(table, alike)
    about = table.attrs
    named = options.get("data_root") or ()
    given = [*data_roots, *([named] if isinstance(named, str | Path) else named)]
    # Links that lead out of the data set are not followed unasked: they may have come with it.
    roots = [base] * base.startswith("..") + list(dict.fromkeys(str(Path(each).resolve()) for each in given))
    with file_alone(out, out.parent / BOXES):
        _refuse_outside(out, table.assign(path=paths), roots)
        about["notes"] = [*about["notes"], *filter(None, (unit_note(table, unit) for unit in ("study", "case")))]
        write_manifest(
            out, table.assign(path=paths), labels, about["meaning"], roots, about.get("left_out"), holds,
            about.get("columns", ()), about.get("targets", ()),
        )  # fmt: skip
        if "boxes" in about:
            write_boxes(out.parent / BOXES, about["boxes"])
    names = [*labels, *(each.name for each in about.get("targets", ()))]
    return Prepared(read_manifest(out, names), about["notes"], about["warnings"], about.get("lists_only", False))


def _refuse_outside(out: Path, table: "pd.DataFrame", roots: Sequence[str]) -> None:
    """Raise where the manifest would be refused when it is read, before it lies there."""
    signature = signature_of(out, roots) if roots else ""
    for column in ("path", "annotation"):
        if column in table:
            refuse_outside(out, column, table[column].astype(str), roots, signature)


def prepare_phantoms(
    write: Callable[[Path], object],
    layouts: Mapping[str, Layout],
    root: Path,
    out: Path,
    *,
    layout: str | None = None,
    options: Mapping | None = None,
) -> Path:
    """Write invented data and their manifest, each once; return the manifest.

    Args:
        write: Writes the data set into a folder. A command that was killed meanwhile starts it again.
        layouts: The task's layouts, by name.
        root: The data set's folder.
        out: The manifest to write.
        layout: Its name; None to recognise it.
        options: Options of the layout's reader.
    """
    if not (root / WHOLE).is_file():
        write(root)
        write_text(root / WHOLE, "")
    if not out.is_file():
        prepare_stage(layouts, root, out, layout=layout, options=options)
    return out
