"""What `check` looks for across the splits.

Patients under two spellings, images that occur twice, labels that can be predicted from other things than the image,
and cases that an encoder has seen already.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from ..core.errors import DataError, UserError
from ..core.files import written_aside
from ..datasets.manifest.tables import SPLITS, Manifest, for_spreadsheets
from ..datasets.quality.check import Findings
from ..datasets.quality.duplicates import duplicates
from ..datasets.quality.looks import Look, Looks, look_at
from ..datasets.quality.shortcuts import shortcuts, unseen_codes
from .data import CACHE
from .seen import encoder_sentences
from .task import Task

LISTED = 3


def add_leaks(
    found: Findings,
    manifest: Manifest,
    task: Task,
    *,
    cache_px: int,
    encoder: Path | None = None,
    pairs: Path | None = None,
) -> None:
    """Add the leaks across splits to the result of `check`.

    Args:
        found: The result of `check`, with the looks of the files that were read.
        manifest: The cases.
        task: Whose cases they are.
        cache_px: Shorter side of the images in the cache beside the manifest, if there is one.
        encoder: Folder whose training cases are looked for.
        pairs: A CSV for the pairs; then all files are compared, by way of the cache if there is one.
    """
    found.facts += unseen_codes(manifest)
    found.warnings += shortcuts(manifest, found.looks)
    looks = found.looks if pairs is None else _look_at_all(manifest, task, cache_px)
    if len(looks):
        table = pairs_table(manifest, looks)
        if pairs is not None:
            with written_aside(pairs) as aside:
                for_spreadsheets(table).to_csv(aside, index=False, lineterminator="\n", float_format="%.4f")
        facts, warnings = pair_sentences(manifest, table, len(looks), pairs)
        found.facts += facts
        found.warnings += warnings
    if encoder is not None:
        facts, warnings = encoder_sentences(encoder, manifest)
        found.facts += facts
        found.warnings += warnings


def pairs_table(manifest: Manifest, looks: Looks) -> pd.DataFrame:
    """Return the pairs that show the same image.

    Columns: `id_a, patient_a, split_a`, the same of b, `likeness`, `equal`, and `contradict`, the labels that one has
    and the other has not. Pairs of one patient are listed only if they contradict.
    """
    table = manifest.table
    pairs = duplicates(looks, table["patient"])
    ends = {end: table.iloc[pairs[end]].reset_index(drop=True) for end in "ab"}
    shown = pd.concat([ends[end][["id", "patient", "split"]].add_suffix(f"_{end}") for end in "ab"], axis=1)
    labels = list(manifest.labels)
    differ = (ends["a"][labels] - ends["b"][labels]).abs().to_numpy(np.float64) == 1
    shown = shown.assign(
        likeness=pairs["likeness"],
        equal=pairs["equal"],
        contradict=[" ".join(np.array(labels)[row]) for row in differ] if labels else "",
    )
    return shown[(shown["patient_a"] != shown["patient_b"]) | (shown["contradict"] != "")].reset_index(drop=True)


def pair_sentences(manifest: Manifest, table: pd.DataFrame, looked: int, file: Path | None) -> tuple[list, list]:
    """Return facts and warnings on the pairs."""
    files = f"all {looked:,} files" if looked == len(manifest) else f"the {looked:,} of {len(manifest):,} files read"
    more = "" if looked == len(manifest) else "; --duplicates PAIRS.csv compares all"
    across = table[table["split_a"] != table["split_b"]]
    where = f" {file} lists all." if file is not None else " --duplicates PAIRS.csv writes all of them."
    facts, warnings = [], []
    if across.empty:
        facts.append(f"no image of {files} is in two splits, as it is or re-encoded, resized, slightly cropped{more}")
    else:
        held_out = ", ".join(f"{count:,} of {split}" for split, count in _held_out(across).items() if count)
        warnings.append(
            f"{_pairs(across)} of cases of different patients show the same image in two splits "
            f"({int(across['equal'].sum()):,} equal, the others nearly), among {files}: {held_out} are in an earlier "
            f"split too, so scores on them are too good. First: {_some(across)}.{where} Leave one of each out, or give "
            "both one patient and split anew (`clinvit prepare --resplit`)."
        )
    within = table[(table["split_a"] == table["split_b"]) & (table["patient_a"] != table["patient_b"])]
    if len(within):
        warnings.append(
            f"{_pairs(within)} of cases of different patients show the same image within a split, first: "
            f"{_some(within)}. These may be one patient under two numbers, with other images in another split."
        )
    contradict = table[table["contradict"] != ""]
    if len(contradict):
        first = contradict.iloc[0]
        warnings.append(
            f"{_pairs(contradict)} of cases show the same image with different labels, first {first['id_a']} and "
            f"{first['id_b']} ({first['contradict']}). One of the two is wrong."
        )
    return facts, warnings


def _held_out(across: pd.DataFrame) -> dict[str, int]:
    """Return how many cases of val and test are in an earlier split too."""
    order = {split: place for place, split in enumerate(SPLITS)}
    later = across["split_a"].map(order) < across["split_b"].map(order)
    ids = across["id_b"].where(later, across["id_a"])
    splits = across["split_b"].where(later, across["split_a"])
    return {split: ids[splits == split].nunique() for split in SPLITS[1:]}


def _pairs(pairs: pd.DataFrame) -> str:
    return "1 pair" if len(pairs) == 1 else f"{len(pairs):,} pairs"


def _some(pairs: pd.DataFrame) -> str:
    shown = pairs.head(LISTED)
    return ", ".join(f"{p.id_a} ({p.split_a}) = {p.id_b} ({p.split_b})" for p in shown.itertuples())


def _look_at_all(manifest: Manifest, task: Task, cache_px: int) -> Looks:
    """Look at every file that can be read."""
    looks = Looks()
    for row, look in enumerate(every_look(manifest, task, cache_px)):
        if not isinstance(look, DataError):  # `check` names files that cannot be read
            looks.add(row, look)
    if not len(looks):
        raise UserError(f"{manifest.path}: no file can be read, so none can be compared.")
    return looks


def every_look(manifest: Manifest, task: Task, cache_px: int) -> Iterator[Look | DataError]:
    """Yield a look at every file, in the cache if it is there; of one that cannot be read its error."""
    from ..datasets.loading.cache import Files, build_cache
    from ..datasets.loading.isolation import isolated
    from ..datasets.loading.loaders import reading_workers

    files, reader = manifest.files(), task.reader(manifest, cache_px)
    folder = manifest.path.parent / CACHE
    cached = (folder / reader.name).is_dir()
    workers = reading_workers(-1, True)
    pixels = build_cache(files, folder, reader, workers) if cached else Files(files, reader)
    every = isolated(partial(_look, pixels=pixels), range(len(files)), workers)
    return iter(tqdm(every, "looking at files", len(files), unit="file", disable=None))


def _look(row: int, pixels) -> Look:
    from ..datasets.loading.cache import opened

    with opened(pixels, row) as content:
        return look_at(content)
